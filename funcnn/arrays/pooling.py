"""Max and average pooling on NHWC arrays, one axis after the other: over rows, then over columns.

The plain form reduces each window's cells (`funcnn.conv_strided.windows`):

    largest value     windows(x, geo, padding=-inf).max(axis=(3, 4))
    mean              windows(x, geo).sum(axis=(3, 4)) / windows(ones, geo).sum(axis=(3, 4)),      padding not counted

Here the largest value of a window is the largest of its rows' largest, and a sum is a sum of sums: a window of kh × kw
cells takes kh + kw steps on ever smaller arrays instead of kh · kw, and each step is one NumPy call on slices, without
a copy of any window. What a max pool keeps for backward is, for each axis, which cell won, a byte each.

With stride 2, the windows of a row of pixels 0 to 5 have their first cells in every other column:

    columns              0  1  2  3  4  5
    even and odd ones    0  2  4  | 1  3  5        first cells 0 2, second cells 1 3, third cells 2 4

A step on every other column would run over n numbers at a time, too few for NumPy. So columns are copied apart first,
as many kinds of them as the stride (`_apart`), and then the cells under each tap are neighbours, as rows are.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.geometry import Geometry, Size, geometry
from funcnn.arrays.layout import copy_columns, images, rows
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import even_slices, for_each, in_a_task
from funcnn.tree import Array

__all__ = [
    "Winners", "avg_pool_backward", "avg_pool_forward", "global_max_backward", "global_max_forward",
    "max_pool_backward", "max_pool_forward", "spread", "sum_pool",
]  # fmt: skip

Winners = tuple[Array, Array]  # for each column of a window the row that won, and the column that won
Cells = Sequence[tuple[slice, Array]]  # for each tap along an axis the windows in which it meets pixels, and these

_ROWS, _COLUMNS = 0, 2  # axes of an array by rows, (h, c, w, n)
_TASK = 2**20  # numbers worth a task


# --- Maximum --------------------------------------------------------------------------------------------------


@tuned
def max_pool_forward(x: Array, geo: Geometry, *, keep_winners: bool) -> tuple[Array, Winners | None]:
    """The largest value in each window, and (if asked for) which of the window's cells holds it.

    x (n, h, w, c) -> y (n, oh, ow, c). Padded cells count as -inf; of equal values the leftmost wins, and of those the
    topmost.
    """
    n, _, w, c = x.shape
    oh, ow = geo.out_size
    source, y, winners = rows(x), np.empty((oh, c, ow, n), x.dtype), None
    if keep_winners:
        row, column = (np.uint8 if taps <= 256 else np.uint32 for taps in geo.window)
        winners = np.empty((oh, c, w, n), row), np.empty(y.shape, column)

    def pool(part: slice) -> None:
        # Rows first: they are the outermost in memory, and less is then left to do along columns.
        row, column = _of_channels(winners, part)
        tallest = np.empty((oh, part.stop - part.start, w, n), x.dtype)
        _max_along(_ROWS, _cells(_ROWS, [source[:, part]], geo), tallest, row)
        _max_along(_COLUMNS, _cells(_COLUMNS, _apart(tallest, geo), geo), y[:, part], column)

    _for_channels(pool, source)
    return images(y), winners


def _max_along(axis: int, cells: Cells, best: Array, winner: Array | None) -> None:
    """Fill `best` with the largest value in each window along one axis, and `winner` with the number of its cell."""
    first = 0
    if _are_everywhere(cells[:2], best.shape[axis]):
        one, other = cells[0][1], cells[1][1]
        np.maximum(one, other, out=best)
        if winner is not None:
            np.greater(other, one, out=winner.view(np.bool_) if winner.itemsize == 1 else winner)
        first = 2
    else:
        best[...] = -np.inf
        if winner is not None:
            winner[...] = 0
    for k, (outputs, values) in enumerate(cells[first:], start=first):
        so_far = best[_at(axis, outputs)]
        if winner is not None:
            # A later winner's number is larger: a maximum of bytes is a masked copy, vectorised.
            won, numbers = (values > so_far).view(np.uint8), winner[_at(axis, outputs)]
            np.maximum(numbers, won * winner.dtype.type(k), out=numbers)
        np.maximum(so_far, values, out=so_far)


@tuned
def max_pool_backward(dy: Array, winners: Winners, geo: Geometry) -> Array:
    """Each window's gradient to the cell that won, added where windows overlap.

    dy (n, oh, ow, c), winners as from the forward pass -> (n, h, w, c)
    """
    n, oh, _, c = dy.shape
    (h, w), given = geo.in_size, rows(dy)
    dx = np.empty((h, c, w, n), dy.dtype)

    def spread(part: slice) -> None:
        row, column = winners[0][:, part], winners[1][:, part]
        wide = np.empty((oh, part.stop - part.start, w, n), dy.dtype)
        columns = _columns_apart(wide, geo)
        _to_winners(_COLUMNS, given[:, part], column, columns, geo)
        if geo.stride[1] > 1:
            for kind, its in enumerate(columns):
                copy_columns(wide[:, :, kind :: geo.stride[1]], its)
        _to_winners(_ROWS, wide, row, [dx[:, part]], geo)

    _for_channels(spread, dx)
    return images(dx)


def _to_winners(axis: int, dy: Array, winner: Array, dx: Sequence[Array], geo: Geometry) -> None:
    """Fill `dx` with each window's gradient at the cell that won along one axis."""
    _clear_missed(axis, dx, geo)
    cells, stride = _cells(axis, dx, geo), geo.stride[_side(axis)]
    if len(cells) == 2 <= stride and _are_everywhere(cells, dy.shape[axis]):
        (_, one), (_, other) = cells
        np.multiply(dy, winner, out=other)
        np.subtract(dy, other, out=one)  # the first of two cells has won where the second has not
        return
    for k, (outputs, its) in enumerate(cells):
        there, won = dy[_at(axis, outputs)], winner[_at(axis, outputs)] == k
        if k < stride:
            np.multiply(there, won, out=its)
        else:
            its += there * won


