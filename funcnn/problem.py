"""What is trained and on what: a net, its loss, optimizer, metric and augmentations; the examples.

The parts of a problem may be your own. What they give back is checked at every call, by a few comparisons: what these
let pass would be blamed on a layer.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import attrs
import numpy as np

from funcnn.checks import FuncnnWarning
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.losses import Loss, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.metrics import default_metric
from funcnn.optimizers import Optimizer
from funcnn.settings import as_code, as_float, as_tuple, refuse, shown
from funcnn.tree import Array

__all__ = [
    "Augment", "Batch", "Examples", "Metric", "Parts", "Problem", "call_augment", "call_loss", "call_metric",
    "check_examples", "check_problem",
]  # fmt: skip

Batch = tuple[Array, Array]
Metric = Callable[[Array, Array], float]
Augment = Callable[[Array, Key], Array]


class Examples(Protocol):
    """What training reads: a number of examples, taken by position as arrays (inputs, targets)."""

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
    from the loss (`funcnn.metrics.default_metric`). The augmentations are ``(inputs, key) -> inputs``, applied in order
    to each training batch (`funcnn.data.augment`).

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
        _warn_of_probabilities(self.net, self.loss)


_TAKES_LOGITS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (softmax_cross_entropy, ("softmax", "log_softmax")),
    (sigmoid_cross_entropy, ("sigmoid",)),
)


def _warn_of_probabilities(net: Layer, loss: Any) -> None:
    """Warn of a net that ends in the function that its loss applies itself: it learns slowly or not at all."""
    while isinstance(loss, partial):
        loss = loss.func
    last = net
    while last.name == "serial" and last.config.children:
        last = last.config.children[-1]
    if last.name in next((names for known, names in _TAKES_LOGITS if known is loss), ()):
        message = (
            f"Problem: {as_code(loss)} takes logits, and the net ends in {last}. Leave that away: the loss applies it"
        )
        warnings.warn(message, FuncnnWarning, stacklevel=4)


# --- What its parts give back ---------------------------------------------------------------------------------


def call_loss(loss: Callable[[Array, Array], Any], outputs: Array, targets: Array) -> tuple[float, Array]:
    """A loss's value, as Python's float, and its gradient in the outputs.

    >>> call_loss(lambda outputs, targets: (np.float32(0.5), outputs), np.ones(2), np.ones(2))
    (0.5, array([1., 1.]))

    Raises TypeError unless they are a number and an array of the outputs' shape and dtype.
    """
    made = loss(outputs, targets)
    if not isinstance(made, tuple) or len(made) != 2:
        got = f"a tuple of {len(made)}" if isinstance(made, tuple) else shown(made)
        raise TypeError(f"{as_code(loss)}: a loss must return (value, d_outputs), got {got}")
    value, d_outputs = made
    if type(d_outputs) is not np.ndarray or d_outputs.shape != outputs.shape or d_outputs.dtype != outputs.dtype:
        raise TypeError(
            f"{as_code(loss)}: the d_outputs of a loss must be like the outputs, an array {outputs.dtype} "
            f"{outputs.shape}, got {shown(d_outputs)}. Give the loss's slope in each output, in outputs.dtype"
        )
    return value if type(value) is float else _number(loss, "the value of a loss", value), d_outputs


def call_metric(metric: Callable[[Array, Array], Any] | None, outputs: Array, targets: Array) -> float | None:
    """A metric's value as Python's float, None without a metric; raises TypeError for what is no number."""
    if metric is None:
        return None
    value = metric(outputs, targets)
    return value if type(value) is float else _number(metric, "a metric", value)


def call_augment(augment: Callable[[Array, Key], Any], inputs: Array, key: Key) -> Array:
    """The inputs augmented; raises TypeError unless they are as many as before, in the same dtype."""
    made = augment(inputs, key)
    if type(made) is not np.ndarray or made.ndim == 0 or len(made) != len(inputs) or made.dtype != inputs.dtype:
        raise TypeError(
            f"{as_code(augment)}: an augmentation must return as many inputs as it is given, {len(inputs)} of "
            f"{inputs.dtype}, got {shown(made)}"
        )
    return made


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


def check_examples(place: str, name: str, examples: Any) -> None:
    """Raise ValueError unless a place is given a part of a data set that is not empty."""
    is_part = callable(getattr(examples, "take", None)) and hasattr(examples, "__len__")
    if not is_part or hasattr(examples, "__array__"):
        fix = "Pass one of its parts, such as data.test" if hasattr(examples, "train") else "Pass Part(inputs, targets)"
        refuse(place, name, "a part of a data set", examples, fix)
    if len(examples) < 1:
        raise ValueError(f"{place}: {name} must be at least 1, got 0")
