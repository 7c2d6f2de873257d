"""The optimizers' arithmetic: how an update goes over the leaves, and fast updates by gradients and running means.

An update is a function of arrays of one shape, ``update(leaf, gradient, *moments) -> (leaf, *moments)``; its settings
are apart, by name. `over_leaves` calls it for every leaf. The updates here treat every element by itself. So a large
leaf goes through block by block, each block through all operations while it is in cache, and neither the size of a
block nor the number of threads changes a bit.

Updates that divide by a root of squares are in `funcnn.arrays.adaptive`.

Leaves of float16 are updated in float32, and so are their moments kept: in float16 the square of a gradient below 2e-4
is zero, and so is an epsilon of 1e-8.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcnn.arrays import elementwise, threads
from funcnn.arrays.seam import plain_module, tuned
from funcnn.system.devices import has_form, is_device_array, is_device_class, module_of
from funcnn.tree import Array

__all__ = [
    "Update", "accumulate_update", "average_update", "by_block", "clipped", "frozen", "lion_update",
    "moment_dtype", "momentum_update", "over_leaves", "schedule_free_update", "scratch_like", "sgd_update",
    "squared_norm", "walk", "writing_to",
]  # fmt: skip

Update = Callable[..., tuple[Array, ...]]
Row = tuple[Array, ...]  # a leaf, its gradient and its moments
_ARRAYS = {np.ndarray, np.memmap}
_SMALL = 2**14  # elements: larger leaves are worth a call of their own
_PIECE = 2**15  # elements that are summed while they are in cache; it decides on the order of a sum


def over_leaves(updates: Sequence[Update], rows: Sequence[Row], *, join: bool = False) -> list[list[Array]]:
    """``update(leaf, gradient, *moments)`` of every row by the update beside it, read-only and in the row's dtypes.

    With `join`, small leaves of one dtype and one update are handed over as one vector, since a dozen calls of NumPy on
    a bias take longer than the bias's share of one call; each leaf then gets its part of the results, as views.

    Raises TypeError for leaves that are no arrays, and unless an update returns a tuple of arrays like its leaf, one
    for the leaf and for each moment.
    """
    if type(join) is not bool:
        raise TypeError(f"update_leaves: elementwise must be True or False, got {type(join).__name__}")
    kinds = set().union(*[map(type, row) for row in rows]) - _ARRAYS
    foreign = [kind for kind in kinds if not (issubclass(kind, np.generic) or is_device_class(kind))]  # numbers will do
    if foreign:
        names = ", ".join(sorted(kind.__name__ for kind in foreign))
        raise TypeError(f"update_leaves: the leaves of all trees must be arrays, got {names}. Make them np.array(...)")
    if rows and not isinstance(rows[0][0], np.ndarray):
        made: list[list[Array]] | None = plain_module("updates").in_one_launch(updates, rows)
        if made is not None:
            return made
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
        vectors = _call(updates[first], tuple([np.concatenate(column, axis=None) for column in columns]))
        end = 0
        for i in group:
            leaf = rows[i][0]
            start, end = end, end + leaf.size
            parts = [vector[start:end] for vector in vectors]
            results[i] = parts if leaf.ndim == 1 else [part.reshape(leaf.shape) for part in parts]
    return results


def moment_dtype(leaf: Array) -> np.dtype[Any]:
    """The dtype of a leaf's moments: its own, or float32 for float16.

    >>> moment_dtype(np.zeros(2, np.float16)), moment_dtype(np.zeros(2))
    (dtype('float32'), dtype('float64'))
    """
    dtype: np.dtype[Any] = leaf.dtype if has_form(leaf) else np.asarray(leaf).dtype
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _call(update: Update, row: Row) -> list[Array]:
    leaf = row[0]
    made = update(*[array.astype(np.float32) for array in row] if leaf.dtype == np.float16 else row)
    shape, count = leaf.shape, len(row) - 1
    if type(made) is not tuple or len(made) != count or any(np.shape(each) != shape for each in made):
        wanted, got = [shape] * count, [np.shape(each) for each in made] if type(made) is tuple else []
        raise TypeError(
            "update_leaves: expected update(leaf, gradient, *moments) to return (leaf, *moments), a tuple of arrays "
            f"of shapes {wanted}, got {f'shapes {got}' if got else type(made).__name__}"
        )
    if not isinstance(leaf, np.ndarray):
        return [frozen(each, like.dtype) for each, like in zip(made, (leaf, *row[2:]), strict=True)]
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

    That saves a copy where the memory is to be shared. It serves updates by `by_block` whose leaf has as many moments
    as there is memory for, and no others.
    """
    _thread.destinations = destinations
    try:
        yield
    finally:
        _thread.destinations = {}


def by_block(fill: Callable[..., None], *row: Array) -> tuple[Array, ...]:
    """The new leaf and moments: arrays that ``fill(*row, *new)`` writes, given flat vectors, block by block.

    >>> def descend(leaf, gradient, new):
    ...     np.multiply(gradient, -0.1, out=new)
    ...     new += leaf
    >>> by_block(descend, np.ones((1, 2)), np.ones((1, 2)))
    (array([[0.9, 0.9]]),)
    """
    leaf = row[0]
    new = _thread.destinations.get(id(leaf), ())
    if len(new) != len(row) - 1:  # none, or those of an optimizer around this one, which has more
        new = tuple([_empty_like(leaf) for _ in row[1:]])
    flat = [array.reshape(-1) for array in (*row, *new)]
    if leaf.size <= elementwise.BLOCK or not isinstance(leaf, np.ndarray):
        fill(*flat)
    else:
        threads.for_each(lambda block: fill(*[array[block] for array in flat]), elementwise.blocks(leaf.size))
    return new


