"""Training as a trial, and early stopping of hopeless trials by successive halving.

A sweep over nets needs a function ``make(config, seed) -> Training``: what is trained, on what, for how long.
``TrainingTrial(make)`` trains it to the end, for `funcnn.sweep.sweep`; `halving` trains all of them for a few epochs,
the best of these for more, and so on. Both take the same steps: a trial that reaches the end has the same metrics.
"""

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from operator import index

from funcnn.sweep.grid import Configuration, SweepError, check_configurations
from funcnn.sweep.results import Records, Result, trial_key
from funcnn.sweep.training import Make, TrainingTrial
from funcnn.sweep.trials import Task, check_picklable, known_results, run_tasks, trial_name, trial_version
from funcnn.sweep.workers import InProcess
from funcnn.system.files import make_folder

__all__ = ["halving", "rungs"]


def rungs(epochs: int, first: int, factor: int) -> tuple[int, ...]:
    """The epochs after which the trials are compared: `first`, times `factor` each, and the last.

    >>> rungs(30, 1, 3)
    (1, 3, 9, 30)

    Raises SweepError unless first is from 1 to epochs, and factor at least 2.
    """
    if not 1 <= first <= epochs or factor < 2:
        raise SweepError(f"rungs: first must be from 1 to {epochs} and factor at least 2, got {first} and {factor}")
    found = [first]
    while found[-1] * factor <= epochs:
        found.append(found[-1] * factor)
    return (*found[:-1], epochs) if len(found) > 1 else (*found, *([epochs] if epochs > first else []))


def halving(
    make: Make,
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
) -> Iterator[Result]:
    """Train every configuration for a few epochs, the best of them for more, and so on: a result for each such rung.

    ASHA's rule (Li et al. 2020): a free worker takes the best trial of the highest rung that is among the best
    1/factor there and has not gone on, and only if there is none a new configuration. So no worker waits for the
    others of a rung. A trial goes on from its checkpoint in `out`, and no epoch is done twice. `metrics["epochs"]` says
    how far a result is; what is best is told by validation_accuracy.

    Raises what `sweep` does, and SweepError for a folder with results of other rungs.
    """
    chosen, seed = tuple(configurations), index(seed)
    check_configurations(chosen)
    ladder = _Ladder(chosen, rungs(epochs, first, factor), factor)
    trial = TrainingTrial(make)
    name = f"{trial_name(trial)} (halving)"
    version = trial_version(trial) if version is None else version
    if not isinstance(executor, InProcess):
        check_picklable(trial)
    folder = make_folder(out)
    records = Records(folder / "results.jsonl")
    wanted = {(each, seed) for each in chosen}
    results_before = known_results(records, name, version, mix=mix, retry=retry)
    known = [each for each in results_before if (each.config, each.seed) in wanted]
    for result in known:
        if result.status == "done" and result.metrics["epochs"] not in ladder.epochs:
            raise SweepError(
                f"{records.path}: it has results after {result.metrics['epochs']} epochs, and here the rungs are "
                f"{ladder.epochs}. Choose the epochs, first and factor that it has, or another folder"
            )
        ladder.add(result)

    checkpoints = make_folder(folder / "checkpoints")

    def take() -> Task | None:
        step = ladder.next()
        if step is None:
            return None
        config, until = step
        saved = checkpoints / f"{trial_key(config, seed, name, version)}.safetensors"
        key = trial_key(config, seed, f"{name} {until}", version)
        return Task(key, TrainingTrial(make, until, saved), config, seed)

    def results() -> Iterator[Result]:
        yield from known
        for result in run_tasks(take, executor, records, name, version):
            ladder.add(result)
            yield result

    return results()


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
        """What to train next, and until which epoch; None if nothing can be known before another trial has finished."""
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
