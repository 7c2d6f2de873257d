"""The slopes of a function by finite differences, held against those that its gradient gives.

Along a random direction v the slope of ε -> f(leaf + ε·v) at 0, measured by central differences, must equal
⟨gradient, v⟩. A random direction weighs every element, so a single wrong one shows.

Where a function has a kink (relu at 0, a tie in max pooling) between leaf - ε·v and leaf + ε·v, its slope cannot be
measured so. Kinks show in the second difference D(ε) = f(ε) - 2f(0) + f(-ε), which shrinks 16-fold when ε does
4-fold if f is smooth, and does not if there is a kink. Such directions are counted and drawn again; they can hide no
wrong gradient, since D never looks at one.
"""

import math
from collections.abc import Callable

import attrs
import numpy as np

from funcnn.tree import Array

__all__ = ["Check", "GradientError", "Report", "check_slopes"]

_STEP = 1e-6  # ε relative to the leaf's size; balances the differences' rounding against kinks in reach
_TOLERANCE = 1e-6  # relative: float64 differences are good to some 1e-9 at this step
_DIRECTIONS = 3  # per leaf
_REDRAWS = 50  # of a direction that meets a kink
_BEND = 1e-6  # the change of slope that counts as a kink; less could not spoil a check
_NOISE = 2e-14  # what rounding alone makes of a bend, relative to the numbers added up
_SMALLEST = 1e-300  # against 0 / 0
_FACTOR = 1e-5  # a ratio of slopes that is so near to a whole number is no accident


class GradientError(AssertionError):
    """A gradient that its function's slope contradicts, or that has the wrong structure, shape or dtype."""


@attrs.frozen
class Check:
    """One direction of one leaf: backward's slope, the measured one, the unit of their error, and the step ε."""

    leaf: str
    analytic: float
    numeric: float
    unit: float
    step: float

    @property
    def error(self) -> float:
        """The slopes' difference as a share of `unit`."""
        return abs(self.analytic - self.numeric) / self.unit


@attrs.frozen
class Report:
    """All slopes that were checked, and how many directions were drawn again because of a kink."""

    checks: tuple[Check, ...]
    kinks: int

    @property
    def largest_error(self) -> float:
        """The largest relative error."""
        return max((check.error for check in self.checks), default=0.0)


def check_slopes(
    name: str,
    leaf: Array,
    gradient: Array,
    function: Callable[[Array], float],
    scale: float,
    draw: np.random.Generator,
) -> Report:
    """Compare the slopes of `function` at `leaf` with its gradient's, along random directions.

    `scale` is the size of the numbers that `function` adds up: its values are exact to some 1e-16 of it.

    >>> from funcnn.keys import Key, generator
    >>> x = np.array([1.0, -2.0])
    >>> check_slopes("x", x, 2 * x, lambda x: float(np.vdot(x, x)), 5.0, generator(Key(0))).largest_error < 1e-6
    True

    Raises GradientError, with both slopes, what their difference is relative to, and what is likely wrong.
    """
    step = _STEP * max(1.0, float(np.abs(leaf).max()))
    # Errors are relative to what a slope along a random direction is like; or, where the gradient vanishes, to
    # the smallest slope that differences at this step can tell from zero to six digits.
    length, least = float(np.linalg.norm(gradient)), 1e-3 * scale
    center = function(leaf)
    checks: list[Check] = []
    kinks = 0
    while len(checks) < _DIRECTIONS:
        direction = draw.standard_normal(leaf.shape)
        analytic = float(np.vdot(gradient, direction))
        numeric, bend = _slope(function, leaf, direction, step, center)
        if bend > max(_BEND * step * max(length, least, abs(numeric)), _NOISE * scale):
            kinks += 1
            if kinks > _REDRAWS:
                raise GradientError(
                    f"{name}: {kinks} directions met a kink within {step:g}; its slope cannot be measured there. "
                    "Choose inputs away from kinks"
                )
            continue
        units = {
            "the larger": max(abs(analytic), abs(numeric)),
            "the gradient's length": length,
            "a thousandth of the outputs' size": least,
            "nothing": _SMALLEST,
        }
        unit = max(units, key=lambda name: units[name])
        check = Check(name, analytic, numeric, units[unit], step)
        if not check.error <= _TOLERANCE:
            raise GradientError(
                f"{name}: backward gives the slope {analytic:.10g}, finite differences {numeric:.10g} "
                f"at step {step:g}: their difference is {check.error:.1e} of {unit}, {units[unit]:.4g}, "
                f"and may be {_TOLERANCE:g}. "
                f"{_likely_mistake(analytic, numeric)}"
            )
        checks.append(check)
    return Report(tuple(checks), kinks)


def _likely_mistake(analytic: float, numeric: float) -> str:
    """What two different slopes, or their ratio, give away."""
    if not math.isfinite(analytic + numeric):
        return f"{'The forward pass' if math.isfinite(analytic) else 'Backward'} gives numbers that are not finite"
    if analytic == 0:
        return "Backward leaves this gradient out"
    if numeric == 0:
        return "The result does not depend on it: its gradient is zero"
    for ratio, words in ((numeric / analytic, "{} times"), (analytic / numeric, "1/{} of")):
        factor = round(ratio)
        if factor not in (0, 1) and abs(ratio / factor - 1) < _FACTOR:
            why = "the sign is turned" if factor == -1 else "a factor is wrong, or a mean stands for a sum"
            return f"The right one is {words.format(factor)} backward's: {why}"
    return "A term, an axis or an example is missing or wrong in backward"


def _slope(
    function: Callable[[Array], float], leaf: Array, direction: Array, step: float, center: float
) -> tuple[float, float]:
    """The central difference, and how far its points bend otherwise than a smooth function's would."""
    far = [function(leaf + sign * step * direction) for sign in (1, -1)]
    near = [function(leaf + sign * step / 4 * direction) for sign in (1, -1)]
    slope = (far[0] - far[1]) / (2 * step)
    bend = (far[0] - 2 * center + far[1]) - 16 * (near[0] - 2 * center + near[1])
    return slope, abs(bend)
