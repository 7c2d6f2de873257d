"""Peak resident memory of training, each net and batch in a process of its own.

    python benchmarks/memory.py
    python benchmarks/memory.py --torch --json memory.json
    python benchmarks/memory.py --nets mlp --batches 64 --limit-mb 150

Several steps are taken, since the first has no moments of the optimizer to keep. funcnn's process begins with
`keep_freed_memory`, as the scripts in experiments/ do, PyTorch's runs as it comes. The peak is the process's own,
with the interpreter and the libraries; the column beside it leaves out what was there once they were loaded.
With ``--limit-mb`` the program ends with status 1 if a peak of funcnn's exceeds it.
"""

import argparse
import importlib.util
import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import measure
from nets import NETS, funcnn_steps, import_torch, torch_steps

from funcnn.system.memory import keep_freed_memory

LIBRARIES = ("funcnn", "PyTorch")
UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss: bytes on macOS, kilobytes elsewhere


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT


def measure_steps(name: str, batch: int, library: str, steps: int) -> dict[str, Any]:
    """The peak of this process, before the first step and after the last."""
    if library == "PyTorch":
        import_torch()
    else:
        keep_freed_memory()
    training = (torch_steps if library == "PyTorch" else funcnn_steps)(NETS[name], batch)
    before = peak_mb()
    for _ in range(steps):
        next(training)
    return {"net": name, "batch": batch, "library": library, "peak_mb": peak_mb(), "before_mb": before}


def in_a_fresh_process(*arguments: Any) -> dict[str, Any]:
    # Spawned, since a forked process would hold this one's memory. On Linux a spawned one still begins with this
    # one's peak as its own, so this one loads no more than the measured one does.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_steps, *arguments).result()


def row(result: dict[str, Any], peers: dict[tuple[str, int], float]) -> list[str]:
    """A line of the table, with the peak as a share of PyTorch's where that was measured."""
    peer = peers.get((result["net"], result["batch"]))
    return [
        result["net"],
        str(result["batch"]),
        result["library"],
        f"{result['peak_mb']:.0f}",
        f"{result['peak_mb'] - result['before_mb']:.0f}",
        f"{result['peak_mb'] / peer:.2f}" if peer else "",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the peak resident memory of training.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--batches", nargs="+", type=int, help="default: each net's own")
    parser.add_argument("--steps", type=int, default=10, help="training steps in each process (%(default)s)")
    parser.add_argument("--torch", action="store_true", help="PyTorch as well")
    parser.add_argument("--limit-mb", type=float, help="end with status 1 if funcnn's peak exceeds it")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    if options.torch and importlib.util.find_spec("torch") is None:
        import_torch()  # ends the program; where it is there, loading it would raise the peak that children begin with
    results = [
        in_a_fresh_process(name, batch, library, options.steps)
        for name in options.nets
        for batch in options.batches or NETS[name].batches
        for library in (LIBRARIES if options.torch else LIBRARIES[:1])
    ]
    peers = {(each["net"], each["batch"]): each["peak_mb"] for each in results if each["library"] == "PyTorch"}
    header = ["net", "batch", "library", "peak MB", "of it by the steps", "by PyTorch's peak"]
    measure.print_table(header, [row(each, peers) for each in results])
    environment = measure.environment(*(["torch"] if options.torch else [])) | {"steps": options.steps}
    measure.write_json(options.json, {"environment": environment, "results": results})
    peak = max(each["peak_mb"] for each in results if each["library"] == "funcnn")
    if options.limit_mb is not None and peak > options.limit_mb:
        print(f"funcnn's peak of {peak:.0f} MB exceeds the limit of {options.limit_mb:.0f} MB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
