"""The one list of optimizers and transforms that every generic property is checked on.

A new constructor in `funcnn.optimizers` fails a test until it is here. Some are a user's own, of public names alone.
"""

from typing import Any

import attrs
import numpy as np

from funcnn import tree
from funcnn.layer import Array, number
from funcnn.optimizers import (
    Mask,
    Optimizer,
    OptimizerSettings,
    Rate,
    Transform,
    adam,
    adamw,
    add_decayed_weights,
    chain,
    clip_by_global_norm,
    make_optimizer,
    make_transform,
    masked,
    momentum,
    rmsprop,
    sgd,
    update_leaves,
    weights_only,
    zeros_like,
)
from funcnn.schedules import constant, exponential_decay, inverse_time_decay, piecewise_constant, warmup_cosine
from funcnn.settings import Described, check_decay, check_not_negative, check_positive, config


def not_scalars(path: str, leaf: Array) -> bool:
    """A mask of the user's own, at module level so that it pickles."""
    return leaf.size > 1


@config
class Lion(OptimizerSettings):
    """Chen et al. 2023, algorithm 2."""

    name = "lion"
    b1: float = number(check_decay, default=0.9)
    b2: float = number(check_decay, default=0.99)
    weight_decay: float = number(check_not_negative, default=0.0)
    mask: Mask | None = None


def lion_init(settings: Lion, params: Any) -> Any:
    return zeros_like(params)


def lion_update(settings: Lion, grads: Any, mean: Any, params: Any, step: int) -> Any:
    rate, b1, b2 = settings.learning_rate(step), settings.b1, settings.b2

    def update(leaf: Array, gradient: Array, mean: Array, *, weight_decay: float) -> tuple[Array, Array]:
        direction = np.sign(b1 * mean + (1 - b1) * gradient)
        return leaf - rate * (direction + weight_decay * leaf), b2 * mean + (1 - b2) * gradient

    by_leaf = masked(params, settings.weight_decay, settings.mask)
    return update_leaves(update, params, grads, mean, weight_decay=by_leaf)


def lion(
    lr: Rate, b1: float = 0.9, b2: float = 0.99, *, weight_decay: float = 0.0, mask: Mask | None = None
) -> Optimizer:
    return make_optimizer(Lion(lr, b1, b2, weight_decay, mask), lion_update, lion_init)


@config
class ClipByValue(Described):
    name = "clip_by_value"
    limit: float = number(check_positive)


def clip_by_value_update(settings: ClipByValue, grads: Any, state: Any, params: Any, step: int) -> Any:
    return tree.map(lambda g: np.clip(g, -settings.limit, settings.limit), grads), state


def clip_by_value(limit: float) -> Transform:
    return make_transform(ClipByValue(limit), clip_by_value_update)


@config
class Halving(Described):
    """A schedule: half the rate every so many steps."""

    name = "halving"
    start: float = number(check_not_negative)
    every: int = attrs.field(default=1)

    def __call__(self, step: int) -> float:
        return self.start * 0.5 ** (step // self.every)


OWN = {each.__name__: each for each in (not_scalars, lion, clip_by_value)} | {"halving": Halving}

TRANSFORMS: tuple[Transform, ...] = (
    clip_by_global_norm(0.5),  # always clips the gradients of the tests
    clip_by_global_norm(1e6),  # never does
    add_decayed_weights(0.0),
    add_decayed_weights(0.1),
    add_decayed_weights(0.1, mask=weights_only),
    add_decayed_weights(0.1, mask=not_scalars),
    clip_by_value(0.2),
)

OPTIMIZERS: tuple[Optimizer, ...] = (
    sgd(0.0),
    sgd(0.1),
    sgd(exponential_decay(0.1, 0.5, every=2, staircase=True)),
    momentum(0.1),
    momentum(0.1, 0.0),
    momentum(0.1, 0.95, nesterov=True),
    momentum(inverse_time_decay(0.1, 0.5), nesterov=True),
    rmsprop(0.1),
    rmsprop(piecewise_constant([1, 2], [0.1, 0.01, 0.001]), 0.9, 1e-3),
    adam(0.1),
    adam(warmup_cosine(0.1, 2, 5), 0.0, 0.0, 1e-3),
    adam(constant(0.1), b1=0.8),
    adamw(0.1),
    adamw(0.1, 0.8, 0.99, 1e-6, weight_decay=0.5, mask=weights_only),
    adamw(exponential_decay(0.1, 0.9), weight_decay=0.5, mask=not_scalars),
    adamw(0.1, weight_decay=0.0),
    chain(sgd(0.1)),
    chain(clip_by_global_norm(0.5), add_decayed_weights(0.1, mask=weights_only), momentum(0.1, nesterov=True)),
    chain(add_decayed_weights(0.1), clip_by_global_norm(0.5), adam(warmup_cosine(0.1, 1, 4, quarter=True))),
    chain(clip_by_global_norm(1e6), chain(add_decayed_weights(0.1), rmsprop(0.1))),
    lion(0.1),
    lion(Halving(0.1, 2), 0.5, 0.8, weight_decay=0.3, mask=weights_only),
    chain(clip_by_value(0.5), lion(0.1)),
)
