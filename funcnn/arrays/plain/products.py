"""Matrix products; the host's are `funcnn.arrays.products`."""

from funcnn.tree import Array

__all__ = ["column_sums", "matmul"]


def matmul(a: Array, b: Array) -> Array:
    """a · b for matrices (m, k) and (k, n)."""
    product: Array = a @ b
    return product


def column_sums(y: Array) -> Array:
    """The sum of each column, (m, k) -> (k,)."""
    sums: Array = y.sum(axis=0)
    return sums
