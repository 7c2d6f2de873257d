"""Rotary positions: pairs of features turned by an angle that grows with the position (Su et al. 2021, RoFormer).

At position t, the pair (x[i], x[i + half]) of an example's features is turned by t · base^(-2i / features) radians:

    y[i]        = x[i] · cos - x[i + half] · sin
    y[i + half] = x[i + half] · cos + x[i] · sin        i from 0 below half = features / 2

so that the product of a query and a key turned so depends on how far apart they are, and not on where. The first half
of the features is paired with the second, as GPT-NeoX and Llama do; the paper pairs neighbours, which is the same but
for the order of the features. To turn is linear and keeps lengths, so its gradient is to turn back.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from funcnn.arrays.elementwise import BLOCK
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import scratch, slices
from funcnn.tree import Array

__all__ = ["angle_tables", "rotate", "rotate_back"]


@tuned
def rotate(x: Array, *, offset: int = 0, base: float = 10000.0) -> Array:
    """Turn x (..., time, features) by its positions, which begin at `offset`: -> a new array of its shape and order.

    `features` must be even.

    >>> x = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> rotate(x).round(3)
    array([[1.   , 0.   ],
           [0.54 , 0.841]])
    """
    return _turned(x, *angle_tables(*x.shape[-2:], offset, float(base), x.dtype, 1))


@tuned
def rotate_back(y: Array, *, offset: int = 0, base: float = 10000.0) -> Array:
    """Turn y (..., time, features) the other way: the inverse of `rotate`, and its gradient.

    >>> x = np.arange(12.0).reshape(1, 3, 4)
    >>> bool(np.allclose(rotate_back(rotate(x, offset=5), offset=5), x))
    True
    """
    return _turned(y, *angle_tables(*y.shape[-2:], offset, float(base), y.dtype, -1))


@lru_cache(maxsize=64)  # a step of attention asks for the same two in every layer
def angle_tables(
    time: int, features: int, offset: int, base: float, dtype: np.dtype[Any], way: int
) -> tuple[Array, Array]:
    """(cos, cos) and (-sin, sin) of the angles, each (time, features); of their negatives, if way is -1."""
    half = features // 2
    angles = way * np.outer(np.arange(offset, offset + time), base ** (-np.arange(half) / half))
    cos, sin = np.cos(angles), np.sin(angles)
    tables = np.concatenate([cos, cos], axis=1).astype(dtype), np.concatenate([-sin, sin], axis=1).astype(dtype)
    for each in tables:
        each.flags.writeable = False
    return tables


def _turned(x: Array, cos: Array, sin: Array) -> Array:
    """x · cos + (x with its halves exchanged) · sin.

    The halves are exchanged by a copy that takes each for one item: NumPy's loops over half of a head's features take
    longer to begin than to run. Passes over all of an array, in blocks, take a third of the time of passes over halves.
    """
    if x.strides[-1] != x.itemsize:
        x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    if x.size == 0:
        return y
    half = np.dtype((np.void, x.shape[-1] // 2 * x.itemsize))
    parts: list[Any] = [...]
    if x.ndim > 2:
        parts = slices(len(x), max(1, BLOCK // x[0].size))
    for part in parts:
        its_x, its_y = x[part], y[part]
        exchanged = scratch("rotary", its_x.shape, x.dtype)
        exchanged.view(half)[...] = its_x.view(half)[..., ::-1]
        exchanged *= sin
        np.multiply(its_x, cos, out=its_y)
        its_y += exchanged
    return y
