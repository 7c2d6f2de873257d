"""A training step as a pure function of (problem, state, batch), for a whole batch or for shards of it.

A shard is a part of the batch with a loss and gradients of its own. It goes through forward, loss and backward as a
coroutine that meets the others where a layer couples the examples (`funcnn.nn.coupled`), and its part of the batch
weighs its loss: so the gradients of the shards, added up, are those of the batch. A shard may be computed anywhere, and
the sum has one order (`add_up`), so the bits follow from the shards and not from who computes them.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from operator import mul
from typing import Any, NamedTuple

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays.finite import first_non_finite
from funcnn.arrays.products import whole
from funcnn.arrays.threads import single_blas_thread
from funcnn.arrays.weighing import ratio
from funcnn.batch import Batch, as_batch, check_as_many, length, rows, unpacked
from funcnn.checks import LayerError
from funcnn.device import device_of_tree, first_array
from funcnn.keys import Key, fold_in
from funcnn.nn.at_work import AtWork
from funcnn.nn.coupled import Coroutine, Meeting, alone, apply_chunk, backward_chunk, together
from funcnn.optimizers import LossAt
from funcnn.problem import Problem, call_augment, call_loss, call_metric
from funcnn.settings import shown
from funcnn.system.devices import beside, is_device_array, read_late
from funcnn.tree import Array, node

__all__ = [
    "ADVICE", "QUIET", "Made", "Metrics", "Model", "NonFiniteError", "Shard", "TrainState", "add_up", "advised",
    "check_finite", "check_on_host", "cuttable", "forward_and_back", "measured", "prepared", "same_state",
    "shard_slices", "step", "step_in_shards", "step_on", "summed", "there", "unlike", "updated", "why",
]  # fmt: skip


@node
class TrainState:
    """A run's whole position. Shuffling and dropout are derived from its seed and step."""

    params: Any
    state: Any
    opt_state: Any
    step: int
    seed: int


@node
class Model:
    """What prediction needs of a trained net."""

    params: Any
    state: Any


@read_late("loss", "accuracy", "weight", "accuracy_weight")
@attrs.frozen(slots=False)
class Metrics:
    """The loss, and in `accuracy` the problem's metric (None without one): means over some examples.

    The weights are what they are means over: the number of examples, unless the loss or the metric says another. What
    was computed on a device stays there until it is asked for, which waits for it.
    """

    loss: float
    accuracy: float | None
    weight: float = attrs.field(default=1.0, repr=False)
    accuracy_weight: float = attrs.field(default=1.0, repr=False)

    @property
    def as_they_lie(self) -> tuple[Any, Any, Any, Any]:
        """All four, on the device if they were computed there."""
        return tuple(vars(self).values())


# What overflows shows in the loss, the state or the gradients, which are checked: a warning before would say less.
QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "under": "ignore"}


class NonFiniteError(ArithmeticError):
    """The loss, the state, a gradient or the update became infinite or NaN; names the step, and a bad leaf if known."""


class Shard(NamedTuple):
    """Which of a batch's shards it is, and how many examples the batch has."""

    number: int
    examples: int


class Made(NamedTuple):
    """What a batch or a shard gives: gradients, the net's new state, metrics of its examples."""

    gradients: Any
    state: Any
    metrics: Metrics


# --- The step -------------------------------------------------------------------------------------------------


def step(
    problem: Problem, state: TrainState, batch: Batch, at_work: AtWork | None = None
) -> tuple[TrainState, Metrics]:
    """Forward, loss, backward, update. The metrics are the batch's, before the update. Raises NonFiniteError.

    What the net has `at_work` changes the time that it takes, and no bit of what it gives.
    """
    return step_on(problem, state, there(prepared(problem, state, batch), state), at_work)


def check_on_host(place: str, state: TrainState | Model) -> None:
    """Raise ValueError for params on a device, where a batch is to be cut."""
    if is_device_array(_first(state)):
        raise ValueError(
            f"{place}: the params are on a device, which takes a batch whole. Train with one worker and one shard"
        )


