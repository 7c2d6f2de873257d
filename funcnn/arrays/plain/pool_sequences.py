"""Pools along time: sequences (n, time, channels) as images of one column."""

from funcnn.arrays.geometry import Geometry
from funcnn.arrays.plain import pooling
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["avg_pool_backward", "avg_pool_forward", "global_max_backward", "max_pool_backward", "max_pool_forward"]


def max_pool_forward(x: Array, geo: Geometry, *, keep_winners: bool) -> tuple[Array, Array | None]:
    """The largest of each window (n, out, channels), and the taps that it lies under, of equals the first."""
    y, winners = pooling.max_pool_forward(x[:, :, None], geo, keep_winners=keep_winners)
    return y[:, :, 0], None if winners is None else winners[0][:, :, 0]


def max_pool_backward(dy: Array, winners: Array, geo: Geometry) -> Array:
    """dx: each winner gets its window's share."""
    return pooling.max_pool_backward(dy[:, :, None], (winners[:, :, None],), geo)[:, :, 0]


def avg_pool_forward(x: Array, geo: Geometry) -> Array:
    """The mean of the steps in each window, padding left out."""
    return pooling.avg_pool_forward(x[:, :, None], geo)[:, :, 0]


def avg_pool_backward(dy: Array, geo: Geometry) -> Array:
    """dx: each step of a window gets an equal share."""
    return pooling.avg_pool_backward(dy[:, :, None], geo)[:, :, 0]


def global_max_backward(dy: Array, winners: Array, time: int) -> Array:
    """dy (n, channels) to the steps that won, (n, 1, channels), zeros to the others: -> (n, time, channels)."""
    return dy[:, None] * (module_of(dy).arange(time)[:, None] == winners)  # type: ignore[no-any-return]
