"""Rows of numbers with a mean of 0 and a mean square of 1: the arithmetic of layer norm and RMS norm.

A row holds the features of a position. Sequences are matrices (rows, features). Images that lie by rows
(`funcnn.arrays.layout`) are matrices (features, width · n), one for each row of theirs, of which the transposes are
views (rows, features) that BLAS and NumPy take as they are. So there is one form for both, (several, rows, features).

    y = (x - mean) · inverse · scale + shift = x · A + B
    A = inverse ⊗ scale,   B = 1 ⊗ shift - mean · inverse ⊗ scale

A and B are products of two columns and two rows, which BLAS makes in half the time that NumPy takes to multiply a
matrix by a number for each row. The variance is E(x²) - mean², one pass fewer than that of x - mean, where the mean is
not large beside the deviation. Where it is, digits would cancel, and x - mean stands for x in all of this.
"""

from typing import NamedTuple

import numpy as np

from funcnn.arrays.elementwise import BLOCK
from funcnn.arrays.layout import adjacent, empty_adjacent, lies_by_rows, rows, wide
from funcnn.arrays.products import as_rows, times_vector
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import in_tasks, scratch, slices
from funcnn.tree import Array

__all__ = ["LARGE_MEAN", "RowGradients", "normalize_rows", "normalize_rows_back"]

LARGE_MEAN = 2.0  # in deviations: up to here, E(x²) - mean² costs the variance no more than two or three bits
_OPERATIONS = 32  # for a number, as the threads count them


class RowGradients(NamedTuple):
    """dx, or None if it is not needed; and the sums over all rows."""

    dx: Array | None
    dscale: Array
    dshift: Array


@tuned
def normalize_rows(
    x: Array, scale: Array | None, shift: Array | None, epsilon: float, *, centre: bool
) -> tuple[Array, Array, Array]:
    """y of x (..., features), with a mean of 0 if `centre`; each row's mean and inverse root, in `matrices`' order.

    >>> y, mean, inverse = normalize_rows(np.array([[1.0, 3.0]]), None, None, 0.0, centre=True)
    >>> y, mean, inverse
    (array([[-1.,  1.]]), array([2.]), array([1.]))
    """
    dtype, x = x.dtype, adjacent(wide(x))
    y = empty_adjacent(x)
    features = x.shape[-1]
    factors = np.zeros((2, features), x.dtype)
    factors[0] = 1 if scale is None else scale
    factors[1] = 0 if shift is None else shift
    blocks = list(zip(_matrices(x), _matrices(y), strict=True))
    adds = centre or shift is not None

    def work(part: slice) -> list[tuple[Array, Array]]:
        return [_normalize(*block, factors, epsilon, centre=centre, adds=adds) for block in blocks[part]]

    made = [each for part in in_tasks(work, blocks, x.size * _OPERATIONS) for each in part]
    empty = np.empty(0, x.dtype)
    mean, inverse = (np.concatenate([empty, *[each[i].ravel() for each in made]]) for i in (0, 1))
    return y.astype(dtype, copy=False), mean, inverse


@tuned
def normalize_rows_back(
    dy: Array, x: Array, mean: Array, inverse: Array, scale: Array | None, *, centre: bool, need_dx: bool
) -> RowGradients:
    """The gradients of `normalize_rows`, given what it gave for x."""
    dtype, x = x.dtype, adjacent(wide(x))
    dy = adjacent(wide(dy), like=x)
    dx = empty_adjacent(x) if need_dx else None
    features = x.shape[-1]
    scale = np.ones(features, x.dtype) if scale is None else scale.astype(x.dtype, copy=False)
    blocks = list(zip(_matrices(dy), _matrices(x), strict=True))
    ends = np.cumsum([len(each) * each.shape[1] for _, each in blocks]).tolist()
    outs = _matrices(dx) if dx is not None else [None] * len(blocks)

    def work(part: slice) -> Array:
        total = np.zeros((2, features), x.dtype)
        for (d, p), out, end in zip(blocks[part], outs[part], ends[part], strict=True):
            its_mean, its_inverse = (each[end - p[..., 0].size : end].reshape(p.shape[:2]) for each in (mean, inverse))
            total += _normalize_back(d, p, its_mean, its_inverse, scale, out, centre=centre)
        return total

    dscale, dshift = sum(in_tasks(work, blocks, x.size * _OPERATIONS), np.zeros((2, features), x.dtype))
    dx = None if dx is None else dx.astype(dtype, copy=False)
    return RowGradients(dx, dscale, dshift)


