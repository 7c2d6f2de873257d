"""Recurrent layers, and convolution and pooling along time, funcnn against PyTorch: a step of training each.

    python benchmarks/sequences.py
    python benchmarks/sequences.py --layers lstm gru --threads 1

A sample is forward and backward, with the gradient of the input. Sequences are (n, time, channels) in C order, but for
PyTorch's convolutions and pools, which take (n, channels, time). A layer stands alone in a `serial`, which is what
spreads work over threads. How samples are taken, and what the columns are, is said in measure.py and layers.py.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import measure
import numpy as np
from nets import import_torch

from funcnn import Key, Layer, serial
from funcnn.layers import avg_pool1d, conv1d, conv_transpose1d, gru, lstm, max_pool1d, rnn
from funcnn.system.memory import keep_freed_memory


class Case(NamedTuple):
    """A layer in both libraries, and the shape of a batch."""

    name: str
    shape: tuple[int, int, int]
    layer: Layer
    torch: Callable[[Any], Any]  # builds the module, given the imported package
    turned: bool = False  # PyTorch's sequences are (n, channels, time)


def _recurrent(make: Callable[[int], Layer], kind: str, n: int, time: int, features: int, units: int) -> Case:
    def module(torch: Any) -> Any:
        return getattr(torch.nn, kind)(features, units, batch_first=True)

    name = f"{make.__name__} {features}→{units}, {n} x {time} steps"
    return Case(name, (n, time, features), make(units), module)


def _conv(n: int, time: int, channels: int, filters: int, kernel: int, **options: int) -> Case:
    marks = "".join(f", {name} {value}" for name, value in options.items())
    return Case(
        f"conv1d of {kernel} {channels}→{filters}, {n} x {time} steps{marks}",
        (n, time, channels),
        conv1d(filters, kernel, **options),  # type: ignore[arg-type]
        lambda torch: torch.nn.Conv1d(channels, filters, kernel, **options),
        turned=True,
    )


SHAPES = ((64, 64, 65, 128), (32, 128, 128, 256), (12, 64, 128, 128))
CASES = (
    *[_recurrent(lstm, "LSTM", *shape) for shape in SHAPES],
    *[_recurrent(gru, "GRU", *shape) for shape in SHAPES],
    *[_recurrent(rnn, "RNN", *shape) for shape in SHAPES],
    _conv(64, 128, 64, 64, 3, padding=1),
    _conv(32, 1024, 32, 64, 5, padding=2),
    _conv(64, 64, 128, 128, 3),
    _conv(16, 8000, 1, 32, 80, stride=4),
    _conv(64, 100, 64, 128, 3, stride=2),
    _conv(32, 256, 64, 64, 3, dilation=4, padding=4),
    _conv(32, 256, 64, 64, 3, groups=4, padding=1),
    _conv(32, 256, 64, 64, 7, groups=64, padding=3),
    Case(
        "conv_transpose1d of 4 64→32, 64 x 64 steps, stride 2", (64, 64, 64),
        conv_transpose1d(32, 4, stride=2, padding=1),
        lambda torch: torch.nn.ConvTranspose1d(64, 32, 4, 2, 1), turned=True,
    ),
    Case("max_pool1d of 2 64, 64 x 256 steps", (64, 256, 64), max_pool1d(2), lambda torch: torch.nn.MaxPool1d(2), True),
    Case(
        "max_pool1d of 3 64, 64 x 256 steps, stride 2", (64, 256, 64), max_pool1d(3, stride=2, padding=1),
        lambda torch: torch.nn.MaxPool1d(3, 2, 1), turned=True,
    ),
    Case("avg_pool1d of 2 64, 64 x 256 steps", (64, 256, 64), avg_pool1d(2), lambda torch: torch.nn.AvgPool1d(2), True),
)  # fmt: skip


def gaussian(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def funcnn_step(case: Case) -> Callable[[], Any]:
    """Forward and backward by funcnn, the layer alone in a net."""
    net, (n, *in_shape) = serial(case.layer), case.shape
    params, state, out_shape = net.init(Key(0), tuple(in_shape))
    x, dy = gaussian(case.shape), gaussian((n, *out_shape))

    def step() -> Any:
        return net.backward(params, net.apply(params, state, x, train=True).residuals, dy)

    return step


def torch_step(case: Case) -> Callable[[], Any]:
    """Forward and backward by PyTorch."""
    torch, (n, *in_shape) = import_torch(), case.shape
    module = case.torch(torch).train()
    x, dy = gaussian(case.shape), gaussian((n, *case.layer.config.out_shape(tuple(in_shape))))
    if case.turned:
        x, dy = (np.ascontiguousarray(each.transpose(0, 2, 1)) for each in (x, dy))
    x, dy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    wanted = [*module.parameters(), x]

    def step() -> Any:
        y = module(x)
        return torch.autograd.grad(y[0] if isinstance(y, tuple) else y, wanted, dy)

    return step


def measure_case(case: Case, rounds: int) -> dict[str, Any]:
    """The case's row, with the samples behind it."""
    others = measure.Others()
    contestants = {"funcnn": funcnn_step(case), "torch": torch_step(case), "gemm": measure.gemm()}
    operations = 3 * 2 * case.shape[0] * case.layer.config.macs(case.shape[1:])
    result = measure.compare(measure.interleaved(contestants, rounds), operations)
    print(f"measured {case.name}", file=sys.stderr)
    return result | {"layer": case.name, "cores_taken_by_others": others.cores()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time layers of sequences of funcnn and PyTorch, interleaved.")
    parser.add_argument("--layers", nargs="+", metavar="TEXT", help="only layers whose name has one of these in it")
    measure.add_options(parser, rounds=15)
    options = parser.parse_args()
    cases = [case for case in CASES if any(text in case.name for text in options.layers or [""])]
    if not cases:
        parser.error(f"--layers: none of these: {'; '.join(case.name for case in CASES)}")
    keep_freed_memory()
    torch = import_torch()
    with measure.using_threads(options.threads, torch):
        results = [measure_case(case, options.rounds) for case in cases]
    measure.print_table(
        ["layer", *measure.COMPARISON], [[each["layer"], *measure.comparison(each)] for each in results]
    )
    environment = measure.environment("torch") | {"threads": options.threads}
    measure.write_json(options.json, {"environment": environment, "results": results})


if __name__ == "__main__":
    main()
