"""Pooling along time: sequences (n, time, channels) in; the arithmetic is in `funcnn.arrays.pool_sequences`."""

from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays import pool_sequences
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.geometry import Geometry
from funcnn.checks import Form, ShapeError, check_dy, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.nn.sequence_settings import (
    Padding1d,
    check_padding_1d,
    check_sequence,
    check_sequences,
    ends,
    sequence_geometry,
)
from funcnn.settings import config, count
from funcnn.tree import Array, Shape, node

__all__ = ["avg_pool1d", "global_avg_pool1d", "global_max_pool1d", "max_pool1d"]


def max_pool1d(window: int, *, stride: int | None = None, padding: Padding1d = "valid") -> Layer:
    """The largest value of each window: (n, time, c) -> (n, out, c), out as for `conv1d`.

        y[n, i, c] = max_k x[n, i·s + k - before, c]

    The stride s is the window unless given; windows may overlap. Padded steps count as -inf. The gradient goes to the
    winner, of equal values the first, and adds up where windows share one. The residuals are the winners' places in
    their windows, a byte each.

    >>> max_pool1d(2).apply(None, None, np.array([[[1.0], [3.0], [2.0], [0.0]]])).y[0, :, 0]
    array([3., 2.])

    Raises ValueError for sizes that are not positive or padding that is none.
    """
    return make_layer(_MaxPool1d(window, window if stride is None else stride, padding), _max_apply, _max_backward)


def avg_pool1d(window: int, *, stride: int | None = None, padding: Padding1d = "valid") -> Layer:
    """The mean of each window: (n, time, c) -> (n, out, c), out as for `conv1d`.

        y[n, i, c] = mean_k x[n, i·s + k - before, c]

    The stride s is the window unless given; windows may overlap. Padded steps are not counted. The gradient goes to the
    steps that are counted, in equal shares, and adds up where windows overlap.

    >>> avg_pool1d(2).apply(None, None, np.array([[[1.0], [3.0], [2.0], [0.0]]])).y[0, :, 0]
    array([2., 1.])

    Raises ValueError for sizes that are not positive or padding that is none.
    """
    return make_layer(_AvgPool1d(window, window if stride is None else stride, padding), _avg_apply, _avg_backward)


def global_avg_pool1d() -> Layer:
    """The mean of each channel over time: (n, time, c) -> (n, c); dx = dy / time everywhere.

    >>> global_avg_pool1d().apply(None, None, np.arange(4.0).reshape(1, 4, 1)).y
    array([[1.5]])
    """
    return make_layer(_GlobalAvgPool1d(), _global_avg_apply, _global_avg_backward)


def global_max_pool1d() -> Layer:
    """The largest value of each channel: (n, time, c) -> (n, c); dx = dy at the first such step, zero elsewhere.

    >>> global_max_pool1d().apply(None, None, np.arange(4.0).reshape(1, 4, 1)).y
    array([[3.]])
    """
    return make_layer(_GlobalMaxPool1d(), _global_max_apply, _global_max_backward)


# --- Max and average ------------------------------------------------------------------------------------------


@config
class _Pool1d(Config):
    by_chunks: ClassVar[bool] = True
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same", "causal")
    window: int = count()
    stride: int = count()
    padding: Padding1d = attrs.field(default="valid", validator=check_padding_1d, converter=ends)

    def arguments(self) -> dict[str, Any]:
        given = super().arguments()
        return given if self.stride != self.window else {key: given[key] for key in given if key != "stride"}

    def geometry(self, in_shape: Shape) -> Geometry:
        geo = sequence_geometry(self, in_shape, self.window, self.stride, 1, self.padding)
        if max(geo.padding[0]) >= self.window:
            raise ShapeError(
                repr(self),
                f"padding {geo.padding[0]} would leave windows without a single real step",
                f"Pad less than the window {self.window} on each side",
            )
        return geo

    def out_shape(self, in_shape: Shape) -> Shape:
        return (self.geometry(in_shape).out_size[0], in_shape[1])


