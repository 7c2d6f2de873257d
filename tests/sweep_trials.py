"""Trials for the tests of sweeps, in a module that spawned processes can import."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from threadpoolctl import threadpool_info

from funcnn.data import Part, load
from funcnn.layer import Array, Shape
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.sweep import (
    Configuration,
    Processes,
    Result,
    Training,
    TrainingTrial,
    configuration,
    grid,
    halving,
    sweep,
)  # fmt: skip
from funcnn.train import NonFiniteError, Problem


def note(folder: str | Path, name: str, line: str) -> None:
    """Append a line to a file, whole, whichever processes do so at a time."""
    descriptor = os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def notes(folder: str | Path, name: str) -> list[str]:
    path = Path(folder) / name
    return path.read_text().splitlines() if path.exists() else []


def outcome(result: Result) -> str:
    """What a result must be the same in, to the last bit, wherever its trial ran."""
    return json.dumps([result.config.as_dict(), result.seed, result.status, result.metrics], sort_keys=True)


def blas_threads() -> set[int]:
    """The numbers of threads of the BLAS libraries that this process has loaded."""
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


# --- Trials ---------------------------------------------------------------------------------------------------


def double(config: Configuration, seed: int) -> dict[str, Any]:
    return {"value": 2.0 * config.i + seed}


def logged(config: Configuration, seed: int) -> dict[str, Any]:
    """Notes its process and number, takes its time, and gives a number that any process would give."""
    note(config.folder, "began", f"{os.getpid()}:{config.i}:{seed}")
    time.sleep(config.seconds)
    return {"value": float(np.random.default_rng(1000 * config.i + seed).random())}


def behaves(config: Configuration, seed: int) -> Any:
    """Ends in every way that there is."""
    note(config.folder, "began", f"{config.how}:{config.i}")
    match config.how:
        case "raises":
            raise RuntimeError(f"no luck with {config.i}")
        case "leaves":
            sys.exit("a trial that leaves")
        case "diverges":
            raise NonFiniteError("step 3: the loss is nan")
        case "nan":
            return {"loss": float("nan"), "accuracy": 0.5, "list": [1.0, float("inf")], "numpy": np.float32("nan")}
        case "nothing":
            return None
        case "array":
            return {"weights": np.zeros(2)}
        case "exits":
            os._exit(3)
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "slow":
            time.sleep(0.3)
        case "dies once":
            if notes(config.folder, "began").count(f"{config.how}:{config.i}") == 1:
                os._exit(3)
    return {"i": config.i, "numpy": np.float32(0.5), "tuple": (1, (2.5, None))}


def waits(config: Configuration, seed: int) -> dict[str, Any]:
    """Waits to be interrupted, and then takes a while to put its things in order; the first ones end at once."""
    if config.i < config.quick:
        return {"i": config.i}
    try:  # an interrupt may come as soon as it has noted that it began
        note(config.folder, "began", f"{os.getpid()}")
        time.sleep(120)
    except KeyboardInterrupt:
        if f"{os.getpid()}" in notes(config.folder, "began"):
            time.sleep(0.3 * (1 + config.i % 2))
            note(config.folder, "interrupted", f"{os.getpid()}")
        raise
    return {"i": config.i}


def deaf(config: Configuration, seed: int) -> dict[str, Any]:
    """Does not hear that it is to stop."""
    note(config.folder, "began", f"{os.getpid()}")
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            note(config.folder, "interrupted", f"{os.getpid()}")
    return {}


def unsendable() -> Any:
    """Gives what no process can send to another."""
    return threading.Lock()


class Odd(Exception):
    """Which pickle takes apart, but does not put together."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("odd")


def odd() -> None:
    raise Odd(1, 2)


# --- Trainings ------------------------------------------------------------------------------------------------


@attrs.frozen
class NotedPart:
    """A part that notes whenever the first batch of an epoch is taken: the only one that the key's order shuffles."""

    part: Part
    folder: str
    name: str
    pause: float

    def __len__(self) -> int:
        return len(self.part)

    def take(self, index: Any) -> tuple[Array, Array]:
        note(self.folder, "taken", self.name)
        time.sleep(self.pause)
        return self.part.take(index)


@attrs.frozen
class NotedSet:
    train: NotedPart
    validation: Part | None
    test: Part
    in_shape: Shape


EPOCHS = 9
BATCHES = 4  # in an epoch


def make(config: Configuration, seed: int) -> Training:
    """A small net on a part of the digits. Settings that a configuration may lack: folder, pause, epochs, how."""
    settings = config.as_dict()
    if settings.get("how") == "raises":
        raise RuntimeError("no luck")
    data = load("digits").thin(200, 100)
    rate = 1e30 if settings.get("how") == "diverges" else config.lr
    problem = Problem(fully_connected([16], 10), softmax_cross_entropy, adam(rate))
    if "folder" in settings:
        part = NotedPart(data.train, config.folder, f"{config.lr}", settings.get("pause", 0.0))
        data = NotedSet(part, data.validation, data.test, data.in_shape)  # type: ignore[assignment]
    if settings.get("how") == "blind":
        data = attrs.evolve(data, validation=None)
    return Training(problem, data, settings.get("epochs", EPOCHS), batch_size=50)  # type: ignore[arg-type]


def make_in_shards(config: Configuration, seed: int) -> Training:
    """As `make`, by so many workers in two shards."""
    return attrs.evolve(make(configuration(lr=0.1), seed), workers=config.workers, shards=2)


# --- Programs -------------------------------------------------------------------------------------------------


def run_logged(folder: str, count: int, seconds: float, jobs: int) -> list[Result]:
    """A sweep that tests kill, and let go on."""
    configs = grid(i=range(count), folder=[folder], seconds=[seconds])
    return list(sweep(logged, configs, executor=Processes(jobs), out=folder))


def run_halving(folder: str, rates: Iterable[float], pause: float, jobs: int) -> list[Result]:
    """Successive halving, of trainings that take a pause before each batch: no machine is quicker than that."""
    configs = grid(lr=rates, folder=[folder], pause=[pause])
    with Processes(jobs) as executor:
        return list(halving(make, configs, epochs=EPOCHS, executor=executor, out=folder))


def run_until_interrupted(folder: str, quick: int, *, own: bool) -> None:
    """A sweep of trials that wait, on an executor of its own or on one of the caller's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this was started from ignores
    note(folder, "ready", "")
    configs = grid(i=range(8), quick=[quick], folder=[folder])
    try:
        if own:
            list(sweep(waits, configs, out=folder))
        else:
            with Processes(2) as executor:
                list(sweep(waits, configs, executor=executor, out=folder))
    except KeyboardInterrupt:
        sys.exit(130)


def on_mpi() -> list[str]:
    """The start of a command on MPI, by which one rank hands out the trials of two others; skips a test without MPI."""
    import pytest  # here, since the other ranks have no use for it

    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if mpirun is None:
        pytest.skip("mpirun is not installed")
    # As root too, and on fewer cores than ranks.
    return [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures"]


def run_on_mpi(rates: Iterable[float]) -> None:
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as executor:
        assert executor.num_workers == 2
        for result in sweep(TrainingTrial(make), grid(lr=rates, epochs=[2]), seeds=[0, 1], executor=executor):
            print(outcome(result), flush=True)


if __name__ == "__main__":
    # mpi4py runs a script. The trials are those of the module that the other processes import.
    import sweep_trials

    sweep_trials.run_on_mpi([float(each) for each in sys.argv[1:]])
