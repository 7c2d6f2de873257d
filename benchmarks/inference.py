"""Prediction, funcnn against PyTorch: the forward pass outside training, from one image to a large batch.

    python benchmarks/inference.py
    python benchmarks/inference.py --nets mlp dropout_cnn --batches 1 32 --rounds 30 --json inference.json

funcnn runs ``net.apply(params, state, x)``, PyTorch ``module(x)`` of a module in ``eval()`` under ``inference_mode()``,
both in this process on as many threads, turn by turn (see `measure.interleaved`). PyTorch runs in its default and its
channels-last layout, and the faster is its figure. The limit is the time that the products alone would take at the
rate of a square matrix product measured in the same rounds. The last column says how many cores other programs took
meanwhile, as in training_step.py. The geometric mean of the ratios over the nets follows the table.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from itertools import cycle
from typing import Any

import measure
from nets import NETS, Net, as_torch, check_parameters, data, import_torch, layout

from funcnn import Key
from funcnn.system.memory import keep_freed_memory

BATCHES = (1, 32, 256)


def funcnn_predictor(net: Net, batch: int) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by funcnn."""
    params, state, _ = net.funcnn.init(Key(0), net.in_shape)
    inputs = cycle([x for x, _ in data(net.in_shape, batch)])
    return lambda: net.funcnn.apply(params, state, next(inputs)).y


def torch_predictor(net: Net, batch: int, *, channels_last: bool = False) -> Callable[[], Any]:
    """A call that gives the logits of the next batch, by PyTorch."""
    torch = import_torch()
    module = net.torch(torch).to(memory_format=layout(channels_last)).eval()
    inputs = cycle([as_torch(x, channels_last=channels_last) for x, _ in data(net.in_shape, batch)])

    def predict() -> Any:
        with torch.inference_mode():
            return module(next(inputs))

    return predict


def measure_net(net: Net, batch: int, rounds: int) -> dict[str, list[float]]:
    """The samples of every contestant, in seconds a batch."""
    contestants = {"funcnn": funcnn_predictor(net, batch), "default": torch_predictor(net, batch)}
    if net.has_images:
        contestants["channels last"] = torch_predictor(net, batch, channels_last=True)
    return measure.interleaved({**contestants, "gemm": measure.gemm()}, rounds)


def measure_all(names: list[str], batches: list[int], rounds: int) -> list[dict[str, Any]]:
    """The rows of the table, with the samples behind them."""
    results = []
    for name in names:
        net = NETS[name]
        check_parameters(net)
        operations = 2 * net.funcnn.config.macs(net.in_shape)
        for batch in batches:
            others = measure.Others()
            samples = measure_net(net, batch, rounds)
            result = {"net": name, "batch": batch} | measure.compare(samples, operations * batch)
            results.append(result | {"cores_taken_by_others": others.cores()})
            print(f"measured {name} at batch {batch}", file=sys.stderr)
    return results


def geometric_means(results: list[dict[str, Any]]) -> dict[int, float]:
    """For each batch size, of the median ratios of all nets."""
    batches = dict.fromkeys(each["batch"] for each in results)
    return {
        batch: statistics.geometric_mean([each["ratio"].median for each in results if each["batch"] == batch])
        for batch in batches
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time predictions of funcnn and PyTorch, interleaved in one run.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="default: 1 32 256")
    measure.add_options(parser, rounds=20)
    options = parser.parse_args()
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    with measure.using_threads(options.threads, torch):
        results = measure_all(options.nets, options.batches, options.rounds)
    rows = [[each["net"], str(each["batch"]), *measure.comparison(each, digits=3)] for each in results]
    measure.print_table(["net", "batch", *measure.COMPARISON], rows)
    means = geometric_means(results)
    print()
    for batch, mean in means.items():
        print(f"geometric mean of funcnn / PyTorch at batch {batch}: {mean:.2f}")
    environment = measure.environment("torch") | {"threads": options.threads}
    measure.write_json(options.json, {"environment": environment, "geometric_means": means, "results": results})


if __name__ == "__main__":
    main()
