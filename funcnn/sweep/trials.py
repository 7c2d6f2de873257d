"""Trials: what one is called, which version of it this is, and how many of them are run on an executor."""

import inspect
import json
import pickle
import re
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn.sweep.grid import Configuration, SweepError
from funcnn.sweep.results import Records, Result, Status
from funcnn.sweep.workers import InProcess, Processes, busy
from funcnn.train import NonFiniteError

__all__ = ["Task", "Trial", "check_picklable", "known_results", "run_tasks", "run_trial", "trial_name", "trial_version"]

Trial = Callable[[Configuration, int], Mapping[str, Any]]

_OTHERS = 200  # trials handed over at a time to an executor whose number of workers nobody knows


@attrs.frozen
class Task:
    """A trial to run, under the key of its result; how often its process died, or one beside it that was to blame."""

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

    What it prints as counts too (the settings of a partial or a callable object), but for addresses in memory. What the
    trial calls is not a part of it: a change there needs a folder of its own.
    """
    from funcnn import __version__

    function = _function(trial)
    settings = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(trial))
    try:
        source = inspect.getsource(function if inspect.isroutine(function) else type(function))
    except (OSError, TypeError):  # typed into an interpreter
        source = ""
    return f"{__version__}-{sha256((source + settings).encode()).hexdigest()[:8]}"


def check_picklable(trial: Trial) -> None:
    """Raise SweepError for a trial that another process could not import."""
    try:
        pickle.dumps(trial)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SweepError(
            f"sweep: the trial {trial_name(trial)} cannot be sent to another process ({error}). Move it to module "
            "level (no lambda, no function within a function), or pass executor=InProcess()"
        ) from error


def known_results(records: Records, name: str, version: str, *, mix: bool, retry: bool) -> list[Result]:
    """The results that are in the file already; to `retry`, without those of trials that failed or were lost.

    Raises SweepError if they are of another trial; and if they are of another version, unless told to mix them.
    """
    results = records.read()
    records.mend()
    alien = [each for each in results if each.trial != name]
    if alien:
        raise SweepError(
            f"{records.path}: it has {len(alien)} results of {alien[0].trial}; this is {name}. Choose another folder "
            "(out, --out)"
        )
    other = [each for each in results if each.version != version]
    if other and not mix:
        raise SweepError(
            f"{records.path}: it has {len(other)} results of {name} in version {other[0].version}; this is version "
            f"{version}. Choose another folder (out, --out), or pass mix=True (--mix) to count them"
        )
    return [each for each in results if not (retry and each.status in ("failed", "lost"))]


# --- Running --------------------------------------------------------------------------------------------------


def run_tasks(
    take: Callable[[], Task | None], executor: Executor | None, records: Records | None, name: str, version: str
) -> Iterator[Result]:
    """Run tasks on an executor (None for `Processes`) and yield their results as they finish, each first recorded.

    `take` gives the next task, or None if there is none for now: it is asked again whenever one has finished, until
    none is running.
    """

    def finished(task: Task, outcome: _Outcome) -> Result:
        fields = attrs.asdict(outcome, recurse=False)
        result = Result(key=task.key, config=task.config, seed=task.seed, trial=name, version=version, **fields)
        if records:
            records.append(result)
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
                task = running.pop(future)
                error = future.exception()
                if error is None:
                    yield finished(task, future.result())
                elif task.deaths < 2:
                    again.append(attrs.evolve(task, deaths=task.deaths + 1))
                else:
                    yield finished(task, _lost(error))
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
    try:
        workers.submit(trial_name, trial).result()
    except Exception as error:
        raise SweepError(
            f"sweep: no worker can start and import the trial {trial_name(trial)} ({type(error).__name__}: {error}). "
            "A script calls sweep below `if __name__ == '__main__':`; a trial is in a file that workers can import, "
            "not typed into an interpreter. Or pass executor=InProcess()"
        ) from error


def _lost(error: BaseException) -> _Outcome:
    text = f"its process died, and twice again with no other trial running: {type(error).__name__}: {error}"
    return _Outcome("lost", {}, 0.0, socket.gethostname(), text)


def run_trial(task: Task) -> _Outcome:
    """Run a trial where this is called, whatever comes of it."""
    started = time.perf_counter()
    status: Status
    with busy():
        try:
            metrics, diverged = _as_written(task.trial(task.config, task.seed))
            status, error = ("diverged" if diverged else "done"), ""
        except NonFiniteError as reason:
            status, metrics, error = "diverged", {}, str(reason)
        except (Exception, SystemExit):
            status, metrics, error = "failed", {}, traceback.format_exc()
    return _Outcome(status, metrics, time.perf_counter() - started, socket.gethostname(), error)


def _as_written(metrics: Any) -> tuple[dict[str, Any], bool]:
    """Metrics as they are read back from a file, None for what is infinite or not a number; whether anything is."""
    if not isinstance(metrics, Mapping):
        raise TypeError(f"a trial returns a dictionary of metrics, got {metrics!r}")
    written: dict[str, Any] = {}
    for name, value in metrics.items():
        try:
            written[str(name)] = json.loads(json.dumps(value, allow_nan=False, default=_plain))
        except ValueError:
            written[str(name)] = None
    return written, any(written[str(name)] is None and value is not None for name, value in metrics.items())


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a metric must be what JSON holds, as numbers and lists of them are, got {value!r}")
