"""Prediction, funcnn against PyTorch and onnxruntime: the forward pass outside training, from one image to many.

    python benchmarks/inference.py
    python benchmarks/inference.py --nets mlp dropout_cnn --batches 1 32 --rounds 30 --json inference.json

funcnn runs ``predictor(net, params, state)(x)``, PyTorch ``module(x)`` of a module in ``eval()`` under
``inference_mode()``, both in this process on as many threads, turn by turn (see `measure.interleaved`). PyTorch runs in
its default and its channels-last layout, and the faster is its figure. If onnxruntime is installed, and onnx, which
PyTorch exports with, it runs the same module (CPUExecutionProvider) in the same rounds. The limit is the time that the
products alone would take at the rate of a square matrix product measured in the same rounds. The last column says how
many cores other programs took meanwhile, as in training_step.py. The geometric means of the ratios over the nets follow
the table.
"""

import argparse
import io
import statistics
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import measure
from nets import NETS, Net, as_torch, check_parameters, data, import_torch, layout

from funcnn import Key
from funcnn.system.memory import keep_freed_memory
from funcnn.train import predictor

BATCHES = (1, 32, 256)
ONNX = "onnxruntime"
ONNX_COLUMNS = ["onnxruntime ms (p10–p90)", "funcnn / onnxruntime"]
HAS_ONNX = all(map(find_spec, ("onnxruntime", "onnx")))


def funcnn_predictor(net: Net, batch: int) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by funcnn."""
    params, state, _ = net.funcnn.init(Key(0), net.in_shape)
    logits = predictor(net.funcnn, params, state)
    inputs = cycle([x for x, _ in data(net.in_shape, batch)])
    return lambda: logits(next(inputs))


def torch_predictor(net: Net, batch: int, *, channels_last: bool = False) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by PyTorch."""
    torch = import_torch()
    module = net.torch(torch).to(memory_format=layout(channels_last)).eval()
    inputs = cycle([as_torch(x, channels_last=channels_last) for x, _ in data(net.in_shape, batch)])

    def predict() -> Any:
        with torch.inference_mode():
            return module(next(inputs))

    return predict


def onnx_predictor(net: Net, batch: int, threads: int) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by onnxruntime, of the PyTorch module as it exports it."""
    import onnxruntime

    torch = import_torch()
    inputs = [as_torch(x) for x, _ in data(net.in_shape, batch)]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is PyTorch's older one; the newer needs more packages
        torch.onnx.export(net.torch(torch).eval(), (inputs[0],), file, dynamo=False, input_names=["x"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    arrays = cycle([tensor.numpy() for tensor in inputs])
    return lambda: session.run(None, {"x": next(arrays)})


def measure_net(net: Net, batch: int, rounds: int, threads: int) -> dict[str, list[float]]:
    """The samples of every contestant, in seconds a batch."""
    contestants = {"funcnn": funcnn_predictor(net, batch), "default": torch_predictor(net, batch)}
    if net.has_images:
        contestants["channels last"] = torch_predictor(net, batch, channels_last=True)
    if HAS_ONNX:
        contestants[ONNX] = onnx_predictor(net, batch, threads)
    return measure.interleaved({**contestants, "gemm": measure.gemm()}, rounds)


def compared(samples: dict[str, list[float]], operations: int) -> dict[str, Any]:
    """The samples as a result, with those of onnxruntime beside PyTorch's (None without)."""
    result = measure.compare({name: samples[name] for name in samples if name != ONNX}, operations)
    others = samples.get(ONNX)
    return result | {
        "samples": samples,
        ONNX: measure.Spread.of(others) if others else None,
        "ratio_to_onnxruntime": measure.ratio(samples["funcnn"], others) if others else None,
    }


def onnx_columns(result: dict[str, Any]) -> list[str]:
    """The columns `ONNX_COLUMNS` of a result."""
    spread, ratio = result[ONNX], result["ratio_to_onnxruntime"]
    return [spread.show(digits=3), ratio.show(unit=1, digits=2)] if spread else []


def measure_all(names: list[str], batches: list[int], rounds: int, threads: int) -> list[dict[str, Any]]:
    """The rows of the table, with the samples behind them."""
    results = []
    for name in names:
        net = NETS[name]
        check_parameters(net)
        operations = 2 * net.funcnn.config.macs(net.in_shape)
        for batch in batches:
            others = measure.Others()
            samples = measure_net(net, batch, rounds, threads)
            result = {"net": name, "batch": batch} | compared(samples, operations * batch)
            results.append(result | {"cores_taken_by_others": others.cores()})
            print(f"measured {name} at batch {batch}", file=sys.stderr)
    return results


def geometric_means(results: list[dict[str, Any]], ratio: str) -> dict[int, float]:
    """For each batch size, of the median ratios of all nets."""
    batches = dict.fromkeys(each["batch"] for each in results)
    return {
        batch: statistics.geometric_mean([each[ratio].median for each in results if each["batch"] == batch])
        for batch in batches
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time predictions of funcnn, PyTorch and onnxruntime in one run.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="default: 1 32 256")
    measure.add_options(parser, rounds=20)
    options = parser.parse_args()
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    with measure.using_threads(options.threads, torch):
        results = measure_all(options.nets, options.batches, options.rounds, options.threads)
    columns = [*measure.COMPARISON, *(ONNX_COLUMNS if HAS_ONNX else [])]
    rows = [
        [each["net"], str(each["batch"]), *measure.comparison(each, digits=3), *onnx_columns(each)] for each in results
    ]
    measure.print_table(["net", "batch", *columns], rows)
    means = {"PyTorch": geometric_means(results, "ratio")}
    if HAS_ONNX:
        means[ONNX] = geometric_means(results, "ratio_to_onnxruntime")
    for other, by_batch in means.items():
        print()
        for batch, mean in by_batch.items():
            print(f"geometric mean of funcnn / {other} at batch {batch}: {mean:.2f}")
    packages = ["torch", *([ONNX] if HAS_ONNX else [])]
    environment = measure.environment(*packages) | {"threads": options.threads}
    measure.write_json(options.json, {"environment": environment, "geometric_means": means, "results": results})


if __name__ == "__main__":
    main()
