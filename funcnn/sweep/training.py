"""Training as a trial."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from funcnn import checkpoint, train
from funcnn.data.dataset import Dataset
from funcnn.keys import Key
from funcnn.sweep.grid import Configuration, SweepError
from funcnn.train import Epoch, Metrics, Problem, TrainState

__all__ = ["Make", "Training", "TrainingTrial"]


@attrs.frozen
class Training:
    """What a trial trains: a problem on a data set, for a number of epochs."""

    problem: Problem
    dataset: Dataset
    epochs: int
    batch_size: int


Make = Callable[[Configuration, int], Training]


@attrs.frozen
class TrainingTrial:
    """The trial that trains what `make` makes, from the seed, and measures the net after the last epoch.

    With `until` it stops after that epoch and leaves a checkpoint in the file `saved`, from which it goes on when it is
    called for more epochs. Metrics: epochs, train_loss (the last epoch's mean), train_accuracy, validation_loss,
    validation_accuracy, test_loss, test_accuracy; what a training lacks is None.

    Raises SweepError, with `until`, for a training of fewer epochs, or without a validation part or a metric.
    """

    make: Make
    until: int | None = None
    saved: Path | None = None

    @property
    def __wrapped__(self) -> Make:
        """What the trial is about: its name and source are those of the sweep's results."""
        return self.make

    def __call__(self, config: Configuration, seed: int) -> dict[str, Any]:
        training = self.make(config, seed)
        problem, data = training.problem, training.dataset
        state = train.init_state(problem, Key(seed), data.in_shape)
        if self.until is None or self.saved is None:
            return self._train(training, state, training.epochs)[1]
        if training.epochs < self.until:
            raise SweepError(f"halving: epochs must be at most those of the training, {training.epochs}: {config!r}")
        if data.validation is None or problem.metric is None:
            raise SweepError(f"halving: the training needs a validation part and a metric, to compare by: {config!r}")
        if self.saved.exists():
            metrics: dict[str, Any] = checkpoint.read_description(self.saved)
            if metrics["epochs"] == self.until:  # and then this was stopped, before anyone heard of it
                return metrics
            if metrics["epochs"] < self.until:
                state = checkpoint.load(self.saved, state)
        state, metrics = self._train(training, state, self.until)
        checkpoint.save(self.saved, state, description=metrics)
        return metrics

    def _train(self, training: Training, state: TrainState, until: int) -> tuple[TrainState, dict[str, Any]]:
        problem, data = training.problem, training.dataset
        events = train.train(problem, state, data, epochs=training.epochs, batch_size=training.batch_size)
        event = next(event for event in events if isinstance(event, Epoch) and event.epoch == until)
        measured = {
            "train": event.train,
            "validation": event.validation or Metrics(None, None),  # type: ignore[arg-type]
            "test": train.evaluate(problem, event.state, data.test),
        }
        metrics = {
            f"{part}_{name}": value for part, each in measured.items() for name, value in attrs.asdict(each).items()
        }
        return event.state, {"epochs": until} | metrics
