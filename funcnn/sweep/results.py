"""The results of a sweep in a file: a line of JSON for each finished trial, appended and never changed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import attrs

from funcnn.sweep.grid import Configuration, SweepError, configuration
from funcnn.system.files import write_bytes

__all__ = ["Records", "Result", "Status", "trial_key"]

Status = Literal["done", "diverged", "failed", "lost"]


@attrs.frozen
class Result:
    """What came of a trial of a configuration with a seed.

    `status`: "done"; "diverged", where something became infinite or not a number; "failed", where it raised, with the
    traceback in `error`; "lost", where its process died again and again. `metrics` are the trial's, by name.
    """

    key: str
    config: Configuration
    seed: int
    status: Status
    metrics: dict[str, Any]
    seconds: float
    host: str
    trial: str
    version: str
    error: str = ""


def trial_key(config: Configuration, seed: int, trial: str, version: str) -> str:
    """The name of a trial's result: a hash of the configuration, the seed, the trial's name and its version.

    >>> trial_key(configuration(lr=0.1), 0, "train", "1") == trial_key(configuration(lr=0.1), 0, "train", "1")
    True
    """
    identity = f"[{config.as_json}, {seed}, {json.dumps(trial)}, {json.dumps(version)}]"
    return hashlib.sha256(identity.encode()).hexdigest()[:20]


class Records:
    """The file of a sweep's results. It is written by one process alone.

    Raises SweepError for a file that holds something else, OSError if it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> list[Result]:
        """The results in the file, in order; none if there is no file. A last line that was cut short is left out.

        Of several results with one key, of a trial that was run again, it is the last.
        """
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        lines = data.split(b"\n")
        lines.pop()  # what follows the last line's end: nothing, or a line that a crash cut short
        results = [self._result(number, line) for number, line in enumerate(lines, start=1)]
        return list({each.key: each for each in results}.values())

    def _result(self, number: int, line: bytes) -> Result:
        try:
            values = json.loads(line)
            return Result(**(values | {"config": configuration(**values["config"])}))
        except (KeyError, TypeError, ValueError) as error:
            raise SweepError(
                f"{self.path}, line {number}: not a result of a sweep ({error}). Remove the line, or choose another "
                "folder for the results"
            ) from error

    def mend(self) -> None:
        """Remove a last line that a crash cut short, so that the next one starts a line of its own."""
        if self.path.exists():
            data = self.path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                write_bytes(self.path, whole)

    def append(self, result: Result) -> None:
        """Add a line, on the disk when this returns. If the disk is full, the file is left as it was."""
        values = attrs.asdict(result, recurse=False) | {"config": result.config.as_dict()}
        line = (json.dumps(values, allow_nan=False) + "\n").encode()
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
