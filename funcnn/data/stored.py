"""Examples that stay in their file, an array that `np.load(path, mmap_mode="r")` or `np.memmap` has opened.

A `Stored` is such an array, or some of its rows by position: what is selected of it is positions, and what is taken is
read then, so that a data set may be larger than the memory. It goes to another process as the file's path.
"""

import math
import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.checks import NUMBERS, as_array
from funcnn.data.formats import DataError
from funcnn.tree import Array, Shape, brief

__all__ = ["Stored", "as_stored", "blocks", "joined", "memory_of"]

_BLOCK = 2**22  # values read at a time
_MOST_ROWS = 1000


class Stored:
    """An array in a file, or some of its rows: it has a length, a shape and a dtype, and reads what is indexed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.arange(10).reshape(5, 2))
    ...     stored = Stored(np.load(f"{folder}/x.npy", mmap_mode="r")).select([4, 0])
    ...     print(stored.shape, stored[:1])
    ...     del stored  # Windows removes no file that is open
    (2, 2) [[8 9]]
    """

    def __init__(self, array: Any, positions: Array | None = None) -> None:
        self.array: Array = np.asarray(array)  # a view of the mapping, no memmap: what is taken of it is a plain array
        self.file: np.memmap[Any, Any] = array.file if isinstance(array, Stored) else array
        self.positions = positions

    # --- What an array has ------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def shape(self) -> Shape:
        return (len(self), *self.array.shape[1:])

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.array) if self.positions is None else len(self.positions)

    def __getitem__(self, index: Any) -> Array:
        """The rows at an index, an int, a slice, positions or a mask, read from the file."""
        if self.positions is None and isinstance(index, (int, np.integer, slice)):
            return np.array(self.array[index])
        at = (np.arange(len(self)) if self.positions is None else self.positions)[index]
        if at.ndim == 0:
            return np.array(self.array[at])
        order = np.argsort(at, kind="stable")  # as they lie on the disk
        rows = np.empty((len(at), *self.array.shape[1:]), self.dtype)
        rows[order] = self.array[at[order]]
        return rows

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All of it, read into memory."""
        if copy is False:
            raise ValueError("examples in a file become an array by being read: pass copy=None")
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"{self.dtype} {self.shape} in {self.file.filename}"

    def select(self, index: Any) -> "Stored":
        """Some of the rows, which stay in the file."""
        at = np.arange(len(self.array)) if self.positions is None else self.positions
        return _of(self.array, self.file, at[np.asarray(index) if not isinstance(index, slice) else index])

    # --- In another process -----------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """Where the array lies in its file, from which another process opens it."""
        path = self.file.filename
        if path is None or self.file.mode == "c":
            how = "it is of no file with a name" if path is None else "mode 'c' keeps what is written out of it"
            raise DataError(
                f"{path or 'a mapped array'}: another process cannot open it, since {how}. Open it with mmap_mode='r', "
                "or train with one worker"
            )
        mapped = np.frombuffer(self.file._mmap, np.uint8)  # type: ignore[attr-defined]  # from a multiple of the page on
        begin = self.file.offset - self.file.offset % mmap.ALLOCATIONGRANULARITY
        start = begin + _address(self.array) - _address(mapped)
        where = start, self.array.shape, self.array.strides, self.dtype
        return _opened, (os.path.abspath(path), os.stat(path).st_size, where, self.positions)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _of(array: Array, file: Any, positions: Array | None) -> Stored:
    made = Stored.__new__(Stored)
    made.array, made.file, made.positions = array, file, positions
    return made


def _opened(path: str, size: int, where: tuple[int, Shape, Shape, Any], positions: Array | None) -> Stored:
    try:
        file = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the examples in it cannot be read by another process: {error}") from error
    if file.size != size:
        raise DataError(f"{path}: {file.size:,} bytes, and it had {size:,} when its examples were opened")
    start, shape, strides, dtype = where
    return _of(np.ndarray(shape, dtype, np.asarray(file), start, strides), file, positions)


# --- What data sets ask ---------------------------------------------------------------------------------------


def as_stored(place: str, name: str, value: Any, *, kinds: str | None = NUMBERS) -> Any:
    """`funcnn.checks.as_array`, but for an array in a file, which stays there: a `Stored`."""
    if isinstance(value, np.memmap) and value.ndim > 0 and value._mmap is not None:  # type: ignore[attr-defined]
        value = Stored(value)  # what copy() and astype() make of one is of the same class, and in memory
    if isinstance(value, Stored):
        if kinds is not None and value.dtype.kind not in kinds:
            raise ValueError(f"{place}: {name} must be numbers, got {value!r}")
        return value
    return as_array(place, name, value, kinds=kinds)


def memory_of(values: Any) -> Any:
    """The values in memory: what is in files is read."""
    return tree.map(np.asarray, values) if isinstance(values, tuple) else np.asarray(values)


def blocks(values: Array | Stored) -> Iterator[Array]:
    """Consecutive rows, a few at a time, so that what is computed of them takes little memory."""
    row = max(1, math.prod(values.shape[1:]))
    step = max(1, min(_MOST_ROWS, _BLOCK // row))
    return (values[first : first + step] for first in range(0, len(values), step))


def joined(first: Array | Stored, second: Array | Stored) -> Array | Stored:
    """The rows of both, one after the other; those of one file stay there.

    Raises ValueError for arrays in two files, which only memory could join.
    """
    if not (isinstance(first, Stored) or isinstance(second, Stored)):
        return np.concatenate([first, second])
    if isinstance(first, Stored) and isinstance(second, Stored) and first.array is second.array:
        at = [np.arange(len(each)) if each.positions is None else each.positions for each in (first, second)]
        return _of(first.array, first.file, np.concatenate(at))
    raise ValueError(
        f"two parts whose examples stay in files become one only if it is the same file, got {brief(first)} and "
        f"{brief(second)}. Put both into one, or keep the validation part"
    )
