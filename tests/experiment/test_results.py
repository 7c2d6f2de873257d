"""What a finished run leaves: its metrics, and pictures, of which one that fails takes no other along."""

import json
import re

import attrs
import numpy as np
import pytest
from matplotlib.figure import Figure
from run_of_digits import is_picture

from funcnn import Key, serial
from funcnn.data import Dataset, Part
from funcnn.experiment import results
from funcnn.experiment.results import draw_predictions, draw_results
from funcnn.layers import dense, flatten
from funcnn.losses import softmax_cross_entropy
from funcnn.model_file import Trained
from funcnn.optimizers import adam
from funcnn.report.history import Row
from funcnn.train import Model, Problem

# --- Pictures, each by itself ---------------------------------------------------------------------------------

PICTURES = ("confusion.png", "curves.png", "filters.png", "samples.png")
IMAGES = np.random.default_rng(0).random((12, 4, 4, 1)).astype(np.float32)
LABELS = np.arange(12) % 2
MULTI_HOT = np.ones((12, 2))
METRICS = {"test_accuracy": None, "test_loss": 0.5, "best_epoch": 1}


def finished(targets=LABELS, classes=("a", "b"), images=IMAGES):
    """What draw_results is given after a run of an epoch: data, a net, its history and metrics."""
    part = Part(images, targets)
    net = serial(flatten(), dense(2))
    params, state, _ = net.init(Key(0), (4, 4, 1))
    dataset = Dataset(part, part, part, classes, (4, 4, 1))
    trained = Trained(net, Model(params, state), (4, 4, 1), dataset.classes)
    rows = [Row(1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)]
    return dataset, trained, rows, {"test_accuracy": 0.5, "best_epoch": 1}


@pytest.fixture
def unrendered(monkeypatch):
    """Pictures are drawn and written, without the time of rendering them."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, buffer, **_: buffer.write(b"a picture"))


def left(folder):
    return tuple(sorted(path.name for path in folder.iterdir()))


@pytest.mark.parametrize(
    "given",
    [
        {"classes": range(2)},
        {"classes": np.unique(LABELS)},
        {"targets": np.eye(2)[LABELS]},
        {"targets": LABELS.astype(np.uint8)},
    ],
    ids=["a range of classes", "NumPy's classes", "one-hot targets", "bytes"],
)
@pytest.mark.usefixtures("unrendered")
def test_all_pictures_are_drawn(given, tmp_path):
    said = []
    assert draw_results(*finished(**given), tmp_path, say=said.append) == []
    assert left(tmp_path) == PICTURES
    assert said == []


@pytest.mark.usefixtures("unrendered")
def test_without_a_metric_there_is_no_confusion_of_nets_that_give_images(tmp_path):
    said = []
    dataset, trained, rows, _ = finished(targets=(255 * IMAGES).astype(np.uint8))
    rows = [Row(1, 0.1, 0.1, 0.5, None, 0.5, None, 0.5, None, 0.5, None)]
    assert draw_results(dataset, trained, rows, METRICS, tmp_path, say=said.append) == []
    assert left(tmp_path) == ("curves.png", "filters.png")
    assert said == []


def test_names_may_hold_what_others_obey(tmp_path):
    folder = tmp_path / "$run_$ 猫"
    folder.mkdir()
    assert draw_results(*finished(classes=("$a_$", "\x1b[31mb\udce9")), folder) == []
    assert all(is_picture(folder / name) for name in PICTURES)


@pytest.mark.usefixtures("unrendered")
def test_targets_that_are_no_classes_have_curves_and_filters(tmp_path):
    said = []
    given = finished(targets=np.random.default_rng(0).normal(size=(12, 2)), classes=())
    assert draw_results(*given, tmp_path, say=said.append) == []
    assert left(tmp_path) == ("curves.png", "filters.png")
    assert draw_results(*finished(targets=MULTI_HOT), tmp_path, say=said.append) == ["confusion.png", "samples.png"]
    assert said == [
        "no confusion.png and samples.png: ValueError: expected targets that name one class each, got float64 (12, 2)"
    ]


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_fails_is_said_and_leaves_the_others(name, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise MemoryError("no room for\n\x1b[31m a figure")

    monkeypatch.setattr(f"funcnn.experiment.results.draw_{name.removesuffix('.png')}", fail)
    (tmp_path / name).write_bytes(b"of an earlier run")
    assert draw_results(*finished(), tmp_path) == [name]
    assert left(tmp_path) == tuple(each for each in PICTURES if each != name)
    assert capsys.readouterr() == ("", f"no {name}: MemoryError: no room for\\n\\x1b[31m a figure\n")


@pytest.mark.usefixtures("unrendered")
def test_pictures_that_cannot_be_written_are_said(tmp_path, capsys):
    assert sorted(draw_results(*finished(), tmp_path / "gone")) == list(PICTURES)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(re.match(r"no \w+\.png: FileNotFoundError: .*gone", line) for line in lines)


@pytest.mark.usefixtures("unrendered")
def test_predictions_of_nan_are_counted_and_the_rest_is_drawn(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "funcnn.experiment.results.draw_confusion", lambda counts, *_, title: titles.append((counts.sum(), title))
    )
    shares = np.eye(2)[LABELS]
    shares[:3] = np.nan
    data = finished()[0]
    assert draw_predictions(data.test, data.classes, shares, tmp_path) == []
    assert titles == [(9, "test accuracy 0.7500\n3 of 12 predictions are NaN")]
    assert left(tmp_path) == ("samples.png",)


def test_metrics_are_json_whatever_number_a_metric_gives():
    dataset, trained, rows, _ = finished()
    problem = Problem(trained.net, softmax_cross_entropy, adam(0.1), lambda outputs, targets: np.float32(0.25))
    rows = [attrs.evolve(rows[0], validation_accuracy=np.float32(0.25))]
    metrics = json.loads(json.dumps(results.test_metrics(problem, dataset, trained, rows, len(dataset.train))))
    assert (metrics["test_accuracy"], metrics["validation_accuracy"], metrics["parameters"]) == (0.25, 0.25, 34)
