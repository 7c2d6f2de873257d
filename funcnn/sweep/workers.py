"""Executors of `concurrent.futures` for trials: this process, or one process for each core."""

import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from numbers import Integral
from typing import Any, TypeVar

from funcnn.arrays import threads
from funcnn.settings import is_number
from funcnn.sweep.grid import shown
from funcnn.sweep.pool import Call, CannotStart, Pool, WorkerDied

__all__ = ["CannotStart", "InProcess", "Processes", "WorkerDied"]

T = TypeVar("T")


class InProcess(Executor):
    """Runs what it is given at once, in this process.

    >>> InProcess().submit(max, 1, 2).result()
    2
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` now; a future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Processes(Executor):
    """A pool of processes of one thread each: as many as there are cores, or fewer if the memory is small.

    They are started anew, not forked, and import what they run. If one dies, what it ran gets a `WorkerDied`, and
    another takes its place. If this process dies or is told to stop, they stop too: what they run gets a
    KeyboardInterrupt first, and five seconds. What still runs when a ``with`` block ends with an exception, or the
    program ends, is stopped. `jobs` is the number of processes, `memory_mb` what one of them is expected to need.

    Raises ValueError unless jobs is a positive int, and memory_mb a positive number.
    """

    def __init__(self, jobs: int | None = None, *, memory_mb: float = 300.0) -> None:
        if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, Integral) or jobs < 1):
            raise ValueError(f"Processes: jobs must be an int of at least 1, got {shown(jobs)}")
        if not is_number(memory_mb) or not memory_mb > 0:
            raise ValueError(f"Processes: memory_mb must be a number of more than 0, got {shown(memory_mb)}")
        self.jobs = _that_fit(int(jobs or threads.threads()), memory_mb)
        self._pool = Pool(self.jobs)
        weakref.finalize(self, self._pool.end).atexit = False  # nobody can ask for more

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in one of the processes."""
        future: Future[T] = Future()
        self._pool.add(Call(future, (fn, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after what they have to do, or with `cancel_futures` as soon as they can."""
        self._pool.end()
        if cancel_futures:
            self._pool.stop()
        if wait:
            self._pool.wait(bounded=cancel_futures)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)


def _that_fit(jobs: int, memory_mb: float) -> int:
    """As many of the jobs as fit in the free memory, but at least one."""
    free = _free_memory_mb()
    fit = jobs if free is None else max(1, min(jobs, int(free // memory_mb)))
    if fit < jobs:
        warnings.warn(
            f"{jobs} processes of {memory_mb:.0f} MB do not fit in the {free:.0f} MB that are free: {fit} will run",
            stacklevel=3,
        )
    return fit


def _free_memory_mb() -> float | None:
    """The memory that this machine can still give; None where it does not tell."""
    try:
        with open("/proc/meminfo") as file:
            line = next(line for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) / 1024
