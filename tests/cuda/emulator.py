"""Kernels in CUDA C on this machine's processor: what g++ makes of them beside `emulated.h`, called as CuPy calls them.

Every kernel is run twice, the second time with threads and blocks in backward order and arrays in other places, and the
two results have to be the same bits: what depends on an order, or on memory that nobody wrote, does not survive that.
Arrays lie between two pages that nobody may touch, close to the one behind them and then to the one before them.
"""

import ctypes
import importlib
import mmap
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from funcnn.arrays import cuda
from funcnn.arrays.cuda import kernels

__all__ = ["COMPILER", "Emulation"]

COMPILER = shutil.which("g++")
HERE = Path(__file__).parent
SOURCES = Path(cuda.__file__).parent
FAULTS = {1: "some of its threads wait for others that never come", 2: "it reads or writes beyond an array"}
C_TYPES = {"float32": "float", "float64": "double", "int32": "int", "bool": "bool", "uint8": "unsigned char"}


class Empty:
    """NumPy, but that new arrays are full of what no kernel would write."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = np.float64) -> np.ndarray:
        made = np.empty(shape, dtype)
        made.reshape(-1).view(np.uint8)[...] = 0xDB
        return made


class Emulation:
    """Kernels compiled for this machine, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.libraries: dict[Any, ctypes.CDLL] = {}
        self.formulas: dict[tuple[str, ...], Elementwise] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """Let `funcnn.arrays.cuda` compute by them, on NumPy's arrays."""
        modules = [importlib.import_module(f"{cuda.__name__}.{each.stem}") for each in SOURCES.glob("[!_]*.py")]
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(kernels, "_module", self._module))
            stack.enter_context(mock.patch.object(kernels, "elementwise", self._elementwise))
            for module in modules:
                if hasattr(module, "module_of"):
                    stack.enter_context(mock.patch.object(module, "module_of", return_value=Empty()))
            caches = [each for module in modules for each in vars(module).values() if hasattr(each, "cache_clear")]
            for cached in caches:
                cached.cache_clear()
                stack.callback(cached.cache_clear)
            yield

    def module_of(self, code: str, options: tuple[str, ...]) -> "Module":
        """A module of a source's kernels."""
        key = code, options
        if key not in self.libraries:
            self.libraries[key] = compiled(self.folder, code, options)
        return Module(self.libraries[key])

    def _module(self, source: str, options: tuple[str, ...]) -> "Module":
        return self.module_of((SOURCES / source).read_text("utf-8"), options)

    def _elementwise(self, *parts: str) -> "Elementwise":
        if parts not in self.formulas:
            self.formulas[parts] = Elementwise(self.folder, *parts)
        return self.formulas[parts]


