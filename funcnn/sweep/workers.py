"""Executors of `concurrent.futures` for trials: this process, or one process for each core."""

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from funcnn.arrays import threads

__all__ = ["InProcess", "Processes", "busy"]

T = TypeVar("T")
_GRACE = 5.0  # seconds that a trial which is told to stop has to do so


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
    """A pool of processes of one thread each, as many as there are cores, and as the memory suffices for.

    They are started anew, not forked, and import what they run. Should one die, the pool starts again with the next
    task; should this process die or be told to stop, they stop too, and tell what they are running first
    (KeyboardInterrupt). `jobs` is the number of processes, `memory_mb` what one of them is expected to need. What still
    runs when a ``with`` block ends with an exception, or the program ends, is stopped.

    Raises ValueError unless jobs is positive.
    """

    def __init__(self, jobs: int | None = None, *, memory_mb: float = 300.0) -> None:
        if jobs is not None and jobs < 1:
            raise ValueError(f"Processes: jobs must be at least 1, got {jobs}")
        self.jobs = _that_fit(jobs or threads.threads(), memory_mb)
        self._context = multiprocessing.get_context("spawn")
        self._pool: ProcessPoolExecutor | None = None
        self._alive: Connection | None = None  # the workers stop when its other end is closed, by whatever

    def _start(self) -> ProcessPoolExecutor:
        if self._alive is not None:
            self._alive.close()
        reader, self._alive = self._context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self.jobs, self._context, initializer=_begin, initargs=(reader,))
        _started.add(self)
        return self._pool

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in one of the processes."""
        pool = self._pool or self._start()
        try:
            with _no_interrupt():
                return pool.submit(fn, *args, **kwargs)
        except BrokenProcessPool:
            pool = self._start()
            with _no_interrupt():
                return pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after what they have to do, or with `cancel_futures` as soon as they can."""
        if self._alive is not None and cancel_futures:
            self._alive.close()
        if self._pool is not None:
            self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)


_started: "weakref.WeakSet[Processes]" = weakref.WeakSet()


def _stop_all() -> None:
    for each in list(_started):
        each.shutdown(wait=False, cancel_futures=True)


# At the end of a program, after an exception say, Python waits for a pool's processes to do all that they were given,
# though nobody waits for the results. No public hook comes before that.
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_stop_all)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Keep Ctrl-C waiting while a process starts: it inherits that, until it knows what to do with an interrupt."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _that_fit(jobs: int, memory_mb: float) -> int:
    """At most as many processes as the memory that is free suffices for, but one at least."""
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


# --- In a worker ----------------------------------------------------------------------------------------------


class _Worker:
    """Whether this process has no task, is to stop, and has yet to tell its task so."""

    def __init__(self) -> None:
        self.idle = threading.Event()
        self.idle.set()
        self.stopping = False
        self.interrupt = False


_worker = _Worker()


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Mark this process as at work. If it is told to stop within, it gets one KeyboardInterrupt; if before, here."""
    _worker.idle.clear()
    try:
        if _worker.stopping:
            raise KeyboardInterrupt
        yield
    finally:
        _worker.idle.set()


def _begin(alive: Connection) -> None:
    """Make a fresh process a worker: of one thread, and ending with its parent."""
    threads.set_threads(1)
    os.environ["NUMEXPR_NUM_THREADS"] = "1"  # which is read when it is first imported
    threadpool_limits(1)
    # Ctrl-C on a terminal reaches every process; the parent decides what is to be done.
    signal.signal(signal.SIGINT, _interrupted)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_watch, args=(alive,), daemon=True).start()


def _interrupted(signum: int, frame: Any) -> None:
    if _worker.interrupt and not _worker.idle.is_set():
        _worker.interrupt = False
        raise KeyboardInterrupt


def _watch(alive: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        alive.recv_bytes()  # nothing is ever sent: it returns when the parent closes the other end, or dies
    _worker.stopping = _worker.interrupt = True
    if not _worker.idle.is_set():
        os.kill(os.getpid(), signal.SIGINT)  # which wakes the main thread from whatever it waits for
    # A process that ends by itself makes the pool end the others, whose tasks may still be stopping: so it waits to be
    # told by the parent to end, unless that is dead.
    parent = multiprocessing.parent_process()
    if _worker.idle.wait(_GRACE) and parent is not None:
        parent.join(_GRACE)
    os._exit(1)
