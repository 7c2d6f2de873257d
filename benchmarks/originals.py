"""Images per second of training, at the batch size and by the rule of the five public programs that funcnn replaces.

    python benchmarks/originals.py
    python benchmarks/originals.py --seconds 10 --json originals.json

Their own figures were measured once, by running their code on a machine like the one that docs/performance.md
names; this machine's are measured here, on the step that `funcnn.train` takes (with its checks for what is not finite).
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import measure
from nets import NETS, data

from funcnn import Key, Layer, serial
from funcnn.layers import dense, identity, sigmoid
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import Optimizer, adam, momentum, sgd
from funcnn.system.memory import keep_freed_memory
from funcnn.train import Problem, init_state, make_step


@attrs.frozen
class Original:
    """A public program: its net, its batch size and rule, and the images per second that it trains (low, high)."""

    net: Layer
    in_shape: tuple[int, ...]
    batch: int
    optimizer: Optimizer
    theirs: tuple[float, float]


def _original(name: str, batch: int, optimizer: Optimizer, low: float, high: float) -> Original:
    return Original(NETS[name].funcnn, NETS[name].in_shape, batch, optimizer, (low, high))


_TWO_LAYERS = serial(dense(100), identity(), dense(10), sigmoid())

ORIGINALS = {
    "jind11/ANN_CNN_fromScratch, model 1": _original("batch_norm_cnn", 200, adam(1e-3), 96, 124),
    "zishansami102/CNN-from-Scratch": _original("small_cnn", 20, momentum(0.01, 0.95), 6, 6),
    "devvrath123/neuralnetworksfromscratch, CNN": _original("dropout_cnn", 64, momentum(0.005), 75, 75),
    "devvrath123/neuralnetworksfromscratch, MLP": _original("mlp", 64, momentum(0.01), 31_000, 31_000),
    "raisaat/Convolutional-Neural-Network-from-scratch-for-MNIST": _original(
        "position_bias_cnn", 1, sgd(1e-4), 0.4, 0.4
    ),
    "arghavan-kpm/dynamic-nn-from-scratch, GD": Original(_TWO_LAYERS, (784,), 10_000, sgd(0.7), (15, 45)),
    "arghavan-kpm/dynamic-nn-from-scratch, SGD": Original(_TWO_LAYERS, (784,), 1, sgd(0.01), (15, 45)),
}


def images_per_second(original: Original, seconds: float) -> measure.Spread:
    """The rate of training steps, in several samples."""
    problem = Problem(original.net, softmax_cross_entropy, original.optimizer)
    step: Callable[..., Any] = make_step(problem)
    state = init_state(problem, Key(0), original.in_shape)
    batches = data(original.in_shape, original.batch)
    rates = []
    for _ in range(9):
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / 9:
            state, _ = step(state, batches[steps % len(batches)])
            steps += 1
        rates.append(steps * original.batch / (time.perf_counter() - start))
    return measure.Spread.of(rates[1:])  # without the first, which starts the threads


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure images per second of training, beside five public programs.")
    parser.add_argument("--seconds", type=float, default=5, help="for each net (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    keep_freed_memory()
    rows, results = [], []
    for name, original in ORIGINALS.items():
        rate = images_per_second(original, options.seconds)
        low, high = original.theirs
        rows.append(
            [name, str(original.batch), rate.show(unit=1, digits=0), f"{low:g}" if low == high else f"{low:g}–{high:g}",
             f"{rate.median / high:.3g}"]
        )  # fmt: skip
        results.append({"program": name, "batch": original.batch, "images_per_second": rate, "theirs": original.theirs})
    measure.print_table(["program", "batch", "funcnn images/s (p10–p90)", "its images/s", "times as many"], rows)
    measure.write_json(options.json, {"environment": measure.environment(), "results": results})


if __name__ == "__main__":
    main()
