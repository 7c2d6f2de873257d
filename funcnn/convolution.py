"""Layers over images: convolution and pooling. (n, height, width, channels) in and out.

The arithmetic is in `conv_strided`, `conv_winograd` and `pooling`; here are the settings, the shapes and the contract.
"""

import math
from types import ModuleType
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import conv_strided, conv_winograd, pooling
from funcnn.conv_windows import Geometry, Padding, Size, images, rows
from funcnn.image_settings import check_padding, check_size, image_geometry, pair, short, sides
from funcnn.init import Initializer, check_initializer, he_normal, zeros
from funcnn.kernels import channel_rows, sum_channels
from funcnn.keys import Key, fold_in
from funcnn.layer import (
    Applied,
    Array,
    Config,
    Gradients,
    Initialised,
    Layer,
    Shape,
    ShapeError,
    check_count,
    check_dy,
    check_flag,
    check_float,
    check_input,
    check_residuals,
    config,
    make_layer,
)
from funcnn.tree import node

__all__ = ["ConvParams", "avg_pool2d", "conv2d", "global_avg_pool2d", "max_pool2d"]


# --- Convolution ----------------------------------------------------------------------------------------------


@node
class ConvParams:
    """weight (kernel height, kernel width, in / groups, out); bias (out,) or None."""

    weight: Array
    bias: Array | None


def _padded_rows(padding: Padding) -> int:
    """The most rows of padding above or below, where they do not follow from the image."""
    if isinstance(padding, str):
        return 0
    return padding if isinstance(padding, int) else max(padding[0])


Algorithm = Literal["auto", "strided", "winograd"]
_ALGORITHMS = "auto", "strided", "winograd"


def _check_algorithm(instance: Any, attribute: Any, value: str) -> None:
    if value not in _ALGORITHMS:
        raise ValueError(f"conv2d: algorithm must be one of {', '.join(map(repr, _ALGORITHMS))}, got {value!r}")


