"""Optimizers by the gradient and a running mean of it: sgd, momentum, Lion."""

from functools import partial
from typing import Any, ClassVar

import attrs

from funcnn.arrays import updates
from funcnn.optimizers.optimizer import Optimizer, OptimizerSettings, make_optimizer, update_leaves, zeros_like
from funcnn.optimizers.rule import Mask, check_mask, foreign_state, masked
from funcnn.schedules import Rate
from funcnn.settings import Described, check_decay, check_flag, check_not_negative, config, number

__all__ = ["lion", "momentum", "sgd"]


def sgd(lr: Rate) -> Optimizer:
    """w' = w - lr · g (Robbins & Monro 1951).

    >>> import numpy as np
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

    >>> import numpy as np
    >>> optimizer = momentum(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params, opt_state
    ((array([-0.1]),), (array([-0.1]),))

    Raises ValueError for a negative rate or a decay outside [0, 1).
    """
    return make_optimizer(_Momentum(lr, decay, nesterov), _momentum_update, _one_moment)


def lion(
    lr: Rate, b1: float = 0.9, b2: float = 0.99, *, weight_decay: float = 0.0, mask: Mask | None = None
) -> Optimizer:
    """w' = w - lr · (sign(b1·m + (1-b1)·g) + weight_decay · w); m' = b2·m + (1-b2)·g (Chen et al. 2023).

    Every weight moves by the rate, whatever the gradient's size: take a third to a tenth of Adam's rate, and as many
    times its decay. ``mask(path, leaf)`` says which leaves decay; all without one. The state is m, a tree like the
    params.

    >>> import numpy as np
    >>> optimizer = lion(0.1)
    >>> params = (np.zeros(2),)
    >>> params, opt_state = optimizer.update((np.array([3.0, -0.01]),), optimizer.init(params), params, step=0)
    >>> params
    (array([-0.1,  0.1]),)

    Raises ValueError for a negative rate or decay, b1 or b2 outside [0, 1), and for a mask that is no function.
    """
    return make_optimizer(_Lion(lr, b1, b2, weight_decay, mask), _lion_update, _one_moment)


# --- The optimizers -------------------------------------------------------------------------------------------


@config
class _Sgd(OptimizerSettings):
    name: ClassVar[str] = "sgd"
    elementwise: ClassVar[bool] = True


def _sgd_update(settings: _Sgd, grads: Any, opt_state: None, params: Any, step: int) -> tuple[Any, None]:
    if opt_state is not None:
        raise foreign_state(settings, opt_state)
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
class _Lion(OptimizerSettings):
    name: ClassVar[str] = "lion"
    elementwise: ClassVar[bool] = True
    b1: float = number(check_decay, default=0.9)
    b2: float = number(check_decay, default=0.99)
    weight_decay: float = number(check_not_negative, default=0.0)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)


def _lion_update(settings: _Lion, grads: Any, mean: Any, params: Any, step: int) -> Any:
    update = partial(
        updates.lion_update, rate=settings.learning_rate(step), b1=settings.b1, b2=settings.b2,
        weight_decay=settings.weight_decay,
    )  # fmt: skip
    by_leaf = masked(params, settings.weight_decay, settings.mask) if settings.mask else None
    return update_leaves(update, params, grads, mean, weight_decay=by_leaf, elementwise=True)
