"""A net at work: the bits of the layers' own functions, in memory that is kept, for batches like those that passed."""

import pickle
import re
import weakref
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest
from cases import CASES, Case, gaussian, inputs, several

from funcnn import tree
from funcnn.checks import LayerError
from funcnn.compose import residual, serial
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, config, make_layer
from funcnn.layers import (
    batch_norm,
    conv2d,
    dense,
    dropout,
    elementwise,
    flatten,
    gelu,
    layer_norm,
    max_pool2d,
    position_bias,
    relu,
    tanh,
)
from funcnn.losses import softmax_cross_entropy
from funcnn.nn.at_work import AtWork
from funcnn.optimizers import adam
from funcnn.team.step import step
from funcnn.train import NonFiniteError, Problem, TrainState, init_state, make_step

LIST = [case for case in CASES if not several(case.in_shape)]
NETS = {
    "cnn": serial(conv2d(4, 3), relu(), max_pool2d(2), flatten(), dense(8), gelu(), dense(3)),
    "dropout": serial(flatten(), dense(9), tanh(), dropout(0.3), serial(dense(7), layer_norm()), relu(), dense(3)),
    "by blocks": serial(flatten(), dense(600), tanh(), dense(500), gelu(), relu(), dense(3)),
    "images": serial(conv2d(2, 3), position_bias()),
    "two shapes": serial(residual(serial(conv2d(1, 3, padding="same"), relu())), flatten(), dense(3)),
}


def slope(y: Any) -> Any:
    """dy, lying in memory as y does: what a loss makes of y."""
    return tree.map(lambda array: np.add(gaussian(array.shape, array.dtype, "dy"), array * 0, dtype=array.dtype), y)


def by_own_functions(net: Layer, params: Any, state: Any, x: Any, key: Key) -> tuple[Any, Any]:
    y, _, residuals = net.apply(params, state, x, key=key, train=True)
    return y, net.backward(params, residuals, slope(y), need_dx=False).params


def by_work(work: Any, params: Any, x: Any, key: Key) -> tuple[Any, Any]:
    y = work.forward(params, x, key)
    into = tree.map(lambda leaf: np.full_like(leaf, np.nan), params)
    work.backward(params, slope(y), into)
    return y, into


@pytest.mark.parametrize("case", LIST, ids=str)
def test_every_layer_gives_its_own_bits_in_step_after_step(case: Case) -> None:
    x = inputs(case, 6, np.float32)
    net = serial(position_bias(), case.layer) if x.dtype.kind == "f" else serial(case.layer)  # so that dx is needed
    params, state, _ = net.init(Key(0), case.in_shape, np.float32)
    at_work = AtWork(net)
    assert at_work.take(params, state, x) is None
    at_work.passed(params, state, x, params)
    fits = not tree.flatten(state) and not net.config.couples_examples and x.dtype.kind == "f"
    for i in range(3):
        its = tree.map(lambda leaf, i=i: np.asarray(leaf + gaussian(leaf.shape, leaf.dtype, i) / 4), params)
        its_x = x + x.dtype.type(i) if fits else x
        work = at_work.take(its, state, its_x)
        assert (work is not None) == fits
        if work is not None:
            made, wanted = by_work(work, its, its_x, Key(i)), by_own_functions(net, its, state, its_x, Key(i))
            assert tree.equal(made, wanted)
            assert [y.strides for y in tree.flatten(made[0])] == [y.strides for y in tree.flatten(wanted[0])]
            at_work.give_back(work)


def batch(n: int, word: int) -> tuple[Any, Any]:
    return gaussian((n, 8, 8, 1), np.float32, word), np.arange(n) % 3


def mean_square(y: Any, targets: Any) -> tuple[float, Any]:
    """A loss of one's own, which adds up as y lies in memory."""
    return float(np.mean(y * y)), 2 * y / y.dtype.type(y.size)


def problem_of(net: Layer) -> tuple[Problem, TrainState]:
    loss = mean_square if net == NETS["images"] else softmax_cross_entropy
    problem = Problem(net, loss, adam(0.01), metric=None)
    return problem, init_state(problem, Key(0), (8, 8, 1))


@pytest.mark.parametrize("name", NETS)
def test_steps_have_the_bits_of_steps_by_the_layers_own_functions(name: str) -> None:
    problem, one = problem_of(NETS[name])
    made, other = make_step(problem), one
    for i, n in enumerate([40, 40, 7, 40, 7]):  # an epoch's last batch is smaller
        one, metrics = made(one, batch(n, i))
        other, others = step(problem, other, batch(n, i))
        assert tree.equal((one.params, one.opt_state), (other.params, other.opt_state))
        assert metrics == others


def test_what_a_step_gives_is_not_touched_by_the_next() -> None:
    net, outputs = NETS["by blocks"], []

    def loss(y: Any, targets: Any) -> Any:
        outputs.append((y, y.copy()))
        return softmax_cross_entropy(y, targets)

    problem = Problem(net, loss, adam(0.01))
    state, made = init_state(problem, Key(0), (8, 8, 1)), make_step(problem)
    for i in range(4):
        state, _ = made(state, batch(20, i))
    assert all(tree.equal(y, copied) for y, copied in outputs)


