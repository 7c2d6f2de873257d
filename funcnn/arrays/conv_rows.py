"""Convolution on NHWC arrays by stride-tricks windows.

A convolution is one matrix product for each row of the output,

    y[i] (o × ow·n) = weightᵀ (o × kh·kw·c) · windows[i] (kh·kw·c × ow·n),

and its gradients are the two other products of the same three matrices. `conv_windows` says how images lie in
memory, and why the windows are then overlapping views that BLAS takes as they are. The work is cut into blocks of
output rows whose data stay in cache, each a task for one of the threads (`funcnn.arrays.threads`), so memory does not
grow with kernel area × batch.

``numpy.einsum("nijklc,klco->nijo", ..., optimize=True)`` over windows of a channels-last array computes the same in
twice the time: it copies every window. It is the reference in the tests.
"""

import math

import numpy as np

from funcnn.arrays import threads
from funcnn.arrays.geometry import Geometry, turned, turned_rows
from funcnn.arrays.layout import images, rows
from funcnn.arrays.threads import even_slices, in_tasks, scratch, slices, sum_in_tasks
from funcnn.arrays.windows import add_shifted, shares_products, turned_kernel, windows
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient"]

_BLOCK_BYTES = 2**21  # of what a block of output rows needs: smaller ones make threads wait for the interpreter

# Groups are the leading axis of every matrix: channels fall into `groups` runs, and run g of the inputs reaches
# run g of the outputs alone. One group is the ordinary convolution, and then no axis moves.


