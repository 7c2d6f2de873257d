"""Optimizers: trajectories against the papers' equations in plain floats, and the contract on one list of them all."""

import inspect
import json
import math
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np
import pytest
from optimizer_cases import ASKING, OPTIMIZERS, OWN, TRANSFORMS, signum

from funcnn import Key, optimizers, schedules, serial, tree
from funcnn.arrays import elementwise
from funcnn.layer import describe
from funcnn.layers import batch_norm, dense, relu
from funcnn.optimizers import (
    Moments,
    Optimizer,
    Transform,
    adam,
    adamw,
    add_decayed_weights,
    chain,
    clip_by_global_norm,
    global_norm,
    make_optimizer,
    momentum,
    rmsprop,
    sgd,
    update_leaves,
    weights_only,
)
from funcnn.rebuild import rebuild
from funcnn.schedules import exponential_decay, warmup_cosine
from funcnn.settings import Described, config
from funcnn.tree import TreeError, node

T = TypeVar("T")

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
every_transform = pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
every_rule = pytest.mark.parametrize("rule", [*OPTIMIZERS, *ASKING, *TRANSFORMS], ids=repr)
told_no_loss = pytest.mark.parametrize("rule", [*OPTIMIZERS, *TRANSFORMS], ids=repr)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


# --- Trajectories: the papers' equations in plain floats ------------------------------------------------------
#
# A reference is a generator over one scalar weight: it is sent a gradient and yields the weight after the step.
# The weights start so far from zero that no trajectory crosses it, where a relative error would mean nothing.

STEPS = 20
STARTS = (2.0, -3.0, 4.5)

Reference = Callable[..., Iterator[float]]
Rate = Callable[[int], float]


def gradient(i: int, step: int) -> float:
    """The gradient of the i-th weight: each has its own scale, and changes sign along the way."""
    return 10.0 ** (i - 1) * (math.sin(1.7 * step + i) + 0.3)


def half(step: int) -> float:
    """A learning rate of the user's own."""
    return 0.04 / (1 + step)


def sgd_reference(w: float, gradients: list[float], rate: Rate) -> Iterator[float]:
    for step, g in enumerate(gradients):
        w = w - rate(step) * g
        yield w


def momentum_reference(w: float, gradients: list[float], rate: Rate, mu: float) -> Iterator[float]:
    """Polyak 1964."""
    v = 0.0
    for step, g in enumerate(gradients):
        v = mu * v - rate(step) * g
        w = w + v
        yield w


def nesterov_reference(w: float, gradients: list[float], rate: Rate, mu: float) -> Iterator[float]:
    """Sutskever et al. 2013, equations 3 and 4: gradients at theta + mu v, which is the weight that funcnn keeps."""
    theta, v = w, 0.0
    for step, g in enumerate(gradients):
        v = mu * v - rate(step) * g
        theta = theta + v
        yield theta + mu * v


def rmsprop_reference(w: float, gradients: list[float], rate: Rate, decay: float, epsilon: float) -> Iterator[float]:
    """Tieleman & Hinton 2012, with epsilon outside the root."""
    c = 0.0
    for step, g in enumerate(gradients):
        c = decay * c + (1 - decay) * g**2
        w = w - rate(step) * g / (math.sqrt(c) + epsilon)
        yield w


