"""The history of a run: one row for each epoch, in a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

import attrs

from funcnn.system.files import write_text
from funcnn.train import Epoch, Metrics

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


_NONE = Metrics(None, None)  # type: ignore[arg-type]


def row_of(event: Epoch) -> Row:
    """The row of an epoch."""
    parts = (event.subset, event.validation, event.test, event.train)
    measures = [value for part in parts for value in attrs.astuple(part or _NONE)]
    return Row(event.epoch, event.seconds, event.learning_rate, *measures)


def best_row(rows: list[Row]) -> Row:
    """The row whose net is the one to keep, the first of equals.

    It has the highest accuracy on the validation part, among equals the lowest loss there; without a metric the
    lowest loss; without a validation part it is the last row. The test part never chooses.

    Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("best_row: expected at least one row, got none")
    if rows[0].validation_loss is None:
        return rows[-1]
    return max(rows, key=lambda row: (row.validation_accuracy or 0.0, -(row.validation_loss or 0.0)))


def write_history(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV with a header, atomically; None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in attrs.fields(Row)])
    writer.writerows(attrs.astuple(row) for row in rows)
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[Row]:
    """The rows of a file that `write_history` wrote; none if it does not exist.

    Numbers come back exactly. Raises ValueError, naming the file, if it has other columns or a damaged row.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        wanted = [field.name for field in attrs.fields(Row)]
        if reader.fieldnames != wanted:
            raise ValueError(f"{path}: expected the columns {', '.join(wanted)}, got {reader.fieldnames}")
        try:
            return [Row(**{name: _number(name, cell) for name, cell in line.items()}) for line in reader]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {reader.line_num}: not a row of a history ({error})") from error


def _number(name: str, cell: str) -> Any:
    if name == "epoch":
        return int(cell)
    return float(cell) if cell else None
