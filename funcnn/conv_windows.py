"""Where a kernel's windows lie on an image, and how images lie in memory so that the windows cost next to nothing.

Images are (n, height, width, channels) to every layer. In memory, the arrays that convolution and pooling make are
ordered (height, channels, width, n): `rows` views a batch that way, `images` views it back. Strides hide the
difference from everything else, and element-wise functions keep the order of what they are given.

Why this order: let P = ow·n be the numbers of one output row of one channel. A kernel of one column then meets, for
output row i, the matrix x[i : i + kh] of kh·c rows and P columns, and since rows of the image are the outermost axis,
the matrices of all i are overlapping parts of one array: a stride-tricks view that BLAS multiplies in place. A kernel
of kw columns takes kw copies of the image, each shifted by one column, instead of kh·kw (`windows`). The copies run
over P adjacent numbers, however few channels there are, and so do pooling and the sums over a channel.
"""

from functools import cached_property, lru_cache
from typing import Literal

import attrs
import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcnn.layer import Array
from funcnn.parallel import scratch

__all__ = [
    "Geometry", "Padding", "Sides", "Size", "add_shifted", "band", "conv_out_size", "geometry", "images", "overlapping",
    "rows", "shares_products", "shift", "tap", "turned", "turned_kernel", "turned_rows", "windows",
]  # fmt: skip

Size = tuple[int, int]  # (height, width)
Sides = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = Literal["valid", "same"] | int | Sides

_WIDE = 96  # columns of a product, from where on one for each row of an image is as fast as one for many
_LARGE = 2**17  # weights: a kernel that large leaves the cache, and is to be read but once for many rows


# --- How windows lie on an image ------------------------------------------------------------------------------


@attrs.frozen(slots=False)  # so that what follows from the fields can be kept beside them
class Geometry:
    """Where the windows of a kernel lie on an image: sizes as (height, width), padding as `Sides`."""

    in_size: Size
    window: Size
    stride: Size
    dilation: Size
    padding: Sides

    @cached_property
    def out_size(self) -> Size:
        """The number of windows along each axis; zero or less if the kernel does not fit."""
        height, width = self.padded_size
        return (
            conv_out_size(height, self.window[0], self.stride[0], self.dilation[0]),
            conv_out_size(width, self.window[1], self.stride[1], self.dilation[1]),
        )

    @property
    def padded_size(self) -> Size:
        """The image's size with its padding."""
        (top, bottom), (left, right) = self.padding
        return self.in_size[0] + top + bottom, self.in_size[1] + left + right

    @cached_property
    def vertical(self) -> "Geometry":
        """The same rows of windows, of one column each: what is left to do once the columns are shifted."""
        (kh, _), (sh, _), (dh, _) = self.window, self.stride, self.dilation
        return Geometry(self.in_size, (kh, 1), (sh, 1), (dh, 1), (self.padding[0], (0, 0)))

    @cached_property
    def taps(self) -> tuple[tuple[tuple[slice, slice], ...], tuple[tuple[slice, slice], ...]]:
        """For each axis, `tap` of every cell of the kernel."""
        vertical, horizontal = (
            tuple(
                tap(self.in_size[axis], self.out_size[axis], self.stride[axis], k * self.dilation[axis] - before)
                for k in range(self.window[axis])
            )
            for axis, (before, _) in enumerate(self.padding)
        )
        return vertical, horizontal


def conv_out_size(size: int, window: int, stride: int, dilation: int) -> int:
    """The number of windows along one padded axis: floor((size - (window - 1)·dilation - 1) / stride) + 1.

    >>> conv_out_size(28, 5, 1, 1), conv_out_size(29, 3, 2, 1), conv_out_size(7, 3, 1, 2)
    (24, 14, 3)
    """
    return (size - (window - 1) * dilation - 1) // stride + 1


