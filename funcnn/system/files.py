"""Files that appear whole or not at all."""

import errno
import json
import math
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from funcnn.system.lock import lock_file
from funcnn.system.text import cut

__all__ = ["as_path", "make_folder", "write_bytes", "write_json", "write_text"]

_NO_SYNC = {getattr(errno, name) for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS") if hasattr(errno, name)}


def as_path(place: str, path: Any) -> Path:
    """A path, given as a text or a Path; raises TypeError or ValueError, naming the place, for what can be none.

    >>> as_path("load", "a/b").name
    'b'
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{place}: path must be a text or a Path, got {cut(repr(path), 60)}")
    if "\0" in os.fsdecode(path):
        raise ValueError(f"{place}: path must have no NUL character, got {cut(repr(path), 60)}")
    return Path(path)


def write_bytes(path: str | os.PathLike[str], *data: Any) -> None:
    """Write a file atomically: beside it, to the disk, and then in its place, so that a reader never sees a part.

    Its `data` are bytes or arrays in C order, one after the other.

    Several may write it at once: it is then as one of them wrote it. A file that is replaced keeps its permissions, and
    a symbolic link stays one: what it points to is written. What a killed process left beside it is removed.

    Raises OSError, naming the file, if it cannot be written, and then leaves no part behind.
    """
    try:
        _write(Path(os.path.realpath(as_path("write_bytes", path))), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error  # not the part beside it


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> Any:
    """Write plain data as JSON that any program reads, and return it as it is read back.

    NumPy's numbers become Python's, tuples lists, and a NaN or an infinity, which JSON does not have, null.
    """
    plain = _plain(value)
    write_text(path, json.dumps(plain, indent=2, allow_nan=False) + "\n")
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder if need be and make sure that files can be written in it, before hours of work depend on it.

    Raises OSError that names the folder and the reason.
    """
    folder = as_path("make_folder", path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder / "probe")
        file, part = _new_part(folder / "probe")
        try:
            with file:
                file.write(b"room for a few bytes")
                file.flush()
                _sync(file.fileno())
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"cannot write in the folder {folder}: {error.strerror}. Choose another one") from error
    return folder


def _write(target: Path, data: tuple[Any, ...]) -> None:
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder the system says it below
        raise OSError(errno.EINVAL, "what is there is no file, but a pipe, a socket or a device")
    _remove_abandoned(target)
    file, part = _new_part(target)
    try:
        with file:
            for piece in data:
                file.write(piece)
            file.flush()
            if mode is not None and os.name == "posix":
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            _sync(file.fileno())
            _give_name(file, part)
            if os.name == "posix":  # while it is locked
                part.replace(target)
        if os.name != "posix":  # where an open file has to keep its name
            part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync(descriptor: int) -> None:
    """To the disk, on file systems that have such a thing."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    """Make the new name itself last; where folders cannot be opened (Windows), the system sees to it."""
    if os.name == "posix":
        with suppress(PermissionError):  # one may write in a folder that one may not read
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                _sync(descriptor)
            finally:
                os.close(descriptor)


# --- The part beside the file ---------------------------------------------------------------------------------
# Linux gives it a name only when it is whole, just before it takes the file's place, so that hardly any killed process
# leaves it. It is locked as long as its process needs it: the next writer removes one that is not. Its name cannot be
# guessed, and is never another's: no link that is planted there is followed.


def _new_part(target: Path) -> tuple[BinaryIO, Path]:
    """A new file in the target's folder, open and locked, and the name that it has or is to have."""
    while True:
        part = target.with_name(f"{_start(target)}{os.urandom(8).hex()}.part")
        nameless = _open_nameless(target.parent)
        file = nameless or part.open("xb")
        if _lock(file) and (nameless or part.exists()):
            return file, part
        file.close()  # another took it for abandoned, in the moment before it was locked


def _start(target: Path) -> str:
    return f".{target.name[:40]}."  # the whole name might be as long as names may be


def _open_nameless(folder: Path) -> BinaryIO | None:
    if sys.platform == "linux" and os.path.exists("/proc/self/fd"):
        with suppress(OSError):  # not every file system can
            return open(folder, "wb", opener=lambda path, _: os.open(path, os.O_TMPFILE | os.O_WRONLY, 0o666))
    return None


def _give_name(file: BinaryIO, part: Path) -> None:
    if sys.platform == "linux" and os.fstat(file.fileno()).st_nlink == 0:
        folder = os.open(part.parent, os.O_PATH)  # given a folder, os.link follows the link that /proc shows
        try:
            os.link(f"/proc/self/fd/{file.fileno()}", part, src_dir_fd=folder)
        finally:
            os.close(folder)


def _lock(file: BinaryIO) -> bool:
    """Lock a file; False if another has it."""
    try:
        lock_file(file.fileno())
    except BlockingIOError:
        return False
    except OSError:  # without locks nobody takes it for abandoned
        pass
    return True


def _remove_abandoned(target: Path) -> None:
    """Remove the parts of a file that no process has open."""
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if name.startswith(_start(target)) and re.fullmatch(r"[0-9a-f]+\.part", name[len(_start(target)) :]):
                with suppress(OSError):
                    _remove_unlocked(target.with_name(name))


def _remove_unlocked(part: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)  # to write, as NFS wants of who locks
        try:
            lock_file(descriptor)
            part.unlink()
        finally:
            os.close(descriptor)
    else:
        part.unlink()  # refused there as long as it is open
