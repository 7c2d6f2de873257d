"""Convolutions on a GPU of which too little belongs together for the tiles of a product.

Images of few channels, such as grey or coloured ones: a window has a few numbers, so a thread takes windows whole, and
makes several filters of each from weights in shared memory. Depthwise convolutions: a thread makes one number.
"""

import numpy as np

from funcnn.arrays.cuda.kernels import LARGEST, blocks_for, kernel, numbers
from funcnn.arrays.geometry import Geometry
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = [
    "depthwise_forward", "depthwise_input_gradient", "depthwise_weight_gradient", "direct_forward", "is_depthwise",
    "is_direct", "sum_parts",
]  # fmt: skip

FEW_CHANNELS, DEEPEST = 4, 160  # of what `direct_forward` is for, to be measured; its weights have to fit in a block
FILTERS, WINDOWS = 16, 2  # of a thread
LEAST_WINDOWS = 512  # of a split of the depthwise weight gradient


def is_direct(weight: Array, groups: int) -> bool:
    """Whether there are few channels, in one group."""
    kh, kw, channels, _ = weight.shape
    return groups == 1 and channels <= FEW_CHANNELS and kh * kw * channels <= DEEPEST


def direct_forward(x: Array, weight: Array, geo: Geometry, bias: Array | None) -> Array:
    """y (n, oh, ow, o) of x (n, h, w, c) of few channels and weight (kh, kw, c, o)."""
    (kh, kw, channels, filters), (oh, ow) = weight.shape, geo.out_size
    y: Array = module_of(x).empty((len(x), oh, ow, filters), x.dtype)
    sides = geo.padding[0][0], geo.padding[1][0]
    struct = numbers(len(x), *geo.in_size, oh, ow, filters, *geo.stride, *geo.dilation, *sides)
    each = 8 if filters <= 8 else FILTERS
    constants = {"C": channels, "KH": kh, "KW": kw, "FILTERS": each, "WINDOWS": WINDOWS}
    call = kernel("conv_direct.cu", "conv_direct", x.dtype.char, **constants)
    grid = blocks_for(len(x) * oh * ow, 128 * WINDOWS), blocks_for(filters, each)
    call(grid, (128,), (x, weight, bias, y, struct))
    return y


# --- Depthwise ------------------------------------------------------------------------------------------------


def is_depthwise(weight: Array, groups: int) -> bool:
    """Whether a kernel (kh, kw, c/groups, o) in so many groups has one input and one output for each."""
    return weight.shape[2:] == (1, groups) and groups > 1


def depthwise_forward(x: Array, weight: Array, geo: Geometry, bias: Array | None) -> Array:
    """y (n, oh, ow, c) of x (n, h, w, c) and weight (kh, kw, 1, c)."""
    y: Array = module_of(x).empty((len(x), *geo.out_size, x.shape[3]), x.dtype)
    call = kernel("depthwise.cu", "depthwise_forward", x.dtype.char)
    call((blocks_for(y.size, 256),), (256,), (x, weight, bias, y, _struct(len(x), x.shape[3], geo)))
    return y


def depthwise_input_gradient(dy: Array, weight: Array, geo: Geometry, bias: Array | None) -> Array:
    """dx (n, h, w, c) of dy (n, oh, ow, c) and weight (kh, kw, 1, c)."""
    dx: Array = module_of(dy).empty((len(dy), *geo.in_size, dy.shape[3]), dy.dtype)
    call = kernel("depthwise.cu", "depthwise_input_gradient", dy.dtype.char)
    call((blocks_for(dx.size, 256),), (256,), (dy, weight, bias, dx, _struct(len(dy), dy.shape[3], geo)))
    return dx


def depthwise_weight_gradient(x: Array, dy: Array, geo: Geometry) -> Array:
    """dweight (kh, kw, 1, c) of x (n, h, w, c) and dy (n, oh, ow, c)."""
    channels, (kh, kw), windows = x.shape[3], geo.window, dy.size // dy.shape[3]
    each = blocks_for(windows, min(128, max(1, windows // LEAST_WINDOWS)))
    splits = blocks_for(windows, each)
    parts = module_of(x).empty((splits, kh, kw, 1, channels), x.dtype)
    call = kernel("depthwise.cu", "depthwise_weight_gradient", x.dtype.char)
    grid = blocks_for(channels, 32), kh * kw, splits
    call(grid, (32, 8), (x, dy, parts, _struct(len(x), channels, geo), np.int32(each)))
    return sum_parts(parts)


def _struct(n: int, channels: int, geo: Geometry) -> Array:
    """The struct `Conv` of depthwise.cu."""
    sides = geo.padding[0][0], geo.padding[1][0]
    return numbers(n, *geo.in_size, channels, *geo.out_size, *geo.window, *geo.stride, *geo.dilation, *sides)


def sum_parts(parts: Array) -> Array:
    """The sum over the first axis, in one order: (splits, ...) -> (...)."""
    total: Array = parts[0]
    if len(parts) == 1:
        return total
    total = module_of(parts).empty(parts.shape[1:], parts.dtype)
    if total.size > LARGEST:
        raise ValueError(f"sum_parts: expected at most {LARGEST} sums, got {total.size}")
    call = kernel("sums.cu", "sum_parts", parts.dtype.char)
    call((blocks_for(total.size, 32),), (32, 8), (parts, total, np.int32(len(parts)), np.int32(total.size)))
    return total
