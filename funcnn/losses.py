"""Losses: ``loss(outputs, targets) -> (value, d_outputs)``.

Each is a mean over the batch. `value` is a Python float summed in float64, `d_outputs` its gradient in the
outputs, in their dtype. Options are keywords: ``functools.partial(softmax_cross_entropy, label_smoothing=0.1)``.

Labels are class numbers (n,) of any integer dtype, or a distribution over the classes per example (n, classes).
What is no array yet, a list or a Series of labels, is taken by `funcnn.checks.as_array`. Every loss raises ValueError,
with what it expected and what came, for outputs that are no floats, an empty batch, targets of another shape, and
labels of a wrong dtype or out of range. What is too small for the dtype is 0, under any ``np.seterr``.
"""

import math
from collections.abc import Callable

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import wide
from funcnn.checks import as_array, check_distributions, check_labels
from funcnn.nn.activations import stable_sigmoid
from funcnn.settings import is_number
from funcnn.tree import Array

__all__ = [
    "Loss", "mean_squared_error", "multiclass_hinge", "sigmoid_cross_entropy", "softmax_cross_entropy",
]  # fmt: skip

Loss = Callable[[Array, Array], tuple[float, Array]]


@underflow_is_zero
def softmax_cross_entropy(logits: Array, labels: Array, *, label_smoothing: float = 0.0) -> tuple[float, Array]:
    """-mean_n Σ_c t[n, c] · log softmax(logits)[n, c]; d_logits = (softmax(logits) - t) / n.

    logits (n, classes), labels (n,) or (n, classes). The targets t are the labels as one-hot rows, mixed with the
    uniform distribution: (1 - s) · t + s / classes (Szegedy et al. 2016). Each row's largest logit is subtracted first,
    so no logit is too large.

    >>> value, d_logits = softmax_cross_entropy(np.array([[1000.0, 1000.0]]), np.array([0]))
    >>> round(value, 4), d_logits
    (0.6931, array([[-0.5,  0.5]]))

    Raises ValueError for unfit targets, or smoothing outside [0, 1].
    """
    if not (is_number(label_smoothing) and 0 <= label_smoothing <= 1):
        raise ValueError(f"softmax_cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    logits, labels = _arrays("softmax_cross_entropy", "labels", logits, labels)
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
        _check_targets("softmax_cross_entropy", logits, labels)
        check_distributions(
            "softmax_cross_entropy", labels, "For several yes or no an example use sigmoid_cross_entropy"
        )
        # A class of probability 0 counts nothing, also where its log-likelihood is -inf.
        terms = np.multiply(labels, shifted, where=labels > 0, out=np.zeros_like(shifted), casting="same_kind")
        likelihood = on * float(terms.sum(dtype=np.float64))
        d_logits -= np.multiply(labels, on, dtype=logits.dtype)
    if label_smoothing:
        likelihood += off * float(shifted.sum(dtype=np.float64))
        d_logits -= off
    d_logits *= 1 / n
    return 0.0 - likelihood / n, d_logits  # not -likelihood, which would print a certain answer's loss as -0.0


@underflow_is_zero
def multiclass_hinge(scores: Array, labels: Array, *, margin: float = 1.0) -> tuple[float, Array]:
    """mean_n Σ_{c ≠ label} max(0, scores[n, c] - scores[n, label] + margin) (Weston & Watkins 1999).

    scores (n, classes), labels (n,). d_scores is 1/n for every class within the margin, and minus the sum of these for
    the label; a class exactly at the margin counts nothing.

    >>> value, d_scores = multiclass_hinge(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    >>> value, d_scores
    (0.5, array([[-1.,  1.,  0.]]))

    Raises ValueError for unfit labels, or a margin that is not positive.
    """
    if not (is_number(margin) and math.isfinite(margin) and margin > 0):
        raise ValueError(f"multiclass_hinge: margin must be positive and finite, got {margin!r}")
    scores, labels = _arrays("multiclass_hinge", "labels", scores, labels)
    _check_rows("multiclass_hinge", scores)
    n, classes = scores.shape
    check_labels("multiclass_hinge", labels, n, classes)
    rows = np.arange(n)
    excess = scores - scores[rows, labels][:, None]
    excess += margin
    excess[rows, labels] = 0
    np.maximum(excess, 0, out=excess)
    value = float(excess.sum(dtype=np.float64)) / n
    within = excess > 0
    d_scores = within.astype(scores.dtype)
    d_scores[rows, labels] = -np.count_nonzero(within, axis=1)
    d_scores *= 1 / n
    return value, d_scores


@underflow_is_zero
def mean_squared_error(outputs: Array, targets: Array) -> tuple[float, Array]:
    """The mean of (outputs - targets)² over the batch and each example's values; d = 2 (outputs - targets) / size.

    outputs and targets (n, ...), of one shape.

    >>> value, d_outputs = mean_squared_error(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]))
    >>> value, d_outputs
    (2.5, array([[1., 2.]]))

    Raises ValueError for an empty batch or targets of another shape.
    """
    outputs, targets = _arrays("mean_squared_error", "targets", outputs, targets)
    _check_targets("mean_squared_error", outputs, targets)
    difference = np.subtract(outputs, targets, dtype=outputs.dtype)
    value = float(np.square(wide(difference)).sum(dtype=np.float64)) / outputs.size
    difference *= 2 / outputs.size
    return value, difference


@underflow_is_zero
def sigmoid_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """The mean of -t · log σ(x) - (1 - t) · log(1 - σ(x)) over the batch and each example's values.

    logits x and targets t in [0, 1] (n, ...), of one shape. Computed as max(x, 0) - x · t + log(1 + exp(-|x|));
    d = (σ(x) - t) / size.

    >>> value, d_logits = sigmoid_cross_entropy(np.array([[0.0, 1000.0]]), np.array([[1.0, 1.0]]))
    >>> round(value, 4), d_logits
    (0.3466, array([[-0.25,  0.  ]]))

    Raises ValueError for an empty batch, or targets of another shape or outside [0, 1].
    """
    logits, targets = _arrays("sigmoid_cross_entropy", "targets", logits, targets)
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


def _arrays(place: str, name: str, outputs: Array, targets: Array) -> tuple[Array, Array]:
    outputs = as_array(place, "outputs", outputs)
    if outputs.dtype.kind != "f" or not outputs.dtype.isnative:
        raise ValueError(
            f"{place}: outputs must be floats, got {outputs.dtype}. Convert them: outputs.astype(np.float32)"
        )
    return outputs, as_array(place, name, targets)


def _check_rows(place: str, outputs: Array) -> None:
    if outputs.ndim != 2:
        raise ValueError(
            f"{place}: expected outputs of shape (n, classes), got {outputs.shape}. "
            "End the net with flatten(), dense(classes)"
        )
    _check_batch(place, outputs)


def _check_batch(place: str, outputs: Array) -> None:
    if outputs.ndim == 0:
        raise ValueError(f"{place}: expected outputs (n, ...), a batch, got a single number. Pass outputs[None]")
    if outputs.size == 0:
        raise ValueError(f"{place}: a batch of zero has no mean, got outputs {outputs.shape}. Skip empty batches")


def _check_targets(place: str, outputs: Array, targets: Array) -> None:
    _check_batch(place, outputs)
    if targets.shape != outputs.shape:
        fix = ""
        if (*targets.shape, 1) == outputs.shape:
            fix = ". Pass targets[..., None]"
        elif targets.shape == (*outputs.shape[:1], 1) and targets.dtype.kind in "iu":
            fix = ". Pass class numbers: targets[:, 0]"
        raise ValueError(f"{place}: expected targets of the outputs' shape {outputs.shape}, got {targets.shape}{fix}")
