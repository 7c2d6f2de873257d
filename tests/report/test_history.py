"""Histories: files of rows, an epoch's row, and the best of them."""

import attrs
import pytest

from funcnn.report.history import Row, best_row, read_history, row_of, write_history
from funcnn.train import Epoch, Metrics


def row(number, accuracy=None, loss=None, **others):
    """An epoch's row by what it has on the validation part."""
    values = {field.name: None for field in attrs.fields(Row)} | {"epoch": number, "seconds": 0.1, "learning_rate": 0.1}
    return Row(**values | {"running_loss": 0.5, "validation_accuracy": accuracy, "validation_loss": loss} | others)


def test_history_round_trip(tmp_path):
    full = Row(1, 0.1, 1e-3, 1 / 3, 0.5, 2 / 3, 0.25, 1e-300, 1.0, 0.7, 0.1)
    rows = [full, row(2), row(3, 0.1 + 0.2, 0.0)]
    write_history(tmp_path / "history.csv", rows)
    assert read_history(tmp_path / "history.csv") == rows
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert header == ",".join(
        [
            *["epoch", "seconds", "learning_rate", "train_loss", "train_accuracy", "validation_loss"],
            *["validation_accuracy", "test_loss", "test_accuracy", "running_loss", "running_accuracy"],
        ]
    )


def test_the_row_of_an_epoch_has_every_measure_in_its_place():
    event = Epoch(
        *(4, 9, None, Metrics(0.7, 0.1), Metrics(0.5, 0.3), 0.01, 2.5), subset=Metrics(0.4, 0.6), test=Metrics(0.8, 0.2)
    )
    assert row_of(event) == Row(
        epoch=4, seconds=2.5, learning_rate=0.01, train_loss=0.4, train_accuracy=0.6, validation_loss=0.5,
        validation_accuracy=0.3, test_loss=0.8, test_accuracy=0.2, running_loss=0.7, running_accuracy=0.1,
    )  # fmt: skip
    without = row_of(attrs.evolve(event, validation=None, subset=None, test=None, train=Metrics(0.7, None)))
    measured = {key: value for key, value in attrs.asdict(without).items() if value is not None}
    assert measured == {"epoch": 4, "seconds": 2.5, "learning_rate": 0.01, "running_loss": 0.7}


BEST = {
    "the highest accuracy": ([row(1, 0.5, 0.1), row(2, 0.9, 0.7), row(3, 0.8, 0.2)], 2),
    "of equals the lowest loss": ([row(1, 0.9, 0.3), row(2, 0.9, 0.2), row(3, 0.9, 0.25)], 2),
    "of equals in both the first": ([row(1, 0.5, 0.2), row(2, 0.9, 0.2), row(3, 0.9, 0.2)], 2),
    "no accuracy ever": ([row(1, 0.0, 2.5), row(2, 0.0, 2.4), row(3, 0.0, 2.6)], 2),
    "without a metric the lowest loss": ([row(1, None, 0.4), row(2, None, 0.2), row(3, None, 0.3)], 2),
    "without a metric of equals the first": ([row(1, None, 0.2), row(2, None, 0.2)], 1),
    "without a validation part the last": ([row(1), row(2), row(3)], 3),
    "one row": ([row(7, 0.0, 5.0)], 7),
}


@pytest.mark.parametrize(("rows", "best"), BEST.values(), ids=BEST)
def test_the_best_row_is(rows, best):
    assert best_row(rows).epoch == best
    # What the other parts say never matters: here, that every other row is better.
    others = ({"train_accuracy": 1 - here, "test_accuracy": 1 - here} for here in (each.epoch == best for each in rows))
    assert best_row([attrs.evolve(each, **values) for each, values in zip(rows, others, strict=True)]).epoch == best


def test_the_best_of_no_rows_is_refused():
    with pytest.raises(ValueError, match=r"^best_row: expected at least one row, got none$"):
        best_row([])


def test_history_of_other_columns_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the columns epoch, seconds, .* got \['epoch', 'loss'\]"):
        read_history(tmp_path / "history.csv")


def test_history_that_is_not_there_is_empty(tmp_path):
    assert read_history(tmp_path / "history.csv") == []
