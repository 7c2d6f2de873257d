"""A forward pass on arrays of fixed shapes, planned once: what is known before the numbers are, is done before them.

A plan is a list of NumPy calls on arrays that were made with it, to be gone through in order, again and again:

    copyto(band, shifted)   matmul(kernel, windows, out=y)   add(y, bias, out=y)   maximum(y, zeros, out=y)   ...

Every array has its memory, every view is taken, padding is laid down once, and no one else holds what is written in
place. So a call costs little more than NumPy's own, which on a single example is most of what a layer costs.

Images lie as everywhere (`funcnn.arrays.layout`), (h, c, w, n), and all else as (n, ...). The arithmetic is that of
`funcnn.arrays.conv_rows`, `conv_winograd` and `pooling`, where it is explained.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from funcnn.arrays.conv_products import multiply
from funcnn.arrays.conv_winograd import REACH, TILE, matrices_of
from funcnn.arrays.geometry import Geometry, Sides, Taps
from funcnn.arrays.layout import images
from funcnn.arrays.threads import even_slices
from funcnn.tree import Array

__all__ = ["NO_PADDING", "Held", "Plan", "held", "kernel_matrix", "winograd_kernel", "winograd_rows"]

NO_PADDING: Sides = ((0, 0), (0, 0))
_BLOCK_BYTES = 2**18  # of windows, or of numbers: what is made of them is in cache when more is done to it
_CLIPPED = 2**15  # elements, from which on np.clip is faster than a maximum with an array of zeros


class Held(NamedTuple):
    """A batch in a plan's memory: its numbers, and the array that they lie in, which has the padding of images."""

    whole: Array
    view: Array  # (h, c, w, n), or (n, ...)

    @property
    def batch(self) -> Array:
        """As a layer takes it, (n, ...)."""
        return images(self.view) if self.view.ndim == 4 else self.view

    @property
    def in_one_piece(self) -> Array:
        """The numbers, with the padding if they cannot be had without."""
        return self.view if self.view.flags.c_contiguous else self.whole


def held(n: int, shape: tuple[int, ...], dtype: DTypeLike, sides: Sides = NO_PADDING) -> Held:
    """Memory for n examples of a shape. Padding is zero and stays zero: steps write to the view alone.

    >>> held(2, (4, 4, 3), np.float32, ((1, 1), (1, 1))).whole.shape
    (6, 3, 6, 2)
    """
    if len(shape) != 3:
        return Held(*[np.empty((n, *shape), dtype)] * 2)
    (top, bottom), (left, right), (h, w, c) = *sides, shape
    make = np.empty if sides == NO_PADDING else np.zeros
    whole = make((top + h + bottom, c, left + w + right, n), dtype)
    return Held(whole, whole[top : top + h, :, left : left + w])


# --- Weights as their products take them ----------------------------------------------------------------------


def kernel_matrix(weight: Array) -> Array:
    """(kh, kw, c, o) -> (o, kh·kw·c)."""
    return np.ascontiguousarray(weight.reshape(-1, weight.shape[3]).T)


def winograd_kernel(weight: Array) -> Array:
    """G w: (3, kw, c, o) -> (6, o, kw·c)."""
    kernel = matrices_of(weight.dtype).kernel @ weight.reshape(3, -1)  # (6, 3) · (3, kw·c·o)
    return np.ascontiguousarray(kernel.reshape(REACH, -1, weight.shape[3]).swapaxes(1, 2))


