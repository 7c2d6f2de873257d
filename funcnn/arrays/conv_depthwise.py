"""Depthwise convolution: a channel has a kernel of its own, and four rows of its output are one product.

The same functions as in `funcnn.conv_strided`, of the same arguments, for as many groups as channels and filters. There
is one output for each window, a product with a matrix of one row, for which BLAS has to read every window and can use
it once. So four rows of the output are made together, here with a kernel of three rows and stride and dilation 1:

    y (4 × ow·n) = [ w0 w1 w2  .  .  . ] · rows of the image (6·kw × ow·n)
                   [  . w0 w1 w2  .  . ]
                   [  .  . w0 w1 w2  . ]      w: a row of the kernel, kw weights
                   [  .  .  . w0 w1 w2 ]

Half of the multiply-adds are with zeros, and yet it takes a third of the time of four products, since each row of the
image is read half as often, and BLAS is used to such matrices. What stands to the left is a kernel of six rows, laid on
every fourth row of the image: a geometry like any other, whose windows `funcnn.arrays.windows` makes.
"""

from collections.abc import Callable

import numpy as np

from funcnn.arrays.conv_rows import begin
from funcnn.arrays.geometry import Geometry
from funcnn.arrays.layout import images, rows
from funcnn.arrays.threads import even_slices, in_tasks
from funcnn.arrays.windows import turned_kernel, window_matrices
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient", "fits"]

_ROWS = 4  # of the output in a product
_BLOCK_BYTES = 2**22  # of the windows of some channels: copies to farther memory cost less than more calls do


def fits(weight: Array, groups: int) -> bool:
    """Whether a kernel (kh, kw, c/groups, o) in so many groups has one input and one output for each."""
    return weight.shape[2:] == (1, groups) and groups > 1


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int, bias: Array | None = None) -> Array:
    """As `conv_strided.conv_forward`: x (n, h, w, c), weight (kh, kw, 1, c), bias (c,) -> (n, oh, ow, c)."""
    n, (oh, ow) = len(x), geo.out_size
    tall, source, kernel = _tall(geo), np.ascontiguousarray(rows(x)), _tall_kernel(weight, geo)
    count = -(-oh // _ROWS)
    y = np.empty((count * _ROWS, groups, ow * n), x.dtype)  # the last four rows may reach over the edge
    fours = y.reshape(count, _ROWS, groups, ow * n).transpose(2, 0, 1, 3)  # (groups, count, 4, ow·n), a view
    repeated = None if bias is None else np.repeat(bias, ow * n).reshape(groups, 1, 1, ow * n)

    def forward(part: slice) -> None:
        matrices, out = window_matrices(source[:, part], tall, part.stop - part.start, slice(0, count)), fours[part]
        np.matmul(kernel[part, None], matrices, out=out)
        if repeated is not None:
            out += repeated[part]

    _for_channels(forward, tall, source, count)
    return images(y[:oh].reshape(oh, groups, ow, n))


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int) -> Array:
    """As `conv_strided.conv_weight_gradient`: x (n, h, w, c), dy (n, oh, ow, c) -> (kh, kw, 1, c)."""
    n, (oh, ow), kw = len(x), geo.out_size, geo.window[1]
    tall, source, gradient = _tall(geo), np.ascontiguousarray(rows(x)), np.ascontiguousarray(rows(dy))
    count = -(-oh // _ROWS)
    if count * _ROWS > oh:
        gradient = np.concatenate([gradient, np.zeros((count * _ROWS - oh, *gradient.shape[1:]), dy.dtype)])
    fours = gradient.reshape(count, _ROWS, groups, ow * n).transpose(2, 0, 3, 1)  # (groups, count, ow·n, 4), a view
    total = np.empty((groups, tall.window[0], kw, _ROWS), x.dtype)

    def weight_gradient(part: slice) -> None:
        matrices = window_matrices(source[:, part], tall, part.stop - part.start, slice(0, count))
        total[part] = np.matmul(matrices, fours[part]).sum(axis=1).reshape(-1, *total.shape[1:])

    _for_channels(weight_gradient, tall, source, count)
    shares = [total[:, _rows_under(j, geo), :, j] for j in range(_ROWS)]  # (groups, kh, kw) each
    dweight: Array = np.add.reduce(shares).transpose(1, 2, 0)
    return dweight[:, :, None]


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int, bias: Array | None = None) -> Array:
    """As `conv_rows.conv_input_gradient`: dy (n, oh, ow, c), weight (kh, kw, 1, c), bias (c,) -> (n, h, w, c)."""
    (h, w), n = geo.in_size, len(dy)
    if len(geo.phases) == geo.stride[0] * geo.stride[1] == 1:
        return conv_forward(dy, turned_kernel(weight, groups), geo.phases[0].windows, groups, bias)
    dx = images(begin((h, groups, w, n), dy.dtype, bias))
    for pixels, taps, windows in geo.phases:  # the pixels whose gradient is such a convolution
        dx[:, pixels[0], pixels[1]] = conv_forward(dy, turned_kernel(weight[taps], groups), windows, groups, bias)
    return dx


# --- Four rows together ---------------------------------------------------------------------------------------


def _rows_under(j: int, geo: Geometry) -> slice:
    """Of the image's rows under four rows of the output, those under row j."""
    first, reach = j * geo.stride[0], (geo.window[0] - 1) * geo.dilation[0] + 1
    return slice(first, first + reach, geo.dilation[0])


def _tall(geo: Geometry) -> Geometry:
    """The windows of four rows of the output together."""
    height = _rows_under(_ROWS - 1, geo).stop
    stride, dilation = (_ROWS * geo.stride[0], geo.stride[1]), (1, geo.dilation[1])
    return Geometry(geo.in_size, (height, geo.window[1]), stride, dilation, geo.padding)


def _tall_kernel(weight: Array, geo: Geometry) -> Array:
    """The kernel laid under each of four rows: (kh, kw, 1, c) -> (c, 4, height·kw)."""
    _, kw, _, channels = weight.shape
    kernel = np.zeros((channels, _ROWS, _rows_under(_ROWS - 1, geo).stop, kw), weight.dtype)
    for j in range(_ROWS):
        kernel[:, j, _rows_under(j, geo)] = weight[:, :, 0].transpose(2, 0, 1)
    return kernel.reshape(channels, _ROWS, -1)


def _for_channels(function: Callable[[slice], None], tall: Geometry, x: Array, count: int) -> None:
    """``function(part)`` for parts of the channels of x (h, c, w, n), whose windows stay in cache."""
    _, channels, _, n = x.shape
    columns = tall.window[1] * tall.out_size[1] * n
    row_bytes = (count * tall.stride[0] + tall.window[0]) * columns * x.itemsize
    blocks = even_slices(channels, max(1, _BLOCK_BYTES // max(1, row_bytes)))

    def some(part: slice) -> None:
        for block in blocks[part]:
            function(block)

    in_tasks(some, blocks, channels * count * _ROWS * tall.window[0] * columns)
