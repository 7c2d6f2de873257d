"""Prediction, funcnn against PyTorch and onnxruntime: the forward pass outside training, from one image to many.

    python benchmarks/inference.py
    python benchmarks/inference.py --nets mlp dropout_cnn --batches 1 32 --rounds 30 --json inference.json
    python benchmarks/inference.py --batches --images 10000

Of a batch, funcnn runs ``predictor(net, params, state)(x)``, PyTorch ``module(x)`` of a module in ``eval()`` under
``inference_mode()``, both in this process on as many threads, turn by turn (see `measure.interleaved`). PyTorch runs in
its default and its channels-last layout, and the faster is its figure. If onnxruntime is installed, and onnx, which
PyTorch exports with, it runs the same module (CPUExecutionProvider) in the same rounds. At the end come many images,
256 at a time: funcnn runs ``predict(net, model, images)``, on threads and on as many processes that have the images
(`funcnn.team`), the faster of which is its figure; the others go through the batches and join the outputs.

The limit is the time that the products alone would take at the rate of a square matrix product measured in the same
rounds. The last column says how many cores other programs took meanwhile, as in training_step.py. The geometric means
of the ratios over the nets follow the table.
"""

import argparse
import io
import statistics
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import measure
import numpy as np
from nets import NETS, Net, as_torch, check_parameters, data, import_torch, layout

from funcnn import Key
from funcnn.data import Part
from funcnn.system.memory import keep_freed_memory
from funcnn.team import Team
from funcnn.train import Model, predict, predictor

BATCHES = (1, 32, 256)
IMAGES, AT_A_TIME = 10_000, 256
ONNX = "onnxruntime"
ONNX_COLUMNS = ["onnxruntime ms (p10–p90)", "funcnn / onnxruntime"]
HAS_ONNX = all(map(find_spec, ("onnxruntime", "onnx")))


def funcnn_predictor(net: Net, batch: int) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by funcnn."""
    params, state, _ = net.funcnn.init(Key(0), net.in_shape)
    logits = predictor(net.funcnn, params, state)
    inputs = cycle([x for x, _ in data(net.in_shape, batch)])
    return lambda: logits(next(inputs))


def torch_module(net: Net, *, channels_last: bool = False) -> Callable[[Any], Any]:
    """PyTorch's module as a function of a batch."""
    torch = import_torch()
    module = net.torch(torch).to(memory_format=layout(channels_last)).eval()

    def run(x: Any) -> Any:
        with torch.inference_mode():
            return module(x)

    return run


def torch_predictor(net: Net, batch: int, *, channels_last: bool = False) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by PyTorch."""
    module = torch_module(net, channels_last=channels_last)
    inputs = cycle([as_torch(x, channels_last=channels_last) for x, _ in data(net.in_shape, batch)])
    return lambda: module(next(inputs))


def onnx_session(net: Net, x: Any, threads: int) -> Callable[[Any], Any]:
    """The PyTorch module as it exports it for batches like x, as a function by onnxruntime."""
    import onnxruntime

    torch = import_torch()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is PyTorch's older one; the newer needs more packages
        torch.onnx.export(net.torch(torch).eval(), (x,), file, dynamo=False, input_names=["x"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def onnx_predictor(net: Net, batch: int, threads: int) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by onnxruntime."""
    inputs = [as_torch(x) for x, _ in data(net.in_shape, batch)]
    session = onnx_session(net, inputs[0], threads)
    arrays = cycle([tensor.numpy() for tensor in inputs])
    return lambda: session(next(arrays))


def measure_net(net: Net, batch: int, rounds: int, threads: int) -> dict[str, list[float]]:
    """The samples of every contestant, in seconds a batch."""
    contestants = {"funcnn, threads": funcnn_predictor(net, batch), "default": torch_predictor(net, batch)}
    if net.has_images:
        contestants["channels last"] = torch_predictor(net, batch, channels_last=True)
    if HAS_ONNX:
        contestants[ONNX] = onnx_predictor(net, batch, threads)
    return measure.interleaved({**contestants, "gemm": measure.gemm()}, rounds)


