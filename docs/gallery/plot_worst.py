"""
The worst first
===============

The six digits of the validation part for which a small net's loss is the largest, with their label and what the net
took them for. Some are hard for anybody. Whoever looks at such a list knows more than the accuracy says.
"""

import numpy as np
from _save import PALE, save, subplots

from funcnn import Key
from funcnn.data import load
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam, averaged
from funcnn.train import Problem, for_evaluation, init_state, predict, train

data = load("digits")
problem = Problem(fully_connected([64, 32], 10), softmax_cross_entropy, averaged(adam(0.01), decay=0.95))
*_, last = train(problem, init_state(problem, Key(0), data.in_shape), data, epochs=8, batch_size=64)
images, labels = data.validation.take(slice(None))
logits = predict(problem.net, for_evaluation(problem, last.state), images)
terms, _ = softmax_cross_entropy(logits, labels, reduction="none")

figure, axes = subplots(1, 6, height=1.42)
for place, i in zip(axes.flat, np.argsort(-terms), strict=False):
    place.imshow(images[i, :, :, 0], vmin=0, vmax=1)
    place.set(xticks=[], yticks=[])
    for spine in place.spines.values():
        spine.set(visible=True, color=PALE)
    place.set_title(f"{labels[i]}, taken\nfor {logits[i].argmax()}", fontsize=10, fontweight="normal")
save(figure, "worst")
