"""Groups of channels with a mean of 0 and a mean square of 1 in each example: the arithmetic of group norm.

A batch is views (several, positions, cells). Sequences are (n, time, channels) as they lie, some examples in a view;
images that lie by rows (`funcnn.arrays.layout`) are one view (1, height, channels · width · n). So sums over positions
are products with ones, and what is left of an example's group are cells, (groups, inside, after): `after` is n in
images, and 1 in sequences. Numbers of a group are repeated over its cells before they meet the batch, since NumPy's
loops are fast over adjacent numbers. A view is gone through in blocks of positions, which lie side by side in memory.

    y = x · A + B,   A = inverse · scale,   B = shift - mean · A

As in `funcnn.arrays.row_norms`, x - mean stands for x where the mean is large beside the deviation.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcnn.arrays.elementwise import BLOCK
from funcnn.arrays.layout import adjacent, empty_adjacent, lies_by_rows, rows, wide
from funcnn.arrays.row_norms import LARGE_MEAN
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import in_tasks, scratch, slices
from funcnn.tree import Array

__all__ = ["normalize_groups", "normalize_groups_back"]

_POSITIONS = 8  # in a block at least, so that it is larger than what all its positions share
_OPERATIONS = 16  # for a number, as the threads count them


@tuned
def normalize_groups(
    x: Array, groups: int, scale: Array | None, shift: Array | None, epsilon: float
) -> tuple[Array, Array, Array]:
    """y of x (n, ..., channels), each channel scaled and shifted; mean and inverse root of each group, (n, groups).

    >>> normalize_groups(np.array([[1.0, 3.0, 5.0, 5.0]]), 2, None, None, 1.0)[1]
    array([[2., 5.]])
    """
    dtype, x = x.dtype, adjacent(wide(x))
    y, form = empty_adjacent(x), _form(x, groups)
    mean, inverse = np.empty((2, len(x), groups), x.dtype)
    its_scale, its_shift = form.by_channel(scale), form.by_channel(shift)
    for its_x, its_y, examples in zip(_views(x), _views(y), _examples(x), strict=True):
        made = _normalize(its_x, its_y, form, its_scale, its_shift, epsilon)
        mean[examples], inverse[examples] = map(form.by_example, made)
    return y.astype(dtype, copy=False), mean, inverse


@tuned
def normalize_groups_back(
    dy: Array, x: Array, mean: Array, inverse: Array, scale: Array | None, *, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx, or None if it is not needed, dscale and dshift of `normalize_groups`, given what it gave for x."""
    dtype, x = x.dtype, adjacent(wide(x))
    dy, form = adjacent(wide(dy), like=x), _form(x, mean.shape[1])
    dx = empty_adjacent(x) if need_dx else None
    its_scale, sums = form.by_channel(scale), np.zeros((2, x.shape[-1]), x.dtype)
    views = zip(_views(dy), _views(x), _views(x if dx is None else dx), _examples(x), strict=True)
    for its_dy, its_x, its_dx, examples in views:
        its_mean, its_inverse = form.by_group(mean[examples]), form.by_group(inverse[examples])
        out = its_dx if need_dx else None
        sums += _normalize_back(its_dy, its_x, form, its_mean, its_inverse, its_scale, out)
    return None if dx is None else dx.astype(dtype, copy=False), sums[0], sums[1]


# --- A view, in blocks of positions ---------------------------------------------------------------------------


def _normalize(
    x: Array, y: Array, form: "_Form", scale: Array | None, shift: Array | None, epsilon: float
) -> tuple[Array, Array]:
    """Fill y for x, (several, positions, cells); returns mean and inverse root, (several, groups, after)."""
    count = x.shape[1] * form.inside

    def squares(x: Array) -> Array:
        return np.multiply(x, x, out=scratch("norms", x.shape, x.dtype))

    def sums(part: slice) -> Array:
        return np.stack([_sum(x[:, part]), _sum(squares(x[:, part]))])

    def centred(part: slice) -> Array:
        return _centred(x[:, part], form.spread(mean))

    mean, mean_square = (form.gather(each) / count for each in _total(sums, x))
    square, offset = mean * mean, mean
    mean_square -= square
    is_large = not np.all(mean_square * LARGE_MEAN**2 >= square)
    if is_large:
        mean_square = form.gather(_total(lambda part: _sum(squares(centred(part))), x)) / count
        offset = np.zeros_like(mean)
    mean_square += epsilon
    inverse = 1 / np.sqrt(mean_square, out=mean_square)
    factor, constant = form.spread(inverse), form.spread(-offset * inverse)
    if scale is not None:
        factor, constant = factor * scale, constant * scale
    if shift is not None:
        constant = constant + shift

    def fill(part: slice) -> None:
        np.multiply(centred(part) if is_large else x[:, part], factor[:, None], out=y[:, part])
        y[:, part] += constant[:, None]

    _for_parts(fill, x)
    return mean, inverse