def tap(size: int, out_size: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Along one axis: the windows whose cell at an offset is on the image, and where on the image it is.

    >>> tap(4, 4, 1, -1)  # the first cell of a window of 3, padded by 1: not for window 0, for window 1 pixel 0
    (slice(1, 4, None), slice(0, 3, 1))
    """
    first = max(0, -(offset // stride))
    last = min(out_size, (size - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0, stride)
    return slice(first, last), slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)


@lru_cache(maxsize=1024)
def geometry(in_size: Size, window: Size, stride: Size, dilation: Size, padding: Padding) -> Geometry:
    """The geometry of a kernel on an image of a size.

    "valid" pads nothing; "same" gives ceil(size / stride) windows, the odd pixel of padding at the bottom and
    right; an int pads all four sides.
    """
    if padding == "valid":
        sides: Sides = ((0, 0), (0, 0))
    elif padding == "same":
        sides = (
            _same(in_size[0], window[0], stride[0], dilation[0]),
            _same(in_size[1], window[1], stride[1], dilation[1]),
        )
    elif isinstance(padding, int):
        sides = ((padding, padding), (padding, padding))
    else:
        sides = padding
    return Geometry(in_size, window, stride, dilation, sides)


def _same(size: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


# --- How images lie in memory ---------------------------------------------------------------------------------


def rows(x: Array) -> Array:
    """The view of an image batch by rows: (n, h, w, c) -> (h, c, w, n)."""
    return x.transpose(1, 3, 2, 0)


def images(by_rows: Array) -> Array:
    """The view of rows as an image batch: (h, c, w, n) -> (n, h, w, c)."""
    return by_rows.transpose(3, 0, 2, 1)


def band(x: Array, geo: Geometry, groups: int, part: slice) -> Array:
    """The image rows that a part of the output rows needs, once for each column of the kernel, shifted.

    x (h, c, w, n) -> (groups, image rows, kw, c/groups, ow, n), zero where a window reaches over the edge; valid until
    the next call.
    """
    h, channels, w, n = x.shape
    (kh, kw), (sh, sw), inner = geo.window, geo.stride, channels // groups
    count = (part.stop - part.start - 1) * sh + (kh - 1) * geo.dilation[0] + 1
    start = part.start * sh - geo.padding[0][0]
    above = min(max(0, -start), count)
    below = max(above, min(count, h - start))
    source = x[start + above : start + below].reshape(below - above, groups, inner, w, n).swapaxes(0, 1)
    if kw == sw == 1 and geo.padding[1] == (0, 0) and below - above == count:
        return source[:, :, None]  # a kernel of one column needs no copy at all
    made = scratch("band", (groups, count, kw, inner, geo.out_size[1], n), x.dtype)
    if above > 0:
        made[:, :above] = 0
    if below < count:
        made[:, below:] = 0
    shift(source, geo, made[:, above:below])
    return made


def shift(x: Array, geo: Geometry, out: Array) -> None:
    """Copy rows (..., c, w, n) once a column of the kernel, shifted: out (..., kw, c, ow, n), zero past the edge."""
    for l, (outputs, pixels) in enumerate(geo.taps[1]):  # noqa: E741
        shifted = out[..., l, :, :, :]
        if outputs.start > 0:
            shifted[..., : outputs.start, :] = 0
        if outputs.stop < geo.out_size[1]:
            shifted[..., outputs.stop :, :] = 0
        shifted[..., outputs, :] = x[..., pixels, :]


def windows(x: Array, geo: Geometry, groups: int, part: slice, *, shared: bool = False) -> Array:
    """The windows of a part of the output rows as matrices, one column for each window; valid until the next call.

    x (h, c, w, n) -> (groups, output rows, kh·kw·c/groups, ow·n), or if they are to share one product, all output rows
    side by side, (groups, 1, kh·kw·c/groups, output rows·ow·n).

    >>> import numpy as np
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> windows(rows(x), geometry((4, 4), (2, 2), (2, 2), (1, 1), "valid"), 1, slice(1, 2))[0, 0].T
    array([[ 8.,  9., 12., 13.],
           [10., 11., 14., 15.]])
    """
    source = band(x, geo, groups, part)
    kh, count = geo.window[0], part.stop - part.start
    _, _, kw, inner, ow, n = source.shape
    group, row, _, channel, _, number = source.strides
    view = overlapping(
        source,
        (groups, count, kh, kw * inner, ow * n),
        (group, row * geo.stride[0], row * geo.dilation[0], channel, number),
    )
    if shared:
        beside = scratch("windows", (groups, kh, kw * inner, count, ow * n), x.dtype)
        beside[...] = view.transpose(0, 2, 3, 1, 4)
        return beside.reshape(groups, 1, kh * kw * inner, count * ow * n)
    return view.reshape(groups, count, kh * kw * inner, ow * n)  # still a view, unless the kernel is dilated


def overlapping(x: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """A view of an array's memory, any of which may appear many times in it; for reading alone."""
    if x.flags.c_contiguous:  # NumPy's constructor takes a tenth of the time, and looks whether the view is within
        view: Array = np.ndarray(shape, x.dtype, x, 0, strides)
        view.flags.writeable = False
        return view
    return as_strided(x, shape, strides, writeable=False)


def shares_products(geo: Geometry, n: int, weights: int) -> bool:
    """Whether the output rows of n images had better share a product with a kernel of so many weights."""
    return weights >= _LARGE and geo.out_size[1] * n < _WIDE


# --- And back -------------------------------------------------------------------------------------------------


def turned(geo: Geometry) -> Geometry | None:
    """The pixels of dy that reach each pixel of dx, as windows on dy; None if they are no such windows.

    The first cell of the kernel reaches where the last cell of these windows lies, so they take the kernel turned by
    half a turn, `turned_kernel`.

    >>> turned(geometry((5, 5), (3, 3), (1, 1), (1, 1), "valid")).padding
    ((2, 2), (2, 2))
    """
    rows, columns = _turned_sides(geo, 0), _turned_sides(geo, 1)
    if rows is None or columns is None:
        return None
    return Geometry(geo.out_size, geo.window, (1, 1), geo.dilation, (rows, columns))


def turned_rows(geo: Geometry) -> Geometry | None:
    """The rows of dy that reach each row of dx, as windows of a kernel of one column; None if there is none such."""
    rows = _turned_sides(geo, 0)
    if rows is None:
        return None
    return Geometry(geo.out_size, (geo.window[0], 1), (1, 1), (geo.dilation[0], 1), (rows, (0, 0)))


def _turned_sides(geo: Geometry, axis: int) -> tuple[int, int] | None:
    """The padding of the windows on dy along an axis.

    With stride 1, cell k of window i lies on pixel u = i + k·d - before, so pixel u gets its share of cell k from
    window i = u + before - k·d. Counted from the kernel's other end, k = K - 1 - k', that is
    u + k'·d - ((K - 1)·d - before): cell k' of a window on dy, padded by (K - 1)·d - before.
    """
    reach = (geo.window[axis] - 1) * geo.dilation[axis]
    before, after = (reach - side for side in geo.padding[axis])
    return (before, after) if geo.stride[axis] == 1 and min(before, after) >= 0 else None


def turned_kernel(weight: Array, groups: int) -> Array:
    """(kh, kw, c/groups, o) -> (kh, kw, o/groups, c), turned by half a turn."""
    kh, kw, inner, filters = weight.shape
    split = weight[::-1, ::-1].reshape(kh, kw, inner, groups, filters // groups)
    return split.transpose(0, 1, 4, 3, 2).reshape(kh, kw, filters // groups, groups * inner)


def add_shifted(dx: Array, shares: Array, geo: Geometry) -> None:
    """Add to dx (h, groups, c/groups, w, n) shares (kw, h, groups, c/groups, ow, n), each column's with its shift."""
    for share, (outputs, pixels) in zip(shares, geo.taps[1], strict=True):
        cells = dx[..., pixels, :]
        cells += share[..., outputs, :]