def step_on(
    problem: Problem, state: TrainState, batch: Batch, at_work: AtWork | None = None
) -> tuple[TrainState, Metrics]:
    """`step`, with a batch that is prepared and lies where the params lie."""
    made = _made(problem, batch, state, at_work)
    loss = partial(_loss_at, problem, batch, state)  # for an optimizer that asks it
    params, opt_state = updated(problem, state, made.gradients, made.metrics.as_they_lie[0], loss)
    return TrainState(params, made.state, opt_state, state.step + 1, state.seed), made.metrics


def there(batch: Batch, state: TrainState | Model) -> Batch:
    """A batch where a state's params are: itself, or moved to their device."""
    first = _first(state)
    return tuple(tree.map(lambda leaf: beside(leaf, first), batch)) if is_device_array(first) else batch


def _first(state: TrainState | Model) -> Any:
    """The net's first array: where it is, all is. One whose layers are all frozen has arrays in its state alone."""
    found = first_array(state.params)
    return first_array(state.state) if found is None else found


def _made(problem: Problem, batch: Batch, state: TrainState, at_work: AtWork | None = None) -> Made:
    """What a prepared batch gives as a whole, its gradients finite."""
    with single_blas_thread(), np.errstate(**QUIET):
        made: Made = alone(forward_and_back(problem, state, batch, at_work=at_work))
    check_finite(made.gradients, state, made.metrics)
    return made


def _loss_at(problem: Problem, batch: Batch, state: TrainState, params: Any) -> tuple[float, Any]:
    """The loss of a step's batch at other params, and its gradients: what dropout draws is the same."""
    made = _made(problem, batch, TrainState(params, state.state, state.opt_state, state.step, state.seed))
    return made.metrics.loss, made.gradients


