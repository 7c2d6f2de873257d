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
    accumulate,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    adaptive_clip,
    add_decayed_weights,
    averaged,
    centralize,
    chain,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    drop_below,
    freeze,
    lamb,
    lbfgs,
    lion,
    lookahead,
    make_optimizer,
    make_transform,
    masked,
    momentum,
    muon,
    nadam,
    partition,
    plateau,
    radam,
    rmsprop,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
    sharpness_aware,
    update_leaves,
    weights_only,
    zeros_like,
)
from funcnn.schedules import (
    constant,
    exponential_decay,
    inverse_time_decay,
    linear,
    piecewise_constant,
    warmup,
    warmup_cosine,
)
from funcnn.settings import Described, check_decay, check_not_negative, check_positive, config


def not_scalars(path: str, leaf: Array) -> bool:
    """A mask of the user's own, at module level so that it pickles."""
    return leaf.size > 1


@config
class Signum(OptimizerSettings):
    """Bernstein et al. 2018, algorithm 2."""

    name = "signum"
    decay: float = number(check_decay, default=0.9)
    weight_decay: float = number(check_not_negative, default=0.0)
    mask: Mask | None = None


def signum_init(settings: Signum, params: Any) -> Any:
    return zeros_like(params)


def signum_update(settings: Signum, grads: Any, mean: Any, params: Any, step: int) -> Any:
    rate, decay = settings.learning_rate(step), settings.decay

    def update(leaf: Array, gradient: Array, mean: Array, *, weight_decay: float) -> tuple[Array, Array]:
        mean = decay * mean + (1 - decay) * gradient
        return leaf - rate * (np.sign(mean) + weight_decay * leaf), mean

    by_leaf = masked(params, settings.weight_decay, settings.mask)
    return update_leaves(update, params, grads, mean, weight_decay=by_leaf)


def signum(lr: Rate, decay: float = 0.9, *, weight_decay: float = 0.0, mask: Mask | None = None) -> Optimizer:
    return make_optimizer(Signum(lr, decay, weight_decay, mask), signum_update, signum_init)


@config
class Squash(Described):
    name = "squash"
    limit: float = number(check_positive)


def squash_update(settings: Squash, grads: Any, state: Any, params: Any, step: int) -> Any:
    return tree.map(lambda g: settings.limit * np.tanh(g / settings.limit), grads), state


def squash(limit: float) -> Transform:
    return make_transform(Squash(limit), squash_update)


@config
class Halving(Described):
    """A schedule: half the rate every so many steps."""

    name = "halving"
    start: float = number(check_not_negative)
    every: int = attrs.field(default=1)

    def __call__(self, step: int) -> float:
        return self.start * 0.5 ** (step // self.every)


OWN = {each.__name__: each for each in (not_scalars, signum, squash)} | {"halving": Halving}

TRANSFORMS: tuple[Transform, ...] = (
    clip_by_global_norm(0.5),  # always clips the gradients of the tests
    clip_by_global_norm(1e6),  # never does
    add_decayed_weights(0.0),
    add_decayed_weights(0.1),
    add_decayed_weights(0.1, mask=weights_only),
    add_decayed_weights(0.1, mask=not_scalars),
    clip_by_value(0.2),
    clip_by_norm(0.5),
    adaptive_clip(0.05),
    centralize(),
    squash(0.2),
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
    signum(0.1),
    signum(Halving(0.1, 2), 0.5, weight_decay=0.3, mask=weights_only),
    chain(squash(0.5), signum(0.1)),
    adam(0.1, amsgrad=True),
    adamax(0.1, 0.8),
    nadam(0.1),
    radam(0.1, 0.9, 0.9),
    lamb(0.1, weight_decay=0.1, mask=weights_only),
    adagrad(0.1, initial=0.1),
    adadelta(),
    adafactor(0.1, weight_decay=0.1),
    lion(0.01),
    lion(warmup(0.1, 2), 0.5, 0.8, weight_decay=0.3, mask=weights_only),
    muon(0.1),
    muon(0.1, 0.5, nesterov=False, steps=3, others=sgd(0.1), mask=not_scalars),
    schedule_free_sgd(linear(0.0, 0.1, 3), weight_decay=0.1),
    schedule_free_adamw(0.1, weight_decay=0.1, mask=weights_only),
    averaged(adam(0.1), 0.9),
    averaged(chain(clip_by_value(0.5), momentum(0.1)), None, start=1, every=2),
    lookahead(momentum(0.1), 2),
    accumulate(adam(exponential_decay(0.1, 0.5)), 2),
    freeze(),
    partition({"[01]*": momentum(0.1)}, default=adam(0.1)),
    plateau(adam(0.1), patience=2),
    drop_below(averaged(sgd(0.1)), [0.5, 0.1], 0.5, mode="max"),
)

# These look at the loss of other params, and are given it as a function.
ASKING: tuple[Optimizer, ...] = (
    lbfgs(),
    lbfgs(3, c2=0.5, searches=5),
    sharpness_aware(adam(0.1)),
    averaged(sharpness_aware(chain(clip_by_global_norm(0.5), sgd(0.1)), 0.2), 0.9),
)
