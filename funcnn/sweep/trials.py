"""Trials: the name and the version of one, and running many of them on an executor."""

import errno
import json
import os
import pickle
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn.sweep.grid import Configuration, SweepError, shown
from funcnn.sweep.results import DEEPEST, Result, ResultsFile, Status, StorageError, is_data
from funcnn.sweep.workers import CannotStart, InProcess, Processes, WorkerDied
from funcnn.system.content import content_hash
from funcnn.system.text import cut
from funcnn.train import NonFiniteError

__all__ = ["Task", "Trial", "check_call", "check_picklable", "run_tasks", "run_trial", "trial_name", "trial_version"]

Trial = Callable[[Configuration, int], Mapping[str, Any]]

_OTHERS = 200  # trials handed over at a time to an executor whose number of workers nobody knows
# What a result may take, so that its line can be read again.
_METRICS = 2**20  # bytes of JSON
_ERROR = 2**16  # characters, of which the last are kept
_CAUSE = 300  # characters of each of the errors behind one
# What the system says if it is not the trial that is at fault: the disk is full, over its quota, read-only, broken.
_DISK = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO") if hasattr(errno, name)}


@attrs.frozen
class Task:
    """A trial to run, and the key of its result. `deaths` counts the times that a process died while it was running."""

    key: str
    trial: Trial
    config: Configuration
    seed: int
    deaths: int = 0


@attrs.frozen
class _Outcome:
    """What a worker sends back."""

    status: Status
    metrics: dict[str, Any]
    seconds: float
    host: str
    error: str


# --- Which trial it is ----------------------------------------------------------------------------------------


def _function(trial: Any) -> Any:
    """The function that a trial is about: within a partial, or wrapped by something callable."""
    while isinstance(trial, partial) or hasattr(trial, "__wrapped__"):
        trial = trial.func if isinstance(trial, partial) else trial.__wrapped__
    return trial


def trial_name(trial: Trial) -> str:
    """A trial's name: its function's, with the module that it is in, or the script.

    >>> trial_name(trial_version)
    'funcnn.sweep.trials.trial_version'
    """
    function = _function(trial)
    module = getattr(function, "__module__", "")
    if module in ("__main__", "__mp_main__"):
        module = Path(getattr(sys.modules["__main__"], "__file__", None) or "script").stem
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def trial_version(trial: Trial) -> str:
    """This library's version and a short hash of the trial's source: another version means other results.

    Its settings count too, by their content (`funcnn.system.content`): those of a partial or a callable object, and
    what a function encloses. What the trial calls does not count: after a change there, choose another folder.

    Raises SweepError for a trial that cannot be told from another by its content.
    """
    from funcnn import __version__

    try:
        return f"{__version__}-{content_hash(trial)[:8]}"
    except TypeError as error:
        raise SweepError(
            f"sweep: nothing tells this trial from another one, whose results are not its own ({error}). Pass "
            "version='1', and another one whenever the trial changes"
        ) from error


def check_call(
    place: str, trial: Any, executor: Any, out: Any, version: Any, flags: Mapping[str, Any], name: str = "trial"
) -> None:
    """Raise TypeError, naming the argument, for one that a sweep cannot be called with."""
    submits = callable(getattr(executor, "submit", None)) and not isinstance(executor, type)
    wanted = [
        (name, trial, callable(trial), "a function of (config, seed)"),
        ("executor", executor, executor is None or submits, "as Processes(2) is"),
        ("out", out, out is None or isinstance(out, (str, os.PathLike)), "the path of a folder"),
        ("version", version, version is None or isinstance(version, str), "a text"),
        *((flag, value, isinstance(value, bool), "True or False") for flag, value in flags.items()),
    ]
    for argument, value, fits, what in wanted:
        if not fits:
            raise TypeError(f"{place}: {argument} must be {what}, got {shown(value)}")


def check_picklable(trial: Trial) -> None:
    """Raise SweepError for a trial that another process could not import."""
    try:
        pickle.dumps(trial)
    except Exception as error:
        raise SweepError(
            f"sweep: the trial {trial_name(trial)} cannot be sent to another process ({error}). Move it to module "
            "level (no lambda, no function within a function), or pass executor=InProcess()"
        ) from error


# --- Running --------------------------------------------------------------------------------------------------


