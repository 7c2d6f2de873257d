"""Optimizers as pure state transitions.

    optimizer.init(params)                              -> opt_state
    optimizer.update(grads, opt_state, params, step)    -> (params, opt_state)

    transform.init(params)                              -> state
    transform.update(grads, state, params, step)        -> (grads, state)

A transform turns gradients into gradients; ``chain(clip_by_global_norm(1.0), adam(1e-3))`` puts transforms before an
optimizer. `step` counts from 0. Learning rates are floats or schedules (`funcnn.schedules`). The arithmetic of
each optimizer is one kernel per leaf (`funcnn.kernels`): a block of numbers goes through all its operations while it is
in cache, which is why Adam and its like are not chains of smaller transforms themselves. New params and states are
read-only, in the params' dtype.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import kernels, tree
from funcnn.layer import Array, Described, check_decay, check_flag, check_not_negative, check_positive, config
from funcnn.schedules import Rate, value_at
from funcnn.transforms import (
    Mask,
    Rule,
    Transform,
    add_decayed_weights,
    check_gradients,
    check_mask,
    clip_by_global_norm,
    decays,
    global_norm,
    make_rule,
    no_state,
    weights_only,
)
from funcnn.tree import node

__all__ = [
    "Moments", "Optimizer", "Transform", "adam", "adamw", "add_decayed_weights", "chain", "clip_by_global_norm",
    "global_norm", "momentum", "rmsprop", "sgd", "weights_only",
]  # fmt: skip


class Optimizer(Rule):
    """Pure ``init(params) -> opt_state``, ``update(grads, opt_state, params, step) -> (params, opt_state)``."""

    def learning_rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.config.learning_rate(step)  # type: ignore[attr-defined, no-any-return]


def _valid_rate(instance: Any, attribute: Any, value: Rate) -> None:
    if not callable(value):
        check_not_negative(instance, attribute, value)


@config
class _Stepping(Described):
    lr: Rate = attrs.field(validator=_valid_rate, converter=lambda lr: lr if callable(lr) else float(lr))

    def learning_rate(self, step: int) -> float:
        return value_at(self.lr, step)


def _zeros(params: Any) -> Any:
    """A tree of zeros like the params'."""
    return tree.map(lambda leaf: tree.read_only(np.zeros_like(leaf)), params)


def _map_leaves(
    kernel: Callable[..., tuple[Array, ...]], outputs: int, params: Any, grads: Any, *states: Any, decays: Any = None
) -> Any:
    """The tuple of trees of ``kernel(leaf, gradient, *states)``'s outputs, leaf by leaf.

    With decays, a tree of floats or a float for all leaves, that is the kernel's last argument.
    """
    check_gradients(params, grads)
    for state in states:
        tree.check_like(params, state, ("params", "the optimizer state"), shapes=True)
    columns = [tree.flatten(each) for each in (params, grads, *states)]
    if decays is not None:
        columns.append([decays] * len(columns[0]) if isinstance(decays, float) else tree.flatten(decays))
    rows = kernels.over_leaves(kernel, columns)
    return tuple(tree.unflatten(params, [row[i] for row in rows]) for i in range(outputs))


def _foreign_state(config: Described, opt_state: Any) -> TypeError:
    got = f"a tuple of {len(opt_state)}" if type(opt_state) is tuple else type(opt_state).__name__
    return TypeError(f"{config.name}: expected the state that its own init gave, got {got}")


# --- Optimizers -----------------------------------------------------------------------------------------------


@config
class _Sgd(_Stepping):
    name: ClassVar[str] = "sgd"


def _sgd_update(config: _Sgd, grads: Any, opt_state: None, params: Any, step: int) -> tuple[Any, None]:
    if opt_state is not None:
        raise _foreign_state(config, opt_state)
    rate = config.learning_rate(step)
    (params,) = _map_leaves(lambda leaf, g: (kernels.sgd(g, leaf, rate),), 1, params, grads)
    return params, None


def sgd(lr: Rate) -> Optimizer:
    """w' = w - lr · g (Robbins & Monro 1951).

    >>> optimizer = sgd(0.1)
    >>> params, opt_state = optimizer.update((np.ones(1),), None, (np.zeros(1),), step=0)
    >>> params
    (array([-0.1]),)

    Raises ValueError for a negative rate.
    """
    settings = _Sgd(lr)
    return make_rule(Optimizer, settings, no_state, _sgd_update)


@config
class _Momentum(_Stepping):
    name: ClassVar[str] = "momentum"
    decay: float = attrs.field(default=0.9, validator=check_decay, converter=float)
    nesterov: bool = attrs.field(default=False, validator=check_flag)


def _one_slot(config: Described, params: Any) -> Any:
    """A state of one array for each leaf."""
    return _zeros(params)


