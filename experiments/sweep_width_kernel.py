"""What does accuracy cost?

Small convolutional nets of several widths, kernel sizes and depths: accuracy against parameters, multiply-adds and
seconds of training. On the Pareto front are the nets that no other beats in both; the rest is waste.

    python experiments/sweep_width_kernel.py
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.losses import softmax_cross_entropy
from funcnn.models import convnet
from funcnn.optimizers import adam
from funcnn.report.charts import draw_heat_map, draw_pareto
from funcnn.report.table import layer_rows
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem

AXES = {"width": (2, 4, 8, 16, 32), "kernel_size": (1, 3, 5), "convolutions": (1, 2)}
QUICK = {"width": (2, 8), "kernel_size": (3,), "convolutions": (1,)}


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    filters = [config.width * 2**i for i in range(config.convolutions)]
    net = convnet(filters, [], len(data.classes), kernel_size=config.kernel_size)
    problem = Problem(net, softmax_cross_entropy, adam(3e-3))
    return Training(problem, data, config.epochs, batch_size=64)


def trial(config: Configuration, seed: int) -> dict[str, Any]:
    training = make(config, seed)
    rows = layer_rows(training.problem.net, training.dataset.in_shape)
    size = {"parameters": sum(row.parameters for row in rows), "macs": sum(row.macs for row in rows)}
    return TrainingTrial(make)(config, seed) | size


def fronts(results: Sequence[Result], folder: Path) -> None:
    for cost in ("parameters", "macs", "seconds"):
        title = f"accuracy on the validation part, against {cost}"
        draw_pareto(results, folder / f"pareto_{cost}.png", cost=cost, metric="validation_accuracy", title=title)


def heat_map(results: Sequence[Result], folder: Path) -> None:
    draw_heat_map(
        results, folder / "heat_map.png", x="width", y="kernel_size", metric="validation_accuracy",
        title="accuracy on the validation part, with the better number of convolutions",
    )  # fmt: skip


def main() -> None:
    options = parse_sweep_options(__doc__, name="sweep_width_kernel", axes=AXES, quick=QUICK, epochs=15)
    also = ("test_accuracy", "parameters", "macs", "seconds")
    run_sweep(trial, options, question=__doc__, draw=[fronts, heat_map], also=also)


if __name__ == "__main__":
    run_script(main)
