"""Losses of classifiers: outputs (n, ..., classes), one row of scores for each example or each position."""

import math
from typing import Any

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import contiguous
from funcnn.arrays.softmax import cross_entropy_rows, log_softmax_rows, own_places
from funcnn.arrays.weighing import product_where
from funcnn.losses.checks import (
    check_at_least,
    check_between,
    check_distributions,
    check_same_shape,
    class_numbers,
    class_weights_of,
    floats_and,
    has_class_numbers,
)
from funcnn.losses.reduce import Addend, Result, reduce
from funcnn.settings import is_number
from funcnn.system.devices import beside
from funcnn.tree import Array

__all__ = ["kl_divergence", "multiclass_hinge", "softmax_cross_entropy", "softmax_focal"]


@underflow_is_zero
def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    class_weights: Any = None,
    ignore: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Result:
    """-mean_n Σ_c t[n, c] · log softmax(logits)[n, c]; d_logits = (softmax(logits) - t) / n.

    logits (n, ..., classes), labels (n, ...) or (n, ..., classes): the mean is over all positions. The targets t are
    the labels as one-hot rows, mixed with the uniform distribution: (1 - s) · t + s / classes (Szegedy et al. 2016).
    Each row's largest logit is subtracted first, so no logit is too large. The class number `ignore` does not count.

    With `class_weights` v a row's term is -Σ_c v[c] · t[n, c] · log p[n, c], and the mean is over the weights of the
    labels, Σ_n term / Σ_n v[label[n]]; of distributions over Σ_n Σ_c v[c] · t[n, c], where PyTorch's is over n.

    >>> value, d_logits = softmax_cross_entropy(np.array([[1000.0, 1000.0]]), np.array([0]))
    >>> round(value, 4), d_logits
    (0.6931, array([[-0.5,  0.5]]))

    Raises ValueError for unfit targets or class weights, smoothing outside [0, 1], `ignore` with distributions.
    """
    place = "softmax_cross_entropy"
    if not (is_number(label_smoothing) and 0 <= label_smoothing <= 1):
        raise ValueError(f"{place}: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    logits, labels = floats_and(place, "labels", logits, labels)
    kept = norms = None
    if has_class_numbers(place, logits, labels):
        labels, kept = class_numbers(place, logits, labels, ignore)
    else:
        labels = _distributions(place, logits, labels, ignore)
    if class_weights is None:
        of_rows = cross_entropy_rows if labels.ndim == 1 else _cross_entropy
        terms, slopes = of_rows(_rows(logits), labels, label_smoothing)
    else:
        log_p, slopes = _log_softmax(logits)
        by_class = beside(class_weights_of(place, class_weights, logits.shape[-1]), logits)
        terms, norms = _weighed_cross_entropy(log_p, slopes, labels, label_smoothing, by_class)
    return reduce(
        place, terms, slopes.reshape(logits.shape), logits.shape[:-1], weights, reduction, own=kept, norms=norms
    )


def _cross_entropy(rows: Array, targets: Array, smoothing: float) -> tuple[tuple[Addend, ...], Array]:
    """The terms and slopes of rows of logits and distributions, (m, classes) both."""
    log_p, p = log_softmax_rows(rows)
    on, off = 1 - smoothing, smoothing / p.shape[1]
    # A class of probability 0 counts nothing, also where its log-likelihood is -inf.
    each = product_where(targets > 0, targets, log_p)
    p -= np.multiply(targets, on, dtype=p.dtype)
    if not smoothing:
        return ((-on, each),), p
    p -= off
    return ((-on, each), (-off, log_p)), p


def _weighed_cross_entropy(
    log_p: Array, p: Array, labels: Array, smoothing: float, by_class: Array
) -> tuple[tuple[Addend, ...], Array]:
    """The terms with class weights, and what each counts in the mean; p becomes the slopes.

    Of targets t and weights v: -Σ_c v[c] · t[c] · log p[c], whose slope is p · Σ_c v[c] · t[c] - v · t.
    """
    on, off = 1 - smoothing, smoothing / len(by_class)
    weights = by_class.astype(p.dtype)
    if labels.ndim == 1:
        own, each = own_places(log_p, labels)
        norms = by_class[labels]
        each = product_where(norms > 0, each, norms)
        p *= (on * norms + off * by_class.sum()).astype(p.dtype)[:, None]
        p.reshape(-1)[own] -= on * norms
    else:
        shares = np.multiply(labels, weights, dtype=p.dtype, casting="same_kind")
        norms = shares.sum(axis=1, dtype=np.float64)
        each = product_where(shares > 0, shares, log_p)
        p *= (on * norms + off * by_class.sum()).astype(p.dtype)[:, None]
        shares *= on
        p -= shares
    if not smoothing:
        return ((-on, each),), norms
    p -= off * weights
    return ((-on, each), (-off, product_where(weights > 0, weights, log_p))), norms


@underflow_is_zero
def softmax_focal(
    logits: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    gamma: float = 2.0,
    class_weights: Any = None,
    ignore: int | None = None,
    reduction: str = "mean",
) -> Result:
    """-mean_n (1 - p)^gamma · log p, p = softmax(logits)[n, label[n]]: what is right already counts less.

    logits (n, ..., classes), labels (n, ...), class numbers (Lin et al. 2017, whose balance by class is
    `class_weights`). d_logits = g · (softmax(logits) - t) / n, g = (1 - p)^gamma - gamma · p · (1 - p)^(gamma - 1) ·
    log p. With gamma = 0 it is `softmax_cross_entropy`, class weights and all.

    >>> value, d_logits = softmax_focal(np.array([[0.0, 0.0]]), np.array([0]))
    >>> round(value, 4) == round(0.25 * math.log(2), 4)
    True

    Raises ValueError for unfit labels or class weights, or a negative gamma.
    """
    place = "softmax_focal"
    check_at_least(place, "gamma", gamma)
    logits, labels = floats_and(place, "labels", logits, labels)
    numbers, counts = _only_numbers(place, logits, labels, class_weights, ignore)
    log_p, slopes = _log_softmax(logits)
    places, log_own = own_places(log_p, numbers)
    flat = slopes.reshape(-1)
    own = flat[places]
    left = -np.expm1(log_own)  # 1 - p, accurate near p = 1
    easing = left**gamma
    # -log p / (1 - p), 1 in the limit p = 1: so no power of 1 - p is negative.
    ratio = np.where(left > 0, -log_own / np.where(left > 0, left, 1), 1)
    flat[places] -= 1
    slopes *= (easing * (1 + gamma * own * ratio))[:, None]
    terms = ((-1.0, easing * log_own),)
    return reduce(place, terms, slopes.reshape(logits.shape), logits.shape[:-1], weights, reduction, own=counts)


@underflow_is_zero
def kl_divergence(logits: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean") -> Result:
    """mean_n Σ_c t[n, c] · log(t[n, c] / p[n, c]), p = softmax(logits); d_logits = (p - t) / n.

    logits and targets (n, ..., classes), the targets distributions, such as another net's (Kullback & Leibler 1951).
    It is 0 where p = t, and differs from `softmax_cross_entropy` by the targets' entropy. Log-probabilities are logits
    as well: of these, which alone PyTorch's takes, both give the same, PyTorch's with ``reduction="batchmean"``.

    >>> value, d_logits = kl_divergence(np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]]))
    >>> round(value, 4), d_logits
    (0.6931, array([[-0.5,  0.5]]))

    Raises ValueError for targets of another shape, or rows that are no distributions.
    """
    place = "kl_divergence"
    logits, targets = floats_and(place, "targets", logits, targets)
    if logits.ndim < 2:
        has_class_numbers(place, logits, targets)
    targets = _distributions(place, logits, targets, None).astype(logits.dtype, copy=False)
    log_p, slopes = _log_softmax(logits)
    some = targets > 0
    terms = product_where(some, targets, np.log(np.where(some, targets, 1)) - log_p)
    slopes -= targets
    return reduce(place, ((1.0, terms),), slopes.reshape(logits.shape), logits.shape[:-1], weights, reduction)


@underflow_is_zero
def multiclass_hinge(
    scores: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    margin: float = 1.0,
    class_weights: Any = None,
    ignore: int | None = None,
    reduction: str = "mean",
) -> Result:
    """mean_n Σ_{c ≠ label} max(0, scores[n, c] - scores[n, label] + margin) (Weston & Watkins 1999).

    scores (n, ..., classes), labels (n, ...). d_scores is 1/n for every class within the margin, and minus the sum of
    these for the label; a class exactly at the margin counts nothing. PyTorch's divides by the number of classes too.

    >>> value, d_scores = multiclass_hinge(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    >>> value, d_scores
    (0.5, array([[-1.,  1.,  0.]]))

    Raises ValueError for unfit labels or class weights, or a margin that is not positive.
    """
    place = "multiclass_hinge"
    check_between(place, "margin", margin, 0, math.inf)
    scores, labels = floats_and(place, "labels", scores, labels)
    numbers, counts = _only_numbers(place, scores, labels, class_weights, ignore)
    rows = _rows(scores)
    own, its_scores = own_places(rows, numbers)
    excess = rows - its_scores[:, None]
    excess += margin
    excess.reshape(-1)[own] = 0
    np.maximum(excess, 0, out=excess)
    within = excess > 0
    slopes = within.astype(scores.dtype)
    slopes.reshape(-1)[own] = -within.sum(axis=1)
    return reduce(
        place, ((1.0, excess),), slopes.reshape(scores.shape), scores.shape[:-1], weights, reduction, own=counts
    )


# --- What they share ------------------------------------------------------------------------------------------


def _rows(outputs: Array) -> Array:
    """Outputs as rows in C order, of which a flat array is a view: (n, ..., classes) -> (m, classes)."""
    return contiguous(outputs).reshape(-1, outputs.shape[-1])


def _log_softmax(logits: Array) -> tuple[Array, Array]:
    """The log-likelihoods and the likelihoods of the classes, as rows: (n, ..., classes) -> two of (m, classes)."""
    return log_softmax_rows(_rows(logits))


def _only_numbers(
    place: str, outputs: Array, labels: Array, class_weights: Any, ignore: Any
) -> tuple[Array, Array | None]:
    """The class numbers of all rows, from labels that may be nothing else, and what each row counts."""
    has_class_numbers(place, outputs, labels)
    numbers, kept = class_numbers(place, outputs, labels, ignore)
    if class_weights is None:
        return numbers, kept
    counts = beside(class_weights_of(place, class_weights, outputs.shape[-1]), outputs)[numbers]
    return numbers, counts if kept is None else counts * kept


def _distributions(place: str, logits: Array, labels: Array, ignore: Any) -> Array:
    """Labels that are distributions over the classes, (n, ..., classes), checked, as rows."""
    check_same_shape(place, logits, labels)
    if ignore is not None:
        raise ValueError(f"{place}: ignore is for labels that are class numbers. Weigh rows of distributions by 0")
    rows = labels.reshape(-1, labels.shape[-1])
    check_distributions(place, rows, "For several yes or no an example use sigmoid_cross_entropy")
    return rows
