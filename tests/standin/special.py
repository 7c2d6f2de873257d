"""The stand-in's functions whose parameters, results or errors are not NumPy's, as CuPy 14.2 has them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import device_array as arrays
from .functions import call, inner, operand, outer, poisoned, supported
from .records import sent, waited

__all__ = ["SPECIAL", "array", "check_sort"]


def array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> Any:
    """An array on the device, of one there, of the host's, of numbers, or of a sequence of arrays of one shape."""
    if isinstance(obj, arrays.ndarray):
        made = obj.astype(obj.dtype if dtype is None else dtype, order=order, copy=bool(copy))
        return made if ndmin <= made.ndim else made.reshape((1,) * (ndmin - made.ndim) + made.shape)
    if isinstance(obj, list | tuple) and obj and all(isinstance(part, arrays.ndarray) for part in obj):
        made = call("stack", list(obj))
        return made if dtype is None else made.astype(dtype, copy=False)
    host = np.array(obj, dtype=dtype, order=order, ndmin=ndmin)
    supported(host.dtype)
    if host.ndim and host.size:
        sent("array()")
    return arrays.ndarray._of(host)


def _asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> Any:
    return array(a, dtype, copy, order or "K")


def _contiguous(name: str) -> Callable[..., Any]:
    def contiguous(a: Any, dtype: Any = None) -> Any:
        if not isinstance(a, arrays.ndarray):
            raise TypeError(f"Argument 'a' has incorrect type (expected cupy.ndarray, got {type(a).__name__})")
        return outer(getattr(np, name)(a._host, dtype), name, [a])

    return contiguous


def _asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> Any:
    if isinstance(a, arrays.ndarray):
        return a.get(stream, order, out, blocking)
    if out is None:
        return np.asarray(a, order=order)  # type: ignore[call-overload]
    out[...] = a
    return out


def _matmul(a: Any, b: Any, out: Any = None, casting: str = "same_kind", **options: Any) -> Any:
    for x in (a, b, *(() if out is None else (out,))):
        if not isinstance(x, arrays.ndarray):
            raise TypeError(f"Argument has incorrect type (expected cupy.ndarray, got {type(x).__name__})")
    with np.errstate(all="ignore"):
        result = np.matmul(a._host, b._host, out=None if out is None else out._host, casting=casting, **options)
    return arrays.ndarray._of(result) if out is None else out


def _einsum(*operands: Any, dtype: Any = None, optimize: Any = False, **others: Any) -> Any:
    if others:
        raise TypeError(f"Did not understand the following kwargs: {list(others)}")
    inputs: list[Any] = []
    result = np.einsum(*[inner(x, "einsum", inputs) for x in operands], dtype=dtype, optimize=optimize)
    if len(operands) == 3 and isinstance(operands[0], str):
        return arrays.ndarray._of(_laid_out(result, *operands))
    return outer(result, "einsum", inputs)


def _laid_out(result: Any, subscripts: str, a: Any, b: Any) -> Any:
    """A product of two as CuPy leaves it: rows of the second's axes and columns of the first's, each in order of label.

    It is a transposed view, not contiguous: what asks for rows afterwards copies it.
    """
    taken, _, out = subscripts.replace(" ", "").partition("->")
    rest = "".join(map(chr, range(1, 9)))  # labels of "...", before all others
    labels = [
        each.replace("...", rest[8 + len(each) - 3 - x.ndim :])
        for each, x in zip(taken.split(","), (a, b), strict=True)
    ]
    if "->" not in subscripts:
        return np.array(result, order="C")
    out = out.replace("...", rest[8 + len(out) - 3 - result.ndim :])
    first, second = (
        {k for k, n in zip(each, x.shape, strict=True) if n > 1} for each, x in zip(labels, (a, b), strict=True)
    )
    if not (first & second) - set(out):  # nothing is summed: a multiplication
        return np.array(result, order="C")
    order = [*sorted(first & second & set(out)), *sorted(second - first), *sorted(first - second)]
    axes = [out.index(k) for k in order if k in out]
    axes += [axis for axis in range(result.ndim) if axis not in axes]
    return np.ascontiguousarray(result.transpose(axes)).transpose(np.argsort(axes))


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if not hasattr(condition, "astype"):
        raise AttributeError(f"{type(condition).__name__!r} object has no attribute 'astype'")
    if x is None and y is None:
        return call("nonzero", condition)
    if x is None or y is None:
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    return arrays.ndarray._of(np.where(operand(condition), operand(x), operand(y)))


