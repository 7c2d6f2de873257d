"""
Finding a rate
==============

Left, one training of six epochs in which Adam's rate grows tenfold every twenty steps: the loss begins to fall, falls
steeply, and explodes (Smith 2017). Right, trainings of eight epochs, each at one rate: the loss on the validation
part, of three seeds from the lowest to the highest. The loop on the left finds the valley in one run.
"""

import numpy as np
from _save import BLUE, save, subplots

from funcnn import Key
from funcnn.data import load
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.train import Problem, batches, init_state, make_step, train

data, net = load("digits"), fully_connected([64, 32], 10)


def rising(step):
    """Ten times as much after twenty steps."""
    return 1e-5 * 10 ** (step / 20)


problem = Problem(net, softmax_cross_entropy, adam(rising))
state, step, losses = init_state(problem, Key(0), data.in_shape), make_step(problem), []
for epoch in range(6):
    for batch in batches(data.train, 64, key=Key(epoch)):
        if not losses or losses[-1] < 4:
            state, metrics = step(state, batch)
            losses.append(metrics.loss)


def reached(rate, seed):
    """The loss on the validation part after eight epochs at one rate."""
    problem = Problem(net, softmax_cross_entropy, adam(rate))
    *_, last = train(problem, init_state(problem, Key(seed), data.in_shape), data, epochs=8, batch_size=64)
    return last.validation.loss


rates = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]
found = np.array([[reached(rate, seed) for seed in range(3)] for rate in rates])

figure, (left, right) = subplots(1, 2, height=3)
smooth = np.convolve(losses, np.ones(5) / 5, "valid")
left.plot([rising(i) for i in range(len(losses))], losses, "-", color=BLUE, alpha=0.3, linewidth=1)
left.plot([rising(i + 2) for i in range(len(smooth))], smooth, "-", color=BLUE)
left.set(title="the rate rises in one run", ylabel="loss of the batch", ylim=(0, 4))
right.plot(rates, found.mean(axis=1), "o-", color=BLUE)
right.fill_between(rates, found.min(axis=1), found.max(axis=1), color=BLUE, alpha=0.15, linewidth=0)
right.set(title="a run for each rate", ylabel="validation loss", ylim=(0, 2))
for axes in (left, right):
    axes.set_xscale("log")
    axes.set_xlabel("rate")
    axes.set_xlim(1e-5, 1)
    axes.grid(True)
save(figure, "rates")