def adam_reference(
    w: float, gradients: list[float], rate: Rate, b1: float, b2: float, epsilon: float, decay: float = 0.0
) -> Iterator[float]:
    """Kingma & Ba 2015, algorithm 1; with a decay Loshchilov & Hutter 2019, algorithm 2."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = m / (1 - b1**t)
        v_hat = v / (1 - b2**t)
        w = w - rate(t - 1) * (m_hat / (math.sqrt(v_hat) + epsilon) + decay * w)
        yield w


def signum_reference(w: float, gradients: list[float], rate: Rate, beta: float, decay: float) -> Iterator[float]:
    """Bernstein et al. 2018, algorithm 2."""
    m = 0.0
    for step, g in enumerate(gradients):
        m = beta * m + (1 - beta) * g
        w = w - rate(step) * (math.copysign(1, m) + decay * w)
        yield w


def trajectory(optimizer: Optimizer, params: T, gradients: list[T]) -> list[T]:
    """The params after each step."""
    opt_state, seen = optimizer.init(params), []
    for step, grads in enumerate(gradients):
        params, opt_state = optimizer.update(grads, opt_state, params, step)
        seen.append(params)
    return seen


def fixed(rate: float) -> Rate:
    return lambda step: rate


def cosine(step: int) -> float:
    """Linear from 0 to 0.1 over 5 steps, then half a cosine down to 0 at step 15, then 0."""
    return 0.1 * step / 5 if step < 5 else 0.05 * (1 + math.cos(math.pi * (min(step, 15) - 5) / 10))


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (sgd(0.05), partial(sgd_reference, rate=fixed(0.05))),
        (sgd(half), partial(sgd_reference, rate=half)),
        (sgd(exponential_decay(0.05, 0.9)), partial(sgd_reference, rate=lambda step: 0.05 * 0.9**step)),
        (sgd(warmup_cosine(0.1, 5, 15)), partial(sgd_reference, rate=cosine)),
        (momentum(0.01), partial(momentum_reference, rate=fixed(0.01), mu=0.9)),
        (momentum(half, 0.5), partial(momentum_reference, rate=half, mu=0.5)),
        (momentum(0.01, nesterov=True), partial(nesterov_reference, rate=fixed(0.01), mu=0.9)),
        (momentum(half, 0.7, nesterov=True), partial(nesterov_reference, rate=half, mu=0.7)),
        (rmsprop(0.02), partial(rmsprop_reference, rate=fixed(0.02), decay=0.99, epsilon=1e-8)),
        (rmsprop(half, 0.8, 0.1), partial(rmsprop_reference, rate=half, decay=0.8, epsilon=0.1)),
        (adam(0.05), partial(adam_reference, rate=fixed(0.05), b1=0.9, b2=0.999, epsilon=1e-8)),
        (adam(half, 0.5, 0.8, 0.1), partial(adam_reference, rate=half, b1=0.5, b2=0.8, epsilon=0.1)),
        (adam(warmup_cosine(0.1, 5, 15)), partial(adam_reference, rate=cosine, b1=0.9, b2=0.999, epsilon=1e-8)),
        (adamw(0.05), partial(adam_reference, rate=fixed(0.05), b1=0.9, b2=0.999, epsilon=1e-8, decay=0.01)),
        (
            adamw(half, 0.5, 0.8, 0.1, weight_decay=0.3),
            partial(adam_reference, rate=half, b1=0.5, b2=0.8, epsilon=0.1, decay=0.3),
        ),
        (signum(half, 0.8, weight_decay=0.3), partial(signum_reference, rate=half, beta=0.8, decay=0.3)),
    ],
    ids=lambda value: repr(value) if isinstance(value, Optimizer) else "",
)
def test_trajectory_follows_the_paper(optimizer: Optimizer, reference: Reference) -> None:
    gradients = [[gradient(i, step) for step in range(STEPS)] for i in range(len(STARTS))]
    wanted = [list(reference(w, its_gradients)) for w, its_gradients in zip(STARTS, gradients, strict=True)]
    got = trajectory(optimizer, np.array(STARTS), list(np.array(gradients).T))
    np.testing.assert_allclose(got, np.array(wanted).T, rtol=1e-12, atol=0)


@node
class Pair:
    """A tree with a leaf that `weights_only` decays and one that it does not."""

    weight: np.ndarray
    bias: np.ndarray


def pair_gradients() -> list[Pair]:
    return [
        Pair(np.array([gradient(0, step), gradient(1, step)]), np.array([gradient(1, step)])) for step in range(STEPS)
    ]


def test_adamw_decays_the_masked_leaves_alone() -> None:
    got = trajectory(
        adamw(0.05, weight_decay=0.3, mask=weights_only), Pair(np.array([2.0, -3.0]), np.array([4.5])), pair_gradients()
    )
    run = partial(adam_reference, rate=fixed(0.05), b1=0.9, b2=0.999, epsilon=1e-8)
    first, second = [gradient(0, step) for step in range(STEPS)], [gradient(1, step) for step in range(STEPS)]
    weights = [list(run(2.0, first, decay=0.3)), list(run(-3.0, second, decay=0.3))]
    np.testing.assert_allclose([params.weight for params in got], np.array(weights).T, rtol=1e-12)
    np.testing.assert_allclose([params.bias[0] for params in got], list(run(4.5, second)), rtol=1e-12)


def test_decayed_weights_then_sgd_is_gradient_descent_on_the_l2_penalty() -> None:
    rate, decay = 0.05, 0.3
    rule = chain(add_decayed_weights(decay, mask=weights_only), sgd(rate))
    got = trajectory(rule, Pair(np.array([2.0, -3.0]), np.array([4.5])), pair_gradients())
    first, second, bias = 2.0, -3.0, 4.5
    wanted = []
    for step in range(STEPS):
        first -= rate * (gradient(0, step) + decay * first)
        second -= rate * (gradient(1, step) + decay * second)
        bias -= rate * gradient(1, step)
        wanted.append([first, second, bias])
    np.testing.assert_allclose([[*each.weight, *each.bias] for each in got], wanted, rtol=1e-12)


def test_clipping_scales_by_the_norm_over_all_leaves() -> None:
    limit, rate, mu = 0.6, 0.05, 0.9
    got = trajectory(
        chain(clip_by_global_norm(limit), momentum(rate)),
        Pair(np.array([2.0, -3.0]), np.array([4.5])),
        pair_gradients(),
    )
    weights, velocities, clipped = [2.0, -3.0, 4.5], [0.0, 0.0, 0.0], []
    for step, params in enumerate(got):
        gradients = [gradient(0, step), gradient(1, step), gradient(1, step)]
        norm = math.sqrt(math.fsum(g**2 for g in gradients))
        clipped.append(norm > limit)
        for i, g in enumerate(gradients):
            velocities[i] = mu * velocities[i] - rate * g * min(1.0, limit / norm)
            weights[i] += velocities[i]
        np.testing.assert_allclose([*params.weight, *params.bias], weights, rtol=1e-12)
    assert any(clipped)
    assert not all(clipped)


def test_l2_through_adam_is_scaled_like_the_gradient_and_decoupled_decay_is_not() -> None:
    lr, decay = 0.1, 0.5
    params, grads = np.array([2.0]), [np.array([1.0])] * STEPS
    weight, m, v, wanted = 2.0, 0.0, 0.0, []
    for t in range(1, STEPS + 1):
        g = 1.0 + decay * weight
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        weight -= lr * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        wanted.append([weight])
    coupled = trajectory(chain(add_decayed_weights(decay), adam(lr)), params, grads)
    np.testing.assert_allclose(coupled, wanted, rtol=1e-12)
    assert trajectory(adamw(lr, weight_decay=decay), params, grads)[-1][0] != pytest.approx(weight, rel=1e-2)


# --- Closed forms ---------------------------------------------------------------------------------------------


def test_momentum_under_a_constant_gradient_is_a_geometric_series() -> None:
    lr, g, mu = 0.05, -1.5, 0.9
    optimizer, params = momentum(lr, mu), np.array([2.0])
    velocity = optimizer.init(params)
    for step in range(STEPS):
        params, velocity = optimizer.update(np.array([g]), velocity, params, step)
        assert velocity[0] == pytest.approx(-lr * g * (1 - mu ** (step + 1)) / (1 - mu), rel=1e-12)


def test_rmsprop_under_a_constant_gradient_forgets_geometrically() -> None:
    lr, g, decay = 0.05, -1.5, 0.9
    optimizer, params = rmsprop(lr, decay), np.array([2.0])
    square = optimizer.init(params)
    for step in range(STEPS):
        params, square = optimizer.update(np.array([g]), square, params, step)
        assert square[0] == pytest.approx(g**2 * (1 - decay ** (step + 1)), rel=1e-12)


@pytest.mark.parametrize("g", [1e-3, -0.5, 2e4])
@pytest.mark.parametrize("b1", [0.0, 0.9])
def test_adam_under_a_constant_gradient_steps_by_the_rate(g: float, b1: float) -> None:
    """Bias correction makes both means exact, so every step is lr · sign(g), the first one too."""
    lr, epsilon = 0.1, 1e-30  # an epsilon that no gradient here feels
    got = trajectory(adam(lr, b1, epsilon=epsilon), np.array([0.0]), [np.array([g])] * STEPS)
    assert [float(params[0]) for params in got] == pytest.approx(
        [-lr * math.copysign(1, g) * (step + 1) for step in range(STEPS)], rel=1e-12
    )


def test_adamw_without_gradient_shrinks_geometrically() -> None:
    lr, decay = 0.1, 0.5
    got = trajectory(adamw(lr, weight_decay=decay), np.array([3.0]), [np.array([0.0])] * STEPS)
    assert [float(params[0]) for params in got] == pytest.approx(
        [3.0 * (1 - lr * decay) ** (step + 1) for step in range(STEPS)], rel=1e-12
    )


@every_optimizer
def test_rate_is_read_at_the_given_step(optimizer: Optimizer) -> None:
    schedule = getattr(optimizer.config, "lr", None)
    if optimizer.name in ("accumulate", "freeze"):
        assert optimizer.learning_rate(3) == (0.05 if optimizer.name == "accumulate" else 0.0)
    elif schedule is None:  # a chain's rate is its optimizer's, and so is that of what is wrapped
        assert optimizer.learning_rate(3) == optimizer.parts[-1].learning_rate(3)
    else:
        assert optimizer.learning_rate(3) == (schedule(3) if callable(schedule) else schedule)


@pytest.mark.parametrize("make", [sgd, momentum, rmsprop, adam, adamw])
def test_rate_of_zero_at_a_step_leaves_params_as_they_are(make: Callable[..., Optimizer]) -> None:
    params, grads = draw(0), draw(1)
    optimizer = make(schedules.piecewise_constant([5], [0.1, 0.0]))
    new, _ = optimizer.update(grads, optimizer.init(params), params, step=5)
    assert tree.equal(new, params)


def test_global_norm_does_not_overflow_in_float32() -> None:
    assert global_norm((np.full(4, 1e30, np.float32), None)) == pytest.approx(2e30, rel=1e-6)
    assert global_norm(()) == 0


# --- The contract, on every optimizer of the list -------------------------------------------------------------


def draw(seed: int, dtype: type = np.float64) -> tuple:
    """Writable Gaussian leaves in the structure of a small net: nodes, None in place of params, and a bias of None."""
    net = serial(dense(4), batch_norm(), relu(), dense(2, use_bias=False))
    rng = np.random.default_rng(seed)
    like = net.init(Key(0), (3,)).params
    return tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(dtype), like)


def after_steps(optimizer: Optimizer, count: int, dtype: type = np.float64) -> tuple:
    """The params and opt_state after some steps of varying gradients."""
    params = draw(0, dtype)
    opt_state = optimizer.init(params)
    for step in range(count):
        params, opt_state = optimizer.update(draw(step + 1, dtype), opt_state, params, step)
    return params, opt_state


def copied(value: T) -> T:
    """A deep, writable copy."""
    return tree.map(np.copy, value)


def forms(value: object) -> list[tuple]:
    """The dtype and shape of every leaf."""
    return [(leaf.dtype, leaf.shape) for leaf in tree.flatten(value)]


def test_every_public_constructor_is_on_the_list() -> None:
    public = {name: getattr(optimizers, name) for name in optimizers.__all__ if name.islower()}
    returns = {name: inspect.signature(make).return_annotation for name, make in public.items()}
    blocks = {"make_optimizer", "make_transform", "masked", "number", "update_leaves", "zeros_like"}
    for kind, rules in ((Optimizer, OPTIMIZERS + ASKING), (Transform, TRANSFORMS)):
        made = {name for name, returned in returns.items() if returned is kind and name not in blocks}
        assert made == {rule.name for rule in rules} - set(OWN)
    # Whatever else is lower-case returns a number or a bool: no constructor hides behind a missing annotation.
    others = {kind for name, kind in returns.items() if name not in blocks and kind not in (Optimizer, Transform)}
    assert others == {float, bool}


@both_dtypes
@every_optimizer
def test_update_is_pure(optimizer: Optimizer, dtype: type) -> None:
    params, opt_state = (copied(each) for each in after_steps(optimizer, 2, dtype))
    arguments = draw(9, dtype), opt_state, params
    before = copied(arguments)
    first = optimizer.update(*arguments, step=2)
    assert tree.equal(arguments, before)
    assert tree.equal(optimizer.update(*arguments, step=2), first)
    assert tree.equal(arguments, before)


@both_dtypes
@every_transform
def test_transform_is_pure_and_keeps_the_form_of_gradients(transform: Transform, dtype: type) -> None:
    arguments = draw(1, dtype), transform.init(draw(0, dtype)), draw(0, dtype)
    before = copied(arguments)
    first = transform.update(*arguments, step=0)
    assert tree.equal(arguments, before)
    assert tree.equal(transform.update(*arguments, step=0), first)
    tree.check_like(arguments[0], first[0])
    assert forms(first[0]) == forms(arguments[0])


@both_dtypes
@every_optimizer
def test_update_keeps_structure_shapes_and_dtypes(optimizer: Optimizer, dtype: type) -> None:
    start = draw(0, dtype)
    params, opt_state = after_steps(optimizer, 3, dtype)
    tree.check_like(start, params)
    tree.check_like(optimizer.init(start), opt_state)
    assert forms(params) == forms(start)
    assert forms(opt_state) == forms(optimizer.init(start))
    if optimizer.elementwise:
        slots, rest = divmod(len(tree.flatten(opt_state)), len(tree.flatten(params)))
        assert rest == 0
        # Rows of a leaf's own form: moments lie beside the leaf they belong to.
        assert forms(opt_state) == forms(start) * slots


@every_optimizer
def test_params_and_state_come_out_read_only(optimizer: Optimizer) -> None:
    params, opt_state = after_steps(optimizer, 1)
    leaves = tree.flatten((params, opt_state, optimizer.init(params)))
    assert [leaf for leaf in leaves if leaf.flags.writeable] == []
    with pytest.raises(ValueError, match="read-only"):
        params[0].weight[0, 0] = 1.0


@every_optimizer
def test_size_of_blocks_does_not_change_a_bit(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves larger than a block, and no multiple of one, come out as from a block of any other size."""
    rng = np.random.default_rng(0)
    sizes = (elementwise.BLOCK + 17, 3, 2 * elementwise.BLOCK)
    params, *gradients = [tuple(rng.normal(size=size).astype(np.float32) for size in sizes) for _ in range(3)]

    def run() -> tuple:
        opt_state = optimizer.init(params)
        new, opt_state = optimizer.update(gradients[0], opt_state, params, 0)
        return optimizer.update(gradients[1], opt_state, new, 1)

    usual = run()
    for size in (1000, 10**9):
        monkeypatch.setattr(elementwise, "BLOCK", size)
        assert tree.equal(run(), usual)


