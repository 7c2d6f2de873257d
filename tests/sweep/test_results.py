"""The file of a sweep's results: whole lines, whatever happens while one is written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from cases import message
from processes import TESTS

from funcnn.sweep import Configuration, Result, SweepError, configuration, grid
from funcnn.sweep.results import ResultsFile, trial_key


def result(config: Configuration, seed: int, status: Any, metrics: dict[str, Any], error: str = "") -> Result:
    return Result(trial_key(config, seed, "t", "1"), config, seed, status, metrics, 1.5, "höst", "t", "1", error)


RESULTS = [
    result(configuration(lr=0.1, widths=(64, 32)), 0, "done", {"loss": 0.1 + 0.2}),
    result(configuration(lr=1e-300, widths=()), 1, "diverged", {"loss": None}),
    result(configuration(name="π\n'\"\\"), 2, "failed", {}, error="Traceback:\n  é\n"),
    result(configuration(on=True), 2**62, "lost", {"list": [1, [2.5, None]]}, "died"),
]


def written(path: Path, results: list[Result] = RESULTS) -> ResultsFile:
    records = ResultsFile(path / "results.jsonl")
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
    records = ResultsFile(str(tmp_path / "results.jsonl"))
    assert records.read() == []
    records.mend()
    assert os.listdir(tmp_path) == []


def test_each_result_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, seen = os.fsync, []

    def look(descriptor: int) -> None:
        flush(descriptor)
        seen.append(len(ResultsFile(tmp_path / "results.jsonl").read()))

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


# --- Damage ---------------------------------------------------------------------------------------------------


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


def unchecked(values: dict[str, Any]) -> str:
    """A line as earlier versions wrote it, without a checksum."""
    return json.dumps({name: value for name, value in values.items() if name != "check"}) + "\n"


def test_lines_without_a_checksum_are_read(tmp_path: Path) -> None:
    records = written(tmp_path)
    lines = [json.loads(line) for line in records.path.read_text().splitlines()]
    assert {len(each.pop("check")) for each in lines} == {8}
    records.path.write_text("".join(map(unchecked, lines)))
    assert records.read() == RESULTS


DEEP, DIGITS = "[" * 100_000 + "]" * 100_000, "9" * 4000
FIELDS = {  # what is changed in an old line, and what it is refused with
    "key": ("key", 3, "key must be a text, got 3"),
    "another key": (
        "key",
        "0" * 20,
        "key is not that of its config, seed, trial and version, one of which was changed",
    ),
    "config": ("config", [1], "config must be a dictionary, got [1]"),
    "another config": ("config", {"lr": 0.3}, "key is not that of its config"),
    "a setting": ("config", {"lr": {}}, "lr={}: a setting must be a number"),
    "an infinite setting": ("config", {"lr": 10**400}, ": a setting must be finite"),
    "a name": ("config", {"as_json": 1}, "as_json: no axis can be called so"),
    "no name": ("config", {"": 1}, ": no axis can be called so"),
    "seed": ("seed", "0", "seed must be an int, got '0'"),
    "seed True": ("seed", True, "seed must be an int, got True"),
    "another seed": ("seed", 1, "key is not that of its config"),
    "status": ("status", "<script>", "status must be one of 'done', 'diverged', 'failed', 'lost', got '<script>'"),
    "status list": ("status", ["done"], "status must be one of 'done', 'diverged', 'failed', 'lost', got ['done']"),
    "metrics": ("metrics", 3, "metrics must be a dictionary of what JSON holds, got 3"),
    "a metric beyond floats": ("metrics", {"a": 10**400}, "metrics must be a dictionary of what JSON holds, got {"),
    "seconds": ("seconds", "1", "seconds must be a number, and not negative, got '1'"),
    "seconds below zero": ("seconds", -1, "seconds must be a number, and not negative, got -1"),
    "seconds beyond floats": ("seconds", 10**400, "seconds must be a number, and not negative, got 1000"),
    "host": ("host", None, "host must be a text, got None"),
    "trial": ("trial", 1, "trial must be a text, got 1"),
    "version": ("version", 1, "version must be a text, got 1"),
    "another version": ("version", "2", "key is not that of its config"),
    "error": ("error", 0, "error must be a text, got 0"),
    "a field that is none": ("extra", 0, "'extra' is none of its fields"),
    "a check that is none": ("check", "zz", "it was damaged, or changed by hand: its check is that of another line"),
    "a check of another": ("check", "0" * 8, "it was damaged, or changed by hand: its check is that of another line"),
}


@pytest.mark.parametrize(("field", "value", "text"), FIELDS.values(), ids=FIELDS)
def test_a_field_that_is_wrong_is_named(field: str, value: Any, text: str, tmp_path: Path) -> None:
    records = written(tmp_path, RESULTS[:1])
    values = json.loads(records.path.read_text())
    del values["check"]
    records.path.write_text(json.dumps(values | {field: value}) + "\n")
    assert f"{records.path}, line 1: not a result of a sweep ({text}" in message(SweepError, records.read).replace(
        "lr=1" + "0" * 196 + "..." if field == "config" else "\0", ""
    )


@pytest.mark.parametrize("field", ["key", "config", "seed", "status", "metrics", "seconds", "host", "trial", "version"])
def test_a_field_that_is_missing_is_named(field: str, tmp_path: Path) -> None:
    records = written(tmp_path, RESULTS[:1])
    values = json.loads(records.path.read_text())
    del values[field]
    records.path.write_text(unchecked(values))
    assert f"line 1: not a result of a sweep ({field} is missing)" in message(SweepError, records.read)


LINES = {
    "not UTF-8": (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff"),
    "UTF-16": ("{}".encode("utf-16"), "'utf-8' codec can't decode byte"),
    "nested": (DEEP.encode(), ""),
    "nested dictionaries": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, ""),
    "nested metrics": (b'{"metrics": {"a": %s}}' % ("[" * 40 + "]" * 40).encode(), "key is missing"),
    "NaN": (b'{"seconds": NaN}', "NaN is no number of JSON's"),
    "infinite": (b'{"seconds": -Infinity}', "-Infinity is no number of JSON's"),
    "twice": (b'{"key": "a", "key": "b"}', "'key' is there twice"),
    "twice within": (b'{"config": {"lr": 1, "lr": 2}}', "'lr' is there twice"),
    "many digits": (b'{"seed": 1%s}' % (DIGITS * 2).encode(), "Exceeds the limit"),
    "too long": (b" " * 2**21, "it has more than 2,097,152 bytes"),
    "a list of many": (b"[" + b"[]," * 500_000 + b"[]]", "expected the fields key, config, seed, status, metrics"),
    "many names": (b"{" + b",".join(b'"%d":{}' % i for i in range(150_000)) + b"}", "key is missing"),
}


@pytest.mark.parametrize(("line", "text"), LINES.values(), ids=LINES)
def test_a_hostile_line_is_refused_at_once(line: bytes, text: str, tmp_path: Path) -> None:
    records = written(tmp_path)
    with records.path.open("ab") as file:
        file.write(line + b"\n")
    assert f"{records.path}, line 5: not a result of a sweep ({text}" in message(SweepError, records.read)


HOSTILE = """
import sys, time
from pathlib import Path
from test_results import LINES
from funcnn.sweep import SweepError
from funcnn.sweep.results import ResultsFile
path = Path(sys.argv[1]) / "results.jsonl"
for name, (line, _) in LINES.items():
    path.write_bytes(line + bytes([10]))
    start = time.process_time()
    try:
        ResultsFile(path).read()
    except SweepError:
        pass
    took = time.process_time() - start
    assert took < 2, (name, took)
