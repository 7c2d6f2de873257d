"""
What a net gets wrong
=====================

A small net on the digits after six epochs: which classes it takes for which, and the six test digits of which it was
most sure and wrong. Half of its mistakes are eights. Look at them before you change the net: an accuracy says how many
are wrong, and this says what to mend.
"""

import numpy as np
from _save import INK, save, subplots

from funcnn import Key
from funcnn.data import load
from funcnn.layers import softmax
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.train import Epoch, Problem, init_state, predict, train

data = load("digits")
problem = Problem(fully_connected([64], 10), softmax_cross_entropy, adam(3e-3))
state = init_state(problem, Key(0), data.in_shape)
for event in train(problem, state, data, epochs=6, batch_size=64):
    if isinstance(event, Epoch):
        state = event.state

images, labels = data.test.take(slice(None))
shares = softmax().apply(None, None, predict(problem.net, state, data.test)).y
said = shares.argmax(axis=1)
table = np.zeros((10, 10), int)
np.add.at(table, (labels, said), 1)
wrong = np.flatnonzero(said != labels)
surest = wrong[np.argsort(-shares[wrong].max(axis=1))][:6]
print(f"{len(wrong)} of {len(labels)} test digits are wrong")

figure, axes = subplots(2, 5, height=3.4)
grid = axes[0, 0].get_gridspec()
for panel in axes[:, :2].flat:
    panel.remove()
matrix = figure.add_subplot(grid[:, :2])
mistakes = np.where(np.eye(10, dtype=bool), 0, table)
matrix.imshow(mistakes, cmap="Blues", vmax=12)
for i, j in zip(*np.nonzero(mistakes), strict=True):
    matrix.text(j, i, mistakes[i, j], ha="center", va="center", fontsize=9, color=INK)
matrix.set(xticks=range(10), yticks=range(10), xlabel="said", ylabel="labelled", title="mistakes")
for panel, k in zip(axes[:, 2:].flat, surest, strict=True):
    panel.imshow(images[k, ..., 0])
    panel.set_title(f"{labels[k]} as {said[k]}", fontsize=10, color=INK)
    panel.set_axis_off()
save(figure, "confusions")
