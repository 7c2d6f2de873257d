"""Matrix products; the host's are `funcnn.arrays.products`."""

import numpy as np

from funcnn.tree import Array

__all__ = ["column_sums", "matmul"]


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """a · b for matrices (m, k) and (k, n), a new array or `out`."""
    product: Array = a @ b if out is None else np.matmul(a, b, out=out)
    return product


def column_sums(y: Array) -> Array:
    """The sum of each column, (m, k) -> (k,)."""
    sums: Array = y.sum(axis=0)
    return sums