def run_tasks(
    take: Callable[[], Task | None], executor: Executor | None, file: ResultsFile | None, name: str, version: str
) -> Generator[Result, None, None]:
    """Run tasks on an executor (None for `Processes`) and yield their results as they finish, each first recorded.

    `take` gives the next task, or None if there is none for now: it is asked again whenever one has finished, until
    none is running.
    """

    def finished(task: Task, outcome: _Outcome) -> Result:
        fields = attrs.asdict(outcome, recurse=False)
        result = Result(key=task.key, config=task.config, seed=task.seed, trial=name, version=version, **fields)
        if file:
            file.append(result)
        return result

    workers = executor or Processes()
    known_to_work = isinstance(workers, InProcess)
    running: dict[Future[_Outcome], Task] = {}
    # When a process dies, any of the running trials may be to blame. Each is run again alone, which tells.
    again: deque[Task] = deque()
    try:
        while True:
            while not again and len(running) < _window(workers) and (task := take()):
                if not known_to_work:
                    _check_workers(workers, task.trial)
                    known_to_work = True
                running[workers.submit(run_trial, task)] = task
            if again and not running:
                task = again.popleft()
                running[workers.submit(run_trial, task)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                # It is running until its result is recorded: an interrupt may come at any time.
                task, error, result = running[future], future.exception(), None
                if error is None:
                    result = finished(task, future.result())
                elif isinstance(error, StorageError):
                    raise error
                elif isinstance(error, CannotStart):
                    raise SweepError(_no_worker(error)) from error
                elif task.deaths < 2:
                    again.append(attrs.evolve(task, deaths=task.deaths + 1))
                else:
                    result = finished(task, _lost(error))
                del running[future]
                if result:
                    yield result
    finally:
        try:
            # What had finished when all this was stopped is kept.
            for future, task in running.items():
                if not future.cancel() and future.done() and future.exception() is None:
                    finished(task, future.result())
        finally:
            if executor is None:
                workers.shutdown(wait=True, cancel_futures=True)


def _window(workers: Executor) -> int:
    """How many trials are handed over at a time: enough that no worker waits, few enough to stop soon."""
    if isinstance(workers, InProcess):
        return 1
    return 2 * workers.jobs if isinstance(workers, Processes) else _OTHERS


def _check_workers(workers: Executor, trial: Trial) -> None:
    """Raise SweepError if no worker can start or import the trial: all of its trials would count as lost."""
    for attempt in range(3):  # one that is killed meanwhile says nothing about the next
        try:
            workers.submit(trial_name, trial).result()
            return
        except Exception as error:
            if isinstance(error, WorkerDied) and attempt < 2:
                continue
            if isinstance(error, (CannotStart, WorkerDied)) and "was killed" in str(error):
                raise SweepError(_no_worker(error)) from error
            raise SweepError(
                f"sweep: no worker can start and import the trial {trial_name(trial)} ({_causes(error)}). A "
                "script calls sweep below `if __name__ == '__main__':`; a trial is in a file that workers can import, "
                "not typed into an interpreter. Or pass executor=InProcess()"
            ) from error


def _causes(error: BaseException) -> str:
    """What went wrong, the first cause first: a cluster wraps what helps to know in errors of its own."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.insert(0, each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "; ".join(f"{type(each).__name__}: {cut(' '.join(str(each).split()), _CAUSE)}" for each in found)


def _no_worker(error: BaseException) -> str:
    return (
        f"sweep: no worker can start any more ({_causes(error)}). If the memory is full, take fewer: "
        "Processes(1), --jobs 1. Nothing is lost: start the sweep again to go on"
    )


def _lost(error: BaseException) -> _Outcome:
    text = f"its process died, and twice again with no other trial running: {_causes(error)}"
    return _Outcome("lost", {}, 0.0, socket.gethostname(), text)


def run_trial(task: Task) -> _Outcome:
    """Run a trial where this is called, whatever comes of it; raises StorageError if the disk is at fault."""
    started = time.perf_counter()
    status: Status
    try:
        metrics, diverged = _as_written(task.trial(task.config, task.seed))
        status, error = ("diverged" if diverged else "done"), ""
    except NonFiniteError as reason:
        status, metrics, error = "diverged", {}, str(reason)
    except StorageError:
        raise
    except (Exception, SystemExit) as reason:
        if isinstance(reason, OSError) and reason.errno in _DISK:
            raise StorageError(
                f"the trial of {task.config!r}, seed {task.seed}, cannot read or write ({reason}). It is not recorded: "
                "see to the disk, and start the sweep again to go on"
            ) from reason
        status, metrics, error = "failed", {}, traceback.format_exc()
    return _Outcome(status, metrics, time.perf_counter() - started, socket.gethostname(), error[-_ERROR:])


def _as_written(metrics: Any) -> tuple[dict[str, Any], bool]:
    """Metrics as they are read back from a file, and whether any is infinite or not a number (it is None there)."""
    if not isinstance(metrics, Mapping):
        raise TypeError(f"a trial returns a dictionary of metrics, got {shown(metrics)}")
    written: dict[str, Any] = {}
    diverged = False
    for given, value in metrics.items():
        name = str(given)
        if name in written:
            raise TypeError(f"a trial returns metrics of different names, got {name!r} twice")
        plain = _plain(value)
        finite = is_data(plain)
        written[name] = plain if finite else None
        diverged = diverged or not finite
    size = len(json.dumps(written))
    if size > _METRICS:
        raise TypeError(
            f"the metrics take {size:,} bytes as JSON, at most {_METRICS:,}: write what is long to a file, and return "
            "its name"
        )
    return written, diverged


def _plain(value: Any, depth: int = 0) -> Any:
    """A metric in Python's own types."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if depth + 1 == DEEPEST:
        raise TypeError(f"a metric may have lists within lists, but not {DEEPEST} deep")
    if isinstance(value, (list, tuple)):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each, depth + 1) for name, each in value.items()}
    raise TypeError(f"a metric must be what JSON holds, as numbers and lists of them are, got {shown(value)}")
