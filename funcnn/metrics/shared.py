"""What metrics share: the marks of those over a whole part, means with weights, classes and their checks."""

import math
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from funcnn.arrays.weighing import count_of
from funcnn.checks import FuncnnWarning, as_array, check_labels
from funcnn.losses.checks import check_distributions, check_flag, class_numbers
from funcnn.losses.reduce import check_weights, reduce
from funcnn.settings import function_of
from funcnn.system.devices import is_device_array, module_of
from funcnn.tree import Array

__all__ = [
    "Metric", "check_outputs", "class_rows", "flat_weights", "is_lower_better", "log_probabilities", "over_part",
    "rank", "share",
]  # fmt: skip

Metric = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])


def is_lower_better(metric: Any) -> bool:
    """Whether a metric, with options or not, is an error, which shall be low: it then has ``lower_is_better = True``.

    >>> from funcnn.metrics import accuracy, mae
    >>> is_lower_better(mae), is_lower_better(accuracy)
    (True, False)
    """
    return bool(getattr(function_of(metric), "lower_is_better", False))


def rank(accuracy: float | None, loss: float | None, *, lower: bool) -> tuple[float, float]:
    """What measures on the validation part are compared by, the highest being the best: the metric, then the loss.

    It is the accuracy, or minus a metric that shall be `lower`, and among equals the lower loss; without a metric the
    loss alone. What is not a number is worse than any number.

    >>> rank(0.9, 0.5, lower=False) > rank(0.9, 0.6, lower=False) > rank(0.8, 0.1, lower=False)
    True
    """
    first, second = accuracy or 0.0, loss or 0.0
    first = -first if lower else first
    return -math.inf if math.isnan(first) else first, -math.inf if math.isnan(second) else -second


def over_part(metric: F) -> F:
    """Mark a metric that is no mean over examples: its value over a part is not the mean of its values over batches.

    It takes arrays to the host first, since it is asked once.
    """

    @wraps(metric)
    def on_the_host(*arguments: Any, **options: Any) -> Any:
        return metric(*map(_hosted, arguments), **{name: _hosted(value) for name, value in options.items()})

    on_the_host.over_part = True  # type: ignore[attr-defined]
    return on_the_host  # type: ignore[return-value]


def _hosted(value: Any) -> Any:
    return module_of(value).asnumpy(value) if is_device_array(value) else value


def share(place: str, right: Array, weights: Any, own: Array | None = None, *, rows_of: Any = None) -> Any:
    """The share of what is right, or (share, weight) over weights, the user's or a metric's own, as of losses.

    `right` is (n, ...), or flat, as the rows of outputs (n, ..., classes).

    >>> share("here", np.array([True, False]), [3, 1])
    (0.75, 4.0)
    """
    if weights is None and own is None:
        return count_of(right) / right.size
    if rows_of is not None:
        right = right.reshape(np.shape(rows_of)[:-1])
    value, _, weight = reduce(place, ((1.0, right),), np.zeros_like(right, np.float64), right.shape, weights, own=own)
    return value, weight


# --- Classes --------------------------------------------------------------------------------------------------


def class_rows(place: str, outputs: Any, labels: Any, ignore: Any = None) -> tuple[Array, Array, Array | None]:
    """Outputs (n, ..., classes) as rows (m, classes), a class number for each, and which count: 1, or 0.

    Labels are class numbers (n, ...), or distributions (n, ..., classes), whose largest is taken. Raises ValueError for
    what is neither, an empty batch, and a single class.
    """
    outputs, labels = as_array(place, "outputs", outputs), as_array(place, "labels", labels)
    sequences = outputs.ndim > 2 and labels.ndim > 1
    if not (outputs.ndim == 2 or sequences) or 0 in outputs.shape[:-1]:
        raise ValueError(f"{place}: expected outputs of shape (n, classes) with n > 0, got {outputs.shape}")
    classes = outputs.shape[-1]
    if classes < 2:
        raise ValueError(
            f"{place}: expected outputs for two classes or more, got {outputs.shape}: a choice of one is always right. "
            "Use binary_accuracy for one output that says yes or no, metric=None for regression"
        )
    if labels.shape == outputs.shape:
        if np.isnan(labels).any():
            raise ValueError(f"{place}: labels have a NaN; give each row a distribution over the classes")
        if ignore is not None:
            raise ValueError(f"{place}: ignore is for labels that are class numbers. Weigh rows of distributions by 0")
        rows = labels.reshape(-1, classes)
        check_distributions(
            place, rows, "For several yes or no an example use binary_accuracy, for regression metric=None"
        )
        return outputs.reshape(-1, classes), rows.argmax(axis=1), None
    if outputs.ndim == 2 and ignore is None:
        check_labels(place, labels, *outputs.shape)
        return outputs, labels, None
    numbers, kept = class_numbers(place, outputs, labels, ignore)
    return outputs.reshape(-1, classes), numbers, kept


def flat_weights(place: str, weights: Any, shape: tuple[int, ...], kept: Array | None = None) -> Array | None:
    """The weights of all positions of a shape as one row, those not kept 0; None if all count alike."""
    if weights is None:
        return kept
    given = check_weights(place, weights, shape)
    every = np.broadcast_to(given.reshape(given.shape + (1,) * (len(shape) - given.ndim)), shape).reshape(-1)
    return np.asarray(every if kept is None else every * kept)


def log_probabilities(place: str, rows: Array, from_logits: bool) -> Array:
    """The logarithms of the probabilities of classes, in float64, of rows of logits or of probabilities (m, classes).

    Raises ValueError for rows that are no probabilities where they should be. Warns where logits are expected and all
    rows are positive and add to 1.
    """
    check_flag(place, "from_logits", from_logits)
    rows = rows.astype(np.float64)
    if from_logits:
        if rows.min() >= 0 and abs(rows.sum(axis=1) - 1).max() < 1e-3:
            message = f"{place}: outputs look like probabilities, not like logits. If they are, pass from_logits=False"
            warnings.warn(message, FuncnnWarning, stacklevel=3)
        rows -= rows.max(axis=1, keepdims=True)
        return np.asarray(rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)))
    sums = rows.sum(axis=1)
    if not (rows.min() >= 0 and abs(sums - 1).max() <= 1e-3):
        raise ValueError(
            f"{place}: outputs must be probabilities, none negative and each row adding to 1; got values from "
            f"{rows.min()}, sums from {sums.min()} to {sums.max()}. Pass from_logits=True for logits"
        )
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(rows))


def check_outputs(place: str, outputs: Array) -> None:
    """Raise ValueError for outputs that are not finite, which have no order."""
    if not np.isfinite(outputs).all():
        raise ValueError(f"{place}: outputs have {np.count_nonzero(~np.isfinite(outputs))} values that are not finite")
