"""Random masks: which values are kept, drawn as 16 bits each from a key."""

import math

from funcnn.arrays.seam import tuned
from funcnn.keys import Key, generator
from funcnn.tree import Array

__all__ = ["LEVELS", "keep_mask", "masked"]

LEVELS = 2**16  # random floats would take three times as long


def keep_mask(key: Key, shape: tuple[int, ...], threshold: int) -> Array:
    """Booleans, each False with the probability threshold / `LEVELS`.

    >>> keep_mask(Key(0), (2, 3), 0).all(), keep_mask(Key(0), (2, 3), LEVELS).any()
    (np.True_, np.False_)
    """
    size = math.prod(shape)
    bits = generator(key).bit_generator.random_raw(-(-size // 4))  # each 64-bit word gives four levels
    levels = bits.astype("<u8", copy=False).view("<u2")[:size]
    kept: Array = levels >= threshold
    return kept.reshape(shape)


@tuned
def masked(x: Array, mask: Array, factor: float) -> Array:
    """x · mask · factor, the mask of booleans of x's shape.

    >>> import numpy as np
    >>> masked(np.ones(2), np.array([True, False]), 2.0)
    array([2., 0.])
    """
    y: Array = x * mask
    y *= factor
    return y
