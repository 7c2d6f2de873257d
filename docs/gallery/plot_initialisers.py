"""
How large weights may begin
===========================

The size of the numbers (their root mean square) after each layer of a net of dense layers of 256 units with relu, for
weights of different deviations. One deviation keeps the size, the root of 2 / 256, which `he_normal` takes (the line);
with a third less, thirty layers leave a few millionths.
"""

import numpy as np
from _save import INK, save, subplots

from funcnn import Key, serial, tree
from funcnn.layers import dense, relu

width, depth = 256, 30
deviations = np.geomspace(0.03, 0.25, 25, dtype=np.float32)
rng = np.random.default_rng(0)
x0 = rng.standard_normal((64, width), np.float32)
weights = rng.standard_normal((depth, width, width), np.float32)  # the same ones, made larger or smaller
block = serial(dense(width, use_bias=False), relu())
params, state, _ = block.init(Key(0), (width,))
sizes = np.empty((len(deviations), depth))
for i, deviation in enumerate(deviations):
    x = x0
    for layer in range(depth):
        x = block.apply(tree.unflatten(params, [deviation * weights[layer]]), state, x).y
        sizes[i, layer] = np.sqrt(np.mean(x**2))

figure, axes = subplots(height=3.6)
levels = np.arange(-8, 9, 2)
drawn = axes.contourf(range(1, depth + 1), deviations, np.log10(sizes), levels, cmap="PuOr_r", extend="both")
axes.axhline(np.sqrt(2 / width), color=INK, linestyle="-", linewidth=1.5)
axes.text(29.5, np.sqrt(2 / width) * 1.03, "he_normal", ha="right", va="bottom")
axes.set(yscale="log", xlabel="layer", ylabel="deviation of the weights")
axes.set_yticks([0.03, 0.05, 0.088, 0.15, 0.25], ["0.03", "0.05", "0.088", "0.15", "0.25"])
axes.set_yticks([], minor=True)
bar = figure.colorbar(drawn, label="size of the numbers", ticks=[-8, -4, 0, 4, 8])
bar.ax.set_yticklabels(["$10^{-8}$", "$10^{-4}$", "1", "$10^{4}$", "$10^{8}$"])
save(figure, "initialisers")
