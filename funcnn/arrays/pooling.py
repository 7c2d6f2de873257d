"""Max and average pooling on NHWC arrays, one axis after the other: over rows, then over columns.

The plain form reduces each window's cells (`funcnn.conv_strided.windows`):

    largest value     windows(x, geo, padding=-inf).max(axis=(3, 4))
    mean              windows(x, geo).sum(axis=(3, 4)) / windows(ones, geo).sum(axis=(3, 4)),      padding not counted

Here the largest value of a window is the largest of its rows' largest, and a sum is a sum of sums: a window of kh × kw
cells takes kh + kw steps on ever smaller arrays instead of kh · kw, and each step is one NumPy call on slices, without
a copy of any window. What a max pool keeps for backward is, for each axis, which cell won, a byte each.
"""

import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.geometry import Geometry, Taps
from funcnn.arrays.layout import images, rows
from funcnn.tree import Array

__all__ = ["Winners", "avg_pool_backward", "avg_pool_forward", "max_pool_backward", "max_pool_forward"]

Winners = tuple[Array, Array]  # for each column of a window the row that won, and the column that won

_ROWS, _COLUMNS = 0, 2  # axes of an array by rows, (h, c, w, n)


# --- Maximum --------------------------------------------------------------------------------------------------


def max_pool_forward(x: Array, geo: Geometry, *, keep_winners: bool) -> tuple[Array, Winners | None]:
    """The largest value in each window, and (if asked for) which of the window's cells holds it.

    x (n, h, w, c) -> y (n, oh, ow, c). Padded cells count as -inf; of equal values the leftmost wins, and of those the
    topmost.
    """
    # Rows first: they are the outermost in memory, and less is then left to do along columns, which are short runs.
    tallest, row = _max_along(rows(x), _ROWS, geo.out_size[0], geo.taps[0], keep_winners)
    y, column = _max_along(tallest, _COLUMNS, geo.out_size[1], geo.taps[1], keep_winners)
    return images(y), (row, column) if row is not None and column is not None else None


def _max_along(x: Array, axis: int, size: int, taps: Taps, keep: bool) -> tuple[Array, Array | None]:
    """The largest value in each window along one axis, and the number of its cell."""
    best = np.empty(_out_shape(x, axis, size), x.dtype)
    winner = np.zeros(best.shape, np.uint8 if len(taps) <= 256 else np.uint32) if keep else None
    first = 0
    if len(taps) > 1 and taps[0][0] == taps[1][0] == slice(0, size):  # the first two cells of all windows are pixels
        one, other = x[_at(axis, taps[0][1])], x[_at(axis, taps[1][1])]
        np.maximum(one, other, out=best)
        if winner is not None:
            np.greater(other, one, out=winner.view(np.bool_) if winner.itemsize == 1 else winner)
        first = 2
    else:
        best[...] = -np.inf
    for k, (outputs, pixels) in enumerate(taps[first:], start=first):
        values, so_far = x[_at(axis, pixels)], best[_at(axis, outputs)]
        if winner is not None:
            # A later winner's number is larger: a maximum of bytes is a masked copy, vectorised.
            won, numbers = values > so_far, winner[_at(axis, outputs)]
            np.maximum(numbers, won * winner.dtype.type(k), out=numbers)
        np.maximum(so_far, values, out=so_far)
    return best, winner


def max_pool_backward(dy: Array, winners: Winners, geo: Geometry) -> Array:
    """Each window's gradient to the cell that won, added where windows overlap.

    dy (n, oh, ow, c), winners as from the forward pass -> (n, h, w, c)
    """
    row, column = winners
    wide = _spread_along(rows(dy), column, _COLUMNS, geo, geo.taps[1])
    return images(_spread_along(wide, row, _ROWS, geo, geo.taps[0]))


def _spread_along(dy: Array, winner: Array | None, axis: int, geo: Geometry, taps: Taps) -> Array:
    """Each window's gradient to the cell that won along one axis; to all of its cells where there is no winner."""
    side = 0 if axis == _ROWS else 1
    size, stride = geo.in_size[side], geo.stride[side]
    # The first `stride` taps reach different pixels, so they set the gradient there; later taps reach pixels that
    # earlier ones have reached from the windows beside, and add to it. What the first taps miss must be zero before.
    reached = sum([outputs.stop - outputs.start for outputs, _ in taps[:stride]])
    dx = (np.empty if reached == size else np.zeros)(_out_shape(dy, axis, size), dy.dtype)
    for k, (outputs, pixels) in enumerate(taps):
        there, cells = dy[_at(axis, outputs)], dx[_at(axis, pixels)]
        won = 1 if winner is None else winner[_at(axis, outputs)] == k
        if k < stride:
            np.multiply(there, won, out=cells)
        else:
            cells += there if winner is None else there * won
    return dx


# --- Mean -----------------------------------------------------------------------------------------------------


def avg_pool_forward(x: Array, geo: Geometry) -> Array:
    """The mean of each window's cells, padded ones not counted: x (n, h, w, c) -> (n, oh, ow, c)."""
    tall = _sum_along(rows(x), _ROWS, geo.out_size[0], geo.taps[0])
    y = _sum_along(tall, _COLUMNS, geo.out_size[1], geo.taps[1])
    y *= _shares(geo, x.dtype)
    return images(y)


def _sum_along(x: Array, axis: int, size: int, taps: Taps) -> Array:
    total = np.zeros(_out_shape(x, axis, size), x.dtype)
    for outputs, pixels in taps:
        there = total[_at(axis, outputs)]
        there += x[_at(axis, pixels)]
    return total


def avg_pool_backward(dy: Array, geo: Geometry) -> Array:
    """Each window's gradient in equal shares to its cells: dy (n, oh, ow, c) -> (n, h, w, c)."""
    wide = _spread_along(rows(dy) * _shares(geo, dy.dtype), None, _COLUMNS, geo, geo.taps[1])
    return images(_spread_along(wide, None, _ROWS, geo, geo.taps[0]))


def _shares(geo: Geometry, dtype: DTypeLike) -> Array:
    """One over the number of pixels in each window: (oh, 1, ow, 1)."""
    height, width = (
        _sum_along(np.ones(size, dtype), 0, out_size, taps)
        for size, out_size, taps in zip(geo.in_size, geo.out_size, geo.taps, strict=True)
    )
    return (1 / height)[:, None, None, None] * (1 / width)[None, None, :, None]


# --- One axis of an array -------------------------------------------------------------------------------------


def _at(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _out_shape(x: Array, axis: int, size: int) -> tuple[int, ...]:
    return (*x.shape[:axis], size, *x.shape[axis + 1 :])
