"""What the tests of `to_onnx` share: trained nets, and what onnxruntime makes of a file."""

from typing import Any

import numpy as np
from cases import Case, ready

from funcnn.interop.onnx_graph import Graph, Value
from funcnn.layer import Layer
from funcnn.model_file import Trained
from funcnn.train import Model


def flat(values: Any) -> list[Any]:
    """The arrays of nested tuples, in order."""
    return [leaf for each in values for leaf in flat(each)] if isinstance(values, tuple) else [values]


def trained(net: Layer, in_shape: Any, dtype: Any = np.float32, **fields: Any) -> Trained:
    """A net with parameters and statistics that are not those it begins with."""
    made = ready(Case(net, in_shape), dtype)
    return Trained(net, Model(made.params, made.state), in_shape, fields.pop("classes", ()), **fields)


def run(path: Any, x: Any) -> list[Any]:
    """What onnxruntime makes of inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([each.name for each in session.get_inputs()], flat(x), strict=True)))


def assert_same(got: list[Any], want: Any) -> None:
    """Assert that all arrays are float32 and agree to 1e-5, relative to the largest value of each."""
    for mine, its in zip(got, flat(want), strict=True):
        assert (mine.shape, mine.dtype) == (its.shape, np.float32)
        assert abs(mine - its).max(initial=0) <= 1e-5 * abs(its).max(initial=0)


def cube_to_onnx(graph: Graph, settings: Any, params: Any, state: Any, x: Value) -> Value:
    """How `own.cube` is written."""
    return graph.node("Mul", x, graph.node("Mul", x, x))
