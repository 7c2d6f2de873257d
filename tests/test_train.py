"""Training: a pure step, a fold that can stop and go on anywhere, events that tell the truth, and clear failures."""

import math
import pickle
import re
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
from cases import assert_close, gaussian, message
from optimizer_cases import OPTIMIZERS

from funcnn import Key, checkpoint, fold_in, serial, tree
from funcnn import train as training
from funcnn.checks import FuncnnWarning
from funcnn.compose import remat, repeat
from funcnn.data import Part, load
from funcnn.layer import Array, Layer
from funcnn.layers import (
    batch_norm,
    conv2d,
    dense,
    dropout,
    flatten,
    log_softmax,
    max_pool2d,
    relu,
    sigmoid,
    softmax,
    tanh,
)
from funcnn.losses import mean_squared_error, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.metrics import accuracy, binary_accuracy, f1
from funcnn.models import fully_connected
from funcnn.optimizers import Optimizer, adam, adamw, chain, clip_by_global_norm, momentum, rmsprop, sgd
from funcnn.report.history import best_row, row_of
from funcnn.schedules import piecewise_constant
from funcnn.settings import as_code
from funcnn.train import (
    Batch,
    Epoch,
    Metrics,
    Model,
    NonFiniteError,
    Problem,
    Step,
    TrainState,
    batches,
    early_stopping,
    evaluate,
    init_state,
    make_step,
    predict,
    train,
)

DIGITS = load("digits")
EXAMPLES, BATCH, EPOCHS = 50, 16, 3
PER_EPOCH = 4  # batches of 16, 16, 16 and 2
RATES = piecewise_constant([3, 9], [0.01, 0.003, 0.001])
# Everything that a resumed run could get wrong: batch norm's state, dropout's draws, moments, a schedule.
NET = serial(conv2d(4, 3), batch_norm(), relu(), max_pool2d(2), flatten(), dropout(0.3), dense(10))
PROBLEM = Problem(NET, softmax_cross_entropy, chain(clip_by_global_norm(1.0), adamw(RATES)))
START = init_state(PROBLEM, Key(5), DIGITS.in_shape)


class Split(NamedTuple):
    train: Any
    validation: Any


SMALL = Split(DIGITS.train.select(slice(EXAMPLES)), DIGITS.validation.select(slice(20)))


