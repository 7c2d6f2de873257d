"""A folder has one user at a time, and a dead one leaves no lock behind."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from funcnn.system.lock import FolderInUse, locked

HOLD = """
import sys, time
from funcnn.system.lock import locked
with locked(sys.argv[1], "a run"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder now."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_refused_at_once_and_told_by_whom(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with (
        pytest.raises(FolderInUse, match=rf"in use by a run \(process {process.pid} on .*\. Wait until it has ended"),
        locked(tmp_path, "a sweep"),
    ):
        pass
    # A dead process leaves the file behind, never the lock.
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert os.listdir(tmp_path) == [".lock"]
    with (
        locked(tmp_path, "a sweep"),
        pytest.raises(FolderInUse, match=rf"a sweep \(process {os.getpid()} "),  # in one process too
        locked(tmp_path, "a run"),
    ):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_hold_it(tmp_path: Path) -> None:
    with locked(tmp_path, "a run"):
        child = os.fork()
        if child == 0:  # lives on when the parent has left the block
            signal.pause()
            os._exit(1)
    with contextlib.ExitStack() as stack:
        stack.callback(os.waitpid, child, 0)
        stack.callback(os.kill, child, signal.SIGKILL)
        block = stack.enter_context(contextlib.ExitStack())
        block.enter_context(locked(tmp_path, "another"))
        leaver = os.fork()
        if leaver == 0:
            block.close()  # must not take the parent's lock with it
            os._exit(0)
        assert os.waitpid(leaver, 0)[1] == 0
        assert os.listdir(tmp_path) == [".lock"]
        with pytest.raises(FolderInUse), locked(tmp_path, "a third"):
            pass


def test_without_locks_it_warns_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="the file system has no locks"), locked(tmp_path, "a run"):
        assert os.listdir(tmp_path) == [".lock"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"\.lock"), locked(tmp_path / "run", "a run"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
