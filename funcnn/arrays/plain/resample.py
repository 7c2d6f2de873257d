"""Images of another size: enlarged by interpolation, padded, pixels made of channels; each beside its transpose."""

from functools import lru_cache
from typing import Any

import numpy as np

from funcnn.arrays.geometry import Sides, Size
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["bilinear", "bilinear_transpose", "pad", "pixels_of_channels", "pixels_of_channels_transpose"]


def bilinear(x: Array, factor: Size) -> Array:
    """Images enlarged by a factor: (n, h, w, c) -> (n, h·fh, w·fw, c), as rows · x · columnsᵀ."""
    xp, (_, h, w, _) = module_of(x), x.shape
    rows, columns = (_weights(xp, *each, x.dtype) for each in ((h, factor[0]), (w, factor[1])))
    return _apply(rows, columns, x)


def bilinear_transpose(dy: Array, factor: Size) -> Array:
    """What reaches the pixels of x from those of `bilinear` of x: (n, h·fh, w·fw, c) -> (n, h, w, c)."""
    xp, (_, height, width, _) = module_of(dy), dy.shape
    sizes = (height // factor[0], factor[0]), (width // factor[1], factor[1])
    rows, columns = (_weights(xp, *each, dy.dtype).T for each in sizes)
    return _apply(rows, columns, dy)


@lru_cache(maxsize=64)  # each is a copy to the device
def _weights(xp: Any, size: int, factor: int, dtype: Any) -> Array:
    """The weights (size · factor, size) of the two pixels that each lies between; beyond the edge that at it."""
    at = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    return xp.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size))).astype(dtype))  # type: ignore[no-any-return]


def _apply(rows: Array, columns: Array, x: Array) -> Array:
    n, h, w, c = x.shape
    tall = (rows @ x.reshape(n, h, w * c)).reshape(n * len(rows), w, c)
    y: Array = columns @ tall
    return y.reshape(n, len(rows), len(columns), c)


def pad(x: Array, sides: Sides) -> Array:
    """Images with rows and columns of zeros around them."""
    (top, bottom), (left, right) = sides
    n, h, w, c = x.shape
    y = module_of(x).zeros((n, top + h + bottom, left + w + right, c), x.dtype)
    y[:, top : top + h, left : left + w] = x
    return y  # type: ignore[no-any-return]


def pixels_of_channels(x: Array, factor: int) -> Array:
    """Runs of factor² channels as squares of pixels: (n, h, w, c·f²) -> (n, h·f, w·f, c), channel (c·f + i)·f + j."""
    n, h, w, channels = x.shape
    split = x.reshape(n, h, w, channels // factor**2, factor, factor).transpose(0, 1, 4, 2, 5, 3)
    return split.reshape(n, h * factor, w * factor, channels // factor**2)


def pixels_of_channels_transpose(y: Array, factor: int) -> Array:
    """The other way round: (n, h·f, w·f, c) -> (n, h, w, c·f²)."""
    n, height, width, c = y.shape
    split = y.reshape(n, height // factor, factor, width // factor, factor, c).transpose(0, 1, 3, 5, 2, 4)
    return split.reshape(n, height // factor, width // factor, c * factor**2)
