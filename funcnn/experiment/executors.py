"""Where a sweep runs, as its command line says: processes of this machine, a Dask cluster, or the ranks of MPI."""

import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from funcnn.sweep.grid import SweepError
from funcnn.sweep.workers import Processes

__all__ = ["executor_for"]


@contextmanager
def executor_for(jobs: int | None, scheduler: str | None, *, mpi: bool) -> Iterator[Executor]:
    """Where a sweep's trials run: so many processes here, the workers of a Dask scheduler, or MPI's ranks.

    Raises SweepError for a library that is not installed, a scheduler that cannot be reached, or ranks that mpi4py has
    not started.
    """
    if mpi:
        with _mpi_executor() as executor:
            yield executor
        return
    if scheduler is None:
        with Processes(jobs) as executor:
            yield executor
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise SweepError('--scheduler needs Dask, which is not installed: pip install "funcnn[dask]"') from error
    try:
        connect: Any = Client
        client = connect(scheduler, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise SweepError(
            f"--scheduler {scheduler}: no scheduler can be reached there ({error}). Start one with "
            "`dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`"
        ) from error
    with client:
        yield client.get_executor()


def _mpi_executor() -> Executor:
    try:
        from mpi4py.futures import MPIPoolExecutor
    except ImportError as error:
        raise SweepError(f'--mpi needs MPI: pip install "funcnn[mpi]" ({error})') from error
    if "mpi4py.futures" not in sys.orig_argv:  # else every rank would run the whole sweep
        command = shlex.join(["mpirun", "-n", "3", sys.orig_argv[0], "-m", "mpi4py.futures", *sys.argv])
        raise SweepError(f"--mpi: the ranks are mpi4py's to start. For two that work: {command}")
    executor: Executor = MPIPoolExecutor()
    return executor