class Recorded:
    """A part that notes the batches that are taken from it."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.taken: list[Batch] = []

    def __len__(self) -> int:
        return len(self.part)

    def take(self, index: Any) -> Batch:
        batch = self.part.take(index)
        self.taken.append(batch)
        return batch


def run(problem: Problem, state: TrainState, data: Any = SMALL, epochs: int = EPOCHS, batch_size: int = BATCH) -> list:
    """All events of a run."""
    return list(train(problem, state, data, epochs=epochs, batch_size=batch_size))


def steps(events: list) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def epochs(events: list) -> list[Epoch]:
    return [event for event in events if isinstance(event, Epoch)]


class Whole(NamedTuple):
    """A run that never stopped: its events, its batches, and its state before each step and after the last."""

    events: list
    taken: list[Batch]
    states: list[TrainState]


@pytest.fixture(scope="module")
def whole() -> Whole:
    recorded = Recorded(SMALL.train)
    events = run(PROBLEM, START, Split(recorded, SMALL.validation))
    states = [START]
    for batch in recorded.taken:
        states.append(make_step(PROBLEM)(states[-1], batch)[0])
    return Whole(events, recorded.taken, states)


def means(whole: Whole, first: int, last: int) -> tuple[float, float]:
    """The loss and accuracy over the examples of the steps after `first` up to `last`."""
    sizes = [len(labels) for _, labels in whole.taken[first:last]]
    values = [(event.loss, event.accuracy) for event in steps(whole.events)[first:last]]
    return tuple(np.average(values, axis=0, weights=sizes).tolist())


# --- The step -------------------------------------------------------------------------------------------------


def some_batch(size: int = 8, seed: int = 0) -> Batch:
    return SMALL.train.take(np.random.default_rng(seed).permutation(EXAMPLES)[:size])


def test_step_is_pure() -> None:
    state, _ = make_step(PROBLEM)(START, some_batch())
    # Writable copies, so that a write would not raise but show in the bytes.
    arguments = tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, (state, some_batch(8, 1)))
    before = tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, arguments)
    first, metrics = make_step(PROBLEM)(*arguments)
    assert tree.equal(arguments, before)
    again, same_metrics = make_step(PROBLEM)(*arguments)
    assert tree.equal(first, again)
    assert metrics == same_metrics
    assert tree.equal(arguments, before)


def test_step_moves_everything_that_it_should() -> None:
    state, metrics = make_step(PROBLEM)(START, some_batch())
    assert (state.step, state.seed) == (1, 5)
    moved = zip(tree.paths(START), tree.flatten(START), tree.flatten(state), strict=True)
    assert [path for path, old, new in moved if np.array_equal(old, new)] == ["seed"]
    assert metrics.loss > 0
    assert metrics.accuracy in {i / 8 for i in range(9)}


def test_state_after_a_step_is_read_only() -> None:
    state, _ = make_step(PROBLEM)(START, some_batch())
    assert not any(leaf.flags.writeable for leaf in tree.flatten(state) if isinstance(leaf, np.ndarray))


def test_pickled_step_takes_the_same_step() -> None:
    """What a process pool does: the step, the state and the batch arrive as copies."""
    arguments = START, some_batch()
    step, sent = pickle.loads(pickle.dumps((make_step(PROBLEM), arguments)))
    assert tree.equal(step(*sent)[0], make_step(PROBLEM)(*arguments)[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_float32_stays_float32(optimizer: Optimizer) -> None:
    problem = attrs.evolve(PROBLEM, optimizer=optimizer)
    state = init_state(problem, Key(0), DIGITS.in_shape)
    for i in range(3):
        state, _ = make_step(problem)(state, some_batch(8, i))
    inputs, labels = some_batch()
    outputs, net_state, residuals = NET.apply(state.params, state.state, inputs, key=Key(0), train=True)
    gradients = NET.backward(state.params, residuals, softmax_cross_entropy(outputs, labels)[1])
    leaves = tree.flatten((state, outputs, net_state, residuals, tuple(gradients)))
    dtypes = [leaf.dtype for leaf in leaves if isinstance(leaf, (np.ndarray, np.generic)) and leaf.ndim]
    assert {dtype for dtype in dtypes if dtype.kind == "f"} == {np.dtype(np.float32)}


def test_float64_is_kept_too() -> None:
    state = init_state(PROBLEM, Key(0), DIGITS.in_shape, np.float64)
    inputs, labels = some_batch()
    state, _ = make_step(PROBLEM)(state, (inputs.astype(np.float64), labels))
    assert {leaf.dtype for leaf in tree.flatten(state) if isinstance(leaf, np.ndarray)} == {np.dtype(np.float64)}


def test_gradient_of_the_whole_batch_is_the_mean_over_its_examples() -> None:
    net = serial(conv2d(3, 3, padding="same"), tanh(), max_pool2d(2), flatten(), dense(6), relu(), dense(10))
    params, state, _ = net.init(Key(0), (6, 6, 2), np.float64)
    inputs, labels = gaussian((12, 6, 6, 2)), np.arange(12) % 10

    def gradient(part: slice) -> Any:
        outputs, _, residuals = net.apply(params, state, inputs[part], train=True)
        return net.backward(params, residuals, softmax_cross_entropy(outputs, labels[part])[1], need_dx=False).params

    singles = [gradient(slice(i, i + 1)) for i in range(12)]
    assert_close(gradient(slice(12)), tree.map(lambda *leaves: sum(leaves) / 12, *singles), 1e-12)


def test_step_minimises_the_loss_by_the_optimizers_rule() -> None:
    """One layer, worked by hand: w - lr · Xᵀ(Xw - y) · 2/n."""
    problem = Problem(dense(1, use_bias=False), mean_squared_error, sgd(0.1), metric=None)
    state = init_state(problem, Key(0), (3,), np.float64)
    x, y, weight = gaussian((5, 3), np.float64, "x"), gaussian((5, 1), np.float64, "y"), state.params.weight
    new, metrics = make_step(problem)(state, (x, y))
    np.testing.assert_allclose(new.params.weight, weight - 0.1 * x.T @ (x @ weight - y) * 2 / 5, rtol=1e-12)
    assert metrics.loss == pytest.approx(np.mean((x @ weight - y) ** 2), rel=1e-12)
    assert metrics.accuracy is None


# --- Seeds ----------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits() -> None:
    first, second = (run(PROBLEM, init_state(PROBLEM, Key(1), DIGITS.in_shape))[-1].state for _ in range(2))
    assert tree.equal(first, second)


def test_other_seeds_give_other_weights_orders_and_masks() -> None:
    other = init_state(PROBLEM, Key(6), DIGITS.in_shape)
    assert not np.array_equal(other.params[0].weight, START.params[0].weight)
    assert not np.array_equal(other.params[6].weight, START.params[6].weight)
    reseeded = attrs.evolve(START, seed=6)
    same_batch = some_batch()
    dropped = [make_step(PROBLEM)(state, same_batch)[0].params[6].weight for state in (START, reseeded)]
    assert not np.array_equal(*dropped)
    later = [make_step(PROBLEM)(attrs.evolve(START, step=step), same_batch)[1].loss for step in range(3)]
    assert len(set(later)) == 3  # every step has its own mask
    orders = [visits(state, epochs=1)[0] for state in (START, reseeded)]
    assert orders[0] != orders[1]


# --- Every example once ---------------------------------------------------------------------------------------


def visits(state: TrainState, epochs: int, examples: int = EXAMPLES, batch_size: int = BATCH) -> list[list[int]]:
    """The order in which each epoch visits the examples, numbered by an input of their own."""
    numbered = Recorded(Part(np.arange(examples, dtype=np.float32)[:, None], np.zeros((examples, 1), np.float32)))
    problem = Problem(dense(1), mean_squared_error, sgd(0.0), metric=None)
    state = attrs.evolve(init_state(problem, Key(state.seed), (1,)), step=state.step)
    run(problem, state, Split(numbered, None), epochs, batch_size)
    seen = [int(value) for inputs, _ in numbered.taken for value in inputs[:, 0]]
    return [seen[start : start + examples] for start in range(0, len(seen), examples)]


@pytest.mark.parametrize("batch_size", [1, 7, 16, 25, 50, 1000])
def test_every_epoch_visits_every_example_once_in_an_order_of_its_own(batch_size: int) -> None:
    orders = visits(START, 4, batch_size=batch_size)
    assert len(orders) == 4
    for order in orders:
        assert sorted(order) == list(range(EXAMPLES))
        assert order != sorted(order)
    assert len(set(map(tuple, orders))) == 4


def test_order_does_not_depend_on_the_batch_size() -> None:
    assert visits(START, 2, batch_size=1) == visits(START, 2, batch_size=50)


def test_batches_without_a_key_are_in_the_stored_order() -> None:
    part = Part(np.arange(10), np.arange(10) + 100)
    taken = [(inputs.tolist(), targets.tolist()) for inputs, targets in batches(part, 4)]
    assert taken == [
        ([0, 1, 2, 3], [100, 101, 102, 103]),
        ([4, 5, 6, 7], [104, 105, 106, 107]),
        ([8, 9], [108, 109]),
    ]


def test_batches_can_start_later_in_the_same_order() -> None:
    part = Part(np.arange(10), np.arange(10))
    whole_pass = [inputs.tolist() for inputs, _ in batches(part, 3, key=Key(1))]
    for start in range(5):
        assert [inputs.tolist() for inputs, _ in batches(part, 3, key=Key(1), start=start)] == whole_pass[start:]


# --- Stopping and going on ------------------------------------------------------------------------------------


def test_training_is_the_step_folded_over_the_batches(whole: Whole) -> None:
    assert len(whole.states) == EPOCHS * PER_EPOCH + 1
    for event in epochs(whole.events):
        assert tree.equal(event.state, whole.states[event.epoch * PER_EPOCH])


@pytest.mark.parametrize("stop", range(EPOCHS * PER_EPOCH + 1))
def test_a_run_resumed_from_a_file_ends_as_one_that_never_stopped(stop: int, whole: Whole, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "state", whole.states[stop])
    restored = checkpoint.load(tmp_path / "state", like=START)
    assert tree.equal(restored, whole.states[stop])
    events = run(PROBLEM, restored)
    for event, same in zip(steps(events), steps(whole.events)[stop:], strict=True):
        # The epoch's means are over its steps since the start.
        first = max(stop, (event.epoch - 1) * PER_EPOCH)
        loss, score = means(whole, first, event.step)
        wanted = attrs.evolve(same, epoch_loss=loss, epoch_accuracy=score)
        assert attrs.astuple(event) == pytest.approx(attrs.astuple(wanted), rel=1e-12)
        assert event.loss == same.loss
    for event, same in zip(epochs(events), epochs(whole.events)[stop // PER_EPOCH :], strict=True):
        assert tree.equal(event.state, same.state)
        assert (event.epoch, event.validation, event.learning_rate) == (same.epoch, same.validation, same.learning_rate)


def test_breaking_off_leaves_a_state_to_use_and_to_go_on_from(whole: Whole) -> None:
    state, seen = START, 0
    for event in train(PROBLEM, START, SMALL, epochs=1000, batch_size=BATCH):
        seen += 1
        if isinstance(event, Epoch):
            state = event.state
            if event.epoch == 2:
                break
    assert seen == 2 * (PER_EPOCH + 1)
    assert evaluate(PROBLEM, state, SMALL.validation) == event.validation
    assert tree.equal(run(PROBLEM, state)[-1].state, whole.states[-1])


@pytest.mark.parametrize("epoch_steps", [1, 3, 6])
def test_an_epoch_of_so_many_steps_goes_on_in_the_pass_where_the_one_before_ended(
    epoch_steps: int, whole: Whole
) -> None:
    count = EPOCHS * PER_EPOCH // epoch_steps
    events = list(train(PROBLEM, START, SMALL, epochs=count, batch_size=BATCH, epoch_steps=epoch_steps))
    assert [(event.epoch, event.batch, event.batches) for event in steps(events)] == [
        (1 + i // epoch_steps, 1 + i % epoch_steps, epoch_steps) for i in range(EPOCHS * PER_EPOCH)
    ]
    for event in epochs(events):
        assert tree.equal(event.state, whole.states[event.epoch * epoch_steps])
        assert event.validation == evaluate(PROBLEM, event.state, SMALL.validation)
    rest = train(PROBLEM, whole.states[1], SMALL, epochs=count, batch_size=BATCH, epoch_steps=epoch_steps)
    assert tree.equal(list(rest)[-1].state, whole.states[-1])


def test_nothing_is_left_of_epochs_that_are_done(whole: Whole) -> None:
    assert run(PROBLEM, whole.states[-1]) == []
    assert run(PROBLEM, whole.states[-1], epochs=1) == []
    assert len(run(PROBLEM, whole.states[-1], epochs=EPOCHS + 1)) == PER_EPOCH + 1


def test_train_takes_no_step_before_it_is_asked_for_one() -> None:
    recorded = Recorded(SMALL.train)
    events = train(PROBLEM, START, Split(recorded, None), epochs=1, batch_size=BATCH)
    assert recorded.taken == []
    next(events)
    assert len(recorded.taken) == 1


# --- Events ---------------------------------------------------------------------------------------------------


def test_events_are_numbered_from_one(whole: Whole) -> None:
    kinds = [type(event) for event in whole.events]
    assert kinds == EPOCHS * (PER_EPOCH * [Step] + [Epoch])
    numbers = [(event.step, event.epoch, event.batch, event.batches) for event in steps(whole.events)]
    assert numbers == [(4 * epoch + i, epoch + 1, i, 4) for epoch in range(3) for i in (1, 2, 3, 4)]
    assert [(event.epoch, event.epochs, event.state.step) for event in epochs(whole.events)] == [
        (1, 3, 4),
        (2, 3, 8),
        (3, 3, 12),
    ]


def test_events_carry_the_rate_that_the_step_was_taken_with(whole: Whole) -> None:
    assert [event.learning_rate for event in steps(whole.events)] == [RATES(step) for step in range(12)]
    assert [event.learning_rate for event in epochs(whole.events)] == [RATES(3), RATES(7), RATES(11)]
    assert len({event.learning_rate for event in steps(whole.events)}) == 3


def test_events_carry_each_batchs_metrics_before_its_update(whole: Whole) -> None:
    for event, state, batch in zip(steps(whole.events), whole.states[:-1], whole.taken, strict=True):
        _, metrics = make_step(PROBLEM)(state, batch)
        assert (event.loss, event.accuracy) == (metrics.loss, metrics.accuracy)


def test_running_means_count_every_example_alike(whole: Whole) -> None:
    assert [len(labels) for _, labels in whole.taken] == EPOCHS * [16, 16, 16, 2]
    for event in steps(whole.events):
        first = (event.epoch - 1) * PER_EPOCH
        assert (event.epoch_loss, event.epoch_accuracy) == pytest.approx(means(whole, first, event.step), rel=1e-12)
    for epoch in epochs(whole.events):
        last = steps(whole.events)[epoch.epoch * PER_EPOCH - 1]
        assert (epoch.train.loss, epoch.train.accuracy) == (last.epoch_loss, last.epoch_accuracy)


def test_validation_is_the_state_evaluated_on_the_validation_part(whole: Whole) -> None:
    for event in epochs(whole.events):
        assert event.validation == evaluate(PROBLEM, event.state, SMALL.validation)


def test_without_a_validation_part_there_is_no_validation(whole: Whole) -> None:
    events = run(PROBLEM, START, SMALL._replace(validation=None))
    assert [event.validation for event in epochs(events)] == [None] * EPOCHS
    assert tree.equal(events[-1].state, whole.states[-1])


def measured(*pairs: tuple[float | None, float], lower: bool = False) -> list[Any]:
    """The epochs of a run whose validation part had these metrics and losses, a step before each."""
    train_part = Metrics(0.0, None, 1)
    return [
        event
        for i, (metric, loss) in enumerate(pairs, start=1)
        for event in (
            Step(i, i, 1, 1, 0.0, None, 0.0, None, 0.1),
            Epoch(i, len(pairs), START, train_part, Metrics(loss, metric, 1), 0.1, 0.0, lower=lower),
        )
    ]


@pytest.mark.parametrize(
    ("events", "settings", "last", "best"),
    [
        (measured((0.5, 1), (0.6, 1), (0.55, 1), (0.6, 1), (0.7, 1)), {"patience": 2}, 4, [1, 2]),
        (measured((0.5, 1), (0.6, 1), (0.55, 1), (0.6, 0.9), (0.5, 1)), {"patience": 2}, 5, [1, 2, 4]),
        (measured((0.5, 1), (0.4, 2), (0.6, 1), (0.45, 1), lower=True), {"patience": 2}, 4, [1, 2]),
        (measured((None, 3), (None, 2), (None, float("nan")), (None, 1.5)), {"patience": 1}, 3, [1, 2]),
        (measured((0.5, 1), (0.52, 1), (0.54, 1), (0.7, 1)), {"patience": 2, "min_delta": 0.1}, 3, [1, 2, 3]),
        (measured((0.5, 1), (0.52, 1), (0.61, 1), (0.6, 0)), {"patience": 2, "min_delta": 0.1}, 4, [1, 2, 3]),
        (measured((None, 3.0), (None, 2.95), (None, 2.9)), {"patience": 1, "min_delta": 0.1}, 2, [1, 2]),
        (measured((0.5, 1), (0.4, 1)), {"patience": 9}, 2, [1]),
    ],
)
def test_early_stopping_waits_for_a_better_epoch_and_marks_the_best(
    events: list[Any], settings: dict[str, Any], last: int, best: list[int]
) -> None:
    seen = list(early_stopping(iter(events), **settings))
    assert [type(event) for event in seen] == [Step, Epoch] * last
    assert [event.epoch for event in epochs(seen) if event.is_best] == best
    rows = [row_of(event) for event in epochs(seen)]
    assert best_row(rows, lower=events[1].lower).epoch == best[-1]  # by the rule that experiments keep a net by


def test_early_stopping_ends_the_training_that_it_goes_around() -> None:
    events = train(PROBLEM, START, SMALL, epochs=50, batch_size=BATCH)
    *_, last = early_stopping(events, patience=1, min_delta=1.0)
    assert isinstance(last, Epoch)
    assert (last.epoch, next(events, None)) == (2, None)
    for settings, text in (
        ({"patience": 0}, "patience must be an int of at least 1, got 0"),
        ({"patience": 1, "min_delta": -1}, "min_delta must be a finite number of at least 0, got -1"),
    ):
        assert text in message(ValueError, early_stopping, events, **settings)
    assert "events must be the events of train(...), got 3" in message(ValueError, early_stopping, 3, patience=1)
    without = train(PROBLEM, START, SMALL._replace(validation=None), epochs=1, batch_size=BATCH)
    assert "has no validation part" in message(ValueError, list, early_stopping(without, patience=1))


def test_seconds_leave_out_the_callers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)

    def tick() -> float:
        clock.now += 1
        return clock.now

    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=tick))
    for event in train(PROBLEM, START, SMALL, epochs=2, batch_size=BATCH):
        clock.now += 1000
        if isinstance(event, Epoch):
            assert event.seconds == PER_EPOCH  # from one tick to the next for each step


def test_without_a_metric_there_is_none_and_regression_finds_the_weights() -> None:
    weight = np.array([[2.0], [-1.0], [0.5]])
    inputs = gaussian((64, 3))
    part = Part(inputs, inputs @ weight + 0.25)
    problem = Problem(dense(1), mean_squared_error, sgd(0.1), metric=None)
    events = run(problem, init_state(problem, Key(0), (3,), np.float64), Split(part, part), 100, 16)
    assert {event.accuracy for event in steps(events)} == {None}
    assert {event.epoch_accuracy for event in steps(events)} == {None}
    assert {(event.train.accuracy, event.validation.accuracy) for event in epochs(events)} == {(None, None)}
    # The targets are exactly linear, so that there is no noise for the steps to stop at.
    np.testing.assert_allclose(events[-1].state.params.weight, weight, atol=1e-9)
    np.testing.assert_allclose(events[-1].state.params.bias, [0.25], atol=1e-9)


# --- Evaluating and predicting --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 20, 256, 1000])
def test_evaluation_is_that_of_the_whole_part_at_once(batch_size: int, whole: Whole) -> None:
    part = DIGITS.test.select(slice(100))
    inputs, labels = part.take(slice(None))
    state = whole.states[-1]
    outputs = NET.apply(state.params, state.state, inputs).y
    metrics = evaluate(PROBLEM, state, part, batch_size=batch_size)
    assert metrics.loss == pytest.approx(softmax_cross_entropy(outputs, labels)[0], rel=1e-6)
    assert metrics.accuracy == pytest.approx(accuracy(outputs, labels), rel=1e-12)
    assert evaluate(PROBLEM, Model(state.params, state.state), part, batch_size=batch_size) == metrics


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_prediction_of_arrays_and_of_parts_is_the_nets_output(batch_size: int, whole: Whole) -> None:
    state, part = whole.states[-1], DIGITS.test.select(slice(30))
    inputs, _ = part.take(slice(None))
    of_array = predict(NET, state, inputs, batch_size=batch_size)
    of_part = predict(NET, Model(state.params, state.state), part, batch_size=batch_size)
    assert tree.equal(of_array, of_part)
    assert_close(of_array, NET.apply(state.params, state.state, inputs).y, 1e-6)


def test_prediction_of_nothing_is_no_rows_of_scores(whole: Whole) -> None:
    nothing = SMALL.train.select(slice(0))
    for inputs in (nothing, nothing.take(slice(None))[0]):
        scores = predict(NET, whole.states[-1], inputs)
        assert (scores.shape, scores.dtype) == ((0, 10), np.dtype(np.float32))


def test_evaluation_of_nothing_is_refused(whole: Whole) -> None:
    with pytest.raises(ValueError, match=r"^evaluate: the examples must be at least 1, got 0$"):
        evaluate(PROBLEM, whole.states[-1], SMALL.train.select(slice(0)))


# --- What is not finite ---------------------------------------------------------------------------------------
#
# Warnings are errors here, so each of these tests also shows that no RuntimeWarning comes before the error.

MLP = fully_connected([8], 10)


def mlp_with(optimizer: Optimizer) -> Problem:
    return Problem(MLP, softmax_cross_entropy, optimizer)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_bad_inputs_are_named_by_their_step(value: float) -> None:
    inputs, labels = some_batch()
    inputs[3, 2, 5, 0] = value
    state = attrs.evolve(init_state(mlp_with(adam(0.1)), Key(0), DIGITS.in_shape), step=17)
    with pytest.raises(
        NonFiniteError, match=r"^step 17: the loss is nan, since 1 of the batch's 8 inputs are not finite\. Lower"
    ):
        make_step(mlp_with(adam(0.1)))(state, (inputs, labels))


def test_a_bad_parameter_is_named() -> None:
    state = init_state(mlp_with(adam(0.1)), Key(0), DIGITS.in_shape)
    broken = attrs.evolve(state, params=tree.replace(state.params, "3.bias", np.full(10, np.nan, np.float32)))
    with pytest.raises(NonFiniteError, match=r"^step 0: the loss is nan, since the parameter 3\.bias is not finite\."):
        make_step(mlp_with(adam(0.1)))(broken, some_batch())


@pytest.mark.parametrize("batch_size", [BATCH, EXAMPLES], ids=["minibatch", "full batch"])
@pytest.mark.parametrize(
    "optimizer",
    [sgd(1e30), sgd(1e300), momentum(1e38, nesterov=True), rmsprop(1e38), rmsprop(1e300), adam(1e38), adam(1e300)],
    ids=repr,
)
def test_a_rate_far_too_high_ends_in_an_error_that_names_the_step(optimizer: Optimizer, batch_size: int) -> None:
    """With the full batch, the validation part is the first to meet the parameters that the update spoilt."""
    problem = mlp_with(optimizer)
    start = init_state(problem, Key(0), DIGITS.in_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FuncnnWarning)
        with pytest.raises(NonFiniteError, match=r"^step \d+: .*Lower the learning rate"):
            run(problem, start, epochs=50, batch_size=batch_size)


def test_a_gradient_that_is_not_a_number_is_named_though_the_loss_is_finite() -> None:
    problem = Problem(MLP, lambda outputs, targets: (0.5, np.full_like(outputs, np.nan)), sgd(0.1))
    state = init_state(problem, Key(0), DIGITS.in_shape)
    with pytest.raises(NonFiniteError, match=r"^step 0: the gradient of 1\.weight is not finite \(loss 0\.5\)\. Lower"):
        make_step(problem)(state, some_batch())


def scaled_loss(factor: float, outputs: Array, targets: Array) -> tuple[float, Array]:
    value, gradient = softmax_cross_entropy(outputs, targets)
    return value, gradient * gradient.dtype.type(factor)


def test_a_gradient_whose_square_overflows_is_no_error() -> None:
    """1e25 is finite in float32, and its square is not: the quick look at all elements must not be the last."""
    problem = Problem(MLP, partial(scaled_loss, 1e25), sgd(1e-26))
    usual = Problem(MLP, softmax_cross_entropy, sgd(0.1))
    start = init_state(problem, Key(0), DIGITS.in_shape)
    state, _ = make_step(problem)(start, some_batch())
    assert_close(state.params, make_step(usual)(start, some_batch())[0].params, 1e-5)


@pytest.mark.parametrize("optimizer", [adam(0.1), rmsprop(0.1)], ids=repr)
def test_a_gradient_that_an_optimizer_cannot_square_is_an_error(optimizer: Optimizer) -> None:
    """An infinite mean of squares would make every later step zero: the weight would stay as it is, unnoticed."""
    problem = Problem(MLP, partial(scaled_loss, 1e25), optimizer)
    with pytest.raises(NonFiniteError, match=r"^step 0: .*Lower the learning rate"):
        make_step(problem)(init_state(problem, Key(0), DIGITS.in_shape), some_batch())


@pytest.mark.parametrize(("weights", "leaf"), [(1.0, "1.weight"), (1e-30, "3.weight")])
def test_the_first_gradient_that_overflows_is_named(weights: float, leaf: str) -> None:
    """With tiny weights in the last layer, little of what overflows there reaches the first."""
    problem = Problem(MLP, partial(scaled_loss, 3e38), sgd(0.1))
    start = init_state(problem, Key(0), DIGITS.in_shape)
    scaled = tree.replace(start.params, "3.weight", start.params[3].weight * np.float32(weights))
    inputs, labels = some_batch()
    with pytest.raises(NonFiniteError, match=rf"^step 0: the gradient of {re.escape(leaf)} is not finite"):
        make_step(problem)(attrs.evolve(start, params=scaled), (inputs * 100, labels))


def test_a_leaf_of_a_lone_layer_is_named() -> None:
    problem = Problem(dense(2), lambda outputs, targets: (0.5, np.full_like(outputs, np.inf)), sgd(0.1), metric=None)
    with pytest.raises(NonFiniteError, match=r"^step 0: the gradient of weight is not finite"):
        make_step(problem)(init_state(problem, Key(0), (3,)), (np.ones((4, 3), np.float32), np.zeros(4)))


@pytest.fixture(scope="module")
def spoilt() -> Split:
    """Examples of which one has a pixel of 1e20, whose square is beyond float32, in training and in validation."""
    inputs, labels = SMALL.train.take(slice(None))
    inputs[7, 2, 5, 0] = 1e20
    return Split(Part(inputs, labels), Part(inputs[:20], labels[:20]))


def test_a_state_that_is_not_finite_is_named_at_its_step(spoilt: Split) -> None:
    """Batch norm's running variance would be infinite from then on, and every evaluation meaningless."""
    problem = Problem(fully_connected([8], 10, batch_norm=True), softmax_cross_entropy, adam(0.01))
    start = init_state(problem, Key(0), DIGITS.in_shape)
    with pytest.raises(
        NonFiniteError,
        match=r"^step [0-3]: the state 2\.var is not finite \(loss .*, the inputs reach 1e\+20\)\. Lower",
    ):
        run(problem, start, spoilt)


