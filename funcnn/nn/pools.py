"""Pooling layers: (n, height, width, channels) in and out; the arithmetic is in `funcnn.arrays.pooling`."""

from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays import pooling
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.geometry import Geometry, Padding, Size
from funcnn.arrays.layout import rows, wide
from funcnn.checks import Form, ShapeError, check_dy, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.nn.image_settings import check_images, check_padding, check_size, image_geometry, pair, short, sides
from funcnn.settings import config
from funcnn.tree import Array, Shape, node

__all__ = ["avg_pool2d", "global_avg_pool2d", "global_max_pool2d", "max_pool2d"]


def max_pool2d(window: int | Size, *, stride: int | Size | None = None, padding: Padding = "valid") -> Layer:
    """The largest value of each window: (n, h, w, c) -> (n, oh, ow, c), sizes as for `conv2d`.

        y[n, i, j, c] = max_{k, l} x[n, i·s + k - top, j·s + l - left, c]

    The stride s is the window unless given; windows may overlap. Padded cells count as -inf. The gradient goes to the
    winner, of equal values to the leftmost and of those to the topmost, and adds up where windows share one. The
    residuals are the winners' places along each axis, a byte each.

    >>> max_pool2d(2).apply(None, None, np.arange(16.0).reshape(1, 4, 4, 1)).y[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])

    Raises ValueError for sizes that are not positive or negative padding.
    """
    settings = _MaxPool2d(pair(window), pair(window if stride is None else stride), padding)
    return make_layer(settings, _max_pool_apply, _max_pool_backward)


def avg_pool2d(window: int | Size, *, stride: int | Size | None = None, padding: Padding = "valid") -> Layer:
    """The mean of each window: (n, h, w, c) -> (n, oh, ow, c), sizes as for `conv2d`.

        y[n, i, j, c] = mean_{k, l} x[n, i·s + k - top, j·s + l - left, c]

    The stride s is the window unless given; windows may overlap. Padded cells are not counted. The gradient goes to the
    cells that are counted, in equal shares, and adds up where windows overlap.

    >>> avg_pool2d(2).apply(None, None, np.arange(16.0).reshape(1, 4, 4, 1)).y[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])

    Raises ValueError for sizes that are not positive or negative padding.
    """
    settings = _AvgPool2d(pair(window), pair(window if stride is None else stride), padding)
    return make_layer(settings, _avg_pool_apply, _avg_pool_backward)


def global_avg_pool2d() -> Layer:
    """The mean of each channel: (n, h, w, c) -> (n, c); dx = dy / (h·w) everywhere (Lin et al. 2014).

    >>> global_avg_pool2d().apply(None, None, np.arange(4.0).reshape(1, 2, 2, 1)).y
    array([[1.5]])
    """
    return make_layer(_GlobalAvgPool2d(), _global_avg_apply, _global_avg_backward)


def global_max_pool2d() -> Layer:
    """The largest value of each channel: (n, h, w, c) -> (n, c); dx = dy at the winner, zero elsewhere.

    Of equal values the leftmost wins, and of those the topmost, as in `max_pool2d`. The residuals are the winners'
    places, not x.

    >>> global_max_pool2d().apply(None, None, np.arange(4.0).reshape(1, 2, 2, 1)).y
    array([[3.]])
    """
    return make_layer(_GlobalMaxPool2d(), _global_max_apply, _global_max_backward)


# --- Max and average ------------------------------------------------------------------------------------------


@config
class _Pool2d(Config):
    window: Size = attrs.field(validator=check_size, converter=pair)
    stride: Size = attrs.field(validator=check_size, converter=pair)
    padding: Padding = attrs.field(default="valid", validator=check_padding, converter=sides)

    def arguments(self) -> dict[str, Any]:
        given = short(super().arguments(), "window", "stride")
        return given if self.stride != self.window else {key: given[key] for key in given if key != "stride"}

    def geometry(self, in_shape: Shape) -> Geometry:
        geo = image_geometry(self, in_shape, self.window, self.stride, (1, 1), self.padding)
        if any(max(sides) >= window for sides, window in zip(geo.padding, self.window, strict=True)):
            raise ShapeError(
                repr(self),
                f"padding {geo.padding} would leave windows without a single real cell",
                f"Pad less than the window {self.window} on each side",
            )
        return geo

    def out_shape(self, in_shape: Shape) -> Shape:
        return (*self.geometry(in_shape).out_size, in_shape[2])


