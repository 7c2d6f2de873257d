"""Convolution along time: sequences (n, time, channels) in and out; the arithmetic is in `arrays/conv_sequences.py`."""

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays import conv_sequences, products
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.geometry import Geometry, transposed_geometry
from funcnn.checks import ShapeError, check_dy, check_input, check_residuals
from funcnn.init import Initializer, check_initializer, he_normal, zeros
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, make_layer
from funcnn.nn.filters import ConvParams, Filters
from funcnn.nn.sequence_settings import (
    Padding1d,
    check_padding_1d,
    check_sequence,
    ends,
    sequence_geometry,
    two_sides,
)
from funcnn.settings import as_int, check_flag, config, count, refuse
from funcnn.tree import Array, Shape

__all__ = ["conv1d", "conv_transpose1d"]


def conv1d(
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: Padding1d = "valid",
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = True,
    weight_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Each filter's kernel laid on every window of a sequence: (n, time, c) -> (n, out, filters).

        y[n, i, o] = bias[o] + Σ_{k, c} x[n, i·s + k·d - before, c] · weight[k, c, o]
        out = floor((time + before + after - (taps - 1)·d - 1) / s) + 1

    where x counts as zero beyond its ends; the options as for `conv2d`. `padding`: "valid" (none), "same"
    (out = ceil(time / s), the odd step at the end), "causal" ((taps - 1)·d steps before: no output sees a step after
    its own; van den Oord et al. 2016), an int, or (before, after). With ``groups=c`` it is depthwise.
    ``params.weight`` (kernel_size, c / groups, filters), ``params.bias`` (filters,) or None; PyTorch's weight
    (filters, c / groups, kernel_size) is ``weight.transpose(2, 1, 0)``.

    >>> layer = conv1d(8, 3, padding="causal", dilation=4)
    >>> params, state, out_shape = layer.init(Key(0), (100, 2))
    >>> params.weight.shape, out_shape
    ((3, 2, 8), (100, 8))

    Raises ValueError for sizes that are not positive, padding that is none, or filters no multiple of groups.
    """
    settings = _Conv1d(filters, kernel_size, stride, padding, dilation, groups, use_bias, weight_init, bias_init)
    return make_layer(settings, _conv_apply, _conv_backward, _conv_init)


def conv_transpose1d(
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: Padding1d = "valid",
    output_padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = True,
    weight_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Each step lays the kernels on the output, times its values, and they add: (n, time, c) -> (n, out, filters).

        y[n, i·s + k·d - before, o] += Σ_c x[n, i, c] · weight[k, o, c]      for all i, k
        out = (time - 1)·s + (taps - 1)·d + 1 + output_padding - before - after

    and bias[o] everywhere: `conv_transpose2d` along time, with its options and conventions. dx is the convolution of dy
    with the same weight, and dweight is that convolution's. `padding` is cut from the output: "valid" (nothing), "same"
    (out = time · s), an int, or (before, after). ``params.weight`` (kernel_size, filters / groups, c), ``params.bias``
    (filters,) or None; PyTorch's weight (c, filters / groups, kernel_size) is ``weight.transpose(2, 1, 0)``.

    >>> layer = conv_transpose1d(8, 4, stride=2, padding=1)
    >>> params, state, out_shape = layer.init(Key(0), (50, 16))
    >>> params.weight.shape, out_shape
    ((4, 8, 16), (100, 8))

    Raises ValueError for sizes that are not positive, padding or output padding that is none, or filters no multiple
    of groups.
    """
    settings = _ConvTranspose1d(
        filters, kernel_size, stride, padding, dilation, groups, use_bias, weight_init, bias_init, output_padding
    )
    return make_layer(settings, _transpose_apply, _transpose_backward, _transpose_init)


# --- What both share ------------------------------------------------------------------------------------------


@config
class _OfSequences(Filters):
    by_chunks: ClassVar[bool] = True
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same", "causal")
    filters: int = count()
    kernel_size: int = count()
    stride: int = count(default=1)
    padding: Padding1d = attrs.field(default="valid", validator=check_padding_1d, converter=ends)
    dilation: int = count(default=1)
    groups: int = count(default=1)
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    weight_init: Initializer = attrs.field(default=he_normal(), validator=check_initializer)
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)


def _sum(dy: Array) -> Array:
    """The sum of each channel."""
    return products.column_sums(products.as_rows(dy))


# --- conv1d ---------------------------------------------------------------------------------------------------


@config
class _Conv1d(_OfSequences):
    name: ClassVar[str] = "conv1d"

    def geometry(self, in_shape: Shape) -> Geometry:
        geo = sequence_geometry(self, in_shape, self.kernel_size, self.stride, self.dilation, self.padding)
        self.check_groups(in_shape)
        return geo

    def out_shape(self, in_shape: Shape) -> Shape:
        return (self.geometry(in_shape).out_size[0], self.filters)

    def macs(self, in_shape: Shape) -> int:
        return self.geometry(in_shape).out_size[0] * self.kernel_size * in_shape[1] // self.groups * self.filters

    def checked(self, params: Any, x: Array) -> Geometry:
        """The geometry; raises unless the params are this layer's, and x is for them."""
        self.check_params(params, (self.kernel_size, None, self.filters))
        weight = params.weight
        check_input(self, x, (None, weight.shape[1] * self.groups), weight.dtype, weight)
        return self.geometry(x.shape[1:])


