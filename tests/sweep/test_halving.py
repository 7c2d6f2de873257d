"""Successive halving: who goes on, and that those who reach the end are as if nobody had ever stopped."""

import errno
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import sweep_trials
from cases import message
from processes import linux, none_left, start, wait_for
from sweep_trials import BATCHES, EPOCHS, make, make_in_shards, notes, outcome

from funcnn import Key, checkpoint, train
from funcnn.sweep import Configuration, InProcess, Processes, Result, SweepError, TrainingTrial, grid, halving, sweep
from funcnn.sweep.halving import _Ladder, rungs
from funcnn.sweep.results import ResultsFile, StorageError, trial_key

RATES = (0.0001, 0.001, 0.01, 0.1, 0.0003, 0.003, 0.03, 0.3, 0.002)


def climb(folder: Path, rates: Sequence[float] = RATES, executor: Any = None, **settings: Any) -> Any:
    configs = grid(lr=rates, folder=[str(folder)])
    return halving(make, configs, epochs=EPOCHS, executor=executor or InProcess(), out=folder, **settings)


def steps(results: Sequence[Result]) -> list[tuple[float, int]]:
    return [(each.config.lr, each.metrics["epochs"]) for each in results]


def trained(folder: Path) -> dict[str, float]:
    """How many epochs each configuration was trained in all, by its learning rate."""
    return {name: count / BATCHES for name, count in Counter(notes(folder, "taken")).items()}


# --- Rungs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((30, 1, 3), (1, 3, 9, 30)),
        ((27, 1, 3), (1, 3, 9, 27)),
        ((26, 1, 3), (1, 3, 26)),
        ((9, 2, 2), (2, 4, 9)),
        ((9, 4, 3), (4, 9)),
        ((2, 1, 3), (1, 2)),
        ((1, 1, 3), (1,)),
        ((5, 5, 2), (5,)),
        ((100, 7, 10), (7, 100)),
    ],
)
def test_rungs_go_up_by_the_factor_to_the_last_epoch(arguments: Any, expected: tuple[int, ...]) -> None:
    assert rungs(*arguments) == expected


@pytest.mark.parametrize(("epochs", "first", "factor"), [(9, 0, 3), (9, 10, 3), (9, 1, 1), (0, 1, 3), (9, -1, 3)])
def test_rungs_that_cannot_be_are_refused(epochs: int, first: int, factor: int, tmp_path: Path) -> None:
    text = f"rungs: first must be from 1 to {epochs} and factor at least 2, got {first} and {factor}"
    assert message(SweepError, rungs, epochs, first, factor) == text
    settings = {"epochs": epochs, "first": first, "factor": factor, "out": tmp_path / "out"}
    assert message(SweepError, halving, make, grid(lr=[0.1]), **settings) == text
    assert not (tmp_path / "out").exists()


# --- Who goes on ----------------------------------------------------------------------------------------------


def scored(config: Configuration, epochs: int, accuracy: float | None, status: str = "done") -> Result:
    metrics = {} if status in ("failed", "lost") else {"epochs": epochs, "validation_accuracy": accuracy}
    return Result("", config, 0, status, metrics, 0.0, "", "", "")  # type: ignore[arg-type]


def naive_next(
    tree: dict[int, list[tuple[float, int]]], gone_on: dict[int, set[int]], fresh: list[int], top: int, factor: int
) -> tuple[int, int] | None:
    """ASHA's get_job as the paper has it (algorithm 2): a number and its next rung."""
    for rung in range(top - 1, -1, -1):
        ranked = sorted(tree[rung], key=lambda entry: -entry[0])  # stable: the earlier of equals
        candidates = ranked[: int(len(ranked) / factor)]
        promotable = [i for score, i in candidates if i not in gone_on[rung] and score != -np.inf]
        if promotable:
            return promotable[0], rung + 1
    return (fresh[0], 0) if fresh else None


