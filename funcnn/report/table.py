"""Tables as text, and the layer table: what each layer gives, learns, costs and keeps."""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from funcnn import tree
from funcnn.keys import Key
from funcnn.layer import Array, Layer, Shape

__all__ = ["TableRow", "count_parameters", "layer_rows", "layer_table", "text_table"]


@attrs.frozen
class TableRow:
    """One layer: its place, itself, its output's shape, parameters, multiply-adds and residual bytes per example.

    An array that several layers keep is in memory once, and counts for the first of them.
    """

    place: str
    layer: str
    out_shape: Shape
    parameters: int
    macs: int
    residual_bytes: int


def count_parameters(params: Any) -> int:
    """The number of values in a tree of arrays.

    >>> count_parameters((np.zeros((2, 3)), None, np.zeros(3)))
    9
    """
    return sum(leaf.size for leaf in tree.flatten(params))


def layer_rows(net: Layer, in_shape: Shape) -> list[TableRow]:
    """The rows of a net's table: one for each layer that is not a `serial` of others.

    >>> from funcnn.layers import dense, relu
    >>> from funcnn.compose import serial
    >>> [(row.parameters, row.macs) for row in layer_rows(serial(dense(3), relu()), (4,))]
    [(15, 12), (0, 0)]
    """
    batch = np.zeros((2, *in_shape), np.float32)  # two, so that a whole number of bytes is one example's
    return [row for row, _ in _walk(net, "", batch, {})]


def _walk(layer: Layer, place: str, x: Array, kept: dict[int, Array]) -> Iterator[tuple[TableRow, Array]]:
    if layer.name == "serial":
        for i, child in enumerate(layer.config.children):
            for row, x in _walk(child, f"{place}.{i}" if place else str(i), x, kept):  # noqa: B020  (x flows on)
                yield row, x
        return
    in_shape = x.shape[1:]
    params, state, out_shape = layer.init(Key(0), in_shape)
    y, _, residuals = layer.apply(params, state, x, key=Key(0), train=True)
    held = 0
    for leaf in tree.flatten(residuals):
        if isinstance(leaf, np.ndarray) and id(_owner(leaf)) not in kept:
            kept[id(_owner(leaf))] = _owner(leaf)  # alive, so that no later array gets its id
            held += leaf.nbytes // len(x)
    row = TableRow(place, str(layer), out_shape, count_parameters(params), layer.config.macs(in_shape), held)
    yield row, y


def _owner(array: Array) -> Array:
    """The array whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def layer_table(net: Layer, in_shape: Shape) -> str:
    """The table as text, with totals.

    >>> from funcnn.layers import dense, relu
    >>> from funcnn.compose import serial
    >>> print(layer_table(serial(dense(3), relu()), (4,)))
       layer           output  parameters  MACs  residual bytes
    0  dense(units=3)  3               15    12              16
    1  relu()          3                0     0              12
       total           3               15    12              28
    """
    rows = layer_rows(net, in_shape)
    total = TableRow(
        "",
        "total",
        rows[-1].out_shape if rows else in_shape,
        sum(row.parameters for row in rows),
        sum(row.macs for row in rows),
        sum(row.residual_bytes for row in rows),
    )
    lines = []
    for row in [*rows, total]:
        size = "x".join(map(str, row.out_shape))
        counts = (f"{count:,}" for count in (row.parameters, row.macs, row.residual_bytes))
        lines.append([row.place, row.layer, size, *counts])
    return text_table(["", "layer", "output", "parameters", "MACs", "residual bytes"], lines, left=3)


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int) -> str:
    """Lines of aligned columns, the first `left` to the left: floats with four digits, None as a dash.

    >>> print(text_table(("net", "accuracy"), [("small", 0.5), ("large", None)], left=1))
    net    accuracy
    small    0.5000
    large         -
    """
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        line[:left] = map(str.ljust, line[:left], widths[:left])
        line[left:] = map(str.rjust, line[left:], widths[left:])
    return "\n".join("  ".join(line).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
