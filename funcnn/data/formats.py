"""Readers of the files that public image sets come in: IDX (MNIST and its like) and CIFAR-10's binary version."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from funcnn.tree import Array

__all__ = ["DataError", "read_cifar10", "read_idx"]


class DataError(ValueError):
    """A data set that is unknown, or files of one that are missing or damaged."""


def read_idx(path: Path) -> Array:
    """The bytes of an IDX file, plain or gzip, as an array of uint8 in the file's shape.

    The format: two zero bytes, 8 (the code for bytes), the number of axes, each axis's size as a big-endian 32-bit
    number, the values. Raises DataError, naming the file, for anything else, and for a file cut short.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or cut short ({error}); fetch the file again") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path}: not an IDX file of bytes; it starts with {data[:4]!r}")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=data[3], offset=4))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape))
    if len(values) != math.prod(shape):
        raise DataError(
            f"{path}: cut short or damaged: its header promises {shape} = {math.prod(shape)} values, "
            f"it holds {len(values)}"
        )
    return values.reshape(shape)


def read_cifar10(path: Path) -> tuple[Array, Array]:
    """A file of CIFAR-10's binary version as images (n, 32, 32, 3) and labels (n,), both uint8.

    The format: for each image one byte of label, 1024 of red, of green and of blue. Raises DataError, naming the
    file, if it is no whole number of images or a label is above 9.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    if len(data) == 0 or len(data) % 3073:
        raise DataError(f"{path}: cut short or damaged: {len(data)} bytes are no whole number of images of 3073 bytes")
    rows = data.reshape(-1, 3073)
    if rows[:, 0].max() > 9:
        raise DataError(f"{path}: not CIFAR-10: it has a label {rows[:, 0].max()}, and labels go from 0 to 9")
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, 0].copy()
