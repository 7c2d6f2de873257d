"""Rows of a table by their numbers, and its reverse, the sum of the rows that have the same number.

`np.add.at` takes ten times longer for the sum: it adds number by number, whatever the rows hold.
"""

from functools import partial

import numpy as np

from funcnn.arrays.layout import wide
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import for_each, slices
from funcnn.tree import Array

__all__ = ["sum_rows", "take_rows"]

_OFTEN = 16  # rows of one number, from which on a product of their own pays
_BLOCK = 2**17  # numbers, to stay in cache


@tuned
def take_rows(table: Array, numbers: Array) -> Array:
    """table[numbers] for numbers that are known to be below its length: (rows, features), (m,) -> (m, features).

    >>> take_rows(np.eye(3), np.array([2, 0]))
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    taken = np.empty((len(numbers), *table.shape[1:]), table.dtype)
    rows = max(1, _BLOCK // max(1, table.shape[1]))
    for_each(partial(_take, table, numbers, taken), slices(len(numbers), rows))
    return taken


def _take(table: Array, numbers: Array, taken: Array, part: slice) -> None:
    np.take(table, numbers[part], axis=0, out=taken[part], mode="clip")  # any other mode takes a copy in between


@tuned
def sum_rows(values: Array, numbers: Array, count: int) -> Array:
    """The sums of the rows that have each number below `count`: (m, features), (m,) -> (count, features).

    Sorted by their numbers, the rows of one are neighbours. Numbers that occur often have a product with ones each. The
    others are ordered by how often they occur, most often first: then the second rows of all that have one are added
    to the first few sums, the third to yet fewer.

    >>> sum_rows(np.array([[1.0], [10.0], [100.0]]), np.array([2, 0, 2]), 4)
    array([[ 10.],
           [  0.],
           [101.],
           [  0.]])
    """
    dtype, values = values.dtype, wide(values)
    sums = np.zeros((count, values.shape[1]), values.dtype)
    if len(numbers):
        numbers = numbers.astype(np.uint16 if count <= 2**16 else np.int64)  # of 16 bits, NumPy sorts by radix
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        repeats = np.diff(first, append=len(ordered))
        which = ordered[first]
        often = repeats > _OFTEN
        _sum_often(values, order, sums, which[often], first[often], repeats[often])
        _sum_seldom(values, order, sums, which[~often], first[~often], repeats[~often])
    return sums.astype(dtype, copy=False)


def _sum_often(values: Array, order: Array, sums: Array, which: Array, first: Array, repeats: Array) -> None:
    one = np.ones(repeats.max(initial=0), values.dtype)
    for number, start, times in zip(which.tolist(), first.tolist(), repeats.tolist(), strict=True):
        np.matmul(one[:times], values.take(order[start : start + times], axis=0), out=sums[number])


def _sum_seldom(values: Array, order: Array, sums: Array, which: Array, first: Array, repeats: Array) -> None:
    by_repeats = np.argsort(-repeats, kind="stable")
    which, first, repeats = which[by_repeats], first[by_repeats], repeats[by_repeats]
    for part in slices(len(which), max(1, _BLOCK // max(1, values.shape[1]))):
        its_first, its_repeats = first[part], repeats[part]
        its_sums = values.take(order[its_first], axis=0)
        for i in range(1, int(its_repeats[0])):
            more = int(np.searchsorted(-its_repeats, -i))  # so many occur more than i times
            its_sums[:more] += values.take(order[its_first[:more] + i], axis=0)
        sums[which[part]] = its_sums
