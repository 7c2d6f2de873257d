"""Groups of channels with a mean of 0 and a mean square of 1 in each example: group norm."""

import math

import numpy as np

from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["normalize_groups", "normalize_groups_back"]


def normalize_groups(
    x: Array, groups: int, scale: Array | None, shift: Array | None, epsilon: float
) -> tuple[Array, Array, Array]:
    """y of x (n, ..., channels), each channel scaled and shifted; mean and inverse root, (n, 1, groups, 1)."""
    by_groups = _by_groups(x, groups)
    mean = by_groups.mean(axis=(1, 3), keepdims=True)
    centred = by_groups - mean
    inverse = 1 / module_of(x).sqrt((centred * centred).mean(axis=(1, 3), keepdims=True) + epsilon)
    y = (centred * inverse).reshape(x.shape)
    y = y if scale is None else y * scale
    y = y if shift is None else y + shift
    return y.astype(x.dtype, copy=False), mean, inverse


def normalize_groups_back(
    dy: Array, x: Array, mean: Array, inverse: Array, scale: Array | None, *, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx = (d - mean(d) - x̂ · mean(d · x̂)) · inverse, d = dy · scale, or None; Σ dy · x̂ and Σ dy of each channel."""
    groups, axes = mean.shape[2], tuple(range(x.ndim - 1))
    normal = (_by_groups(x, groups) - mean) * inverse
    dy = dy.astype(mean.dtype, copy=False)
    dscale, dshift = (dy * normal.reshape(x.shape)).sum(axis=axes), dy.sum(axis=axes)
    if not need_dx:
        return None, dscale, dshift
    d = _by_groups(dy if scale is None else dy * scale, groups)
    dx = d - d.mean(axis=(1, 3), keepdims=True) - normal * (d * normal).mean(axis=(1, 3), keepdims=True)
    dx *= inverse
    return dx.reshape(x.shape).astype(x.dtype, copy=False), dscale, dshift


def _by_groups(x: Array, groups: int) -> Array:
    """(n, ..., channels) -> (n, positions, groups, channels / groups), of float16 in float32."""
    wide = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
    return wide.reshape(len(x), math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
