"""The convolution to read first: windows as a view, and one `einsum` for each of forward, dweight and dx.

A convolution lays a small kernel on every window of an image and adds up the products. On one channel, with a kernel
of 2 × 2, an image of 3 × 3 pixels has four windows:

    image      a b c      windows    a b   b c   d e   e f         y    y00 y01      y00 = a·w00 + b·w01 + d·w10 + e·w11
               d e f                 d e   e f   g h   h i              y10 y11      y01 = b·w00 + c·w01 + e·w10 + f·w11
               g h i                                                                 ...

No window has to be copied: from one window to the next, and from one of its cells to the next, it is a fixed number of
bytes in memory. `windows` is the view of an image with these strides, axes for the windows (i, j) and axes for the
cells in them (k, l). With it each function is one line of algebra: the sum over the letters that are not in the result.

These are the definition in code. They are what `conv2d(..., algorithm="plain")` computes with, and what the tests hold
the fast forms against (`funcnn.arrays.conv_rows`, `funcnn.arrays.conv_winograd`), which take the same arguments.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcnn.arrays.geometry import Geometry
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient", "windows"]


def windows(x: Array, geo: Geometry, padding: float = 0) -> Array:
    """Every window of a batch of images, as a view of the padded images: (n, h, w, c) -> (n, oh, ow, kh, kw, c).

    windows[n, i, j, k, l, c] = x[n, i·stride + k·dilation - top, j·stride + l·dilation - left, c], the padding beyond
    the edge.

    >>> from funcnn.arrays.geometry import geometry
    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> view = windows(x, geometry((3, 3), (2, 2), (1, 1), (1, 1), "valid"))
    >>> view[0, 0, 1, :, :, 0]
    array([[1., 2.],
           [4., 5.]])

    Pooling is a reduction of each window's cells:

    >>> view.max(axis=(3, 4))[0, :, :, 0]
    array([[4., 5.],
           [7., 8.]])
    """
    padded = np.pad(x, ((0, 0), *geo.padding, (0, 0)), constant_values=padding)
    return _windows_of(padded, geo)


def _windows_of(padded: Array, geo: Geometry) -> Array:
    image, row, column, channel = padded.strides
    (sh, sw), (dh, dw) = geo.stride, geo.dilation
    shape = len(padded), *geo.out_size, *geo.window, padded.shape[3]
    return as_strided(padded, shape, (image, row * sh, column * sw, row * dh, column * dw, channel))


def _split(x: Array, groups: int) -> Array:
    """The last axis as one for the group and one within it: (..., c) -> (..., groups, c/groups)."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """y[n, i, j, o] = bias[o] + Σ_{k, l, c} windows[n, i, j, k, l, c] · weight[k, l, c, o].

    x (n, h, w, c), weight (kh, kw, c/groups, o), bias (o,) -> (n, oh, ow, o). The filters o of group g see the channels
    c of group g alone.

    >>> from funcnn.arrays.geometry import geometry
    >>> x, weight = np.arange(9.0).reshape(1, 3, 3, 1), np.array([1.0, 0.0, 0.0, -1.0]).reshape(2, 2, 1, 1)
    >>> conv_forward(x, weight, geometry((3, 3), (2, 2), (1, 1), (1, 1), "valid"))[0, :, :, 0]
    array([[-4., -4.],
           [-4., -4.]])
    """
    y = np.einsum("nijklgc,klcgo->nijgo", _split(windows(x, geo), groups), _split(weight, groups))
    y = y.reshape(len(x), *geo.out_size, weight.shape[3])
    return y if bias is None else y + bias


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """dweight[k, l, c, o] = Σ_{n, i, j} windows[n, i, j, k, l, c] · dy[n, i, j, o].

    x (n, h, w, c), dy (n, oh, ow, o) -> (kh, kw, c/groups, o). Each weight met one cell of every window; a small change
    of it changes y there by that cell.
    """
    dweight = np.einsum("nijklgc,nijgo->klcgo", _split(windows(x, geo), groups), _split(dy, groups))
    return dweight.reshape(*geo.window, x.shape[3] // groups, dy.shape[3])


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1) -> Array:
    """dx: Σ_o dy[n, i, j, o] · weight[k, l, c, o], added to the pixel from which windows[n, i, j, k, l, c] was read.

    dy (n, oh, ow, o), weight (kh, kw, c/groups, o) -> (n, h, w, c). Forward reads each pixel once for every window that
    it lies in. That reading is a linear map, a matrix of ones and zeros, and the gradient takes its transpose: it adds
    to each pixel once for every such window.

    >>> from funcnn.arrays.geometry import geometry
    >>> geo = geometry((3, 3), (2, 2), (1, 1), (1, 1), "valid")
    >>> conv_input_gradient(np.ones((1, 2, 2, 1)), np.ones((2, 2, 1, 1)), geo)[0, :, :, 0]  # windows over each pixel
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    n, channels, ((top, bottom), (left, right)), (h, w) = len(dy), weight.shape[2] * groups, geo.padding, geo.in_size
    shares = np.einsum("nijgo,klcgo->nijklgc", _split(dy, groups), _split(weight, groups))
    shares = shares.reshape(n, *geo.out_size, *geo.window, channels)
    padded = np.zeros((n, top + h + bottom, left + w + right, channels), dy.dtype)
    view = _windows_of(padded, geo)
    for k, l in np.ndindex(geo.window):  # one cell of all windows at a time: no two of them are the same pixel
        view[:, :, :, k, l] += shares[:, :, :, k, l]
    return padded[:, top : top + h, left : left + w].copy()
