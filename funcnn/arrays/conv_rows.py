"""Convolution, fast for every kernel: a matrix product for each row of the output.

The same functions as in `funcnn.conv_strided`, of the same arguments; read that first. Here an output row is

    y[i] (o × ow·n) = weightᵀ (o × kh·kw·c) · windows[i] (kh·kw·c × ow·n),

and the gradients are the two other products of the same three matrices. Images lie in memory row after row
(`funcnn.arrays.layout`), so the windows are overlapping views that BLAS takes as they are (`funcnn.arrays.windows`).
The work is cut into blocks of output rows whose data stay in cache, each a task for one of the threads
(`funcnn.arrays.threads`), and memory does not grow with kernel area × batch.

Groups are the leading axis of every matrix: channels fall into `groups` runs, and run g of the inputs reaches run g of
the outputs alone. One group is the ordinary convolution, and then no axis moves.
"""

import math

import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.conv_products import multiply
from funcnn.arrays.geometry import Geometry
from funcnn.arrays.layout import copy_columns, images, rows
from funcnn.arrays.threads import even_slices, in_tasks, scratch, slices, sum_in_tasks
from funcnn.arrays.windows import add_shifted, turned_kernel, window_matrices
from funcnn.tree import Array

__all__ = ["begin", "conv_forward", "conv_input_gradient", "conv_weight_gradient"]

_BLOCK_BYTES = 2**21  # of what a block of output rows needs: smaller ones make threads wait for the interpreter
_WIDE = 96  # columns of a product: with as many, one for each output row is as fast as one for many rows
_LARGE = 2**17  # weights: a kernel that large leaves the cache, and is better read once for many rows


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """The convolution of a batch with a kernel, plus a bias.

    x (n, h, w, c), weight (kh, kw, c/groups, o), bias (o,) -> (n, oh, ow, o)
    """
    y = np.empty((geo.out_size[0], weight.shape[3], geo.out_size[1], len(x)), x.dtype)
    _convolve(y, np.ascontiguousarray(rows(x)), weight, geo, groups, bias)
    return images(y)


