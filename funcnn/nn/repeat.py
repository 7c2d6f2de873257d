"""`repeat`, a layer several times one after the other, each time with params of its own."""

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, Values, make_layer
from funcnn.nn.combining import Wrapped, place
from funcnn.nn.coupled import Coroutine, Meets
from funcnn.nn.serial import serial
from funcnn.settings import config, count
from funcnn.tree import Shape

__all__ = ["repeat"]


def repeat(layer: Layer, times: int) -> Layer:
    """y = layer(... layer(x)), so many times, each with its own params: ``serial(layer, layer, ...)``.

    Params, state, keys and residuals are those of that `serial`; so a deep net is a line long, and prints so. To take
    the same params each time, see `tied`.

    >>> from funcnn.compose import residual, serial
    >>> from funcnn.layers import dense, relu
    >>> net = serial(dense(16), repeat(residual(serial(dense(16), relu())), 12), dense(10))
    >>> len(net.init(Key(0), (8,)).params[1])
    12

    Raises TypeError for an argument that is no Layer, ValueError for `times` that is no positive int.
    """
    return make_layer(_Repeat(layer, times), _apply, _backward, _init)


@config
class _Repeat(Wrapped, Meets):
    name: ClassVar[str] = "repeat"
    times: int = count()

    @cached_property
    def serial(self) -> Layer:
        """What it is short for."""
        return serial(*[self.layer] * self.times)

    @property
    def children(self) -> tuple[Layer, ...]:
        return self.serial.config.children

    def out_shape(self, in_shape: Shape) -> Shape:
        with place(self.name):
            return self.serial.config.out_shape(in_shape)

    def macs(self, in_shape: Shape) -> int:
        return self.serial.config.macs(in_shape)

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        with place(self.name):
            return (yield from _meets(self).apply_meeting(params, state, x, key=key, train=train))

    def backward_meeting(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Coroutine:
        with place(self.name):
            return (yield from _meets(self).backward_meeting(params, residuals, dy, need_dx=need_dx))


def _meets(settings: _Repeat) -> Meets:
    inner = settings.serial.config
    assert isinstance(inner, Meets)
    return inner


def _apply(
    settings: _Repeat, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
) -> Applied:
    with place(settings.name):
        return settings.serial.apply(params, state, x, key=key, train=train)


def _backward(settings: _Repeat, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Gradients:
    with place(settings.name):
        return settings.serial.backward(params, residuals, dy, need_dx=need_dx)


def _init(settings: _Repeat, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    with place(settings.name):
        return settings.serial.init(key, in_shape, dtype)
