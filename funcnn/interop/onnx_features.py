"""Dense layers, embeddings, norms and shapes in ONNX."""

import math
from typing import Any

import numpy as np

from funcnn import layers
from funcnn.interop.onnx_graph import Exporter, Graph, Value
from funcnn.nn.fold import Folded, factor_and_shift, kind
from funcnn.nn.layer_norm import NormParams
from funcnn.tree import Array

__all__ = ["FEATURES", "product"]


# --- Products -------------------------------------------------------------------------------------------------


def product(graph: Graph, x: Value, params: Any, label: str = "") -> Value:
    """x · weight + bias of each position's features."""
    x = graph.channels_last(x)
    weight = graph.constant(params.weight, f"{label}weight")
    bias = None if params.bias is None else graph.constant(params.bias, f"{label}bias")
    shape = (*x.shape[:-1], params.weight.shape[1])
    if len(shape) == 1 and bias is not None:
        return graph.node("Gemm", x, weight, bias, shape=shape)
    y = graph.node("MatMul", x, weight, shape=shape)
    return y if bias is None else graph.node("Add", y, bias)


def _dense(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return product(graph, x, params)


def _embedding(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    weight = graph.constant(params.weight, "weight")
    return graph.node("Gather", weight, x, shape=(*x.shape, settings.features))


def _unembedding(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    # The matrix as the embedding has it, so that both are one in the file; turned once, when the file is loaded.
    turned = graph.node("Transpose", graph.constant(params.weight, "weight"), perm=[1, 0])
    x = graph.channels_last(x)
    return graph.node("MatMul", x, turned, shape=(*x.shape[:-1], settings.words))


# --- One number for each position -----------------------------------------------------------------------------


def _added(graph: Graph, x: Value, values: Array, label: str) -> Value:
    """x + values, which have the shape of an example."""
    x = graph.to(x, "last") if x.layout == "time" else x
    moved = np.moveaxis(values, -1, 0) if x.layout == "first" else values
    return graph.node("Add", x, graph.constant(moved, label))


def _position_bias(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return _added(graph, x, params.bias, "bias")


def _position_embedding(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return _added(graph, x, params.weight[: x.shape[0]], "weight")


def _sinusoidal_positions(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    table = layers.sinusoidal_positions(base=settings.base).apply(None, None, np.zeros((1, *x.shape), np.float32)).y[0]
    return _added(graph, x, table, "positions")


# --- Norms ----------------------------------------------------------------------------------------------------


def _scaled(graph: Graph, x: Value, params: NormParams) -> Value:
    """x times the scale and with the shift of each channel, as far as there are."""
    x = graph.images_first(x)
    for op, values, label in (("Mul", params.scale, "scale"), ("Add", params.shift, "shift")):
        x = x if values is None else graph.node(op, x, graph.for_channels(values, x, label))
    return x


def _batch_norm(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    # One that no dense layer or conv2d could take in: outside training it is a factor and a shift.
    factor, shift = factor_and_shift(Folded(layers.batch_norm(epsilon=settings.epsilon), params, state))
    return _scaled(graph, x, NormParams(factor, shift))


def _layer_norm(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    scale = np.ones(x.shape[-1]) if params.scale is None else params.scale
    shift = None if params.shift is None else graph.constant(params.shift, "shift")
    return graph.node(
        "LayerNormalization", graph.channels_last(x), graph.constant(scale, "scale"), shift, epsilon=settings.epsilon
    )


def _rms_norm(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    x = graph.images_first(x)
    squares = graph.node("ReduceMean", graph.node("Mul", x, x), [x.channel_axis], shape=(*x.shape[:-1], 1))
    root = graph.node("Sqrt", graph.node("Add", squares, graph.number(settings.epsilon, squares)))
    return _scaled(graph, graph.node("Div", x, root), params)


def _group_norm(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    # Each group as one channel of an instance norm, the only norm of groups whose scale is for each channel.
    x = graph.to(x, "first")
    groups = settings.groups_of(x.shape[-1])
    rows = graph.node("Reshape", x, [0, groups, math.prod(x.shape) // groups])
    normal = graph.node(
        "InstanceNormalization", rows, np.ones(groups), np.zeros(groups), epsilon=settings.epsilon
    )  # fmt: skip
    return _scaled(graph, graph.node("Reshape", normal, [0, *x.shape[-1:], *x.shape[:-1]]), params)


def _l2_normalize(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return unit_length(graph, x)[0]


def unit_length(graph: Graph, x: Value) -> tuple[Value, Value, Value]:
    """Each example divided by its length, which is the product of the two others; one of zeros stays as it is.

    The largest value is divided by first, so that no square overflows.
    """
    x = graph.to(x, "last")
    axes = [*range(1, 1 + len(x.shape))]
    largest = _one_if_zero(graph, graph.node("ReduceMax", graph.node("Abs", x), axes))
    scaled = graph.node("Div", x, largest)
    length = _one_if_zero(graph, graph.node("ReduceL2", scaled, axes))
    return graph.node("Div", scaled, length), length, largest


def _one_if_zero(graph: Graph, x: Value) -> Value:
    return graph.node("Where", graph.node("Equal", x, graph.number(0, x)), graph.number(1, x), x)


# --- Shapes ---------------------------------------------------------------------------------------------------


def _reshape(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.reshape(x, settings.out_shape(x.shape))


FEATURES: dict[type, Exporter] = {
    kind(layers.dense(1)): _dense,
    kind(layers.embedding(1, 1)): _embedding,
    kind(layers.unembedding(1)): _unembedding,
    kind(layers.position_bias()): _position_bias,
    kind(layers.position_embedding()): _position_embedding,
    kind(layers.sinusoidal_positions()): _sinusoidal_positions,
    kind(layers.batch_norm()): _batch_norm,
    kind(layers.layer_norm()): _layer_norm,
    kind(layers.rms_norm()): _rms_norm,
    kind(layers.group_norm(1)): _group_norm,
    kind(layers.instance_norm()): _group_norm,
    kind(layers.l2_normalize()): _l2_normalize,
    kind(layers.flatten()): _reshape,
    kind(layers.reshape(())): _reshape,
}
