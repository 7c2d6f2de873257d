"""Files that appear whole or not at all."""

import os
from pathlib import Path

__all__ = ["make_folder", "write_bytes", "write_text"]


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: beside it, to the disk, and then in its place, so that a reader never sees a part.

    Raises OSError if it cannot be written, and then leaves no part behind.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself last; where folders cannot be opened (Windows), the system sees to it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode())


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder if need be and make sure that files can be written in it, before hours of work depend on it.

    Raises OSError that names the folder and the reason.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        write_bytes(probe, b"")
        probe.unlink()
    except OSError as error:
        raise OSError(f"cannot write in the folder {folder}: {error.strerror}. Choose another one") from error
    return folder
