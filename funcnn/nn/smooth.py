"""Smooth activations, without a kink or with one that a setting takes away: any shape in, the same shape out."""

from typing import ClassVar

import attrs
import numpy as np

from funcnn.arrays import special
from funcnn.arrays.elementwise import positive_part
from funcnn.layer import Layer
from funcnn.nn.activations import Activation
from funcnn.settings import check_flag, check_positive, config, number
from funcnn.tree import Array

__all__ = [
    "celu", "elu", "gelu", "log_sigmoid", "mish", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
    "tanh_shrink",
]  # fmt: skip


def elu(alpha: float = 1.0) -> Layer:
    """y = x where x > 0, alpha · (exp(x) - 1) elsewhere; dx = dy or (y + alpha) · dy (Clevert et al. 2016).

    >>> elu().apply(None, None, np.array([[-1000.0, 2.0]])).y
    array([[-1.,  2.]])

    Raises ValueError unless alpha is positive.
    """
    return _Elu(alpha).as_layer()


def selu() -> Layer:
    """y = λ · x where x > 0, λ · α · (exp(x) - 1) elsewhere; dx = λ · dy or (y + λ · α) · dy (Klambauer et al. 2017).

    λ = 1.0507 and α = 1.6733 are such that a deep net of dense layers with `lecun_normal` weights keeps the mean 0
    and the variance 1 from layer to layer. Its dropout is `alpha_dropout`.

    >>> selu().apply(None, None, np.array([[-1000.0, 1.0]])).y
    array([[-1.75809934,  1.05070099]])
    """
    return _Selu().as_layer()


def celu(alpha: float = 1.0) -> Layer:
    """y = x where x > 0, α · (exp(x / α) - 1) elsewhere; dx = dy or (y / α + 1) · dy (Barron 2017).

    The elu whose slope is continuous for every α.

    >>> celu(2.0).apply(None, None, np.array([[-1000.0, 2.0]])).y
    array([[-2.,  2.]])

    Raises ValueError unless alpha is positive.
    """
    return _Celu(alpha).as_layer()


def sigmoid() -> Layer:
    """y = 1 / (1 + exp(-x)); dx = dy · y · (1 - y).

    >>> sigmoid().apply(None, None, np.array([[-1000.0, 0.0, 1000.0]])).y
    array([[0. , 0.5, 1. ]])
    """
    return _Sigmoid().as_layer()


def log_sigmoid() -> Layer:
    """y = log(sigmoid(x)) = -log(1 + exp(-x)); dx = dy · sigmoid(-x) = dy · (1 - exp(y)).

    >>> log_sigmoid().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[-1000.,     0.]])
    """
    return _LogSigmoid().as_layer()


def tanh() -> Layer:
    """y = tanh(x); dx = dy · (1 - y²).

    >>> tanh().apply(None, None, np.array([[0.0, 1000.0]])).y
    array([[0., 1.]])
    """
    return _Tanh().as_layer()


def tanh_shrink() -> Layer:
    """y = x - tanh(x); dx = dy · tanh(x)².

    >>> tanh_shrink().apply(None, None, np.array([[0.0, 1000.0]])).y
    array([[  0., 999.]])
    """
    return _TanhShrink().as_layer()


def softplus() -> Layer:
    """y = log(1 + exp(x)); dx = dy · sigmoid(x) = dy · (1 - exp(-y)) (Dugas et al. 2001).

    >>> softplus().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[   0., 1000.]])
    """
    return _Softplus().as_layer()


def softsign() -> Layer:
    """y = x / (1 + |x|); dx = dy / (1 + |x|)² = dy · (1 - |y|)² (Bergstra et al. 2009).

    >>> softsign().apply(None, None, np.array([[-1.0, 3.0]])).y
    array([[-0.5 ,  0.75]])
    """
    return _Softsign().as_layer()


def silu() -> Layer:
    """y = x · s, s = sigmoid(x); dx = dy · s · (1 + x · (1 - s)) (Elfwing et al. 2018; also called swish).

    >>> silu().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[  -0., 1000.]])
    """
    return _Silu().as_layer()


def mish() -> Layer:
    """y = x · t, t = tanh(log(1 + exp(x))); dx = dy · (t + x · (1 - t²) · sigmoid(x)) (Misra 2020).

    >>> mish().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[  -0., 1000.]])
    """
    return _Mish().as_layer()


def gelu(*, exact: bool = False) -> Layer:
    """y = x/2 · (1 + t), t = tanh(sqrt(2/π) · (x + 0.044715 x³)) (Hendrycks & Gimpel 2016).

    This is the paper's tanh form; it differs from the form with the error function by at most 0.0005, and takes three
    quarters of the time. dx = dy · (1 + t + x · (1 - t²) · sqrt(2/π) · (1 + 3 · 0.044715 x²)) / 2.

    With `exact`, y = x · Φ(x), Φ(x) = (1 + erf(x/√2)) / 2, and dx = dy · (Φ(x) + x · exp(-x²/2) / sqrt(2π)): PyTorch's
    gelu unless it is told otherwise.

    >>> gelu().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[  -0., 1000.]])
    >>> gelu().apply(None, None, np.ones(1)).y, gelu(exact=True).apply(None, None, np.ones(1)).y
    (array([0.84119199]), array([0.84134475]))
    """
    return _Gelu(exact).as_layer()