@pytest.mark.parametrize("seed", range(20))
def test_the_next_is_who_the_paper_says(seed: int) -> None:
    """Made-up scores, some of them equal or below 0, some trials failing; up to eight at a time, in any order."""
    rng = np.random.default_rng(seed)
    factor, count, at_a_time = int(rng.integers(2, 5)), int(rng.integers(1, 60)), int(rng.integers(1, 9))
    epochs = rungs(int(rng.integers(1, 60)), 1, factor)
    top = len(epochs) - 1
    configs = grid(i=range(count))
    ladder = _Ladder(configs, epochs, factor)
    tree: dict[int, list[tuple[float, int]]] = {rung: [] for rung in range(top + 1)}
    gone_on: dict[int, set[int]] = {rung: set() for rung in range(top + 1)}
    fresh, running, reached = list(range(count)), [], []
    while True:
        while len(running) < at_a_time:
            expected = naive_next(tree, gone_on, fresh, top, factor)
            found = ladder.next()
            assert found == (None if expected is None else (configs[expected[0]], epochs[expected[1]]))
            if expected is None:
                break
            i, rung = expected
            if rung:
                gone_on[rung - 1].add(i)
            else:
                fresh.remove(i)
            running.append(expected)
        if not running:
            break
        for _ in range(int(rng.integers(1, len(running) + 1))):
            i, rung = running.pop(int(rng.integers(len(running))))
            reached.append((i, rung))
            status = str(rng.choice(["done", "failed", "lost", "diverged"], p=[0.85, 0.05, 0.05, 0.05]))
            score = float(rng.integers(-5, 6))
            tree[rung].append((score if status == "done" else -np.inf, i))
            ladder.add(scored(configs[i], epochs[rung], score if status == "done" else None, status))
    assert len(set(reached)) == len(reached)
    assert {i for i, rung in reached if rung == 0} == set(range(count))
    for rung in range(top):
        entered = sum(each == rung + 1 for _, each in reached)
        assert entered >= sum(score > -np.inf for score, _ in sorted(tree[rung])[::-1][: len(tree[rung]) // factor])


def test_a_ladder_that_is_told_of_results_goes_on_where_it_was() -> None:
    configs = grid(i=range(9))
    whole = _Ladder(configs, (1, 3, 9), 3)
    told: list[Result] = []
    while (step := whole.next()) is not None:
        anew = _Ladder(configs, (1, 3, 9), 3)
        for result in told:
            anew.add(result)
        assert anew.next() == step
        config, epochs = step
        told.append(scored(config, epochs, 0.1 * ((5 * config.i) % 9), "failed" if config.i == 3 else "done"))
        whole.add(told[-1])
    assert max(each.metrics["epochs"] for each in told if each.metrics) == 9


def test_a_ladder_of_many_is_climbed_in_no_time() -> None:
    """Two thousand: looking each up in a list of all would take minutes."""
    ladder = _Ladder(grid(i=range(2000)), (1, 3), 3)
    count = 0
    while (step := ladder.next()) is not None:
        ladder.add(scored(step[0], step[1], step[0].i / 2000))
        count += 1
    assert count > 2000 + 2000 // 3


# --- Trainings ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    """A halving left alone, in this process."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, list(climb(folder))


def without_folder(results: Sequence[Result]) -> list[str]:
    return [outcome(attrs.evolve(each, config=grid(lr=[each.config.lr])[0])) for each in results]


def test_the_best_reach_the_end_and_are_as_if_trained_at_once(finished: tuple[Path, list[Result]]) -> None:
    _, results = finished
    counts = Counter(each.metrics["epochs"] for each in results)
    assert counts[1] == 9
    assert counts[3] >= 3
    assert counts[9] >= 1
    at = {
        epochs: sorted(each.metrics["validation_accuracy"] for each in results if each.metrics["epochs"] == epochs)
        for epochs in (1, 3)
    }
    went_on = {each.config for each in results if each.metrics["epochs"] == 3}
    best = [each for each in results if each.metrics["epochs"] == 1 and each.metrics["validation_accuracy"] > at[1][5]]
    assert {each.config for each in best} <= went_on
    plain = without_folder(list(sweep(TrainingTrial(make), grid(lr=RATES), executor=InProcess())))
    last = without_folder([each for each in results if each.metrics["epochs"] == EPOCHS])
    assert len(last) == counts[9]
    assert set(last) <= set(plain)


def test_no_epoch_is_trained_twice(finished: tuple[Path, list[Result]]) -> None:
    folder, results = finished
    furthest = {f"{rate}": max(epochs for lr, epochs in steps(results) if lr == rate) for rate in RATES}
    assert trained(folder) == furthest


def test_a_result_of_each_rung_is_recorded_under_a_key_of_its_own(finished: tuple[Path, list[Result]]) -> None:
    folder, results = finished
    assert ResultsFile(folder / "results.jsonl").read() == results
    assert len({each.key for each in results}) == len(results)
    assert {each.trial for each in results} == {"sweep_trials.make (halving)"}
    assert all(
        sorted(each.metrics) == sorted([
            "epochs", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss",
            "test_accuracy",
        ])
        for each in results
    )  # fmt: skip


@pytest.mark.parametrize("executor", [partial(ThreadPoolExecutor, 3), partial(Processes, 2)], ids=["threads", "two"])
def test_on_any_executor_nobody_is_trained_twice_and_the_end_is_the_same(executor: Any, tmp_path: Path) -> None:
    with executor() as workers:
        results = list(climb(tmp_path, executor=workers))
    check_climbed(tmp_path, results)
    furthest = {f"{rate}": max(epochs for lr, epochs in steps(results) if lr == rate) for rate in RATES}
    assert trained(tmp_path) == furthest


def check_climbed(folder: Path, results: Sequence[Result]) -> None:
    """What holds for any order in which trials end."""
    assert Counter(steps(results)).most_common(1)[0][1] == 1
    assert {lr for lr, epochs in steps(results) if epochs == 1} == set(RATES)
    for lr, epochs in steps(results):
        assert epochs == 1 or (lr, epochs // 3) in steps(results)  # nobody leaves a rung out
    assert sum(epochs == 3 for _, epochs in steps(results)) >= 3
    assert sum(epochs == 9 for _, epochs in steps(results)) >= 1
    configs = grid(lr=[lr for lr, epochs in steps(results) if epochs == 9])
    plain = without_folder(list(sweep(TrainingTrial(make), configs, executor=InProcess())))
    assert sorted(without_folder([each for each in results if each.metrics["epochs"] == 9])) == sorted(plain)


# --- Going on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[1], [4, 1, 1], [9, 11, 12, 13]])
def test_stopped_and_started_again_it_ends_the_same(
    stops: list[int], finished: tuple[Path, list[Result]], tmp_path: Path
) -> None:
    for stop in stops:
        results = climb(tmp_path)
        for _ in range(stop):
            next(results)
        results.close()
    results = list(climb(tmp_path))
    assert without_folder(results) == without_folder(finished[1])
    assert trained(tmp_path) == trained(finished[0])
    assert list(climb(tmp_path)) == results
    assert trained(tmp_path) == trained(finished[0])


@pytest.mark.parametrize("which", [0, 5, 12])
def test_stopped_between_checkpoint_and_record_it_ends_the_same(
    which: int, finished: tuple[Path, list[Result]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, count = ResultsFile.append, 0

    def fail(self: ResultsFile, result: Result) -> None:
        nonlocal count
        count += 1
        if count > which:
            raise KeyboardInterrupt
        append(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(ResultsFile, "append", fail)
        with pytest.raises(KeyboardInterrupt):
            list(climb(tmp_path))
    assert len(ResultsFile(tmp_path / "results.jsonl").read()) == which
    results = list(climb(tmp_path))
    assert without_folder(results) == without_folder(finished[1])
    assert trained(tmp_path) == trained(finished[0])


def test_a_record_that_was_removed_is_trained_anew_though_the_checkpoint_is_further(tmp_path: Path) -> None:
    whole = list(climb(tmp_path))
    path = tmp_path / "results.jsonl"
    last = next(each for each in ResultsFile(path).read() if each.metrics["epochs"] == EPOCHS).config
    lines = [line for line in path.read_text().splitlines() if f'"lr": {last.lr},' not in line]
    path.write_text("\n".join(lines) + "\n")
    results = list(climb(tmp_path))
    assert {each.status for each in results} == {"done"}
    again = {each.metrics["epochs"]: each for each in results if each.config == last}
    assert 1 in again
    before = [outcome(each) for each in whole if each.config == last]
    assert [outcome(each) for each in again.values()] == before[: len(again)]


def test_checkpoints_of_another_version_do_not_count(finished: tuple[Path, list[Result]], tmp_path: Path) -> None:
    list(climb(tmp_path, RATES[:3], version="1"))
    (tmp_path / "results.jsonl").unlink()
    before = trained(tmp_path)
    list(climb(tmp_path, RATES[:3], version="2"))
    assert trained(tmp_path) == {name: 2 * epochs for name, epochs in before.items()}


def test_another_seed_is_another_halving(tmp_path: Path) -> None:
    first = list(climb(tmp_path, RATES[:3], seed=0))
    second = list(climb(tmp_path, RATES[:3], seed=1))
    assert {each.seed for each in second} == {1}
    assert len(second) >= 3
    assert not set(map(outcome, first)) & set(map(outcome, second))
    assert list(climb(tmp_path, RATES[:3], seed=0)) == first


def test_another_version_or_a_plain_sweep_in_the_folder_is_refused(tmp_path: Path) -> None:
    list(climb(tmp_path, RATES[:1], version="1"))
    path = tmp_path / "results.jsonl"
    text = message(SweepError, climb, tmp_path, RATES[:1], version="2")
    assert text.startswith(f"{path}: it has 1 results of sweep_trials.make (halving) in version 1; this is ")
    for mix in (False, True):  # what was stopped after an epoch is no result of a whole trial, whatever the version
        text = message(SweepError, sweep, TrainingTrial(make), grid(lr=[0.1]), out=tmp_path, version="1", mix=mix)
        assert "it has 1 results of sweep_trials.make (halving); this is sweep_trials.make. Choose another" in text
    counted = list(climb(tmp_path, RATES[:1], version="2", mix=True))
    assert [each.version for each in counted] == ["1"]


def test_results_of_other_rungs_are_refused(tmp_path: Path) -> None:
    list(climb(tmp_path, RATES[:3]))
    assert message(SweepError, climb, tmp_path, RATES[:3], first=2) == (
        f"{tmp_path / 'results.jsonl'}: it has results after 1 epochs, and here the rungs are (2, 9). Choose the "
        "epochs, first and factor that it has, or another folder"
    )
    assert list(climb(tmp_path, RATES[:3], first=1, factor=3))


@linux
def test_killed_again_and_again_it_comes_to_an_end_that_is_the_same(tmp_path: Path) -> None:
    pause = 0.02  # at least 21 epochs of four batches on two processes: 0.84 s in all, of which two kills use 0.37
    program = f"import sweep_trials; sweep_trials.run_halving(folder, {RATES}, {pause}, 2)"
    killed = 0
    for moment in np.random.default_rng(1).uniform(0, 0.25, size=4):
        before, done = len(notes(tmp_path, "taken")), ResultsFile(tmp_path / "results.jsonl").read()
        process = start(program, tmp_path)
        wait_for(
            lambda: len(notes(tmp_path, "taken")) > before or process.poll() is not None,  # noqa: B023
            "an epoch is trained, or all are done",
        )
        time.sleep(moment)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        process.stderr.close()  # type: ignore[union-attr]
        wait_for(lambda: none_left(tmp_path), "its processes have ended", 30)
        assert ResultsFile(tmp_path / "results.jsonl").read()[: len(done)] == done
    assert killed >= 2
    check_climbed(tmp_path, sweep_trials.run_halving(str(tmp_path), RATES, pause, 2))


# --- What goes wrong ------------------------------------------------------------------------------------------


def test_who_fails_or_diverges_does_not_go_on(tmp_path: Path) -> None:
    configs = [
        *grid(lr=[0.1], how=["raises", "diverges", "well"]),
        *grid(lr=[0.01, 0.02], how=["raises", "diverges"]),
        *grid(lr=[0.02, 0.03], how=["well"]),
    ]
    results = list(halving(make, configs, epochs=4, factor=2, executor=InProcess(), out=tmp_path))
    last = {}
    for each in results:
        last.setdefault(each.config.how, []).append((each.status, each.metrics.get("epochs")))
    assert last["raises"] == [("failed", None)] * 3
    assert last["diverges"] == [("diverged", None)] * 3
    assert {status for status, _ in last["well"]} == {"done"}
    assert {epochs for _, epochs in last["well"]} == {1, 2, 4}
    again = list(halving(make, configs, epochs=4, factor=2, executor=InProcess(), out=tmp_path))
    assert again == results


def test_if_all_fail_it_ends(tmp_path: Path) -> None:
    configs = grid(lr=RATES, how=["raises"])
    results = list(halving(make, configs, epochs=4, executor=InProcess(), out=tmp_path))
    assert [each.status for each in results] == ["failed"] * len(RATES)


def test_a_training_that_cannot_be_compared_says_so(tmp_path: Path) -> None:
    configs = grid(lr=[0.1, 0.2, 0.3], how=["blind"])
    results = list(halving(make, configs, epochs=4, executor=InProcess(), out=tmp_path))
    assert [each.status for each in results] == ["failed"] * 3
    text = "SweepError: halving: the training needs a validation part and a metric, to compare by: configuration(lr=0.1"
    assert text in results[0].error
    (plain,) = sweep(TrainingTrial(make), configs[:1], executor=InProcess())
    assert plain.status == "done"
    assert plain.metrics["validation_accuracy"] is None


def test_a_training_of_fewer_epochs_says_so(tmp_path: Path) -> None:
    configs = grid(lr=[0.1, 0.2, 0.3], epochs=[2])
    results = list(halving(make, configs, epochs=4, executor=InProcess(), out=tmp_path))
    assert [each.status for each in results] == ["done"] * 3 + ["failed"]
    assert "SweepError: halving: epochs must be at most those of the training, 2: configuration(lr=" in results[3].error


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: data[:-1] + bytes([data[-1] ^ 1]), None])
def test_a_damaged_checkpoint_stops_it_and_is_named(damage: Any, tmp_path: Path) -> None:
    """It says nothing about the trial, which would else be out, and another the winner."""
    results = climb(tmp_path, RATES[:3])
    for _ in range(3):
        next(results)
    results.close()
    before = ResultsFile(tmp_path / "results.jsonl").read()
    for path in (tmp_path / "checkpoints").iterdir():
        if damage:
            path.write_bytes(damage(path.read_bytes()))
        else:
            checkpoint.save(path, checkpoint.load(path, state()), description=["no metrics"])
    text = message(StorageError, list, climb(tmp_path, RATES[:3]))
    assert text.startswith(f"{tmp_path / 'checkpoints'}{os.sep}")
    assert text.endswith(". Remove the file, so that the training begins anew, and start the sweep again")
    assert ResultsFile(tmp_path / "results.jsonl").read() == before
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    assert [each.status for each in climb(tmp_path, RATES[:3])] == ["done"] * 4


def state() -> Any:
    training = make(grid(lr=[0.1])[0], 0)
    return train.init_state(training.problem, Key(0), training.dataset.in_shape)


@pytest.mark.parametrize("executor", [InProcess, partial(ThreadPoolExecutor, 2)], ids=["in process", "threads"])
@pytest.mark.parametrize("what", ["save", "load"])
def test_a_disk_that_fails_stops_it_and_no_trial_is_out(
    what: str, executor: Any, finished: tuple[Path, list[Result]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, working = 0, getattr(checkpoint, what)

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(errno.ENOSPC if what == "save" else errno.EACCES, "the disk says no")
        return working(*arguments, **options)

    with executor() as workers:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, what, fail)
            assert "the disk says no" in message(StorageError, list, climb(tmp_path, executor=workers))
        assert {each.status for each in ResultsFile(tmp_path / "results.jsonl").read()} == {"done"}
        assert {each.status for each in climb(tmp_path, executor=workers)} == {"done"}
    if executor is InProcess:
        assert without_folder(list(climb(tmp_path))) == without_folder(finished[1])


@linux
def test_a_disk_that_is_full_in_another_process_stops_it(tmp_path: Path) -> None:
    with Processes(1) as executor:
        executor.submit(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000)).result(60)
        text = message(StorageError, list, climb(tmp_path, RATES[:3], executor=executor))
    assert text.startswith("the checkpoint of configuration(lr=0.0001, ")
    assert text.endswith("Make room, and start the sweep again to go on")
    assert ResultsFile(tmp_path / "results.jsonl").read() == []
    assert [each.status for each in climb(tmp_path, RATES[:3])] == ["done"] * 4


def test_a_checkpoint_is_the_state_after_its_rung(finished: tuple[Path, list[Result]]) -> None:
    folder, results = finished
    names = {
        trial_key(each.config, 0, each.trial, each.version): each.metrics for each in results
    }  # of each configuration the last
    assert {path.stem for path in (folder / "checkpoints").iterdir()} == set(names)
    for name, metrics in names.items():
        assert checkpoint.read_description(folder / "checkpoints" / f"{name}.safetensors") == metrics
    assert not [name for name in os.listdir(folder / "checkpoints") if name.endswith(".part")]


def test_bad_halvings_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="expected at least one configuration"):
        halving(make, [], epochs=4, out=tmp_path)
    with pytest.raises(SweepError, match=r"cannot be sent to another process"):
        halving(lambda config, seed: make(config, seed), grid(lr=[0.1]), epochs=4, out=tmp_path)


WILD: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 0.5}, "halving: seed must be an int, got 0.5"),
    "epochs": ({"epochs": "4"}, "rungs: epochs must be an int, got '4'"),
    "first": ({"first": 1.0}, "rungs: first must be an int, got 1.0"),
    "factor": ({"factor": 2.5}, "rungs: factor must be an int, got 2.5"),
    "make": ({"make": 3}, "halving: make must be a function of (config, seed), got 3"),
    "executor": ({"executor": 2}, "halving: executor must be as Processes(2) is, got 2"),
    "out": ({"out": 3}, "halving: out must be the path of a folder, got 3"),
    "version": ({"version": 1}, "halving: version must be a text, got 1"),
    "mix": ({"mix": None}, "halving: mix must be True or False, got None"),
}


