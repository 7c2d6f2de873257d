"""Training as a pure step folded over batches.

`make_step` gives the step, ``(state, batch) -> (state, metrics)``; `train` folds it over shuffled batches and yields
what happens as frozen events. It never prints, saves or stops: progress bars, checkpoints and histories are loops
around it, and early stopping is ``break``. Shuffling and dropout follow from the run's seed and the step number
alone, both in the `TrainState`, so a run that goes on from a saved state equals one that never stopped, bit for bit
(on one kind of processor, with one version of NumPy, which choose their arithmetic).
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import tree
from funcnn.keys import Key, fold_in, generator
from funcnn.layer import Layer
from funcnn.losses import Loss
from funcnn.metrics import accuracy
from funcnn.optimizers import Optimizer
from funcnn.settings import as_code
from funcnn.tree import Array, Shape, node

__all__ = [
    "Augment", "Batch", "Epoch", "Examples", "Metrics", "Model", "NonFiniteError", "Problem", "Step", "TrainState",
    "batches", "evaluate", "init_state", "make_step", "predict", "train",
]  # fmt: skip

Batch = tuple[Array, Array]
Metric = Callable[[Array, Array], float]
Augment = Callable[[Array, Key], Array]


class Examples(Protocol):
    """What training reads: a number of examples, taken by position as arrays (inputs, targets)."""

    def __len__(self) -> int: ...

    def take(self, index: Any) -> Batch: ...


class Split(Protocol):
    """A data set: its training part, and the part to validate on after each epoch, if any."""

    @property
    def train(self) -> Examples: ...

    @property
    def validation(self) -> Examples | None: ...


def _names(augment: tuple[Augment, ...]) -> str:
    return f"({', '.join([as_code(each) for each in augment])})"


@attrs.frozen
class Problem:
    """What is trained and how: the net, the loss of its outputs, the optimizer, a metric to report, augmentation.

    The metric is ``metric(outputs, targets) -> float``, a mean over the batch; None for none (regression). The
    augmentations are ``(inputs, key) -> inputs``, applied in order to each training batch (`funcnn.data.augment`).
    """

    net: Layer
    loss: Loss = attrs.field(repr=as_code)
    optimizer: Optimizer
    metric: Metric | None = attrs.field(default=accuracy, repr=as_code)
    augment: tuple[Augment, ...] = attrs.field(default=(), converter=tuple, repr=_names)


@node
class TrainState:
    """A run's whole position. Its seed and step are what shuffling and dropout are derived from."""

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
    """The loss and the metric, means over some examples; the metric is None if the problem has none."""

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

    After a start within an epoch, the means and seconds cover the steps since. Whoever measures more of the state
    passes it on in `subset` (some of the training examples, evaluated as the others are) and `test`.
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
    """The loss, a gradient or the update became infinite or not a number; names the step, and a bad leaf if known."""


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

    The step raises NonFiniteError, naming the step and the first bad leaf, before anything is updated by it.
    """
    return partial(_step, problem)


def _step(problem: Problem, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    inputs, targets = batch
    key = fold_in(fold_in(Key(state.seed), "step"), state.step) if problem.net.config.stochastic else None
    for i, augment in enumerate(problem.augment):
        inputs = augment(inputs, fold_in(fold_in(fold_in(Key(state.seed), "augment"), state.step), i))
    # What overflows shows in the loss or the gradients, which are checked: a warning before would say less.
    with np.errstate(over="ignore", invalid="ignore"):
        outputs, net_state, residuals = problem.net.apply(state.params, state.state, inputs, key=key, train=True)
        loss, d_outputs = problem.loss(outputs, targets)
        if not math.isfinite(loss):
            raise NonFiniteError(_explain_loss(loss, state, outputs))
        grads, _ = problem.net.backward(state.params, residuals, d_outputs, need_dx=False)
        bad = _first_non_finite(grads)
        if bad is not None:
            raise NonFiniteError(f"step {state.step}: the gradient of {bad} is not finite (loss {loss:g}). {_ADVICE}")
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            params, opt_state = problem.optimizer.update(grads, state.opt_state, state.params, state.step)
    except FloatingPointError as error:
        message = f"step {state.step}: the update of the parameters is not finite ({error}). {_ADVICE}"
        raise NonFiniteError(message) from error
    metric = problem.metric(outputs, targets) if problem.metric else None
    return TrainState(params, net_state, opt_state, state.step + 1, state.seed), Metrics(loss, metric)


_ADVICE = "Lower the learning rate, put clip_by_global_norm before the optimizer, or look for bad inputs"


def _explain_loss(loss: float, state: TrainState, outputs: Array) -> str:
    bad = _first_non_finite(state.params)
    if bad is not None:
        return f"step {state.step}: the loss is {loss}, since the parameter {bad} is not finite. {_ADVICE}"
    finite = "finite" if np.isfinite(outputs).all() else "not finite"
    return f"step {state.step}: the loss is {loss}; all parameters are finite, the net's outputs {finite}. {_ADVICE}"


def _first_non_finite(values: Any) -> str | None:
    """The path of the first leaf with an infinity or NaN; None if there is none."""
    for i, leaf in enumerate(tree.flatten(values)):
        # A dot product is by far the fastest look at all elements; it may overflow where they do not.
        if not math.isfinite(np.vdot(leaf, leaf)) and not np.isfinite(leaf).all():
            return tree.paths(values)[i] or "the layer"
    return None


def batches(examples: Examples, batch_size: int, *, key: Key | None = None, start: int = 0) -> Iterator[Batch]:
    """The batches of one pass, from the `start`-th: each example once, in the key's order or as stored.

    The last batch is smaller if the size does not divide the number of examples.

    >>> from funcnn.data import load
    >>> [len(labels) for _, labels in batches(load("digits").test, 256)]
    [256, 103]

    Raises ValueError at once for a batch size that is not positive.
    """
    _check_counts("batches", {"batch_size": batch_size})
    return _batches(examples, batch_size, key, start)


def _batches(examples: Examples, batch_size: int, key: Key | None, start: int) -> Iterator[Batch]:
    n = len(examples)
    order = generator(key).permutation(n) if key is not None else None
    for first in range(start * batch_size, n, batch_size):
        part = slice(first, min(first + batch_size, n))
        yield examples.take(part if order is None else order[part])


def train(
    problem: Problem, state: TrainState, dataset: Split, *, epochs: int, batch_size: int
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

    Raises ValueError at once for settings that are not positive or an empty training part, NonFiniteError later.
    """
    _check_counts("train", {"epochs": epochs, "batch_size": batch_size, "the training examples": len(dataset.train)})
    return _train(problem, state, dataset, epochs, batch_size)


