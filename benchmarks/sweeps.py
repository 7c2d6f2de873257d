"""What a sweep costs beside its trials, and what more processes bring.

    python benchmarks/sweeps.py
    python benchmarks/sweeps.py --rounds 5 --jobs 4 --json sweeps.json

1. Trials per second of a sweep over learning rates on the digits, with one process and with several, from an empty
   folder to the last result: the start of the processes is in it.
2. Milliseconds that a trial takes more in a sweep, in this process and with its results written, than as a plain call.
3. Seconds and peak memory, in a process of its own, to resume a sweep of 100,000 trials that are all done.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Others, Spread, add_options, environment, print_table, ratio, show_cores, write_json

from funcnn.arrays.threads import set_threads
from funcnn.data import load
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import momentum
from funcnn.sweep import Configuration, InProcess, Processes, Training, TrainingTrial, grid, sweep
from funcnn.sweep.results import trial_key
from funcnn.train import Problem

RATES = grid(lr=[0.3 * 0.9**i for i in range(20)], epochs=[27])
SHORT = grid(lr=[0.1 * 0.9**i for i in range(50)], epochs=[1])
MANY = 100_000


def make(config: Configuration, seed: int) -> Training:
    problem = Problem(fully_connected([64, 32], 10), softmax_cross_entropy, momentum(config.lr))
    return Training(problem, load("digits"), config.epochs, batch_size=64)


TRIAL = TrainingTrial(make)


def add(config: Configuration, seed: int) -> dict[str, float]:
    return {"validation_accuracy": config.lr + seed, "test_accuracy": 0.5, "train_loss": 1.0, "epochs": 27}


def seconds_of_sweep(jobs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with Processes(jobs) as executor:
            results = list(sweep(TRIAL, RATES, seeds=range(3), executor=executor, out=Path(folder)))
        passed = time.perf_counter() - start
    assert [each.status for each in results] == ["done"] * 3 * len(RATES)
    return passed


def overhead() -> float:
    """Seconds that a short trial takes more in a sweep; the calls and the sweep in turn, trial by trial."""
    with tempfile.TemporaryDirectory() as folder:
        results = sweep(TRIAL, SHORT, seeds=[0], executor=InProcess(), out=Path(folder))
        within = plain = 0.0
        for config in SHORT:
            start = time.perf_counter()
            next(results)
            within += time.perf_counter() - start
            start = time.perf_counter()
            TRIAL(config, 0)
            plain += time.perf_counter() - start
    return (within - plain) / len(SHORT)


def write_many(folder: Path) -> None:
    """The file of a sweep of many trials, made from the line of one."""
    list(sweep(add, grid(lr=[0]), executor=InProcess(), out=folder))
    path = folder / "results.jsonl"
    first = json.loads(path.read_text())
    with path.open("w") as file:
        for seed in range(10):
            for config in grid(lr=range(MANY // 10)):
                key = trial_key(config, seed, first["trial"], first["version"])
                file.write(json.dumps(first | {"key": key, "seed": seed, "config": config.as_dict()}) + "\n")


def resume(folder: Path) -> None:
    """Find that all of many trials are done; print the seconds, and the peak memory in MB."""
    start = time.perf_counter()
    results = sweep(add, grid(lr=range(MANY // 10)), seeds=range(10), executor=InProcess(), out=folder)
    assert sum(1 for _ in results) == MANY
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps([time.perf_counter() - start, peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rounds=3, threads=False)
    jobs = max(2, os.cpu_count() or 2)
    parser.add_argument("--jobs", type=int, default=jobs, help="processes, beside one (%(default)s)")
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.jobs < 2:
        parser.error(f"--jobs must be at least 2, to compare with one, got {options.jobs}")
    if options.resume:
        resume(options.resume)
        return
    set_threads(1)  # as in the processes of a sweep
    others = Others()
    trials = 3 * len(RATES)
    seconds: dict[int, list[float]] = {1: [], options.jobs: []}
    for _ in range(options.rounds):
        for jobs, samples in seconds.items():
            samples.append(seconds_of_sweep(jobs))
    speedup = ratio(seconds[1], seconds[options.jobs])
    rows = [[str(jobs), Spread.of([trials / each for each in found]).show(1)] for jobs, found in seconds.items()]
    rows[1].append(speedup.show(1, 2))
    rows[0].append("")
    print_table(["processes", "trials / s (p10–p90)", "against one"], rows)
    cores = others.cores()
    print(f"{trials} trials of 27 epochs; cores that the machine's other work took: {show_cores(cores)}\n")

    extra = Spread.of([overhead() for _ in range(options.rounds)])
    print(f"a trial in a sweep takes {extra.show()} ms more than the call alone\n")

    with tempfile.TemporaryDirectory() as name:
        write_many(Path(name))
        command = [sys.executable, __file__, "--resume", name]
        found = [json.loads(subprocess.check_output(command)) for _ in range(options.rounds)]
    resumed, peak = (Spread.of(each) for each in zip(*found, strict=True))
    print(f"{MANY:,} finished trials are resumed in {resumed.show(1)} s, at a peak of {peak.show(1, 0)} MB")
    results = {
        "seconds": seconds, "speedup": speedup, "overhead_s": extra, "resume_s": resumed, "resume_peak_mb": peak,
        "cores_taken_by_others": cores,
    }  # fmt: skip
    write_json(options.json, {"environment": environment(), **results})


if __name__ == "__main__":
    main()