def test_an_evaluation_that_is_not_finite_says_why_and_is_given_as_it_is(whole: Whole) -> None:
    inputs, labels = SMALL.validation.take(slice(None))
    inputs[3:5, 0] = np.inf
    state, bad = whole.states[-1], Part(inputs, labels)
    nan_var = tree.replace(state.state, "1.var", np.full(4, np.nan, np.float32))
    for reason, its_state, part in (
        ("since 2 of the batch's 20 inputs are not finite", state, bad),
        ("since the state 1.var is not finite", attrs.evolve(state, state=nan_var), SMALL.validation),
    ):
        with pytest.warns(FuncnnWarning, match=f"^evaluate: the loss is nan, {re.escape(reason)}$"):
            assert math.isnan(evaluate(PROBLEM, its_state, part).loss)
    with pytest.warns(FuncnnWarning, match="2 of the batch's 20"):
        events = epochs(run(PROBLEM, START, SMALL._replace(validation=bad), epochs=1))
    assert math.isnan(events[0].validation.loss)
    assert math.isfinite(events[0].train.loss)


# --- What goes on, and is probably not meant ------------------------------------------------------------------


def test_a_loss_that_explodes_is_said_once() -> None:
    problem = Problem(fully_connected([8], 10), softmax_cross_entropy, sgd(1e6))
    with pytest.warns(FuncnnWarning, match=r"^train: the loss has grown to \S+e\+\d\d in epoch 1\. Lower") as said:
        events = run(problem, init_state(problem, Key(0), DIGITS.in_shape), SMALL._replace(validation=None))
    assert len(said) == 1
    assert epochs(events)[0].train.loss > 1e5


