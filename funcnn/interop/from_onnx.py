"""`from_onnx`: a net of this library, with its weights, from an ONNX file.

The graph is gone through node by node: what depends on no input is computed, what an operator does is a layer
(`funcnn.interop.read_nodes`). Then the layers are put one after the other from the output back to the input; where
several values meet, the last one that all of them come from is where they part; the ways between stand side by side.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np

from funcnn.checks import check_shape
from funcnn.compose import parallel, residual, serial
from funcnn.interop.matching import WeightsError
from funcnn.interop.onnx_graph import load_onnx
from funcnn.interop.plan import Flattened, plan_of
from funcnn.interop.read_attention import ATTENTION, Scores, View
from funcnn.interop.read_nodes import READERS
from funcnn.interop.read_values import (
    NO_LAYER,
    Reading,
    Stack,
    Step,
    Unsupported,
    Value,
    channels_first,
    computed,
    in_order,
    sizes_of,
    squeezed,
)
from funcnn.interop.torch import from_torch
from funcnn.layer import Layer
from funcnn.layers import identity
from funcnn.model_file import LARGEST, Trained
from funcnn.settings import refuse, shown
from funcnn.system.text import cut
from funcnn.tree import Array, Shape

__all__ = ["from_onnx"]

_IMAGE_NODES = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
    "InstanceNormalization", "GroupNormalization", "Resize", "DepthToSpace", "Pad",
)  # fmt: skip
# Operators that are met on sizes, which are computed.
_OF_SIZES = ("Shape", "Slice", "Expand", "ConstantOfShape", "Range", "Equal", "Where")
_OLDEST = 11  # opset
_LARGE = 9973  # stands for the batch's size, where no size in the file is it


def from_onnx(
    source: str | os.PathLike[str] | bytes,
    *,
    in_shape: Shape | None = None,
    channels_first: bool | None = None,
    largest: int = LARGEST,
) -> Trained:
    """A net and its weights from an ONNX file, or from its bytes: what onnxruntime predicts, this predicts.

    `in_shape` is an example's shape as here, images (height, width, channels), as outputs are, too; without it, it is
    the file's, which must then be known. `channels_first` says whether the file takes images, or sequences, with the
    channels first, as PyTorch exports them; None: whether its first convolution or pool does, and images otherwise
    unless this library wrote the file.

    It reads convolutions and transposed ones, pools, dense layers (Gemm, MatMul and Add), batch, layer, RMS, group and
    instance norms, activations, gates, embeddings, recurrent layers both ways, self-attention, sums, products and
    concatenations of values that part and meet again, in graphs of one input and one output. Norms may have become
    factors and shifts. Where ways cross, what several of them share is there once in each.
    A Softmax at the end is left out, since a `Trained` gives logits. `largest` is the most values that an example may
    have in any layer, so that a small file cannot ask for all memory.

    >>> from tempfile import TemporaryDirectory
    >>> from funcnn import Key
    >>> from funcnn.compose import serial
    >>> from funcnn.interop import to_onnx
    >>> from funcnn.layers import conv2d, dense, flatten, relu
    >>> from funcnn.train import Model
    >>> net = serial(conv2d(4, 3), relu(), flatten(), dense(2))
    >>> params, state, _ = net.init(Key(0), (8, 8, 3))
    >>> with TemporaryDirectory() as folder:
    ...     to_onnx(Trained(net, Model(params, state), (8, 8, 3), ("cat", "dog")), f"{folder}/net.onnx")
    ...     again = from_onnx(f"{folder}/net.onnx")
    >>> again.net == net, again.classes
    (True, ('cat', 'dog'))

    Raises WeightsError, a ValueError that names every node which cannot be read; ValueError for an input of unknown
    shape; ModuleNotFoundError without the extra `onnx`; FileNotFoundError without a file.
    """
    file = _loaded(source)
    graph = _Graph(file, in_shape, channels_first, largest)
    graph.read()
    if graph.problems:
        raise WeightsError("\n  ".join(["from_onnx: the file has what cannot be read", *graph.problems]))
    if len(graph.reading.flattened) > 1:
        raise WeightsError("from_onnx: some images are flattened with their channels first, and some with them last")
    flattened = cast(Flattened, next(iter(graph.reading.flattened), "channels_first"))
    try:
        built, units = _built(graph.root, graph.output())
        if built and built[-1].name == "softmax":
            built.pop()
        net = built[0] if len(built) == 1 else serial(*built)
        if plan_of(net, graph.root.shape, flattened=flattened).out_order is not None:
            raise WeightsError(
                "from_onnx: the output is an image that is flattened with its channels first: its values would lie in "
                "another order here. Export the model without that flatten, or with the layer that takes it"
            )
        weights = {f"{i}.{name}": array for i, unit in enumerate(units) for name, array in unit.items()}
        model = from_torch(weights, net, graph.root.shape, flattened=flattened)
    except RecursionError:
        raise WeightsError("from_onnx: values part and meet within each other more deeply than can be read") from None
    classes, about = _metadata(file)
    return Trained(net, model, graph.root.shape, classes, about=about)


def _loaded(source: Any) -> Any:
    onnx = load_onnx()
    if not isinstance(source, (bytes, str, os.PathLike)):
        refuse("from_onnx", "source", "a path or bytes", source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such file")
    where = "from_onnx" if isinstance(source, bytes) else os.fspath(source)
    try:
        file = onnx.ModelProto.FromString(source) if isinstance(source, bytes) else onnx.load(where)
        onnx.checker.check_model(
            file if isinstance(source, bytes) else where
        )  # of a path, so that it may be of any size
    except Exception as error:  # of protobuf, of the checker, of files beside it that are missing
        raise WeightsError(f"{where}: damaged, or no ONNX file ({cut(str(error), 200)})") from error
    if isinstance(source, bytes) and any(each.data_location == each.EXTERNAL for each in file.graph.initializer):
        raise WeightsError("from_onnx: weights are in a file beside the one whose bytes these are. Pass its path")
    if _opset(file) < _OLDEST:
        raise WeightsError(f"{where}: written for opset {_opset(file)}; convert it to {_OLDEST} or a later one")
    return file


def _opset(file: Any) -> int:
    return next((each.version for each in file.opset_import if each.domain in ("", "ai.onnx")), 0)


def _metadata(file: Any) -> tuple[list[Any], Any]:
    """What this library's own files say of the classes, and of how a net came to be; nothing in those of others."""
    if file.producer_name != "funcnn":
        return [], None
    try:
        found = {each.key: json.loads(each.value) for each in file.metadata_props}
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"from_onnx: the file's metadata are damaged ({error})") from error
    classes = found.get("classes") or []
    if not isinstance(classes, list):
        raise WeightsError(f"from_onnx: expected a list of classes in the file's metadata, got {shown(classes)}")
    return classes, found.get("about")


