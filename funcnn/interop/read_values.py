"""What the reader of an ONNX graph knows of a value: the layers that make it, and how its axes lie."""

import math
from collections.abc import Callable
from typing import Any, Literal

import attrs
import numpy as np

from funcnn.interop.onnx_graph import load_onnx
from funcnn.layer import Layer
from funcnn.system.text import cut
from funcnn.tree import Array, Shape

__all__ = [
    "NO_LAYER", "PARTS", "Join", "Reading", "Stack", "Step", "Unsupported", "Value", "apart", "channels_first",
    "check_first", "computed", "constant", "in_order", "sizes_of", "slices_of", "squeezed",
]  # fmt: skip

Join = Literal["add", "multiply", "concat"]
NO_LAYER = "an operator that no layer here is"
_DRAWN = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
PARTS = ("direction", "unit")  # the two axes of which a recurrent node's features are made, both ways


@attrs.define
class Reading:
    """What readers share: the number that stands for the batch's size, the opset, how images were flattened so far.

    In a file that is `ours`, what becomes an image has its channels last. `largest` is the most values that an example
    may have, and the most that constants may grow by; `concats` are the steps that join some others, by these.
    """

    batch: int
    opset: int
    largest: int
    ours: bool = False
    flattened: set[str] = attrs.field(factory=set)
    concats: dict[Any, "Step"] = attrs.field(factory=dict)
    grown: int = 0

    def grow(self, before: int, after: int) -> None:
        """Count the values that constants of a size become; raises Unsupported before a small file fills all memory."""
        self.grown += max(0, after - before)
        if self.grown > self.largest:
            raise Unsupported(
                f"constants become {self.grown:,} values more than the file has, of which {self.largest:,} are made. "
                f"If you trust the file, pass largest={self.grown}"
            )

    def spread(self, array: Array, shape: Shape) -> Array:
        """An array broadcast to a shape."""
        self.grow(array.size, math.prod(shape))
        return np.broadcast_to(array, shape)


class Unsupported(Exception):
    """What cannot be read, as an error is to say it."""


@attrs.frozen(eq=False)
class Step:
    """Layers that make something of one step, or join several; without layers it is part of a pattern, named by `tag`.

    `units` are the tensors of the layers that have any, by PyTorch's names and in its layouts, which are ONNX's too.
    `affine`, given "Mul" or "Add" and a number for each feature, is the step that has taken them in, or None.
    """

    inputs: tuple["Step", ...]
    shape: Shape
    layers: tuple[Layer, ...] | None = ()
    units: tuple[dict[str, Array], ...] = ()
    join: Join | None = None
    tag: tuple[Any, ...] = ()
    affine: Callable[[str, Array], "Step | None"] | None = None

    def then(self, layer: Layer, *units: dict[str, Array], affine: Any = None, shape: Shape | None = None) -> "Step":
        """The step after this one: a layer, and its tensors."""
        shape = layer.config.out_shape(self.shape) if shape is None else shape
        return Step((self,), shape, (layer,), units, affine=affine)

    def part(self, *tag: Any) -> "Step":
        """A part of a pattern that this one is the base of."""
        return Step((self,), self.shape, None, tag=tag)

    def is_layer(self, name: str) -> bool:
        """Whether it is one layer of a name."""
        return self.layers is not None and len(self.layers) == 1 and self.layers[0].name == name


@attrs.frozen(eq=False)
class Value:
    """A step's result as ONNX has it: axis k there is axis ``axes[k]`` here, the batch's being 0.

    -1 stands for an axis of size 1 that there is not here, `PARTS` for the two that are the last one here.
    """

    step: Step
    axes: tuple[Any, ...]

    @property
    def shape(self) -> Shape:
        """An example's shape here."""
        return self.step.shape

    @property
    def last(self) -> int:
        """The axis of the features, here."""
        return len(self.shape)

    def axis(self, given: int) -> Any:
        """Which axis here is one of ONNX's, which may be counted from the end."""
        return self.axes[given]

    def made(self, step: Step) -> "Value":
        """Another step's result, its axes as these."""
        return Value(step, self.axes)


@attrs.frozen(eq=False)
class Stack:
    """Values one after the other along an axis that there is not here, as the ends of several recurrent layers."""

    values: tuple[Value, ...]


def slices_of(x: Value, k: int) -> tuple[Value, ...]:
    """The values that lie along ONNX's axis k, idle or of both directions; none for any other axis."""
    k %= len(x.axes)
    rest = tuple([axis for i, axis in enumerate(x.axes) if i != k])
    if x.axes[k] == -1:
        return (Value(x.step, rest),)
    if x.axes[k] == PARTS[0] and x.step.join == "concat":
        axes = tuple([x.last if axis == PARTS[1] else axis for axis in rest])
        return tuple([Value(step, axes) for step in x.step.inputs])
    return ()