def step_in_shards(problem: Problem, shards: int, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """A step whose batch is cut into shards, on the threads of this process; for a net that `check_meets` lets pass."""
    check_on_host("step", state)
    batch = cuttable(batch)
    n = length(batch[0])
    ways = []
    for number, part in enumerate(shard_slices(n, shards)):
        shard = Shard(number, n)
        its_batch = prepared(problem, state, rows(batch, part), shard)
        ways.append(forward_and_back(problem, state, its_batch, shard))
    with single_blas_thread(), np.errstate(**QUIET), whole(len(ways) > 1):
        made: list[Made] = alone(together(ways))
        gradients = add_up([each.gradients for each in made], _sum_of_trees)
    metrics = summed([each.metrics for each in made])
    net_state = same_state([each.state for each in made])
    check_finite(gradients, state, metrics)
    params, opt_state = updated(problem, state, gradients)
    return TrainState(params, net_state, opt_state, state.step + 1, state.seed), metrics


def forward_and_back(
    problem: Problem, state: TrainState, batch: Batch, shard: Shard | None = None, *,
    at_work: AtWork | None = None, into: Any = None,
) -> Coroutine:  # fmt: skip
    """The way of a prepared batch, or of a shard of it, through forward, loss and backward: returns `Made`.

    A shard's layers draw from the key of the batch with the shard's number folded in. Its part of the batch's weight is
    that of its examples, or of what its loss is a mean over: then the shards meet, to know the sum. What the net has
    `at_work` takes the place of its functions where it can, and may write the gradients `into` arrays.
    """
    inputs, targets, weights = unpacked(batch)
    n = length(inputs)
    key = _key(state, "step", shard) if problem.net.config.stochastic else None
    work = at_work.take(state.params, state.state, inputs) if at_work else None
    if work:
        outputs, net_state = work.forward(state.params, inputs, key), state.state
    else:
        outputs, net_state, residuals = yield from apply_chunk(
            problem.net, state.params, state.state, inputs, key=key, train=True
        )
    loss, d_outputs, weight = call_loss(problem.loss, outputs, targets, weights)
    if not is_device_array(loss) and not math.isfinite(loss):  # to look at a device's would be to wait for it
        raise NonFiniteError(advised(state, f"the loss is {loss}{why(state, inputs)}"))
    bad = first_non_finite(net_state)
    if bad is not None:
        reach = f"the inputs reach {max(np.abs(leaf).max() for leaf in tree.flatten(inputs)):g}"
        raise NonFiniteError(advised(state, f"the state {bad} is not finite (loss {loss:g}, {reach})"))
    share = n / shard.examples if shard else 1.0
    if weight is not None and not is_device_array(weight):  # a device takes a batch whole
        total = weight
        if shard:
            (total,) = yield Meeting(_totals, [weight])
        share = weight / total if total else 0.0  # a batch of no weight has no say
    if share != 1:
        d_outputs = tree.map(lambda leaf: leaf * leaf.dtype.type(share), d_outputs)
    if at_work and work:
        gradients = tree.map(np.empty_like, state.params) if into is None else into
        work.backward(state.params, d_outputs, gradients)
        at_work.give_back(work)
    else:
        gradients, _ = yield from backward_chunk(problem.net, state.params, residuals, d_outputs, need_dx=False)
        if at_work:
            at_work.passed(state.params, state.state, inputs, gradients)
    return Made(gradients, net_state, _metrics(problem, loss, weight, outputs, targets, weights, n))


def _totals(weights: Sequence[float]) -> list[float]:
    return [math.fsum(weights)] * len(weights)


def _metrics(
    problem: Problem, loss: float, weight: float | None, outputs: Any, targets: Any, weights: Array | None, n: int
) -> Metrics:
    metric, its_weight = call_metric(problem.metric, outputs, targets, weights)
    return Metrics(loss, metric, n if weight is None else weight, n if its_weight is None else its_weight)


def prepared(problem: Problem, state: TrainState, batch: Batch, shard: Shard | None = None) -> Batch:
    """The batch, or the shard of it, augmented; a shard with keys of its own, and mixed within itself."""
    inputs, targets, weights = unpacked(batch)
    if problem.augment and device_of_tree(inputs) != "cpu":
        raise ValueError(
            "step: augmentations are computed on the host, and the batch is on a device. Pass to_host(batch), or its "
            "NumPy arrays to begin with: the step moves them"
        )
    for i, augment in enumerate(problem.augment):
        inputs, targets = call_augment(augment, inputs, targets, _key(state, "augment", shard, i), weights)
    return as_batch(inputs, targets, weights)


def cuttable(batch: Any) -> Batch:
    """A batch that can be cut. Raises TypeError for what is none, ValueError for more inputs than targets."""
    named = dict(zip(("inputs", "targets", "weights"), as_batch(*unpacked(batch)), strict=False))
    arrays = {name: tree.flatten(each) if type(each) is tuple and each else [each] for name, each in named.items()}
    for name, each in ((name, each) for name, several in arrays.items() for each in several):
        if not isinstance(each, np.ndarray) or each.ndim == 0:
            raise TypeError(f"step: {name} must be an array with the examples along its first axis, got {shown(each)}")
    check_as_many("step", named["inputs"])
    n = length(named["inputs"])
    for name, several in arrays.items():
        for each in several:
            if len(each) != n:
                raise ValueError(f"step: expected as many inputs as {name}, got {n} inputs, {len(each)} {name}")
    return tuple(named.values())


def _key(state: TrainState, purpose: str, shard: Shard | None, i: int | None = None) -> Key:
    key = fold_in(fold_in(Key(state.seed), purpose), state.step)
    if i is not None:
        key = fold_in(key, i)
    return fold_in(key, shard.number) if shard else key


def updated(
    problem: Problem, state: TrainState, gradients: Any, value: float | None = None, loss: LossAt | None = None
) -> tuple[Any, Any]:
    """The optimizer's new params and state; raises NonFiniteError for an update that is not finite."""
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            return problem.optimizer.update(
                gradients, state.opt_state, state.params, state.step, value=value, loss=loss
            )
    except FloatingPointError as error:
        raise NonFiniteError(advised(state, f"the update of the parameters is not finite ({error})")) from error


def measured(
    problem: Problem, params: Any, state: Any, batch: Batch, forward: Callable[[Any], Any]
) -> tuple[Metrics, str]:
    """The metrics of a batch given the net as a function, and why the loss is not finite, if it is not."""
    inputs, targets, weights = unpacked(there(batch, Model(params, state)))
    with np.errstate(**QUIET):
        outputs = forward(inputs)
        loss, _, weight = call_loss(problem.loss, outputs, targets, weights)
    reason = (
        "" if is_device_array(loss) or math.isfinite(loss) else f"the loss is {loss}{why(Model(params, state), inputs)}"
    )
    return _metrics(problem, loss, weight, outputs, targets, weights, length(inputs)), reason


ADVICE = "Lower the learning rate, put clip_by_global_norm before the optimizer, or look for bad inputs"


# --- What is not finite ---------------------------------------------------------------------------------------


def advised(state: TrainState, what: str) -> str:
    """What is wrong at a step, and what to do."""
    return f"step {state.step}: {what}. {ADVICE}"


def check_finite(
    gradients: Any, state: TrainState, metrics: Metrics, place: Callable[[str], str] = lambda path: path
) -> None:
    """Raise NonFiniteError for gradients that are not finite, naming the first: the place of its path."""
    bad = first_non_finite(gradients)
    if bad is not None:
        where = place(bad) or "the layer"
        raise NonFiniteError(advised(state, f"the gradient of {where} is not finite (loss {metrics.loss:g})"))


def why(state: TrainState | Model, inputs: Any) -> str:
    """Why a loss is not finite, as far as it can be seen."""
    for what, values in (("parameter", state.params), ("state", state.state)):
        bad = first_non_finite(values)
        if bad is not None:
            return f", since the {what} {bad} is not finite"
    finite = [np.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in tree.flatten(inputs)]
    bad_inputs = np.count_nonzero(~np.logical_and.reduce(finite))
    if bad_inputs:
        return f", since {bad_inputs} of the batch's {length(inputs)} inputs are not finite"
    return "; all parameters and inputs are finite, but not what follows from them"


# --- Shards ---------------------------------------------------------------------------------------------------


def shard_slices(n: int, shards: int) -> list[slice]:
    """A batch of n examples as shards alike in size; no shard is empty, so there may be fewer.

    >>> shard_slices(7, 3), len(shard_slices(2, 3))
    ([slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)], 2)
    """
    count = max(1, min(shards, n))
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


def add_up(values: Sequence[Any], add: Callable[[Any, Any], Any]) -> Any:
    """The sum of the shards' values in one order, pairs first: ((0 + 1) + (2 + 3)) + ((4 + 5) + ...).

    >>> add_up(["a", "b", "c", "d", "e"], lambda one, other: f"({one}{other})")
    '(((ab)(cd))e)'
    """
    values = list(values)
    gap = 1
    while gap < len(values):
        for i in range(0, len(values) - gap, 2 * gap):
            values[i] = add(values[i], values[i + gap])
        gap *= 2
    return values[0]


def _sum_of_trees(one: Any, other: Any) -> Any:
    return tree.map(np.add, one, other)


def summed(made: Sequence[Metrics]) -> Metrics:
    """The metrics of several shards or batches together: their means, weighed by what they are means over."""
    losses, metrics, weights, metric_weights = zip(*[each.as_they_lie for each in made], strict=True)
    n, m = sum(weights), sum(metric_weights)
    loss = ratio(sum(map(mul, losses, weights)), n)
    known = [value * weight for value, weight in zip(metrics, metric_weights, strict=True) if value is not None]
    return Metrics(loss, ratio(sum(known), m) if known else None, n, m)


def same_state(states: Sequence[Any]) -> Any:
    """The net's new state, on which all shards agree; raises LayerError if they do not."""
    if any(each is not states[0] and not tree.equal(states[0], each) for each in states):
        raise unlike()
    return states[0]


def unlike() -> LayerError:
    """The error for a net whose state differs from shard to shard."""
    return LayerError(
        "the net",
        "its new state differs from shard to shard of a batch, so that no one state follows from the batch",
        "A layer whose state follows from the examples must be a Coupled (funcnn.nn.coupled), whose chunks meet; or "
        "leave the batch whole (one worker, no shards)",
    )
