"""Training as a trial.

A sweep over nets needs a function ``make(config, seed) -> Training``: what is trained, on what, for how long.
``TrainingTrial(make)`` is then the trial, for `funcnn.sweep.sweep`; `funcnn.sweep.halving` takes `make` itself.
"""

from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

import attrs

from funcnn import checkpoint, train
from funcnn.checkpoint import CheckpointError
from funcnn.data.dataset import Dataset
from funcnn.device import to_device
from funcnn.keys import Key
from funcnn.sweep.grid import Configuration, SweepError, shown
from funcnn.sweep.results import StorageError
from funcnn.train import Epoch, Problem, TrainState

__all__ = ["Make", "Training", "TrainingTrial"]


def _is_problem(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Problem):
        raise TypeError(f"Training: problem must be a Problem(net, loss, optimizer), got {shown(value)}")


def _is_count(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"Training: {attribute.name} must be an int of at least 1, got {shown(value)}")


@attrs.frozen
class Training:
    """What a trial trains: a problem on a data set, for a number of epochs.

    A trial may use several `workers`, which share `shards` of each batch (as many, unless told otherwise), as in
    `funcnn.train.train`: with as many trials at a time (`Processes(jobs)`) as leave each of them its cores.

    Raises ValueError for a number that is no positive int, TypeError for a problem that is none.
    """

    problem: Problem = attrs.field(validator=_is_problem)
    dataset: Dataset
    epochs: int = attrs.field(validator=_is_count)
    batch_size: int = attrs.field(validator=_is_count)
    workers: int = attrs.field(default=1, validator=_is_count)
    shards: int | None = attrs.field(default=None, validator=attrs.validators.optional(_is_count))


Make = Callable[[Configuration, int], Training]


def _is_function(instance: Any, attribute: Any, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"TrainingTrial: make must be a function of (config, seed), got {shown(value)}")


@attrs.frozen
class TrainingTrial:
    """The trial that trains what `make` gives, from the seed, and measures the net after the last epoch.

    `workers` and `shards`, if given, are the training's instead of those that `make` gives, and `device` is where it
    computes, as `funcnn.device.to_device` names it. With `until` it stops after
    that epoch and leaves a checkpoint in the file `saved`, from which it goes on when it is called for more epochs.
    Metrics: epochs, train_loss (the last epoch's mean), train_accuracy, validation_loss, validation_accuracy,
    test_loss, test_accuracy; what a training lacks is None.

    Raises TypeError for what `make` gives, if that is no Training. With `until` it raises SweepError for a training of
    fewer epochs, or without a validation part or a metric, and StorageError if the checkpoint cannot be read or saved.
    """

    make: Make = attrs.field(validator=_is_function)
    until: int | None = None
    saved: Path | None = None
    workers: int | None = None
    shards: int | None = None
    device: str = "cpu"

    @property
    def __wrapped__(self) -> Make:
        """What the trial is about: its name and source are those of the sweep's results."""
        return self.make

    def __call__(self, config: Configuration, seed: int) -> dict[str, Any]:
        training = self.make(config, seed)
        if not isinstance(training, Training):
            raise TypeError(f"make must return a Training(problem, dataset, epochs, batch_size), got {shown(training)}")
        own = {name: value for name in ("workers", "shards") if (value := getattr(self, name)) is not None}
        training = attrs.evolve(training, **own)
        problem, data = training.problem, training.dataset
        state = to_device(train.init_state(problem, Key(seed), data.in_shape), self.device)
        if self.until is None or self.saved is None:
            return self._train(training, state, training.epochs)[1]
        if training.epochs < self.until:
            raise SweepError(f"halving: epochs must be at most those of the training, {training.epochs}: {config!r}")
        if data.validation is None or problem.metric is None:
            raise SweepError(f"halving: the training needs a validation part and a metric, to compare by: {config!r}")
        reached, metrics = self._go_on(self.saved, state)
        if metrics["epochs"] == self.until:  # the trial was then stopped, before its result was recorded
            return metrics
        state, metrics = self._train(training, reached, self.until)
        try:
            checkpoint.save(self.saved, state, description=metrics)
        except OSError as error:
            raise StorageError(
                f"the checkpoint of {config!r} cannot be saved ({error}). Make room, and start the sweep again to go on"
            ) from error
        return metrics

    def _go_on(self, saved: Path, fresh: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state to go on from, and the metrics that it was saved with: their epochs say how far it is."""
        try:
            if not saved.exists():
                return fresh, {"epochs": 0}
            metrics = checkpoint.read_description(saved)
            if not isinstance(metrics, dict) or not isinstance(metrics.get("epochs"), int):
                raise CheckpointError(f"{saved}: it has no metrics")
            if metrics["epochs"] > (self.until or 0):  # of a result that was removed
                return fresh, {"epochs": 0}
            return checkpoint.load(saved, fresh), metrics
        except (CheckpointError, OSError) as error:
            raise StorageError(
                f"{error}. Remove the file, so that the training begins anew, and start the sweep again"
            ) from error

    def _train(self, training: Training, state: TrainState, until: int) -> tuple[TrainState, dict[str, Any]]:
        problem, data = training.problem, training.dataset
        events = train.train(
            problem, state, data,
            epochs=training.epochs, batch_size=training.batch_size, workers=training.workers, shards=training.shards,
        )  # fmt: skip
        event = next(event for event in events if isinstance(event, Epoch) and event.epoch == until)
        measured = {
            "train": event.train,
            "validation": event.validation,
            "test": None if data.test is None else train.evaluate(problem, event.state, data.test),
        }
        metrics = {
            f"{part}_{name}": getattr(each, name, None)  # None of a part that is not there
            for part, each in measured.items()
            for name in ("loss", "accuracy")
        }
        return event.state, {"epochs": until} | metrics
