"""Parts such as a user writes, one of every kind, at the top of a module as they must be."""

from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.init import Initializer, ones
from funcnn.keys import Key
from funcnn.layer import Applied, Array, Config, Described, Gradients, Initialised, Layer, Shape, config, make_layer
from funcnn.layers import elementwise, relu


def cube_of(x: Array) -> Array:
    return x * x * x


def slope_of_cube(x: Array) -> Array:
    return 3 * x * x


def cube() -> Layer:
    return elementwise(cube_of, slope_of_cube, name="cube")


@config
class Power(Config):
    """A layer with settings of every sort that a file can hold."""

    name: ClassVar[str] = "power"
    exponent: Any = 2
    activation: Any = relu
    shape: Any = ()
    label: Any = None


def power_apply(
    settings: Power, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    return Applied(x**settings.exponent, state, x if train else None)


def power_backward(settings: Power, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    slope = settings.exponent * residuals ** (settings.exponent - 1)
    return Gradients(None, slope * dy if need_dx else None)


def power(exponent: Any = 2, **options: Any) -> Layer:
    return make_layer(Power(exponent, **options), power_apply, power_backward)


@config
class Counting(Config):
    """A layer whose first array is of ints, and which divides by what an initialiser gave."""

    name: ClassVar[str] = "counting"


def counting_init(settings: Counting, key: Key, in_shape: Shape, dtype: Any = np.float32) -> Initialised:
    weight = ones()(key, in_shape, 1, 1, dtype)
    return Initialised((np.arange(3), weight / np.linalg.norm(weight)), None, in_shape)


def counting_apply(
    settings: Counting, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    return Applied(x, state, () if train else None)


def counting_backward(settings: Counting, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    return Gradients((np.zeros(3), np.zeros_like(params[1])), dy if need_dx else None)


def counting() -> Layer:
    return make_layer(Counting(), counting_apply, counting_backward, counting_init)


@config
class Diagonal(Initializer):
    name: ClassVar[str] = "diagonal"
    value: float = 1.0

    def fill(self, key: Key, shape: Shape, fan_in: int, fan_out: int) -> Array:
        return self.value * np.eye(*shape)


def diagonal(value: float = 1.0) -> Initializer:
    return Diagonal(value)


def halve(stored: Array) -> Array:
    return stored.astype(np.float32) / 2


@config
class Centred(Described):
    """A preprocessing without a constructor of its own: it is made of images, and made again from their mean."""

    name: ClassVar[str] = "centred"
    mean: float = attrs.field(converter=float)

    def __call__(self, stored: Array) -> Array:
        return stored.astype(np.float32) - self.mean


def darken(images: Array, key: Key, *, by: float) -> Array:
    return images * by


def absolute(outputs: Array, targets: Array, *, weight: float = 1.0) -> tuple[float, Array]:
    error = outputs - targets
    return weight * float(np.abs(error).mean()), weight * np.sign(error) / error.size


@config
class Ramp(Described):
    name: ClassVar[str] = "ramp"
    steps: int = 10

    def __call__(self, step: int) -> float:
        return min(1.0, step / self.steps)


def ramp(steps: int = 10) -> Ramp:
    return Ramp(steps)
