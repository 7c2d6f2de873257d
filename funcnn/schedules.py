"""Schedules: functions of the step, counted from 0, that return a learning rate.

An optimizer takes one wherever it takes a learning rate: ``adam(exponential_decay(1e-3, 0.95, every=500))``.

Any function of the step is a schedule, ``sgd(lambda step: 0.1 / (1 + step))``. A frozen value that prints, compares,
pickles and describes itself, as the schedules here do, is a class of settings with a call:

>>> from funcnn.settings import Described, config, number
>>> @config
... class Root(Described):
...     name = "root"
...     start: float = number(check_not_negative)
...
...     def __call__(self, step: int) -> float:
...         return self.start / (1 + step) ** 0.5
>>> rate = Root(0.1)
>>> rate, rate(3)
(root(start=0.1), 0.05)
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs

from funcnn.settings import (
    Described,
    as_code,
    as_float,
    as_int,
    as_tuple,
    check_flag,
    check_not_negative,
    config,
    count,
    is_number,
    number,
    refuse,
)

__all__ = [
    "Rate", "Schedule", "constant", "exponential_decay", "inverse_time_decay", "piecewise_constant", "value_at",
    "warmup_cosine",
]  # fmt: skip

Schedule = Callable[[int], float]
Rate = float | Schedule


def value_at(rate: Rate, step: int) -> float:
    """The learning rate at a step, given as a number or a schedule.

    >>> value_at(0.1, 7), value_at(exponential_decay(0.1, 0.5, every=7), 7)
    (0.1, 0.05)

    Raises ValueError unless it is a number, finite and not negative.
    """
    try:
        value = as_float(rate(step) if callable(rate) else rate)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{as_code(rate)}: a schedule must give a number for step {step}, and fails ({text})"
        ) from error
    if not (isinstance(value, float) and 0 <= value < math.inf):
        raise ValueError(
            f"{as_code(rate)}: the learning rate at step {step} must be a number, finite and not negative, "
            f"got {value!r}. "
            "A schedule must return one for every step from 0 on: max(0.0, ...) keeps it from falling below"
        )
    return value


# --- Constructors ---------------------------------------------------------------------------------------------


def constant(value: float) -> Schedule:
    """The same value at every step.

    >>> constant(0.1)(1000)
    0.1

    Raises ValueError for a negative value.
    """
    return _Constant(value)


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


def warmup_cosine(
    peak: float, warmup_steps: int, total_steps: int, *, start: float = 0.0, end: float = 0.0, quarter: bool = False
) -> Schedule:
    """Linear from `start` to `peak` over the warm-up, then down half a cosine to `end` (Loshchilov & Hutter 2017).

    With `quarter` it is a quarter cosine, which stays high for longer and falls steeply. After `total_steps` it
    stays at `end`.

    >>> rate = warmup_cosine(1.0, 10, 110)
    >>> rate(5), rate(10), round(rate(60), 6), rate(110), rate(500)
    (0.5, 1.0, 0.5, 0.0, 0.0)

    Raises ValueError for a negative value, and unless 0 <= warmup_steps < total_steps.
    """
    return _WarmupCosine(peak, warmup_steps, total_steps, start, end, quarter)


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """values[i], where i counts the boundaries that the step has reached.

    >>> rate = piecewise_constant([100, 200], [1.0, 0.1, 0.01])
    >>> rate(99), rate(100), rate(1000)
    (1.0, 0.1, 0.01)

    Raises ValueError for a negative value, and unless there is one value more than boundaries, and these increase.
    """
    return _PiecewiseConstant(boundaries, values)  # type: ignore[arg-type]


# --- The schedules --------------------------------------------------------------------------------------------


def _numbers(values: Any) -> Any:
    """A sequence's numbers as a tuple of floats, anything else as it is, for a check to refuse."""
    listed = as_tuple(values)
    return tuple(map(as_float, listed)) if isinstance(listed, tuple) else listed


def _check_values(instance: Any, attribute: Any, values: Any) -> None:
    if not isinstance(values, tuple):
        refuse(instance.name, attribute.name, "a list of numbers", values)
    for value in values:
        check_not_negative(instance, attribute, value)


def _check_boundaries(instance: Any, attribute: Any, boundaries: Any) -> None:
    if not isinstance(boundaries, tuple) or not all(map(is_number, boundaries)):
        refuse(instance.name, attribute.name, "a list of steps", boundaries)
    if not all(a < b for a, b in zip((-math.inf, *boundaries), boundaries, strict=False)):
        raise ValueError(f"piecewise_constant: boundaries must increase, got {boundaries}")


@config
class _Constant(Described):
    name: ClassVar[str] = "constant"
    value: float = number(check_not_negative)

    def __call__(self, step: int) -> float:
        return self.value


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
class _WarmupCosine(Described):
    name: ClassVar[str] = "warmup_cosine"
    peak: float = number(check_not_negative)
    warmup_steps: int = attrs.field(converter=as_int)
    total_steps: int = count()
    start: float = number(check_not_negative, default=0.0)
    end: float = number(check_not_negative, default=0.0)
    quarter: bool = attrs.field(default=False, validator=check_flag)

    def __attrs_post_init__(self) -> None:
        if type(self.warmup_steps) is not int or not 0 <= self.warmup_steps < self.total_steps:
            expected = f"an int from 0 to less than total_steps ({self.total_steps})"
            refuse(self.name, "warmup_steps", expected, self.warmup_steps)

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.start + (self.peak - self.start) * step / self.warmup_steps
        done = min((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 1.0)
        left = math.cos(math.pi / 2 * done) if self.quarter else (1 + math.cos(math.pi * done)) / 2
        return self.end + (self.peak - self.end) * left


@config
class _PiecewiseConstant(Described):
    name: ClassVar[str] = "piecewise_constant"
    boundaries: tuple[int, ...] = attrs.field(converter=as_tuple, validator=_check_boundaries)
    values: tuple[float, ...] = attrs.field(converter=_numbers, validator=_check_values)

    def __attrs_post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"piecewise_constant: {len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, "
                f"got {len(self.values)}"
            )

    def __call__(self, step: int) -> float:
        return self.values[bisect_right(self.boundaries, step)]
