"""The results of a sweep in a file: a line of JSON for each finished trial, appended and never changed.

Each line ends with a checksum of the rest of it, so that a bit that flips on a disk is found out. Lines of earlier
versions, without one, are read too.
"""

import hashlib
import itertools
import json
import os
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import attrs

from funcnn.sweep.grid import Configuration, SweepError, shown

__all__ = [
    "DEEPEST", "HALVING", "Result", "ResultsFile", "Status", "StorageError", "check_results", "is_data", "trial_key",
]  # fmt: skip

Status = Literal["done", "diverged", "failed", "lost"]

HALVING = " (halving)"  # ends the name of the trials of a halving, which are parts of a training

# Bounds of what is read: a file may hold anything.
_LINE = 2**21  # bytes
DEEPEST = 32  # lists within lists, the dictionary of metrics included
_CHECK = re.compile(rb', "check": "([0-9a-f]{8})"}\r?\n$')


class StorageError(OSError):
    """The disk failed a trial: that says nothing about the trial, and the sweep stops."""


def is_data(value: Any, depth: int = 0) -> bool:
    """Whether a value is what JSON holds, and no number is infinite or not a number, nor larger than a float."""
    if value is None or isinstance(value, str):
        return True
    if isinstance(value, (int, float)):
        return -sys.float_info.max <= value <= sys.float_info.max
    if depth == DEEPEST:
        return False
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_data(each, depth + 1) for name, each in value.items())
    return isinstance(value, list) and all(is_data(each, depth + 1) for each in value)


def _is(what: str, fits: Callable[[Any], bool]) -> Callable[[Any, Any, Any], None]:
    def check(instance: Any, attribute: Any, value: Any) -> None:
        if not fits(value):
            raise SweepError(f"{attribute.name} must be {what}, got {shown(value)}")

    return check


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


_text = _is("a text", lambda value: isinstance(value, str))


@attrs.frozen
class Result:
    """What came of a trial of a configuration with a seed.

    `status`: "done"; "diverged", where something became infinite or not a number; "failed", where it raised, with the
    traceback in `error`; "lost", where its process died again and again. `metrics` are the trial's, by name.

    Raises SweepError for a field of another type.
    """

    key: str = attrs.field(validator=_text)
    config: Configuration = attrs.field(
        validator=_is("a configuration", lambda value: isinstance(value, Configuration))
    )
    seed: int = attrs.field(validator=_is("an int", _is_int))
    status: Status = attrs.field(
        validator=_is(f"one of {', '.join(map(repr, get_args(Status)))}", lambda value: value in get_args(Status))
    )
    metrics: dict[str, Any] = attrs.field(
        validator=_is("a dictionary of what JSON holds", lambda value: isinstance(value, dict) and is_data(value))
    )
    seconds: float = attrs.field(validator=_is("a number, and not negative", _is_time))
    host: str = attrs.field(validator=_text)
    trial: str = attrs.field(validator=_text)
    version: str = attrs.field(validator=_text)
    error: str = attrs.field(default="", validator=_text)


_FIELDS = dict.fromkeys(field.name for field in attrs.fields(Result)).keys()


def check_results(place: str, given: Any) -> list[Result]:
    """Results as a list. Raises TypeError for anything else."""
    results = list(given) if hasattr(given, "__iter__") and not isinstance(given, (str, bytes)) else [given]
    for each in results:
        if not isinstance(each, Result):
            raise TypeError(f"{place}: results must be a list of a sweep's results, got {shown(each)} in it")
    return results


def trial_key(config: Configuration, seed: int, trial: str, version: str) -> str:
    """The key of a trial's result: a hash of the configuration, the seed, the trial's name and its version.

    >>> from funcnn.sweep import configuration
    >>> trial_key(configuration(lr=0.1), 0, "train", "1") == trial_key(configuration(lr=0.1), 0, "train", "1")
    True
    """
    identity = f"[{config.as_json}, {seed}, {json.dumps(trial)}, {json.dumps(version)}]"
    return hashlib.sha256(identity.encode()).hexdigest()[:20]


class ResultsFile:
    """The file of a sweep's results. It is written by one process alone, which has its folder locked.

    Raises SweepError for a file that holds something else, naming the line and the field, or OSError if it cannot be
    read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()  # wherever a trial changes to

    def read(self) -> list[Result]:
        """The results in the file, in order; none if there is no file. A last line that was cut short is left out.

        If a trial was run again, its last result counts.
        """
        if not self.path.exists():
            return []
        if not self.path.is_file():
            raise SweepError(f"{self.path}: it is no file. Choose another folder for the results")
        results: dict[str, Result] = {}
        with self.path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(_LINE + 1)
                if not line.endswith(b"\n") and len(line) <= _LINE:
                    break  # the end, or what a crash cut short
                result = self._result(number, line)
                results[result.key] = result
        return list(results.values())

    def _result(self, number: int, line: bytes) -> Result:
        try:
            return _parse(line)
        except (RecursionError, ValueError) as error:
            raise SweepError(
                f"{self.path}, line {number}: not a result of a sweep ({error}). Remove the line, or choose another "
                "folder for the results"
            ) from error

    def mend(self) -> None:
        """Remove a last line that a crash cut short, so that the next one starts a line of its own."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _LINE))
            whole = start + file.read().rfind(b"\n") + 1
            if whole < size:
                file.truncate(whole)
                os.fsync(file.fileno())

    def append(self, result: Result) -> None:
        """Add a line, on the disk when this returns. If the disk is full, the file is left as it was."""
        values = attrs.asdict(result, recurse=False) | {"config": result.config.as_dict()}
        body = json.dumps(values, allow_nan=False)[:-1].encode()
        line = body + b', "check": "%08x"}\n' % zlib.crc32(body)
        with self.path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(f"only {written} of {len(line)} bytes could be written")
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(size)
                raise OSError(
                    f"{self.path}: the result of a trial could not be written ({error}). Nothing else is lost: make "
                    "room, and start the sweep again to go on"
                ) from error


def _parse(line: bytes) -> Result:
    """The result on a line. Raises ValueError, naming the field, or RecursionError."""
    if len(line) > _LINE:
        raise ValueError(f"it has more than {_LINE:,} bytes")
    values = _STRICT.decode(line.decode())
    if not isinstance(values, dict):
        raise ValueError(f"expected the fields {', '.join(_FIELDS)}")
    _check_sum(values, line)
    if values.keys() != _FIELDS:
        missing = [name for name in _FIELDS if name not in values and name != "error"]
        unknown = [name for name in values if name not in _FIELDS]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        if unknown:
            raise ValueError(f"{shown(unknown[0])} is none of its fields")
    if not isinstance(values["config"], dict):
        raise ValueError(f"config must be a dictionary, got {shown(values['config'])}")
    result = Result(**values | {"config": Configuration(tuple(values["config"].items()))})
    halved = result.trial.endswith(HALVING)
    if halved and result.status != "done":
        return result  # nothing says on the way to which epoch it was, as its key does
    name = f"{result.trial} {result.metrics.get('epochs')}" if halved else result.trial
    if result.key != trial_key(result.config, result.seed, name, result.version):
        raise ValueError("key is not that of its config, seed, trial and version, one of which was changed")
    return result


def _check_sum(values: dict[str, Any], line: bytes) -> None:
    if "check" not in values:  # as an earlier version wrote it
        return
    del values["check"]
    found = _CHECK.search(line)
    if found is None or zlib.crc32(line[: found.start()]) != int(found[1], 16):
        raise ValueError("it was damaged, or changed by hand: its check is that of another line")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{shown(name)} is there twice")
        values[name] = value
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON's")


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse)
