"""What funcnn costs before it trains: imports, modules, megabytes installed, and the time to the first training step.

    python benchmarks/startup.py
    python benchmarks/startup.py --torch --json startup.json
    python benchmarks/startup.py --limit-ms 120

Each import is timed in a fresh interpreter, numpy's and funcnn's alternating. So are processes that make the small
dense net of nets.py, take one training step at batch 64 and say so: timed from outside, from before the process
starts to its word, with ``--torch`` beside the same in PyTorch. The program ends with status 1 if an optional package
was loaded, or with ``--limit-ms`` if funcnn's import takes more than this beyond NumPy's.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import measure
from nets import import_torch

MINIMUM_ROUNDS = 11
CORE = ("numpy", "numexpr", "attrs", "threadpoolctl", "safetensors")
OPTIONAL = ("tqdm", "matplotlib", "pooch", "PIL", "dask", "distributed", "mpi4py", "scipy", "sklearn", "torch")

TIMED_IMPORT = """\
import json, sys, time
start = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))
"""

FIRST_STEP = {
    "funcnn": """\
import numpy as np
from funcnn import Key, serial
from funcnn.layers import dense, leaky_relu
from funcnn.losses import softmax_cross_entropy
from funcnn.system.memory import keep_freed_memory
from funcnn.optimizers import adam

keep_freed_memory()
rng = np.random.default_rng(0)
x, labels = rng.standard_normal((64, 784), np.float32), rng.integers(10, size=64)
net, optimizer = serial(dense(128), leaky_relu(), dense(64), leaky_relu(), dense(10)), adam(1e-3)
params, state, _ = net.init(Key(0), (784,))
logits, state, residuals = net.apply(params, state, x, train=True)
loss, d_logits = softmax_cross_entropy(logits, labels)
gradients, _ = net.backward(params, residuals, d_logits, need_dx=False)
params, _ = optimizer.update(gradients, optimizer.init(params), params, 0)
print(float(loss), flush=True)
""",
    "PyTorch": """\
import torch
from torch import nn

x, labels = torch.randn(64, 784), torch.randint(10, (64,))
net = nn.Sequential(nn.Linear(784, 128), nn.LeakyReLU(), nn.Linear(128, 64), nn.LeakyReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
loss = nn.functional.cross_entropy(net(x), labels)
loss.backward()
optimizer.step()
print(loss.item(), flush=True)
""",
}


# --- Imports --------------------------------------------------------------------------------------------------


def timed_import(module: str) -> tuple[float, set[str]]:
    """Seconds that an import takes in a fresh interpreter, and the modules there afterwards."""
    command = [sys.executable, "-c", TIMED_IMPORT.format(module=module)]
    seconds, modules = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, set(modules)


def measure_imports(rounds: int) -> dict[str, Any]:
    """Seconds of both imports and their differences, round by round, and the optional modules that funcnn loaded."""
    for module in ("numpy", "funcnn"):
        timed_import(module)  # writes the bytecode and fills the file cache
    with_numpy, with_funcnn, loaded = [], [], set()
    for _ in range(rounds):
        with_numpy.append(timed_import("numpy")[0])
        seconds, modules = timed_import("funcnn")
        with_funcnn.append(seconds)
        loaded |= modules
    differences = [ours - numpy for ours, numpy in zip(with_funcnn, with_numpy, strict=True)]
    return {
        "import numpy": measure.Spread.of(with_numpy),
        "import funcnn": measure.Spread.of(with_funcnn),
        "difference": measure.Spread.of(differences),
        "optional": sorted(set(OPTIONAL) & loaded),
    }


# --- The first step -------------------------------------------------------------------------------------------


def timed_first_step(library: str) -> float:
    """Seconds from before a process starts until it has taken its first training step."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", FIRST_STEP[library]], stdout=subprocess.PIPE, text=True) as process:
        word = process.stdout.readline() if process.stdout else ""
        seconds = time.perf_counter() - start
    if process.returncode or not word:
        raise RuntimeError(f"{library}'s process ended with status {process.returncode} before its first step")
    return seconds


def measure_first_steps(libraries: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds to the first step of each library's processes, in turn."""
    for library in libraries:
        timed_first_step(library)  # fills the file cache
    samples: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(rounds):
        for library in libraries:
            samples[library].append(timed_first_step(library))
    return samples


def print_first_steps(samples: dict[str, list[float]]) -> None:
    rows = [
        [library, measure.Spread.of(seconds).show(), measure.ratio(seconds, samples["funcnn"]).show(unit=1)]
        for library, seconds in samples.items()
    ]
    measure.print_table(["process start to first step", "ms (p10–p90)", "by funcnn's"], rows)


# --- Installed ------------------------------------------------------------------------------------------------


def megabytes(files: list[Path]) -> float:
    """The size of files without bytecode, which is written at the first import."""
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.is_file()) / 1e6


def installed_sizes() -> dict[str, float]:
    """Megabytes of each core dependency, by its own list of files, and of funcnn, by its folder."""
    sizes = {
        name: megabytes([Path(file.locate()) for file in metadata.distribution(name).files or ()]) for name in CORE
    }
    spec = importlib.util.find_spec("funcnn")
    folders = spec.submodule_search_locations if spec else None
    return sizes | {"funcnn": megabytes([file for folder in folders or () for file in Path(folder).rglob("*")])}


# --- Together -------------------------------------------------------------------------------------------------


def print_all(results: dict[str, Any]) -> None:
    measure.print_table(["", "ms (p10–p90)"], [[name, each.show()] for name, each in results["imports"].items()])
    print(f"optional packages loaded: {', '.join(results['optional']) or 'none'}\n")
    print_first_steps(results["first_step"])
    print(f"\ncores of others: {measure.show_cores(results['cores_taken_by_others'])}\n")
    sizes = results["installed_mb"]
    rows = [[name, f"{size:.1f}"] for name, size in (sizes | {"together": sum(sizes.values())}).items()]
    measure.print_table(["installed", "MB"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what funcnn costs before it trains: time, modules and size.")
    measure.add_options(parser, rounds=15, minimum=MINIMUM_ROUNDS, what="processes", threads=False)
    parser.add_argument("--torch", action="store_true", help="the first step of PyTorch as well")
    parser.add_argument("--limit-ms", type=float, help="end with status 1 if funcnn takes more than this beyond NumPy")
    options = parser.parse_args()
    if options.torch and importlib.util.find_spec("torch") is None:
        import_torch()  # ends the program; only its own processes are to load it

    others = measure.Others()
    imports = measure_imports(options.rounds)
    optional = imports.pop("optional")
    first_step = measure_first_steps(["funcnn", "PyTorch"] if options.torch else ["funcnn"], options.rounds)
    taken = others.cores()
    results = {
        "imports": imports,
        "optional": optional,
        "first_step": first_step,
        "installed_mb": installed_sizes(),
        "cores_taken_by_others": taken,
    }
    print_all(results)
    environment = measure.environment(*(["torch"] if options.torch else []))
    measure.write_json(options.json, {"environment": environment} | results)

    beyond = 1e3 * imports["difference"].median
    if options.limit_ms is not None and beyond > options.limit_ms:
        print(
            f"funcnn takes {beyond:.0f} ms more than NumPy, over the limit of {options.limit_ms:.0f}", file=sys.stderr
        )
        return 1
    return 1 if optional else 0


if __name__ == "__main__":
    sys.exit(main())
