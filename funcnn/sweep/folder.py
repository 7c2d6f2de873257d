"""A sweep's folder: used by one sweep at a time, with the results that are in it already."""

import os
import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack

from funcnn.sweep.grid import SweepError
from funcnn.sweep.results import Result, ResultsFile
from funcnn.system.files import make_folder
from funcnn.system.lock import FolderInUse, locked

__all__ = ["Folder"]


class Folder:
    """A folder that is this sweep's alone until its results end, are closed, or are dropped.

    Raises FolderInUse if another sweep is using it, OSError if it cannot be written.
    """

    def __init__(self, out: str | os.PathLike[str], name: str) -> None:
        self.path = make_folder(out).absolute()  # wherever a trial changes to
        self.name = name
        self.file = ResultsFile(self.path / "results.jsonl")
        self._lock = ExitStack()
        try:
            self._lock.enter_context(locked(self.path, f"a sweep of {name}"))
        except FolderInUse as error:
            if f"process {os.getpid()} on" not in str(error):
                raise
            raise FolderInUse(
                f"{error}. In this process: close the results of the earlier sweep, results.close()"
            ) from None

    def known(self, version: str, *, mix: bool, retry: bool) -> list[Result]:
        """The results that are in the file already; with `retry`, without those of trials that failed or were lost.

        Raises SweepError if they are of another trial; and if they are of another version, unless told to mix them.
        """
        results = self.file.read()
        self.file.mend()
        alien = [each for each in results if each.trial != self.name]
        if alien:
            raise SweepError(
                f"{self.file.path}: it has {len(alien)} results of {alien[0].trial}; this is {self.name}. Choose "
                "another folder (out, --out)"
            )
        other = [each for each in results if each.version != version]
        if other and not mix:
            raise SweepError(
                f"{self.file.path}: it has {len(other)} results of {self.name} in version {other[0].version}; this "
                f"is version {version}. Choose another folder (out, --out), or pass mix=True (--mix) to count them"
            )
        return [each for each in results if not (retry and each.status in ("failed", "lost"))]

    def close(self) -> None:
        """Free the folder for others."""
        self._lock.close()

    def until_end_of(self, results: Iterator[Result]) -> Generator[Result, None, None]:
        """The results, at whose end the folder is free again."""

        def found() -> Generator[Result, None, None]:
            with self._lock:
                yield from results

        passed_on = found()
        weakref.finalize(passed_on, self.close)  # they may be dropped before the first is asked for
        return passed_on
