"""Batch norm on a GPU: three launches forward, three back, whatever the net. Its equations are in funcnn.nn.batch_norm.

Sums over a batch are made in double, of x less the first row: exact enough for any mean, with no second pass. Each
block adds up a part of the rows, and the parts are added in order, so the same bits come out each time.
"""

from typing import NamedTuple

import numpy as np

from funcnn.arrays.cuda.kernels import FLOATS, LARGEST, address, alike, blocks_for, kernel
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["BatchStatistics", "fits", "normalize", "normalize_back", "statistics"]

BLOCKS = 528  # that share a sum: four for each multiprocessor of an H200, to be measured
LEAST_ROWS = 64  # of a block


class BatchStatistics(NamedTuple):
    """Of each channel: the mean (float64), 1 / sqrt(var + epsilon), and the new running mean and variance."""

    mean: Array
    inverse: Array
    running_mean: Array
    running_var: Array


def fits(x: Array) -> bool:
    """Whether the functions here are for a batch (..., channels)."""
    return x.dtype.char in FLOATS and bool(x.flags.c_contiguous) and 0 < x.size <= LARGEST


def statistics(
    x: Array, running_mean: Array, running_var: Array, *, momentum: float, epsilon: float
) -> BatchStatistics:
    """What training takes from a batch (..., channels), with running = momentum · running + (1 - momentum) · batch."""
    rows, channels = _matrix(x)
    parts, (grid, block) = _parts(x, "moments", x)
    xp = module_of(x)
    mean, factors = xp.empty(channels, np.float64), xp.empty((3, channels), x.dtype)
    call = kernel("norms.cu", "finish_statistics", x.dtype.char, PACK=1)
    numbers = *_ints(len(parts), rows, channels), np.float64(momentum), np.float64(epsilon)
    call(grid, block, (x, parts, mean, factors, alike(running_mean, x), alike(running_var, x), *numbers))
    return BatchStatistics(mean, factors[0], factors[1], factors[2])


def normalize(x: Array, mean: Array, inverse: Array, scale: Array, shift: Array) -> Array:
    """y = scale · (x - mean) · inverse + shift of x (..., channels), the mean in float64."""
    y: Array = module_of(x).empty(x.shape, x.dtype)
    pack, packs = _packs(x, y)
    call = kernel("norms.cu", "normalize", x.dtype.char, PACK=pack)
    numbers = _ints(packs, x.shape[-1])
    call((blocks_for(packs, 256),), (256,), (x, mean, inverse, alike(scale, x), alike(shift, x), y, *numbers))
    return y


def normalize_back(
    dy: Array, x: Array, mean: Array, inverse: Array, scale: Array, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """dx, None unless it is needed, dscale and dshift, for the statistics of x itself."""
    dy, scale = alike(dy, x), alike(scale, x)
    rows, channels = _matrix(x)
    parts, (grid, block) = _parts(x, "gradient_sums", dy, x, mean)
    xp = module_of(x)
    gradients, factors = xp.empty((2, channels), x.dtype), xp.empty((3, channels), x.dtype)
    call = kernel("norms.cu", "finish_gradients", x.dtype.char, PACK=1)
    call(grid, block, (parts, inverse, scale, gradients, factors, *_ints(len(parts), rows, channels)))
    if not need_dx:
        return None, gradients[0], gradients[1]
    dx: Array = xp.empty(x.shape, x.dtype)
    pack, packs = _packs(x, dy, dx)
    call = kernel("norms.cu", "project", x.dtype.char, PACK=pack)
    call((blocks_for(packs, 256),), (256,), (dy, x, mean, factors, dx, *_ints(packs, channels)))
    return dx, gradients[0], gradients[1]


# --- How they are launched ------------------------------------------------------------------------------------


def _matrix(x: Array) -> tuple[int, int]:
    """The rows and channels of (..., channels)."""
    return x.size // x.shape[-1], x.shape[-1]


def _parts(x: Array, name: str, *arrays: Array | None) -> tuple[Array, tuple[tuple[int, ...], tuple[int, int]]]:
    """What blocks find over their parts of the rows, (splits, 2, channels), and the launch that finishes it."""
    rows, channels = _matrix(x)
    width = min(32, 1 << max(0, channels - 1).bit_length())
    wide = blocks_for(channels, width)
    each = blocks_for(rows, max(1, min(BLOCKS // wide, rows // LEAST_ROWS)))
    splits = blocks_for(rows, each)
    parts = module_of(x).empty((splits, 2, channels), np.float64)
    block = width, 256 // width
    call = kernel("norms.cu", name, x.dtype.char, PACK=1)
    call((wide, splits), block, (*arrays, parts, *_ints(rows, channels, each)))
    return parts, ((wide,), block)


def _packs(*arrays: Array) -> tuple[int, int]:
    """How many numbers a thread can take at once, from all arrays, and how often."""
    first = arrays[0]
    aligned = all(address(each) % (4 * first.itemsize) == 0 for each in arrays)
    pack = 4 if first.shape[-1] % 4 == 0 and aligned else 1
    return pack, first.size // pack


def _ints(*values: int) -> tuple[np.int32, ...]:
    return tuple([np.int32(value) for value in values])
