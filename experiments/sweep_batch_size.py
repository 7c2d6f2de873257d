"""Where does linear scaling end?

With batches twice as large there are half as many steps in an epoch, and the best learning rate of plain SGD should be
twice as high to make up for it. It is, as far as the gradient's noise and not the loss's curvature sets the limit.

    python experiments/sweep_batch_size.py
"""

from collections.abc import Sequence
from pathlib import Path

from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import sgd
from funcnn.report.charts import draw_heat_map, draw_lines
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem

AXES = {
    "batch_size": (4, 8, 16, 32, 64, 128, 256, 512),
    "lr": (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56),
}
QUICK = {"batch_size": (32, 256), "lr": (0.04, 0.32)}


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    problem = Problem(fully_connected([64], len(data.classes)), softmax_cross_entropy, sgd(config.lr))
    return Training(problem, data, config.epochs, config.batch_size)


def heat_map(results: Sequence[Result], folder: Path) -> None:
    title = "accuracy on the validation part: linear scaling is a diagonal"
    draw_heat_map(results, folder / "heat_map.png", x="lr", y="batch_size", metric="validation_accuracy", title=title)


def curves(results: Sequence[Result], folder: Path) -> None:
    title = "the training loss after the last epoch: each batch size has its best rate"
    draw_lines(
        results, folder / "curves.png", x="lr", lines="batch_size", metric="train_loss", title=title,
        log_x=True, log_y=True, lowest=True,
    )  # fmt: skip


def main() -> None:
    options = parse_sweep_options(__doc__, name="sweep_batch_size", axes=AXES, quick=QUICK, epochs=10, halving=True)
    run_sweep(TrainingTrial(make), options, question=__doc__, draw=[heat_map, curves])


if __name__ == "__main__":
    run_script(main)
