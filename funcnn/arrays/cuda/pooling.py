"""Pools of images (n, h, w, c) on a GPU, one launch each; same functions as in `funcnn.arrays.plain.pooling`."""

from typing import Any

import numpy as np

from funcnn.arrays.cuda.kernels import FLOATS, LARGEST, adjacent, blocks_for, kernel, numbers
from funcnn.arrays.geometry import Geometry
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = [
    "avg_pool_backward", "avg_pool_forward", "fits", "max_pool_backward", "max_pool_forward", "spread", "sum_pool",
]  # fmt: skip

Winners = tuple[Array]


def fits(array: Array, geo: Geometry) -> bool:
    """Whether the functions here are for images or their gradients, and windows on them."""
    (oh, ow), (h, w) = geo.out_size, geo.in_size
    largest = max(oh * ow, h * w) * len(array) * array.shape[3]
    return array.dtype.char in FLOATS and bool(array.flags.c_contiguous) and 0 < largest <= LARGEST and min(oh, ow) > 0


def max_pool_forward(x: Array, geo: Geometry, *, keep_winners: bool) -> tuple[Array, Winners | None]:
    """The largest value in each window (n, oh, ow, c), and its tap; of equals the leftmost wins, then the topmost."""
    xp, shape, winner = module_of(x), (len(x), *geo.out_size, x.shape[3]), _winner(geo)
    y = xp.empty(shape, x.dtype)
    winners = xp.empty(shape, winner) if keep_winners else None
    call = _kernel("max_forward", x, winner)
    call((blocks_for(y.size, 256),), (256,), (x, y, winners, _struct(x, geo)))
    return y, None if winners is None else (winners,)


def max_pool_backward(dy: Array, winners: Winners, geo: Geometry) -> Array:
    """Each window's gradient to the tap that won, added where windows overlap: -> (n, h, w, c)."""
    dx: Array = module_of(dy).empty((len(dy), *geo.in_size, dy.shape[3]), dy.dtype)
    call = _kernel("max_backward", dy, winners[0].dtype)
    call((blocks_for(dx.size, 256),), (256,), (adjacent(dy), adjacent(winners[0]), dx, _struct(dy, geo)))
    return dx


def avg_pool_forward(x: Array, geo: Geometry) -> Array:
    """The mean of each window's pixels: x (n, h, w, c) -> (n, oh, ow, c)."""
    return _sums(x, geo, mean=True)


def sum_pool(x: Array, geo: Geometry) -> Array:
    """The sum of each window's pixels: x (n, h, w, c) -> (n, oh, ow, c)."""
    return _sums(x, geo, mean=False)


def avg_pool_backward(dy: Array, geo: Geometry) -> Array:
    """Each window's gradient in equal shares to its pixels: dy (n, oh, ow, c) -> (n, h, w, c)."""
    return _spread(dy, geo, mean=True)


def spread(dy: Array, geo: Geometry) -> Array:
    """Each window's number to all its pixels, the transpose of `sum_pool`: dy (n, oh, ow, c) -> (n, h, w, c)."""
    return _spread(dy, geo, mean=False)


# --- How they are launched ------------------------------------------------------------------------------------


def _sums(x: Array, geo: Geometry, *, mean: bool) -> Array:
    y: Array = module_of(x).empty((len(x), *geo.out_size, x.shape[3]), x.dtype)
    call = _kernel("sum_forward", x, np.dtype(np.uint8))
    call((blocks_for(y.size, 256),), (256,), (x, y, _struct(x, geo), np.int32(mean)))
    return y


def _spread(dy: Array, geo: Geometry, *, mean: bool) -> Array:
    dx: Array = module_of(dy).empty((len(dy), *geo.in_size, dy.shape[3]), dy.dtype)
    call = _kernel("sum_backward", dy, np.dtype(np.uint8))
    call((blocks_for(dx.size, 256),), (256,), (adjacent(dy), dx, _struct(dy, geo), np.int32(mean)))
    return dx


def _winner(geo: Geometry) -> np.dtype[Any]:
    return np.dtype(np.uint8 if geo.window[0] * geo.window[1] <= 256 else np.int32)


def _kernel(name: str, x: Array, winner: np.dtype[Any]) -> Any:
    return kernel("pooling.cu", name, x.dtype.char, WINNER_BYTES=winner.itemsize)


def _struct(x: Array, geo: Geometry) -> Array:
    """The struct `Pool` of pooling.cu."""
    sides = geo.padding[0][0], geo.padding[1][0]
    return numbers(len(x), *geo.in_size, x.shape[3], *geo.out_size, *geo.window, *geo.stride, *geo.dilation, *sides)
