"""What training yields: a `Step` after each step, an `Epoch` after each epoch."""

import attrs

from funcnn.system.devices import read_late
from funcnn.team.step import Metrics, TrainState

__all__ = ["Epoch", "Step"]


@read_late("loss", "accuracy", "epoch_loss", "epoch_accuracy")
@attrs.frozen(slots=False)
class Step:
    """One step was taken: its number in the run and in its epoch (from 1), its batch's metrics, the epoch's so far.

    What was computed on a device stays there until it is asked for, which waits for it.
    """

    step: int
    epoch: int
    batch: int
    batches: int
    loss: float
    accuracy: float | None
    epoch_loss: float
    epoch_accuracy: float | None
    learning_rate: float


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
