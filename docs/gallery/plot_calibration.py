"""
Does it say what is so?
=======================

Three plans, of which customers choose one by chance, with probabilities that depend on age, income and visits. A
large net that has learned 450 customers by heart is surer than it is right. Dividing its logits by one number, chosen
on customers it was not trained on, mends most of that (Guo and others, 2017). A small net that was trained on the same
customers, and stopped in time, needs none.
"""

import numpy as np
from _save import GREY, save, subplots

from funcnn import Key
from funcnn.data import Dataset
from funcnn.layers import softmax
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.train import Epoch, Problem, early_stopping, init_state, predict, train

draw, n = np.random.default_rng(0), 6000
age, income, visits = draw.uniform(18, 90, n), draw.lognormal(10, 0.6, n), draw.poisson(4, n)
young, rich = (50 - age) / 15, np.log(income) - 10
plus, pro = 1 + 0.9 * young - 0.3 * visits * rich, -1.2 + 1.5 * rich - young**2 / 2 + 0.3 * visits
truth = softmax().apply(None, None, np.stack([np.full(n, 2.0), plus, pro], axis=1)).y
plans = (draw.random(n)[:, None] > truth.cumsum(axis=1)).sum(axis=1)
rows = np.stack([age, income, visits], axis=1)
data = Dataset.from_arrays(rows, plans, test=0.5, validation=0.2, standardise=True)


def logits_by(data, units, epochs, patience):
    """The logits that a trained net gives for the validation and the test part."""
    problem = Problem(fully_connected(units, 3), softmax_cross_entropy, adam(5e-3), metric=None)
    events = train(problem, init_state(problem, Key(0), data.in_shape), data, epochs=epochs, batch_size=128)
    for event in early_stopping(events, patience=patience):
        if isinstance(event, Epoch) and (event.is_best or patience == epochs):
            state = event.state
    return [predict(problem.net, state, part) for part in (data.validation, data.test)]


few = data.thin(450, 3000)
small = logits_by(few, [16], epochs=60, patience=10)[1]
to_choose_by, large = logits_by(few, [64, 64], epochs=250, patience=250)
candidates = np.geomspace(0.25, 8, 60).astype(np.float32)
temperature = min(candidates, key=lambda t: softmax_cross_entropy(to_choose_by / t, data.validation.targets)[0])

figure, axes = subplots(height=4)
axes.plot([1 / 3, 1], [1 / 3, 1], color=GREY, linestyle=(0, (4, 3)), linewidth=1.2)
for name, logits in (
    ("small, stopped in time", small),
    ("large, by heart", large),
    (f"the same, temperature {temperature:.1f}", large / temperature),
):
    shares = softmax().apply(None, None, logits).y
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == data.test.targets
    which = np.minimum((confidence * 10).astype(int), 9)
    bins = [which == b for b in range(10) if np.count_nonzero(which == b) >= 25]  # fewer would only be noise
    points = np.array([(confidence[its].mean(), right[its].mean(), np.count_nonzero(its)) for its in bins])
    (line,) = axes.plot(points[:, 0], points[:, 1], label=name)
    axes.scatter(points[:, 0], points[:, 1], s=3 * np.sqrt(points[:, 2]), color=line.get_color(), zorder=3)
axes.set(xlabel="how sure the net is (mean of a bin)", ylabel="how often it is right", xlim=(0.33, 1), ylim=(0.25, 1))
axes.grid(True)
axes.legend(loc="upper left")
save(figure, "calibration")
