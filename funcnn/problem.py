"""What is trained and on what: a net, its loss, optimizer, metric and augmentations; the examples.

The parts of a problem may be your own. What they give back is checked at every call, by a few comparisons: what these
let pass would be blamed on a layer.
"""

import inspect
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import attrs
import numpy as np

from funcnn import tree
from funcnn.batch import Batch, length
from funcnn.checks import FuncnnWarning
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.losses import (
    Loss,
    kl_divergence,
    sigmoid_cross_entropy,
    sigmoid_focal,
    softmax_cross_entropy,
    softmax_focal,
)
from funcnn.metrics import default_metric
from funcnn.optimizers import Optimizer
from funcnn.settings import as_code, as_float, as_tuple, function_of, refuse, shown
from funcnn.system.devices import has_form, is_array, is_device_array
from funcnn.tree import Array, brief

__all__ = [
    "Augment", "Batch", "Examples", "Metric", "Parts", "Problem", "call_augment", "call_loss", "call_metric",
    "check_asks_no_loss", "check_examples", "check_problem",
]  # fmt: skip

Metric = Callable[..., Any]
Augment = Callable[[Any, Key], Any]  # (inputs, key) -> inputs; of batches, if it says `mixes`


class Examples(Protocol):
    """What training reads: a number of examples, taken by position as a batch."""

    def __len__(self) -> int: ...

    def take(self, index: Any) -> Batch: ...


class Parts(Protocol):
    """What training reads of a data set: the part to train on, and the part to validate on after each epoch, if any."""

    @property
    def train(self) -> Examples: ...

    @property
    def validation(self) -> Examples | None: ...


def _names(augment: tuple[Augment, ...]) -> str:
    return f"({', '.join([as_code(each) for each in augment])})"


@attrs.frozen
class Problem:
    """What is trained and how: the net, the loss of its outputs, the optimizer, a metric to report, augmentation.

    The metric is ``metric(outputs, targets) -> float``, a mean over the batch, or None for none; without one it follows
    from the loss (`funcnn.metrics.default_metric`). Of batches with weights, both are given these as a third argument.
    The augmentations are ``(inputs, key) -> inputs``, applied in order to each training batch (`funcnn.data.augment`).
    One that has the attribute ``mixes = True`` makes a batch of a batch, targets and all: ``((inputs, targets), key) ->
    (inputs, targets)`` (`funcnn.data.mixing`).

    >>> from funcnn.layers import dense
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.optimizers import sgd
    >>> Problem(dense(10), softmax_cross_entropy, sgd(0.1)).metric.__name__
    'accuracy'

    Raises ValueError for a part of another kind. Warns of a net that ends in softmax, if the loss applies it itself.
    """

    net: Layer
    loss: Loss = attrs.field(repr=as_code)
    optimizer: Optimizer
    metric: Metric | None = attrs.field(
        default=attrs.Factory(lambda self: default_metric(self.loss), takes_self=True), repr=as_code
    )
    augment: tuple[Augment, ...] = attrs.field(default=(), converter=as_tuple, repr=_names)

    def __attrs_post_init__(self) -> None:
        augments = isinstance(self.augment, tuple) and all(map(callable, self.augment))
        for name, fits, expected in (
            ("net", isinstance(self.net, Layer), "a Layer"),
            ("loss", callable(self.loss), "a function (outputs, targets) -> (value, d_outputs)"),
            ("optimizer", isinstance(self.optimizer, Optimizer), "an Optimizer such as adam(1e-3)"),
            ("metric", self.metric is None or callable(self.metric), "a function (outputs, targets) -> float, or None"),
            ("augment", augments, "a tuple of functions (inputs, key) -> inputs, (flip,) for one"),
        ):
            if not fits:
                refuse("Problem", name, expected, getattr(self, name))
        _check_is_mean(self.loss, self.metric)
        _warn_of_probabilities(self.net, self.loss)


def _check_is_mean(loss: Any, metric: Any) -> None:
    """Raise ValueError for a loss or a metric that is no mean over examples, which batches and shards could share."""
    options = loss.keywords if isinstance(loss, partial) else {}
    if options.get("reduction", "mean") != "mean":
        fix = "A sum's gradient is the mean's times the examples: raise the learning rate instead"
        refuse("Problem", "loss", 'a mean over examples, reduction="mean"', loss, fix)
    if getattr(function_of(metric), "over_part", False):
        name = function_of(metric).__name__
        raise ValueError(
            f"Problem: {as_code(metric)} is no mean over examples, so that a mean of its values over batches says "
            f"nothing. Predict the whole part, then {name}(outputs, targets)"
        )


