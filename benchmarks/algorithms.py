"""Convolution's algorithms against each other: what `algorithm="auto"` chooses by, and what the plain form takes.

    python benchmarks/algorithms.py
    python benchmarks/algorithms.py --rounds 31 --json algorithms.json

On one thread, on as many images as `serial` puts into a chunk, as in the middle of a net. The error is Winograd's, the
largest difference from the strided result by the largest value.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np

from funcnn import conv_strided
from funcnn.arrays import conv_rows, conv_winograd
from funcnn.arrays.geometry import geometry
from funcnn.arrays.layout import images
from funcnn.arrays.threads import set_threads, single_blas_thread
from funcnn.system.memory import keep_freed_memory

FUNCTIONS = "conv_forward", "conv_weight_gradient", "conv_input_gradient"
CASES = [  # images, side, channels, filters, padding
    (16, 26, 32, 64, "valid"), (16, 12, 64, 128, "valid"), (32, 16, 32, 64, "same"), (32, 7, 32, 64, "same"),
    (16, 14, 128, 128, "same"), (32, 14, 16, 32, "same"), (32, 14, 16, 16, "same"), (32, 32, 3, 32, "same"),
    (16, 28, 1, 16, "same"),
]  # fmt: skip


def arguments(n: int, side: int, channels: int, filters: int, padding: Any) -> tuple[Any, list[tuple[Any, ...]]]:
    """The geometry, and the arrays that each of `FUNCTIONS` takes; images by rows in memory."""
    geo = geometry((side, side), (3, 3), (1, 1), (1, 1), padding)
    rng, (oh, ow) = np.random.default_rng(0), geo.out_size
    x = images(rng.standard_normal((side, channels, side, n), np.float32))
    dy = images(rng.standard_normal((oh, filters, ow, n), np.float32))
    weight = rng.standard_normal((3, 3, channels, filters), np.float32)
    return geo, [(x, weight), (x, dy), (dy, weight)]


def milliseconds(calls: list[Any], rounds: int) -> list[float]:
    """The median time of each call, in turn."""
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, seconds in zip(calls, samples, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return [1e3 * statistics.median(seconds[1:]) for seconds in samples]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the plain, the strided and the Winograd convolution.")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    keep_freed_memory()
    set_threads(1)
    rows, results = [], []
    with single_blas_thread():
        for case in CASES:
            geo, taken = arguments(*case)
            for name, arrays in zip(FUNCTIONS, taken, strict=True):
                both = [getattr(module, name) for module in (conv_rows, conv_winograd)]
                strided, winograd = (function(*arrays, geo) for function in both)
                error = float(np.abs(winograd - strided).max() / np.abs(strided).max())
                times = milliseconds([partial(function, *arrays, geo) for function in both], options.rounds)
                plain = milliseconds([partial(getattr(conv_strided, name), *arrays, geo)], min(3, options.rounds))
                n, side, channels, filters, padding = case
                shape = f"{n} × {side}×{side}×{channels} → {filters} {padding}"
                numbers = [f"{each:.2f}" for each in (*plain, *times, times[0] / times[1])]
                rows.append([shape, name.removeprefix("conv_").replace("_", " "), *numbers, f"{error:.0e}"])
                results.append({"case": case, "function": name, "plain_ms": plain[0], "strided_ms": times[0],
                                "winograd_ms": times[1], "error": error})  # fmt: skip
    measure.print_table(["images", "", "plain ms", "strided ms", "Winograd ms", "times as fast", "error"], rows)
    measure.write_json(options.json, {"environment": measure.environment(), "results": results})


if __name__ == "__main__":
    main()
