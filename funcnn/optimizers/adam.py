"""Adam and its relatives: two running means, of the gradient and of its square (or its largest size)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays import adaptive
from funcnn.optimizers.optimizer import Optimizer, OptimizerSettings, make_optimizer, update_leaves, zeros_like
from funcnn.optimizers.rule import Mask, check_mask, foreign_state, masked
from funcnn.schedules import Rate
from funcnn.settings import check_decay, check_flag, check_not_negative, check_positive, config, number
from funcnn.tree import node

__all__ = ["LargestMoments", "Moments", "adam", "adamax", "adamw", "lamb", "nadam", "radam"]


def adam(lr: Rate, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8, *, amsgrad: bool = False) -> Optimizer:
    """m' = b1·m + (1-b1)·g; v' = b2·v + (1-b2)·g²; w' = w - lr · m̂ / (sqrt(v̂) + epsilon) (Kingma & Ba 2015).

    m̂ = m' / (1 - b1^t) and v̂ = v' / (1 - b2^t), t = step + 1. The state is `Moments`. With `amsgrad` the largest v'
    so far is taken in the place of v' (Reddi et al. 2018; corrected as v' is, like PyTorch's), and the state is
    `LargestMoments`.

    >>> optimizer = adam(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-0.1])

    Raises ValueError for a negative rate, b1 or b2 outside [0, 1), or an epsilon that is not positive.
    """
    return make_optimizer(_Adam(lr, b1, b2, epsilon, amsgrad), _adam_update, _adam_init)


def adamw(
    lr: Rate,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
    *,
    weight_decay: float = 0.01,
    mask: Mask | None = None,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam with decoupled decay: w' = w - lr · (m̂ / (sqrt(v̂) + epsilon) + weight_decay · w).

    Loshchilov & Hutter 2019, the decay times the full rate as in most libraries. ``mask(path, leaf)`` says which
    leaves decay, for example `weights_only`; all do without one.

    >>> from funcnn.optimizers import weights_only
    >>> optimizer = adamw(0.1, weight_decay=0.5, mask=weights_only)
    >>> params = (np.ones(1),)
    >>> params, opt_state = optimizer.update((np.zeros(1),), optimizer.init(params), params, step=0)
    >>> params
    (array([1.]),)

    Raises ValueError as `adam`, for a negative decay, and for a mask that is no function.
    """
    return make_optimizer(_AdamW(lr, b1, b2, epsilon, amsgrad, weight_decay, mask), _adam_update, _adam_init)


