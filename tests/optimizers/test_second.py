"""Optimizers that look at the loss of other params: L-BFGS, and sharpness-aware steps."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cases import gaussian
from optimizer_cases import ASKING

from funcnn import Key, serial, tree
from funcnn.data import load
from funcnn.data.dataset import Dataset
from funcnn.layers import dense, dropout, flatten, tanh
from funcnn.losses import mean_squared_error, softmax_cross_entropy
from funcnn.optimizers import Optimizer, adam, lbfgs, sgd, sharpness_aware
from funcnn.optimizers.second import _direction, _Search
from funcnn.train import Epoch, Problem, init_state, make_step, train

# A quadratic of five numbers, in a tree of two leaves.
_ROOT = gaussian((5, 5), np.float64, "root")
HESSIAN = _ROOT @ _ROOT.T + 0.1 * np.eye(5)
LEAST = gaussian((5,), np.float64, "least")
START = (np.zeros((3, 1)), (np.zeros(2), None))


def quadratic(params: Any) -> tuple[float, Any]:
    x = np.concatenate([leaf.reshape(-1) for leaf in tree.flatten(params)]) - LEAST
    slope = HESSIAN @ x
    return float(x @ slope) / 2, tree.unflatten(params, [slope[:3].reshape(3, 1), slope[3:]])


def rosenbrock(params: Any) -> tuple[float, Any]:
    (x,) = params
    a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    slope = np.zeros_like(x)
    slope[1:] += 200 * a
    slope[:-1] -= 400 * a * x[:-1] + 2 * b
    return float(100 * a @ a + b @ b), (slope,)


def minimised(optimizer: Optimizer, loss: Any, params: Any, steps: int) -> tuple[Any, list[float], Any]:
    opt_state, values = optimizer.init(params), []
    for step in range(steps):
        value, grads = loss(params)
        values.append(value)
        params, opt_state = optimizer.update(grads, opt_state, params, step, value=value, loss=loss)
    return params, [*values, loss(params)[0]], opt_state


# --- L-BFGS ---------------------------------------------------------------------------------------------------


def test_the_two_loops_are_bfgs_by_its_matrix() -> None:
    """Nocedal & Wright 2006, equation 7.19: H from the identity, scaled by the last change, by each change in turn."""
    moves = gaussian((3, 5), np.float64, "moves")
    changes = moves @ HESSIAN
    inverse = np.eye(5) * (moves[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
    for s, y in zip(moves, changes, strict=True):
        v = np.eye(5) - np.outer(y, s) / (y @ s)
        inverse = v.T @ inverse @ v + np.outer(s, s) / (y @ s)
    g = gaussian((5,), np.float64, "g")
    np.testing.assert_allclose(_direction(g, moves, changes), -inverse @ g, rtol=1e-10)
    np.testing.assert_array_equal(_direction(g, moves[:0], changes[:0]), -g)


def test_a_quadratic_is_minimised() -> None:
    params, values, _ = minimised(lbfgs(), quadratic, START, 30)
    assert all(b <= a for a, b in pairwise(values))
    np.testing.assert_allclose(np.concatenate([leaf.reshape(-1) for leaf in tree.flatten(params)]), LEAST, rtol=1e-6)
    assert params[1][1] is None


@pytest.mark.parametrize("memory", [2, 10])
def test_a_curved_valley_is_followed_to_its_end(memory: int) -> None:
    params, values, _ = minimised(lbfgs(memory), rosenbrock, (np.full(10, -1.0),), 120)
    assert values[-1] < 1e-10
    np.testing.assert_allclose(params[0], np.ones(10), atol=1e-5)
    _, _, opt_state = minimised(lbfgs(memory), rosenbrock, (np.full(10, -1.0),), memory + 2)
    assert int(opt_state.count) == memory


def test_every_step_meets_the_strong_wolfe_conditions() -> None:
    optimizer, params = lbfgs(c1=1e-3, c2=0.5), (np.full(6, -1.0),)
    opt_state = optimizer.init(params)
    for step in range(30):
        value, (slope,) = rosenbrock(params)
        new, opt_state = optimizer.update((slope,), opt_state, params, step, value=value, loss=rosenbrock)
        move = new[0] - params[0]
        after, (its_slope,) = rosenbrock(new)
        assert slope @ move < 0
        assert after <= value + 1e-3 * (slope @ move) + 1e-12
        assert abs(its_slope @ move) <= 0.5 * abs(slope @ move) * (1 + 1e-9)
        params = new


def test_the_search_goes_past_what_is_no_number() -> None:
    """A loss that overflows far away: -log(1 - x) - 3 x has its minimum at 2/3, and no value from 1 on."""

    def loss(params: Any) -> tuple[float, Any]:
        (x,) = params
        if x[0] >= 1:
            raise ArithmeticError("no number")
        return float(-math.log(1 - x[0]) - 3 * x[0]), (1 / (1 - x) - 3,)

    params, _, _ = minimised(lbfgs(), loss, (np.zeros(1),), 12)
    assert params[0][0] == pytest.approx(2 / 3, rel=1e-6)


def test_at_a_stationary_point_nothing_moves() -> None:
    params = (np.ones(4),)
    value, grads = rosenbrock(params)
    optimizer = lbfgs()
    new, opt_state = optimizer.update(grads, optimizer.init(params), params, 0, value=value, loss=rosenbrock)
    assert tree.equal(new, params)
    assert int(opt_state.count) == 0


def test_where_the_loss_falls_nowhere_the_params_stay_and_the_history_is_forgotten() -> None:
    params, _, opt_state = minimised(lbfgs(), rosenbrock, (np.full(4, -1.0),), 3)
    assert int(opt_state.count) == 3
    value, grads = rosenbrock(params)
    new, opt_state = lbfgs(searches=4).update(
        grads, opt_state, params, 3, value=value, loss=lambda at: (value + 1, grads)
    )
    assert tree.equal(new, params)
    assert int(opt_state.count) == 0


def test_a_history_of_other_params_is_named() -> None:
    optimizer = lbfgs(memory=4)
    with pytest.raises(
        tree.TreeError, match=r"^lbfgs: params has 5 numbers, the optimizer state has an array of shape"
    ):
        optimizer.update(START, optimizer.init((np.zeros(3),)), START, 0, value=1.0, loss=quadratic)
    with pytest.raises(TypeError, match=r"^lbfgs: expected the state that its own init gave, got Moments$"):
        optimizer.update(START, adam(0.1).init(START), START, 0, value=1.0, loss=quadratic)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_params_and_history_keep_their_dtypes(dtype: type) -> None:
    params = (np.zeros((2, 2), dtype), np.zeros(1, dtype))

    def loss(at: Any) -> tuple[float, Any]:
        away = [leaf.astype(np.float64) - 1 for leaf in at]
        return sum(float((each**2).sum()) for each in away), tuple([(2 * each).astype(dtype) for each in away])

    new, _, opt_state = minimised(lbfgs(), loss, params, 3)
    assert {leaf.dtype for leaf in new} == {np.dtype(dtype)}
    assert opt_state.moves.dtype == (np.float32 if dtype is np.float16 else dtype)
    np.testing.assert_allclose(new[0], np.ones((2, 2)), rtol=1e-3)


def test_a_search_looks_at_no_more_points_than_it_may() -> None:
    calls = []

    def loss(params: Any) -> tuple[float, Any]:
        calls.append(1)
        return rosenbrock(params)

    params = (np.full(4, -1.0),)
    value, (slope,) = rosenbrock(params)
    settings = lbfgs(c2=1e-3 + 1e-6, c1=1e-3, searches=3).config
    search = _Search(settings, loss, params, params[0], -slope, value, -float(slope @ slope))
    best = search.run(1e-6)
    assert best is not None
    assert best.value < value
    assert len(calls) <= 3


# --- Sharpness-aware ------------------------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_steepest_neighbour() -> None:
    """Foret et al. 2021, algorithm 1."""
    params, rho = (gaussian((3, 1), np.float64, "a"), (gaussian((2,), np.float64, "b"), None)), 0.3
    value, grads = quadratic(params)
    optimizer = sharpness_aware(sgd(0.1), rho)
    new, _ = optimizer.update(grads, optimizer.init(params), params, 0, value=value, loss=quadratic)
    norm = math.sqrt(sum(float((leaf**2).sum()) for leaf in tree.flatten(grads)))
    _, steep = quadratic(tree.map(lambda w, g: w + rho * g / norm, params, grads))
    for have, want in zip(
        tree.flatten(new), tree.flatten(tree.map(lambda w, g: w - 0.1 * g, params, steep)), strict=True
    ):
        np.testing.assert_allclose(have, want, rtol=1e-12)


def test_without_a_gradient_there_is_no_steepest_neighbour() -> None:
    params = (np.ones(2),)
    new, _ = sharpness_aware(sgd(0.1)).update((np.zeros(2),), None, params, 0, value=0.0, loss=lambda at: 1 / 0)
    assert tree.equal(new, params)


# --- In training ----------------------------------------------------------------------------------------------

DATA = load("digits")
SMALL = Dataset(DATA.train.thin(60), None, DATA.test.thin(50), DATA.classes, DATA.in_shape)


@pytest.mark.parametrize("optimizer", ASKING, ids=repr)
def test_training_gives_the_batchs_loss_and_is_pure(optimizer: Optimizer) -> None:
    """Dropout draws the same within a step, so that its loss is a function."""
    problem = Problem(serial(flatten(), dense(8), tanh(), dropout(0.1), dense(10)), softmax_cross_entropy, optimizer)
    step, state = make_step(problem), init_state(problem, Key(0), SMALL.in_shape)
    batch = SMALL.train.take(slice(None))
    for _ in range(3):
        before = tree.map(np.copy, (state.params, state.opt_state))
        first, again = step(state, batch), step(state, batch)
        assert tree.equal(first[0], again[0])
        assert first[1] == again[1]
        assert tree.equal((state.params, state.opt_state), before)
        state = first[0]
    leaves = tree.flatten((state.params, state.opt_state))
    assert {leaf.dtype for leaf in leaves if leaf.ndim} == {np.dtype(np.float32)}
    assert not any(leaf.flags.writeable for leaf in leaves)


def test_small_data_is_learnt_by_heart() -> None:
    problem = Problem(serial(flatten(), dense(8), tanh(), dense(10)), softmax_cross_entropy, lbfgs())
    state = init_state(problem, Key(0), SMALL.in_shape)
    events = train(problem, state, SMALL, epochs=40, batch_size=len(SMALL.train))
    *_, last = (each for each in events if isinstance(each, Epoch))
    assert last.train.accuracy == 1.0
    assert last.train.loss < 1e-2


def test_the_least_squares_line_is_found() -> None:
    """A dense layer and a squared error: the solution is that of the normal equations."""
    x, y = gaussian((30, 4), np.float64, "x"), gaussian((30, 2), np.float64, "y")
    problem = Problem(dense(2), mean_squared_error, lbfgs())
    state = init_state(problem, Key(0), (4,), np.float64)
    for _ in range(25):
        state, _ = make_step(problem)(state, (x, y))
    solution = np.linalg.lstsq(np.column_stack([x, np.ones(30)]), y, rcond=None)[0]
    np.testing.assert_allclose(state.params.weight, solution[:4], atol=1e-7)
    np.testing.assert_allclose(state.params.bias, solution[4], atol=1e-7)


@pytest.mark.parametrize("optimizer", ASKING, ids=repr)
def test_without_the_loss_the_error_says_who_gives_it(optimizer: Optimizer) -> None:
    params = (np.ones(2),)
    with pytest.raises(
        TypeError, match=rf"^{optimizer.name}\.update: it looks at the loss of other params\. Pass value"
    ):
        optimizer.update(params, optimizer.init(params), params, 0)
    problem = Problem(serial(flatten(), dense(10)), softmax_cross_entropy, optimizer)
    text = r"looks at the whole batch's loss of other params\. Train with one worker and one shard"
    with pytest.raises(ValueError, match=f"^make_step: .* {text}"):
        make_step(problem, shards=2)
    with pytest.raises(ValueError, match=f"^train: .* {text}"):
        train(problem, init_state(problem, Key(0), SMALL.in_shape), SMALL, epochs=1, batch_size=8, shards=2)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: lbfgs(0), "lbfgs: memory must be a positive int, got 0"),
        (lambda: lbfgs(c1=0.5, c2=0.4), "lbfgs: c1 must be less than c2 (0.4), got 0.5"),
        (lambda: lbfgs(c2=1.0), "lbfgs: c2 must be less than 1, got 1.0"),
        (lambda: sharpness_aware(sgd(0.1), 0.0), "sharpness_aware: rho must be positive and finite, got 0.0"),
    ],
)
def test_invalid_settings_raise_in_the_constructor(make: Any, text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole text is compared)
        make()
    assert str(raised.value) == text
    with pytest.raises(TypeError, match="it has no rate to scale"):
        lbfgs().scaled(0.5)
