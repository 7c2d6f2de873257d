"""Optimizers without a schedule: the params to evaluate are a mean of what is stepped (Defazio et al. 2024)."""

from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays import adaptive, updates
from funcnn.optimizers.optimizer import Optimizer, OptimizerSettings, make_optimizer, update_leaves, zeros_like
from funcnn.optimizers.rule import Mask, check_mask, foreign_state, masked
from funcnn.schedules import Rate
from funcnn.settings import check_decay, check_not_negative, check_positive, config, number, refuse
from funcnn.tree import Array, node

__all__ = ["ScheduleFree", "schedule_free_adamw", "schedule_free_sgd"]


def schedule_free_sgd(
    lr: Rate, momentum: float = 0.9, *, weight_decay: float = 0.0, mask: Mask | None = None
) -> Optimizer:
    """z' = z - lr · (g + weight_decay · y); x' = (1 - c) · x + c · z'; y' = (1 - momentum) · z' + momentum · x'.

    Defazio et al. 2024. The params in training are y, where gradients are taken; `evaluated` gives x, the mean of all z
    with the rates' squares as weights, c = lr² / Σ lr². No schedule and no length of the run need be known: `lr` is a
    number, or rises to one (``warmup(0.1, 500)``). The state is `ScheduleFree`, and x follows from y and z.

    >>> optimizer, params = schedule_free_sgd(1.0), (np.zeros(1),)
    >>> opt_state = optimizer.init(params)
    >>> for step in range(3):
    ...     params, opt_state = optimizer.update((-np.ones(1),), opt_state, params, step)
    >>> opt_state.base, optimizer.evaluated(params, opt_state)[0].round(6)
    ((array([3.]),), array([2.]))

    Raises ValueError for a negative rate or decay, a momentum outside (0, 1), and for a mask that is no function.
    """
    return make_optimizer(_ScheduleFree(lr, momentum, weight_decay, mask), _update, _init)


def schedule_free_adamw(
    lr: Rate, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8, *, weight_decay: float = 0.0,
    mask: Mask | None = None,
) -> Optimizer:  # fmt: skip
    """`schedule_free_sgd` with g / (sqrt(v') + epsilon) in the place of g, and lr · sqrt(1 - b2^t) in that of lr.

    v' = b2·v + (1-b2)·g², t = step + 1 and b1 the momentum: algorithm 1 of Defazio et al. 2024. Take one to ten times
    Adam's rate.

    >>> optimizer, params = schedule_free_adamw(0.1), (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-0.1])

    Raises ValueError as `schedule_free_sgd`, for a b2 outside [0, 1), and for an epsilon that is not positive.
    """
    settings = _ScheduleFreeAdamW(lr, b1, b2, epsilon, weight_decay, mask)
    return make_optimizer(settings, _update, _init)


# --- The optimizers -------------------------------------------------------------------------------------------


@node
class ScheduleFree:
    """The state of a schedule-free optimizer: z and Adam's mean of squares (None for sgd), trees like the params,

    and the sum of the weights of all z in x, a float64.
    """

    base: Any
    square: Any
    weight: Any


def _check_between(instance: Any, attribute: Any, value: float) -> None:
    check_decay(instance, attribute, value)
    if value == 0:
        refuse(instance.name, attribute.name, "more than 0, since x follows from y and z", value)


@config
class _ScheduleFree(OptimizerSettings):
    name: ClassVar[str] = "schedule_free_sgd"
    momentum: float = number(_check_between, default=0.9)
    weight_decay: float = number(check_not_negative, default=0.0)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)

    def evaluated(self, params: Any, opt_state: Any) -> Any:
        """x = y + (1 - 1 / momentum) · (z - y)."""
        share = 1 - 1 / self.momentum
        average = partial(updates.average_update, share=share)
        return update_leaves(average, params, _known(self, opt_state).base, elementwise=True)[0]


@config
class _ScheduleFreeAdamW(OptimizerSettings):
    name: ClassVar[str] = "schedule_free_adamw"
    b1: float = number(_check_between, default=0.9)
    b2: float = number(check_decay, default=0.999)
    epsilon: float = number(check_positive, default=1e-8)
    weight_decay: float = number(check_not_negative, default=0.0)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)

    @property
    def momentum(self) -> float:
        """The share of x in y."""
        return self.b1

    evaluated = _ScheduleFree.evaluated


def _known(settings: Any, opt_state: Any) -> ScheduleFree:
    if not isinstance(opt_state, ScheduleFree):
        raise foreign_state(settings, opt_state)
    return opt_state


def _start(leaf: Array) -> Array:
    return updates.frozen(leaf.astype(updates.moment_dtype(leaf), order="C"), updates.moment_dtype(leaf))


def _init(settings: Any, params: Any) -> ScheduleFree:
    square = zeros_like(params) if isinstance(settings, _ScheduleFreeAdamW) else None
    return ScheduleFree(tree.map(_start, params), square, tree.read_only(np.zeros(())))


def _share(opt_state: ScheduleFree, rate: float) -> tuple[float, Array]:
    """The share of the new z in x, and the new sum of weights."""
    weight = float(opt_state.weight) + rate * rate
    return rate * rate / weight if weight else 0.0, tree.read_only(np.asarray(weight))


def _update(settings: Any, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, ScheduleFree]:
    moments = [_known(settings, opt_state).base]
    rate = settings.learning_rate(step)
    kernel: Any = updates.schedule_free_update
    if isinstance(settings, _ScheduleFreeAdamW):
        rate *= (1 - settings.b2 ** (step + 1)) ** 0.5
        kernel = partial(adaptive.schedule_free_adamw_update, b2=settings.b2, epsilon=settings.epsilon)
        moments.append(opt_state.square)
    share, weight = _share(opt_state, rate)
    decay = settings.weight_decay
    update = partial(kernel, rate=rate, momentum=settings.momentum, share=share, weight_decay=decay)
    by_leaf = masked(params, decay, settings.mask) if settings.mask else None
    made = update_leaves(update, params, grads, *moments, weight_decay=by_leaf, elementwise=True)
    return made[0], ScheduleFree(made[1], made[2] if len(made) > 2 else None, weight)
