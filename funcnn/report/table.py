"""The layer table: what each layer gives, learns, costs and keeps."""

import shutil
import sys
from typing import Any, cast

import attrs
import numpy as np

from funcnn import tree
from funcnn.checks import is_several, size_of
from funcnn.keys import Key
from funcnn.layer import Layer, Values
from funcnn.settings import as_code, as_int, as_tuple, refuse
from funcnn.system.devices import has_form
from funcnn.system.text import Screen, Text, columns, cut, text_table
from funcnn.tree import Array, Shape

__all__ = ["TableRow", "count_parameters", "layer_rows", "layer_table", "peak_bytes", "text_table"]

_IN_A_ROW = ("serial", "repeat")  # they have no rows of their own
_AROUND = ("residual", "chunked", "tied", "remat", "frozen")  # around one layer, whose params are theirs
_DESCENDED = (*_AROUND, "parallel", "branches", "dense_connections")  # what their layers are given is known
_LARGEST = 2**26  # numbers in an example
_NARROWEST = 12  # characters that the layers' column keeps however narrow the terminal is


@attrs.frozen
class TableRow:
    """One layer: its place, itself, its output's shape, parameters, multiply-adds and residual bytes per example.

    The place is the path of its params in the net's. The rows of a combinator's layers follow its own, one deeper. The
    combinator's own row counts nothing, so that sums over the rows are the net's. An array that several layers keep is
    in memory once, and counts for the first of them.

    Residuals are what training keeps from the forward pass to the backward pass. `remat` keeps its input, and has
    `again_bytes`: what its layers keep while it is applied again; their own rows count no residuals. The gradients in a
    layer's output and in its input, which are there during its backward pass alone, are its `passing_bytes`.
    """

    place: str
    depth: int
    layer: str
    out_shape: Shape
    parameters: int = 0
    macs: int = 0
    residual_bytes: int = 0
    again_bytes: int = 0
    passing_bytes: int = 0


def peak_bytes(rows: list[TableRow]) -> int:
    """The bytes that training needs for an example at the peak of the backward pass, given the rows of a net.

    All residuals are there, and what the largest `remat` keeps when it is applied again, and the largest gradients in
    passing. What does not grow with the batch comes to it: the parameters, their gradients, an optimizer's moments.

    >>> from funcnn.compose import remat, serial
    >>> from funcnn.layers import dense, relu
    >>> block = serial(dense(8), relu(), dense(8))
    >>> [peak_bytes(layer_rows(net, (8,))) for net in (serial(*[block] * 9), serial(*[remat(block)] * 9))]
    [640, 384]
    """
    largest = (max((getattr(row, name) for row in rows), default=0) for name in ("again_bytes", "passing_bytes"))
    return sum(row.residual_bytes for row in rows) + sum(largest)


def count_parameters(params: Any) -> int:
    """The number of values in a tree of arrays.

    >>> count_parameters((np.zeros((2, 3)), None, np.zeros(3)))
    9

    Raises ValueError for a leaf that is no array.
    """
    leaves = tree.flatten(params)
    for leaf in leaves:
        if not (has_form(leaf) or isinstance(leaf, (np.generic, float, int))):
            refuse(
                "count_parameters", "a leaf", "an array", leaf, "Pass a net's params, net.init(Key(0), in_shape).params"
            )
    return sum(np.size(leaf) for leaf in leaves)


def layer_rows(net: Layer, in_shape: Shape) -> list[TableRow]:
    """The rows of a net's table: a `serial` has none of its own, only its layers'.

    Residual bytes are measured, by applying each layer by itself to the input that it gets in the net. Where `serial`
    pools before a relu that is written first, the net keeps less. Your own combinators have one row, as any layer.

    >>> from funcnn.layers import dense, relu
    >>> from funcnn.compose import serial
    >>> [(row.parameters, row.macs) for row in layer_rows(serial(dense(3), relu()), (4,))]
    [(15, 12), (0, 0)]

    Raises ValueError for what is no layer, or no shape of at most 67 million numbers.
    """
    sizes = _sizes(net, in_shape)
    batch = _zeros(sizes, net.config.vocabulary)
    return _walk(net, "", 0, batch, net.init(Key(0), sizes).params, {})[0]


