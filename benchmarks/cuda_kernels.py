"""Which of the guesses in funcnn/arrays/cuda hold on a GPU: each kernel beside the plain form, and each of its tiles.

    python benchmarks/cuda_kernels.py            needs CuPy and a GPU; two minutes, most of them the first compilation
    python benchmarks/cuda_kernels.py conv       one part: conv, norms, pools, steps

Times are the GPU's own, medians of 20, after 3 that do not count. Convolutions are given in TFLOP/s, what only passes
over memory in TB/s. The constants to set by it stand at the top of the modules, under "What is guessed".
"""

import argparse
import itertools
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from funcnn.arrays.cuda import conv_few, convolution, elementwise, losses, norms, optimizers, pooling, row_norms
from funcnn.arrays.cuda.convolution import Tile
from funcnn.arrays.geometry import geometry
from funcnn.arrays.plain import convolution as plain
from funcnn.arrays.plain import pooling as plain_pooling

TIMES = 20

# n, height and width, channels, filters, kernel, stride: what the nets of the experiments have
PROBLEMS = [
    (64, 28, 1, 32, 5, 1), (128, 32, 3, 64, 3, 1), (64, 26, 32, 64, 3, 1), (128, 32, 64, 64, 3, 1),
    (128, 16, 64, 128, 3, 1), (128, 16, 128, 128, 3, 1), (128, 8, 256, 256, 3, 1), (128, 32, 64, 128, 3, 2),
]  # fmt: skip
TILES = [
    Tile(128, 128, 8, 8), Tile(128, 64, 8, 8), Tile(64, 64, 8, 4), Tile(64, 64, 4, 4), Tile(128, 32, 8, 4),
    Tile(64, 32, 4, 4), Tile(128, 16, 4, 4),
]  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"conv": convolutions, "norms": normalizations, "pools": pools, "steps": steps}
    parser.add_argument("part", nargs="?", choices=parts)
    chosen = parser.parse_args().part
    import cupy

    for name, part in parts.items():
        if chosen in (None, name):
            part(cupy)


