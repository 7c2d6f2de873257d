"""Element-wise layers: any shape in, the same shape out, no parameters.

Each activation is a pair of small functions, y = f(x) and dx = dy · f'(x). The derivative is written in y where it can
be: the next layer keeps y anyway, so the residual costs no memory. Every formula is finite over the whole float range.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays.elementwise import elementwise as in_blocks
from funcnn.arrays.elementwise import fused, positive_part, tanh_gelu, tanh_gelu_gradient, underflow_is_zero
from funcnn.checks import LayerError, check_dy, check_float, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.settings import check_finite, check_positive, check_share, config, number, shown
from funcnn.tree import Array

__all__ = [
    "Activation", "elementwise", "elu", "gelu", "identity", "leaky_relu", "relu", "scale", "sigmoid", "silu",
    "softplus", "stable_sigmoid", "tanh",
]  # fmt: skip

Function = Callable[[Array], Array]


def identity() -> Layer:
    """y = x.

    >>> identity().apply(None, None, np.ones((1, 2))).y
    array([[1., 1.]])
    """
    return _Identity().as_layer()


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


def elu(alpha: float = 1.0) -> Layer:
    """y = x where x > 0, alpha · (exp(x) - 1) elsewhere; dx = dy or (y + alpha) · dy (Clevert et al. 2016).

    >>> elu().apply(None, None, np.array([[-1000.0, 2.0]])).y
    array([[-1.,  2.]])

    Raises ValueError unless alpha is positive.
    """
    return _Elu(alpha).as_layer()


def sigmoid() -> Layer:
    """y = 1 / (1 + exp(-x)); dx = dy · y · (1 - y).

    >>> sigmoid().apply(None, None, np.array([[-1000.0, 0.0, 1000.0]])).y
    array([[0. , 0.5, 1. ]])
    """
    return _Sigmoid().as_layer()


def tanh() -> Layer:
    """y = tanh(x); dx = dy · (1 - y²).

    >>> tanh().apply(None, None, np.array([[0.0, 1000.0]])).y
    array([[0., 1.]])
    """
    return _Tanh().as_layer()


def softplus() -> Layer:
    """y = log(1 + exp(x)); dx = dy · sigmoid(x) = dy · (1 - exp(-y)) (Dugas et al. 2001).

    >>> softplus().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[   0., 1000.]])
    """
    return _Softplus().as_layer()


def silu() -> Layer:
    """y = x · s, s = sigmoid(x); dx = dy · s · (1 + x · (1 - s)) (Elfwing et al. 2018; also called swish).

    >>> silu().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[  -0., 1000.]])
    """
    return _Silu().as_layer()


def gelu() -> Layer:
    """y = x/2 · (1 + t), t = tanh(sqrt(2/π) · (x + 0.044715 x³)) (Hendrycks & Gimpel 2016).

    This is the paper's tanh form; it differs from the form with the error function by at most 0.0005, and needs
    nothing beyond NumPy. dx = dy · (1 + t + x · (1 - t²) · sqrt(2/π) · (1 + 3 · 0.044715 x²)) / 2.

    >>> gelu().apply(None, None, np.array([[-1000.0, 1000.0]])).y
    array([[  -0., 1000.]])
    """
    return _Gelu().as_layer()


def scale(factor: float) -> Layer:
    """y = factor · x, for inputs that come in other units: ``scale(1 / 255)``.

    >>> scale(2.0).apply(None, None, np.ones((1, 2))).y
    array([[2., 2.]])

    Raises ValueError unless the factor is finite.
    """
    return _Scale(factor).as_layer()


def elementwise(f: Function, df: Function, *, name: str) -> Layer:
    """y = f(x) for a function of your own and its derivative: dx = dy · df(x).

    f(x) -> y and df(x) -> dy/dx take an array and give a new one of its shape and dtype, value by value: a large array
    comes in flat blocks, spread over the threads. `name` is the name of the constructor that you write around it: the
    layer prints as its call, and a saved net is loaded with it. Two are equal if their functions are the same.

    >>> def sine():
    ...     return elementwise(np.sin, np.cos, name="sine")
    >>> sine(), sine().apply(None, None, np.zeros((1, 2))).y
    (sine(), array([[0., 0.]]))

    Lambdas will do to try it; a net to be saved, or sent to other processes, needs functions at the top of a module.

    Raises TypeError for what is no function, ValueError for a name that no function can have; apply and backward raise
    LayerError for a result of another shape or dtype.
    """
    return _Elementwise(name, f, df).as_layer()


# --- What they make -------------------------------------------------------------------------------------------


class Activation(Config):
    """An element-wise layer: `forward` and `gradient`, and whether backward needs y or x."""

    by_chunks: ClassVar[bool] = True
    keeps_input: ClassVar[bool] = False
    is_elementwise: ClassVar[bool] = True  # false for softmax, which couples an example's values

    def as_layer(self) -> Layer:
        """The layer that has these settings."""
        return make_layer(self, _apply, _backward)

    def forward(self, x: Array) -> Array:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def gradient(self, kept: Array, dy: Array) -> Array:
        raise TypeError(f"{type(self).__name__} does not define gradient")


@underflow_is_zero
def _apply(
    settings: Activation, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    y = in_blocks(settings.forward, x) if settings.is_elementwise else settings.forward(x)
    return Applied(y, state, (x if settings.keeps_input else y) if train else None)


@underflow_is_zero
def _backward(settings: Activation, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, np.ndarray)
    check_dy(settings, dy, kept.shape, kept.dtype)
    if not need_dx:
        return Gradients(None, None)
    dx = in_blocks(settings.gradient, kept, dy) if settings.is_elementwise else settings.gradient(kept, dy)
    return Gradients(None, dx)


@config
class _Identity(Activation):
    name: ClassVar[str] = "identity"
    is_elementwise: ClassVar[bool] = False  # nothing to compute: x and dy pass as they are

    def forward(self, x: Array) -> Array:
        return x

    def gradient(self, kept: Array, dy: Array) -> Array:
        return dy


@config
class _Relu(Activation):
    name: ClassVar[str] = "relu"
    increasing: ClassVar[bool] = True

    def forward(self, x: Array) -> Array:
        return positive_part(x)

    def gradient(self, kept: Array, dy: Array) -> Array:
        slope = (kept > 0).astype(dy.dtype)
        slope *= dy
        return slope


@config
class _LeakyRelu(Activation):
    name: ClassVar[str] = "leaky_relu"
    increasing: ClassVar[bool] = True
    slope: float = number(check_share, default=0.01)

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
class _Elu(Activation):
    name: ClassVar[str] = "elu"
    alpha: float = number(check_positive, default=1.0)

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
class _Sigmoid(Activation):
    name: ClassVar[str] = "sigmoid"

    def forward(self, x: Array) -> Array:
        return stable_sigmoid(x)

    def gradient(self, kept: Array, dy: Array) -> Array:
        return fused("dy * y * (1 - y)", dy=dy, y=kept)


@config
class _Tanh(Activation):
    name: ClassVar[str] = "tanh"

    def forward(self, x: Array) -> Array:
        return np.tanh(x)

    def gradient(self, kept: Array, dy: Array) -> Array:
        return fused("dy * (1 - y * y)", dy=dy, y=kept)


@config
class _Softplus(Activation):
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
class _Silu(Activation):
    name: ClassVar[str] = "silu"
    keeps_input: ClassVar[bool] = True

    def forward(self, x: Array) -> Array:
        y = stable_sigmoid(x)
        y *= x
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        return fused("dy * s * (1 + x * (1 - s))", dy=dy, s=stable_sigmoid(kept), x=kept)


@config
class _Gelu(Activation):
    name: ClassVar[str] = "gelu"
    keeps_input: ClassVar[bool] = True

    def forward(self, x: Array) -> Array:
        return tanh_gelu(x)

    def gradient(self, kept: Array, dy: Array) -> Array:
        return tanh_gelu_gradient(kept, dy)


@config
class _Scale(Activation):
    name: ClassVar[str] = "scale"
    factor: float = number(check_finite)

    def forward(self, x: Array) -> Array:
        return x * self.factor

    def gradient(self, kept: Array, dy: Array) -> Array:
        return dy * self.factor


def _check_name(instance: Any, attribute: Any, name: str) -> None:
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"elementwise: name must be that of a function, such as 'square', got {shown(name)}")


def _check_function(instance: Any, attribute: Any, function: Function) -> None:
    if not callable(function):
        raise TypeError(f"elementwise: {attribute.name} must be a function of an array, got {shown(function)}")


@config
class _Elementwise(Activation):
    name: str = attrs.field(validator=_check_name)  # type: ignore[misc]  # an instance's, as its constructor is called
    f: Function = attrs.field(validator=_check_function)
    df: Function = attrs.field(validator=_check_function)
    keeps_input: ClassVar[bool] = True

    def arguments(self) -> dict[str, Any]:
        return {}

    def forward(self, x: Array) -> Array:
        return self._like(x, "f", self._called("f", self.f, x))

    def gradient(self, kept: Array, dy: Array) -> Array:
        return self._like(kept, "df", self._called("df", self.df, kept)) * dy

    def _called(self, which: str, function: Function, x: Array) -> Array:
        try:
            return function(x)
        except TypeError as error:  # most of all of what takes no array
            fix = "Pass a function of an array: np.tanh, or one of your own"
            raise LayerError(repr(self), f"its {which} fails ({error})", fix) from error

    def _like(self, x: Array, which: str, made: Array) -> Array:
        if not isinstance(made, np.ndarray) or made.shape != x.shape or made.dtype != x.dtype:
            got = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            raise LayerError(
                repr(self),
                f"expected of {which} an array {x.dtype} {x.shape} like its x, got {got}",
                "Make it of x by element-wise operations and Python's own numbers, which keep the dtype",
            )
        return made
