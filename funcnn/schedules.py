"""Schedules: frozen values called with a step, counted from 0, that return a float.

An optimizer takes one wherever it takes a learning rate: ``adam(exponential_decay(1e-3, 0.95, every=500))``.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs

from funcnn.layer import Described, check_count, check_flag, check_not_negative, config

__all__ = [
    "Rate", "constant", "exponential_decay", "inverse_time_decay", "piecewise_constant", "value_at", "warmup_cosine",
]  # fmt: skip

Rate = float | Callable[[int], float]


def value_at(rate: Rate, step: int) -> float:
    """The value of a float or a schedule at a step.

    >>> value_at(0.1, 7), value_at(exponential_decay(0.1, 0.5, every=7), 7)
    (0.1, 0.05)
    """
    return float(rate(step)) if callable(rate) else float(rate)


def _rates(instance: Any, attribute: Any, values: tuple[float, ...]) -> None:
    for value in values:
        check_not_negative(instance, attribute, value)


class _Schedule(Described):
    def __call__(self, step: int) -> float:
        raise TypeError(f"{type(self).__name__} does not define a value")


@config
class _Constant(_Schedule):
    name: ClassVar[str] = "constant"
    value: float = attrs.field(validator=check_not_negative, converter=float)

    def __call__(self, step: int) -> float:
        return self.value


@config
class _ExponentialDecay(_Schedule):
    name: ClassVar[str] = "exponential_decay"
    start: float = attrs.field(validator=check_not_negative, converter=float)
    factor: float = attrs.field(validator=check_not_negative, converter=float)
    every: int = attrs.field(default=1, validator=check_count)
    staircase: bool = attrs.field(default=False, validator=check_flag)

    def __call__(self, step: int) -> float:
        return float(self.start * self.factor ** _periods(step, self.every, self.staircase))


@config
class _InverseTimeDecay(_Schedule):
    name: ClassVar[str] = "inverse_time_decay"
    start: float = attrs.field(validator=check_not_negative, converter=float)
    factor: float = attrs.field(validator=check_not_negative, converter=float)
    every: int = attrs.field(default=1, validator=check_count)
    staircase: bool = attrs.field(default=False, validator=check_flag)

    def __call__(self, step: int) -> float:
        return self.start / (1 + self.factor * _periods(step, self.every, self.staircase))


def _periods(step: int, every: int, staircase: bool) -> float:
    return step // every if staircase else step / every


@config
class _WarmupCosine(_Schedule):
    name: ClassVar[str] = "warmup_cosine"
    peak: float = attrs.field(validator=check_not_negative, converter=float)
    warmup_steps: int
    total_steps: int = attrs.field(validator=check_count)
    start: float = attrs.field(default=0.0, validator=check_not_negative, converter=float)
    end: float = attrs.field(default=0.0, validator=check_not_negative, converter=float)
    quarter: bool = attrs.field(default=False, validator=check_flag)

    def __attrs_post_init__(self) -> None:
        if not (isinstance(self.warmup_steps, int) and 0 <= self.warmup_steps < self.total_steps):
            raise ValueError(
                f"warmup_cosine: warmup_steps must be an int from 0 to less than total_steps ({self.total_steps}), "
                f"got {self.warmup_steps!r}"
            )

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.start + (self.peak - self.start) * step / self.warmup_steps
        done = min((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 1.0)
        left = math.cos(math.pi / 2 * done) if self.quarter else (1 + math.cos(math.pi * done)) / 2
        return self.end + (self.peak - self.end) * left


@config
class _PiecewiseConstant(_Schedule):
    name: ClassVar[str] = "piecewise_constant"
    boundaries: tuple[int, ...] = attrs.field(converter=tuple)
    values: tuple[float, ...] = attrs.field(
        converter=lambda values: tuple(float(value) for value in values), validator=_rates
    )

    def __attrs_post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"piecewise_constant: {len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, "
                f"got {len(self.values)}"
            )
        if not all(a < b for a, b in zip((-math.inf, *self.boundaries), self.boundaries, strict=False)):
            raise ValueError(f"piecewise_constant: boundaries must increase, got {self.boundaries}")

    def __call__(self, step: int) -> float:
        return self.values[bisect_right(self.boundaries, step)]


def constant(value: float) -> Callable[[int], float]:
    """The same value at every step.

    >>> constant(0.1)(1000)
    0.1
    """
    return _Constant(value)


def exponential_decay(
    start: float, factor: float, *, every: int = 1, staircase: bool = False
) -> Callable[[int], float]:
    """start · factor^(step / every); with `staircase` the exponent is rounded down.

    Decay per epoch is ``every=steps_per_epoch, staircase=True``.

    >>> exponential_decay(1.0, 0.5, every=10, staircase=True)(25)
    0.25
    """
    return _ExponentialDecay(start, factor, every, staircase)


def inverse_time_decay(
    start: float, factor: float, *, every: int = 1, staircase: bool = False
) -> Callable[[int], float]:
    """start / (1 + factor · step / every); with `staircase` the quotient is rounded down.

    >>> inverse_time_decay(1.0, 0.5, every=10, staircase=True)(25)
    0.5
    """
    return _InverseTimeDecay(start, factor, every, staircase)


def warmup_cosine(
    peak: float, warmup_steps: int, total_steps: int, *, start: float = 0.0, end: float = 0.0, quarter: bool = False
) -> Callable[[int], float]:
    """Linear from `start` to `peak` over the warm-up, then down half a cosine to `end` (Loshchilov & Hutter 2017).

    With `quarter` it is a quarter cosine, which stays high for longer and falls steeply. After `total_steps` it
    stays at `end`.

    >>> rate = warmup_cosine(1.0, 10, 110)
    >>> rate(5), rate(10), round(rate(60), 6), rate(110), rate(500)
    (0.5, 1.0, 0.5, 0.0, 0.0)

    Raises ValueError unless 0 <= warmup_steps < total_steps.
    """
    return _WarmupCosine(peak, warmup_steps, total_steps, start, end, quarter)


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Callable[[int], float]:
    """values[i], where i counts the boundaries that the step has reached.

    >>> rate = piecewise_constant([100, 200], [1.0, 0.1, 0.01])
    >>> rate(99), rate(100), rate(1000)
    (1.0, 0.1, 0.01)

    Raises ValueError unless there is one value more than boundaries, and these increase.
    """
    return _PiecewiseConstant(boundaries, values)  # type: ignore[arg-type]
