"""Pools of images (n, h, w, c), tap by tap: every tap of the window reaches one pixel in each window.

The winners of a max pool are the numbers of the taps that won, k · kw + l, a number for each window.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from funcnn.arrays.geometry import Geometry, Size
from funcnn.arrays.seam import faster
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = [
    "avg_pool_backward", "avg_pool_forward", "global_max_backward", "global_max_forward", "max_pool_backward",
    "max_pool_forward", "spread", "sum_pool",
]  # fmt: skip

Winners = tuple[Array]  # in a tuple, like the host's two


def max_pool_forward(x: Array, geo: Geometry, *, keep_winners: bool) -> tuple[Array, Winners | None]:
    """The largest value in each window (n, oh, ow, c), and the tap that holds it; of equals the leftmost, then topmost.

    Taps are therefore tried column by column.
    """
    kernels = faster("pooling", x, geo)
    if kernels:
        return kernels.max_pool_forward(x, geo, keep_winners=keep_winners)  # type: ignore[no-any-return]
    xp, shape = module_of(x), (len(x), *geo.out_size, x.shape[3])
    best = xp.full(shape, -np.inf, x.dtype)
    winners = xp.zeros(shape, np.int32) if keep_winners else None
    seen = xp.zeros((1, *geo.out_size, 1), bool)  # whether a tap has met a pixel: -inf may win, padding never
    for (k, rows, pixel_rows), (l, columns, pixel_columns) in _taps(geo):  # noqa: E741
        here, value = (slice(None), rows, columns), x[:, pixel_rows, pixel_columns]
        won = (value > best[here]) | ~seen[here]
        best[here] = xp.maximum(best[here], value)  # of what is no number, that
        seen[here] = True
        if winners is not None:
            winners[here] = xp.where(won, np.int32(k * geo.window[1] + l), winners[here])
    return best, None if winners is None else (winners,)


def max_pool_backward(dy: Array, winners: Winners, geo: Geometry) -> Array:
    """Each window's gradient to the tap that won, added where windows overlap: -> (n, h, w, c)."""
    kernels = faster("pooling", dy, geo)
    if kernels:
        return kernels.max_pool_backward(dy, winners, geo)  # type: ignore[no-any-return]
    dx = module_of(dy).zeros((len(dy), *geo.in_size, dy.shape[3]), dy.dtype)
    for (k, rows, pixel_rows), (l, columns, pixel_columns) in _taps(geo):  # noqa: E741
        won = winners[0][:, rows, columns] == k * geo.window[1] + l
        dx[:, pixel_rows, pixel_columns] += dy[:, rows, columns] * won
    return dx  # type: ignore[no-any-return]


def avg_pool_forward(x: Array, geo: Geometry) -> Array:
    """The mean of each window's pixels: x (n, h, w, c) -> (n, oh, ow, c)."""
    kernels = faster("pooling", x, geo)
    if kernels:
        return kernels.avg_pool_forward(x, geo)  # type: ignore[no-any-return]
    return sum_pool(x, geo) * _shares(module_of(x), geo, x.dtype)


def sum_pool(x: Array, geo: Geometry) -> Array:
    """The sum of each window's pixels: x (n, h, w, c) -> (n, oh, ow, c)."""
    kernels = faster("pooling", x, geo)
    if kernels:
        return kernels.sum_pool(x, geo)  # type: ignore[no-any-return]
    total = module_of(x).zeros((len(x), *geo.out_size, x.shape[3]), x.dtype)
    for (_, rows, pixel_rows), (_, columns, pixel_columns) in _taps(geo):
        total[:, rows, columns] += x[:, pixel_rows, pixel_columns]
    return total  # type: ignore[no-any-return]


def avg_pool_backward(dy: Array, geo: Geometry) -> Array:
    """Each window's gradient in equal shares to its pixels: dy (n, oh, ow, c) -> (n, h, w, c)."""
    kernels = faster("pooling", dy, geo)
    if kernels:
        return kernels.avg_pool_backward(dy, geo)  # type: ignore[no-any-return]
    return spread(dy * _shares(module_of(dy), geo, dy.dtype), geo)


def spread(dy: Array, geo: Geometry) -> Array:
    """Each window's number to all its pixels, added where windows overlap: dy (n, oh, ow, c) -> (n, h, w, c)."""
    kernels = faster("pooling", dy, geo)
    if kernels:
        return kernels.spread(dy, geo)  # type: ignore[no-any-return]
    dx = module_of(dy).zeros((len(dy), *geo.in_size, dy.shape[3]), dy.dtype)
    for (_, rows, pixel_rows), (_, columns, pixel_columns) in _taps(geo):
        dx[:, pixel_rows, pixel_columns] += dy[:, rows, columns]
    return dx  # type: ignore[no-any-return]


def global_max_forward(x: Array, *, keep_winners: bool) -> tuple[Array, Winners | None]:
    """The largest value of each channel: x (n, h, w, c) -> (n, c), and the pixel that holds it."""
    by_columns = x.swapaxes(1, 2).reshape(len(x), x.shape[1] * x.shape[2], x.shape[3])
    winners = by_columns.argmax(axis=1) if keep_winners else None
    return by_columns.max(axis=1), None if winners is None else (winners,)


def global_max_backward(dy: Array, winners: Winners, size: Size) -> Array:
    """dy (n, c) to the pixels that won, zeros to the others: -> (n, h, w, c)."""
    xp, (h, w) = module_of(dy), size
    won = xp.arange(h * w)[None, :, None] == winners[0][:, None]
    return (dy[:, None] * won).reshape(len(dy), w, h, dy.shape[1]).swapaxes(1, 2)  # type: ignore[no-any-return]


def _taps(geo: Geometry) -> Iterator[tuple[tuple[int, slice, slice], tuple[int, slice, slice]]]:
    """For each tap, column by column: its row with the windows and pixel rows that it joins, its column likewise."""
    for l, columns in enumerate(geo.taps[1]):  # noqa: E741
        for k, rows in enumerate(geo.taps[0]):
            yield (k, *rows), (l, *columns)


@lru_cache(maxsize=64)  # each is a copy to the device
def _shares(xp: Any, geo: Geometry, dtype: Any) -> Array:
    """One over the number of pixels in each window, (oh, ow, 1)."""
    height, width = (np.zeros(size, dtype) for size in geo.out_size)
    for counts, taps in zip((height, width), geo.taps, strict=True):
        for windows, _ in taps:
            counts[windows] += 1
    return xp.asarray(1 / (height[:, None] * width))[..., None]  # type: ignore[no-any-return]
