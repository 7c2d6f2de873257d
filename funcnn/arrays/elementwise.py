"""Element-wise arithmetic in the form that `benchmarks/elementwise.py` shows fastest; the only user of numexpr.

The fastest form of almost everything is NumPy over blocks that stay in cache, the blocks spread over threads:
`elementwise` does that, and so do the optimizers' updates (`funcnn.arrays.updates`). `fused` evaluates one formula: by
numexpr on large arrays, by NumPy on small ones, such as the blocks of `elementwise`.

Every constant is a Python float or is cast to the arrays' dtype: a float64 scalar would upcast float32 arrays
under NumPy 2, and so would a float literal under numexpr.
"""

from collections.abc import Callable
from functools import cache, wraps
from types import CodeType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from funcnn.arrays.seam import named, refuse_both_kinds, tuned, tuned_by
from funcnn.arrays.threads import for_each, in_a_task, slices
from funcnn.system.devices import has_form
from funcnn.tree import Array

__all__ = [
    "BLOCK", "Fill", "activate", "activate_back", "blocks", "elementwise", "filled", "fused",
    "positive_part", "underflow_is_zero", "value_and_slope",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")

_NUMEXPR_FROM = 2**22  # elements: where one pass over memory begins to outweigh NumPy's faster arithmetic
_CLIPPED = 2**13  # elements, from which on np.clip's dearer call pays
BLOCK = 2**17  # elements: fewer make threads wait for the interpreter between operations, more leave the cache

Fill = Callable[..., Any]  # of arrays, the last of which it writes


def fused(formula: str, **values: Array | float) -> Array:
    """An arithmetic formula over arrays of one shape and dtype, as a new array; floats are cast to that dtype.

    The formula holds names, ``+ - * /`` and integers, no float literals.

    >>> fused("a * x + 1", a=0.5, x=np.ones(2, np.float32))
    array([1.5, 1.5], dtype=float32)
    """
    like: Any = next(value for value in values.values() if has_form(value))
    number = like.dtype.type  # for NumPy too: what is made of numbers alone is then rounded as by numexpr
    cast = {name: value if has_form(value) else number(value) for name, value in values.items()}
    if like.size >= _NUMEXPR_FROM and isinstance(like, np.ndarray):
        import numexpr  # here, since small nets never need it

        return numexpr.evaluate(formula, local_dict=cast, global_dict={})  # type: ignore[no-any-return]
    return eval(_compiled(formula), _NAMES, cast)  # type: ignore[no-any-return]


_NAMES = {"__builtins__": {"__import__": __import__}}  # for CuPy, which imports when it compiles a kernel


@cache
def _compiled(formula: str) -> CodeType:
    return compile(formula, "<formula>", "eval")


def elementwise(function: Callable[..., Array], *arrays: Array) -> Array:
    """An element-wise function of arrays of one shape, block by block where they are large, in their memory order."""
    first = arrays[0]
    if not isinstance(first, np.ndarray):
        return function(*arrays)  # a device needs no blocks
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


@tuned
def positive_part(x: Array, y: Array | None = None) -> Array:
    """max(x, 0). By `clip`, since a maximum with a scalar is not vectorised and takes three times as long."""
    y = np.empty_like(x) if y is None else y
    if x.size < _CLIPPED:
        return np.maximum(x, 0, out=y)
    return np.clip(x, 0, np.inf, out=y)


def value_and_slope(fill: Fill, x: Array, *, slope: bool) -> tuple[Array, Array | None]:
    """An element-wise function and, if asked for, its slope, block by block: what both are made of is made once.

    `fill(x, y, slope)` writes them into arrays like x, or y alone where the slope is None. float16 is computed in
    float32.

    >>> def square(x, y, slope):
    ...     np.square(x, out=y)
    ...     if slope is not None:
    ...         np.multiply(x, 2, out=slope)
    >>> value_and_slope(square, np.array([3.0]), slope=True)
    (array([9.]), array([6.]))
    """
    if x.dtype.char == "e":
        made = value_and_slope(fill, x.astype(np.float32), slope=slope)
        return made[0].astype(x.dtype), None if made[1] is None else made[1].astype(x.dtype)
    y, dy_dx = np.empty_like(x), np.empty_like(x) if slope else None
    if dy_dx is None:
        _by_blocks(lambda x, y: fill(x, y, None), x, y)
    else:
        _by_blocks(fill, x, y, dy_dx)
    return y, dy_dx


def filled(fill: Fill, *arrays: Array) -> Array:
    """A new array like the first, which ``fill(*arrays, out)`` writes value by value, block by block.

    Where a function gives an array of its own (`elementwise`), a block of it has to be copied, which takes longer than
    a comparison or a product.

    >>> filled(np.add, np.ones(2), np.ones(2))
    array([2., 2.])
    """
    out = np.empty_like(arrays[0])
    _by_blocks(fill, *arrays, out)
    return out


@tuned_by("x")
def activate(function: Any, x: Array, *, slope: bool) -> tuple[Array, Array | None]:
    """y = f(x), and f'(x) of a function that keeps it, if asked for; else None.

    The function is a value in one of three forms, as `funcnn.nn.activations.Activation` says.
    """
    if function.keeps_slope:
        return value_and_slope(function.fill, x, slope=slope)
    by_blocks = function.is_elementwise and not function.writes  # else it goes so by itself, or couples values
    return elementwise(function.forward, x) if by_blocks else function.forward(x), None


@tuned_by("kept")
def activate_back(function: Any, kept: Array, dy: Array) -> Array:
    """dx of dy and what the function has kept: y, x or its slope."""
    by_blocks = function.is_elementwise and not (function.writes or function.keeps_slope)
    return elementwise(function.gradient, kept, dy) if by_blocks else function.gradient(kept, dy)


def _by_blocks(fill: Fill, *arrays: Array) -> None:
    """Let a function go over arrays of one shape, in blocks where they are large and lie in memory alike."""
    first = arrays[0]
    small = first.size <= BLOCK or not isinstance(first, np.ndarray)  # a device needs no blocks
    if small or any(array.strides != first.strides for array in arrays):
        fill(*arrays)
        return
    flat = [array.ravel(order="K") for array in arrays]
    if not all(np.may_share_memory(array, view) for array, view in zip(arrays, flat, strict=True)):
        fill(*arrays)  # the elements have gaps between them, or some appear many times
    elif in_a_task():
        for block in blocks(first.size):
            fill(*[array[block] for array in flat])
    else:
        for_each(lambda block: fill(*[array[block] for array in flat]), blocks(first.size))


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
        except (AttributeError, TypeError, ValueError) as error:
            its = named(function, arguments, options)
            place = repr(its["settings"]) if "settings" in its else function.__name__
            refuse_both_kinds(error, place, **its)
            raise
        # Once more, and only now: np.errstate at every call would take as long as a small layer.
        with np.errstate(under="ignore"):
            return function(*arguments, **options)

    return forgiving
