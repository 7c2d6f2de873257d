"""Convolution's matrix products, of few rows and many columns, at the rate that BLAS has for small ones.

OpenBLAS copies both factors of a product into blocks that suit its registers. With a hundred rows and more that is soon
earned, but convolution's kernels often have 8 to 64 rows, one for each filter of a group, and the columns are copied
for these few. With AVX-512 it multiplies small factors (up to 100³ multiply-adds) as they lie in memory instead. So a
product is cut into columns until its parts are that small:

    (16 × 144) · (144 × 896)                 74 GFLOP/s
    (16 × 144) · (144 × 384), and the rest  103 GFLOP/s

Each number is the same sum in the same order, so no bit changes: wider factors than `_DEEP`, of which BLAS adds up
parts, and numbers of columns that leave a vector of 16 incomplete, for which its two ways differ, stay whole.
"""

from functools import cache

import numpy as np

from funcnn.arrays.threads import blas_architectures
from funcnn.tree import Array

__all__ = ["multiply"]

_SMALL = 100**3  # multiply-adds
_DEEP = 448  # rows of the second factor: of more, both ways add up sums of as many, but not the same ones
_VECTOR = 16  # float32 in a register
_REGISTERS = 4 * _VECTOR  # columns that are multiplied together


def multiply(a: Array, b: Array, out: Array) -> None:
    """Fill out (..., m, n) with a (..., m, k) · b (..., k, n); it must not overlap them.

    >>> out = np.empty((2, 1))
    >>> multiply(np.ones((2, 3)), np.ones((3, 1)), out)
    >>> out
    array([[3.],
           [3.]])
    """
    m, k, n = *a.shape[-2:], b.shape[-1]
    size = _columns_at_once(m, k)
    if n <= size or size < 2 * _VECTOR or n % _VECTOR or k > _DEEP or not _multiplies_in_place(a.dtype.char):
        np.matmul(a, b, out=out)
        return
    whole = n - n % size
    np.matmul(a[..., None, :, :], _cut(b[..., :whole], size), out=_cut(out[..., :whole], size))
    if whole < n:
        np.matmul(a, b[..., whole:], out=out[..., whole:])


def _columns_at_once(m: int, k: int) -> int:
    """The most columns that keep a product small, whole registers of them."""
    size = _SMALL // max(1, m * k)
    return size - size % (_REGISTERS if size >= _REGISTERS else _VECTOR)


def _cut(x: Array, size: int) -> Array:
    """The view (..., k, parts · size) -> (..., parts, k, size)."""
    return x.reshape(*x.shape[:-1], -1, size).swapaxes(-2, -3)


@cache
def _multiplies_in_place(dtype: str) -> bool:
    """Whether BLAS has kernels for small products of a dtype that are worth it; in float64 they gain little."""
    return dtype == "f" and not blas_architectures().isdisjoint({"SkylakeX", "Cooperlake", "SapphireRapids"})
