"""
Pairs, recurrence, attention
============================

Four nets learn to tell the next word of a language in which a verb agrees with a noun that may stand far before it. A
table of pairs cannot know that noun, and stays above. The others come to within two hundredths of the least that is
possible, which is known, since the language is made by a grammar.
"""

import numpy as np
from _language import sentences, states
from _save import GREY, save, subplots

from funcnn import serial
from funcnn.layers import dense, embedding, lstm, rnn
from funcnn.metrics import perplexity
from funcnn.models import gpt
from funcnn.train import predict

inputs, targets, weights, truth = sentences(1000, seed=1)
nets = {
    "a table of pairs": (embedding(19, 19), 0.1),
    "RNN": (serial(embedding(19, 32), rnn(64), dense(19, per_position=True)), 0.01),
    "LSTM": (serial(embedding(19, 32), lstm(64), dense(19, per_position=True)), 0.01),
    "GPT, one block": (gpt(19, 12, layers=1, heads=2, features=32), 0.01),
}
figure, axes = subplots(height=3.6)
for name, (net, rate) in nets.items():
    seen = states(net, steps=200, rate=rate)
    values = [perplexity(predict(net, state, inputs), targets, weights) for state in seen]
    axes.plot(20 * np.arange(len(values)), values, label=name)
least = np.exp(-(weights * np.log(truth)).sum() / weights.sum())
axes.axhline(least, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2)
axes.annotate(f"the least possible, {least:.2f}", (200, least), (0, -14), textcoords="offset points", ha="right")
axes.set(xlabel="steps of 32 sentences", ylabel="perplexity", xlim=(0, 200), ylim=(2.15, 4))
axes.grid(True)
axes.legend()
save(figure, "sequences")
