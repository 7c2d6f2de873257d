"""Histories: files of rows, an epoch's row, and the best of them."""

from functools import partial

import attrs
import numpy as np
import pytest

from funcnn.checkpoint import CheckpointError
from funcnn.metrics import accuracy, mae
from funcnn.metrics.shared import is_lower_better
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
    numpys = attrs.evolve(event, validation=Metrics(np.float32(0.5), np.float64(0.3)), learning_rate=np.float32(0.5))
    assert {type(value) for value in attrs.astuple(row_of(numpys))} == {int, float}
    without = row_of(attrs.evolve(event, validation=None, subset=None, test=None, train=Metrics(0.7, None)))
    measured = {key: value for key, value in attrs.asdict(without).items() if value is not None}
    assert measured == {"epoch": 4, "seconds": 2.5, "learning_rate": 0.01, "running_loss": 0.7}


NAN, INF = float("nan"), float("inf")
BEST = {
    "the highest accuracy": ([row(1, 0.5, 0.1), row(2, 0.9, 0.7), row(3, 0.8, 0.2)], 2),
    "of equals the lowest loss": ([row(1, 0.9, 0.3), row(2, 0.9, 0.2), row(3, 0.9, 0.25)], 2),
    "of equals in both the first": ([row(1, 0.5, 0.2), row(2, 0.9, 0.2), row(3, 0.9, 0.2)], 2),
    "no accuracy ever": ([row(1, 0.0, 2.5), row(2, 0.0, 2.4), row(3, 0.0, 2.6)], 2),
    "without a metric the lowest loss": ([row(1, None, 0.4), row(2, None, 0.2), row(3, None, 0.3)], 2),
    "without a metric of equals the first": ([row(1, None, 0.2), row(2, None, 0.2)], 1),
    "without a validation part the last": ([row(1), row(2), row(3)], 3),
    "one row": ([row(7, 0.0, 5.0)], 7),
    "a number before none": ([row(1, NAN, NAN), row(2, 0.0, 9.0), row(3, NAN, 0.1)], 2),
    "a loss before none": ([row(1, 0.5, NAN), row(2, 0.5, 7.0), row(3, 0.5, NAN)], 2),
    "without a metric a loss before none": ([row(1, None, NAN), row(2, None, INF), row(3, None, 0.5)], 3),
}


@pytest.mark.parametrize(("rows", "best"), BEST.values(), ids=BEST)
def test_the_best_row_is(rows, best):
    assert best_row(rows).epoch == best
    # What the other parts say never matters: here, that every other row is better.
    others = ({"train_accuracy": 1 - here, "test_accuracy": 1 - here} for here in (each.epoch == best for each in rows))
    assert best_row([attrs.evolve(each, **values) for each, values in zip(rows, others, strict=True)]).epoch == best


def test_of_a_metric_that_shall_be_low_the_best_row_has_the_lowest():
    rows = [row(1, 0.9, 0.3), row(2, 0.2, 0.3), row(3, 0.2, 0.1), row(4, NAN, 0.0)]
    assert (best_row(rows).epoch, best_row(rows, lower=True).epoch) == (1, 3)
    assert [is_lower_better(metric) for metric in (mae, partial(mae), accuracy, None)] == [True, True, False, False]


def test_the_best_of_no_rows_is_refused():
    with pytest.raises(ValueError, match=r"^best_row: expected at least one row, got none$"):
        best_row([])


HEADER = ",".join(field.name for field in attrs.fields(Row))
GOOD = "1,0.5,0.1,1,1,1,1,1,1,1,1"
DAMAGED = {
    "other columns": ("epoch,loss\n1,2\n", "line 1: expected the columns epoch, seconds, .* got epoch, loss$"),
    "nothing": ("", "line 0: expected the columns"),
    "an empty line": (f"{HEADER}\n\n{GOOD}\n", "line 2: not a row of a history: 0 cells, expected 11$"),
    "a cut row": (f"{HEADER}\n{GOOD}\n2,0.5", "line 3: not a row of a history: 2 cells, expected 11$"),
    "a cell more": (f"{HEADER}\n{GOOD},9\n", "line 2: not a row of a history: 12 cells"),
    "a word": (f"{HEADER}\n{GOOD.replace('0.5', 'soon')}\n", "line 2: not a row of a history: its seconds is 'soon'$"),
    "half an epoch": (f"{HEADER}\n1.5{GOOD[1:]}\n", "line 2: not a row of a history: its epoch is '1.5'$"),
    "no rate": (f"{HEADER}\n{GOOD.replace('0.1', '')}\n", "its learning_rate is ''$"),
    "a long cell": (f"{HEADER}\n{'1' * 200_000}{GOOD}\n", "line 2: field larger than field limit"),
    "an open quote": (f'{HEADER}\n"{GOOD}\n', "line 2: unexpected end of data"),
    "digits without end": (f"{HEADER}\n{'9' * 5000}{GOOD}\n", "its epoch is '99999"),
    "no text": (b"\xff\xfe\x00", "line 1: expected the columns .*, got \ufffd\ufffd"),
}


@pytest.mark.parametrize(("content", "text"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_history_is_refused_with_the_line_and_the_cell(content, text, tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=text) as raised:
        read_history(path)
    assert str(raised.value).startswith(f"{path}, line ")


def test_history_that_is_not_there_is_empty(tmp_path):
    assert read_history(tmp_path / "history.csv") == []
