"""
What a net can draw
===================

Two spirals of dots, and the border that nets of different sizes draw between them, after the same training. Without a
hidden layer the border is a line. With one layer of a few units it has a few corners, one for each; with two layers of
more it follows the spirals.
"""

import numpy as np
from _save import BLUE, ORANGE, save, subplots

from funcnn import Key
from funcnn.data import Dataset
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.train import Epoch, Problem, init_state, train

rng = np.random.default_rng(0)
angle = np.sqrt(rng.uniform(0.03, 1, 400)) * 3 * np.pi
turn = np.repeat([0, np.pi], 200)
points = np.stack([angle * np.cos(angle + turn), angle * np.sin(angle + turn)], axis=1) / (3 * np.pi)
points = (points + rng.normal(0, 0.02, points.shape)).astype(np.float32)
data = Dataset.from_arrays(points, np.repeat([0, 1], 200), validation=None, test=None)
side = np.linspace(-1.15, 1.15, 150, dtype=np.float32)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)

figure, axes = subplots(1, 3, height=2.4)
for panel, hidden in zip(axes, ([], [8], [32, 32]), strict=True):
    problem = Problem(fully_connected(hidden, 2), softmax_cross_entropy, adam(0.02))
    state = init_state(problem, Key(1), data.in_shape)
    for event in train(problem, state, data, epochs=80, batch_size=100):
        if isinstance(event, Epoch):
            state, right = event.state, event.train.accuracy
    logits = problem.net.apply(state.params, state.state, grid).y
    surface = (logits[:, 1] - logits[:, 0]).reshape(150, 150)
    panel.contourf(side, side, surface, levels=[-1e9, 0, 1e9], colors=["#dfe5f8", "#f9e4d8"])
    for label, (color, mark) in enumerate(((BLUE, "o"), (ORANGE, "s"))):
        some = points[200 * label : 200 * label + 200]
        panel.plot(*some.T, mark, color=color, markersize=2.2)
    panel.set(title=f"hidden: {hidden or 'none'}", xticks=[], yticks=[], xlabel=f"{right:.0%} right")
    panel.set_aspect("equal")
save(figure, "boundaries")
