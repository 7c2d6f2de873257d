"""The layer table: what each layer gives, learns, costs and keeps."""

import math
import shutil
import sys
from typing import Any, cast

import attrs
import numpy as np

from funcnn import tree
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.settings import as_code, as_int, as_tuple, refuse
from funcnn.system.text import Screen, Text, columns, cut, text_table
from funcnn.tree import Array, Shape

__all__ = ["TableRow", "count_parameters", "layer_rows", "layer_table", "text_table"]

_AROUND = ("residual", "chunked")  # around one layer, whose params are theirs
_DESCENDED = (*_AROUND, "parallel")  # their layers' input is known: it is the combinator's own
_LARGEST = 2**26  # numbers in an example
_NARROWEST = 12  # characters that the layers' column keeps however narrow the terminal is


@attrs.frozen
class TableRow:
    """One layer: its place, itself, its output's shape, parameters, multiply-adds and residual bytes per example.

    The place is the path of its params in the net's. The rows of a combinator's layers follow its own, one deeper. The
    combinator's own row counts nothing, so that sums over the rows are the net's. An array that several layers keep is
    in memory once, and counts for the first of them.
    """

    place: str
    depth: int
    layer: str
    out_shape: Shape
    parameters: int = 0
    macs: int = 0
    residual_bytes: int = 0


def count_parameters(params: Any) -> int:
    """The number of values in a tree of arrays.

    >>> count_parameters((np.zeros((2, 3)), None, np.zeros(3)))
    9

    Raises ValueError for a leaf that is no array.
    """
    leaves = tree.flatten(params)
    for leaf in leaves:
        if not isinstance(leaf, (np.ndarray, np.generic, float, int)):
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
    batch = np.zeros((2, *sizes), np.float32)  # two, so that a whole number of bytes is one example's
    return _walk(net, "", 0, batch, {})[0]


def _sizes(net: Layer, in_shape: Shape) -> Shape:
    """The shape, if it is one, and not too large to apply a net to two such examples."""
    if not isinstance(net, Layer):
        refuse("layer_rows", "net", "a layer", net)
    sizes = as_tuple(in_shape)
    if not isinstance(sizes, tuple) or not all(isinstance(size, int) and size >= 0 for size in sizes):
        refuse("layer_rows", "in_shape", "an example's shape, a tuple of ints without the batch axis", in_shape)
    if math.prod(sizes) > _LARGEST:
        fix = "What a layer keeps is measured on two examples: pass the shape of smaller ones"
        refuse("layer_rows", "in_shape", f"at most {_LARGEST:,} numbers", in_shape, fix)
    return sizes


def _walk(layer: Layer, place: str, depth: int, x: Array, kept: dict[int, Array]) -> tuple[list[TableRow], Array]:
    """A layer's rows and its output for the input that it gets in the net."""
    rows: list[TableRow] = []
    children = layer.config.children
    if layer.name == "serial" and children:
        for i, child in enumerate(children):
            more, x = _walk(child, _inside(place, i), depth, x, kept)
            rows += more
        return rows, x
    in_shape = x.shape[1:]
    params, state, out_shape = layer.init(Key(0), in_shape)
    y, _, residuals = layer.apply(params, state, x, key=Key(0), train=True)
    if layer.name in _DESCENDED:
        rows.append(TableRow(place, depth, _text(layer), out_shape))
        for i, child in enumerate(children):
            its_place = place if layer.name in _AROUND else _inside(place, i)
            rows += _walk(child, its_place, depth + 1, x, kept)[0]
        return rows, y
    held = 0
    for leaf in tree.flatten(residuals):
        if isinstance(leaf, np.ndarray) and id(_owner(leaf)) not in kept:
            kept[id(_owner(leaf))] = _owner(leaf)  # alive, so that no later array gets its id
            held += leaf.nbytes // len(x)
    macs = layer.config.macs(in_shape)
    return [TableRow(place, depth, _text(layer), out_shape, count_parameters(params), macs, held)], y


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
    rows.append(TableRow("", 0, "total", net.config.out_shape(tuple(in_shape)), *counts))
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
        size = "x".join(map(str, row.out_shape))
        counts = (f"{count:,}" if count else None for count in (row.parameters, row.macs, row.residual_bytes))
        lines.append([row.place, layer, size, *counts])
    return text_table(["", "layer", "output", "parameters", "MACs", "residual bytes"], lines, left=3)
