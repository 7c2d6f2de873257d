"""Convolution along time: sequences (n, time, channels) as images of one column."""

from funcnn.arrays.geometry import Geometry
from funcnn.arrays.plain import convolution
from funcnn.tree import Array

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient"]


def conv_forward(x: Array, weight: Array, geo: Geometry, groups: int, bias: Array | None = None) -> Array:
    """y (n, out, filters) of x (n, time, channels) and weight (taps, channels / groups, filters)."""
    return convolution.conv_forward(x[:, :, None], weight[:, None], geo, groups, bias)[:, :, 0]


def conv_weight_gradient(x: Array, dy: Array, geo: Geometry, groups: int) -> Array:
    """dweight (taps, channels / groups, filters)."""
    return convolution.conv_weight_gradient(x[:, :, None], dy[:, :, None], geo, groups)[:, 0]


def conv_input_gradient(dy: Array, weight: Array, geo: Geometry, groups: int) -> Array:
    """dx (n, time, channels)."""
    return convolution.conv_input_gradient(dy[:, :, None], weight[:, None], geo, groups)[:, :, 0]