def test_the_state_that_training_began_with_is_not_taken_for_the_trained_one() -> None:
    start = init_state(PROBLEM, Key(9), DIGITS.in_shape)
    evaluate(PROBLEM, start, SMALL.validation)
    events = train(PROBLEM, start, SMALL, epochs=2, batch_size=BATCH)
    next(events)
    evaluate(PROBLEM, start, SMALL.validation)  # no epoch is done: nothing is forgotten yet
    trained = epochs(list(events))[0].state
    for place, use in (
        ("evaluate", lambda state: evaluate(PROBLEM, state, SMALL.validation)),
        ("predict", lambda state: predict(NET, state, SMALL.validation)),
    ):
        with pytest.warns(
            FuncnnWarning, match=rf"^{place}: this is the state at step 0 .* take event\.state of an Epoch"
        ):
            use(start)
        use(trained)
        use(init_state(PROBLEM, Key(9), DIGITS.in_shape))


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        (softmax(), softmax_cross_entropy),
        (serial(dense(3), log_softmax()), partial(softmax_cross_entropy, label_smoothing=0.1)),
        (remat(serial(dense(3), repeat(softmax(), 1))), softmax_cross_entropy),
        (sigmoid(), sigmoid_cross_entropy),
    ],
    ids=as_code,
)
def test_probabilities_where_a_loss_takes_logits_are_said(last: Layer, loss: Any) -> None:
    with pytest.warns(
        FuncnnWarning, match=r"^Problem: \S+cross_entropy.* takes logits, and the net ends in \S*(soft|sig)"
    ):
        Problem(serial(flatten(), last), loss, sgd(0.1))
    Problem(serial(flatten(), last), mean_squared_error, sgd(0.1))
    Problem(serial(last, dense(3)), loss, sgd(0.1))


