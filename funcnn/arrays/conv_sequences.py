"""Convolution along time: sequences (n, time, channels) in C order, weights (taps, channels / groups, filters).

A window of k steps that follow each other is k · channels adjacent numbers, a row to be multiplied by the weights.
Adjacent windows overlap, and BLAS takes no matrix whose rows do; but every k-th window is a row of one that lies in
memory as it is. With 3 taps on 8 steps:

    steps                  0  1  2  3  4  5  6  7
    windows 0 and 3      [ 0  1  2][3  4  5]
    windows 1 and 4         [ 1  2  3][4  5  6]
    windows 2 and 5            [ 2  3  4][5  6  7]

So a convolution is k products without a copy; with a stride s every ceil(k / s)-th window. The gradient of the input is
such a convolution of dy. Where that is not so (a dilation; with a stride, the gradient of the input), and for the
gradient of the weights, which is a sum over all windows, they are copied, block by block, and stay in cache.

Groups of channels are one axis more before all others, (groups, n, time, channels / groups). A depthwise convolution
multiplies and adds tap by tap instead. Geometries are those of images (time, 1).
"""

from collections.abc import Iterator

import numpy as np

from funcnn.arrays.geometry import Geometry
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import even_slices, in_tasks, scratch, slices, sum_in_tasks
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient"]

_ROWS = 512  # windows in a block, about
_NUMBERS = 2**15  # of the output in a block of a depthwise convolution, about
_SMALL = 100**3  # multiply-adds that OpenBLAS takes as factors lie in memory (`funcnn.arrays.conv_products`)
_FEW = 16  # rows of such a product, at least


