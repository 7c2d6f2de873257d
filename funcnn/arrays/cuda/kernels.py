"""How the CUDA C of this room becomes functions: compiled once for a dtype and its constants, and called with arrays.

A kernel runs as a grid of blocks of threads. The threads of a block share memory and wait for each other; blocks know
nothing of each other. NVRTC compiles a file in about a second, and CuPy keeps what it made in the user's folder.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = [
    "FLOATS", "LARGEST", "Kernel", "address", "adjacent", "alike", "blocks_for", "elementwise", "kernel", "numbers",
]  # fmt: skip

FLOATS = {"f": "float", "d": "double"}  # what kernels compute in, by the dtype's character
LARGEST = 2**31 - 2**16  # numbers that an int counts, and the idle threads of the last block: what kernels index by

Kernel = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], None]  # (grid, block, arguments)


@cache
def kernel(source: str, name: str, dtype: str, options: tuple[str, ...] = (), **constants: int) -> Kernel:
    """A kernel of a file of this room, for a dtype's character and the file's constants: ``f(grid, block, arguments)``.

    Arguments are arrays, None for a null pointer, numbers as NumPy's scalars of the very type, and `numbers`.
    """
    defined = [f"-DREAL={FLOATS[dtype]}", *[f"-D{key}={value}" for key, value in sorted(constants.items())]]
    return _module(source, (*defined, *options)).get_function(name)  # type: ignore[no-any-return]


@cache
def _module(source: str, options: tuple[str, ...]) -> Any:
    import cupy

    code = (Path(__file__).parent / source).read_text("utf-8")
    return cupy.RawModule(code=code, options=("-std=c++14", *options))


@cache
def elementwise(inputs: str, outputs: str, operation: str, name: str) -> Callable[..., Any]:
    """`cupy.ElementwiseKernel`: a function of arrays that computes a C expression for every number."""
    import cupy

    return cupy.ElementwiseKernel(inputs, outputs, operation, name)  # type: ignore[no-any-return]


@lru_cache(maxsize=1024)
def numbers(*values: int) -> Array:
    """Integers as one argument, a struct of ints by value; CuPy passes NumPy's arrays of size one so."""
    struct = np.array(values, np.int32).view(np.dtype((np.void, 4 * len(values))))
    struct.flags.writeable = False
    return struct


def address(array: Array) -> int:
    """Where an array's first number lies: in the device's memory, or in the host's, where the tests emulate."""
    at = getattr(array.data, "ptr", None)
    return int(array.ctypes.data if at is None else at)


def adjacent(array: Array) -> Array:
    """The array if it lies in C order, or a copy that does: the order by which kernels find numbers."""
    return array if array.flags.c_contiguous else module_of(array).ascontiguousarray(array)


def alike(array: Array, other: Array) -> Array:
    """The array as a kernel reads it beside another: in that one's dtype and in C order; itself or a copy.

    Raises TypeError for one of the host beside one of a device, where a kernel would not find its numbers.
    """
    if type(array) is not type(other):
        raise TypeError(f"expected an array beside those of {type(other)}, got one of {type(array)}")
    return adjacent(array if array.dtype == other.dtype else array.astype(other.dtype))


def blocks_for(count: int, each: int) -> int:
    """How many blocks, if each has so many of what there is to do."""
    return -(-count // each)
