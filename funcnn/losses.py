"""Losses: ``loss(outputs, targets) -> (value, d_outputs)``.

Each is a mean over the batch. `value` is a Python float summed in float64, `d_outputs` its gradient in the
outputs, in their dtype. Options are keywords: ``functools.partial(softmax_cross_entropy, label_smoothing=0.1)``.

Labels are class numbers (n,) of any integer dtype, or a distribution over the classes per example (n, classes).
Every loss raises ValueError, with what it expected and what came, for an empty batch, targets of another shape,
and labels of a wrong dtype or out of range.
"""

import math
from collections.abc import Callable

import numpy as np

from funcnn.nn.activations import stable_sigmoid
from funcnn.tree import Array

__all__ = [
    "Loss", "check_labels", "mean_squared_error", "multiclass_hinge", "sigmoid_cross_entropy", "softmax_cross_entropy",
]  # fmt: skip

Loss = Callable[[Array, Array], tuple[float, Array]]


def softmax_cross_entropy(logits: Array, labels: Array, *, label_smoothing: float = 0.0) -> tuple[float, Array]:
    """-mean_n Σ_c t[n, c] · log softmax(logits)[n, c]; d_logits = (softmax(logits) - t) / n.

    logits (n, classes), labels (n,) or (n, classes). The targets t are the labels as one-hot rows, mixed with the
    uniform distribution: (1 - s) · t + s / classes (Szegedy et al. 2016). The softmax is fused with the logarithm
    and finite wherever the differences within a row are: no logit is too large for it.

    >>> value, d_logits = softmax_cross_entropy(np.array([[1000.0, 1000.0]]), np.array([0]))
    >>> round(value, 4), d_logits
    (0.6931, array([[-0.5,  0.5]]))

    Raises ValueError for unfit targets, or smoothing outside [0, 1].
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"softmax_cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing}")
    _check_rows("softmax_cross_entropy", logits)
    n, classes = logits.shape
    shifted = logits - logits.max(axis=1, keepdims=True)
    d_logits = np.exp(shifted)
    total = d_logits.sum(axis=1, keepdims=True)
    d_logits /= total
    shifted -= np.log(total, out=total)  # now the log-likelihoods
    on, off = 1 - label_smoothing, label_smoothing / classes
    if labels.ndim == 1:
        check_labels("softmax_cross_entropy", labels, n, classes)
        rows = np.arange(n)
        likelihood = on * float(shifted[rows, labels].sum(dtype=np.float64))
        d_logits[rows, labels] -= on
    else:
        _check_distribution("softmax_cross_entropy", labels, logits)
        # A class of probability 0 counts nothing, also where its log-likelihood is -inf.
        terms = np.multiply(labels, shifted, where=labels > 0, out=np.zeros_like(shifted), casting="same_kind")
        likelihood = on * float(terms.sum(dtype=np.float64))
        d_logits -= np.multiply(labels, on, dtype=logits.dtype)
    if label_smoothing:
        likelihood += off * float(shifted.sum(dtype=np.float64))
        d_logits -= off
    d_logits *= 1 / n
    return 0.0 - likelihood / n, d_logits  # not -likelihood, which would print a certain answer's loss as -0.0


def multiclass_hinge(scores: Array, labels: Array, *, margin: float = 1.0) -> tuple[float, Array]:
    """mean_n Σ_{c ≠ label} max(0, scores[n, c] - scores[n, label] + margin) (Weston & Watkins 1999).

    scores (n, classes), labels (n,). d_scores is 1/n for every class within the margin, less their count / n for
    the label; a class exactly at the margin counts nothing.

    >>> value, d_scores = multiclass_hinge(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    >>> value, d_scores
    (0.5, array([[-1.,  1.,  0.]]))

    Raises ValueError for unfit labels, or a margin that is not positive.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"multiclass_hinge: margin must be positive and finite, got {margin}")
    _check_rows("multiclass_hinge", scores)
    n, classes = scores.shape
    check_labels("multiclass_hinge", labels, n, classes)
    rows = np.arange(n)
    excess = scores - scores[rows, labels][:, None]
    excess += margin
    excess[rows, labels] = 0
    np.maximum(excess, 0, out=excess)
    value = float(excess.sum(dtype=np.float64)) / n
    d_scores = (excess > 0).astype(scores.dtype)
    d_scores[rows, labels] = -d_scores.sum(axis=1)
    d_scores *= 1 / n
    return value, d_scores


