"""Training as a pure step folded over batches.

`make_step` gives the step, ``(state, batch) -> (state, metrics)``; `train` folds it over shuffled batches and yields
what happens as frozen events. It never prints, saves or stops: progress bars, checkpoints and histories are loops
around it, and early stopping is ``break``. Shuffling and dropout follow from the run's seed and the step number
alone, both in the `TrainState`, so a run that goes on from a saved state equals one that never stopped, bit for bit
(on one kind of processor and with one version of NumPy).
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.batch import Batch
from funcnn.checks import FuncnnWarning
from funcnn.device import device_of_tree
from funcnn.evaluation import BEGUN, batches, evaluate, for_evaluation, mean_of, predict, recounted
from funcnn.keys import Key, check_is_key, fold_in
from funcnn.metrics.shared import is_lower_better, rank
from funcnn.nn.at_work import AtWork
from funcnn.nn.coupled import check_meets
from funcnn.nn.fold import fold
from funcnn.nn.prediction import predictor
from funcnn.problem import Augment, Examples, Parts, Problem, check_asks_no_loss, check_examples, check_problem
from funcnn.settings import check_counts, is_number, refuse
from funcnn.team.ahead import Ahead, check_there
from funcnn.team.calls import FromOrder
from funcnn.team.events import Epoch, Step
from funcnn.team.member import epoch_order
from funcnn.team.mpi import team_of
from funcnn.team.step import (
    ADVICE,
    Metrics,
    Model,
    NonFiniteError,
    TrainState,
    check_on_host,
    step,
    step_in_shards,
    summed,
)
from funcnn.team.team import Team
from funcnn.tree import Array, Shape

__all__ = [
    "Augment", "Batch", "Epoch", "Examples", "Metrics", "Model", "NonFiniteError", "Problem", "Step", "TrainState",
    "batches", "early_stopping", "evaluate", "fold", "for_evaluation", "init_state", "make_step", "predict",
    "predictor", "recounted", "train",
]  # fmt: skip


def init_state(problem: Problem, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> TrainState:
    """The state at step 0, from a run's root key ``Key(seed)`` and an example's shape.

    >>> from funcnn.layers import dense
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.optimizers import sgd
    >>> state = init_state(Problem(dense(2), softmax_cross_entropy, sgd(0.1)), Key(7), (4,))
    >>> state.step, state.seed, state.params.weight.shape
    (0, 7, (4, 2))

    Raises ShapeError if the net does not take the shape, ValueError for a derived key: the state holds the seed.
    """
    check_problem("init_state", problem)
    check_is_key("init_state", key)
    if key.path:
        raise ValueError(f"init_state: expected a run's root key, Key(seed), got the derived {key}")
    params, state, _ = problem.net.init(fold_in(key, "init"), in_shape, dtype)
    return TrainState(params, state, problem.optimizer.init(params), 0, key.seed)


def make_step(
    problem: Problem, *, shards: int = 1, team: Team | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The pure training step: forward, loss, backward, update. The metrics are the batch's, before the update.

    Of a batch in shards the sum of their gradients is taken, whoever computes them: this process, or the members of a
    team (`funcnn.team`), which has a number of shards of its own.

    >>> from funcnn.layers import dense
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.optimizers import sgd
    >>> problem = Problem(dense(2), softmax_cross_entropy, sgd(0.1))
    >>> batch = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> state, metrics = make_step(problem)(init_state(problem, Key(0), (2,)), batch)
    >>> state.step
    1

    The step raises NonFiniteError, naming the step and the first bad leaf, before anything is updated by it, and
    TypeError for a loss, metric or augmentation that gives anything else than it must. Raises LayerError for a layer
    that must have the whole batch, at once in shards, and at the first step of a team; ValueError for other shards than
    the team's. The process keeps some of the memory that steps free (`funcnn.system.memory.keep_some_memory`).
    """
    check_problem("make_step", problem)
    check_counts("make_step", shards=shards)
    from funcnn.system.memory import keep_some_memory  # here, so that an import alone sets nothing

    keep_some_memory()
    if team is not None:
        if shards not in (1, team.shards):
            refuse("make_step", "shards", f"the team's, {team.shards}, or left out", shards)
        check_asks_no_loss("make_step", problem)
        return partial(team.step, problem)
    if shards == 1:
        return partial(step, problem, at_work=AtWork(problem.net))
    check_meets(problem.net)
    check_asks_no_loss("make_step", problem)
    return partial(step_in_shards, problem, shards)