def _sizes(net: Layer, in_shape: Shape) -> Shape:
    """The shape, if it is one, and not too large to apply a net to two such examples."""
    if not isinstance(net, Layer):
        refuse("layer_rows", "net", "a layer", net)
    sizes: Shape | None = _as_shape(in_shape)
    if sizes is None:
        refuse("layer_rows", "in_shape", "an example's shape, a tuple of ints without the batch axis", in_shape)
    if size_of(sizes) > _LARGEST:
        fix = "What a layer keeps is measured on two examples: pass the shape of smaller ones"
        refuse("layer_rows", "in_shape", f"at most {_LARGEST:,} numbers", in_shape, fix)
    return sizes


def _as_shape(value: Any) -> Any:
    """A shape, or a tuple of shapes, as tuples of Python's ints; None for what is none."""
    sizes = as_tuple(value)
    if not isinstance(sizes, tuple):
        return None
    if is_several(sizes):
        several = tuple(map(_as_shape, sizes))
        return None if None in several else several
    return sizes if all(isinstance(size, int) and size >= 0 for size in sizes) else None


def _zeros(shape: Any, vocabulary: Any) -> Values:
    """Two examples, so that a whole number of bytes is one's; of whole numbers, if there is a vocabulary."""
    if is_several(shape):
        its = vocabulary if isinstance(vocabulary, tuple) else (vocabulary,) * len(shape)
        return tuple(map(_zeros, shape, its))
    return np.zeros((2, *shape), np.float32 if vocabulary is None else np.int64)


def _walk(
    layer: Layer, place: str, depth: int, x: Values, learned: Any, kept: dict[int, Array]
) -> tuple[list[TableRow], Values]:
    """A layer's rows and its output for the input that it gets in the net, of whose params it learns some."""
    rows: list[TableRow] = []
    children = layer.config.children
    if layer.name in _IN_A_ROW and children:
        for i, child in enumerate(children):
            more, x = _walk(child, _inside(place, i), depth, x, learned and learned[i], kept)
            rows += more
        return rows, x
    in_shape = _shape_of(x)
    params, state, out_shape = layer.init(Key(0), in_shape)
    y, _, residuals = layer.apply(params, state, x, key=Key(0), train=True)
    if layer.name == "frozen":
        learned = None
    if layer.name == "remat":
        held = _held(residuals, (params, state), kept)
        rows, _ = _walk(children[0], place, depth + 1, x, learned, dict(kept))
        again = sum(row.residual_bytes for row in rows) + max((row.again_bytes for row in rows), default=0)
        head = TableRow(place, depth, _text(layer), out_shape, residual_bytes=held, again_bytes=again)
        return [head, *[attrs.evolve(row, residual_bytes=0, again_bytes=0) for row in rows]], y
    if layer.name in _DESCENDED:
        rows.append(TableRow(place, depth, _text(layer), out_shape))
        if layer.name in _AROUND:
            return [*rows, *_walk(children[0], place, depth + 1, x, learned, kept)[0]], y
        for i, child in enumerate(children):
            its_x = x[i] if layer.name == "branches" else x
            more, made = _walk(child, _inside(place, i), depth + 1, its_x, learned and learned[i], kept)
            rows += more
            if layer.name == "dense_connections":
                x = np.concatenate([x, made], axis=-1)
        return rows, y
    held = _held(residuals, (params, state), kept)
    macs = layer.config.macs(in_shape)
    passing = (tree.nbytes(x) + tree.nbytes(y)) // 2
    learns = count_parameters(learned)
    return [TableRow(place, depth, _text(layer), out_shape, learns, macs, held, passing_bytes=passing)], y


