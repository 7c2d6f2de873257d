"""Activations, gates and softmax in ONNX: most are a node of the same name, in whatever layout x has."""

from typing import Any

import numpy as np

from funcnn import layers
from funcnn.interop.onnx_graph import Exporter, Graph, Value
from funcnn.nn.fold import kind

__all__ = ["ELEMENTWISE"]


def _as(op: str, **attributes: Any) -> Exporter:
    """A layer that is one node, whatever its settings."""

    def export(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
        return graph.node(op, x, **attributes)

    return export


# --- Activations ----------------------------------------------------------------------------------------------


def _scale(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Mul", x, graph.number(settings.factor, x))


def _leaky_relu(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("LeakyRelu", x, alpha=settings.slope)


def _prelu(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    if not settings.per_channel:
        return graph.node("PRelu", x, graph.number(params.slope.item(), x))
    x = graph.images_first(x)
    return graph.node("PRelu", x, graph.for_channels(params.slope, x, "slope"))


def _clip(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Clip", x, np.array(settings.low), np.array(settings.high))


def _soft_shrink(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Shrink", x, lambd=settings.threshold, bias=settings.threshold)


def _hard_shrink(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Shrink", x, lambd=settings.threshold)


def _elu(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Elu", x, alpha=settings.alpha)


def _celu(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Celu", x, alpha=settings.alpha)


def _log_sigmoid(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Neg", graph.node("Softplus", graph.node("Neg", x)))


def _tanh_shrink(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Sub", x, graph.node("Tanh", x))


def _silu(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def _gelu(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Gelu", x, approximate="none" if settings.exact else "tanh")


# --- Along the channels ---------------------------------------------------------------------------------------


def _softmax(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Softmax", x, axis=x.channel_axis)


def _log_softmax(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("LogSoftmax", x, axis=x.channel_axis)


def _pieces(graph: Graph, x: Value, count: int) -> list[Value]:
    """The parts of the channels, in order."""
    shape = (*x.shape[:-1], x.shape[-1] // count)
    return graph.several(
        "Split", x, shapes=[shape] * count, layout=x.layout, axis=x.channel_axis, num_outputs=count
    )  # fmt: skip


def _gate(opened: Exporter) -> Exporter:
    """a · f(b), of the halves of x."""

    def export(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
        a, gate = _pieces(graph, x, 2)
        return graph.node("Mul", a, opened(graph, settings, None, None, gate))

    return export


def _maxout(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Max", *_pieces(graph, x, settings.pieces))


def _gaussian_sample(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    mean, _ = _pieces(graph, x, 2)  # outside training it is the mean
    return mean


ELEMENTWISE: dict[type, Exporter] = {
    kind(layers.relu()): _as("Relu"),
    kind(layers.leaky_relu()): _leaky_relu,
    kind(layers.prelu()): _prelu,
    kind(layers.relu6()): _clip,
    kind(layers.hard_tanh()): _clip,
    kind(layers.hard_sigmoid()): _as("HardSigmoid", alpha=1 / 6, beta=0.5),
    kind(layers.hard_swish()): _as("HardSwish"),
    kind(layers.soft_shrink()): _soft_shrink,
    kind(layers.hard_shrink()): _hard_shrink,
    kind(layers.elu()): _elu,
    kind(layers.selu()): _as("Selu"),
    kind(layers.celu()): _celu,
    kind(layers.sigmoid()): _as("Sigmoid"),
    kind(layers.log_sigmoid()): _log_sigmoid,
    kind(layers.tanh()): _as("Tanh"),
    kind(layers.tanh_shrink()): _tanh_shrink,
    kind(layers.softplus()): _as("Softplus"),
    kind(layers.softsign()): _as("Softsign"),
    kind(layers.silu()): _silu,
    kind(layers.mish()): _as("Mish"),
    kind(layers.gelu()): _gelu,
    kind(layers.scale(1.0)): _scale,
    kind(layers.softmax()): _softmax,
    kind(layers.log_softmax()): _log_softmax,
    kind(layers.glu()): _gate(_as("Sigmoid")),
    kind(layers.swiglu()): _gate(_silu),
    kind(layers.geglu()): _gate(_gelu),
    kind(layers.maxout(2)): _maxout,
    kind(layers.gaussian_sample()): _gaussian_sample,
}
