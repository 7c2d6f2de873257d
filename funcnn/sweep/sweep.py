"""`sweep`, which runs a trial for each configuration and seed."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from operator import index

from funcnn.sweep.grid import (
    Configuration,
    SweepError,
    check_configurations,
)
from funcnn.sweep.results import Records, Result, trial_key
from funcnn.sweep.trials import Task, Trial, check_picklable, known_results, run_tasks, trial_name, trial_version
from funcnn.sweep.workers import InProcess
from funcnn.system.files import make_folder

__all__ = ["sweep"]


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
) -> Iterator[Result]:
    """The results of all trials: those in ``out/results.jsonl`` at once, the others as they finish, in any order.

    Each new result is a line in that file before it is yielded, so the same call again goes on where the last one
    ended, however it ended. A trial that raises is recorded with its traceback, one that becomes infinite or not a
    number as diverged, one whose process dies is run up to twice more, alone, and then recorded as lost. With `retry`
    what failed or was lost before is run again. The `version` is
    that of the trial's source and of this library, unless given. Without an executor there is a process for each core
    (`Processes`). Leaving the loop early, as Ctrl-C does, stops the trials that run: each gets a KeyboardInterrupt.

    >>> from funcnn.sweep import InProcess, grid
    >>> def trial(config, seed):
    ...     return {"accuracy": config.lr + seed}
    >>> results = sweep(trial, grid(lr=[0.1, 0.2]), seeds=[0, 1], executor=InProcess())
    >>> [(each.config.lr, each.seed, each.metrics["accuracy"]) for each in results]
    [(0.1, 0, 0.1), (0.2, 0, 0.2), (0.1, 1, 1.1), (0.2, 1, 1.2)]

    Raises SweepError at once for no configurations or seeds, for some that repeat, for a trial that other processes
    could not import, and for a folder with results of another trial, or of another version of it (unless told to `mix`:
    then what it has of these configurations and seeds counts); OSError if the folder cannot be written. At the first
    trial, SweepError if no worker can start and import it.
    """
    chosen, numbers = tuple(configurations), tuple(index(seed) for seed in seeds)
    check_configurations(chosen)
    if not numbers or len(set(numbers)) < len(numbers):
        raise SweepError(f"sweep: expected at least one seed, and none twice, got {list(numbers)}")
    name = trial_name(trial)
    version = trial_version(trial) if version is None else version
    if not isinstance(executor, InProcess):
        check_picklable(trial)
    tasks = [Task(trial_key(each, seed, name, version), trial, each, seed) for seed in numbers for each in chosen]
    records = Records(make_folder(out) / "results.jsonl") if out is not None else None
    before = known_results(records, name, version, mix=mix, retry=retry) if records else []
    found = {_identity(each): each for each in before}
    known = [found[_identity(task)] for task in tasks if _identity(task) in found]
    todo = iter([task for task in tasks if _identity(task) not in found])

    def results() -> Iterator[Result]:
        yield from known
        yield from run_tasks(lambda: next(todo, None), executor, records, name, version)

    return results()


def _identity(each: Task | Result) -> tuple[Configuration, int]:
    return each.config, each.seed
