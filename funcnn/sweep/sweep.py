"""`sweep`, which runs a trial for each configuration and seed."""

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from funcnn.sweep.folder import Folder
from funcnn.sweep.grid import Configuration, SweepError, as_int, check_configurations, shown
from funcnn.sweep.results import Result, trial_key
from funcnn.sweep.trials import Task, Trial, check_call, check_picklable, run_tasks, trial_name, trial_version
from funcnn.sweep.workers import InProcess

__all__ = ["sweep"]

_MOST = 1_000_000  # trials


def sweep(
    trial: Trial,
    configurations: Iterable[Configuration],
    *,
    seeds: Iterable[int] = (0,),
    executor: Executor | None = None,
    out: str | os.PathLike[str] | None = None,
    version: str | None = None,
    mix: bool = False,
    retry: bool = False,
) -> Generator[Result, None, None]:
    """The results of all trials: those in ``out/results.jsonl`` at once, the others as they finish, in any order.

    Each new result is a line in that file before it is yielded, so the same call again goes on where the last one
    ended, however it ended; until then the folder is this sweep's alone. A trial that raises is recorded with its
    traceback; one that becomes infinite or not a number as diverged; one whose process dies is run up to twice more,
    alone, and then recorded as lost. With `retry`, what failed or was lost before is run again. The `version` is that
    of the trial's source and settings and of this library, unless given. Without an executor there is a process for
    each core (`Processes`). Leaving the loop early, as Ctrl-C does, stops the trials that run: each gets a
    KeyboardInterrupt.

    >>> from funcnn.sweep import InProcess, grid
    >>> def trial(config, seed):
    ...     return {"accuracy": config.lr + seed}
    >>> results = sweep(trial, grid(lr=[0.1, 0.2]), seeds=[0, 1], executor=InProcess())
    >>> [(each.config.lr, each.seed, each.metrics["accuracy"]) for each in results]
    [(0.1, 0, 0.1), (0.2, 0, 0.2), (0.1, 1, 1.1), (0.2, 1, 1.2)]

    Raises SweepError at once for no configurations or seeds, for some that repeat, for a trial that other processes
    could not import or that nothing tells from another (then a `version` has to), and for a folder with results of
    another trial, or of another version of it (unless told to `mix`: then what it has of these configurations and seeds
    counts); TypeError for an argument of another type; OSError if the folder cannot be written, as FolderInUse if
    another sweep is using it. At the first trial, SweepError if no worker can start and import it; later, OSError if
    the disk fails.
    """
    check_call("sweep", trial, executor, out, version, {"mix": mix, "retry": retry})
    chosen, numbers = check_configurations(configurations), _seeds(seeds)
    if len(chosen) * len(numbers) > _MOST:
        raise SweepError(
            f"sweep: {len(chosen):,} configurations with {len(numbers):,} seeds are more than {_MOST:,} trials"
        )
    name = trial_name(trial)
    version = _version(trial, out) if version is None else version
    if not isinstance(executor, InProcess):
        check_picklable(trial)
    tasks = [Task(trial_key(each, seed, name, version), trial, each, seed) for seed in numbers for each in chosen]
    if out is None:
        return run_tasks(_giver(tasks), executor, None, name, version)
    folder = Folder(out, name)
    try:
        before = folder.known(version, mix=mix, retry=retry)
    except BaseException:
        folder.close()
        raise
    found = {_identity(each): each for each in before}
    known = [found[_identity(task)] for task in tasks if _identity(task) in found]
    todo = [task for task in tasks if _identity(task) not in found]

    def results() -> Generator[Result, None, None]:
        yield from known
        yield from run_tasks(_giver(todo), executor, folder.file, name, version)

    return folder.until_end_of(results())


def _version(trial: Trial, out: Any) -> str:
    try:
        return trial_version(trial)
    except SweepError:
        if out is not None:
            raise
        return "unknown"  # where nothing is recorded, nothing can be taken for something else


def _giver(tasks: list[Task]) -> Callable[[], Task | None]:
    waiting = iter(tasks)
    return lambda: next(waiting, None)


def _seeds(given: Any) -> tuple[int, ...]:
    wrong = isinstance(given, (str, bytes, Mapping))
    try:
        seeds = () if wrong else tuple(itertools.islice(given, _MOST + 1))
    except TypeError:
        wrong = True
    if wrong:
        raise TypeError(f"sweep: seeds must be a list of ints, as range(3), got {shown(given)}")
    if len(seeds) > _MOST:
        raise SweepError(f"sweep: more than {_MOST:,} seeds")
    numbers = tuple(as_int("sweep", "a seed", seed) for seed in seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise SweepError(f"sweep: expected at least one seed, and none twice, got {shown(list(numbers))}")
    return numbers


def _identity(each: Task | Result) -> tuple[Configuration, int]:
    return each.config, each.seed
