"""
Twenty blocks, trained
======================

The loss in training of five nets of twenty blocks of 64 units, on the digits, all with the same steps: momentum at a
rate of 0.02, batches of 128. What keeps signals and gradients in size decides whether a deep net learns at all, and how
steadily. A residual net without a norm is not among them: its numbers grow until the second step gives no number.
"""

from _save import COLORS, GREY, INK, save, subplots

from funcnn import Key, serial
from funcnn.compose import residual
from funcnn.data import load
from funcnn.init import normal
from funcnn.layers import batch_norm, dense, flatten, layer_norm, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import momentum
from funcnn.train import Epoch, Problem, init_state, train

blocks = {
    "small weights": lambda: serial(dense(64, weight_init=normal(0.05)), relu()),
    "he_normal": lambda: serial(dense(64), relu()),
    "batch norm": lambda: serial(dense(64, use_bias=False), batch_norm(), relu()),
    "layer norm": lambda: serial(dense(64, use_bias=False), layer_norm(), relu()),
    "residual, layer norm": lambda: residual(serial(layer_norm(), dense(64), relu())),
}
data = load("digits")
figure, axes = subplots(height=3.8)
for (name, make), color in zip(blocks.items(), (GREY, INK, COLORS[0], COLORS[1], COLORS[3]), strict=True):
    last = [layer_norm()] if name.startswith("residual") else []  # its sum has grown on the way
    net = serial(flatten(), dense(64), *[make() for _ in range(20)], *last, dense(10))
    problem = Problem(net, softmax_cross_entropy, momentum(0.02))
    state = init_state(problem, Key(0), data.in_shape)
    events = train(problem, state, data, epochs=12, batch_size=128)
    epochs = [event for event in events if isinstance(event, Epoch)]
    style = {"color": color, "linestyle": "--" if last else "-"}
    axes.plot([epoch.epoch for epoch in epochs], [epoch.train.loss for epoch in epochs], label=name, **style)
    print(f"{name:22} loss {epochs[-1].train.loss:.2f}, validation accuracy {epochs[-1].validation.accuracy:.3f}")

axes.set(xlabel="epoch", ylabel="loss in training", ylim=(0, 3))
axes.grid(True)
figure.legend(loc="outside lower center", ncols=3, fontsize=10)
save(figure, "norm_curves")