_TAKES_LOGITS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (softmax_cross_entropy, ("softmax", "log_softmax")),
    (softmax_focal, ("softmax", "log_softmax")),
    (kl_divergence, ("softmax",)),
    (sigmoid_cross_entropy, ("sigmoid", "log_sigmoid")),
    (sigmoid_focal, ("sigmoid", "log_sigmoid")),
)


_END_AS_THEIR_LAST = ("serial", "repeat", "remat", "tied", "chunked")


def _warn_of_probabilities(net: Layer, loss: Any) -> None:
    """Warn of a net that ends in the function that its loss applies itself: it learns slowly or not at all."""
    while isinstance(loss, partial):
        loss = loss.func
    last = net
    while last.name in _END_AS_THEIR_LAST and last.config.children:
        last = last.config.children[-1]
    if last.name in next((names for known, names in _TAKES_LOGITS if known is loss), ()):
        message = (
            f"Problem: {as_code(loss)} takes logits, and the net ends in {last}. Leave that away: the loss applies it"
        )
        warnings.warn(message, FuncnnWarning, stacklevel=4)


# --- What its parts give back ---------------------------------------------------------------------------------


def call_loss(
    loss: Callable[..., Any], outputs: Any, targets: Any, weights: Array | None = None
) -> tuple[float, Any, float | None]:
    """A loss's value, as Python's float, its gradient in the outputs, and the weight of what it is a mean over.

    A loss that gives no weight has every example count alike: then it is None.

    >>> call_loss(lambda outputs, targets: (np.float32(0.5), outputs), np.ones(2), np.ones(2))
    (0.5, array([1., 1.]), None)

    Raises TypeError unless they are numbers and arrays of the outputs' shape and dtype, and for a loss that takes no
    weights if there are some.
    """
    made = _called("loss", loss, outputs, targets, weights)
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        got = f"a tuple of {len(made)}" if isinstance(made, tuple) else shown(made)
        raise TypeError(f"{as_code(loss)}: a loss must return (value, d_outputs), got {got}")
    value, d_outputs, *weight = made
    if not _is_like(d_outputs, outputs):
        form = f"an array {brief(outputs)}" if has_form(outputs) else brief(outputs)
        raise TypeError(
            f"{as_code(loss)}: the d_outputs of a loss must be like the outputs, {form}, got {shown(d_outputs)}. "
            "Give the loss's slope in each output, in outputs.dtype"
        )
    value = value if type(value) is float or _stays(value) else _number(loss, "the value of a loss", value)
    return value, d_outputs, _weight(loss, *weight) if weight else None


def call_metric(
    metric: Callable[..., Any] | None, outputs: Any, targets: Any, weights: Array | None = None
) -> tuple[float | None, float | None]:
    """A metric's value as Python's float, None without a metric, and the weights' sum, None if examples count alike.

    Raises TypeError for what is no number, and for a metric that takes no weights if there are some.
    """
    if metric is None:
        return None, None
    made = _called("metric", metric, outputs, targets, weights)
    value, weight = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    value = value if type(value) is float or _stays(value) else _number(metric, "a metric", value)
    return value, None if weight is None else _weight(metric, weight)


