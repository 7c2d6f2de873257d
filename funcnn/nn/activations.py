"""Element-wise layers: any shape in, the same shape out, no parameters; what they share, and three that fit no family.

Each activation is a pair of small functions, y = f(x) and dx = dy · f'(x). The derivative is written in y where it can
be: the next layer keeps y anyway, so the residual costs no memory. Every formula is finite over the whole float range.
Those with kinks are in `funcnn.nn.piecewise`, the smooth ones in `funcnn.nn.smooth`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays.elementwise import activate, activate_back, filled, underflow_is_zero, value_and_slope
from funcnn.checks import LayerError, check_dy, check_float, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.settings import check_finite, config, number, shown
from funcnn.system.devices import has_form
from funcnn.tree import Array, brief

__all__ = ["Activation", "elementwise", "identity", "scale"]

Function = Callable[[Array], Array]


def identity() -> Layer:
    """y = x.

    >>> identity().apply(None, None, np.ones((1, 2))).y
    array([[1., 1.]])
    """
    return _Identity().as_layer()


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
    """An element-wise layer, in one of three forms; all compute value by value.

    `writes`: `write` fills y, `write_gradient` fills dx, and y or x is what backward needs.
    `keeps_slope`: `fill` writes y and dy/dx of the same steps, and backward needs no more than a product.
    Neither: `forward` and `gradient` give arrays of their own, and y or x is what backward needs.
    """

    by_chunks: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    keeps_slope: ClassVar[bool] = False
    keeps_input: ClassVar[bool] = False
    is_elementwise: ClassVar[bool] = True  # false for softmax, which couples an example's values

    def as_layer(self) -> Layer:
        """The layer that has these settings."""
        return make_layer(self, _apply, _backward)

    @property
    def formula(self) -> str:
        """The name under which a device may have a form of its own."""
        return self.name

    def forward(self, x: Array) -> Array:
        """y of x."""
        if self.writes:
            return filled(self.write, x)
        if self.keeps_slope:
            return value_and_slope(self.fill, x, slope=False)[0]
        raise TypeError(f"{type(self).__name__} does not define forward")

    def gradient(self, kept: Array, dy: Array) -> Array:
        """dx of dy and what is kept."""
        if self.writes or self.keeps_slope:
            return filled(self.write_gradient, kept, dy)
        raise TypeError(f"{type(self).__name__} does not define gradient")

    def fill(self, x: Array, y: Array, slope: Array | None) -> None:
        """Write y and, unless it is None, the slope: arrays like x."""
        raise TypeError(f"{type(self).__name__} does not define fill")

    def write(self, x: Array, y: Array) -> None:
        """Write y, an array like x."""
        raise TypeError(f"{type(self).__name__} does not define write")

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        """Write dx, an array like what is kept."""
        if not self.keeps_slope:
            raise TypeError(f"{type(self).__name__} does not define write_gradient")
        np.multiply(kept, dy, out=dx)


@underflow_is_zero
def _apply(
    settings: Activation, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    y, slope = activate(settings, x, slope=train)
    if settings.keeps_slope:
        return Applied(y, state, slope)
    return Applied(y, state, (x if settings.keeps_input else y) if train else None)


@underflow_is_zero
def _backward(settings: Activation, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, np.ndarray)
    check_dy(settings, dy, kept.shape, kept.dtype)
    return Gradients(None, activate_back(settings, kept, dy) if need_dx else None)


@config
class _Identity(Activation):
    name: ClassVar[str] = "identity"
    is_elementwise: ClassVar[bool] = False  # nothing to compute: x and dy pass as they are

    def forward(self, x: Array) -> Array:
        return x

    def gradient(self, kept: Array, dy: Array) -> Array:
        return dy


@config
class _Scale(Activation):
    name: ClassVar[str] = "scale"
    writes: ClassVar[bool] = True
    factor: float = number(check_finite)

    def write(self, x: Array, y: Array) -> None:
        np.multiply(x, self.factor, out=y)

    def write_gradient(self, kept: Array, dy: Array, dx: Array) -> None:
        np.multiply(dy, self.factor, out=dx)


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
        if not has_form(made) or made.shape != x.shape or made.dtype != x.dtype:
            got = brief(made) if has_form(made) else type(made).__name__
            raise LayerError(
                repr(self),
                f"expected of {which} an array {x.dtype} {x.shape} like its x, got {got}",
                "Make it of x by element-wise operations and Python's own numbers, which keep the dtype",
            )
        return made
