"""The operators of the stand-in's arrays, and those methods that are functions too: given to the class here."""

import inspect
from typing import Any

import numpy as np

from . import functions
from .device_array import ndarray

__all__ = ["give_methods", "give_operators"]

BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "divmod": "divmod", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul", "pow": "power",
}  # fmt: skip
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}
COMPARED = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
METHODS = {  # and what they take
    "all": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "argmin": "axis=None, out=None, dtype=None, keepdims=False",
    "argpartition": "kth, axis=-1",
    "argsort": "axis=-1, kind=None",
    "choose": "choices, out=None, mode='raise'",
    "conj": "",
    "conjugate": "",
    "cumprod": "axis=None, dtype=None, out=None",
    "cumsum": "axis=None, dtype=None, out=None",
    "max": "axis=None, out=None, keepdims=False",
    "mean": "axis=None, dtype=None, out=None, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "nonzero": "",
    "prod": "axis=None, dtype=None, out=None, keepdims=False",
    "ptp": "axis=None, out=None, keepdims=False",
    "repeat": "repeats, axis=None",
    "round": "decimals=0, out=None",
    "searchsorted": "v, side='left', sorter=None",
    "std": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "take": "indices, axis=None, out=None",
    "trace": "offset=0, axis1=0, axis2=1, dtype=None, out=None",
    "var": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
}


def left_to(other: Any) -> bool:
    """Whether an operator is left to the other operand, as NEP 13 has it."""
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return ndarray.__array_priority__ < getattr(other, "__array_priority__", 0)


def applied(name: str, x: ndarray, other: Any) -> Any:
    """An operator on the device, or of NumPy if the other operand is no array of it: which dispatches, or refuses."""
    if name == "power" and type(other) in (int, float) and other in (2, 0.5, -1.0):
        return _power(x, other)
    if isinstance(other, ndarray):
        return functions.named(name)(x, other)
    return NotImplemented if left_to(other) else getattr(np, name)(x, other)


def _power(x: ndarray, exponent: float) -> Any:
    """x ** 2, x ** 0.5 and x ** -1.0, for which CuPy takes other kernels; an int is raised to -1 as by any other."""
    if exponent == -1 and isinstance(exponent, int):
        return np.power(x, exponent)
    named = functions.named({2: "square", 0.5: "sqrt", -1.0: "reciprocal"}[exponent])
    kinds = "ifc" if isinstance(exponent, int) else "fc"
    return named(x, dtype=None if x.dtype.kind in kinds else np.result_type(x.dtype, exponent))


def compared(name: str, x: ndarray, other: Any) -> Any:
    """A comparison; what is no number is equal to none of the elements."""
    if isinstance(other, np.ndarray) and other.ndim == 0:
        other = other.item()
    plain = type(other).__eq__ is object.__eq__ and type(other).__ne__ is object.__ne__
    if name in ("equal", "not_equal") and (other is None or plain):
        return ndarray._of(np.full(x.shape, name == "not_equal"))
    return applied(name, x, other)


def give_operators() -> None:
    """Gives the class its operators."""
    for short, name in BINARY.items():
        setattr(ndarray, f"__{short}__", lambda self, other, name=name: applied(name, self, other))
        setattr(ndarray, f"__r{short}__", lambda self, other, name=name: functions.named(name)(other, self))
        if short not in ("divmod", "matmul"):  # CuPy has no product in place: x @= y is x = x @ y
            setattr(ndarray, f"__i{short}__", lambda self, other, name=name: functions.named(name)(self, other, self))
    for short, name in UNARY.items():
        setattr(ndarray, f"__{short}__", lambda self, name=name: functions.named(name)(self))
    for short, name in COMPARED.items():
        setattr(ndarray, f"__{short}__", lambda self, other, name=name: compared(name, self, other))


def _method(name: str, takes: str) -> Any:
    signature = inspect.signature(eval(f"lambda {takes}: None"))

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return functions.named(name)(self, **signature.bind(*args, **kwargs).arguments)

    method.__name__ = name
    return method


def give_methods() -> None:
    """Gives the class the methods that hand on to a function."""
    for name, takes in METHODS.items():
        setattr(ndarray, name, _method(name, takes))
