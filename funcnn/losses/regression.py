"""Losses of regression: outputs and targets (n, ...), the mean over the batch and each example's values."""

import math

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import wide
from funcnn.losses.checks import check_batch, check_between, check_flag, check_same_shape, floats_and
from funcnn.losses.reduce import Result, reduce
from funcnn.settings import refuse
from funcnn.system.devices import is_device_array
from funcnn.tree import Array

__all__ = [
    "gaussian_kl", "gaussian_nll", "huber", "log_cosh", "mean_absolute_error", "mean_squared_error", "poisson",
    "quantile",
]  # fmt: skip


@underflow_is_zero
def mean_squared_error(
    outputs: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean"
) -> Result:
    """The mean of (outputs - targets)² over the batch and each example's values; d = 2 (outputs - targets) / size.

    outputs and targets (n, ...), of one shape.

    >>> value, d_outputs = mean_squared_error(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]))
    >>> value, d_outputs
    (2.5, array([[1., 2.]]))

    Raises ValueError for an empty batch or targets of another shape.
    """
    error = _errors("mean_squared_error", outputs, targets)
    return reduce(
        "mean_squared_error", ((1.0, np.square(wide(error))),), error, error.shape, weights, reduction, factor=2.0
    )


@underflow_is_zero
def mean_absolute_error(
    outputs: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean"
) -> Result:
    """The mean of |outputs - targets|; d = sign(outputs - targets) / size, 0 where they are equal.

    outputs and targets (n, ...), of one shape.

    >>> mean_absolute_error(np.array([[1.0, 2.0]]), np.array([[0.0, 2.0]]))
    (0.5, array([[0.5, 0. ]]))

    Raises ValueError for an empty batch or targets of another shape.
    """
    error = _errors("mean_absolute_error", outputs, targets)
    return reduce("mean_absolute_error", ((1.0, np.abs(error)),), np.sign(error), error.shape, weights, reduction)


@underflow_is_zero
def huber(
    outputs: Array, targets: Array, weights: Array | None = None, *, delta: float = 1.0, reduction: str = "mean"
) -> Result:
    """The mean of e²/2 where |e| <= delta, delta · (|e| - delta/2) elsewhere, e = outputs - targets (Huber 1964).

    outputs and targets (n, ...), of one shape. d = min(max(e, -delta), delta) / size. With delta = 1 it is PyTorch's
    smooth L1.

    >>> huber(np.array([[0.5, 3.0]]), np.array([[0.0, 0.0]]))
    (1.3125, array([[0.25, 0.5 ]]))

    Raises ValueError for an empty batch, targets of another shape, or delta that is not positive.
    """
    check_between("huber", "delta", delta, 0, math.inf)
    exact = _errors("huber", outputs, targets)
    error = wide(exact)
    near = np.clip(error, -delta, delta)
    error -= near / 2
    error *= near  # in both cases near · (error - near / 2)
    slopes = near.astype(exact.dtype, copy=False)
    return reduce("huber", ((1.0, error),), slopes, error.shape, weights, reduction)


