"""
Dropout and wrong labels
========================

400 digits to train on, of which one in five has a wrong label, and a net of two layers of 256 units. Without dropout it
learns the digits first and then, one by one, the wrong labels, and gets worse on new digits. With half of the units
dropped at each step it cannot rely on any few of them, and learns by heart much more slowly. Three seeds each.
"""

import numpy as np
from _save import BLUE, ORANGE, save, subplots

from funcnn import Key
from funcnn.data import Dataset, Part, load
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.train import Epoch, Problem, evaluate, init_state, train

digits, rng = load("digits"), np.random.default_rng(0)
images, labels = digits.train.inputs[:400], digits.train.targets[:400].copy()
wrong = rng.random(400) < 0.2
labels[wrong] = (labels[wrong] + rng.integers(1, 10, wrong.sum())) % 10
data = Dataset(Part(images, labels, digits.train.preprocess), None, None, digits.classes, digits.in_shape)

figure, (known, new) = subplots(1, 2, height=3.4, sharex=True, sharey=True)
for rate, color, dashes in ((0.0, ORANGE, "-"), (0.5, BLUE, "--")):
    for seed in range(3):
        problem = Problem(fully_connected([256, 256], 10, dropout=rate), softmax_cross_entropy, adam(1e-3))
        state = init_state(problem, Key(seed), data.in_shape)
        epochs, on_train, on_test = [], [], []
        for event in train(problem, state, data, epochs=50, batch_size=50):
            if isinstance(event, Epoch) and event.epoch % 5 == 0:
                epochs.append(event.epoch)
                on_train.append(evaluate(problem, event.state, data.train).accuracy)
                on_test.append(evaluate(problem, event.state, digits.test).accuracy)
        label = None if seed else f"dropout {rate:g}"
        known.plot(epochs, on_train, color=color, linestyle=dashes, linewidth=1.5, label=label)
        new.plot(epochs, on_test, color=color, linestyle=dashes, linewidth=1.5)
    print(f"dropout {rate}: {on_train[-1]:.3f} of the training labels, {on_test[-1]:.3f} of the test's")

known.set(title="training labels", ylabel="accuracy", xlabel="epoch", ylim=(0.6, 1.01))
known.axhline(1 - wrong.mean(), color="#909090", linewidth=1)
known.text(50, 0.775, "right labels", color="#666666", fontsize=10, ha="right", va="top")
new.set(title="test digits, rightly labelled", xlabel="epoch")
for axes in (known, new):
    axes.grid(True)
known.legend(loc="lower right")
save(figure, "dropout")
