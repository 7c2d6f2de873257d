"""Memory that several processes see: blocks of bytes, trees of arrays laid out in them, values handed over in them."""

import itertools
import math
import mmap
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import numpy as np

from funcnn import tree
from funcnn.tree import Array, Shape

__all__ = ["Block", "Handle", "Place", "lay_out", "open_block", "pack", "unpack", "views"]

_ALIGNED = 64  # bytes: a line of the cache, and the widest vector
_numbers = itertools.count()


class Handle(NamedTuple):
    """By what another process opens a block: its name in the system, and its size.

    The system gives the name of a closed block to another one; the number is given once.
    """

    name: str
    size: int
    number: int


class Block:
    """New memory that other processes may open by its handle, until it is closed; it is zero at first.

    Those who have it keep it, and it is gone with the last of them, however that ends. On Linux it is a file without
    a name (memfd), so nothing can be left behind; elsewhere a temporary file, or on Windows the system's own mapping.

    Raises OSError where the system has no more memory.
    """

    def __init__(self, size: int) -> None:
        self._file: int | None = None
        self._path: str | None = None
        size = max(size, 1)
        if sys.platform == "win32":
            name = f"funcnn-{os.getpid()}-{next(_numbers)}"
            self.map = mmap.mmap(-1, size, tagname=name)
        else:
            if sys.platform == "linux":
                self._file = os.memfd_create("funcnn")
                name = f"/proc/{os.getpid()}/fd/{self._file}"
            else:
                self._file, self._path = tempfile.mkstemp(prefix="funcnn-")
                name = self._path
            os.ftruncate(self._file, size)
            self.map = mmap.mmap(self._file, size)
        self.handle = Handle(name, size, next(_numbers))

    def close(self) -> None:
        """Let no other process open it any more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            os.unlink(self._path)
            self._path = None


def open_block(handle: Handle) -> mmap.mmap:
    """The memory of a block that another process has made; raises OSError if it cannot be opened."""
    if sys.platform == "win32":
        return mmap.mmap(-1, handle.size, tagname=handle.name)
    file = os.open(handle.name, os.O_RDWR)
    try:
        return mmap.mmap(file, handle.size)
    finally:
        os.close(file)


# --- Trees of arrays ------------------------------------------------------------------------------------------


@attrs.frozen
class Place:
    """Where an array lies in a block."""

    start: int
    shape: Shape
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def lay_out(values: Any, start: int = 0) -> tuple[Any, int]:
    """The tree of the places for a tree's arrays, one after the other from `start` on, and the end.

    Arrays of one dtype lie without gaps, so that they can be taken for one vector.

    >>> places, end = lay_out((np.zeros(3, np.float32), None, np.ones((2, 2))), start=60)
    >>> places[0].start, places[2].start, end
    (64, 80, 112)

    Raises TreeError for a leaf that is no array.
    """
    places, start = [], _aligned(start)
    for path, leaf in zip(tree.paths(values), tree.flatten(values), strict=True):
        if not isinstance(leaf, np.ndarray) or leaf.dtype.hasobject:
            got = f"an array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else type(leaf).__name__
            fix = "Make it np.array(...), of numbers"
            raise tree.TreeError(f"{path or 'the tree'}: processes share arrays of numbers, got {got}. {fix}")
        start = -(-start // leaf.itemsize) * leaf.itemsize
        places.append(Place(start, leaf.shape, leaf.dtype))
        start += leaf.nbytes
    return tree.unflatten(values, places), start


def views(places: Any, memory: Array) -> Any:
    """The tree of the arrays that lie at places of a memory, given as an array of bytes.

    They are views of it, and read-only if it is.
    """
    leaves = [np.ndarray(place.shape, place.dtype, memory, place.start) for place in tree.flatten(places)]
    return tree.unflatten(places, leaves)


# --- Values ---------------------------------------------------------------------------------------------------


def pack(value: Any, new_block: Callable[[int], Block] = Block) -> Block:
    """A block with a value in it, pickled; what its arrays hold lies beside, so that nobody copies it again.

    Raises what pickle raises for a value that cannot be sent.
    """
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raws = [each.raw() for each in buffers]
    ends = np.cumsum([_aligned(each.nbytes) for each in raws], dtype=np.int64).tolist()
    sizes = [each.nbytes for each in raws]
    head = pickle.dumps((len(body), sizes))
    first = _aligned(8 + len(head)) + _aligned(len(body))
    block = new_block(first + (ends[-1] if ends else 0))
    memory = memoryview(block.map)
    memory[:8] = len(head).to_bytes(8, "little")
    memory[8 : 8 + len(head)] = head
    at = _aligned(8 + len(head))
    memory[at : at + len(body)] = body
    for raw, end, size in zip(raws, ends, sizes, strict=True):
        at = first + end - _aligned(size)
        memory[at : at + size] = raw
    return block


def unpack(memory: Array) -> Any:
    """The value in a block; its arrays are read-only views of the block."""
    whole = memoryview(memory.data).toreadonly()
    length = int.from_bytes(whole[:8], "little")
    size, sizes = pickle.loads(whole[8 : 8 + length])
    at = _aligned(8 + length)
    body = whole[at : at + size]
    at += _aligned(size)
    buffers = []
    for each in sizes:
        buffers.append(whole[at : at + each])
        at += _aligned(each)
    return pickle.loads(body, buffers=buffers)


def _aligned(size: int) -> int:
    """So many bytes, rounded up so that what follows is aligned."""
    return -(-size // _ALIGNED) * _ALIGNED
