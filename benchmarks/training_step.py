"""A whole training step, funcnn against PyTorch eager: forward, cross-entropy, backward, Adam.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --cores 1 2 4 8 16
    python benchmarks/training_step.py --nets mlp dropout_cnn --rounds 30 --json training_step.json

Both run on as many cores, turn by turn (see `measure.interleaved`). funcnn runs on threads, and on processes that
share the batch (`funcnn.team`, with as many shards); PyTorch in its default and its channels-last layout, each with
its default and its fused Adam. The fastest of each is its figure. The limit is the time that the step's products alone
would take at the rate of a square matrix product measured in the same rounds. The last column says how many cores other
programs took meanwhile: both wait for each other by spinning, and nothing measured on a busy machine means anything.
"""

import argparse
import os
import statistics
import sys
from contextlib import nullcontext
from typing import Any

import measure
from nets import NETS, Net, check_parameters, funcnn_steps, import_torch, torch_steps

from funcnn.system.memory import keep_freed_memory
from funcnn.team import Team

MINIMUM_ROUNDS = 15
TURN = 0.25  # seconds


def measure_net(net: Net, batch: int, rounds: int, team: Team | None) -> dict[str, list[float]]:
    """The samples of every contestant, in seconds a step."""
    check_parameters(net)
    steps = {"funcnn, threads": funcnn_steps(net, batch)}
    if team:
        steps["funcnn, processes"] = funcnn_steps(net, batch, team)
    for channels_last in (False, True) if net.has_images else (False,):
        for fused in (False, True):
            name = "channels last" if channels_last else "default"
            steps[f"{name}, fused Adam" if fused else name] = torch_steps(
                net, batch, channels_last=channels_last, fused=fused
            )
    contestants = {name: generator.__next__ for name, generator in steps.items()}
    # Longer turns than elsewhere: processes that have slept take some steps to have their caches again.
    return measure.interleaved({**contestants, "gemm": measure.gemm()}, rounds, turn=TURN)


def measure_all(names: list[str], rounds: int, cores: int) -> list[dict[str, Any]]:
    """The rows of the table, with the samples behind them."""
    results = []
    for name in names:
        net = NETS[name]
        for batch in net.batches:
            others = measure.Others()
            with Team(cores) if cores > 1 else nullcontext() as team:
                samples = measure_net(net, batch, rounds, team)
            result = {"net": name, "batch": batch, "parameters": net.parameters, "cores": cores}
            result |= measure.compare(samples, net.operations(batch)) | {"cores_taken_by_others": others.cores()}
            results.append(result)
            print(f"measured {name} at batch {batch} on {cores}", file=sys.stderr)
    return results


def print_results(results: list[dict[str, Any]]) -> None:
    """The table of one number of cores, and the geometric mean of its ratios."""
    rows = [
        [each["net"], str(each["batch"]), each["funcnn_variant"].removeprefix("funcnn, "), *measure.comparison(each)]
        for each in results
    ]
    measure.print_table(["net", "batch", "funcnn's best", *measure.COMPARISON], rows)
    mean = statistics.geometric_mean([each["ratio"].median for each in results])
    print(f"on {results[0]['cores']}: geometric mean of funcnn / PyTorch {mean:.2f}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training steps of funcnn and PyTorch, interleaved in one run.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    cores = "how many cores both use; several numbers give a table each (%(default)s)"
    parser.add_argument("--cores", nargs="+", type=int, default=[os.cpu_count()], metavar="N", help=cores)
    measure.add_options(parser, rounds=20, minimum=MINIMUM_ROUNDS, threads=False)
    options = parser.parse_args()
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    results = []
    for number in options.cores:
        with measure.using_threads(number, torch):
            results.append(measure_all(options.nets, options.rounds, number))
        print_results(results[-1])
    environment = measure.environment("torch") | {"used_cores": options.cores}
    measure.write_json(
        options.json, {"environment": environment, "results": [each for some in results for each in some]}
    )


if __name__ == "__main__":
    main()
