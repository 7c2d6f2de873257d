"""Activations in pieces, with kinks between them, which comparisons find: any shape in, the same shape out.

At a kink the slope is PyTorch's. Those that never decrease say `increasing`: a max pool may then be taken first.
"""

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays import layout, special
from funcnn.arrays.elementwise import positive_part, underflow_is_zero
from funcnn.checks import (
    ShapeError,
    check_dy,
    check_float,
    check_input,
    check_params,
    check_residuals,
    check_weight,
)
from funcnn.init import Initializer, check_initializer, constant
from funcnn.keys import Key, fold_in
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.nn.activations import Activation
from funcnn.settings import check_finite, check_flag, check_not_negative, check_share, config, number, refuse
from funcnn.tree import Array, Shape, node

__all__ = [
    "PreluParams", "hard_shrink", "hard_sigmoid", "hard_swish", "hard_tanh", "leaky_relu", "prelu", "relu", "relu6",
    "soft_shrink",
]  # fmt: skip


def relu() -> Layer:
    """y = max(x, 0); dx = dy where x > 0, and 0 at x = 0 (Nair & Hinton 2010).

    >>> relu().apply(None, None, np.array([[-1.0, 0.0, 2.0]])).y
    array([[0., 0., 2.]])
    """
    return _Relu().as_layer()


def leaky_relu(slope: float = 0.01) -> Layer:
    """y = max(x, slope · x); dx = dy where x > 0, slope · dy elsewhere (Maas et al. 2013).

    >>> leaky_relu(0.5).apply(None, None, np.array([[-1.0, 0.0, 2.0]])).y
    array([[-0.5,  0. ,  2. ]])

    Raises ValueError unless the slope is from 0 to 1.
    """
    return _LeakyRelu(slope).as_layer()


def prelu(*, per_channel: bool = False, slope_init: Initializer = constant(0.25)) -> Layer:  # noqa: B008  (a frozen value)
    """y = x where x > 0, slope · x elsewhere, with one trained slope or one for each channel (He et al. 2015).

    dx = dy where x > 0, slope · dy elsewhere; dslope = Σ dy · min(x, 0). ``params.slope`` is (1,), or (channels,) for
    the last axis. Unlike the other activations it keeps x, since slopes may become negative.

    >>> layer = prelu(per_channel=True)
    >>> params, state, _ = layer.init(Key(0), (2,), np.float64)
    >>> layer.apply(params, state, np.array([[-1.0, 2.0]])).y
    array([[-0.25,  2.  ]])

    Raises TypeError for what is no initialiser; init raises ShapeError for single numbers, if `per_channel`.
    """
    return make_layer(_Prelu(per_channel, slope_init), _prelu_apply, _prelu_backward, _prelu_init)


def relu6() -> Layer:
    """y = min(max(x, 0), 6); dx = dy where 0 < x < 6, else 0 (Krizhevsky 2010).

    >>> relu6().apply(None, None, np.array([[-1.0, 3.0, 9.0]])).y
    array([[0., 3., 6.]])
    """
    return _Relu6().as_layer()


def hard_tanh(low: float = -1.0, high: float = 1.0) -> Layer:
    """y = x from low to high, low below and high above; dx = dy where low < x < high, else 0 (Collobert 2004).

    >>> hard_tanh().apply(None, None, np.array([[-3.0, 0.5, 3.0]])).y
    array([[-1. ,  0.5,  1. ]])

    Raises ValueError unless both are finite, and low less than high.
    """
    return _HardTanh(low, high).as_layer()


def hard_sigmoid() -> Layer:
    """y = min(max(x/6 + 1/2, 0), 1); dx = dy / 6 where 0 < y < 1, else 0 (Courbariaux et al. 2015, as in MobileNetV3).

    >>> hard_sigmoid().apply(None, None, np.array([[-3.0, 0.0, 9.0]])).y
    array([[0. , 0.5, 1. ]])
    """
    return _HardSigmoid().as_layer()


def hard_swish() -> Layer:
    """y = x · min(max(x/6 + 1/2, 0), 1) (Howard et al. 2019).

    dx = 0 where x <= -3, (x/3 + 1/2) · dy up to 3, dy from there on.

    >>> hard_swish().apply(None, None, np.array([[-3.0, 1.5, 9.0]])).y
    array([[-0.   ,  1.125,  9.   ]])
    """
    return _HardSwish().as_layer()


def soft_shrink(threshold: float = 0.5) -> Layer:
    """y = x - min(max(x, -threshold), threshold): nearer to 0 by the threshold; dx = dy where y is not 0, else 0.

    The step of Tibshirani's lasso (1996) in wavelet shrinkage (Donoho 1995).

    >>> soft_shrink().apply(None, None, np.array([[-2.0, 0.25, 2.0]])).y
    array([[-1.5,  0. ,  1.5]])

    Raises ValueError for a threshold that is negative or not finite.
    """
    return _SoftShrink(threshold).as_layer()


def hard_shrink(threshold: float = 0.5) -> Layer:
    """y = x where |x| > threshold, else 0; dx = dy where y is not 0, else 0 (Donoho & Johnstone 1994).

    >>> hard_shrink().apply(None, None, np.array([[-2.0, 0.25, 2.0]])).y
    array([[-2.,  0.,  2.]])

    Raises ValueError for a threshold that is negative or not finite.
    """
    return _HardShrink(threshold).as_layer()


# --- What they make -------------------------------------------------------------------------------------------


