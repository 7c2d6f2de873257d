"""The history of a run: one row for each epoch, in a CSV file."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from funcnn.checkpoint import CheckpointError
from funcnn.metrics.shared import rank
from funcnn.system.files import as_path, write_text
from funcnn.system.text import cut
from funcnn.train import Epoch

__all__ = ["Row", "best_row", "read_history", "row_of", "write_history"]


@attrs.frozen
class Row:
    """An epoch's measures; None where there is no metric, no such part, or nobody measured it.

    `train` is measured on some of the training examples after the epoch, as the other parts are, and `running` is
    the mean over the epoch's steps, while the net was changing, with dropout and augmentation.
    """

    epoch: int
    seconds: float
    learning_rate: float
    train_loss: float | None
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    running_loss: float
    running_accuracy: float | None


def row_of(event: Epoch) -> Row:
    """The row of an epoch."""
    parts = (event.subset, event.validation, event.test, event.train)
    measures = [value for part in parts for value in ((part.loss, part.accuracy) if part else (None, None))]
    numbers = [None if value is None else float(value) for value in (event.seconds, event.learning_rate, *measures)]
    return Row(event.epoch, *numbers)  # type: ignore[arg-type]  # NumPy's numbers are Python's from here on


def best_row(rows: Sequence[Row], *, lower: bool = False) -> Row:
    """The row whose net is the one to keep, the first of equals.

    It has the highest accuracy on the validation part (of a metric that shall be `lower`, the lowest), among equals the
    lowest loss there; without a metric the lowest loss; without a validation part it is the last row. What is not a
    number is worse than any number. The test part never chooses.

    Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("best_row: expected at least one row, got none")
    if rows[0].validation_loss is None:
        return rows[-1]
    return max(rows, key=lambda row: rank(row.validation_accuracy, row.validation_loss, lower=lower))


def write_history(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV with a header, atomically; None as an empty cell.

    >>> from tempfile import TemporaryDirectory
    >>> rows = [Row(1, 0.3, 0.1, 0.5, 0.9, 0.6, 0.8, None, None, 0.7, 0.8)]
    >>> with TemporaryDirectory() as folder:
    ...     write_history(Path(folder, "history.csv"), rows)
    ...     read_history(f"{folder}/history.csv") == rows
    True
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in attrs.fields(Row)])
    writer.writerows(attrs.astuple(row) for row in rows)
    write_text(path, text.getvalue())


def read_history(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a file that `write_history` wrote; none if it does not exist.

    Numbers come back exactly. Raises CheckpointError, naming the file and the line, if it has other columns or a
    damaged row.
    """
    path = as_path("read_history", path)
    if not path.exists():
        return []
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a history, got a folder, a pipe or a device")
    wanted = [field.name for field in attrs.fields(Row)]
    rows = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if header != wanted:
                raise ValueError(f"expected the columns {', '.join(wanted)}, got {cut(', '.join(header), 200)}")
            for cells in reader:
                if len(cells) != len(wanted):
                    raise ValueError(f"not a row of a history: {len(cells)} cells, expected {len(wanted)}")
                rows.append(Row(**{name: _number(name, cell) for name, cell in zip(wanted, cells, strict=True)}))
        except (csv.Error, ValueError) as error:
            raise CheckpointError(f"{path}, line {reader.line_num}: {error}") from error
    return rows


def _number(name: str, cell: str) -> Any:
    try:
        if name == "epoch":
            return int(cell)
        return None if cell == "" and name not in ("seconds", "learning_rate", "running_loss") else float(cell)
    except ValueError:
        raise ValueError(f"not a row of a history: its {name} is {cut(cell, 40)!r}") from None
