"""A stand-in for CuPy, for tests where there is no GPU: CuPy's names, limits and errors, NumPy's arithmetic.

Its arrays are NumPy's inside and are never taken for such: no conversion either way unasked, no operation of both
kinds. What CuPy lacks is lacking, and what would make the host wait for the device is listed: `synchronisations`.
Stricter than CuPy, where CuPy is silent: memory that `empty` gives holds NaN, an assignment that writes an element
twice raises, and so does an array of the host wherever a function would take it unasked.

>>> import standin
>>> x = standin.asarray([1.0, 2.0])
>>> with standin.synchronisations() as waits:
...     total = float((x * 2).sum())
>>> total, len(waits)
(6.0, 1)
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

from .device_array import ndarray
from .functions import CUPY_VERSION, KINDS, named, ufunc
from .operators import give_methods, give_operators
from .records import synchronisations, uploads

__all__ = [
    "CUPY_VERSION",
    "KINDS",
    "get_array_module",
    "lib",
    "linalg",
    "ndarray",
    "synchronisations",
    "ufunc",
    "uploads",
]

give_operators()
give_methods()
ndarray.__module__ = __name__  # as CuPy's is "cupy"


class _Part(SimpleNamespace):
    """A module within the module."""

    def __getattr__(self, name: str) -> Any:
        return named(f"{self._name}.{name}")


linalg = _Part(_name="linalg", LinAlgError=np.linalg.LinAlgError)
lib = SimpleNamespace(stride_tricks=_Part(_name="lib.stride_tricks"))


def get_array_module(*args: Any) -> Any:
    """This module if any of the arguments is an array of it, else NumPy."""
    import standin

    return standin if any(isinstance(arg, ndarray) for arg in args) else np


def __getattr__(name: str) -> Any:
    kind = KINDS.get(name, ("", ""))[0]
    if kind in ("class", "constant") and hasattr(np, name):  # dtypes, pi, newaxis
        return getattr(np, name)
    return named(name)