# --- The graph, node by node ----------------------------------------------------------------------------------


@attrs.define(init=False)
class _Graph:
    """A file's graph in the course of being read."""

    file: Any
    root: Step
    values: dict[str, Any]
    problems: list[str]
    unmade: set[str]  # outputs of nodes that were read without them
    reading: Reading

    def __init__(self, file: Any, in_shape: Shape | None, first: bool | None, largest: int) -> None:
        onnx = load_onnx()
        self.file, graph = file, file.graph
        self.values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        self.problems, self.unmade = [], set()
        inputs = [each for each in graph.input if each.name not in self.values]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise WeightsError(
                f"from_onnx: expected a graph of one input and one output, got {len(inputs)} and {len(graph.output)}"
            )
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in inputs[0].type.tensor_type.shape.dim]
        sizes = {size for array in self.values.values() for size in array.shape}
        batch = dims[0] if dims and dims[0] else next(size for size in range(_LARGE, 2 * _LARGE) if size not in sizes)
        self.reading = Reading(batch, _opset(file), largest, file.producer_name == "funcnn")
        turned = self._channels_first(inputs[0].name, len(dims)) if first is None else first
        shape = self._in_shape(inputs[0].name, dims[1:], in_shape, turned)
        self.root = Step((), shape)
        self.values[inputs[0].name] = Value(self.root, channels_first(shape) if turned else in_order(shape))

    def _in_shape(self, name: str, dims: list[int | None], in_shape: Shape | None, turned: bool) -> Shape:
        theirs = [*dims[1:], dims[0]] if turned else dims
        if in_shape is None:
            if None in theirs:
                raise ValueError(
                    f"from_onnx: the input {name!r} has sizes that the file does not say, {tuple(dims)} without the "
                    "batch. Pass in_shape, an example's shape with its channels last"
                )
            return cast(Shape, tuple(theirs))
        shape = check_shape(identity().config, in_shape)
        fits = len(shape) == len(theirs) and all(its in (None, size) for its, size in zip(theirs, shape, strict=True))
        if not fits:
            raise ValueError(
                f"from_onnx: in_shape {shape} is not that of the input {name!r}, which is {tuple(dims)} "
                f"with the channels {'first' if turned else 'last'}. Pass the shape with the channels last"
            )
        return shape

    def _channels_first(self, name: str, rank: int) -> bool:
        """Whether an input has its channels first, by what it meets first."""
        names, images = {name}, rank == 4 and self.file.producer_name != "funcnn"
        for node in self.file.graph.node:
            if not names & {*node.input} or rank not in (3, 4) or node.op_type == "Shape":
                continue
            if node.op_type in _IMAGE_NODES:
                return True
            if node.op_type == "Transpose":
                perm = next((list(each.ints) for each in node.attribute if each.name == "perm"), [])
                return perm not in ([0, 3, 1, 2], [0, 2, 1]) and images
            if node.op_type not in ("Identity", "Cast", "Sub", "Add", "Mul", "Div", "Dropout", "Relu"):
                return images
            names |= {*node.output}
        return images

    def read(self) -> None:
        """Go through all nodes; what cannot be read is in `problems`, and what depends on it is left out."""
        for node in self.file.graph.node:
            if lost := self.unmade & {*node.input}:
                self.problems.append(f"{_place(node)}: it takes {lost.pop()!r}, which no layer here gives")
                continue
            inputs = [self.values.get(name, ()) if name else None for name in node.input]
            if any(isinstance(each, tuple) for each in inputs):  # of a node that could not be read
                if node.op_type not in READERS and node.op_type not in _OF_SIZES:
                    self.problems.append(f"{_place(node)}: {NO_LAYER}")
                continue
            try:
                made = self._made(node, inputs)
                made = made if isinstance(made, list) else [made]
                for value in made:
                    self._check_size(value)
            except Unsupported as problem:
                self.problems.append(f"{_place(node)}: {problem}")
                continue
            except (ValueError, KeyError, IndexError, TypeError) as error:  # of a layer that such settings do not fit
                self.problems.append(f"{_place(node)}: {error}")
                continue
            self.values |= zip(node.output, made, strict=False)
            self.unmade |= {*node.output[len(made) :]}

    def _check_size(self, value: Any) -> None:
        size = math.prod(value.shape) if isinstance(value, Value) else 0
        if size > self.reading.largest:
            raise Unsupported(
                f"an example has {size:,} values there, more than the {self.reading.largest:,} of which a net is read. "
                f"If you trust the file, pass largest={size}"
            )

    def _made(self, node: Any, inputs: list[Any]) -> Any:
        onnx = load_onnx()
        attributes = {each.name: _plain(onnx.helper.get_attribute_value(each)) for each in node.attribute}
        if node.op_type == "Shape" and isinstance(inputs[0], Value):
            sizes = np.array(sizes_of(inputs[0], self.reading.batch))
            return sizes[attributes.get("start", 0) : attributes.get("end")]
        if node.op_type == "Shape" and isinstance(inputs[0], View):
            return np.array(inputs[0].sizes)[attributes.get("start", 0) : attributes.get("end")]
        if any(isinstance(each, (View, Scores)) for each in inputs):
            if node.op_type not in ATTENTION:
                raise Unsupported("it stands within attention, where it is not known")
            return ATTENTION[node.op_type](self.reading, attributes, *inputs)
        if any(isinstance(each, Stack) for each in inputs) and node.op_type not in ("Gather", "Identity"):
            raise Unsupported("it takes the ends of several recurrent layers, of which only one can be taken")
        if not any(isinstance(each, (Value, Stack)) for each in inputs):
            return computed(self.reading, self.file, node, inputs, attributes)
        if node.op_type not in READERS or node.domain not in ("", "ai.onnx"):
            raise Unsupported(NO_LAYER)
        return READERS[node.op_type](self.reading, attributes, *inputs)

    def output(self) -> Step:
        """The step that the graph's output is."""
        name = self.file.graph.output[0].name
        value = self.values.get(name)
        if value is None:
            raise WeightsError(f"from_onnx: the output is {name!r}, which no layer here gives")
        if isinstance(value, (View, Scores, Stack)):
            raise WeightsError(f"from_onnx: the output {name!r} is no value of a layer here, but a part of one")
        if not isinstance(value, Value):
            raise WeightsError(f"from_onnx: the output {name!r} does not depend on the input")
        if squeezed(value).axes not in (in_order(value.shape), channels_first(value.shape)):
            raise WeightsError(f"from_onnx: the output {name!r} has its axes in the order {value.axes}")
        return value.step