@underflow_is_zero
def log_cosh(outputs: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean") -> Result:
    """The mean of log cosh e, e = outputs - targets: about e²/2 near 0, |e| - log 2 far away; d = tanh(e) / size.

    outputs and targets (n, ...), of one shape. Near 0 it is computed as -log(1 - tanh²(e)) / 2, which loses no digits,
    elsewhere as |e| + log(1 + exp(-2|e|)) - log 2, which never overflows.

    >>> value, d_outputs = log_cosh(np.array([[1000.0, 0.0]]), np.array([[0.0, 0.0]]))
    >>> round(value, 4), d_outputs
    (499.6534, array([[0.5, 0. ]]))

    Raises ValueError for an empty batch or targets of another shape.
    """
    exact = _errors("log_cosh", outputs, targets)
    error = wide(exact)
    slope, size = np.tanh(error), np.abs(error)
    near = np.minimum(np.square(slope), 0.75)
    terms = np.where(size < 1, np.log1p(-near) / -2, size + np.log1p(np.exp(-2 * size)) - math.log(2))
    slopes = slope.astype(exact.dtype, copy=False)
    return reduce("log_cosh", ((1.0, terms),), slopes, error.shape, weights, reduction)


@underflow_is_zero
def quantile(
    outputs: Array, targets: Array, weights: Array | None = None, *, q: float = 0.5, reduction: str = "mean"
) -> Result:
    """The mean of q · e where e > 0, (q - 1) · e elsewhere, e = targets - outputs (Koenker & Bassett 1978).

    outputs and targets (n, ...), of one shape. The outputs that make it smallest are the targets' q-th quantile. The
    slope is -q where the target is larger, 1 - q where it is smaller, 0 where they are equal.

    >>> quantile(np.array([[1.0, 0.0]]), np.array([[3.0, 1.0]]), q=0.75)
    (1.125, array([[-0.375, -0.375]]))

    Raises ValueError for an empty batch, targets of another shape, or q outside (0, 1).
    """
    check_between("quantile", "q", q)
    error = _errors("quantile", outputs, targets)
    number = error.dtype.type
    slopes = np.where(error > 0, number(1 - q), number(-q))
    slopes = np.where(error == 0, number(0), slopes)
    return reduce("quantile", ((1.0, error * slopes),), slopes, error.shape, weights, reduction)


@underflow_is_zero
def poisson(
    outputs: Array, targets: Array, weights: Array | None = None, *, log_input: bool = True, reduction: str = "mean"
) -> Result:
    """The mean of exp(x) - t · x, the negative log-likelihood of counts t whose rate has the logarithm x.

    outputs x and targets t, not negative, (n, ...), of one shape. d = (exp(x) - t) / size. With ``log_input=False`` x
    is the rate itself: x - t · log(x + 1e-8), d = (1 - t / (x + 1e-8)) / size. The term log t!, which depends on no
    output, is left out, as PyTorch does. exp(x) is infinite for x above 88 in float32.

    >>> poisson(np.array([[0.0, 0.0]]), np.array([[1.0, 3.0]]))
    (1.0, array([[ 0., -1.]]))

    Raises ValueError for an empty batch, targets of another shape or below 0, rates below 0.
    """
    outputs, targets = floats_and("poisson", "targets", outputs, targets)
    check_same_shape("poisson", outputs, targets)
    check_flag("poisson", "log_input", log_input)
    if not (is_device_array(targets) or targets.min() >= 0):
        refuse("poisson", "targets", "counts, none negative", targets.min().item())
    counts = targets.astype(outputs.dtype, copy=False)
    if log_input:
        slopes = np.exp(outputs)
        terms = slopes - counts * outputs
        slopes -= counts
    else:
        if not (is_device_array(outputs) or outputs.min() >= 0):
            fix = "Pass log_input=True for logarithms of rates"
            refuse("poisson", "outputs", "rates, none negative", outputs.min().item(), fix)
        rate = wide(outputs) + 1e-8
        terms = outputs - counts * np.log(rate)
        slopes = (1 - counts / rate).astype(outputs.dtype, copy=False)
    return reduce("poisson", ((1.0, terms),), slopes, outputs.shape, weights, reduction)


@underflow_is_zero
def gaussian_nll(outputs: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean") -> Result:
    """The mean of (v + (m - t)² · exp(-v)) / 2, of a normal distribution's mean m and log-variance v for each target.

    outputs (n, ..., 2), m and v side by side, targets t (n, ...) (Nix & Weigend 1994). dm = (m - t) · exp(-v) / size,
    dv = (1 - (m - t)² · exp(-v)) / (2 size). The constant log(2π)/2 is left out. PyTorch's takes the variance itself.

    >>> gaussian_nll(np.array([[1.0, 0.0]]), np.array([3.0]))
    (2.0, array([[-2. , -1.5]]))

    Raises ValueError for an empty batch, outputs whose last axis is not two, or targets of another shape.
    """
    place = "gaussian_nll"
    outputs, targets = floats_and(place, "targets", outputs, targets)
    if outputs.ndim < 2 or outputs.shape[-1] != 2:
        raise ValueError(f"{place}: expected outputs (n, ..., 2), mean and log-variance, got {outputs.shape}")
    check_batch(place, outputs)
    check_same_shape(place, outputs[..., 0], targets)
    values = wide(outputs)
    error = np.subtract(values[..., 0], targets, dtype=values.dtype)
    precise = error * np.exp(-values[..., 1])
    slopes = np.empty_like(outputs)
    slopes[..., 0] = precise
    error *= precise
    slopes[..., 1] = (1 - error) / 2
    terms = ((0.5, error), (0.5, values[..., 1]))
    return reduce(place, terms, slopes, error.shape, weights, reduction)


@underflow_is_zero
def gaussian_kl(outputs: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean") -> Result:
    """mean_n Σ (exp(v - s) + (m - t)² · exp(-s) - 1 - v + s) / 2, the divergence of normal distributions.

    outputs (n, ..., 2k), the means m and then the log-variances v of k numbers; targets alike, t and s. Where these are
    zeros, standard normals, a term is (exp(v) + m² - 1 - v) / 2 (Kingma & Welling 2014). It is the sum over the k
    numbers, the KL divergence of N(m, exp v) from N(t, exp s). dm = (m - t) · exp(-s) / n, dv = (exp(v - s) - 1) / 2n.

    >>> outputs = np.array([[2.0, 0.0]])
    >>> gaussian_kl(outputs, np.zeros_like(outputs))
    (2.0, array([[2., 0.]]))

    Raises ValueError for an empty batch, outputs whose last axis is odd, or targets of another shape.
    """
    place = "gaussian_kl"
    outputs, targets = floats_and(place, "targets", outputs, targets)
    if outputs.ndim < 2 or outputs.shape[-1] % 2:
        raise ValueError(f"{place}: expected outputs (n, ..., 2k), means and log-variances, got {outputs.shape}")
    check_same_shape(place, outputs, targets)
    half = outputs.shape[-1] // 2
    values = wide(outputs)
    error = np.subtract(values, targets, dtype=values.dtype)
    mean, log_ratio = error[..., :half], error[..., half:]
    precise = mean * np.exp(-targets[..., half:].astype(values.dtype, copy=False))
    excess = np.expm1(log_ratio)
    slopes = np.concatenate([precise, excess / 2], axis=-1, dtype=outputs.dtype, casting="same_kind")
    terms = ((0.5, mean * precise), (0.5, excess), (-0.5, log_ratio))
    return reduce(place, terms, slopes, outputs.shape[:-1], weights, reduction)


# --- What they share ------------------------------------------------------------------------------------------


def _errors(place: str, outputs: Array, targets: Array) -> Array:
    """outputs - targets, a new array in the outputs' dtype."""
    outputs, targets = floats_and(place, "targets", outputs, targets)
    check_same_shape(place, outputs, targets)
    return np.subtract(outputs, targets, dtype=outputs.dtype)
