"""Which optimizer to take when one knows nothing?

A small net is trained with every optimizer at rates over four orders of magnitude, all else at its default. Who knows
nothing takes the optimizer whose best rate is good, whose usual rate (its docstring's, or 0.001) is near it, and that
forgives a wrong one.

    python experiments/sweep_optimizers.py
    python experiments/sweep_optimizers.py --data fashion_mnist --epochs 5 --seeds 1
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import (
    Optimizer,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    lamb,
    lion,
    lookahead,
    momentum,
    muon,
    nadam,
    radam,
    rmsprop,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
)
from funcnn.report.charts import draw_heat_map, draw_lines
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem

OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": partial(momentum, nesterov=True),
    "schedule_free_sgd": schedule_free_sgd,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "amsgrad": partial(adam, amsgrad=True),
    "adamw": adamw,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "lookahead": lambda lr: lookahead(adam(lr)),
    "schedule_free_adamw": schedule_free_adamw,
    "lamb": lamb,
    "lion": lion,
    "adafactor": adafactor,
    "muon": muon,
}
AXES = {
    "optimizer": tuple(OPTIMIZERS),
    "lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
}
QUICK = {"optimizer": ("momentum", "adam", "muon"), "lr": (1e-3, 1e-2)}


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    net = fully_connected([64, 32], len(data.classes))
    problem = Problem(net, softmax_cross_entropy, OPTIMIZERS[config.optimizer](config.lr))
    return Training(problem, data, config.epochs, batch_size=64)


HOW = {"x": "lr", "metric": "validation_accuracy"}


def heat_map(results: Sequence[Result], folder: Path) -> None:
    title = "accuracy on the validation part, by optimizer and learning rate"
    draw_heat_map(results, folder / "heat_map.png", y="optimizer", title=title, **HOW)


def curves(results: Sequence[Result], folder: Path) -> None:
    title = "accuracy on the validation part: the wider the plateau, the more an optimizer forgives"
    draw_lines(results, folder / "curves.png", lines="optimizer", log_x=True, title=title, **HOW)


def main() -> None:
    options = parse_sweep_options(__doc__, name="sweep_optimizers", axes=AXES, quick=QUICK, epochs=27, halving=True)
    run_sweep(TrainingTrial(make), options, question=__doc__, draw=[heat_map, curves])


if __name__ == "__main__":
    run_script(main)