def adamax(lr: Rate, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """m' = b1·m + (1-b1)·g; u' = max(b2·u, |g| + epsilon); w' = w - lr · m̂ / u' (Kingma & Ba 2015, algorithm 2).

    m̂ = m' / (1 - b1^t), t = step + 1. The paper has no epsilon; this is PyTorch's. The state is `Moments`, u in the
    place of the square.

    >>> optimizer = adamax(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-0.1])

    Raises ValueError as `adam`.
    """
    return make_optimizer(_Adamax(lr, b1, b2, epsilon), _adamax_update, _moments)


def nadam(
    lr: Rate, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8, *, momentum_decay: float = 0.004
) -> Optimizer:
    """Adam with Nesterov's look ahead: w' = w - lr · (c'·m' + c·g) / (sqrt(v̂) + epsilon) (Dozat 2016).

    The momentum grows over the first steps, μ_t = b1 · (1 - 0.96^(t · momentum_decay) / 2), t = step + 1, and with
    p_t = μ_1 ··· μ_t the shares are c = (1 - μ_t) / (1 - p_t) and c' = μ_(t+1) / (1 - p_(t+1)). v̂ and the state
    are `adam`'s.

    >>> optimizer = nadam(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.ones(1),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-0.105645])

    Raises ValueError as `adam`, and for a decay of momentum that is negative.
    """
    return make_optimizer(_Nadam(lr, b1, b2, epsilon, momentum_decay), _nadam_update, _moments)


def radam(lr: Rate, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """w' = w - lr · r · m̂ · sqrt(1 - b2^t) / (sqrt(v') + epsilon), or w - lr · m̂ at first (Liu et al. 2020).

    Adam's v̂ varies too much at the first steps: with ρ∞ = 2 / (1 - b2) - 1 and ρ = ρ∞ - 2 t b2^t / (1 - b2^t) it is
    left away until ρ > 5, and then r² = (ρ - 4) (ρ - 2) ρ∞ / ((ρ∞ - 4) (ρ∞ - 2) ρ). The moments and the state are
    `adam`'s, epsilon is where PyTorch has it.

    >>> optimizer = radam(0.1)
    >>> params = (np.zeros(1),)
    >>> params, opt_state = optimizer.update((np.full(1, 3.0),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([-0.3])

    Raises ValueError as `adam`.
    """
    return make_optimizer(_Radam(lr, b1, b2, epsilon), _radam_update, _moments)


def lamb(
    lr: Rate, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-6, *, weight_decay: float = 0.0,
    mask: Mask | None = None,
) -> Optimizer:  # fmt: skip
    """w' = w - lr · (‖w‖ / ‖r‖) · r with r = m̂ / (sqrt(v̂) + epsilon) + weight_decay · w (You et al. 2020).

    For large batches: the norms are a leaf's, so that each moves by a share of its own size. Their quotient is 1 where
    w or r is zero. The moments and the state are `adam`'s; ``mask(path, leaf)`` says which leaves decay, all without
    one.

    >>> optimizer = lamb(0.1)
    >>> params = (np.array([3.0, 4.0]),)
    >>> params, opt_state = optimizer.update((np.array([1.0, 0.0]),), optimizer.init(params), params, step=0)
    >>> params[0].round(6)
    array([2.5, 4. ])

    Raises ValueError as `adamw`.
    """
    return make_optimizer(_Lamb(lr, b1, b2, epsilon, weight_decay, mask), _lamb_update, _moments)


# --- The optimizers -------------------------------------------------------------------------------------------


@node
class Moments:
    """Adam's state: the running means of the gradient and of its square, trees like the params."""

    mean: Any
    square: Any


@node
class LargestMoments:
    """Amsgrad's state: `Moments`, and the largest running mean of the square that there was."""

    mean: Any
    square: Any
    largest: Any


@config
class _ByMoments(OptimizerSettings):
    name: ClassVar[str] = "adam"
    elementwise: ClassVar[bool] = True
    b1: float = number(check_decay, default=0.9)
    b2: float = number(check_decay, default=0.999)
    epsilon: float = number(check_positive, default=1e-8)


def _moments(settings: _ByMoments, params: Any) -> Moments:
    return Moments(zeros_like(params), zeros_like(params))


def _move(
    settings: _ByMoments, kernel: Callable[..., Any], grads: Any, opt_state: Any, params: Any, *,
    kind: type = Moments, mask: Mask | None = None, elementwise: bool = True, **options: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """One step by a kernel that is given the settings' decays and epsilon, and these options."""
    if type(opt_state) is not kind:
        raise foreign_state(settings, opt_state)
    moments = [getattr(opt_state, field.name) for field in attrs.fields(kind)]
    update = partial(kernel, b1=settings.b1, b2=settings.b2, epsilon=settings.epsilon, **options)
    by_leaf = masked(params, options["weight_decay"], mask) if mask else None
    params, *moments = update_leaves(update, params, grads, *moments, weight_decay=by_leaf, elementwise=elementwise)
    return params, kind(*moments)


@config
class _Adam(_ByMoments):
    name: ClassVar[str] = "adam"
    amsgrad: bool = attrs.field(default=False, validator=check_flag)
    weight_decay: float = 0.0  # adamw's, and so is the mask
    mask: Mask | None = None


@config
class _AdamW(_Adam):
    name: ClassVar[str] = "adamw"
    weight_decay: float = number(check_not_negative, default=0.01)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)


def _adam_init(settings: _Adam, params: Any) -> Any:
    moments = [zeros_like(params) for _ in range(2 + settings.amsgrad)]
    return LargestMoments(*moments) if settings.amsgrad else Moments(*moments)


def _adam_update(settings: _Adam, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    return _move(
        settings, adaptive.adam_update, grads, opt_state, params,
        kind=LargestMoments if settings.amsgrad else Moments, mask=settings.mask,
        rate=settings.learning_rate(step), step=step, weight_decay=settings.weight_decay,
    )  # fmt: skip


@config
class _Adamax(_ByMoments):
    name: ClassVar[str] = "adamax"


def _adamax_update(settings: _Adamax, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    rate = settings.learning_rate(step)
    return _move(settings, adaptive.adamax_update, grads, opt_state, params, rate=rate, step=step)


@config
class _Nadam(_ByMoments):
    name: ClassVar[str] = "nadam"
    momentum_decay: float = number(check_not_negative, default=0.004)

    def momentum(self, t: Any) -> Any:
        """The momentum at the t-th step, from 1; of an array of them."""
        return self.b1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def product(self, t: int) -> float:
        """The product of the momenta of the first t steps; what would be less than 1e-20 may be as little as that."""
        most = math.ceil(math.log(1e-20) / math.log(self.b1)) if self.b1 else 1
        return float(np.prod(self.momentum(np.arange(1, min(t, most) + 1))))


def _nadam_update(settings: _Nadam, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    t, rate = step + 1, settings.learning_rate(step)
    now, following = float(settings.momentum(t)), float(settings.momentum(t + 1))
    product = settings.product(t)
    return _move(
        settings, adaptive.nadam_update, grads, opt_state, params, step=step,
        mean_rate=rate * following / (1 - product * following), gradient_rate=rate * (1 - now) / (1 - product),
    )  # fmt: skip


@config
class _Radam(_ByMoments):
    name: ClassVar[str] = "radam"


def _radam_update(settings: _Radam, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    rate = settings.learning_rate(step)
    return _move(settings, adaptive.radam_update, grads, opt_state, params, rate=rate, step=step)


@config
class _Lamb(_ByMoments):
    name: ClassVar[str] = "lamb"
    elementwise: ClassVar[bool] = False
    epsilon: float = number(check_positive, default=1e-6)
    weight_decay: float = number(check_not_negative, default=0.0)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)


def _lamb_update(settings: _Lamb, grads: Any, opt_state: Any, params: Any, step: int) -> tuple[Any, Any]:
    return _move(
        settings, adaptive.lamb_update, grads, opt_state, params, mask=settings.mask, elementwise=False,
        rate=settings.learning_rate(step), step=step, weight_decay=settings.weight_decay,
    )  # fmt: skip