def train(
    problem: Problem,
    state: TrainState,
    dataset: Parts,
    *,
    epochs: int,
    batch_size: int,
    epoch_steps: int | None = None,
    workers: int = 1,
    shards: int | None = None,
) -> Iterator[Step | Epoch]:
    """Train from a state to the end of the last epoch, yielding a `Step` after each step, an `Epoch` after each epoch.

    Every epoch visits every training example once, in an order derived from the seed and the epoch. With `epoch_steps`
    an epoch has so many steps instead, and goes on in the pass over the examples where the one before it ended: to look
    at the validation part more often than once a pass, or more rarely. A state with steps behind it goes on where it
    is, within an epoch too; with all of them behind it, nothing is left to yield. Only an optimizer that follows the
    metrics in training, for want of a validation part, is told of the steps since a start within an epoch.

    >>> from funcnn.data import load
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.models import fully_connected
    >>> from funcnn.optimizers import adam
    >>> data = load("digits")
    >>> problem = Problem(fully_connected([32], 10), softmax_cross_entropy, adam(0.01))
    >>> state = init_state(problem, Key(0), data.in_shape)
    >>> for event in train(problem, state, data, epochs=5, batch_size=64):
    ...     if isinstance(event, Epoch):
    ...         state = event.state
    >>> evaluate(problem, state, data.test).accuracy > 0.9
    True

    With several `workers` (processes, this one among them) every batch is cut into `shards`, by default one for each
    worker, and the sum of their gradients is taken. The result follows from the number of shards, and not from that of
    the workers: a run may go on with others. Dropout and augmentation draw for each shard by itself. On the first of
    MPI's ranks, the workers are the ranks (`funcnn.team.mpi.serving`).

    Training changes nothing: the trained net is in an event's state. Given the state at step 0 that a run began with,
    `evaluate` and `predict` warn once the run has come through an epoch.

    Raises ValueError at once for settings that are not positive, an empty part or arguments of another kind,
    NonFiniteError later. Warns once of a loss that has grown a thousandfold: a mean over an epoch's steps of more than
    1000 times the first step's, or 1000 if that was below 1.
    """
    check_problem("train", problem)
    shards = workers if shards is None else shards
    check_counts("train", epochs=epochs, batch_size=batch_size, workers=workers, shards=shards)
    if epoch_steps is not None:
        check_counts("train", epoch_steps=epoch_steps)
    if workers > shards:
        refuse("train", "shards", f"at least {workers}, one for each worker", shards)
    if shards > 1:
        check_asks_no_loss("train", problem)
    if not isinstance(state, TrainState):
        refuse("train", "state", "a TrainState, such as init_state makes", state)
    if shards > 1:
        check_on_host("train", state)
    if not (hasattr(dataset, "train") and hasattr(dataset, "validation")):
        expected = "a data set with the parts train and validation (or None)"
        refuse("train", "dataset", expected, dataset, "Of a part make Dataset(part, None, None, classes, in_shape)")
    check_examples("train", "the training examples", dataset.train)
    if dataset.validation is not None:
        check_examples("train", "the validation examples", dataset.validation)
    return _train(problem, state, dataset, epochs, batch_size, epoch_steps, _Crew(problem, dataset, workers, shards))


_LOOK = 100  # steps, after which what is on a device is looked at
_EXPLODED = 1e3  # of the first step's loss, or of 1 if that is less


