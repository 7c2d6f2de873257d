"""Which schedule of the learning rate is worth its trouble?

The same net, optimizer and number of steps, with the rate constant, warmed up or not, and falling in different ways,
each at several peaks. A schedule is worth it if it is better at its best peak, or forgives a peak that is too high.

    python experiments/sweep_schedule.py
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from funcnn.experiment import parse_sweep_options, run_script, run_sweep, sweep_data
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.report.charts import draw_heat_map, draw_lines
from funcnn.schedules import constant, exponential_decay, inverse_time_decay, piecewise_constant, warmup_cosine
from funcnn.sweep import Configuration, Result, Training, TrainingTrial
from funcnn.train import Problem

Rate = Callable[[int], float]
SCHEDULES: dict[str, Callable[[float, int], Rate]] = {  # of the peak and the number of steps
    "constant": lambda peak, steps: constant(peak),
    "cosine": lambda peak, steps: warmup_cosine(peak, 0, steps),
    "warm-up + cosine": lambda peak, steps: warmup_cosine(peak, steps // 10, steps),
    "warm-up + quarter cosine": lambda peak, steps: warmup_cosine(peak, steps // 10, steps, quarter=True),
    "exponential to 1 %": lambda peak, steps: exponential_decay(peak, 0.01, every=steps),
    "1 / time": lambda peak, steps: inverse_time_decay(peak, 10.0, every=steps),
    "two drops": lambda peak, steps: piecewise_constant([steps // 2, steps * 3 // 4], [peak, peak / 10, peak / 100]),
}
AXES = {"schedule": tuple(SCHEDULES), "peak": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)}
QUICK = {"schedule": ("constant", "cosine"), "peak": (1e-3, 1e-2)}
BATCH_SIZE = 64


def make(config: Configuration, seed: int) -> Training:
    data = sweep_data(config)
    steps = config.epochs * -(-len(data.train) // BATCH_SIZE)
    rate = SCHEDULES[config.schedule](config.peak, steps)
    net = fully_connected([64, 32], len(data.classes), dropout=0.2)
    problem = Problem(net, softmax_cross_entropy, adam(rate))
    return Training(problem, data, config.epochs, BATCH_SIZE)


HOW = {"x": "peak", "metric": "validation_accuracy", "title": "accuracy on the validation part"}


def curves(results: Sequence[Result], folder: Path) -> None:
    draw_lines(results, folder / "curves.png", lines="schedule", log_x=True, **HOW)


def heat_map(results: Sequence[Result], folder: Path) -> None:
    draw_heat_map(results, folder / "heat_map.png", y="schedule", **HOW)


def main() -> None:
    options = parse_sweep_options(
        __doc__, name="sweep_schedule", axes=AXES, quick=QUICK, epochs=20, seeds=5, halving=True
    )
    run_sweep(TrainingTrial(make), options, question=__doc__, draw=[curves, heat_map])


if __name__ == "__main__":
    run_script(main)
