"""Sweeps: a trial for each configuration and seed, on any executor, with results that survive whatever happens.

A trial is a pure function ``trial(config, seed) -> metrics``, a dictionary of numbers, so trials give the same results
anywhere, many at a time, in any order. `sweep` yields results as they finish. Where one machine is not enough, any
executor of `concurrent.futures` will do: Dask's ``Client(...).get_executor()``, or mpi4py's ``MPIPoolExecutor``.
"""

from funcnn.sweep.grid import (
    Configuration,
    SweepError,
    choice,
    configuration,
    grid,
    integers,
    log_uniform,
    sample,
    uniform,
)
from funcnn.sweep.halving import halving
from funcnn.sweep.results import Result
from funcnn.sweep.sweep import sweep
from funcnn.sweep.training import Training, TrainingTrial
from funcnn.sweep.trials import Trial
from funcnn.sweep.workers import InProcess, Processes

__all__ = [
    "Configuration", "InProcess", "Processes", "Result", "SweepError", "Training", "TrainingTrial", "Trial", "choice",
    "configuration", "grid", "halving", "integers", "log_uniform", "sample", "sweep", "uniform",
]  # fmt: skip