def in_order(shape: Shape) -> tuple[int, ...]:
    """The axes of a value that lies as it does here.

    >>> in_order((28, 28, 1))
    (0, 1, 2, 3)
    """
    return tuple(range(len(shape) + 1))


def channels_first(shape: Shape) -> tuple[int, ...]:
    """The axes of a value that has its channels first.

    >>> channels_first((28, 28, 1))
    (0, 3, 1, 2)
    """
    return (0, len(shape), *range(1, len(shape))) if shape else (0,)


def apart(value: Value, array: Array) -> Array:
    """A constant that meets a value, its axes as they are here and without that of the batch, sizes of 1 kept.

    Raises Unsupported for one that has another size for each example, or for an axis that there is not here.
    """
    array = array.reshape((1,) * (len(value.axes) - array.ndim) + array.shape)
    if array.ndim != len(value.axes) or any(axis in PARTS for axis in value.axes):
        raise Unsupported(f"a constant of shape {array.shape} does not fit a value of {len(value.axes)} axes")
    idle = tuple([k for k, axis in enumerate(value.axes) if axis == -1])
    if any(array.shape[k] != 1 for k in idle):
        raise Unsupported(f"a constant of shape {array.shape} makes a value larger")
    turned: Array = np.squeeze(array, idle).transpose(np.argsort([axis for axis in value.axes if axis != -1]))
    if turned.shape[0] != 1:
        raise Unsupported("a constant has another value for each example of a batch")
    return turned.reshape(turned.shape[1:])


def constant(value: Any) -> Array:
    """An input that must be a constant; raises Unsupported for any other."""
    if isinstance(value, np.ndarray):
        return value
    raise Unsupported("it needs a constant, and gets what the graph computes")


def check_first(x: Value) -> None:
    """Raise Unsupported unless a value has its channels first."""
    if x.axes != channels_first(x.shape):
        raise Unsupported("its channels are not the second axis")


def squeezed(x: Value) -> Value:
    """A value without its idle axes."""
    return Value(x.step, tuple([axis for axis in x.axes if axis != -1]))


def sizes_of(x: Value, batch: int) -> list[int]:
    """The sizes of a value's axes as ONNX has them."""
    here = [batch, *x.shape]
    other = {-1: 1, PARTS[0]: 2, PARTS[1]: here[-1] // 2}
    return [other[axis] if axis in other else here[axis] for axis in x.axes]


# --- Constants --------------------------------------------------------------------------------------------------


def computed(reading: Reading, file: Any, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
    """What a node makes of constants, once it is known how large that will be."""
    onnx = load_onnx()
    from onnx.reference import ReferenceEvaluator

    names = [name or f"none{i}" for i, name in enumerate(node.input)]
    if node.op_type == "Constant":
        return [onnx.numpy_helper.to_array(attributes["value"])] if "value" in attributes else _listed(attributes)
    loops = any(each.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for each in node.attribute)
    if loops or node.domain not in ("", "ai.onnx") or node.op_type in _DRAWN:
        raise Unsupported(NO_LAYER)
    given = {name: each for name, each in zip(names, inputs, strict=True) if each is not None}
    types = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in given.items()
    ]
    made = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    sizes = [onnx.numpy_helper.from_array(each, name) for name, each in given.items() if each.size <= 64]
    graph = onnx.helper.make_graph([node], "constant", types, made, sizes)
    model = onnx.helper.make_model(graph, opset_imports=file.opset_import)
    try:
        after = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output
        its = [each.type.tensor_type for each in after]
        if not all(each.HasField("shape") and all(dim.HasField("dim_value") for dim in each.shape.dim) for each in its):
            raise Unsupported("how much it makes of constants is not known before")
        size = sum(math.prod(dim.dim_value for dim in each.shape.dim) for each in its)
        reading.grow(sum(each.size for each in given.values()), size)
        return ReferenceEvaluator(model).run(None, given)
    except Unsupported:
        raise
    except Exception as error:  # of onnx, for whatever it finds wrong
        raise Unsupported(f"it cannot be computed ({cut(str(error), 200)})") from error


def _listed(attributes: dict[str, Any]) -> list[Array]:
    value = next(iter(attributes.values()))
    return [np.asarray(value, np.float32 if isinstance(np.ravel(value)[0], float) else None)]
