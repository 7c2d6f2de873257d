"""Combinators in ONNX: nothing but the nodes of their layers, and those that join them.

What `fold` takes away needs no exporter: `repeat`, `tied`, `frozen`, `remat`, dropout and noise.
"""

from collections.abc import Iterator
from functools import reduce
from itertools import islice
from typing import Any

from funcnn import compose, layers
from funcnn.interop.onnx_graph import Exporter, Graph, Value, Values
from funcnn.interop.onnx_sequences import recurrent_from
from funcnn.layer import Layer
from funcnn.nn.combining import place
from funcnn.nn.fold import kind
from funcnn.nn.recurrent import Recurrent

__all__ = ["COMBINATORS"]


def _serial(graph: Graph, settings: Any, params: Any, state: Any, x: Values) -> Values:
    for i, layer in enumerate(settings.layers):
        with place(settings.name, i):
            x = graph.net(layer, params[i], state[i], x, i)
    return x


def _residual(graph: Graph, settings: Any, params: Any, state: Any, x: Values) -> Values:
    with place(settings.name):
        return _sum(graph, x, graph.net(settings.layer, params, state, x))


def _sum(graph: Graph, x: Values, y: Values) -> Values:
    if type(x) is tuple:
        return tuple([_sum(graph, *each) for each in zip(x, y, strict=True)])
    return graph.node("Add", *graph.alike(x, y))


def _chunked(graph: Graph, settings: Any, params: Any, state: Any, x: Values) -> Values:
    with place(settings.name):
        return graph.net(settings.layer, params, state, x)


# --- Several values -------------------------------------------------------------------------------------------


def _join(graph: Graph, settings: Any, params: Any, state: Any, x: Values) -> Value:
    return _joined(graph, settings.combine, x)


def _joined(graph: Graph, combine: str, values: tuple[Value, ...]) -> Value:
    first, *others = graph.alike(*values)
    if combine == "concat":
        shape = (*first.shape[:-1], sum([each.shape[-1] for each in values]))
        return graph.node("Concat", first, *others, shape=shape, axis=first.channel_axis)
    op = {"add": "Add", "mean": "Add", "multiply": "Mul"}[combine]
    y = reduce(lambda one, other: graph.node(op, one, other), others, first)
    return graph.node("Div", y, graph.number(len(values), y)) if combine == "mean" else y


def _parallel(graph: Graph, settings: Any, params: Any, state: Any, x: Values) -> Values:
    values = _each(graph, settings, params, state, (x,) * len(settings.layers))
    return values if settings.combine == "tuple" else _joined(graph, settings.combine, values)


def _each(graph: Graph, settings: Any, params: Any, state: Any, xs: Values) -> Values:
    made = []
    for i, (layer, x) in enumerate(zip(settings.layers, xs, strict=True)):
        with place(settings.name, i):
            made.append(graph.net(layer, params[i], state[i], x, i))
    return tuple(made)


def _dense_connections(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    for i, layer in enumerate(settings.layers):
        with place(settings.name, i):
            x = _joined(graph, "concat", (x, graph.net(layer, params[i], state[i], x, i)))
    return x


# --- carried --------------------------------------------------------------------------------------------------

_IN_ORDER = (kind(compose.serial()), kind(compose.repeat(layers.identity(), 1)))


def _carried(graph: Graph, settings: Any, params: Any, state: Any, x: Values) -> Values:
    sequence, *carry = x
    ends: list[Value] = []
    with place(settings.name):
        y = _from_carry(graph, settings.layer, params, state, sequence, iter(carry), ends)
    return (y, *ends)


def _from_carry(
    graph: Graph, layer: Layer, params: Any, state: Any, x: Any, carry: Iterator[Value], ends: list[Value]
) -> Any:
    """A layer from its part of the carry on; `ends` gets what that has become."""
    settings: Any = layer.config
    if isinstance(settings, Recurrent):
        y, its = recurrent_from(graph, settings, params, x, list(islice(carry, settings.carry)))
        ends += its
        return y
    if not isinstance(settings, _IN_ORDER):
        return graph.net(layer, params, state, x)
    for i, child in enumerate(settings.children):
        with place(settings.name, i):
            x = _from_carry(graph, child, params[i], state[i], x, carry, ends)
    return x


COMBINATORS: dict[type, Exporter] = {
    kind(compose.serial()): _serial,
    kind(compose.residual(layers.identity())): _residual,
    kind(compose.chunked(layers.identity(), 1)): _chunked,
    kind(compose.join("add")): _join,
    kind(compose.parallel(layers.identity())): _parallel,
    kind(compose.branches(layers.identity())): _each,
    kind(compose.dense_connections(layers.identity())): _dense_connections,
    kind(compose.carried(layers.rnn(1))): _carried,
}
