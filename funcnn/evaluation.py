"""Evaluation and prediction: what a trained net gives for examples, batch by batch, on one process or several."""

import math
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, overload

import numpy as np

from funcnn import tree
from funcnn.batch import Batch, check_as_many, inputs_in, is_several_arrays, length, unpacked
from funcnn.checks import FuncnnWarning, LayerError, as_array
from funcnn.device import to_host
from funcnn.keys import Key, check_is_key, fold_in, generator
from funcnn.layer import Layer, out_shape_of
from funcnn.nn.prediction import forward_for
from funcnn.problem import Examples, Problem, check_examples, check_problem
from funcnn.settings import as_int, check_counts, refuse
from funcnn.team.mpi import team_of
from funcnn.team.step import Metrics, Model, TrainState, check_on_host, measured, summed, there
from funcnn.team.team import Team

__all__ = ["BEGUN", "batches", "evaluate", "for_evaluation", "mean_of", "predict", "recounted"]

# The states at step 0 that a run of an epoch or more began with. It decides on a warning, and on no result.
BEGUN: "weakref.WeakSet[TrainState]" = weakref.WeakSet()


def batches(examples: Examples, batch_size: int, *, key: Key | None = None, start: int = 0) -> Iterator[Batch]:
    """The batches of one pass, from the `start`-th: each example once, in the key's order or as stored.

    The last batch is smaller if the size does not divide the number of examples.

    >>> from funcnn.data import load
    >>> [len(labels) for _, labels in batches(load("digits").test, 256)]
    [256, 103]

    Raises ValueError at once for a batch size that is no positive int, a start that is no int from 0 on, or examples
    that are no part, TypeError for a key that is none.
    """
    check_counts("batches", batch_size=batch_size)
    check_examples("batches", "examples", examples)
    start = as_int(start)
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        refuse("batches", "start", "an int from 0 on", start)
    if key is not None:
        check_is_key("batches", key)
    return _batches(examples, batch_size, key, start)


def _batches(examples: Examples, batch_size: int, key: Key | None, start: int) -> Iterator[Batch]:
    n = len(examples)
    order = generator(key).permutation(n) if key is not None else None
    for first in range(start * batch_size, n, batch_size):
        part = slice(first, min(first + batch_size, n))
        yield examples.take(part if order is None else order[part])


