"""Layers that draw random numbers in training, from the key they are given, and do nothing otherwise."""

import math
from typing import Any, ClassVar

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import images
from funcnn.checks import Form, check_dy, check_float, check_key, check_residuals
from funcnn.keys import Key, generator
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.settings import check_not_negative, check_number, config, number
from funcnn.tree import Array, node

__all__ = ["dropout", "gaussian_noise"]


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


def gaussian_noise(stddev: float) -> Layer:
    """y = x + stddev · ε, ε standard normal, in training, x otherwise; dx = dy.

    >>> gaussian_noise(0.1).apply(None, None, np.ones((1, 2))).y
    array([[1., 1.]])

    Raises ValueError for a negative deviation.
    """
    return make_layer(_GaussianNoise(stddev), _noise_apply, _noise_backward)


# --- dropout --------------------------------------------------------------------------------------------------

_LEVELS = 2**16  # dropout compares 16 random bits; random floats would take three times as long


def _check_rate(instance: Any, attribute: Any, rate: float) -> None:
    check_number(instance, attribute, rate)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate, the probability of dropping, must be in [0, 1), got {rate}")
    if round(rate * _LEVELS) == _LEVELS:
        raise ValueError(f"dropout: rate is rounded to the nearest 1/65536, and must be less than 1 then, got {rate}")


@node
class _DropoutResiduals:
    """The mask, None if nothing is dropped; the form of x."""

    mask: Array | None
    shape: tuple[int, ...]
    dtype: Any


@config
class _Dropout(Config):
    name: ClassVar[str] = "dropout"
    by_chunks: ClassVar[bool] = True
    rate: float = number(_check_rate)

    @property
    def stochastic(self) -> bool:
        return self.rate > 0


def _keep_mask(key: Key, shape: tuple[int, ...], threshold: int) -> Array:
    if len(shape) == 4:  # drawn in the order in which images lie in memory
        n, h, w, c = shape
        return images(_keep_mask(key, (h, c * w, n), threshold).reshape(h, c, w, n))
    size = math.prod(shape)
    bits = generator(key).bit_generator.random_raw(-(-size // 4))  # each 64-bit word gives four levels
    levels = bits.astype("<u8", copy=False).view("<u2")[:size]
    return (levels >= threshold).reshape(shape)


def _dropout_factor(settings: _Dropout) -> float:
    return 1 / (1 - round(settings.rate * _LEVELS) / _LEVELS)


@underflow_is_zero
def _dropout_apply(
    settings: _Dropout, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    if not train:
        return Applied(x, state, None)
    if settings.rate == 0:
        return Applied(x, state, _DropoutResiduals(None, x.shape, x.dtype))
    mask = _keep_mask(check_key(settings, key), x.shape, round(settings.rate * _LEVELS))
    y = x * mask
    y *= _dropout_factor(settings)
    return Applied(y, state, _DropoutResiduals(mask, x.shape, x.dtype))


@underflow_is_zero
def _dropout_backward(settings: _Dropout, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, _DropoutResiduals)
    check_dy(settings, dy, kept.shape, kept.dtype)
    if not need_dx or kept.mask is None:
        return Gradients(None, dy if need_dx else None)
    dx = dy * kept.mask
    dx *= _dropout_factor(settings)
    return Gradients(None, dx)


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
    noise = generator(check_key(settings, key)).standard_normal(x.shape, np.float32 if single else np.float64)
    noise *= settings.stddev
    noise += x
    return Applied(noise.astype(x.dtype, copy=False), state, Form(x.shape, x.dtype))


def _noise_backward(
    settings: _GaussianNoise, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    check_dy(settings, dy, kept.shape, kept.dtype)
    return Gradients(None, dy if need_dx else None)
