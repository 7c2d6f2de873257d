"""Optimizers as pure state transitions.

    optimizer.init(params)                              -> opt_state
    optimizer.update(grads, opt_state, params, step)    -> (params, opt_state)
    optimizer.learning_rate(step)                       -> float

    transform.init(params)                              -> state
    transform.update(grads, state, params, step)        -> (grads, state)

A transform turns gradients into gradients; ``chain(clip_by_global_norm(1.0), adam(1e-3))`` puts transforms before an
optimizer. `step` counts from 0. Learning rates are numbers or schedules (`funcnn.schedules`). New params and states are
read-only, in the params' dtype; of float16 params the states are float32, and so is the arithmetic.

Your own optimizer is a class of settings (`OptimizerSettings`), an update that goes over the leaves (`update_leaves`)
and perhaps an init (`zeros_like`), joined by `make_optimizer`; `docs/extending.md` writes Lion so.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays import updates
from funcnn.schedules import Rate, value_at
from funcnn.settings import (
    Described,
    as_float,
    check_decay,
    check_flag,
    check_not_negative,
    check_positive,
    config,
    is_number,
    number,
    refuse,
    shown,
)
from funcnn.transforms import (
    Mask,
    Rule,
    Transform,
    add_decayed_weights,
    check_gradients,
    check_mask,
    check_settings,
    clip_by_global_norm,
    global_norm,
    make_transform,
    masked,
    no_state,
    weights_only,
)
from funcnn.tree import node

__all__ = [
    "Mask", "Moments", "Optimizer", "OptimizerSettings", "Rate", "Transform", "adam", "adamw", "add_decayed_weights",
    "chain", "clip_by_global_norm", "global_norm", "make_optimizer", "make_transform", "masked", "momentum",
    "rmsprop", "sgd", "update_leaves", "weights_only", "zeros_like",
]  # fmt: skip


class Optimizer(Rule):
    """Pure ``init(params) -> opt_state``, ``update(grads, opt_state, params, step) -> (params, opt_state)``.

    ``learning_rate(step)`` is the rate that ``update`` uses at a step; training reports it.
    """

    def init(self, params: Any) -> Any:
        """The state at the start."""
        return self._init(params)

    def update(self, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
        """The new params and state, at a step counted from 0."""
        return self._updated(grads, opt_state, params, step)

    def learning_rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.config.learning_rate(step)  # type: ignore[attr-defined, no-any-return]


# --- Constructors ---------------------------------------------------------------------------------------------


def sgd(lr: Rate) -> Optimizer:
    """w' = w - lr · g (Robbins & Monro 1951).

    >>> optimizer = sgd(0.1)
    >>> params, opt_state = optimizer.update((np.ones(1),), None, (np.zeros(1),), step=0)
    >>> params
    (array([-0.1]),)

    Raises ValueError for a negative rate.
    """
    return make_optimizer(_Sgd(lr), _sgd_update)


def momentum(lr: Rate, decay: float = 0.9, *, nesterov: bool = False) -> Optimizer:
    """v' = decay · v - lr · g; w' = w + v', or with `nesterov` w' = w + decay · v' - lr · g.

    Polyak 1964; Nesterov's form as in Sutskever et al. 2013, with w taken at the look-ahead point. The rate is
    inside v, so a change of rate acts on new gradients alone. The state is v, a tree like the params.

    >>> optimizer = momentum(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params, opt_state
    ((array([-0.1]),), (array([-0.1]),))

    Raises ValueError for a negative rate or a decay outside [0, 1).
    """
    return make_optimizer(_Momentum(lr, decay, nesterov), _momentum_update, _one_moment)


def rmsprop(lr: Rate, decay: float = 0.99, epsilon: float = 1e-8) -> Optimizer:
    """c' = decay · c + (1 - decay) · g²; w' = w - lr · g / (sqrt(c') + epsilon) (Tieleman & Hinton 2012).

    The state is c, a tree like the params.

    >>> optimizer = rmsprop(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-1.])

    Raises ValueError for a negative rate, a decay outside [0, 1) or an epsilon that is not positive.
    """
    return make_optimizer(_RmsProp(lr, decay, epsilon), _rmsprop_update, _one_moment)


def adam(lr: Rate, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """m' = b1·m + (1-b1)·g; v' = b2·v + (1-b2)·g²; w' = w - lr · m̂ / (sqrt(v̂) + epsilon) (Kingma & Ba 2015).

    m̂ = m' / (1 - b1^t) and v̂ = v' / (1 - b2^t), t = step + 1. The state is `Moments`.

    >>> optimizer = adam(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-0.1])

    Raises ValueError for a negative rate, b1 or b2 outside [0, 1), or an epsilon that is not positive.
    """
    return make_optimizer(_Adam(lr, b1, b2, epsilon), _adam_update, _moments)


def adamw(
    lr: Rate,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
    *,
    weight_decay: float = 0.01,
    mask: Mask | None = None,
) -> Optimizer:
    """Adam with decoupled decay: w' = w - lr · (m̂ / (sqrt(v̂) + epsilon) + weight_decay · w).

    Loshchilov & Hutter 2019, the decay times the full rate as in most libraries. ``mask(path, leaf)`` says which
    leaves decay, for example `weights_only`; all do without one.

    >>> optimizer = adamw(0.1, weight_decay=0.5, mask=weights_only)
    >>> params = (np.ones(1),)
    >>> params, opt_state = optimizer.update((np.zeros(1),), optimizer.init(params), params, step=0)
    >>> params
    (array([1.]),)

    Raises ValueError as `adam`, for a negative decay, and for a mask that is no function.
    """
    return make_optimizer(_AdamW(lr, b1, b2, epsilon, weight_decay, mask), _adam_update, _moments)


def chain(*rules: Transform | Optimizer) -> Optimizer:
    """Transforms in order, then the optimizer that comes last. The state is the tuple of theirs.

    >>> chain(clip_by_global_norm(1.0), add_decayed_weights(1e-4, mask=weights_only), momentum(0.1))
    chain(clip_by_global_norm(limit=1.0), add_decayed_weights(rate=0.0001, mask=weights_only), momentum(lr=0.1))

    Raises TypeError unless transforms are followed by exactly one optimizer.
    """
    *transforms, optimizer = rules or (None,)
    wrong = [rule for rule in transforms if not isinstance(rule, Transform)]
    if wrong or not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"chain: expected transforms and then one optimizer, got {', '.join(map(shown, rules)) or 'nothing'}. "
            "For example chain(clip_by_global_norm(1.0), adam(1e-3))"
        )
    return make_optimizer(_Chain(rules), _chain_update, _chain_init)


# --- Building blocks ------------------------------------------------------------------------------------------


def _check_rate(instance: Any, attribute: Any, value: Any) -> None:
    if callable(value):
        return
    if not isinstance(value, float):
        refuse(instance.name, attribute.name, "a number or a schedule, a function of the step", value)
    check_not_negative(instance, attribute, value)


@config
class OptimizerSettings(Described):
    """The base of an optimizer's settings: `lr`, a number or a schedule, comes first.

    Raises ValueError, when settings are made, for a rate that is negative, not finite, or no number.
    """

    lr: Rate = attrs.field(converter=as_float, validator=_check_rate)

    def learning_rate(self, step: int) -> float:
        """The learning rate at a step; raises ValueError if a schedule gives none that is finite and not negative."""
        return value_at(self.lr, step)


def make_optimizer(
    settings: Described, update: Callable[..., tuple[Any, Any]], init: Callable[..., Any] | None = None
) -> Optimizer:
    """Join settings and module-level functions, each taking them first, into an `Optimizer`.

    ``update(settings, grads, opt_state, params, step) -> (params, opt_state)`` and ``init(settings, params) ->
    opt_state``; without `init` the state is None. Raises TypeError for settings without ``learning_rate(step)``.
    """
    check_settings("make_optimizer", settings, update, init)
    if not callable(getattr(settings, "learning_rate", None)):
        kind = type(settings).__name__
        raise TypeError(
            f"make_optimizer: {kind} must have a method learning_rate(step) -> float, which training reports. "
            f"Make it a subclass: class {kind}(OptimizerSettings)"
        )
    return Optimizer(settings.name, settings, partial(init or no_state, settings), partial(update, settings))


def zeros_like(params: Any) -> Any:
    """A tree of zeros like the params, read-only: a moment at the start; of float16 params in float32."""
    return tree.map(lambda leaf: tree.read_only(np.zeros_like(leaf, updates.moment_dtype(leaf))), params)


def update_leaves(
    update: updates.Update, params: Any, grads: Any, *moments: Any, weight_decay: Any = None, elementwise: bool = False
) -> Any:
    """The new params and moments, a tuple of trees, by ``update(leaf, gradient, *moments) -> (leaf, *moments)``.

    `update` is a function of arrays of one shape. With `weight_decay`, a tree of floats like the params (`masked`), it
    is also given the leaf's, by that name. An `elementwise` update treats every number by itself: it is given several
    small leaves joined to one vector, which takes less time.

    >>> def descend(leaf, gradient, velocity):
    ...     velocity = 0.9 * velocity - 0.1 * gradient
    ...     return leaf + velocity, velocity
    >>> update_leaves(descend, (np.ones(2),), (np.ones(2),), (np.zeros(2),))
    ((array([0.9, 0.9]),), (array([-0.1, -0.1]),))

    The results are read-only and have the dtypes of what they replace; `update` is given float16 as float32. Raises
    TreeError unless all trees have the params' structure and shapes, and TypeError for an update that returns anything
    else.
    """
    if not callable(update):
        refuse("update_leaves", "update", "a function (leaf, gradient, *moments) -> (leaf, *moments)", update)
    check_gradients(params, grads)
    for moment in moments:
        tree.check_like(params, moment, ("params", "the optimizer state"), shapes=True)
    rows = list(zip(*map(tree.flatten, (params, grads, *moments)), strict=True))
    by_leaf = [update] * len(rows)
    if weight_decay is not None:
        rates = tree.flatten(weight_decay)
        if len(rates) != len(rows):
            tree.check_like(params, weight_decay, ("params", "weight_decay"))  # names where they differ
        if not all(map(is_number, rates)):
            refuse("update_leaves", "weight_decay", "a tree of numbers like the params", weight_decay)
        by_rate = {rate: partial(update, weight_decay=rate) for rate in rates}
        by_leaf = [by_rate[rate] for rate in rates]
    results = updates.over_leaves(by_leaf, rows, join=elementwise)
    return tuple([tree.unflatten(params, [result[i] for result in results]) for i in range(1 + len(moments))])


# --- The optimizers -------------------------------------------------------------------------------------------


def _foreign_state(settings: Described, opt_state: Any) -> TypeError:
    got = f"a tuple of {len(opt_state)}" if type(opt_state) is tuple else type(opt_state).__name__
    return TypeError(f"{settings.name}: expected the state that its own init gave, got {got}")


@config
class _Sgd(OptimizerSettings):
    name: ClassVar[str] = "sgd"
    elementwise: ClassVar[bool] = True


def _sgd_update(settings: _Sgd, grads: Any, opt_state: None, params: Any, step: int) -> tuple[Any, None]:
    if opt_state is not None:
        raise _foreign_state(settings, opt_state)
    update = partial(updates.sgd_update, rate=settings.learning_rate(step))
    (params,) = update_leaves(update, params, grads, elementwise=True)
    return params, None


def _one_moment(settings: Described, params: Any) -> Any:
    return zeros_like(params)


@config
class _Momentum(OptimizerSettings):
    name: ClassVar[str] = "momentum"
    elementwise: ClassVar[bool] = True
    decay: float = number(check_decay, default=0.9)
    nesterov: bool = attrs.field(default=False, validator=check_flag)


def _momentum_update(settings: _Momentum, grads: Any, velocity: Any, params: Any, step: int) -> Any:
    rate = settings.learning_rate(step)
    update = partial(updates.momentum_update, rate=rate, decay=settings.decay, nesterov=settings.nesterov)
    return update_leaves(update, params, grads, velocity, elementwise=True)


@config
class _RmsProp(OptimizerSettings):
    name: ClassVar[str] = "rmsprop"
    elementwise: ClassVar[bool] = True
    decay: float = number(check_decay, default=0.99)
    epsilon: float = number(check_positive, default=1e-8)


def _rmsprop_update(settings: _RmsProp, grads: Any, square: Any, params: Any, step: int) -> Any:
    rate = settings.learning_rate(step)
    update = partial(updates.rmsprop_update, rate=rate, decay=settings.decay, epsilon=settings.epsilon)
    return update_leaves(update, params, grads, square, elementwise=True)


@node
class Moments:
    """Adam's state: the running means of the gradient and of its square, trees like the params."""

    mean: Any
    square: Any


@config
class _Adam(OptimizerSettings):
    name: ClassVar[str] = "adam"
    elementwise: ClassVar[bool] = True
    b1: float = number(check_decay, default=0.9)
    b2: float = number(check_decay, default=0.999)
    epsilon: float = number(check_positive, default=1e-8)
    weight_decay: float = 0.0  # adamw's, and so is the mask
    mask: Mask | None = None


@config
class _AdamW(_Adam):
    name: ClassVar[str] = "adamw"
    weight_decay: float = number(check_not_negative, default=0.01)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)