# --- What they make -------------------------------------------------------------------------------------------


@config
class _Elu(Activation):
    name: ClassVar[str] = "elu"
    writes: ClassVar[bool] = True
    alpha: float = number(check_positive, default=1.0)

    def write(self, x: Array, y: Array) -> None:
        _write_elu(x, y, self.alpha)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        _write_elu_gradient(kept, dy, dx, self.alpha, 1.0)


def _write_elu(x: Array, y: Array, alpha: float) -> None:
    """y = x where x > 0, alpha · (exp(x) - 1) elsewhere."""
    np.clip(x, -np.inf, 0, out=y)
    np.expm1(y, out=y)
    y *= alpha
    y += positive_part(x)


def _write_elu_gradient(y: Array, dy: Array, dx: Array, left: float, right: float) -> None:
    """dx = dy · (y + left) where y <= 0, dy · right elsewhere: by masks, which cost a fifth of a choice by `where`."""
    np.clip(y, -np.inf, 0, out=dx)
    dx += left
    mask = (y <= 0).astype(dy.dtype)
    dx *= mask
    np.subtract(1, mask, out=mask)
    if right != 1:
        mask *= right
    dx += mask
    dx *= dy


_LAMBDA = 1.0507009873554804934193349852946  # selu's
_ALPHA = 1.6732632423543772848170429916717


@config
class _Selu(Activation):
    name: ClassVar[str] = "selu"
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        _write_elu(x, y, _ALPHA)
        y *= _LAMBDA

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        _write_elu_gradient(kept, dy, dx, _LAMBDA * _ALPHA, _LAMBDA)


@config
class _Celu(Activation):
    name: ClassVar[str] = "celu"
    writes: ClassVar[bool] = True
    alpha: float = number(check_positive, default=1.0)

    def write(self, x: Array, y: Array) -> None:
        np.clip(x, -np.inf, 0, out=y)
        y /= self.alpha
        np.expm1(y, out=y)
        y *= self.alpha
        y += positive_part(x)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.clip(kept, -np.inf, 0, out=dx)
        dx /= self.alpha
        dx += 1
        dx *= dy


@config
class _Sigmoid(Activation):
    name: ClassVar[str] = "sigmoid"
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        special.sigmoid_gate(x, y, None)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.subtract(1, kept, out=dx)
        dx *= dy * kept


@config
class _LogSigmoid(Activation):
    name: ClassVar[str] = "log_sigmoid"
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        np.abs(x, out=y)
        np.negative(y, out=y)
        np.exp(y, out=y)
        np.log1p(y, out=y)
        np.subtract(np.clip(x, -np.inf, 0), y, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.expm1(kept, out=dx)
        np.negative(dx, out=dx)
        dx *= dy


@config
class _Tanh(Activation):
    name: ClassVar[str] = "tanh"
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        np.tanh(x, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.multiply(kept, kept, out=dx)
        np.subtract(1, dx, out=dx)
        dx *= dy


@config
class _TanhShrink(Activation):
    name: ClassVar[str] = "tanh_shrink"
    keeps_slope: ClassVar[bool] = True

    def fill(self, x: Array, y: Array, slope: Array | None) -> None:
        special.tanh_shrink(x, y, slope)


@config
class _Softplus(Activation):
    name: ClassVar[str] = "softplus"
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        np.abs(x, out=y)
        np.negative(y, out=y)
        np.exp(y, out=y)
        np.log1p(y, out=y)
        y += positive_part(x)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.negative(kept, out=dx)  # sigmoid(x) = 1 - exp(-y)
        np.expm1(dx, out=dx)
        np.negative(dx, out=dx)
        dx *= dy


@config
class _Softsign(Activation):
    name: ClassVar[str] = "softsign"
    writes: ClassVar[bool] = True

    def write(self, x: Array, y: Array) -> None:
        np.abs(x, out=y)
        y += 1
        np.divide(x, y, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.abs(kept, out=dx)
        np.subtract(1, dx, out=dx)
        dx *= dx
        dx *= dy


@config
class _Silu(Activation):
    name: ClassVar[str] = "silu"
    keeps_slope: ClassVar[bool] = True

    def fill(self, x: Array, y: Array, slope: Array | None) -> None:
        special.silu(x, y, slope)


@config
class _Mish(Activation):
    name: ClassVar[str] = "mish"
    keeps_slope: ClassVar[bool] = True

    def fill(self, x: Array, y: Array, slope: Array | None) -> None:
        special.mish(x, y, slope)


@config
class _Gelu(Activation):
    name: ClassVar[str] = "gelu"
    keeps_slope: ClassVar[bool] = True
    exact: bool = attrs.field(default=False, validator=check_flag)

    @property
    def formula(self) -> str:
        return "gelu_exact" if self.exact else "gelu"

    def fill(self, x: Array, y: Array, slope: Array | None) -> None:
        (special.erf_gelu if self.exact else special.tanh_gelu)(x, y, slope)
