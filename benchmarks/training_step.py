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
import os
import sys
from pathlib import Path
from typing import Any

import measure
import numexpr
from nets import NETS, Net, check_parameters, funcnn_steps, import_torch, torch_steps
from threadpoolctl import threadpool_limits

from funcnn.memory import keep_freed_memory
from funcnn.parallel import set_threads

MINIMUM_ROUNDS = 15


def measure_net(net: Net, batch: int, rounds: int) -> dict[str, Any]:
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


def summarise(name: str, net: Net, batch: int, samples: dict[str, Any], others: float | None) -> dict[str, Any]:
    """A row of the table, with the samples behind it."""
    spreads = {each: measure.Spread.of(seconds) for each, seconds in samples.items()}
    best = min(spreads.keys() - {"funcnn", "gemm"}, key=lambda each: spreads[each].median)
    # Round by round, since a round's samples share the pace that the machine had.
    ratios = [ours / theirs for ours, theirs in zip(samples["funcnn"], samples[best], strict=True)]
    limits = [seconds * net.operations(batch) / (2 * measure.GEMM_SIZE**3) for seconds in samples["gemm"]]
    shares = {
        each: measure.Spread.of([limit / taken for limit, taken in zip(limits, samples[each], strict=True)])
        for each in ("funcnn", best)
    }
    return {
        "net": name,
        "batch": batch,
        "parameters": net.parameters,
        "gflop": net.operations(batch) / 1e9,
        "funcnn": spreads["funcnn"],
        "torch": spreads[best],
        "torch_variant": best,
        "ratio": measure.Spread.of(ratios),
        "gemm_gflops": measure.gemm_gflops(spreads["gemm"].median),
        "funcnn_share_of_limit": shares["funcnn"].median,
        "torch_share_of_limit": shares[best].median,
        "cores_taken_by_others": others,
        "samples": samples,
    }


def row(result: dict[str, Any]) -> list[str]:
    return [
        result["net"],
        str(result["batch"]),
        result["funcnn"].show(digits=2),
        result["torch"].show(digits=2),
        result["torch_variant"],
        result["ratio"].show(unit=1, digits=2),
        f"{result['gflop']:.3f}",
        f"{result['gemm_gflops']:.0f}",
        f"{result['funcnn_share_of_limit']:.0%}",
        f"{result['torch_share_of_limit']:.0%}",
        measure.show_cores(result["cores_taken_by_others"]),
    ]


HEADER = [
    "net", "batch", "funcnn ms (p10–p90)", "PyTorch ms (p10–p90)", "PyTorch's best", "funcnn / PyTorch",
    "GFLOP", "sgemm GFLOP/s", "funcnn of limit", "PyTorch of limit", "cores of others",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training steps of funcnn and PyTorch, interleaved in one run.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument(
        "--rounds", type=int, default=20, help=f"samples of each, at least {MINIMUM_ROUNDS} (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for both libraries (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the samples here")
    options = parser.parse_args()
    if options.rounds < MINIMUM_ROUNDS:
        parser.error(f"--rounds must be at least {MINIMUM_ROUNDS}, got {options.rounds}")
    keep_freed_memory()  # as the scripts in experiments/ do; it serves PyTorch too
    torch = import_torch()
    torch.set_num_threads(options.threads)
    numexpr.set_num_threads(options.threads)
    set_threads(options.threads)
    results = []
    with threadpool_limits(options.threads, user_api="blas"):
        for name in options.nets:
            for batch in NETS[name].batches:
                others = measure.Others()
                samples = measure_net(NETS[name], batch, options.rounds)
                results.append(summarise(name, NETS[name], batch, samples, others.cores()))
                print(f"measured {name} at batch {batch}", file=sys.stderr)
    measure.print_table(HEADER, map(row, results))
    environment = measure.environment("torch") | {"threads": options.threads}
    measure.write_json(options.json, {"environment": environment, "results": results})


if __name__ == "__main__":
    main()
