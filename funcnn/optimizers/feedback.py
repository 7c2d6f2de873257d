"""Optimizers whose rate follows the metrics of a run: a fall on a plateau, or below a threshold.

The scale of the rate is in the optimizer's state, and so in a checkpoint: a run that goes on does so as one that never
stopped. `funcnn.train.train` tells the optimizer of each epoch (`Optimizer.observe`).
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import attrs
import numpy as np

from funcnn import tree
from funcnn.optimizers.optimizer import Optimizer, Wrapping, check_optimizer, make_optimizer
from funcnn.optimizers.rule import foreign_state
from funcnn.settings import (
    as_int,
    as_tuple,
    check_choice,
    check_not_negative,
    check_share,
    config,
    number,
    refuse,
)
from funcnn.tree import node

__all__ = ["Scale", "drop_below", "plateau"]


def plateau(
    optimizer: Optimizer, factor: float = 0.1, patience: int = 10, *, threshold: float = 1e-4, cooldown: int = 0,
    least: float = 0.0, monitor: str = "loss", mode: str | None = None,
) -> Optimizer:  # fmt: skip
    """An optimizer whose rate falls by a factor when a metric has been no better for more than `patience` epochs.

    Better is less than (1 - threshold) times the best so far, or with ``mode="max"`` more than (1 + threshold) times
    it. After a fall `cooldown` epochs do not count. The rate's scale falls to `least` at most. As PyTorch's
    ``ReduceLROnPlateau``, whose ``min_lr`` is a rate where `least` is a scale.

    Training calls ``observe`` with each epoch's metrics on the validation part, or without one with those in training;
    `monitor` says which, "loss" or "accuracy" (the problem's metric). Without a `mode` losses shall fall and metrics
    rise: of a metric that shall fall say ``mode="min"``. The state, which a checkpoint keeps, is `Scale`.

    >>> from funcnn.optimizers import sgd
    >>> from funcnn.train import Metrics
    >>> optimizer = plateau(sgd(0.1), 0.5, patience=1)
    >>> opt_state, rates = optimizer.init(()), []
    >>> for loss in [1.0, 0.9, 0.9, 0.9, 0.9]:
    ...     opt_state = optimizer.observe(opt_state, Metrics(loss, None))
    ...     rates.append(optimizer.learning_rate(0, opt_state))
    >>> rates
    [0.1, 0.1, 0.1, 0.05, 0.05]

    Raises ValueError for what is no optimizer, a factor or least scale outside [0, 1], a negative patience, threshold
    or cooldown, another word, and in ``observe`` for an accuracy that there is not.
    """
    settings = _Plateau(
        optimizer, monitor, _usual_mode(monitor) if mode is None else mode, factor, patience, threshold, cooldown, least
    )
    return make_optimizer(settings, _scaled_update, _scale_init)


def drop_below(
    optimizer: Optimizer, thresholds: Sequence[float], factors: Sequence[float] | float = 0.1, *,
    monitor: str = "loss", mode: str | None = None,
) -> Optimizer:  # fmt: skip
    """An optimizer whose rate is multiplied by factors[i] once a metric has been below thresholds[i], for good.

    With ``mode="max"`` above. One factor serves all thresholds. `monitor`, the calls of ``observe`` and the state are
    `plateau`'s.

    >>> from funcnn.optimizers import sgd
    >>> from funcnn.train import Metrics
    >>> optimizer = drop_below(sgd(1.0), [0.5, 0.1], [0.5, 0.1])
    >>> opt_state, rates = optimizer.init(()), []
    >>> for loss in [0.6, 0.4, 0.6, 0.05]:
    ...     opt_state = optimizer.observe(opt_state, Metrics(loss, None))
    ...     rates.append(optimizer.learning_rate(0, opt_state))
    >>> rates
    [1.0, 0.5, 0.5, 0.05]

    Raises ValueError for what is no optimizer, no thresholds, other than one factor or as many as thresholds, each not
    negative, another word, and in ``observe`` for an accuracy that there is not.
    """
    settings = _DropBelow(optimizer, monitor, _usual_mode(monitor) if mode is None else mode, thresholds, factors)  # type: ignore[arg-type]
    return make_optimizer(settings, _scaled_update, _scale_init)


def _usual_mode(monitor: str) -> str:
    """Losses shall fall and accuracies rise."""
    return "max" if isinstance(monitor, str) and monitor == "accuracy" else "min"


# --- Rates that follow the metrics ----------------------------------------------------------------------------


@node
class Scale:
    """The state of `plateau` and `drop_below`: the optimizer's, its rate's scale, the best metric that there was,

    and for how many epochs it has been no better, and how many of these are yet not to count.
    """

    inner: Any
    scale: Any
    best: Any
    waited: Any
    cooling: Any


def _check_has_rate(instance: Any, attribute: Any, value: Any) -> None:
    check_optimizer(instance, attribute, value)
    try:
        value.scaled(1.0)
    except TypeError:
        refuse(instance.name, attribute.name, "one whose rate can be scaled", value)


@config
class _Following(Wrapping):
    name: ClassVar[str] = "plateau"
    elementwise: ClassVar[bool] = False  # its state has more than trees like the params
    optimizer: Any = attrs.field(validator=_check_has_rate)
    monitor: str = attrs.field(default="loss", validator=check_choice("loss", "accuracy"))
    mode: str = attrs.field(default="min", validator=check_choice("min", "max"))

    def learning_rate(self, step: int, opt_state: Any = None) -> float:
        if opt_state is None:
            return self.optimizer.learning_rate(step)  # type: ignore[no-any-return]
        return self.now(opt_state).learning_rate(step, opt_state.inner)

    def now(self, opt_state: Any) -> Optimizer:
        """The optimizer with the rate that it has come to."""
        if not isinstance(opt_state, Scale):
            raise foreign_state(self, opt_state)
        scale = float(opt_state.scale)
        return cast(Optimizer, self.optimizer if scale == 1 else self.optimizer.scaled(scale))

    def observe(self, opt_state: Any, metrics: Any) -> Any:
        self.now(opt_state)
        value = getattr(metrics, self.monitor)
        if value is None:
            raise ValueError(
                f'{self.name}: there is no {self.monitor} to monitor. Give the Problem a metric, or monitor="loss"'
            )
        scale, best, waited, cooling = self.told(
            float(value), float(opt_state.scale), float(opt_state.best), int(opt_state.waited), int(opt_state.cooling)
        )
        inner = self.optimizer.observe(opt_state.inner, metrics)
        return _scale_of(inner, scale, best, waited, cooling)

    def told(self, value: float, scale: float, best: float, waited: int, cooling: int) -> tuple[float, float, int, int]:
        """The new scale, best metric and counts."""
        raise NotImplementedError


def _scale_of(inner: Any, scale: float, best: float, waited: int, cooling: int) -> Scale:
    numbers = [np.asarray(scale, np.float64), np.asarray(best, np.float64)]
    counts = [np.asarray(waited, np.int64), np.asarray(cooling, np.int64)]
    return Scale(inner, *[tree.read_only(each) for each in (*numbers, *counts)])


def _scale_init(settings: _Following, params: Any) -> Scale:
    return _scale_of(settings.optimizer.init(params), 1.0, math.inf if settings.mode == "min" else -math.inf, 0, 0)


def _scaled_update(
    settings: _Following, grads: Any, opt_state: Any, params: Any, step: int, **asked: Any
) -> tuple[Any, Scale]:
    params, inner = settings.now(opt_state).update(grads, opt_state.inner, params, step, **asked)
    return params, attrs.evolve(opt_state, inner=inner)


def _check_epochs(instance: Any, attribute: Any, value: Any) -> None:
    if type(value) is not int or not 0 <= value < 2**31:
        refuse(instance.name, attribute.name, "an int from 0 on", value)


@config
class _Plateau(_Following):
    name: ClassVar[str] = "plateau"
    factor: float = number(check_share, default=0.1)
    patience: int = attrs.field(default=10, converter=as_int, validator=_check_epochs)
    threshold: float = number(check_not_negative, default=1e-4)
    cooldown: int = attrs.field(default=0, converter=as_int, validator=_check_epochs)
    least: float = number(check_share, default=0.0)

    def told(self, value: float, scale: float, best: float, waited: int, cooling: int) -> tuple[float, float, int, int]:
        change = self.threshold if self.mode == "max" else -self.threshold
        better = value > best * (1 + change) if self.mode == "max" else value < best * (1 + change)
        best, waited = (value, 0) if better else (best, waited + 1)
        if cooling:
            cooling, waited = cooling - 1, 0
        if waited > self.patience:
            return max(scale * self.factor, min(scale, self.least)), best, 0, self.cooldown
        return scale, best, waited, cooling


def _several(values: Any) -> Any:
    values = as_tuple(values)
    return values if isinstance(values, tuple) else (values,)


def _check_numbers(instance: Any, attribute: Any, values: tuple[Any, ...]) -> None:
    for value in values:
        check_not_negative(instance, attribute, value)
    if not values:
        refuse(instance.name, attribute.name, "a number or several", values)


@config
class _DropBelow(_Following):
    name: ClassVar[str] = "drop_below"
    thresholds: tuple[float, ...] = attrs.field(default=(), converter=_several, validator=_check_numbers)
    factors: tuple[float, ...] = attrs.field(default=(0.1,), converter=_several, validator=_check_numbers)

    def __attrs_post_init__(self) -> None:
        if len(self.factors) not in (1, len(self.thresholds)):
            refuse(self.name, "factors", f"one, or {len(self.thresholds)} for as many thresholds", self.factors)

    def told(self, value: float, scale: float, best: float, waited: int, cooling: int) -> tuple[float, float, int, int]:
        best = max(best, value) if self.mode == "max" else min(best, value)
        factors = self.factors * len(self.thresholds) if len(self.factors) == 1 else self.factors
        passed = [best > each if self.mode == "max" else best < each for each in self.thresholds]
        return math.prod(f for f, once in zip(factors, passed, strict=True) if once), best, 0, 0
