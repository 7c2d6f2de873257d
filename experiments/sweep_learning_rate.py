"""Which optimizer forgives the learning rate the most?

A small net is trained with each optimizer at rates over five orders of magnitude. An optimizer forgives if many of
its rates end near its best one.

    python experiments/sweep_learning_rate.py
    python experiments/sweep_learning_rate.py --data fashion_mnist --epochs 5 --axis lr=0.001,0.01,0.1
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import Optimizer, adam, adamw, momentum, rmsprop, sgd
from funcnn.report.charts import draw_heat_map, draw_lines
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem

OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    "sgd": sgd, "momentum": momentum, "rmsprop": rmsprop, "adam": adam, "adamw": adamw,
}  # fmt: skip
AXES = {
    "optimizer": tuple(OPTIMIZERS),
    "lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
}
QUICK = {"lr": (1e-3, 1e-2, 1e-1)}


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    net = fully_connected([64, 32], len(data.classes))
    problem = Problem(net, softmax_cross_entropy, OPTIMIZERS[config.optimizer](config.lr))
    return Training(problem, data, config.epochs, batch_size=64)


TITLE = "accuracy on the validation part: the wider the plateau, the more an optimizer forgives"
HOW = {"x": "lr", "metric": "validation_accuracy", "title": TITLE}


def curves(results: Sequence[Result], folder: Path) -> None:
    draw_lines(results, folder / "curves.png", lines="optimizer", log_x=True, **HOW)


def heat_map(results: Sequence[Result], folder: Path) -> None:
    draw_heat_map(results, folder / "heat_map.png", y="optimizer", **HOW)


def main() -> None:
    options = parse_sweep_options(__doc__, name="sweep_learning_rate", axes=AXES, quick=QUICK, epochs=27, halving=True)
    run_sweep(TrainingTrial(make), options, question=__doc__, draw=[curves, heat_map])


if __name__ == "__main__":
    run_script(main)
