"""What a chunk of a batch says of its channels, of which batch norm makes the batch's mean and variance."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from funcnn.arrays.layout import channel_rows, dot_channels, for_channels, sum_channels
from funcnn.arrays.seam import tuned
from funcnn.tree import Array

__all__ = ["Moments", "add_up", "batch_statistics", "moments", "surely_positive", "whole_batch"]

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


def batch_statistics(
    said: Sequence[Moments], running_mean: Array, running_var: Array, momentum: float, epsilon: float
) -> tuple[Array, Array, Array, Array]:
    """The batch's mean (float64) and 1 / sqrt(var + epsilon) of what its chunks say, and the new running mean and var.

    running = momentum · running + (1 - momentum) · batch, the biased variance (`funcnn.nn.batch_norm`).
    """
    count, dtype = sum(each.size for each in said), running_mean.dtype
    mean = add_up([each.total + each.size * each.centre for each in said]) / count
    # Moments about the chunks' centres c, then about the mean μ:
    # Σ (x - μ)² = Σ (x - c)² + 2 (c - μ) Σ (x - c) + n (c - μ)²
    offsets = [each.centre - mean for each in said]
    crossed = [off * (2 * each.total + each.size * off) for off, each in zip(offsets, said, strict=True)]
    total = add_up([each.squares for each in said]) + add_up(crossed)
    var = (np.maximum(total, 0) / count).astype(np.promote_types(dtype, np.float32))
    take = 1 - momentum
    new_mean = momentum * running_mean + take * mean.astype(dtype)
    new_var = momentum * running_var + take * var.astype(dtype, copy=False)
    return mean, 1 / np.sqrt(var + epsilon), new_mean, new_var


def add_up(values: Sequence[Array]) -> Array:
    """First to last.

    >>> add_up([np.ones(2), np.ones(2)])
    array([2., 2.])
    """
    return reduce(add, values)


@tuned
def surely_positive(values: Array) -> bool:
    """Whether all are known to be positive without waiting for a device: there, none are.

    >>> surely_positive(np.array([1.0, 2.0])), surely_positive(np.array([1.0, 0.0]))
    (True, False)
    """
    return bool((values > 0).all())


@tuned
def whole_batch(x: Array) -> Any:
    """What does all of batch norm for a whole batch at once, where a device has it; None elsewhere.

    >>> whole_batch(np.ones(2))
    """
    return None
