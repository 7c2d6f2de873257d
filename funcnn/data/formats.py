"""Readers of the files that public image sets come in: IDX (MNIST and its like) and CIFAR-10's binary version.

Reading takes no more memory than the file has bytes; a compressed file may unpack to `UNPACKED` bytes, or to `RATIO`
times its own size if that is more, and is unpacked no further than its header promises.
"""

import gzip
import math
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from funcnn.tree import Array

__all__ = ["DataError", "as_path", "open_file", "read_cifar10", "read_idx", "reading"]

UNPACKED = 256 * 2**20  # bytes
RATIO = 32  # photographs and drawings pack to a half or a tenth, what is made to fill a memory to a thousandth
AXES = 8  # of an IDX file
EXAMPLES = 1_000_000  # in an IDX file: each takes some fifty bytes to split a set, or to name it, however small it is

_PIECE = 2**20  # bytes, unpacked at a time


class DataError(ValueError):
    """A data set that is unknown, or files of one that are missing or damaged."""


def as_path(place: str, name: str, value: Any) -> Path:
    """A path from an argument; ``~`` is the user's home. Raises ValueError, naming the argument, for anything else.

    >>> as_path("load", "data_dir", "~").is_absolute()
    True
    """
    try:
        text = os.fsdecode(value)
        os.fsencode(text)
    except (TypeError, UnicodeEncodeError) as error:
        raise ValueError(f"{place}: {name} must be a path, a text or a Path, got {value!r}") from error
    if "\0" in text:
        raise ValueError(f"{place}: {name} must be a path, got {value!r}; no path has a zero byte in it")
    return Path(os.path.expanduser(text))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what reading a file or folder raises into a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(f"{path}: cannot be read: there is too little memory for it") from error


@contextmanager
def open_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file to read it, and give its size; anything else, such as a pipe, could wait for ever."""
    with reading(path), open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: cannot be read: expected a file, and it is a pipe or a device")
        yield file, status.st_size


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or else a pipe would wait for a writer


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The bytes of an IDX file, plain or gzip, as an array of uint8 in the file's shape.

    The format: two zero bytes, 8 (the code for bytes), the number of axes, each axis's size as a big-endian 32-bit
    number, the values. Raises DataError, naming the file, for anything else, for a file cut short, for more than `AXES`
    axes or `EXAMPLES` examples, and for a gzip file that promises more than `UNPACKED` bytes and `RATIO` times its own
    size.
    """
    path = as_path("read_idx", "path", path)
    with open_file(path) as (file, size):
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            source: Any = gzip.GzipFile(fileobj=file) if packed else file
            shape = _idx_shape(path, source)
            promised = math.prod(shape)
            head = f"its header promises {shape} = {promised} values"
            if packed and promised > max(UNPACKED, RATIO * size):
                raise DataError(
                    f"{path}: {head}, in a file of {size} bytes; what is packed may have {UNPACKED} bytes, or {RATIO} "
                    "times those of the file. If that is right, unpack it first (gunzip)"
                )
            held = promised if packed else size - 4 - 4 * len(shape)
            values = np.empty(promised if held == promised else 0, np.uint8)
            if held == promised:
                held = _fill(source, values)
            if held != promised:
                raise DataError(
                    f"{path}: cut short or damaged: {head}, it holds {'more' if packed and held > promised else held}"
                )
            return values.reshape(shape)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: damaged or cut short ({error}); fetch the file again") from error


def _idx_shape(path: Path, source: Any) -> tuple[int, ...]:
    start = source.read(4)
    axes = start[3] if len(start) == 4 else 0
    sizes = source.read(4 * axes)
    if len(start) < 4 or start[:3] != b"\x00\x00\x08" or len(sizes) < 4 * axes:
        raise DataError(f"{path}: not an IDX file of bytes; it starts with {start!r}")
    if axes > AXES:
        raise DataError(f"{path}: damaged: its header promises {axes} axes, and no set has more than {AXES}")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    if shape and shape[0] > EXAMPLES:
        raise DataError(f"{path}: its header promises {shape[0]:,} examples; a file may have {EXAMPLES:,}")
    if math.prod(max(each, 1) for each in shape) >= 2**63:  # with a zero among them it would hold nothing
        raise DataError(f"{path}: damaged: its header promises an array {shape}, which no memory holds")
    return shape


def _fill(source: Any, values: Array) -> int:
    """Read an array's bytes; returns how many there were, one more than it holds if anything follows."""
    view, held = values.data, 0
    while held < len(view):
        piece = source.read(min(_PIECE, len(view) - held))
        if not piece:
            return held
        view[held : held + len(piece)] = piece
        held += len(piece)
    return held + len(source.read(1))


def read_cifar10(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    """A file of CIFAR-10's binary version as images (n, 32, 32, 3) and labels (n,), both uint8.

    The format: for each image one byte of label, 1024 of red, of green and of blue. Raises DataError, naming the
    file, if it is no whole number of images or a label is above 9.
    """
    path = as_path("read_cifar10", "path", path)
    with open_file(path) as (file, size):
        if size == 0 or size % 3073:
            raise DataError(f"{path}: cut short or damaged: {size} bytes are no whole number of images of 3073 bytes")
        rows = np.frombuffer(file.read(size), np.uint8).reshape(-1, 3073)
    if rows[:, 0].max() > 9:
        raise DataError(f"{path}: not CIFAR-10: it has a label {rows[:, 0].max()}, and labels go from 0 to 9")
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, 0].copy()
