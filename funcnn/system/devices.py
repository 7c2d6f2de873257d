"""Where arrays live: on the host, as NumPy's, or on a device, as those of a module made like NumPy (CuPy).

The library's arithmetic asks an array's class which module it is of: `module_of`. What is to be computed on a device is
written for any such module, in `funcnn.arrays.plain`; what is tuned for the host stands beside it in `funcnn.arrays`.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "DEVICES", "beside", "device_module", "device_of", "has_form", "is_array", "is_device_array", "is_device_class",
    "module_of", "on_host", "read_late", "register",
]  # fmt: skip

T = TypeVar("T", bound=type)

DEVICES = {"cuda": "cupy"}  # devices by name, and the module whose arrays lie there
_MODULES: dict[str, Any] = {}  # those in use
_CLASSES: dict[type, tuple[str, Any]] = {}  # of their arrays, with the device and the module


def device_module(device: str) -> Any:
    """The module of a device's arrays; imported when it is first asked for.

    Raises ValueError for a device that is not known, RuntimeError for one that is not here, with the reason.
    """
    if device not in _MODULES:
        if device not in DEVICES:
            names = ", ".join(map(repr, ("cpu", *sorted({*DEVICES, *_MODULES}))))
            raise ValueError(f"device: expected one of {names}, got {device!r}")
        register(device, _imported(device))
    return _MODULES[device]


def _imported(device: str) -> ModuleType:
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            f'device {device!r}: CuPy is not installed ({error}). Run pip install "funcnn[cuda]", or cupy-cuda13x in '
            "its place for CUDA 13; or stay on the CPU"
        ) from error
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own, of what the driver says
        raise RuntimeError(
            f"device {device!r}: CuPy finds no GPU ({error}). Look at nvidia-smi, and whether its driver fits CuPy's "
            "version of CUDA; or stay on the CPU"
        ) from error
    if not found:
        raise RuntimeError(f"device {device!r}: this machine has no GPU that CUDA can use. Stay on the CPU")
    return cupy  # type: ignore[no-any-return]


def register(device: str, module: Any) -> None:
    """Let a module's arrays be those of a device.

    It needs ``ndarray``, ``asarray`` and ``asnumpy``, and what of NumPy's functions the net's layers call; its arrays
    hand NumPy's own functions on to it (``__array_ufunc__``, ``__array_function__``).
    """
    _MODULES[device] = module
    _CLASSES[module.ndarray] = device, module


def is_device_array(value: Any) -> bool:
    """Whether a value is an array on a device."""
    kind = type(value)
    return kind is not np.ndarray and kind is not float and is_device_class(kind)


def is_device_class(kind: type) -> bool:
    """Whether a class is that of a device's arrays."""
    if kind in _CLASSES:
        return True
    if kind.__name__ == "ndarray" and kind.__module__.partition(".")[0] == "cupy":  # one of the user's own making
        register("cuda", sys.modules["cupy"])
        return kind in _CLASSES
    return False


def is_array(value: Any) -> bool:
    """Whether a value is a plain array, on the host or on a device.

    >>> is_array(np.ones(2)), is_array([1.0, 1.0]), is_array(np.ma.array([1.0]))
    (True, False, False)
    """
    return type(value) is np.ndarray or is_device_array(value)


def has_form(value: Any) -> bool:
    """Whether a value has an array's dtype and shape: NumPy's arrays of any class, or a device's."""
    return isinstance(value, np.ndarray) or is_device_array(value)


def module_of(array: Any) -> Any:
    """The module that makes arrays beside this one: NumPy, or the device's.

    >>> module_of(np.ones(2)).__name__
    'numpy'
    """
    return _CLASSES[type(array)][1] if is_device_array(array) else np


def beside(array: Any, other: Any) -> Any:
    """An array of the host's where another array lives: itself, or a copy in C order on the other's device.

    What is no array of the host's stays as it is.

    >>> mask = np.ones(2)
    >>> beside(mask, np.zeros(2)) is mask
    True
    """
    if not is_device_array(other) or not isinstance(array, np.ndarray):
        return array
    return module_of(other).asarray(array, order="C")


def on_host(value: Any) -> Any:
    """A number as it is; of an array () on a device the Python number, for which the host waits.

    >>> on_host(0.5)
    0.5
    """
    return value.item() if is_device_array(value) else value


def read_late(*fields: str) -> Callable[[T], T]:
    """Let fields of a class hold numbers that lie on a device, as `on_host` gives them when they are read.

    `vars` has them as they lie. The class is frozen and has no slots: what its ``__init__`` puts there, no property is
    asked to set.
    """

    def reader(name: str) -> property:
        return property(lambda self: on_host(vars(self)[name]))

    def mark(kind: T) -> T:
        for name in fields:
            setattr(kind, name, reader(name))
        return kind

    return mark


def device_of(array: Any) -> str:
    """The device's name, "cpu" for the host's.

    >>> device_of(np.ones(2))
    'cpu'
    """
    return _CLASSES[type(array)][0] if is_device_array(array) else "cpu"
