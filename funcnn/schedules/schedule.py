"""What a schedule is, and those made of others: a constant, one after the other, with a warm-up, times a factor."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs

from funcnn.settings import (
    Described,
    as_code,
    as_float,
    as_floats,
    as_tuple,
    check_not_negative,
    config,
    count,
    is_number,
    number,
    refuse,
)

__all__ = [
    "Rate",
    "Schedule",
    "check_boundaries",
    "check_rate",
    "constant",
    "join_schedules",
    "scaled",
    "value_at",
    "warmup",
]

Schedule = Callable[[int], float]
Rate = float | Schedule


def value_at(rate: Rate, step: int) -> float:
    """The learning rate at a step, given as a number or a schedule.

    >>> from funcnn.schedules import exponential_decay
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


def check_rate(instance: Any, attribute: Any, value: Any) -> None:
    """Raise ValueError unless a setting is a schedule, or a number that is finite and not negative."""
    if callable(value):
        return
    if not isinstance(value, float):
        refuse(instance.name, attribute.name, "a number or a schedule, a function of the step", value)
    check_not_negative(instance, attribute, value)


def constant(value: float) -> Schedule:
    """The same value at every step.

    >>> constant(0.1)(1000)
    0.1

    Raises ValueError for a negative value.
    """
    return _Constant(value)


def scaled(rate: Rate, factor: float) -> Schedule:
    """factor · rate(step).

    >>> from funcnn.schedules import exponential_decay
    >>> scaled(exponential_decay(0.1, 0.5), 2.0)(1)
    0.1

    Raises ValueError for a rate or a factor that is negative.
    """
    return _Scaled(rate, factor)


def warmup(rate: Rate, steps: int, *, start: float = 0.0) -> Schedule:
    """Linear from `start` to rate(0) over so many steps, and then the rate from its own step 0 on.

    start + (rate(0) - start) · step / steps, then rate(step - steps). The rate of the first step is `start`.

    >>> from funcnn.schedules import exponential_decay
    >>> rate = warmup(exponential_decay(1.0, 0.5), 4)
    >>> [rate(step) for step in range(7)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 0.5, 0.25]

    Raises ValueError for a rate or a start that is negative, or no steps.
    """
    return _Warmup(rate, steps, start)


def join_schedules(rates: Sequence[Rate], boundaries: Sequence[int]) -> Schedule:
    """One after the other: rates[i], where i counts the boundaries that the step has reached, from its own step 0 on.

    That is rates[i](step - boundaries[i - 1]), as PyTorch's ``SequentialLR``.

    >>> from funcnn.schedules import exponential_decay
    >>> rate = join_schedules([1.0, exponential_decay(0.8, 0.5)], [2])
    >>> [rate(step) for step in range(5)]
    [1.0, 1.0, 0.8, 0.4, 0.2]

    Raises ValueError for what is no rate, and unless there is one rate more than boundaries, and these increase from 1
    on.
    """
    return _JoinSchedules(rates, boundaries)  # type: ignore[arg-type]


def check_boundaries(instance: Any, attribute: Any, boundaries: Any) -> None:
    """Raise ValueError unless a setting is a tuple of steps that increase."""
    if not isinstance(boundaries, tuple) or not all(map(is_number, boundaries)):
        refuse(instance.name, attribute.name, "a list of steps", boundaries)
    if not all(a < b for a, b in zip((-math.inf, *boundaries), boundaries, strict=False)):
        raise ValueError(f"{instance.name}: boundaries must increase, got {boundaries}")


# --- The schedules --------------------------------------------------------------------------------------------


@config
class _Constant(Described):
    name: ClassVar[str] = "constant"
    value: float = number(check_not_negative)

    def __call__(self, step: int) -> float:
        return self.value


@config
class _Scaled(Described):
    name: ClassVar[str] = "scaled"
    rate: Rate = attrs.field(converter=as_float, validator=check_rate)
    factor: float = number(check_not_negative)

    def __call__(self, step: int) -> float:
        return self.factor * value_at(self.rate, step)


@config
class _Warmup(Described):
    name: ClassVar[str] = "warmup"
    rate: Rate = attrs.field(converter=as_float, validator=check_rate)
    steps: int = count()
    start: float = number(check_not_negative, default=0.0)

    def __call__(self, step: int) -> float:
        if step < self.steps:
            return self.start + (value_at(self.rate, 0) - self.start) * step / self.steps
        return value_at(self.rate, step - self.steps)


def _check_rates(instance: Any, attribute: Any, rates: Any) -> None:
    if not isinstance(rates, tuple):
        refuse(instance.name, attribute.name, "a list of numbers or schedules", rates)
    for rate in rates:
        check_rate(instance, attribute, rate)


@config
class _JoinSchedules(Described):
    name: ClassVar[str] = "join_schedules"
    rates: tuple[Rate, ...] = attrs.field(converter=as_floats, validator=_check_rates)
    boundaries: tuple[int, ...] = attrs.field(converter=as_tuple, validator=check_boundaries)

    def __attrs_post_init__(self) -> None:
        if len(self.rates) != len(self.boundaries) + 1:
            raise ValueError(
                f"{self.name}: {len(self.boundaries)} boundaries need {len(self.boundaries) + 1} rates, "
                f"got {len(self.rates)}"
            )
        if self.boundaries and not (type(self.boundaries[0]) is int and self.boundaries[0] >= 1):
            refuse(self.name, "boundaries", "steps from 1 on", self.boundaries)

    def __call__(self, step: int) -> float:
        i = bisect_right(self.boundaries, step)
        return value_at(self.rates[i], step - self.boundaries[i - 1] if i else step)
