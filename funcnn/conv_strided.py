"""Convolution on NHWC arrays by stride-tricks windows.

A convolution is one matrix product for each row of the output,

    y[i] (o × ow·n) = weightᵀ (o × kh·kw·c) · windows[i] (kh·kw·c × ow·n),

and its gradients are the two other products of the same three matrices. `conv_windows` says how images lie in
memory, and why the windows are then overlapping views that BLAS takes as they are. The work is cut into blocks of
output rows whose data stay in cache, each a task for one of the threads (`funcnn.parallel`), so memory does not
grow with kernel area × batch.

``numpy.einsum("nijklc,klco->nijo", ..., optimize=True)`` over windows of a channels-last array computes the same, three
times slower: it copies every window. It is the reference in the tests.
"""

import numpy as np

from funcnn import parallel
from funcnn.conv_windows import Geometry, images, rows, shares_products, windows
from funcnn.layer import Array
from funcnn.parallel import chunks

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient"]

_BLOCK_BYTES = 2**20  # of what a block of output rows needs: about the cache of one core
_SUMS = 8  # of the weight gradient's shares, each a task

# Groups are the leading axis of every matrix: channels fall into `groups` runs, and run g of the inputs reaches
# run g of the outputs alone. One group is the ordinary convolution, and then no axis moves.


def _blocks(geo: Geometry, channels: int, n: int, itemsize: int) -> list[slice]:
    """Blocks of output rows whose windows keep under `_BLOCK_BYTES`."""
    (oh, ow), (kh, kw) = geo.out_size, geo.window
    copies = kh * kw if shares_products(geo, n) else geo.stride[0] * kw
    return chunks(oh, max(1, _BLOCK_BYTES // max(1, copies * channels * ow * n * itemsize)))


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

    def forward(part: slice) -> None:
        view, out = windows(source, geo, groups, part), y[part]
        if shares_products(geo, n):
            product = np.matmul(kernel, view).reshape(filters, len(out), ow, n)
            out[...] = product.swapaxes(0, 1)
        else:
            np.matmul(kernel, view, out=_output_matrix(out, groups, shared=False))
        if bias is not None:
            out += bias[:, None, None]

    parallel.for_each(forward, _blocks(geo, x.shape[3], n, x.itemsize))
    return images(y)


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """The loss's gradient in the weight: Σ_i windows[i] · dy[i]ᵀ, the windows made again rather than kept.

    x (n, h, w, c), dy (n, oh, ow, o) -> (kh, kw, c/groups, o)
    """
    n, inner, filters = len(x), x.shape[3] // groups, dy.shape[3] // groups
    source, gradient = np.ascontiguousarray(rows(x)), np.ascontiguousarray(rows(dy))
    shape = groups, geo.window[0] * geo.window[1] * inner, filters
    at_once = max(1, _BLOCK_BYTES // (shape[1] * filters * x.itemsize))  # products that are added up in one call
    blocks = _blocks(geo, x.shape[3], n, x.itemsize)

    def weight_gradient(some: slice) -> Array:
        total = np.zeros(shape, x.dtype)
        for part in blocks[some]:
            view = windows(source, geo, groups, part)
            transposed = _output_matrix(gradient[part], groups, shares_products(geo, n)).swapaxes(2, 3)
            for few in chunks(view.shape[1], at_once):
                total += np.matmul(view[:, few], transposed[:, few]).sum(axis=1)
        return total

    # A few sums over many blocks each: one for every block would make memory grow with weight × rows.
    total = np.zeros(shape, x.dtype)
    for share in parallel.for_each(weight_gradient, chunks(len(blocks), -(-len(blocks) // _SUMS) or 1)):
        total += share
    return total.transpose(1, 0, 2).reshape(*geo.window, inner, groups * filters)


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1) -> Array:
    """The loss's gradient in the input.

    dy (n, oh, ow, o), weight (kh, kw, c/groups, o) -> (n, h, w, c)

    With stride 1 it is also a convolution: of dy with the kernel turned by half a turn. In general weight · dy gives each
    window's share, and the shares are added where windows overlap.
    """
    turned = _turned(geo)
    if turned is not None:
        return conv_forward(dy, _turned_kernel(weight, groups), turned, groups)
    (h, w), (kh, kw), (oh, ow) = geo.in_size, geo.window, geo.out_size
    inner = weight.shape[2]
    kernel = _kernel_matrix(weight, groups).swapaxes(1, 2)[:, None]
    dx = np.zeros((h, groups, inner, w, len(dy)), dy.dtype)

    def add_shares(part: slice) -> None:
        gradient, target = np.ascontiguousarray(rows(dy[part])), dx[..., part]
        shares = np.matmul(kernel, _output_matrix(gradient, groups, shared=False))
        shares = shares.reshape(groups, oh, kh, kw, inner, ow, target.shape[-1])
        for k, (down, height) in enumerate(geo.taps[0]):
            for l, (across, width) in enumerate(geo.taps[1]):  # noqa: E741
                cells = target[height, :, :, width]
                cells += shares[:, down, k, l, :, across].swapaxes(0, 1)

    size = max(1, 4 * _BLOCK_BYTES // max(1, kernel[:, 0, :, 0].size * oh * ow * dy.itemsize))
    parallel.for_each(add_shares, chunks(len(dy), size))
    return images(dx.reshape(h, groups * inner, w, len(dy)))


def _turned(geo: Geometry) -> Geometry | None:
    """The geometry of the convolution from dy back to dx; None if there is none such."""
    (top, bottom), (left, right) = geo.padding
    reach, side = ((window - 1) * dilation for window, dilation in zip(geo.window, geo.dilation, strict=True))
    padding = (reach - top, reach - bottom), (side - left, side - right)
    if geo.stride != (1, 1) or min(*padding[0], *padding[1]) < 0:
        return None
    return Geometry(geo.out_size, geo.window, (1, 1), geo.dilation, padding)


def _turned_kernel(weight: Array, groups: int) -> Array:
    """(kh, kw, c/groups, o) -> (kh, kw, o/groups, c), turned by half a turn."""
    kh, kw, inner, filters = weight.shape
    split = weight[::-1, ::-1].reshape(kh, kw, inner, groups, filters // groups)
    return split.transpose(0, 1, 4, 3, 2).reshape(kh, kw, filters // groups, groups * inner)
