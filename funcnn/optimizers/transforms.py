"""Transforms of gradients, which `chain` puts before an optimizer.

    transform.init(params)                              -> state
    transform.update(grads, state, params, step)        -> (grads, state)

None of them has a state. `docs/extending.md` writes one more.
"""

from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays.updates import clipped, squared_norm
from funcnn.arrays.weighing import root
from funcnn.optimizers.rule import (
    Mask,
    Transform,
    check_gradients,
    check_mask,
    global_norm,
    make_transform,
    masked,
)
from funcnn.settings import Described, check_not_negative, check_positive, config, number
from funcnn.tree import Array

__all__ = [
    "adaptive_clip", "add_decayed_weights", "centralize", "clip_by_global_norm", "clip_by_norm", "clip_by_value",
]  # fmt: skip


def clip_by_global_norm(limit: float) -> Transform:
    """g' = g · min(1, limit / ‖g‖), the norm over all leaves (Pascanu et al. 2013).

    >>> grads, _ = clip_by_global_norm(1.0).update((np.array([3.0, 4.0]),), None, None, step=0)
    >>> grads
    (array([0.6, 0.8]),)

    Raises ValueError for a limit that is not positive.
    """
    return make_transform(_ClipByGlobalNorm(limit), _clip_by_global_norm)


def clip_by_norm(limit: float) -> Transform:
    """g' = g · min(1, limit / ‖g‖) for each leaf, by its own norm.

    >>> grads, _ = clip_by_norm(1.0).update((np.array([3.0, 4.0]), np.array([0.5])), None, None, step=0)
    >>> grads
    (array([0.6, 0.8]), array([0.5]))

    Raises ValueError for a limit that is not positive.
    """
    return make_transform(_ClipByNorm(limit), _clip_by_norm)


def clip_by_value(limit: float) -> Transform:
    """g' = min(max(g, -limit), limit), each number by itself: the direction may change.

    >>> grads, _ = clip_by_value(1.0).update((np.array([3.0, -0.5]),), None, None, step=0)
    >>> grads
    (array([ 1. , -0.5]),)

    Raises ValueError for a limit that is not positive.
    """
    return make_transform(_ClipByValue(limit), _clip_by_value)


def adaptive_clip(limit: float = 0.01, epsilon: float = 1e-3) -> Transform:
    """g' = g · min(1, limit · max(‖w‖, epsilon) / ‖g‖) for the weights of each unit (Brock et al. 2021).

    A unit is what the last axis counts, an output of a dense layer, a filter of a convolution; the norms are over all
    other axes. A leaf of one axis or none, such as a bias, is one unit. The paper leaves the last dense layer
    unclipped: `partition` can do that.

    >>> w, g = np.array([[1.0, 1.0]]), np.array([[0.5, 0.01]])
    >>> grads, _ = adaptive_clip(0.1).update((g,), None, (w,), step=0)
    >>> grads
    (array([[0.1 , 0.01]]),)

    Raises ValueError for a limit or an epsilon that is not positive.
    """
    return make_transform(_AdaptiveClip(limit, epsilon), _adaptive_clip)


def add_decayed_weights(rate: float, *, mask: Mask | None = None) -> Transform:
    """g' = g + rate · w: the gradient of the L2 penalty rate/2 · Σ w² (weight decay, if plain sgd follows).

    ``mask(path, leaf)`` says which leaves, for example `weights_only`; all without one.

    >>> grads, _ = add_decayed_weights(0.5).update((np.zeros(1),), None, (np.ones(1),), step=0)
    >>> grads
    (array([0.5]),)

    Raises ValueError for a negative rate, and for a mask that is no function.
    """
    return make_transform(_DecayedWeights(rate, mask), _decay_update)


def centralize() -> Transform:
    """g' = g - mean(g), the mean over the weights of each unit (Yong et al. 2020).

    A unit is what the last axis counts, as in `adaptive_clip`. Leaves of one axis or none stay as they are.

    >>> grads, _ = centralize().update((np.array([[1.0, 2.0], [3.0, 2.0]]), np.ones(2)), None, None, step=0)
    >>> grads
    (array([[-1.,  0.],
           [ 1.,  0.]]), array([1., 1.]))
    """
    return make_transform(_Centralize(), _centralize)


# --- The transforms -------------------------------------------------------------------------------------------


@config
class _ClipByGlobalNorm(Described):
    name: ClassVar[str] = "clip_by_global_norm"
    limit: float = number(check_positive)


def _clip_by_global_norm(
    settings: _ClipByGlobalNorm, grads: Any, state: None, params: Any, step: int
) -> tuple[Any, None]:
    norm = global_norm(grads)
    return tree.map(lambda g: clipped(g, norm, settings.limit), grads), None


@config
class _ClipByNorm(Described):
    name: ClassVar[str] = "clip_by_norm"
    limit: float = number(check_positive)


def _clip_by_norm(settings: _ClipByNorm, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    return tree.map(lambda g: clipped(g, root(squared_norm(g)), settings.limit), grads), None


@config
class _ClipByValue(Described):
    name: ClassVar[str] = "clip_by_value"
    elementwise: ClassVar[bool] = True
    limit: float = number(check_positive)


def _clip_by_value(settings: _ClipByValue, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    return tree.map(lambda g: np.clip(g, -settings.limit, settings.limit), grads), None


@config
class _AdaptiveClip(Described):
    name: ClassVar[str] = "adaptive_clip"
    limit: float = number(check_positive, default=0.01)
    epsilon: float = number(check_positive, default=1e-3)


def _adaptive_clip(settings: _AdaptiveClip, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    def clip(g: Array, leaf: Array) -> Array:
        most = settings.limit * np.maximum(_unit_norms(leaf), settings.epsilon)
        norms = _unit_norms(g)
        shares = np.where(norms > most, most / np.where(norms > 0, norms, 1), 1)
        clipped: Array = g * shares.astype(g.dtype)
        return clipped

    check_gradients(params, grads)
    return tree.map(clip, grads, params), None


def _unit_norms(array: Array) -> Array:
    """The norms over all axes but the last, or of a leaf of fewer than two over all, in float64."""
    axes = tuple(range(array.ndim - 1)) if array.ndim > 1 else None
    norms: Array = np.sqrt(np.square(array, dtype=np.float64).sum(axis=axes))[...]
    return norms


@config
class _DecayedWeights(Described):
    name: ClassVar[str] = "add_decayed_weights"
    elementwise: ClassVar[bool] = True
    rate: float = number(check_not_negative)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)


def _decay_update(settings: _DecayedWeights, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    def add(g: Array, leaf: Array, rate: float) -> Array:
        return g + rate * leaf if rate else g

    check_gradients(params, grads)
    return tree.map(add, grads, params, masked(params, settings.rate, settings.mask)), None


@config
class _Centralize(Described):
    name: ClassVar[str] = "centralize"


def _centralize(settings: _Centralize, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    def centre(g: Array) -> Array:
        return g - g.mean(axis=tuple(range(g.ndim - 1))) if g.ndim > 1 and g.size else g

    return tree.map(centre, grads), None