def _check_counts(place: str, counts: dict[str, int]) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{place}: {name} must be at least 1, got {value}")


def _train(problem: Problem, state: TrainState, dataset: Split, epochs: int, batch_size: int) -> Iterator[Step | Epoch]:
    step = make_step(problem)
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
            so_far = mean.metrics()
            event = Step(
                state.step, epoch + 1, i, per_epoch, metrics.loss, metrics.accuracy, so_far.loss, so_far.accuracy, rate
            )
            seconds += time.perf_counter() - started
            yield event
            started = time.perf_counter()  # the time that the caller took is not the training's
        validation = evaluate(problem, state, dataset.validation) if dataset.validation is not None else None
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

    Raises ValueError for no examples, or a batch size that is not positive.
    """
    _check_counts("evaluate", {"batch_size": batch_size, "the examples": len(examples)})
    mean = _Mean()
    for inputs, targets in batches(examples, batch_size):
        # What overflows shows in the loss.
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = problem.net.apply(state.params, state.state, inputs).y
            loss, _ = problem.loss(outputs, targets)
        metric = problem.metric(outputs, targets) if problem.metric else None
        mean = mean.add(Metrics(loss, metric), len(inputs))
    return mean.metrics()


def predict(net: Layer, state: TrainState | Model, inputs: Array | Examples, *, batch_size: int = 256) -> Array:
    """The net's outputs for inputs (n, ...) or examples, with the layers as for prediction: -> (n, ...).

    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> predict(dense(2), Model(params, state), np.ones((1000, 4), np.float32)).shape
    (1000, 2)
    """

    _check_counts("predict", {"batch_size": batch_size})
    take: Callable[[slice], Array] = inputs.__getitem__ if isinstance(inputs, np.ndarray) else partial(_inputs, inputs)
    starts = range(0, max(len(inputs), 1), batch_size)
    taken = (take(slice(start, start + batch_size)) for start in starts)
    return np.concatenate([net.apply(state.params, state.state, each).y for each in taken])


def _inputs(examples: Examples, part: slice) -> Array:
    return examples.take(part)[0]
