"""Rows of a table by their numbers, and its reverse, the sum of the rows that have the same number.

What lies outside the table gives NaN: to look before would make the host wait.
"""

import numpy as np

from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["sum_rows", "take_rows"]


def take_rows(table: Array, numbers: Array) -> Array:
    """table[numbers]: (rows, features), (m,) -> (m, features)."""
    xp, known = module_of(table), (numbers >= 0) & (numbers < len(table))
    taken = table[xp.where(known, numbers, 0)]
    return xp.where(known[:, None], taken, table.dtype.type(np.nan))  # type: ignore[no-any-return]


def sum_rows(values: Array, numbers: Array, count: int) -> Array:
    """The sums of the rows that have each number below `count`: (m, features), (m,) -> (count, features).

    Rows in the order of their numbers are summed up one after the other; a number's sum is the difference between where
    its rows end and where they begin. The running sum is of float64, and the same whatever runs beside it, which adding
    to one place from many threads is not.
    """
    xp = module_of(values)
    order = xp.argsort(numbers, kind="stable")
    running = xp.zeros((len(values) + 1, values.shape[1]), np.float64)
    xp.cumsum(values[order], axis=0, dtype=np.float64, out=running[1:])
    ends = xp.searchsorted(numbers[order], xp.arange(count + 1))
    return (running[ends[1:]] - running[ends[:-1]]).astype(values.dtype)  # type: ignore[no-any-return]
