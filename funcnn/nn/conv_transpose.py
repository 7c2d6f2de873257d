"""The transposed convolution: (n, height, width, channels) in and out, larger by the stride.

It is the input gradient of `conv2d` taken as a layer, and `conv2d` is its own: the same three functions in other roles.

    conv2d              forward: conv_forward             dx: conv_input_gradient      dweight: (x, dy)
    conv_transpose2d    forward: conv_input_gradient      dx: conv_forward             dweight: (dy, x)
"""

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.conv_choice import fastest
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.geometry import Geometry, Padding, Size, transposed_geometry
from funcnn.arrays.layout import by_rows, channel_rows, sum_channels
from funcnn.checks import ShapeError, check_dy, check_input, check_residuals
from funcnn.init import Initializer, check_initializer, he_normal, zeros
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, make_layer
from funcnn.nn.filters import ConvParams, Filters
from funcnn.nn.image_settings import check_padding, check_size, image_geometry, pair, short, sides
from funcnn.settings import check_flag, config, count, refuse
from funcnn.tree import Array, Shape

__all__ = ["conv_transpose2d"]


def conv_transpose2d(
    filters: int,
    kernel_size: int | Size,
    *,
    stride: int | Size = 1,
    padding: Padding = "valid",
    output_padding: int | Size = 0,
    dilation: int | Size = 1,
    groups: int = 1,
    use_bias: bool = True,
    weight_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Each pixel lays the kernels on the output, times its values, and they add: (n, h, w, c) -> (n, oh, ow, filters).

        y[n, i·s + k·d - top, j·s + l·d - left, o] += Σ_c x[n, i, j, c] · weight[k, l, o, c]      for all i, j, k, l
        oh = (h - 1)·s + (kh - 1)·d + 1 + output_padding - top - bottom, ow alike

    and bias[o] everywhere; what would lie beyond the edge of y is dropped (Zeiler et al. 2010, "deconvolution").
    Backward: dx is the convolution of dy with the same weight, stride, padding and dilation (`conv2d`), and dweight is
    that convolution's, dy in the place of its input and x in that of its output's gradient.

    ``params.weight`` (kh, kw, filters / groups, c), as in Keras; ``params.bias`` (filters,) or None. PyTorch's weight
    (c, filters / groups, kh, kw) is ``weight.transpose(3, 2, 0, 1)``; the values are then those of its
    ConvTranspose2d.

    Sizes are an int or (height, width). `padding` is cut from the output: "valid" (nothing), "same" (oh = h · s, as in
    Keras), an int, or ((top, bottom), (left, right)). `output_padding` is less than the stride: so many rows and
    columns more at the bottom and right, which tells apart the sizes that a convolution with a stride takes to one
    (PyTorch takes one up to the dilation too, for rows of nothing but bias). With "same" there is none.

    A kernel that the stride does not divide covers some pixels more often than others, which shows as a checkerboard
    (Odena et al. 2016): take kernel 4 with stride 2, or `upsample2d` and a convolution.

    >>> layer = conv_transpose2d(8, 4, stride=2, padding=1)
    >>> params, state, out_shape = layer.init(Key(0), (14, 14, 16))
    >>> params.weight.shape, out_shape
    ((4, 4, 8, 16), (28, 28, 8))

    Raises ValueError for sizes that are not positive, padding or output padding that is none, or filters that are no
    multiple of groups.
    """
    settings = _ConvTranspose2d(
        filters, pair(kernel_size), pair(stride), padding, pair(output_padding), pair(dilation), groups, use_bias,
        weight_init, bias_init,
    )  # fmt: skip
    return make_layer(settings, _transpose_apply, _transpose_backward, _transpose_init)


def _check_output_padding(instance: Any, attribute: Any, value: Size) -> None:
    """Raise ValueError unless it is a pair of ints from 0 to below the stride, 0 with padding "same"."""
    whole = len(value) == 2 and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    if not whole or any(not 0 <= each < most for each, most in zip(value, instance.stride, strict=True)):
        expected = f"an int or a pair (height, width), at least 0 and less than the stride {instance.stride}"
        refuse(instance.name, attribute.name, expected, value)
    if instance.padding == "same" and any(value):
        refuse(instance.name, attribute.name, '0 with padding="same", which gives the input\'s size · stride', value)


@config
class _ConvTranspose2d(Filters):
    name: ClassVar[str] = "conv_transpose2d"
    by_chunks: ClassVar[bool] = True
    filters: int = count()
    kernel_size: Size = attrs.field(validator=check_size, converter=pair)
    stride: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    padding: Padding = attrs.field(default="valid", validator=check_padding, converter=sides)
    output_padding: Size = attrs.field(default=(0, 0), validator=_check_output_padding, converter=pair)
    dilation: Size = attrs.field(default=(1, 1), validator=check_size, converter=pair)
    groups: int = count(default=1)
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    weight_init: Initializer = attrs.field(default=he_normal(), validator=check_initializer)
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)

    def arguments(self) -> dict[str, Any]:
        return short(super().arguments(), "kernel_size", "stride", "output_padding", "dilation")

    def geometry(self, in_shape: Shape) -> Geometry:
        """The convolution that takes the output's size to the input's."""
        image_geometry(self, in_shape, (1, 1), (1, 1), (1, 1), "valid")  # its errors for what is no image
        in_size = in_shape[0], in_shape[1]
        geo = transposed_geometry(
            in_size, self.kernel_size, self.stride, self.dilation, self.padding, self.output_padding
        )
        if min(geo.in_size) < 1:
            raise ShapeError(
                repr(self),
                f"its padding {geo.padding} leaves nothing of the output, {geo.padded_size} for an input {in_shape}",
                "Pad less",
            )
        self.check_groups(in_shape)
        return geo

    def check(self, params: Any, x: Array) -> None:
        """Raise unless the params are this layer's, with so many filters of this size, and x is for them."""
        self.check_params(params, (*self.kernel_size, self.filters // self.groups, None))
        weight = params.weight
        check_input(self, x, (None, None, weight.shape[3]), weight.dtype, weight)

    def out_shape(self, in_shape: Shape) -> Shape:
        return (*self.geometry(in_shape).in_size, self.filters)

    def macs(self, in_shape: Shape) -> int:
        return math.prod((*in_shape, *self.kernel_size, self.filters // self.groups))


def _transpose_init(
    settings: _ConvTranspose2d, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32
) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    shape = (*settings.kernel_size, settings.filters // settings.groups, in_shape[2])
    area = math.prod(settings.kernel_size)
    # Of a stride's pixels each meets a share of the kernel's taps.
    reached_by = max(1, area * (in_shape[2] // settings.groups) // math.prod(settings.stride))
    return Initialised(settings.new_params(key, shape, (reached_by, area * shape[2]), dtype), None, out_shape)


@underflow_is_zero
def _transpose_apply(
    settings: _ConvTranspose2d, params: ConvParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    settings.check(params, x)
    geo, groups = settings.geometry(x.shape[1:]), settings.groups
    x = by_rows(x)  # once, for backward too
    products = fastest(geo, params.weight, groups, x)
    y = products.conv_input_gradient(x, params.weight, geo, groups, params.bias)
    return Applied(y, state, x if train else None)


@underflow_is_zero
def _transpose_backward(
    settings: _ConvTranspose2d, params: ConvParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    x = check_residuals(settings, residuals, np.ndarray)
    settings.check(params, x)
    geo, groups = settings.geometry(x.shape[1:]), settings.groups
    check_dy(settings, dy, (len(x), *geo.in_size, settings.filters), x.dtype)
    dy = by_rows(dy)
    products = fastest(geo, params.weight, groups, dy, spreads=False)
    weight = products.conv_weight_gradient(dy, x, geo, groups)
    bias = sum_channels(channel_rows(dy)).astype(dy.dtype) if params.bias is not None else None
    dx = None
    if need_dx:
        dx = fastest(geo, params.weight, groups, dy).conv_forward(dy, params.weight, geo, groups)
    return Gradients(ConvParams(weight, bias), dx)
