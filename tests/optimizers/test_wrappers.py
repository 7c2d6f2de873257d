"""Optimizers around others: accumulation, parts of a tree, averages, rates that follow a metric; what is handed on."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
import pytest
from cases import gaussian

from funcnn import Key, checkpoint, serial, tree
from funcnn.data import load
from funcnn.data.dataset import Dataset
from funcnn.experiment import parse_options
from funcnn.experiment import run as run_experiment
from funcnn.layers import batch_norm, dense, flatten, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.model_file import load_trained
from funcnn.optimizers import (
    Optimizer,
    accumulate,
    adam,
    averaged,
    chain,
    clip_by_global_norm,
    drop_below,
    freeze,
    lbfgs,
    lookahead,
    momentum,
    muon,
    partition,
    plateau,
    schedule_free_sgd,
    sgd,
    sharpness_aware,
)
from funcnn.schedules import exponential_decay
from funcnn.train import (
    Epoch,
    Metrics,
    Model,
    Problem,
    TrainState,
    batches,
    evaluate,
    for_evaluation,
    init_state,
    make_step,
    predict,
    recounted,
    train,
)

T = TypeVar("T")

PARAMS = (gaussian((3, 2), np.float64, "w"), (gaussian((4,), np.float64, "b"), None))


def grads(step: int) -> tuple:
    return tree.map(lambda leaf: gaussian(leaf.shape, leaf.dtype, "gradient", step), PARAMS)


def after(optimizer: Optimizer, steps: int, params: T = PARAMS) -> tuple[T, Any, list[T]]:
    """The params and state after some steps, and the params after each."""
    opt_state, seen = optimizer.init(params), []
    for step in range(steps):
        params, opt_state = optimizer.update(grads(step), opt_state, params, step)
        seen.append(params)
    return params, opt_state, seen


def assert_close(one: Any, other: Any, rtol: float = 1e-13) -> None:
    for a, b in zip(tree.flatten(one), tree.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-15)


# --- accumulate -----------------------------------------------------------------------------------------------


def test_accumulated_steps_are_those_of_the_means() -> None:
    rate = exponential_decay(0.1, 0.5)
    _, _, seen = after(accumulate(adam(rate), 3), 7)
    optimizer = adam(rate)
    params, opt_state = PARAMS, optimizer.init(PARAMS)
    for step in range(2):
        mean = tree.map(lambda *g: sum(g) / 3, *[grads(3 * step + i) for i in range(3)])
        params, opt_state = optimizer.update(mean, opt_state, params, step)
        assert_close(seen[3 * step + 2], params)
    assert tree.equal(seen[0], PARAMS)
    assert tree.equal(seen[1], PARAMS)
    assert tree.equal(seen[3], seen[2])
    assert tree.equal(seen[6], seen[5])


def test_accumulating_one_batch_is_no_accumulating() -> None:
    assert_close(after(accumulate(adam(0.1), 1), 4)[0], after(adam(0.1), 4)[0])


def test_accumulated_batches_are_as_one_large_one() -> None:
    data, net = load("digits"), serial(flatten(), dense(8), relu(), dense(10))
    small, large = (Problem(net, softmax_cross_entropy, each) for each in (accumulate(sgd(0.1), 4), sgd(0.1)))
    state = one = init_state(small, Key(0), data.in_shape, np.float64)
    inputs, labels = data.train.take(slice(80))
    inputs = inputs.astype(np.float64)
    for i in range(4):
        part = slice(20 * i, 20 * i + 20)
        state, _ = make_step(small)(state, (inputs[part], labels[part]))
    one, _ = make_step(large)(TrainState(one.params, one.state, None, 0, 0), (inputs, labels))
    assert_close(state.params, one.params, 1e-12)


def test_gradients_of_float16_are_added_up_in_float32() -> None:
    params, small = (np.zeros(1, np.float16),), (np.full(1, 6e-8, np.float16),)
    optimizer = accumulate(sgd(1.0), 4)
    _, opt_state = optimizer.update(small, optimizer.init(params), params, 0)
    assert opt_state.gradient[0].dtype == np.float32
    assert opt_state.gradient[0][0] == pytest.approx(float(small[0][0]) / 4, rel=1e-6)


# --- partition ------------------------------------------------------------------------------------------------


def test_each_leaf_has_the_optimizer_of_the_first_pattern_that_fits() -> None:
    optimizer = partition([("1.*", sgd(0.5)), ("*", freeze())], default=adam(0.1))
    params, opt_state, _ = after(optimizer, 3)
    assert_close(params[1], after(sgd(0.5), 3)[0][1])
    assert tree.equal(params[0], PARAMS[0])
    assert_close(after(partition({"1.*": sgd(0.5)}, default=adam(0.1)), 3)[0][0], after(adam(0.1), 3)[0][0])
    assert tree.flatten(opt_state[2]) == []
    assert partition([("1.*", sgd(0.5))], default=sgd(0.1)) == partition({"1.*": sgd(0.5)}, default=sgd(0.1))


def test_the_rate_of_a_partition_is_the_one_that_its_default_has_come_to() -> None:
    optimizer = accumulate(partition({"0": freeze()}, default=plateau(sgd(0.1), 0.5, patience=0)), 1)
    opt_state = optimizer.init(PARAMS)
    for _ in range(2):
        opt_state = optimizer.observe(opt_state, Metrics(1.0, None))
    assert optimizer.learning_rate(0) == 0.1
    assert optimizer.learning_rate(0, opt_state) == 0.05


def test_a_pattern_that_fits_nothing_is_named() -> None:
    optimizer = partition({"*.wieght": freeze()}, default=sgd(0.1))
    with pytest.raises(ValueError, match=r"^partition: no leaf has a path like '\*\.wieght'\. There are '0', '1\.0'$"):
        optimizer.init(PARAMS)


def test_parts_that_average_are_evaluated_as_averages() -> None:
    optimizer = partition({"0": averaged(sgd(0.1), None)}, default=sgd(0.1))
    params, opt_state, seen = after(optimizer, 3)
    evaluated = optimizer.evaluated(params, opt_state)
    assert_close(evaluated[0], sum(each[0] for each in seen) / 3)
    assert tree.equal(evaluated[1], params[1])


# --- Averages -------------------------------------------------------------------------------------------------


def test_the_average_forgets_exponentially_from_the_first_params_on() -> None:
    params, opt_state, seen = after(averaged(adam(0.1), 0.7), 6)
    assert_close(params, after(adam(0.1), 6)[0], 0)
    average = seen[0]
    for each in seen[1:]:
        average = tree.map(lambda a, w: 0.7 * a + 0.3 * w, average, each)
    assert_close(averaged(adam(0.1), 0.7).evaluated(params, opt_state), average)


@pytest.mark.parametrize(
    ("start", "every", "steps", "entered"),
    [
        (0, 1, 5, [0, 1, 2, 3, 4]), (2, 1, 5, [2, 3, 4]), (1, 2, 7, [2, 4, 6]), (1, 2, 6, [2, 4]), (4, 3, 6, [5]),
        (9, 1, 3, [2]),
    ],
)  # fmt: skip
def test_the_mean_is_over_the_params_that_have_entered(start: int, every: int, steps: int, entered: list[int]) -> None:
    """Before the first enters, the average is the latest."""
    optimizer = averaged(sgd(0.1), None, start=start, every=every)
    params, opt_state, seen = after(optimizer, steps)
    mean = tree.map(lambda *w: sum(w) / len(w), *[seen[i] for i in entered])
    assert_close(optimizer.evaluated(params, opt_state), mean)


def test_averages_of_float16_are_kept_in_float32_and_evaluated_in_float16() -> None:
    params = (np.ones(2, np.float16),)
    optimizer = averaged(sgd(0.1), 0.9)
    new, opt_state = optimizer.update(params, optimizer.init(params), params, 0)
    assert opt_state.average[0].dtype == np.float32
    assert optimizer.evaluated(new, opt_state)[0].dtype == np.float16


# --- Rates that follow a metric -------------------------------------------------------------------------------


def told(optimizer: Optimizer, values: list[float]) -> list[float]:
    """The scale of the rate after each value of the loss."""
    opt_state, scales = optimizer.init(PARAMS), []
    for value in values:
        opt_state = optimizer.observe(opt_state, Metrics(value, 1 - value))
        scales.append(float(opt_state.scale))
    return scales


def test_the_rate_falls_after_more_than_so_many_epochs_without_a_better_one() -> None:
    values = [1.0, 0.9, 0.95, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    assert told(plateau(sgd(0.1), 0.5, patience=2), values) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert told(plateau(sgd(0.1), 0.5, patience=0), [1.0, 1.0, 1.0]) == [1, 0.5, 0.25]
    assert told(plateau(sgd(0.1), 0.5, patience=0, least=0.3), [1.0, 1.0, 1.0]) == [1, 0.5, 0.3]
    assert told(plateau(sgd(0.1), 0.5, patience=0, cooldown=2), [1.0] * 6) == [1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert told(plateau(sgd(0.1), 0.5, patience=0, threshold=0.2), [1.0, 0.9, 0.7]) == [1, 0.5, 0.5]
    up = plateau(sgd(0.1), 0.5, patience=0, monitor="accuracy")  # which shall rise
    assert told(up, [0.5, 0.4, 0.4]) == [1, 1, 0.5]
    assert told(plateau(sgd(0.1), 0.5, patience=1), [1.0, math.nan, math.nan]) == [1, 1, 0.5]


def test_the_rate_drops_once_for_each_threshold() -> None:
    values = [2.0, 0.9, 1.5, 0.05, 3.0]
    assert told(drop_below(sgd(0.1), [1.0, 0.1], [0.5, 0.1]), values) == [1, 0.5, 0.5, 0.05, 0.05]
    assert told(drop_below(sgd(0.1), 0.1, 0.5), values) == [1, 1, 1, 0.5, 0.5]
    up = drop_below(sgd(0.1), [0.9], 0.5, monitor="accuracy")
    assert told(up, [0.2, 0.05, 0.5]) == [1, 0.5, 0.5]


@pytest.mark.parametrize(
    "inner", [momentum(exponential_decay(0.1, 0.9)), adam(0.1), chain(clip_by_global_norm(0.5), sgd(0.1))]
)
def test_a_scaled_rate_is_the_rate_times_the_scale(inner: Optimizer) -> None:
    optimizer = plateau(inner, 0.5, patience=0)
    params, opt_state, _ = after(optimizer, 2)
    for loss in (1.0, 1.0):
        opt_state = optimizer.observe(opt_state, Metrics(loss, None))
    assert optimizer.learning_rate(2, opt_state) == 0.5 * inner.learning_rate(2)
    made, new = optimizer.update(grads(2), opt_state, params, 2)
    expected, inner_state = inner.scaled(0.5).update(grads(2), opt_state.inner, params, 2)
    assert tree.equal(made, expected)
    assert tree.equal(new.inner, inner_state)
    assert not tree.equal(made, inner.update(grads(2), opt_state.inner, params, 2)[0])


def test_a_metric_that_is_not_there_is_named() -> None:
    optimizer = plateau(sgd(0.1), monitor="accuracy")
    with pytest.raises(ValueError, match=r"^plateau: there is no accuracy to monitor\. Give the Problem a metric, or"):
        optimizer.observe(optimizer.init(PARAMS), Metrics(0.5, None))


# --- What is handed on ----------------------------------------------------------------------------------------

AROUND: list[Callable[[Optimizer], Optimizer]] = [
    lambda inner: chain(clip_by_global_norm(1e6), inner),
    lambda inner: accumulate(inner, 1),
    lambda inner: plateau(inner),
    lambda inner: drop_below(inner, 0.1),
    lambda inner: partition({}, default=inner),
    lambda inner: sharpness_aware(inner, 1e-3),
]


@pytest.mark.parametrize("around", AROUND)
def test_what_is_around_an_optimizer_hands_on_what_it_can(around: Callable[[Optimizer], Optimizer]) -> None:
    inner = averaged(plateau(sgd(0.1), 0.5, patience=0), None)
    optimizer = around(inner)
    params, opt_state, value = PARAMS, optimizer.init(PARAMS), 0.0
    for step in range(3):
        params, opt_state = optimizer.update(
            grads(step), opt_state, params, step, value=value, loss=lambda params, step=step: (0.0, grads(step))
        )
    assert not tree.equal(optimizer.evaluated(params, opt_state), params)
    assert_close(optimizer.evaluated(params, opt_state), inner.evaluated(*after(inner, 3)[:2]), 1e-6)
    before = [leaf.tobytes() for leaf in tree.flatten(opt_state)]
    for _ in range(2):
        opt_state = optimizer.observe(opt_state, Metrics(1.0, None))
    assert [leaf.tobytes() for leaf in tree.flatten(opt_state)] != before
    if optimizer.name != "partition":  # whose parts have rates of their own
        assert optimizer.learning_rate(3, opt_state) == 0.05
    assert optimizer.scaled(0.5).learning_rate(3) == 0.05


def test_plain_optimizers_give_their_arguments_back() -> None:
    for optimizer in (sgd(0.1), adam(0.1), freeze(), chain(clip_by_global_norm(1.0), momentum(0.1)), muon(0.1)):
        params, opt_state, _ = after(optimizer, 1)
        assert optimizer.evaluated(params, opt_state) is params
        assert optimizer.observe(opt_state, Metrics(1.0, None)) is opt_state


# --- In training ----------------------------------------------------------------------------------------------

DATA = load("digits")
SMALL = Dataset(DATA.train.thin(96), DATA.test.thin(40), DATA.test.thin(50), DATA.classes, DATA.in_shape)
NET = serial(flatten(), dense(8), batch_norm(), relu(), dense(10))


def run(problem: Problem, epochs: int, state: TrainState | None = None, **options: Any) -> list[Epoch]:
    state = state or init_state(problem, Key(0), SMALL.in_shape)
    events = train(problem, state, SMALL, epochs=epochs, batch_size=32, **options)
    return [each for each in events if isinstance(each, Epoch)]


@pytest.mark.parametrize(
    "optimizer", [averaged(sgd(0.5), 0.5), lookahead(sgd(0.5), 4), schedule_free_sgd(0.5)], ids=lambda each: each.name
)
def test_averages_are_what_is_evaluated_predicted_and_validated(optimizer: Optimizer) -> None:
    problem = Problem(NET, softmax_cross_entropy, optimizer)
    *_, last = run(problem, 2)
    state = last.state
    average = optimizer.evaluated(state.params, state.opt_state)
    wanted = evaluate(problem, Model(average, state.state), SMALL.validation)
    assert wanted != evaluate(problem, Model(state.params, state.state), SMALL.validation)
    assert evaluate(problem, state, SMALL.validation) == last.validation == wanted
    assert for_evaluation(problem, Model(average, state.state)).params is average
    inputs, _ = SMALL.test.take(slice(None))
    averages = for_evaluation(problem, state)
    assert tree.equal(averages.params, average)
    assert not np.array_equal(predict(NET, averages, inputs), predict(NET, state, inputs))


def test_a_state_without_average_is_evaluated_as_it_is() -> None:
    problem = Problem(NET, softmax_cross_entropy, sgd(0.5))
    state = run(problem, 1)[0].state
    assert for_evaluation(problem, state) is state


def test_a_run_that_follows_a_metric_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    optimizer = averaged(plateau(momentum(0.5), 0.5, patience=0, threshold=0.2), 0.9)
    problem = Problem(NET, softmax_cross_entropy, optimizer)
    whole = run(problem, 6)
    rates = [each.learning_rate for each in whole]
    assert rates[0] == 0.5 > rates[-1]
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, whole[2].state)
    state = checkpoint.load(path, like=init_state(problem, Key(0), SMALL.in_shape))
    rest = run(problem, 6, state)
    assert [each.learning_rate for each in rest] == rates[3:]
    assert tree.equal(rest[-1].state, whole[-1].state)


def test_an_experiment_keeps_the_average_and_goes_on_with_the_rest(tmp_path: Path) -> None:
    problem = Problem(NET, softmax_cross_entropy, averaged(plateau(adam(0.01), 0.5, patience=0, threshold=0.5), 0.5))

    def options(epochs: int, *more: str, folder: str = "run") -> Any:
        words = ["--epochs", str(epochs), "--no-plots", "--quiet", "--out", str(tmp_path / folder), *more]
        return parse_options("Train.", name="demo", epochs=9, batch_size=256, lr=0.01, quick_epochs=2, arguments=words)

    for given in (options(2), options(3, "--resume"), options(3, folder="whole")):
        metrics = run_experiment(problem, DATA, given)
    saved = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("run", "whole")]
    assert saved[0] == saved[1]
    model = load_trained(tmp_path / "run" / "model.safetensors").model
    state = checkpoint.load(
        tmp_path / "run" / "checkpoint.safetensors", like=init_state(problem, Key(0), DATA.in_shape)
    )
    assert metrics["best_epoch"] == 3
    assert tree.equal(model.params, state.opt_state.average)
    assert evaluate(problem, model, DATA.test).accuracy == metrics["test_accuracy"]
    assert float(state.opt_state.inner.scale) < 1


def test_without_a_validation_part_the_rate_follows_the_training() -> None:
    problem = Problem(NET, softmax_cross_entropy, drop_below(sgd(0.5), 2.0, 0.5))
    part = attrs.evolve(SMALL, validation=None)
    events = train(problem, init_state(problem, Key(0), SMALL.in_shape), part, epochs=5, batch_size=32)
    epochs = [each for each in events if isinstance(each, Epoch)]
    below = [each.train.loss < 2.0 for each in epochs]
    assert any(below[:-1])
    first = below.index(True)
    assert [each.learning_rate for each in epochs] == [0.5] * (first + 1) + [0.25] * (4 - first)


@pytest.mark.parametrize(
    "optimizer",
    [
        averaged(plateau(momentum(0.5), 0.5, patience=0, threshold=0.2), 0.9),
        accumulate(lookahead(adam(0.1), 2), 2),  # whose work the workers divide
    ],
    ids=lambda each: each.name,
)
def test_workers_follow_and_average_as_one_process_does(optimizer: Optimizer) -> None:
    problem = Problem(NET, softmax_cross_entropy, optimizer)
    alone, together = run(problem, 3, shards=2), run(problem, 3, workers=2)
    assert tree.equal(alone[-1].state, together[-1].state)
    assert [each.validation for each in alone] == [each.validation for each in together]


# --- Errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: accumulate(adam(0.1), 0), "accumulate: n must be a positive int, got 0"),
        (
            lambda: accumulate(lbfgs(), 2),
            "accumulate: optimizer must be one that asks for no batch's loss, got lbfgs(). Put it around this one",
        ),
        (
            lambda: averaged(clip_by_global_norm(1.0)),
            "averaged: optimizer must be an Optimizer such as adam(1e-3), got clip_by_global_norm(limit=1.0)",
        ),
        (lambda: averaged(sgd(0.1), 1.0), "averaged: decay must be at least 0 and less than 1, got 1.0"),
        (lambda: averaged(sgd(0.1), start=-1), "averaged: start must be an int from 0 on, got -1"),
        (lambda: lookahead(sgd(0.1), alpha=1.5), "lookahead: alpha must be from 0 to 1, got 1.5"),
        (
            lambda: schedule_free_sgd(0.1, 0.0),
            "schedule_free_sgd: momentum must be more than 0, since x follows from y and z, got 0.0",
        ),
        (
            lambda: partition({"*": clip_by_global_norm(1.0)}, sgd(0.1)),
            "partition: rules must be optimizers by pattern, such as {\"*.bias\": sgd(0.1)}, got "
            "(('*', clip_by_global_norm(limit=1.0)),)",
        ),
        (
            lambda: partition({"*": lbfgs()}, sgd(0.1)),
            "partition: rules must be such as ask for no batch's loss, got lbfgs()",
        ),
        (lambda: plateau(lbfgs()), "plateau: optimizer must be one whose rate can be scaled, got lbfgs()"),
        (lambda: plateau(sgd(0.1), 2.0), "plateau: factor must be from 0 to 1, got 2.0"),
        (lambda: plateau(sgd(0.1), patience=-1), "plateau: patience must be an int from 0 on, got -1"),
        (lambda: plateau(sgd(0.1), mode="down"), "plateau: mode must be one of 'min', 'max', got 'down'"),
        (
            lambda: drop_below(sgd(0.1), [1.0, 2.0, 3.0], [0.1, 0.2]),
            "drop_below: factors must be one, or 3 for as many thresholds, got (0.1, 0.2)",
        ),
        (lambda: drop_below(sgd(0.1), []), "drop_below: thresholds must be a number or several, got ()"),
        (
            lambda: muon(0.1, others=0.1),
            "muon: others must be an Optimizer that asks for no loss, such as adamw(1e-3), or None, got 0.1",
        ),
    ],
)  # fmt: skip
def test_invalid_settings_raise_in_the_constructor(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole text is compared)
        make()
    assert str(raised.value) == text


@pytest.mark.parametrize(
    "optimizer",
    [
        averaged(sgd(0.1)), accumulate(sgd(0.1), 2), plateau(sgd(0.1)), schedule_free_sgd(0.1), muon(0.1),
        partition({}, sgd(0.1)), freeze(),
    ],
    ids=lambda each: each.name,
)  # fmt: skip
def test_a_state_of_another_optimizer_is_named(optimizer: Optimizer) -> None:
    with pytest.raises(TypeError, match=f"^{optimizer.name}: expected the state that its own init gave, got Moments$"):
        optimizer.update(grads(0), adam(0.1).init(PARAMS), PARAMS, 0)


def test_batch_norm_is_counted_anew_for_averaged_params() -> None:
    data = load("digits")
    net = serial(flatten(), dense(16), batch_norm(), relu(), dense(10))
    problem = Problem(net, softmax_cross_entropy, averaged(momentum(0.3), decay=None, start=0))
    state = init_state(problem, Key(0), data.in_shape)
    for event in train(problem, state, data, epochs=3, batch_size=32):
        state = event.state if isinstance(event, Epoch) else state
    stale = evaluate(problem, state, data.train).loss
    model = recounted(problem, state, data.train, batch_size=647)
    assert tree.equal(model.params, state.opt_state.average)
    assert evaluate(problem, model, data.train).loss < 0.9 * stale
    mean = state.state[2].mean  # of the two batches, in the order in which they were seen
    for inputs, _ in batches(data.train, 647, key=Key(0)):
        hidden = inputs.reshape(647, 64) @ model.params[1].weight + model.params[1].bias
        mean = 0.9 * mean + 0.1 * hidden.mean(axis=0)
    np.testing.assert_allclose(model.state[2].mean, mean, rtol=1e-5, atol=1e-6)