@every_optimizer
def test_layout_of_memory_does_not_change_a_bit(optimizer: Optimizer) -> None:
    """Gradients that are transposed or strided views, as a layer's backward may return them."""
    rng = np.random.default_rng(0)
    params = (rng.normal(size=(3, 4)),)
    wide = rng.normal(size=(4, 6))
    for view in (wide[:, ::2].T, np.asfortranarray(wide[:3, :4])):
        plain = optimizer.update((np.ascontiguousarray(view),), optimizer.init(params), params, 0)
        assert tree.equal(optimizer.update((view,), optimizer.init(params), params, 0), plain)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 1, 3)], ids=str)
@every_optimizer
def test_leaves_of_any_shape(optimizer: Optimizer, shape: tuple[int, ...]) -> None:
    """A scalar leaf moves like an array of one element; a leaf without elements stays one."""
    flat = np.linspace(1, 2, math.prod(shape))
    params, grads = (flat.reshape(shape),), (2 * flat.reshape(shape),)
    new, opt_state = optimizer.update(grads, optimizer.init(params), params, 0)
    lined, _ = optimizer.update((2 * flat,), optimizer.init((flat,)), (flat,), 0)
    assert forms(new) == forms(params)
    assert forms(opt_state) == forms(optimizer.init(params))
    if optimizer.elementwise:
        assert new[0].tobytes() == lined[0].tobytes()


