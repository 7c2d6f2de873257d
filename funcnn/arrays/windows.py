"""The windows of a kernel as matrices: overlapping views of the rows of images (`funcnn.arrays.layout`)."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcnn.arrays.geometry import Geometry
from funcnn.arrays.threads import scratch
from funcnn.tree import Array

__all__ = ["add_shifted", "band", "overlapping", "shares_products", "shift", "turned_kernel", "windows"]

_WIDE = 96  # columns of a product, from where on one for each row of an image is as fast as one for many
_LARGE = 2**17  # weights: a kernel that large leaves the cache, and is to be read but once for many rows


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
