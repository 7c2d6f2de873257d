"""What the stand-in counts: where the host would wait for the device, and where arrays would be sent to it unasked."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

__all__ = ["caller", "sent", "synchronisations", "uploads", "waited"]

_OWN = str(Path(__file__).parent)
_WAITS: list[list[str]] = []
_UPLOADS: list[list[str]] = []


@contextmanager
def synchronisations() -> Iterator[list[str]]:
    """Lists what makes the host wait for the device within the block: ``["item() at train.py:81", ...]``.

    Every float(x), bool(x), x.item() and x.get() is one, and every result whose shape depends on what the array holds.
    """
    with _recorded(_WAITS) as found:
        yield found


@contextmanager
def uploads() -> Iterator[list[str]]:
    """Lists the host's values that are sent to the device within the block, scalars in arithmetic aside."""
    with _recorded(_UPLOADS) as found:
        yield found


@contextmanager
def _recorded(records: list[list[str]]) -> Iterator[list[str]]:
    found: list[str] = []
    records.append(found)
    try:
        yield found
    finally:
        records[:] = [record for record in records if record is not found]


def waited(what: str) -> None:
    """Notes that the host would wait here."""
    _note(_WAITS, what)


def sent(what: str) -> None:
    """Notes that a value of the host would be copied to the device here."""
    _note(_UPLOADS, what)


def caller() -> FrameType | None:
    """The frame that called the stand-in, through NumPy or not."""
    frame: FrameType | None = sys._getframe(1)
    while frame and (frame.f_code.co_filename.startswith(_OWN) or "/numpy/" in frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _note(records: list[list[str]], what: str) -> None:
    if records and (frame := caller()):
        for record in records:
            record.append(f"{what} at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