@tuned
def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int, bias: Array | None = None) -> Array:
    """y (n, out, filters) of x (n, time, channels).

    >>> from funcnn.arrays.geometry import geometry
    >>> x = np.arange(8.0).reshape(1, 8, 1)
    >>> conv_forward(x, np.ones((3, 1, 1)), geometry((8, 1), (3, 1), (1, 1), (1, 1), "valid"), 1)[0, :, 0]
    array([ 3.,  6.,  9., 12., 15., 18.])
    """
    if _is_depthwise(weight, groups):
        return _depthwise(x, weight, geo, bias)
    matrices, padded = _matrices(weight, groups), _padded(x, geo, groups)
    y = np.empty((groups, len(x), geo.out_size[0], weight.shape[2] // groups), x.dtype)
    in_phases = geo.dilation[0] == 1 or geo.window[0] == 1

    def fill(part: slice) -> None:
        (_fill_in_phases if in_phases else _fill_in_blocks)(padded[:, part], matrices, geo, y[:, part])
        if bias is not None:
            y[:, part] += bias.reshape(groups, 1, 1, y.shape[3])

    in_tasks(fill, range(len(x)), y.size * matrices.shape[1])
    return _joined(y)


@tuned
def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int) -> Array:
    """dweight (taps, channels / groups, filters) of x (n, time, channels) and dy (n, out, filters)."""
    taps, inner, filters = geo.window[0], x.shape[2] // groups, dy.shape[2]
    if 1 < groups == x.shape[2] == filters:
        windows = _windows(_padded(x, geo, 1), geo, slice(0, geo.out_size[0]))[0]
        return np.stack([np.einsum("ntc,ntc->c", windows[:, :, k], dy) for k in range(taps)])[:, None]
    padded, its_dy = _padded(x, geo, groups), _grouped(dy, groups)
    blocks = list(_blocks(len(x), geo.out_size[0])) or [(slice(0, 0), slice(0, 1))]  # of no examples, the sum is zero

    def share(part: slice) -> Array:
        total = np.zeros((groups, taps * inner, filters // groups), x.dtype)
        for examples, steps in blocks[part]:
            windows = _copied(_windows(padded[:, examples], geo, steps))
            total += windows.swapaxes(1, 2) @ _flat(its_dy[:, examples, steps])
        return total

    total = sum_in_tasks(share, blocks, dy.size * taps * inner)
    return np.ascontiguousarray(total.transpose(1, 0, 2)).reshape(taps, inner, filters)


@tuned
def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int) -> Array:
    """dx (n, time, channels) of dy (n, out, filters)."""
    taps, inner, filters = weight.shape
    turned = geo.turned_rows
    if turned is not None and _is_depthwise(weight, groups):
        return _depthwise(dy, weight[::-1], turned)
    if turned is not None:
        split = weight[::-1].reshape(taps, inner, groups, filters // groups).transpose(0, 3, 2, 1)
        kernel = np.ascontiguousarray(split).reshape(taps, filters // groups, groups * inner)
        return conv_forward(dy, kernel, turned, groups)
    its_dy, across = _grouped(dy, groups), _matrices(weight, groups).swapaxes(1, 2)
    dx = np.zeros((groups, len(dy), geo.padded_size[0], inner), dy.dtype)
    stride, dilation = geo.stride[0], geo.dilation[0]

    def add(part: slice) -> None:
        for examples, steps in _blocks(part.stop - part.start, dy.shape[1]):
            its, reached = its_dy[:, part][:, examples, steps], dx[:, part][:, examples]
            rows = _flat(its)
            shares = scratch("shares", (*rows.shape[:2], taps * inner), dy.dtype)
            shares = np.matmul(rows, across, out=shares).reshape(*its.shape[:3], taps, inner)
            for k in range(taps):
                first = steps.start * stride + k * dilation
                reached[:, :, first : first + (its.shape[2] - 1) * stride + 1 : stride] += shares[:, :, :, k]

    in_tasks(add, range(len(dy)), dy.size * taps * inner)
    before = geo.padding[0][0]
    return np.ascontiguousarray(_joined(dx[:, :, before : before + geo.in_size[0]]))


# --- Groups, windows, blocks ----------------------------------------------------------------------------------


def _grouped(x: Array, groups: int) -> Array:
    """(n, time, channels) -> (groups, n, time, channels / groups), in C order."""
    n, time, channels = x.shape
    return np.ascontiguousarray(x.reshape(n, time, groups, channels // groups).transpose(2, 0, 1, 3))


def _joined(y: Array) -> Array:
    """(groups, n, time, channels / groups) -> (n, time, channels)."""
    groups, n, time, inner = y.shape
    return y.transpose(1, 2, 0, 3).reshape(n, time, groups * inner)


def _matrices(weight: Array, groups: int) -> Array:
    """(taps, channels / groups, filters) -> (groups, taps · channels / groups, filters / groups)."""
    taps, inner, filters = weight.shape
    split = weight.reshape(taps * inner, groups, filters // groups).transpose(1, 0, 2)
    return np.ascontiguousarray(split)


def _padded(x: Array, geo: Geometry, groups: int) -> Array:
    """The sequences in groups, with zeros before and after."""
    before, after = geo.padding[0]
    if before == after == 0:
        return _grouped(x, groups)
    n, time, channels = x.shape
    padded = np.empty((groups, n, before + time + after, channels // groups), x.dtype)
    padded[:, :, :before], padded[:, :, before + time :] = 0, 0
    padded[:, :, before : before + time] = x.reshape(n, time, groups, channels // groups).transpose(2, 0, 1, 3)
    return padded


def _windows(x: Array, geo: Geometry, steps: slice) -> Array:
    """The view (groups, n, out, taps, channels) of some windows of padded sequences."""
    (groups, n, _, channels), (group, example, step, number) = x.shape, x.strides
    strides = group, example, step * geo.stride[0], step * geo.dilation[0], number
    shape = groups, n, steps.stop - steps.start, geo.window[0], channels
    return _view(x, steps.start * geo.stride[0], shape, strides)


def _view(x: Array, step: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """A view of sequences that begins at one of their steps, and in which a number may appear many times."""
    return np.lib.stride_tricks.as_strided(x[:, :, step:], shape, strides, writeable=False)


def _copied(windows: Array) -> Array:
    """Windows as matrices (groups, n · out, taps · channels), valid until the next call."""
    groups, n, out, taps, channels = windows.shape
    copy = scratch("windows", windows.shape, windows.dtype)
    copy[...] = windows
    return copy.reshape(groups, n * out, taps * channels)


def _flat(y: Array) -> Array:
    """Examples and steps of a block as rows: (groups, n, out, filters) -> (groups, n · out, filters)."""
    groups, n, out, filters = y.shape
    return y.reshape(groups, n * out, filters)


def _blocks(n: int, out: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of examples, or of the steps of one example."""
    if out <= _ROWS:
        for examples in slices(n, _ROWS // max(1, out)):
            yield examples, slice(0, out)
    else:
        for i in range(n):
            for steps in slices(out, _ROWS):
                yield slice(i, i + 1), steps


# --- What fills y ---------------------------------------------------------------------------------------------


def _fill_in_phases(x: Array, matrices: Array, geo: Geometry, y: Array) -> None:
    """Products of every so many-th window, as they lie."""
    stride = geo.stride[0]
    apart = -(-geo.window[0] // stride)  # windows, at least: then they do not overlap
    group, example, step, number = x.strides
    rows = _SMALL // matrices[0].size
    for phase in range(min(apart, y.shape[2])):
        outputs = y[:, :, phase::apart]
        shape, strides = (*outputs.shape[:3], matrices.shape[1]), (group, example, apart * stride * step, number)
        windows = _view(x, phase * stride, shape, strides)
        for some in even_slices(shape[2], rows) if rows >= _FEW else [slice(None)]:
            np.matmul(windows[:, :, some], matrices[:, None], out=outputs[:, :, some])


def _fill_in_blocks(x: Array, matrices: Array, geo: Geometry, y: Array) -> None:
    """Products of windows that are copied."""
    for examples, steps in _blocks(x.shape[1], y.shape[2]):
        outputs = y[:, examples, steps]
        products = np.matmul(_copied(_windows(x[:, examples], geo, steps)), matrices)
        outputs[...] = products.reshape(outputs.shape)


def _is_depthwise(weight: Array, groups: int) -> bool:
    return groups > 1 and weight.shape[1:] == (1, groups)


def _depthwise(x: Array, weight: Array, geo: Geometry, bias: Array | None = None) -> Array:
    """y (n, out, channels) = Σ over the taps of the steps under them, times the tap's weights."""
    n, out, channels = len(x), geo.out_size[0], x.shape[2]
    windows = _windows(_padded(x, geo, 1), geo, slice(0, out))[0]
    # A row of weights for each step: NumPy's loops then run over a sequence, not over its few channels.
    weights = np.repeat(weight, out, axis=1)
    y = np.empty((n, out, channels), x.dtype)
    blocks = slices(n, max(1, _NUMBERS // max(1, out * channels)))

    def fill(part: slice) -> None:
        for block in blocks[part]:
            outputs = y[block]
            product = scratch("product", outputs.shape, x.dtype)
            np.multiply(windows[block, :, 0], weights[0], out=outputs)
            for k in range(1, len(weights)):
                outputs += np.multiply(windows[block, :, k], weights[k], out=product)
            if bias is not None:
                outputs += bias

    in_tasks(fill, blocks, y.size * len(weights))
    return y
