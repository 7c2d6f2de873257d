"""Values as text: on a line or a few, and in tables of aligned columns."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Text", "call_text", "cut", "text_table"]

_LINE = 100  # characters: what would be longer has a line for each argument


class Text(str):
    """A text of lines that a prompt shows as lines, where it would show a string on one, with every break as ``\\n``.

    >>> Text("a table\\nof two lines")
    a table
    of two lines
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def cut(text: str, width: int) -> str:
    """A text of at most `width` characters: what is longer ends in three dots.

    >>> cut("a long story", 9), cut("short", 9)
    ('a long...', 'short')
    """
    return text if len(text) <= width else text[: max(width - 3, 0)].rstrip() + "..."[:width]


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

    >>> text_table(("net", "accuracy"), [("small", 0.5), ("large", None)], left=1)
    net    accuracy
    small    0.5000
    large         -
    """
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        line[:left] = map(str.ljust, line[:left], widths[:left])
        line[left:] = map(str.rjust, line[left:], widths[left:])
    return Text("\n".join("  ".join(line).rstrip() for line in cells))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
