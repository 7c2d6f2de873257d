"""Layer table, histories, progress and pictures."""

import io

import numpy as np
import pytest

from funcnn import Key, serial, tree
from funcnn.compose import parallel, residual
from funcnn.layers import conv2d, dense, flatten, max_pool2d, relu
from funcnn.report.history import Row, read_history, write_history
from funcnn.report.pictures import draw_confusion, draw_curves, draw_samples
from funcnn.report.progress import progress
from funcnn.report.table import count_parameters, layer_rows, layer_table
from funcnn.train import Epoch, Metrics, Step

NET = serial(serial(conv2d(4, 3), relu()), max_pool2d(2), flatten(), residual(dense(36)), parallel(dense(2), dense(3)))


def step(number, accuracy=0.5):
    return Step(number, 1 + (number - 1) // 2, 1 + (number - 1) % 2, 2, 0.5, accuracy, 0.6, accuracy, 0.1)


def epoch(number, epochs=2, validation=None):
    return Epoch(number, epochs, None, Metrics(0.5, 0.75), validation, 0.1, 1.5)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_rows_add_up_to_the_net():
    rows = layer_rows(NET, (8, 8, 1))
    params, state, out_shape = NET.init(Key(0), (8, 8, 1))
    assert [row.place for row in rows] == ["0.0", "0.1", "1", "2", "3", "4"]
    assert rows[-1].out_shape == out_shape == (5,)
    assert sum(row.parameters for row in rows) == count_parameters(params)
    assert sum(row.macs for row in rows) == NET.config.macs((8, 8, 1))
    _, _, residuals = NET.apply(params, state, np.zeros((2, 8, 8, 1), np.float32), train=True)
    # The table counts what views show by the memory they show, which flatten's and dense's residuals share.
    assert sum(row.residual_bytes for row in rows) == tree.nbytes(residuals) // 2


def test_table_is_aligned():
    lines = layer_table(NET, (8, 8, 1)).splitlines()
    assert lines[0].split()[:2] == ["layer", "output"]
    assert "total" in lines[-1]
    assert len({len(line) for line in lines}) == 1


def test_table_of_an_empty_net():
    assert "total" in layer_table(serial(), (3,))


def test_history_round_trip(tmp_path):
    rows = [Row(1, 0.1, 1e-3, 1 / 3, 0.5, None, None), Row(2, 0.2, 1e-3, 0.25, None, 0.125, 1.0)]
    write_history(tmp_path / "history.csv", rows)
    assert read_history(tmp_path / "history.csv") == rows


def test_history_of_other_columns_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the columns epoch, seconds, .* got \['epoch', 'loss'\]"):
        read_history(tmp_path / "history.csv")


def test_history_that_is_not_there_is_empty(tmp_path):
    assert read_history(tmp_path / "history.csv") == []


def events():
    return [step(1), step(2), epoch(1, validation=Metrics(0.4, 0.8)), step(3), step(4), epoch(2)]


def test_progress_passes_every_event_on_unchanged():
    given = events()
    assert list(progress(given, epochs=2, stream=io.StringIO())) == given


def test_progress_without_a_terminal_is_a_line_per_epoch():
    stream = io.StringIO()
    list(progress(events(), epochs=2, stream=stream))
    first, second = stream.getvalue().splitlines()
    assert first.startswith(
        "epoch 1/2  train loss 0.5000 accuracy 0.7500  validation loss 0.4000 accuracy 0.8000  1.50 s  0:00 left"
    )
    assert second == "epoch 2/2  train loss 0.5000 accuracy 0.7500  1.50 s"


def test_progress_on_a_terminal_has_loss_accuracy_and_time_left():
    stream = Terminal()
    list(progress(events(), epochs=2, stream=stream))
    shown = stream.getvalue()
    assert "epoch 1/2" in shown
    assert "loss 0.5000, accuracy 0.500" in shown
    assert "left]" in shown


def test_progress_on_a_terminal_without_tqdm_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    stream = Terminal()
    list(progress(events(), epochs=2, stream=stream))
    assert stream.getvalue().startswith('For a progress bar: pip install "funcnn[progress]"')
    assert "epoch 2/2" in stream.getvalue()


def test_progress_without_a_metric():
    stream = Terminal()
    list(progress([step(1, accuracy=None)], epochs=1, stream=stream))
    assert "accuracy" not in stream.getvalue()


def test_quiet_progress_shows_nothing():
    stream = io.StringIO()
    assert len(list(progress(events(), epochs=2, quiet=True, stream=stream))) == 6
    assert stream.getvalue() == ""


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and path.stat().st_size > 2000


def test_pictures_of_ordinary_and_of_odd_input(tmp_path):
    rows = [Row(1, 0.1, 1e-3, 0.5, None, None, None)]
    draw_curves(rows, tmp_path / "curves.png", title="one epoch, no metric")
    draw_curves([], tmp_path / "empty.png", title="no epoch")
    draw_confusion(np.array([[0, 0], [1, 3]]), ("long name", "b"), tmp_path / "confusion.png", title="an empty class")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (3, 5, 5, 3), np.uint8), np.array([0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    draw_samples(images, labels, probabilities, ("a", "b"), tmp_path / "samples.png", title="three in colour")
    names = ("curves.png", "empty.png", "confusion.png", "samples.png")
    assert all(is_picture(tmp_path / name) for name in names)
