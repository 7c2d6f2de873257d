"""Where the tests of kernels run: on a GPU, if CuPy finds one, and by emulation otherwise."""

import importlib
from typing import Any

import numpy as np

__all__ = ["GPU", "OnDevice"]


def _gpu() -> Any:
    try:
        import cupy

        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except Exception:  # no CuPy, no driver or no device: CuPy has an error of its own for each
        return None


GPU = _gpu()


class OnDevice:
    """A module of `funcnn.arrays.cuda` whose functions take and give NumPy's arrays, wherever they compute."""

    def __init__(self, name: str) -> None:
        self.module = importlib.import_module(f"funcnn.arrays.cuda.{name}")

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.module, name)
        if GPU is None or not callable(function):
            return function

        def called(*arguments: Any, **options: Any) -> Any:
            there = _each(GPU.asarray, np.ndarray, arguments)
            return _each(GPU.asnumpy, GPU.ndarray, function(*there, **options))

        return called


def _each(function: Any, kind: type, value: Any) -> Any:
    """A value with a function of each of its arrays, also in tuples and lists."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_each(function, kind, part) for part in value])
    return type(value)(_each(function, kind, part) for part in value) if isinstance(value, tuple | list) else value
