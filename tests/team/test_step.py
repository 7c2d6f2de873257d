"""A batch in shards gives what the whole batch gives, in one order of summing; what cannot be cut is refused."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from cases import ONE_OUTPUT, Case, assert_close, gaussian, inputs
from hypothesis import given
from hypothesis import strategies as st
from optimizer_cases import OPTIMIZERS

from funcnn import Key, serial, tree
from funcnn.arrays import threads
from funcnn.checks import LayerError
from funcnn.compose import branches, join, parallel, residual
from funcnn.data import Dataset, Part
from funcnn.keys import generator
from funcnn.layer import Applied, Config, Gradients, Initialised, config, make_layer
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.losses import mean_squared_error, softmax_cross_entropy
from funcnn.metrics import accuracy
from funcnn.nn.coupled import check_meets
from funcnn.optimizers import Optimizer, adam, sgd
from funcnn.team.calls import _checksum
from funcnn.team.memory import Plan, StateMemory, division_of, piece, plan_for
from funcnn.team.shared import lay_out, views
from funcnn.team.step import Metrics, NonFiniteError, TrainState, add_up, shard_slices, summed
from funcnn.train import Problem, evaluate, init_state, make_step, predict, train

# Batch norm at every depth: in a run of chunks, before a pool, within residual and parallel, within one another.
NET = serial(
    conv2d(4, 3, padding="same"), batch_norm(), relu(), max_pool2d(2),
    residual(serial(batch_norm(), relu(), conv2d(4, 3, padding="same"), batch_norm())),
    parallel(serial(conv2d(3, 1), batch_norm()), residual(parallel(batch_norm(), combine="add"))),
    flatten(), dense(5), batch_norm(), relu(), dense(3),
)  # fmt: skip
IN_SHAPE = (6, 6, 2)


def shaken(inputs: Any, key: Key) -> Any:
    return inputs + generator(key).normal(size=inputs.shape).astype(inputs.dtype)


def batch_of(n: int, in_shape: tuple[int, ...] = IN_SHAPE, dtype: Any = np.float64) -> tuple[Any, Any]:
    return gaussian((n, *in_shape), dtype), np.arange(n) % 3


def joined(state: TrainState) -> Any:
    return np.concatenate([np.zeros(1), *[leaf.reshape(-1) for leaf in tree.flatten((state.params, state.state))]])


@pytest.mark.parametrize("shards", [2, 3, 8, 100])
def test_shards_give_what_the_whole_batch_gives(shards: int) -> None:
    problem = Problem(NET, softmax_cross_entropy, sgd(0.1))
    state = init_state(problem, Key(0), IN_SHAPE, np.float64)
    whole, cut = make_step(problem), make_step(problem, shards=shards)
    for n in (10, 7):
        expected, metrics = whole(state, batch_of(n))
        state, its_metrics = cut(state, batch_of(n))
        # All together, since the gradient of a bias before batch norm is zero but for rounding.
        assert_close(joined(state), joined(expected), 1e-9)
        np.testing.assert_allclose([its_metrics.loss, its_metrics.accuracy], [metrics.loss, metrics.accuracy], 1e-12)
        assert state.step == expected.step


@pytest.mark.parametrize("case", [case for case in ONE_OUTPUT if not case.layer.config.stochastic], ids=str)
def test_shards_of_every_layer_give_what_the_whole_batch_gives(case: Case) -> None:
    problem = Problem(case.layer, mean_squared_error, sgd(0.1))
    state = init_state(problem, Key(0), case.in_shape, np.float64)
    targets = gaussian((5, *case.layer.config.out_shape(case.in_shape)), np.float64, "targets")
    batch = inputs(case, 5), targets
    expected, metrics = make_step(problem)(state, batch)
    cut, its_metrics = make_step(problem, shards=2)(state, batch)
    assert_close(joined(cut), joined(expected), 1e-9)
    np.testing.assert_allclose(its_metrics.loss, metrics.loss, 1e-12)


def test_the_number_of_threads_changes_no_bit_of_a_step_in_shards() -> None:
    problem = Problem(serial(NET, dropout(0.5)), softmax_cross_entropy, adam(0.1), augment=(shaken,))
    state = init_state(problem, Key(0), IN_SHAPE)
    before, made = threads.threads(), []
    try:
        for number in (1, 2, 3):
            threads.set_threads(number)
            made.append(make_step(problem, shards=4)(state, batch_of(9, dtype=np.float32)))
    finally:
        threads.set_threads(before)
    assert all(tree.equal(each[0], made[0][0]) and each[1] == made[0][1] for each in made)


def test_shards_draw_each_for_itself() -> None:
    problem = Problem(serial(dropout(0.5), dense(2)), mean_squared_error, sgd(1.0), augment=(shaken,))
    state = init_state(problem, Key(0), (50,), np.float64)
    inputs, targets = gaussian((1, 50)), np.zeros((1, 2))
    twice = np.concatenate([inputs, inputs]), np.concatenate([targets, targets])
    both, again = (make_step(problem, shards=2)(state, twice)[0] for _ in range(2))
    one = make_step(problem, shards=2)(state, (inputs, targets))[0]  # as the first of the two
    assert tree.equal(both, again)
    assert not np.allclose(both.params[1].weight, one.params[1].weight)


# --- What cannot be cut ---------------------------------------------------------------------------------------


@config
class _Centred(Config):
    name = "centred"
    couples_examples = True


def _centre(settings: Any, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Applied:
    return Applied(x - x.mean(axis=0), state, () if train else None)


def _centre_back(settings: Any, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
    return Gradients(None, dy - dy.mean(axis=0))


@config
class _Counting(Config):
    name = "counting"


def _counting_init(settings: Any, key: Any, in_shape: Any, dtype: Any = np.float32) -> Any:
    return Initialised(None, np.zeros((), dtype), in_shape)


def _count(settings: Any, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Applied:
    return Applied(x, state + len(x) if train else state, () if train else None)


def _count_back(settings: Any, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
    return Gradients(None, dy)


CENTRED = make_layer(_Centred(), _centre, _centre_back)
COUNTING = make_layer(_Counting(), _count, _count_back, _counting_init)


def test_a_layer_that_must_have_the_whole_batch_is_named() -> None:
    net = serial(dense(2), residual(serial(relu(), CENTRED)))
    expected = (
        r"^serial\[1\] residual\[0\] serial\[1\] centred\(\): in training it couples the examples of a batch, which is "
        r"to be cut\. Write it as a Coupled"
    )
    with pytest.raises(LayerError, match=expected):
        check_meets(net)
    problem = Problem(net, mean_squared_error, sgd(0.1))
    state, batch = init_state(problem, Key(0), (3,)), (np.ones((4, 3), np.float32), np.ones((4, 2), np.float32))
    make_step(problem)(state, batch)
    with pytest.raises(LayerError, match=expected):
        make_step(problem, shards=2)(state, batch)


def test_a_state_that_differs_from_shard_to_shard_is_refused() -> None:
    problem = Problem(serial(dense(2), COUNTING), mean_squared_error, sgd(0.1))
    state = init_state(problem, Key(0), (3,))
    batch = np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
    with pytest.raises(LayerError, match="its new state differs from shard to shard"):
        make_step(problem, shards=2)(state, batch)
    made, _ = make_step(problem, shards=2)(state, (batch[0][:4], batch[1][:4]))  # two and two agree
    assert made.state[1] == 2


def test_a_members_checksum_is_of_what_has_become_of_the_state() -> None:
    """A frozen net in the state may be large, and is the very same in every member: it is not read at every step."""
    frozen, mean = np.zeros(3), np.zeros(3)
    before, new = (frozen, mean), mean + 1
    assert _checksum(before, before) == 0
    assert _checksum((frozen, new), before) == _checksum((frozen, new.copy()), before)
    others = [before, (frozen, new + 1), (new, mean), (new, new)]
    assert _checksum((frozen, new), before) not in [_checksum(other, before) for other in others]


def test_a_shard_that_is_not_finite_names_the_step() -> None:
    problem = Problem(dense(2), mean_squared_error, sgd(0.1))
    state = init_state(problem, Key(0), (3,))
    inputs = np.ones((4, 3), np.float32)
    inputs[3, 0] = np.inf
    with pytest.raises(NonFiniteError, match=r"^step 0: the loss is inf, since 1 of the batch's 2 inputs"):
        make_step(problem, shards=2)(state, (inputs, np.ones((4, 2), np.float32)))


# --- Cutting and adding up ------------------------------------------------------------------------------------


@given(st.integers(1, 100), st.integers(1, 40))
def test_shards_are_alike_and_cover_the_batch(n: int, shards: int) -> None:
    slices = shard_slices(n, shards)
    sizes = [each.stop - each.start for each in slices]
    assert [i for each in slices for i in range(each.start, each.stop)] == list(range(n))
    assert len(slices) == min(n, shards)
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 33))
def test_a_sum_has_every_value_once_in_order(n: int) -> None:
    assert add_up([(i,) for i in range(n)], lambda one, other: one + other) == tuple(range(n))


def test_metrics_are_weighed_by_what_they_are_means_over() -> None:
    assert summed([Metrics(1.0, 0.5, 1, 2), Metrics(3.0, 1.0, 3, 2)]) == Metrics(2.5, 0.75, 4, 4)
    assert summed([Metrics(1.0, None, 2, 2)]) == Metrics(1.0, None, 2, 2)


# --- Weights --------------------------------------------------------------------------------------------------

WEIGHTS = np.array([2, 0, 1, 3, 0, 1, 0])  # the last of three shards is of weight 1, or 0 if they are cut otherwise


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_a_weight_of_k_counts_as_k_examples(shards: int) -> None:
    problem = Problem(serial(flatten(), dense(5), relu(), dense(3)), softmax_cross_entropy, sgd(0.1))
    state = init_state(problem, Key(0), IN_SHAPE, np.float64)
    inputs, targets = batch_of(len(WEIGHTS))
    expected, wanted = make_step(problem)(state, (inputs.repeat(WEIGHTS, axis=0), targets.repeat(WEIGHTS)))
    for _ in range(2):  # also of a state that the step has made
        made, metrics = make_step(problem, shards=shards)(state, (inputs, targets, WEIGHTS.astype(np.float64)))
        assert_close(joined(made), joined(expected), 1e-12)
        np.testing.assert_allclose([metrics.loss, metrics.accuracy], [wanted.loss, wanted.accuracy], 1e-12)
        assert (metrics.weight, metrics.accuracy_weight) == (WEIGHTS.sum(), WEIGHTS.sum())
        inputs, targets = inputs.copy(), targets.copy()
    part, repeated = Part(inputs, targets, weights=WEIGHTS), Part(inputs, targets).select(np.arange(7).repeat(WEIGHTS))
    by_weights, by_examples = (evaluate(problem, state, each, batch_size=2) for each in (part, repeated))
    np.testing.assert_allclose(by_weights.loss, by_examples.loss, 1e-12)
    np.testing.assert_allclose(by_weights.accuracy, by_examples.accuracy, 1e-12)


@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_ignored_counts_nowhere(shards: int) -> None:
    loss = partial(softmax_cross_entropy, ignore=9)
    problem = Problem(dense(3), loss, sgd(0.1))
    inputs, targets = gaussian((8, 4)), np.array([9, 9, 0, 9, 9, 1, 2, 9])
    state = init_state(problem, Key(0), (4,), np.float64)
    made, metrics = make_step(problem, shards=shards)(state, (inputs, targets))
    kept = targets != 9
    expected, wanted = make_step(Problem(dense(3), softmax_cross_entropy, sgd(0.1)))(
        state, (inputs[kept], targets[kept])
    )
    assert_close(joined(made), joined(expected), 1e-12)
    np.testing.assert_allclose([metrics.loss, metrics.accuracy], [wanted.loss, wanted.accuracy], 1e-12)
    nothing, metrics = make_step(problem, shards=shards)(state, (inputs, np.full(8, 9)))
    assert tree.equal(nothing.params, state.params)  # a batch of no weight has no say
    assert (metrics.loss, metrics.weight) == (0.0, 0.0)
    own = Problem(problem.net, lambda outputs, _: (1.0, np.ones_like(outputs), 0.0), sgd(0.1), metric=None)
    assert tree.equal(make_step(own)(state, (inputs, targets))[0].params, state.params)  # also by a loss of one's own
    with pytest.raises(ValueError, match="evaluate: the weights of all examples are zero"):
        evaluate(problem, state, Part(inputs, np.full(8, 9)))


def test_a_metric_of_nothing_is_the_same_in_shards() -> None:
    """Else one such batch would leave the epoch without a metric."""
    problem = Problem(dense(3), softmax_cross_entropy, sgd(0.1), partial(accuracy, ignore=2))
    state = init_state(problem, Key(0), (4,), np.float64)
    batch = gaussian((8, 4)), np.full(8, 2)
    (_, whole), (_, cut) = (make_step(problem, shards=shards)(state, batch) for shards in (1, 3))
    assert (whole.accuracy, whole.accuracy_weight) == (cut.accuracy, cut.accuracy_weight) == (0.0, 0.0)
    _, counted = make_step(problem, shards=3)(state, (batch[0], np.arange(8) % 2))
    assert summed([cut, counted]).accuracy == counted.accuracy


def test_weights_need_a_loss_and_a_metric_that_take_them() -> None:
    def plain(outputs: Any, targets: Any) -> Any:
        return mean_squared_error(outputs, targets)

    state = init_state(Problem(dense(2), mean_squared_error, sgd(0.1)), Key(0), (4,), np.float64)
    batch = gaussian((3, 4)), gaussian((3, 2)), np.ones(3)
    with pytest.raises(
        TypeError, match=r"plain: the batch has weights, and this loss takes none. Write it as loss\(out"
    ):
        make_step(Problem(dense(2), plain, sgd(0.1), metric=None))(state, batch)
    with pytest.raises(TypeError, match="plain: the batch has weights, and this metric takes none"):
        make_step(Problem(dense(2), mean_squared_error, sgd(0.1), metric=plain))(state, batch)


# --- Several inputs and outputs -------------------------------------------------------------------------------

# (n, 4) and (n, 2, 3) -> (n, 2) and (n, 5), batch norm within.
SEVERAL = serial(
    branches(serial(dense(5, use_bias=False), batch_norm()), serial(flatten(), dense(5))), join("add"), relu(),
    parallel(dense(2), dense(5), combine="tuple"),
)  # fmt: skip
SHAPES = ((4,), (2, 3))


def both_losses(outputs: Any, targets: Any) -> Any:
    (first, d_first), (second, d_second) = map(mean_squared_error, outputs, targets)
    return first + second, (d_first, d_second)


def first_error(outputs: Any, targets: Any) -> float:
    return float(np.abs(outputs[0] - targets[0]).mean())


def several_of(n: int) -> Part:
    inputs = tuple(gaussian((n, *shape), np.float64, "inputs") for shape in SHAPES)
    return Part(inputs, (gaussian((n, 2), np.float64, "first"), gaussian((n, 5), np.float64, "second")))


def test_a_net_of_several_inputs_and_outputs_trains_whole_in_shards_and_by_workers() -> None:
    problem = Problem(SEVERAL, both_losses, adam(0.01), metric=first_error)
    data = Dataset(several_of(20), several_of(7), several_of(9), (), SHAPES)
    start = init_state(problem, Key(0), SHAPES, np.float64)
    ends = {}
    for workers, shards in ((1, 1), (1, 3), (2, 3)):
        *_, end = train(problem, start, data, epochs=2, batch_size=8, workers=workers, shards=shards)
        ends[workers, shards] = end
    assert tree.equal(ends[2, 3].state, ends[1, 3].state)
    assert ends[2, 3].validation == ends[1, 3].validation
    assert_close(joined(ends[1, 3].state), joined(ends[1, 1].state), 1e-9)
    outputs = predict(SEVERAL, ends[2, 3].state, data.test, batch_size=4)
    assert [each.shape for each in outputs] == [(9, 2), (9, 5)]
    assert tree.equal(outputs, predict(SEVERAL, ends[2, 3].state, data.test.inputs, batch_size=4, workers=2))
    assert evaluate(problem, ends[2, 3].state, data.test).loss == pytest.approx(
        both_losses(outputs, data.test.targets)[0], rel=1e-12
    )


def test_what_does_not_fit_together_is_named() -> None:
    part = several_of(4)
    with pytest.raises(ValueError, match="Part: expected as many inputs as targets, got 4 inputs, 3 targets"):
        Part(part.inputs, (part.targets[0], part.targets[1][:3]))
    with pytest.raises(ValueError, match=r"the train part's inputs are of shape .* and in_shape is"):
        Dataset(part, None, part, (), ((4,), (3, 2)))
    problem = Problem(SEVERAL, both_losses, adam(0.01), metric=None)
    state = init_state(problem, Key(0), SHAPES, np.float64)
    with pytest.raises(ValueError, match="step: expected as many inputs as targets, got 4 inputs, 3 targets"):
        make_step(problem, shards=2)(state, (part.inputs, (part.targets[0], part.targets[1][:3])))
    uneven = part.inputs[0][:3], part.inputs[1]
    alike = "expected several inputs to have as many examples each, got 3 and 4"
    with pytest.raises(ValueError, match=f"step: {alike}"):
        make_step(problem, shards=2)(state, (uneven, part.targets))
    for batch_size in (3, 256):  # of 3, no batch would show that one input is longer
        with pytest.raises(ValueError, match=f"predict: {alike}"):
            predict(SEVERAL, state, uneven, batch_size=batch_size)
    wrong = Problem(SEVERAL, lambda outputs, targets: (0.5, outputs[:1]), adam(0.01), metric=None)
    with pytest.raises(TypeError, match="the d_outputs of a loss must be like the outputs"):
        make_step(wrong)(state, part.take(slice(None)))


# --- The optimizer's work in parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("members", [1, 2, 5])
def test_an_elementwise_optimizer_updates_a_part_as_the_whole(optimizer: Optimizer, members: int) -> None:
    net = serial(dense(5), batch_norm(), dense(3))
    problem = Problem(net, softmax_cross_entropy, optimizer, metric=accuracy)
    state = init_state(problem, Key(0), (4,))
    grads = tree.map(lambda leaf: gaussian(leaf.shape, leaf.dtype, "gradient"), state.params)
    for _ in range(2):  # so that the moments are not zero
        params, opt_state = optimizer.update(grads, state.opt_state, state.params, state.step)
        state = TrainState(params, state.state, opt_state, state.step + 1, 0)
    division = division_of(problem, state)
    assert (division == "first") == (not optimizer.elementwise)
    if division == "first":
        return
    expected = optimizer.update(grads, state.opt_state, state.params, state.step)
    (places, _, moments), end, rows, rows_end = plan_for(state, 1)
    memory, gradients = np.zeros(end, np.uint8), np.zeros(rows_end, np.uint8)
    for values, its_places, where in (
        (state.params, places, memory), (state.opt_state, moments, memory), (grads, rows[0], gradients),
    ):  # fmt: skip
        for leaf, target in zip(tree.flatten(values), tree.flatten(views(its_places, where)), strict=True):
            target[...] = leaf
    made = []
    for member in range(members):
        plan = Plan((places, None, moments), rows, 0, division)
        share, its_moments = StateMemory(plan, memory, (member, members), optimizer).share
        part = piece(rows[0], gradients, (member, members), division)
        made.append(tree.flatten(optimizer.update(part, its_moments, share, state.step)))
    whole = np.concatenate([np.concatenate([leaf.reshape(-1) for leaf in each]) for each in zip_leaves(made)])
    np.testing.assert_array_equal(whole, np.concatenate([leaf.reshape(-1) for leaf in tree.flatten(expected)]))


def zip_leaves(parts: list[list[Any]]) -> list[list[Any]]:
    """The parts of each leaf together, in the order of the leaves."""
    return [list(each) for each in zip(*parts, strict=True)]


def test_places_are_where_they_should_be() -> None:
    values = (np.arange(3.0), (np.arange(4, dtype=np.float32).reshape(2, 2), None), np.array(7))
    places, end = lay_out(values, start=8)
    memory = np.zeros(end, np.uint8)
    for leaf, target in zip(tree.flatten(values), tree.flatten(views(places, memory)), strict=True):
        target[...] = leaf
    assert tree.equal(views(places, memory), values)
    with pytest.raises(tree.TreeError, match=r"^1: processes share arrays of numbers, got int\. Make it np"):
        lay_out((np.ones(1), 3))
