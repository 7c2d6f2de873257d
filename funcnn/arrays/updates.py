"""The optimizers' arithmetic: how an update goes over the leaves, and a fast update for each optimizer.

An update is a function of arrays of one shape, ``update(leaf, gradient, *moments) -> (leaf, *moments)``; its settings
are apart, by name. `over_leaves` calls it for every leaf. The updates here treat every element by itself. So a large
leaf goes through block by block, each block through all operations while it is in cache, and neither the size of a
block nor the number of threads changes a bit.

Leaves of float16 are updated in float32, and so are their moments kept: in float16 the square of a gradient below 2e-4
is zero, and so is an epsilon of 1e-8.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcnn.arrays import elementwise, threads
from funcnn.tree import Array

__all__ = [
    "Update", "adam_update", "moment_dtype", "momentum_update", "over_leaves", "rmsprop_update", "sgd_update",
    "writing_to",
]  # fmt: skip

Update = Callable[..., tuple[Array, ...]]
Row = tuple[Array, ...]  # a leaf, its gradient and its moments
_ARRAYS = {np.ndarray, np.memmap}
_SMALL = 2**14  # elements: larger leaves are worth a call of their own


def over_leaves(updates: Sequence[Update], rows: Sequence[Row], *, join: bool = False) -> list[list[Array]]:
    """``update(leaf, gradient, *moments)`` of every row by the update beside it, read-only and in the row's dtypes.

    With `join`, small leaves of one dtype and one update are handed over as one vector, since a dozen calls of NumPy on
    a bias take longer than the bias's share of one call; each leaf then gets its part of the results, as views.

    Raises TypeError for leaves that are no arrays, and unless an update returns a tuple of arrays like its leaf, one
    for the leaf and for each moment.
    """
    if type(join) is not bool:
        raise TypeError(f"update_leaves: elementwise must be True or False, got {type(join).__name__}")
    foreign = {type(array) for row in rows for array in row} - _ARRAYS
    foreign = {kind for kind in foreign if not issubclass(kind, np.generic)}  # as arithmetic makes of arrays ()
    if foreign:
        names = ", ".join(sorted(kind.__name__ for kind in foreign))
        raise TypeError(f"update_leaves: the leaves of all trees must be arrays, got {names}. Make them np.array(...)")
    groups: dict[Any, list[int]] = {}
    for i, (update, row) in enumerate(zip(updates, rows, strict=True)):
        joined = join and row[0].size <= _SMALL
        groups.setdefault((row[0].dtype, id(update)) if joined else i, []).append(i)
    results: list[list[Array]] = [[]] * len(rows)
    for group in groups.values():
        first = group[0]
        if len(group) == 1:
            results[first] = _call(updates[first], rows[first])
            continue
        columns = zip(*[rows[i] for i in group], strict=True)
        vectors = _call(updates[first], tuple([np.concatenate([a.reshape(-1) for a in column]) for column in columns]))
        end = 0
        for i in group:
            leaf = rows[i][0]
            start, end = end, end + leaf.size
            results[i] = [vector[start:end].reshape(leaf.shape) for vector in vectors]
    return results


def moment_dtype(leaf: Array) -> np.dtype[Any]:
    """The dtype of a leaf's moments: its own, or float32 for float16.

    >>> moment_dtype(np.zeros(2, np.float16)), moment_dtype(np.zeros(2))
    (dtype('float32'), dtype('float64'))
    """
    dtype: np.dtype[Any] = np.asarray(leaf).dtype
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _call(update: Update, row: Row) -> list[Array]:
    leaf = row[0]
    made = update(*[array.astype(np.float32) for array in row] if leaf.dtype == np.float16 else row)
    wanted, got = [leaf.shape] * (len(row) - 1), [np.shape(each) for each in made] if type(made) is tuple else []
    if got != wanted:
        raise TypeError(
            "update_leaves: expected update(leaf, gradient, *moments) to return (leaf, *moments), a tuple of arrays "
            f"of shapes {wanted}, got {f'shapes {got}' if got else type(made).__name__}"
        )
    results = [np.asarray(each, like.dtype).view() for each, like in zip(made, (leaf, *row[2:]), strict=True)]
    for array in results:
        array.flags.writeable = False
    return results


class _Thread(threading.local):
    destinations: Mapping[int, tuple[Array, ...]] = {}


_thread = _Thread()


@contextmanager
def writing_to(destinations: Mapping[int, tuple[Array, ...]]) -> Iterator[None]:
    """Let updates write new leaves and moments into given memory, found by the old leaf's id, instead of fresh memory.

    That saves a copy where the memory is to be shared. It serves the updates here alone, and of other leaves none.
    """
    _thread.destinations = destinations
    try:
        yield
    finally:
        _thread.destinations = {}


def _by_block(fill: Callable[..., None], *row: Array) -> tuple[Array, ...]:
    """The new leaf and moments: arrays that ``fill(*row, *new)`` writes, given flat vectors, block by block."""
    leaf = row[0]
    new = _thread.destinations.get(id(leaf)) or tuple([np.empty(leaf.shape, leaf.dtype) for _ in row[1:]])
    flat = [array.reshape(-1) for array in (*row, *new)]
    if leaf.size <= elementwise.BLOCK:
        fill(*flat)
    else:
        threads.for_each(lambda block: fill(*[array[block] for array in flat]), elementwise.blocks(leaf.size))
    return new


def sgd_update(leaf: Array, gradient: Array, *, rate: float) -> tuple[Array, ...]:
    """leaf - rate · gradient."""

    def fill(old: Array, g: Array, new: Array) -> None:
        np.multiply(g, -rate, out=new)
        new += old

    return _by_block(fill, leaf, gradient)


def momentum_update(
    leaf: Array, gradient: Array, velocity: Array, *, rate: float, decay: float, nesterov: bool
) -> tuple[Array, ...]:
    """v' = decay · v - rate · g, and leaf + v', or with Nesterov's look ahead leaf + decay · v' - rate · g."""

    def fill(old: Array, g: Array, old_v: Array, new: Array, v: Array) -> None:
        descent = np.multiply(g, -rate, out=threads.scratch("optimizer", g.shape, g.dtype))
        np.multiply(old_v, decay, out=v)
        v += descent
        if nesterov:
            np.multiply(v, decay, out=new)
            new += descent
            new += old
        else:
            np.add(old, v, out=new)

    return _by_block(fill, leaf, gradient, velocity)


def rmsprop_update(
    leaf: Array, gradient: Array, square: Array, *, rate: float, decay: float, epsilon: float
) -> tuple[Array, ...]:
    """c' = decay · c + (1 - decay) · g², and leaf - rate · g / (sqrt(c') + epsilon)."""

    def fill(old: Array, g: Array, old_c: Array, new: Array, c: Array) -> None:
        root = _mean_square(g, old_c, decay, out=c)
        np.sqrt(c, out=root)
        root += _in_dtype(epsilon, root)
        np.divide(g, root, out=root)
        root *= -rate
        np.add(old, root, out=new)

    return _by_block(fill, leaf, gradient, square)


def adam_update(
    leaf: Array, gradient: Array, mean: Array, square: Array, *,
    rate: float, b1: float, b2: float, epsilon: float, step: int, weight_decay: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """m' = b1·m + (1-b1)·g, v' = b2·v + (1-b2)·g², and leaf - rate · (m̂ / (sqrt(v̂) + epsilon) + weight_decay · leaf),

    where m̂ = m' / (1 - b1^t) and v̂ = v' / (1 - b2^t) at the t-th step (`step` = t - 1).
    """
    # m̂ / (sqrt(v̂) + ε) = (r / (1 - b1^t)) · m' / (sqrt(v') + r·ε) with r = sqrt(1 - b2^t): one pass fewer
    root_correction = (1 - b2 ** (step + 1)) ** 0.5
    factor = -rate * root_correction / (1 - b1 ** (step + 1))

    def fill(old: Array, g: Array, old_m: Array, old_v: Array, new: Array, m: Array, v: Array) -> None:
        root = _mean_square(g, old_v, b2, out=v)
        np.multiply(g, 1 - b1, out=root)
        np.multiply(old_m, b1, out=m)
        m += root
        np.sqrt(v, out=root)
        root += _in_dtype(root_correction * epsilon, root)
        np.divide(m, root, out=root)
        root *= factor
        if weight_decay:
            np.multiply(old, 1 - rate * weight_decay, out=new)
            new += root
        else:
            np.add(old, root, out=new)

    return _by_block(fill, leaf, gradient, mean, square)


def _in_dtype(epsilon: float, like: Array) -> float:
    """An epsilon, or the smallest normal number of a dtype in which it would be zero, and 0 / 0 follow."""
    return max(epsilon, float(np.finfo(like.dtype).tiny))


def _mean_square(g: Array, old: Array, decay: float, *, out: Array) -> Array:
    """out = decay · old + (1 - decay) · g²; returns an array of their size to compute in."""
    square = threads.scratch("optimizer", g.shape, g.dtype)
    np.multiply(g, g, out=square)
    square *= 1 - decay
    np.multiply(old, decay, out=out)
    out += square
    return square