def _copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
    if not isinstance(dst, arrays.ndarray) or not (where is None or isinstance(where, arrays.ndarray | bool)):
        raise TypeError("copyto(): the target and where= must be arrays of the device")
    if isinstance(src, np.ndarray):
        if src.size != 1:
            raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
        src = src.squeeze()[()]
    mask = True if where is None else where._host if isinstance(where, arrays.ndarray) else where
    with np.errstate(all="ignore"):
        np.copyto(dst._host, operand(src), casting=casting, where=mask)


def check_sort(kind: Any) -> None:
    """Raises ValueError for a sort that CuPy lacks: all of its own are stable."""
    if kind is not None and kind != "stable":
        raise ValueError("kind can only be None or 'stable'")


def _along(a: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if a.ndim != indices.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    axis %= a.ndim
    rest = np.ogrid[tuple(slice(n) for n in a.shape)]
    return tuple(indices if i == axis else arrays.ndarray._of(rest[i]) for i in range(a.ndim))


def _take_along_axis(a: Any, indices: Any, axis: int) -> Any:
    if axis is None:
        a, axis = a.ravel(), 0
    return a[_along(a, indices, axis)]


def _put_along_axis(arr: Any, indices: Any, values: Any, axis: int) -> None:
    arr[_along(arr, indices, axis)] = values


def _take(a: Any, indices: Any, axis: Any = None, out: Any = None) -> Any:
    """Elements by index, of which those outside wrap around."""
    if not np.isscalar(indices) and not isinstance(indices, arrays.ndarray):
        sent("indices")
        indices = arrays.ndarray._of(np.asarray(indices, dtype=int))
    inner = indices._host if isinstance(indices, arrays.ndarray) else indices
    if out is not None and out.dtype != a.dtype:
        raise TypeError("Output dtype mismatch")
    result = np.take(a._host, inner, axis, None if out is None else out._host, mode="wrap")
    return arrays.ndarray._of(result) if out is None else out


def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    if isinstance(repeats, np.ndarray):
        raise TypeError("'repeats' does not accept numpy.ndarray; convert with cupy.array() first")
    if not isinstance(repeats, int | np.integer):
        waited("repeat() by an array")
    inner = repeats._host if isinstance(repeats, arrays.ndarray) else repeats
    return arrays.ndarray._of(np.repeat(a._host, inner, axis))


def _sorted(name: str) -> Callable[..., Any]:
    def sort(a: Any, axis: Any = -1, kind: Any = None) -> Any:
        check_sort(kind)
        return outer(getattr(np, name)(operand(a), axis, kind="stable"), name, [])

    return sort


def _lexsort(keys: Any) -> Any:
    if not isinstance(keys, arrays.ndarray):
        raise AttributeError(f"{type(keys).__name__!r} object has no attribute 'ndim'")
    if keys.ndim > 2:
        raise NotImplementedError("Keys with the rank of three or more is not supported in lexsort")
    return arrays.ndarray._of(np.lexsort(keys._host))


def _joined(name: str) -> Callable[..., Any]:
    def join(tup: Any, *args: Any, **kwargs: Any) -> Any:
        parts = list(tup)
        if any(not isinstance(part, arrays.ndarray) for part in parts):
            raise TypeError("Only cupy arrays can be concatenated")
        if name == "concatenate" and any(part.ndim == 0 for part in parts):
            raise TypeError("zero-dimensional arrays cannot be concatenated")
        inputs: list[Any] = []
        options = {key: inner(value, name, inputs) for key, value in kwargs.items()}
        rest = [inner(value, name, inputs) for value in args]
        return outer(getattr(np, name)([p._host for p in parts], *rest, **options), name, inputs)

    return join


def _as_strided(x: Any, shape: Any = None, strides: Any = None) -> Any:
    return x._derived(np.lib.stride_tricks.as_strided(x._host, shape, strides))


def _sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    """A view, but it sends the window's shape to the device and compares each of its numbers there."""
    if writeable:
        raise NotImplementedError("Writeable views are not supported.")
    sent("sliding_window_view()")
    waited("sliding_window_view()")
    return x._derived(np.lib.stride_tricks.sliding_window_view(x._host, window_shape, axis))


def _diag(v: Any, k: int = 0) -> Any:
    return arrays.ndarray._of(np.array(np.diag(operand(v), k)))


def _compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    if not isinstance(condition, arrays.ndarray):
        sent("a condition")
        condition = arrays.ndarray._of(np.asarray(condition))
    found = np.compress(condition._host, a._host, axis, None if out is None else out._host)
    return arrays.ndarray._of(found) if out is None else out


def _empty(host: Any) -> Any:
    supported(host.dtype)
    return arrays.ndarray._of(poisoned(host))


def _average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    if weights is not None:
        waited("average() by weights")
    inputs: list[Any] = []
    by = inner(weights, "average", inputs)
    return outer(np.average(operand(a), axis, by, returned, keepdims=keepdims), "average", inputs)


def _product(name: str) -> Callable[..., Any]:
    """A product of arrays, neither of which may be a number."""

    def product(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        for x in (a, b):
            if not isinstance(x, arrays.ndarray):
                raise TypeError(f"Argument has incorrect type (expected cupy.ndarray, got {type(x).__name__})")
        inputs: list[Any] = [a, b]
        options = {key: inner(value, name, inputs) for key, value in kwargs.items()}
        rest = [inner(value, name, inputs) for value in args]
        return outer(getattr(np, name)(a._host, b._host, *rest, **options), name, inputs)

    return product


def _arg(name: str) -> Callable[..., Any]:
    def arg(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        found = getattr(np, name)(operand(a), axis, None if out is None else out._host, keepdims=keepdims)
        return out if out is not None else arrays.ndarray._of(found if dtype is None else found.astype(dtype))

    return arg


SPECIAL: dict[str, Callable[..., Any]] = {
    "argmax": _arg("argmax"),
    "argmin": _arg("argmin"),
    "argsort": _sorted("argsort"),
    "array": array,
    "asanyarray": _asarray,
    "asarray": _asarray,
    "ascontiguousarray": _contiguous("ascontiguousarray"),
    "asfortranarray": _contiguous("asfortranarray"),
    "asnumpy": _asnumpy,
    "average": _average,
    "compress": _compress,
    "concat": _joined("concatenate"),
    "concatenate": _joined("concatenate"),
    "copyto": _copyto,
    "diag": _diag,
    "dot": _product("dot"),
    "einsum": _einsum,
    "empty": lambda *a, **k: _empty(np.empty(*a, **k)),
    "empty_like": lambda a, *r, **k: _empty(np.empty_like(operand(a), *r, **k)),
    "hstack": _joined("hstack"),
    "inner": _product("inner"),
    "lexsort": _lexsort,
    "lib.stride_tricks.as_strided": _as_strided,
    "lib.stride_tricks.sliding_window_view": _sliding_window_view,
    "linalg.matmul": _matmul,
    "matmul": _matmul,
    "outer": _product("outer"),
    "put_along_axis": _put_along_axis,
    "repeat": _repeat,
    "sort": _sorted("sort"),
    "stack": _joined("stack"),
    "take": _take,
    "take_along_axis": _take_along_axis,
    "tensordot": _product("tensordot"),
    "vdot": _product("vdot"),
    "vstack": _joined("vstack"),
    "where": _where,
}