def _plain(value: Any) -> Any:
    """An attribute's value: bytes as texts, numbers of float32 as they were written, 1e-05 and not 9.99999975e-06."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(str(np.float32(value)))
    return value.decode() if isinstance(value, bytes) else value


def _place(node: Any) -> str:
    return f"{node.op_type} {(node.name or next(iter(node.output), ''))!r}"


# --- Layers, put together -------------------------------------------------------------------------------------


def _built(root: Step, target: Step) -> tuple[list[Layer], list[dict[str, Array]]]:
    """The layers from the input to a step, and the tensors of those that have any, both in order."""
    above = _dominators(root, target)
    return _between(root, target, above, iter(range(4 * len(above))))


def _between(
    source: Step, target: Step, above: dict[Step, Step], left: Iterator[int]
) -> tuple[list[Layer], list[dict[str, Array]]]:
    """The layers from one step to another. What ways share is there in each, as long as some steps are `left`."""
    pieces: list[tuple[list[Layer], list[dict[str, Array]]]] = []
    step = target
    while step is not source:
        if next(left, None) is None:
            raise WeightsError(
                "from_onnx: values part and meet in ways that no combinator here has: most layers would be there many "
                "times over"
            )
        if step.layers is None:
            raise WeightsError(
                f"from_onnx: {step.tag[0]!r} is a part of a pattern, whose rest is not one of a layer here"
            )
        if step.join is None:
            pieces.append(([*step.layers], [*step.units]))
            step = step.inputs[0]
            continue
        start = above[step]
        ways = [_between(start, each, above, left) for each in step.inputs]
        pieces.append(([_joined(step.join, [layers for layers, _ in ways])], [unit for _, its in ways for unit in its]))
        step = start
    pieces.reverse()
    return [layer for layers, _ in pieces for layer in layers], [unit for _, units in pieces for unit in units]


def _joined(how: Any, ways: list[list[Layer]]) -> Layer:
    whole = [way[0] if len(way) == 1 else serial(*way) for way in ways]
    if how == "add" and len(ways) == 2 and [] in ways and ways != [[], []]:
        return residual(whole[0] if ways[1] == [] else whole[1])
    return parallel(*whole, combine=how)


def _dominators(root: Step, target: Step) -> dict[Step, Step]:
    """Of each step the last one before it that every way from the root leads through."""
    above: dict[Step, Step] = {}
    depth = {root: 0}
    for step in _ordered(root, target):
        nearest = step.inputs[0]
        for other in step.inputs[1:]:
            while nearest is not other:
                if depth[nearest] >= depth[other]:
                    nearest = above[nearest]
                else:
                    other = above[other]
        above[step], depth[step] = nearest, depth[nearest] + 1
    return above


def _ordered(root: Step, target: Step) -> Iterator[Step]:
    """All steps that a step comes from, each after its inputs."""
    done, todo = {root}, [target]
    while todo:
        step = todo[-1]
        ahead = [each for each in step.inputs if each not in done]
        if ahead:
            todo += ahead
        else:
            todo.pop()
            if step not in done:
                done.add(step)
                yield step
