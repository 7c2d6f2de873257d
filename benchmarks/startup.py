"""What ``import funcnn`` costs beyond ``import numpy``: time, modules, and megabytes installed.

    python benchmarks/startup.py
    python benchmarks/startup.py --limit-ms 120

Each import is timed in a fresh interpreter, the two alternating. The program ends with status 1 if an optional
package was loaded, or with ``--limit-ms`` if the difference exceeds it.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import measure

MINIMUM_ROUNDS = 11
CORE = ("numpy", "numexpr", "attrs", "threadpoolctl", "safetensors")
OPTIONAL = ("tqdm", "matplotlib", "pooch", "PIL", "dask", "distributed", "mpi4py", "scipy", "sklearn", "torch")

TIMED_IMPORT = """\
import json, sys, time
start = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))
"""


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


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure the time, the modules and the size that funcnn adds to NumPy."
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help=f"imports of each, at least {MINIMUM_ROUNDS} (%(default)s)"
    )
    parser.add_argument("--limit-ms", type=float, help="end with status 1 if funcnn takes more than this beyond NumPy")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    if options.rounds < MINIMUM_ROUNDS:
        parser.error(f"--rounds must be at least {MINIMUM_ROUNDS}, got {options.rounds}")

    others = measure.Others()
    imports = measure_imports(options.rounds)
    optional = imports.pop("optional")
    measure.print_table(["", "ms (p10–p90)"], [[name, each.show()] for name, each in imports.items()])
    taken = others.cores()
    print(f"cores of others: {measure.show_cores(taken)}")
    print(f"optional packages loaded: {', '.join(optional) or 'none'}")
    sizes = installed_sizes()
    print()
    rows = [[name, f"{size:.1f}"] for name, size in (sizes | {"together": sum(sizes.values())}).items()]
    measure.print_table(["installed", "MB"], rows)
    results = {"imports": imports, "optional": optional, "installed_mb": sizes, "cores_taken_by_others": taken}
    measure.write_json(options.json, {"environment": measure.environment(), **results})

    beyond = 1e3 * imports["difference"].median
    if options.limit_ms is not None and beyond > options.limit_ms:
        print(
            f"funcnn takes {beyond:.0f} ms more than NumPy, over the limit of {options.limit_ms:.0f}", file=sys.stderr
        )
        return 1
    return 1 if optional else 0


if __name__ == "__main__":
    sys.exit(main())