@pytest.mark.parametrize("params", [(), None, (None, ((), None))], ids=repr)
@every_optimizer
def test_empty_trees(optimizer: Optimizer, params: object) -> None:
    opt_state = optimizer.init(params)
    assert {leaf.shape for leaf in tree.flatten(opt_state)} <= {()}  # numbers of the whole
    new, opt_state = optimizer.update(params, opt_state, params, 0)
    assert tree.equal(new, params)
    tree.check_like(optimizer.init(params), opt_state, shapes=True)


@every_rule
def test_rules_pickle_print_compare_and_hash(rule: Optimizer | Transform) -> None:
    public = {name: getattr(module, name) for module in (optimizers, schedules) for name in module.__all__}
    again = pickle.loads(pickle.dumps(rule))
    printed = eval(repr(rule), public | OWN)
    for other in (again, printed):
        assert other == rule
        assert hash(other) == hash(rule)
        assert repr(other) == repr(rule)
    assert [other for other in (*OPTIMIZERS, *ASKING, *TRANSFORMS) if other == rule] == [rule]


@every_optimizer
def test_pickled_optimizer_takes_the_same_step(optimizer: Optimizer) -> None:
    """What a process pool does: the optimizer and its state arrive as copies."""
    params, opt_state = after_steps(optimizer, 1)
    sent, sent_state, sent_params = pickle.loads(pickle.dumps((optimizer, opt_state, params)))
    assert tree.equal(sent.update(draw(2), sent_state, sent_params, 1), optimizer.update(draw(2), opt_state, params, 1))