def compiled(folder: Path, code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """A library of a source's kernels, each with a function that launches it and one that describes it."""
    names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(', code)
    number = len(list(folder.glob("*.so")))
    source, library = folder / f"{number}.cpp", folder / f"{number}.so"
    ends = [
        f'extern "C" int launch_{name}(const int *g, const int *b, int back, void **a) '
        f"{{ return emulated::launch({name}, g, b, back, a); }}\n"
        f'extern "C" int describe_{name}(char (*k)[4], int *s) {{ return emulated::describe({name}, k, s); }}\n'
        for name in names
    ]
    source.write_text(f'#include "emulated.h"\n{code}\n' + "".join(ends), "utf-8")
    ours = [each for each in options if each.startswith("-D")]
    compile_with(*ours, "-shared", "-o", str(library), str(source), str(scheduler(folder)))
    return ctypes.CDLL(str(library))


def scheduler(folder: Path) -> Path:
    """What runs the fibers, compiled once, and beside it the header."""
    made = folder / "emulated.o"
    if not made.exists():
        shutil.copy(HERE / "emulated.h", folder)
        compile_with("-x", "c++-header", str(folder / "emulated.h"))  # which takes most of the time, once
        compile_with("-c", "-o", str(made), str(HERE / "emulated.cpp"))
    return made


def compile_with(*options: str) -> None:
    """Run the compiler."""
    assert COMPILER is not None
    flags = "-std=c++17", "-O0", "-fwrapv", "-ffp-contract=off", "-fPIC", "-Wno-unknown-pragmas"
    done = subprocess.run([COMPILER, *flags, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Module:
    """As CuPy's RawModule."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def get_function(self, name: str) -> "Kernel":
        return Kernel(self.library, name)


class Kernel:
    """As CuPy's RawKernel: called with a grid, a block and arguments."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name, self.launch = name, library[f"launch_{name}"]
        kinds, sizes = ((ctypes.c_char * 4) * 64)(), (ctypes.c_int * 64)()
        count = library[f"describe_{name}"](kinds, sizes)
        self.wanted = [(kinds[i].value.decode(), sizes[i]) for i in range(count)]

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        assert len(grid) <= 3
        assert len(block) <= 3
        assert all(type(each) is int and each >= 1 for each in (*grid, *block)), (self.name, grid, block)
        assert grid[0] < 2**31
        assert max(grid[1:], default=1) < 2**16
        assert np.prod(block) <= 1024
        for i, (argument, wanted) in enumerate(zip(arguments, self.wanted, strict=True)):
            assert fits(argument, *wanted), f"{self.name}: argument {i} is {argument!r}, expected {wanted}"
        before = [a.copy() if is_array(a) else None for a in arguments]
        results = []
        for backwards in (False, True):
            for argument, old in zip(arguments, before, strict=True):
                if old is not None and argument.flags.writeable:
                    argument[...] = old
            self.run(grid, block, arguments, backwards)
            results.append([a.copy() if is_array(a) else None for a in arguments])
        for one, other in zip(*results, strict=True):
            same = one is None or one.tobytes() == other.tobytes()
            assert same, f"{self.name}: another order of threads and blocks gives other bits"

    def run(self, grid: Any, block: Any, arguments: Any, backwards: bool) -> None:
        placed = [Placed(a, at_end=not backwards) if is_array(a) else None for a in arguments]
        pointers = (ctypes.c_void_p * len(arguments))()
        alive = []
        for i, (argument, place) in enumerate(zip(arguments, placed, strict=True)):
            if place is not None or argument is None:
                value: Any = ctypes.c_void_p(place.address if place else None)
                pointers[i] = ctypes.addressof(value)
            else:
                value = np.asarray(argument)
                pointers[i] = value.ctypes.data
            alive.append(value)
        sizes = [(ctypes.c_int * 3)(*each, *[1] * (3 - len(each))) for each in (grid, block)]
        fault = self.launch(*sizes, int(backwards), pointers)
        assert not fault, f"{self.name}: {FAULTS[fault]}"
        for place in placed:
            if place is not None:
                place.bring_back()


def is_array(argument: Any) -> bool:
    """Whether it stands for an array on the device, not for a struct that is passed by value."""
    return isinstance(argument, np.ndarray) and argument.dtype.kind != "V"


def fits(argument: Any, kind: str, size: int) -> bool:
    """Whether an argument is of the kind that a kernel declares."""
    if argument is None:
        return kind.startswith("*")
    if is_array(argument):
        char = {"l": "q", "?": "?"}.get(argument.dtype.char, argument.dtype.char)
        return bool(kind == "*" + char and argument.flags.c_contiguous)
    if isinstance(argument, np.ndarray):
        return bool(kind == "V" and argument.size == 1 and argument.nbytes == size)
    return isinstance(argument, np.generic) and argument.dtype.char == kind


PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Placed:
    """A copy of an array between two pages that nobody may touch."""

    def __init__(self, array: np.ndarray, *, at_end: bool) -> None:
        self.array, nbytes = array, array.nbytes
        inside = -(-nbytes // PAGE) * PAGE or PAGE
        self.size = inside + 2 * PAGE
        both = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.base = libc.mmap(None, self.size, *both, -1, 0)
        for guard in (self.base, self.base + PAGE + inside):
            assert libc.mprotect(guard, PAGE, 0) == 0
        self.address = self.base + PAGE + ((inside - nbytes) // 32 * 32 if at_end else 0)
        ctypes.memmove(self.address, array.ctypes.data, nbytes)

    def bring_back(self) -> None:
        if self.array.flags.writeable:
            ctypes.memmove(self.array.ctypes.data, self.address, self.array.nbytes)
        libc.munmap(self.base, self.size)


class Elementwise:
    """As CuPy's ElementwiseKernel of concrete types: a loop over the numbers, with ``raw`` arrays and scalars."""

    def __init__(self, folder: Path, inputs: str, outputs: str, operation: str, name: str) -> None:
        split = [[each.split() for each in text.split(",")] for text in (inputs, outputs)]
        self.inputs, self.outputs = split
        lines = []
        for place, (*raw, kind, variable) in enumerate([*self.inputs, *self.outputs]):
            c = C_TYPES[kind]
            pointer = f"static_cast<{c} *>(arguments[{place}])"
            sign, at = ("*", "") if raw else ("&", f"[steps[{place}] * i]")
            lines.append(f"{c} {sign}{variable} = {pointer}{at};")
        code = (
            'extern "C" void run(long size, const long *steps, void **arguments) { '
            f"for (long i = 0; i < size; i++) {{ {' '.join(lines)} {operation}; }} }}"
        )
        number = len(list(folder.glob("*.so")))
        source, library = folder / f"{number}.cpp", folder / f"{number}.so"
        source.write_text(f'#include "emulated.h"\n{code}', "utf-8")
        # A formula in float that computes in double would take many times as long on a GPU.
        warnings = () if "float64" in inputs else ("-Werror=double-promotion",)
        scheduler(folder)  # for the header beside it
        compile_with("-shared", *warnings, "-o", str(library), str(source))
        self.function = ctypes.CDLL(str(library)).run

    def __call__(self, *arguments: Any) -> Any:
        first = next(
            a for a, p in zip(arguments, self.inputs, strict=False) if len(p) == 2 and isinstance(a, np.ndarray)
        )
        given, steps = [], []
        for argument, (*raw, kind, _) in zip(arguments, self.inputs, strict=False):
            if isinstance(argument, np.ndarray):
                assert argument.dtype == kind, (argument.dtype, kind)
                assert argument.flags.c_contiguous
                assert raw or argument.shape == first.shape
            given.append(np.asarray(argument, kind))
            steps.append(0 if raw or given[-1].ndim == 0 else 1)
        made = list(arguments[len(self.inputs) :]) or [np.empty(first.shape, kind) for kind, _ in self.outputs]
        given += made
        pointers = (ctypes.c_void_p * len(given))(*[each.ctypes.data for each in given])
        self.function(ctypes.c_long(first.size), (ctypes.c_long * len(given))(*steps, *[1] * len(made)), pointers)
        return made[0] if len(made) == 1 else tuple(made)
