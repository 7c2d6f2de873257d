"""The loops of docs/trackers.md, as they stand, for each tracker that is installed, and what they leave."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from funcnn import tree

DOCUMENT = Path(__file__).parents[1] / "docs" / "trackers.md"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Run the block of a section, after the one that all begin with, in an empty folder; returns its names."""
    monkeypatch.chdir(tmp_path)

    def run(section: str) -> dict[str, Any]:
        text = DOCUMENT.read_text("utf-8")
        parts = text.split("## ")
        (part,) = [each for each in parts if each.startswith(section)]
        names: dict[str, Any] = {}
        for source in (parts[0], part):
            (block,) = re.findall(r"```python\n(.*?)```", source, re.DOTALL)
            exec(compile(block, "trackers.md", "exec"), names)
        return names

    return run


@pytest.mark.filterwarnings("default")  # of the trackers' own
def test_tensorboard_is_given_the_curves_and_the_histograms(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    names = run("TensorBoard")
    (written,) = (tmp_path / "runs" / "tensorboard" / "first").iterdir()
    content = written.read_bytes()
    for tag in ("loss/train", "loss/validation", "accuracy/validation", *tree.paths(names["state"].params)):
        assert content.count(tag.encode()) >= 5, tag


@pytest.mark.filterwarnings("default")
def test_mlflow_keeps_the_curves_the_picture_and_the_model(run: Any, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("matplotlib")
    names = run("MLflow")
    kept = mlflow.last_active_run()
    assert kept.data.metrics["validation_accuracy"] == names["event"].validation.accuracy
    assert kept.data.params["optimizer"] == "adam(lr=0.003)"
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select count(*) from metrics where key = 'train_loss'").fetchone() == (5,)
    assert {"curves.png", "digits.safetensors"} <= {path.name for path in tmp_path.rglob("artifacts/*")}


@pytest.mark.filterwarnings("default")
def test_optuna_asks_prunes_and_is_told(run: Any) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = run("Optuna")["study"]
    states = [trial.state.name for trial in study.trials]
    assert set(states) <= {"COMPLETE", "PRUNED"}
    assert len(states) == 8
    assert study.best_value > 0.8
    for trial in study.trials:
        assert len(trial.intermediate_values) == 5 or trial.state.name == "PRUNED"
