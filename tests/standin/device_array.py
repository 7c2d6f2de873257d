"""The array of the stand-in for CuPy: a NumPy array that its class keeps to itself, with CuPy's methods alone."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import functions, indexing, special
from .memory import Device, Flags
from .records import sent, waited

__all__ = ["ndarray"]

REFUSAL = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)


class ndarray:
    """An array as on a device: nothing takes it for NumPy's, nor does it take NumPy's for its own.

    Operators, methods, dispatch and errors are those of CuPy 14.2 (cupy/_core/core.pyx); `cupy_names.txt` lists its
    attributes. What the class lacks, CuPy lacks, or the library has no use for.
    """

    __slots__ = ("__weakref__", "_base", "_host")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(self, shape: Any, dtype: Any = float, memptr: None = None, strides: None = None, order: str = "C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in has no pointers to memory")
        self._host, self._base = functions.poisoned(np.empty(shape, dtype, order)), None

    @classmethod
    def _of(cls, host: Any, base: "ndarray | None" = None) -> "ndarray":
        """An array around a host's, which nobody else may hold; a view of another's memory has that as its base."""
        self = cls.__new__(cls)
        self._host, self._base = np.asarray(host), base
        return self

    def _derived(self, host: Any) -> "ndarray":
        """What NumPy made of the inner array: a view of this one, or an array of its own."""
        if np.may_share_memory(host, self._host):
            return ndarray._of(host, self if self._base is None else self._base)
        return ndarray._of(host)

    # Memory

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape  # type: ignore[no-any-return]

    @shape.setter
    def shape(self, shape: Any) -> None:
        self._host = self._host.reshape(shape, copy=False)

    @property
    def dtype(self) -> Any:
        return self._host.dtype

    @property
    def flags(self) -> Flags:
        inner = self._host.flags
        return Flags(inner.c_contiguous, inner.f_contiguous, self._base is None)

    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    base = property(lambda self: self._base)
    device = property(lambda self: Device())
    T = property(lambda self: self if self.ndim < 2 else self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    real = property(lambda self: self._derived(self._host.real))
    imag = property(lambda self: self._derived(self._host.imag))

    # From the device to the host: the host waits

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        waited("get()")
        return self._got(order, out)

    def _got(self, order: str = "C", out: Any = None) -> Any:
        if out is None:
            return np.array(self._host, order=order, copy=True)  # type: ignore[call-overload]
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        out[...] = self._host
        return out

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        waited("item()")
        return self._host.item()

    def tolist(self) -> Any:
        waited("tolist()")
        return self._host.tolist()

    def tobytes(self, order: str = "C") -> bytes:
        waited("tobytes()")
        return self._host.tobytes(order)  # type: ignore[no-any-return]

    def __int__(self) -> int:
        waited("int()")
        return int(self._host)

    def __float__(self) -> float:
        waited("float()")
        return float(self._host)

    def __complex__(self) -> complex:
        waited("complex()")
        return complex(self._host)

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        if self.size == 0:
            warnings.warn("The truth value of an empty array is ambiguous.", DeprecationWarning, stacklevel=2)
            return False
        waited("bool()")
        return bool(self._host)

    def __repr__(self) -> str:
        waited("repr()")
        return repr(self._host)

    def __str__(self) -> str:
        waited("str()")
        return str(self._host)

    def __format__(self, specification: str) -> str:
        waited("format()")
        return format(self._host, specification)

    def __reduce__(self) -> Any:
        waited("pickling")
        return special.array, (self._got("A"),)

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        sent("set()")
        self._host[...] = arr

    def __array__(self, dtype: Any = None) -> Any:
        raise TypeError(REFUSAL)

    # NumPy's functions

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return functions.dispatched_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return functions.dispatched(func, types, args, kwargs)

    # Copies and shapes

    def astype(
        self, dtype: Any, order: Any = "K", casting: None = None, subok: None = None, copy: Any = True
    ) -> "ndarray":
        if casting is not None or subok is not None:
            raise TypeError(f"{'casting' if casting is not None else 'subok'} is not supported yet")
        with np.errstate(all="ignore"):
            host = self._host.astype(functions.supported(dtype), order=order or "K", copy=bool(copy))
        return self if host is self._host else ndarray._of(host)

    def copy(self, order: str = "C") -> "ndarray":
        return ndarray._of(self._host.copy(order))

    def __copy__(self) -> "ndarray":
        return self.copy()

    def __deepcopy__(self, memo: Any) -> "ndarray":
        return self.copy()

    def view(self, dtype: Any = None) -> "ndarray":
        return self._derived(self._host.view() if dtype is None else self._host.view(dtype))

    def fill(self, value: Any) -> None:
        if isinstance(value, ndarray):
            if value.shape != ():
                raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
            value = value._host
        elif np.shape(value) != ():
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._host.fill(value)

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> "ndarray":
        return self._derived(self._host.reshape(*shape, order=order, copy=copy))

    def ravel(self, order: Any = "C") -> "ndarray":
        return self._derived(self._host.ravel(order))

    def flatten(self, order: Any = "C") -> "ndarray":
        return ndarray._of(self._host.flatten(order))

    def transpose(self, *axes: Any) -> "ndarray":
        return self._derived(self._host.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> "ndarray":
        if not all(-self.ndim <= axis < self.ndim for axis in (axis1, axis2)):
            raise ValueError("Axis out of range")
        return self._derived(self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> "ndarray":
        return self._derived(self._host.squeeze(axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> "ndarray":
        return self._derived(self._host.diagonal(offset, axis1, axis2))

    # Elements

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self._host)

    def __iter__(self) -> Iterator["ndarray"]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> "ndarray":
        return indexing.get(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        indexing.put(self, key, value)

    # What is a function too; `operators` adds the rest

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> "ndarray":
        return functions.call("clip", self, min, max, out)  # type: ignore[no-any-return]

    def dot(self, b: Any, out: Any = None) -> "ndarray":
        return functions.call("dot", self, b, out=out)  # type: ignore[no-any-return]

    def compress(self, condition: Any, axis: Any = None, out: Any = None) -> "ndarray":
        return functions.call("compress", condition, self, axis, out)  # type: ignore[no-any-return]

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        special.check_sort(kind)
        if not self.flags.c_contiguous:
            raise NotImplementedError("Sorting non-contiguous array is not supported.")
        self._host.sort(axis=axis, kind="stable")
