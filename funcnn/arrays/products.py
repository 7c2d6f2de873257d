"""Matrix products cut into blocks that are computed on all threads; the blocks follow from the shapes alone.

What is one task's work, as a shard of a batch is, leaves its products `whole`: no other thread would help, and each
block packs a factor again, which takes 3 to 15 % more.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import numpy as np

from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import TASK_OPERATIONS, TASKS, blas_is_single, run, single_blas_thread, slices
from funcnn.tree import Array

__all__ = ["as_rows", "column_sums", "matmul", "times_vector", "whole"]

_BLOCK_WIDTH = 128  # rows or columns at least: every block packs the whole other factor
_IS_WHOLE = ContextVar("whole", default=False)  # and so it is in the tasks of `run`, on whatever thread
_FALSE_ALARM = 5  # values of a row: OpenBLAS's `times_vector`


@tuned
def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """a · b for matrices (m, k) and (k, n), cut into blocks of rows or columns that are computed on all threads.

    A new array, or `out`, which must be of their dtype.

    >>> matmul(np.ones((2, 3)), np.ones((3, 1)))
    array([[3.],
           [3.]])
    """
    m, k, n = *a.shape, b.shape[1]
    if k == 1:  # one example's weight gradient
        # NumPy's own loop for it takes ten times longer than BLAS with a zero more.
        pair = np.zeros((2, m + n), np.result_type(a, b))
        pair[0, :m], pair[0, m:] = a[:, 0], b[0]
        a, b = pair[:, :m].T, pair[:, m:]
    elif k == _FALSE_ALARM and (m == 1 or n == 1):
        product = times_vector(a, b[:, 0])[:, None] if n == 1 else times_vector(b.T, a[0])[None]
        if out is None:
            return product
        out[...] = product
        return out
    worth = m * k * n // TASK_OPERATIONS
    most = TASKS if worth >= 2 * TASKS else 2  # four blocks of half as many operations lose 3 to 10 % to packing
    blocks = min(worth, max(m, n) // _BLOCK_WIDTH, most) // 2 * 2  # for two threads
    if blocks < 2 or _IS_WHOLE.get():
        if blas_is_single():
            return np.matmul(a, b, out=out)
        with single_blas_thread():
            return np.matmul(a, b, out=out)
    y = np.empty((m, n), np.result_type(a, b)) if out is None else out
    size = -(-max(m, n) // blocks)
    cuts = slices(max(m, n), size)
    if m >= n:
        run([partial(np.matmul, a[cut], b, out=y[cut]) for cut in cuts])
    else:
        run([partial(np.matmul, a, b[:, cut], out=y[:, cut]) for cut in cuts])
    return y


@contextmanager
def whole(products: bool) -> Iterator[None]:
    """Whether to leave products whole: part of what a step is defined as, since some processors then give other bits.

    >>> with whole(True):
    ...     matmul(np.ones((1, 2)), np.ones((2, 1)))
    array([[2.]])
    """
    token = _IS_WHOLE.set(products)
    try:
        yield
    finally:
        _IS_WHOLE.reset(token)


def times_vector(x: Array, vector: Array) -> Array:
    """x · vector over the last axis, (..., k) · (k,) -> (...), with no false alarm of an invalid value.

    OpenBLAS's kernel of float32 for rows of five (with AVX-512, version 0.3.31) also multiplies what happens to lie on
    the stack. Its results are right, but one time in many NumPy warns of an invalid value.

    >>> times_vector(np.ones((2, 5), np.float32), np.ones(5, np.float32))
    array([5., 5.], dtype=float32)
    """
    if x.shape[-1] == _FALSE_ALARM and x.dtype.char == "f":
        return np.asarray(np.einsum("...k,k->...", x, vector))
    return np.asarray(x @ vector)


@tuned
def column_sums(y: Array) -> Array:
    """The sum of each column, (m, k) -> (k,), as a product.

    >>> column_sums(np.ones((3, 2)))
    array([3., 3.])
    """
    sums: Array = matmul(np.ones((1, len(y)), y.dtype), y)[0]
    return sums


def as_rows(x: Array) -> Array:
    """The rows of a product, one for each position: (..., features) -> (m, features)."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