def _empty_like(leaf: Array) -> Array:
    return (np.empty if isinstance(leaf, np.ndarray) else module_of(leaf).empty)(leaf.shape, leaf.dtype)


def sgd_update(leaf: Array, gradient: Array, *, rate: float) -> tuple[Array, ...]:
    """leaf - rate · gradient."""

    def fill(old: Array, g: Array, new: Array) -> None:
        np.multiply(g, -rate, out=new)
        new += old

    return by_block(fill, leaf, gradient)


def momentum_update(
    leaf: Array, gradient: Array, velocity: Array, *, rate: float, decay: float, nesterov: bool
) -> tuple[Array, ...]:
    """v' = decay · v - rate · g, and leaf + v', or with Nesterov's look ahead leaf + decay · v' - rate · g."""

    def fill(old: Array, g: Array, old_v: Array, new: Array, v: Array) -> None:
        descent = np.multiply(g, -rate, out=scratch_like("optimizer", g))
        np.multiply(old_v, decay, out=v)
        v += descent
        if nesterov:
            np.multiply(v, decay, out=new)
            new += descent
            new += old
        else:
            np.add(old, v, out=new)

    return by_block(fill, leaf, gradient, velocity)


def lion_update(
    leaf: Array, gradient: Array, mean: Array, *, rate: float, b1: float, b2: float, weight_decay: float = 0.0
) -> tuple[Array, ...]:
    """leaf - rate · (sign(b1·m + (1-b1)·g) + weight_decay · leaf), and m' = b2·m + (1-b2)·g."""

    def fill(old: Array, g: Array, old_m: Array, new: Array, m: Array) -> None:
        part = scratch_like("optimizer", g)
        _mix(old_m, b1, g, 1 - b1, part, out=new)
        np.sign(new, out=part)  # NumPy's loop in place takes ten times as long
        part *= -rate
        if weight_decay:
            np.multiply(old, 1 - rate * weight_decay, out=new)
            new += part
        else:
            np.add(old, part, out=new)
        _mix(old_m, b2, g, 1 - b2, part, out=m)

    return by_block(fill, leaf, gradient, mean)


def schedule_free_update(
    leaf: Array, gradient: Array, base: Array, *, rate: float, momentum: float, share: float, weight_decay: float = 0.0
) -> tuple[Array, ...]:
    """z' = z - rate · u, and y' = (1 - momentum) · z' + momentum · x', where u = g + weight_decay · y

    and x' = x + share · (z' - x). The leaf is y and the moment z; x follows from both.
    """

    def fill(y: Array, g: Array, old_z: Array, new: Array, z: Array) -> None:
        u = g
        if weight_decay:
            u = np.multiply(y, weight_decay, out=scratch_like("optimizer", g))
            u += g
        walk(u, y, old_z, new, z, rate, momentum, share)

    return by_block(fill, leaf, gradient, base)


def scratch_like(purpose: str, like: Array) -> Array:
    """Memory to compute in, like an array, valid until this thread asks for the same purpose again."""
    if isinstance(like, np.ndarray):
        return threads.scratch(purpose, like.shape, like.dtype)
    return module_of(like).empty(like.shape, like.dtype)


def frozen(value: Any, dtype: Any) -> Array:
    """What an update gives, as a read-only view of a dtype; a device's arrays cannot be protected."""
    if is_device_array(value):
        return value.astype(dtype, copy=False)  # type: ignore[no-any-return]
    array = np.asarray(value, dtype).view()
    array.flags.writeable = False
    return array


@tuned
def clipped(g: Array, norm: float, limit: float) -> Array:
    """g · min(1, limit / norm), g itself where it is short enough.

    >>> clipped(np.array([3.0, 4.0]), 5.0, 1.0)
    array([0.6, 0.8])
    """
    return g if norm <= limit else g * (limit / norm)


def walk(u: Array, y: Array, old_z: Array, new: Array, z: Array, rate: float, momentum: float, share: float) -> None:
    """What schedule-free updates have in common: z = old_z - rate · u; new = y + share · (old_z - y) - k · u,

    where k = rate · (1 - momentum · (1 - share)).
    """
    np.multiply(u, -rate, out=z)
    z += old_z
    np.subtract(old_z, y, out=new)
    new *= share
    new += y
    new += np.multiply(u, rate * (momentum * (1 - share) - 1), out=scratch_like("walk", u))


def average_update(average: Array, leaf: Array, *, share: float) -> tuple[Array, ...]:
    """average + share · (leaf - average)."""

    def fill(old: Array, w: Array, new: Array) -> None:
        np.subtract(w, old, out=new, casting="same_kind")
        new *= share
        new += old

    return by_block(fill, average, leaf)


def accumulate_update(total: Array, gradient: Array, *, share: float, first: bool) -> tuple[Array, ...]:
    """total + share · g, or without what was before, if it is the first."""

    def fill(old: Array, g: Array, new: Array) -> None:
        np.multiply(g, share, out=new, dtype=new.dtype, casting="same_kind")
        if not first:
            new += old

    return by_block(fill, total, gradient)


@tuned
def squared_norm(array: Array) -> float:
    """The sum of squares in float64, in one order whatever the array's layout and the number of threads.

    >>> squared_norm(np.full(2, 1e30, np.float32)) > 1e60
    True
    """
    flat, total = array.reshape(-1), 0.0
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        square = threads.scratch("optimizer", piece.shape, np.float64)
        total += float(np.square(piece, out=square, dtype=np.float64).sum())
    return total


def _mix(one: Array, share: float, other: Array, its_share: float, part: Array, *, out: Array) -> None:
    """out = share · one + its_share · other; `part` is memory to compute in."""
    np.multiply(one, share, out=out)
    out += np.multiply(other, its_share, out=part)
