"""What training yields: a `Step` after each step, an `Epoch` after each epoch."""

from typing import Any

import attrs

from funcnn.system.devices import on_host
from funcnn.team.step import Metrics, TrainState

__all__ = ["Epoch", "Step"]


@attrs.frozen(repr=False)
class Step:
    """One step was taken: its number in the run and in its epoch (from 1), its batch's metrics, the epoch's so far.

    What was computed on a device stays there until it is asked for, which waits for it.
    """

    step: int
    epoch: int
    batch: int
    batches: int
    _loss: Any
    _accuracy: Any
    _epoch_loss: Any
    _epoch_accuracy: Any
    learning_rate: float

    @property
    def loss(self) -> float:
        """The batch's loss."""
        return on_host(self._loss)  # type: ignore[no-any-return]

    @property
    def accuracy(self) -> float | None:
        """The batch's metric."""
        return on_host(self._accuracy)  # type: ignore[no-any-return]

    @property
    def epoch_loss(self) -> float:
        """The mean of the epoch's losses so far."""
        return on_host(self._epoch_loss)  # type: ignore[no-any-return]

    @property
    def epoch_accuracy(self) -> float | None:
        """The mean of the epoch's metrics so far."""
        return on_host(self._epoch_accuracy)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        place = f"step={self.step}, epoch={self.epoch}, batch={self.batch}, batches={self.batches}"
        measures = f"loss={self.loss}, accuracy={self.accuracy}, epoch_loss={self.epoch_loss}"
        return f"Step({place}, {measures}, epoch_accuracy={self.epoch_accuracy}, learning_rate={self.learning_rate})"


@attrs.frozen(eq=False)
class Epoch:
    """One epoch (from 1) is done: the state after it, means over its steps, the validation part's metrics, seconds.

    After a start within an epoch, the means and seconds cover the steps since. `subset` (some of the training examples,
    evaluated as the other parts are) and `test` are for loops that measure more. `lower` says that a lower metric is
    better, and `is_best` whether the epoch is the best so far on the validation part, if `early_stopping` has looked.
    """

    epoch: int
    epochs: int
    state: TrainState = attrs.field(repr=lambda state: f"{type(state).__name__}(...)")
    train: Metrics
    validation: Metrics | None
    learning_rate: float
    seconds: float
    subset: Metrics | None = None
    test: Metrics | None = None
    lower: bool = attrs.field(default=False, repr=False)
    is_best: bool | None = None
