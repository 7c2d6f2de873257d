"""Each kind of layer by itself, funcnn against PyTorch: forward and backward in training, at batch 64.

    python benchmarks/layers.py
    python benchmarks/layers.py --layers conv2d dense --rounds 30 --json layers.json
    python benchmarks/layers.py --inside --threads 1

Most shapes are those of the nets in nets.py. A layer stands alone in a `serial`, which is what spreads work over
threads. Images, and gradients of images, lie in memory as funcnn's convolutions leave them, PyTorch's in its default
and in its channels-last layout, the faster of which is its figure in each direction. Layers marked "first" are a
net's first: their images lie as data sets have them, and their input needs no gradient.

Alone, a layer pays for cutting the batch into chunks and joining them again, which between the layers of a net costs
nothing. With ``--inside``, it is given the chunks, each an array of its own, as the layers before and after would.

At the end stand forward and backward together, and the geometric mean of their ratios over all layers. The layers are
those of catalogue.py: what of the library PyTorch has too, but for layers of several inputs.

Both run in this process on as many threads, turn by turn (see `measure.interleaved`). For layers with products, the
limit is the time that these alone would take at the rate of a square matrix product measured in the same rounds. The
last column says how many cores other programs took meanwhile, as in training_step.py.
"""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import measure
import numpy as np
from catalogue import BATCH, CASES, Case
from nets import as_torch, import_torch, layout

from funcnn import Key, fold_in, serial
from funcnn.arrays.layout import images, rows
from funcnn.arrays.threads import run
from funcnn.nn.chunks import add_up, cut
from funcnn.nn.coupled import Coupled, resume
from funcnn.nn.stages import chunk_sizes
from funcnn.system.memory import keep_freed_memory

DIRECTIONS = ("forward", "backward")


# --- The calls ------------------------------------------------------------------------------------------------


Calls = dict[str, Callable[[], Any]]


def gaussian(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).standard_normal((BATCH, *shape), np.float32)


def inputs_of(case: Case) -> Any:
    """A batch of examples: of whole numbers for a layer that has a vocabulary."""
    vocabulary = case.funcnn.config.vocabulary
    if vocabulary is not None:
        return np.random.default_rng(0).integers(vocabulary, size=(BATCH, *case.in_shape))
    return gaussian(case.in_shape)


def by_rows(x: Any) -> Any:
    """Images as funcnn's convolutions leave them in memory; anything else as it is."""
    return images(np.ascontiguousarray(rows(x))) if x.ndim == 4 else x


def funcnn_calls(case: Case) -> Calls:
    """Forward and backward by funcnn, the layer alone in a net."""
    net = serial(case.funcnn)
    params, state, out_shape = net.init(Key(0), case.in_shape)
    x, dy = inputs_of(case), by_rows(gaussian(out_shape))
    forward = partial(net.apply, params, state, x if case.first else by_rows(x), key=Key(1), train=True)
    residuals = forward().residuals
    return {"forward": forward, "backward": partial(net.backward, params, residuals, dy, need_dx=not case.first)}


def inside_calls(case: Case) -> Calls:
    """Forward and backward by funcnn, as `serial` takes the layer among others: the batch is in chunks already."""
    layer = case.funcnn
    params, state, out_shape = layer.init(Key(0), case.in_shape)
    x, dy = inputs_of(case), gaussian(out_shape)
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
    inputs, dy = (
        as_torch(each.swapaxes(1, 2).copy() if case.turned else each, channels_last=channels_last)
        for each in (inputs_of(case), gaussian(case.funcnn.config.out_shape(case.in_shape)))
    )
    x = inputs if case.first else inputs.requires_grad_()
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


def together(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Forward and backward of each layer as one figure, of the medians."""
    found = []
    for forward, backward in zip(results[::2], results[1::2], strict=True):
        funcnn, torch = (forward[name].median + backward[name].median for name in ("funcnn", "torch"))
        found.append({"layer": forward["layer"], "funcnn": funcnn, "torch": torch, "ratio": funcnn / torch})
    return found


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
    both = together(results)
    mean = math.exp(sum(math.log(each["ratio"]) for each in both) / len(both))
    print("\nforward and backward together")
    lines = [
        [each["layer"], f"{1e3 * each['funcnn']:.3f}", f"{1e3 * each['torch']:.3f}", f"{each['ratio']:.2f}"]
        for each in both
    ]
    measure.print_table(["layer", "funcnn ms", "PyTorch ms", "funcnn / PyTorch"], lines)
    print(f"geometric mean of {len(both)} layers: {mean:.3f}")
    environment = measure.environment("torch") | {"threads": options.threads, "batch": BATCH, "inside": options.inside}
    measure.write_json(options.json, {"environment": environment, "results": results, "both": both, "mean": mean})


if __name__ == "__main__":
    main()
