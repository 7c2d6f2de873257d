"""Optimizers as pure state transitions.

    optimizer.init(params)                              -> opt_state
    optimizer.update(grads, opt_state, params, step)    -> (params, opt_state)
    optimizer.learning_rate(step)                       -> float
    optimizer.evaluated(params, opt_state)              -> params
    optimizer.observe(opt_state, metrics)               -> opt_state

    transform.init(params)                              -> state
    transform.update(grads, state, params, step)        -> (grads, state)

A transform turns gradients into gradients; ``chain(clip_by_global_norm(1.0), adam(1e-3))`` puts transforms before an
optimizer. `step` counts from 0. Learning rates are numbers or schedules (`funcnn.schedules`). New params and states are
read-only, in the params' dtype; of float16 params the states are float32, and so is the arithmetic.

`evaluated` gives the params to evaluate and save: those in training, but for optimizers that average (`averaged`,
`lookahead`, `schedule_free_sgd`). `observe` is told of every epoch's metrics, and gives the state as it is, but for
`plateau` and `drop_below`. Some look at the loss of other params than those of the step, and are given it as a function
(`lbfgs`, `sharpness_aware`). What is around an optimizer hands all of this on.

Your own optimizer is a class of settings (`OptimizerSettings`), an update that goes over the leaves (`update_leaves`)
and perhaps an init (`zeros_like`), joined by `make_optimizer`; `docs/extending.md` writes one.
"""

from funcnn.optimizers.adam import LargestMoments, Moments, adam, adamax, adamw, lamb, nadam, radam
from funcnn.optimizers.adaptive import Changes, adadelta, adafactor, adagrad, rmsprop
from funcnn.optimizers.averages import Averaged, averaged, lookahead
from funcnn.optimizers.feedback import Scale, drop_below, plateau
from funcnn.optimizers.muon import Orthogonal, muon
from funcnn.optimizers.optimizer import (
    LossAt,
    Optimizer,
    OptimizerSettings,
    chain,
    make_optimizer,
    update_leaves,
    zeros_like,
)
from funcnn.optimizers.rule import Mask, Transform, global_norm, make_transform, masked, weights_only
from funcnn.optimizers.schedule_free import ScheduleFree, schedule_free_adamw, schedule_free_sgd
from funcnn.optimizers.second import History, lbfgs, sharpness_aware
from funcnn.optimizers.sgd import lion, momentum, sgd
from funcnn.optimizers.transforms import (
    adaptive_clip,
    add_decayed_weights,
    centralize,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
)
from funcnn.optimizers.wrappers import Accumulated, accumulate, freeze, partition
from funcnn.schedules import Rate

__all__ = [
    "Accumulated", "Averaged", "Changes", "History", "LargestMoments", "LossAt", "Mask", "Moments", "Optimizer",
    "OptimizerSettings", "Orthogonal", "Rate", "Scale", "ScheduleFree", "Transform", "accumulate", "adadelta",
    "adafactor", "adagrad", "adam", "adamax", "adamw", "adaptive_clip", "add_decayed_weights", "averaged", "centralize",
    "chain", "clip_by_global_norm", "clip_by_norm", "clip_by_value", "drop_below", "freeze", "global_norm", "lamb",
    "lbfgs", "lion", "lookahead", "make_optimizer", "make_transform", "masked", "momentum", "muon", "nadam",
    "partition", "plateau", "radam", "rmsprop", "schedule_free_adamw", "schedule_free_sgd", "sgd", "sharpness_aware",
    "update_leaves", "weights_only", "zeros_like",
]  # fmt: skip
