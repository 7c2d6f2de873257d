"""
Rates over a training
=====================

Left, four schedules for 168 steps, each a function of the step. Right, the loss on the validation part after each
epoch, the mean of four seeds. High first and low at the end is better than a constant rate, and so is a constant rate
whose params are averaged.
"""

import numpy as np
from _save import GREY, save, subplots

from funcnn import Key
from funcnn.data import load
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam, averaged
from funcnn.schedules import constant, cosine, one_cycle, warmup_cosine
from funcnn.train import Epoch, Problem, init_state, train

data, net, steps = load("digits"), fully_connected([64, 32], 10), 8 * 21
schedules = {
    "constant": constant(0.01),
    "cosine": cosine(0.01, steps),
    "warm-up and cosine": warmup_cosine(0.01, 20, steps),
    "one cycle to 0.03": one_cycle(0.03, steps),
}
optimizers = {name: adam(schedule) for name, schedule in schedules.items()}
optimizers["constant, average"] = averaged(adam(0.01), decay=0.95)


def losses(optimizer):
    """The mean loss on the validation part after each epoch."""
    problem = Problem(net, softmax_cross_entropy, optimizer)
    found = [
        [
            event.validation.loss
            for event in train(problem, init_state(problem, Key(seed), data.in_shape), data, epochs=8, batch_size=64)
            if isinstance(event, Epoch)
        ]
        for seed in range(4)
    ]
    return np.mean(found, axis=0)


figure, (left, right) = subplots(1, 2, height=3.4)
for schedule in schedules.values():
    left.plot([schedule(step) for step in range(steps + 1)])
for name, optimizer in optimizers.items():
    own = {"color": GREY, "linestyle": "-"} if name == "constant, average" else {}
    right.plot(range(1, 9), losses(optimizer), label=name, **own)
left.set(xlabel="step", ylabel="rate", title="the rate", xlim=(0, steps), ylim=(0, 0.032))
right.set(xlabel="epoch", ylabel="validation loss", title="what it reaches", xlim=(1, 8), ylim=(0.05, 0.5))
for axes in (left, right):
    axes.grid(True)
figure.legend(loc="outside lower center", ncols=3, fontsize=10)
save(figure, "schedules")
