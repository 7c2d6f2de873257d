"""Element-wise kernels in the form that `benchmarks/kernels.py` shows fastest; the only user of numexpr.

The fastest form of almost everything is NumPy over blocks that stay in cache, the blocks spread over threads:
`elementwise` and the optimizers' kernels do that. `fused` evaluates one formula, by numexpr where it
is given large arrays whole, by NumPy where it is given small ones, as it is by `elementwise`.

Every constant is a Python float or is cast to the arrays' dtype: a float64 scalar would upcast float32 arrays
under NumPy 2, and so would a float literal under numexpr.
"""

import math
from collections.abc import Callable
from functools import cache
from types import CodeType
from typing import Any

import numpy as np

from funcnn import parallel
from funcnn.conv_windows import images, rows
from funcnn.layer import Array
from funcnn.parallel import chunks

__all__ = [
    "adam", "add_to_examples", "channel_rows", "dot_channels", "elementwise", "empty_like_channels",
    "for_channels", "fused", "momentum",
    "over_leaves", "positive_part", "rmsprop", "sgd", "sum_channels", "sum_examples",
]  # fmt: skip

_NUMEXPR_FROM = 2**22  # elements: where one pass over memory begins to outweigh NumPy's faster arithmetic
_SMALL = 2**14  # elements: larger leaves are worth a call of their own
_ZEROS = 2**12  # elements
_BLOCK = 2**17  # elements: fewer make threads wait for the interpreter between operations, more leave the cache


def fused(formula: str, **values: Array | float) -> Array:
    """An arithmetic formula over arrays of one shape and dtype, as a new array; floats are cast to that dtype.

    The formula holds names, ``+ - * /`` and integers, no float literals.

    >>> fused("a * x + 1", a=0.5, x=np.ones(2, np.float32))
    array([1.5, 1.5], dtype=float32)
    """
    like = next(value for value in values.values() if isinstance(value, np.ndarray))
    large = like.size >= _NUMEXPR_FROM
    number = like.dtype.type  # not for numexpr alone: what is made of numbers is to be rounded alike by both
    cast = {name: value if isinstance(value, np.ndarray) else number(value) for name, value in values.items()}
    if large:
        import numexpr  # here, since small nets never need it

        return numexpr.evaluate(formula, local_dict=cast, global_dict={})  # type: ignore[no-any-return]
    return eval(_compiled(formula), {"__builtins__": {}}, cast)  # type: ignore[no-any-return]


@cache
def _compiled(formula: str) -> CodeType:
    return compile(formula, "<formula>", "eval")


def elementwise(function: Callable[..., Array], *arrays: Array) -> Array:
    """An element-wise function of arrays of one shape, block by block where they are large, in their memory order."""
    first = arrays[0]
    if first.size <= _BLOCK or parallel.in_a_task() or any(array.strides != first.strides for array in arrays):
        return function(*arrays)
    flat = [array.ravel(order="K") for array in arrays]
    if not all(np.may_share_memory(array, view) for array, view in zip(arrays, flat, strict=True)):
        return function(*arrays)  # there are gaps between the elements, or some appear many times
    out = np.empty_like(first)
    flat_out = out.ravel(order="K")

    def fill(block: slice) -> None:
        flat_out[block] = function(*[array[block] for array in flat])

    parallel.for_each(fill, _blocks(first.size))
    return out


def positive_part(x: Array) -> Array:
    """max(x, 0). Against a row of zeros, since the maximum with a scalar is not vectorised and takes twice as long."""
    flat = x.ravel(order="K")
    if x.size < _ZEROS or not np.may_share_memory(flat, x):
        return np.maximum(x, 0)
    y = np.empty_like(x)
    out, cut = y.ravel(order="K"), x.size - x.size % _ZEROS
    zeros = np.zeros(_ZEROS, x.dtype)
    np.maximum(flat[:cut].reshape(-1, _ZEROS), zeros, out=out[:cut].reshape(-1, _ZEROS))
    np.maximum(flat[cut:], zeros[: x.size - cut], out=out[cut:])
    return y


# --- Over channels, and over examples -------------------------------------------------------------------------
#
# Images lie in memory by rows (`funcnn.conv_windows`): a row of one channel over all columns and examples is adjacent.
# Sums over such rows are products with ones, which BLAS computes five times as fast as `sum`; and a number for each
# channel is repeated along a row first, since NumPy's loops over an array and a single number are not vectorised well.


