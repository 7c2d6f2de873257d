"""The windows of a kernel as matrices: overlapping views of the rows of images (`funcnn.arrays.layout`).

A kernel of 2 × 2 taps on an image of 4 × 4 pixels, 12 for row 1 and column 2, has three windows for each output row:

    00 01   01 02   02 03
    10 11   11 12   12 13

A product takes them as a matrix, one line for each tap and one column for each window:

    output row 0   tap 0 0   00 01 02        output row 1   tap 0 0   10 11 12
                   tap 0 1   01 02 03                       tap 0 1   11 12 13
                   tap 1 0   10 11 12                       tap 1 0   20 21 22
                   tap 1 1   11 12 13                       tap 1 1   21 22 23

Each line is a row of the image, shifted by a column of the kernel. `band` copies every row with its shifts, once; in
memory the matrices are then parts of the band that overlap:

    band           [ 00 01 02  01 02 03 | 10 11 12  11 12 13 | 20 21 22  21 22 23 | ... ]
    output row 0   [          row 0     |          row 1     ]
    output row 1                        [          row 1     |          row 2     ]

`window_matrices` is the view of them. With c channels each line becomes c lines, with n images each number becomes n.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from funcnn.arrays.geometry import Geometry
from funcnn.arrays.layout import copy_columns
from funcnn.arrays.threads import scratch
from funcnn.tree import Array

__all__ = ["add_shifted", "band", "overlapping", "shift", "turned_kernel", "window_matrices", "windows_along"]


def window_matrices(x: Array, geo: Geometry, groups: int, part: slice, side_by_side: bool = False) -> Array:
    """The windows of a part of the output rows, one matrix for each row; valid until the next call.

    x (h, c, w, n) -> (groups, output rows, kh·kw·c/groups, ow·n), or with the rows side by side in one matrix, which
    takes a copy, (groups, 1, kh·kw·c/groups, output rows·ow·n).

    >>> from funcnn.arrays.geometry import geometry
    >>> x = np.array([[10 * row + column for column in range(4)] for row in range(4)]).reshape(4, 1, 4, 1)
    >>> window_matrices(x, geometry((4, 4), (2, 2), (1, 1), (1, 1), "valid"), 1, slice(1, 2))[0, 0]
    array([[10, 11, 12],
           [11, 12, 13],
           [20, 21, 22],
           [21, 22, 23]])
    """
    source = band(x, geo, groups, part)  # each of its rows is kw·c/groups lines of ow·n numbers
    _, _, kw, inner, ow, n = source.shape
    group, row, _, line, _, number = source.strides
    kh, count = geo.window[0], part.stop - part.start
    view = overlapping(
        source,
        (groups, count, kh, kw * inner, ow * n),
        (group, row * geo.stride[0], row * geo.dilation[0], line, number),
    )
    if side_by_side:
        copy = scratch("windows", (groups, kh, kw * inner, count, ow * n), x.dtype)
        copy[...] = view.transpose(0, 2, 3, 1, 4)
        return copy.reshape(groups, 1, kh * kw * inner, count * ow * n)
    return view.reshape(groups, count, kh * kw * inner, ow * n)  # still a view, unless the kernel is dilated


def band(x: Array, geo: Geometry, groups: int, part: slice) -> Array:
    """The image rows under a part of the output rows, once for each column of the kernel, shifted.

    x (h, c, w, n) -> (groups, image rows, kw, c/groups, ow, n), zero where windows reach over the edge; valid until
    the next call.
    """
    _, channels, w, n = x.shape
    (kh, kw), (sh, sw), inner = geo.window, geo.stride, channels // groups
    first = part.start * sh - geo.padding[0][0]  # image row, negative in the padding
    count = (part.stop - part.start - 1) * sh + (kh - 1) * geo.dilation[0] + 1
    pixels = x[max(0, first) : max(0, first + count)]
    above = min(max(0, -first), count)  # rows of padding before the pixels
    below = above + len(pixels)  # where the padding after them begins
    pixels = pixels.reshape(len(pixels), groups, inner, w, n).swapaxes(0, 1)
    if kw == sw == 1 and geo.padding[1] == (0, 0) and below - above == count:
        return pixels[:, :, None]  # a kernel of one column needs no copy at all
    made = scratch("band", (groups, count, kw, inner, geo.out_size[1], n), x.dtype)
    if above > 0:
        made[:, :above] = 0
    if below < count:
        made[:, below:] = 0
    shift(pixels, geo, made[:, above:below])
    return made


def shift(x: Array, geo: Geometry, out: Array) -> None:
    """Fill out (..., kw, c, ow, n) with x (..., c, w, n), shifted for each column of the kernel, zero past the edge."""
    for l, (outputs, pixels) in enumerate(geo.taps[1]):  # noqa: E741
        shifted = out[..., l, :, :, :]
        if outputs.start > 0:
            shifted[..., : outputs.start, :] = 0
        if outputs.stop < geo.out_size[1]:
            shifted[..., outputs.stop :, :] = 0
        if geo.stride[1] == 1:
            shifted[..., outputs, :] = x[..., pixels, :]
        else:
            copy_columns(shifted[..., outputs, :], x[..., pixels, :])


def add_shifted(dx: Array, shares: Array, geo: Geometry) -> None:
    """The transpose of `shift`: add to dx (..., c, w, n) the shares (..., kw, c, ow, n), each column's shifted back."""
    for l, (outputs, pixels) in enumerate(geo.taps[1]):  # noqa: E741
        reached, share = dx[..., pixels, :], shares[..., l, :, outputs, :]
        if geo.stride[1] == 1:
            reached += share
        else:  # next to each other, where they are added faster
            total = scratch("columns", share.shape, dx.dtype)
            copy_columns(total, reached)
            total += share
            copy_columns(reached, total)


def overlapping(x: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """A read-only view of an array's memory, in which a number may appear many times."""
    if x.flags.c_contiguous:  # NumPy's constructor takes a tenth of the time, and checks that the view is within
        view: Array = np.ndarray(shape, x.dtype, x, 0, strides)
        view.flags.writeable = False
        return view
    return as_strided(x, shape, strides, writeable=False)


def turned_kernel(weight: Array, groups: int) -> Array:
    """The kernel for `Geometry.turned`: turned by half a turn, inputs and outputs exchanged.

    (kh, kw, c/groups, o) -> (kh, kw, o/groups, c)
    """
    kh, kw, inner, filters = weight.shape
    split = weight[::-1, ::-1].reshape(kh, kw, inner, groups, filters // groups)
    turned = split.transpose(0, 1, 4, 3, 2).reshape(kh, kw, filters // groups, groups * inner)
    return np.ascontiguousarray(turned)  # BLAS takes no matrix backwards


def windows_along(values: Array, length: int) -> Array:
    """The windows of so many adjacent values: (n, ...) -> (n - length + 1, length, ...), a view.

    >>> windows_along(np.arange(4), 3)
    array([[0, 1, 2],
           [1, 2, 3]])
    """
    return np.moveaxis(sliding_window_view(values, length, axis=0), -1, 1)