# --- What the user's own functions give -----------------------------------------------------------------------


def test_numbers_of_numpy_are_taken_as_floats() -> None:
    def loss(outputs: Array, targets: Array) -> Any:
        value, d_outputs = mean_squared_error(outputs, targets)
        return np.float32(value), d_outputs

    problem = Problem(dense(1), loss, sgd(0.1), lambda outputs, targets: np.abs(outputs - targets).mean())
    part = Part(np.ones((8, 3), np.float32), np.zeros((8, 1), np.float32))
    *_, last = run(problem, init_state(problem, Key(0), (3,)), Split(part, part), 1, 4)
    for metrics in (last.train, last.validation):
        assert (type(metrics.loss), type(metrics.accuracy)) == (float, float)


def shaped_loss(give: Any, outputs: Array, targets: Array) -> Any:
    return give(outputs)


def doubled(inputs: Array, key: Key) -> Array:
    return np.concatenate([inputs, inputs])


def to_float64(inputs: Array, key: Key) -> Array:
    return inputs.astype(np.float64)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"loss": lambda y: 0.5}, "a loss must return (value, d_outputs), got 0.5"),
        ({"loss": lambda y: (0.5, y, y, y)}, "a loss must return (value, d_outputs), got a tuple of 4"),
        (
            {"loss": lambda y: (0.5, y, y)},
            "the weight that it is a mean over must be a number, finite and not negative, got an array",
        ),
        ({"loss": lambda y: (0.5, y, -1)}, "finite and not negative, got -1"),
        (
            {"loss": lambda y: (y.sum(axis=1), y)},
            "the value of a loss must be a number, a mean over the batch, got an arr",
        ),
        ({"loss": lambda y: (None, y)}, "the value of a loss must be a number, a mean over the batch, got None"),
        (
            {"loss": lambda y: (0.5, y.sum(axis=1))},
            "the d_outputs of a loss must be like the outputs, an array float32 (8, 10), got an array float32 (8,)",
        ),
        ({"loss": lambda y: (0.5, y.astype(np.float64))}, "got an array float64 (8, 10). Give the loss's slope"),
        (
            {"metric": lambda y, t: y.argmax(axis=1) == t},
            "a metric must be a number, a mean over the batch, got an array",
        ),
        (
            {"augment": [doubled]},
            "doubled: an augmentation must return as many inputs as it is given, 8 of float32, got",
        ),
        (
            {"augment": [to_float64]},
            "to_float64: an augmentation must return as many inputs as it is given, 8 of float32",
        ),
    ],
)
def test_what_own_functions_must_give_is_said_with_their_name(parts: dict[str, Any], text: str) -> None:
    given = {"loss": softmax_cross_entropy} | parts
    if "loss" in parts:
        given["loss"] = partial(shaped_loss, parts["loss"])
    problem = Problem(MLP, given.pop("loss"), sgd(0.1), **given)
    with pytest.raises(TypeError, match=re.escape(text)):
        make_step(problem)(init_state(problem, Key(0), DIGITS.in_shape), some_batch())