def _normalize_back(
    dy: Array, x: Array, form: "_Form", mean: Array, inverse: Array, scale: Array | None, dx: Array | None
) -> Array:
    """Fill dx (several, positions, cells) if it is an array; returns the sums of dscale and dshift, (2, channels).

    dx = dy · A - (x - mean) · a - b, with a = mean(dy · scale · x̂) · inverse² and b = mean(dy · scale) · inverse.
    """
    count = x.shape[1] * form.inside
    is_large = not np.all(np.abs(mean) * inverse <= LARGE_MEAN)
    offset = np.zeros_like(mean) if is_large else mean

    def source(part: slice) -> Array:
        return _centred(x[:, part], form.spread(mean)) if is_large else x[:, part]

    def sums(part: slice) -> Array:
        its_dy, its_x = dy[:, part], source(part)
        return np.stack([_sum(its_dy), _sum(np.multiply(its_dy, its_x, out=scratch("norms", its_x.shape, x.dtype)))])

    root = form.spread(inverse)
    sum_dy, sum_along = _total(sums, x)
    sum_along -= form.spread(offset) * sum_dy
    sum_along *= root
    found = np.stack([form.of_channels(sum_along), form.of_channels(sum_dy)])
    if dx is None:
        return found
    if scale is not None:
        sum_along, sum_dy, root = sum_along * scale, sum_dy * scale, root * scale
    factor = form.gather(sum_along) / count * inverse * inverse
    constant = form.spread(form.gather(sum_dy) / count * inverse - offset * factor)
    factor = form.spread(factor)

    def fill(part: slice) -> None:
        its_dx, its_x = dx[:, part], source(part)
        np.multiply(dy[:, part], root[:, None], out=its_dx)
        its_dx -= np.multiply(its_x, factor[:, None], out=scratch("norms", its_x.shape, x.dtype))
        its_dx -= constant[:, None]

    _for_parts(fill, x)
    return found


def _sum(x: Array) -> Array:
    """The sums over positions, (several, positions, cells) -> (several, cells)."""
    return x[:, 0] if x.shape[1] == 1 else np.asarray(np.ones(x.shape[1], x.dtype) @ x)


def _centred(x: Array, mean: Array) -> Array:
    return np.subtract(x, mean[:, None], out=scratch("centred", x.shape, x.dtype))


def _for_parts(function: Callable[[slice], Any], x: Array) -> list[Any]:
    """`function` of every block of positions, in order, on all threads."""
    several, positions, cells = x.shape
    parts = slices(positions, max(_POSITIONS, BLOCK // max(1, several * cells)))
    made = in_tasks(lambda some: [function(part) for part in parts[some]], parts, x.size * _OPERATIONS)
    return [each for some in made for each in some]


def _total(function: Callable[[slice], Array], x: Array) -> Array:
    first, *others = _for_parts(function, x)
    for each in others:
        first += each
    return np.asarray(first)


# --- As views -------------------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """How the cells of a position are divided, (groups, channels of a group, width, n); the last two 1 in sequences."""

    groups: int
    channels: int
    width: int
    after: int

    @property
    def inside(self) -> int:
        """The cells of a group in a position."""
        return self.channels * self.width

    def gather(self, values: Array) -> Array:
        """The sums over each group's cells, (several, cells) -> (several, groups, after)."""
        return np.asarray(values.reshape(len(values), self.groups, self.inside, self.after).sum(axis=2))

    def spread(self, values: Array) -> Array:
        """A group's number for each of its cells, (several, groups, after) -> (several, cells)."""
        cells = np.broadcast_to(values[:, :, None], (len(values), self.groups, self.inside, self.after))
        return cells.reshape(len(values), math.prod(self))

    def by_channel(self, values: Array | None) -> Array | None:
        """A channel's number for each of its cells, (channels,) -> (cells,)."""
        return None if values is None else np.repeat(values, self.width * self.after)

    def of_channels(self, values: Array) -> Array:
        """The sums over each channel's cells, (several, cells) -> (channels,)."""
        return np.asarray(values.reshape(len(values), self.groups * self.channels, -1).sum(axis=(0, 2)))

    def by_example(self, values: Array) -> Array:
        """A group's numbers (several, groups, after) as (n, groups)."""
        return values.transpose(0, 2, 1).reshape(len(values) * self.after, self.groups)

    def by_group(self, values: Array) -> Array:
        """A group's numbers (n, groups) as (several, groups, after)."""
        return values.reshape(-1, self.after, self.groups).transpose(0, 2, 1)


def _form(x: Array, groups: int) -> _Form:
    width, after = (x.shape[2], len(x)) if lies_by_rows(x) else (1, 1)
    return _Form(groups, x.shape[-1] // groups, width, after)


def _views(x: Array) -> list[Array]:
    """Views (several, positions, cells) of x, one for images that lie by rows."""
    if lies_by_rows(x):
        return [rows(x).reshape(1, x.shape[1], x.shape[3] * x.shape[2] * len(x))]
    flat = x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
    return [flat[examples] for examples in _examples(x)]


def _examples(x: Array) -> list[slice]:
    """The examples of each view."""
    if lies_by_rows(x):
        return [slice(0, len(x))]
    return slices(len(x), max(1, BLOCK * len(x) // max(1, x.size)))
