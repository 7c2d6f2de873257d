"""The convolutional layer: (n, height, width, channels) in and out.

The arithmetic is in `funcnn.conv_strided`, to be read, and in `funcnn.arrays`, to be fast; here are the settings, the
shapes and the contract.
"""

import math
from types import ModuleType
from typing import Any, ClassVar, Literal, get_args

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import conv_strided
from funcnn.arrays import conv_rows, conv_winograd
from funcnn.arrays.conv_choice import fastest
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.geometry import Geometry, Padding, Size
from funcnn.arrays.layout import by_rows, channel_rows, sum_channels
from funcnn.checks import check_dy, check_input, check_residuals
from funcnn.init import Initializer, check_initializer, he_normal, zeros
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, make_layer
from funcnn.nn.filters import ConvParams, Filters
from funcnn.nn.image_settings import check_padding, check_size, image_geometry, pair, short, sides
from funcnn.settings import check_choice, check_flag, config, count
from funcnn.tree import Array, Shape

__all__ = ["Conv2d", "conv2d", "conv_apply", "conv_backward", "conv_init"]

Algorithm = Literal["auto", "plain", "strided", "winograd"]


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
    """Each filter's kernel laid on every window of an image: (n, h, w, c) -> (n, oh, ow, filters).

        y[n, i, j, o] = bias[o] + Σ_{k, l, c} x[n, i·s + k·d - top, j·s + l·d - left, c] · weight[k, l, c, o]
        oh = floor((h + top + bottom - (kh - 1)·d - 1) / s) + 1, ow alike

    where x counts as zero beyond its edge (LeCun et al. 1989; as everywhere in this field a cross-correlation: the
    kernel is not flipped). ``params.weight`` (kh, kw, c / groups, filters), ``params.bias`` (filters,) or None.

    Sizes are an int or (height, width): the kernel's (kh, kw), the stride s from one window to the next, the dilation d
    from one tap of the kernel to the next. `padding`: "valid" (none), "same" (oh = ceil(h / s), the odd pixel at the
    bottom and right), an int, or ((top, bottom), (left, right)). With `groups`, channels and filters fall into that
    many runs, each reaching its own alone; ``groups=c`` is a depthwise convolution.

    `algorithm` changes the result by rounding alone:

    - "plain": windows and `einsum`, the definition in code, ten times slower (`funcnn.conv_strided`);
    - "strided": a matrix product for each row of the output, of overlapping windows (`funcnn.arrays.conv_rows`);
    - "winograd": half as many products, for kernels of three rows (`funcnn.arrays.conv_winograd`);
    - "auto": the faster of the last two, or if depthwise, four rows together (`funcnn.arrays.conv_depthwise`);
      in float64 never "winograd", and so where a value stands out of its batch
      (is not finite, or over 64 times the root mean square), since Winograd's rounding reaches the rows beside it.

    >>> layer = conv2d(8, 3, stride=2, padding="same")
    >>> params, state, out_shape = layer.init(Key(0), (28, 28, 1))
    >>> params.weight.shape, out_shape
    ((3, 3, 1, 8), (14, 14, 8))

    Raises ValueError for sizes that are not positive, negative padding, filters no multiple of groups, or an algorithm
    that does not fit.
    """
    settings = Conv2d(
        filters, pair(kernel_size), pair(stride), padding, pair(dilation), groups, use_bias, weight_init, bias_init,
        algorithm,
    )  # fmt: skip
    return make_layer(settings, conv_apply, conv_backward, conv_init)


_MODULES = {"plain": conv_strided, "strided": conv_rows, "winograd": conv_winograd}


def _padded_rows(padding: Padding) -> int:
    """The most rows of padding above or below, where they do not follow from the image."""
    if isinstance(padding, str):
        return 0
    return padding if isinstance(padding, int) else max(padding[0])


