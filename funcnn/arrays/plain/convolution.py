"""Convolution of images (n, h, w, c) as one product with the windows, which are copied into a matrix first.

    windows  (n · oh · ow, kh · kw · c)        y = windows · weight
    dweight = windowsᵀ · dy                    dwindows = dy · weightᵀ, added up where windows overlap

`funcnn.conv_strided` is the same as sums over indices, to be read first.
"""

from funcnn.arrays.geometry import Geometry
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient"]


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """y (n, oh, ow, filters) of x (n, h, w, c) and weight (kh, kw, c / groups, filters)."""
    product = _windows(x, geo, groups) @ _matrices(weight, groups)
    y = _joined(product, (len(x), *geo.out_size))
    return y if bias is None else y + bias


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int = 1) -> Array:
    """dweight (kh, kw, c / groups, filters)."""
    product = _windows(x, geo, groups).swapaxes(1, 2) @ _grouped(dy, groups)
    inner = x.shape[3] // groups
    return product.transpose(1, 0, 2).reshape(*geo.window, inner, dy.shape[3])


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int = 1, bias: Array | None = None) -> Array:
    """dx (n, h, w, c) of dy (n, oh, ow, filters); plus a bias (c,), where it is a transposed convolution's output."""
    n, (oh, ow), (kh, kw), (h, w) = len(dy), geo.out_size, geo.window, geo.in_size
    channels = weight.shape[2] * groups
    shares = _grouped(dy, groups) @ _matrices(weight, groups).swapaxes(1, 2)
    shares = shares.reshape(groups, n, oh, ow, kh, kw, weight.shape[2])
    shares = shares.transpose(4, 5, 1, 2, 3, 0, 6).reshape(kh, kw, n, oh, ow, channels)
    dx = module_of(dy).zeros((n, h, w, channels), dy.dtype)
    for k, (rows, pixel_rows) in enumerate(geo.taps[0]):
        for l, (columns, pixel_columns) in enumerate(geo.taps[1]):  # noqa: E741
            dx[:, pixel_rows, pixel_columns] += shares[k, l][:, rows, columns]
    return dx if bias is None else dx + bias  # type: ignore[no-any-return]


def _windows(x: Array, geo: Geometry, groups: int) -> Array:
    """Every window as a row, zeros beyond the edge: (n, h, w, c) -> (groups, n · oh · ow, kh · kw · c / groups)."""
    n, (oh, ow), (kh, kw), inner = len(x), geo.out_size, geo.window, x.shape[3] // groups
    padded = any(side for sides in geo.padding for side in sides)
    copied = module_of(x).zeros if padded else module_of(x).empty
    windows = copied((groups, n, oh, ow, kh, kw, inner), x.dtype)
    split = x.reshape(*x.shape[:3], groups, inner).transpose(3, 0, 1, 2, 4)
    for k, (rows, pixel_rows) in enumerate(geo.taps[0]):
        for l, (columns, pixel_columns) in enumerate(geo.taps[1]):  # noqa: E741
            windows[:, :, rows, columns, k, l] = split[:, :, pixel_rows, pixel_columns]
    return windows.reshape(groups, n * oh * ow, kh * kw * inner)  # type: ignore[no-any-return]


def _matrices(weight: Array, groups: int) -> Array:
    """(kh, kw, c / groups, filters) -> (groups, kh · kw · c / groups, filters / groups)."""
    filters = weight.shape[3]
    return weight.reshape(weight[..., 0].size, groups, filters // groups).transpose(1, 0, 2)


def _grouped(y: Array, groups: int) -> Array:
    """(n, oh, ow, filters) -> (groups, n · oh · ow, filters / groups)."""
    return y.reshape(y[..., 0].size, groups, y.shape[3] // groups).transpose(1, 0, 2)


def _joined(product: Array, shape: tuple[int, ...]) -> Array:
    """(groups, n · oh · ow, filters / groups) -> (n, oh, ow, filters)."""
    groups, _, filters = product.shape
    return product.transpose(1, 0, 2).reshape(*shape, groups * filters)
