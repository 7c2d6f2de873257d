"""
A kink within reach
===================

Central differences of relu around x: farther than ε from the kink at 0 they are exact, nearer to it they are a mixture
of the slopes on both sides. The second difference D tells which is the case, without a look at any gradient.
"""

import numpy as np
from _save import TEAL, save, subplots  # the file beside this one: the style of these pictures

STEP = 1.0
x = np.linspace(-2, 2, 401)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def second_difference(step: float) -> np.ndarray:
    return relu(x + step) - 2 * relu(x) + relu(x - step)


measured = (relu(x + STEP) - relu(x - STEP)) / (2 * STEP)
bend = np.abs(second_difference(STEP) - 16 * second_difference(STEP / 4))

figure, (slopes, bends) = subplots(1, 2, height=2.9, sharex=True)
slopes.plot(x, np.where(x > 0, 1.0, 0.0), label="slope")
slopes.plot(x, measured, label="central difference")
slopes.set(title="slope of relu", xlabel="x / ε", ylim=(-0.1, 1.5))
slopes.legend(loc="upper left")
bends.plot(x, bend, color=TEAL)
bends.set(title="bend, |D(ε) - 16 D(ε/4)|", xlabel="x / ε")
for axes in (slopes, bends):
    axes.grid(True)
save(figure, "kink")
