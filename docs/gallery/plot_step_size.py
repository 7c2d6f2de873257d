"""
How small should a step be?
===========================

A slope is measured by a step of size ε. With a large step the curve bends on the way (truncation), with a small one the
difference of two nearly equal numbers has few digits left (rounding). In between lies the best step, and how good it is
depends on the formula and on the digits that a float has.
"""

import numpy as np
from _save import save, subplots  # the file beside this one: the style of these pictures

draw = np.random.default_rng(0)
x, v, dy = draw.standard_normal((3, 100))
true = float(np.sum((1 - np.tanh(x) ** 2) * v * dy))  # the slope of f at 0


def f(step: float, dtype: type) -> float:
    """The sum of dy · tanh(x + step · v), every number and every sum rounded to the dtype."""
    moved = np.tanh(x.astype(dtype) + dtype(step) * v.astype(dtype))
    return dtype(np.sum(moved * dy.astype(dtype)))


def one_sided(step: float, dtype: type) -> float:
    return (f(step, dtype) - f(0.0, dtype)) / dtype(step)


def central(step: float, dtype: type) -> float:
    return (f(step, dtype) - f(-step, dtype)) / dtype(2 * step)


steps = 10.0 ** np.arange(-12, 0.01, 0.25)
figure, axes = subplots(height=3.8)
for label, measure, dtype in (
    ("central, float64", central, np.float64),
    ("one-sided, float64", one_sided, np.float64),
    ("central, float32", central, np.float32),
):
    with np.errstate(divide="ignore"):
        errors = np.array([abs(measure(step, dtype) - true) / abs(true) for step in steps])
    axes.loglog(steps, errors, label=label)
axes.set(xlabel="step ε", ylabel="relative error of the slope", xlim=(1e-12, 1), ylim=(1e-13, 1e4))
axes.text(1.5e-12, 2e-8, "rounding")
axes.text(1.2e-2, 1e-9, "truncation")
axes.grid(True)
axes.legend(loc="upper right")
save(figure, "step_size")
