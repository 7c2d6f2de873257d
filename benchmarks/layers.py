"""Each kind of layer by itself, funcnn against PyTorch: forward and backward in training, at batch 64.

    python benchmarks/layers.py
    python benchmarks/layers.py --layers conv2d dense --rounds 30 --json layers.json
    python benchmarks/layers.py --inside

Most shapes are those of the nets in nets.py. A layer stands alone in a `serial`, which is what spreads work over
threads. Images, and gradients of images, lie in memory as funcnn's convolutions leave them, PyTorch's in its default
and in its channels-last layout, the faster of which is its figure in each direction. Layers marked "first" are a
net's first: their images lie as data sets have them, and their input needs no gradient.

Alone, a layer pays for cutting the batch into chunks and joining them again, which between the layers of a net costs
nothing. With ``--inside``, it is given the chunks, each an array of its own, as the layers before and after would.

Both run in this process on as many threads, turn by turn (see `measure.interleaved`). For layers with products, the
limit is the time that these alone would take at the rate of a square matrix product measured in the same rounds. The
last column says how many cores other programs took meanwhile, as in training_step.py.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import measure
import numpy as np
from nets import BOTTOM_RIGHT, as_torch, import_torch, layout, torch_position_bias

from funcnn import Key, Layer, fold_in, serial
from funcnn.arrays.layout import images, rows
from funcnn.arrays.threads import run
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    flatten,
    gelu,
    leaky_relu,
    max_pool2d,
    position_bias,
    relu,
)
from funcnn.nn.chunks import add_up, cut
from funcnn.nn.coupled import Coupled, resume
from funcnn.nn.stages import chunk_sizes
from funcnn.system.memory import keep_freed_memory

BATCH = 64
DIRECTIONS = ("forward", "backward")


@attrs.frozen
class Case:
    """A layer in both libraries: `torch` builds the module, given the imported package."""

    name: str
    in_shape: tuple[int, ...]
    funcnn: Layer
    torch: Callable[[Any], Any]
    first: bool = False

    def operations(self, direction: str) -> int:
        """Of the products: backward takes one for the weights and, unless it is the first layer, one for the input."""
        products = 2 if direction == "backward" and not self.first else 1
        return 2 * products * BATCH * self.funcnn.config.macs(self.in_shape)


def _conv(
    size: int,
    channels: int,
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    same: bool = False,
    first: bool = False,
) -> Case:
    padding = kernel // 2 if same else 0
    marks = (" same" if same else "") + (f" stride {stride}" if stride > 1 else "")
    if groups > 1:
        marks += " depthwise" if groups == channels else f" groups {groups}"
    return Case(
        f"conv2d {kernel}x{kernel} {channels}→{filters} @{size}{marks}" + (", first" if first else ""),
        (size, size, channels),
        conv2d(filters, kernel, stride=stride, padding=padding, groups=groups),
        lambda torch: torch.nn.Conv2d(channels, filters, kernel, stride, padding, groups=groups),
        first,
    )


def _dense(inputs: int, units: int, *, first: bool = False) -> Case:
    name = f"dense {inputs}→{units}" + (", first" if first else "")
    return Case(name, (inputs,), dense(units), lambda torch: torch.nn.Linear(inputs, units), first)


def _image(size: int, channels: int, layer: Layer, torch: Callable[[Any], Any], kind: str) -> Case:
    return Case(f"{layer.name}{kind} {channels} @{size}", (size, size, channels), layer, torch)


CASES = (
    _conv(28, 1, 32, 3, first=True),
    _conv(26, 32, 64, 3),
    _conv(12, 64, 128, 3),
    _conv(14, 16, 32, 3, same=True),
    _conv(32, 3, 32, 3, same=True, first=True),
    _conv(24, 8, 8, 5),
    _conv(14, 64, 64, 1),
    _conv(28, 32, 64, 3, stride=2),
    _conv(64, 3, 32, 7, stride=2, same=True, first=True),
    _conv(28, 32, 32, 3, groups=32, same=True),
    _conv(28, 64, 64, 3, groups=4, same=True),
    _dense(784, 128, first=True),
    _dense(3200, 512),
    _image(26, 32, relu(), lambda torch: torch.nn.ReLU(), ""),
    _image(26, 32, leaky_relu(), lambda torch: torch.nn.LeakyReLU(), ""),
    _image(26, 32, gelu(), lambda torch: torch.nn.GELU(approximate="tanh"), ""),
    _image(24, 64, max_pool2d(2), lambda torch: torch.nn.MaxPool2d(2), " 2x2"),
    _image(
        28, 16, max_pool2d(3, stride=2, padding=BOTTOM_RIGHT),
        lambda torch: torch.nn.MaxPool2d(3, 2, ceil_mode=True), " 3x3 stride 2",
    ),
    _image(24, 64, avg_pool2d(2), lambda torch: torch.nn.AvgPool2d(2), " 2x2"),
    _image(32, 32, batch_norm(), lambda torch: torch.nn.BatchNorm2d(32), ""),
    _image(12, 64, dropout(0.25), lambda torch: torch.nn.Dropout(0.25), " 0.25"),
    _image(28, 16, position_bias(), lambda torch: torch_position_bias(torch, 16, 28), ""),
    _image(5, 128, flatten(), lambda torch: torch.nn.Flatten(), ""),
)  # fmt: skip


# --- The calls ------------------------------------------------------------------------------------------------


Calls = dict[str, Callable[[], Any]]


def gaussian(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).standard_normal((BATCH, *shape), np.float32)


def by_rows(x: Any) -> Any:
    """Images as funcnn's convolutions leave them in memory; anything else as it is."""
    return images(np.ascontiguousarray(rows(x))) if x.ndim == 4 else x