@every_rule
def test_rules_describe_themselves_as_json(rule: Optimizer | Transform) -> None:
    description = describe(rule)
    assert json.loads(json.dumps(description)) == description
    assert description["name"] == rule.name


@every_optimizer
def test_an_optimizer_is_made_again_from_its_description(optimizer: Optimizer) -> None:
    assert rebuild(describe(optimizer), layers=list(OWN.values()), kind="optimizer") == optimizer


@every_rule
def test_rules_are_frozen(rule: Optimizer | Transform) -> None:
    with pytest.raises(AttributeError):
        rule.name = "other"
    with pytest.raises(AttributeError):
        rule.config.lr = 1.0


def test_printed_forms() -> None:
    assert repr(adam(1e-3)) == "adam(lr=0.001)"
    assert repr(momentum(exponential_decay(0.1, 0.5), nesterov=True)) == (
        "momentum(lr=exponential_decay(start=0.1, factor=0.5), nesterov=True)"
    )
    assert describe(chain(clip_by_global_norm(1.0), adamw(0.1, mask=weights_only))) == {
        "name": "chain",
        "rules": [
            {"name": "clip_by_global_norm", "limit": 1.0},
            {"name": "adamw", "lr": 0.1, "mask": describe(weights_only)},
        ],
    }


@pytest.mark.parametrize("kind", [np.float64, np.float32], ids=["np.float64", "np.float32"])
@pytest.mark.parametrize(
    "make",
    [
        lambda number: sgd(number(0.1)),
        lambda number: momentum(number(0.1), number(0.5)),
        lambda number: rmsprop(number(0.1), number(0.5), number(0.1)),
        lambda number: adam(number(0.1), number(0.5), number(0.5), number(0.1)),
        lambda number: adamw(number(0.1), weight_decay=number(0.1)),
        lambda number: chain(clip_by_global_norm(number(0.5)), sgd(0.1)),
        lambda number: chain(add_decayed_weights(number(0.5)), sgd(0.1)),
        lambda number: sgd(lambda step: number(0.1)),
        lambda number: sgd(exponential_decay(number(0.1), number(0.5))),
    ],
    ids=["sgd", "momentum", "rmsprop", "adam", "adamw", "clip", "decay", "function", "schedule"],
)
def test_settings_drawn_by_numpy_keep_float32(make: Callable[..., Optimizer], kind: type) -> None:
    """A grid made by np.logspace holds np.float64 scalars, which upcast float32 arrays under NumPy 2."""
    optimizer = make(kind)
    params, opt_state = after_steps(optimizer, 2, np.float32)
    assert {leaf.dtype for leaf in tree.flatten((params, opt_state))} == {np.dtype(np.float32)}
    with_floats = make(lambda number: float(kind(number)))
    assert tree.equal((params, opt_state), after_steps(with_floats, 2, np.float32))
    assert json.loads(json.dumps(describe(optimizer))) == describe(with_floats)


