"""Values as text, in tables of aligned columns too, and streams that show it as far as they can."""

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

__all__ = ["Screen", "Text", "call_text", "columns", "cut", "printable", "show", "text_table"]

_LINE = 100  # characters: what would be longer has a line for each argument
_JOINERS = "\u200c\u200d"  # invisible, but Persian and emoji are written with them
_ASCII = {"±": "+-", "×": "x", "·": "*", "−": "-", "–": "-", "…": "...", "→": "->"}


class Text(str):
    """A text of lines that a prompt shows as lines, where it would show a string on one, with every break as ``\\n``.

    >>> Text("a table\\nof two lines")
    a table
    of two lines
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


# --- What a name may hold -------------------------------------------------------------------------------------


def printable(text: object) -> str:
    """A value's text on one line, without anything that a terminal obeys: such characters are written as escapes.

    They are control characters, breaks of lines, marks that turn the direction of writing, and what is not UTF-8 in the
    name of a file.

    >>> print(printable("\\x1b[31mred\\nand blue"), printable("größer"))
    \\x1b[31mred\\nand blue größer
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or each in _JOINERS or unicodedata.category(each) == "Zs"
        else each.encode("unicode_escape").decode()
        for each in text
    )


def columns(text: str) -> int:
    """The columns that a text takes on a terminal: two for a wide character, none for an accent that is added to one.

    >>> columns("cat"), columns("猫"), columns("e\\u0301")
    (3, 2, 1)
    """
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """A text of at most `width` columns: what is longer ends in three dots.

    >>> cut("a long story", 9), cut("short", 9)
    ('a long...', 'short')
    """
    if columns(text) <= width:
        return text
    room, end = max(width - 3, 0), 0
    while (room := room - columns(text[end])) >= 0:
        end += 1
    return text[:end].rstrip() + "..."[: max(width, 0)]


def call_text(name: str, arguments: Mapping[str, str]) -> str:
    """A value as the call that makes it: on one line, or with a line for each argument if that is too long.

    >>> call_text("Point", {"x": "1", "y": "2"})
    'Point(x=1, y=2)'
    >>> print(call_text("Pair", {"first": "1" * 60, "second": "2" * 60}))
    Pair(
        first=111111111111111111111111111111111111111111111111111111111111,
        second=222222222222222222222222222222222222222222222222222222222222,
    )
    """
    parts = [f"{key}={text}" for key, text in arguments.items()]
    line = f"{name}({', '.join(parts)})"
    if len(line) <= _LINE and "\n" not in line:
        return line
    indented = [part.replace("\n", "\n    ") for part in parts]
    return "\n".join([f"{name}(", *(f"    {part}," for part in indented), ")"])


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int) -> Text:
    """Lines of aligned columns, the first `left` to the left: floats with four digits, None as a dash.

    Cells are `printable`.

    >>> text_table(("net", "accuracy"), [("small", 0.5), ("large", None)], left=1)
    net    accuracy
    small    0.5000
    large         -

    Raises ValueError for a row that has not a cell for each column.
    """
    cells = [[printable(name) for name in header], *([_cell(value) for value in row] for row in rows)]
    for number, line in enumerate(cells):
        if len(line) != len(header):
            raise ValueError(
                f"text_table: expected {len(header)} cells in each row, as in the header, got {len(line)} in row "
                f"{number - 1}. Fill it up with None"
            )
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        for i, width in enumerate(widths):
            space = " " * (width - columns(line[i]))
            line[i] = line[i] + space if i < left else space + line[i]
    return Text("\n".join("  ".join(line).rstrip() for line in cells))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Real) and not isinstance(value, Integral):  # NumPy's floats as well
        value = float(value)
        return f"{value:z.4f}" if abs(value) < 1e9 else f"{value:.4e}"
    return printable(value)


# --- Streams ----------------------------------------------------------------------------------------------------


class Screen:
    """A stream as far as it can show text: writing to it never ends the work that is shown.

    What its encoding lacks is written in ASCII. Where there is no stream (None, as after ``>&-``), or it fails, nothing
    is shown. When the reader of a standard stream is gone (``| head``), all that the process still writes there goes
    nowhere.

    >>> Screen(sys.stdout).write("shown\\n")
    shown
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str | None:
        """The stream's encoding, if it has one."""
        return getattr(self._stream, "encoding", None)

    def fileno(self) -> int:
        """The stream's descriptor, by which a bar learns how wide the terminal is."""
        number: int = self._stream.fileno()
        return number

    def isatty(self) -> bool:
        """Whether it is a terminal on which a line can be written anew."""
        try:
            return bool(self._stream.isatty()) and os.environ.get("TERM") != "dumb"
        except Exception:
            return False

    def write(self, text: str) -> None:
        """Write a text."""
        try:
            self._stream.write(_encodable(text, self.encoding or "utf-8"))
        except Exception as error:
            self._failed(error)

    def flush(self) -> None:
        """Write what is still held back."""
        try:
            self._stream.flush()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, BrokenPipeError) and self._stream in (sys.stdout, sys.stderr):
            with suppress(Exception), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())  # else Python tries again when it ends, and says so


def show(text: str, *, error: bool = False) -> None:
    """Print a text on standard output, or on standard error, as far as it can be (`Screen`).

    >>> show("a line")
    a line
    """
    print(text, file=Screen(sys.stderr if error else sys.stdout), flush=True)


def _encodable(text: str, encoding: str) -> str:
    """A text in the characters that an encoding has."""
    try:
        text.encode(encoding)
    except LookupError:  # nobody knows the encoding
        return _encodable(text, "ascii")
    except UnicodeEncodeError:
        if len(text) == 1:
            return _ASCII.get(text) or text.encode("unicode_escape").decode()
        return "".join(_encodable(each, encoding) for each in text)
    return text
