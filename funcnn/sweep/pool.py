"""The processes of `funcnn.sweep.workers.Processes`: a thread for each, and a pipe between the two.

The pool of the standard library shares its queues among the processes, and one that is killed at the wrong moment
leaves the others, or the shutdown, waiting for ever. Here nothing is shared: a thread knows what its process was
running when it died, and nobody waits for the dead.
"""

import atexit
import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

from funcnn.arrays import threads

__all__ = ["Call", "CannotStart", "Pool", "WorkerDied"]

_GRACE = 5.0  # seconds that a trial which is told to stop has to do so
_STARTS = 4  # processes that are tried, where each is killed before it has begun
# What reaches every process of a terminal, or of a service: the parent decides what is to be done.
_SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


class WorkerDied(BrokenExecutor):
    """A process of `Processes` that ended while it ran something."""


class CannotStart(BrokenExecutor):
    """A process of `Processes` that ended before it began with what it was given, as the next one would."""


class Call(NamedTuple):
    """What is to be run, (function, arguments, keywords), and the future of its result."""

    future: Future[Any]
    work: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Pool:
    """The calls that wait, and the threads that have processes run them: they know it, but not the executor."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()  # None ends the thread that takes it
        self.threads: list[threading.Thread] = []
        self.workers: list[_Worker] = []
        self.idle = threading.Semaphore(0)  # counts the threads that wait for a call
        self.lock = threading.Lock()
        self.ended = self.stopped = False
        self.reader, self.alive = multiprocessing.Pipe(duplex=False)  # processes stop when `alive` is closed
        _pools.add(self)

    def add(self, call: Call) -> None:
        with self.lock:
            if self.ended:
                raise RuntimeError("Processes: nothing can be submitted after shutdown. Make another executor")
            self.calls.put(call)
            if not self.idle.acquire(blocking=False) and len(self.threads) < self.jobs:
                self.threads.append(threading.Thread(target=_serve, args=(self,), daemon=True))
                self.threads[-1].start()

    def end(self) -> None:
        """Take no more calls, and end the threads after those that wait."""
        if not self.ended:
            self.ended = True
            for _ in self.threads:
                self.calls.put(None)

    def stop(self) -> None:
        """Cancel the calls that wait, and tell the processes to stop."""
        self.stopped = True
        with contextlib.suppress(queue.Empty):
            while True:
                call = self.calls.get_nowait()
                if call is not None and call.future.cancel():
                    call.future.set_running_or_notify_cancel()
        for _ in self.threads:
            self.calls.put(None)
        self.alive.close()

    def wait(self, *, bounded: bool) -> None:
        """Wait until all threads have ended; if bounded, a process that has not stopped in time is killed."""
        self._join(_GRACE + 1 if bounded else None)
        if bounded:
            for worker in self.workers:
                worker.kill()
            self._join(_GRACE)

    def _join(self, seconds: float | None) -> None:
        end = time.monotonic() + (seconds or 0.0)
        for thread in self.threads:
            if thread.is_alive():
                thread.join(None if seconds is None else max(0.0, end - time.monotonic()))


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # they are the parent's, and so are their processes


@atexit.register
def _stop_all() -> None:
    pools = list(_pools)
    for pool in pools:
        pool.end()
        pool.stop()
    for pool in pools:
        pool.wait(bounded=True)


# --- The thread that serves a process -------------------------------------------------------------------------


def _serve(pool: Pool) -> None:
    """Have a process run one call after another, until there is none to come."""
    worker = _Worker(pool)
    pool.workers.append(worker)
    while (call := pool.calls.get()) is not None:
        if call.future.set_running_or_notify_cancel():
            _run(call, worker)
        del call
        pool.idle.release()
    worker.end()


def _run(call: Call, worker: "_Worker") -> None:
    try:
        done, value = pickle.loads(worker.answer(pickle.dumps(call.work)))
    except Exception as error:
        done, value = False, error
    if done:
        call.future.set_result(value)
    else:
        call.future.set_exception(value)


# Where a process is started, multiprocessing looks for those that have ended: only one thread may do so at a time.
_looking = threading.Lock()


class _Worker:
    """A process as its thread sees it: started when there is something to do, and again after a death."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.process: SpawnProcess | None = None

    def answer(self, call: bytes) -> bytes:
        """What the process answers to a call. Raises WorkerDied, CannotStart."""
        how = ""
        for _ in range(_STARTS):
            fresh = self.process is None
            if self._begins(call):
                try:
                    return self._receive()
                except (EOFError, OSError):
                    raise WorkerDied(f"it {self.end()}") from None
            how = self.end()
            # One that is killed before it begins says nothing about the next; what ends by itself would do so again.
            if self.pool.stopped or (fresh and not how.startswith("was killed")):
                break
        raise CannotStart(f"a process {how} before it had begun")

    def _begins(self, call: bytes) -> bool:
        """Whether the process begins with a call: it says so before it does."""
        if self.process is None:
            self._start()
        try:
            self.connection.send_bytes(call)
            self._receive()
        except (EOFError, OSError):
            return False
        return True

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, there = context.Pipe()
        process = context.Process(target=_work, args=(there, self.pool.reader))
        try:
            with _looking:
                if hasattr(signal, "pthread_sigmask"):
                    # The process inherits this, and is deaf until it knows what to do with a signal. Before the first,
                    # multiprocessing starts one of its own, and hears again.
                    resource_tracker.ensure_running()
                    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
                process.start()
        except (OSError, RuntimeError) as error:
            raise CannotStart(f"no process can be started: {error}") from error
        finally:
            there.close()
        self.process = process

    def _receive(self) -> bytes:
        """What the process sends next. Raises EOFError or OSError if it ends before."""
        assert self.process is not None
        while True:
            # A second at a time: what a process has started itself may hold the pipes open beyond its death.
            ready = wait([self.connection, self.process.sentinel], 1.0)
            if self.connection in ready or self.connection.poll():
                return self.connection.recv_bytes()
            with _looking:
                if not self.process.is_alive():
                    raise EOFError

    def end(self) -> str:
        """End the process, by force if it takes too long; how it ended."""
        if self.process is None:
            return "had not started"
        process, self.process = self.process, None
        self.connection.close()  # by which it ends, unless it has already
        if not wait([process.sentinel], _GRACE):
            process.kill()
        with _looking:
            process.join(_GRACE)
        code = process.exitcode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        names = {each.value: each.name for each in signal.Signals}
        return f"was killed by {names.get(-code, f'signal {-code}')}"

    def kill(self) -> None:
        """End the process now, whatever its thread waits for."""
        process = self.process
        if process is not None:
            process.kill()


