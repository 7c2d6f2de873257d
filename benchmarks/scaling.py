"""How the time of funcnn's training step grows with threads, batch, image size and depth.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --parts threads side --rounds 30 --json scaling.json

1. Threads: the step of dropout_cnn (see nets.py) at batch 64, on one thread and on two.
2. Batch: the same net, milliseconds per image.
3. Side of the images: a net of two convolutions at batch 16, nanoseconds per pixel.
4. Depth: 3x3 convolutions from 16 to 16 channels, each with its relu, on 16x16 images at batch 32, milliseconds per
   layer; what comes after them, and the optimizer, are in it too.

What a table compares is measured turn by turn (see `measure.interleaved`), and its last column but one is a ratio to
the first row, round by round: the speedup by threads, otherwise the cost of one more image, pixel or layer, which
stays near 1 where the time grows no faster than the work.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import attrs
import measure
from nets import CLASSES, NETS, training_steps

from funcnn import Layer, serial
from funcnn.arrays.threads import set_threads, threads
from funcnn.layers import conv2d, dense, global_avg_pool2d, max_pool2d, relu
from funcnn.system.memory import keep_freed_memory

NET = NETS["dropout_cnn"]
CHANNELS = 16


@attrs.frozen
class Part:
    """A table: a step for each size, and what its time is divided by."""

    sizes: tuple[int, ...]
    step: Callable[[int], Callable[[], float]]
    count: Callable[[int], int]
    figure: str
    unit: float = 1e3
    digits: int = 3
    ratio: str = "by the first"


# --- The steps ------------------------------------------------------------------------------------------------


def steps(layer: Layer, in_shape: tuple[int, ...], batch: int) -> Callable[[], float]:
    return training_steps(layer, in_shape, batch).__next__


def on_threads(number: int) -> Callable[[], float]:
    step = steps(NET.funcnn, NET.in_shape, 64)

    def run() -> float:
        if threads() != number:  # setting it ends the threads there are
            set_threads(number)
        return step()

    return run


def of_batch(batch: int) -> Callable[[], float]:
    return steps(NET.funcnn, NET.in_shape, batch)


def of_side(side: int) -> Callable[[], float]:
    first, second = (conv2d(CHANNELS, 3, padding="same") for _ in range(2))
    net = serial(first, relu(), second, relu(), max_pool2d(2), global_avg_pool2d(), dense(CLASSES))
    return steps(net, (side, side, 3), 16)


def of_depth(depth: int) -> Callable[[], float]:
    layers = [layer for _ in range(depth) for layer in (conv2d(CHANNELS, 3, padding="same"), relu())]
    return steps(serial(*layers, global_avg_pool2d(), dense(CLASSES)), (16, 16, CHANNELS), 32)


PARTS = {
    "threads": Part((1, 2), on_threads, lambda _: 64, "ms per image", ratio="speedup"),
    "batch": Part((16, 64, 256, 1024), of_batch, lambda batch: batch, "ms per image"),
    "side": Part((16, 32, 64, 128), of_side, lambda side: 16 * side**2, "ns per pixel", unit=1e9, digits=1),
    "depth": Part((2, 4, 8, 16, 32), of_depth, lambda depth: depth, "ms per layer"),
}


# --- Measuring ------------------------------------------------------------------------------------------------


def measure_part(part: Part, rounds: int) -> list[dict[str, Any]]:
    """A row for each size, with the samples behind it."""
    before, others = threads(), measure.Others()
    try:
        samples = measure.interleaved({str(size): part.step(size) for size in part.sizes}, rounds)
    finally:
        set_threads(before)
    taken = others.cores()
    each = {size: [seconds / part.count(size) for seconds in samples[str(size)]] for size in part.sizes}
    first = each[part.sizes[0]]
    return [
        {
            "size": size,
            "step": measure.Spread.of(samples[str(size)]),
            "figure": measure.Spread.of(each[size]),
            "ratio": measure.ratio(first, each[size]) if part.ratio == "speedup" else measure.ratio(each[size], first),
            "cores_taken_by_others": taken,
            "samples": samples[str(size)],
        }
        for size in part.sizes
    ]


def print_part(name: str, part: Part, results: list[dict[str, Any]]) -> None:
    rows = [
        [
            str(each["size"]),
            each["step"].show(),
            each["figure"].show(unit=part.unit, digits=part.digits),
            each["ratio"].show(unit=1, digits=2),
            measure.show_cores(each["cores_taken_by_others"]),
        ]
        for each in results
    ]
    header = [name, "step ms (p10–p90)", f"{part.figure} (p10–p90)", part.ratio, "cores of others"]
    measure.print_table(header, rows)
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time funcnn's training steps over threads, batch, side and depth.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    measure.add_options(parser, rounds=15, threads=False)
    options = parser.parse_args()
    keep_freed_memory()  # as the scripts in experiments/ do
    results = {}
    for name in options.parts:
        results[name] = measure_part(PARTS[name], options.rounds)
        print(f"measured {name}", file=sys.stderr)
        print_part(name, PARTS[name], results[name])
    measure.write_json(options.json, {"environment": measure.environment() | {"threads": threads()}} | results)


if __name__ == "__main__":
    main()
