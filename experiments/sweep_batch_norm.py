"""What does batch norm buy?

The same deep net with and without batch norm, over learning rates of four orders of magnitude and three depths: how
high may the rate be, and how deep the net, before training fails?

    python experiments/sweep_batch_norm.py
"""

from collections.abc import Sequence
from pathlib import Path

from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import momentum
from funcnn.report.charts import draw_heat_map, draw_lines
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem

AXES = {
    "batch_norm": (False, True),
    "depth": (2, 6, 12),
    "lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
}
QUICK = {"depth": (2,), "lr": (1e-3, 1e-1)}


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    net = fully_connected([32] * config.depth, len(data.classes), batch_norm=config.batch_norm)
    problem = Problem(net, softmax_cross_entropy, momentum(config.lr))
    return Training(problem, data, config.epochs, batch_size=64)


def curves(results: Sequence[Result], folder: Path) -> None:
    for depth in sorted({each.config.depth for each in results}):
        some = [each for each in results if each.config.depth == depth]
        title = f"{depth} hidden layers, accuracy on the validation part"
        draw_lines(
            some, folder / f"depth_{depth:02}.png", x="lr", lines="batch_norm", metric="validation_accuracy",
            title=title, log_x=True,
        )  # fmt: skip


def heat_map(results: Sequence[Result], folder: Path) -> None:
    with_it = [each for each in results if each.config.batch_norm]
    if with_it:
        title = "with batch norm, accuracy on the validation part"
        draw_heat_map(with_it, folder / "heat_map.png", x="lr", y="depth", metric="validation_accuracy", title=title)


def main() -> None:
    options = parse_sweep_options(__doc__, name="sweep_batch_norm", axes=AXES, quick=QUICK, epochs=10, halving=True)
    run_sweep(TrainingTrial(make), options, question=__doc__, draw=[curves, heat_map])


if __name__ == "__main__":
    run_script(main)
