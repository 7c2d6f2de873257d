"""Optimizers whose params for evaluation are averages of those in training: `Optimizer.evaluated` gives them.

    averaged(adam(1e-3), decay=0.999)         exponential moving average
    averaged(momentum(0.1), decay=None)       stochastic weight averaging, the plain mean
    lookahead(adam(1e-3))                     slow weights, which the fast ones return to
    schedule_free_adamw(1e-3)                 an average in the place of a schedule

What batch norm has counted in training belongs to the params in training, not to their average. For an average over a
hundred steps that makes no difference. Before a mean over epochs is evaluated, Izmailov et al. let the net see the
training data once more: `funcnn.train.recounted`.
"""

from functools import partial
from typing import Any, ClassVar

import attrs

from funcnn import tree
from funcnn.arrays import updates
from funcnn.optimizers.optimizer import Optimizer, Wrapping, check_optimizer, make_optimizer, update_leaves
from funcnn.optimizers.rule import foreign_state
from funcnn.settings import as_int, check_decay, check_share, config, count, number, refuse
from funcnn.tree import Array, node

__all__ = ["Averaged", "averaged", "lookahead"]


def averaged(optimizer: Optimizer, decay: float | None = 0.999, *, start: int = 0, every: int = 1) -> Optimizer:
    """An optimizer, and an average of the params it goes through: a' = decay · a + (1 - decay) · w'.

    With ``decay=None`` a is the plain mean (stochastic weight averaging, Izmailov et al. 2018; Polyak & Juditsky
    1992). From step `start` on, every `every`-th new w enters, the first of them as it is; until then a is w. For the
    mean over the ends of epochs of n steps, from the tenth on: ``start=9 * n, every=n``.

    Training goes on from w; `evaluated` gives a, which is what is evaluated, predicted with and saved. The state is
    `Averaged`, a in the dtype of moments.

    >>> import numpy as np
    >>> from funcnn.optimizers import sgd
    >>> optimizer, params = averaged(sgd(1.0), decay=None), (np.zeros(1),)
    >>> opt_state = optimizer.init(params)
    >>> for step in range(3):
    ...     params, opt_state = optimizer.update((-np.ones(1),), opt_state, params, step)
    >>> params, optimizer.evaluated(params, opt_state)
    ((array([3.]),), (array([2.]),))

    Raises ValueError for what is no optimizer, a decay outside [0, 1), a negative start, or `every` below 1.
    """
    return make_optimizer(_Averaged(optimizer, decay, start, every), _averaged_update, _averaged_init)


def lookahead(optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> Optimizer:
    """After every k steps of an optimizer: s' = s + alpha · (w - s); w' = s' (Zhang et al. 2019).

    The slow weights s begin as w, and are what `evaluated` gives. The wrapped optimizer's moments stay as they are. The
    state is `Averaged`, s the average.

    >>> import numpy as np
    >>> from funcnn.optimizers import sgd
    >>> optimizer, params = lookahead(sgd(1.0), k=2), (np.zeros(1),)
    >>> opt_state = optimizer.init(params)
    >>> for step in range(3):
    ...     params, opt_state = optimizer.update((-np.ones(1),), opt_state, params, step)
    >>> params, optimizer.evaluated(params, opt_state)
    ((array([2.]),), (array([1.]),))

    Raises ValueError for what is no optimizer, k below 1, or alpha outside [0, 1].
    """
    return make_optimizer(_Lookahead(optimizer, k, alpha), _lookahead_update, _averaged_init)


# --- Averages of the params -----------------------------------------------------------------------------------


@node
class Averaged:
    """The state of an optimizer that averages: the wrapped optimizer's, and the average, a tree like the params."""

    inner: Any
    average: Any


def _check_decay_or_none(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None:
        check_decay(instance, attribute, value)


def _check_start(instance: Any, attribute: Any, value: Any) -> None:
    if type(value) is not int or value < 0:
        refuse(instance.name, attribute.name, "an int from 0 on", value)


class _Averaging(Wrapping):
    """The base of those whose average is evaluated."""

    def evaluated(self, params: Any, opt_state: Any) -> Any:
        return tree.map(_in_dtype_of, params, _known(self, opt_state).average)


def _known(settings: Any, opt_state: Any) -> Any:
    if not isinstance(opt_state, Averaged):
        raise foreign_state(settings, opt_state)
    return opt_state


def _in_dtype_of(leaf: Array, average: Array) -> Array:
    return tree.read_only(average.astype(leaf.dtype, copy=False).view())


def _as_average(leaf: Array) -> Array:
    """A leaf as the average that it alone is: read-only, in the dtype of moments, of its own memory."""
    return updates.frozen(leaf.astype(updates.moment_dtype(leaf), order="C"), updates.moment_dtype(leaf))


@config
class _Averaged(_Averaging):
    name: ClassVar[str] = "averaged"
    optimizer: Any = attrs.field(validator=check_optimizer)
    decay: float | None = number(_check_decay_or_none, default=0.999)
    start: int = attrs.field(default=0, converter=as_int, validator=_check_start)
    every: int = count(default=1)

    def share(self, step: int) -> float:
        """The share of the new params in the average: 1 until a first has entered, 0 where none enters."""
        entered, waiting = divmod(step + 1 - self.start, self.every)  # with this one
        if entered < 1 or (entered == 1 and not waiting):
            return 1.0
        if waiting:
            return 0.0
        return 1 / entered if self.decay is None else 1 - self.decay


def _averaged_init(settings: Any, params: Any) -> Averaged:
    return Averaged(settings.optimizer.init(params), tree.map(_as_average, params))


def _averaged_update(
    settings: _Averaged, grads: Any, opt_state: Any, params: Any, step: int, **asked: Any
) -> tuple[Any, Averaged]:
    average, share = _known(settings, opt_state).average, settings.share(step)
    params, inner = settings.optimizer.update(grads, opt_state.inner, params, step, **asked)
    return params, Averaged(inner, _averages(average, params, share))


def _averages(average: Any, params: Any, share: float) -> Any:
    tree.check_like(params, average, ("params", "the optimizer state"), shapes=True)
    if share == 0:
        return average
    if share == 1:
        return tree.map(_as_average, params)
    (average,) = update_leaves(partial(updates.average_update, share=share), average, params, elementwise=True)
    return average


@config
class _Lookahead(_Averaging):
    name: ClassVar[str] = "lookahead"
    optimizer: Any = attrs.field(validator=check_optimizer)
    k: int = count(default=5)
    alpha: float = number(check_share, default=0.5)


def _lookahead_update(
    settings: _Lookahead, grads: Any, opt_state: Any, params: Any, step: int, **asked: Any
) -> tuple[Any, Averaged]:
    slow = _known(settings, opt_state).average
    params, inner = settings.optimizer.update(grads, opt_state.inner, params, step, **asked)
    if (step + 1) % settings.k:
        tree.check_like(params, slow, ("params", "the optimizer state"), shapes=True)
        return params, Averaged(inner, slow)
    slow = _averages(slow, params, settings.alpha)
    return tree.map(_in_dtype_of, params, slow), Averaged(inner, slow)
