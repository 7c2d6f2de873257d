"""Updates of all leaves in one launch: SGD, momentum and Adam, in the arithmetic of `funcnn.arrays.updates` and
`funcnn.arrays.adaptive`, whose bits they give but for numbers so small that CuPy's compiler takes them for 0.

A net has a few dozen leaves, most of them small: a launch for each would take longer than all their arithmetic. The
addresses of up to 52 leaves, with their gradients, moments and results, are one argument of a kernel, which may have
four kilobytes: nothing is copied to the device first.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from funcnn.arrays.cuda.kernels import FLOATS, LARGEST, address, blocks_for, kernel
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["adam", "fits", "momentum", "sgd"]

LEAVES = 52  # what four kilobytes hold, for Adam in float64
CHUNK = 2048  # numbers of a block, eight of each of its threads

Row = tuple[Array, ...]  # a leaf, its gradient and its moments


def fits(first: Array, rows: Sequence[Row]) -> bool:
    """Whether all leaves, gradients and moments lie there, in C order, in one dtype, float32 or float64."""
    kinds = {(type(array), array.dtype.char) for row in rows for array in row}
    whole = all(array.flags.c_contiguous and array.size <= LARGEST for row in rows for array in row)
    return len(kinds) == 1 and all(char in FLOATS for _, char in kinds) and whole


def sgd(rows: Sequence[Row], *, rate: float) -> list[list[Array]]:
    """Of every row (leaf, gradient) the new leaf, as `updates.sgd_update`."""
    return _update("sgd", rows, [1.0] * len(rows), -rate)


def momentum(rows: Sequence[Row], *, rate: float, decay: float, nesterov: bool) -> list[list[Array]]:
    """Of every row (leaf, gradient, velocity) the new leaf and velocity, as `updates.momentum_update`."""
    return _update("momentum", rows, [1.0] * len(rows), -rate, decay, np.int32(nesterov))


def adam(
    rows: Sequence[Row], *, rate: float, b1: float, b2: float, epsilon: float, step: int,
    weight_decay: float | Sequence[float] = 0.0,
) -> list[list[Array]]:  # fmt: skip
    """Of every row (leaf, gradient, mean, square) the new leaf, mean and square, as `adaptive.adam_update`.

    `weight_decay` is one number, or one for each leaf.
    """
    root_correction = (1 - b2 ** (step + 1)) ** 0.5
    factor = -rate * root_correction / (1 - b1 ** (step + 1))
    least = max(root_correction * epsilon, float(np.finfo(rows[0][0].dtype).tiny)) if rows else epsilon
    decays = [weight_decay] * len(rows) if isinstance(weight_decay, float | int) else weight_decay
    keep = [1 - rate * each for each in decays]
    return _update("adam", rows, keep, b1, 1 - b1, b2, 1 - b2, factor, least)


def _update(name: str, rows: Sequence[Row], keep: Sequence[float], *numbers: Any) -> list[list[Array]]:
    made: list[list[Array]] = []
    for start in range(0, len(rows), LEAVES):
        made += _launch(name, rows[start : start + LEAVES], keep[start : start + LEAVES], numbers)
    return made


def _launch(name: str, rows: Sequence[Row], keep: Sequence[float], numbers: tuple[Any, ...]) -> list[list[Array]]:
    dtype, xp = rows[0][0].dtype, module_of(rows[0][0])
    made = [[xp.empty(row[0].shape, dtype) for _ in row[1:]] for row in rows]
    table = np.zeros(1, _table(dtype.char))
    columns = [[address(array) for array in (*row, *new)] for row, new in zip(rows, made, strict=True)]
    sizes = [row[0].size for row in rows]
    ends = np.cumsum([blocks_for(size, CHUNK) for size in sizes])
    table["arrays"][0, : len(columns[0]), : len(rows)] = np.array(columns, np.uint64).T
    table["keep"][0, : len(rows)] = keep
    table["first"][0, 1:] = ends[-1]
    table["first"][0, 1 : len(rows) + 1] = ends
    table["size"][0, : len(rows)] = sizes
    if ends[-1]:
        call = kernel("optimizers.cu", name, dtype.char, ("-fmad=false",), LEAVES=LEAVES, CHUNK=CHUNK)
        given = [each if isinstance(each, np.generic) else dtype.type(each) for each in numbers]
        call((int(ends[-1]),), (256,), (table, *given))
    return made


@cache
def _table(dtype: str) -> np.dtype[Any]:
    """The struct `Table` of optimizers.cu."""
    fields = [
        ("arrays", np.uint64, (7, LEAVES)), ("keep", dtype, (LEAVES,)), ("first", np.int32, (LEAVES + 1,)),
        ("size", np.int32, (LEAVES,)),
    ]  # fmt: skip
    return np.dtype(fields, align=True)
