"""Element-wise arithmetic in the form that `benchmarks/elementwise.py` shows fastest; the only user of numexpr.

The fastest form of almost everything is NumPy over blocks that stay in cache, the blocks spread over threads:
`elementwise` does that, and so do the optimizers' updates (`funcnn.arrays.updates`). `fused` evaluates one formula: by
numexpr on large arrays, by NumPy on small ones, such as the blocks of `elementwise`.

Every constant is a Python float or is cast to the arrays' dtype: a float64 scalar would upcast float32 arrays
under NumPy 2, and so would a float literal under numexpr.
"""

import math
from collections.abc import Callable
from functools import cache, wraps
from types import CodeType
from typing import ParamSpec, TypeVar

import numpy as np

from funcnn.arrays.threads import for_each, in_a_task, slices
from funcnn.tree import Array

__all__ = [
    "BLOCK", "blocks", "elementwise", "fused", "positive_part", "tanh_gelu", "tanh_gelu_gradient", "underflow_is_zero",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")

_NUMEXPR_FROM = 2**22  # elements: where one pass over memory begins to outweigh NumPy's faster arithmetic
_ZEROS = 2**12  # elements
BLOCK = 2**17  # elements: fewer make threads wait for the interpreter between operations, more leave the cache


def fused(formula: str, **values: Array | float) -> Array:
    """An arithmetic formula over arrays of one shape and dtype, as a new array; floats are cast to that dtype.

    The formula holds names, ``+ - * /`` and integers, no float literals.

    >>> fused("a * x + 1", a=0.5, x=np.ones(2, np.float32))
    array([1.5, 1.5], dtype=float32)
    """
    like = next(value for value in values.values() if isinstance(value, np.ndarray))
    number = like.dtype.type  # for NumPy too: what is made of numbers alone is then rounded as by numexpr
    cast = {name: value if isinstance(value, np.ndarray) else number(value) for name, value in values.items()}
    if like.size >= _NUMEXPR_FROM:
        import numexpr  # here, since small nets never need it

        return numexpr.evaluate(formula, local_dict=cast, global_dict={})  # type: ignore[no-any-return]
    return eval(_compiled(formula), {"__builtins__": {}}, cast)  # type: ignore[no-any-return]


@cache
def _compiled(formula: str) -> CodeType:
    return compile(formula, "<formula>", "eval")


def elementwise(function: Callable[..., Array], *arrays: Array) -> Array:
    """An element-wise function of arrays of one shape, block by block where they are large, in their memory order."""
    first = arrays[0]
    if first.size <= BLOCK or in_a_task() or any(array.strides != first.strides for array in arrays):
        return function(*arrays)
    flat = [array.ravel(order="K") for array in arrays]
    if not all(np.may_share_memory(array, view) for array, view in zip(arrays, flat, strict=True)):
        return function(*arrays)  # the elements have gaps between them, or some appear many times
    out = np.empty_like(first)
    flat_out = out.ravel(order="K")

    def fill(block: slice) -> None:
        flat_out[block] = function(*[array[block] for array in flat])

    for_each(fill, blocks(first.size))
    return out


def blocks(n: int) -> list[slice]:
    """Slices of n positions that stay in cache, a task each."""
    return slices(n, BLOCK)


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


_SLOPE = math.sqrt(2 / math.pi)
_CUBE = 0.044715


def _gelu_tanh(x: Array) -> tuple[Array, Array, Array]:
    """x clipped, its square, and the tanh in gelu: beyond ±10 that is ±1 to the last bit, and x³ could overflow.

    In place, step by step, as what is made of them: each new array would leave the cache and be fetched again.
    """
    near = np.clip(x, -10, 10)
    square = np.square(near)
    t = square * (_SLOPE * _CUBE)
    t += _SLOPE
    t *= near
    return near, square, np.tanh(t, out=t)


def tanh_gelu(x: Array) -> Array:
    """y = x · (1 + t) / 2, t = tanh(u), u = sqrt(2/π) · (x + 0.044715 x³)."""
    _, _, y = _gelu_tanh(x)
    y *= 0.5
    y += 0.5
    y *= x
    return y


def tanh_gelu_gradient(x: Array, dy: Array) -> Array:
    """dx = dy · (1 + t) / 2 · (1 + x · (1 - t) · du/dx)."""
    near, slope, t = _gelu_tanh(x)
    slope *= 3 * _SLOPE * _CUBE
    slope += _SLOPE
    slope *= near
    slope *= np.subtract(1, t, out=near)
    slope += 1
    t *= 0.5
    t += 0.5
    slope *= t
    slope *= dy
    return slope


def underflow_is_zero(function: Callable[P, T]) -> Callable[P, T]:
    """A pure function, in which what is too small for its dtype is 0 also under ``np.seterr(under="raise")``.

    >>> with np.errstate(all="raise"):
    ...     print(underflow_is_zero(np.exp)(np.array([-1000.0])))
    [0.]
    """

    @wraps(function)
    def forgiving(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except FloatingPointError:
            pass
        # Once more, and only now: np.errstate at every call would take as long as a small layer.
        with np.errstate(under="ignore"):
            return function(*arguments, **options)

    return forgiving
