"""Layer table, histories, progress and pictures."""

import io
import json
import sys
from functools import partial
from pathlib import Path

import attrs
import numpy as np
import pytest

from funcnn import Key, serial, tree
from funcnn.checkpoint import CheckpointError
from funcnn.compose import parallel, rebuild, residual
from funcnn.data import load
from funcnn.layers import conv2d, dense, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.report.experiment import parse_options, run
from funcnn.report.history import Row, read_history, write_history
from funcnn.report.pictures import draw_confusion, draw_curves, draw_samples
from funcnn.report.progress import progress
from funcnn.report.table import count_parameters, layer_rows, layer_table
from funcnn.train import Epoch, Metrics, Problem, Step

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
    monkeypatch.setitem(sys.modules, "tqdm", None)
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


# --- Whole experiments, in this process -----------------------------------------------------------------------


@pytest.fixture
def options(tmp_path):
    arguments = ["--quick", "--no-plots", "--out", str(tmp_path / "run")]
    return parse_options("Train.", name="demo", epochs=9, batch_size=256, lr=0.01, quick_epochs=2, arguments=arguments)


def problem():
    return Problem(fully_connected([16], 10), partial(softmax_cross_entropy, label_smoothing=0.1), adam(0.01))


def test_options_have_the_scripts_defaults_and_the_users_values():
    options = parse_options("Train.", name="demo", epochs=9, batch_size=32, lr=0.1, arguments=["--lr", "0.2"])
    assert (options.epochs, options.batch_size, options.lr, options.seed) == (9, 32, 0.2, 0)
    assert (options.out, options.resume, options.plots) == (Path("runs/demo"), False, True)


def test_a_run_returns_what_it_writes_and_prints_how_it_went(options, capsys):
    metrics = run(problem(), load("digits"), options)
    assert json.loads((options.out / "metrics.json").read_text()) == metrics
    config = json.loads((options.out / "config.json").read_text())
    assert config["loss"] == {"name": "softmax_cross_entropy", "label_smoothing": 0.1}
    assert rebuild(config["net"]) == problem().net
    printed = capsys.readouterr().out
    assert "loss       softmax_cross_entropy(label_smoothing=0.1)" in printed
    assert f"test accuracy {metrics['test_accuracy']:.4f}" in printed


def test_more_epochs_go_on_from_the_checkpoint(options, capsys):
    data = load("digits")
    run(problem(), data, options)
    run(problem(), data, attrs.evolve(options, epochs=3, resume=True))
    assert "going on after epoch 2" in capsys.readouterr().out
    assert [row.epoch for row in read_history(options.out / "history.csv")] == [1, 2, 3]
    alone = attrs.evolve(options, epochs=3, quiet=True, out=options.out.parent / "alone")
    run(problem(), data, alone)
    saved = (folder / "model.safetensors" for folder in (options.out, alone.out))
    assert next(saved).read_bytes() == next(saved).read_bytes()


def test_resuming_before_there_is_a_checkpoint_starts_anew(options, capsys):
    run(problem(), load("digits"), attrs.evolve(options, resume=True))
    assert f"no checkpoint in {options.out} yet: starting anew" in capsys.readouterr().out


def test_a_checkpoint_of_other_settings_is_refused(options):
    run(problem(), load("digits"), options)
    other = Problem(problem().net, softmax_cross_entropy, adam(0.02))
    config = (options.out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"saved with another loss, optimizer\. Resume with the settings"):
        run(other, load("digits"), attrs.evolve(options, resume=True))
    assert (options.out / "config.json").read_bytes() == config  # what the message says to resume with


def test_an_interrupt_keeps_the_finished_epochs_and_says_how_to_go_on(options, capsys, monkeypatch):
    def interrupted(events, **_):
        for event in events:
            yield event
            if isinstance(event, Epoch):
                raise KeyboardInterrupt

    monkeypatch.setattr("funcnn.report.experiment.progress", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(problem(), load("digits"), options)
    assert stopped.value.code == 130
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Stopped after epoch 1. To go on: ")
    assert last.endswith("--resume")
    assert (options.out / "checkpoint.safetensors").exists()


def test_a_run_draws_its_pictures(options):
    run(problem(), load("digits"), attrs.evolve(options, plots=True, quiet=True))
    assert all(is_picture(options.out / name) for name in ("curves.png", "confusion.png", "samples.png"))


def test_a_run_without_validation_or_matplotlib(options, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = attrs.evolve(load("digits"), validation=None)
    run(problem(), data, attrs.evolve(options, plots=True))
    printed = capsys.readouterr().out
    assert 'matplotlib is not installed. For pictures: pip install "funcnn[plots]"' in printed
    assert "validate" not in printed
    assert read_history(options.out / "history.csv")[0].validation_loss is None