@config
class _Relu(Activation):
    name: ClassVar[str] = "relu"
    increasing: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        positive_part(x, y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        _choose(kept > 0, dy, dx)


def _choose(where: Array, dy: Array, dx: Array) -> None:
    """dx = dy where it is chosen, 0 elsewhere: by arithmetic, since a choice by np.where costs five times more."""
    np.copyto(dx, where)
    dx *= dy


@config
class _LeakyRelu(Activation):
    name: ClassVar[str] = "leaky_relu"
    increasing: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    slope: float = number(check_share, default=0.01)

    def write(self, x: Array, y: Array) -> None:
        np.multiply(x, self.slope, out=y)
        np.maximum(x, y, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.copyto(dx, kept > 0)
        dx *= 1 - self.slope
        dx += self.slope
        dx *= dy


class _Clipped(Activation):
    """y = x from `low` to `high`; the slope at either end is 0."""

    increasing: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    low: float
    high: float

    def write(self, x: Array, y: Array) -> None:
        np.clip(x, self.low, self.high, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        inside = kept > self.low
        inside &= kept < self.high
        _choose(inside, dy, dx)


@config
class _Relu6(_Clipped):
    name: ClassVar[str] = "relu6"
    low: ClassVar[float] = 0.0  # type: ignore[misc]  # here no setting
    high: ClassVar[float] = 6.0  # type: ignore[misc]


def _check_high(instance: Any, attribute: Any, high: float) -> None:
    check_finite(instance, attribute, high)
    if not high > instance.low:
        refuse("hard_tanh", "high", f"more than low, {instance.low}", high)


@config
class _HardTanh(_Clipped):
    name: ClassVar[str] = "hard_tanh"
    low: float = number(check_finite, default=-1.0)
    high: float = number(_check_high, default=1.0)


@config
class _HardSigmoid(Activation):
    name: ClassVar[str] = "hard_sigmoid"
    increasing: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        np.multiply(x, 1 / 6, out=y)
        y += 0.5
        np.clip(y, 0, 1, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        inside = kept > 0
        inside &= kept < 1
        _choose(inside, dy, dx)
        dx *= 1 / 6


@config
class _HardSwish(Activation):
    name: ClassVar[str] = "hard_swish"
    keeps_slope: ClassVar[bool] = True

    def fill(self, x: Array, y: Array, slope: Array | None) -> None:
        special.hard_swish(x, y, slope)


@config
class _SoftShrink(Activation):
    name: ClassVar[str] = "soft_shrink"
    increasing: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    threshold: float = number(check_not_negative, default=0.5)

    def write(self, x: Array, y: Array) -> None:
        np.clip(x, -self.threshold, self.threshold, out=y)
        np.subtract(x, y, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        _choose(kept != 0, dy, dx)


@config
class _HardShrink(Activation):
    name: ClassVar[str] = "hard_shrink"
    increasing: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    threshold: float = number(check_not_negative, default=0.5)

    def write(self, x: Array, y: Array) -> None:
        _choose(np.abs(x) > self.threshold, x, y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        _choose(kept != 0, dy, dx)


# --- prelu ----------------------------------------------------------------------------------------------------


@node
class PreluParams:
    """slope (1,) or (channels,)."""

    slope: Array


@config
class _Prelu(Config):
    name: ClassVar[str] = "prelu"
    by_chunks: ClassVar[bool] = True
    per_channel: bool = attrs.field(default=False, validator=check_flag)
    slope_init: Initializer = attrs.field(default=constant(0.25), validator=check_initializer)

    def out_shape(self, in_shape: Shape) -> Shape:
        if self.per_channel and not in_shape:
            fix = "Leave out per_channel, or reshape them to (1,)"
            raise ShapeError(repr(self), "expected examples with channels, got single numbers", fix)
        return in_shape

    def check(self, params: Any, x: Array) -> None:
        """Raise unless the params are a prelu's of these settings, and x is for them."""
        check_params(self, params, PreluParams)
        check_float(self, x)
        self.out_shape(x.shape[1:])
        slope = params.slope
        check_weight(self, "slope", slope, (None if self.per_channel else 1,))
        check_input(self, x, (*x.shape[1:-1], *slope.shape) if self.per_channel else x.shape[1:], slope.dtype, slope)


def _prelu_init(settings: _Prelu, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    shape = in_shape[-1:] if settings.per_channel else (1,)
    slope = settings.slope_init(fold_in(key, "slope"), shape, 1, 1, dtype)
    return Initialised(PreluParams(slope), None, out_shape)


@underflow_is_zero
def _prelu_apply(
    settings: _Prelu, params: PreluParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    settings.check(params, x)
    y = np.clip(x, -np.inf, 0)
    y *= params.slope
    y += positive_part(x)
    return Applied(y, state, x if train else None)


@underflow_is_zero
def _prelu_backward(
    settings: _Prelu, params: PreluParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    x = check_residuals(settings, residuals, np.ndarray)
    settings.check(params, x)
    check_dy(settings, dy, x.shape, x.dtype)
    left = np.empty_like(x)
    _choose(x <= 0, dy, left)  # dy where the slope counts
    slope = layout.dot_channels(layout.channel_rows(layout.wide(left)), layout.channel_rows(layout.wide(x)))
    gradients = PreluParams((slope if settings.per_channel else slope.sum(keepdims=True)).astype(x.dtype))
    if not need_dx:
        return Gradients(gradients, None)
    dx = dy - left
    left *= params.slope
    dx += left
    return Gradients(gradients, dx)
