"""Programs of their own that tests start, and what is left of them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What a condition gives as soon as it holds; a failure if it takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)
    return found


def none_left(folder: Path) -> bool:
    """Whether no process is left of those that were started for a test: its folder is in their environment."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(f"SWEEP_TEST={folder}\0") in path.read_bytes():
                return False
        except (OSError, ProcessLookupError):
            continue
    return True


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    """A program of its own, in a process group of its own, with the folder `folder`."""
    return subprocess.Popen(
        [sys.executable, "-c", f"folder = {str(folder)!r}\n{program}"],
        cwd=TESTS, env=os.environ | {"SWEEP_TEST": str(folder), "FUNCNN_THREADS": "2"}, start_new_session=True,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