@every_optimizer
def test_gradients_of_another_dtype_do_not_change_the_params_dtype(optimizer: Optimizer) -> None:
    params = draw(0, np.float32)
    new, opt_state = optimizer.update(draw(1, np.float64), optimizer.init(params), params, 0)
    assert {leaf.dtype for leaf in tree.flatten((new, opt_state)) if leaf.ndim} == {np.dtype(np.float32)}


# --- Masks ----------------------------------------------------------------------------------------------------


def test_weights_only_decays_the_weights_of_a_net() -> None:
    params = draw(0)
    decayed = [
        path for path, leaf in zip(tree.paths(params), tree.flatten(params), strict=True) if weights_only(path, leaf)
    ]
    assert decayed == ["0.weight", "3.weight"]
    assert tree.paths(params) == ["0.weight", "0.bias", "1.scale", "1.shift", "3.weight"]


def test_mask_is_given_the_path_and_the_leaf() -> None:
    params = draw(0)
    seen = []
    add_decayed_weights(0.1, mask=lambda path, leaf: bool(seen.append((path, leaf)))).update(draw(1), None, params, 0)
    assert [path for path, _ in seen] == tree.paths(params)
    assert all(leaf is own for (_, leaf), own in zip(seen, tree.flatten(params), strict=True))


def test_moments_are_named() -> None:
    _, opt_state = after_steps(adam(0.1), 1)
    assert isinstance(opt_state, Moments)
    np.testing.assert_allclose(opt_state.mean[0].weight, 0.1 * draw(1)[0].weight, rtol=1e-14)
    np.testing.assert_allclose(opt_state.square[0].weight, 0.001 * draw(1)[0].weight ** 2, rtol=1e-13)
    assert tree.paths(opt_state)[0] == "mean.0.weight"


# --- Errors ---------------------------------------------------------------------------------------------------


@every_optimizer
def test_gradients_of_another_structure_are_named(optimizer: Optimizer) -> None:
    params = draw(0)
    opt_state = optimizer.init(params)
    for path, found in (("3.weight", "None"), ("0", "None"), ("1", "a tuple of 2")):
        value = None if found == "None" else (np.zeros(2), np.zeros(2))
        with pytest.raises(TreeError) as raised:
            optimizer.update(tree.replace(draw(1), path, value), opt_state, params, 0)
        message = str(raised.value)
        assert message.startswith(f"trees differ at '{path}': params has ")
        assert message.endswith(f", gradients has {found}")


