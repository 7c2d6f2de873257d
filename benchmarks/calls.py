"""How much Python a training step is: calls of the library's functions, moves from file to file, depth.

    python benchmarks/calls.py

Nets of seven layers, on one thread, so that every call is seen. A batch that `serial` cuts in chunks takes the calls of
its layers once for each chunk. The depth is that of the first copy of a convolution's windows, counted from the step.
"""

import argparse
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import measure
import numpy as np

import funcnn
from funcnn import Key, Layer, serial
from funcnn.arrays.threads import set_threads
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam
from funcnn.train import Problem, init_state, make_step

NETS = {
    "batch norm": serial(
        conv2d(16, 3, padding="same"), batch_norm(), relu(), max_pool2d(2), conv2d(32, 3, padding="same"), flatten(),
        dense(10),
    ),
    "dropout": serial(
        conv2d(32, 3, padding="same"), batch_norm(), relu(), max_pool2d(2), dropout(0.25), flatten(), dense(10)
    ),
    "two dense layers": serial(conv2d(8, 3), relu(), max_pool2d(2), flatten(), dense(64), relu(), dense(10)),
}  # fmt: skip
SIZES = ((16, 28), (128, 28))  # examples, and the side of their images: whole, and in chunks


def count(net: Layer, batch: int, side: int) -> tuple[int, int, int]:
    """The calls, the moves and the depth of the third step."""
    package = str(Path(funcnn.__file__).parent)
    problem = Problem(net, softmax_cross_entropy, adam(1e-3))
    state = init_state(problem, Key(0), (side, side, 1))
    examples = np.ones((batch, side, side, 1), np.float32), np.zeros(batch, int)
    step = make_step(problem)
    for _ in range(2):
        step(state, examples)
    calls, moves, depths = 0, 0, []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls, moves
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(package):
            return
        calls += 1
        moves += frame.f_back is not None and frame.f_back.f_code.co_filename != file
        if frame.f_code.co_name == "band":
            depth, at = 0, frame
            while at is not None:
                depth, at = depth + at.f_code.co_filename.startswith(package), at.f_back
            depths.append(depth)

    sys.setprofile(profile)
    try:
        step(state, examples)
    finally:
        sys.setprofile(None)
    return calls, moves, depths[0]


def main() -> None:
    argparse.ArgumentParser(description="Count the calls of a training step.").parse_args()
    set_threads(1)
    rows = [
        [name, str(batch), *map(str, count(net, batch, side))] for name, net in NETS.items() for batch, side in SIZES
    ]
    measure.print_table(["net", "batch", "calls", "moves", "depth"], rows)


if __name__ == "__main__":
    main()
