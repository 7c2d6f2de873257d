"""Training as a pure step folded over batches.

`make_step` gives the step, ``(state, batch) -> (state, metrics)``; `train` folds it over shuffled batches and yields
what happens as frozen events. It never prints, saves or stops: progress bars, checkpoints and histories are loops
around it, and early stopping is ``break``. Shuffling and dropout follow from the run's seed and the step number
alone, both in the `TrainState`, so a run that goes on from a saved state equals one that never stopped, bit for bit
(on one kind of processor and with one version of NumPy).
"""

import math
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.finite import first_non_finite
from funcnn.checks import FuncnnWarning, as_array
from funcnn.keys import Key, check_is_key, fold_in, generator
from funcnn.layer import Layer
from funcnn.problem import (
    Augment,
    Batch,
    Examples,
    Parts,
    Problem,
    call_augment,
    call_loss,
    call_metric,
    check_examples,
    check_problem,
)
from funcnn.settings import check_counts, refuse, shown
from funcnn.tree import Array, Shape, node

__all__ = [
    "Augment", "Batch", "Epoch", "Examples", "Metrics", "Model", "NonFiniteError", "Problem", "Step", "TrainState",
    "batches", "evaluate", "init_state", "make_step", "predict", "train",
]  # fmt: skip


@node
class TrainState:
    """A run's whole position. Shuffling and dropout are derived from its seed and step."""

    params: Any
    state: Any
    opt_state: Any
    step: int
    seed: int


@node
class Model:
    """What prediction needs of a trained net."""

    params: Any
    state: Any


@attrs.frozen
class Metrics:
    """The loss, and in `accuracy` the problem's metric (None without one): means over some examples."""

    loss: float
    accuracy: float | None


@attrs.frozen
class Step:
    """One step was taken: its number in the run and in its epoch (from 1), its batch's metrics, the epoch's so far."""

    step: int
    epoch: int
    batch: int
    batches: int
    loss: float
    accuracy: float | None
    epoch_loss: float
    epoch_accuracy: float | None
    learning_rate: float


@attrs.frozen(eq=False)
class Epoch:
    """One epoch (from 1) is done: the state after it, means over its steps, the validation part's metrics, seconds.

    After a start within an epoch, the means and seconds cover the steps since. `subset` (some of the training examples,
    evaluated as the other parts are) and `test` are for loops that measure more.
    """

    epoch: int
    epochs: int
    state: TrainState = attrs.field(repr=lambda state: f"{type(state).__name__}(...)")
    train: Metrics
    validation: Metrics | None
    learning_rate: float
    seconds: float
    subset: Metrics | None = None
    test: Metrics | None = None


class NonFiniteError(ArithmeticError):
    """The loss, the state, a gradient or the update became infinite or NaN; names the step, and a bad leaf if known."""


