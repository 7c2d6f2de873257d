"""Convolutions, pools and resampling in ONNX, of images and of sequences: channels first, (n, channels, ...).

A kernel is (taps, in / groups, filters) in funcnn and (filters, in / groups, taps) in ONNX: its axes reversed, but for
those of the taps. In both a transposed convolution's is the kernel of the convolution that it is the transpose of.
"""

from typing import Any

import numpy as np

from funcnn import layers
from funcnn.arrays.geometry import Geometry, Sides
from funcnn.interop.onnx_graph import Exporter, Graph, Value
from funcnn.nn.fold import kind
from funcnn.tree import Array

__all__ = ["IMAGES"]


# --- Convolutions and pools -----------------------------------------------------------------------------------


def _windows(geo: Geometry, axes: int) -> dict[str, Any]:
    """The attributes that say where windows lie along one axis or two: all begins of the padding, then all ends."""
    sides = geo.padding[:axes]
    return {
        "kernel_shape": [*geo.window[:axes]],
        "strides": [*geo.stride[:axes]],
        "pads": [*[before for before, _ in sides], *[after for _, after in sides]],
    }


def _kernel(graph: Graph, weight: Array) -> Value:
    axes = weight.ndim - 2
    return graph.constant(weight.transpose(axes + 1, axes, *range(axes)), "weight")


def _bias(graph: Graph, bias: Array | None) -> Value | None:
    return None if bias is None else graph.constant(bias, "bias")


def _convolution(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    geo, axes = settings.geometry(x.shape), len(x.shape) - 1
    groups = x.shape[-1] // params.weight.shape[-2]
    return graph.node(
        "Conv", graph.to(x, "first"), _kernel(graph, params.weight), _bias(graph, params.bias),
        shape=settings.out_shape(x.shape), group=groups, dilations=[*geo.dilation[:axes]], **_windows(geo, axes),
    )  # fmt: skip


def _transposed_convolution(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    geo, axes = settings.geometry(x.shape), len(x.shape) - 1  # that of the convolution back: its windows are x's pixels
    more = [
        geo.padded_size[i] - (x.shape[i] - 1) * geo.stride[i] - (geo.window[i] - 1) * geo.dilation[i] - 1
        for i in range(axes)
    ]
    return graph.node(
        "ConvTranspose", graph.to(x, "first"), _kernel(graph, params.weight), _bias(graph, params.bias),
        shape=settings.out_shape(x.shape), group=settings.groups, dilations=[*geo.dilation[:axes]],
        output_padding=more, **_windows(geo, axes),
    )  # fmt: skip


def _max_pool(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    windows = _windows(settings.geometry(x.shape), len(x.shape) - 1)
    return graph.node("MaxPool", graph.to(x, "first"), shape=settings.out_shape(x.shape), **windows)


def _avg_pool(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    windows = _windows(settings.geometry(x.shape), len(x.shape) - 1)
    return graph.node(
        "AveragePool", graph.to(x, "first"), shape=settings.out_shape(x.shape), count_include_pad=0, **windows
    )


def _over_positions(op: str) -> Exporter:
    """What makes one number of all positions of a channel."""

    def export(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
        axes = [*range(2, 1 + len(x.shape))]
        return graph.node(op, graph.to(x, "first"), axes, shape=x.shape[-1:], layout="last", keepdims=0)

    return export


# --- Images of another size -----------------------------------------------------------------------------------


def _upsample(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    how: dict[str, Any] = (
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if settings.method == "nearest"
        else {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    )
    factors = np.array([1.0, 1.0, *settings.factor])
    return graph.node("Resize", graph.to(x, "first"), None, factors, shape=settings.out_shape(x.shape), **how)


def _both(sides: int | Sides) -> Sides:
    return ((sides, sides), (sides, sides)) if isinstance(sides, int) else sides


def _zero_pad(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    (top, bottom), (left, right) = _both(settings.padding)
    pads = [0, 0, top, left, 0, 0, bottom, right]
    return graph.node("Pad", graph.to(x, "first"), pads, shape=settings.out_shape(x.shape))


def _crop(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    (top, _), (left, _) = _both(settings.cropping)
    height, width, _ = shape = settings.out_shape(x.shape)
    return graph.node("Slice", graph.to(x, "first"), [top, left], [top + height, left + width], [2, 3], shape=shape)


def _pixel_shuffle(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    # "CRD": the channels of one square lie together, as in PyTorch.
    shape = settings.out_shape(x.shape)
    return graph.node("DepthToSpace", graph.to(x, "first"), shape=shape, blocksize=settings.factor, mode="CRD")


def _pixel_unshuffle(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    h, w, channels = shape = settings.out_shape(x.shape)  # SpaceToDepth has the other order of channels alone
    f, c = settings.factor, x.shape[-1]
    squares = graph.node("Reshape", graph.to(x, "first"), [0, c, h, f, w, f])
    apart = graph.node("Transpose", squares, perm=[0, 1, 3, 5, 2, 4])
    return graph.node("Reshape", apart, [0, channels, h, w], shape=shape)


IMAGES: dict[type, Exporter] = {
    kind(layers.conv2d(1, 1)): _convolution,
    kind(layers.depthwise_conv2d(1)): _convolution,
    kind(layers.conv1d(1, 1)): _convolution,
    kind(layers.conv_transpose2d(1, 1)): _transposed_convolution,
    kind(layers.conv_transpose1d(1, 1)): _transposed_convolution,
    kind(layers.max_pool2d(1)): _max_pool,
    kind(layers.max_pool1d(1)): _max_pool,
    kind(layers.avg_pool2d(1)): _avg_pool,
    kind(layers.avg_pool1d(1)): _avg_pool,
    kind(layers.global_avg_pool2d()): _over_positions("ReduceMean"),
    kind(layers.global_avg_pool1d()): _over_positions("ReduceMean"),
    kind(layers.global_max_pool2d()): _over_positions("ReduceMax"),
    kind(layers.global_max_pool1d()): _over_positions("ReduceMax"),
    kind(layers.upsample2d(1)): _upsample,
    kind(layers.zero_pad2d(1)): _zero_pad,
    kind(layers.crop2d(1)): _crop,
    kind(layers.pixel_shuffle(1)): _pixel_shuffle,
    kind(layers.pixel_unshuffle(1)): _pixel_unshuffle,
}
