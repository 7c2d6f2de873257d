"""The convolution to read first: the windows of an image as a view, and one `einsum` for each of the three functions.

A convolution lays a small kernel on every window of an image and adds up the products. A kernel of 2 × 2 taps has four
windows on an image of 3 × 3 pixels:

    image   a b c      windows   a b   b c   d e   e f      output   y00 = a·w00 + b·w01 + d·w10 + e·w11
            d e f                d e   e f   g h   h i               y01 = b·w00 + c·w01 + e·w10 + f·w11
            g h i                                                    ...

No window has to be copied. From one window to the next it is always the same number of bytes in memory, and so it is
from one cell of a window to the next: `windows` is the view of an image with these strides, with axes for the window
(i, j) and axes for the cell in it (k, l). Each function is then one sum of products, over the letters that its result
does not have.

This is the definition in code. `conv2d(..., algorithm="plain")` computes with it, and the tests hold the fast forms
against it: `funcnn.arrays.conv_rows` and `funcnn.arrays.conv_winograd`, three functions each with the same arguments.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcnn.arrays.geometry import Geometry
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient", "windows"]


def windows(x: Array, geo: Geometry, padding: float = 0) -> Array:
    """Every window of a batch of images, as a view of the padded images: (n, h, w, c) -> (n, oh, ow, kh, kw, c).

        windows[n, i, j, k, l, c] = x[n, i·stride + k·dilation - top, j·stride + l·dilation - left, c]

    and beyond the edge of x the padding.

    >>> from funcnn.arrays.geometry import geometry
    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> view = windows(x, geometry((3, 3), (2, 2), (1, 1), (1, 1), "valid"))
    >>> view[0, 0, 1, :, :, 0]
    array([[1., 2.],
           [4., 5.]])

    A pool reduces each window to one number:

    >>> view.max(axis=(3, 4))[0, :, :, 0]
    array([[4., 5.],
           [7., 8.]])

    Raises ValueError for images of another size than the geometry's.
    """
    if x.shape[1:3] != geo.in_size:
        raise ValueError(f"windows: the geometry is one of images of {geo.in_size} pixels, got {x.shape[1:3]}")
    padded = np.pad(x, ((0, 0), *geo.padding, (0, 0)), constant_values=padding)
    return _windows_of(padded, geo)


def _windows_of(padded: Array, geo: Geometry) -> Array:
    image, row, column, channel = padded.strides
    (sh, sw), (dh, dw) = geo.stride, geo.dilation
    shape = len(padded), *geo.out_size, *geo.window, padded.shape[3]
    return as_strided(padded, shape, (image, row * sh, column * sw, row * dh, column * dw, channel))


def _split(x: Array, groups: int) -> Array:
    """The last axis as two, the group and the place in it: (..., c) -> (..., groups, c/groups)."""
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
    y: Array = np.einsum("nijklgc,klcgo->nijgo", _split(windows(x, geo), groups), _split(weight, groups))
    y = y.reshape(len(x), *geo.out_size, weight.shape[3])
    return y if bias is None else y + bias


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """dweight[k, l, c, o] = Σ_{n, i, j} windows[n, i, j, k, l, c] · dy[n, i, j, o].

    x (n, h, w, c), dy (n, oh, ow, o) -> (kh, kw, c/groups, o). A weight meets one cell of every window, and that cell
    is what y changes by when the weight does.

    >>> from funcnn.arrays.geometry import geometry
    >>> geo = geometry((3, 3), (2, 2), (1, 1), (1, 1), "valid")
    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> conv_weight_gradient(x, np.ones((1, 2, 2, 1)), geo)[:, :, 0, 0]  # the sum of the pixels that each weight meets
    array([[ 8., 12.],
           [20., 24.]])
    """
    dweight: Array = np.einsum("nijklgc,nijgo->klcgo", _split(windows(x, geo), groups), _split(dy, groups))
    return dweight.reshape(*geo.window, x.shape[3] // groups, dy.shape[3])


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1) -> Array:
    """dx, the sum over all windows of dwindows[n, i, j, k, l, c] = Σ_o dy[n, i, j, o] · weight[k, l, c, o].

    dy (n, oh, ow, o), weight (kh, kw, c/groups, o) -> (n, h, w, c). Forward reads a pixel once for each window that it
    lies in. That reading is a linear map, a matrix of zeros and ones, and the gradient takes its transpose: a pixel's
    gradient is the sum over the same cells. So the same view that forward reads is written here.

    >>> from funcnn.arrays.geometry import geometry
    >>> geo = geometry((3, 3), (2, 2), (1, 1), (1, 1), "valid")
    >>> conv_input_gradient(np.ones((1, 2, 2, 1)), np.ones((2, 2, 1, 1)), geo)[0, :, :, 0]  # windows over each pixel
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    n, channels, (h, w), ((top, _), (left, _)) = len(dy), weight.shape[2] * groups, geo.in_size, geo.padding
    dwindows = np.einsum("nijgo,klcgo->nijklgc", _split(dy, groups), _split(weight, groups))
    dwindows = dwindows.reshape(n, *geo.out_size, *geo.window, channels)
    padded = np.zeros((n, *geo.padded_size, channels), dy.dtype)
    view = _windows_of(padded, geo)
    for k, l in np.ndindex(geo.window):  # noqa: E741
        view[:, :, :, k, l] += dwindows[:, :, :, k, l]  # the cell under one tap is another pixel in each window
    return padded[:, top : top + h, left : left + w].copy()