def _train(
    problem: Problem,
    state: TrainState,
    dataset: Parts,
    epochs: int,
    batch_size: int,
    epoch_steps: int | None,
    crew: "_Crew",
) -> Iterator[Step | Epoch]:
    n = len(dataset.train)
    per_pass = -(-n // batch_size)
    per_epoch = epoch_steps or per_pass
    start, limit = state, 0.0  # limit: a mean loss beyond it has exploded
    if state.step >= epochs * per_epoch:
        return
    with crew:
        for epoch in range(state.step // per_epoch, epochs):
            mean: Metrics | None = None
            seconds, rate = 0.0, 0.0
            started = time.perf_counter()
            for i in range(state.step - epoch * per_epoch, per_epoch):
                which, place = divmod(state.step, per_pass)
                batch = FromOrder(which, place * batch_size, min((place + 1) * batch_size, n))
                last = state.step + 1 >= epochs * per_epoch
                following = None if last else _following(batch, batch_size, n)
                rate = problem.optimizer.learning_rate(state.step, state.opt_state)
                state, metrics = crew.step(state, batch, following)
                mean = summed([mean, metrics]) if mean else metrics
                limit = limit or _EXPLODED * max(1.0, abs(metrics.loss))
                measures = *metrics.as_they_lie[:2], *mean.as_they_lie[:2]
                event = Step(state.step, epoch + 1, i + 1, per_epoch, *measures, rate)
                if (i + 1) % _LOOK == 0:
                    check_there(state, mean)
                seconds += time.perf_counter() - started
                yield event
                started = time.perf_counter()  # the time that the caller took is not the training's
            assert mean is not None  # an epoch that is begun has a step to come
            check_there(state, mean)
            validation = crew.validate(state)
            opt_state = problem.optimizer.observe(state.opt_state, validation or mean)
            if opt_state is not state.opt_state:
                state = TrainState(state.params, state.state, opt_state, state.step, state.seed)
            if mean.loss > limit:
                message = f"train: the loss has grown to {mean.loss:.3g} in epoch {epoch + 1}. {ADVICE}"
                warnings.warn(message, FuncnnWarning, stacklevel=2)
                limit = math.inf  # said once
            if start.step == 0:
                BEGUN.add(start)
            lower = is_lower_better(problem.metric)
            yield Epoch(epoch + 1, epochs, state, mean, validation, rate, seconds, lower=lower)


def _following(batch: FromOrder, batch_size: int, n: int) -> FromOrder:
    """The batch after another."""
    if batch.last == n:
        return FromOrder(batch.epoch + 1, 0, min(batch_size, n))
    return FromOrder(batch.epoch, batch.last, min(batch.last + batch_size, n))


def early_stopping(events: Iterable[Step | Epoch], *, patience: int, min_delta: float = 0.0) -> Iterator[Step | Epoch]:
    """Training's events until the validation part has got no better for `patience` epochs; the best say `is_best`.

    Better is a better metric, among equals a lower loss, and without a metric a lower loss, the rule by which
    experiments keep a net. With `min_delta` an epoch ends the wait only if it is better than the one that did so before
    by more than that; `is_best` goes by the rule alone. What a run had behind it before it was resumed is not known
    here: its next epoch counts as the best so far.

    >>> from funcnn.data import load
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.models import fully_connected
    >>> from funcnn.optimizers import adam
    >>> data = load("digits")
    >>> problem = Problem(fully_connected([32], 10), softmax_cross_entropy, adam(0.01))
    >>> state = init_state(problem, Key(0), data.in_shape)
    >>> events = train(problem, state, data, epochs=100, batch_size=64)
    >>> for event in early_stopping(events, patience=5):
    ...     if isinstance(event, Epoch) and event.is_best:
    ...         best = event
    >>> event.epoch < 100, event.epoch - best.epoch
    (True, 5)

    Raises ValueError at once for a patience that is no positive int, or a min_delta that is no number of at least 0; at
    the first epoch, for a data set without a validation part.
    """
    if not isinstance(events, Iterable):
        refuse("early_stopping", "events", "the events of train(...)", events)
    check_counts("early_stopping", patience=patience)
    if not (is_number(min_delta) and 0 <= min_delta < math.inf):
        refuse("early_stopping", "min_delta", "a finite number of at least 0", min_delta)
    return _until_no_better(events, patience, min_delta)


def _until_no_better(events: Iterable[Step | Epoch], patience: int, min_delta: float) -> Iterator[Step | Epoch]:
    best: tuple[float, float] | None = None
    mark: tuple[float, float] | None = None  # of the last epoch that ended the wait
    waited = 0
    try:
        for event in events:
            if isinstance(event, Step):
                yield event
                continue
            if event.validation is None:
                raise ValueError(
                    "early_stopping: the data set has no validation part, by which the best epoch is told. Hold one "
                    "out, as Dataset.from_arrays(inputs, targets, validation=0.1) does"
                )
            now = rank(event.validation.accuracy, event.validation.loss, lower=event.lower)
            is_best = best is None or now > best
            best = now if is_best else best
            place = 1 if event.validation.accuracy is None else 0  # of the measure that min_delta is about
            if mark is None or (now > mark if min_delta == 0 else now[place] > mark[place] + min_delta):
                mark, waited = now, 0
            else:
                waited += 1
            yield attrs.evolve(event, is_best=is_best)
            if waited >= patience:
                return
    finally:
        if hasattr(events, "close"):
            events.close()  # a training's processes end now, not when somebody collects the generator


class _Crew:
    """Who takes the steps of a run: this process alone, or a team of several."""

    def __init__(self, problem: Problem, dataset: Parts, workers: int, shards: int) -> None:
        self.problem, self.dataset, self.size = problem, dataset, (workers, shards)
        self.team: Team | None = None
        self.alone = make_step(problem, shards=shards)
        self.order: tuple[int, Array] | None = None
        self.ahead: Ahead | None = None

    def __enter__(self) -> "_Crew":
        workers, shards = self.size
        self.team = team_of(workers, shards) if workers > 1 else None
        return self

    def __exit__(self, *error: object) -> None:
        if self.team:
            self.team.close()
        if self.ahead:
            self.ahead.close()

    def step(self, state: TrainState, batch: FromOrder, following: FromOrder | None) -> tuple[TrainState, Metrics]:
        examples = self.dataset.train
        if self.team:
            return self.team.step(self.problem, state, batch, examples, self.dataset.validation)
        if device_of_tree(state.params) != "cpu":
            self.ahead = self.ahead or Ahead(self.problem, examples)
            return self.ahead.step(state, batch, following)
        if self.order is None or self.order[0] != batch.epoch:
            self.order = batch.epoch, epoch_order(state.seed, batch.epoch, len(examples))
        return self.alone(state, examples.take(self.order[1][batch.first : batch.last]))

    def validate(self, state: TrainState) -> Metrics | None:
        validation = self.dataset.validation
        if validation is None or not self.team:
            return None if validation is None else evaluate(self.problem, state, validation)
        averaged = for_evaluation(self.problem, state)
        made = self.team.evaluate(self.problem, averaged, validation, 256)
        return mean_of("evaluate", made)
