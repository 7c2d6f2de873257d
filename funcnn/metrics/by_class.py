"""Precision, recall and F1 of each class, and their means: over a whole part, as what `predict` gives.

Of class c, tp is how often it was predicted rightly, predicted how often at all, support how often it is the label:

    precision = tp / predicted        recall = tp / support        F1 = 2 tp / (predicted + support),

each 0 where nothing is divided by nothing. The largest output of a row (n, ..., classes) is its prediction, and a row
with a NaN predicts none. With a `threshold` each value is a question by itself, as to `binary_accuracy`: outputs and
targets (n,) or (n, questions) of one shape, yes above the threshold, and each column is a class.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np

from funcnn.checks import as_array
from funcnn.losses.checks import check_probabilities, check_same_shape, without
from funcnn.losses.reduce import check_weights
from funcnn.metrics.shared import class_rows, flat_weights, over_part
from funcnn.settings import is_number, refuse
from funcnn.tree import Array

__all__ = ["PerClass", "f1", "per_class_table", "precision", "recall"]


@over_part
def precision(
    outputs: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    average: str = "macro",
    threshold: float | None = None,
    ignore: int | None = None,
) -> float | Array:
    """How much of what is predicted as a class is one: tp / predicted.

    `average` is "macro", the mean over the classes that occur or are predicted, with a threshold over all questions;
    "weighted", over all by their support; "micro", of the sums over the classes; "none", an array of each class's.

    >>> outputs, labels = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])
    >>> precision(outputs, labels), precision(outputs, labels, average="none")
    (0.75, array([0.5, 1. ]))

    Raises ValueError for unfit targets, an empty batch, a single output without a threshold, another average.
    """
    counts = _counts("precision", outputs, targets, weights, threshold, ignore)
    return _averaged("precision", _precision, counts, average)


@over_part
def recall(
    outputs: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    average: str = "macro",
    threshold: float | None = None,
    ignore: int | None = None,
) -> float | Array:
    """How much of a class is predicted as it: tp / support; averages as of `precision`.

    >>> outputs, labels = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])
    >>> recall(outputs, labels), recall(outputs, labels, average="none")
    (0.75, array([1. , 0.5]))

    Raises ValueError for unfit targets, an empty batch, a single output without a threshold, another average.
    """
    counts = _counts("recall", outputs, targets, weights, threshold, ignore)
    return _averaged("recall", _recall, counts, average)


@over_part
def f1(
    outputs: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    average: str = "macro",
    threshold: float | None = None,
    ignore: int | None = None,
) -> float | Array:
    """The harmonic mean of precision and recall: 2 tp / (predicted + support); averages as of `precision`.

    >>> logits, answers = np.array([2.0, -1.0, 0.5, 3.0]), np.array([1, 1, 0, 1])
    >>> round(f1(logits, answers, threshold=0.0), 4)
    0.6667

    Raises ValueError for unfit targets, an empty batch, a single output without a threshold, another average.
    """
    return _averaged("f1", _f1, _counts("f1", outputs, targets, weights, threshold, ignore), average)


@attrs.frozen(eq=False)
class PerClass:
    """Precision, recall, F1 and support of each class, arrays (classes,); printed, it is a table."""

    names: tuple[str, ...]
    precision: Array
    recall: Array
    f1: Array
    support: Array

    def __str__(self) -> str:
        width = max(len("class"), *map(len, self.names))
        columns = zip(self.names, self.precision, self.recall, self.f1, self.support, strict=True)
        return "\n".join(
            [f"{'class':{width}}  precision  recall     f1  support"]
            + [f"{name:{width}}  {p:9.4f}  {r:6.4f}  {f:5.3f}  {s:7,g}" for name, p, r, f, s in columns]
        )


@over_part
def per_class_table(
    outputs: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    names: Sequence[str] = (),
    threshold: float | None = None,
    ignore: int | None = None,
) -> PerClass:
    """Precision, recall, F1 and support of each class, as a record that prints as a table.

    >>> outputs, labels = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])
    >>> print(per_class_table(outputs, labels, names=["cat", "dog"]))
    class  precision  recall     f1  support
    cat       0.5000  1.0000  0.667        1
    dog       1.0000  0.5000  0.667        2

    Raises ValueError for unfit targets, an empty batch, a single output without a threshold, another number of names.
    """
    counts = _counts("per_class_table", outputs, targets, weights, threshold, ignore)
    named = tuple(map(str, names)) or tuple(map(str, range(len(counts.support))))
    if len(named) != len(counts.support):
        refuse("per_class_table", "names", f"{len(counts.support)}, one for each class", names)
    return PerClass(named, _precision(counts), _recall(counts), _f1(counts), counts.support)


# --- What they share ------------------------------------------------------------------------------------------


class _Counts(NamedTuple):
    """Of each class, or of all together: rightly predicted, predicted, and labels, sums of weights.

    `everywhere` says that a class counts in the mean also where it neither occurs nor is predicted.
    """

    right: Array
    predicted: Array
    support: Array
    everywhere: bool


def _counts(place: str, outputs: Any, targets: Any, weights: Any, threshold: Any, ignore: Any) -> _Counts:
    if threshold is not None:
        return _answers(place, outputs, targets, weights, threshold, ignore)
    outputs = as_array(place, "outputs", outputs)
    if outputs.ndim == 1 or outputs.shape[-1:] == (1,):
        raise ValueError(
            f"{place}: outputs {outputs.shape} are for one class. Pass threshold=0.0 for logits of yes or no, "
            "0.5 for probabilities"
        )
    rows, numbers, kept = class_rows(place, outputs, targets, ignore)
    classes = rows.shape[1]
    by_row = flat_weights(place, weights, outputs.shape[:-1], kept)
    counted = np.ones(len(rows)) if by_row is None else by_row
    said, known = rows.argmax(axis=1), np.logical_not(np.isnan(rows).any(axis=1))
    right = np.logical_and(known, said == numbers)

    def summed(of: Array, where: Array) -> Array:
        return np.bincount(of[where], counted[where], minlength=classes)

    return _Counts(summed(numbers, right), summed(said, known), summed(numbers, np.ones(len(rows), bool)), False)


def _answers(place: str, outputs: Any, targets: Any, weights: Any, threshold: Any, ignore: Any) -> _Counts:
    """The counts of questions, each column a class that says yes."""
    outputs, targets = as_array(place, "outputs", outputs), as_array(place, "targets", targets)
    if not is_number(threshold):
        refuse(place, "threshold", "a number, or None for the largest output", threshold)
    check_same_shape(place, outputs, targets)
    if outputs.ndim > 2:
        raise ValueError(f"{place}: expected outputs (n,) or (n, questions) with a threshold, got {outputs.shape}")
    counted = np.ones(len(outputs)) if weights is None else check_weights(place, weights, outputs.shape)
    counted = np.broadcast_to(counted.reshape(len(outputs), -1), (len(outputs), outputs.size // len(outputs)))
    outputs, targets = outputs.reshape(counted.shape), targets.reshape(counted.shape)
    if ignore is not None:
        targets, kept = without(place, targets, ignore)
        counted = counted * kept
    check_probabilities(place, targets)
    yes, said = targets > 0.5, outputs > threshold
    right, predicted, support = ((counted * each).sum(axis=0) for each in (yes & said, said, yes))
    return _Counts(right, predicted, support, True)


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, where=whole > 0, out=np.zeros(np.shape(part)))


def _precision(counts: _Counts) -> Array:
    return _share(counts.right, counts.predicted)


def _recall(counts: _Counts) -> Array:
    return _share(counts.right, counts.support)


def _f1(counts: _Counts) -> Array:
    return _share(2 * counts.right, counts.predicted + counts.support)


def _averaged(place: str, measure: Callable[[_Counts], Array], counts: _Counts, average: str) -> float | Array:
    if average == "none":
        return measure(counts)
    if average == "micro":
        right, predicted, support = (np.asarray(each.sum()) for each in counts[:3])
        return float(measure(_Counts(right, predicted, support, True)))
    values = measure(counts)
    if average == "macro":
        there = (counts.predicted + counts.support > 0) | counts.everywhere
        return float(values[there].mean()) if there.any() else 0.0
    if average == "weighted":
        total = float(counts.support.sum())
        return float((values * counts.support).sum()) / total if total else 0.0
    return refuse(place, "average", "'macro', 'weighted', 'micro' or 'none'", average)