with path.open("wb") as file:  # a gigabyte that takes no room
    file.truncate(2**30)
try:
    ResultsFile(path).read()
except SweepError:
    # Of /proc, since getrusage counts what the process was forked from, too.
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_hostile_lines_take_little_time_and_memory(tmp_path: Path) -> None:
    assert int(run(HOSTILE, tmp_path)) / 1024 < 500


def test_every_bit_that_flips_is_found_out(tmp_path: Path) -> None:
    """Nothing else than what was written is ever read; at worst the last line counts as cut short."""
    records = written(tmp_path, RESULTS[2:3])
    data = records.path.read_bytes()
    for i in range(8 * len(data)):
        changed = bytearray(data)
        changed[i // 8] ^= 1 << i % 8
        records.path.write_bytes(changed)
        try:
            assert records.read() == []
        except SweepError:
            continue
        assert i // 8 == len(data) - 1  # the line's end


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """A few changes to a file: bytes changed, parts cut out, doubled, or replaced by something wild."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        start, end = sorted(rng.integers(0, len(changed) + 1, 2))
        part = changed[start:end]
        wild = [
            b"[" * 2000,
            b"NaN",
            b"1e999",
            b"9" * 400,
            b"\xff",
            b"\n",
            b"null",
            b"{}",
            b'"\\ud800"',
            b"\\u0000",
            b"-0",
        ]
        which = rng.integers(5)
        if which == 0 and changed:
            changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
        elif which == 1:
            del changed[start : min(end, start + int(rng.integers(1, 40)))]
        elif which == 2:
            changed[start:start] = part[:2000]
        elif which == 3:
            changed[start:start] = wild[int(rng.integers(len(wild)))]
        else:
            changed[start : start + 5] = wild[int(rng.integers(len(wild)))]
    return bytes(changed)


@pytest.mark.parametrize("old", [False, True], ids=["with checksums", "without"])
def test_a_mutated_file_gives_its_own_results_or_is_refused(old: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = written(tmp_path)
    lines = records.path.read_text().splitlines()
    data = ("".join(unchecked(json.loads(line)) for line in lines) if old else records.path.read_text()).encode()
    refused = 0
    for _ in range(1000):
        changed = mutated(rng, data)
        records.path.write_bytes(changed)
        try:
            found = records.read()
        except SweepError:
            refused += 1
            continue
        for each in found if not old else ():
            assert each in RESULTS, changed
        records.mend()
        assert records.read() == found
    assert refused > 400


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
import json, sys, zlib
from pathlib import Path
import attrs
from test_results import RESULTS
from funcnn.sweep import grid
from funcnn.sweep.results import ResultsFile, trial_key
path = Path(sys.argv[1]) / "results.jsonl"
values = attrs.asdict(RESULTS[0], recurse=False)
names = ("train", "validation", "test")
values["metrics"] = {f"{part}_{name}": 0.123456789012345 for part in names for name in ("loss", "accuracy")}
rates = [i / 10_000 for i in range(10_000)]
configs = grid(lr=rates, optimizer=["momentum"], widths=[(64, 32)], data=["digits"], epochs=[27])
with path.open("w") as file:
    for seed in range(10):
        for config in configs:
            values |= {"key": trial_key(config, seed, "t", "1"), "config": config.as_dict(), "seed": seed}
            body = json.dumps(values)[:-1]
            file.write(f'{body}, "check": "{zlib.crc32(body.encode()):08x}"}}' + chr(10))
del configs
results = ResultsFile(path).read()
assert [(each.seed, each.config.lr) for each in results] == [(seed, rate) for seed in range(10) for rate in rates]
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
