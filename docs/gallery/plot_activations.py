"""
Activations and their slopes
============================

An activation bends each number. Backward multiplies by its slope, so where the slope is near zero, little of a gradient
comes through: tanh lets nothing through from large numbers, relu nothing from negative ones. The slopes here are what
the layers' own `backward` gives for a gradient of ones.
"""

import numpy as np
from _save import save, subplots  # the file beside this one: the style of these pictures

from funcnn.layers import gelu, relu, silu, tanh

x = np.linspace(-4, 4, 401)[:, None]  # 401 examples of one number
figure, (values, slopes) = subplots(1, 2, height=3, sharex=True)
for layer in (tanh(), relu(), silu(), gelu()):
    y, _, residuals = layer.apply(None, None, x, train=True)
    slope = layer.backward(None, residuals, np.ones_like(y)).dx
    values.plot(x, y, label=layer.name)
    slopes.plot(x, slope)

values.set(title="value", xlabel="x", ylim=(-1.3, 3))
slopes.set(title="slope", xlabel="x")
for axes in (values, slopes):
    axes.grid(True)
values.legend(loc="upper left")
save(figure, "activations")
