"""Layers that draw random numbers in training, from the key they are given, and do nothing otherwise."""

import math
from typing import Any, ClassVar

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import images, rows
from funcnn.arrays.masks import LEVELS, keep_mask, masked
from funcnn.checks import Form, ShapeError, check_dy, check_float, check_key, check_residuals
from funcnn.keys import Key, generator
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.settings import check_not_negative, check_number, config, number
from funcnn.system.devices import beside
from funcnn.tree import Array, Shape, node

__all__ = ["alpha_dropout", "drop_path", "dropout", "gaussian_noise", "gaussian_sample", "spatial_dropout"]


def dropout(rate: float) -> Layer:
    """y = x · mask / (1 - rate) in training, x otherwise; `rate` is the probability of dropping a value.

    The inverted scaling keeps the expected output (Srivastava et al. 2014 scale at test time instead).
    dx = dy · mask / (1 - rate). The rate is rounded to the nearest 1/65536. The residual is the mask, a byte a
    value.

    >>> layer = dropout(0.5)
    >>> layer.apply(None, None, np.ones((1, 6)), key=Key(1), train=True).y
    array([[0., 0., 2., 2., 2., 2.]])

    Raises ValueError unless 0 <= rate < 1.
    """
    return make_layer(_Dropout(rate), _dropout_apply, _dropout_backward)


def spatial_dropout(rate: float) -> Layer:
    """y = x · mask / (1 - rate) in training, x otherwise, the mask of a whole channel of an example being one draw.

    It is (n, channels), repeated over the axes between: images (n, height, width, channels), sequences (n, time,
    features), or any others. Neighbours in an image are so alike that dropping single pixels of a channel regularises
    little (Tompson et al. 2015). dx = dy · mask / (1 - rate). The rate is rounded to the nearest 1/65536. PyTorch's
    Dropout1d and Dropout2d, on channels last.

    >>> layer = spatial_dropout(0.5)
    >>> layer.apply(None, None, np.ones((1, 2, 4)), key=Key(1), train=True).y
    array([[[0., 0., 2., 2.],
            [0., 0., 2., 2.]]])

    Raises ValueError unless 0 <= rate < 1; ShapeError for examples that are single numbers.
    """
    return make_layer(_SpatialDropout(rate), _dropout_apply, _dropout_backward)


def drop_path(rate: float) -> Layer:
    """y = x · mask / (1 - rate) in training, x otherwise, with one draw for each example: stochastic depth.

    At the end of a residual branch, ``residual(serial(..., drop_path(0.1)))``, it leaves an example of the branch out,
    so that the net is shallower for it (Huang et al. 2016, who scale at test time instead).
    dx = dy · mask / (1 - rate). The rate is rounded to the nearest 1/65536.

    >>> layer = drop_path(0.5)
    >>> layer.apply(None, None, np.ones((4, 2)), key=Key(1), train=True).y
    array([[0., 0.],
           [0., 0.],
           [2., 2.],
           [2., 2.]])

    Raises ValueError unless 0 <= rate < 1.
    """
    return make_layer(_DropPath(rate), _dropout_apply, _dropout_backward)


def alpha_dropout(rate: float) -> Layer:
    """y = a · (x · mask + α' · (1 - mask)) + b in training, x otherwise; dx = dy · a · mask (Klambauer et al. 2017).

    What is dropped becomes α' = -1.7581, where `selu` ends on the left. a = (q · (1 + α'² · p))^(-1/2) and
    b = -a · α' · p, with p the rate and q = 1 - p, keep the mean 0 and the variance 1. The rate is rounded to the
    nearest 1/65536.

    >>> layer = alpha_dropout(0.5)
    >>> layer.apply(None, None, np.ones((1, 4)), key=Key(1), train=True).y.round(4)
    array([[-0.7792, -0.7792,  1.6656,  1.6656]])

    Raises ValueError unless 0 <= rate < 1.
    """
    return make_layer(_AlphaDropout(rate), _alpha_apply, _dropout_backward)


def gaussian_noise(stddev: float) -> Layer:
    """y = x + stddev · ε, ε standard normal, in training, x otherwise; dx = dy.

    >>> gaussian_noise(0.1).apply(None, None, np.ones((1, 2))).y
    array([[1., 1.]])

    Raises ValueError for a negative deviation.
    """
    return make_layer(_GaussianNoise(stddev), _noise_apply, _noise_backward)