def call_augment(
    augment: Callable[..., Any], inputs: Any, targets: Any, key: Key, weights: Array | None = None
) -> tuple[Any, Any]:
    """The inputs augmented, and the targets of an augmentation that mixes them.

    Raises TypeError unless there are as many as before, the inputs in the same dtype, and for weights of what is mixed.
    """
    mixes = getattr(function_of(augment), "mixes", False)
    if mixes and weights is not None:
        raise TypeError(
            f"{as_code(augment)}: the batch has weights, and mixed with another an example would count by its weight. "
            "Leave out the weights, or what mixes"
        )
    made, mixed = augment((inputs, targets), key) if mixes else augment(inputs, key), targets
    if mixes:
        if not isinstance(made, tuple) or len(made) != 2:
            raise TypeError(f"{as_code(augment)}: what mixes must return (inputs, targets), got {shown(made)}")
        made, mixed = made
        if not _has_rows(mixed, length(inputs)):
            raise TypeError(
                f"{as_code(augment)}: what mixes must return a target for each of its {length(inputs)} inputs, "
                f"got {shown(mixed)}"
            )
    given, got = ([leaf.dtype for leaf in tree.flatten(each)] if _is_values(each) else None for each in (inputs, made))
    if given != got or not _has_rows(made, length(inputs)):
        dtypes = " and ".join(map(str, given or ()))
        raise TypeError(
            f"{as_code(augment)}: an augmentation must return as many inputs as it is given, {length(inputs)} of "
            f"{dtypes}, got {shown(made)}"
        )
    return made, mixed


def _called(what: str, function: Callable[..., Any], outputs: Any, targets: Any, weights: Array | None) -> Any:
    if weights is None:
        return function(outputs, targets)
    try:
        inspect.signature(function).bind(outputs, targets, weights)
    except TypeError:
        raise TypeError(
            f"{as_code(function)}: the batch has weights, and this {what} takes none. Write it as "
            f"{what}(outputs, targets, weights)"
        ) from None
    return function(outputs, targets, weights)


def _is_like(made: Any, outputs: Any) -> bool:
    """Whether a gradient has the form of the outputs: their structure, shapes and dtypes."""
    if is_array(outputs):
        return type(made) is type(outputs) and made.shape == outputs.shape and made.dtype == outputs.dtype
    if type(outputs) is not tuple or type(made) is not tuple or len(made) != len(outputs):
        return False
    return all(map(_is_like, made, outputs))


def _is_values(values: Any) -> bool:
    """Whether they are an array, or a tuple of such."""
    return is_array(values) or (type(values) is tuple and all(map(_is_values, values)))


def _has_rows(values: Any, n: int) -> bool:
    """Whether they are an array of n examples, or a tuple of such."""
    return _is_values(values) and all(leaf.ndim > 0 and len(leaf) == n for leaf in tree.flatten(values))


def _stays(value: Any) -> bool:
    """Whether it is a number on a device, which is not looked at."""
    return is_device_array(value) and value.ndim == 0


def _weight(function: Callable[..., Any], value: Any) -> float:
    if _stays(value):
        return value  # type: ignore[no-any-return]
    weight = as_float(value)
    if not isinstance(weight, float) or not 0 <= weight < math.inf:
        raise TypeError(
            f"{as_code(function)}: the weight that it is a mean over must be a number, finite and not negative, got "
            f"{shown(value)}. Of weights return float(weights.sum())"
        )
    return weight


def _number(function: Callable[..., Any], what: str, value: Any) -> float:
    """A number, or an array that is one, as Python's float."""
    number = as_float(value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value)
    if not isinstance(number, float):
        raise TypeError(
            f"{as_code(function)}: {what} must be a number, a mean over the batch, got {shown(value)}. "
            "Of an array return float(values.mean())"
        )
    return number


# --- What training is given -----------------------------------------------------------------------------------


def check_problem(place: str, problem: Any) -> None:
    """Raise ValueError unless a place is given a problem."""
    if not isinstance(problem, Problem):
        refuse(place, "problem", "a Problem(net, loss, optimizer)", problem)


def check_asks_no_loss(place: str, problem: Problem) -> None:
    """Raise ValueError for an optimizer that looks at the loss of other params, where the batch is cut."""
    if problem.optimizer.asks_loss:
        raise ValueError(
            f"{place}: {as_code(problem.optimizer)} looks at the whole batch's loss of other params. Train with one "
            "worker and one shard"
        )


def check_examples(place: str, name: str, examples: Any) -> None:
    """Raise ValueError unless a place is given a part of a data set that is not empty."""
    is_part = callable(getattr(examples, "take", None)) and hasattr(examples, "__len__")
    if not is_part or hasattr(examples, "__array__"):
        fix = "Pass one of its parts, such as data.test" if hasattr(examples, "train") else "Pass Part(inputs, targets)"
        refuse(place, name, "a part of a data set", examples, fix)
    if len(examples) < 1:
        raise ValueError(f"{place}: {name} must be at least 1, got 0")