def measure_images(net: Net, images: int, rounds: int, threads: int, team: Team | None) -> dict[str, list[float]]:
    """The samples of every contestant, in seconds for all images."""
    inputs = np.random.default_rng(0).standard_normal((images, *net.in_shape), np.float32)
    params, state, _ = net.funcnn.init(Key(0), net.in_shape)
    part = Part(inputs, np.zeros(images, int))
    ours = partial(predict, net.funcnn, Model(params, state), part, batch_size=AT_A_TIME)
    contestants: dict[str, Callable[[], Any]] = {"funcnn, threads": ours}
    if team:
        contestants["funcnn, processes"] = partial(ours, team=team)

    def all_of(function: Callable[[Any], Any], x: Any, join: Callable[[Any], Any]) -> Callable[[], Any]:
        batches = [x[i : i + AT_A_TIME] for i in range(0, images, AT_A_TIME)]
        return lambda: join([function(each) for each in batches])

    for channels_last in (False, True) if net.has_images else (False,):
        name = "channels last" if channels_last else "default"
        module, x = torch_module(net, channels_last=channels_last), as_torch(inputs, channels_last=channels_last)
        contestants[name] = all_of(module, x, import_torch().cat)
    if HAS_ONNX:
        x = as_torch(inputs)
        sizes = {min(AT_A_TIME, images), images % AT_A_TIME} - {0}
        sessions = {size: onnx_session(net, x[:size], threads) for size in sizes}
        contestants[ONNX] = all_of(lambda batch: sessions[len(batch)](batch), x.numpy(), np.concatenate)
    return measure.interleaved({**contestants, "gemm": measure.gemm()}, rounds)


def compared(samples: dict[str, list[float]], operations: int) -> dict[str, Any]:
    """The samples as a result, with those of onnxruntime beside PyTorch's (None without)."""
    result = measure.compare({name: samples[name] for name in samples if name != ONNX}, operations)
    others = samples.get(ONNX)
    return result | {
        "samples": samples,
        ONNX: measure.Spread.of(others) if others else None,
        "ratio_to_onnxruntime": measure.ratio(samples[result["funcnn_variant"]], others) if others else None,
    }


def onnx_columns(result: dict[str, Any]) -> list[str]:
    """The columns `ONNX_COLUMNS` of a result."""
    spread, ratio = result[ONNX], result["ratio_to_onnxruntime"]
    return [spread.show(digits=3), ratio.show(unit=1, digits=2)] if spread else []


def measure_all(names: list[str], batches: list[int], images: int, rounds: int, threads: int) -> list[dict[str, Any]]:
    """The rows of the table, with the samples behind them."""
    results = []
    for name in names:
        net = NETS[name]
        check_parameters(net)
        operations = 2 * net.funcnn.config.macs(net.in_shape)
        for count in [*batches, *([images] if images else [])]:
            others, what = measure.Others(), f"batch {count}"
            if count == images:
                what = f"{images:,} by {AT_A_TIME}"
                with Team(threads) if threads > 1 else nullcontext() as team:
                    samples = measure_images(net, images, rounds, threads, team)
            else:
                samples = measure_net(net, count, rounds, threads)
            result = {"net": name, "images": what} | compared(samples, operations * count)
            results.append(result | {"cores_taken_by_others": others.cores()})
            print(f"measured {name}, {what}", file=sys.stderr)
    return results


def geometric_means(results: list[dict[str, Any]], ratio: str) -> dict[str, float]:
    """For each number of images, of the median ratios of all nets."""
    return {
        what: statistics.geometric_mean([each[ratio].median for each in results if each["images"] == what])
        for what in dict.fromkeys(each["images"] for each in results)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time predictions of funcnn, PyTorch and onnxruntime in one run.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES), help="default: 1 32 256")
    many = f"so many images, {AT_A_TIME} at a time; 0 for none (%(default)s)"
    parser.add_argument("--images", type=int, default=IMAGES, help=many)
    measure.add_options(parser, rounds=20)
    options = parser.parse_args()
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    with measure.using_threads(options.threads, torch):
        results = measure_all(options.nets, options.batches, options.images, options.rounds, options.threads)
    columns = [*measure.COMPARISON, *(ONNX_COLUMNS if HAS_ONNX else [])]
    rows = [
        [
            each["net"],
            each["images"],
            each["funcnn_variant"].removeprefix("funcnn, "),
            *measure.comparison(each, digits=3),
            *onnx_columns(each),
        ]
        for each in results
    ]
    measure.print_table(["net", "images", "funcnn's best", *columns], rows)
    means = {"PyTorch": geometric_means(results, "ratio")}
    if HAS_ONNX:
        means[ONNX] = geometric_means(results, "ratio_to_onnxruntime")
    for other, each in means.items():
        print()
        for what, mean in each.items():
            print(f"geometric mean of funcnn / {other}, {what}: {mean:.2f}")
    packages = ["torch", *([ONNX] if HAS_ONNX else [])]
    environment = measure.environment(*packages) | {"threads": options.threads}
    measure.write_json(options.json, {"environment": environment, "geometric_means": means, "results": results})


if __name__ == "__main__":
    main()
