"""The file of a sweep's results: whole lines, whatever happens while one is written."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from cases import message
from processes import TESTS

from funcnn.sweep import Result, SweepError, configuration, grid
from funcnn.sweep.results import Records, trial_key

RESULTS = [
    Result("a" * 20, configuration(lr=0.1, widths=(64, 32)), 0, "done", {"loss": 0.1 + 0.2}, 1.5, "here", "t", "1"),
    Result("b" * 20, configuration(lr=1e-300, widths=()), 1, "diverged", {"loss": None}, 0.0, "here", "t", "1"),
    Result("c" * 20, configuration(name="π\n'\"\\"), 2, "failed", {}, 0.5, "höst", "t", "1", error="Traceback:\n  é\n"),
    Result("d" * 20, configuration(on=True), 2**62, "lost", {"list": [1, [2.5, None]]}, 0.5, "here", "t", "1", "died"),
]


def written(path: Path, results: list[Result] = RESULTS) -> Records:
    records = Records(path / "results.jsonl")
    for result in results:
        records.append(result)
    return records


def test_results_come_back_as_they_were_in_order(tmp_path: Path) -> None:
    records = written(tmp_path)
    assert records.read() == RESULTS
    assert repr(records.read()) == repr(RESULTS)  # to the type of every number
    assert len(records.path.read_bytes().splitlines()) == len(RESULTS)
    assert os.listdir(tmp_path) == ["results.jsonl"]


def test_no_file_has_no_results(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "results.jsonl"))
    assert records.read() == []
    records.mend()
    assert os.listdir(tmp_path) == []


def test_each_result_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, seen = os.fsync, []

    def look(descriptor: int) -> None:
        flush(descriptor)
        seen.append(len(Records(tmp_path / "results.jsonl").read()))

    monkeypatch.setattr(os, "fsync", look)
    written(tmp_path)
    assert seen == [1, 2, 3, 4]


def test_a_last_line_that_was_cut_anywhere_is_left_out_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a thousand times, it takes seconds
    records = written(tmp_path)
    data = records.path.read_bytes()
    whole = data.rindex(b"\n", 0, len(data) - 1) + 1
    for end in range(whole, len(data)):
        records.path.write_bytes(data[:end])
        assert records.read() == RESULTS[:-1]
        assert records.path.read_bytes() == data[:end]  # reading changes nothing
        records.mend()
        assert records.path.read_bytes() == data[:whole]
        records.append(RESULTS[-1])
        assert records.path.read_bytes() == data
    records.mend()
    assert records.path.read_bytes() == data


def test_a_first_line_that_was_cut_leaves_an_empty_file(tmp_path: Path) -> None:
    records = written(tmp_path, RESULTS[:1])
    records.path.write_bytes(records.path.read_bytes()[:-1])
    records.mend()
    assert records.path.read_bytes() == b""
    assert records.read() == []


@pytest.mark.parametrize(
    "garbage",
    ["", "garbage", "[]", "3", "null", "{}", '{"config": {"lr": 1}}', '{"config": 3}', '{"key": "a"', "\x00"],
)
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_line_of_something_else_is_named(garbage: str, number: int, tmp_path: Path) -> None:
    records = written(tmp_path)
    lines = records.path.read_text().splitlines()
    lines.insert(number - 1, garbage)
    records.path.write_text("\n".join(lines) + "\n")
    text = message(SweepError, records.read)
    assert text.startswith(f"{records.path}, line {number}: not a result of a sweep (")
    assert text.endswith(". Remove the line, or choose another folder for the results")
    del lines[number - 1]
    records.path.write_text("\n".join(lines) + "\n")
    assert records.read() == RESULTS


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    records = written(tmp_path)
    records.path.write_bytes(records.path.read_bytes() + b"\xff\xfe\n")
    assert message(SweepError, records.read).startswith(f"{records.path}, line 5: not a result of a sweep (")


@pytest.mark.parametrize("before", [0, 2])
def test_a_full_disk_leaves_the_file_as_it_was(before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = written(tmp_path, RESULTS[:before])
    data = records.path.read_bytes() if before else b""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        text = message(OSError, records.append, RESULTS[2])
    reason = "[Errno 28] No space left on device"
    assert text == (
        f"{records.path}: the result of a trial could not be written ({reason}). Nothing else is lost: make room, and "
        "start the sweep again to go on"
    )
    assert records.path.read_bytes() == data
    records.append(RESULTS[2])
    assert records.read() == [*RESULTS[:before], RESULTS[2]]


FULL = """
import resource, sys
from pathlib import Path
from test_results import RESULTS, written
records = written(Path(sys.argv[1]), RESULTS[:2])
before = records.path.read_bytes()
records.append(RESULTS[2])
length = len(records.path.read_bytes())
records.path.write_bytes(before)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for size in range(len(before), length):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        records.append(RESULTS[2])
    except OSError as error:
        assert "the result of a trial could not be written" in str(error), error
    else:
        raise AssertionError("it was written")
    assert records.path.read_bytes() == before, size
resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
records.append(RESULTS[2])
assert records.read() == RESULTS[:3]
"""


def run(program: str, *arguments: Any) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(
        command,
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_line_for_which_there_is_room_in_part_leaves_nothing_behind(tmp_path: Path) -> None:
    """The system lets a file grow to a size and no further: a write is cut at every byte of the line."""
    run(FULL, tmp_path)


MANY = """
import json, sys
from pathlib import Path
import attrs
from test_results import RESULTS
from funcnn.sweep.results import Records
n = 100_000
path = Path(sys.argv[1]) / "results.jsonl"
values = attrs.asdict(RESULTS[0], recurse=False)
values["config"] = {"lr": 0.0, "optimizer": "momentum", "widths": [64, 32], "data": "digits", "epochs": 27}
names = ("train", "validation", "test")
values["metrics"] = {f"{part}_{name}": 0.123456789012345 for part in names for name in ("loss", "accuracy")}
with path.open("w") as file:
    for i in range(n):
        values["config"]["lr"], values["key"] = i / n, str(i)
        file.write(json.dumps(values) + chr(10))
results = Records(path).read()
assert len(results) == n
assert [each.config.lr for each in results] == [i / n for i in range(n)]
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_a_hundred_thousand_results_fit_in_memory(tmp_path: Path) -> None:
    assert int(run(MANY, tmp_path)) / 1024 < 500


def test_a_key_is_of_the_configuration_the_seed_the_trial_and_its_version() -> None:
    configs = [*grid(a=[1, True, 1.0, "1", None], b=[1, 2]), configuration(a=1)]
    keys = {
        trial_key(config, seed, trial, version)
        for config in configs
        for seed in (0, 1)
        for trial in ("t", "u")
        for version in ("1", "2")
    }
    assert len(keys) == len(configs) * 8
    assert trial_key(configuration(a=1, b=2), 0, "t", "1") == trial_key(configuration(b=2, a=1), 0, "t", "1")
    # Written in files: a key that changes makes every sweep begin anew.
    assert trial_key(configuration(lr=0.1, widths=(64, 32)), 3, "t", "1") == "af5391371e8bfc65263a"


def test_a_result_is_a_value() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RESULTS[0].seed = 1
    assert attrs.evolve(RESULTS[0]) == RESULTS[0]