def test_underflow_is_no_error_for_who_has_numpy_raise() -> None:
    for optimizer in OPTIMIZERS:
        problem = Problem(MLP, partial(scaled_loss, 1e-30), optimizer)
        start = init_state(problem, Key(0), DIGITS.in_shape)
        with np.errstate(all="raise"):
            state, _ = make_step(problem)(start, some_batch())
            evaluate(problem, state, SMALL.validation)


def test_the_metric_follows_from_the_loss() -> None:
    metrics = {loss: Problem(dense(1), loss, sgd(0.1)).metric for loss in (softmax_cross_entropy, mean_squared_error)}
    assert metrics == {softmax_cross_entropy: accuracy, mean_squared_error: None}
    assert Problem(dense(1), partial(sigmoid_cross_entropy), sgd(0.1)).metric is binary_accuracy
    assert Problem(dense(1), sigmoid_cross_entropy, sgd(0.1), None).metric is None


# --- float16 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [sgd(0.5), momentum(0.05), rmsprop(1e-2), adam(1e-2), adamw(1e-2)], ids=repr)
def test_a_net_of_float16_learns(optimizer: Optimizer) -> None:
    """In float16 an epsilon of 1e-8 is zero, and so is the square of a gradient below 2e-4."""
    problem = Problem(serial(flatten(), dense(16), batch_norm(), relu(), dense(10)), softmax_cross_entropy, optimizer)
    start = init_state(problem, Key(0), DIGITS.in_shape, np.float16)
    assert {leaf.dtype for leaf in tree.flatten(start.opt_state)} <= {np.dtype(np.float32)}
    inputs, labels = DIGITS.train.select(slice(400)).take(slice(None))
    part = Part(inputs.astype(np.float16), labels)
    events = run(problem, start, Split(part, part), epochs=4, batch_size=40)
    assert epochs(events)[-1].validation.accuracy > 0.85
    assert {leaf.dtype for leaf in tree.flatten(events[-1].state.params)} == {np.dtype(np.float16)}


