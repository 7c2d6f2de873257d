"""Work spread over threads, as independent tasks.

NumPy lets other threads run during copies, element-wise functions and BLAS calls, so plain threads use all cores. How
work is cut into tasks depends on shapes alone, and every product runs on one BLAS thread, so the number of threads
changes no bit of a result. (BLAS's own threads do: they cut sums differently. They also wait for each other by
spinning, which on a busy machine can take a hundred times longer than the product.)

The number of threads is one explicit setting: `set_threads`, or the environment variable FUNCNN_THREADS, or else
the cores that this process may use.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, partial
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from funcnn.tree import Array

__all__ = [
    "TASKS", "TASK_OPERATIONS", "blas_architectures", "blas_is_single", "cores", "even_slices", "for_each",
    "in_a_task", "in_tasks", "run", "scratch", "set_threads", "single_blas_thread", "single_thread", "slices",
    "sum_in_tasks", "threads",
]  # fmt: skip

T = TypeVar("T")
TASK_OPERATIONS = 2**23  # multiply-adds worth a task: they take as long as waking a thread, a tenth of a millisecond
TASKS = 4  # of a product at most: each packs the factor that is not cut
_SCRATCH_BYTES = 2**22  # kept for each thread and purpose


class _Thread(threading.local):
    """What each thread knows of itself."""

    busy = False  # at work on a task
    inside = 0  # how many `single_blas_thread` it is in


class _Setting:
    """What the process has one of: the number of threads, the threads, and what BLAS is to be set back to."""

    def __init__(self) -> None:
        self.count: int | None = None
        self.thread = _Thread()
        self.blas_threads: list[tuple[Any, int]] = []
        self.forget_threads()

    def forget_threads(self) -> None:
        """Start anew in a forked process, which has only the thread that forked."""
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None ends a thread
        self.started = 0
        self.lock = threading.Lock()
        self.limiting = int(self.thread.inside > 0)  # how many threads are in a `single_blas_thread`


_setting = _Setting()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_setting.forget_threads)


def threads() -> int:
    """The number of threads in use.

    >>> threads() >= 1
    True

    Raises ValueError if FUNCNN_THREADS is set to something else than a positive number.
    """
    if _setting.count is None:
        given = os.environ.get("FUNCNN_THREADS")
        if given is not None and not (given.isdigit() and int(given) > 0):
            raise ValueError(f"FUNCNN_THREADS: expected a positive number of threads, got {given!r}")
        _setting.count = int(given) if given is not None else cores()
    return _setting.count


def set_threads(number: int) -> None:
    """Use a number of threads from now on; the results are the same with any.

    >>> before = threads()
    >>> set_threads(1)
    >>> threads()
    1
    >>> set_threads(before)

    Raises ValueError unless it is a positive int.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"set_threads: expected a positive int, got {number!r}")
    with _setting.lock:
        _setting.count = number
        for _ in range(_setting.started):
            _setting.jobs.put(None)
        _setting.started = 0