def mean_squared_error(outputs: Array, targets: Array) -> tuple[float, Array]:
    """The mean of (outputs - targets)² over the batch and each example's values; d = 2 (outputs - targets) / size.

    outputs and targets (n, ...), of one shape.

    >>> value, d_outputs = mean_squared_error(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]))
    >>> value, d_outputs
    (2.5, array([[1., 2.]]))

    Raises ValueError for an empty batch or targets of another shape.
    """
    _check_targets("mean_squared_error", outputs, targets)
    difference = np.subtract(outputs, targets, dtype=outputs.dtype)
    value = float(np.square(difference).sum(dtype=np.float64)) / outputs.size
    difference *= 2 / outputs.size
    return value, difference


def sigmoid_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """The mean of -t · log σ(x) - (1 - t) · log(1 - σ(x)) over the batch and each example's values.

    logits x and targets t in [0, 1] (n, ...), of one shape. Computed as max(x, 0) - x · t + log(1 + exp(-|x|));
    d = (σ(x) - t) / size.

    >>> value, d_logits = sigmoid_cross_entropy(np.array([[0.0, 1000.0]]), np.array([[1.0, 1.0]]))
    >>> round(value, 4), d_logits
    (0.3466, array([[-0.25,  0.  ]]))

    Raises ValueError for an empty batch, or targets of another shape or outside [0, 1].
    """
    _check_targets("sigmoid_cross_entropy", logits, targets)
    if not (targets.min() >= 0 and targets.max() <= 1):
        raise ValueError(
            f"sigmoid_cross_entropy: targets must be from 0 to 1, got {targets.min()} to {targets.max()}. "
            "Pass probabilities, 0 or 1 for a plain yes or no"
        )
    terms = np.maximum(logits, 0)
    terms -= logits * targets
    terms += np.log1p(np.exp(-np.abs(logits)))
    d_logits = stable_sigmoid(logits)
    d_logits -= targets
    d_logits *= 1 / logits.size
    return float(terms.sum(dtype=np.float64)) / logits.size, d_logits


# --- Checks ---------------------------------------------------------------------------------------------------


def check_labels(place: str, labels: Array, n: int, classes: int) -> None:
    """Raise ValueError unless `labels` are `n` class numbers below `classes`."""
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"{place}: labels must be class numbers of an integer dtype, got {labels.dtype}. "
            "Convert them: labels.astype(np.int64)"
        )
    if labels.shape != (n,):
        raise ValueError(f"{place}: expected labels of shape ({n},), one for each output row, got {labels.shape}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"{place}: labels must be from 0 to {classes - 1}, got {low} to {high}. "
            f"Number the classes from 0, and give the net at least {high - min(low, 0) + 1} outputs"
        )


def _check_rows(place: str, outputs: Array) -> None:
    if outputs.ndim != 2:
        raise ValueError(
            f"{place}: expected outputs of shape (n, classes), got {outputs.shape}. "
            "End the net with flatten(), dense(classes)"
        )
    _check_batch(place, outputs)


def _check_batch(place: str, outputs: Array) -> None:
    if outputs.size == 0:
        raise ValueError(f"{place}: a batch of zero has no mean, got outputs {outputs.shape}. Skip empty batches")


def _check_targets(place: str, outputs: Array, targets: Array) -> None:
    _check_batch(place, outputs)
    if targets.shape != outputs.shape:
        raise ValueError(f"{place}: expected targets of the outputs' shape {outputs.shape}, got {targets.shape}")


def _check_distribution(place: str, labels: Array, logits: Array) -> None:
    _check_targets(place, logits, labels)
    sums = labels.sum(axis=1)
    if not (labels.min() >= 0 and abs(sums - 1).max() <= 1e-3):
        raise ValueError(
            f"{place}: rows of labels must be distributions, none negative and each adding to 1; "
            f"got values from {labels.min()}, sums from {sums.min()} to {sums.max()}"
        )
