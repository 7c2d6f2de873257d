"""Schedules that fall, in steps or smoothly."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs

from funcnn.schedules.schedule import Schedule, check_boundaries
from funcnn.settings import (
    Described,
    as_floats,
    as_tuple,
    check_flag,
    check_not_negative,
    check_positive,
    config,
    count,
    number,
    refuse,
)

__all__ = ["exponential_decay", "inverse_time_decay", "linear", "piecewise_constant", "polynomial"]


def exponential_decay(start: float, factor: float, *, every: int = 1, staircase: bool = False) -> Schedule:
    """start · factor^(step / every); with `staircase` the exponent is rounded down.

    Decay per epoch is ``every=steps_per_epoch, staircase=True``.

    >>> exponential_decay(1.0, 0.5, every=10, staircase=True)(25)
    0.25

    Raises ValueError for a negative start or factor.
    """
    return _ExponentialDecay(start, factor, every, staircase)


def inverse_time_decay(start: float, factor: float, *, every: int = 1, staircase: bool = False) -> Schedule:
    """start / (1 + factor · step / every); with `staircase` the quotient is rounded down.

    >>> inverse_time_decay(1.0, 0.5, every=10, staircase=True)(25)
    0.5

    Raises ValueError for a negative start or factor.
    """
    return _InverseTimeDecay(start, factor, every, staircase)


def linear(start: float, end: float, steps: int) -> Schedule:
    """start + (end - start) · min(1, step / steps): a straight line, up or down, and then `end`.

    As PyTorch's ``LinearLR``.

    >>> rate = linear(1.0, 0.5, 4)
    >>> rate(0), rate(2), rate(4), rate(100)
    (1.0, 0.75, 0.5, 0.5)

    Raises ValueError for a negative value, or no steps.
    """
    return _Linear(start, end, steps)


def polynomial(start: float, steps: int, power: float = 1.0, *, end: float = 0.0) -> Schedule:
    """end + (start - end) · (1 - min(1, step / steps))^power, and then `end`.

    As PyTorch's ``PolynomialLR``, with `end` 0.

    >>> rate = polynomial(1.0, 4, 2.0)
    >>> [rate(step) for step in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]

    Raises ValueError for a negative value, a power that is not positive, or no steps.
    """
    return _Polynomial(start, steps, power, end)


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """values[i], where i counts the boundaries that the step has reached.

    >>> rate = piecewise_constant([100, 200], [1.0, 0.1, 0.01])
    >>> rate(99), rate(100), rate(1000)
    (1.0, 0.1, 0.01)

    Raises ValueError for a negative value, and unless there is one value more than boundaries, and these increase.
    """
    return _PiecewiseConstant(boundaries, values)  # type: ignore[arg-type]


# --- The schedules --------------------------------------------------------------------------------------------


def _check_values(instance: Any, attribute: Any, values: Any) -> None:
    if not isinstance(values, tuple):
        refuse(instance.name, attribute.name, "a list of numbers", values)
    for value in values:
        check_not_negative(instance, attribute, value)


@config
class _Decay(Described):
    start: float = number(check_not_negative)
    factor: float = number(check_not_negative)
    every: int = count(default=1)
    staircase: bool = attrs.field(default=False, validator=check_flag)

    def periods(self, step: int) -> float:
        return step // self.every if self.staircase else step / self.every


@config
class _ExponentialDecay(_Decay):
    name: ClassVar[str] = "exponential_decay"

    def __call__(self, step: int) -> float:
        try:
            return float(self.start * self.factor ** self.periods(step))
        except OverflowError:  # Python's power raises where its product gives infinity
            return math.inf


@config
class _InverseTimeDecay(_Decay):
    name: ClassVar[str] = "inverse_time_decay"

    def __call__(self, step: int) -> float:
        return self.start / (1 + self.factor * self.periods(step))


@config
class _Linear(Described):
    name: ClassVar[str] = "linear"
    start: float = number(check_not_negative)
    end: float = number(check_not_negative)
    steps: int = count()

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * step / self.steps if step < self.steps else self.end


@config
class _Polynomial(Described):
    name: ClassVar[str] = "polynomial"
    start: float = number(check_not_negative)
    steps: int = count()
    power: float = number(check_positive, default=1.0)
    end: float = number(check_not_negative, default=0.0)

    def __call__(self, step: int) -> float:
        return float(self.end + (self.start - self.end) * (1 - min(1.0, step / self.steps)) ** self.power)


@config
class _PiecewiseConstant(Described):
    name: ClassVar[str] = "piecewise_constant"
    boundaries: tuple[int, ...] = attrs.field(converter=as_tuple, validator=check_boundaries)
    values: tuple[float, ...] = attrs.field(converter=as_floats, validator=_check_values)

    def __attrs_post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"piecewise_constant: {len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, "
                f"got {len(self.values)}"
            )

    def __call__(self, step: int) -> float:
        return self.values[bisect_right(self.boundaries, step)]
