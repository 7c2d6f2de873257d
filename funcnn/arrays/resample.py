"""Images of another size: enlarged by interpolation, padded, pixels made of channels; by rows, as all images here.

Each function is linear, and its transpose, which takes a gradient back, stands beside it. To repeat each pixel, as the
nearest one of an enlarged image, is `pooling.spread`, and the transpose of that `pooling.sum_pool`.

`bilinear` goes along one axis after the other. By a factor of 2, pixel i of a row is the middle of 2i and 2i + 1:

    pixels in          0       1       2       3           out 1 = 3/4 · in 0 + 1/4 · in 1
    pixels out       0   1   2   3   4   5   6   7         out 2 = 1/4 · in 0 + 3/4 · in 1

The outputs of a phase (every factor-th one) have the same two weights, so a phase is a sum of two shifted arrays.
Phases a and factor - 1 - a mirror each other: both have the weight `far` for the farther pixel and 1 - far.
"""

import numpy as np

from funcnn.arrays.geometry import Sides, Size
from funcnn.arrays.layout import contiguous_rows, copy_columns, images, rows
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import scratch
from funcnn.tree import Array

__all__ = ["bilinear", "bilinear_transpose", "crop", "pad", "pixels_of_channels", "pixels_of_channels_transpose"]

_ROWS, _COLUMNS = 0, 2  # axes of an array by rows, (h, c, w, n)


# --- Bilinear -------------------------------------------------------------------------------------------------


@tuned
def bilinear(x: Array, factor: Size) -> Array:
    """Images enlarged by a factor, pixels beyond the edge as those at it: (n, h, w, c) -> (n, h·fh, w·fw, c).

    >>> bilinear(np.array([0.0, 4.0]).reshape(1, 1, 2, 1), (1, 2)).ravel()
    array([0., 1., 3., 4.])
    """
    # Columns first: rows lie together in memory, so the larger part is then the faster one.
    return images(_enlarge(_ROWS, _enlarge(_COLUMNS, contiguous_rows(x), factor[1]), factor[0]))


@tuned
def bilinear_transpose(dy: Array, factor: Size) -> Array:
    """What reaches the pixels of x from those of `bilinear` of x: (n, h·fh, w·fw, c) -> (n, h, w, c)."""
    return images(_reduce(_COLUMNS, _reduce(_ROWS, contiguous_rows(dy), factor[0]), factor[1]))


