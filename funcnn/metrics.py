"""Measures of a net's outputs: of a classifier's, where scores, logits and probabilities serve alike, and of yes or no.

Each raises ValueError for what it does not measure, and names the metric that does.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from funcnn.checks import as_array, check_distributions, check_labels
from funcnn.losses import Loss, mean_squared_error, multiclass_hinge, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.settings import is_number, refuse
from funcnn.tree import Array

__all__ = [
    "MOST_CLASSES", "Metric", "accuracy", "binary_accuracy", "confusion_matrix", "default_metric", "top_k_accuracy",
]  # fmt: skip

Metric = Callable[[Array, Array], float]
MOST_CLASSES = 5_000  # of a confusion matrix, which then takes 200 MB


def accuracy(outputs: Array, labels: Array) -> float:
    """The share of rows whose largest output is the label's: outputs (n, classes), labels (n,) or (n, classes).

    A row with a NaN is wrong.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5

    Raises ValueError for unfit labels, an empty batch, or a single output, which leaves nothing to choose.
    """
    outputs, labels = _class_numbers("accuracy", outputs, labels)
    right = outputs.argmax(axis=1) == labels
    if np.isnan(outputs).any():
        right &= ~np.isnan(outputs).any(axis=1)
    return float(np.count_nonzero(right)) / len(labels)


def top_k_accuracy(outputs: Array, labels: Array, k: int) -> float:
    """The share of rows whose label is among the k largest outputs; a tie at the k-th place counts as in.

    >>> top_k_accuracy(np.array([[0.1, 0.5, 0.4], [0.8, 0.2, 0.0]]), np.array([2, 2]), k=2)
    0.5

    Raises ValueError for unfit labels, an empty batch, a single output, or k outside 1 to the number of classes.
    """
    outputs, labels = _class_numbers("top_k_accuracy", outputs, labels)
    if not (is_number(k) and 1 <= k <= outputs.shape[1]):
        raise ValueError(f"top_k_accuracy: k must be from 1 to the {outputs.shape[1]} classes, got {k!r}")
    own = outputs[np.arange(len(labels)), labels][:, None]
    # "Not at most", so that a comparison with NaN counts against the label.
    return float(np.count_nonzero((~(outputs <= own)).sum(axis=1) < k)) / len(labels)


def binary_accuracy(outputs: Array, targets: Array, *, threshold: float = 0.0) -> float:
    """The share of right answers to yes or no: outputs and targets (n, ...), of one shape, each value a question.

    An output above the threshold says yes, a target above 1/2 means it. Logits, as `sigmoid_cross_entropy` takes them,
    are above 0 where a yes is likelier; for probabilities the threshold is 0.5. A NaN is wrong.

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
    if not (targets.min() >= 0 and targets.max() <= 1):
        raise ValueError(
            f"binary_accuracy: targets must be from 0 to 1, got {targets.min()} to {targets.max()}. "
            "Pass 0 or 1 for no or yes; regression has no accuracy: use metric=None"
        )
    yes = targets > 0.5
    # Either comparison is false of a NaN, which is then wrong.
    right = np.where(yes, outputs > threshold, outputs <= threshold)
    return float(np.count_nonzero(right)) / right.size


def confusion_matrix(outputs: Array, labels: Array) -> Array:
    """Counts of (true class, predicted class): outputs (n, classes), labels (n,) -> (classes, classes) of ints.

    >>> confusion_matrix(np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), np.array([1, 1, 1]))
    array([[0, 0],
           [1, 2]])

    Raises ValueError for unfit labels, an empty batch, a single output, more than 5,000 classes, or outputs with a NaN,
    which predict no class.
    """
    outputs, labels = _class_numbers("confusion_matrix", outputs, labels)
    classes = outputs.shape[1]
    if classes > MOST_CLASSES:
        raise ValueError(
            f"confusion_matrix: expected at most {MOST_CLASSES:,} classes, got {classes:,}, whose matrix would take "
            f"{8 * classes**2 / 1e9:.1f} GB. Use accuracy or top_k_accuracy"
        )
    if np.isnan(outputs).any():
        rows = int(np.isnan(outputs).any(axis=1).sum())
        raise ValueError(f"confusion_matrix: {rows} rows of outputs have a NaN, and predict no class. Leave them out")
    pairs = labels.astype(np.int64) * classes + outputs.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def default_metric(loss: Loss) -> Metric | None:
    """The metric that goes with a loss, with options of its own or not; None for a regression's.

    >>> default_metric(sigmoid_cross_entropy).__name__, default_metric(mean_squared_error)
    ('binary_accuracy', None)

    A loss that is not of `funcnn.losses` is taken for a classifier's.
    """
    while isinstance(loss, partial):
        loss = loss.func
    return next((metric for known, metric in _METRICS if known is loss), accuracy)


_METRICS: tuple[tuple[Loss, Metric | None], ...] = (
    (softmax_cross_entropy, accuracy),
    (multiclass_hinge, accuracy),
    (sigmoid_cross_entropy, binary_accuracy),
    (mean_squared_error, None),
)


# --- Checks ---------------------------------------------------------------------------------------------------


def _class_numbers(place: str, outputs: Array, labels: Array) -> tuple[Array, Array]:
    """The outputs, and a class number for each row."""
    outputs, labels = as_array(place, "outputs", outputs), as_array(place, "labels", labels)
    if outputs.ndim != 2 or len(outputs) == 0:
        raise ValueError(f"{place}: expected outputs of shape (n, classes) with n > 0, got {outputs.shape}")
    if outputs.shape[1] < 2:
        raise ValueError(
            f"{place}: expected outputs for two classes or more, got {outputs.shape}: a choice of one is always right. "
            "Use binary_accuracy for one output that says yes or no, metric=None for regression"
        )
    if labels.ndim == 2 and labels.shape == outputs.shape:
        if np.isnan(labels).any():
            raise ValueError(f"{place}: labels have a NaN; give each row a distribution over the classes")
        check_distributions(
            place, labels, "For several yes or no an example use binary_accuracy, for regression metric=None"
        )
        return outputs, labels.argmax(axis=1)
    check_labels(place, labels, *outputs.shape)
    return outputs, labels