@pytest.mark.parametrize(("given", "text"), WILD.values(), ids=WILD)
def test_wild_arguments_are_named(given: Any, text: str, tmp_path: Path) -> None:
    arguments = {"make": make, "configurations": grid(lr=[0.1]), "epochs": 4, "out": tmp_path / "out", **given}
    assert message(TypeError, halving, **arguments) == text
    assert not (tmp_path / "out").exists()


def test_what_is_trained_is_checked() -> None:
    good = make(grid(lr=[0.1])[0], 0)
    for name, value in [("epochs", 0), ("epochs", "3"), ("epochs", True), ("batch_size", 64.0)]:
        text = f"Training: {name} must be an int of at least 1, got {value!r}"
        assert message(ValueError, attrs.evolve, good, **{name: value}) == text
    text = "Training: problem must be a Problem(net, loss, optimizer), got 3"
    assert message(TypeError, attrs.evolve, good, problem=3) == text
    assert message(TypeError, TrainingTrial, 3) == "TrainingTrial: make must be a function of (config, seed), got 3"
    trial = TrainingTrial(lambda config, seed: {"net": 1})
    text = "make must return a Training(problem, dataset, epochs, batch_size), got {'net': 1}"
    assert message(TypeError, trial, grid(lr=[0.1])[0], 0) == text


def test_results_that_are_none_of_a_halving_are_named(tmp_path: Path) -> None:
    (first, *_) = climb(tmp_path, RATES[:1])
    records = ResultsFile(tmp_path / "results.jsonl")
    for metrics, text in [
        ({"epochs": 1}, "must have a number for validation_accuracy, got None. Remove its line"),
        ({"epochs": 1, "validation_accuracy": "high"}, "must have a number for validation_accuracy, got 'high'"),
        ({"epochs": [1]}, "it has results after [1] epochs, and here the rungs are (1, 3, 9)"),
        ({}, "it has results after None epochs, and here the rungs are (1, 3, 9)"),
    ]:
        key = trial_key(first.config, 0, f"{first.trial} {metrics.get('epochs')}", first.version)
        records.path.unlink()
        records.append(attrs.evolve(first, metrics=metrics, key=key))
        assert text in message(SweepError, climb, tmp_path, RATES[:1])


def test_a_trial_may_have_workers_of_its_own() -> None:
    configs = grid(workers=[1, 2])
    one, two = (each.metrics for each in sweep(TrainingTrial(make_in_shards), configs, executor=Processes(1)))
    assert one == two
