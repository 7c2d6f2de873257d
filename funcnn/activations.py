"""Element-wise layers, and softmax over the last axis: any shape in, the same shape out, no parameters.

Each activation is a pair of small functions, y = f(x) and dx = dy · f'(x), the derivative written in y where it
can be: the next layer keeps y anyway, so the residual then costs no memory. Every formula is finite over the
whole float range, softmax's and its logarithm's wherever the differences within a row are.
"""

import math
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.kernels import elementwise, fused, positive_part
from funcnn.keys import Key
from funcnn.layer import (
    Applied,
    Array,
    Config,
    Gradients,
    Layer,
    Shape,
    ShapeError,
    check_dy,
    check_finite,
    check_float,
    check_positive,
    check_residuals,
    check_share,
    config,
    make_layer,
)

__all__ = [
    "elu", "gelu", "identity", "leaky_relu", "log_softmax", "relu", "scale", "sigmoid", "silu", "softmax", "softplus",
    "stable_sigmoid", "tanh",
]  # fmt: skip


class _Activation(Config):
    """An element-wise layer: `forward` and `gradient`, and whether backward needs y or x."""

    by_chunks: ClassVar[bool] = True
    keeps_input: ClassVar[bool] = False
    is_elementwise: ClassVar[bool] = True  # false for softmax, which couples an example's values

    def forward(self, x: Array) -> Array:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def gradient(self, kept: Array, dy: Array) -> Array:
        raise TypeError(f"{type(self).__name__} does not define gradient")


