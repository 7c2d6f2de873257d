"""Preprocessing in ONNX: what turns stored examples into a net's inputs, before the first layer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from funcnn.checks import LayerError
from funcnn.data import preprocess
from funcnn.data.preprocess import Preprocess
from funcnn.interop.onnx_features import unit_length
from funcnn.interop.onnx_graph import Exporter, Graph, Value
from funcnn.settings import as_code
from funcnn.system.text import cut

__all__ = ["preprocessed"]


def preprocessed(graph: Graph, function: Preprocess, x: Value, own: Mapping[str, Exporter]) -> Value:
    """Append a preprocessing to the stored examples x; raises LayerError for one that has no exporter."""
    called = getattr(function, "func", function)  # of a partial
    name = str(getattr(called, "name", None) or getattr(called, "__name__", type(called).__name__))
    export = own.get(name) or _PREPROCESS.get(type(function))
    if export is None:
        raise LayerError(
            cut(as_code(function), 200),
            "to_onnx cannot know how a preprocessing of your own is written in ONNX",
            f'Pass a function that appends its nodes: exporters={{"{name}": function}}, with '
            "function(graph, preprocess, None, None, x) -> y; or preprocess=False, for a file that takes its results",
        )
    return graph.exported(export, ("preprocess", name), function, None, None, x)  # type: ignore[no-any-return]


def _rescale(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    return graph.node("Mul", x, graph.number(1 / settings.divisor, x))


def _standardise(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    x = graph.images_first(x)
    centred = graph.node("Sub", x, graph.for_channels(np.array(settings.mean), x, "mean"))
    return graph.node("Mul", centred, graph.for_channels(1 / np.array(settings.deviation), x, "inverse_deviation"))


def _subtract_mean_image(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    mean = -settings(np.zeros((1, *x.shape), np.float32))[0] * settings.divisor
    centred = graph.node("Sub", x, graph.constant(mean, "mean"))
    return graph.node("Mul", centred, graph.number(1 / settings.divisor, x))


def _unit_norm(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    unit, length, largest = unit_length(graph, x)
    share = graph.node("Mul", length, graph.node("Div", largest, graph.number(settings.epsilon, x)))
    return graph.node("Mul", unit, graph.node("Min", share, graph.number(1, x)))


_BY_NAME: dict[str, Exporter] = {
    "rescale": _rescale,
    "standardise": _standardise,
    "subtract_mean_image": _subtract_mean_image,
    "unit_norm": _unit_norm,
}
_PREPROCESS: dict[type, Exporter] = {each: _BY_NAME[each.name] for each in preprocess.KINDS}
