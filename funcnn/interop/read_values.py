"""What the reader of an ONNX graph knows of a value: the layers that make it, and how its axes lie."""

from collections.abc import Callable
from typing import Any, Literal

import attrs
import numpy as np

from funcnn.layer import Layer
from funcnn.tree import Array, Shape

__all__ = [
    "PARTS", "Join", "Reading", "Step", "Unsupported", "Value", "apart", "channels_first", "check_first", "constant",
    "in_order", "sizes_of", "squeezed",
]  # fmt: skip

Join = Literal["add", "multiply", "concat"]
PARTS = ("direction", "unit")  # the two axes of which a recurrent node's features are made, both ways


@attrs.define
class Reading:
    """What readers share: the number that stands for the batch's size, the opset, how images were flattened so far.

    In a file that is `ours`, what becomes an image has its channels last.
    """

    batch: int
    opset: int
    ours: bool = False
    flattened: set[str] = attrs.field(factory=set)


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
