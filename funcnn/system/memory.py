"""The one setting of the memory allocator, made only when a program asks for it."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# Names and numbers from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process keep the memory that arrays free, instead of giving it back to the system; True if it can.

    A training step frees and takes the same arrays again and again. By default, glibc's malloc maps large ones afresh
    each time, and the system has to fill every page with zeros: a third of a step's time at worst. The process then
    never shrinks below its peak. It is a setting for a whole process, so programs make it (the scripts in
    `experiments/` do), and importing funcnn never does. Without glibc nothing happens.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    results = [libc.mallopt(name, _LARGEST) for name in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD)]
    return results == [1, 1]
