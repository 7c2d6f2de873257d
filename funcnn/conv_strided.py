"""Convolution and pooling on NHWC arrays by stride-tricks windows.

`windows` views a padded image batch as every window that a kernel sees, (n, oh, ow, kh, kw, c), without
copying. A convolution is then one matrix product over the last three axes,

    y[n, i, j, o] = sum over k, l, c of  windows[n, i, j, k, l, c] * weight[k, l, c, o],

and both its gradients are the two other products of the same three matrices. BLAS needs the windows as a
matrix, (n·oh·ow, kh·kw·c): that copy is unavoidable, and the axis order above makes it run over kw·c adjacent
numbers. It is made for a few images at a time (`_WINDOW_BYTES`), each such chunk a task for one of the threads
(`funcnn.parallel`), so memory does not grow with kernel area × batch.

``numpy.einsum("nijklc,klco->nijo", ..., optimize=True)`` reaches the same BLAS call, but takes twice as long
around it: it orders the copy otherwise and copies the result once more. It is the reference in the tests.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import attrs
import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcnn import parallel
from funcnn.layer import Array
from funcnn.parallel import chunks

__all__ = [
    "Geometry", "Padding", "Sides", "Size", "avg_pool_backward", "avg_pool_forward", "conv_forward",
    "conv_input_gradient", "conv_out_size", "conv_weight_gradient", "geometry", "max_pool_backward",
    "max_pool_forward", "windows",
]  # fmt: skip

Size = tuple[int, int]  # (height, width)
Sides = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = Literal["valid", "same"] | int | Sides

_WINDOW_BYTES = 2 * 2**20  # the largest window matrix: small enough for the cache, large enough to be worth a task
_SUMS = 8  # of the weight gradient's shares, each a task
_POOL_ELEMENTS = 2**17  # a task's share of a pooling layer's input


# --- How windows lie on an image ------------------------------------------------------------------------------


@attrs.frozen(slots=False)  # so that what follows from the fields can be kept beside them
class Geometry:
    """Where the windows of a kernel lie on an image: sizes as (height, width), padding as `Sides`."""

    in_size: Size
    window: Size
    stride: Size
    dilation: Size
    padding: Sides

    @cached_property
    def out_size(self) -> Size:
        """The number of windows along each axis; zero or less if the kernel does not fit."""
        (top, bottom), (left, right) = self.padding
        return (
            conv_out_size(self.in_size[0] + top + bottom, self.window[0], self.stride[0], self.dilation[0]),
            conv_out_size(self.in_size[1] + left + right, self.window[1], self.stride[1], self.dilation[1]),
        )

    @cached_property
    def padded_size(self) -> Size:
        """The image's size with its padding."""
        (top, bottom), (left, right) = self.padding
        return self.in_size[0] + top + bottom, self.in_size[1] + left + right

    @cached_property
    def inside(self) -> tuple[slice, slice, slice]:
        """The slices of a padded batch that hold the image."""
        (top, _), (left, _) = self.padding
        return slice(None), slice(top, top + self.in_size[0]), slice(left, left + self.in_size[1])

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
        """For each kernel cell (k, l): the slices of a padded batch that it meets, one cell per window."""
        (oh, ow), (sh, sw), (dh, dw) = self.out_size, self.stride, self.dilation
        for k in range(self.window[0]):
            rows = slice(k * dh, k * dh + (oh - 1) * sh + 1, sh)
            for l in range(self.window[1]):  # noqa: E741
                yield k, l, (slice(None), rows, slice(l * dw, l * dw + (ow - 1) * sw + 1, sw))


def conv_out_size(size: int, window: int, stride: int, dilation: int) -> int:
    """The number of windows along one padded axis: floor((size - (window - 1)·dilation - 1) / stride) + 1.

    >>> conv_out_size(28, 5, 1, 1), conv_out_size(29, 3, 2, 1), conv_out_size(7, 3, 1, 2)
    (24, 14, 3)
    """
    return (size - (window - 1) * dilation - 1) // stride + 1