def _convolve(y: Array, x: Array, weight: Array, geo: Geometry, groups: int, bias: Array | None) -> None:
    """Fill y (oh, o, ow, n), new rows or every other pixel of some, from x (h, c, w, n)."""
    (oh, filters, ow, n), kernel = y.shape, _kernel_matrix(weight, groups)
    repeated = None if bias is None else np.repeat(bias, ow * n).reshape(filters, ow, n)
    side_by_side = _few_columns(geo, n, weight.size)
    blocks = _blocks(geo, x.shape[1], n, x.itemsize, side_by_side)
    adjacent = y[0].flags.c_contiguous

    def forward(some: slice) -> None:
        for part in blocks[some]:
            out = y[part] if adjacent else scratch("pixels", y[part].shape, y.dtype)
            _multiply(kernel, window_matrices(x, geo, groups, part, side_by_side), out)
            if repeated is not None:
                out += repeated
            if not adjacent:
                copy_columns(y[part], out)

    in_tasks(forward, blocks, weight.size * oh * ow * n)


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """The loss's gradient in the weight: Σ_i windows[i] · dy[i]ᵀ, the windows made again rather than kept.

    x (n, h, w, c), dy (n, oh, ow, o) -> (kh, kw, c/groups, o)
    """
    n, inner, filters = len(x), x.shape[3] // groups, dy.shape[3] // groups
    source, gradient = np.ascontiguousarray(rows(x)), np.ascontiguousarray(rows(dy))
    shape = groups, geo.window[0] * geo.window[1] * inner, filters
    at_once = max(1, _BLOCK_BYTES // (shape[1] * filters * x.itemsize))  # products that are added up in one call
    # By rows of the kernel, where there are few filters for BLAS's rate but enough numbers in each row.
    parts = geo.window[0] if filters <= 16 <= geo.window[1] * inner <= 64 else 1
    side_by_side = _few_columns(geo, n, math.prod(shape))
    blocks = _blocks(geo, x.shape[3], n, x.itemsize, side_by_side)

    def weight_gradient(some: slice) -> Array:
        total = np.zeros(shape, x.dtype)
        for part in blocks[some]:
            matrices = window_matrices(source, geo, groups, part, side_by_side)
            transposed = _row_matrices(gradient[part], groups, matrices.shape[1]).swapaxes(2, 3)
            for few in slices(matrices.shape[1], at_once):
                total += _multiply_in_parts(matrices[:, few], transposed[:, few], parts).sum(axis=1)
        return total

    total = sum_in_tasks(weight_gradient, blocks, shape[1] * dy.size)
    return total.transpose(1, 0, 2).reshape(*geo.window, inner, groups * filters)


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """The loss's gradient in the input; with a bias added, a transposed convolution of dy.

    dy (n, oh, ow, o), weight (kh, kw, c/groups, o), bias (c,) -> (n, h, w, c)

    Two ways to the same sum. Pixels that the same taps reach (all of them, with stride 1) get a convolution of dy with
    these taps (`Geometry.phases`). Where dy has many more channels, it takes less time to multiply first and shift
    afterwards, in phases of rows alone (`_add_rows`).
    """
    (h, w), (sh, sw), n, inner = geo.in_size, geo.stride, len(dy), weight.shape[2]
    shape, gradient = (h, groups * inner, w, n), np.ascontiguousarray(rows(dy))
    if weight.shape[3] > (1 if sh == sw == 1 else 2) * inner * groups:
        dx = begin(shape, dy.dtype, bias)
        for pixels, taps, dy_rows in geo.row_phases:
            _add_rows(dx.reshape(h, groups, inner, w, n)[pixels[0]], gradient, weight[taps[0]], geo, dy_rows)
        return images(dx)
    all_reached = len(geo.phases) == min(sh, h) * min(sw, w)
    dx = np.empty(shape, dy.dtype) if all_reached else begin(shape, dy.dtype, bias)
    for pixels, taps, windows in geo.phases:
        kernel = turned_kernel(weight[taps], groups)
        _convolve(dx[pixels[0]][:, :, pixels[1]], gradient, kernel, windows, groups, bias)
    return images(dx)


def begin(shape: tuple[int, ...], dtype: DTypeLike, bias: Array | None) -> Array:
    """New rows (h, c, w, n) that shares are to be added to: of zeros, or each channel of its number of a bias (c,)."""
    if bias is None:
        return np.zeros(shape, dtype)
    made, (_, channels, w, n) = np.empty(shape, dtype), shape
    made[...] = np.repeat(bias, w * n).reshape(channels, w, n)
    return made


def _add_rows(dx: Array, dy: Array, weight: Array, geo: Geometry, dy_rows: Geometry) -> None:
    """Add to dx (rows, groups, c/groups, w, n) what dy (oh, o, ow, n) gives: the forward pass reversed.

    The rows are those of one of `Geometry.row_phases`, the weight (kh, kw, c/groups, o) has the rows of the kernel that
    reach them: with stride 1, all of both. Each row of dx is a sum over kh rows of dy, a window of one column. One
    product gives that sum for every column of the kernel,

        shares[r] (kw·c × ow·n) = weight (kw·c × kh·o) · dy[r + top - kh + 1 : r + top + 1] (kh·o × ow·n)

    (with stride and dilation 1, and the kernel's rows in reverse), to be added with its shift.
    """
    count, groups, inner, _, n = dx.shape
    (kh, kw), ow = weight.shape[:2], geo.out_size[1]
    split = weight[::-1].reshape(kh, kw, inner, groups, -1)
    kernel = split.transpose(3, 1, 2, 0, 4).reshape(groups, kw * inner, -1)  # (groups, kw·c/groups, kh·o/groups)
    side_by_side = _few_columns(dy_rows, n, weight.size)
    blocks = even_slices(count, max(1, _BLOCK_BYTES // max(1, kernel[..., 0].nbytes * ow * n)))

    def add(some: slice) -> None:
        for part in blocks[some]:
            shares = scratch("shares", (part.stop - part.start, groups, kw, inner, ow, n), dy.dtype)
            _multiply(kernel, window_matrices(dy, dy_rows, groups, part, side_by_side), shares)
            add_shifted(dx[part], shares, geo)

    in_tasks(add, blocks, weight[..., 0].size * dy.size)


# --- Matrices -------------------------------------------------------------------------------------------------


def _few_columns(geo: Geometry, n: int, weights: int) -> bool:
    """Whether the output rows of n images had better lie side by side, in one product with so many weights."""
    return weights >= _LARGE and geo.out_size[1] * n < _WIDE


def _blocks(geo: Geometry, channels: int, n: int, itemsize: int, side_by_side: bool) -> list[slice]:
    """Blocks of output rows whose windows keep under `_BLOCK_BYTES`."""
    (oh, ow), (kh, kw) = geo.out_size, geo.window
    copies = kh * kw if side_by_side else geo.stride[0] * kw
    return even_slices(oh, max(1, _BLOCK_BYTES // max(1, copies * channels * ow * n * itemsize)))


def _kernel_matrix(weight: Array, groups: int) -> Array:
    """(kh, kw, c/groups, o) -> (groups, o/groups, kh·kw·c/groups)."""
    return weight.reshape(-1, groups, weight.shape[3] // groups).transpose(1, 2, 0)


def _row_matrices(y: Array, groups: int, count: int) -> Array:
    """Rows (oh, o, ow, n) as the matrices of `count` products: -> (groups, count, o/groups, oh/count · ow·n)."""
    oh, filters, ow, n = y.shape
    split = y.reshape(count, oh // count, groups, filters // groups, ow * n)
    return split.transpose(2, 0, 3, 1, 4).reshape(groups, count, filters // groups, oh // count * ow * n)


def _multiply(kernel: Array, matrices: Array, out: Array) -> None:
    """Fill out (rows, groups, m, ow, n) with kernel (groups, m, k) · matrices (groups, rows, k, ow·n), row by row.

    Rows that lie side by side, matrices (groups, 1, k, rows·ow·n), have one product.
    """
    groups, m, _ = kernel.shape
    count, columns = len(out), out.shape[-2] * out.shape[-1]
    products = out.reshape(count, groups, m, columns).swapaxes(0, 1)  # a view
    if matrices.shape[1] == count:
        multiply(kernel[:, None], matrices, products)
    else:
        products[...] = np.matmul(kernel[:, None], matrices).reshape(groups, m, count, columns).swapaxes(1, 2)


def _multiply_in_parts(matrices: Array, dy: Array, parts: int) -> Array:
    """matrices (groups, rows, m, k) · dy (groups, rows, k, o), m in parts: few columns o halve OpenBLAS's rate."""
    groups, count, m, k = matrices.shape
    products: Array = np.matmul(matrices.reshape(groups, count, parts, m // parts, k), dy[:, :, None])
    return products.reshape(groups, count, m, dy.shape[3])