def _held(residuals: Any, values: Any, kept: dict[int, Array]) -> int:
    """The bytes that residuals hold of an example, but for what is kept already, and for params and state."""
    known = {id(_owner(leaf)) for leaf in tree.flatten(values)}
    held = 0
    for leaf in tree.flatten(residuals):
        owner = _owner(leaf) if isinstance(leaf, np.ndarray) else None
        if owner is not None and id(owner) not in known | kept.keys():
            kept[id(owner)] = owner  # alive, so that no later array gets its id
            held += owner.nbytes // 2
    return held


def _shape_of(x: Values) -> Any:
    """An example's shape, of a batch or of a tuple of batches."""
    return tuple(map(_shape_of, x)) if isinstance(x, tuple) else x.shape[1:]


def _inside(place: str, i: int) -> str:
    return f"{place}.{i}" if place else str(i)


def _text(layer: Layer) -> str:
    """A layer as one writes it: what it must be given without names, and no layers that have rows of their own."""
    children = layer.config.children
    if children and layer.name not in _DESCENDED:
        return repr(layer)
    required = {field.name for field in attrs.fields(cast(Any, type(layer.config))) if field.default is attrs.NOTHING}
    arguments = [
        as_code(value) if name in required else f"{name}={as_code(value)}"
        for name, value in layer.config.arguments().items()
        if not any(value is each for each in (children, *children))
    ]
    return f"{layer.name}({', '.join(arguments)})"


def _owner(array: Array) -> Array:
    """The array whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def layer_table(net: Layer, in_shape: Shape, *, width: int | None = None) -> Text:
    """The layer table as a text, with the net's totals; a combinator's layers are below it, indented.

    With `remat` in the net, the last line has the bytes that training needs for an example at its peak (`peak_bytes`).
    The layers are cut so that no line has more than `width` characters: without one, the terminal's width, or as much
    as it takes if standard output is no terminal. A dash stands for nothing.

    >>> from funcnn.compose import residual, serial
    >>> from funcnn.layers import dense, relu
    >>> layer_table(serial(dense(3), residual(serial(dense(3), relu()))), (4,))
         layer       output  parameters  MACs  residual bytes
    0    dense(3)    3               15    12              16
    1    residual()  3                -     -               -
    1.0    dense(3)  3               12     9              12
    1.1    relu()    3                -     -              12
         total       3               27    21              40

    Raises ValueError as `layer_rows`, and for a width that is no int.
    """
    if width is not None and not isinstance(as_int(width), int):
        refuse("layer_table", "width", "an int or None", width)
    rows = layer_rows(net, in_shape)
    counts = [sum(getattr(row, name) for row in rows) for name in ("parameters", "macs", "residual_bytes")]
    peak = peak_bytes(rows) if any(row.again_bytes for row in rows) else 0
    rows.append(TableRow("", 0, "total", net.config.out_shape(_as_shape(in_shape)), *counts))
    if peak:
        rows.append(TableRow("", 0, "at the peak, with remat applied again", (), 0, 0, peak))
    layers = ["  " * row.depth + row.layer for row in rows]
    table = _aligned(rows, layers)
    if width is None and Screen(sys.stdout).isatty():
        width = shutil.get_terminal_size().columns
    excess = 0 if width is None else max(map(columns, table.splitlines())) - width
    if excess <= 0:
        return table
    room = max(max(map(columns, layers)) - excess, _NARROWEST)
    return _aligned(rows, [cut(each, room) for each in layers])


def _aligned(rows: list[TableRow], layers: list[str]) -> Text:
    lines = []
    for row, layer in zip(rows, layers, strict=True):
        size = _size_text(row.out_shape)
        counts = (f"{count:,}" if count else None for count in (row.parameters, row.macs, row.residual_bytes))
        lines.append([row.place, layer, size, *counts])
    return text_table(["", "layer", "output", "parameters", "MACs", "residual bytes"], lines, left=3)


def _size_text(shape: Any) -> str:
    return ", ".join(map(_size_text, shape)) if is_several(shape) else "x".join(map(str, shape))
