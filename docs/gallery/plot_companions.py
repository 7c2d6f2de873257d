"""
Batch norm and an example's companions
======================================

One test digit, a trained net with batch norm, and the logit of the digit's class. In training, it depends on which
other digits are in the batch: each dot is one draw of companions. The fewer they are, the more the batch's mean and
variance vary, and the logit with them. Outside of training the running statistics stand in for the batch's: the line.
"""

import numpy as np
from _save import BLUE, INK, ORANGE, save, subplots

from funcnn import Key, serial
from funcnn.data import load
from funcnn.layers import batch_norm, dense, flatten, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam
from funcnn.train import Epoch, Problem, init_state, train

data, rng = load("digits"), np.random.default_rng(0)
net = serial(flatten(), dense(64, use_bias=False), batch_norm(), relu(), dense(10))
problem = Problem(net, softmax_cross_entropy, adam(3e-3))
state = init_state(problem, Key(0), data.in_shape)
for event in train(problem, state, data, epochs=5, batch_size=64):
    if isinstance(event, Epoch):
        state = event.state

images, labels = data.test.take(slice(1))
alone = net.apply(state.params, state.state, images).y[0, labels[0]]
sizes, draws = (2, 4, 8, 16, 32, 64, 128), 100
figure, axes = subplots(height=3.2)
for place, size in enumerate(sizes):
    logits = []
    for _ in range(draws):
        companions, _ = data.train.take(rng.choice(len(data.train), size - 1, replace=False))
        batch = np.concatenate([images, companions])
        logits.append(net.apply(state.params, state.state, batch, train=True).y[0, labels[0]])
    axes.plot(place + rng.uniform(-0.2, 0.2, draws), logits, ".", color=BLUE, markersize=4, alpha=0.6)
    print(f"batch of {size:3}: deviation {np.std(logits):.2f}")
axes.axhline(alone, color=ORANGE, linestyle="-")
axes.text(len(sizes) - 0.5, alone + 0.1, "outside of\ntraining", color=INK, va="bottom")
axes.set(xlim=(-0.5, len(sizes) + 0.4), xlabel="examples in the batch", ylabel="logit of its class")
axes.set_xticks(range(len(sizes)), sizes)
save(figure, "companions")