@config
class _MaxPool1d(_Pool1d):
    name: ClassVar[str] = "max_pool1d"


@config
class _AvgPool1d(_Pool1d):
    name: ClassVar[str] = "avg_pool1d"


@node
class _PoolResiduals:
    winners: Array | None
    form: Form


def _check_pool(settings: _Pool1d, residuals: Any, dy: Array) -> tuple[Any, Geometry]:
    """The residuals and the geometry, if `dy` fits them."""
    kept = check_residuals(settings, residuals, _PoolResiduals)
    n, time, channels = kept.form.shape
    geo = settings.geometry((time, channels))
    check_dy(settings, dy, (n, geo.out_size[0], channels), kept.form.dtype)
    return kept, geo


def _max_apply(
    settings: _MaxPool1d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_sequences(settings, x)
    y, winners = pool_sequences.max_pool_forward(x, settings.geometry(x.shape[1:]), keep_winners=train)
    return Applied(y, state, _PoolResiduals(winners, Form(x.shape, x.dtype)) if train else None)


def _max_backward(settings: _MaxPool1d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept, geo = _check_pool(settings, residuals, dy)
    return Gradients(None, pool_sequences.max_pool_backward(dy, kept.winners, geo) if need_dx else None)


@underflow_is_zero
def _avg_apply(
    settings: _AvgPool1d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_sequences(settings, x)
    y = pool_sequences.avg_pool_forward(x, settings.geometry(x.shape[1:]))
    return Applied(y, state, _PoolResiduals(None, Form(x.shape, x.dtype)) if train else None)


@underflow_is_zero
def _avg_backward(settings: _AvgPool1d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    _, geo = _check_pool(settings, residuals, dy)
    return Gradients(None, pool_sequences.avg_pool_backward(dy, geo) if need_dx else None)


# --- Over all of time -----------------------------------------------------------------------------------------


@config
class _GlobalPool1d(Config):
    by_chunks: ClassVar[bool] = True

    def out_shape(self, in_shape: Shape) -> Shape:
        check_sequence(self, in_shape)
        if in_shape[0] < 1:
            raise ShapeError(repr(self), f"expected at least one step, got {in_shape}", "Correct in_shape")
        return in_shape[1:]


@config
class _GlobalAvgPool1d(_GlobalPool1d):
    name: ClassVar[str] = "global_avg_pool1d"


@config
class _GlobalMaxPool1d(_GlobalPool1d):
    name: ClassVar[str] = "global_max_pool1d"


@underflow_is_zero
def _global_avg_apply(
    settings: _GlobalAvgPool1d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_sequences(settings, x)
    settings.out_shape(x.shape[1:])
    return Applied(x.mean(axis=1), state, Form(x.shape, x.dtype) if train else None)


@underflow_is_zero
def _global_avg_backward(
    settings: _GlobalAvgPool1d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    n, time, channels = kept.shape
    check_dy(settings, dy, (n, channels), kept.dtype)
    share = (dy * (1 / time))[:, None, :]
    return Gradients(None, np.broadcast_to(share, kept.shape) if need_dx else None)


def _global_max_apply(
    settings: _GlobalMaxPool1d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_sequences(settings, x)
    settings.out_shape(x.shape[1:])
    if not train:
        return Applied(x.max(axis=1), state, None)
    winners = x.argmax(axis=1)[:, None]
    y = np.take_along_axis(x, winners, axis=1)[:, 0]
    return Applied(y, state, _PoolResiduals(winners, Form(x.shape, x.dtype)))


def _global_max_backward(
    settings: _GlobalMaxPool1d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, _PoolResiduals)
    n, _, channels = kept.form.shape
    check_dy(settings, dy, (n, channels), kept.form.dtype)
    if not need_dx:
        return Gradients(None, None)
    return Gradients(None, pool_sequences.global_max_backward(dy, kept.winners, kept.form.shape[1]))
