"""Elements of an array by index, as CuPy does it: indices outside wrap around, and a mask makes the host wait.

From cupy/_core/_routines_indexing.pyx of CuPy 14.2.
"""

from typing import Any

import numpy as np

from . import device_array as arrays
from .records import sent, waited

__all__ = ["get", "put", "scatter"]

AT_DTYPES = {  # what the atomic operations of CuPy take
    "add": "iIlLqQefd", "sub": "iI", "max": "iIlLqQfd", "min": "iIlLqQfd",
    "and": "iIlLqQ", "or": "iIlLqQ", "xor": "iIlLqQ",
}  # fmt: skip


def prepared(array: Any, key: Any) -> tuple[tuple[Any, ...], bool, bool]:
    """A key for the inner array, whether it has arrays, and whether it has masks; an index outside is wrapped."""
    entries = [_entry(entry) for entry in (key if isinstance(key, tuple) else (key,))]
    if not any(entry is Ellipsis for entry in entries):
        entries.append(Ellipsis)  # NumPy then gives a view, never a scalar
    taken = sum(_taken(entry) for entry in entries)
    if taken > array.ndim:
        raise IndexError(f"too many indices for array: array is {array.ndim}-dimensional, but {taken} were indexed")
    axis, has_arrays, has_masks = 0, False, False
    for i, entry in enumerate(entries):
        if isinstance(entry, np.ndarray):
            has_arrays = True
            if entry.dtype.kind == "b":
                has_masks = True
            elif entry.dtype.kind not in "iu":
                raise IndexError(
                    f"arrays used as indices must be of integer or boolean type. (actual: {entry.dtype.type})"
                )
            elif array.shape[axis]:
                entries[i] = entry % array.shape[axis]
        axis += array.ndim - taken if entry is Ellipsis else _taken(entry)
    return tuple(entries), has_arrays, has_masks


def _entry(entry: Any) -> Any:
    if isinstance(entry, arrays.ndarray):
        return entry._host
    if isinstance(entry, slice):
        return slice(*(int(b) if isinstance(b, arrays.ndarray) else b for b in (entry.start, entry.stop, entry.step)))
    if entry is None or entry is Ellipsis:
        return entry
    if np.isscalar(entry) and not isinstance(entry, bool | np.bool_):
        return entry
    index = np.asarray(entry)
    if index.ndim and index.size:
        sent("an index")
    return index.astype(np.int32) if isinstance(entry, list | tuple) and index.size == 0 else index


def _taken(entry: Any) -> int:
    """How many axes an entry of a key takes."""
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, np.ndarray) and entry.dtype.kind == "b" else 1


def get(array: Any, key: Any) -> Any:
    """x[key]: a view, or with arrays in the key a copy."""
    entries, has_arrays, has_masks = prepared(array, key)
    if has_masks:
        waited("a mask as index")
    found = array._host[entries]
    return arrays.ndarray._of(np.array(found, order="C")) if has_arrays else array._derived(found)


def put(array: Any, key: Any, value: Any) -> None:
    """x[key] = value. An array of the host is taken with arrays in the key alone, as CuPy has it."""
    entries, has_arrays, has_masks = prepared(array, key)
    if has_masks:
        waited("a mask as index")
    if isinstance(value, arrays.ndarray):
        value = value._host
    elif not has_arrays and np.shape(value) != ():
        raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
    elif np.shape(value) != ():
        sent("a value")
    if has_arrays and not has_masks and np.size(value) > 1:
        places = np.arange(array.size).reshape(array.shape)[entries]
        if np.unique(places).size < places.size:
            raise ValueError("the same element is written twice: which value stays is undefined on a device")
    with np.errstate(all="ignore"):
        array._host[entries] = value


def scatter(array: Any, key: Any, value: Any, name: str, at: str) -> None:
    """ufunc.at: every element that an index names is changed, as often as it is named."""
    entries, has_arrays, has_masks = prepared(array, key)
    if has_masks:
        waited("a mask as index")
    if has_arrays and not has_masks and array.dtype.char not in AT_DTYPES[at]:
        raise TypeError(f"cupy.{name}.at does not support {array.dtype}")
    if isinstance(value, arrays.ndarray):
        value = value._host
    elif np.shape(value) != ():
        sent("a value")
    getattr(np, name).at(array._host, entries, np.asarray(value).astype(array.dtype))
