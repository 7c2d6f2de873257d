"""Memory against time: a deep transformer as it is, and with every block in `remat`, next to what the layer table said.

    python benchmarks/remat.py
    python benchmarks/remat.py --layers 16 --features 192 --time 128 --batch 8

The peak is of NumPy's arrays in a step of training, forward and back, beyond those that are there before it: what the
table says of an example, times the batch, and the gradients of the parameters.
"""

import argparse
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import measure
import numpy as np

from funcnn import Key, Layer, tree
from funcnn.compose import remat, repeat
from funcnn.nn.transformer import transformer_block
from funcnn.report.table import layer_rows, peak_bytes

MB = 2**20
HEADER = ["blocks", "MB by the table", "MB at the peak", "ms of the processor", "of the time"]


def measured(net: Layer, in_shape: tuple[int, int], batch: int, steps: int) -> tuple[float, float, float]:
    """What the table says that a step needs, and what it takes, in MB; and the processor's seconds for a step."""
    params, state, _ = net.init(Key(0), in_shape)
    said = (peak_bytes(layer_rows(net, in_shape)) * batch + tree.nbytes(params)) / MB
    x = np.random.default_rng(0).standard_normal((batch, *in_shape), np.float32)

    def step() -> Any:
        applied = net.apply(params, state, x, key=Key(0), train=True)
        return net.backward(params, applied.residuals, applied.y, need_dx=False)

    step()  # the threads' scratch memory stays
    times = []
    for _ in range(steps):
        begin = time.process_time()
        step()
        times.append(time.process_time() - begin)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    step()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return said, peak / MB, sorted(times)[len(times) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what remat saves and costs.")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--features", type=int, default=192)
    parser.add_argument("--time", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="that are timed (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    block = transformer_block(options.features, options.features // 32, causal=True)
    rows, plain = [], 0.0
    for name, layer in (("as it is", block), ("remat", remat(block))):
        net = repeat(layer, options.layers)
        said, peak, seconds = measured(net, (options.time, options.features), options.batch, options.steps)
        plain = plain or seconds
        rows.append([name, f"{said:.0f}", f"{peak:.0f}", f"{1000 * seconds:.0f}", f"{seconds / plain:.2f}"])
    measure.print_table(HEADER, rows)
    results = [dict(zip(HEADER, row, strict=True)) for row in rows]
    measure.write_json(options.json, {"environment": measure.environment(), "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