def milliseconds(cupy: Any, function: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """The median time of a call on the GPU."""
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    found = []
    for _ in range(TIMES + 3):
        begin.record()
        function(*arguments, **options)
        end.record()
        end.synchronize()
        found.append(cupy.cuda.get_elapsed_time(begin, end))
    return median(found[3:])


def normal(cupy: Any, shape: tuple[int, ...]) -> Any:
    """Numbers of a normal distribution, float32."""
    return cupy.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


# --- Convolutions ---------------------------------------------------------------------------------------------


def convolutions(cupy: Any) -> None:
    """Every function as it chooses by itself, in the plain form, and with every tile."""
    print("\nconvolution: ms (TFLOP/s)\n")
    for n, size, channels, filters, taps, stride in PROBLEMS:
        geo = geometry((size, size), (taps, taps), (stride, stride), (1, 1), "same")
        x = normal(cupy, (n, size, size, channels))
        weight, dy = normal(cupy, (taps, taps, channels, filters)), normal(cupy, (n, *geo.out_size, filters))
        work = 2 * dy.size * taps * taps * channels / 1e9  # in GFLOP, which per ms are TFLOP/s
        print(f"{n} x {size} x {size} x {channels} -> {filters}, {taps} x {taps}, stride {stride}: {work:.2f} GFLOP")
        for name, arrays in (
            ("conv_forward", (x, weight)), ("conv_weight_gradient", (x, dy)), ("conv_input_gradient", (dy, weight)),
        ):  # fmt: skip
            ours = milliseconds(cupy, getattr(convolution, name), *arrays, geo, 1)
            with mock.patch.object(convolution, "fits", return_value=False):
                theirs = milliseconds(cupy, getattr(plain, name), *arrays, geo, 1)
            print(f"  {name:22} {ours:.3f} ({work / ours:.1f})  plain {theirs:.3f} ({work / theirs:.1f})")
            for tile, depth, ms in by_tile(cupy, name, arrays, geo):
                sizes = f"{tile.m:4} x {tile.n:<4} {tile.tm} x {tile.tn}  BK {depth:<2}"
                print(f"    {sizes} {ms:.3f} ({work / ms:.1f})")


def by_tile(cupy: Any, name: str, arrays: tuple[Any, ...], geo: Any) -> list[tuple[Tile, int, float]]:
    """A function's times with each tile that is not far wider than its matrix, slabs of 8 and of 16."""
    columns = arrays[1].shape[2 if name == "conv_input_gradient" else 3]
    of_weights = name == "conv_weight_gradient"
    found = []
    for tile, depth in itertools.product(TILES, (8, 16)):
        if tile.n >= 2 * max(16, columns) or (of_weights and tile.threads < tile.m):
            continue  # of the second kind, threads could not share the loading evenly
        chosen = {convolution.LARGEST: (tile, tile)}
        with (
            mock.patch.object(convolution, "WEIGHT_GRADIENT" if of_weights else "FORWARD", chosen),
            mock.patch.object(convolution, "BK", depth),
            mock.patch.object(conv_few, "FEW_CHANNELS", 0),
        ):
            forget()
            found.append((tile, depth, milliseconds(cupy, getattr(convolution, name), *arrays, geo, 1)))
    forget()
    return found


def forget() -> None:
    """Let launches be planned anew."""
    convolution._forward_launch.cache_clear()
    convolution._weight_gradient_launch.cache_clear()


# --- What passes over memory ----------------------------------------------------------------------------------


def row(cupy: Any, label: str, nbytes: int, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """One line of a table."""
    ms = milliseconds(cupy, function, *arguments, **options)
    print(f"  {label:32} {ms:.3f} ({nbytes / ms / 1e9:.2f})")


def normalizations(cupy: Any) -> None:
    """Batch norm, layer norm and activations."""
    print("\nnorms: ms (TB/s)\n")
    for shape in ((128, 32, 32, 64), (256, 512), (64, 26, 26, 8)):
        x, dy = normal(cupy, shape), normal(cupy, shape)
        one, zero, size = cupy.ones(shape[-1], np.float32), cupy.zeros(shape[-1], np.float32), x.nbytes
        running = {"momentum": 0.9, "epsilon": 1e-5}
        mean, inverse, *_ = norms.statistics(x, zero, one, **running)
        _, means, inverses = row_norms.normalize_rows(x, one, zero, 1e-5, centre=True)
        back = {"centre": True, "need_dx": True}
        print(f"{shape}")
        row(cupy, "batch norm's statistics", size, norms.statistics, x, zero, one, **running)
        row(cupy, "scale and shift", 2 * size, norms.normalize, x, mean, inverse, one, zero)
        row(cupy, "back", 5 * size, norms.normalize_back, dy, x, mean, inverse, one)
        row(cupy, "layer norm", 2 * size, row_norms.normalize_rows, x, one, zero, 1e-5, centre=True)
        row(cupy, "back", 5 * size, row_norms.normalize_rows_back, dy, x, means, inverses, one, **back)
        row(cupy, "silu and its slope", 3 * size, elementwise.activate, "silu", x, keep_slope=True)
        row(cupy, "CuPy's sum, for comparison", 2 * size, cupy.add, x, dy)


def pools(cupy: Any) -> None:
    """Pools of two by two, of three by three that overlap, and of the whole image."""
    print("\npools: ms (TB/s)\n")
    for shape, window, stride in (((128, 32, 32, 64), 2, 2), ((128, 32, 32, 64), 3, 2), ((128, 8, 8, 256), 8, 8)):
        x = normal(cupy, shape)
        geo = geometry(shape[1:3], (window, window), (stride, stride), (1, 1), "valid")
        y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
        both = x.nbytes + y.nbytes
        print(f"{shape}, {window} x {window} by {stride}")
        row(cupy, "max", both, pooling.max_pool_forward, x, geo, keep_winners=True)
        row(cupy, "back", both, pooling.max_pool_backward, y, winners, geo)
        row(cupy, "mean", both, pooling.avg_pool_forward, x, geo)
        row(cupy, "back", both, pooling.avg_pool_backward, y, geo)
        with mock.patch.object(pooling, "fits", return_value=False):
            row(cupy, "plain max", both, plain_pooling.max_pool_forward, x, geo, keep_winners=True)


def steps(cupy: Any) -> None:
    """What a step of training has besides: the loss, and the optimizer."""
    print("\nsteps: ms (TB/s)\n")
    for rows, classes in ((64, 10), (256, 10), (8192, 4096)):
        logits, labels = normal(cupy, (rows, classes)), cupy.zeros(rows, np.int64)
        row(cupy, f"cross-entropy {rows} x {classes}", 2 * logits.nbytes, losses.cross_entropy, logits, labels)
    settings = {"rate": 1e-3, "b1": 0.9, "b2": 0.999, "epsilon": 1e-8, "step": 9}
    nets: dict[str, list[tuple[int, ...]]] = {
        "MLP": [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)], "large": [(4096, 4096)] * 4,
        "100 small": [(64,), (3, 3, 8, 8)] * 50,
    }  # fmt: skip
    for label, shapes in nets.items():
        leaves = [(normal(cupy, shape),) * 4 for shape in shapes]
        row(cupy, f"Adam, {label}", 7 * sum([each[0].nbytes for each in leaves]), optimizers.adam, leaves, **settings)


if __name__ == "__main__":
    main()
