"""What the benchmarks share: options, interleaved timing, the machine's limit, tables and JSON."""

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from funcnn.arrays.threads import set_threads

GEMM_SIZE = 1024
_PAUSE = 0.04  # seconds


# --- Options --------------------------------------------------------------------------------------------------


def add_options(
    parser: argparse.ArgumentParser, *, rounds: int, minimum: int = 2, what: str = "samples", threads: bool = True
) -> None:
    """The options that the timing scripts share: ``--rounds``, ``--threads`` unless told, ``--json``."""

    def number(text: str) -> int:
        if int(text) < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {text}")
        return int(text)

    rounds_help = f"{what} of each, at least {minimum} (%(default)s)"
    parser.add_argument("--rounds", type=number, default=rounds, help=rounds_help)
    if threads:
        parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for both libraries (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the results here, with their samples")


@contextmanager
def using_threads(number: int, torch: Any) -> Iterator[None]:
    """As many threads for funcnn, numexpr and PyTorch, and meanwhile for the BLAS that sets the limit."""
    import numexpr  # here, since benchmarks on a GPU do without

    torch.set_num_threads(number)
    numexpr.set_num_threads(number)
    set_threads(number)
    with threadpool_limits(number, user_api="blas"):
        yield


# --- Timing ---------------------------------------------------------------------------------------------------


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
    contestants: Mapping[str, Callable[[], object]], rounds: int, *, warmup: int = 2, turn: float = 0.06
) -> dict[str, list[float]]:
    """Seconds a call, one sample a round for each contestant, all of them in turn in every round.

    A shared machine changes its pace within seconds, so only samples of the same round compare. A turn begins with a
    pause, since the threads of the one before (OpenBLAS's, OpenMP's) spin for a while before they sleep, and with calls
    that are not counted, for half of `turn`, one at least: they wake the contestant's threads and bring its data back
    into cache, as they are in a training loop. Then calls are counted for `turn` seconds, one at least. The order
    rotates, so that each turn is early in some rounds and late in others.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for i in range(-warmup, rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            call = contestants[name]
            time.sleep(_PAUSE)
            start = time.perf_counter()
            call()
            while time.perf_counter() - start < turn / 2:
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


# --- Comparing ------------------------------------------------------------------------------------------------


def ratio(samples: Sequence[float], others: Sequence[float]) -> Spread:
    """The ratios of samples, round by round, since a round's samples share the pace that the machine had."""
    return Spread.of([one / other for one, other in zip(samples, others, strict=True)])


def compare(samples: Mapping[str, Sequence[float]], operations: int) -> dict[str, Any]:
    """Samples of funcnn's variants (their names begin so), of "gemm" and of PyTorch's: a figure is the fastest's.

    The limit is the time that products of so many floating-point operations alone would take at the rate of `gemm`.
    """
    spreads = {each: Spread.of(seconds) for each, seconds in samples.items()}
    ours = [name for name in spreads if name.startswith("funcnn")]
    own = min(ours, key=lambda each: spreads[each].median)
    best = min(spreads.keys() - {*ours, "gemm"}, key=lambda each: spreads[each].median)
    limits = [seconds * operations / (2 * GEMM_SIZE**3) for seconds in samples["gemm"]]
    return {
        "gflop": operations / 1e9,
        "funcnn": spreads[own],
        "funcnn_variant": own,
        "torch": spreads[best],
        "torch_variant": best,
        "ratio": ratio(samples[own], samples[best]),
        "gemm_gflops": gemm_gflops(spreads["gemm"].median),
        "funcnn_share_of_limit": ratio(limits, samples[own]).median,
        "torch_share_of_limit": ratio(limits, samples[best]).median,
        "samples": samples,
    }


COMPARISON = [
    "funcnn ms (p10–p90)", "PyTorch ms (p10–p90)", "PyTorch's best", "funcnn / PyTorch",
    "GFLOP", "sgemm GFLOP/s", "funcnn of limit", "PyTorch of limit", "cores of others",
]  # fmt: skip


def comparison(result: Mapping[str, Any], digits: int = 2) -> list[str]:
    """The columns `COMPARISON` of a result; without products, those about the limit are empty."""
    shares = [f"{result[name]:.0%}" for name in ("funcnn_share_of_limit", "torch_share_of_limit")]
    has_products = result["gflop"] > 0
    return [
        result["funcnn"].show(digits=digits),
        result["torch"].show(digits=digits),
        result["torch_variant"],
        result["ratio"].show(unit=1, digits=2),
        f"{result['gflop']:.3g}" if has_products else "",
        f"{result['gemm_gflops']:.0f}",
        *(shares if has_products else ["", ""]),
        show_cores(result["cores_taken_by_others"]),
    ]


# --- Tables and JSON ------------------------------------------------------------------------------------------


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
