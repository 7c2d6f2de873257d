"""Losses of yes or no: outputs and targets (n, ...) of one shape, each value a question, each target from 0 to 1."""

import math

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import wide
from funcnn.arrays.special import stable_sigmoid
from funcnn.losses.checks import check_at_least, check_between, check_probabilities, check_same_shape, floats_and
from funcnn.losses.reduce import Result, reduce
from funcnn.settings import is_number, refuse
from funcnn.tree import Array

__all__ = ["hinge", "sigmoid_cross_entropy", "sigmoid_focal", "smooth_hinge", "squared_hinge"]


@underflow_is_zero
def sigmoid_cross_entropy(
    logits: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean"
) -> Result:
    """The mean of -t · log σ(x) - (1 - t) · log(1 - σ(x)) over the batch and each example's values.

    logits x and targets t in [0, 1] (n, ...), of one shape. Computed as max(x, 0) - x · t + log(1 + exp(-|x|));
    d = (σ(x) - t) / size.

    >>> value, d_logits = sigmoid_cross_entropy(np.array([[0.0, 1000.0]]), np.array([[1.0, 1.0]]))
    >>> round(value, 4), d_logits
    (0.3466, array([[-0.25,  0.  ]]))

    Raises ValueError for an empty batch, or targets of another shape or outside [0, 1].
    """
    logits, targets = _questions("sigmoid_cross_entropy", logits, targets)
    terms = np.maximum(logits, 0)
    terms -= logits * targets
    terms += np.log1p(np.exp(-np.abs(logits)))
    slopes = stable_sigmoid(logits)
    slopes -= targets
    return reduce("sigmoid_cross_entropy", ((1.0, terms),), slopes, logits.shape, weights, reduction)


@underflow_is_zero
def sigmoid_focal(
    logits: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
) -> Result:
    """The mean of -t · (1 - p)^gamma · log p - (1 - t) · p^gamma · log(1 - p), p = σ(logits) (Lin et al. 2017).

    logits and targets in [0, 1] (n, ...), of one shape. `alpha` from 0 to 1 weighs yes, 1 - alpha no (the paper's is
    0.25); these are in the terms, and the mean stays one over the number of values. The slope of the first part is
    -t · (1 - p)^gamma · (1 - p - gamma · p · log p), that of the second its mirror image. The paper divides the sum by
    the number of yes.

    >>> value, d_logits = sigmoid_focal(np.array([[0.0]]), np.array([[1.0]]))
    >>> round(value, 4) == round(0.25 * math.log(2), 4)
    True

    Raises ValueError for an empty batch, targets of another shape or outside [0, 1], a negative gamma, or alpha outside
    [0, 1].
    """
    place = "sigmoid_focal"
    check_at_least(place, "gamma", gamma)
    if alpha is not None and not (is_number(alpha) and 0 <= alpha <= 1):
        refuse(place, "alpha", "from 0 to 1, or None", alpha)
    logits, targets = _questions(place, logits, targets)
    yes = targets.astype(logits.dtype)
    no = 1 - yes
    if alpha is not None:
        yes *= alpha
        no *= 1 - alpha
    tail = np.log1p(np.exp(-np.abs(logits)))
    p, q = stable_sigmoid(logits), stable_sigmoid(-logits)  # q = 1 - p, accurate near p = 1
    log_p, log_q = np.minimum(logits, 0) - tail, np.minimum(-logits, 0) - tail
    yes *= q**gamma
    no *= p**gamma
    terms = yes * log_p
    terms += no * log_q
    slopes = no * (p - gamma * q * log_q)
    slopes -= yes * (q - gamma * p * log_p)
    return reduce(place, ((-1.0, terms),), slopes, logits.shape, weights, reduction)


@underflow_is_zero
def hinge(
    scores: Array, targets: Array, weights: Array | None = None, *, margin: float = 1.0, reduction: str = "mean"
) -> Result:
    """The mean of max(0, margin - s · x), s = 2t - 1 the sign of the answer (Cortes & Vapnik 1995).

    scores x and targets t in [0, 1] (n, ...), of one shape, 0 for no, 1 for yes. The slope is -s where s · x < margin,
    and 0 at the margin.

    >>> value, d_scores = hinge(np.array([[0.5, 2.0]]), np.array([[1, 0]]))
    >>> value, d_scores
    (1.75, array([[-0.5,  0.5]]))

    Raises ValueError for an empty batch, targets of another shape or outside [0, 1], or a margin that is not positive.
    """
    check_between("hinge", "margin", margin, 0, math.inf)
    sign, excess = _excess("hinge", scores, targets, margin)
    np.negative(sign, out=sign)
    sign *= excess > 0
    return reduce("hinge", ((1.0, excess),), sign, sign.shape, weights, reduction)


@underflow_is_zero
def squared_hinge(
    scores: Array, targets: Array, weights: Array | None = None, *, margin: float = 1.0, reduction: str = "mean"
) -> Result:
    """The mean of max(0, margin - s · x)², s = 2t - 1; the slope is -2 s · max(0, margin - s · x) (Tang 2013).

    scores x and targets t in [0, 1] (n, ...), of one shape, 0 for no, 1 for yes.

    >>> squared_hinge(np.array([[0.5, 2.0]]), np.array([[1, 0]]))
    (4.625, array([[-0.5,  3. ]]))

    Raises ValueError for an empty batch, targets of another shape or outside [0, 1], or a margin that is not positive.
    """
    check_between("squared_hinge", "margin", margin, 0, math.inf)
    sign, excess = _excess("squared_hinge", scores, targets, margin)
    sign *= excess
    return reduce("squared_hinge", ((1.0, np.square(wide(excess))),), sign, sign.shape, weights, reduction, factor=-2.0)


@underflow_is_zero
def smooth_hinge(scores: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean") -> Result:
    """The mean of 1/2 - z where z <= 0, (1 - z)²/2 where 0 < z < 1, else 0, of z = s · x, s = 2t - 1 (Rennie 2005).

    scores x and targets t in [0, 1] (n, ...), of one shape, 0 for no, 1 for yes. The slope is
    -s · min(max(1 - z, 0), 1).

    >>> smooth_hinge(np.array([[0.5, 2.0]]), np.array([[1, 0]]))
    (1.3125, array([[-0.25,  0.5 ]]))

    Raises ValueError for an empty batch, or targets of another shape or outside [0, 1].
    """
    sign, excess = _excess("smooth_hinge", scores, targets, 1.0)
    near = np.minimum(excess, 1)
    terms = near * (excess - near / 2)
    np.negative(sign, out=sign)
    sign *= near
    return reduce("smooth_hinge", ((1.0, terms),), sign, sign.shape, weights, reduction)


# --- What they share ------------------------------------------------------------------------------------------


def _questions(place: str, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Outputs and targets of one shape, the targets from 0 to 1."""
    outputs, targets = floats_and(place, "targets", outputs, targets)
    check_same_shape(place, outputs, targets)
    check_probabilities(place, targets)
    return outputs, targets


def _excess(place: str, scores: Array, targets: Array, margin: float) -> tuple[Array, Array]:
    """The signs s = 2t - 1, and how far s · x is below the margin."""
    scores, targets = _questions(place, scores, targets)
    sign = np.multiply(targets, 2, dtype=scores.dtype, casting="unsafe")
    sign -= 1
    excess = sign * scores
    np.subtract(margin, excess, out=excess)
    return sign, np.maximum(excess, 0, out=excess)
