"""
Signals through thirty layers
=============================

Six ways to stack thirty blocks of 128 units, none of them trained. To the left, how large the numbers are after each
block (their root mean square); to the right, how large the gradient is there, when a gradient of size 1 comes in at the
end. Only where both lines stay near 1 does each block get an input and a gradient of a size that it can learn from.
"""

import numpy as np
from _save import COLORS, GREY, INK, save, subplots

from funcnn import Key, serial
from funcnn.compose import residual
from funcnn.data import load
from funcnn.init import normal
from funcnn.keys import fold_in
from funcnn.layers import batch_norm, dense, layer_norm, relu

stacks = {
    "small weights": lambda: serial(dense(128, weight_init=normal(0.05)), relu()),
    "he_normal": lambda: serial(dense(128), relu()),
    "batch norm": lambda: serial(dense(128), batch_norm(), relu()),
    "layer norm": lambda: serial(dense(128), layer_norm(), relu()),
    "residual": lambda: residual(serial(dense(128), relu())),
    "residual, layer norm": lambda: residual(serial(layer_norm(), dense(128), relu())),
}


def size(array):
    """The root mean square."""
    return np.sqrt(np.mean(np.square(array)))


images, _ = load("digits").train.take(slice(256))
pixels = (images - images.mean()).reshape(256, 64) / images.std()
dy = np.random.default_rng(0).standard_normal((256, 128), np.float32)
figure, (forward, back) = subplots(1, 2, height=4, sharex=True, sharey=True)
for (name, make), color in zip(stacks.items(), (GREY, INK, *COLORS), strict=True):
    x, blocks, sizes = pixels, [], []
    for depth in range(31):
        block = make() if depth else dense(128)  # the first makes 128 numbers of 64
        params, state, _ = block.init(fold_in(Key(0), f"block {depth}"), x.shape[1:])
        x, _, residuals = block.apply(params, state, x, train=True)
        blocks.append((block, params, residuals))
        sizes.append(size(x))
    gradient, gradients = dy, []
    for block, params, residuals in reversed(blocks):
        gradients.insert(0, size(gradient))
        gradient = block.backward(params, residuals, gradient).dx
    style = {"color": color, "linestyle": "--" if name.startswith("residual") else "-"}
    forward.plot(sizes, label=name, **style)
    back.plot(gradients, **style)
    print(f"{name:22} numbers after 30 blocks: {sizes[-1]:8.2g}   gradient after block 0: {gradients[0]:8.2g}")

forward.set(yscale="log", ylim=(1e-6, 1e6), yticks=[1e-6, 1e-3, 1, 1e3, 1e6], title="size of the numbers")
back.set(title="size of the gradients")
for axes in (forward, back):
    axes.set(xlabel="after block")
    axes.grid(True)
figure.legend(loc="outside lower center", ncols=3, fontsize=10)
save(figure, "depth")
