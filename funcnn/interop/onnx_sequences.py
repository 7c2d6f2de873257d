"""Recurrent layers and attention in ONNX.

Recurrent nodes take sequences time first, (time, n, features), and matrices (1, gates · units, in), the gates in an
order of their own. Attention is products and a softmax.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcnn import layers
from funcnn.interop.onnx_features import product
from funcnn.interop.onnx_graph import Exporter, Graph, Value, Values
from funcnn.nn.fold import kind
from funcnn.nn.recurrent import Recurrent
from funcnn.tree import Array

__all__ = ["SEQUENCES", "recurrent_from"]


# --- Recurrent layers -----------------------------------------------------------------------------------------


class _Node(NamedTuple):
    """How a recurrent layer is called in ONNX, and where its gates come from: the place of each in funcnn."""

    op: str
    gates: tuple[int, ...]
    outputs: int = 2


_NODES = {
    kind(layers.rnn(1)): _Node("RNN", (0,)),
    kind(layers.lstm(1)): _Node("LSTM", (0, 3, 1, 2), outputs=3),  # i, o, f, c of i, f, g, o
    kind(layers.gru(1)): _Node("GRU", (1, 0, 2)),  # z, r, h of r, z, a
}


def recurrent_from(
    graph: Graph, settings: Recurrent, params: Any, x: Value, carry: Sequence[Value]
) -> tuple[Value, list[Value]]:
    """A recurrent layer that begins with a carry, (h,) or (h, c): what it gives, and the carry after.

    Without one it begins with zeros, and gives none.
    """
    its, units = _NODES[type(settings)], settings.units

    def by_gate(array: Array) -> Array:
        """(..., gates · units) with the gates in ONNX's order, and turned: (1, gates · units, ...)."""
        return np.concatenate([array[..., gate * units : (gate + 1) * units] for gate in its.gates], axis=-1).T[None]

    # Two biases: one is added to x · weight, the other to h · recurrent_weight, which matters to a gru's candidate.
    bias, recurrent_bias = by_gate(params.bias), np.zeros((1, len(params.bias)))
    how: dict[str, Any] = {"hidden_size": units, "direction": "reverse" if settings.reverse else "forward"}
    if its.op == "GRU":
        recurrent_bias[:, -units:] = params.candidate_bias
        how["linear_before_reset"] = 1
    if its.op == "RNN":
        how["activations"] = ["Tanh" if settings.activation == "tanh" else "Relu"]  # type: ignore[attr-defined]
    outputs, *ends = graph.several(
        its.op,
        graph.to(x, "time"),
        graph.constant(by_gate(params.weight), "weight"),
        graph.constant(by_gate(params.recurrent_weight), "recurrent_weight"),
        graph.constant(np.concatenate([bias, recurrent_bias], axis=1), "bias"),
        None,  # all sequences are of one length
        *[graph.node("Unsqueeze", each, [0]) for each in carry],
        shapes=[(x.shape[0], units), *[(units,)] * (its.outputs - 1)],
        **how,
    )
    after = [graph.node("Squeeze", each, [0]) for each in ends[: max(len(carry), settings.only_last)]]
    y = after[0] if settings.only_last else graph.node("Squeeze", outputs, [1], layout="time")
    return y, after if carry else []


def _recurrent(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return recurrent_from(graph, settings, params, x, ())[0]


# --- Attention ------------------------------------------------------------------------------------------------


def _attention(graph: Graph, settings: Any, params: Any, state: Any, x: Values) -> Value:
    """o = softmax(q · kᵀ / √d) · v of each head, and a product of all heads' together."""
    sequences = [graph.to(each, "last") for each in (x if type(x) is tuple else (x,))]
    mask = sequences.pop() if settings.masked else None
    makes = settings.makes.items()
    q, k, v = [
        each
        for sequence, (name, count) in zip(sequences, makes, strict=True)
        for each in _heads(graph, settings, product(graph, sequence, getattr(params, name), f"{name}."), count)
    ]
    if settings.rotary:
        q, k = _turned_by_position(graph, q), _turned_by_position(graph, k)
    heads, time, size = q.shape
    keys = graph.node("Transpose", k, perm=[0, 1, 3, 2])
    scores = graph.node("MatMul", q, keys, shape=(heads, time, k.shape[1]))
    scores = graph.node("Mul", scores, graph.number(1 / math.sqrt(size), scores))
    visible = _visible(graph, settings, mask, scores.shape)
    if visible is not None:
        # Finite, so that a row that may look at nothing gives no NaN; what is masked is then set to 0 below.
        scores = graph.node("Where", visible, scores, graph.number(-1e30, scores), shape=scores.shape)
    weights = graph.node("Softmax", scores, axis=-1)
    if mask is not None:
        weights = graph.node("Where", visible, weights, graph.number(0, scores), shape=scores.shape)
    each = graph.node("MatMul", weights, v, shape=q.shape)
    together = graph.node("Transpose", each, perm=[0, 2, 1, 3], shape=(time, heads, size))
    return product(graph, graph.reshape(together, (time, heads * size)), params.out, "out.")


def _heads(graph: Graph, settings: Any, made: Value, count: int) -> list[Value]:
    """(n, time, count · heads · d) as `count` values (n, heads, time, d)."""
    time, width = made.shape
    parts = [made]
    if count > 1:
        parts = graph.several("Split", made, shapes=[(time, width // count)] * count, axis=-1, num_outputs=count)
    apart = [graph.reshape(part, (time, settings.heads, width // count // settings.heads)) for part in parts]
    return [
        graph.node("Transpose", each, perm=[0, 2, 1, 3], shape=(settings.heads, time, each.shape[-1])) for each in apart
    ]


def _turned_by_position(graph: Graph, x: Value) -> Value:
    """x · cos + (x with its halves exchanged) · sin, as `funcnn.arrays.rotary` has it: (n, heads, time, d)."""
    _, time, size = x.shape
    angles = np.outer(np.arange(time), 10000.0 ** (-np.arange(size // 2) / (size // 2)))
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = graph.several("Split", x, shapes=[(*x.shape[:2], size // 2)] * 2, axis=-1, num_outputs=2)
    exchanged = graph.node("Concat", second, first, shape=x.shape, axis=-1)
    straight = graph.node("Mul", x, graph.constant(np.concatenate([cos, cos], axis=1), "cos"))
    return graph.node(
        "Add", straight, graph.node("Mul", exchanged, graph.constant(np.concatenate([-sin, sin], axis=1), "sin"))
    )


def _visible(graph: Graph, settings: Any, mask: Value | None, shape: Any) -> Value | None:
    """Where a position may look, as booleans to go with scores (n, heads, time, time2); None: everywhere."""
    _, time, keys = shape
    before = graph.constant(np.tri(time, keys, dtype=bool), "causal") if settings.causal else None
    if mask is None:
        return before
    seen = graph.node("Cast", mask, to=9)  # to booleans
    seen = graph.node("Unsqueeze", seen, [1, 2], shape=(1, 1, keys))
    return seen if before is None else graph.node("And", seen, before, shape=(1, time, keys))


SEQUENCES: dict[type, Exporter] = {
    **dict.fromkeys(_NODES, _recurrent),
    kind(layers.self_attention(1)): _attention,
    kind(layers.cross_attention(1)): _attention,
}