@config
class Conv2d(Filters):
    """The settings of a convolution."""

    name: ClassVar[str] = "conv2d"
    by_chunks: ClassVar[bool] = True
    filters: int = count()
    kernel_size: Size = attrs.field(validator=check_size, converter=pair)
    stride: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    padding: Padding = attrs.field(default="valid", validator=check_padding, converter=sides)
    dilation: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    groups: int = count(default=1)
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    weight_init: Initializer = attrs.field(default=he_normal(), validator=check_initializer)
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)
    algorithm: Algorithm = attrs.field(default="auto", validator=check_choice(*get_args(Algorithm)))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        rows = self.kernel_size[0], self.stride[0], self.dilation[0]
        if self.algorithm == "winograd" and (rows != (3, 1, 1) or _padded_rows(self.padding) > 2):
            raise ValueError(
                "conv2d: the Winograd algorithm is for kernels of three rows, with stride and dilation 1 along them "
                f'and at most two rows of padding, got {self!r}. Use algorithm="auto"'
            )

    def arguments(self) -> dict[str, Any]:
        return short(super().arguments(), "kernel_size", "stride", "dilation")

    def geometry(self, in_shape: Shape) -> Geometry:
        geo = image_geometry(self, in_shape, self.kernel_size, self.stride, self.dilation, self.padding)
        self.check_groups(in_shape)
        return geo

    def products(self, geo: Geometry, weight: Array, values: Array, *, spreads: bool = True) -> ModuleType:
        """The module that computes with the values of a batch, x or dy; see `conv_choice.fastest`."""
        if self.algorithm != "auto" and isinstance(values, np.ndarray):
            return _MODULES[self.algorithm]
        return fastest(geo, weight, self.groups, values, spreads=spreads)

    def check(self, params: Any, x: Array) -> None:
        """Raise unless the params are a convolution's, with so many filters of this size, and x is for them."""
        self.check_params(params, (*self.kernel_size, None, self.filters))
        weight = params.weight
        check_input(self, x, (None, None, weight.shape[2] * self.groups), weight.dtype, weight)

    def out_shape(self, in_shape: Shape) -> Shape:
        return (*self.geometry(in_shape).out_size, self.filters)

    def macs(self, in_shape: Shape) -> int:
        return math.prod((*self.out_shape(in_shape), *self.kernel_size, in_shape[2] // self.groups))


def conv_init(settings: Conv2d, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    """A convolution's weight and bias."""
    out_shape = settings.out_shape(in_shape)
    shape = (*settings.kernel_size, in_shape[2] // settings.groups, settings.filters)
    area = math.prod(settings.kernel_size)
    fans = area * shape[2], area * settings.filters // settings.groups
    return Initialised(settings.new_params(key, shape, fans, dtype), None, out_shape)


@underflow_is_zero
def conv_apply(
    settings: Conv2d, params: ConvParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    """y, and x as the residuals."""
    settings.check(params, x)
    geo = settings.geometry(x.shape[1:])
    x = by_rows(x)  # once, for backward too
    y = settings.products(geo, params.weight, x).conv_forward(x, params.weight, geo, settings.groups, params.bias)
    return Applied(y, state, x if train else None)


@underflow_is_zero
def conv_backward(
    settings: Conv2d, params: ConvParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    """The gradients of weight and bias, and dx."""
    x = check_residuals(settings, residuals, np.ndarray)
    settings.check(params, x)
    geo = settings.geometry(x.shape[1:])
    check_dy(settings, dy, (len(x), *geo.out_size, settings.filters), x.dtype)
    # A weight meets every pixel of its channel: there a value that stands out is in the result in any case.
    products = settings.products(geo, params.weight, x, spreads=False)
    weight = products.conv_weight_gradient(x, dy, geo, settings.groups)
    bias = sum_channels(channel_rows(dy)).astype(dy.dtype) if params.bias is not None else None
    dx = None
    if need_dx:
        products = settings.products(geo, params.weight, dy)
        dx = products.conv_input_gradient(dy, params.weight, geo, settings.groups)
    return Gradients(ConvParams(weight, bias), dx)
