"""How often a classifier is right: of outputs where scores, logits and probabilities serve alike, and of yes or no."""

from typing import Any

import numpy as np

from funcnn.checks import as_array
from funcnn.losses.checks import without
from funcnn.metrics.shared import class_rows, flat_weights, over_part, share
from funcnn.settings import is_number, refuse
from funcnn.system.devices import is_device_array
from funcnn.tree import Array

__all__ = ["MOST_CLASSES", "accuracy", "binary_accuracy", "confusion_matrix", "top_k_accuracy"]

MOST_CLASSES = 5_000  # of a confusion matrix, which then takes 200 MB


def accuracy(outputs: Array, labels: Array, weights: Array | None = None, *, ignore: int | None = None) -> Any:
    """The share of rows whose largest output is the label's: outputs (n, ..., classes) -> a float.

    labels (n, ...), or (n, ..., classes). A row with a NaN is wrong. With `weights`, (n,) or (n, ...), or a label to
    `ignore`, it is (share, weight), weight the sum of the weights.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5

    Raises ValueError for unfit labels, an empty batch, or a single output, which leaves nothing to choose.
    """
    rows, numbers, kept = class_rows("accuracy", outputs, labels, ignore)
    right = rows.argmax(axis=1) == numbers
    if is_device_array(rows) or np.isnan(rows).any():
        right &= ~np.isnan(rows).any(axis=1)
    return share("accuracy", right, weights, kept, rows_of=outputs)


def top_k_accuracy(
    outputs: Array, labels: Array, weights: Array | None = None, *, k: int, ignore: int | None = None
) -> Any:
    """The share of rows whose label is among the k largest outputs; a tie at the k-th place counts as in.

    outputs (n, ..., classes), labels (n, ...), or (n, ..., classes); with weights or `ignore` (share, weight).

    >>> top_k_accuracy(np.array([[0.1, 0.5, 0.4], [0.8, 0.2, 0.0]]), np.array([2, 2]), k=2)
    0.5

    Raises ValueError for unfit labels, an empty batch, a single output, or k outside 1 to the number of classes.
    """
    rows, numbers, kept = class_rows("top_k_accuracy", outputs, labels, ignore)
    if not (is_number(k) and 1 <= k <= rows.shape[1]):
        raise ValueError(f"top_k_accuracy: k must be from 1 to the {rows.shape[1]} classes, got {k!r}")
    own = np.take_along_axis(rows, numbers[:, None], axis=1)
    # "Not at most", so that a comparison with NaN counts against the label.
    right = (~(rows <= own)).sum(axis=1) < k
    return share("top_k_accuracy", right, weights, kept, rows_of=outputs)


def binary_accuracy(
    outputs: Array, targets: Array, weights: Array | None = None, *, threshold: float = 0.0, ignore: int | None = None
) -> Any:
    """The share of right answers to yes or no: outputs and targets (n, ...), of one shape, each value a question.

    An output above the threshold says yes, a target above 1/2 means it. Logits, as `sigmoid_cross_entropy` takes them,
    are above 0 where a yes is likelier; for probabilities the threshold is 0.5. A NaN is wrong. With weights, or a
    target to `ignore`, it is (share, weight).

    >>> binary_accuracy(np.array([[2.0, -1.0], [0.5, 3.0]]), np.array([[1, 0], [0, 1]]))
    0.75

    Raises ValueError for an empty batch, or targets of another shape or outside [0, 1].
    """
    outputs, targets = as_array("binary_accuracy", "outputs", outputs), as_array("binary_accuracy", "targets", targets)
    if not is_number(threshold):
        refuse("binary_accuracy", "threshold", "a number", threshold)
    if outputs.ndim == 0 or outputs.size == 0:
        raise ValueError(f"binary_accuracy: expected outputs (n, ...) with n > 0, got {outputs.shape}")
    if outputs.shape != targets.shape:
        fix = ". Pass targets[..., None]" if (*targets.shape, 1) == outputs.shape else ""
        classes = ". For class numbers use accuracy" if targets.ndim == 1 and not fix else fix
        raise ValueError(
            f"binary_accuracy: expected targets of the outputs' shape {outputs.shape}, got {targets.shape}{classes}"
        )
    kept = None
    if ignore is not None:
        targets, kept = without("binary_accuracy", targets, ignore)
    if not (is_device_array(targets) or (targets.min() >= 0 and targets.max() <= 1)):
        raise ValueError(
            f"binary_accuracy: targets must be from 0 to 1, got {targets.min()} to {targets.max()}. "
            "Pass 0 or 1 for no or yes; regression has no accuracy: use metric=None"
        )
    yes = targets > 0.5
    # Either comparison is false of a NaN, which is then wrong.
    right = np.where(yes, outputs > threshold, outputs <= threshold)
    return share("binary_accuracy", right, weights, kept)


@over_part
def confusion_matrix(
    outputs: Array, labels: Array, weights: Array | None = None, *, ignore: int | None = None
) -> Array:
    """Counts of (true class, predicted class): outputs (n, ..., classes), labels (n, ...) -> (classes, classes).

    They are ints, with weights sums of weights.

    >>> confusion_matrix(np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), np.array([1, 1, 1]))
    array([[0, 0],
           [1, 2]])

    Raises ValueError for unfit labels, an empty batch, a single output, more than 5,000 classes, or outputs with a NaN,
    which predict no class.
    """
    rows, numbers, kept = class_rows("confusion_matrix", outputs, labels, ignore)
    classes = rows.shape[1]
    if classes > MOST_CLASSES:
        raise ValueError(
            f"confusion_matrix: expected at most {MOST_CLASSES:,} classes, got {classes:,}, whose matrix would take "
            f"{8 * classes**2 / 1e9:.1f} GB. Use accuracy or top_k_accuracy"
        )
    if np.isnan(rows).any():
        bad = int(np.isnan(rows).any(axis=1).sum())
        raise ValueError(f"confusion_matrix: {bad} rows of outputs have a NaN, and predict no class. Leave them out")
    pairs = numbers.astype(np.int64) * classes + rows.argmax(axis=1)
    if weights is None and kept is not None:
        pairs, kept = pairs[kept > 0], None
    by_position = flat_weights("confusion_matrix", weights, np.shape(outputs)[:-1], kept)
    return np.bincount(pairs, by_position, minlength=classes * classes).reshape(classes, classes)
