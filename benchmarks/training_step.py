"""A whole training step, funcnn against PyTorch eager: forward, cross-entropy, backward, Adam.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --nets mlp dropout_cnn --rounds 30 --json training_step.json

Both run in this process on as many threads, turn by turn (see `measure.interleaved`). PyTorch runs in its default
and its channels-last layout, each with its default and its fused Adam, and the fastest of the four is its figure.
The limit is the time that the step's products alone would take at the rate of a square matrix product measured in
the same rounds. The last column says how many cores other programs took meanwhile: both libraries' threads wait for
each other by spinning, and nothing measured on a busy machine means anything.
"""

import argparse
import sys
from typing import Any

import measure
from nets import NETS, Net, check_parameters, funcnn_steps, import_torch, torch_steps

from funcnn.system.memory import keep_freed_memory

MINIMUM_ROUNDS = 15


def measure_net(net: Net, batch: int, rounds: int) -> dict[str, list[float]]:
    """The samples of every contestant, in seconds a step."""
    check_parameters(net)
    steps = {"funcnn": funcnn_steps(net, batch)}
    for channels_last in (False, True) if net.has_images else (False,):
        for fused in (False, True):
            name = "channels last" if channels_last else "default"
            steps[f"{name}, fused Adam" if fused else name] = torch_steps(
                net, batch, channels_last=channels_last, fused=fused
            )
    contestants = {name: generator.__next__ for name, generator in steps.items()}
    return measure.interleaved({**contestants, "gemm": measure.gemm()}, rounds)


def measure_all(names: list[str], rounds: int) -> list[dict[str, Any]]:
    """The rows of the table, with the samples behind them."""
    results = []
    for name in names:
        net = NETS[name]
        for batch in net.batches:
            others = measure.Others()
            samples = measure_net(net, batch, rounds)
            result = {"net": name, "batch": batch, "parameters": net.parameters}
            result |= measure.compare(samples, net.operations(batch)) | {"cores_taken_by_others": others.cores()}
            results.append(result)
            print(f"measured {name} at batch {batch}", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training steps of funcnn and PyTorch, interleaved in one run.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    measure.add_options(parser, rounds=20, minimum=MINIMUM_ROUNDS)
    options = parser.parse_args()
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    with measure.using_threads(options.threads, torch):
        results = measure_all(options.nets, options.rounds)
    rows = [[each["net"], str(each["batch"]), *measure.comparison(each)] for each in results]
    measure.print_table(["net", "batch", *measure.COMPARISON], rows)
    environment = measure.environment("torch") | {"threads": options.threads}
    measure.write_json(options.json, {"environment": environment, "results": results})


if __name__ == "__main__":
    main()
