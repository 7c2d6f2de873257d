"""The stand-in's functions: CuPy's names and parameters, from `cupy_names.txt`, and NumPy's arithmetic."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from . import device_array as arrays
from . import indexing
from .introspect import FILE
from .records import caller, waited

__all__ = ["KINDS", "call", "dispatched", "dispatched_ufunc", "inner", "named", "operand", "outer", "poisoned", "ufunc"]

_LINES = FILE.read_text().splitlines()
CUPY_VERSION = _LINES[0].split()[2]
KINDS = {name: (kind, takes) for name, kind, takes in (line.split("\t") for line in _LINES[1:])}
SCALARS = {bool, int, float, complex, np.bool_} | {np.dtype(char).type for char in "bBhHiIlLqQefdFD"}
SHAPED = {"arange", "empty", "eye", "full", "identity", "linspace", "ones", "zeros"}  # of the host's numbers and shapes
ON_HOST = {  # of arrays or without: what comes is the host's
    "broadcast_shapes", "can_cast", "common_type", "iscomplexobj", "isdtype", "isrealobj", "isscalar", "issubdtype",
    "iterable", "may_share_memory", "min_scalar_type", "ndim", "promote_types", "result_type", "shape", "shares_memory",
    "size", "typename",
}  # fmt: skip
WAITING = {  # "synchronize!" in CuPy's sources, or a result whose shape depends on what an array holds
    "argwhere", "bincount", "choose", "compress", "delete", "extract", "flatnonzero", "histogram", "histogram2d",
    "histogramdd", "in1d", "intersect1d", "isin", "linalg.cond", "nanmax", "nanmin", "nonzero", "place",
    "ravel_multi_index", "setdiff1d", "setxor1d", "trim_zeros", "union1d", "unique", "unique_all", "unique_counts",
    "unique_inverse", "unique_values", "unravel_index",
}  # fmt: skip
KEEPS_ORDER = {  # results that may lie otherwise than in rows
    "asfortranarray", "astype", "copy", "full", "full_like", "ones", "ones_like", "pad", "reshape", "roll", "zeros",
    "zeros_like",
}  # fmt: skip


def supported(dtype: Any) -> Any:
    """A dtype that arrays on a device can have."""
    found = np.dtype(dtype)
    if found.kind not in "biufc" or found.itemsize > (16 if found.kind == "c" else 8):
        raise ValueError(f"Unsupported dtype {found}")
    return found


def poisoned(host: Any) -> Any:
    """Memory as it is found: what nobody has written is no number that anyone would take for a result."""
    host.fill({"b": True, "i": 77, "u": 77}.get(host.dtype.kind, np.nan))
    return host


def operand(value: Any) -> Any:
    """What arithmetic takes: an array of the device, or a single number."""
    if isinstance(value, arrays.ndarray):
        return value._host
    if type(value) in SCALARS:
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def check_imports() -> None:
    """Raises KeyError where nothing can be imported, as in `eval` without builtins: CuPy imports when it compiles."""
    frame = caller()
    if frame is not None and "__import__" not in frame.f_builtins:
        raise KeyError("__import__")


class ufunc:
    """A universal function: any out=, dtype= and casting=, no where=; reduce and accumulate for sums and products."""

    def __init__(self, name: str, inner: str, nin: int, nout: int, at: str) -> None:
        self.__name__, self.name, self.nin, self.nout, self.nargs = name, inner, nin, nout, nin + nout
        self._at = None if at == "-" else at
        self._numpy = getattr(np, name)

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        check_imports()
        out, dtype = kwargs.pop("out", None), kwargs.pop("dtype", None)
        casting = kwargs.pop("casting", "same_kind")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.name!r}: {len(args)}")
        inputs, outputs = args[: self.nin], args[self.nin :]
        if out is not None:
            if outputs:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            outputs = out if isinstance(out, tuple) else (out,)
        hosts = [operand(value) for value in inputs]
        for output in outputs:
            if output is not None and not isinstance(output, arrays.ndarray):
                operand(output)
                raise TypeError("Output arguments type must be cupy.ndarray")
        outputs = (*outputs, *(None,) * (self.nout - len(outputs)))
        into = tuple(None if output is None else output._host for output in outputs)
        options: dict[str, Any] = {"casting": casting}
        if any(output is not None for output in outputs):
            options["out"] = into if self.nout > 1 else into[0]
        if dtype is not None:
            options["dtype"] = dtype
        with np.errstate(all="ignore"):
            results = self._numpy(*hosts, **(options if isinstance(self._numpy, np.ufunc) else {}))
        results = results if isinstance(results, tuple) else (results,)
        found = tuple(
            output if output is not None else arrays.ndarray._of(np.array(result, order="C", copy=None))
            for output, result in zip(outputs, results, strict=True)
        )
        return found[0] if self.nout == 1 else found

    def outer(self, A: Any, B: Any, **kwargs: Any) -> Any:
        A, B = named("array")(A), named("array")(B)
        return self(A.reshape(A.shape + (1,) * B.ndim), B.reshape((1,) * A.ndim + B.shape), **kwargs)

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        if self._at is None:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        indexing.scatter(a, indices, b, self.__name__, self._at)

    def reduce(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        method = {"cupy_add": "sum", "cupy_multiply": "prod"}.get(self.name)
        if method is None:
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return getattr(array, method)(axis, dtype, out, keepdims)

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        method = {"cupy_add": "cumsum", "cupy_multiply": "cumprod"}.get(self.name)
        if method is None:
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return getattr(array, method)(axis, dtype, out)


@cache
def signature(name: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {KINDS[name][1]}: None"))


@cache
def named(name: str) -> Callable[..., Any]:
    """The function of a name, as CuPy's module has it. Raises AttributeError for a name that CuPy lacks."""
    kind = KINDS.get(name, ("", ""))[0]
    if not kind:
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    if kind not in ("function", "ufunc") or (name not in _special() and _of_numpy(name) is None):
        raise AttributeError(f"the stand-in for cupy has no {name!r}")
    if kind == "ufunc":
        inner_name, nin, nout, at = KINDS[name][1].split()
        return ufunc(name, inner_name, int(nin), int(nout), at)

    def function(*args: Any, **kwargs: Any) -> Any:
        return call(name, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    return function


def _special() -> dict[str, Callable[..., Any]]:
    from . import special  # which needs this module

    return special.SPECIAL


def _of_numpy(name: str) -> Any:
    found: Any = np
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """A function by its name: CuPy's parameters, NumPy's result, and that on the device."""
    try:
        bound = signature(name).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}(): {error}") from None
    if name.endswith("_like") and bound.arguments.get("subok") is not None:
        raise TypeError("subok is not supported yet")
    if name in WAITING:
        waited(f"{name}()")
    if name in _special():
        return _special()[name](*bound.args, **bound.kwargs)
    inputs: list[Any] = []
    arguments = [inner(value, name, inputs) for value in bound.args]
    options = {key: inner(value, name, inputs) for key, value in bound.kwargs.items()}
    with np.errstate(all="ignore"):
        result = _of_numpy(name)(*arguments, **options)
    return result if name in ON_HOST else outer(result, name, inputs)


