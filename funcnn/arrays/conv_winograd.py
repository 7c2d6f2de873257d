"""Convolution with kernels of three rows by Winograd's minimal filtering, along the rows of an image.

The same functions as in `funcnn.conv_strided`, of the same arguments, for kernels of three rows. A tile, four rows of
the output, takes twelve products there, one for each of them and each row of the kernel; here it takes six (Winograd
1980; Lavin & Gray 2016):

    y = Aᵀ [(G w) ⊙ (Bᵀ x)]        x: six rows of the image, w: the three rows of the kernel, y: four rows of the output

Bᵀ (6 × 6), G (6 × 3) and Aᵀ (4 × 6) transform rows, and ⊙ multiplies the six rows of both sides one by one, each a
matrix product over channels and the kernel's columns. The formula is linear in w and in x, so both gradients are its
transposes, with as few products:

    dw = Gᵀ Σ_tiles [(Bᵀ x) ⊙ (A dy)],        and dx by the forward formula from dy and the turned kernel.

Lavin & Gray transform tiles of 4 × 4 pixels, which leaves a quarter of the products. In NumPy the transforms along
columns cost more than they save: they work on short runs of numbers, where a transform along rows is one product with a
6 × 6 matrix over whole rows (docs/architecture.md). The result differs from the strided one by rounding, at most about
3e-6 of the largest value in float32.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from funcnn.arrays.conv_products import multiply
from funcnn.arrays.conv_rows import begin
from funcnn.arrays.geometry import Geometry
from funcnn.arrays.layout import images, rows
from funcnn.arrays.threads import even_slices, in_tasks, scratch, sum_in_tasks
from funcnn.arrays.windows import add_shifted, band, overlapping, shift, turned_kernel
from funcnn.tree import Array, read_only

__all__ = [
    "REACH", "TILE", "conv_forward", "conv_input_gradient", "conv_weight_gradient", "fits", "matrices_of", "stands_out",
]  # fmt: skip

_FAR = 64.0  # times the root mean square
_HUGE = 1e15  # its square has room in a sum of squares in float32
TILE = 4  # rows of the output that are computed together
REACH = TILE + 2  # rows of the image that they need
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
def matrices_of(dtype: Any) -> _Transforms:
    """The three matrices in a dtype, read-only."""
    return _Transforms(*[read_only(matrix.astype(dtype)) for matrix in (_INPUT, _KERNEL, _OUTPUT)])


def stands_out(values: Array) -> bool:
    """Whether a batch has a value that Winograd would let other windows feel: far larger than the rest, or not finite.

    Four rows of the output share products, so each takes part in the rounding of all six input rows: at most 2e-6 of
    their largest value. Up to 64 times the root mean square, that is 1.3e-4 of it.

    >>> batch = np.ones((1, 8, 8, 64), np.float32)
    >>> spoilt = batch.copy()
    >>> spoilt[0, 2, 3, 4] = -9999
    >>> stands_out(batch), stands_out(spoilt)
    (False, True)
    """
    flat = values.ravel(order="K")
    peak = max(float(flat.max(initial=0)), -float(flat.min(initial=0)))
    if not peak < _HUGE:  # a NaN too
        return True
    with np.errstate(under="ignore"):
        squares = float(np.dot(flat, flat))
    # One value that makes up the whole sum of squares stands out of n by the square root of n, and no further.
    return peak * peak * flat.size > min(_FAR**2, flat.size / 4) * squares


def fits(geo: Geometry) -> bool:
    """Whether a convolution can be done so: three rows in the kernel, next to each other, a window at every row."""
    return geo.window[0] == 3 and geo.stride[0] == 1 and geo.dilation[0] == 1 and geo.turned_rows is not None


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """As `conv_strided.conv_forward`: x (n, h, w, c), weight (3, kw, c/groups, o), bias (o,) -> (n, oh, ow, o)."""
    n, (oh, ow), filters = len(x), geo.out_size, weight.shape[3]
    source = np.ascontiguousarray(rows(x))  # (h, c, w, n)
    split = weight.reshape(3, -1, groups, filters // groups)  # (3, kw·c/groups, groups, o/groups)
    kernel = _transformed_kernel(split)  # (groups, 1, 6, o/groups, kw·c/groups)
    repeated = None if bias is None else np.repeat(bias, ow * n).reshape(filters, ow, n)
    y = np.empty((-(-oh // TILE) * TILE, filters, ow, n), x.dtype)  # whole tiles: the last may reach over the edge
    blocks = _tiles(oh, kernel.shape[4] * groups * ow * n * x.itemsize)

    def forward(some: slice) -> None:
        for tiles in blocks[some]:
            out = y[_rows_of(tiles)]  # (4·tiles, o, ow, n)
            _fill_rows(out, source, kernel, geo, groups, tiles)
            if repeated is not None:
                out += repeated

    in_tasks(forward, blocks, weight.size * oh * ow * n // 2)
    return images(y[:oh])


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """As `conv_strided.conv_weight_gradient`: x (n, h, w, c), dy (n, oh, ow, o) -> (3, kw, c/groups, o)."""
    n, inner, filters, (oh, ow) = len(x), x.shape[3] // groups, dy.shape[3], geo.out_size
    source, gradient = np.ascontiguousarray(rows(x)), np.ascontiguousarray(rows(dy))  # (h, c, w, n), (oh, o, ow, n)
    shape = groups, REACH, geo.window[1] * inner, filters // groups
    blocks = _tiles(oh, shape[2] * groups * ow * n * x.itemsize)

    def transformed_gradient(some: slice) -> Array:
        total = np.zeros(shape, x.dtype)
        for tiles in blocks[some]:
            view = _transformed_rows(source, geo, groups, tiles)  # (groups, tiles, 6, kw·c/groups, ow·n)
            dy_view = _transformed_dy(gradient, groups, tiles)  # (groups, tiles, 6, o/groups, ow·n)
            total += np.matmul(view, dy_view.swapaxes(3, 4)).sum(axis=1)
        return total

    total = sum_in_tasks(transformed_gradient, blocks, shape[2] * dy.size * 3 // 2)
    weight: Array = np.einsum("ak,gaio->kigo", matrices_of(x.dtype).kernel, total)  # (3, kw·c/groups, groups, o/groups)
    return weight.reshape(3, geo.window[1], inner, filters)


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """As `conv_rows.conv_input_gradient`: dy (n, oh, ow, o), weight (3, kw, c/groups, o), bias (c,) -> (n, h, w, c)."""
    (h, w), kw, n, inner, ow = geo.in_size, geo.window[1], len(dy), weight.shape[2], geo.out_size[1]
    dy_rows = geo.turned_rows
    assert dy_rows is not None, "only a convolution that `fits`"
    if geo.turned is not None and weight.shape[3] <= inner * groups:  # there is no more to shift than to add
        return conv_forward(dy, turned_kernel(weight, groups), geo.turned, groups, bias)
    # Turned along rows alone: here each column of the kernel with each channel is an output, which makes kw·c shares
    # for each row of dx, and `add_shifted` puts each column's in its place.
    turned = weight[::-1].reshape(3, kw * inner, groups, -1).transpose(0, 3, 2, 1)  # (3, o/groups, groups, kw·c/groups)
    kernel = _transformed_kernel(turned)  # (groups, 1, 6, kw·c/groups, o/groups)
    gradient = np.ascontiguousarray(rows(dy))  # (oh, o, ow, n)
    dx = begin((h, groups * inner, w, n), dy.dtype, bias).reshape(h, groups, inner, w, n)
    blocks = _tiles(h, weight.shape[3] * ow * n * dy.itemsize)

    def add(some: slice) -> None:
        for tiles in blocks[some]:
            part = dx[_rows_of(tiles)]  # (rows, groups, c/groups, w, n), fewer than 4·tiles at the bottom
            shares = scratch("rows", ((tiles.stop - tiles.start) * TILE, groups, kw, inner, ow, n), dy.dtype)
            _fill_rows(shares, gradient, kernel, dy_rows, groups, tiles)
            add_shifted(part, shares[: len(part)], geo)

    in_tasks(add, blocks, weight[..., 0].size * dy.size // 2)
    return images(dx.reshape(h, groups * inner, w, n))


# --- Transforms -----------------------------------------------------------------------------------------------


def _tiles(size: int, row_bytes: int) -> list[slice]:
    """The tiles that cover some rows, in blocks whose transformed rows keep under `_BLOCK_BYTES`."""
    return even_slices(-(-size // TILE), max(1, _BLOCK_BYTES // max(1, REACH * row_bytes)))


def _rows_of(tiles: slice) -> slice:
    """The output rows of some tiles."""
    return slice(tiles.start * TILE, tiles.stop * TILE)


def _transformed_kernel(weight: Array) -> Array:
    """G w: (3, c, groups, o) -> (groups, 1, 6, o, c)."""
    kernel = matrices_of(weight.dtype).kernel @ weight.reshape(3, -1)  # (6, 3) · (3, c·groups·o)
    return kernel.reshape(REACH, *weight.shape[1:]).transpose(2, 0, 3, 1)[:, None]


def _transformed_rows(x: Array, geo: Geometry, groups: int, tiles: slice) -> Array:
    """Bᵀ x of the windows of some tiles: x (h, c, w, n) -> (groups, tiles, 6, kw·c/groups, ow·n)."""
    source = band(x, geo.vertical, groups, _rows_of(tiles))  # (groups, 4·tiles + 2, 1, c/groups, w, n)
    _, _, _, inner, w, n = source.shape
    group, row, *_, number = source.strides
    count, kw, ow = tiles.stop - tiles.start, geo.window[1], geo.out_size[1]
    shape = groups, count, REACH, inner * w * n  # of each tile's rows, the last two are also the next one's first
    six = overlapping(source, shape, (group, row * TILE, row, number))
    made = scratch("transformed rows", shape, x.dtype)
    np.matmul(matrices_of(x.dtype).input, six, out=made)  # (6, 6) · (groups, tiles, 6, c/groups·w·n)
    if geo.vertical == geo:
        return made.reshape(groups, count, REACH, inner, w * n)
    # The transform takes rows as they are, so the columns are shifted after it: a third of the work.
    shifted = scratch("shifted rows", (groups, count, REACH, kw, inner, ow, n), x.dtype)
    shift(made.reshape(groups, count, REACH, inner, w, n), geo, shifted)
    return shifted.reshape(groups, count, REACH, kw * inner, ow * n)


def _fill_rows(out: Array, x: Array, kernel: Array, geo: Geometry, groups: int, tiles: slice) -> None:
    """Aᵀ [(G w) ⊙ (Bᵀ x)] of some tiles, into their output rows: out (4·tiles, groups·o, ow, n), in one piece.

    x (h, c, w, n), kernel (groups, 1, 6, o, c), as from `_transformed_kernel`.
    """
    view = _transformed_rows(x, geo, groups, tiles)  # (groups, tiles, 6, c, ow·n)
    count, o, columns = view.shape[1], kernel.shape[3], view.shape[4]
    products = scratch("products", (groups, count, REACH, o, columns), x.dtype)
    multiply(kernel, view, products)  # (groups, 1, 6, o, c) · (groups, tiles, 6, c, ow·n)
    six = products.reshape(groups, count, REACH, o * columns)  # (groups, tiles, 6, o·ow·n)
    four = out.reshape(count, TILE, groups, o * columns).transpose(2, 0, 1, 3)  # (groups, tiles, 4, o·ow·n), a view
    np.matmul(matrices_of(x.dtype).output, six, out=four)  # (4, 6) · (groups, tiles, 6, o·ow·n)


def _transformed_dy(dy: Array, groups: int, tiles: slice) -> Array:
    """A dy of some tiles: dy (oh, o, ow, n) -> (groups, tiles, 6, o/groups, ow·n), valid until the next call."""
    given, count = dy[_rows_of(tiles)], tiles.stop - tiles.start  # (rows, o, ow, n)
    _, filters, ow, n = dy.shape
    if len(given) < count * TILE:  # the last tile reaches over the edge
        padded = scratch("rows", (count * TILE, filters, ow, n), dy.dtype)
        padded[: len(given)] = given
        padded[len(given) :] = 0
        given = padded  # (4·tiles, o, ow, n)
    numbers = filters // groups * ow * n
    four = given.reshape(count, TILE, groups, numbers).transpose(2, 0, 1, 3)  # (groups, tiles, 4, o/groups·ow·n)
    made = scratch("products", (groups, count, REACH, numbers), dy.dtype)
    np.matmul(matrices_of(dy.dtype).output.T, four, out=made)  # (6, 4) · (groups, tiles, 4, o/groups·ow·n)
    return made.reshape(groups, count, REACH, filters // groups, ow * n)