def cores() -> int:
    """The cores that this process may use: its CPU affinity, and a container's share where there is one.

    >>> cores() >= 1
    True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        count = min(count, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max" for no limit
        pass
    return count


def run(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """The results of independent tasks, in order, computed on all threads; in a task of another `run`, one by one.

    >>> run([lambda: 1, lambda: 2])
    [1, 2]

    If tasks raise, the first one's exception (in their order) is raised once all have ended.
    """
    helpers = min(threads(), len(tasks)) - 1
    if len(tasks) == 1 and blas_is_single():
        return [tasks[0]()]
    with single_blas_thread():
        if helpers < 1 or in_a_task():
            return [task() for task in tasks]
        _start_threads(helpers)
        job = _Job(tasks)
        for _ in range(helpers):
            # The context carries NumPy's error state to the other threads.
            _setting.jobs.put(partial(copy_context().run, job.work))
        job.work()  # this thread works too, and waits for the tasks, not for threads that have yet to wake up
        job.finished.acquire()
    if job.errors:
        raise job.errors[min(job.errors)]
    return job.results


def in_a_task() -> bool:
    """Whether this thread is at work on a task of `run`: to cut its work up again would spread nothing.

    >>> in_a_task(), run([in_a_task, in_a_task]) if threads() > 1 else [True, True]
    (False, [True, True])
    """
    return _setting.thread.busy


@contextmanager
def single_thread() -> Iterator[None]:
    """This thread as at work on a task: what it does within is not spread over other threads.

    >>> with single_thread():
    ...     in_a_task()
    True
    """
    before = _setting.thread.busy
    with single_blas_thread():
        _setting.thread.busy = True
        try:
            yield
        finally:
            _setting.thread.busy = before


class _Job:
    """Tasks that several threads share: each is dealt out once, and the last to end releases `finished`."""

    __slots__ = ("done", "errors", "finished", "numbers", "results", "tasks")

    def __init__(self, tasks: Sequence[Callable[[], Any]]) -> None:
        self.tasks = tasks
        self.results: list[Any] = [None] * len(tasks)
        self.errors: dict[int, BaseException] = {}
        self.numbers, self.done = count(), count(1)  # their next() is atomic
        self.finished = threading.Lock()
        self.finished.acquire()

    def work(self) -> None:
        """Do tasks until none is left."""
        _setting.thread.busy = True
        try:
            for i in self.numbers:
                if i >= len(self.tasks):
                    break
                try:
                    self.results[i] = self.tasks[i]()
                except BaseException as error:
                    self.errors[i] = error
                if next(self.done) == len(self.tasks):
                    self.finished.release()
        finally:
            _setting.thread.busy = False


def _start_threads(number: int) -> None:
    """Have so many threads beside this one, at least."""
    with _setting.lock:
        for _ in range(_setting.started, number):
            threading.Thread(target=_serve, args=(_setting.jobs,), name="funcnn", daemon=True).start()
            _setting.started += 1


def _serve(jobs: "SimpleQueue[Callable[[], None] | None]") -> None:
    """A thread's life. Plain queue and locks: an executor's futures take a quarter of a millisecond for each job."""
    for job in iter(jobs.get, None):
        job()


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, Array] = {}


_scratch = _Scratch()


def scratch(purpose: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array for a result in between, valid until this thread asks for the same purpose again.

    Memory that is taken and given back a hundred times in a step would be mapped and unmapped by the system each time.

    >>> scratch("example", (2, 3), np.float32).shape
    (2, 3)
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > _SCRATCH_BYTES:
        return np.empty(shape, dtype)
    buffer = _scratch.buffers.get(purpose)
    if buffer is None or len(buffer) < size:
        buffer = _scratch.buffers[purpose] = np.empty(size, np.uint8)
    view: Array = buffer[:size].view(dtype)
    return view.reshape(shape)


def for_each(function: Callable[[slice], T], parts: Sequence[slice]) -> list[T]:
    """``function(part)`` of every part, as tasks of `run`.

    >>> for_each(lambda part: part.stop - part.start, slices(10, 4))
    [4, 4, 2]
    """
    return run([partial(function, part) for part in parts])


def in_tasks(function: Callable[[slice], T], blocks: Sequence[Any], operations: int) -> list[T]:
    """``function(part)`` for slices of a list of blocks, as tasks worth waking a thread for.

    `operations` counts the multiply-adds of all blocks.

    >>> in_tasks(lambda part: part, range(10), operations=100)
    [slice(0, 10, None)]
    """
    count = max(1, min(operations // TASK_OPERATIONS, TASKS))
    parts = slices(len(blocks), -(-len(blocks) // count) or 1)
    if _setting.thread.busy or (_setting.count == 1 and _setting.thread.inside):  # no other thread would help
        return [function(part) for part in parts]
    return for_each(function, parts)


def sum_in_tasks(function: Callable[[slice], Array], blocks: Sequence[Any], operations: int) -> Array:
    """The sum of what `in_tasks` gives, first to last: a few sums over many blocks each, so that memory stays small.

    >>> sum_in_tasks(lambda part: np.full(2, float(part.stop - part.start)), range(10), operations=100)
    array([10., 10.])
    """
    total, *shares = in_tasks(function, blocks, operations)
    for share in shares:
        total += share
    return total


def slices(n: int, size: int) -> list[slice]:
    """Consecutive slices of n positions, each of `size` but the last, which may be shorter.

    >>> slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def even_slices(n: int, most: int) -> list[slice]:
    """The fewest consecutive slices of n positions with at most `most` each, alike in size.

    >>> even_slices(7, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    count = -(-n // most)
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


@cache
def _blas() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def blas_architectures() -> set[str]:
    """The kinds of processors for which BLAS has chosen its kernels, as OpenBLAS calls them: {"SkylakeX"}.

    >>> len(blas_architectures()) > 0
    True
    """
    return {getattr(library, "architecture", None) or "" for library in _blas()}


class single_blas_thread:
    """BLAS on one thread inside ``with single_blas_thread():``, and as it was after the last thread has left it."""

    __slots__ = ()

    def __enter__(self) -> None:
        if not _setting.thread.inside:
            with _setting.lock:
                if not _setting.limiting:
                    numbers = [(library, library.get_num_threads()) for library in _blas()]
                    _setting.blas_threads = [(library, number) for library, number in numbers if number != 1]
                    for library, _ in _setting.blas_threads:
                        _set_blas_threads(library, 1)
                _setting.limiting += 1
        _setting.thread.inside += 1

    def __exit__(self, *error: object) -> None:
        _setting.thread.inside -= 1
        if not _setting.thread.inside:
            with _setting.lock:
                _setting.limiting -= 1
                if not _setting.limiting:
                    for library, number in _setting.blas_threads:
                        _set_blas_threads(library, number)


def _set_blas_threads(library: Any, number: int) -> None:
    library.set_num_threads(number)
    if library.get_num_threads() != number and hasattr(library, "clear_controlling_thread"):
        # threadpoolctl lets the first thread that sets OpenBLAS's number be the only one that can, as long as it lives.
        library.clear_controlling_thread(force=True)
        library.set_num_threads(number)


def blas_is_single() -> bool:
    """Whether BLAS is on one thread already: this thread, or the one that gave it its task, has set it so.

    >>> with single_blas_thread():
    ...     blas_is_single()
    True
    """
    return _setting.thread.inside > 0 or _setting.thread.busy