@every_optimizer
def test_gradients_of_another_shape_are_named(optimizer: Optimizer) -> None:
    """A transposed gradient has as many elements, and one of shape (3, 1) broadcasts: neither may pass unseen."""
    params = draw(0)
    opt_state = optimizer.init(params)
    for shape in ((4, 3), (12,), (1, 3, 4), (3, 1), (24,), ()):
        with pytest.raises(TreeError) as raised:
            optimizer.update(tree.replace(draw(1), "0.weight", np.ones(shape)), opt_state, params, 0)
        for part in ("params", "gradients", "'0.weight'", "(3, 4)", str(shape)):
            assert part in str(raised.value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: sgd(-0.1), "sgd: lr must be finite and not negative, got -0.1"),
        (lambda: sgd(math.nan), "sgd: lr must be finite and not negative, got nan"),
        (lambda: momentum(math.inf), "momentum: lr must be finite and not negative, got inf"),
        (lambda: momentum(0.1, 1.0), "momentum: decay must be at least 0 and less than 1, got 1.0"),
        (lambda: momentum(0.1, -0.1), "momentum: decay must be at least 0 and less than 1, got -0.1"),
        (lambda: momentum(0.1, nesterov="no"), "momentum: nesterov must be True or False, got 'no'"),
        (lambda: rmsprop(-1.0), "rmsprop: lr must be finite and not negative, got -1.0"),
        (lambda: rmsprop(0.1, math.nan), "rmsprop: decay must be at least 0 and less than 1, got nan"),
        (lambda: rmsprop(0.1, epsilon=0.0), "rmsprop: epsilon must be positive and finite, got 0.0"),
        (lambda: adam(-0.1), "adam: lr must be finite and not negative, got -0.1"),
        (lambda: adam(0.1, 1.0), "adam: b1 must be at least 0 and less than 1, got 1.0"),
        (lambda: adam(0.1, b2=1.5), "adam: b2 must be at least 0 and less than 1, got 1.5"),
        (lambda: adam(0.1, epsilon=0.0), "adam: epsilon must be positive and finite, got 0.0"),
        (lambda: adamw(-0.1), "adamw: lr must be finite and not negative, got -0.1"),
        (lambda: adamw(0.1, b1=1.0), "adamw: b1 must be at least 0 and less than 1, got 1.0"),
        (lambda: adamw(0.1, weight_decay=-0.1), "adamw: weight_decay must be finite and not negative, got -0.1"),
        (
            lambda: adamw(0.1, mask="weight"),
            "adamw: mask must be a function (path, leaf) -> bool or None, got 'weight'",
        ),
        (
            lambda: add_decayed_weights(0.1, mask=True),
            "add_decayed_weights: mask must be a function (path, leaf) -> bool or None, got True",
        ),
        (lambda: add_decayed_weights(-1.0), "add_decayed_weights: rate must be finite and not negative, got -1.0"),
        (lambda: clip_by_global_norm(0.0), "clip_by_global_norm: limit must be positive and finite, got 0.0"),
        (lambda: clip_by_global_norm(math.inf), "clip_by_global_norm: limit must be positive and finite, got inf"),
        (lambda: sgd(True), "sgd: lr must be a number or a schedule, a function of the step, got True"),
        (lambda: sgd("0.1"), "sgd: lr must be a number or a schedule, a function of the step, got '0.1'"),
        (lambda: sgd(None), "sgd: lr must be a number or a schedule, a function of the step, got None"),
        (lambda: momentum(0.1, "0.9"), "momentum: decay must be a number, got '0.9'"),
        (lambda: adam(0.1, b1=False), "adam: b1 must be a number, got False"),
        (lambda: clip_by_global_norm("1"), "clip_by_global_norm: limit must be a number, got '1'"),
        (lambda: signum(-0.1), "signum: lr must be finite and not negative, got -0.1"),
    ],
)
def test_invalid_settings_raise_in_the_constructor(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole text is compared)
        make()
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("rules", "got"),
    [
        ((), "nothing"),
        ((clip_by_global_norm(1.0),), "clip_by_global_norm(limit=1.0)"),
        ((adam(0.1), clip_by_global_norm(1.0)), "adam(lr=0.1), clip_by_global_norm(limit=1.0)"),
        ((sgd(0.1), adam(0.1)), "sgd(lr=0.1), adam(lr=0.1)"),
        ((0.1, sgd(0.1)), "0.1, sgd(lr=0.1)"),
    ],
)
def test_chain_wants_transforms_and_then_one_optimizer(rules: tuple, got: str) -> None:
    with pytest.raises(TypeError) as raised:
        chain(*rules)
    problem, _, advice = str(raised.value).partition(". For example ")
    assert problem == f"chain: expected transforms and then one optimizer, got {got}"
    assert isinstance(eval(advice, vars(optimizers)), Optimizer)


def test_an_optimizer_needs_a_learning_rate() -> None:
    @config
    class Forgotten(Described):
        name = "forgotten"

    with pytest.raises(TypeError) as raised:
        make_optimizer(Forgotten(), lambda *arguments: arguments)
    problem, _, advice = str(raised.value).partition(" Make it a subclass: ")
    assert problem == (
        "make_optimizer: Forgotten must have a method learning_rate(step) -> float, which training reports."
    )
    public: dict = vars(optimizers) | {"config": config}
    exec(f"@config\n{advice}:\n    name = 'forgotten'", public)
    assert make_optimizer(public["Forgotten"](0.1), lambda *arguments: arguments).learning_rate(0) == 0.1


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, None, "0.1", True, np.ones(1)], ids=repr)
@pytest.mark.parametrize("make", [sgd, adam, signum])
def test_a_schedule_that_gives_no_rate_is_refused_at_its_step(make: Callable[..., Optimizer], value: object) -> None:
    def own(step: int) -> object:
        return 0.1 if step < 7 else value

    optimizer, params = make(own), draw(0)
    _, opt_state = optimizer.update(draw(1), optimizer.init(params), params, 6)
    for use in (lambda: optimizer.update(draw(1), opt_state, params, 7), lambda: optimizer.learning_rate(7)):
        with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole text is compared)
            use()
        assert str(raised.value) == (
            f"own: the learning rate at step 7 must be a number, finite and not negative, got {value!r}. "
            "A schedule must return one for every step from 0 on: max(0.0, ...) keeps it from falling below"
        )


@told_no_loss
def test_a_step_is_a_count_and_is_asked_for_by_name(rule: Optimizer | Transform) -> None:
    params = draw(0)
    state = rule.init(params)
    with pytest.raises(TypeError, match=rf"{type(rule).__name__}\.update\(\) missing 1 required .* argument: 'step'"):
        rule.update(draw(1), state, params)
    for wrong in (-1, 1.5, None, "0", True):
        with pytest.raises(
            ValueError, match=rf"^{rule.name}\.update: step must be an int from 0 on, the number of steps"
        ):
            rule.update(draw(1), state, params, wrong)
    assert tree.equal(rule.update(draw(1), state, params, np.int64(2)), rule.update(draw(1), state, params, 2))