# --- In a worker ----------------------------------------------------------------------------------------------


class _State:
    """Of this process: whether it has no task, whether it is to stop, and whether its task has yet to be told."""

    def __init__(self) -> None:
        self.idle = True
        self.stopping = False
        self.interrupt = False


_state = _State()


def _work(calls: Connection, alive: Connection) -> None:
    """What a process does: it answers calls, until its parent has no more, tells it to stop, or is dead."""
    _begin(alive)
    with contextlib.suppress(EOFError, OSError):
        while True:
            call = calls.recv_bytes()
            calls.send_bytes(b"")  # it has begun
            calls.send_bytes(_answer(call))


def _answer(call: bytes) -> bytes:
    """The pickled pair of whether a call gave something, and that, or the exception that it raised."""
    try:
        with _busy():
            function, arguments, keywords = pickle.loads(call)
            answer = True, function(*arguments, **keywords)
    except BaseException as error:
        error.add_note(f"In a worker:\n{traceback.format_exc()}")
        answer = False, error
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps((False, TypeError(f"{answer[1]!r} cannot be sent from a worker: {error}")))


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Mark this process as at work. It gets one KeyboardInterrupt if it is told to stop: within, or here if before."""
    _state.idle = False
    try:
        if _state.stopping:
            raise KeyboardInterrupt
        yield
    finally:
        _state.idle = True


def _begin(alive: Connection) -> None:
    """Make a fresh process a worker: of one thread, and ending with its parent."""
    threads.set_threads(1)
    os.environ["NUMEXPR_NUM_THREADS"] = "1"  # which is read when it is first imported
    threadpool_limits(1)
    for each in _SIGNALS:
        signal.signal(each, _interrupted)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_watch, args=(alive,), daemon=True).start()


def _interrupted(signum: int, frame: Any) -> None:
    if _state.interrupt and not _state.idle:
        _state.interrupt = False
        raise KeyboardInterrupt


def _watch(alive: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        alive.recv_bytes()  # nothing is ever sent: it returns when the parent closes the other end, or dies
    _state.stopping = _state.interrupt = True
    main = threading.main_thread().ident
    if not _state.idle and main is not None:  # it wakes from whatever it waits for
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, signal.SIGINT)
        else:
            os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE)
    os._exit(1)
