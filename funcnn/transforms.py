"""Transforms of gradients, which `funcnn.optimizers.chain` puts before an optimizer; and what both kinds of rule share.

    transform.init(params)                              -> state
    transform.update(grads, state, params, step)        -> (grads, state)

A transform turns gradients into gradients; like an optimizer it is a pair of pure functions and the settings that
they take. Use them by their names in `funcnn.optimizers`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.layer import Array, Described, check_not_negative, check_positive, config, function_of

__all__ = [
    "Mask", "Rule", "Transform", "add_decayed_weights", "check_gradients", "check_mask",
    "clip_by_global_norm", "decays", "global_norm", "make_rule", "no_state", "weights_only",
]  # fmt: skip

Mask = Callable[[str, Array], bool]


@attrs.frozen(repr=False)
class Rule:
    """The base of transforms and optimizers: a name, settings, and two pure functions."""

    name: str
    config: Described
    init: Callable[..., Any] = attrs.field(eq=function_of)
    update: Callable[..., tuple[Any, Any]] = attrs.field(eq=function_of)

    def __repr__(self) -> str:
        return repr(self.config)


class Transform(Rule):
    """Pure ``init(params) -> state``, ``update(grads, state, params, step) -> (grads, state)``."""


R = TypeVar("R", bound=Rule)


def make_rule(
    kind: type[R], settings: Described, init: Callable[..., Any], update: Callable[..., tuple[Any, Any]]
) -> R:
    """Join settings and two module-level functions, each taking them first."""
    return kind(settings.name, settings, partial(init, settings), partial(update, settings))


def no_state(config: Described, params: Any) -> None:
    """The `init` of a rule without state."""


def check_gradients(params: Any, grads: Any) -> None:
    """Raise TreeError unless gradients have the params' structure and shapes."""
    tree.check_like(params, grads, ("params", "gradients"), shapes=True)


def weights_only(path: str, leaf: Array) -> bool:
    """The mask that decays weights, and neither biases nor batch norm's scale and shift.

    >>> weights_only("2.weight", np.ones((2, 2))), weights_only("2.bias", np.ones(2))
    (True, False)
    """
    return path.rpartition(".")[2] == "weight"


def decays(params: Any, rate: float, mask: Mask | None) -> Any:
    """The decay of every leaf, a tree of floats like the params."""
    if mask is None:
        return tree.map(lambda leaf: rate, params)
    leaves = zip(tree.paths(params), tree.flatten(params), strict=True)
    return tree.unflatten(params, [rate if mask(path, leaf) else 0.0 for path, leaf in leaves])


def check_mask(instance: Any, attribute: Any, value: Mask | None) -> None:
    """Raise ValueError unless a setting is a function, or None."""
    if value is not None and not callable(value):
        raise ValueError(f"{instance.name}: mask must be a function (path, leaf) -> bool or None, got {value!r}")


@config
class _DecayedWeights(Described):
    name: ClassVar[str] = "add_decayed_weights"
    rate: float = attrs.field(validator=check_not_negative, converter=float)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)


def _decay_update(config: _DecayedWeights, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    def add(g: Array, leaf: Array, rate: float) -> Array:
        return g + rate * leaf if rate else g

    check_gradients(params, grads)
    return tree.map(add, grads, params, decays(params, config.rate, config.mask)), None


def add_decayed_weights(rate: float, *, mask: Mask | None = None) -> Transform:
    """g' = g + rate · w: the gradient of the L2 penalty rate/2 · Σ w² (weight decay, if plain sgd follows).

    ``mask(path, leaf)`` says which leaves, for example `weights_only`; all without one.

    >>> grads, _ = add_decayed_weights(0.5).update((np.zeros(1),), None, (np.ones(1),), step=0)
    >>> grads
    (array([0.5]),)

    Raises ValueError for a negative rate.
    """
    settings = _DecayedWeights(rate, mask)
    return make_rule(Transform, settings, no_state, _decay_update)


def global_norm(grads: Any) -> float:
    """The Euclidean norm of all leaves taken as one vector, summed in float64.

    >>> global_norm((np.array([3.0]), (None, np.array([4.0]))))
    5.0
    """
    return math.sqrt(sum(float(np.square(leaf, dtype=np.float64).sum()) for leaf in tree.flatten(grads)))


@config
class _Clip(Described):
    name: ClassVar[str] = "clip_by_global_norm"
    limit: float = attrs.field(validator=check_positive, converter=float)


def _clip_update(config: _Clip, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    norm = global_norm(grads)
    if norm <= config.limit:
        return grads, None
    return tree.map(lambda g: g * (config.limit / norm), grads), None


def clip_by_global_norm(limit: float) -> Transform:
    """g' = g · min(1, limit / ‖g‖), the norm over all leaves (Pascanu et al. 2013).

    >>> grads, _ = clip_by_global_norm(1.0).update((np.array([3.0, 4.0]),), None, None, step=0)
    >>> grads
    (array([0.6, 0.8]),)

    Raises ValueError for a limit that is not positive.
    """
    settings = _Clip(limit)
    return make_rule(Transform, settings, no_state, _clip_update)
