"""Where the windows of a kernel lie on an image.

A kernel has taps, kh × kw of them, a weight each (for every channel and filter). It is laid on the image once for each
number of the output; what it then covers is a window, and under each tap is a cell of it: a pixel, or padding.

Along one axis, a kernel of 3 taps on 4 pixels, padded by 1 on both sides:

    pixels       -   0   1   2   3   -
    window 0   [ k0  k1  k2 ]
    window 1       [ k0  k1  k2 ]
    window 2           [ k0  k1  k2 ]
    window 3               [ k0  k1  k2 ]

The stride is the distance from one window to the next, the dilation that from one tap to the next. Tap 0 meets padding
in window 0, and in windows 1, 2 and 3 the pixels 0, 1 and 2: two slices, which `tap` finds. Convolution and pooling are
written with them, so padding is never stored.
"""

import itertools
import math
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import attrs

__all__ = [
    "Geometry", "Padding", "Phase", "Sides", "Size", "Taps", "conv_out_size", "geometry", "tap", "transposed_geometry",
]  # fmt: skip

Size = tuple[int, int]  # (height, width)
Sides = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = Literal["valid", "same"] | int | Sides
Taps = tuple[tuple[slice, slice], ...]  # `tap` of each tap of a kernel along one axis


@attrs.frozen(slots=False, cache_hash=True)  # so that what follows from the fields can be kept beside them
class Geometry:
    """A kernel on an image: sizes as (height, width), padding as `Sides`; a pool's window is its kernel."""

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
    def taps(self) -> tuple[Taps, Taps]:
        """Where each row of taps meets the image's rows, and each column of taps its columns."""
        return self._taps_along(0), self._taps_along(1)

    def _taps_along(self, axis: int) -> Taps:
        offsets = [k * self.dilation[axis] - self.padding[axis][0] for k in range(self.window[axis])]
        return tuple([tap(self.in_size[axis], self.out_size[axis], self.stride[axis], each) for each in offsets])

    @cached_property
    def vertical(self) -> "Geometry":
        """The same rows of windows under a kernel of one column: what is left to do once columns are shifted."""
        (kh, _), (sh, _), (dh, _) = self.window, self.stride, self.dilation
        return Geometry(self.in_size, (kh, 1), (sh, 1), (dh, 1), (self.padding[0], (0, 0)))

    @cached_property
    def turned(self) -> "Geometry | None":
        """The windows on dy from whose cells the pixels of dx get their shares; None if these are no windows.

        The last cell of a pixel's window is the output whose first tap lies on the pixel. So the kernel of these
        windows is the same one turned by half a turn (`funcnn.arrays.windows.turned_kernel`).

        >>> geometry((5, 5), (3, 3), (1, 1), (1, 1), "valid").turned.padding
        ((2, 2), (2, 2))
        """
        rows, columns = self._turned_sides(0), self._turned_sides(1)
        if rows is None or columns is None:
            return None
        return Geometry(self.out_size, self.window, (1, 1), self.dilation, (rows, columns))

    @cached_property
    def turned_rows(self) -> "Geometry | None":
        """As `turned`, for rows alone: windows of one column on dy, for each row of dx; None if they are no windows."""
        rows = self._turned_sides(0)
        if rows is None:
            return None
        return Geometry(self.out_size, (self.window[0], 1), (1, 1), (self.dilation[0], 1), (rows, (0, 0)))

    @cached_property
    def row_phases(self) -> tuple["Phase", ...]:
        """As `turned_rows`, for any stride: the rows of dx in as many phases as the stride has rows.

        With stride 2, the even rows of the image get their shares by every other row of the kernel, and the odd ones by
        the others. Tap k of window i meets pixel i·s + k·d - top. So pixel a + v·s gets its share by tap k from window
        v + (a + top - k·d) / s, for the taps for which this is whole.

        >>> for pixels, taps, windows in geometry((7, 7), (3, 3), (2, 2), (1, 1), 1).row_phases:
        ...     print(pixels[0], taps[0], windows.window, windows.padding[0])
        slice(0, 7, 2) slice(1, 2, 2) (1, 1) (0, 0)
        slice(1, 7, 2) slice(0, 3, 2) (2, 1) (0, 0)
        """
        return tuple([self._phase(rows, _ALL) for rows in self._phases_along(0)])

    @cached_property
    def phases(self) -> tuple["Phase", ...]:
        """As `turned`, for any stride: rows and columns of dx in phases, as the rows alone in `row_phases`."""
        columns = self._phases_along(1)
        return tuple([self._phase(*both) for both in itertools.product(self._phases_along(0), columns)])

    def _phase(self, rows: "_PhaseAlong", columns: "_PhaseAlong") -> "Phase":
        window, dilation = (rows.window, columns.window), (rows.dilation, columns.dilation)
        windows = Geometry(self.out_size, window, (1, 1), dilation, (rows.sides, columns.sides))
        return Phase((rows.pixels, columns.pixels), (rows.taps, columns.taps), windows)

    def _phases_along(self, axis: int) -> "list[_PhaseAlong]":
        size, taps, s, d = self.in_size[axis], self.window[axis], self.stride[axis], self.dilation[axis]
        before, found = self.padding[axis][0], []
        for a in range(min(s, size)):
            k = [k for k in range(taps) if (a + before - k * d) % s == 0]
            if k:  # else no window meets these pixels
                first, last = ((a + before - each * d) // s for each in (k[-1], k[0]))  # windows over pixel a
                sides = -first, (size - 1 - a) // s + last - (self.out_size[axis] - 1)
                step = math.gcd(s, d)
                some = slice(k[0], k[-1] + 1, s // step)
                found.append(_PhaseAlong(slice(a, size, s), some, len(k), d // step, sides))
        return found

    def _turned_sides(self, axis: int) -> tuple[int, int] | None:
        """The padding of the windows on dy along an axis.

        With stride 1, tap k of window i meets pixel u = i + k·d - before: pixel u gets its share of tap k from window
        i = u + before - k·d. Counted from the kernel's other end, k = K - 1 - k', that is u + k'·d - ((K - 1)·d -
        before): tap k' of a window on dy, which is padded by (K - 1)·d - before.
        """
        reach = (self.window[axis] - 1) * self.dilation[axis]
        before, after = (reach - side for side in self.padding[axis])
        return (before, after) if self.stride[axis] == 1 and min(before, after) >= 0 else None


class Phase(NamedTuple):
    """Pixels that the same taps of a kernel reach, each item for rows and columns; see `Geometry.phases`."""

    pixels: tuple[slice, slice]
    taps: tuple[slice, slice]
    windows: Geometry  # on dy, those from which these pixels get their shares; their padding may be negative


class _PhaseAlong(NamedTuple):
    pixels: slice
    taps: slice
    window: int
    dilation: int
    sides: tuple[int, int]


_ALL = _PhaseAlong(slice(None), slice(None), 1, 1, (0, 0))


def conv_out_size(size: int, window: int, stride: int, dilation: int) -> int:
    """The number of windows along one padded axis: floor((size - (window - 1)·dilation - 1) / stride) + 1.

    >>> conv_out_size(28, 5, 1, 1), conv_out_size(29, 3, 2, 1), conv_out_size(7, 3, 1, 2)
    (24, 14, 3)
    """
    return (size - (window - 1) * dilation - 1) // stride + 1


def tap(size: int, out_size: int, stride: int, offset: int) -> tuple[slice, slice]:
    """The windows in which a tap meets pixels, and these pixels, along one axis.

    The tap lies at i·stride + offset in window i; size and out_size count the pixels and the windows.

    >>> tap(4, 4, 1, -1)  # tap 0 of the drawing above
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


@lru_cache(maxsize=1024)
def transposed_geometry(
    in_size: Size, window: Size, stride: Size, dilation: Size, padding: Padding, output_padding: Size
) -> Geometry:
    """The geometry of the convolution that takes a transposed convolution's output back to its input's size.

    Its windows are the pixels that come in, its pixels those that go out: (size - 1)·stride + (window - 1)·dilation + 1
    + output_padding, less the padding; with "same", size · stride.

    >>> transposed_geometry((14, 14), (4, 4), (2, 2), (1, 1), 1, (0, 0)).in_size
    (28, 28)
    """
    if padding == "same":
        return geometry((in_size[0] * stride[0], in_size[1] * stride[1]), window, stride, dilation, "same")
    sides = geometry(in_size, window, stride, dilation, padding).padding
    height, width = [
        (in_size[i] - 1) * stride[i] + (window[i] - 1) * dilation[i] + 1 + output_padding[i] - sum(sides[i])
        for i in (0, 1)
    ]
    return Geometry((height, width), window, stride, dilation, sides)


def _same(size: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size)
    return total // 2, total - total // 2