def inner(value: Any, name: str, inputs: list[Any]) -> Any:
    """An argument as NumPy's function takes it; the device's arrays among them are noted."""
    if isinstance(value, arrays.ndarray):
        inputs.append(value)
        return value._host
    if isinstance(value, np.ndarray) and name not in SHAPED and name not in ON_HOST:
        raise TypeError(f"Unsupported type {type(value)}")
    if type(value) in (list, tuple):
        return type(value)(inner(part, name, inputs) for part in value)
    return value


def outer(result: Any, name: str, inputs: list[Any]) -> Any:
    """A result on the device: an argument itself, a view of one, or new memory in rows."""
    if isinstance(result, tuple | list):
        parts = [outer(part, name, inputs) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if not isinstance(result, np.ndarray | np.generic | bool | int | float):
        return result
    host = np.asarray(result)
    for given in inputs:
        if host is given._host:
            return given
    for given in inputs:
        if host.size and np.may_share_memory(host, given._host):
            return given._derived(host)
    supported(host.dtype)
    return arrays.ndarray._of(host if name in KEEPS_ORDER else np.array(host, order="C", copy=None))


def dispatched_ufunc(called: Any, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """`__array_ufunc__`, as CuPy has it: the function of the same name, if there is one."""
    outputs = kwargs.get("out", ())
    if "out" in kwargs:
        if len(outputs) != 1:
            raise ValueError("The 'out' parameter must have exactly one array value")
        kwargs["out"] = outputs[0]
    name = called.__name__
    if method not in ("__call__", "outer", "at", "reduce", "accumulate", "reduceat") or name not in KINDS:
        return NotImplemented
    function: Any = named(name)
    if method != "__call__":
        function = getattr(function, method, None)
        if function is None:
            return NotImplemented
    for value in (*inputs, *outputs):
        if type(value) not in SCALARS and not isinstance(value, arrays.ndarray | np.ndarray):
            return NotImplemented
    if name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
        inputs = [v.item() if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in inputs]
    return function(*inputs, **kwargs)


def dispatched(called: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """`__array_function__`, as CuPy has it: the function of the same module and name, if there is one."""
    name = ".".join((*called.__module__.split(".")[1:], called.__name__))
    if name not in KINDS or any(not issubclass(kind, arrays.ndarray | np.ndarray) for kind in types):
        return NotImplemented
    return named(name)(*args, **kwargs)
