"""
Optimizers in a valley
======================

A valley that is a hundred times as steep across as it is along, and the first forty steps of four optimizers from the
same place. Gradient descent's rate is limited by the steep walls, so it creeps along the floor. Momentum adds up what
stays the same from step to step, and overshoots. Adam divides each coordinate by the size of its gradients. L-BFGS
learns the curvature on the way and is there after a few steps.
"""

import numpy as np
from _save import BLUE, GREY, ORANGE, save, subplots

from funcnn.optimizers import adam, lbfgs, momentum, sgd

curvature = np.array([1.0, 100.0])  # along, across


def loss(params):
    (place,) = params
    return float(curvature @ place**2 / 2), (curvature * place,)


figure, axes = subplots(2, 2, height=4.4, sharex=True, sharey=True)
along, across = np.meshgrid(np.linspace(-10, 4, 100), np.linspace(-1, 1, 100))
height = (curvature[0] * along**2 + curvature[1] * across**2) / 2
for panel, optimizer in zip(axes.flat, (sgd(0.018), momentum(0.01), adam(0.4), lbfgs()), strict=True):
    params = (np.array([-9.0, 0.7]),)
    opt_state, path = optimizer.init(params), [params[0]]
    for step in range(40):
        value, grads = loss(params)
        params, opt_state = optimizer.update(grads, opt_state, params, step, value=value, loss=loss)
        path.append(params[0])
    x, y = np.transpose(path)
    panel.contour(along, across, height, levels=[0.3, 2, 6, 12, 20, 30, 42], colors=GREY, linewidths=0.7)
    panel.plot(x, y, "o-", color=BLUE, markersize=3, linewidth=1.2)
    panel.plot(0, 0, "*", color=ORANGE, markersize=12)
    panel.set(title=optimizer.name)
    print(f"{optimizer!r:60} loss after 40 steps: {loss(params)[0]:.2g}")
save(figure, "optimizers")