def _moments(settings: _Adam, params: Any) -> Moments:
    return Moments(zeros_like(params), zeros_like(params))


def _adam_update(settings: _Adam, grads: Any, opt_state: Moments, params: Any, step: int) -> tuple[Any, Moments]:
    if not isinstance(opt_state, Moments):
        raise _foreign_state(settings, opt_state)
    update = partial(
        updates.adam_update,
        rate=settings.learning_rate(step), b1=settings.b1, b2=settings.b2, epsilon=settings.epsilon,
        step=step, weight_decay=settings.weight_decay,
    )  # fmt: skip
    by_leaf = masked(params, settings.weight_decay, settings.mask) if settings.mask else None
    params, mean, square = update_leaves(
        update, params, grads, opt_state.mean, opt_state.square, weight_decay=by_leaf, elementwise=True
    )
    return params, Moments(mean, square)


@config
class _Chain(Described):
    name: ClassVar[str] = "chain"
    rules: tuple[Any, ...]

    def learning_rate(self, step: int) -> float:
        return self.rules[-1].learning_rate(step)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.rules))})"


def _chain_init(settings: _Chain, params: Any) -> tuple[Any, ...]:
    return tuple(rule.init(params) for rule in settings.rules)


def _chain_update(settings: _Chain, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    if type(opt_state) is not tuple or len(opt_state) != len(settings.rules):
        raise _foreign_state(settings, opt_state)
    passed, states = grads, []  # gradients from rule to rule, and the params from the last
    for rule, state in zip(settings.rules, opt_state, strict=True):
        passed, state = rule.update(passed, state, params, step)
        states.append(state)
    return passed, tuple(states)
