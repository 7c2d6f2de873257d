"""What losses refuse: outputs that are no floats, empty batches, targets that do not fit."""

import math
from typing import Any

import numpy as np

from funcnn.checks import as_array, check_labels
from funcnn.settings import is_number, refuse
from funcnn.system.devices import is_device_array
from funcnn.tree import Array

__all__ = [
    "check_at_least", "check_batch", "check_between", "check_distributions", "check_flag", "check_probabilities",
    "check_same_shape", "class_numbers", "class_weights_of", "floats_and", "has_class_numbers", "without",
]  # fmt: skip


def floats_and(place: str, name: str, outputs: Any, targets: Any) -> tuple[Array, Array]:
    """The outputs and the targets as arrays; raises ValueError for outputs that are no floats."""
    outputs = as_array(place, "outputs", outputs)
    if outputs.dtype.kind != "f" or not outputs.dtype.isnative:
        raise ValueError(
            f"{place}: outputs must be floats, got {outputs.dtype}. Convert them: outputs.astype(np.float32)"
        )
    return outputs, as_array(place, name, targets)


def check_batch(place: str, outputs: Array) -> None:
    """Raise ValueError for a single number, and for a batch of zero."""
    if outputs.ndim == 0:
        raise ValueError(f"{place}: expected outputs (n, ...), a batch, got a single number. Pass outputs[None]")
    if outputs.size == 0:
        raise ValueError(f"{place}: a batch of zero has no mean, got outputs {outputs.shape}. Skip empty batches")


def check_same_shape(place: str, outputs: Array, targets: Array) -> None:
    """Raise ValueError unless the targets have the outputs' shape, and are some."""
    if outputs.size == 0 or outputs.ndim == 0:
        check_batch(place, outputs)
    if targets.shape != outputs.shape:
        fix = ""
        if (*targets.shape, 1) == outputs.shape:
            fix = ". Pass targets[..., None]"
        elif targets.shape == (*outputs.shape[:1], 1) and targets.dtype.kind in "iu":
            fix = ". Pass class numbers: targets[:, 0]"
        elif targets.shape == outputs.shape[:-1] and targets.dtype.kind in "iu":
            fix = f". Of class numbers make rows, one_hot(targets, {outputs.shape[-1]}), or take softmax_cross_entropy"
        raise ValueError(f"{place}: expected targets of the outputs' shape {outputs.shape}, got {targets.shape}{fix}")


def check_probabilities(place: str, targets: Array) -> None:
    """Raise ValueError unless all targets are from 0 to 1."""
    if is_device_array(targets):
        return  # to look would make the host wait
    low, high = np.minimum.reduce(targets, axis=None), np.maximum.reduce(targets, axis=None)
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{place}: targets must be from 0 to 1, got {low} to {high}. "
            "Pass probabilities, 0 or 1 for a plain yes or no"
        )


# --- Classes --------------------------------------------------------------------------------------------------


def has_class_numbers(place: str, outputs: Array, labels: Array) -> bool:
    """Whether the labels are class numbers (n, ...) of outputs (n, ..., classes), and not distributions.

    Raises ValueError for outputs that are no rows, or none.
    """
    if outputs.ndim < 2 or (labels.ndim == 1 and outputs.ndim > 2):
        raise ValueError(
            f"{place}: expected outputs of shape (n, classes), got {outputs.shape}. "
            "End the net with flatten(), dense(classes)"
        )
    check_batch(place, outputs)
    return labels.ndim == outputs.ndim - 1


def class_numbers(place: str, outputs: Array, labels: Array, ignore: Any) -> tuple[Array, Array | None]:
    """The class numbers of all rows of outputs (n, ..., classes), checked, and which of them count: 1, or 0.

    Those equal to `ignore` do not count, and become 0. Raises ValueError for labels of another shape, no integers, or
    out of range.
    """
    classes = outputs.shape[-1]
    if outputs.ndim > 2:
        if labels.shape != outputs.shape[:-1]:
            raise ValueError(
                f"{place}: expected labels of shape {outputs.shape[:-1]}, one for each position, got {labels.shape}"
            )
        labels = labels.reshape(-1)
    kept = None
    if ignore is not None:
        labels, kept = without(place, labels, ignore)
    check_labels(place, labels, outputs.size // classes, classes)
    return labels.astype(np.intp, copy=False), kept


def without(place: str, labels: Array, ignore: Any) -> tuple[Array, Array]:
    """The labels with 0 for those to ignore, and which of them count: 1, or 0; raises ValueError for what is no int."""
    if type(ignore) is not int:
        refuse(place, "ignore", "an int, the label of what is not to count, or None", ignore)
    counts = labels != ignore
    return np.where(counts, labels, labels.dtype.type(0)), counts.astype(np.float64)


def check_distributions(place: str, labels: Array, fix: str) -> None:
    """Raise ValueError unless the rows of labels (n, classes) are none negative and add to 1 each."""
    if is_device_array(labels):
        return  # to look would make the host wait
    sums = labels.sum(axis=1)
    if not (labels.min() >= 0 and abs(sums - 1).max() <= 1e-3):
        raise ValueError(
            f"{place}: rows of labels must be distributions, none negative and each adding to 1; "
            f"got values from {labels.min()}, sums from {sums.min()} to {sums.max()}. {fix}"
        )


def class_weights_of(place: str, class_weights: Any, classes: int) -> Array:
    """Class weights as an array (classes,); raises ValueError for another number of them, or a negative one."""
    weights = as_array(place, "class_weights", class_weights)
    if weights.shape != (classes,) or not (weights.min() >= 0 and weights.max() < math.inf):
        refuse(place, "class_weights", f"{classes} numbers, one for each class, none negative", class_weights)
    return weights.astype(np.float64)


# --- Options --------------------------------------------------------------------------------------------------


def check_at_least(place: str, name: str, value: Any, least: float = 0.0) -> None:
    """Raise ValueError unless an option is a finite number of at least so much."""
    if not (is_number(value) and least <= value < math.inf):
        refuse(place, name, f"a finite number of at least {least:g}", value)


def check_between(place: str, name: str, value: Any, low: float = 0.0, high: float = 1.0) -> None:
    """Raise ValueError unless an option is a number between two others, which do not count."""
    if not (is_number(value) and low < value < high):
        what = "positive and finite" if (low, high) == (0, math.inf) else f"between {low:g} and {high:g}"
        refuse(place, name, what, value)


def check_flag(place: str, name: str, value: Any) -> None:
    """Raise ValueError unless an option is True or False."""
    if type(value) is not bool:
        refuse(place, name, "True or False", value)
