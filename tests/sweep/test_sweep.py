"""Sweeps: the same results wherever trials run, and none lost or done twice, whoever dies or is stopped when."""

import contextlib
import errno
import itertools
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial, wraps
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import sweep_trials
from cases import message
from processes import TESTS, linux, none_left, start, wait_for
from sweep_trials import behaves, blas_threads, deaf, double, logged, make, note, notes, outcome, waits

from funcnn.sweep import (
    InProcess,
    Processes,
    Result,
    SweepError,
    TrainingTrial,
    configuration,
    grid,
    halving,
    pool,
    sweep,
    workers,
)
from funcnn.sweep.pool import _looking
from funcnn.sweep.results import ResultsFile, StorageError
from funcnn.sweep.trials import trial_name, trial_version
from funcnn.system.lock import FolderInUse


def by_place(results: list[Result]) -> dict[Any, Result]:
    return {(each.config, each.seed): each for each in results}


# --- The same, wherever it runs -------------------------------------------------------------------------------

RATES = (0.003, 0.03)
TRAININGS = grid(lr=RATES, epochs=[2])


def outcomes(executor: Executor | None, configs: Any = TRAININGS) -> list[str]:
    return sorted(map(outcome, sweep(TrainingTrial(make), configs, seeds=[0, 1], executor=executor)))


@pytest.fixture(scope="module")
def expected() -> list[str]:
    found = outcomes(InProcess())
    assert len(set(found)) == 4
    assert all('"done"' in each for each in found)
    return found


spawn = multiprocessing.get_context("spawn")


@pytest.mark.parametrize(
    "start",
    [
        lambda: Processes(1),
        lambda: Processes(2),
        lambda: ProcessPoolExecutor(2, mp_context=spawn),
        lambda: ThreadPoolExecutor(2),
    ],
    ids=["one process", "two processes", "a pool of processes", "a pool of threads"],
)
def test_trainings_are_the_same_to_the_last_bit_on_every_executor(
    start: Callable[[], Executor], expected: list[str]
) -> None:
    with start() as executor:
        assert outcomes(executor) == expected
        assert outcomes(executor, reversed(TRAININGS)) == expected  # it can be used again


def test_trainings_are_the_same_without_an_executor(expected: list[str]) -> None:
    assert outcomes(None) == expected


def test_trainings_are_the_same_on_a_dask_cluster(expected: list[str]) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        assert outcomes(client.get_executor()) == expected


