"""A graph of ONNX nodes in the making: what an exporter of a layer is given to write with.

An exporter is a layer's ``apply`` with a graph in front of it, `Value` in the place of arrays:

    exporter(graph, settings, params, state, x) -> y

It appends the nodes of the layer as for prediction (``train=False``), and gives the value that they make. Most are a
line: ``graph.node("Relu", x)``.

ONNX has channels first, (n, channels, height, width), and recurrent layers time first, (time, n, features). So a value
says how its axes lie, and is transposed where a node needs it otherwise, once, and never between two convolutions:

    layout "last"     n, *shape                            as in funcnn; in all others are an example's axes moved:
    layout "first"    n, channels, then the positions      convolutions, pools, group norms
    layout "time"     time, n, features                    recurrent layers

Element-wise nodes take any layout. All numbers are float32, whole numbers int64.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np

from funcnn.checks import LayerError
from funcnn.layer import Layer
from funcnn.nn.fold import fold
from funcnn.system.text import cut
from funcnn.tree import Array, Shape

__all__ = ["Exporter", "Graph", "Layout", "Value", "Values", "load_onnx", "shapes"]

Layout = Literal["last", "first", "time"]
Values: TypeAlias = Any  # a Value; or a tuple of them, as a layer's arrays are
Input: TypeAlias = "Value | Array | Sequence[int] | None"
Exporter: TypeAlias = Callable[["Graph", Any, Any, Any, Values], Values]


def load_onnx() -> Any:
    """The package onnx; raises ModuleNotFoundError, naming the extra, where it is missing."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'ONNX files need the package onnx. Install it with pip install "funcnn[onnx]"', name=error.name
        ) from error
    return onnx


@attrs.frozen
class Value:
    """What a node makes: its name in the graph, the shape of an example as in funcnn, and how its axes lie."""

    name: str
    shape: Shape
    layout: Layout = "last"

    @property
    def channel_axis(self) -> int:
        """Where the last axis of an example lies."""
        return 1 if self.layout == "first" else -1


def shapes(values: Values) -> Any:
    """The shapes of values: of a tuple of several, a tuple of theirs."""
    return tuple([shapes(each) for each in values]) if type(values) is tuple else values.shape


def _order(layout: Layout, rank: int) -> list[Any]:
    """The axes of examples of a rank, "n" that of the batch, as they lie in a layout.

    >>> _order("first", 3), _order("time", 2)
    (['n', 2, 0, 1], [0, 'n', 1])
    """
    axes = [*range(rank)]
    if layout == "first":
        return ["n", *axes[-1:], *axes[:-1]]
    return [*axes[:1], "n", *axes[1:]] if layout == "time" else ["n", *axes]


