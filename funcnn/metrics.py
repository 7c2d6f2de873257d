"""Measures of a classifier's outputs; scores, logits and probabilities serve alike."""

import numpy as np

from funcnn.losses import check_labels
from funcnn.tree import Array

__all__ = ["accuracy", "confusion_matrix", "top_k_accuracy"]


def accuracy(outputs: Array, labels: Array) -> float:
    """The share of rows whose largest output is the label's: outputs (n, classes), labels (n,) or (n, classes).

    A row with a NaN is wrong.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5

    Raises ValueError for unfit labels or an empty batch.
    """
    labels = _class_numbers("accuracy", outputs, labels)
    right = outputs.argmax(axis=1) == labels
    if np.isnan(outputs).any():
        right &= ~np.isnan(outputs).any(axis=1)
    return float(np.count_nonzero(right)) / len(labels)


def top_k_accuracy(outputs: Array, labels: Array, k: int) -> float:
    """The share of rows whose label is among the k largest outputs; a tie at the k-th place counts as in.

    >>> top_k_accuracy(np.array([[0.1, 0.5, 0.4], [0.8, 0.2, 0.0]]), np.array([2, 2]), k=2)
    0.5

    Raises ValueError for unfit labels, an empty batch, or k outside 1 to the number of classes.
    """
    labels = _class_numbers("top_k_accuracy", outputs, labels)
    if not 1 <= k <= outputs.shape[1]:
        raise ValueError(f"top_k_accuracy: k must be from 1 to the {outputs.shape[1]} classes, got {k}")
    own = outputs[np.arange(len(labels)), labels][:, None]
    # "Not at most", so that a comparison with NaN counts against the label.
    return float(np.count_nonzero((~(outputs <= own)).sum(axis=1) < k)) / len(labels)


def confusion_matrix(outputs: Array, labels: Array) -> Array:
    """Counts of (true class, predicted class): outputs (n, classes), labels (n,) -> (classes, classes) of ints.

    >>> confusion_matrix(np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), np.array([1, 1, 1]))
    array([[0, 0],
           [1, 2]])

    Raises ValueError for unfit labels, an empty batch, or outputs that are not a number, which predict no class.
    """
    labels = _class_numbers("confusion_matrix", outputs, labels)
    if np.isnan(outputs).any():
        rows = int(np.isnan(outputs).any(axis=1).sum())
        raise ValueError(f"confusion_matrix: {rows} rows of outputs have a NaN, and predict no class. Leave them out")
    classes = outputs.shape[1]
    pairs = labels.astype(np.int64) * classes + outputs.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _class_numbers(place: str, outputs: Array, labels: Array) -> Array:
    if outputs.ndim != 2 or len(outputs) == 0:
        raise ValueError(f"{place}: expected outputs of shape (n, classes) with n > 0, got {outputs.shape}")
    if labels.ndim == 2 and labels.shape == outputs.shape:
        if np.isnan(labels).any():
            raise ValueError(f"{place}: labels have a NaN; give each row a distribution over the classes")
        numbers: Array = labels.argmax(axis=1)
        return numbers
    check_labels(place, labels, *outputs.shape)
    return labels