# --- Mean -----------------------------------------------------------------------------------------------------


@tuned
def avg_pool_forward(x: Array, geo: Geometry) -> Array:
    """The mean of each window's cells, padded ones not counted: x (n, h, w, c) -> (n, oh, ow, c)."""
    return _sum_pool(x, geo, _shares(geo, len(x), x.dtype))


@tuned
def sum_pool(x: Array, geo: Geometry) -> Array:
    """The sum of each window's cells: x (n, h, w, c) -> (n, oh, ow, c)."""
    return _sum_pool(x, geo, None)


def _sum_pool(x: Array, geo: Geometry, shares: Array | None) -> Array:
    """`sum_pool`, times shares (oh, 1, ow, n) if given."""
    n, _, w, c = x.shape
    oh, ow = geo.out_size
    source, y = rows(x), np.empty((oh, c, ow, n), x.dtype)

    def pool(part: slice) -> None:
        tall, out = np.empty((oh, part.stop - part.start, w, n), x.dtype), y[:, part]
        _sum_along(_ROWS, _cells(_ROWS, [source[:, part]], geo), tall)
        _sum_along(_COLUMNS, _cells(_COLUMNS, _apart(tall, geo), geo), out)
        if shares is not None:
            out *= shares

    _for_channels(pool, source)
    return images(y)


def _sum_along(axis: int, cells: Cells, total: Array) -> None:
    """Fill `total` with the sum of each window along one axis."""
    first = 0
    if _are_everywhere(cells[:2], total.shape[axis]):
        np.add(cells[0][1], cells[1][1], out=total)
        first = 2
    else:
        total[...] = 0
    for outputs, values in cells[first:]:
        there = total[_at(axis, outputs)]
        there += values


@tuned
def avg_pool_backward(dy: Array, geo: Geometry) -> Array:
    """Each window's gradient in equal shares to its cells: dy (n, oh, ow, c) -> (n, h, w, c)."""
    return _spread(dy, geo, _shares(geo, len(dy), dy.dtype))


@tuned
def spread(dy: Array, geo: Geometry) -> Array:
    """Each window's number to all its cells, the transpose of `sum_pool`: dy (n, oh, ow, c) -> (n, h, w, c).

    It is added up where windows overlap.
    """
    return _spread(dy, geo, None)


def _spread(dy: Array, geo: Geometry, shares: Array | None) -> Array:
    """`spread` of numbers times shares (oh, 1, ow, n) if given."""
    n, oh, _, c = dy.shape
    (h, w), given = geo.in_size, rows(dy)
    dx = np.empty((h, c, w, n), dy.dtype)

    def fill(part: slice) -> None:
        each = given[:, part] if shares is None else given[:, part] * shares
        wide = np.empty((oh, part.stop - part.start, w, n), dy.dtype)
        _to_all(_COLUMNS, each, wide, geo)
        _to_all(_ROWS, wide, dx[:, part], geo)

    _for_channels(fill, dx)
    return images(dx)


