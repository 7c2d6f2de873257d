"""What a chunk of a batch says of its channels, of which batch norm makes the batch's mean and variance."""

from typing import NamedTuple

import numpy as np

from funcnn.arrays.layout import channel_rows, dot_channels, for_channels, sum_channels
from funcnn.arrays.seam import tuned
from funcnn.tree import Array

__all__ = ["Moments", "moments", "surely_positive"]

_SAFE = 16.0  # Σx² in terms of Σ(x - mean)²: beyond it, differences of squares lose more than four bits


class Moments(NamedTuple):
    """How many numbers a channel has, and of each in float64: a centre c, Σ (x - c) and Σ (x - c)²."""

    size: int
    centre: Array
    total: Array
    squares: Array


@tuned
def moments(x: Array) -> tuple[Array, Moments]:
    """x less a centre, as `channel_rows`, and its moments.

    The centre is 0 if x's dtype has digits enough for that, and otherwise the mean, which costs a pass and a copy.
    """
    source = channel_rows(x)
    size = source.size // x.shape[-1]
    total, squares = sum_channels(source), dot_channels(source, source)
    centre = total / max(1, size)
    if (squares <= _SAFE * (squares - total * centre)).all():
        return source, Moments(size, np.zeros(len(centre)), total, squares)
    centre = centre.astype(x.dtype)  # what is subtracted
    centred = np.subtract(source, for_channels(centre, source))
    return centred, Moments(size, centre.astype(np.float64), sum_channels(centred), dot_channels(centred, centred))


@tuned
def surely_positive(values: Array) -> bool:
    """Whether all are known to be positive without waiting for a device: there, none are.

    >>> surely_positive(np.array([1.0, 2.0])), surely_positive(np.array([1.0, 0.0]))
    (True, False)
    """
    return bool((values > 0).all())