def evaluate(
    problem: Problem, state: TrainState | Model, examples: Examples, *,
    batch_size: int = 256, workers: int = 1, team: Team | None = None,
) -> Metrics:  # fmt: skip
    """The loss and metric over examples, each counted once, with the layers as for prediction (``train=False``).

    The params are those that the optimizer gives for it, such as an average (`for_evaluation`). Several `workers`
    (processes, which take a while to start), or a `team` that is there already, share the batches, to the same bits.

    >>> from funcnn import Key
    >>> from funcnn.data import load
    >>> from funcnn.models import fully_connected
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.optimizers import adam
    >>> from funcnn.train import init_state
    >>> digits = load("digits")
    >>> problem = Problem(fully_connected([32], 10), softmax_cross_entropy, adam(3e-3))
    >>> evaluate(problem, init_state(problem, Key(0), digits.in_shape), digits.test).accuracy < 0.3  # not trained
    True

    Raises ValueError for no examples, a batch size that is no positive int, a team and another number of workers, or
    arguments of another kind. Warns of a loss that is not finite, which is given as it is, and of the state that
    training began with.
    """
    check_problem("evaluate", problem)
    _check_state("evaluate", state)
    check_counts("evaluate", batch_size=batch_size, workers=workers)
    check_examples("evaluate", "the examples", examples)
    state = for_evaluation(problem, state)
    with _crew("evaluate", state, workers, team) as crew:
        if crew:
            state = state if team else Model(state.params, state.state)
            return mean_of("evaluate", crew.evaluate(problem, state, examples, batch_size))
    forward = forward_for(problem.net, state.params, state.state, batches=-(-len(examples) // batch_size))
    made = (measured(problem, state.params, state.state, batch, forward) for batch in batches(examples, batch_size))
    return mean_of("evaluate", made)


@overload
def for_evaluation(problem: Problem, state: TrainState) -> TrainState: ...
@overload
def for_evaluation(problem: Problem, state: TrainState | Model) -> TrainState | Model: ...
def for_evaluation(problem: Problem, state: TrainState | Model) -> TrainState | Model:
    """A state with the params to evaluate, predict and save with, such as an average (`Optimizer.evaluated`).

    It is the state itself where these are those in training, and a `Model` stays as it is.

    >>> from funcnn.layers import dense
    >>> from funcnn.losses import mean_squared_error
    >>> from funcnn.optimizers import averaged, sgd
    >>> problem = Problem(dense(2), mean_squared_error, averaged(sgd(0.1)))
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> state = TrainState(params, state, problem.optimizer.init(params), 0, 0)
    >>> tree.equal(for_evaluation(problem, state).params, state.opt_state.average)
    True

    Raises ValueError for arguments of another kind, TypeError for a state that another optimizer made.
    """
    check_problem("for_evaluation", problem)
    _check_kind("for_evaluation", state)
    if isinstance(state, Model):
        return state
    params = problem.optimizer.evaluated(state.params, state.opt_state)
    if params is state.params:
        return state
    return TrainState(params, state.state, state.opt_state, state.step, state.seed)


def recounted(problem: Problem, state: TrainState | Model, examples: Examples, *, batch_size: int = 256) -> Model:
    """A model for evaluation with what its layers count, as batch norm's statistics, counted anew over the examples.

    Averaged params (`averaged`) have none of their own, since batch norm counted those of the params in training. So
    the net sees the training examples once more, shuffled, without augmentation and with its layers as in training, and
    keeps the state that comes of it (Izmailov et al. 2018). The statistics run, so that they are the last batches'
    above all; PyTorch's ``update_bn`` takes the mean over all batches.

    >>> from funcnn.data import load
    >>> from funcnn.layers import batch_norm
    >>> from funcnn.losses import mean_squared_error
    >>> from funcnn.optimizers import averaged, sgd
    >>> problem = Problem(batch_norm(), mean_squared_error, averaged(sgd(0.1)))
    >>> params, state, _ = problem.net.init(Key(0), (8, 8, 1))
    >>> images = load("digits").train
    >>> recounted(problem, Model(params, state), images, batch_size=32).state.mean.round(1)
    array([0.3], dtype=float32)

    Raises ValueError for no examples, a batch size that is no positive int, or arguments of another kind.
    """
    check_problem("recounted", problem)
    _check_kind("recounted", state)
    check_examples("recounted", "the examples", examples)
    state = for_evaluation(problem, state)
    counted = state.state
    for i, batch in enumerate(batches(examples, batch_size, key=Key(0))):
        key = fold_in(Key(0), i) if problem.net.config.stochastic else None
        (inputs,) = there(unpacked(batch)[:1], state)
        counted = problem.net.apply(state.params, counted, inputs, key=key, train=True).state
    return Model(state.params, counted)


def mean_of(place: str, made: Iterable[tuple[Metrics, str]]) -> Metrics:
    """The mean over batches; warns once of one that is not finite."""
    each, reasons = zip(*made, strict=True)
    mean = summed(each)
    if mean.weight == 0:
        raise ValueError(f"{place}: the weights of all examples are zero, so that they have no mean loss")
    if any(reasons) or not math.isfinite(mean.loss):
        warnings.warn(
            f"{place}: {next(filter(None, reasons), f'the loss is {mean.loss}')}", FuncnnWarning, stacklevel=3
        )
    return mean


@contextmanager
def _crew(place: str, state: TrainState | Model, workers: int, team: Team | None) -> Iterator[Team | None]:
    """The team that shares the batches: a given one, which stays, or one of so many workers; None for one alone."""
    if team is not None:
        if not isinstance(team, Team):
            refuse(place, "team", "a Team", team)
        if workers not in (1, team.size):
            refuse(place, "workers", f"the team's, {team.size}, or left out", workers)
    if team is not None or workers > 1:
        check_on_host(place, state)
    if team is not None or workers == 1:
        yield team
    else:
        with team_of(workers, workers) as made:
            yield made


def _check_kind(place: str, state: TrainState | Model) -> None:
    if not isinstance(state, (TrainState, Model)):
        refuse(place, "state", "a TrainState or a Model(params, state)", state)


def _check_state(place: str, state: TrainState | Model) -> None:
    _check_kind(place, state)
    if state in BEGUN:
        message = (
            f"{place}: this is the state at step 0 that training began with. Training changes nothing and yields new "
            "states: take event.state of an Epoch"
        )
        warnings.warn(message, FuncnnWarning, stacklevel=3)


def predict(
    net: Layer, state: TrainState | Model, inputs: Any, *,
    batch_size: int = 256, workers: int = 1, team: Team | None = None,
) -> Any:  # fmt: skip
    """The net's outputs for inputs (n, ...) or examples, with the layers as for prediction: -> (n, ...).

    Of a net with several inputs they are a tuple of arrays, and so is what a net with several outputs gives.

    >>> from funcnn.layers import dense
    >>> params, state, _ = dense(2).init(Key(0), (4,))
    >>> predict(dense(2), Model(params, state), np.ones((1000, 4), np.float32)).shape
    (1000, 2)

    Several `workers` (processes, which take a while to start), or a `team` that is there already, share the batches, to
    the same bits. What a team has had before, examples and a state of read-only arrays, it is not given again.

    Raises ValueError for a batch size that is no positive int, a team and another number of workers, several inputs of
    different lengths, or inputs that are neither examples nor taken for an array (`funcnn.checks.as_array`). Warns of
    the state that training began with.
    """
    if not isinstance(net, Layer):
        refuse("predict", "net", "a Layer", net, "Pass problem.net" if isinstance(net, Problem) else "")
    _check_state("predict", state)
    check_counts("predict", batch_size=batch_size, workers=workers)
    if not _is_several(net, inputs) and (not hasattr(inputs, "take") or hasattr(inputs, "__array__")):
        inputs = as_array("predict", "inputs", inputs)
        if inputs.ndim == 0:
            refuse("predict", "inputs", "a batch of inputs", inputs)
    check_as_many("predict", inputs)
    n = length(inputs)
    with _crew("predict", state, workers, team) as crew:
        if crew and n:
            return crew.predict(net, state if team else Model(state.params, state.state), inputs, batch_size)
    starts = range(0, max(n, 1), batch_size)
    forward = forward_for(net, state.params, state.state, batches=len(starts))
    parts = (inputs_in(inputs, slice(start, start + batch_size)) for start in starts)
    made = [forward(*there((part,), state)) for part in parts]
    return tree.map(lambda *leaves: np.concatenate(leaves), *map(to_host, made))


def _is_several(net: Layer, inputs: Any) -> bool:
    """Whether a tuple of arrays is several inputs, and not examples one by one: the net tells.

    Raises ShapeError where it is neither.
    """
    if not is_several_arrays(inputs):
        return False
    try:
        out_shape_of(net, tree.map(lambda leaf: leaf.shape[1:], inputs))
    except LayerError:
        if len({np.shape(each) for each in inputs}) == 1:
            return False
        raise
    return True