def _conv_init(settings: _Conv1d, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape, taps = settings.out_shape(in_shape), settings.kernel_size
    shape = taps, in_shape[1] // settings.groups, settings.filters
    params = settings.new_params(key, shape, (taps * shape[1], taps * settings.filters // settings.groups), dtype)
    return Initialised(params, None, out_shape)


@underflow_is_zero
def _conv_apply(
    settings: _Conv1d, params: ConvParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    geo = settings.checked(params, x)
    y = conv_sequences.conv_forward(x, params.weight, geo, settings.groups, params.bias)
    return Applied(y, state, x if train else None)


@underflow_is_zero
def _conv_backward(
    settings: _Conv1d, params: ConvParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    x = check_residuals(settings, residuals, np.ndarray)
    geo, groups = settings.checked(params, x), settings.groups
    check_dy(settings, dy, (len(x), geo.out_size[0], settings.filters), x.dtype)
    weight = conv_sequences.conv_weight_gradient(x, dy, geo, groups)
    bias = _sum(dy) if params.bias is not None else None
    dx = conv_sequences.conv_input_gradient(dy, params.weight, geo, groups) if need_dx else None
    return Gradients(ConvParams(weight, bias), dx)


# --- conv_transpose1d -----------------------------------------------------------------------------------------


def _check_output_padding(instance: Any, attribute: Any, value: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 0 <= value < instance.stride:
        refuse(instance.name, attribute.name, f"an int, at least 0 and less than the stride {instance.stride}", value)
    if instance.padding == "same" and value:
        refuse(instance.name, attribute.name, '0 with padding="same", which gives the input\'s length · stride', value)


@config
class _ConvTranspose1d(_OfSequences):
    name: ClassVar[str] = "conv_transpose1d"
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")
    output_padding: int = attrs.field(default=0, validator=_check_output_padding, converter=as_int)

    def geometry(self, in_shape: Shape) -> Geometry:
        """The convolution that takes the output's length to the input's."""
        check_sequence(self, in_shape)
        sides = two_sides(self.padding, self.kernel_size, self.dilation)
        geo = transposed_geometry(
            (in_shape[0], 1), (self.kernel_size, 1), (self.stride, 1), (self.dilation, 1), sides,
            (self.output_padding, 0),
        )  # fmt: skip
        if geo.in_size[0] < 1:
            raise ShapeError(
                repr(self),
                f"its padding {geo.padding[0]} leaves nothing of the output, {geo.padded_size[0]} steps for an input "
                f"{in_shape}",
                "Pad less",
            )
        self.check_groups(in_shape)
        return geo

    def out_shape(self, in_shape: Shape) -> Shape:
        return (self.geometry(in_shape).in_size[0], self.filters)

    def macs(self, in_shape: Shape) -> int:
        return in_shape[0] * in_shape[1] * self.kernel_size * (self.filters // self.groups)

    def checked(self, params: Any, x: Array) -> Geometry:
        """The geometry; raises unless the params are this layer's, and x is for them."""
        self.check_params(params, (self.kernel_size, self.filters // self.groups, None))
        weight = params.weight
        check_input(self, x, (None, weight.shape[2]), weight.dtype, weight)
        return self.geometry(x.shape[1:])


def _transpose_init(
    settings: _ConvTranspose1d, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32
) -> Initialised:
    out_shape, taps = settings.out_shape(in_shape), settings.kernel_size
    shape = taps, settings.filters // settings.groups, in_shape[1]
    # Of a stride's steps each meets a share of the kernel's taps.
    reached_by = max(1, taps * (in_shape[1] // settings.groups) // settings.stride)
    return Initialised(settings.new_params(key, shape, (reached_by, taps * shape[1]), dtype), None, out_shape)


@underflow_is_zero
def _transpose_apply(
    settings: _ConvTranspose1d, params: ConvParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    geo = settings.checked(params, x)
    y = conv_sequences.conv_input_gradient(x, params.weight, geo, settings.groups)
    if params.bias is not None:
        y += params.bias
    return Applied(y, state, x if train else None)


@underflow_is_zero
def _transpose_backward(
    settings: _ConvTranspose1d, params: ConvParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    x = check_residuals(settings, residuals, np.ndarray)
    geo, groups = settings.checked(params, x), settings.groups
    check_dy(settings, dy, (len(x), geo.in_size[0], settings.filters), x.dtype)
    weight = conv_sequences.conv_weight_gradient(dy, x, geo, groups)
    bias = _sum(dy) if params.bias is not None else None
    dx = conv_sequences.conv_forward(dy, params.weight, geo, groups) if need_dx else None
    return Gradients(ConvParams(weight, bias), dx)
