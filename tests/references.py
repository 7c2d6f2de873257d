"""Naive references: convolution and pooling as loops over pixels, without padding, stride tricks or matrices.

A window's cells that lie outside the image are skipped, so nothing here shares an idea with the code under test
but the definition. Arrays are NHWC, sizes (height, width).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from funcnn.arrays.geometry import Geometry, Padding, geometry
from funcnn.layer import Array, Shape


class Spec(NamedTuple):
    """How windows lie on an image: the settings that convolution and pooling share."""

    window: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = "valid"

    def on(self, x: Array) -> Geometry:
        """What the code under test makes of these settings."""
        return geometry(x.shape[1:3], *self)


def window_starts(x: Array, spec: Spec, axis: int) -> range:
    """Where along an axis (0: rows, 1: columns) each window's first cell lies; in the padding, it is negative."""
    size, stride = x.shape[1 + axis], spec.stride[axis]
    span = (spec.window[axis] - 1) * spec.dilation[axis] + 1
    if spec.padding == "valid":
        before, after = 0, 0
    elif spec.padding == "same":
        last_start = (size - 1) // stride * stride  # the windows start where every stride-th pixel is
        missing = max(0, last_start + span - size)
        before, after = missing // 2, missing - missing // 2
    elif isinstance(spec.padding, int):
        before, after = spec.padding, spec.padding
    else:
        before, after = spec.padding[axis]
    return range(-before, size + after - span + 1, stride)


Cell = tuple[int, int, int, int]  # (k, l) in the kernel, (row, column) in the image


def window_cells(x: Array, spec: Spec) -> Iterator[tuple[int, int, list[Cell]]]:
    """For each window (i, j), in reading order: those of its cells that lie on the image, in reading order."""
    for i, top in enumerate(window_starts(x, spec, 0)):
        for j, left in enumerate(window_starts(x, spec, 1)):
            cells = []
            for k in range(spec.window[0]):
                for l in range(spec.window[1]):  # noqa: E741
                    row, column = top + k * spec.dilation[0], left + l * spec.dilation[1]
                    if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                        cells.append((k, l, row, column))
            yield i, j, cells


def _out_shape(x: Array, spec: Spec, channels: int) -> Shape:
    return len(x), len(window_starts(x, spec, 0)), len(window_starts(x, spec, 1)), channels


def conv2d(x: Array, weight: Array, spec: Spec, groups: int = 1) -> Array:
    """The convolution, one number after the other: x (n, h, w, c), weight (kh, kw, c/groups, o)."""
    _, _, inner, filters = weight.shape
    y = np.zeros(_out_shape(x, spec, filters), x.dtype)
    for i, j, cells in window_cells(x, spec):
        for n in range(len(x)):
            for o in range(filters):
                first = o // (filters // groups) * inner  # the first channel of this filter's group
                for k, l, row, column in cells:  # noqa: E741
                    for c in range(inner):
                        y[n, i, j, o] += x[n, row, column, first + c] * weight[k, l, c, o]
    return y


def conv2d_gradients(x: Array, weight: Array, dy: Array, spec: Spec, groups: int = 1) -> tuple[Array, Array]:
    """The loss's gradients in weight and x: of each product in `conv2d`, to one factor what the other was, times dy."""
    _, _, inner, filters = weight.shape
    dweight, dx = np.zeros_like(weight), np.zeros_like(x)
    for i, j, cells in window_cells(x, spec):
        for n in range(len(x)):
            for o in range(filters):
                first = o // (filters // groups) * inner
                for k, l, row, column in cells:  # noqa: E741
                    for c in range(inner):
                        dweight[k, l, c, o] += x[n, row, column, first + c] * dy[n, i, j, o]
                        dx[n, row, column, first + c] += weight[k, l, c, o] * dy[n, i, j, o]
    return dweight, dx


def max_pool(x: Array, spec: Spec) -> Array:
    """The largest value of each window."""
    y = np.zeros(_out_shape(x, spec, x.shape[3]), x.dtype)
    for i, j, cells in window_cells(x, spec):
        for n in range(len(x)):
            for c in range(x.shape[3]):
                y[n, i, j, c] = max(x[n, row, column, c] for _, _, row, column in cells)
    return y


def max_pool_gradient(x: Array, dy: Array, spec: Spec) -> Array:
    """Each window's gradient, given to that of its cells with the largest value; the leftmost, then the topmost."""
    dx = np.zeros_like(x)
    for i, j, cells in window_cells(x, spec):
        cells.sort(key=lambda cell: (cell[1], cell[0]))
        for n in range(len(x)):
            for c in range(x.shape[3]):
                values = [x[n, row, column, c] for _, _, row, column in cells]
                _, _, row, column = cells[values.index(max(values))]
                dx[n, row, column, c] += dy[n, i, j, c]
    return dx


def avg_pool(x: Array, spec: Spec) -> Array:
    """The mean of those cells of each window that lie on the image."""
    y = np.zeros(_out_shape(x, spec, x.shape[3]), x.dtype)
    for i, j, cells in window_cells(x, spec):
        for n in range(len(x)):
            for c in range(x.shape[3]):
                y[n, i, j, c] = sum(x[n, row, column, c] for _, _, row, column in cells) / len(cells)
    return y
