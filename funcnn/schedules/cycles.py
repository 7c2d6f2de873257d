"""Schedules of cosines and cycles: a fall by half a cosine, restarts, triangles, one cycle."""

import math
from typing import Any, ClassVar

import attrs

from funcnn.schedules.schedule import Schedule
from funcnn.settings import (
    Described,
    as_int,
    check_flag,
    check_not_negative,
    check_share,
    config,
    count,
    number,
    refuse,
)

__all__ = ["cosine", "cosine_restarts", "cyclic", "one_cycle", "warmup_cosine"]


def cosine(start: float, steps: int, *, end: float = 0.0) -> Schedule:
    """end + (start - end) · (1 + cos(π · min(1, step / steps))) / 2: half a cosine, and then `end`.

    As PyTorch's ``CosineAnnealingLR`` up to `steps` (Loshchilov & Hutter 2017). `warmup` puts a rise before it.

    >>> rate = cosine(1.0, 100)
    >>> rate(0), round(rate(50), 6), rate(100), rate(500)
    (1.0, 0.5, 0.0, 0.0)

    Raises ValueError for a negative value, or no steps.
    """
    return _Cosine(start, steps, end)


def cosine_restarts(start: float, period: int, factor: int = 1, *, end: float = 0.0) -> Schedule:
    """`cosine` from `start` to nearly `end` again and again, each period `factor` times the one before.

    end + (start - end) · (1 + cos(π · k / T)) / 2, k the steps in a period of T = period · factor^i: SGDR (Loshchilov &
    Hutter 2017), as PyTorch's ``CosineAnnealingWarmRestarts``.

    >>> rate = cosine_restarts(1.0, 2, factor=2)
    >>> [round(rate(step), 3) for step in range(8)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0, 0.962]

    Raises ValueError for a negative value, or a period or factor below 1.
    """
    return _CosineRestarts(start, period, factor, end)


def cyclic(low: float, high: float, up: int, down: int | None = None, *, factor: float = 1.0) -> Schedule:
    """Triangles: `up` steps from `low` to `high` and `down` steps back (as many without), again and again (Smith 2017).

    The height of the i-th triangle, from 0, is (high - low) · factor^i. As PyTorch's ``CyclicLR`` in its modes
    "triangular", and with a factor of 1/2 "triangular2".

    >>> rate = cyclic(0.0, 1.0, 2, factor=0.5)
    >>> [rate(step) for step in range(9)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25, 0.0]

    Raises ValueError for a negative value or factor, a high that is less than low, or steps below 1.
    """
    return _Cyclic(low, high, up, down, factor)


def one_cycle(
    peak: float, steps: int, *, rise: float = 0.3, start_factor: float = 1 / 25, end_factor: float = 1e-4,
) -> Schedule:  # fmt: skip
    """Half a cosine up to `peak` and half a cosine far down: one cycle (Smith 2018).

    From a = peak · start_factor up to the peak at step u = rise · steps - 1, and down to z = a · end_factor at the last
    step, steps - 1, where it stays:

        a + (peak - a) · (1 - cos(π · step / u)) / 2, and then
        z + (peak - z) · (1 + cos(π · (step - u) / (steps - 1 - u))) / 2.

    As PyTorch's ``OneCycleLR``, whose ``div_factor`` and ``final_div_factor`` are the inverses of the factors here, and
    which anneals momentum too.

    >>> rate = one_cycle(1.0, 11, rise=6 / 11)
    >>> [round(rate(step), 9) for step in (0, 5, 10)]
    [0.04, 1.0, 4e-06]

    Raises ValueError for a negative value or factor, a rise outside [0, 1], or steps below 1.
    """
    return _OneCycle(peak, steps, rise, start_factor, end_factor)


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


# --- The schedules --------------------------------------------------------------------------------------------


def _fall(start: float, end: float, done: float) -> float:
    """Half a cosine from a start to an end, of which a share is done."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


@config
class _Cosine(Described):
    name: ClassVar[str] = "cosine"
    start: float = number(check_not_negative)
    steps: int = count()
    end: float = number(check_not_negative, default=0.0)

    def __call__(self, step: int) -> float:
        return _fall(self.start, self.end, min(1.0, step / self.steps))


@config
class _CosineRestarts(Described):
    name: ClassVar[str] = "cosine_restarts"
    start: float = number(check_not_negative)
    period: int = count()
    factor: int = count(default=1)
    end: float = number(check_not_negative, default=0.0)

    def __call__(self, step: int) -> float:
        period = self.period
        if self.factor == 1:
            step %= period
        while step >= period:  # a few times, since periods grow
            step, period = step - period, period * self.factor
        return _fall(self.start, self.end, step / period)


def _check_down(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and (type(value) is not int or not 1 <= value < 2**31):
        refuse(instance.name, attribute.name, "a positive int or None", value)


@config
class _Cyclic(Described):
    name: ClassVar[str] = "cyclic"
    low: float = number(check_not_negative)
    high: float = number(check_not_negative)
    up: int = count()
    down: int | None = attrs.field(default=None, converter=as_int, validator=_check_down)
    factor: float = number(check_not_negative, default=1.0)

    def __attrs_post_init__(self) -> None:
        if self.high < self.low:
            refuse(self.name, "high", f"at least low ({self.low})", self.high)

    def __call__(self, step: int) -> float:
        down = self.down or self.up
        cycle, step = divmod(step, self.up + down)
        share = step / self.up if step <= self.up else (self.up + down - step) / down
        return self.low + (self.high - self.low) * share * self.factor**cycle


@config
class _OneCycle(Described):
    name: ClassVar[str] = "one_cycle"
    peak: float = number(check_not_negative)
    steps: int = count()
    rise: float = number(check_share, default=0.3)
    start_factor: float = number(check_not_negative, default=1 / 25)
    end_factor: float = number(check_not_negative, default=1e-4)

    def __call__(self, step: int) -> float:
        start, top, last = self.peak * self.start_factor, self.rise * self.steps - 1, self.steps - 1
        if 0 < top >= step:
            return _fall(start, self.peak, step / top)
        done = (step - max(top, 0)) / (last - max(top, 0)) if step < last else 1.0
        return _fall(self.peak, start * self.end_factor, done)


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
