"""Convolution on a GPU as a product of matrices, one of which is never stored: the windows of the images.

    y (windows × filters) = windows (windows × depth) · weight (depth × filters),   depth = taps × channels

A block of threads makes one tile of y, BM windows × BN filters. It walks along the depth in slabs, BK deep: its threads
fetch a slab of windows, from the pixels where they lie, and one of weights into shared memory, and multiply them there.

                          weight            BN
                                        ┌─────────┐
                                  depth │  slab   │ BK        while a slab is multiplied, the next one
                                        └─────────┘           is on its way into the other half
                     depth                   ↓
                   ┌──────┐             ┌─────────┐
        windows BM │ slab │      →      │ tile of │           a thread has TM × TN numbers of the tile in its
                   │      │             │    y    │           registers: of TM + TN numbers that it reads from
                   └──────┘             └─────────┘           shared memory it makes TM · TN products
                      BK

Each number comes from far memory once for a tile instead of once for a product. The address of a window's cell is
counted on from slab to slab like hours, minutes and seconds (row of taps, column of taps, channel): no division, and
what lies beyond the image's edge is zero without being read.

    dweight (depth × filters) = windowsᵀ · dy        the sum over windows is split among blocks and added up in order
    dx                        = a convolution of dy  with the kernel turned by half a turn, one for each phase of the
                                                     stride (`Geometry.phases`): every pixel collects its shares

Images of one to four channels and depthwise convolutions have kernels of their own (`conv_few`); with one tap the
pixels are the windows, and cuBLAS does it. All compute exact products of the dtype, no TF32, and give the same bits at
each call. Same functions and arguments as `funcnn.conv_strided`.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from funcnn.arrays.cuda import conv_few
from funcnn.arrays.cuda.kernels import FLOATS, LARGEST, Kernel, address, adjacent, alike, blocks_for, kernel, numbers
from funcnn.arrays.geometry import Geometry
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient", "fits"]


class Tile(NamedTuple):
    """BM × BN numbers of the result, TM × TN of them a thread's."""

    m: int
    n: int
    tm: int
    tn: int

    @property
    def threads(self) -> int:
        """The threads of a block."""
        return self.m // self.tm * (self.n // self.tn)


# --- What is guessed, and to be measured ----------------------------------------------------------------------

BK = 8  # how deep a slab is
BLOCKS = 264  # as many keep an H200 busy (two for each of its multiprocessors): with fewer, tiles are smaller
# Channels and filters of a group, from which on a copy of the windows and cuBLAS's product may be faster: the copy
# costs as much as some 90 filters do, if cuBLAS computes half as fast again.
DEEP = 192
LEAST_WINDOWS = 128  # of a split of the weight gradient: fewer do not pay for the tile that it adds to memory

# For up to so many filters: a large tile, and a small one where the large ones would be too few blocks.
FORWARD = {
    16: (Tile(128, 16, 4, 4), Tile(64, 16, 4, 4)),
    32: (Tile(128, 32, 8, 4), Tile(64, 32, 4, 4)),
    64: (Tile(128, 64, 8, 8), Tile(64, 64, 8, 4)),
    LARGEST: (Tile(128, 128, 8, 8), Tile(64, 64, 8, 4)),
}
WEIGHT_GRADIENT = {  # the same, the rows being the depth: a small one where the depth is at most 32
    16: (Tile(64, 16, 4, 4), Tile(32, 16, 4, 4)),
    32: (Tile(64, 32, 4, 4), Tile(32, 32, 4, 4)),
    LARGEST: (Tile(64, 64, 8, 4), Tile(32, 64, 4, 4)),
}

# --- The three functions --------------------------------------------------------------------------------------


