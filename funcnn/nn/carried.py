"""`carried`: a net of recurrent layers that begins where it is told to, and tells where it has ended."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.checks import LayerError, ShapeError, check_dy, check_residuals, is_several
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, Values, Vocabulary, make_layer
from funcnn.nn.combining import Wrapped, check_several, child_key, place
from funcnn.nn.recurrent import Recurrent, apply_from_carry, backward_from_carry
from funcnn.settings import config
from funcnn.tree import Array, Shape, node

__all__ = ["carried", "zero_carry"]


def carried(layer: Layer) -> Layer:
    """A recurrent net with its carry: ((n, time, ...), *carry) -> (y, *carry), the first what it begins with.

    The carry is the h of each `rnn` and `gru`, the h and c of each `lstm` inside, in the order of the layers, arrays
    (n, units). From zeros (`zero_carry`), y is what the net gives without it; params and state are the net's own. So a
    long sequence may be taken piece by piece: text is drawn one step at a time, and to train on pieces that hand on
    their carry, without its gradient, is truncated backpropagation through time (Williams & Peng 1990). dx has the
    gradient of the carry, too, which a decoder hands back to its encoder.

    >>> from funcnn.compose import serial
    >>> from funcnn.layers import gru, lstm
    >>> net = carried(serial(gru(4), lstm(3)))
    >>> params, state, out_shape = net.init(Key(0), ((20, 2), (4,), (3,), (3,)))
    >>> x = np.ones((1, 20, 2), np.float32)
    >>> whole, *_ = net.apply(params, state, (x, *zero_carry(net, 1))).y
    >>> first, *carry = net.apply(params, state, (x[:, :15], *zero_carry(net, 1))).y
    >>> then, *carry = net.apply(params, state, (x[:, 15:], *carry)).y
    >>> out_shape, bool(abs(whole - np.concatenate([first, then], axis=1)).max() < 1e-6)
    (((20, 3), (4,), (3,), (3,)), True)

    Recurrent layers may stand in `serial` and `repeat`, within each other; other layers within these are to treat each
    step by itself. Raises TypeError for what is no Layer, LayerError for recurrent layers in other combinators, or that
    go in reverse, and for none at all.
    """
    settings = _Carried(layer)
    settings.sizes  # noqa: B018  (raises for what cannot be carried)
    return make_layer(settings, _apply, _backward, _init)


def zero_carry(net: Layer, n: int, dtype: DTypeLike = np.float32) -> tuple[Array, ...]:
    """The carry with which n sequences begin, for a `carried` net.

    >>> from funcnn.layers import lstm
    >>> [h.shape for h in zero_carry(carried(lstm(4)), 2)]
    [(2, 4), (2, 4)]

    Raises TypeError for another layer.
    """
    if not isinstance(net.config, _Carried):
        raise TypeError(f"zero_carry: expected a net made by carried(...), got {net!r}")
    return tuple([np.zeros((n, units), dtype) for units in net.config.sizes])


# --- The settings ---------------------------------------------------------------------------------------------

_WITH_CARRY = "Give it (x, *carry), the first time (x, *zero_carry(net, n))"
_IN_ORDER = ("serial", "repeat")  # the combinators of layers one after the other


def _is_in_order(layer: Layer) -> bool:
    return layer.config.name in _IN_ORDER and len(layer.config.children) > 0


def _sizes(layer: Layer) -> Iterator[int]:
    """The units of each array of the carry."""
    settings = layer.config
    if isinstance(settings, Recurrent):
        if settings.reverse:
            fix = "Take the whole sequence at once: without carried(...)"
            raise LayerError(repr(layer), "in reverse a sequence begins with what is still to come", fix)
        yield from (settings.units,) * settings.carry
    elif _is_in_order(layer):
        for i, child in enumerate(settings.children):
            with place(settings.name, i):
                yield from _sizes(child)
    elif any(_recurrent(child) for child in settings.children):
        raise LayerError(
            settings.name, "carried goes no further than serial and repeat", "Put the recurrent layers outside"
        )


def _recurrent(layer: Layer) -> bool:
    return isinstance(layer.config, Recurrent) or any(map(_recurrent, layer.config.children))


@config
class _Carried(Wrapped):
    name: ClassVar[str] = "carried"
    takes_several: ClassVar[bool] = True

    @property
    def sizes(self) -> tuple[int, ...]:
        """The units of each array of the carry."""
        with place(self.name):
            found = tuple(_sizes(self.layer))
        if not found:
            raise LayerError(self.name, f"expected a recurrent layer inside, got {self.layer!r}", "Use it as it is")
        return found

    @property
    def vocabulary(self) -> Vocabulary:
        return (self.layer.config.vocabulary, *[None] * len(self.sizes))

    def out_shape(self, in_shape: Shape) -> Shape:
        shapes: Any = in_shape if is_several(in_shape) else (in_shape,)
        wanted = tuple([(units,) for units in self.sizes])
        if shapes[1:] != wanted:
            raise ShapeError(
                self.name,
                f"expected the shapes of a sequence and of its carry, (..., {', '.join(map(str, wanted))}), "
                f"got {in_shape}",
                _WITH_CARRY,
            )
        return (super().out_shape(shapes[0]), *wanted)  # type: ignore[arg-type]

    def macs(self, in_shape: Shape) -> int:
        return self.layer.config.macs(in_shape[0])  # type: ignore[arg-type]


# --- The functions --------------------------------------------------------------------------------------------


@node
class _CarriedResiduals:
    """The residuals of the net's layers, in tuples as its params."""

    layers: Any