def _momentum_update(config: _Momentum, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    rate = config.learning_rate(step)

    def kernel(leaf: Array, g: Array, velocity: Array) -> tuple[Array, ...]:
        return kernels.momentum(g, velocity, leaf, rate, config.decay, config.nesterov)

    params, velocity = _map_leaves(kernel, 2, params, grads, opt_state)
    return params, velocity


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
    settings = _Momentum(lr, decay, nesterov)
    return make_rule(Optimizer, settings, _one_slot, _momentum_update)


@config
class _RmsProp(_Stepping):
    name: ClassVar[str] = "rmsprop"
    decay: float = attrs.field(default=0.99, validator=check_decay, converter=float)
    epsilon: float = attrs.field(default=1e-8, validator=check_positive, converter=float)


def _rmsprop_update(config: _RmsProp, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    rate = config.learning_rate(step)

    def kernel(leaf: Array, g: Array, square: Array) -> tuple[Array, ...]:
        return kernels.rmsprop(g, square, leaf, rate, config.decay, config.epsilon)

    params, square = _map_leaves(kernel, 2, params, grads, opt_state)
    return params, square


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
    settings = _RmsProp(lr, decay, epsilon)
    return make_rule(Optimizer, settings, _one_slot, _rmsprop_update)


@node
class Moments:
    """Adam's state: the running means of the gradient and of its square, trees like the params."""

    mean: Any
    square: Any


@config
class _Adam(_Stepping):
    name: ClassVar[str] = "adam"
    b1: float = attrs.field(default=0.9, validator=check_decay, converter=float)
    b2: float = attrs.field(default=0.999, validator=check_decay, converter=float)
    epsilon: float = attrs.field(default=1e-8, validator=check_positive, converter=float)

    def decays(self, params: Any) -> Any:
        """The decay of every leaf: a tree of floats, or a float for all."""
        return 0.0


@config
class _AdamW(_Adam):
    name: ClassVar[str] = "adamw"
    weight_decay: float = attrs.field(default=0.01, validator=check_not_negative, converter=float)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)

    def decays(self, params: Any) -> Any:
        return decays(params, self.weight_decay, self.mask) if self.mask else self.weight_decay


def _moments(config: Described, params: Any) -> Moments:
    return Moments(_zeros(params), _zeros(params))


def _adam_update(config: _Adam, grads: Any, opt_state: Moments, params: Any, step: int) -> tuple[Any, Moments]:
    if not isinstance(opt_state, Moments):
        raise _foreign_state(config, opt_state)
    rate = config.learning_rate(step)

    def kernel(leaf: Array, g: Array, mean: Array, square: Array, decay: float) -> tuple[Array, ...]:
        return kernels.adam(g, mean, square, leaf, rate, config.b1, config.b2, config.epsilon, step, decay)

    params, mean, square = _map_leaves(
        kernel, 3, params, grads, opt_state.mean, opt_state.square, decays=config.decays(params)
    )
    return params, Moments(mean, square)


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
    settings = _Adam(lr, b1, b2, epsilon)
    return make_rule(Optimizer, settings, _moments, _adam_update)


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

    Raises ValueError as `adam`, and for a negative decay.
    """
    settings = _AdamW(lr, b1, b2, epsilon, weight_decay, mask)
    return make_rule(Optimizer, settings, _moments, _adam_update)


# --- Chains ---------------------------------------------------------------------------------------------------


@config
class _Chain(Described):
    name: ClassVar[str] = "chain"
    transforms: tuple[Transform, ...]
    optimizer: Optimizer

    def learning_rate(self, step: int) -> float:
        return self.optimizer.learning_rate(step)

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, (*self.transforms, self.optimizer)))})"


def _chain_init(config: _Chain, params: Any) -> tuple[Any, ...]:
    return tuple(rule.init(params) for rule in (*config.transforms, config.optimizer))


def _chain_update(config: _Chain, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    if type(opt_state) is not tuple or len(opt_state) != len(config.transforms) + 1:
        raise _foreign_state(config, opt_state)
    *states, last = opt_state
    new_states = []
    for transform, state in zip(config.transforms, states, strict=True):
        grads, state = transform.update(grads, state, params, step)
        new_states.append(state)
    params, last = config.optimizer.update(grads, last, params, step)
    return params, (*new_states, last)


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
            f"chain: expected transforms and then one optimizer, got {', '.join(map(repr, rules)) or 'nothing'}. "
            "For example chain(clip_by_global_norm(1.0), adam(1e-3))"
        )
    settings = _Chain(tuple(transforms), optimizer)  # type: ignore[arg-type]
    return make_rule(Optimizer, settings, _chain_init, _chain_update)
