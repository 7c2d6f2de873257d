"""When do signals die?

Nets of many layers, with three activations and five ways to draw the first weights. Where the activations or the
gradients of the first layers shrink or grow from layer to layer, nothing can be learned: the accuracy says so, and the
norms, measured before the first step, say why.

    python experiments/sweep_init_depth.py
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcnn import Key, init, layers
from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import sgd
from funcnn.report.charts import draw_heat_map
from funcnn.report.figures import as_title, picture
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem, init_state

ACTIVATIONS = {"relu": layers.relu, "tanh": layers.tanh, "sigmoid": layers.sigmoid}
INITS = {
    "he": init.he_normal(), "glorot": init.glorot_normal(), "lecun": init.lecun_normal(),
    "normal(0.01)": init.normal(0.01), "normal(0.5)": init.normal(0.5),
}  # fmt: skip
AXES = {"init": tuple(INITS), "activation": tuple(ACTIVATIONS), "depth": (1, 2, 4, 8, 16, 32)}
QUICK = {"init": ("he", "normal(0.01)"), "activation": ("relu",), "depth": (2, 8)}
WIDTH = 32


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    activation, weight_init = ACTIVATIONS[config.activation], INITS[config.init]
    net = fully_connected([WIDTH] * config.depth, len(data.classes), activation=activation, weight_init=weight_init)
    return Training(Problem(net, softmax_cross_entropy, sgd(0.1)), data, config.epochs, batch_size=64)


def norms(training: Training, seed: int) -> dict[str, Any]:
    """Each dense layer's mean square activation and gradient, roots of them, before the first step."""
    problem = training.problem
    state = init_state(problem, Key(seed), training.dataset.in_shape)
    x, labels = training.dataset.train.take(slice(0, 256))
    steps, activations, gradients = [], [], []
    for layer, params, its_state in zip(problem.net.config.children, state.params, state.state, strict=True):
        applied = layer.apply(params, its_state, x, train=True)
        steps.append((layer, params, applied.residuals))
        x = applied.y
        activations += [float(np.sqrt(np.mean(np.square(x))))] if layer.name == "dense" else []
    dy = problem.loss(x, labels)[1]
    for layer, params, residuals in reversed(steps):
        grads, dy = layer.backward(params, residuals, dy)
        gradients += [float(np.sqrt(np.mean(np.square(grads.weight))))] if layer.name == "dense" else []
    return {"activations": activations, "gradients": gradients[::-1]}


def trial(config: Configuration, seed: int) -> dict[str, Any]:
    return norms(make(config, seed), seed) | TrainingTrial(make)(config, seed)


def heat_maps(results: Sequence[Result], folder: Path) -> None:
    for name in dict.fromkeys(each.config.activation for each in results):
        some = [each for each in results if each.config.activation == name]
        title = f"{name}: accuracy on the validation part"
        draw_heat_map(some, folder / f"{name}.png", x="depth", y="init", metric="validation_accuracy", title=title)


def signals(results: Sequence[Result], folder: Path) -> None:
    deepest = max(each.config.depth for each in results)
    for name in dict.fromkeys(each.config.activation for each in results):
        some = [each for each in results if each.config.activation == name]
        with picture(folder / f"{name}_norms.png", 9, 3.6) as figure:
            figure.suptitle(as_title(f"{name}, {deepest} layers, before the first step", figure))
            for place, what in enumerate(("activations", "gradients"), start=1):
                axes = figure.add_subplot(1, 2, place)
                for each in some:
                    if each.config.depth == deepest and each.seed == 0 and each.status == "done":
                        axes.semilogy(np.maximum(each.metrics[what], 1e-30), label=each.config.init)
                axes.set_xlabel("layer")
                axes.set_ylabel(f"root mean square of {what}")
                axes.grid(alpha=0.25)
                axes.legend(frameon=False, fontsize=8)


def main() -> None:
    options = parse_sweep_options(__doc__, name="sweep_init_depth", axes=AXES, quick=QUICK, epochs=10)
    run_sweep(trial, options, question=__doc__, draw=[heat_maps, signals])


if __name__ == "__main__":
    run_script(main)
