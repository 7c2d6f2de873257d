"""A sweep's script on this machine's processes, on a Dask cluster, on MPI's ranks: the same results, bit for bit."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from sweep_trials import on_mpi

from funcnn.sweep.results import ResultsFile

SCRIPT = Path(__file__).parents[2] / "experiments" / "sweep_learning_rate.py"
SETTINGS = ["--quick", "--quiet", "--no-plots", "--axis", "optimizer=momentum,adam"]


def run(out: Path, *options: str, start: Sequence[str] = (sys.executable,)) -> list[str]:
    """The results of a sweep, without what may differ."""
    result = subprocess.run(
        [*start, str(SCRIPT), *SETTINGS, *options, "--out", str(out)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    results = ResultsFile(out / "results.jsonl").read()
    return sorted(f"{each.config} {each.seed} {each.status} {each.metrics}" for each in results)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    found = run(tmp_path_factory.mktemp("here"), "--jobs", "1")
    assert len(found) == len(set(found)) == 6
    assert all("done" in each for each in found)
    return found


def test_on_the_workers_of_a_dask_scheduler(expected: list[str], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert run(tmp_path, "--scheduler", cluster.scheduler_address) == expected


def test_on_the_ranks_of_mpi(expected: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, "--mpi", start=on_mpi()) == expected