def gaussian_sample() -> Layer:
    """y = m + exp(v / 2) · ε, ε standard normal, in training, m otherwise: (n, ..., 2k) -> (n, ..., k).

    m and v are the halves of x's last axis: a draw from the normal distribution with the mean m and the log-variance v,
    by which gradients pass (Kingma & Welling 2014). dm = dy, dv = dy · exp(v / 2) · ε / 2. The residual is the latter
    without dy. `funcnn.losses.gaussian_kl` tells how far such distributions are from others.

    >>> layer = gaussian_sample()
    >>> x = np.array([[3.0, 5.0, -1000.0, -1000.0]])
    >>> layer.apply(None, None, x, key=Key(1), train=True).y
    array([[3., 5.]])

    apply and init raise ShapeError for a last axis that is odd.
    """
    return make_layer(_GaussianSample(), _sample_apply, _sample_backward)


# --- dropout --------------------------------------------------------------------------------------------------

_SELU_LIMIT = -1.7580993408473766  # α', what selu tends to on the left


def _check_rate(instance: Any, attribute: Any, rate: float) -> None:
    check_number(instance, attribute, rate)
    name = instance.name
    if not 0 <= rate < 1:
        raise ValueError(f"{name}: rate, the probability of dropping, must be in [0, 1), got {rate}")
    if round(rate * LEVELS) == LEVELS:
        raise ValueError(f"{name}: rate is rounded to the nearest 1/65536, and must be less than 1 then, got {rate}")


@node
class _DropoutResiduals:
    """The mask, ready to be multiplied with dy; None if nothing is dropped. The form of x."""

    mask: Array | None
    shape: tuple[int, ...]
    dtype: Any


@config
class _Dropping(Config):
    """Settings of what drops: a share of what, and by what the rest is multiplied."""

    by_chunks: ClassVar[bool] = True
    rate: float = number(_check_rate)

    @property
    def stochastic(self) -> bool:
        return self.rate > 0

    @property
    def threshold(self) -> int:
        """The rate, in levels of the random bits."""
        return round(self.rate * LEVELS)

    @property
    def factor(self) -> float:
        """What keeps the mean."""
        return 1 / (1 - self.threshold / LEVELS)

    def mask(self, key: Key, shape: tuple[int, ...]) -> Array:
        """The mask of a batch of a shape, or what can be repeated to it."""
        return _keep_mask(key, shape, self.threshold)


@config
class _Dropout(_Dropping):
    name: ClassVar[str] = "dropout"


@config
class _SpatialDropout(_Dropping):
    name: ClassVar[str] = "spatial_dropout"

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape:
            raise ShapeError(repr(self), "expected examples with channels, got single numbers", "Use dropout(rate)")
        return in_shape

    def mask(self, key: Key, shape: tuple[int, ...]) -> Array:
        n, *between, channels = shape
        return _keep_mask(key, (n, channels), self.threshold).reshape(n, *[1] * len(between), channels)


@config
class _DropPath(_Dropping):
    name: ClassVar[str] = "drop_path"

    def mask(self, key: Key, shape: tuple[int, ...]) -> Array:
        return _keep_mask(key, shape[:1], self.threshold).reshape(-1, *[1] * (len(shape) - 1))


@config
class _AlphaDropout(_Dropping):
    name: ClassVar[str] = "alpha_dropout"

    @property
    def factor(self) -> float:
        p = self.threshold / LEVELS
        return 1 / math.sqrt((1 - p) * (1 + _SELU_LIMIT**2 * p))

    @property
    def shift(self) -> float:
        """What keeps the mean 0."""
        return -self.factor * _SELU_LIMIT * self.threshold / LEVELS


def _keep_mask(key: Key, shape: tuple[int, ...], threshold: int) -> Array:
    if len(shape) == 4:  # drawn in the order in which images lie in memory
        n, h, w, c = shape
        return images(_keep_mask(key, (h, c * w, n), threshold).reshape(h, c, w, n))
    return keep_mask(key, shape, threshold)