def _apply(
    config: _Activation, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(config, x)
    y = elementwise(config.forward, x) if config.is_elementwise else config.forward(x)
    return Applied(y, state, (x if config.keeps_input else y) if train else None)


def _backward(config: _Activation, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(config, residuals)
    if not need_dx:
        return Gradients(None, None)
    check_dy(config, dy, kept.shape, kept.dtype)
    dx = elementwise(config.gradient, kept, dy) if config.is_elementwise else config.gradient(kept, dy)
    return Gradients(None, dx)


def _layer(config: _Activation) -> Layer:
    return make_layer(config, _apply, _backward)


@config
class _Identity(_Activation):
    name: ClassVar[str] = "identity"
    is_elementwise: ClassVar[bool] = False  # nothing to compute: x and dy pass as they are

    def forward(self, x: Array) -> Array:
        return x

    def gradient(self, kept: Array, dy: Array) -> Array:
        return dy


@config
class _Relu(_Activation):
    name: ClassVar[str] = "relu"
    increasing: ClassVar[bool] = True

    def forward(self, x: Array) -> Array:
        return positive_part(x)

    def gradient(self, kept: Array, dy: Array) -> Array:
        slope = (kept > 0).astype(dy.dtype)
        slope *= dy
        return slope


@config
class _LeakyRelu(_Activation):
    name: ClassVar[str] = "leaky_relu"
    increasing: ClassVar[bool] = True
    slope: float = attrs.field(default=0.01, validator=check_share, converter=float)

    def forward(self, x: Array) -> Array:
        y = x * self.slope
        return np.maximum(x, y, out=y)

    def gradient(self, kept: Array, dy: Array) -> Array:
        factor = (kept > 0).astype(dy.dtype)  # slope or 1 by arithmetic: a choice by np.where costs five times more
        factor *= 1 - self.slope
        factor += self.slope
        factor *= dy
        return factor


@config
class _Elu(_Activation):
    name: ClassVar[str] = "elu"
    alpha: float = attrs.field(default=1.0, validator=check_positive, converter=float)

    def forward(self, x: Array) -> Array:
        y = np.expm1(np.minimum(x, 0))
        y *= self.alpha
        y += np.maximum(x, 0)
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        # For y <= 0 the slope is alpha·exp(x) = y + alpha; min(y, 0) + alpha is alpha above, put right by the mask.
        slope = np.minimum(kept, 0)
        slope += self.alpha
        np.copyto(slope, 1, where=kept > 0)
        slope *= dy
        return slope


def stable_sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) = exp(min(x, 0)) / (1 + exp(-|x|)): accurate in both tails, never overflows.

    >>> stable_sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    denominator = np.abs(x)
    np.negative(denominator, out=denominator)
    np.exp(denominator, out=denominator)
    denominator += 1
    y = np.minimum(x, 0)
    np.exp(y, out=y)
    y /= denominator
    return y


@config
class _Sigmoid(_Activation):
    name: ClassVar[str] = "sigmoid"

    def forward(self, x: Array) -> Array:
        return stable_sigmoid(x)

    def gradient(self, kept: Array, dy: Array) -> Array:
        return fused("dy * y * (1 - y)", dy=dy, y=kept)


@config
class _Tanh(_Activation):
    name: ClassVar[str] = "tanh"

    def forward(self, x: Array) -> Array:
        return np.tanh(x)

    def gradient(self, kept: Array, dy: Array) -> Array:
        return fused("dy * (1 - y * y)", dy=dy, y=kept)


@config
class _Softplus(_Activation):
    name: ClassVar[str] = "softplus"

    def forward(self, x: Array) -> Array:
        y = np.abs(x)
        np.negative(y, out=y)
        np.exp(y, out=y)
        np.log1p(y, out=y)
        y += np.maximum(x, 0)
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        slope = np.negative(kept)  # sigmoid(x) = 1 - exp(-y)
        np.expm1(slope, out=slope)
        np.negative(slope, out=slope)
        slope *= dy
        return slope


@config
class _Silu(_Activation):
    name: ClassVar[str] = "silu"
    keeps_input: ClassVar[bool] = True

    def forward(self, x: Array) -> Array:
        y = stable_sigmoid(x)
        y *= x
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        return fused("dy * s * (1 + x * (1 - s))", dy=dy, s=stable_sigmoid(kept), x=kept)


_GELU = math.sqrt(2 / math.pi)
_GELU_CUBE = 0.044715


@config
class _Gelu(_Activation):
    name: ClassVar[str] = "gelu"
    keeps_input: ClassVar[bool] = True

    def _tanh(self, x: Array) -> tuple[Array, Array]:
        # Beyond ±10 the tanh is ±1 to the last bit, and x³ could overflow.
        near = np.clip(x, -10, 10)
        t = fused("a * x * (1 + b * x * x)", a=_GELU, b=_GELU_CUBE, x=near)
        return near, np.tanh(t, out=t)

    def forward(self, x: Array) -> Array:
        _, t = self._tanh(x)
        return fused("h * x * (1 + t)", h=0.5, x=x, t=t)

    def gradient(self, kept: Array, dy: Array) -> Array:
        near, t = self._tanh(kept)
        return fused(
            "dy * (h * (1 + t) + h * x * (1 - t * t) * a * (1 + 3 * b * x * x))",
            dy=dy, h=0.5, t=t, x=near, a=_GELU, b=_GELU_CUBE,
        )  # fmt: skip


@config
class _Scale(_Activation):
    name: ClassVar[str] = "scale"
    factor: float = attrs.field(validator=check_finite, converter=float)

    def forward(self, x: Array) -> Array:
        return x * self.factor

    def gradient(self, kept: Array, dy: Array) -> Array:
        return dy * self.factor


@config
class _Softmax(_Activation):
    name: ClassVar[str] = "softmax"
    is_elementwise: ClassVar[bool] = False

    def out_shape(self, in_shape: Shape) -> Shape:
        return _check_classes(self, in_shape)

    def forward(self, x: Array) -> Array:
        self.out_shape(x.shape[1:])
        y: Array = x - x.max(axis=-1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        dx: Array = dy - (dy * kept).sum(axis=-1, keepdims=True)
        dx *= kept
        return dx


@config
class _LogSoftmax(_Activation):
    name: ClassVar[str] = "log_softmax"
    is_elementwise: ClassVar[bool] = False

    def out_shape(self, in_shape: Shape) -> Shape:
        return _check_classes(self, in_shape)

    def forward(self, x: Array) -> Array:
        self.out_shape(x.shape[1:])
        y: Array = x - x.max(axis=-1, keepdims=True)
        y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        dx = np.exp(kept)
        dx *= -dy.sum(axis=-1, keepdims=True)
        dx += dy
        return dx


def _check_classes(config: Config, in_shape: Shape) -> Shape:
    if not in_shape or in_shape[-1] < 1:
        raise ShapeError(
            repr(config),
            f"expected a shape whose last axis holds the classes, got {in_shape}",
            "Put dense(classes) before it",
        )
    return in_shape


# --- Constructors ---------------------------------------------------------------------------------------------


def identity() -> Layer:
    """y = x.

    >>> identity().apply(None, None, np.ones((1, 2))).y
    array([[1., 1.]])
    """
    return _layer(_Identity())


def relu() -> Layer:
    """y = max(x, 0); dx = dy where x > 0, and 0 at x = 0 (Nair & Hinton 2010).

    >>> relu().apply(None, None, np.array([[-1.0, 0.0, 2.0]])).y
    array([[0., 0., 2.]])
    """
    return _layer(_Relu())


def leaky_relu(slope: float = 0.01) -> Layer:
    """y = max(x, slope · x); dx = dy where x > 0, slope · dy elsewhere (Maas et al. 2013).

    >>> leaky_relu(0.5).apply(None, None, np.array([[-1.0, 0.0, 2.0]])).y
    array([[-0.5,  0. ,  2. ]])

    Raises ValueError unless the slope is from 0 to 1.
    """
    return _layer(_LeakyRelu(slope))


def elu(alpha: float = 1.0) -> Layer:
    """y = x where x > 0, alpha · (exp(x) - 1) elsewhere; dx = dy or (y + alpha) · dy (Clevert et al. 2016).

    >>> elu().apply(None, None, np.array([[-1000.0, 2.0]])).y
    array([[-1.,  2.]])

    Raises ValueError unless alpha is positive.
    """
    return _layer(_Elu(alpha))


def sigmoid() -> Layer:
    """y = 1 / (1 + exp(-x)); dx = dy · y · (1 - y).

    >>> sigmoid().apply(None, None, np.array([[-1000.0, 0.0, 1000.0]])).y
    array([[0. , 0.5, 1. ]])
    """
    return _layer(_Sigmoid())


def tanh() -> Layer:
    """y = tanh(x); dx = dy · (1 - y²).

    >>> tanh().apply(None, None, np.array([[0.0, 1000.0]])).y
    array([[0., 1.]])
    """
    return _layer(_Tanh())


def softplus() -> Layer:
    """y = log(1 + exp(x)); dx = dy · sigmoid(x) = dy · (1 - exp(-y)) (Dugas et al. 2001).

    >>> softplus().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[   0., 1000.]])
    """
    return _layer(_Softplus())


def silu() -> Layer:
    """y = x · s, s = sigmoid(x); dx = dy · s · (1 + x · (1 - s)) (Elfwing et al. 2018; also called swish).

    >>> silu().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[  -0., 1000.]])
    """
    return _layer(_Silu())


def gelu() -> Layer:
    """y = x/2 · (1 + t), t = tanh(sqrt(2/π) · (x + 0.044715 x³)) (Hendrycks & Gimpel 2016).

    This is the paper's tanh form; it differs from the one by the error function by at most 0.0005, and needs
    nothing beyond NumPy. dx = dy · (1 + t + x · (1 - t²) · sqrt(2/π) · (1 + 3 · 0.044715 x²)) / 2.

    >>> gelu().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[  -0., 1000.]])
    """
    return _layer(_Gelu())


def scale(factor: float) -> Layer:
    """y = factor · x, for inputs that come in other units: ``scale(1 / 255)``.

    >>> scale(2.0).apply(None, None, np.ones((1, 2))).y
    array([[2., 2.]])

    Raises ValueError unless the factor is finite.
    """
    return _layer(_Scale(factor))


def softmax() -> Layer:
    """y_i = exp(x_i) / Σ_j exp(x_j) over the last axis; dx = y · (dy - Σ_j dy_j y_j).

    Not for training: `funcnn.losses.softmax_cross_entropy` takes the logits and is exact where this saturates.

    >>> softmax().apply(None, None, np.array([[1000.0, 1000.0]])).y
    array([[0.5, 0.5]])
    """
    return _layer(_Softmax())


def log_softmax() -> Layer:
    """y_i = x_i - log Σ_j exp(x_j) over the last axis; dx = dy - exp(y) · Σ_j dy_j.

    >>> log_softmax().apply(None, None, np.array([[1000.0, 0.0]])).y
    array([[    0., -1000.]])
    """
    return _layer(_LogSoftmax())