def _blocks(geo: Geometry, channels: int, n: int, itemsize: int, shared: bool) -> list[slice]:
    """Blocks of output rows whose windows keep under `_BLOCK_BYTES`."""
    (oh, ow), (kh, kw) = geo.out_size, geo.window
    copies = kh * kw if shared else geo.stride[0] * kw
    return even_slices(oh, max(1, _BLOCK_BYTES // max(1, copies * channels * ow * n * itemsize)))


def _kernel_matrix(weight: Array, groups: int) -> Array:
    """(kh, kw, c/groups, o) -> (groups, o/groups, kh·kw·c/groups)."""
    return weight.reshape(-1, groups, weight.shape[3] // groups).transpose(1, 2, 0)


def _output_matrix(y: Array, groups: int, shared: bool) -> Array:
    """(oh, o, ow, n) -> (groups, oh, o/groups, ow·n), or (groups, 1, o/groups, oh·ow·n) if rows share a product."""
    oh, filters, ow, n = y.shape
    split = y.reshape(oh, groups, filters // groups, ow * n)
    if shared:
        return split.transpose(1, 2, 0, 3).reshape(groups, 1, filters // groups, oh * ow * n)
    return split.swapaxes(0, 1)


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """The convolution (as everywhere in this field: cross-correlation) of a batch with a kernel, plus a bias.

    x (n, h, w, c), weight (kh, kw, c/groups, o), bias (o,) -> (n, oh, ow, o)
    """
    n, filters = len(x), weight.shape[3]
    oh, ow = geo.out_size
    source, kernel = np.ascontiguousarray(rows(x)), _kernel_matrix(weight, groups)[:, None]
    y = np.empty((oh, filters, ow, n), x.dtype)
    repeated = None if bias is None else np.repeat(bias, ow * n).reshape(filters, ow, n)
    shared = shares_products(geo, n, weight.size)
    blocks = _blocks(geo, x.shape[3], n, x.itemsize, shared)

    def forward(some: slice) -> None:
        for part in blocks[some]:
            view, out = windows(source, geo, groups, part, shared=shared), y[part]
            if shared:
                product = np.matmul(kernel, view).reshape(filters, len(out), ow, n)
                out[...] = product.swapaxes(0, 1)
            else:
                np.matmul(kernel, view, out=_output_matrix(out, groups, shared=False))
            if repeated is not None:
                out += repeated

    in_tasks(forward, blocks, weight.size * oh * ow * n)
    return images(y)


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
    shared = shares_products(geo, n, math.prod(shape))
    blocks = _blocks(geo, x.shape[3], n, x.itemsize, shared)

    def weight_gradient(some: slice) -> Array:
        total = np.zeros(shape, x.dtype)
        for part in blocks[some]:
            view = windows(source, geo, groups, part, shared=shared)
            transposed = _output_matrix(gradient[part], groups, shared).swapaxes(2, 3)
            for few in slices(view.shape[1], at_once):
                total += _products(view[:, few], transposed[:, few], parts).sum(axis=1)
        return total

    total = sum_in_tasks(weight_gradient, blocks, shape[1] * dy.size)
    return total.transpose(1, 0, 2).reshape(*geo.window, inner, groups * filters)


def _products(view: Array, dy: Array, parts: int) -> Array:
    """view (groups, rows, m, k) · dy (groups, rows, k, o), m in parts: few columns o halve OpenBLAS's rate."""
    groups, count, m, k = view.shape
    products: Array = np.matmul(view.reshape(groups, count, parts, m // parts, k), dy[:, :, None])
    return products.reshape(groups, count, m, dy.shape[3])


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1) -> Array:
    """The loss's gradient in the input.

    dy (n, oh, ow, o), weight (kh, kw, c/groups, o) -> (n, h, w, c)

    The forward pass reversed: first the products, then the shifts. Each row of dx is a sum over kh rows of dy, which
    overlap like the windows of the forward pass: one product gives that sum for every column of the kernel,

        shares[r] (kw·c × ow·n) = weight (kw·c × kh·o) · dy[r + top - kh + 1 : r + top + 1] (kh·o × ow·n)

    (with dilation 1, and the kernel's rows in reverse), to be added with its shift. With no more filters than channels
    it takes less to shift dy first: dx is then the convolution of dy with the kernel turned by half a turn. Where rows
    of windows are more than one pixel apart, a product for each row of dy gives every window's shares, which are added
    with shifts along both axes.
    """
    (h, w), n, inner = geo.in_size, len(dy), weight.shape[2]
    back, dy_rows = turned(geo), turned_rows(geo)
    if back is not None and weight.shape[3] <= inner * groups:
        return conv_forward(dy, turned_kernel(weight, groups), back, groups)
    dx = np.zeros((h, groups, inner, w, n), dy.dtype)
    if dy_rows is not None:
        _add_rows(dx, np.ascontiguousarray(rows(dy)), weight, geo, dy_rows)
    else:
        size = max(1, 4 * _BLOCK_BYTES // max(1, weight[..., 0].size * math.prod(geo.out_size) * dy.itemsize))
        threads.for_each(lambda part: _add_windows(dx[..., part], dy[part], weight, geo), slices(n, size))
    return images(dx.reshape(h, groups * inner, w, n))


def _add_rows(dx: Array, dy: Array, weight: Array, geo: Geometry, dy_rows: Geometry) -> None:
    """Fill dx (h, groups, c/groups, w, n) from dy (oh, o, ow, n)."""
    _, groups, inner, _, n = dx.shape
    (kh, kw), ow = geo.window, geo.out_size[1]
    split = weight[::-1].reshape(kh, kw, inner, groups, -1)
    kernel = split.transpose(3, 1, 2, 0, 4).reshape(groups, 1, kw * inner, -1)  # (groups, 1, kw·c/groups, kh·o/groups)

    shared = shares_products(dy_rows, n, weight.size)
    blocks = even_slices(geo.in_size[0], max(1, _BLOCK_BYTES // max(1, kernel[..., 0].nbytes * ow * n)))

    def add(some: slice) -> None:
        for part in blocks[some]:
            view = windows(dy, dy_rows, groups, part, shared=shared)
            shares = scratch("shares", (groups, view.shape[1], kw * inner, view.shape[3]), dy.dtype)
            np.matmul(kernel, view, out=shares)
            if shared:
                shares = shares.reshape(groups, kw, inner, part.stop - part.start, ow, n).transpose(1, 3, 0, 2, 4, 5)
            else:
                shares = shares.reshape(groups, part.stop - part.start, kw, inner, ow, n).transpose(2, 1, 0, 3, 4, 5)
            add_shifted(dx[part], shares, geo)

    in_tasks(add, blocks, weight[..., 0].size * dy.size)


def _add_windows(dx: Array, dy: Array, weight: Array, geo: Geometry) -> None:
    """Fill dx (h, groups, c/groups, w, n) from dy (n, oh, ow, o), for any stride."""
    _, groups, inner, _, n = dx.shape
    kernel = _kernel_matrix(weight, groups).swapaxes(1, 2)[:, None]
    shares = np.matmul(kernel, _output_matrix(np.ascontiguousarray(rows(dy)), groups, shared=False))
    shares = shares.reshape(groups, geo.out_size[0], *geo.window, inner, geo.out_size[1], n)
    for k, (down, height) in enumerate(geo.taps[0]):
        for l, (across, width) in enumerate(geo.taps[1]):  # noqa: E741
            cells = dx[height, :, :, width]
            cells += shares[:, down, k, l, :, across].swapaxes(0, 1)
