"""Where the windows of a kernel lie on an image: sizes, padding, and which pixels each cell of the kernel meets."""

from functools import cached_property, lru_cache
from typing import Literal

import attrs

__all__ = [
    "Geometry", "Padding", "Sides", "Size", "conv_out_size", "geometry", "tap", "turned", "turned_rows",
]  # fmt: skip

Size = tuple[int, int]  # (height, width)
Sides = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = Literal["valid", "same"] | int | Sides


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
