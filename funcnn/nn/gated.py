"""Gates and maxout, which make one value of several along the last axis: (n, ..., pieces · k) -> (n, ..., k).

The pieces are the parts of the last axis in order, not neighbours: so each is one run of numbers in memory.
"""

from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays import special
from funcnn.arrays.elementwise import Fill, underflow_is_zero, value_and_slope
from funcnn.arrays.layout import images, rows
from funcnn.checks import ShapeError, check_dy, check_float, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.settings import check_count, check_flag, config, refuse
from funcnn.tree import Array, Shape, node

__all__ = ["geglu", "glu", "maxout", "swiglu"]


def glu() -> Layer:
    """y = a · sigmoid(b), a and b the halves of x's last axis: (n, ..., 2k) -> (n, ..., k) (Dauphin et al. 2017).

    With s = sigmoid(b): da = dy · s, db = dy · a · s · (1 - s). The gate is the second half, as in PyTorch's glu.

    >>> glu().apply(None, None, np.array([[1.0, 2.0, 0.0, 1000.0]])).y
    array([[0.5, 2. ]])

    apply and init raise ShapeError for a last axis that is odd.
    """
    return _Glu().as_layer()


def swiglu() -> Layer:
    """y = a · silu(b), a and b the halves of x's last axis: (n, ..., 2k) -> (n, ..., k) (Shazeer 2020).

    With s = sigmoid(b): da = dy · b · s, db = dy · a · s · (1 + b · (1 - s)). The gate is the second half, as in `glu`.

    >>> swiglu().apply(None, None, np.array([[3.0, 2.0, 0.0, 1000.0]])).y
    array([[   0., 2000.]])

    apply and init raise ShapeError for a last axis that is odd.
    """
    return _Swiglu().as_layer()


def geglu(*, exact: bool = False) -> Layer:
    """y = a · gelu(b), a and b the halves of x's last axis: (n, ..., 2k) -> (n, ..., k) (Shazeer 2020).

    da = dy · gelu(b), db = dy · a · gelu'(b); `gelu` says what `exact` is. The gate is the second half, as in `glu`.

    >>> geglu().apply(None, None, np.array([[3.0, 2.0, 0.0, 1000.0]])).y
    array([[   0., 2000.]])

    apply and init raise ShapeError for a last axis that is odd.
    """
    return _Geglu(exact).as_layer()


def maxout(pieces: int) -> Layer:
    """y_i = max_j x_{j·k + i}: the largest of `pieces` values, (n, ..., pieces · k) -> (n, ..., k).

    A dense layer with pieces · k units before it makes it the maxout of Goodfellow et al. (2013). The gradient goes to
    the winner, of equal values to the first. The residuals are the winners, a byte each.

    >>> maxout(2).apply(None, None, np.array([[1.0, 2.0, 0.0, 3.0]])).y
    array([[1., 3.]])

    Raises ValueError unless `pieces` is an int from 2 to 256; apply and init raise ShapeError for a last axis that
    cannot be divided by it.
    """
    return make_layer(_Maxout(pieces), _maxout_apply, _maxout_backward)


# --- Gates ----------------------------------------------------------------------------------------------------