def test_a_batch_of_another_form_is_looked_at_anew() -> None:
    problem, state = problem_of(NETS["cnn"])
    made = make_step(problem)
    for i in range(3):
        state, _ = made(state, batch(8, i))
    x, targets = batch(8, 9)
    for wrong in (x[:, :, :, [0, 0]], x[:, :7, :7], x.astype(np.float64)):
        with pytest.raises(LayerError) as named:
            made(state, (wrong, targets))
        with pytest.raises(LayerError, match=re.escape(str(named.value))):
            step(problem, state, (wrong, targets))
    spoilt = x.copy()
    spoilt[3, 2, 1] = np.nan
    with pytest.raises(NonFiniteError) as found:
        made(state, (spoilt, targets))
    with pytest.raises(NonFiniteError, match=re.escape(str(found.value))):
        step(problem, state, (spoilt, targets))
    assert tree.equal(made(state, batch(8, 4))[0].params, step(problem, state, batch(8, 4))[0].params)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_error_of_a_later_step_names_its_place(where: str) -> None:
    def one(at: str, x: Any) -> Any:
        if at == where and (x > 100).any():
            raise ValueError("too large")
        return np.ones_like(x)

    wary = elementwise(partial(one, "forward"), partial(one, "backward"), name="wary")
    problem, state = problem_of(serial(flatten(), dense(2), wary, dense(3)))
    made = make_step(problem)
    state, _ = made(state, batch(8, 0))
    state, _ = made(state, batch(8, 1))
    x, targets = batch(8, 2)
    with pytest.raises(ValueError, match="too large") as raised:
        made(state, (x * 1e4, targets))
    with pytest.raises(ValueError, match="too large") as by_own:
        step(problem, state, (x * 1e4, targets))
    assert raised.value.__notes__ == by_own.value.__notes__
    assert "serial[2]" in raised.value.__notes__[0]


def test_two_at_once_have_memory_of_their_own_and_it_is_kept() -> None:
    net = NETS["dropout"]
    params, state, _ = net.init(Key(0), (8, 8, 1), np.float32)
    at_work, (x, _), (other, _) = AtWork(net), batch(8, 0), batch(8, 1)
    at_work.passed(params, state, x, params)
    one, two = at_work.take(params, state, x), at_work.take(params, state, x)
    assert one is not None
    assert two is not None
    first, second = one.forward(params, x, Key(1)), two.forward(params, other, Key(2))
    for work, y, its_x, key in ((one, first, x, Key(1)), (two, second, other, Key(2))):
        into = tree.map(np.empty_like, params)
        work.backward(params, slope(y), into)
        assert tree.equal((y, into), by_own_functions(net, params, state, its_x, key))
        at_work.give_back(work)
    assert {at_work.take(params, state, x), at_work.take(params, state, x)} == {one, two}
    assert pickle.loads(pickle.dumps(at_work)).net == net


@pytest.mark.parametrize(
    "net", [serial(flatten(), batch_norm(), dense(3)), dense(3), serial(dense(3, per_position=True))], ids=repr
)
def test_a_net_that_keeps_something_or_is_no_serial_works_by_its_functions(net: Layer) -> None:
    shape = (64,) if net == dense(3) else (8, 8)
    params, state, _ = net.init(Key(0), shape, np.float32)
    x = np.zeros((4, *shape), np.float32)
    at_work = AtWork(net)
    at_work.passed(params, state, x, params)
    work = at_work.take(params, state, x)
    assert (work is not None) == ("per_position" in repr(net))


def test_params_of_several_dtypes_work_by_the_nets_functions() -> None:
    problem, state = problem_of(NETS["dropout"])
    first = next(each for each in state.params if each is not None)
    mixed = attrs.evolve(first, bias=first.bias.astype(np.float64))
    one = other = init_state_of(problem, state, tuple([mixed if each is first else each for each in state.params]))
    made = make_step(problem)
    for i in range(3):
        one, other = made(one, batch(8, i))[0], step(problem, other, batch(8, i))[0]
        assert tree.equal((one.params, one.opt_state), (other.params, other.opt_state))


def init_state_of(problem: Problem, state: TrainState, params: Any) -> TrainState:
    return attrs.evolve(state, params=params, opt_state=problem.optimizer.init(params))


@config
class _Fickle(Config):
    """A layer of one's own, which gives fewer columns where a value is large."""

    name = "fickle"

    def out_shape(self, in_shape: Any) -> Any:
        return in_shape


def _fickle_apply(settings: Any, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Applied:
    return Applied(x[:, :1] if (x > 100).any() else x, state, x)


def _fickle_backward(settings: Any, params: Any, x: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
    return Gradients(None, dy)


def test_what_layers_of_ones_own_give_is_looked_at_in_every_step() -> None:
    problem, state = problem_of(serial(flatten(), make_layer(_Fickle(), _fickle_apply, _fickle_backward), dense(3)))
    made = make_step(problem)
    for i in range(3):
        state, _ = made(state, batch(8, i))
    x, targets = batch(8, 3)
    with pytest.raises(LayerError, match=r"serial\[2\] dense\(units=3\)"):
        made(state, (x * 1e4, targets))


@pytest.mark.parametrize("wrong", [list, lambda params: (*params[:1], [np.ones(2)], *params[2:])])
def test_params_that_are_no_tree_are_told_by_the_layer(wrong: Any) -> None:
    problem, state = problem_of(NETS["dropout"])
    made = make_step(problem)
    for i in range(2):
        state, _ = made(state, batch(8, i))
    with pytest.raises(LayerError, match=r"expected (its )?params to be"):
        made(attrs.evolve(state, params=wrong(state.params)), batch(8, 2))


def test_a_step_keeps_no_batch() -> None:
    problem, state = problem_of(NETS["dropout"])
    made, seen = make_step(problem), []
    for i in range(3):
        x, targets = batch(8, i)
        seen.append(weakref.ref(x))
        state, _ = made(state, (x, targets))
        del x
    assert [each() for each in seen] == [None] * 3
