"""Element-wise kernels in the form that `benchmarks/kernels.py` shows fastest; the only user of numexpr.

Two forms are here. `fused` evaluates one formula in one pass over memory by numexpr where arrays are large, by
NumPy where they are not. The optimizers' kernels run NumPy in place over blocks that stay in cache, which beats
numexpr's single pass at every size, since square roots and divisions then run vectorised.

Every constant is a Python float or is cast to the arrays' dtype: a float64 scalar would upcast float32 arrays
under NumPy 2, and so would a float literal under numexpr.
"""

from collections.abc import Iterator
from functools import cache
from types import CodeType

import numpy as np

from funcnn.layer import Array

__all__ = ["adam", "fused", "momentum", "normalise", "rmsprop", "sgd"]

_NUMEXPR_FROM = 2**21  # elements: where one pass over memory begins to outweigh NumPy's faster arithmetic
_BLOCK = 2**15  # elements: six arrays of that many floats stay in a core's cache


def fused(formula: str, **values: Array | float) -> Array:
    """An arithmetic formula over arrays of one shape and dtype, as a new array; floats are cast to that dtype.

    The formula holds names, ``+ - * /`` and integers, no float literals.

    >>> fused("a * x + 1", a=0.5, x=np.ones(2, np.float32))
    array([1.5, 1.5], dtype=float32)
    """
    like = next(value for value in values.values() if isinstance(value, np.ndarray))
    large = like.size >= _NUMEXPR_FROM
    number = like.dtype.type if large else float  # NumPy adapts a Python float to the arrays, numexpr does not
    cast = {name: value if isinstance(value, np.ndarray) else number(value) for name, value in values.items()}
    if large:
        import numexpr  # here, since small nets never need it

        return numexpr.evaluate(formula, local_dict=cast, global_dict={})  # type: ignore[no-any-return]
    return eval(_compiled(formula), {"__builtins__": {}}, cast)  # type: ignore[no-any-return]


@cache
def _compiled(formula: str) -> CodeType:
    return compile(formula, "<formula>", "eval")


def normalise(x: Array, scale: Array, shift: Array) -> Array:
    """x · scale + shift along the last axis, in blocks of rows: x (n, c), scale (c,), shift (c,) -> (n, c)."""
    y = np.empty_like(x)
    for rows in _blocks(len(x), x.shape[1]):
        block = y[rows]
        np.multiply(x[rows], scale, out=block)
        block += shift
    return y


# --- Optimizers: one pass over memory per leaf ----------------------------------------------------------------
#
# Each takes the gradient, the leaf's moments and the leaf, and returns the new leaf and moments, read-only. The
# arithmetic is per element, so the size of a block does not change the result.


def _blocks(n: int, row: int = 1) -> Iterator[slice]:
    size = max(1, _BLOCK // row)
    return (slice(start, start + size) for start in range(0, n, size))


def _new(like: Array, count: int) -> tuple[list[Array], list[Array]]:
    """`count` arrays like a leaf, and the same memory as flat vectors."""
    made = [np.empty(like.shape, like.dtype) for _ in range(count)]
    return made, [array.reshape(-1) for array in made]


def _sealed(arrays: list[Array]) -> tuple[Array, ...]:
    for array in arrays:
        array.flags.writeable = False
    return tuple(arrays)


def sgd(gradient: Array, leaf: Array, rate: float) -> Array:
    """leaf - rate · gradient."""
    new = np.empty(leaf.shape, leaf.dtype)
    np.multiply(gradient, -rate, out=new)
    new += leaf
    return _sealed([new])[0]


def momentum(
    gradient: Array, velocity: Array, leaf: Array, rate: float, decay: float, nesterov: bool
) -> tuple[Array, ...]:
    """v' = decay · v - rate · g, and leaf + v', or with Nesterov's look ahead leaf + decay · v' - rate · g."""
    made, (new, v) = _new(leaf, 2)
    g, old_v, old = gradient.reshape(-1), velocity.reshape(-1), leaf.reshape(-1)
    step = np.empty(min(_BLOCK, leaf.size), leaf.dtype)
    for block in _blocks(leaf.size):
        descent = np.multiply(g[block], -rate, out=step[: len(g[block])])
        np.multiply(old_v[block], decay, out=v[block])
        v[block] += descent
        if nesterov:
            np.multiply(v[block], decay, out=new[block])
            new[block] += descent
            new[block] += old[block]
        else:
            np.add(old[block], v[block], out=new[block])
    return _sealed(made)


def rmsprop(
    gradient: Array, square: Array, leaf: Array, rate: float, decay: float, epsilon: float
) -> tuple[Array, ...]:
    """c' = decay · c + (1 - decay) · g², and leaf - rate · g / (sqrt(c') + epsilon)."""
    made, (new, c) = _new(leaf, 2)
    g, old_c, old = gradient.reshape(-1), square.reshape(-1), leaf.reshape(-1)
    scratch = np.empty(min(_BLOCK, leaf.size), leaf.dtype)
    for block in _blocks(leaf.size):
        root = scratch[: len(g[block])]
        _mean_square(g[block], old_c[block], decay, c[block], root)
        np.sqrt(c[block], out=root)
        root += epsilon
        np.divide(g[block], root, out=root)
        root *= -rate
        np.add(old[block], root, out=new[block])
    return _sealed(made)


def adam(
    gradient: Array, mean: Array, square: Array, leaf: Array,
    rate: float, b1: float, b2: float, epsilon: float, step: int, decay: float,
) -> tuple[Array, ...]:  # fmt: skip
    """m' = b1·m + (1-b1)·g, v' = b2·v + (1-b2)·g², and leaf - rate · (m̂ / (sqrt(v̂) + epsilon) + decay · leaf),

    where m̂ = m' / (1 - b1^t) and v̂ = v' / (1 - b2^t) at the t-th step (`step` = t - 1).
    """
    made, (new, m, v) = _new(leaf, 3)
    g, old_m, old_v, old = gradient.reshape(-1), mean.reshape(-1), square.reshape(-1), leaf.reshape(-1)
    # m̂ / (sqrt(v̂) + ε) = (r / (1 - b1^t)) · m' / (sqrt(v') + r·ε) with r = sqrt(1 - b2^t): one pass fewer
    root_correction = (1 - b2 ** (step + 1)) ** 0.5
    factor = -rate * root_correction / (1 - b1 ** (step + 1))
    scratch = np.empty(min(_BLOCK, leaf.size), leaf.dtype)
    for block in _blocks(leaf.size):
        root = scratch[: len(g[block])]
        np.multiply(g[block], 1 - b1, out=root)
        np.multiply(old_m[block], b1, out=m[block])
        m[block] += root
        _mean_square(g[block], old_v[block], b2, v[block], root)
        np.sqrt(v[block], out=root)
        root += root_correction * epsilon
        np.divide(m[block], root, out=root)
        root *= factor
        if decay:
            np.multiply(old[block], 1 - rate * decay, out=new[block])
            new[block] += root
        else:
            np.add(old[block], root, out=new[block])
    return _sealed(made)


def _mean_square(g: Array, old: Array, decay: float, out: Array, scratch: Array) -> None:
    """out = decay · old + (1 - decay) · g², with `scratch` overwritten."""
    np.multiply(g, g, out=scratch)
    scratch *= 1 - decay
    np.multiply(old, decay, out=out)
    out += scratch