def init_state(problem: Problem, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> TrainState:
    """The state at step 0, from a run's root key ``Key(seed)`` and an example's shape.

    >>> from funcnn.layers import dense
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.optimizers import sgd
    >>> state = init_state(Problem(dense(2), softmax_cross_entropy, sgd(0.1)), Key(7), (4,))
    >>> state.step, state.seed, state.params.weight.shape
    (0, 7, (4, 2))

    Raises ShapeError if the net does not take the shape, ValueError for a derived key: the state holds the seed.
    """
    check_problem("init_state", problem)
    check_is_key("init_state", key)
    if key.path:
        raise ValueError(f"init_state: expected a run's root key, Key(seed), got the derived {key}")
    params, state, _ = problem.net.init(fold_in(key, "init"), in_shape, dtype)
    return TrainState(params, state, problem.optimizer.init(params), 0, key.seed)


def make_step(problem: Problem) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The pure training step: forward, loss, backward, update. The metrics are the batch's, before the update.

    >>> from funcnn.layers import dense
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.optimizers import sgd
    >>> problem = Problem(dense(2), softmax_cross_entropy, sgd(0.1))
    >>> batch = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> state, metrics = make_step(problem)(init_state(problem, Key(0), (2,)), batch)
    >>> state.step
    1

    The step raises NonFiniteError, naming the step and the first bad leaf, before anything is updated by it, and
    TypeError for a loss, metric or augmentation that gives anything else than it must.
    """
    check_problem("make_step", problem)
    return partial(_step, problem)


def _step(problem: Problem, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"step: batch must be a tuple (inputs, targets), got {shown(batch)}")
    inputs, targets = batch
    key = fold_in(fold_in(Key(state.seed), "step"), state.step) if problem.net.config.stochastic else None
    for i, augment in enumerate(problem.augment):
        its_key = fold_in(fold_in(fold_in(Key(state.seed), "augment"), state.step), i)
        inputs = call_augment(augment, inputs, its_key)
    # What overflows shows in the loss, the state or the gradients, which are checked: a warning before would say less.
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        outputs, net_state, residuals = problem.net.apply(state.params, state.state, inputs, key=key, train=True)
        loss, d_outputs = call_loss(problem.loss, outputs, targets)
        if not math.isfinite(loss):
            raise NonFiniteError(f"step {state.step}: the loss is {loss}{_since(state, inputs)}. {_ADVICE}")
        bad = first_non_finite(net_state)
        if bad is not None:
            reach = f"the inputs reach {np.abs(inputs).max():g}"
            message = f"step {state.step}: the state {bad} is not finite (loss {loss:g}, {reach}). {_ADVICE}"
            raise NonFiniteError(message)
        grads, _ = problem.net.backward(state.params, residuals, d_outputs, need_dx=False)
        bad = first_non_finite(grads)
        if bad is not None:
            leaf = bad or "the layer"
            raise NonFiniteError(f"step {state.step}: the gradient of {leaf} is not finite (loss {loss:g}). {_ADVICE}")
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            params, opt_state = problem.optimizer.update(grads, state.opt_state, state.params, state.step)
    except FloatingPointError as error:
        message = f"step {state.step}: the update of the parameters is not finite ({error}). {_ADVICE}"
        raise NonFiniteError(message) from error
    metric = call_metric(problem.metric, outputs, targets)
    return TrainState(params, net_state, opt_state, state.step + 1, state.seed), Metrics(loss, metric)


_ADVICE = "Lower the learning rate, put clip_by_global_norm before the optimizer, or look for bad inputs"


def _since(state: TrainState | Model, inputs: Array) -> str:
    """Why a loss is not finite, as far as it can be seen."""
    for what, values in (("parameter", state.params), ("state", state.state)):
        bad = first_non_finite(values)
        if bad is not None:
            return f", since the {what} {bad} is not finite"
    bad_inputs = np.count_nonzero(~np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim))))
    if bad_inputs:
        return f", since {bad_inputs} of the batch's {len(inputs)} inputs are not finite"
    return "; all parameters and inputs are finite, but not what follows from them"


def batches(examples: Examples, batch_size: int, *, key: Key | None = None, start: int = 0) -> Iterator[Batch]:
    """The batches of one pass, from the `start`-th: each example once, in the key's order or as stored.

    The last batch is smaller if the size does not divide the number of examples.

    >>> from funcnn.data import load
    >>> [len(labels) for _, labels in batches(load("digits").test, 256)]
    [256, 103]

    Raises ValueError at once for a batch size that is no positive int, or examples that are no part.
    """
    check_counts("batches", batch_size=batch_size)
    check_examples("batches", "examples", examples)
    return _batches(examples, batch_size, key, start)


def _batches(examples: Examples, batch_size: int, key: Key | None, start: int) -> Iterator[Batch]:
    n = len(examples)
    order = generator(key).permutation(n) if key is not None else None
    for first in range(start * batch_size, n, batch_size):
        part = slice(first, min(first + batch_size, n))
        yield examples.take(part if order is None else order[part])


def train(
    problem: Problem, state: TrainState, dataset: Parts, *, epochs: int, batch_size: int
) -> Iterator[Step | Epoch]:
    """Train from a state to the end of the last epoch, yielding a `Step` after each step, an `Epoch` after each epoch.

    Every epoch visits every training example once, in an order derived from the seed and the epoch. A state with
    steps behind it goes on where it is, within an epoch too; with all of them behind it, nothing is left to yield.

    >>> from funcnn.data import load
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.models import fully_connected
    >>> from funcnn.optimizers import adam
    >>> data = load("digits")
    >>> problem = Problem(fully_connected([32], 10), softmax_cross_entropy, adam(0.01))
    >>> state = init_state(problem, Key(0), data.in_shape)
    >>> for event in train(problem, state, data, epochs=5, batch_size=64):
    ...     if isinstance(event, Epoch):
    ...         state = event.state
    >>> evaluate(problem, state, data.test).accuracy > 0.9
    True

    Training changes nothing: the trained net is in an event's state. Given the state at step 0 that a run began with,
    `evaluate` and `predict` warn once the run has come through an epoch.

    Raises ValueError at once for settings that are not positive, an empty part or arguments of another kind,
    NonFiniteError later. Warns once of a loss that has grown a thousandfold: a mean over an epoch's steps of more than
    1000 times the first step's, or 1000 if that was below 1.
    """
    check_problem("train", problem)
    check_counts("train", epochs=epochs, batch_size=batch_size)
    if not isinstance(state, TrainState):
        refuse("train", "state", "a TrainState, such as init_state makes", state)
    if not (hasattr(dataset, "train") and hasattr(dataset, "validation")):
        expected = "a data set with the parts train and validation (or None)"
        refuse("train", "dataset", expected, dataset, "Of a part make Dataset(part, None, part, classes, in_shape)")
    check_examples("train", "the training examples", dataset.train)
    if dataset.validation is not None:
        check_examples("train", "the validation examples", dataset.validation)
    return _train(problem, state, dataset, epochs, batch_size)


# The states at step 0 that a run of an epoch or more began with. It decides on a warning, and on no result.
_BEGUN: "weakref.WeakSet[TrainState]" = weakref.WeakSet()
_EXPLODED = 1e3  # of the first step's loss, or of 1 if that is less


def _train(problem: Problem, state: TrainState, dataset: Parts, epochs: int, batch_size: int) -> Iterator[Step | Epoch]:
    step = make_step(problem)
    start, limit = state, 0.0  # limit: a mean loss beyond it has exploded
    examples = dataset.train
    per_epoch = -(-len(examples) // batch_size)
    for epoch in range(state.step // per_epoch, epochs):
        done = state.step - epoch * per_epoch
        order = fold_in(fold_in(Key(state.seed), "shuffle"), epoch)
        mean = _Mean()
        seconds, rate = 0.0, 0.0
        started = time.perf_counter()
        for i, batch in enumerate(batches(examples, batch_size, key=order, start=done), start=done + 1):
            rate = problem.optimizer.learning_rate(state.step)
            state, metrics = step(state, batch)
            mean = mean.add(metrics, len(batch[0]))
            limit = limit or _EXPLODED * max(1.0, abs(metrics.loss))
            so_far = mean.metrics()
            event = Step(
                state.step, epoch + 1, i, per_epoch, metrics.loss, metrics.accuracy, so_far.loss, so_far.accuracy, rate
            )
            seconds += time.perf_counter() - started
            yield event
            started = time.perf_counter()  # the time that the caller took is not the training's
        validation = evaluate(problem, state, dataset.validation) if dataset.validation is not None else None
        if mean.metrics().loss > limit:
            message = f"train: the loss has grown to {mean.metrics().loss:.3g} in epoch {epoch + 1}. {_ADVICE}"
            warnings.warn(message, FuncnnWarning, stacklevel=2)
            limit = math.inf  # said once
        if start.step == 0:
            _BEGUN.add(start)
        yield Epoch(epoch + 1, epochs, state, mean.metrics(), validation, rate, seconds)


@attrs.frozen
class _Mean:
    """A running mean of metrics over examples."""

    examples: int = 0
    loss: float = 0.0
    accuracy: float | None = 0.0

    def add(self, metrics: Metrics, examples: int) -> "_Mean":
        known = self.accuracy is not None and metrics.accuracy is not None
        return _Mean(
            self.examples + examples,
            self.loss + metrics.loss * examples,
            self.accuracy + metrics.accuracy * examples if known else None,  # type: ignore[operator]
        )

    def metrics(self) -> Metrics:
        return Metrics(self.loss / self.examples, None if self.accuracy is None else self.accuracy / self.examples)


def evaluate(problem: Problem, state: TrainState | Model, examples: Examples, *, batch_size: int = 256) -> Metrics:
    """The loss and metric over examples, each counted once, with the layers as for prediction (``train=False``).

    Raises ValueError for no examples, a batch size that is no positive int, or arguments of another kind. Warns of a
    loss that is not finite, which is given as it is, and of the state that training began with.
    """
    check_problem("evaluate", problem)
    _check_state("evaluate", state)
    check_counts("evaluate", batch_size=batch_size)
    check_examples("evaluate", "the examples", examples)
    mean, reason = _Mean(), ""
    for inputs, targets in batches(examples, batch_size):
        # What overflows shows in the loss.
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            outputs = problem.net.apply(state.params, state.state, inputs).y
            loss, _ = call_loss(problem.loss, outputs, targets)
        mean = mean.add(Metrics(loss, call_metric(problem.metric, outputs, targets)), len(inputs))
        if not (math.isfinite(loss) or reason):
            reason = f"evaluate: the loss is {loss}{_since(state, inputs)}"
    if reason:
        warnings.warn(reason, FuncnnWarning, stacklevel=2)
    return mean.metrics()


def _check_state(place: str, state: TrainState | Model) -> None:
    if not isinstance(state, (TrainState, Model)):
        refuse(place, "state", "a TrainState or a Model(params, state)", state)
    if state in _BEGUN:
        message = (
            f"{place}: this is the state at step 0 that training began with. Training changes nothing and yields new "
            "states: take event.state of an Epoch"
        )
        warnings.warn(message, FuncnnWarning, stacklevel=3)


def predict(net: Layer, state: TrainState | Model, inputs: Array | Examples, *, batch_size: int = 256) -> Array:
    """The net's outputs for inputs (n, ...) or examples, with the layers as for prediction: -> (n, ...).

    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> predict(dense(2), Model(params, state), np.ones((1000, 4), np.float32)).shape
    (1000, 2)

    Raises ValueError for a batch size that is no positive int, or inputs that are neither examples nor taken for an
    array (`funcnn.checks.as_array`). Warns of the state that training began with.
    """
    if not isinstance(net, Layer):
        refuse("predict", "net", "a Layer", net, "Pass problem.net" if isinstance(net, Problem) else "")
    _check_state("predict", state)
    check_counts("predict", batch_size=batch_size)
    take: Callable[[slice], Array]
    if hasattr(inputs, "take") and not hasattr(inputs, "__array__"):
        take = partial(_inputs, inputs)
    else:
        inputs = as_array("predict", "inputs", inputs)
        take = inputs.__getitem__
        if inputs.ndim == 0:
            refuse("predict", "inputs", "a batch of inputs", inputs)
    starts = range(0, max(len(inputs), 1), batch_size)
    taken = (take(slice(start, start + batch_size)) for start in starts)
    return np.concatenate([net.apply(state.params, state.state, each).y for each in taken])


def _inputs(examples: Examples, part: slice) -> Array:
    return examples.take(part)[0]
