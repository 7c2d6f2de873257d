"""
Where a trained net looks
=========================

A GPT of one block has learned a language in which the last verb belongs to the first noun. For a sentence with a
clause, each row shows what a position looks at before it tells the next word. At each noun the second head looks at
that noun, whose verb may come next; at `sees` it looks back at `dogs`, whose verb is still to come, past `bird`,
which has had its own. Nobody told it so. The weights are made from the net's own params, by the equations of
attention.
"""

import numpy as np
from _language import NUMBER, states
from _save import save, subplots

from funcnn.layers import layer_norm
from funcnn.models import gpt

WORDS = [".", "the", "dogs", "that", "the", "bird", "sees", "sleep"]
LABELS = ["(.)", *WORDS[1:]]
net = gpt(19, 12, layers=1, heads=2, features=32)
*_, trained = states(net)
params = trained.params  # embedding, positions, block, norm; the scores take the embedding's weight again

x = params[0].weight[[NUMBER[word] for word in WORDS]] + params[1].weight[: len(WORDS)]
norm, attention = params[2][0]
x = layer_norm().apply(norm, None, x[None]).y[0]
q, k, _ = np.split(x @ attention.qkv.weight + attention.qkv.bias, 3, axis=-1)

figure, heads = subplots(1, 2, height=3.5, sharey=True)
for number, axes in enumerate(heads):
    columns = slice(16 * number, 16 * number + 16)
    scores = np.where(np.tri(len(WORDS), dtype=bool), q[:, columns] @ k[:, columns].T / 4, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    axes.imshow(weights, vmin=0, vmax=1)
    axes.set_xticks(range(len(WORDS)), LABELS, rotation=90)
    axes.set_yticks(range(len(WORDS)), LABELS)
    axes.tick_params(length=0)
    axes.set_title(f"head {number + 1}")
    for spine in axes.spines.values():
        spine.set_visible(False)
heads[0].set_ylabel("position that looks")
figure.supxlabel("position that is looked at", fontsize=11)
save(figure, "attention")