def test_trainings_are_the_same_on_mpi(expected: list[str]) -> None:
    arguments = [str(TESTS / "sweep_trials.py"), *map(str, RATES)]
    result = subprocess.run([*sweep_trials.on_mpi(), *arguments], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == expected


def test_in_this_process_trials_run_in_order_one_when_it_is_asked_for(tmp_path: Path) -> None:
    results = sweep(logged, logs(tmp_path, 3), seeds=[5, 4], executor=InProcess())
    assert notes(tmp_path, "began") == []
    assert [(next(results).config.i, len(notes(tmp_path, "began"))) for _ in range(2)] == [(0, 1), (1, 2)]
    assert [(each.config.i, each.seed) for each in results] == [(2, 5), (0, 4), (1, 4), (2, 4)]


def logs(folder: Path, count: int, seconds: float = 0.0) -> Any:
    return grid(i=range(count), folder=[str(folder)], seconds=[seconds])


@pytest.mark.parametrize("executor", [InProcess, partial(ThreadPoolExecutor, 3)], ids=["in order", "in any order"])
def test_a_result_says_all_that_it_is_of(executor: Any, tmp_path: Path) -> None:
    results = list(sweep(double, grid(i=[3, 4]), seeds=range(2), executor=executor(), out=tmp_path, version="7"))
    assert {(each.config.i, each.seed): each.metrics for each in results} == {
        (3, 0): {"value": 6.0}, (3, 1): {"value": 7.0}, (4, 0): {"value": 8.0}, (4, 1): {"value": 9.0},
    }  # fmt: skip
    assert {(each.trial, each.version, each.status, each.error) for each in results} == {
        ("sweep_trials.double", "7", "done", "")
    }
    assert all(0 <= each.seconds < 60 and each.host for each in results)
    assert len({each.key for each in results}) == 4
    assert ResultsFile(tmp_path / "results.jsonl").read() == results


def test_more_trials_than_an_executor_is_given_at_a_time() -> None:
    with ThreadPoolExecutor(3) as executor:
        results = list(sweep(double, grid(i=range(500)), executor=executor))
    assert sorted(each.metrics["value"] for each in results) == [2.0 * i for i in range(500)]


class Counting(ThreadPoolExecutor):
    """Knows how many calls it was given at most at a time."""

    def __init__(self) -> None:
        super().__init__(1)
        self.now = self.most = 0

    def submit(self, *arguments: Any, **options: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        future = super().submit(*arguments, **options)
        future.add_done_callback(self.ended)
        return future

    def ended(self, future: Any) -> None:
        self.now -= 1


def test_trials_are_made_up_as_they_are_needed() -> None:
    with Counting() as executor:
        list(sweep(double, grid(i=range(400)), executor=executor))
    assert 50 <= executor.most <= 200


# --- However a trial ends -------------------------------------------------------------------------------------

DIED = "its process died, and twice again with no other trial running: WorkerDied: "
ENDS = {
    "well": ("done", ""),
    "raises": ("failed", r"(?s)Traceback.*RuntimeError: no luck with 1\n"),
    "leaves": ("failed", r"(?s)Traceback.*SystemExit: a trial that leaves\n"),
    "nothing": ("failed", r"(?s)Traceback.*TypeError: a trial returns a dictionary of metrics, got None\n"),
    "array": ("failed", r"(?s)Traceback.*TypeError: a metric must be what JSON holds, .*, got array\(\[0., 0.\]\)\n"),
    "diverges": ("diverged", "step 3: the loss is nan"),
    "nan": ("diverged", ""),
    "dies once": ("done", ""),
    "exits": ("lost", f"{DIED}it ended with exit code 3"),
    "is killed": ("lost", f"{DIED}it was killed by SIGKILL"),
}
DEADLY = ("dies once", "exits", "is killed")
METRICS = {
    "well": {"i": 1, "numpy": 0.5, "tuple": [1, [2.5, None]]},
    "nan": {"loss": None, "accuracy": 0.5, "list": None, "numpy": None},
}


def check_ends(results: list[Result], hows: list[str]) -> None:
    assert sorted(each.config.how for each in results) == sorted(hows)
    for each in results:
        status, error = ENDS[each.config.how]
        assert each.status == status, each
        assert re.fullmatch(error, each.error), each.error
        metrics = METRICS.get(each.config.how, METRICS["well"] if status == "done" else {})
        assert repr(each.metrics) == repr(metrics)


@pytest.mark.parametrize("executor", [InProcess, partial(ThreadPoolExecutor, 2)], ids=["in process", "threads"])
def test_every_end_is_recorded_and_the_others_go_on(executor: Any, tmp_path: Path) -> None:
    hows = [how for how in ENDS if how not in DEADLY]
    configs = grid(how=hows, i=[1], folder=[str(tmp_path)])
    results = list(sweep(behaves, configs, executor=executor(), out=tmp_path))
    check_ends(results, hows)
    assert ResultsFile(tmp_path / "results.jsonl").read() == results


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_death_is_recorded_and_the_others_go_on(jobs: int, tmp_path: Path) -> None:
    # Between those that die are those that are innocent; the deaths of a pool are close to each other.
    configs = grid(how=ENDS, i=[1], folder=[str(tmp_path)])
    more = grid(how=["well"], i=range(2, 12), folder=[str(tmp_path)])
    mixed = [each for pair in zip(more, configs, strict=True) for each in pair]
    results = list(sweep(behaves, mixed, executor=Processes(jobs), out=tmp_path))
    assert Counter(each.status for each in results if each.config.i > 1) == {"done": 10}
    began = Counter(notes(tmp_path, "began"))
    for name, times in began.items():
        # What dies by itself has two times more, alone; nothing is cut short by another's death.
        assert times <= (3 if name.split(":")[0] in DEADLY else 1), name
    assert ResultsFile(tmp_path / "results.jsonl").read() == results
    check_ends([each for each in results if each.config.i == 1], list(ENDS))


def test_an_innocent_beside_many_that_die_is_not_run_again(tmp_path: Path) -> None:
    """It takes longer than they, so they die while it runs."""
    deadly = grid(how=["exits", "is killed"], i=[1, 2], folder=[str(tmp_path)])
    slow = grid(how=["slow"], i=range(2), folder=[str(tmp_path)])
    mixed = [slow[0], *deadly[:2], slow[1], *deadly[2:]]
    results = list(sweep(behaves, mixed, executor=Processes(2)))
    assert {each.config.how: each.status for each in results} == {"slow": "done", "exits": "lost", "is killed": "lost"}
    assert len(by_place(results)) == len(results) == 6
    assert sum(each.startswith("slow") for each in notes(tmp_path, "began")) == 2


def test_a_pool_that_cannot_go_on_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    """An executor of the standard library is at its end when a process dies; the same call goes on elsewhere."""
    hows = ["well", "dies once", "raises"]
    configs = grid(how=hows, i=[1], folder=[str(tmp_path)])
    with ProcessPoolExecutor(1, mp_context=spawn) as executor, pytest.raises(BrokenProcessPool):
        list(sweep(behaves, configs, executor=executor, out=tmp_path))
    assert [each.config.how for each in ResultsFile(tmp_path / "results.jsonl").read()] == ["well"]
    results = list(sweep(behaves, configs, executor=InProcess(), out=tmp_path))
    check_ends(results, hows)


def test_a_worker_that_is_killed_at_any_moment_costs_no_result(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    executor = Processes(2)
    configs = logs(tmp_path, 32, seconds=0.03)
    found: list[Result] = []
    killed = 0
    for result in sweep(logged, configs, executor=executor, out=tmp_path):
        found.append(result)
        if len(found) % 7 == 3:  # by then all that were hit the last time have been run again
            seen = notes(tmp_path, "began")
            time.sleep(rng.uniform(0, 0.03))
            pid = int(seen[-1].split(":")[0])
            killed += kill(pid)
    executor.shutdown()
    assert killed >= 2
    assert len(by_place(found)) == len(found) == len(configs)
    assert [(each.status, each.metrics) for each in found if each.status != "done"] == []
    undisturbed = by_place(list(sweep(logged, logs(tmp_path, 32), executor=InProcess())))
    assert [each.metrics for each in undisturbed.values()] == [
        next(each.metrics for each in found if each.config.i == i) for i in range(32)
    ]


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


# --- Going on -------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    configs = logs(tmp_path, 6)
    first = sweep(logged, configs, seeds=[0, 1], executor=InProcess(), out=tmp_path)
    begun = [next(first) for _ in range(7)]
    first.close()
    rest = list(sweep(logged, configs, seeds=[0, 1], executor=InProcess(), out=tmp_path))
    assert rest[:7] == begun  # at once, and then the others
    assert len(by_place(rest)) == 12
    assert len(notes(tmp_path, "began")) == 12
    again = list(sweep(logged, configs[::-1], seeds=[1, 0], executor=InProcess(), out=tmp_path))
    assert sorted(map(outcome, again)) == sorted(map(outcome, rest))
    assert len(notes(tmp_path, "began")) == 12
    fewer = list(sweep(logged, configs[:2], seeds=[1], executor=InProcess(), out=tmp_path))
    assert [(each.config, each.seed) for each in fewer] == [(each, 1) for each in configs[:2]]
    more = list(sweep(logged, logs(tmp_path, 7), seeds=[0, 1], executor=InProcess(), out=tmp_path))
    assert len(more) == 14
    assert len(set(notes(tmp_path, "began"))) == len(notes(tmp_path, "began")) == 14


def test_axes_in_another_order_are_the_same_sweep(tmp_path: Path) -> None:
    list(sweep(logged, grid(i=[1], folder=[str(tmp_path)], seconds=[0.0]), executor=InProcess(), out=tmp_path))
    list(sweep(logged, grid(seconds=[0.0], folder=[str(tmp_path)], i=[1]), executor=InProcess(), out=tmp_path))
    assert len(notes(tmp_path, "began")) == 1


def test_a_result_counts_for_no_configuration_that_python_holds_for_equal(tmp_path: Path) -> None:
    def trial(config: Any, seed: int) -> dict[str, Any]:
        return {"type": type(config.a).__name__}

    for _ in range(2):
        results = list(sweep(trial, grid(a=[1, True, 1.0]), executor=InProcess(), out=tmp_path))
        assert [(type(each.config.a).__name__) for each in results] == ["int", "bool", "float"]
        assert [each.metrics["type"] for each in results] == ["int", "bool", "float"]


def test_fresh_and_read_again_a_result_is_the_same(tmp_path: Path) -> None:
    configs = grid(how=["well", "nan"], i=[1], folder=[str(tmp_path)])
    fresh = list(sweep(behaves, configs, executor=InProcess(), out=tmp_path))
    assert repr(list(sweep(behaves, configs, executor=InProcess(), out=tmp_path))) == repr(fresh)


def test_a_cut_last_line_is_run_again(tmp_path: Path) -> None:
    configs = logs(tmp_path, 3)
    whole = list(sweep(logged, configs, executor=InProcess(), out=tmp_path))
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    results = list(sweep(logged, configs, executor=InProcess(), out=tmp_path))
    assert [outcome(each) for each in results] == [outcome(each) for each in whole]
    assert [each.split(":")[1] for each in notes(tmp_path, "began")] == ["0", "1", "2", "2"]
    assert ResultsFile(path).read() == results


def test_numpy_integers_are_seeds(tmp_path: Path) -> None:
    results = list(sweep(double, grid(i=[1]), seeds=np.arange(2), executor=InProcess(), out=tmp_path))
    assert [each.seed for each in ResultsFile(tmp_path / "results.jsonl").read()] == [0, 1]
    assert results == list(sweep(double, grid(i=[1]), seeds=[0, 1], executor=InProcess(), out=tmp_path))


def test_another_version_is_refused_unless_it_is_to_count(tmp_path: Path) -> None:
    configs = logs(tmp_path, 2)
    first = list(sweep(logged, configs[:1], executor=InProcess(), out=tmp_path, version="1"))
    text = message(SweepError, sweep, logged, configs, executor=InProcess(), out=tmp_path, version="2")
    assert text == (
        f"{tmp_path / 'results.jsonl'}: it has 1 results of sweep_trials.logged in version 1; this is version 2. "
        "Choose another folder (out, --out), or pass mix=True (--mix) to count them"
    )
    mixed = list(sweep(logged, configs, executor=InProcess(), out=tmp_path, version="2", mix=True))
    assert mixed[0] == first[0]
    assert [each.version for each in mixed] == ["1", "2"]
    assert len(notes(tmp_path, "began")) == 2
    other = list(sweep(logged, configs, executor=InProcess(), out=tmp_path / "other", version="2"))
    assert [outcome(each) for each in other] == [outcome(each) for each in mixed]


def test_results_of_another_trial_are_refused(tmp_path: Path) -> None:
    list(sweep(double, grid(i=[1]), executor=InProcess(), out=tmp_path))
    text = message(SweepError, sweep, logged, logs(tmp_path, 1), executor=InProcess(), out=tmp_path)
    assert text == (
        f"{tmp_path / 'results.jsonl'}: it has 1 results of sweep_trials.double; this is sweep_trials.logged. "
        "Choose another folder (out, --out)"
    )
    assert notes(tmp_path, "began") == []


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("one line\nand half of ano")
    assert "results.jsonl, line 1: not a result" in message(SweepError, sweep, double, grid(i=[1]), out=tmp_path)
    assert path.read_text() == "one line\nand half of ano"


# --- Only its own results, and nobody beside it ---------------------------------------------------------------


def total(config: Any, seed: int, data: Any) -> dict[str, Any]:
    return {"sum": float(data.sum())}


class Depth:
    """A trial whose repr is an address."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __call__(self, config: Any, seed: int) -> dict[str, Any]:
        return {"depth": self.depth}


def enclosing(value: Any) -> Any:
    def trial(config: Any, seed: int) -> dict[str, Any]:
        return {"value": float(np.sum(value))}

    return trial


def rows(last: int) -> Any:
    array = np.zeros(5000)
    array[2500] = last
    return array


@pytest.mark.parametrize(
    "make_trial",
    [
        Depth,
        lambda i: partial(total, data=rows(i)),
        lambda i: partial(Depth(1), rows(i)),
        lambda i: enclosing(rows(i)),
        lambda i: enclosing(i),
        lambda i: [lambda config, seed: {"a": 1}, lambda config, seed: {"a": 2}][i],
    ],
    ids=["an object", "a keyword", "an argument", "an enclosed array", "an enclosed number", "on one line"],
)
def test_results_of_a_trial_that_only_prints_alike_are_refused(make_trial: Any, tmp_path: Path) -> None:
    configs = grid(lr=[0.1])
    list(sweep(make_trial(0), configs, executor=InProcess(), out=tmp_path))
    text = message(SweepError, sweep, make_trial(1), configs, executor=InProcess(), out=tmp_path)
    assert "it has 1 results of" in text
    assert "Choose another folder" in text
    (again,) = sweep(make_trial(0), configs, executor=InProcess(), out=tmp_path)  # made anew, it is the same
    assert ResultsFile(tmp_path / "results.jsonl").read() == [again]


def test_a_trial_that_nothing_tells_from_another_needs_a_version(tmp_path: Path) -> None:
    trial = partial(Depth(1), threading.Lock())
    text = message(SweepError, sweep, trial, grid(lr=[0.1]), executor=InProcess(), out=tmp_path)
    assert text.startswith("sweep: nothing tells this trial from another one, whose results are not its own (partial.a")
    assert text.endswith("Pass version='1', and another one whenever the trial changes")
    (result,) = sweep(enclosing(2), grid(lr=[0.1]), executor=InProcess(), out=tmp_path, version="1")
    assert result.version == "1"
    (result,) = sweep(enclosing(threading), grid(lr=[0.1]), executor=InProcess())  # where nothing is recorded
    assert result.status == "failed"


IN_USE = r"is in use by a sweep of sweep_trials\.logged \(process {pid} on .*\. Wait until it has ended, stop it, or"


def test_a_second_sweep_in_the_folder_is_refused_at_once(tmp_path: Path) -> None:
    """In this process and in another, before and while its trials run; until its results end, are closed or dropped."""
    configs = logs(tmp_path, 3)

    def begin() -> Any:
        return sweep(logged, configs, executor=InProcess(), out=tmp_path)

    def refused() -> None:
        before = (tmp_path / "results.jsonl").read_bytes() if (tmp_path / "results.jsonl").exists() else b""
        text = message(FolderInUse, begin)
        assert re.search(IN_USE.format(pid=os.getpid()), text)
        assert text.endswith("In this process: close the results of the earlier sweep, results.close()")
        assert "is in use by" in message(FolderInUse, halving, make, grid(lr=[0.1]), epochs=2, out=tmp_path)
        after = (tmp_path / "results.jsonl").read_bytes() if (tmp_path / "results.jsonl").exists() else b""
        assert after == before

    first = begin()
    refused()
    next(first)
    refused()
    first.close()
    dropped = begin()
    refused()
    del dropped
    assert len(list(begin())) == 3
    with pytest.raises(SweepError, match="version 2"):
        sweep(logged, configs, executor=InProcess(), out=tmp_path, version="2")
    assert len(list(begin())) == 3
    assert not (tmp_path / ".lock").exists()
    assert len(notes(tmp_path, "began")) == 3


@linux
def test_a_second_sweep_in_another_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    program = "import sweep_trials; sweep_trials.run_logged(folder, 40, 0.05, 2)"
    process = start(program, tmp_path)
    wait_for(lambda: notes(tmp_path, "began"), "a trial runs")
    for _ in range(20):  # with what a second one once mended while the first one appended
        text = message(FolderInUse, sweep, logged, logs(tmp_path, 40, 0.05), out=tmp_path)
        assert re.search(IN_USE.format(pid=process.pid), text)
        assert "In this process" not in text
    process.kill()
    process.wait()
    process.stderr.close()  # type: ignore[union-attr]
    wait_for(lambda: none_left(tmp_path), "its processes have ended", 30)
    done = recorded(tmp_path)
    before = len(notes(tmp_path, "began"))
    assert len(sweep_trials.run_logged(str(tmp_path), 40, 0.05, 2)) == 40
    assert not done & {int(each.split(":")[1]) for each in notes(tmp_path, "began")[before:]}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_a_trial_stops_the_sweep(code: int, tmp_path: Path) -> None:
    def trial(config: Any, seed: int) -> dict[str, Any]:
        if config.i == 1 or (config.i == 2 and bad):
            raise OSError(errno.ENOENT if config.i == 1 else code, "the disk says no")
        return {"i": config.i}

    bad, how = [1], {"executor": InProcess(), "out": tmp_path, "version": "1"}
    text = rf"the trial of configuration\(i=2\), seed 0, cannot read or write \(\[Errno {code}\] the disk says no\)"
    with pytest.raises(StorageError, match=text):
        list(sweep(trial, grid(i=range(4)), **how))
    found = ResultsFile(tmp_path / "results.jsonl").read()
    assert [each.status for each in found] == ["done", "failed"]  # a file that is missing is the trial's own
    bad.clear()
    assert [each.status for each in sweep(trial, grid(i=range(4)), **how)] == ["done", "failed", "done", "done"]


def test_a_full_disk_stops_the_sweep_and_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: ResultsFile, result: Result) -> None:
        raise OSError(28, "No space left on device")

    before = set(multiprocessing.active_children())
    with monkeypatch.context() as patch:
        patch.setattr(ResultsFile, "append", full)
        configs = grid(i=range(6), quick=[1], folder=[str(tmp_path)])
        with pytest.raises(OSError, match="No space left"):
            list(sweep(waits, configs, out=tmp_path))
    assert set(multiprocessing.active_children()) <= before
    assert ResultsFile(tmp_path / "results.jsonl").read() == []


def test_what_had_finished_when_it_was_stopped_is_kept(tmp_path: Path) -> None:
    with Counting() as executor:
        results = sweep(double, grid(i=range(5)), executor=executor, out=tmp_path)
        next(results)
        wait_for(lambda: executor.now == 0, "all have finished")
        results.close()  # type: ignore[attr-defined]
    assert sorted(each.config.i for each in ResultsFile(tmp_path / "results.jsonl").read()) == list(range(5))


# --- What is refused, and what a trial is called --------------------------------------------------------------


def test_bad_sweeps_are_refused_at_once(tmp_path: Path) -> None:
    one = configuration(i=1)
    for seeds in ([], [1, 1]):
        text = f"sweep: expected at least one seed, and none twice, got {seeds}"
        assert message(SweepError, sweep, double, [one], seeds=seeds) == text
    text = "expected at least one configuration, got none: the sweep is empty"
    assert message(SweepError, sweep, double, []) == text
    assert "configuration(i=1) is there twice" in message(SweepError, sweep, double, [one, one])
    with pytest.raises(TypeError):
        sweep(double, [one], seeds=[0.5])
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write in the folder"):
        sweep(double, [one], out=tmp_path / "file")


ONE = (configuration(i=1),)
WILD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a trial": (TypeError, {"trial": 3}, "sweep: trial must be a function of (config, seed), got 3"),
    "one configuration": (
        SweepError,
        {"configurations": ONE[0]},
        "configurations must be a list of them, got configur",
    ),
    "a dictionary": (
        SweepError,
        {"configurations": {"lr": 0.1}},
        "configurations must be a list of them, got {'lr': 0",
    ),
    "dictionaries": (
        SweepError,
        {"configurations": [{"lr": 0.1}]},
        "configurations must be a list of them, got [{'lr'",
    ),
    "a text": (SweepError, {"configurations": "lr"}, "configurations must be a list of them, got 'lr'. Write grid("),
    "a number": (SweepError, {"configurations": 3}, "configurations must be a list of them, got 3. Write grid("),
    "endless": (
        SweepError,
        {"configurations": itertools.repeat(ONE[0])},
        "more than 100,000 configurations: draw some",
    ),
    "a number of seeds": (TypeError, {"seeds": 3}, "sweep: seeds must be a list of ints, as range(3), got 3"),
    "digits": (TypeError, {"seeds": "01"}, "sweep: seeds must be a list of ints, as range(3), got '01'"),
    "floats": (TypeError, {"seeds": [0.0]}, "sweep: a seed must be an int, got 0.0"),
    "truth values": (TypeError, {"seeds": [True]}, "sweep: a seed must be an int, got True"),
    "endless seeds": (
        SweepError,
        {"seeds": itertools.count()},
        "sweep: more than 1,000,000 seeds",
    ),
    "a number of jobs": (TypeError, {"executor": 2}, "sweep: executor must be as Processes(2) is, got 2"),
    "a class": (TypeError, {"executor": Processes}, "sweep: executor must be as Processes(2) is, got <class"),
    "a folder": (TypeError, {"out": 3}, "sweep: out must be the path of a folder, got 3"),
    "a version": (TypeError, {"version": 1}, "sweep: version must be a text, got 1"),
    "mix": (TypeError, {"mix": "yes"}, "sweep: mix must be True or False, got 'yes'"),
    "retry": (TypeError, {"retry": 1}, "sweep: retry must be True or False, got 1"),
}


@pytest.mark.parametrize(("error", "given", "text"), WILD.values(), ids=WILD)
def test_wild_arguments_are_named(error: type[Exception], given: Any, text: str) -> None:
    arguments = {"trial": double, "configurations": ONE, **given}
    assert message(error, sweep, **arguments).startswith(text)


def test_a_trial_that_no_other_process_could_import_is_refused_at_once() -> None:
    def inner(config: Any, seed: int) -> dict[str, Any]:
        return {"i": config.i}

    for trial in (inner, lambda config, seed: {"i": config.i}):
        text = message(SweepError, sweep, trial, grid(i=[1]))
        start = f"sweep: the trial {trial_name(trial)} cannot be sent to another process (Can't pickle local object"
        if "Can't pickle local" not in text:  # as later versions of Python say
            start = start.split("(")[0]
        assert text.startswith(start)
        assert text.endswith(
            "Move it to module level (no lambda, no function within a function), or pass executor=InProcess()"
        )
        assert [each.metrics for each in sweep(trial, grid(i=[1]), executor=InProcess())] == [{"i": 1}]


PROGRAM = """
import sys
from funcnn.sweep import Processes, grid, sweep

def trial(config, seed):
    return {"i": config.i}

for result in sweep(trial, grid(i=[1, 2]), executor=Processes(2), out=sys.argv[1]):
    print(result)
"""


def test_a_script_without_a_guard_is_told_of_it_and_no_trial_is_lost(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROGRAM)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert run.stdout == ""
    text = "SweepError: sweep: no worker can start and import the trial script.trial (CannotStart: a process ended with"
    assert f"{text} exit code 1 before it had begun). A script calls" in run.stderr
    assert "A script calls sweep below `if __name__ == '__main__':`" in run.stderr
    assert ResultsFile(tmp_path / "out" / "results.jsonl").read() == []
    guarded = PROGRAM.replace("for result", "if __name__ == '__main__':\n  for result")
    (tmp_path / "script.py").write_text(guarded)
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr, run.stdout.count("'done'")) == (0, "", 2)


def test_a_trial_that_was_typed_in_is_told_to_be_in_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-", tmp_path]
    run = subprocess.run(command, input=PROGRAM, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert re.search(
        r"SweepError: sweep: no worker can start and import the trial \S+\.trial \((Cannot|Attrib)", run.stderr
    )
    assert "not typed into an interpreter. Or pass executor=InProcess()" in run.stderr
    assert ResultsFile(tmp_path / "results.jsonl").read() == []
    here = PROGRAM.replace("Processes(2)", "InProcess()").replace("import Processes", "import InProcess")
    run = subprocess.run(command, input=here, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr, run.stdout.count("'done'")) == (0, "", 2)


class Away(Executor):
    """Whose workers cannot import anything of ours."""

    def submit(self, *arguments: Any, **options: Any) -> Any:
        future: Future[Any] = Future()
        future.set_exception(ModuleNotFoundError("No module named 'sweep_trials'"))
        return future


def test_workers_that_lack_the_trial_are_told_of_and_no_trial_is_lost(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"import the trial sweep_trials.double \(ModuleNotFoundError: No mod"):
        list(sweep(double, grid(i=[1]), executor=Away(), out=tmp_path))
    assert ResultsFile(tmp_path / "results.jsonl").read() == []


@attrs.frozen
class Scaled:
    """A trial with settings of its own."""

    by: float
    function: Any = double

    def __call__(self, config: Any, seed: int) -> dict[str, Any]:
        return {"value": self.by * config.i}


@wraps(double)
def wrapped(config: Any, seed: int) -> dict[str, Any]:
    return double(config, seed)


def test_a_trial_is_called_by_its_function() -> None:
    assert trial_name(double) == "sweep_trials.double"
    for trial in (partial(double, seed=1), partial(partial(double), seed=1), wrapped, partial(wrapped, seed=2)):
        assert trial_name(trial) == "sweep_trials.double"
    for trained in (TrainingTrial(make), TrainingTrial(partial(make, seed=1)), TrainingTrial(wraps(make)(wrapped))):
        assert trial_name(trained) == "sweep_trials.make"
    assert trial_name(Scaled(2)) == f"{Scaled.__module__}.Scaled"


def test_another_source_or_setting_is_another_version_and_another_address_is_not() -> None:
    trials = [
        double, logged, Scaled(2.0), Scaled(3.0), partial(double, seed=1), partial(double, seed=2),
        partial(logged, seed=1), partial(double, seed=double), TrainingTrial(make),
        TrainingTrial(partial(make, seed=1)), TrainingTrial(partial(make, seed=2)),
        TrainingTrial(partial(logged, seed=1)),
    ]  # fmt: skip
    versions = [trial_version(trial) for trial in trials]
    assert len(set(versions)) == len(trials)
    program = (
        "from functools import partial\nfrom sweep_trials import *\n"
        "from funcnn.sweep.trials import trial_version as version\n"
        "print(version(double), version(partial(double, seed=double)), version(TrainingTrial(partial(make, seed=1))))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=TESTS, capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == [versions[0], versions[7], versions[9]]


# --- Processes ------------------------------------------------------------------------------------------------


def test_processes_are_of_one_thread_and_the_pool_is_as_large_as_asked_for() -> None:
    with Processes(2) as executor:
        assert executor.submit(workers.threads.threads).result(60) == 1
        assert executor.submit(os.getenv, "NUMEXPR_NUM_THREADS").result(60) == "1"
        limits = executor.submit(blas_threads).result(60)
    assert limits <= {1}


@pytest.mark.parametrize("jobs", [0, -1, 2.5, "2", True, [2]])
def test_a_number_of_processes_is_a_positive_int(jobs: Any) -> None:
    assert message(ValueError, Processes, jobs) == f"Processes: jobs must be an int of at least 1, got {jobs!r}"


@pytest.mark.parametrize("memory", [0, -1.0, math.nan, "300", None])
def test_the_memory_of_a_process_is_a_positive_number(memory: Any) -> None:
    text = f"Processes: memory_mb must be a number of more than 0, got {memory!r}"
    assert message(ValueError, Processes, 1, memory_mb=memory) == text


@pytest.mark.parametrize(("free", "jobs", "fit"), [(700.0, 4, 2), (100.0, 2, 1), (299.0, 2, 1)])
def test_more_processes_than_fit_in_memory_are_fewer_with_a_warning(
    free: float, jobs: int, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_free_memory_mb", lambda: free)
    text = f"{jobs} processes of 300 MB do not fit in the {free:.0f} MB that are free: {fit} will run"
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$") as caught:
        assert Processes(jobs).jobs == fit
    assert caught[0].filename == __file__


@pytest.mark.parametrize("free", [None, 600.0, 1e6])
def test_as_many_as_fit_run_without_a_word(free: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_free_memory_mb", lambda: free)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Processes(2).jobs == 2


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="there is no /proc/meminfo")
def test_the_free_memory_is_that_of_this_machine() -> None:
    free = workers._free_memory_mb()
    assert free is not None
    assert 1 < free < 1e8


def test_what_was_submitted_is_done_after_a_shutdown_that_does_not_wait() -> None:
    executor = Processes(1)
    futures = [executor.submit(pow, 2, i) for i in range(4)]
    executor.shutdown(wait=False)
    assert [future.result(60) for future in futures] == [1, 2, 4, 8]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 3)


@linux
@pytest.mark.parametrize(("times", "starts"), [(2, True), (99, False)])
def test_a_process_that_is_killed_while_it_starts_is_replaced(times: int, starts: bool, tmp_path: Path) -> None:
    """By whoever runs out of memory: it says nothing about the script, unless none ever starts."""
    killed: set[int] = set()
    over = threading.Event()

    def kill_those_that_start() -> None:
        while not over.is_set() and len(killed) < times:
            with _looking:  # which the pool's threads hold too: of two that look, one learns no exit code
                children = multiprocessing.active_children()
            for child in children:
                if child.pid not in killed and len(killed) < times:
                    killed.add(child.pid)
                    child.kill()
            time.sleep(0.005)

    thread = threading.Thread(target=kill_those_that_start)
    thread.start()
    try:
        with Processes(1) as executor:
            results = sweep(double, grid(i=range(3)), executor=executor, out=tmp_path)
            if starts:
                assert [each.status for each in results] == ["done"] * 3
                assert len(killed) == times
            else:
                text = message(SweepError, list, results)
                how = "CannotStart: a process was killed by SIGKILL before it had begun"
                assert text.startswith(
                    f"sweep: no worker can start any more ({how}). If the memory is full, take fewer"
                )
                assert ResultsFile(tmp_path / "results.jsonl").read() == []
    finally:
        over.set()
        thread.join()


@linux
def test_an_idle_process_that_is_killed_is_replaced() -> None:
    with Processes(1) as executor:
        for _ in range(3):
            os.kill(executor.submit(os.getpid).result(60), signal.SIGKILL)
        assert executor.submit(pow, 2, 3).result(60) == 8


@linux
def test_a_shutdown_does_not_wait_for_a_process_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is stopped hears nothing, and holds whatever it held."""
    monkeypatch.setattr(pool, "_GRACE", 0.5)
    executor = Processes(2)
    configs = grid(i=range(5), quick=[0], folder=[str(tmp_path)])
    running = [executor.submit(waits, each, 0) for each in configs]
    pids = wait_for(
        lambda: len(notes(tmp_path, "began")) == 2 and notes(tmp_path, "began"), "both processes run a trial"
    )
    for pid in pids:
        os.kill(int(pid), signal.SIGSTOP)
    began = time.monotonic()
    executor.shutdown(wait=True, cancel_futures=True)
    assert time.monotonic() - began < 20
    assert [each.cancelled() for each in running] == [False, False, True, True, True]
    assert {str(each.exception()) for each in running[:2]} == {"it was killed by SIGKILL"}
    assert not any(map(alive, pids))


def test_what_cannot_be_sent_back_is_said_and_the_process_goes_on() -> None:
    with Processes(1) as executor:
        assert "cannot be sent from a worker" in str(executor.submit(sweep_trials.unsendable).exception(60))
        assert isinstance(executor.submit(sweep_trials.odd).exception(60), TypeError)
        assert "local object" in str(executor.submit(lambda: 1).exception(60))
        error = executor.submit(divmod, 1, 0).exception(60)
        assert isinstance(error, ZeroDivisionError)
        assert "In a worker:" in error.__notes__[0]
        assert executor.submit(pow, 2, 3).result(60) == 8


@linux
def test_processes_that_nobody_has_any_more_end() -> None:
    executor = Processes(2)
    futures = [executor.submit(os.getpid) for _ in range(4)]
    del executor
    pids = {future.result(60) for future in futures}
    wait_for(lambda: not any(map(alive, pids)), "they have ended", 30)


# --- Stopping -------------------------------------------------------------------------------------------------


def alive(pid: str | int) -> bool:
    """Whether a process is there, and is no child of ours that ended and was not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@linux
def test_closing_the_results_stops_the_trials(tmp_path: Path) -> None:
    results = sweep(waits, grid(i=range(8), quick=[1], folder=[str(tmp_path)]), executor=None, out=tmp_path)
    assert next(results).config.i == 0
    wait_for(lambda: notes(tmp_path, "began"), "a trial runs")
    results.close()
    began = notes(tmp_path, "began")
    assert notes(tmp_path, "interrupted")
    assert set(notes(tmp_path, "interrupted")) <= set(began)
    assert [pid for pid in began if alive(pid)] == []
    assert [each.config.i for each in ResultsFile(tmp_path / "results.jsonl").read()] == [0]


@linux
def test_an_exception_in_a_with_block_stops_the_trials(tmp_path: Path) -> None:
    configs = grid(i=range(8), quick=[1], folder=[str(tmp_path)])
    with contextlib.suppress(ZeroDivisionError), Processes(2) as executor:
        for _ in sweep(waits, configs, executor=executor):
            wait_for(lambda: notes(tmp_path, "began"), "a trial runs")
            raise ZeroDivisionError
    began = notes(tmp_path, "began")
    assert sorted(notes(tmp_path, "interrupted")) == sorted(began)
    assert [pid for pid in began if alive(pid)] == []


@linux
def test_a_trial_that_does_not_hear_is_stopped_all_the_same(tmp_path: Path) -> None:
    executor = Processes(1)
    executor.submit(deaf, configuration(folder=str(tmp_path)), 0)
    (pid,) = wait_for(lambda: notes(tmp_path, "began"), "the trial runs")
    executor.shutdown(wait=True, cancel_futures=True)
    assert not alive(pid)


@linux
@pytest.mark.parametrize("own", [True, False], ids=["its executor", "the caller's executor"])
@pytest.mark.parametrize("everyone", [True, False], ids=["a terminal's Ctrl-C", "a signal to the parent"])
def test_an_interrupt_reaches_the_trials_and_keeps_what_is_done(own: bool, everyone: bool, tmp_path: Path) -> None:
    process = start(f"import sweep_trials; sweep_trials.run_until_interrupted(folder, 2, own={own})", tmp_path)
    wait_for(lambda: len(notes(tmp_path, "began")) == 2, "as many trials run as there are processes")
    (os.killpg if everyone else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert sorted(notes(tmp_path, "interrupted")) == sorted(notes(tmp_path, "began"))
    assert sorted(each.config.i for each in ResultsFile(tmp_path / "results.jsonl").read()) == [0, 1]
    wait_for(lambda: none_left(tmp_path), "its processes have ended", 30)


SCRIPT = """
import signal, sys, sweep_trials
from funcnn.experiment import parse_sweep_options, run_script, run_sweep
def main():
    axes = {"i": range(8), "quick": [1], "folder": [folder]}
    sys.argv = ["sweep.py", "--jobs=2", "--seeds=1", "--no-plots", f"--out={folder}"]
    options = parse_sweep_options("Q?", name="demo", axes=axes, quick={}, epochs=1)
    run_sweep(sweep_trials.waits, options, question="Q?", draw=[], metric="i")
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whatever this was started from ignores
    signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
run_script(main)
"""


@linux
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("everyone", [True, False], ids=["to all", "to the parent"])
def test_a_script_of_a_sweep_is_stopped_by_any_signal_as_by_ctrl_c(name: str, everyone: bool, tmp_path: Path) -> None:
    process = start(SCRIPT, tmp_path)
    wait_for(lambda: len(notes(tmp_path, "began")) == 2, "as many trials run as there are processes")
    (os.killpg if everyone else os.kill)(process.pid, getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert sorted(notes(tmp_path, "interrupted")) == sorted(notes(tmp_path, "began"))
    assert [each.config.i for each in ResultsFile(tmp_path / "results.jsonl").read()] == [0]
    wait_for(lambda: none_left(tmp_path), "its processes have ended", 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["began", "interrupted", "results.jsonl"]


@linux
@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_while_the_processes_start_makes_no_noise(seed: int, tmp_path: Path) -> None:
    process = start("import sweep_trials; sweep_trials.run_until_interrupted(folder, 0, own=False)", tmp_path)
    wait_for(lambda: (tmp_path / "ready").exists(), "the sweep is about to start")
    time.sleep(np.random.default_rng(seed).uniform(0, 0.7))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert sorted(notes(tmp_path, "interrupted")) == sorted(notes(tmp_path, "began"))
    wait_for(lambda: none_left(tmp_path), "its processes have ended", 30)


@linux
def test_a_program_that_fails_while_trials_run_ends(tmp_path: Path) -> None:
    program = """
from sweep_trials import *
results = sweep(waits, grid(i=range(8), quick=[1], folder=[folder]), executor=Processes(2))
for result in results:
    raise ZeroDivisionError
"""
    process = start(program, tmp_path)
    _, errors = process.communicate(timeout=60)  # half of what a trial would take
    assert process.returncode == 1
    assert errors.rstrip().endswith("ZeroDivisionError")
    assert errors.count("Traceback") == 1
    wait_for(lambda: none_left(tmp_path), "its processes have ended", 30)


@linux
def test_killed_again_and_again_a_sweep_goes_on_and_nothing_is_done_twice(tmp_path: Path) -> None:
    """At six random moments from when the first trial of a start runs, each killing what went on from the last."""
    count = 40
    program = f"import sweep_trials; sweep_trials.run_logged(folder, {count}, 0.05, 2)"
    killed = 0
    for moment in np.random.default_rng(0).uniform(0, 0.25, size=6):
        before, done = len(notes(tmp_path, "began")), recorded(tmp_path)
        process = start(program, tmp_path)
        wait_for(
            lambda: len(notes(tmp_path, "began")) > before or process.poll() is not None,  # noqa: B023
            "a trial runs, or all are done",
        )
        time.sleep(moment)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        process.stderr.close()  # type: ignore[union-attr]
        wait_for(lambda: none_left(tmp_path), "its processes have ended", 30)
        assert not done & {int(each.split(":")[1]) for each in notes(tmp_path, "began")[before:]}
    assert killed >= 3
    before, done = len(notes(tmp_path, "began")), recorded(tmp_path)
    results = sweep_trials.run_logged(str(tmp_path), count, 0.05, 2)
    assert not done & {int(each.split(":")[1]) for each in notes(tmp_path, "began")[before:]}
    configs = logs(tmp_path, count, 0.05)
    undisturbed = sweep(logged, [attrs.evolve(each) for each in configs], executor=ThreadPoolExecutor(40))
    assert sorted(map(outcome, results)) == sorted(map(outcome, undisturbed))
    assert Counter(recorded_all(tmp_path)) == dict.fromkeys(range(count), 1)


def recorded_all(folder: Path) -> Iterator[int]:
    return (each.config.i for each in ResultsFile(folder / "results.jsonl").read())


def recorded(folder: Path) -> set[int]:
    return set(recorded_all(folder))


def test_notes_are_whole_whoever_takes_them(tmp_path: Path) -> None:
    """What the tests above count by."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: note(tmp_path, "n", f"{i}"), range(500)))
    assert sorted(map(int, notes(tmp_path, "n"))) == list(range(500))


class _Wrapping(Executor):
    """An executor that wraps what goes wrong in an error of its own, as clusters do."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            try:
                raise ModuleNotFoundError("No module named 'mine'")
            except ModuleNotFoundError as error:
                raise RuntimeError("deserialization failed:\nsee elsewhere") from error
        except RuntimeError as error:
            future.set_exception(error)
        return future


def test_the_first_cause_is_told_first() -> None:
    text = "(ModuleNotFoundError: No module named 'mine'; RuntimeError: deserialization failed: see elsewhere)"
    with pytest.raises(SweepError, match=re.escape(text)):
        list(sweep(double, grid(i=[1]), executor=_Wrapping(), version="1"))
