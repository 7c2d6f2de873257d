"""Rows of numbers with a mean of 0 and a mean square of 1: layer norm and RMS norm."""

import numpy as np

from funcnn.arrays.seam import faster
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["normalize_rows", "normalize_rows_back"]


def normalize_rows(
    x: Array, scale: Array | None, shift: Array | None, epsilon: float, *, centre: bool
) -> tuple[Array, Array, Array]:
    """y of x (..., features), with a mean of 0 if `centre`; each row's mean and inverse root, (..., 1)."""
    kernels = faster("row_norms", x)
    if kernels:
        return kernels.normalize_rows(x, scale, shift, epsilon, centre=centre)  # type: ignore[no-any-return]
    xp, dtype = module_of(x), x.dtype
    x = x.astype(np.promote_types(dtype, np.float32), copy=False)
    mean = x.mean(axis=-1, keepdims=True) if centre else xp.zeros((*x.shape[:-1], 1), x.dtype)
    centred = x - mean
    inverse = 1 / xp.sqrt((centred * centred).mean(axis=-1, keepdims=True) + epsilon)
    y = centred * inverse
    y = y if scale is None else y * scale
    y = y if shift is None else y + shift
    return y.astype(dtype, copy=False), mean, inverse


def normalize_rows_back(
    dy: Array, x: Array, mean: Array, inverse: Array, scale: Array | None, *, centre: bool, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx = (d - mean(d) - x̂ · mean(d · x̂)) · inverse, d = dy · scale, or None; Σ dy · x̂ and Σ dy over all rows."""
    kernels = faster("row_norms", x)
    if kernels:
        return kernels.normalize_rows_back(dy, x, mean, inverse, scale, centre=centre, need_dx=need_dx)  # type: ignore[no-any-return]
    dtype, axes = x.dtype, tuple(range(x.ndim - 1))
    dy = dy.astype(mean.dtype, copy=False)
    normal = (x.astype(mean.dtype, copy=False) - mean) * inverse
    dscale, dshift = (dy * normal).sum(axis=axes), dy.sum(axis=axes)
    if not need_dx:
        return None, dscale, dshift
    d = dy if scale is None else dy * scale
    dx = d - normal * (d * normal).mean(axis=-1, keepdims=True)
    if centre:
        dx -= d.mean(axis=-1, keepdims=True)
    dx *= inverse
    return dx.astype(dtype, copy=False), dscale, dshift