@config
class _MaxPool2d(_Pool2d):
    name: ClassVar[str] = "max_pool2d"
    by_chunks: ClassVar[bool] = True
    takes_maximum: ClassVar[bool] = True


@config
class _AvgPool2d(_Pool2d):
    name: ClassVar[str] = "avg_pool2d"
    by_chunks: ClassVar[bool] = True


@node
class _PoolResiduals:
    winners: pooling.Winners | None
    shape: tuple[int, ...]  # the input's, (n, h, w, c)
    dtype: Any


def _check_pool(settings: _Pool2d, residuals: Any, dy: Array) -> tuple[Any, Geometry]:
    """The residuals and the geometry, if `dy` fits them."""
    kept = check_residuals(settings, residuals, _PoolResiduals)
    n, *in_shape = kept.shape
    geo = settings.geometry(tuple(in_shape))
    check_dy(settings, dy, (n, *geo.out_size, in_shape[2]), kept.dtype)
    return kept, geo


def _max_pool_apply(
    settings: _MaxPool2d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_images(settings, x)
    y, winners = pooling.max_pool_forward(x, settings.geometry(x.shape[1:]), keep_winners=train)
    return Applied(y, state, _PoolResiduals(winners, x.shape, x.dtype) if train else None)


def _max_pool_backward(
    settings: _MaxPool2d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept, geo = _check_pool(settings, residuals, dy)
    return Gradients(None, pooling.max_pool_backward(dy, kept.winners, geo) if need_dx else None)


@underflow_is_zero
def _avg_pool_apply(
    settings: _AvgPool2d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_images(settings, x)
    y = pooling.avg_pool_forward(wide(x), settings.geometry(x.shape[1:])).astype(x.dtype, copy=False)
    return Applied(y, state, _PoolResiduals(None, x.shape, x.dtype) if train else None)


@underflow_is_zero
def _avg_pool_backward(
    settings: _AvgPool2d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    _, geo = _check_pool(settings, residuals, dy)
    return Gradients(None, pooling.avg_pool_backward(dy, geo) if need_dx else None)


# --- Global ---------------------------------------------------------------------------------------------------


class _GlobalPool2d(Config):
    by_chunks: ClassVar[bool] = True

    def out_shape(self, in_shape: Shape) -> Shape:
        image_geometry(self, in_shape, (1, 1), (1, 1), (1, 1), "valid")
        return in_shape[2:]


@config
class _GlobalAvgPool2d(_GlobalPool2d):
    name: ClassVar[str] = "global_avg_pool2d"


@config
class _GlobalMaxPool2d(_GlobalPool2d):
    name: ClassVar[str] = "global_max_pool2d"


@underflow_is_zero
def _global_avg_apply(
    settings: _GlobalAvgPool2d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_images(settings, x)
    settings.out_shape(x.shape[1:])
    # Rows first: they are the outermost in memory.
    y = wide(rows(x)).sum(axis=0).sum(axis=1).T / (x.shape[1] * x.shape[2])
    return Applied(y.astype(x.dtype, copy=False), state, Form(x.shape, x.dtype) if train else None)


@underflow_is_zero
def _global_avg_backward(
    settings: _GlobalAvgPool2d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    n, h, w, c = kept.shape
    check_dy(settings, dy, (n, c), kept.dtype)
    share = (dy * (1 / (h * w)))[:, None, None, :]
    return Gradients(None, np.broadcast_to(share, (n, h, w, c)) if need_dx else None)


def _global_max_apply(
    settings: _GlobalMaxPool2d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_images(settings, x)
    settings.out_shape(x.shape[1:])
    y, winners = pooling.global_max_forward(x, keep_winners=train)
    return Applied(y, state, _PoolResiduals(winners, x.shape, x.dtype) if train else None)


def _global_max_backward(
    settings: _GlobalMaxPool2d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, _PoolResiduals)
    n, h, w, c = kept.shape
    check_dy(settings, dy, (n, c), kept.dtype)
    return Gradients(None, pooling.global_max_backward(dy, kept.winners, (h, w)) if need_dx else None)
