"""The settings of the memory allocator: none changes a result, each is made once for the whole process."""

import os
import sys

__all__ = ["keep_freed_memory", "keep_some_memory"]

# Names and numbers from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1
_SOME, _ARRAY = 64 * 2**20, 32 * 2**20  # bytes: what is kept of all, and of one array (malloc's own most)
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # of the environment

_made: list[bool] = []  # whether a setting was made, once it was asked for


def keep_freed_memory() -> bool:
    """Let the process keep the memory that arrays free, instead of giving it back to the system; True if it can.

    A training step frees and takes the same arrays again and again. By default, glibc's malloc maps large ones afresh
    each time, and the system has to fill every page with zeros: a third of a step's time at worst. The process then
    never shrinks below its peak. It is a setting for a whole process, so programs make it (the scripts in
    `experiments/` do), and importing funcnn never does. Without glibc nothing happens.

    >>> keep_freed_memory() in (True, False)
    True
    """
    return _keep(_LARGEST, _LARGEST)


def keep_some_memory() -> bool:
    """The same, but for at most 64 MB of what is free, and once: what every training step asks for.

    It takes what is worst from steps of small nets, whose arrays malloc gives back after every one. A program or an
    environment that has made a setting keeps its own. True if a setting is made.

    >>> keep_some_memory() in (True, False)
    True
    """
    if not _made and any(name in os.environ for name in _SETTINGS):
        _made.append(False)
    return _made[0] if _made else _keep(_SOME, _ARRAY)


def _keep(trim: int, array: int) -> bool:
    _made[:] = [sys.platform == "linux" and _set(trim, array)]
    return _made[0]


def _set(trim: int, array: int) -> bool:
    import ctypes  # here, since importing funcnn needs none

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    results = [libc.mallopt(_M_TRIM_THRESHOLD, trim), libc.mallopt(_M_MMAP_THRESHOLD, array)]
    return results == [1, 1]
