"""Convolution with kernels of three rows by Winograd's minimal filtering, along the rows of an image.

Four rows of the output take twelve products in `conv_strided`, one for each row of the kernel; here they take six
(Winograd 1980; Lavin & Gray 2016):

    y = Aᵀ [(G w) ⊙ (Bᵀ x)],        x: six rows of windows, w: the three rows of the kernel, y: four rows

where ⊙ is the products over channels and the kernel's columns. It is linear in w and in x, so both gradients are its
transposes, with as few products:

    dw = Gᵀ Σ_tiles [(Bᵀ x) ⊙ (A dy)],        and dx by the forward formula from dy and the turned kernel.

Lavin & Gray transform tiles of 4 × 4 pixels, which leaves a quarter of the products. In NumPy the transforms along
columns cost more than they save: they work on short runs of numbers, where a transform along rows is one product with a
6 × 6 matrix over whole rows (docs/architecture.md). The result differs from the strided one by rounding, at most
about 3e-6 of the largest value in float32.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from funcnn.arrays.geometry import Geometry, turned, turned_rows
from funcnn.arrays.layout import images, rows
from funcnn.arrays.threads import even_slices, in_tasks, scratch, sum_in_tasks
from funcnn.arrays.windows import add_shifted, band, overlapping, shift, turned_kernel
from funcnn.tree import Array, read_only

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient", "fits"]

_TILE = 4  # rows of the output that are computed together
_REACH = _TILE + 2  # rows of the input that they need
_BLOCK_BYTES = 2**21  # of a block's transformed rows

# For the points 0, 1, -1, 2, -2 and infinity.
_INPUT = np.array(  # Bᵀ
    [
        [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ]
)  # fmt: skip
_KERNEL = np.array(  # G
    [
        [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
    ]
)  # fmt: skip
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # Aᵀ


class _Transforms(NamedTuple):
    input: Array  # Bᵀ
    kernel: Array  # G
    output: Array  # Aᵀ


@cache
def _transforms(dtype: Any) -> _Transforms:
    """The three matrices in a dtype, read-only."""
    return _Transforms(*[read_only(matrix.astype(dtype)) for matrix in (_INPUT, _KERNEL, _OUTPUT)])


def fits(geo: Geometry) -> bool:
    """Whether a convolution can be done so: three rows in the kernel, next to each other, a window at every row."""
    return geo.window[0] == 3 and geo.stride[0] == 1 and geo.dilation[0] == 1 and turned_rows(geo) is not None


def _tiles(size: int, row_bytes: int) -> list[slice]:
    """The tiles that cover some rows, in blocks whose transformed rows keep under `_BLOCK_BYTES`."""
    return even_slices(-(-size // _TILE), max(1, _BLOCK_BYTES // max(1, _REACH * row_bytes)))


def _transformed_kernel(weight: Array) -> Array:
    """G w: (3, in, groups, out) -> (groups, 1, 6, out, in)."""
    kernel = _transforms(weight.dtype).kernel @ weight.reshape(3, -1)
    return kernel.reshape(_REACH, *weight.shape[1:]).transpose(2, 0, 3, 1)[:, None]


def _transformed_rows(x: Array, geo: Geometry, groups: int, tiles: slice) -> Array:
    """Bᵀ x of the windows of some tiles: x (h, c, w, n) -> (groups, tiles, 6, kw·c/groups, ow·n)."""
    source = band(x, geo.vertical, groups, slice(tiles.start * _TILE, tiles.stop * _TILE))
    _, _, _, inner, w, n = source.shape
    group, row, *_, number = source.strides
    count, kw, ow = tiles.stop - tiles.start, geo.window[1], geo.out_size[1]
    # Each tile's rows, the last two of which are also the next one's first.
    six = overlapping(source, (groups, count, _REACH, inner * w * n), (group, row * _TILE, row, number))
    made = scratch("transformed rows", six.shape, x.dtype)
    np.matmul(_transforms(x.dtype).input, six, out=made)
    if geo.vertical != geo:
        # The transform takes rows as they are, so the columns are shifted after it: a third of the work.
        narrow, made = made, scratch("shifted rows", (groups, count, _REACH, kw, inner, ow, n), x.dtype)
        shift(narrow.reshape(groups, count, _REACH, inner, w, n), geo, made)
    return made.reshape(groups, count, _REACH, kw * inner, ow * n)


def _fill_rows(x: Array, kernel: Array, geo: Geometry, groups: int, tiles: slice, out: Array) -> None:
    """Fill the output rows of some tiles (groups, tiles, 4, out, ow·n)."""
    view = _transformed_rows(x, geo, groups, tiles)
    products = scratch("products", (*view.shape[:3], kernel.shape[3], view.shape[4]), x.dtype)
    np.matmul(kernel, view, out=products)
    np.matmul(
        _transforms(x.dtype).output, products.reshape(*products.shape[:3], -1), out=out.reshape(*out.shape[:3], -1)
    )


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """As `conv_rows.conv_forward`: x (n, h, w, c), weight (3, kw, c/groups, o), bias (o,) -> (n, oh, ow, o)."""
    n, (oh, ow), filters = len(x), geo.out_size, weight.shape[3]
    source = np.ascontiguousarray(rows(x))
    kernel = _transformed_kernel(weight.reshape(3, -1, groups, filters // groups))
    repeated = None if bias is None else np.repeat(bias, ow * n).reshape(filters, ow * n)
    tiles_of = -(-oh // _TILE)
    y = np.empty((tiles_of, _TILE, groups, filters // groups, ow * n), x.dtype)
    blocks = _tiles(oh, kernel.shape[4] * groups * ow * n * x.itemsize)

    def forward(some: slice) -> None:
        for tiles in blocks[some]:
            _fill_rows(source, kernel, geo, groups, tiles, y[tiles].transpose(2, 0, 1, 3, 4))
            if repeated is not None:
                flat = y[tiles].reshape((tiles.stop - tiles.start) * _TILE, filters, ow * n)
                flat += repeated

    in_tasks(forward, blocks, weight.size * oh * ow * n // 2)
    return images(y.reshape(tiles_of * _TILE, filters, ow, n)[:oh])


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """As `conv_rows.conv_weight_gradient`: x (n, h, w, c), dy (n, oh, ow, o) -> (3, kw, c/groups, o)."""
    n, inner, filters, (oh, ow) = len(x), x.shape[3] // groups, dy.shape[3], geo.out_size
    source, gradient = np.ascontiguousarray(rows(x)), np.ascontiguousarray(rows(dy))
    shape = groups, _REACH, geo.window[1] * inner, filters // groups
    blocks = _tiles(oh, shape[2] * groups * ow * n * x.itemsize)

    def transformed_gradient(some: slice) -> Array:
        total = np.zeros(shape, x.dtype)
        for tiles in blocks[some]:
            view = _transformed_rows(source, geo, groups, tiles)
            total += np.matmul(view, _spread(gradient, groups, tiles).swapaxes(3, 4)).sum(axis=1)
        return total

    total = sum_in_tasks(transformed_gradient, blocks, shape[2] * dy.size * 3 // 2)
    weight: Array = np.einsum("ak,gaio->kigo", _transforms(x.dtype).kernel, total)
    return weight.reshape(3, geo.window[1], inner, filters)


def _spread(dy: Array, groups: int, tiles: slice) -> Array:
    """A dy of some tiles: dy (oh, o, ow, n) -> (groups, tiles, 6, o/groups, ow·n), valid until the next call."""
    given, count = dy[tiles.start * _TILE : tiles.stop * _TILE], tiles.stop - tiles.start
    _, filters, ow, n = dy.shape
    if len(given) < count * _TILE:  # the last tile reaches over the edge
        padded = scratch("rows", (count * _TILE, filters, ow, n), dy.dtype)
        padded[: len(given)] = given
        padded[len(given) :] = 0
        given = padded
    four = given.reshape(count, _TILE, groups, filters // groups * ow * n).transpose(2, 0, 1, 3)
    made = scratch("products", (groups, count, _REACH, filters // groups, ow * n), dy.dtype)
    np.matmul(_transforms(dy.dtype).output.T, four, out=made.reshape(*made.shape[:3], four.shape[3]))
    return made


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1) -> Array:
    """As `conv_rows.conv_input_gradient`: dy (n, oh, ow, o), weight (3, kw, c/groups, o) -> (n, h, w, c)."""
    (h, w), kw, n, inner = geo.in_size, geo.window[1], len(dy), weight.shape[2]
    back, dy_rows = turned(geo), turned_rows(geo)
    assert dy_rows is not None, "only a convolution that `fits`"
    if back is not None and weight.shape[3] <= inner * groups:  # no more to shift than there would be to add
        return conv_forward(dy, turned_kernel(weight, groups), back, groups)
    # Turned along rows alone: a column of the kernel and a channel together are an output here, which makes kw·c shares
    # for each row of dx; `add_shifted` puts each column's in its place.
    turned_weight = weight[::-1].reshape(3, kw * inner, groups, -1).transpose(0, 3, 2, 1)
    gradient, kernel = np.ascontiguousarray(rows(dy)), _transformed_kernel(turned_weight)
    dx = np.zeros((h, groups, inner, w, n), dy.dtype)
    blocks = _tiles(h, weight.shape[3] * geo.out_size[1] * n * dy.itemsize)

    def add(some: slice) -> None:
        for tiles in blocks[some]:
            part = slice(tiles.start * _TILE, min(h, tiles.stop * _TILE))
            made = scratch("rows", (groups, tiles.stop - tiles.start, _TILE, kw * inner, geo.out_size[1] * n), dy.dtype)
            _fill_rows(gradient, kernel, dy_rows, groups, tiles, made)
            shares = made.reshape(groups, made.shape[1] * _TILE, kw, inner, geo.out_size[1], n)
            add_shifted(dx[part], shares[:, : part.stop - part.start].transpose(2, 1, 0, 3, 4, 5), geo)

    in_tasks(add, blocks, weight[..., 0].size * dy.size // 2)
    return images(dx.reshape(h, groups * inner, w, n))
