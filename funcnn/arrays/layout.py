"""How images lie in memory: row after row, the examples of a batch side by side.

To every layer, images are (n, height, width, channels). In memory, the arrays that convolution and pooling make are
ordered (height, channels, width, n). `rows` views a batch that way, `images` views it back; strides hide the difference
from everything else, and element-wise functions keep the order of what they are given.

Two images a and b of 4 × 4 pixels and one channel, a12 for row 1 and column 2 of a:

    image after image       a00 a01 a02 a03   a10 a11 a12 a13   a20 ...      b00 b01 b02 b03   b10 ...
    row after row (here)    a00 b00 a01 b01 a02 b02 a03 b03   a10 b10 a11 b11 a12 b12 a13 b13   a20 b20 ...

A kernel of two rows and one column meets, for each row of the output, two rows of the image, 2 × 8 numbers. These
matrices overlap in memory:

    memory         [ row 0 | row 1 | row 2 | row 3 ]
    output row 0   [ row 0 | row 1 ]
    output row 1           [ row 1 | row 2 ]
    output row 2                   [ row 2 | row 3 ]

so they are one stride-tricks view, which BLAS multiplies in place without a copy (`funcnn.arrays.windows`). With c
channels each row is c rows of w·n numbers, and the picture is the same. A kernel of kw columns takes kw copies of the
image, each shifted by a column, instead of kh·kw. Copies, pooling and sums over a channel run over w·n adjacent
numbers, however few channels there are.
"""

import math

import numpy as np

from funcnn.arrays.products import times_vector
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import scratch
from funcnn.tree import Array

__all__ = [
    "add_line", "add_to_examples", "adjacent", "by_rows", "channel_rows", "contiguous", "contiguous_rows",
    "copy_columns", "dot_channels", "empty_adjacent", "empty_like_channels", "for_channels", "images", "lies_by_rows",
    "line", "of_channel_rows", "plane", "row_products", "rows", "scale_channels", "sum_channels", "sum_examples",
    "unit_rows", "wide",
]  # fmt: skip


def rows(x: Array) -> Array:
    """The view of an image batch by rows: (n, h, w, c) -> (h, c, w, n)."""
    return x.transpose(1, 3, 2, 0)


def images(by_rows: Array) -> Array:
    """The view of rows as an image batch: (h, c, w, n) -> (n, h, w, c)."""
    return by_rows.transpose(3, 0, 2, 1)


def contiguous_rows(x: Array) -> Array:
    """`rows` in C order, (n, h, w, c) -> (h, c, w, n): x itself where it lies so, else a copy.

    Images of a data set lie one after the other, often 4096 bytes or a multiple of it from one to the next. The same
    pixel of all of them is then kept in the same eight places of the cache, and each number is fetched anew. So the
    images are moved apart first, and the two copies take a third of the time of one.
    """
    by_rows, apart = rows(x), 16  # numbers, a line of the cache
    if not x.flags.c_contiguous or len(x) <= 8 or x.strides[0] % 4096:
        return np.ascontiguousarray(by_rows)
    n, size = len(x), x.size // len(x)
    moved = scratch("apart", (n, size + apart), x.dtype)[:, :size]
    moved[...] = x.reshape(n, size)
    return np.ascontiguousarray(rows(moved.reshape(x.shape)))


@tuned
def contiguous(x: Array) -> Array:
    """The same array in C order: itself or a copy."""
    return np.ascontiguousarray(x)


@tuned
def by_rows(x: Array) -> Array:
    """Images that lie by rows, to every function the same: x itself or a copy."""
    return images(contiguous_rows(x))


def lies_by_rows(x: Array) -> bool:
    """Whether a batch is of images that lie by rows."""
    return x.ndim == 4 and not x.flags.c_contiguous and rows(x).flags.c_contiguous


def adjacent(x: Array, like: Array | None = None) -> Array:
    """x by rows if it lies so, or else in C order, which it is copied into; or in the order of another such array."""
    if lies_by_rows(x if like is None else like):
        return images(contiguous_rows(x))
    return np.ascontiguousarray(x)


def empty_adjacent(like: Array) -> Array:
    """A new array of the shape, dtype and order of one that `adjacent` gives."""
    return empty_like_channels(like) if lies_by_rows(like) else np.empty(like.shape, like.dtype)


def copy_columns(to: Array, source: Array) -> None:
    """to[...] = source, for rows (h, c, w, n) of which columns are left out: n numbers are copied as one item.

    NumPy's loops run over the innermost axis, and n numbers are few: a loop over whole columns takes half the time.
    """
    if source.size > 0 and source.dtype == to.dtype and source.strides[-1] == to.strides[-1] == source.itemsize:
        column = np.dtype((np.void, source.shape[-1] * source.itemsize))
        to, source = to.view(column), source.view(column)
    to[...] = source


# --- Over channels, and over examples -------------------------------------------------------------------------
#
# Sums over rows of numbers are products with ones, which BLAS computes five times as fast as `sum`. A number for each
# channel is repeated along a row first, since NumPy's loops over an array and a single number are not vectorised well.