def _divided(settings: Config, in_shape: Shape, pieces: int) -> Shape:
    """An example's shape with the last axis divided by a number of pieces."""
    if not in_shape or in_shape[-1] % pieces:
        by = "even" if pieces == 2 else f"a multiple of {pieces}"
        units = f"dense({pieces} * k)" if len(in_shape) < 2 else f"{pieces} * k features or channels"
        raise ShapeError(
            repr(settings), f"expected the last axis of examples to be {by}, got {in_shape}", f"Put {units} before it"
        )
    return (*in_shape[:-1], in_shape[-1] // pieces)


@node
class _GateResiduals:
    """The slopes of y in a and in the gate: together as large as x."""

    in_a: Array
    in_gate: Array


class _Gate(Config):
    """y = a · f(b); `fill` writes f and f'."""

    by_chunks: ClassVar[bool] = True

    def as_layer(self) -> Layer:
        """The layer that has these settings."""
        return make_layer(self, _gate_apply, _gate_backward)

    def out_shape(self, in_shape: Shape) -> Shape:
        return _divided(self, in_shape, 2)

    @property
    def fill(self) -> Fill:
        """f and f', as `funcnn.arrays.special` has them."""
        raise TypeError(f"{type(self).__name__} does not define fill")


@underflow_is_zero
def _gate_apply(
    settings: _Gate, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    k = settings.out_shape(x.shape[1:])[-1]
    a, gate = x[..., :k], x[..., k:].copy(order="K")  # what is apart in memory would not go by blocks
    opened, slope = value_and_slope(settings.fill, gate, slope=train)
    if slope is None:
        opened *= a
        return Applied(opened, state, None)
    slope *= a
    return Applied(opened * a, state, _GateResiduals(opened, slope))


@underflow_is_zero
def _gate_backward(settings: _Gate, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, _GateResiduals)
    check_dy(settings, dy, kept.in_a.shape, kept.in_a.dtype)
    if not need_dx:
        return Gradients(None, None)
    dx, k = _empty_with_channels(dy, 2 * dy.shape[-1]), dy.shape[-1]
    np.multiply(dy, kept.in_a, out=dx[..., :k])
    np.multiply(dy, kept.in_gate, out=dx[..., k:])
    return Gradients(None, dx)


@config
class _Glu(_Gate):
    name: ClassVar[str] = "glu"

    @property
    def fill(self) -> Fill:
        return special.sigmoid_gate


@config
class _Swiglu(_Gate):
    name: ClassVar[str] = "swiglu"

    @property
    def fill(self) -> Fill:
        return special.silu


@config
class _Geglu(_Gate):
    name: ClassVar[str] = "geglu"
    exact: bool = attrs.field(default=False, validator=check_flag)

    @property
    def fill(self) -> Fill:
        return special.erf_gelu if self.exact else special.tanh_gelu


def _empty_with_channels(like: Array, channels: int) -> Array:
    """A new array like another with more channels: images lie by rows where that one's do."""
    shape = (*like.shape[:-1], channels)
    if like.ndim == 4 and rows(like).flags.c_contiguous:
        n, h, w, c = shape
        return images(np.empty_like(like, order="C", shape=(h, c, w, n)))
    return np.empty_like(like, order="C", shape=shape)


# --- maxout ---------------------------------------------------------------------------------------------------

_MOST_PIECES = 256  # whose numbers are bytes


def _check_pieces(instance: Any, attribute: Any, pieces: int) -> None:
    check_count(instance, attribute, pieces)
    if not 2 <= pieces <= _MOST_PIECES:
        refuse("maxout", "pieces", f"from 2 to {_MOST_PIECES}", pieces)


@node
class _MaxoutResiduals:
    """The number of each winner, a byte; what the dtype of dx is."""

    winners: Array
    dtype: Any


@config
class _Maxout(Config):
    name: ClassVar[str] = "maxout"
    by_chunks: ClassVar[bool] = True
    pieces: int = attrs.field(validator=_check_pieces)

    def out_shape(self, in_shape: Shape) -> Shape:
        return _divided(self, in_shape, self.pieces)

    def parts(self, x: Array) -> list[Array]:
        """The pieces of an array, as views."""
        k = x.shape[-1] // self.pieces
        return [x[..., j * k : (j + 1) * k] for j in range(self.pieces)]


def _maxout_apply(
    settings: _Maxout, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    settings.out_shape(x.shape[1:])
    first, *others = settings.parts(x)
    y = first.copy(order="K")
    winners = np.zeros_like(y, np.uint8) if train else None
    for j, piece in enumerate(others, 1):
        if winners is not None:  # a later piece that is larger than all before has a larger number, too
            np.maximum(winners, (piece > y).view(np.uint8) * np.uint8(j), out=winners)
        np.maximum(y, piece, out=y)
    return Applied(y, state, _MaxoutResiduals(winners, x.dtype) if winners is not None else None)


@underflow_is_zero
def _maxout_backward(settings: _Maxout, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, _MaxoutResiduals)
    winners = kept.winners
    check_dy(settings, dy, winners.shape, kept.dtype)
    if not need_dx:
        return Gradients(None, None)
    dx = _empty_with_channels(dy, settings.pieces * dy.shape[-1])
    for j, piece in enumerate(settings.parts(dx)):
        np.multiply(dy, winners == j, out=piece)
    return Gradients(None, dx)