def channel_rows(x: Array) -> Array:
    """The view (..., c) -> (m, c, p) of a batch: of images (h, c, w · n), else (all but channels, c, 1)."""
    if x.ndim == 4:
        n, h, w, c = x.shape
        return np.ascontiguousarray(rows(x)).reshape(h, c, w * n)
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1], 1)


def empty_like_channels(x: Array) -> Array:
    """A new array like a batch, of which `channel_rows` is a view."""
    if x.ndim == 4:
        n, h, w, c = x.shape
        return images(np.empty((h, c, w, n), x.dtype))
    return np.empty(x.shape, x.dtype)


def sum_channels(x: Array) -> Array:
    """For each channel the sum of (m, c, p): -> (c,) in float64, rows of p numbers by BLAS in x's dtype before."""
    sums = x @ np.ones(x.shape[2], x.dtype) if x.shape[2] > 1 else x[..., 0] if x.shape[2] else np.zeros(x.shape[:2])
    total: Array = sums.sum(axis=0, dtype=np.float64)
    return total


def dot_channels(x: Array, y: Array) -> Array:
    """For each channel the sum of the products of two arrays (m, c, p): -> (c,), rounded as in `sum_channels`."""
    if x.shape[2] > 1:
        sums: Array = np.vecdot(x, y)
        return sum_channels(sums[..., None])
    return sum_channels(x * y)


def for_channels(values: Array, x: Array) -> Array:
    """Numbers (c,) for the channels of an array (m, c, p), ready to be combined with it: -> (c, p)."""
    return np.repeat(values, x.shape[2]).reshape(len(values), x.shape[2])


def sum_examples(x: Array) -> Array:
    """The sum over a batch: (n, ...) -> (...)."""
    if x.ndim == 4 and len(x) > 1 and rows(x).flags.c_contiguous:
        total: Array = rows(x) @ np.ones(len(x), x.dtype)  # (h, c, w)
        return total.transpose(0, 2, 1)
    return np.asarray(x.sum(axis=0))


def add_to_examples(x: Array, value: Array) -> Array:
    """x (n, ...) + value (...)."""
    if x.ndim != 4:
        return np.add(x, value)
    y = empty_like_channels(x)
    y[...] = value  # twice as fast as adding a number to each run of examples
    y += x
    return y


# --- Optimizers: one kernel per leaf, block by block ----------------------------------------------------------
#
# Each takes the gradient, the leaf's moments and the leaf, and returns the new leaf and moments, read-only. The
# arithmetic is per element, so neither the size of a block nor the number of threads changes the result.


def _blocks(n: int) -> list[slice]:
    return chunks(n, _BLOCK)


def _by_block(update: Callable[..., None], given: tuple[Array, ...], outputs: int) -> tuple[Array, ...]:
    """New arrays like the last given one, filled by ``update(*given, *outputs)`` block by block, as flat vectors."""
    leaf = given[-1]
    made = tuple(np.empty(leaf.shape, leaf.dtype) for _ in range(outputs))
    flat = [array.reshape(-1) for array in (*given, *made)]
    if leaf.size <= _BLOCK:
        update(*flat)
    else:
        parallel.for_each(lambda block: update(*[array[block] for array in flat]), _blocks(leaf.size))
    for array in made:
        array.flags.writeable = False
    return made


def over_leaves(kernel: Callable[..., tuple[Array, ...]], columns: list[list[Any]]) -> list[tuple[Array, ...]]:
    """``kernel(*row)`` for every row of the columns: a leaf, and its gradient, moments and settings (floats).

    Small leaves with the same settings are joined for one call, since a dozen calls of NumPy on a bias take longer
    than the bias's share of one call; each then gets its part of the results, as views.
    """
    leaves = list(zip(*columns, strict=True))
    results: list[tuple[Array, ...]] = [()] * len(leaves)
    groups: dict[Any, list[int]] = {}
    for i, (leaf, *others) in enumerate(leaves):
        settings = tuple([each for each in others if isinstance(each, float)])
        groups.setdefault((leaf.dtype.char, settings) if leaf.size <= _SMALL else i, []).append(i)
    for group in groups.values():
        if len(group) == 1:
            results[group[0]] = kernel(*leaves[group[0]])
            continue
        joined = kernel(*[_join([column[i] for i in group]) for column in columns])
        end = 0
        for i in group:
            leaf = leaves[i][0]
            part, end = slice(end, end + leaf.size), end + leaf.size
            results[i] = tuple([array[part].reshape(leaf.shape) for array in joined])
    return results