def _masked(x: Array, mask: Array, factor: float) -> Array:
    """x · mask · factor, where the mask has the shape of x, or is to be repeated along some axes."""
    if mask.shape == x.shape:
        return masked(x, mask, factor)
    factors = mask.astype(x.dtype)
    factors *= factor
    if x.ndim == 4 and rows(x).flags.c_contiguous:
        _, c, w, n = rows(x).shape
        factors = images(np.broadcast_to(rows(factors), (1, c, w, n)).copy())  # NumPy's loop then runs over w · n
    y: Array = x * factors
    return y


@underflow_is_zero
def _dropout_apply(
    settings: _Dropping, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    settings.out_shape(x.shape[1:])
    if not train:
        return Applied(x, state, None)
    if settings.rate == 0:
        return Applied(x, state, _DropoutResiduals(None, x.shape, x.dtype))
    mask = beside(settings.mask(check_key(settings, key), x.shape), x)
    return Applied(_masked(x, mask, settings.factor), state, _DropoutResiduals(mask, x.shape, x.dtype))


def _alpha_apply(
    settings: _AlphaDropout, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    applied = _dropout_apply(settings, params, state, x, key=key, train=train)
    if applied.residuals is None or applied.residuals.mask is None:
        return applied
    added = applied.residuals.mask.astype(x.dtype)  # b + a · α' where a value is dropped, b elsewhere
    added *= -settings.factor * _SELU_LIMIT
    added += settings.factor * _SELU_LIMIT + settings.shift
    added += applied.y
    return applied._replace(y=added)


@underflow_is_zero
def _dropout_backward(
    settings: _Dropping, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, _DropoutResiduals)
    check_dy(settings, dy, kept.shape, kept.dtype)
    if not need_dx or kept.mask is None:
        return Gradients(None, dy if need_dx else None)
    return Gradients(None, _masked(dy, kept.mask, settings.factor))


# --- gaussian_noise -------------------------------------------------------------------------------------------


@config
class _GaussianNoise(Config):
    name: ClassVar[str] = "gaussian_noise"
    by_chunks: ClassVar[bool] = True
    stddev: float = number(check_not_negative)

    @property
    def stochastic(self) -> bool:
        return self.stddev > 0


@underflow_is_zero
def _noise_apply(
    settings: _GaussianNoise, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    if not train:
        return Applied(x, state, None)
    if settings.stddev == 0:
        return Applied(x, state, Form(x.shape, x.dtype))
    single = x.dtype == np.float32
    noise = beside(
        generator(check_key(settings, key)).standard_normal(x.shape, np.float32 if single else np.float64), x
    )
    noise *= settings.stddev
    noise += x
    return Applied(noise.astype(x.dtype, copy=False), state, Form(x.shape, x.dtype))


def _noise_backward(
    settings: _GaussianNoise, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    check_dy(settings, dy, kept.shape, kept.dtype)
    return Gradients(None, dy if need_dx else None)


# --- gaussian_sample ------------------------------------------------------------------------------------------


@config
class _GaussianSample(Config):
    name: ClassVar[str] = "gaussian_sample"
    by_chunks: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape or in_shape[-1] % 2:
            raise ShapeError(
                repr(self),
                f"expected the last axis of examples to be even, means and log-variances, got {in_shape}",
                "Put dense(2 * k) before it",
            )
        return (*in_shape[:-1], in_shape[-1] // 2)


@underflow_is_zero
def _sample_apply(
    settings: _GaussianSample, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    half = settings.out_shape(x.shape[1:])[-1]
    mean = x[..., :half]
    if not train:
        return Applied(mean.copy(), state, None)
    single = x.dtype == np.float32
    drawn = generator(check_key(settings, key)).standard_normal(mean.shape, np.float32 if single else np.float64)
    slope = np.exp(x[..., half:] / 2)
    slope *= beside(drawn.astype(x.dtype, copy=False), x)
    y = mean + slope
    slope /= 2
    return Applied(y, state, slope)


@underflow_is_zero
def _sample_backward(
    settings: _GaussianSample, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    slope = check_residuals(settings, residuals, np.ndarray)
    check_dy(settings, dy, slope.shape, slope.dtype)
    return Gradients(None, np.concatenate([dy, dy * slope], axis=-1) if need_dx else None)
