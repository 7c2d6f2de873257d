"""What the benchmarks share: interleaved timing, the machine's limit, tables and JSON."""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GEMM_SIZE = 1024
_PAUSE = 0.04  # seconds


class Others:
    """How many cores the machine's other work took since this object was made: a measurement wants about none.

    Where the system keeps no /proc/stat it is not known, and None.
    """

    def __init__(self) -> None:
        self.start = self._clocks()

    @staticmethod
    def _clocks() -> tuple[float, float, float]:
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        except OSError:
            busy = float("nan")
        else:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
            busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        own = sum(os.times()[:4])  # of this process and of the children that it waited for
        return busy, own, time.perf_counter()

    def cores(self) -> float | None:
        """Their processor time by the time that passed."""
        busy, own, passed = (now - then for now, then in zip(self._clocks(), self.start, strict=True))
        return None if math.isnan(busy) else max(0.0, (busy - own) / passed)


def show_cores(cores: float | None) -> str:
    """What `Others.cores` gave, for a table."""
    return "?" if cores is None else f"{cores:.1f}"


class Spread(NamedTuple):
    """The median of some samples, and the range that holds the middle four fifths of them."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        tenths = statistics.quantiles(samples, n=10, method="inclusive")
        return cls(statistics.median(samples), tenths[0], tenths[-1])

    def show(self, unit: float = 1e3, digits: int = 1) -> str:
        """In thousandths unless told, as ``12.1 (11.8–13.0)``."""
        median, p10, p90 = (f"{unit * value:.{digits}f}" for value in self)
        return f"{median} ({p10}–{p90})"


def interleaved(
    contestants: dict[str, Callable[[], object]], rounds: int, *, warmup: int = 2, turn: float = 0.04
) -> dict[str, list[float]]:
    """Seconds a call, one sample a round for each contestant, all of them in turn in every round.

    A shared machine changes its pace within seconds, so only samples of the same round compare. A turn begins with a
    pause, since the threads of the one before (OpenBLAS's, OpenMP's) spin for a while before they sleep, and with one
    call that is not counted, which brings the contestant's data back into cache and wakes its threads. Then calls are
    counted for `turn` seconds, one at least. The order rotates, so that none always follows the same one.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for i in range(-warmup, rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            call = contestants[name]
            time.sleep(_PAUSE)
            call()
            calls, start = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < turn:
                call()
                calls += 1
            if i >= 0:
                samples[name].append((time.perf_counter() - start) / calls)
    return samples


def gemm() -> Callable[[], object]:
    """A float32 product of two square matrices: what the machine can do at most, by NumPy's BLAS."""
    a, b = np.random.default_rng(0).normal(size=(2, GEMM_SIZE, GEMM_SIZE)).astype(np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def gemm_gflops(seconds: float) -> float:
    """The rate of `gemm` that took some seconds."""
    return 2 * GEMM_SIZE**3 / seconds / 1e9


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns aligned: the first to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        first, *others = line
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def environment(*packages: str) -> dict[str, Any]:
    """What a measurement depends on besides the code: the processor's kind, its cores, and versions."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("numpy", "numexpr", *packages)},
    }


def write_json(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results where ``--json`` says, if it does."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")
