"""For those who run the checks by pytest: the points of each task after the tests."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # where grading.py is

GIVEN: Counter[tuple[str, int]] = Counter()  # points by problem set and task
MOST: Counter[tuple[str, int]] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Iterator[None]:
    """Note what a check gives."""
    report: Any = yield
    check = getattr(getattr(item, "function", None), "check", None)
    if check is not None and call.when == "call":
        task = item.path.parent.name, check.task
        MOST[task] += check.points
        GIVEN[task] += check.points if report.passed else 0
    return report  # type: ignore[no-any-return]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the points."""
    for (folder, task), most in sorted(MOST.items()):
        terminalreporter.write_line(f"{folder}  task {task}: {GIVEN[folder, task]} of {most} points")
    if MOST:
        terminalreporter.write_line(f"total: {sum(GIVEN.values())} of {sum(MOST.values())} points")
