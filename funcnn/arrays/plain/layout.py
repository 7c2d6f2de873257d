"""How arrays lie: here in C order, whatever they hold. The host's are `funcnn.arrays.layout`."""

import numpy as np

from funcnn.arrays.seam import faster
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = [
    "add_line", "add_to_examples", "by_rows", "channel_rows", "contiguous", "dot_channels", "empty_like_channels",
    "for_channels", "line", "of_channel_rows", "plane", "row_products", "scale_channels", "sum_channels",
    "sum_examples", "unit_rows",
]  # fmt: skip


def contiguous(x: Array) -> Array:
    """The same array in C order: itself or a copy."""
    return module_of(x).ascontiguousarray(x)  # type: ignore[no-any-return]


def by_rows(x: Array) -> Array:
    """Images in adjacent memory."""
    return module_of(x).ascontiguousarray(x)  # type: ignore[no-any-return]


def channel_rows(x: Array) -> Array:
    """(..., c) -> (m, c, 1): a channel's numbers are one in each of m rows."""
    return module_of(x).ascontiguousarray(x).reshape(x[..., 0].size, x.shape[-1], 1)  # type: ignore[no-any-return]


def of_channel_rows(x: Array, shape: tuple[int, ...]) -> Array:
    """`channel_rows` as a batch of a shape again."""
    return x.reshape(shape)


def empty_like_channels(x: Array) -> Array:
    """A new array like a batch, of which `channel_rows` is a view."""
    return module_of(x).empty(x.shape, x.dtype)  # type: ignore[no-any-return]


def sum_channels(x: Array) -> Array:
    """The sum of each channel in float64, (m, c, 1) -> (c,)."""
    total: Array = x.sum(axis=(0, 2), dtype=np.float64)
    return total


def dot_channels(x: Array, y: Array) -> Array:
    """The sum of products of each channel of two arrays, (m, c, 1) -> (c,)."""
    return sum_channels(x * y)


def for_channels(values: Array, x: Array) -> Array:
    """Numbers (c,), one for each channel, ready to be combined with (m, c, 1): -> (c, 1)."""
    return values[:, None]


def add_line(out: Array, x: Array, factor: Array, constant: Array) -> None:
    """out += factor · x + constant, for each channel of (m, c, 1)."""
    out += factor[:, None] * x + constant[:, None]


def scale_channels(x: Array, factor: Array) -> Array:
    """factor · x, with a number for each channel of a batch (..., c)."""
    return x * factor


def plane(dy: Array, x: Array, factor: Array, along: Array, constant: Array) -> Array:
    """factor · dy + along · x + constant, with three numbers for each channel; x as `channel_rows`."""
    y: Array = dy * factor + x.reshape(dy.shape) * along + constant
    return y.astype(dy.dtype, copy=False)


def line(x: Array, factor: Array, constant: Array) -> Array:
    """factor · x + constant, with two numbers for each channel of a batch (..., c)."""
    factor, constant = (each.astype(x.dtype, copy=False) for each in (factor, constant))
    kernels = faster("elementwise", x)
    return kernels.line(x, factor, constant) if kernels else x * factor + constant


def sum_examples(x: Array) -> Array:
    """The sum over a batch, (n, ...) -> (...); of float16 in float32."""
    total: Array = x.sum(axis=0, dtype=np.float32 if x.dtype.char == "e" else None)
    return total.astype(x.dtype, copy=False)


def add_to_examples(x: Array, value: Array) -> Array:
    """x (n, ...) + value (...)."""
    return x + value


def row_products(a: Array, b: Array) -> Array:
    """The product of each row of one matrix and that of another, (n, features) -> (n,)."""
    products: Array = (a * b).sum(axis=1)
    return products


def unit_rows(rows: Array) -> tuple[Array, Array, Array]:
    """Each row divided by its length, and the lengths as norm · largest, (n, 1) each."""
    xp = module_of(rows)
    if rows.shape[1] == 0:
        one = xp.ones((len(rows), 1), rows.dtype)
        return rows, one, one
    largest = abs(rows).max(axis=1, keepdims=True)
    largest = xp.where(largest == 0, rows.dtype.type(1), largest)
    unit = rows / largest
    single = np.promote_types(rows.dtype, np.float32)
    norm = xp.sqrt((unit.astype(single) ** 2).sum(axis=1, keepdims=True)).astype(rows.dtype)
    norm = xp.where(norm == 0, rows.dtype.type(1), norm)
    return unit / norm, norm, largest