class Graph:
    """Nodes and constants, in the order in which exporters append them.

    `table` has the exporters of this library's layers by the class of their settings, `own` a user's by name.
    """

    def __init__(self, table: Mapping[type, Exporter], own: Mapping[str, Exporter]) -> None:
        self._onnx = load_onnx()
        self._table, self._own = table, own
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: dict[str, int] = {}
        self._constants: dict[Any, str] = {}
        self._turned: dict[tuple[str, Layout], Value] = {}
        self._place: tuple[str, ...] = ()

    # --- What exporters use -----------------------------------------------------------------------------------

    def node(
        self, op: str, *inputs: Input, shape: Shape | None = None, layout: Layout | None = None, **attributes: Any
    ) -> Value:
        """Append a node with one output; its shape and layout are those of its first value, unless given.

        Inputs are values, arrays and lists of ints, which become constants, or None for one that is left out.
        """
        like = next(each for each in inputs if isinstance(each, Value))
        shape = like.shape if shape is None else shape
        return self.several(op, *inputs, shapes=[shape], layout=layout or like.layout, **attributes)[0]

    def several(
        self, op: str, *inputs: Input, shapes: Sequence[Shape], layout: Layout = "last", **attributes: Any
    ) -> list[Value]:
        """Append a node with an output of each of some shapes."""
        made = [Value(self._new(op), shape, layout) for shape in shapes]
        names = [self._name(each) for each in inputs]
        while names[-1] == "":  # an empty name at the end is valid, and crashes some runtimes
            names.pop()
        outputs = [each.name for each in made]
        self.nodes.append(self._onnx.helper.make_node(op, names, outputs, name=outputs[0], **attributes))
        return made

    def constant(self, array: Any, label: str = "constant") -> Value:
        """An array in the file, as float32, int64 or booleans; equal ones, such as tied weights, are there once."""
        array = np.asarray(array)
        array = array.astype(
            {"f": np.float32, "i": np.int64, "u": np.int64}.get(array.dtype.kind, array.dtype), order="C"
        )
        key = array.dtype, array.shape, hashlib.blake2b(array.tobytes()).digest()
        if key not in self._constants:
            self._constants[key] = self._new(label)
            self.constants.append(self._onnx.numpy_helper.from_array(array, self._constants[key]))
        return Value(self._constants[key], array.shape)

    def for_channels(self, array: Array, x: Value, label: str) -> Value:
        """One number for each channel, to be added to a value or multiplied by it."""
        return self.constant(array.reshape(-1, *[1] * (len(x.shape) - 1)) if x.layout == "first" else array, label)

    def number(self, number: float, x: Value) -> Value:
        """A number to be added to a value or multiplied by it, with as many axes.

        Of fewer axes, onnxruntime goes over a last axis of one channel number by number, in fifty times the time.
        """
        return self.constant(np.full((1,) * (1 + len(x.shape)), number, np.float32))

    def images_first(self, x: Value) -> Value:
        """Images with channels first, anything else as it is, for what has a number for each channel.

        Channels are few, and onnxruntime is slow where they are the last axis and a number for each is broadcast.
        """
        return self.to(x, "first") if len(x.shape) == 3 else x

    def reshape(self, x: Value, shape: Shape) -> Value:
        """Each example in another shape, of as many numbers; the last axis varies fastest."""
        return self.node("Reshape", self.to(x, "last"), [0, *shape] if shape else [-1], shape=shape)

    def to(self, x: Value, layout: Layout) -> Value:
        """A value in a layout; it is transposed where it is not, the first time that it is asked for."""
        if x.layout == layout or len(x.shape) < 2:
            return x
        if (x.name, layout) not in self._turned:
            before, after = _order(x.layout, len(x.shape)), _order(layout, len(x.shape))
            made = self.node("Transpose", x, perm=[before.index(axis) for axis in after], layout=layout)
            self._turned[x.name, layout], self._turned[made.name, x.layout] = made, x
        return self._turned[x.name, layout]

    def channels_last(self, x: Value) -> Value:
        """A value whose features are its last axis, for what treats each position by itself."""
        return self.to(x, "last") if x.layout == "first" else x

    def alike(self, *xs: Value) -> list[Value]:
        """Values in one layout."""
        layouts = {x.layout for x in xs}
        layout = "first" if "first" in layouts else xs[0].layout if len(layouts) == 1 else "last"
        return [self.to(x, layout) for x in xs]

    def net(self, layer: Layer, params: Any, state: Any, x: Values, i: int | None = None) -> Values:
        """Append a layer or a whole net, folded for prediction; i is its place in the combinator that holds it.

        Raises LayerError for one that has no exporter, or whose exporter gives another shape than the layer.
        """
        layer, params, state = fold(layer, params, state)
        settings = layer.config
        export = self._own.get(settings.name) or self._table.get(type(settings))
        if export is None:
            raise LayerError(
                cut(repr(layer), 200),
                "to_onnx cannot know how a layer of your own is written in ONNX",
                f'Pass a function that appends its nodes: exporters={{"{settings.name}": function}}, with '
                "function(graph, settings, params, state, x) -> y",
            )
        inside = self._place[:-1] if i is None else (*self._place[:-1], str(i))
        y = self.exported(export, (*inside, settings.name), settings, params, state, x)
        self._check(layer, x, y)
        return y

    def exported(
        self, export: Exporter, place: tuple[str, ...], settings: Any, params: Any, state: Any, x: Values
    ) -> Values:
        """What an exporter makes of x; its nodes and constants are named after a place."""
        outside, self._place = self._place, place
        y = export(self, settings, params, state, x)
        self._place = outside
        return y

    def named(self, x: Value, name: str) -> Value:
        """The same value under a name of its own, as an output of the file."""
        made = Value(name, x.shape, x.layout)
        self.nodes.append(self._onnx.helper.make_node("Identity", [x.name], [name], name=name))
        return made

    # --- Names ------------------------------------------------------------------------------------------------

    def _new(self, label: str) -> str:
        """A name that no other value has: ``3.dense.weight``."""
        name = ".".join([*self._place, label])
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def _name(self, given: Input) -> str:
        if given is None:
            return ""
        return given.name if isinstance(given, Value) else self.constant(given).name

    @staticmethod
    def _check(layer: Layer, x: Values, y: Values) -> None:
        wanted = layer.config.out_shape(shapes(x))
        try:
            got = shapes(y)
        except AttributeError:
            got = type(y).__name__
        if got != wanted:
            fix = "Give graph.node the shape of an example: graph.node(..., shape=...)"
            problem = f"expected its exporter to give a value of shape {wanted}, got {got}"
            raise LayerError(cut(repr(layer), 200), problem, fix)