def _init(settings: _Carried, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    with place(settings.name):
        made = settings.layer.init(key, in_shape[0], dtype)  # type: ignore[arg-type]
    return Initialised(made.params, made.state, out_shape)


@underflow_is_zero
def _apply(
    settings: _Carried, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_several(settings, x, 1 + len(settings.sizes), _WITH_CARRY)
    sequence, *carry = x
    with place(settings.name):
        y, state, kept, ends = _apply_layer(settings.layer, params, state, sequence, iter(carry), key, train)
    return Applied((y, *ends), state, _CarriedResiduals(kept) if train else None)


def _backward(settings: _Carried, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, _CarriedResiduals)
    count = 1 + len(settings.sizes)
    if type(dy) is not tuple or len(dy) != count:
        raise LayerError(
            settings.name,
            f"expected dy to be a tuple of {count} arrays as y is, got {type(dy).__name__}",
            "Pass (dy, *zero_carry(net, n, dy.dtype)) where no gradient comes from the carry",
        )
    with place(settings.name):
        gradients, dx, carry = _backward_layer(settings.layer, params, kept.layers, dy[0], reversed(dy[1:]), need_dx)
    return Gradients(gradients, (dx, *reversed(carry)) if need_dx else None)


def _apply_layer(
    layer: Layer, params: Any, state: Any, x: Any, carry: Iterator[Array], key: Key | None, train: bool
) -> tuple[Any, Any, Any, list[Array]]:
    """A layer from its part of the carry on: returns y, its state, its residuals, and what the part has become."""
    settings = layer.config
    if isinstance(settings, Recurrent):
        begin = list(islice(carry, settings.carry))
        for each in begin:
            _check_carry(settings, each, (len(x), settings.units), x.dtype)
        made = apply_from_carry(settings, params, x, begin, train=train)
        return made.y, state, made.residuals, [each.copy() for each in made.carry]
    if not _is_in_order(layer):
        return *layer.apply(params, state, x, key=key, train=train), []
    states, residuals = [], []
    ends: list[Array] = []
    for i, (child, its_params, its_state) in enumerate(zip(settings.children, params, state, strict=True)):
        with place(settings.name, i):
            its_key = child_key(key, child, i)
            x, its_state, kept, end = _apply_layer(child, its_params, its_state, x, carry, its_key, train)
        states.append(its_state)
        residuals.append(kept)
        ends += end
    return x, tuple(states), tuple(residuals), ends


def _check_carry(settings: Recurrent, carry: Any, shape: Shape, dtype: Any) -> None:
    """Raise unless an array of a carry is one for each example, in the dtype of x."""
    if carry.shape != shape or carry.dtype != dtype:
        raise ShapeError(
            repr(settings),
            f"expected each array of its carry to be {dtype} {shape}, got {carry.dtype} {carry.shape}",
            f"Begin with zero_carry(net, {shape[0]}, np.{dtype}), and hand on what it gives",
        )


def _backward_layer(
    layer: Layer, params: Any, residuals: Any, dy: Any, dcarry: Iterator[Array], need_dx: bool
) -> tuple[Any, Any, list[Array]]:
    """The gradients of a layer's params, of x, and of its part of the carry, which is taken and given last to first."""
    settings = layer.config
    if isinstance(settings, Recurrent):
        of_end = list(islice(dcarry, settings.carry))[::-1]
        for each in of_end:
            check_dy(settings, each, (len(dy), settings.units), dy.dtype)
        made = backward_from_carry(settings, params, residuals, dy, of_end, need_dx=need_dx)
        return made.params, made.dx, list(made.carry)[::-1]
    if not _is_in_order(layer):
        return *layer.backward(params, residuals, dy, need_dx=need_dx), []
    found = []
    begins: list[Array] = []
    for i in reversed(range(len(settings.children))):
        with place(settings.name, i):
            child = settings.children[i]
            its, dy, begin = _backward_layer(child, params[i], residuals[i], dy, dcarry, need_dx or i > 0)
        found.append(its)
        begins += begin
    return tuple(reversed(found)), dy, begins