def funcnn_calls(case: Case) -> Calls:
    """Forward and backward by funcnn, the layer alone in a net."""
    net = serial(case.funcnn)
    params, state, out_shape = net.init(Key(0), case.in_shape)
    x, dy = gaussian(case.in_shape), by_rows(gaussian(out_shape))
    forward = partial(net.apply, params, state, x if case.first else by_rows(x), key=Key(1), train=True)
    residuals = forward().residuals
    return {"forward": forward, "backward": partial(net.backward, params, residuals, dy, need_dx=not case.first)}


def inside_calls(case: Case) -> Calls:
    """Forward and backward by funcnn, as `serial` takes the layer among others: the batch is in chunks already."""
    layer = case.funcnn
    params, state, out_shape = layer.init(Key(0), case.in_shape)
    x, dy = gaussian(case.in_shape), gaussian(out_shape)
    sizes = chunk_sizes(BATCH, max(x.size, dy.size) // BATCH)
    xs = [chunk if case.first else by_rows(chunk) for chunk in cut(x, sizes)]
    dys = [by_rows(chunk) for chunk in cut(dy, sizes)]
    if isinstance(layer.config, Coupled):
        return coupled_calls(layer.config, params, state, xs, dys)
    forward = [partial(layer.apply, params, state, x, key=fold_in(Key(1), i), train=True) for i, x in enumerate(xs)]
    residuals = [task().residuals for task in forward]

    def backward(chunk: int) -> tuple[dict[int, Any], Any]:
        gradients, dx = layer.backward(params, residuals[chunk], dys[chunk], need_dx=not case.first)
        return {0: gradients}, dx

    return {
        "forward": partial(run, forward),
        "backward": partial(add_up, [partial(backward, chunk) for chunk in range(len(xs))]),
    }


def coupled_calls(layer: Coupled, params: Any, state: Any, xs: list[Any], dys: list[Any]) -> Calls:
    """As `inside_calls`, for a layer whose chunks meet."""

    def forward() -> list[Any]:
        chunks = [layer.apply_chunk(params, x) for x in xs]
        sent, _ = layer.meet(params, state, run([partial(resume, chunk) for chunk in chunks]))
        return run([partial(resume, chunk, sent) for chunk in chunks])

    residuals = [kept for _, kept in forward()]

    def backward() -> list[Any]:
        chunks = [layer.backward_chunk(params, *each, need_dx=True) for each in zip(residuals, dys, strict=True)]
        sent, _ = layer.meet_backward(params, run([partial(resume, chunk) for chunk in chunks]))
        return run([partial(resume, chunk, sent) for chunk in chunks])

    return {"forward": forward, "backward": backward}


def torch_calls(case: Case, *, channels_last: bool) -> Calls:
    """Forward and backward by PyTorch."""
    torch = import_torch()
    module = case.torch(torch).to(memory_format=layout(channels_last)).train()
    x = as_torch(gaussian(case.in_shape), channels_last=channels_last).requires_grad_(not case.first)
    dy = as_torch(gaussian(case.funcnn.config.out_shape(case.in_shape)), channels_last=channels_last)
    y = module(x)
    if y.shape != dy.shape:
        raise ValueError(f"{case.name}: PyTorch gives {tuple(y.shape)}, funcnn {tuple(dy.shape)}")
    wanted = [*module.parameters(), *([] if case.first else [x])]
    backward = partial(torch.autograd.grad, y, wanted, dy, retain_graph=True)
    return {"forward": partial(module, x), "backward": backward}


def measure_case(case: Case, rounds: int, *, inside: bool) -> list[dict[str, Any]]:
    """A row for each direction, with the samples behind it."""
    by_chunks = case.funcnn.config.by_chunks or case.funcnn.config.couples_examples  # a dense layer takes the batch
    ours = inside_calls(case) if inside and by_chunks else funcnn_calls(case)
    calls = {"funcnn": ours, "default": torch_calls(case, channels_last=False)}
    if len(case.in_shape) == 3:
        calls["channels last"] = torch_calls(case, channels_last=True)
    results = []
    for direction in DIRECTIONS:
        others = measure.Others()
        contestants = {name: each[direction] for name, each in calls.items()} | {"gemm": measure.gemm()}
        result = measure.compare(measure.interleaved(contestants, rounds), case.operations(direction))
        result |= {"layer": case.name, "direction": direction, "cores_taken_by_others": others.cores()}
        results.append(result)
    print(f"measured {case.name}", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Time single layers of funcnn and PyTorch, interleaved in one run.")
    parser.add_argument("--layers", nargs="+", metavar="TEXT", help="only layers whose name has one of these in it")
    parser.add_argument("--inside", action="store_true", help="give layers the batch in chunks, as inside a net")
    measure.add_options(parser, rounds=15)
    options = parser.parse_args()
    cases = [case for case in CASES if any(text in case.name for text in options.layers or [""])]
    if not cases:
        parser.error(f"--layers: none of these: {'; '.join(case.name for case in CASES)}")
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    with measure.using_threads(options.threads, torch):
        results = [result for case in cases for result in measure_case(case, options.rounds, inside=options.inside)]
    lines = [[each["layer"], each["direction"], *measure.comparison(each, digits=3)] for each in results]
    measure.print_table(["layer", "direction", *measure.COMPARISON], lines)
    environment = measure.environment("torch") | {"threads": options.threads, "batch": BATCH, "inside": options.inside}
    measure.write_json(options.json, {"environment": environment, "results": results})


if __name__ == "__main__":
    main()
