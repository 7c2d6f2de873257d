"""Early stopping of hopeless trials by successive halving.

`halving` trains all configurations for a few epochs, the best of these for more, and so on. It takes the same steps as
``TrainingTrial(make)`` in a sweep, so a trial that reaches the end has the same metrics.
"""

import math
import os
from collections.abc import Generator, Iterable
from concurrent.futures import Executor

import attrs

from funcnn.sweep.folder import Folder
from funcnn.sweep.grid import Configuration, SweepError, as_int, check_configurations, shown
from funcnn.sweep.results import HALVING, Result, trial_key
from funcnn.sweep.training import Make, TrainingTrial
from funcnn.sweep.trials import Task, check_call, check_picklable, run_tasks, trial_name, trial_version
from funcnn.sweep.workers import InProcess
from funcnn.system.files import make_folder

__all__ = ["halving", "rungs"]


def rungs(epochs: int, first: int, factor: int) -> tuple[int, ...]:
    """The epochs after which the trials are compared: `first`, times `factor` each, and the last.

    >>> rungs(30, 1, 3)
    (1, 3, 9, 30)

    Raises SweepError unless first is from 1 to epochs, and factor at least 2; TypeError for one that is no int.
    """
    epochs, first, factor = (
        as_int("rungs", name, value) for name, value in (("epochs", epochs), ("first", first), ("factor", factor))
    )
    if not 1 <= first <= epochs or factor < 2:
        raise SweepError(f"rungs: first must be from 1 to {epochs} and factor at least 2, got {first} and {factor}")
    found = [first]
    while found[-1] * factor <= epochs:
        found.append(found[-1] * factor)
    return (*found[:-1], epochs) if len(found) > 1 else (*found, *([epochs] if epochs > first else []))


def halving(
    make: Make | TrainingTrial,
    configurations: Iterable[Configuration],
    *,
    epochs: int,
    seed: int = 0,
    first: int = 1,
    factor: int = 3,
    executor: Executor | None = None,
    out: str | os.PathLike[str],
    version: str | None = None,
    mix: bool = False,
    retry: bool = False,
) -> Generator[Result, None, None]:
    """Train every configuration for a few epochs, the best of them for more, and so on: a result for each such rung.

    ASHA's rule (Li et al. 2020): on each rung, the trials among its best 1/factor may go on. A free worker takes the
    best of them that has not gone on yet, from the highest rung that has one, or else a new configuration. So no worker
    waits for the others of a rung. The best have the highest validation_accuracy; `metrics["epochs"]` says how far a
    result is. A trial goes on from its checkpoint in `out`, and no epoch is done twice. `make` may be a `TrainingTrial`
    with workers of its own.

    Raises what `sweep` does, SweepError for a folder with results of other rungs, and StorageError if a checkpoint
    cannot be read or saved: that ends it, since it says nothing about the trial.
    """
    check_call("halving", make, executor, out, version, {"mix": mix, "retry": retry}, name="make")
    chosen, seed = check_configurations(configurations), as_int("halving", "seed", seed)
    ladder = _Ladder(chosen, rungs(epochs, first, factor), int(factor))
    trial = make if isinstance(make, TrainingTrial) else TrainingTrial(make)
    name = f"{trial_name(trial)}{HALVING}"
    version = trial_version(trial) if version is None else version
    if not isinstance(executor, InProcess):
        check_picklable(trial)
    folder = Folder(out, name)
    try:
        known = _known(folder, ladder, {(each, seed) for each in chosen}, version, mix=mix, retry=retry)
        checkpoints = make_folder(folder.path / "checkpoints")
    except BaseException:
        folder.close()
        raise

    def take() -> Task | None:
        step = ladder.next()
        if step is None:
            return None
        config, until = step
        saved = checkpoints / f"{trial_key(config, seed, name, version)}.safetensors"
        key = trial_key(config, seed, f"{name} {until}", version)
        return Task(key, attrs.evolve(trial, until=until, saved=saved), config, seed)

    def results() -> Generator[Result, None, None]:
        yield from known
        for result in run_tasks(take, executor, folder.file, name, version):
            ladder.add(result)
            yield result

    return folder.until_end_of(results())


def _known(
    folder: Folder, ladder: "_Ladder", wanted: set[tuple[Configuration, int]], version: str, *, mix: bool, retry: bool
) -> list[Result]:
    """The results of what is wanted that are in the folder already; the ladder is told of them."""
    before = folder.known(version, mix=mix, retry=retry)
    known = [each for each in before if (each.config, each.seed) in wanted]
    for result in known:
        if result.status == "done":
            epochs, accuracy = (result.metrics.get(name) for name in ("epochs", "validation_accuracy"))
            if epochs not in ladder.epochs:
                raise SweepError(
                    f"{folder.file.path}: it has results after {shown(epochs)} epochs, and here the rungs are "
                    f"{ladder.epochs}. Choose the epochs, first and factor that it has, or another folder"
                )
            if isinstance(accuracy, bool) or not isinstance(accuracy, (int, float)):
                raise SweepError(
                    f"{folder.file.path}: the result {result.key} must have a number for validation_accuracy, got "
                    f"{shown(accuracy)}. Remove its line, or choose another folder"
                )
        ladder.add(result)
    return known


class _Ladder:
    """Who is on which rung, and who goes on."""

    def __init__(self, configurations: tuple[Configuration, ...], epochs: tuple[int, ...], factor: int) -> None:
        self.epochs = epochs
        self.factor = factor
        self.scores: list[dict[Configuration, float]] = [{} for _ in epochs]
        self.gone_on: list[set[Configuration]] = [set() for _ in epochs]
        self.fresh = dict.fromkeys(configurations)

    def add(self, result: Result) -> None:
        """Note a result; what failed or diverged is the worst of its rung and stays there."""
        config = result.config
        self.fresh.pop(config, None)
        accuracy = result.metrics.get("validation_accuracy") if result.status == "done" else None
        rung = self.epochs.index(result.metrics["epochs"]) if accuracy is not None else self._reached(config)
        for below in range(rung):
            self.gone_on[below].add(config)
        self.scores[rung][config] = -math.inf if accuracy is None else accuracy

    def _reached(self, config: Configuration) -> int:
        """The rung that a trial without a score was on its way to."""
        return next((i for i in range(len(self.epochs)) if config not in self.scores[i]), len(self.epochs) - 1)

    def next(self) -> tuple[Configuration, int] | None:
        """What to train next, and until which epoch; None if that is not known before another trial has finished."""
        for rung in reversed(range(len(self.epochs) - 1)):
            scores = self.scores[rung]
            best = sorted(scores.items(), key=lambda entry: -entry[1])[: len(scores) // self.factor]
            for config, score in best:
                if config not in self.gone_on[rung] and score > -math.inf:
                    self.gone_on[rung].add(config)
                    return config, self.epochs[rung + 1]
        if not self.fresh:
            return None
        config = next(iter(self.fresh))
        del self.fresh[config]
        return config, self.epochs[0]
