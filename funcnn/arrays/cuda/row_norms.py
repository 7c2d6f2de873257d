"""Layer norm and RMS norm on a GPU: one launch forward, three back; as `funcnn.arrays.plain.row_norms`."""

import numpy as np

from funcnn.arrays.cuda.conv_few import sum_parts
from funcnn.arrays.cuda.kernels import FLOATS, LARGEST, alike, blocks_for, kernel
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["fits", "normalize_rows", "normalize_rows_back"]

ROWS = 8  # of a block, as in row_norms.cu
BLOCKS = 264  # that share the sums over all rows, to be measured


def fits(x: Array) -> bool:
    """Whether the functions here are for rows (..., features)."""
    return x.dtype.char in FLOATS and bool(x.flags.c_contiguous) and 0 < x.size <= LARGEST


def normalize_rows(
    x: Array, scale: Array | None, shift: Array | None, epsilon: float, *, centre: bool
) -> tuple[Array, Array, Array]:
    """y of x (..., features), with a mean of 0 if `centre`; each row's mean and inverse root, (..., 1)."""
    xp, features = module_of(x), x.shape[-1]
    scale, shift = (None if each is None else alike(each, x) for each in (scale, shift))
    rows = x.size // features
    y, mean, inverse = xp.empty(x.shape, x.dtype), *[xp.empty((*x.shape[:-1], 1), x.dtype) for _ in range(2)]
    call = kernel("row_norms.cu", "normalize_rows", x.dtype.char)
    numbers = np.int32(rows), np.int32(features), x.dtype.type(epsilon), np.int32(centre)
    call((blocks_for(rows, ROWS),), (32, ROWS), (x, scale, shift, y, mean, inverse, *numbers))
    return y, mean, inverse


def normalize_rows_back(
    dy: Array, x: Array, mean: Array, inverse: Array, scale: Array | None, *, centre: bool, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx, None unless it is needed; Σ dy · x̂ and Σ dy over all rows, (features,)."""
    xp, features = module_of(x), x.shape[-1]
    dy, scale = alike(dy, x), None if scale is None else alike(scale, x)
    rows, wide = x.size // features, blocks_for(features, 32)
    each = blocks_for(rows, max(1, min(BLOCKS // wide, rows // 64)))
    splits = blocks_for(rows, each)
    parts = xp.empty((splits, 2, features), x.dtype)
    call = kernel("row_norms.cu", "row_gradients", x.dtype.char)
    numbers = np.int32(rows), np.int32(features)
    call((wide, splits), (32, 8), (dy, x, mean, inverse, parts, *numbers, np.int32(each)))
    dscale, dshift = sum_parts(parts)
    if not need_dx:
        return None, dscale, dshift
    dx: Array = xp.empty(x.shape, x.dtype)
    call = kernel("row_norms.cu", "normalize_rows_back", x.dtype.char)
    call((blocks_for(rows, ROWS),), (32, ROWS), (dy, x, mean, inverse, scale, dx, *numbers, np.int32(centre)))
    return dx, dscale, dshift