def _pairs(factor: int) -> list[tuple[int, int, float]]:
    """The phases in pairs, first the one whose farther pixel comes before, and the weight of the farther pixel."""
    return [(a, factor - 1 - a, 0.5 - (a + 0.5) / factor) for a in range(factor // 2)]


def _enlarge(axis: int, x: Array, factor: int) -> Array:
    """Rows enlarged along one axis: (h, c, w, n) -> (h·factor, c, w, n), or (h, c, w·factor, n)."""
    if factor == 1:
        return x
    y = np.empty([size * factor if i == axis else size for i, size in enumerate(x.shape)], x.dtype)
    near, far = (scratch(name, x.shape, x.dtype) for name in ("near", "far"))
    for before, after, weight in _pairs(factor):
        np.multiply(x, 1 - weight, out=near)
        np.multiply(x, weight, out=far)
        for phase, edge, shift in ((before, slice(0, 1), -1), (after, slice(-1, None), 1)):
            out = _phase(axis, y, phase, factor)
            # The columns of a phase lie apart: they are made together, where NumPy's loops run over whole rows.
            made = out if axis == _ROWS else scratch("phase", x.shape, x.dtype)
            _add_neighbours(axis, near, 0, far, shift, made)
            made[_at(axis, edge)] = x[_at(axis, edge)]
            if axis == _COLUMNS:
                copy_columns(out, made)
    if factor % 2:  # the middle one lies on the pixel
        copy_columns(_phase(axis, y, factor // 2, factor), x)
    return y


def _reduce(axis: int, dy: Array, factor: int) -> Array:
    """The transpose of `_enlarge`."""
    if factor == 1:
        return dy
    shape = tuple([size // factor if i == axis else size for i, size in enumerate(dy.shape)])
    share = scratch("share", shape, dy.dtype)
    dx = np.zeros(shape, dy.dtype) if factor % 2 == 0 else _phase(axis, dy, factor // 2, factor).copy()
    first, last = _at(axis, slice(0, 1)), _at(axis, slice(-1, None))
    for before, after, weight in _pairs(factor):
        one, other = _phase(axis, dy, before, factor), _phase(axis, dy, after, factor)
        if axis == _COLUMNS:
            one, other = (_together(name, each) for name, each in (("near", one), ("far", other)))
        np.add(one, other, out=share)
        share *= 1 - weight
        dx += share
        # What has a pixel for its farther one: its neighbours' nearer halves, and at the edge its own.
        if shape[axis] > 1:
            _add_neighbours(axis, one, 1, other, -1, share)
            np.add(one[first], one[_at(axis, slice(1, 2))], out=share[first])
            np.add(other[last], other[_at(axis, slice(-2, -1))], out=share[last])
        else:
            np.add(one, other, out=share)
        share *= weight
        dx += share
    return dx


def _add_neighbours(axis: int, a: Array, i: int, b: Array, j: int, out: Array) -> None:
    """out[k] = a[k + i] + b[k + j] along an axis, wherever both are inside; what is beside that is left as it comes."""
    step = 1
    if axis == _COLUMNS:  # flat, since a loop over whole arrays is faster than one for each row: it runs over the edges
        step = out.shape[-1]
        a, b, out = a.reshape(-1), b.reshape(-1), out.reshape(-1)
    start, stop = max(0, -i, -j), len(out) // max(1, step) - max(0, i, j)
    here, at_a, at_b = (slice((start + k) * step, (stop + k) * step) for k in (0, i, j))
    np.add(a[at_a], b[at_b], out=out[here])


def _phase(axis: int, x: Array, phase: int, factor: int) -> Array:
    return x[_at(axis, slice(phase, None, factor))]


def _together(name: str, x: Array) -> Array:
    together = scratch(name, x.shape, x.dtype)
    copy_columns(together, x)
    return together


def _at(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


# --- Edges ----------------------------------------------------------------------------------------------------


@tuned
def pad(x: Array, sides: Sides) -> Array:
    """Images with rows and columns of zeros around them: (n, h, w, c) -> (n, top + h + bottom, left + w + right, c)."""
    (top, bottom), (left, right) = sides
    source = rows(x)
    h, c, w, n = source.shape
    y = np.empty((top + h + bottom, c, left + w + right, n), x.dtype)
    y[:top], y[top + h :] = 0, 0
    middle = y[top : top + h]
    middle[:, :, :left], middle[:, :, left + w :] = 0, 0
    middle[:, :, left : left + w] = source
    return images(y)


def crop(x: Array, sides: Sides) -> Array:
    """The view of images without so many rows and columns at the edges; the transpose of `pad`."""
    (top, bottom), (left, right) = sides
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


# --- Channels as pixels ---------------------------------------------------------------------------------------


@tuned
def pixels_of_channels(x: Array, factor: int) -> Array:
    """Runs of factor² channels as squares of pixels: (n, h, w, c·f²) -> (n, h·f, w·f, c), channel (c·f + i)·f + j."""
    source = contiguous_rows(x)
    h, channels, w, n = source.shape
    split = source.reshape(h, channels // factor**2, factor, factor, w, n)
    y = np.empty((h, factor, split.shape[1], w, factor, n), x.dtype)
    for j in range(factor):
        copy_columns(y[:, :, :, :, j], split[:, :, :, j].swapaxes(1, 2))
    return images(y.reshape(h * factor, split.shape[1], w * factor, n))


@tuned
def pixels_of_channels_transpose(y: Array, factor: int) -> Array:
    """The other way round: (n, h·f, w·f, c) -> (n, h, w, c·f²)."""
    source = contiguous_rows(y)
    height, c, width, n = source.shape
    split = source.reshape(height // factor, factor, c, width // factor, factor, n)
    x = np.empty((height // factor, c, factor, factor, width // factor, n), y.dtype)
    for j in range(factor):
        copy_columns(x[:, :, :, j].swapaxes(1, 2), split[:, :, :, :, j])
    return images(x.reshape(height // factor, c * factor**2, width // factor, n))
