"""`to_onnx`: a trained net as an ONNX file, which other runtimes predict with."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.checks import check_shape, is_several
from funcnn.interop.onnx_combinators import COMBINATORS
from funcnn.interop.onnx_elementwise import ELEMENTWISE
from funcnn.interop.onnx_features import FEATURES
from funcnn.interop.onnx_graph import Exporter, Graph, Value, Values, load_onnx, shapes
from funcnn.interop.onnx_images import IMAGES
from funcnn.interop.onnx_preprocess import preprocessed
from funcnn.interop.onnx_sequences import SEQUENCES
from funcnn.layer import Layer
from funcnn.model_file import Trained
from funcnn.settings import refuse
from funcnn.system.files import as_path, write_bytes

__all__ = ["OPSET", "to_onnx"]

OPSET = 20  # the first with Gelu; ONNX 1.15, onnxruntime 1.17
_IR_VERSION = 9  # of the file's format, as old as the opset: later ones are refused by runtimes of its time
_LARGEST = 2**31 - 1  # bytes of a protobuf message
_TABLE: dict[type, Exporter] = ELEMENTWISE | IMAGES | FEATURES | SEQUENCES | COMBINATORS


def to_onnx(
    trained: Trained,
    path: str | os.PathLike[str],
    *,
    softmax: bool = False,
    preprocess: bool = True,
    exporters: Mapping[str, Exporter] | None = None,
) -> None:
    """Write a trained net as an ONNX file (opset 20) that predicts as it does, for batches of any size.

    ``input`` is what the net's preprocessing takes, (n, *in_shape) with images as (n, height, width, channels), as
    float32, whatever they are stored as; with ``preprocess=False`` it is what the net takes. Whole numbers, those of a
    vocabulary or a mask, are int64. ``output`` is what the net gives, logits, or with `softmax` probabilities. Several
    are ``input_0``, ``input_1`` and so on. All is computed in float32, with batch norm folded into the weights
    (`funcnn.nn.fold`). The file's metadata have the names of the classes, in_shape and about, as JSON.

    `exporters` are functions for layers, combinators and preprocessings of your own, by their names, each of which
    appends the nodes of one (`funcnn.interop.onnx_graph`): ``exporters={"square": square_to_onnx}``, with

        def square_to_onnx(graph, settings, params, state, x):
            return graph.node("Mul", x, x)

    >>> from tempfile import TemporaryDirectory
    >>> from funcnn import Key
    >>> from funcnn.layers import dense
    >>> from funcnn.train import Model
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> with TemporaryDirectory() as folder:
    ...     to_onnx(Trained(dense(2), Model(params, state), (4,), ("cat", "dog")), f"{folder}/model.onnx")

    The file appears whole or not at all. Raises LayerError for a part of your own without an exporter, or params that
    are not the net's; ModuleNotFoundError without the extra `onnx`; ValueError for more than 2 GB; OSError if it cannot
    be written.
    """
    if not isinstance(trained, Trained):
        refuse("to_onnx", "trained", "a Trained", trained, "Pass load_trained(path), or Trained(net, model, ...)")
    own = {} if exporters is None else exporters
    if not isinstance(own, Mapping) or not all(map(callable, own.values())):
        refuse("to_onnx", "exporters", 'a dictionary of functions such as {"square": square_to_onnx}', exporters)
    as_path("to_onnx", path)
    model = _model(trained, softmax, preprocess, own)
    if model.ByteSize() > _LARGEST:
        raise ValueError(f"to_onnx: the net has {model.ByteSize():,} bytes, and one ONNX file holds {_LARGEST:,}")
    load_onnx().checker.check_model(model, full_check=True)
    write_bytes(path, model.SerializeToString(deterministic=True))


def _model(trained: Trained, softmax: bool, preprocess: bool, own: Mapping[str, Exporter]) -> Any:
    """The file's content."""
    from funcnn import __version__

    net, model, in_shape = trained.net, trained.model, check_shape(trained.net.config, trained.in_shape)
    _check(net, model, in_shape)
    helper, graph = load_onnx().helper, Graph(_TABLE, own)
    x = _inputs(in_shape, "input")
    inputs = _described(x, net.config.vocabulary)
    y = preprocessed(graph, trained.preprocess, x, own) if preprocess and trained.preprocess is not None else x
    y = graph.net(net, model.params, model.state, y)
    outputs = _described(_outputs(graph, _probabilities(graph, y) if softmax else y, "output"), None)
    made = helper.make_graph(graph.nodes, "funcnn", inputs, outputs, graph.constants, doc_string=repr(net))
    file = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION,
        producer_name="funcnn", producer_version=__version__,
    )  # fmt: skip
    metadata = {"classes": trained.classes, "in_shape": in_shape, "about": trained.about}
    helper.set_model_props(file, {name: json.dumps(value) for name, value in metadata.items()})
    return file


def _check(net: Layer, model: Any, in_shape: Any) -> None:
    """Raise LayerError unless the params and the state are the net's: it is applied once, which says where not."""
    dtypes = [leaf.dtype for leaf in tree.flatten(model.params) if leaf.dtype.kind == "f"]
    vocabulary = net.config.vocabulary
    net.apply(model.params, model.state, _zeros(in_shape, vocabulary, dtypes[0] if dtypes else np.float32))


def _zeros(shape: Any, vocabulary: Any, dtype: Any) -> Any:
    """One example of zeros; of several inputs, a tuple."""
    if is_several(shape):
        return tuple([_zeros(each, its, dtype) for each, its in _with_vocabularies(shape, vocabulary)])
    return np.zeros((1, *shape), dtype if vocabulary is None else np.int64)


def _with_vocabularies(each: Any, vocabulary: Any) -> Any:
    """Pairs of the parts of what has several, and the vocabulary of each."""
    return zip(each, vocabulary if isinstance(vocabulary, tuple) else (vocabulary,) * len(each), strict=True)


def _inputs(shape: Any, name: str) -> Values:
    """The values that the graph begins with."""
    if is_several(shape):
        return tuple([_inputs(each, f"{name}_{i}") for i, each in enumerate(shape)])
    return Value(name, shape)


def _outputs(graph: Graph, y: Values, name: str) -> Values:
    """The values that the graph ends with."""
    if type(y) is tuple:
        return tuple([_outputs(graph, each, f"{name}_{i}") for i, each in enumerate(y)])
    return graph.named(graph.to(y, "last"), name)


def _probabilities(graph: Graph, y: Values) -> Value:
    if type(y) is tuple or not y.shape:
        raise ValueError(f"to_onnx: softmax is for a net that gives logits (n, ..., classes), got {shapes(y)}")
    return graph.node("Softmax", y, axis=y.channel_axis)


def _described(values: Values, vocabulary: Any) -> list[Any]:
    """The names, types and shapes of values, whose batch may be of any size."""
    if type(values) is tuple:
        return [each for value, its in _with_vocabularies(values, vocabulary) for each in _described(value, its)]
    onnx = load_onnx()
    kind = onnx.TensorProto.FLOAT if vocabulary is None else onnx.TensorProto.INT64
    return [onnx.helper.make_tensor_value_info(values.name, kind, ["batch", *values.shape])]