@tuned
def channel_rows(x: Array) -> Array:
    """The view (..., c) -> (m, c, p) of a batch: of images (h, c, w · n), else (all but channels, c, 1)."""
    if x.ndim == 4:
        n, h, w, c = x.shape
        return np.ascontiguousarray(rows(x)).reshape(h, c, w * n)
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1], 1)


@tuned
def of_channel_rows(x: Array, shape: tuple[int, ...]) -> Array:
    """`channel_rows` as a batch of a shape again."""
    if len(shape) != 4:
        return x.reshape(shape)
    n, h, w, c = shape
    return images(x.reshape(h, c, w, n))


@tuned
def empty_like_channels(x: Array) -> Array:
    """A new array like a batch, of which `channel_rows` is a view."""
    if x.ndim == 4:
        n, h, w, c = x.shape
        return images(np.empty((h, c, w, n), x.dtype))
    return np.empty(x.shape, x.dtype)


def wide(x: Array) -> Array:
    """float16 as float32, to add up in: sums of float16 end at 65,504, and stop to grow before; all else as it is."""
    return x.astype(np.float32) if x.dtype.char == "e" else x


@tuned
def sum_channels(x: Array) -> Array:
    """The sum of each channel, (m, c, p) -> (c,), in float64; before, BLAS adds up rows of p numbers in x's dtype."""
    sums = x[..., 0] if x.shape[2] == 1 else times_vector(x, np.ones(x.shape[2], x.dtype))
    total: Array = sums.sum(axis=0, dtype=np.float64)
    return total


@tuned
def dot_channels(x: Array, y: Array) -> Array:
    """The sum of products of each channel of two arrays, (m, c, p) -> (c,), rounded as in `sum_channels`."""
    if x.shape[2] > 1:
        sums: Array = np.vecdot(x, y)
        return sum_channels(sums[..., None])
    return sum_channels(x * y)


@tuned
def for_channels(values: Array, x: Array) -> Array:
    """Numbers (c,), one for each channel of an array (m, c, p), ready to be combined with it: -> (c, p)."""
    return np.repeat(values, x.shape[2]).reshape(len(values), x.shape[2])


@tuned
def add_line(out: Array, x: Array, factor: Array, constant: Array) -> None:
    """out += factor · x + constant, for each channel of (m, c, p)."""
    line = np.multiply(x, for_channels(factor, x), out=scratch("line", x.shape, x.dtype))
    line += for_channels(constant, x)
    out += line


@tuned
def scale_channels(x: Array, factor: Array) -> Array:
    """factor · x, with a number for each channel of a batch (..., c)."""
    y, source = empty_like_channels(x), channel_rows(x)
    np.multiply(source, for_channels(factor, source), out=channel_rows(y))
    return y


@tuned
def plane(dy: Array, x: Array, factor: Array, along: Array, constant: Array) -> Array:
    """factor · dy + along · x + constant, with three numbers for each channel; x as `channel_rows`."""
    y = scale_channels(dy, factor)
    add_line(channel_rows(y), x, along, constant)
    return y


@tuned
def line(x: Array, factor: Array, constant: Array) -> Array:
    """factor · x + constant, with two numbers for each channel of a batch (..., c)."""
    y = empty_like_channels(x)
    source, out = channel_rows(x), channel_rows(y)
    np.multiply(source, for_channels(factor, source), out=out)
    out += for_channels(constant, source)
    return y


@tuned
def sum_examples(x: Array) -> Array:
    """The sum over a batch: (n, ...) -> (...)."""
    if x.ndim == 4 and len(x) > 1 and rows(x).flags.c_contiguous:
        total = times_vector(rows(x), np.ones(len(x), x.dtype))  # (h, c, w)
        return total.transpose(0, 2, 1)
    if x.dtype.char == "e":
        return np.asarray(wide(x).sum(axis=0).astype(x.dtype))
    return np.asarray(np.add.reduce(x, axis=0))  # what `sum` calls, after a microsecond


@tuned
def add_to_examples(x: Array, value: Array) -> Array:
    """x (n, ...) + value (...)."""
    if x.ndim != 4:
        return np.add(x, value)
    y = empty_like_channels(x)
    y[...] = value  # twice as fast as adding a number to each run of examples
    y += x
    return y


@tuned
def row_products(a: Array, b: Array) -> Array:
    """The product of each row of one matrix and that of another, (n, features) -> (n,)."""
    products: Array = np.vecdot(a, b)
    return products


@tuned
def unit_rows(rows: Array) -> tuple[Array, Array, Array]:
    """Each row divided by its length: (n, features) -> (n, features), and the lengths as norm · largest, (n, 1) each.

    The largest value is divided by first, so that no square overflows or vanishes. A row of zeros stays as it is.
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    largest[largest == 0] = 1
    unit = rows / largest
    norm = np.sqrt(np.einsum("nf,nf->n", wide(unit), wide(unit)))[:, None].astype(rows.dtype, copy=False)
    norm[norm == 0] = 1
    unit /= norm
    return unit, norm, largest
