"""Convolutions that look at each channel by itself: `depthwise_conv2d`, and `separable_conv2d` made of it."""

from functools import lru_cache
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.geometry import Geometry, Padding, Size
from funcnn.checks import check_params, check_weight
from funcnn.init import Initializer, check_initializer, he_normal, zeros
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.nn.convolution import Conv2d, conv2d, conv_apply, conv_backward, conv_init
from funcnn.nn.filters import ConvParams
from funcnn.nn.image_settings import check_padding, check_size, image_geometry, pair, short, sides
from funcnn.nn.serial import serial
from funcnn.settings import check_flag, config, count
from funcnn.tree import Array, Shape

__all__ = ["depthwise_conv2d", "separable_conv2d"]


def depthwise_conv2d(
    kernel_size: int | Size,
    multiplier: int = 1,
    *,
    stride: int | Size = 1,
    padding: Padding = "valid",
    dilation: int | Size = 1,
    use_bias: bool = True,
    weight_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """`multiplier` kernels for each channel, that see no other: (n, h, w, c) -> (n, oh, ow, c · multiplier).

        y[n, i, j, c·m + q] = bias[c·m + q] + Σ_{k, l} x[n, i·s + k·d - top, j·s + l·d - left, c] · weight[k, l, 0, ·]

    with m = `multiplier` and q < m, the weight's place as y's: ``conv2d(c * m, kernel_size, groups=c)``, for as many
    channels c as come in.
    Sizes, padding, backward and params are that layer's: weight (kh, kw, 1, c · multiplier), bias (c · multiplier,).

    >>> depthwise_conv2d(3, padding="same").init(Key(0), (28, 28, 16)).params.weight.shape
    (3, 3, 1, 16)

    Raises ValueError for sizes that are not positive or negative padding.
    """
    settings = _DepthwiseConv2d(
        pair(kernel_size), multiplier, pair(stride), padding, pair(dilation), use_bias, weight_init, bias_init
    )
    return make_layer(settings, _depthwise_apply, _depthwise_backward, _depthwise_init)


def separable_conv2d(
    filters: int,
    kernel_size: int | Size,
    *,
    multiplier: int = 1,
    stride: int | Size = 1,
    padding: Padding = "valid",
    dilation: int | Size = 1,
    use_bias: bool = True,
    weight_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """A convolution in two steps, space and then channels: (n, h, w, c) -> (n, oh, ow, filters) (Chollet 2017).

    A `depthwise_conv2d` without bias, which has the kernel, stride, padding and dilation, and a `conv2d` of 1×1, which
    has the filters and the bias, with nothing between. It takes kh·kw·c + c·filters multiply-adds for each number of an
    output's channel, where a convolution takes kh·kw·c·filters.

    >>> separable_conv2d(8, 3, padding="same")
    serial(depthwise_conv2d(kernel_size=3, padding='same', use_bias=False), conv2d(filters=8, kernel_size=1))

    Raises ValueError as those two do.
    """
    return serial(
        depthwise_conv2d(
            kernel_size,
            multiplier,
            stride=stride,
            padding=padding,
            dilation=dilation,
            use_bias=False,
            weight_init=weight_init,
        ),
        conv2d(filters, 1, use_bias=use_bias, weight_init=weight_init, bias_init=bias_init),
    )


# --- Depthwise ------------------------------------------------------------------------------------------------


@config
class _DepthwiseConv2d(Config):
    name: ClassVar[str] = "depthwise_conv2d"
    by_chunks: ClassVar[bool] = True
    kernel_size: Size = attrs.field(validator=check_size, converter=pair)
    multiplier: int = count(default=1)
    stride: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    padding: Padding = attrs.field(default="valid", validator=check_padding, converter=sides)
    dilation: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    weight_init: Initializer = attrs.field(default=he_normal(), validator=check_initializer)
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)

    def arguments(self) -> dict[str, Any]:
        return short(super().arguments(), "kernel_size", "stride", "dilation")

    def on(self, in_shape: Shape) -> "_OfChannels":
        """The convolution that this is on examples of a shape; raises ShapeError for those that are no images."""
        image_geometry(self, in_shape, self.kernel_size, self.stride, self.dilation, self.padding)
        return _of_channels(self, in_shape[2])

    def geometry(self, in_shape: Shape) -> Geometry:
        """Where its windows lie on examples of a shape."""
        return self.on(in_shape).geometry(in_shape)

    def of(self, params: Any) -> "_OfChannels":
        """The convolution that this is with such params, which tell the channels."""
        check_params(self, params, ConvParams)
        check_weight(self, "weight", params.weight, (*self.kernel_size, 1, None))
        return _of_channels(self, max(1, params.weight.shape[3] // self.multiplier))

    def out_shape(self, in_shape: Shape) -> Shape:
        return self.on(in_shape).out_shape(in_shape)

    def macs(self, in_shape: Shape) -> int:
        return self.on(in_shape).macs(in_shape)


@config
class _OfChannels(Conv2d):
    """The convolution that a depthwise one is for so many channels. Its errors speak of the layer as it was written."""

    written: Any = None

    def __repr__(self) -> str:
        return repr(self.written)


@lru_cache(maxsize=256)
def _of_channels(settings: _DepthwiseConv2d, channels: int) -> _OfChannels:
    return _OfChannels(
        channels * settings.multiplier, settings.kernel_size, settings.stride, settings.padding, settings.dilation,
        channels, settings.use_bias, settings.weight_init, settings.bias_init, written=settings,
    )  # fmt: skip


def _depthwise_init(
    settings: _DepthwiseConv2d, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32
) -> Initialised:
    return conv_init(settings.on(in_shape), key, in_shape, dtype)


def _depthwise_apply(
    settings: _DepthwiseConv2d, params: ConvParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    return conv_apply(settings.of(params), params, state, x, train=train)


def _depthwise_backward(
    settings: _DepthwiseConv2d, params: ConvParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    return conv_backward(settings.of(params), params, residuals, dy, need_dx=need_dx)
