"""What the tests of whole runs look at: two runs' results, and pictures."""

import json
from pathlib import Path
from typing import Any

import attrs

from funcnn.report.history import Row, read_history


def without_times(folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """A run's history and metrics, but for what another run of the same settings may take another time for."""
    metrics = json.loads((folder / "metrics.json").read_text())
    taken = {"train_seconds", "images_per_second", "peak_memory_mb"}
    rows = [attrs.evolve(row, seconds=0.0) for row in read_history(folder / "history.csv")]
    return rows, {key: metrics[key] for key in metrics.keys() - taken}


def assert_same_results(folder: Path, other: Path) -> None:
    for name in ("model.safetensors", "checkpoint.safetensors"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    assert without_times(folder) == without_times(other)


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and path.stat().st_size > 2000