# --- Errors ---------------------------------------------------------------------------------------------------

COUNT = "must be an int of at least 1, got"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"epochs": 0}, f"train: epochs {COUNT} 0"),
        ({"epochs": 1.5}, f"train: epochs {COUNT} 1.5"),
        ({"batch_size": -1}, f"train: batch_size {COUNT} -1"),
        ({"batch_size": 64.0}, f"train: batch_size {COUNT} 64.0"),
        ({"batch_size": "64"}, f"train: batch_size {COUNT} '64'"),
        ({"batch_size": True}, f"train: batch_size {COUNT} True"),
        ({"problem": NET}, "train: problem must be a Problem(net, loss, optimizer), got serial("),
        ({"state": Model(None, None)}, "train: state must be a TrainState, such as init_state makes, got Model("),
        (
            {"dataset": SMALL.train},
            "train: dataset must be a data set with the parts train and validation (or None), got",
        ),
        (
            {"dataset": SMALL._replace(train=SMALL)},
            "train: the training examples must be a part of a data set, got Split(",
        ),
        (
            {"dataset": SMALL._replace(train=SMALL.train.select(slice(0)))},
            "train: the training examples must be at least 1, got 0",
        ),
        (
            {"dataset": SMALL._replace(validation=SMALL.train.select(slice(0)))},
            "train: the validation examples must be at least 1, got 0",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_first_step(settings: dict[str, Any], text: str) -> None:
    arguments = {"problem": PROBLEM, "state": START, "dataset": SMALL, "epochs": 1, "batch_size": 16} | settings
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        train(**arguments)


def test_counts_of_numpy_are_ints_too() -> None:
    assert len(run(PROBLEM, START, epochs=np.int64(1), batch_size=np.int32(25))) == 3


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_batches_of_no_examples_are_refused_everywhere(batch_size: int, whole: Whole) -> None:
    for place, use in (
        ("batches", lambda: batches(SMALL.train, batch_size)),
        ("evaluate", lambda: evaluate(PROBLEM, whole.states[-1], SMALL.train, batch_size=batch_size)),
        ("predict", lambda: predict(NET, whole.states[-1], SMALL.train, batch_size=batch_size)),
    ):
        with pytest.raises(ValueError, match=f"^{place}: batch_size {COUNT} {batch_size}$"):
            use()


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (
            lambda state: evaluate(PROBLEM, state, SMALL),
            "evaluate: the examples must be a part of a data set, got Split(",
        ),
        (
            lambda state: evaluate(PROBLEM, state, np.ones(3)),
            "evaluate: the examples must be a part of a data set, got an",
        ),
        (
            lambda state: evaluate(NET, state, SMALL.train),
            "evaluate: problem must be a Problem(net, loss, optimizer), got",
        ),
        (
            lambda state: evaluate(PROBLEM, state.params, SMALL.train),
            "evaluate: state must be a TrainState or a Model(",
        ),
        (lambda state: predict(PROBLEM, state, SMALL.train), "predict: net must be a Layer, got Problem("),
        (lambda state: predict(NET, state, np.float32(1)), "predict: inputs must be a batch of inputs, got an array"),
        (lambda state: predict(NET, state, "images"), "predict: inputs must be numbers, got str"),
        (lambda state: init_state(PROBLEM, 5, (8, 8, 1)), "init_state: key must be a Key, got 5. Pass Key(5)"),
        (lambda state: init_state(PROBLEM, Key(0), 64), "expected in_shape, an example's shape, to be a tuple, got 64"),
        (
            lambda state: init_state(PROBLEM, Key(0), (8, 8, 1), "int8"),
            "serial.init: dtype must be a float type such as",
        ),
        (lambda state: make_step(NET), "make_step: problem must be a Problem(net, loss, optimizer), got serial("),
        (
            lambda state: make_step(PROBLEM)(state, np.ones(3)),
            "step: batch must be a tuple (inputs, targets) or (inputs, targets, weights), got an array",
        ),
        (lambda state: Problem(dense, softmax_cross_entropy, sgd(0.1)), "Problem: net must be a Layer, got dense"),
        (
            lambda state: Problem(NET, None, sgd(0.1)),
            "Problem: loss must be a function (outputs, targets) -> (value, d_ou",
        ),
        (
            lambda state: Problem(NET, softmax_cross_entropy, 0.1),
            "Problem: optimizer must be an Optimizer such as adam(1e-",
        ),
        (
            lambda state: Problem(NET, softmax_cross_entropy, sgd(1), "accuracy"),
            "Problem: metric must be a function (outp",
        ),
        (
            lambda state: Problem(NET, partial(softmax_cross_entropy, reduction="sum"), sgd(1)),
            'Problem: loss must be a mean over examples, reduction="mean", got softmax_cross_entropy(reduction=',
        ),
        (
            lambda state: Problem(NET, softmax_cross_entropy, sgd(1), partial(f1, average="macro")),
            "Problem: f1(average='macro') is no mean over examples, so that a mean of its values over batches says ",
        ),
        (
            lambda state: Problem(NET, softmax_cross_entropy, sgd(1), augment=doubled),
            "Problem: augment must be a tuple of functions (inputs, key) -> inputs, (flip,) for one, got doubled",
        ),
    ],
)
def test_arguments_of_another_kind_are_named(use: Any, text: str, whole: Whole) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        use(whole.states[-1])