def _join(values: list[Any]) -> Any:
    """Arrays as one vector; of equal floats, one."""
    return values[0] if isinstance(values[0], float) else np.concatenate([array.reshape(-1) for array in values])


def sgd(gradient: Array, leaf: Array, rate: float) -> Array:
    """leaf - rate · gradient."""

    def update(g: Array, old: Array, new: Array) -> None:
        np.multiply(g, -rate, out=new)
        new += old

    return _by_block(update, (gradient, leaf), 1)[0]


def momentum(
    gradient: Array, velocity: Array, leaf: Array, rate: float, decay: float, nesterov: bool
) -> tuple[Array, ...]:
    """v' = decay · v - rate · g, and leaf + v', or with Nesterov's look ahead leaf + decay · v' - rate · g."""

    def update(g: Array, old_v: Array, old: Array, new: Array, v: Array) -> None:
        descent = np.multiply(g, -rate, out=parallel.scratch("optimizer", g.shape, g.dtype))
        np.multiply(old_v, decay, out=v)
        v += descent
        if nesterov:
            np.multiply(v, decay, out=new)
            new += descent
            new += old
        else:
            np.add(old, v, out=new)

    return _by_block(update, (gradient, velocity, leaf), 2)


def rmsprop(
    gradient: Array, square: Array, leaf: Array, rate: float, decay: float, epsilon: float
) -> tuple[Array, ...]:
    """c' = decay · c + (1 - decay) · g², and leaf - rate · g / (sqrt(c') + epsilon)."""

    def update(g: Array, old_c: Array, old: Array, new: Array, c: Array) -> None:
        root = _mean_square(g, old_c, decay, out=c)
        np.sqrt(c, out=root)
        root += epsilon
        np.divide(g, root, out=root)
        root *= -rate
        np.add(old, root, out=new)

    return _by_block(update, (gradient, square, leaf), 2)


def adam(
    gradient: Array, mean: Array, square: Array, leaf: Array,
    rate: float, b1: float, b2: float, epsilon: float, step: int, decay: float,
) -> tuple[Array, ...]:  # fmt: skip
    """m' = b1·m + (1-b1)·g, v' = b2·v + (1-b2)·g², and leaf - rate · (m̂ / (sqrt(v̂) + epsilon) + decay · leaf),

    where m̂ = m' / (1 - b1^t) and v̂ = v' / (1 - b2^t) at the t-th step (`step` = t - 1).
    """
    # m̂ / (sqrt(v̂) + ε) = (r / (1 - b1^t)) · m' / (sqrt(v') + r·ε) with r = sqrt(1 - b2^t): one pass fewer
    root_correction = (1 - b2 ** (step + 1)) ** 0.5
    factor = -rate * root_correction / (1 - b1 ** (step + 1))

    def update(g: Array, old_m: Array, old_v: Array, old: Array, new: Array, m: Array, v: Array) -> None:
        root = _mean_square(g, old_v, b2, out=v)
        np.multiply(g, 1 - b1, out=root)
        np.multiply(old_m, b1, out=m)
        m += root
        np.sqrt(v, out=root)
        root += root_correction * epsilon
        np.divide(m, root, out=root)
        root *= factor
        if decay:
            np.multiply(old, 1 - rate * decay, out=new)
            new += root
        else:
            np.add(old, root, out=new)

    return _by_block(update, (gradient, mean, square, leaf), 3)


def _mean_square(g: Array, old: Array, decay: float, *, out: Array) -> Array:
    """out = decay · old + (1 - decay) · g²; returns an array of their size to compute in."""
    square = parallel.scratch("optimizer", g.shape, g.dtype)
    np.multiply(g, g, out=square)
    square *= 1 - decay
    np.multiply(old, decay, out=out)
    out += square
    return square