@told_no_loss
@both_dtypes
def test_underflow_is_no_error_for_who_has_numpy_raise(rule: Optimizer | Transform, dtype: type) -> None:
    params = draw(0, dtype)
    smallest = float(np.finfo(dtype).tiny)
    tiny = tree.map(lambda leaf: np.full_like(leaf, smallest), params)
    with np.errstate(all="raise"):
        _, state = rule.update(tiny, rule.init(params), params, 0)
        rule.update(tiny, state, params, 1)


def test_an_update_of_ones_own_must_give_a_pair() -> None:
    optimizer = make_optimizer(sgd(0.1).config, lambda settings, grads, opt_state, params, step: params)
    with pytest.raises(TypeError, match=r"^sgd: its update must return a tuple of two, got an array float64 \(2,\)$"):
        optimizer.update(np.ones(2), None, np.ones(2), 0)


# --- States of other optimizers -------------------------------------------------------------------------------


def test_a_state_of_another_structure_is_named() -> None:
    params = (np.ones(2), np.ones(3))
    with pytest.raises(TreeError, match=r"trees differ at '1': params has .*, the optimizer state has None"):
        momentum(0.1).update(params, (np.ones(2), None), params, 0)


def test_a_state_of_another_optimizer_is_named() -> None:
    params = (np.ones(2),)
    other = momentum(0.1).init(params)
    with pytest.raises(TypeError, match=r"adam: expected the state that its own init gave, got a tuple of 1$"):
        adam(0.1).update(params, other, params, 0)
    with pytest.raises(TypeError, match=r"sgd: expected the state that its own init gave, got a tuple of 1$"):
        sgd(0.1).update(params, other, params, 0)
    clipped = chain(clip_by_global_norm(1.0), adam(0.1))
    for state, got in (
        (adam(0.1).init(params), "Moments"),
        (other, "a tuple of 1"),
        ((None, None, None), "a tuple of 3"),
    ):
        with pytest.raises(TypeError, match=f"chain: expected the state that its own init gave, got {got}$"):
            clipped.update(params, state, params, 0)


def test_decays_of_another_structure_are_named() -> None:
    params = (np.ones(2), np.ones(3))
    with pytest.raises(TreeError, match=r"params has a tuple of 2, weight_decay has a leaf \(float\)"):
        update_leaves(lambda leaf, g, weight_decay: (leaf,), params, params, weight_decay=0.1)


@every_optimizer
def test_a_state_of_other_shapes_is_named(optimizer: Optimizer) -> None:
    params = draw(0)
    opt_state = optimizer.init(params)
    leaves = tree.flatten(opt_state)
    if any(leaf.ndim for leaf in leaves):
        transposed = tree.unflatten(opt_state, [leaf.T.copy() for leaf in leaves])
        shape = r"\(1, 3\)" if optimizer.name == "adafactor" else r"\(4, 3\)"
        with pytest.raises(TreeError, match=rf"params.* has .*, the optimizer state has an array of shape {shape}"):
            optimizer.update(draw(1), transposed, params, 0)


def test_what_is_no_array_no_schedule_and_no_mask_is_named() -> None:
    with pytest.raises(TypeError, match=r"^update_leaves: the leaves of all trees must be arrays, got str\. Make them"):
        update_leaves(lambda leaf, gradient: (leaf,), ("a",), ("b",))
    with pytest.raises(TypeError, match=r"^update_leaves: .* must be arrays, got matrix"):
        update_leaves(lambda leaf, gradient: (leaf,), (np.ones((1, 2)),), (np.ones((1, 2)).view(np.matrix),))
    params = (np.ones(2),)
    with pytest.raises(TypeError, match=r"^update_leaves: elementwise must be True or False, got ndarray"):
        update_leaves(lambda leaf, gradient: (leaf,), params, params, elementwise=np.ones(2))  # type: ignore[arg-type]
    wrong = adam(dict)
    with pytest.raises(
        ValueError, match=r"dict.*: a schedule must give a number for step 0, and fails \(TypeError: 'int'"
    ):
        wrong.update(params, wrong.init(params), params, 0)
    wrong = adamw(0.1, mask=float)
    with pytest.raises(
        ValueError, match=r"float.*: a mask must be a function \(path, leaf\) -> bool, and fails \(Type"
    ):
        wrong.update(params, wrong.init(params), params, 0)
    with pytest.raises(ValueError, match=r"^update_leaves: weight_decay must be a tree of numbers like the params"):
        update_leaves(lambda leaf, gradient, weight_decay: (leaf,), params, params, weight_decay=(np.ones(2),))
    with pytest.raises(TypeError, match=r"^global_norm: the gradients are masked arrays\. Pass plain ones"):
        global_norm((np.ma.masked_array(np.ones(2), [True, False]),))
    with pytest.raises(ValueError, match=r"^sgd\.update: step must be an int from 0 on"):
        sgd(0.1).update(params, None, params, 2**63)
