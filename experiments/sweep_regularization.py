"""What helps when there is little data?

Dropout, weight decay and noise on the input, alone and together, for training sets from a hundred images to a
thousand. Every trial takes as many steps, so that small sets are seen more often, not trained less.

    python experiments/sweep_regularization.py
    python experiments/sweep_regularization.py --data fashion_mnist
"""

from collections.abc import Sequence
from pathlib import Path

import attrs

from funcnn import serial
from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.layers import gaussian_noise
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adamw, weights_only
from funcnn.report.charts import draw_heat_map, draw_lines
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem

AXES = {
    "examples": (100, 300, 1000),
    "dropout": (0.0, 0.2, 0.5),
    "weight_decay": (0.0, 0.1, 1.0),
    "input_noise": (0.0, 0.1, 0.3),
}
QUICK = {"examples": (100,), "weight_decay": (0.0,), "input_noise": (0.0,)}


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    some = data.train.thin(config.examples)
    hidden = fully_connected([128, 64], len(data.classes), dropout=config.dropout)
    net = serial(gaussian_noise(config.input_noise), hidden) if config.input_noise else hidden
    optimizer = adamw(1e-3, weight_decay=config.weight_decay, mask=weights_only)
    problem = Problem(net, softmax_cross_entropy, optimizer)
    epochs = config.epochs * max(1, 1000 // config.examples)
    return Training(problem, attrs.evolve(data, train=some), epochs, batch_size=50)


def curves(results: Sequence[Result], folder: Path) -> None:
    for axis in ("dropout", "weight_decay", "input_noise"):
        title = f"accuracy on the validation part by {axis.replace('_', ' ')}, the rest at its best"
        draw_lines(
            results, folder / f"{axis}.png", x="examples", lines=axis, metric="validation_accuracy", title=title,
            log_x=True,
        )  # fmt: skip


def heat_map(results: Sequence[Result], folder: Path) -> None:
    fewest = min(each.config.examples for each in results)
    some = [each for each in results if each.config.examples == fewest]
    draw_heat_map(
        some, folder / "heat_map.png", x="weight_decay", y="dropout", metric="validation_accuracy",
        title=f"{fewest} examples, at the best noise",
    )  # fmt: skip


def main() -> None:
    options = parse_sweep_options(__doc__, name="sweep_regularization", axes=AXES, quick=QUICK, epochs=20)
    run_sweep(TrainingTrial(make), options, question=__doc__, draw=[curves, heat_map])


if __name__ == "__main__":
    run_script(main)
