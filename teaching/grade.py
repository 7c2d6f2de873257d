"""Grade a problem set: python teaching/grade.py set_1_gradients [folder ...]

A folder holds a student's file; without one, the file in the problem set's own folder is graded, which is how students
see where they stand. Each task runs in a process of its own, with a limit of time and of memory, so that an answer that
hangs, crashes or fills the memory costs its own points alone.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from grading import NOT_WRITTEN, Check, Problems, load_problems  # noqa: E402

# One thread and a fixed hash: the same answer gets the same points on every machine.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


_START = 60.0  # seconds in which a process must have begun with its first check


class Result(NamedTuple):
    """What a check gave: None, or what is wrong."""

    check: Check
    problem: str | None

    @property
    def points(self) -> int:
        """The points that it gives."""
        return self.check.points if self.problem is None else 0


class Graded(NamedTuple):
    """A student's problem set: the tasks' titles, a result for each check, what each task's code printed."""

    tasks: dict[int, str]
    results: tuple[Result, ...]
    printed: dict[int, str]

    @property
    def points(self) -> dict[int, int]:
        """The points of each task."""
        return {task: sum(each.points for each in self.results if each.check.task == task) for task in self.tasks}

    @property
    def most(self) -> dict[int, int]:
        """The points that each task gives at most."""
        return {task: sum(each.check.points for each in self.results if each.check.task == task) for task in self.tasks}


# --- Grading --------------------------------------------------------------------------------------------------


def grade(folder: Path, submission: Path | None = None, *, seconds: float = 60.0, task: int | None = None) -> Graded:
    """Grade the student's file in `submission`, each task in its own process, none of its checks longer than `seconds`.

    Raises ValueError for a folder without a problem set, or a task that the set does not have.
    """
    folder = folder.resolve()
    submission = (submission or folder).resolve()
    problems = load_problems(folder, submission)
    if task is not None and task not in problems.tasks:
        raise ValueError(f"{folder.name} has the tasks 1 to {len(problems.tasks)}, got {task}")
    asked = [task] if task is not None else list(problems.tasks)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        each = list(pool.map(lambda number: _grade_task(problems, number, folder, submission, seconds), asked))
    results = tuple([result for found, _ in each for result in found])
    printed = {number: said for number, (_, said) in zip(asked, each, strict=True)}
    return Graded({number: problems.tasks[number] for number in asked}, results, printed)


def _grade_task(
    problems: Problems, task: int, folder: Path, submission: Path, seconds: float
) -> tuple[list[Result], str]:
    """The results of a task's checks; a check that hangs or ends its process is followed by the others in a new one."""
    checks = {each.name: each for each in problems.checks if each.task == task}
    todo, found, printed = list(checks), [], ""
    while todo:
        ended, why, said = _work(folder, submission, todo, seconds)
        printed += said
        found += [Result(checks[name], problem) for name, problem in ended.items()]
        todo = [name for name in todo if name not in ended]
        if why and todo:
            found.append(Result(checks[todo.pop(0)], why))
    return found, printed


def _work(
    folder: Path, submission: Path, names: list[str], seconds: float
) -> tuple[dict[str, str | None], str | None, str]:
    """Run checks in a process: those that ended, why the next did not, and what was printed."""
    with tempfile.TemporaryDirectory() as place:
        results, output = Path(place, "results"), Path(place, "output")
        results.touch()
        command = "import sys; sys.path.insert(0, sys.argv.pop(1)); import grading; grading.work(*sys.argv[1:])"
        paths = [str(folder), str(submission), json.dumps(names), str(results)]
        with output.open("wb") as sink:
            worker = subprocess.Popen(
                [sys.executable, "-c", command, str(HERE), *paths], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                cwd=place, env=os.environ | _ENVIRONMENT, start_new_session=True,
            )  # fmt: skip
            why = _wait(worker, results, seconds)
        ended = {}
        for line in results.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut off
                words = json.loads(line)
                ended[words["ended"]] = words["problem"]
        ended = {name: ended[name] for name in names if name in ended}
        printed = output.read_text("utf-8", "replace")
        if why is None and len(ended) < len(names):
            why = f"the process ended (code {worker.returncode}) before the answer came"
        return ended, why, printed


def _wait(worker: "subprocess.Popen[bytes]", results: Path, seconds: float) -> str | None:
    """Wait for a worker until a check takes too long; then end it, and say so."""
    size, since = -1, time.monotonic()
    try:
        while time.monotonic() - since < (seconds if size > 0 else max(seconds, _START)):
            try:
                worker.wait(0.05)
                return None
            except subprocess.TimeoutExpired:
                if results.stat().st_size != size:  # a check has begun or ended
                    size, since = results.stat().st_size, time.monotonic()
        return f"no answer within {seconds:g} s. Is there a loop that never ends?"
    finally:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)  # with all that it has started
        worker.kill()
        worker.wait()


# --- Showing --------------------------------------------------------------------------------------------------


def report(name: str, graded: Graded) -> str:
    """The points of each check, task and set, with what is wrong."""
    lines = [name]
    for task, title in graded.tasks.items():
        lines += ["", f"task {task}  {title:<60} {graded.points[task]:>2} of {graded.most[task]}"]
        results = [each for each in graded.results if each.check.task == task]
        for each in results:
            unwritten = each.problem == NOT_WRITTEN
            lines.append(
                f"  {each.points:>2} of {each.check.points}  {each.check.title}{f' ({NOT_WRITTEN})' * unwritten}"
            )
            if each.problem and not unwritten:
                lines += textwrap.wrap(each.problem, 110, initial_indent=" " * 11, subsequent_indent=" " * 11)
        said = graded.printed[task].rstrip().splitlines()
        if said and any(each.problem for each in results):
            lines += ["     printed:", *(f"     | {line}" for line in said[-10:])]
    total, most = sum(graded.points.values()), sum(graded.most.values())
    return "\n".join([*lines, "", f"total {total} of {most}"])


def table(graded: dict[str, Graded]) -> list[list[str]]:
    """A row for each student: the points of each task, and the total."""
    tasks = next(iter(graded.values())).tasks
    rows = [["name", *(f"task {task}" for task in tasks), "total"]]
    for name, each in graded.items():
        rows.append([name, *(str(each.points[task]) for task in tasks), str(sum(each.points.values()))])
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 if every folder has all points, 1 if not, 2 for what cannot be graded."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="grade.py", description=__doc__, formatter_class=plain)
    parser.add_argument("set", help="the problem set: the name of its folder beside grade.py, or a path")
    parser.add_argument("folders", nargs="*", help="folders with a student's file, or files; default: the set's own")
    parser.add_argument("--task", type=int, help="grade this task alone")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a check may take (default: 60)")
    parser.add_argument("--csv", metavar="FILE", help="write the points to a table")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a student's words may be beyond what the terminal can show
    folder = HERE / options.set if (HERE / options.set).is_dir() else Path(options.set)
    graded = {}
    try:
        if not folder.is_dir():
            sets = ", ".join(sorted(path.name for path in HERE.glob("set_*")))
            raise ValueError(f"there is no problem set {options.set}; there are {sets}")
        for submission in options.folders or [folder]:
            if not Path(submission).exists():
                raise ValueError(f"{submission}: there is no such folder")
            name = str(submission) if options.folders else folder.name
            graded[name] = grade(folder, Path(submission), seconds=options.seconds, task=options.task)
            print(report(name, graded[name]), end="\n\n")
    except ValueError as error:
        print(f"grade.py: {error}", file=sys.stderr)
        return 2
    rows = table(graded)
    if len(rows) > 2:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return 0 if all(each.points == each.most for each in graded.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
