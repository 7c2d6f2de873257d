"""A folder that one process uses at a time."""

import contextlib
import errno
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from funcnn.system.text import cut

__all__ = ["FolderInUse", "lock_file", "locked"]

_NAME = ".lock"
_NO_LOCKS = {getattr(errno, name) for name in ("ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS") if hasattr(errno, name)}


class FolderInUse(OSError):
    """A folder that another run or sweep is writing into."""


@contextmanager
def locked(folder: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Keep a folder for this process alone while the block runs; `what` says in a word or two what it does there.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, locked(folder, "a run"):
    ...     print(os.listdir(folder))
    ['.lock']

    The system holds the lock (flock), not the file: it ends with the process, however that ends, and processes started
    meanwhile do not inherit it. On a file system without locks a warning says so, and the block runs.

    Raises FolderInUse at once, naming the process that has the folder; OSError if no file can be made there.
    """
    path = Path(folder) / _NAME
    file = _open_locked(path, folder)
    _held.add(file)
    try:
        who = f"{what} (process {os.getpid()} on {socket.gethostname()}: {shlex.join([*sys.orig_argv[:1], *sys.argv])})"
        with contextlib.suppress(OSError):  # it is for the message alone: a full disk may go without
            file.truncate(0)
            file.write(who.encode(errors="backslashreplace"))
        yield
    finally:
        _held.discard(file)
        if not file.closed:  # in a process that was forked meanwhile it is, and the folder is its parent's
            with contextlib.suppress(OSError):
                if os.name == "posix":
                    path.unlink()
            file.close()


def lock_file(descriptor: int) -> None:
    """Lock an open file, until it is closed or its process is dead.

    Raises BlockingIOError if another has locked it, OSError on a file system without locks.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 2**30, os.SEEK_SET)  # beyond the text, since what is locked there cannot be read
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_held: set[FileIO] = set()


def _leave_to_parent() -> None:
    """A forked process has the same open file, and would keep the lock when its parent is dead."""
    while _held:
        _held.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _open_locked(path: Path, folder: str | os.PathLike[str]) -> FileIO:
    while True:
        file = FileIO(path, "a+", opener=_open)
        try:
            lock_file(file.fileno())
            if _is_at(path, file):
                return file
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            raise FolderInUse(
                f"{folder} is in use by {holder}. Wait until it has ended, stop it, or choose another folder (--out)"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                file.close()
                raise
            warnings.warn(
                f"{folder}: the file system has no locks ({error.strerror}), so nothing keeps two runs apart there. "
                "Start one at a time",
                stacklevel=4,
            )
            return file
        file.close()


def _is_at(path: Path, file: FileIO) -> bool:
    """Whether the file is still there: whoever had it before may have removed it between our opening and locking it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _holder(file: FileIO) -> str:
    """Who has the folder, as the one who locked it wrote it down."""
    try:
        file.seek(0)
        text = file.read(2000).decode(errors="replace")
    except OSError:
        text = ""
    return cut("".join(each if each.isprintable() else "?" for each in text), 300) or "another process"