# --- Matrices of rows -----------------------------------------------------------------------------------------


def _normalize(x: Array, y: Array, factors: Array, epsilon: float, *, centre: bool, adds: bool) -> tuple[Array, Array]:
    """Fill y (several, rows, features) for x; returns the rows' means and inverse roots, (several, rows)."""
    table, features = _scratch("norms", x), x.shape[2]
    mean = times_vector(x, np.full(features, 1 / features, x.dtype)) if centre else np.zeros(x.shape[:2], x.dtype)
    mean_square, offset = _squares(x, table) / features, mean
    if centre:
        square = mean * mean
        mean_square -= square
        if not np.all(mean_square * LARGE_MEAN**2 >= square):
            x, offset = np.subtract(x, mean[..., None], out=_scratch("centred", x)), np.zeros_like(mean)
            mean_square = _squares(x, table) / features
    mean_square += epsilon
    inverse = 1 / np.sqrt(mean_square, out=mean_square)
    left = np.zeros((*x.shape[:2], 2), x.dtype)
    left[..., 0] = inverse
    np.multiply(x, np.matmul(left, factors, out=table), out=y)
    if adds:
        np.multiply(offset, -inverse, out=left[..., 0])
        left[..., 1] = 1
        y += np.matmul(left, factors, out=table)
    return mean, inverse


def _normalize_back(
    dy: Array, x: Array, mean: Array, inverse: Array, scale: Array, dx: Array | None, *, centre: bool
) -> Array:
    """Fill dx (several, rows, features) if it is an array; returns the sums of dscale and dshift, (2, features).

    dx = dy · A - (x - mean) · a - b, with a = mean(dy · scale · x̂) · inverse² and b = mean(dy · scale) · inverse.
    """
    features, offset = x.shape[2], mean
    if centre and not np.all(np.abs(mean) * inverse <= LARGE_MEAN):
        x, offset = np.subtract(x, mean[..., None], out=_scratch("centred", x)), np.zeros_like(mean)
    along = np.multiply(dy, x, out=_scratch("norms", x))
    left = np.ones((len(x), 2, x.shape[1]), x.dtype)
    np.multiply(offset, -inverse, out=left[:, 0])
    sums: Array = (left @ dy).sum(axis=0)
    sums[0] += (inverse[:, None] @ along).sum(axis=(0, 1))
    if dx is None:
        return sums
    share = scale / features
    mean_along = times_vector(along, share)
    if centre:
        mean_dy = times_vector(dy, share)
        mean_along -= offset * mean_dy
    for _ in range(3):
        mean_along *= inverse
    columns = np.zeros((*x.shape[:2], 2), x.dtype)
    columns[..., 0] = inverse
    np.matmul(columns, np.stack([scale, scale]), out=dx)  # of one column, NumPy would multiply by itself
    dx *= dy
    np.multiply(x, mean_along[..., None], out=along)
    if centre:
        along += (mean_dy * inverse - offset * mean_along)[..., None]
    dx -= along
    return sums


def _squares(x: Array, table: Array) -> Array:
    """The sum of squares of each row."""
    if x.flags.c_contiguous:
        return np.asarray(np.vecdot(x, x))
    return times_vector(np.multiply(x, x, out=table), np.ones(x.shape[2], x.dtype))


# --- As matrices ----------------------------------------------------------------------------------------------


def _matrices(x: Array) -> list[Array]:
    """Views (several, rows, features) of x (..., features), each of what stays in cache."""
    features = x.shape[-1]
    if lies_by_rows(x):
        by_rows = rows(x).reshape(x.shape[1], features, x.shape[2] * len(x))
        parts = slices(len(by_rows), max(1, BLOCK // max(1, by_rows[:1].size)))
        return [by_rows[part].transpose(0, 2, 1) for part in parts]
    flat = as_rows(x)
    return [flat[None, part] for part in slices(len(flat), max(1, BLOCK // features))]


def _scratch(purpose: str, like: Array) -> Array:
    """Memory for matrices, in the order of others."""
    if like.flags.c_contiguous:
        return scratch(purpose, like.shape, like.dtype)
    return scratch(purpose, like.transpose(0, 2, 1).shape, like.dtype).transpose(0, 2, 1)
