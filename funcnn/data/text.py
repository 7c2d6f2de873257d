"""Texts as data: every symbol is to be told from those before it, in windows of a fixed length."""

import os
from typing import Any

import attrs
import numpy as np

from funcnn.arrays.windows import windows_along
from funcnn.checks import as_array
from funcnn.data.dataset import Dataset
from funcnn.data.find import files_of
from funcnn.data.formats import DataError, as_path, reading
from funcnn.data.part import Part, positions_in
from funcnn.settings import check_counts, refuse
from funcnn.tree import Array, brief

__all__ = ["Windows", "load_text"]

_HELD_OUT = 0.1  # of a text, its end: half of it to validate, half for the test


@attrs.frozen(eq=False)
class Windows:
    """A part of a data set made of a text: windows of so many symbols, whose targets are the symbols that follow each.

    The text is symbol numbers (n,), of any integer dtype; a window begins at every `stride`-th place.

    >>> windows = Windows(np.arange(6), context=3)
    >>> len(windows), windows.take([0, 2])
    (3, (array([[0, 1, 2],
           [2, 3, 4]]), array([[1, 2, 3],
           [3, 4, 5]])))

    Raises ValueError for a text that is no whole numbers, or too short for one window.
    """

    text: Array = attrs.field(repr=brief)
    context: int
    stride: int = 1
    preprocess: None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        check_counts("Windows", context=self.context, stride=self.stride)
        text = as_array("Windows", "text", self.text)
        if text.ndim != 1 or text.dtype.kind not in "iu":
            refuse("Windows", "text", "symbol numbers (n,), of an integer dtype", text)
        if len(text) <= self.context:
            raise ValueError(
                f"Windows: a window of {self.context} symbols, and the one after it, need a text of at least "
                f"{self.context + 1}, got {len(text)}"
            )
        object.__setattr__(self, "text", text)

    @property
    def inputs(self) -> Array:
        """All windows (n, context), a view of the text."""
        return windows_along(self.text[:-1], self.context)[:: self.stride]

    @property
    def targets(self) -> Array:
        """The symbols that follow each symbol of the windows (n, context), a view of the text."""
        return windows_along(self.text[1:], self.context)[:: self.stride]

    def __len__(self) -> int:
        return (len(self.text) - 1 - self.context) // self.stride + 1

    def take(self, index: Any) -> tuple[Array, ...]:
        """The windows at positions, and the symbols that follow; raises ValueError for what are no positions."""
        positions = positions_in(index, len(self))
        return self.inputs[positions], self.targets[positions]

    def thin(self, size: int) -> "Windows | Part":
        """At most `size` of the windows, evenly spaced."""
        return self if len(self) <= size else Part(self.inputs, self.targets).thin(size)


def load_text(
    source: str | os.PathLike[str] = "tinyshakespeare",
    *,
    context: int,
    data_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """A text as a data set: nine tenths to train on, a twentieth to validate on, the last twentieth for the test.

    `source` is the path of a file of UTF-8, or "tinyshakespeare", 1.1 million characters of Shakespeare's plays, which
    is looked for and downloaded as `load` does. The classes are the characters that occur, in order; training windows
    begin at every character, the others one after the other.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "text.txt")
    ...     _ = path.write_text("to be or not to be, " * 20, encoding="utf-8")
    ...     data = load_text(path, context=8)
    >>> len(data.train), data.in_shape, "".join(data.classes)
    (352, (8,), ' ,benort')

    Raises DataError for a file that cannot be read, is no UTF-8 or too short, or has one character alone or more than
    65,536 that differ.
    """
    check_counts("load_text", context=context)
    path = as_path("load_text", "source", source)
    if isinstance(source, str) and source == "tinyshakespeare":
        (path,) = files_of("load_text", source, data_dir)
    with reading(path):
        content = path.read_bytes()
    try:
        text = np.frombuffer(content.decode("utf-8").encode("utf-32-le"), np.uint32)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error}). Convert it, or give another file") from error
    symbols, numbers = np.unique(text, return_inverse=True)
    if len(symbols) == 1:
        raise DataError(f"{path}: all characters are {chr(symbols[0])!r}, and leave nothing to tell. Give a text")
    if len(symbols) > 2**16:
        raise DataError(f"{path}: {len(symbols):,} characters that differ, at most 65,536. Give a text of words")
    numbers = numbers.astype(np.uint8 if len(symbols) <= 2**8 else np.uint16)
    parts: list[Any] = []  # a Windows is a part, too
    end = len(numbers) - round(_HELD_OUT * len(numbers))
    middle = end + (len(numbers) - end) // 2
    for start, stop, stride in ((0, end, 1), (end, middle, context), (middle, len(numbers), context)):
        try:
            parts.append(Windows(numbers[start:stop], context, stride))
        except ValueError as error:
            raise DataError(f"{path}: a text of {len(numbers):,} characters is too short: {error}") from error
    classes = tuple(symbols.astype("<u4").tobytes().decode("utf-32-le"))
    train, validation, test = parts
    return Dataset(train, validation, test, classes, (int(context),), os.path.abspath(path))