def geometry(in_size: Size, window: Size, stride: Size, dilation: Size, padding: Padding) -> Geometry:
    """The geometry of a kernel on an image of a size.

    "valid" pads nothing; "same" gives ceil(size / stride) windows, the odd pixel of padding at the bottom and
    right; an int pads all four sides; ((top, bottom), (left, right)) says each.

    >>> geometry((28, 28), (3, 3), (2, 2), (1, 1), "same").padding
    ((0, 1), (0, 1))
    """
    if padding == "valid":
        sides: Sides = ((0, 0), (0, 0))
    elif padding == "same":
        sides = (
            _same_padding(in_size[0], window[0], stride[0], dilation[0]),
            _same_padding(in_size[1], window[1], stride[1], dilation[1]),
        )
    elif isinstance(padding, int):
        sides = ((padding, padding), (padding, padding))
    else:
        sides = padding
    return Geometry(in_size, window, stride, dilation, sides)


def _same_padding(size: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    out = -(-size // stride)
    total = max((out - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _pad(x: Array, geo: Geometry, value: float = 0.0) -> Array:
    """The batch inside a border of a value; the batch itself where there is no border."""
    if geo.padded_size == geo.in_size:
        return x
    padded = np.full((len(x), *geo.padded_size, x.shape[3]), value, x.dtype)
    padded[geo.inside] = x
    return padded


def windows(padded: Array, geo: Geometry) -> Array:
    """Every window of a padded batch, as a read-only view: (n, h, w, c) -> (n, oh, ow, kh, kw, c).

    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> windows(x, geometry((4, 4), (2, 2), (2, 2), (1, 1), "valid"))[0, 1, 0, :, :, 0]
    array([[ 8.,  9.],
           [12., 13.]])
    """
    n, h, w, c = padded.strides
    (sh, sw), (dh, dw) = geo.stride, geo.dilation
    return as_strided(
        padded,
        (len(padded), *geo.out_size, *geo.window, padded.shape[3]),
        (n, h * sh, w * sw, h * dh, w * dw, c),
        writeable=False,
    )


# --- Convolution ----------------------------------------------------------------------------------------------
#
# Groups are the leading axis of every matrix: channels fall into `groups` runs, and run g of the inputs reaches
# run g of the outputs alone. One group is the ordinary convolution, and then no axis moves.


def _window_chunks(n: int, geo: Geometry, channels: int, itemsize: int) -> list[slice]:
    """Slices of the batch whose window matrices keep under `_WINDOW_BYTES`."""
    (oh, ow), (kh, kw) = geo.out_size, geo.window
    return chunks(n, max(1, _WINDOW_BYTES // max(1, oh * ow * kh * kw * channels * itemsize)))


def _window_matrix(x: Array, geo: Geometry, groups: int) -> Array:
    """(n, h, w, c) -> (groups, n·oh·ow, kh·kw·c/groups); a view for 1x1 kernels, a copy otherwise."""
    view = windows(_pad(x, geo), geo)
    rows, inner = view.shape[0] * view.shape[1] * view.shape[2], x.shape[3] // groups
    if groups == 1:
        return view.reshape(1, rows, -1)
    split = view.reshape(*view.shape[:5], groups, inner)
    return split.transpose(5, 0, 1, 2, 3, 4, 6).reshape(groups, rows, -1)


def _kernel_matrix(weight: Array, groups: int) -> Array:
    """(kh, kw, c/groups, o) -> (groups, kh·kw·c/groups, o/groups)."""
    rows, filters = weight.shape[0] * weight.shape[1] * weight.shape[2], weight.shape[3]
    return weight.reshape(rows, groups, filters // groups).transpose(1, 0, 2)


def _pixel_matrix(dy: Array, groups: int) -> Array:
    """(n, oh, ow, o) -> (groups, n·oh·ow, o/groups)."""
    return dy.reshape(-1, groups, dy.shape[3] // groups).transpose(1, 0, 2)


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1) -> Array:
    """The convolution (as everywhere in this field: cross-correlation) of a batch with a kernel.

    x (n, h, w, c), weight (kh, kw, c/groups, o) -> (n, oh, ow, o)
    """
    y = np.empty((len(x), *geo.out_size, weight.shape[3]), x.dtype)
    kernel = _kernel_matrix(weight, groups)

    def forward(part: slice) -> None:
        np.matmul(_window_matrix(x[part], geo, groups), kernel, out=_pixel_matrix(y[part], groups))

    parallel.for_each(forward, _window_chunks(len(x), geo, x.shape[3], x.itemsize))
    return y


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """The loss's gradient in the weight: windowsᵀ · dy, the windows copied again rather than kept.

    x (n, h, w, c), dy (n, oh, ow, o) -> (kh, kw, c/groups, o)
    """
    inner, filters = x.shape[3] // groups, dy.shape[3]
    shape = groups, geo.window[0] * geo.window[1] * inner, filters // groups
    parts = _window_chunks(len(x), geo, x.shape[3], x.itemsize)

    def gradient(some: slice) -> Array:
        total = np.zeros(shape, x.dtype)
        for part in parts[some]:
            matrix = _window_matrix(x[part], geo, groups)
            total += np.matmul(matrix.transpose(0, 2, 1), _pixel_matrix(dy[part], groups))
        return total

    # A few sums over many chunks each: one for every chunk would make memory grow with weight × batch.
    total = np.zeros(shape, x.dtype)
    for share in parallel.for_each(gradient, chunks(len(parts), -(-len(parts) // _SUMS) or 1)):
        total += share
    return total.transpose(1, 0, 2).reshape(*geo.window, inner, filters)


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1) -> Array:
    """The loss's gradient in the input.

    dy (n, oh, ow, o), weight (kh, kw, c/groups, o) -> (n, h, w, c)

    In general dy · weightᵀ gives each window's share, and the shares are added where windows overlap. With stride 1
    it is also a convolution, of dy with the kernel turned by half a turn: that copies windows of dy, of o numbers a
    pixel, instead of adding ones of c, and is faster unless o is much larger.
    """
    channels = weight.shape[2] * groups
    turned = _turned(geo)
    if turned is not None and weight.shape[3] <= 2 * channels:
        return conv_forward(dy, _turned_kernel(weight, groups), turned, groups)
    dx = np.empty((len(dy), *geo.in_size, channels), dy.dtype)
    kernel = _kernel_matrix(weight, groups).transpose(0, 2, 1)

    def add_shares(part: slice) -> None:
        shares = np.matmul(_pixel_matrix(dy[part], groups), kernel)
        shares = shares.reshape(groups, -1, *geo.out_size, *geo.window, weight.shape[2])
        padded = np.zeros((shares.shape[1], *geo.padded_size, groups, weight.shape[2]), dy.dtype)
        for k, l, cells in geo.taps():  # noqa: E741
            padded[cells] += np.moveaxis(shares[:, :, :, :, k, l], 0, 3)
        dx[part] = padded[geo.inside].reshape(-1, *geo.in_size, channels)

    parallel.for_each(add_shares, _window_chunks(len(dy), geo, channels, dy.itemsize))
    return dx


def _turned(geo: Geometry) -> Geometry | None:
    """The geometry of the convolution from dy back to dx; None if there is none such."""
    (top, bottom), (left, right) = geo.padding
    reach, side = ((window - 1) * dilation for window, dilation in zip(geo.window, geo.dilation, strict=True))
    padding = (reach - top, reach - bottom), (side - left, side - right)
    if geo.stride != (1, 1) or min(*padding[0], *padding[1]) < 0:
        return None
    return Geometry(geo.out_size, geo.window, (1, 1), geo.dilation, padding)


def _turned_kernel(weight: Array, groups: int) -> Array:
    """(kh, kw, c/groups, o) -> (kh, kw, o/groups, c), turned by half a turn."""
    kh, kw, inner, filters = weight.shape
    split = weight[::-1, ::-1].reshape(kh, kw, inner, groups, filters // groups)
    return split.transpose(0, 1, 4, 3, 2).reshape(kh, kw, filters // groups, groups * inner)


# --- Pooling --------------------------------------------------------------------------------------------------


def _pool_chunks(x: Array) -> list[slice]:
    return chunks(len(x), max(1, _POOL_ELEMENTS // max(1, math.prod(x.shape[1:]))))


def max_pool_forward(x: Array, geo: Geometry, *, keep_index: bool) -> tuple[Array, Array | None]:
    """The largest value in each window, and (if asked for) which of the window's cells holds it.

    x (n, h, w, c) -> y (n, oh, ow, c), index (n, oh, ow, c) of bytes: k·kw + l. Padded cells never win; of
    equal values the first one does.
    """
    kh, kw = geo.window
    y = np.empty((len(x), *geo.out_size, x.shape[3]), x.dtype)
    index = np.zeros(y.shape, np.uint8 if kh * kw <= 256 else np.uint32) if keep_index else None

    def forward(part: slice) -> None:
        padded, best = _pad(x[part], geo, -np.inf), y[part]
        for k, l, cells in geo.taps():  # noqa: E741
            values = padded[cells]
            if k == l == 0:
                best[...] = values
                continue
            if index is not None:
                # A later winner's number is larger: a maximum of bytes is a masked copy, vectorised.
                winner = (values > best) * index.dtype.type(k * kw + l)
                np.maximum(index[part], winner, out=index[part])
            np.maximum(best, values, out=best)

    parallel.for_each(forward, _pool_chunks(x))
    return y, index


def max_pool_backward(dy: Array, index: Array, geo: Geometry) -> Array:
    """Each window's gradient to the cell that won, added where windows overlap.

    dy (n, oh, ow, c), index as from the forward pass -> (n, h, w, c)
    """
    dx = np.empty((len(dy), *geo.in_size, dy.shape[3]), dy.dtype)
    overlap = geo.stride[0] < geo.window[0] or geo.stride[1] < geo.window[1]

    def backward(part: slice) -> None:
        padded = np.zeros((len(dy[part]), *geo.padded_size, dy.shape[3]), dy.dtype)
        for k, l, cells in geo.taps():  # noqa: E741
            won = index[part] == k * geo.window[1] + l
            if overlap:
                padded[cells] += dy[part] * won
            else:
                np.multiply(dy[part], won, out=padded[cells])
        dx[part] = padded[geo.inside]

    parallel.for_each(backward, _pool_chunks(dx))
    return dx


def avg_pool_forward(x: Array, geo: Geometry) -> Array:
    """The mean of each window's cells, padded ones not counted: x (n, h, w, c) -> (n, oh, ow, c)."""
    y = np.zeros((len(x), *geo.out_size, x.shape[3]), x.dtype)
    weights = _weights(geo, x)

    def forward(part: slice) -> None:
        padded, mean = _pad(x[part], geo), y[part]
        for _, _, cells in geo.taps():
            mean += padded[cells]
        mean *= weights

    parallel.for_each(forward, _pool_chunks(x))
    return y


def avg_pool_backward(dy: Array, geo: Geometry) -> Array:
    """Each window's gradient in equal shares to its cells: dy (n, oh, ow, c) -> (n, h, w, c)."""
    dx = np.empty((len(dy), *geo.in_size, dy.shape[3]), dy.dtype)
    weights = _weights(geo, dy)

    def backward(part: slice) -> None:
        padded = np.zeros((len(dy[part]), *geo.padded_size, dy.shape[3]), dy.dtype)
        shares = dy[part] * weights
        for _, _, cells in geo.taps():
            padded[cells] += shares
        dx[part] = padded[geo.inside]

    parallel.for_each(backward, _pool_chunks(dx))
    return dx


def _weights(geo: Geometry, like: Array) -> Array:
    """One over the number of real cells in each window: (oh, ow, 1)."""
    ones = _pad(np.ones((1, *geo.in_size, 1), like.dtype), geo)
    counts: Array = windows(ones, geo).sum(axis=(3, 4))[0]
    return np.reciprocal(counts)
