"""The history of a run: one row for each epoch, in a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

import attrs

from funcnn.files import write_text
from funcnn.train import Epoch

__all__ = ["Row", "read_history", "row_of", "write_history"]


@attrs.frozen
class Row:
    """An epoch's measures; None where there is no metric or no validation part."""

    epoch: int
    seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None


def row_of(event: Epoch) -> Row:
    """The row of an epoch."""
    validation = event.validation
    return Row(
        event.epoch,
        event.seconds,
        event.learning_rate,
        event.train.loss,
        event.train.accuracy,
        validation.loss if validation else None,
        validation.accuracy if validation else None,
    )


def write_history(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV with a header, atomically; None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in attrs.fields(Row)])
    writer.writerows(attrs.astuple(row) for row in rows)
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[Row]:
    """The rows of a file that `write_history` wrote; none if it does not exist.

    Numbers come back exactly. Raises ValueError, naming the file, if it has other columns.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        wanted = [field.name for field in attrs.fields(Row)]
        if reader.fieldnames != wanted:
            raise ValueError(f"{path}: expected the columns {', '.join(wanted)}, got {reader.fieldnames}")
        return [Row(**{name: _number(name, cell) for name, cell in line.items()}) for line in reader]


def _number(name: str, cell: str) -> Any:
    if name == "epoch":
        return int(cell)
    return float(cell) if cell else None