def test_a_derived_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^init_state: expected a run's root key, Key\(seed\), got the derived Key\("):
        init_state(PROBLEM, fold_in(Key(0), 1), DIGITS.in_shape)


def test_labels_out_of_range_are_the_losss_own_error() -> None:
    inputs, labels = some_batch()
    with pytest.raises(ValueError, match="softmax_cross_entropy: labels must be from 0 to 9, got"):
        make_step(PROBLEM)(START, (inputs, labels + 5))


# --- The whole of it ------------------------------------------------------------------------------------------


def test_a_small_net_learns_the_digits() -> None:
    problem = Problem(fully_connected([64], 10, batch_norm=True, dropout=0.2), softmax_cross_entropy, adam(0.01))
    events = run(problem, init_state(problem, Key(0), DIGITS.in_shape), DIGITS, epochs=5, batch_size=64)
    assert epochs(events)[-1].validation.loss < epochs(events)[0].validation.loss
    assert evaluate(problem, events[-1].state, DIGITS.test).accuracy > 0.9


# --- Printing -------------------------------------------------------------------------------------------------


def test_a_runs_position_prints_as_counts() -> None:
    assert repr(START).splitlines() == [
        "TrainState(",
        "    params=<6 arrays of float32: 418 numbers, 1,672 bytes>,",
        "    state=<2 arrays of float32: 8 numbers, 32 bytes>,",
        "    opt_state=<12 arrays of float32: 836 numbers, 3,344 bytes>,",
        "    step=0,",
        "    seed=5,",
        ")",
    ]


def test_params_state_and_moments_print_in_few_lines() -> None:
    params, state, opt_state = START.params, START.state, START.opt_state[1]
    assert repr((params[0], params[1], params[2])) == (
        "(ConvParams(weight=float32 (3, 3, 1, 4), bias=float32 (4,)), "
        "BatchNormParams(scale=float32 (4,), shift=float32 (4,)), None)"
    )
    assert repr(state[:2]) == "(None, BatchNormState(mean=float32 (4,), var=float32 (4,)))"
    assert repr(opt_state).splitlines() == [
        "Moments(",
        "    mean=<6 arrays of float32: 418 numbers, 1,672 bytes>,",
        "    square=<6 arrays of float32: 418 numbers, 1,672 bytes>,",
        ")",
    ]
    assert repr(Model(params[1], None)) == (
        "Model(params=BatchNormParams(scale=float32 (4,), shift=float32 (4,)), state=None)"
    )


def test_a_problem_and_events_print_on_a_line() -> None:
    def turn(images: Array, key: Key) -> Array:
        return images

    problem = Problem(relu(), partial(softmax_cross_entropy, label_smoothing=0.1), sgd(0.1), None, [turn])
    assert repr(problem) == (
        "Problem(net=relu(), loss=softmax_cross_entropy(label_smoothing=0.1), optimizer=sgd(lr=0.1), metric=None, "
        "augment=(turn))"
    )
    *_, last = train(PROBLEM, START, SMALL, epochs=1, batch_size=BATCH)
    assert isinstance(last, Epoch)
    assert repr(last) == (
        f"Epoch(epoch=1, epochs=1, state=TrainState(...), train={last.train}, validation={last.validation}, "
        f"learning_rate=0.003, seconds={last.seconds}, subset=None, test=None, is_best=None)"
    )
