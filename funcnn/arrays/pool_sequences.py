"""Pooling along time: sequences (n, time, channels) in C order, tap by tap; geometries of images (time, 1)."""

from collections.abc import Callable

import numpy as np

from funcnn.arrays.geometry import Geometry
from funcnn.arrays.layout import wide
from funcnn.arrays.seam import tuned
from funcnn.tree import Array

__all__ = ["avg_pool_backward", "avg_pool_forward", "global_max_backward", "max_pool_backward", "max_pool_forward"]


@tuned
def max_pool_forward(x: Array, geo: Geometry, *, keep_winners: bool) -> tuple[Array, Array | None]:
    """The largest of each window (n, out, channels), and the taps that it lies under, of equals the first.

    >>> from funcnn.arrays.geometry import geometry
    >>> x = np.array([1.0, 5.0, 5.0, 2.0]).reshape(1, 4, 1)
    >>> y, winners = max_pool_forward(x, geometry((4, 1), (2, 1), (1, 1), (1, 1), "valid"), keep_winners=True)
    >>> y.ravel(), winners.ravel()
    (array([5., 5., 5.]), array([1, 0, 0], dtype=uint8))
    """
    firsts = np.arange(geo.out_size[0]) * geo.stride[0] - geo.padding[0][0]  # the step under tap 0, of each window
    y = x[:, np.maximum(firsts, 0)]  # under the first tap that lies on the sequence
    winners = None
    if keep_winners:
        kind = np.min_scalar_type(geo.window[0] - 1)
        winners = np.empty(y.shape, kind)
        winners[...] = np.maximum(-firsts, 0).astype(kind)[:, None]
    for k, (outputs, steps) in enumerate(geo.taps[0]):
        best, found = y[:, outputs], x[:, steps]
        if winners is not None:
            np.copyto(winners[:, outputs], winners.dtype.type(k), where=found > best)
        np.maximum(best, found, out=best)
    return y, winners


@tuned
def max_pool_backward(dy: Array, winners: Array, geo: Geometry) -> Array:
    """dx: each winner gets its window's share."""
    return _spread(geo, dy, lambda k, outputs: dy[:, outputs] * (winners[:, outputs] == k))


@tuned
def avg_pool_forward(x: Array, geo: Geometry) -> Array:
    """The mean of the steps in each window, padding left out."""
    y = np.zeros((len(x), geo.out_size[0], x.shape[2]), wide(x[:0]).dtype)
    for outputs, steps in geo.taps[0]:
        y[:, outputs] += x[:, steps]
    y *= _shares(geo, y)
    return y.astype(x.dtype, copy=False)


@tuned
def avg_pool_backward(dy: Array, geo: Geometry) -> Array:
    """dx: each step of a window gets an equal share."""
    share = dy * _shares(geo, dy)
    return _spread(geo, dy, lambda k, outputs: share[:, outputs])


@tuned
def global_max_backward(dy: Array, winners: Array, time: int) -> Array:
    """dy (n, channels) to the steps that won, (n, 1, channels), zeros to the others: -> (n, time, channels)."""
    dx = np.zeros((len(dy), time, dy.shape[1]), dy.dtype)
    np.put_along_axis(dx, winners, dy[:, None], axis=1)
    return dx


def _shares(geo: Geometry, like: Array) -> Array:
    """1 / the number of steps in each window (out, 1)."""
    counts = np.zeros(geo.out_size[0])
    for outputs, _ in geo.taps[0]:
        counts[outputs] += 1
    return (1 / counts).astype(like.dtype)[:, None]


def _spread(geo: Geometry, dy: Array, share: Callable[[int, slice], Array]) -> Array:
    """dx (n, time, channels), given the share of the steps under tap k in those windows that have a step there."""
    dx = np.zeros((len(dy), geo.in_size[0], dy.shape[2]), dy.dtype)
    overlap = geo.window[0] > geo.stride[0]
    for k, (outputs, steps) in enumerate(geo.taps[0]):
        if overlap:
            dx[:, steps] += share(k, outputs)
        else:
            dx[:, steps] = share(k, outputs)
    return dx