def _to_all(axis: int, dy: Array, dx: Array, geo: Geometry) -> None:
    """Fill `dx` with each window's gradient at all of its cells along one axis."""
    _clear_missed(axis, [dx], geo)
    for k, (outputs, pixels) in enumerate(geo.taps[_side(axis)]):
        share, cells = dy[_at(axis, outputs)], dx[_at(axis, pixels)]
        if k >= geo.stride[_side(axis)]:
            cells += share
        elif axis == _COLUMNS and geo.stride[1] > 1:
            copy_columns(cells, share)
        else:
            cells[...] = share


def _shares(geo: Geometry, n: int, dtype: DTypeLike) -> Array:
    """One over the number of pixels in each window, for each of n images: (oh, 1, ow, n)."""
    height, width = (np.zeros(size, dtype) for size in geo.out_size)
    for counts, taps in zip((height, width), geo.taps, strict=True):
        for outputs, _ in taps:
            counts[outputs] += 1
    return (1 / height)[:, None, None, None] * np.repeat(1 / width, n).reshape(1, 1, len(width), n)


# --- The whole image ------------------------------------------------------------------------------------------


@tuned
def global_max_forward(x: Array, *, keep_winners: bool) -> tuple[Array, Winners | None]:
    """The largest value of each channel, a pool with one window: x (n, h, w, c) -> (n, c), and as for that."""
    size = x.shape[1], x.shape[2]
    y, winners = max_pool_forward(x, geometry(size, size, (1, 1), (1, 1), "valid"), keep_winners=keep_winners)
    return y[:, 0, 0], winners


@tuned
def global_max_backward(dy: Array, winners: Winners, size: Size) -> Array:
    """dy (n, c) to the cells that won, zeros to the others: -> (n, h, w, c)."""
    n, c = dy.shape
    dx = np.zeros((size[0], c, size[1], n), dy.dtype)
    channel, example = np.arange(c)[:, None], np.arange(n)
    column = winners[1][0, :, 0]
    dx[winners[0][0, channel, column, example], channel, column, example] = dy.T  # a cell for each, no sum
    return images(dx)


# --- The cells of windows -------------------------------------------------------------------------------------


def _cells(axis: int, x: Sequence[Array], geo: Geometry) -> Cells:
    """What lies under each tap along an axis of x (h, c, w, n), given whole, or its columns apart."""
    if axis == _ROWS:
        return [(outputs, x[0][pixels]) for outputs, pixels in geo.taps[0]]
    stride, found = geo.stride[1], []
    for outputs, pixels in geo.taps[1]:
        first = pixels.start // stride
        found.append((outputs, x[pixels.start % stride][:, :, first : first + outputs.stop - outputs.start]))
    return found


def _apart(x: Array, geo: Geometry) -> list[Array]:
    """The columns of x (h, c, w, n), each kind copied to a place of its own."""
    columns = _columns_apart(x, geo)
    if geo.stride[1] > 1:
        for kind, its in enumerate(columns):
            copy_columns(its, x[:, :, kind :: geo.stride[1]])
    return columns


def _columns_apart(x: Array, geo: Geometry) -> list[Array]:
    """Memory for the columns of x (h, c, w, n), in as many kinds as the stride; x itself if that is 1."""
    (h, c, w, n), stride = x.shape, geo.stride[1]
    if stride == 1:
        return [x]
    memory = np.empty((min(stride, w), h, c, -(-w // stride), n), x.dtype)
    return [its[:, :, : len(range(kind, w, stride))] for kind, its in enumerate(memory)]


def _of_channels(winners: Winners | None, part: slice) -> tuple[Array | None, Array | None]:
    return (None, None) if winners is None else (winners[0][:, part], winners[1][:, part])


def _clear_missed(axis: int, dx: Sequence[Array], geo: Geometry) -> None:
    """Zeros to begin with, unless the first `stride` taps reach every pixel along an axis.

    They reach different pixels, so they may set the gradient there. Later taps reach pixels that earlier ones have
    reached from the windows beside, and add to it.
    """
    side = _side(axis)
    first_taps = geo.taps[side][: geo.stride[side]]
    if sum([outputs.stop - outputs.start for outputs, _ in first_taps]) < geo.in_size[side]:
        for each in dx:
            each[...] = 0


def _side(axis: int) -> int:
    """The place of an axis in a `Size`."""
    return 0 if axis == _ROWS else 1


def _are_everywhere(cells: Cells, size: int) -> bool:
    """Whether two taps meet a pixel in every one of `size` windows."""
    return len(cells) == 2 and cells[0][0] == cells[1][0] == slice(0, size)


def _at(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _for_channels(function: Callable[[slice], None], x: Array) -> None:
    """``function(part)`` for parts of the channels of rows (h, c, w, n), on all threads where x is large."""
    channels = x.shape[1]
    most = channels if in_a_task() else max(1, _TASK * channels // max(1, x.size))
    for_each(function, even_slices(channels, most))