def fits(first: Array, second: Array, geo: Geometry, groups: int) -> bool:
    """Whether the functions here are for these arrays: a function's first two, whichever of the three it is."""
    if first.dtype != second.dtype or first.dtype.char not in FLOATS or min(geo.out_size) < 1:
        return False
    if not 0 < first.size <= LARGEST or not 0 < second.size <= LARGEST or groups > 65535:
        return False
    channels = second.shape[2] * groups if second.shape[:2] == geo.window else 0  # of what a kernel's gradient has
    numbers_of_result = len(first) * max(math.prod(geo.out_size) * second.shape[3], math.prod(geo.in_size) * channels)
    if numbers_of_result > LARGEST:
        return False
    return _is_one_product(geo, groups) or bool(min(first.shape[3], second.shape[3]) // groups < DEEP)


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """y (n, oh, ow, o) of x (n, h, w, c) and weight (kh, kw, c/groups, o), plus bias (o,)."""
    x, weight, bias = adjacent(x), adjacent(weight), None if bias is None else alike(bias, x)
    if _is_one_product(geo, groups):
        return _pixel_by_pixel(x, weight[0, 0], bias)
    if conv_few.is_depthwise(weight, groups):
        return conv_few.depthwise_forward(x, weight, geo, bias)
    if conv_few.is_direct(weight, groups):
        return conv_few.direct_forward(x, weight, geo, bias)
    y: Array = module_of(x).empty((len(x), *geo.out_size, weight.shape[3]), x.dtype)
    _convolve(x, weight, geo, groups, bias, y, (0, 1, 0, 1))
    return y


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """dweight (kh, kw, c/groups, o) of x (n, h, w, c) and dy (n, oh, ow, o)."""
    x, dy = adjacent(x), adjacent(dy)
    channels, filters = x.shape[3], dy.shape[3]
    if _is_one_product(geo, groups):
        product: Array = x.reshape(-1, channels).T @ dy.reshape(-1, filters)
        return product.reshape(1, 1, channels, filters)
    if channels == filters == groups > 1:
        return conv_few.depthwise_weight_gradient(x, dy, geo)
    launch = _weight_gradient_launch(_problem(x, channels, dy, filters, geo, groups, (0, 1, 0, 1), geo.out_size))
    parts = module_of(x).empty((launch.grid[1], *geo.window, channels // groups, filters), x.dtype)
    launch.kernel(launch.grid, launch.block, (x, dy, parts, launch.struct, launch.each))
    return conv_few.sum_parts(parts)


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """dx (n, h, w, c) of dy (n, oh, ow, o) and weight (kh, kw, c/groups, o), plus bias (c,)."""
    dy, weight, bias = adjacent(dy), adjacent(weight), None if bias is None else alike(bias, dy)
    if _is_one_product(geo, groups):
        return _pixel_by_pixel(dy, weight[0, 0].T, bias)
    if conv_few.is_depthwise(weight, groups):
        return conv_few.depthwise_input_gradient(dy, weight, geo, bias)
    h, w = geo.in_size
    dx: Array = module_of(dy).empty((len(dy), h, w, weight.shape[2] * groups), dy.dtype)
    reached = sum([_length(rows, h) * _length(columns, w) for (rows, columns), _, _ in geo.phases])
    if reached < h * w:  # some pixels lie under no window
        dx[...] = 0 if bias is None else bias
    for (rows, columns), taps, windows in geo.phases:
        turned = _turned(weight if geo.stride == (1, 1) else weight[taps], groups)
        where = rows.start or 0, rows.step or 1, columns.start or 0, columns.step or 1
        _convolve(dy, turned, windows, groups, bias, dx, where)
    return dx


# --- Kernels of one tap ---------------------------------------------------------------------------------------


def _is_one_product(geo: Geometry, groups: int) -> bool:
    """Whether the windows are the pixels themselves: then nothing has to be copied, and cuBLAS does it all."""
    return groups == 1 and geo.window == geo.stride == (1, 1) and geo.padded_size == geo.in_size


def _pixel_by_pixel(x: Array, matrix: Array, bias: Array | None) -> Array:
    y: Array = x.reshape(-1, x.shape[3]) @ matrix
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:3], matrix.shape[1])


# --- How they are launched ------------------------------------------------------------------------------------


class _Problem(NamedTuple):
    """All that a launch depends on; `where` in the result are the first row, the step, the first column, the step."""

    n: int
    channels: int
    filters: int
    groups: int
    geo: Geometry
    where: tuple[int, int, int, int]
    out_size: tuple[int, int]
    dtype: str
    aligned: tuple[bool, bool]  # whether four numbers of the two matrices can be loaded at once


class _Launch(NamedTuple):
    kernel: Kernel
    grid: tuple[int, int, int]
    block: tuple[int]
    struct: Array
    each: np.int32  # windows of a split


def _problem(
    x: Array, channels: int, other: Array, filters: int, geo: Geometry, groups: int,
    where: tuple[int, int, int, int], out_size: tuple[int, int],
) -> _Problem:  # fmt: skip
    four = 4 * x.itemsize
    aligned = address(x) % four == 0, address(other) % four == 0
    return _Problem(len(x), channels, filters, groups, geo, where, out_size, x.dtype.char, aligned)


def _convolve(
    x: Array, weight: Array, geo: Geometry, groups: int, bias: Array | None, y: Array, where: tuple[int, int, int, int]
) -> None:
    """Fill y at the pixels `where` with a convolution."""
    out_size = y.shape[1], y.shape[2]
    launch = _forward_launch(_problem(x, x.shape[3], weight, weight.shape[3], geo, groups, where, out_size))
    launch.kernel(launch.grid, launch.block, (x, weight, bias, y, launch.struct))


@lru_cache(maxsize=1024)
def _forward_launch(problem: _Problem) -> _Launch:
    filters, (oh, ow) = problem.filters // problem.groups, problem.geo.out_size
    windows = problem.n * oh * ow

    def blocks(tile: Tile) -> int:
        return blocks_for(windows, tile.m) * blocks_for(filters, tile.n)

    large, small = next(tiles for most, tiles in FORWARD.items() if filters <= most)
    tile = large if blocks(large) * problem.groups >= BLOCKS else small
    grid = blocks(tile), 1, problem.groups
    return _Launch(_kernel("conv_forward", tile, problem), grid, (tile.threads,), _struct(problem), np.int32(windows))


@lru_cache(maxsize=1024)
def _weight_gradient_launch(problem: _Problem) -> _Launch:
    filters, (oh, ow), (kh, kw) = problem.filters // problem.groups, problem.geo.out_size, problem.geo.window
    windows, depth = problem.n * oh * ow, kh * kw * problem.channels // problem.groups
    large, small = next(tiles for most, tiles in WEIGHT_GRADIENT.items() if filters <= most)
    tile = small if depth <= 32 else large
    tiles = blocks_for(depth, tile.m) * blocks_for(filters, tile.n)
    splits = max(1, min(2 * BLOCKS // (tiles * problem.groups), windows // LEAST_WINDOWS))
    each = blocks_for(blocks_for(windows, splits), BK) * BK
    grid = tiles, blocks_for(windows, each), problem.groups
    call = _kernel("conv_weight_gradient", tile, problem)
    return _Launch(call, grid, (tile.threads,), _struct(problem), np.int32(each))


def _kernel(name: str, tile: Tile, problem: _Problem) -> Kernel:
    aligned_x, aligned_w = problem.aligned
    return kernel(
        "convolution.cu", name, problem.dtype,
        BM=tile.m, BN=tile.n, TM=tile.tm, TN=tile.tn, BK=BK,
        PACK_X=4 if aligned_x and problem.channels // problem.groups % 4 == 0 else 1,
        PACK_W=4 if aligned_w and problem.filters // problem.groups % 4 == 0 else 1,
    )  # fmt: skip


def _struct(problem: _Problem) -> Array:
    """The struct `Conv` of convolution.cu."""
    n, channels, filters, groups, geo, (row, row_step, column, column_step), out_size, *_ = problem
    (oh, ow), (kh, kw), inner = geo.out_size, geo.window, channels // groups
    return numbers(
        n, *geo.in_size, channels, groups, oh, ow, filters,
        kh, kw, *geo.stride, *geo.dilation, geo.padding[0][0], geo.padding[1][0],
        *out_size, row, row_step, column, column_step,
        BK // (oh * ow), BK // ow % oh, BK % ow,
        BK // (kw * inner), BK // inner % kw, BK % inner,
    )  # fmt: skip


def _turned(weight: Array, groups: int) -> Array:
    """A kernel turned by half a turn, from filters to channels: (kh, kw, c/groups, o) -> (kh, kw, o/groups, c)."""
    kh, kw, inner, filters = weight.shape
    turned = weight[::-1, ::-1].reshape(kh, kw, inner, groups, filters // groups).transpose(0, 1, 4, 3, 2)
    return adjacent(turned.reshape(kh, kw, filters // groups, groups * inner))


def _length(part: slice, size: int) -> int:
    return len(range(*part.indices(size)))