@config
class _Conv2d(Config):
    name: ClassVar[str] = "conv2d"
    by_chunks: ClassVar[bool] = True
    filters: int = attrs.field(validator=check_count)
    kernel_size: Size = attrs.field(validator=check_size, converter=pair)
    stride: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    padding: Padding = attrs.field(default="valid", validator=check_padding, converter=sides)
    dilation: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    groups: int = attrs.field(default=1, validator=check_count)
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    weight_init: Initializer = attrs.field(default=he_normal(), validator=check_initializer)
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)
    algorithm: Algorithm = attrs.field(default="auto", validator=_check_algorithm)

    def __attrs_post_init__(self) -> None:
        rows = self.kernel_size[0], self.stride[0], self.dilation[0]
        if self.algorithm == "winograd" and (rows != (3, 1, 1) or _padded_rows(self.padding) > 2):
            raise ValueError(
                "conv2d: the Winograd algorithm is for kernels of three rows, with stride and dilation 1 along them "
                f'and at most two rows of padding, got {self!r}. Use algorithm="auto"'
            )
        if self.filters % self.groups:
            raise ValueError(
                f"conv2d: filters must be a multiple of groups, got {self.filters} filters, {self.groups} groups"
            )

    def arguments(self) -> dict[str, Any]:
        return short(super().arguments(), "kernel_size", "stride", "dilation")

    def geometry(self, in_shape: Shape) -> Geometry:
        geo = image_geometry(self, in_shape, self.kernel_size, self.stride, self.dilation, self.padding)
        if in_shape[2] % self.groups:
            raise ShapeError(
                repr(self),
                f"expected channels in {self.groups} equal groups, got {in_shape[2]} channels",
                f"Use a number of groups that divides {in_shape[2]}",
            )
        return geo

    def products(self, geo: Geometry, n: int, weight: Array) -> ModuleType:
        """The module that computes the convolution of n images: where Winograd's is faster and as good, that one.

        Both have the same three functions. It is as good in float32 alone, and faster where the products that it
        saves are large (docs/architecture.md).
        """
        if self.algorithm != "auto":
            return conv_winograd if self.algorithm == "winograd" else conv_strided
        inner = weight.shape[1] * weight.shape[2]
        large = inner >= 64 and weight.shape[3] // self.groups >= 32 and geo.out_size[1] * n >= 32
        good = weight.dtype == np.float32 and conv_winograd.fits(geo)
        return conv_winograd if large and good and geo.out_size[0] > 2 else conv_strided

    def out_shape(self, in_shape: Shape) -> Shape:
        return (*self.geometry(in_shape).out_size, self.filters)

    def macs(self, in_shape: Shape) -> int:
        return math.prod((*self.out_shape(in_shape), *self.kernel_size, in_shape[2] // self.groups))


def _conv_init(config: _Conv2d, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = config.out_shape(in_shape)
    shape = (*config.kernel_size, in_shape[2] // config.groups, config.filters)
    area = math.prod(config.kernel_size)
    fans = area * shape[2], area * config.filters // config.groups
    weight = config.weight_init(fold_in(key, "weight"), shape, *fans, dtype)
    bias = config.bias_init(fold_in(key, "bias"), (config.filters,), *fans, dtype) if config.use_bias else None
    return Initialised(ConvParams(weight, bias), None, out_shape)


def _conv_apply(
    config: _Conv2d, params: ConvParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_input(config, x, (None, None, params.weight.shape[2] * config.groups), params.weight.dtype)
    geo = config.geometry(x.shape[1:])
    products = config.products(geo, len(x), params.weight)
    x = images(np.ascontiguousarray(rows(x)))  # once, for backward too
    y = products.conv_forward(x, params.weight, geo, config.groups, params.bias)
    return Applied(y, state, x if train else None)


def _conv_backward(
    config: _Conv2d, params: ConvParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    x = check_residuals(config, residuals)
    geo = config.geometry(x.shape[1:])
    check_dy(config, dy, (len(x), *geo.out_size, config.filters), x.dtype)
    products = config.products(geo, len(x), params.weight)
    weight = products.conv_weight_gradient(x, dy, geo, config.groups)
    bias = sum_channels(channel_rows(dy)).astype(dy.dtype) if params.bias is not None else None
    dx = products.conv_input_gradient(dy, params.weight, geo, config.groups) if need_dx else None
    return Gradients(ConvParams(weight, bias), dx)


def conv2d(
    filters: int,
    kernel_size: int | Size,
    *,
    stride: int | Size = 1,
    padding: Padding = "valid",
    dilation: int | Size = 1,
    groups: int = 1,
    use_bias: bool = True,
    weight_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
    algorithm: Algorithm = "auto",
) -> Layer:
    """y[n, i, j, o] = bias[o] + Σ_{k, l, c} x[n, i·s + k·d - top, j·s + l·d - left, c] · weight[k, l, c, o].

    (n, h, w, c) -> (n, oh, ow, filters), oh = floor((h + top + bottom - (kh - 1)·d - 1) / s) + 1 (LeCun et al.
    1989; as everywhere in this field a cross-correlation: the kernel is not flipped). ``params.weight`` (kh, kw,
    c / groups, filters), ``params.bias`` (filters,) or None.

    `padding`: "valid" (none), "same" (oh = ceil(h / s), the odd pixel at the bottom and right), an int, or
    ((top, bottom), (left, right)). With `groups`, channels and filters fall into that many runs, each reaching its
    own alone; ``groups=c`` is a depthwise convolution.

    `algorithm`: "strided" (stride-tricks windows, `funcnn.conv_strided`), "winograd" (fewer products for kernels of
    three rows, `funcnn.conv_winograd`), or "auto", the faster of the two; in float64 always "strided".

    >>> layer = conv2d(8, 3, stride=2, padding="same")
    >>> params, state, out_shape = layer.init(Key(0), (28, 28, 1))
    >>> params.weight.shape, out_shape
    ((3, 3, 1, 8), (14, 14, 8))

    Raises ValueError for sizes that are not positive, negative padding, filters no multiple of groups, or an algorithm
    that does not fit.
    """
    sizes: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}  # yet to be pairs
    settings = _Conv2d(
        filters, **sizes, padding=padding, groups=groups, use_bias=use_bias, weight_init=weight_init,
        bias_init=bias_init, algorithm=algorithm,
    )  # fmt: skip
    return make_layer(settings, _conv_apply, _conv_backward, _conv_init)


# --- Pooling --------------------------------------------------------------------------------------------------


@config
class _Pool2d(Config):
    window: Size = attrs.field(validator=check_size, converter=pair)
    stride: Size = attrs.field(
        default=attrs.Factory(lambda self: self.window, takes_self=True), validator=check_size, converter=pair
    )
    padding: Padding = attrs.field(default="valid", validator=check_padding, converter=sides)

    def arguments(self) -> dict[str, Any]:
        given = short(super().arguments(), "window", "stride")
        return given if self.stride != self.window else {key: given[key] for key in given if key != "stride"}

    def geometry(self, in_shape: Shape) -> Geometry:
        geo = image_geometry(self, in_shape, self.window, self.stride, (1, 1), self.padding)
        if any(max(sides) >= window for sides, window in zip(geo.padding, self.window, strict=True)):
            raise ShapeError(
                repr(self),
                f"padding {geo.padding} would leave windows without a single real cell",
                f"Pad less than the window {self.window} on each side",
            )
        return geo

    def out_shape(self, in_shape: Shape) -> Shape:
        return (*self.geometry(in_shape).out_size, in_shape[2])


@config
class _MaxPool2d(_Pool2d):
    name: ClassVar[str] = "max_pool2d"
    by_chunks: ClassVar[bool] = True
    takes_maximum: ClassVar[bool] = True


@config
class _AvgPool2d(_Pool2d):
    name: ClassVar[str] = "avg_pool2d"
    by_chunks: ClassVar[bool] = True


@node
class _PoolResiduals:
    winners: pooling.Winners | None
    shape: tuple[int, ...]  # the input's, (n, h, w, c)


def _check_pool(config: _Pool2d, residuals: Any, dy: Array) -> tuple[Any, Geometry]:
    """The residuals and the geometry, if `dy` fits them."""
    kept = check_residuals(config, residuals)
    n, *in_shape = kept.shape
    geo = config.geometry(tuple(in_shape))
    check_dy(config, dy, (n, *geo.out_size, in_shape[2]))
    return kept, geo


def _max_pool_apply(
    config: _MaxPool2d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(config, x)
    y, winners = pooling.max_pool_forward(x, config.geometry(x.shape[1:]), keep_winners=train)
    return Applied(y, state, _PoolResiduals(winners, x.shape) if train else None)


def _max_pool_backward(
    config: _MaxPool2d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept, geo = _check_pool(config, residuals, dy)
    return Gradients(None, pooling.max_pool_backward(dy, kept.winners, geo) if need_dx else None)


def _avg_pool_apply(
    config: _AvgPool2d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(config, x)
    y = pooling.avg_pool_forward(x, config.geometry(x.shape[1:]))
    return Applied(y, state, _PoolResiduals(None, x.shape) if train else None)


def _avg_pool_backward(
    config: _AvgPool2d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    _, geo = _check_pool(config, residuals, dy)
    return Gradients(None, pooling.avg_pool_backward(dy, geo) if need_dx else None)


def max_pool2d(window: int | Size, *, stride: int | Size | None = None, padding: Padding = "valid") -> Layer:
    """The largest value of each window: (n, h, w, c) -> (n, oh, ow, c), sizes as for `conv2d`.

    The stride is the window unless given; windows may overlap. Padded cells count as -inf. The gradient goes to the
    winner, of equal values to the leftmost and of those to the topmost, and adds up where windows share one. The
    residuals are the winners' places along each axis, a byte each.

    >>> max_pool2d(2).apply(None, None, np.arange(16.0).reshape(1, 4, 4, 1)).y[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])

    Raises ValueError for sizes that are not positive or negative padding.
    """
    return make_layer(_MaxPool2d(*_pool_settings(window, stride, padding)), _max_pool_apply, _max_pool_backward)


def avg_pool2d(window: int | Size, *, stride: int | Size | None = None, padding: Padding = "valid") -> Layer:
    """The mean of each window: (n, h, w, c) -> (n, oh, ow, c), sizes as for `conv2d`; padded cells not counted.

    The gradient goes to a window's real cells in equal shares, and adds up where windows overlap.

    >>> avg_pool2d(2).apply(None, None, np.arange(16.0).reshape(1, 4, 4, 1)).y[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])

    Raises ValueError for sizes that are not positive or negative padding.
    """
    return make_layer(_AvgPool2d(*_pool_settings(window, stride, padding)), _avg_pool_apply, _avg_pool_backward)


def _pool_settings(window: int | Size, stride: int | Size | None, padding: Padding) -> tuple[Any, Any, Padding]:
    return window, window if stride is None else stride, padding


@config
class _GlobalAvgPool2d(Config):
    name: ClassVar[str] = "global_avg_pool2d"
    by_chunks: ClassVar[bool] = True

    def out_shape(self, in_shape: Shape) -> Shape:
        image_geometry(self, in_shape, (1, 1), (1, 1), (1, 1), "valid")
        return in_shape[2:]


def _global_avg_apply(
    config: _GlobalAvgPool2d, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(config, x)
    config.out_shape(x.shape[1:])
    return Applied(x.mean(axis=(1, 2)), state, x.shape if train else None)


def _global_avg_backward(
    config: _GlobalAvgPool2d, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    n, h, w, c = check_residuals(config, residuals)
    check_dy(config, dy, (n, c))
    share = (dy * (1 / (h * w)))[:, None, None, :]
    return Gradients(None, np.broadcast_to(share, (n, h, w, c)) if need_dx else None)


def global_avg_pool2d() -> Layer:
    """The mean of each channel: (n, h, w, c) -> (n, c); dx = dy / (h·w) everywhere (Lin et al. 2014).

    >>> global_avg_pool2d().apply(None, None, np.arange(4.0).reshape(1, 2, 2, 1)).y
    array([[1.5]])
    """
    return make_layer(_GlobalAvgPool2d(), _global_avg_apply, _global_avg_backward)
