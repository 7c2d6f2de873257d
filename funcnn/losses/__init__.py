"""Losses: ``loss(outputs, targets, weights=None, *, options) -> (value, d_outputs)``.

Each is a mean over the batch. `value` is a Python float summed in float64, `d_outputs` its gradient in the outputs, in
their dtype. Options are keywords: ``functools.partial(softmax_cross_entropy, label_smoothing=0.1)``.

**Weights**, not negative, are one for each example (n,), or for each position: the leading axes of the outputs. The
mean is then Σ w · term / Σ w, and a third is returned, the sum of the weights: ``(value, d_outputs, weight)``. So it is
where an option weighs, `class_weights` or the label to `ignore`. Where all weights are 0, so are the value and
d_outputs. ``reduction="sum"`` gives (sum, d_outputs), ``"none"`` (each term, its slopes); training takes the mean.

Labels are class numbers (n, ...) of any integer dtype, or a distribution over the classes for each (n, ..., classes).
What is no array yet, a list or a Series of labels, is taken by `funcnn.checks.as_array`. Every loss raises ValueError,
with what it expected and what came, for outputs that are no floats, an empty batch, targets of another shape, and
labels of a wrong dtype or out of range. What is too small for the dtype is 0, under any ``np.seterr``.
"""

from collections.abc import Callable

from funcnn.losses.binary import hinge, sigmoid_cross_entropy, sigmoid_focal, smooth_hinge, squared_hinge
from funcnn.losses.classification import kl_divergence, multiclass_hinge, softmax_cross_entropy, softmax_focal
from funcnn.losses.ctc import ctc
from funcnn.losses.ranking import cosine_distance, triplet
from funcnn.losses.reduce import Result
from funcnn.losses.regression import (
    gaussian_kl,
    gaussian_nll,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    poisson,
    quantile,
)

__all__ = [
    "Loss", "Result", "cosine_distance", "ctc", "gaussian_kl", "gaussian_nll", "hinge", "huber", "kl_divergence",
    "log_cosh", "mean_absolute_error", "mean_squared_error", "multiclass_hinge", "poisson", "quantile",
    "sigmoid_cross_entropy", "sigmoid_focal", "smooth_hinge", "softmax_cross_entropy", "softmax_focal", "squared_hinge",
    "triplet",
]  # fmt: skip

Loss = Callable[..., Result]