def winograd_rows(height: int) -> int:
    """The rows of the whole tiles that cover an output of a height; padded, the input must have two more.

    >>> winograd_rows(10)
    12
    """
    return -(-height // TILE) * TILE


# --- The plan -------------------------------------------------------------------------------------------------

Then = Callable[[slice], None]  # adds what is to be done with a part of an output's rows while it is in cache


class Plan:
    """The steps, and the arrays that they use in between.

    >>> plan, y = Plan(np.float32), np.zeros(2, np.float32)
    >>> plan.add(np.add, y, 1, out=y)
    >>> plan.run(), plan.run(), y
    (None, None, array([2., 2.], dtype=float32))
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.steps: list[Callable[[], object]] = []
        self._scratch: dict[str, Array] = {}

    def run(self) -> None:
        """Go through the steps."""
        for step in self.steps:
            step()

    def add(self, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
        """Add a step: a function with its arguments."""
        self.steps.append(partial(function, *arguments, **options))

    def scratch(self, purpose: str, shape: Sequence[int]) -> Array:
        """An array for what the next steps use up: the same memory wherever the purpose is the same."""
        size = math.prod(shape)
        buffer = self._scratch.get(purpose)
        if buffer is None or buffer.size < size:
            buffer = self._scratch[purpose] = np.empty(size, self.dtype)
        return buffer[:size].reshape(shape)

    def convolve(self, x: Array, kernel: Array, geo: Geometry, out: Array, then: Then) -> None:
        """As `conv_rows.conv_forward`: x (h, c, w, n) with its padding, a `kernel_matrix` -> out (oh, o, ow, n)."""
        (kh, kw), (sh, sw), (_, dw) = geo.window, geo.stride, geo.dilation
        (_, c, _, n), (oh, o, ow, _) = x.shape, out.shape
        row, channel, column, number = x.strides
        for part in even_slices(oh, max(1, _BLOCK_BYTES // (sh * kw * c * ow * n * x.itemsize))):
            count = part.stop - part.start
            band = pixels = x[part.start * sh : (part.stop - 1) * sh + kh]
            if kw > 1 or sw > 1 or not pixels.flags.c_contiguous:
                band = self.scratch("band", (len(pixels), kw, c, ow, n))
                self.add(np.copyto, band, _view(pixels, band.shape, row, dw * column, channel, sw * column, number))
            band_row, line = band.strides[0], band.strides[-3]
            windows = _view(band, (count, kh * kw * c, ow * n), sh * band_row, line, number)
            self.add(multiply, kernel, windows, out[part].reshape(count, o, ow * n))
            then(part)

    def convolve_by_tiles(self, x: Array, kernel: Array, geo: Geometry, out: Array, then: Then) -> None:
        """As `conv_winograd.conv_forward`: x (4·tiles + 2, c, w, n) with its padding, a `winograd_kernel` -> out.

        `out` (4·tiles, o, ow, n) has whole tiles.
        """
        kw, sw, dw, matrices = geo.window[1], geo.stride[1], geo.dilation[1], matrices_of(self.dtype)
        (_, c, w, n), (height, o, ow, _) = x.shape, out.shape
        for tiles in even_slices(height // TILE, max(1, _BLOCK_BYTES // (REACH * kw * c * ow * n * x.itemsize))):
            count, part = tiles.stop - tiles.start, slice(tiles.start * TILE, tiles.stop * TILE)
            row, _, _, number = x.strides
            six = _view(x[part.start :], (count, REACH, c * w * n), TILE * row, row, number)
            made = self.scratch("transformed rows", (count, REACH, c, w, n))
            self.add(np.matmul, matrices.input, six, out=made.reshape(count, REACH, -1))
            if kw > 1 or sw > 1:
                tile, row, channel, column, number = made.strides
                shape = count, REACH, kw, c, ow, n
                shifted = _view(made, shape, tile, row, dw * column, channel, sw * column, number)
                made = self.scratch("shifted rows", shape)
                self.add(np.copyto, made, shifted)
            products = self.scratch("products", (count, REACH, o, ow * n))
            self.add(multiply, kernel, made.reshape(count, REACH, kw * c, ow * n), products)
            four = out[part].reshape(count, TILE, -1)
            self.add(np.matmul, matrices.output, products.reshape(count, REACH, -1), out=four)
            then(part)

    def max_pool(self, x: Array, geo: Geometry, out: Array) -> None:
        """As `pooling.max_pool_forward`: x (h, c, w, n) -> out (oh, c, ow, n)."""
        tallest = self.scratch("tallest", (geo.out_size[0], *x.shape[1:]))
        self._max_along(0, x, geo.taps[0], tallest)
        self._max_along(2, tallest, geo.taps[1], out)

    def _max_along(self, axis: int, x: Array, taps: Taps, out: Array) -> None:
        before = (slice(None),) * axis
        cells = [(out[(*before, outputs)], x[(*before, pixels)]) for outputs, pixels in taps]
        if [places.shape for places, _ in cells[:2]] == [out.shape] * 2:  # the first two cells are always pixels
            self.add(np.maximum, cells[0][1], cells[1][1], out=out)
            cells = cells[2:]
        else:
            self.add(np.copyto, out, -np.inf)
        for places, values in cells:
            self.add(np.maximum, places, values, out=places)

    # Element by element: x and out have one shape, and may be the same.

    def combine(self, function: Callable[..., object], x: Array, values: Array, out: Array) -> None:
        """out = function(x, values), where values lack the first axis of x, or have one number for a whole axis."""
        shape = x.shape if values.ndim == x.ndim else x.shape[1:]
        repeated = np.broadcast_to(values, shape).copy()  # over an array and single numbers NumPy's loops are slow
        self.add(function, x, repeated, out=out)

    def relu(self, x: Array, out: Array) -> None:
        """out = max(x, 0), as `elementwise.positive_part`."""
        if x.size < _CLIPPED:
            self.add(np.maximum, x, np.zeros(x.shape, x.dtype), out=out)
        else:
            self.add(np.clip, x, 0, np.inf, out=out)

    def leaky_relu(self, slope: float, x: Array, out: Array) -> None:
        """out = max(x, slope · x)."""
        if x.flags.c_contiguous and out.flags.c_contiguous:
            x, out = x.reshape(-1), out.reshape(-1)
        for part in even_slices(len(x), max(1, _BLOCK_BYTES * len(x) // x.nbytes)):
            scaled = self.scratch("scaled", x[part].shape)
            self.add(np.multiply, x[part], slope, out=scaled)
            self.add(np.maximum, x[part], scaled, out=out[part])


def _view(x: Array, shape: tuple[int, ...], *strides: int) -> Array:
    return as_strided(x, shape, strides, writeable=False)
