"""What a finished run leaves: the kept net's metrics, and the pictures."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from funcnn import train, tree
from funcnn.data import Dataset
from funcnn.metrics import confusion_matrix
from funcnn.model_file import Trained, probabilities
from funcnn.report.history import Row, best_row
from funcnn.report.pictures import draw_confusion, draw_curves, draw_filters, draw_samples
from funcnn.report.table import count_parameters
from funcnn.train import Problem
from funcnn.tree import Array, Shape

__all__ = ["draw_predictions", "draw_results", "first_filters", "test_metrics"]


def test_metrics(problem: Problem, dataset: Dataset, trained: Trained, rows: list[Row]) -> dict[str, Any]:
    """The kept net's test accuracy and loss, and what it took: of a run with these rows."""
    test = train.evaluate(problem, trained.model, dataset.test)
    best = best_row(rows)
    seconds = sum(row.seconds for row in rows)
    return {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "validation_accuracy": best.validation_accuracy,
        "best_epoch": best.epoch,
        "train_seconds": round(seconds, 3),
        "images_per_second": round(len(rows) * len(dataset.train) / seconds, 1) if seconds else None,
        "parameters": count_parameters(trained.model.params),
        "peak_memory_mb": _peak_memory_mb(),
    }


def _peak_memory_mb() -> float | None:
    """The most memory that this process has had resident; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def draw_results(dataset: Dataset, trained: Trained, rows: list[Row], metrics: dict[str, Any], folder: Path) -> None:
    """Draw the curves, the confusion matrix, test images and the first layer's filters into the folder."""
    draw_predictions(dataset, probabilities(trained, dataset.test.inputs), folder)
    title = f"{folder.name}: test accuracy {metrics['test_accuracy']:.4f} after epoch {metrics['best_epoch']}"
    draw_curves(rows, folder / "curves.png", title=title)
    filters = first_filters(trained.model.params, dataset.in_shape)
    if filters is not None:
        draw_filters(filters, folder / "filters.png", title="what the first layer looks for")


def draw_predictions(dataset: Dataset, shares: Array, folder: Path) -> None:
    """Draw confusion.png and samples.png for the test part and its probabilities (n, classes)."""
    images, labels = dataset.test.inputs, dataset.test.targets
    counts = confusion_matrix(shares, labels)
    title = f"test accuracy {np.trace(counts) / counts.sum():.4f}"
    draw_confusion(counts, dataset.classes, folder / "confusion.png", title=title)
    if images.ndim == 4 and images.shape[-1] in (1, 3):
        title = "true / predicted, with its probability; the wrong ones first"
        draw_samples(images, labels, shares, dataset.classes, folder / "samples.png", title=title)


def first_filters(params: Any, in_shape: Shape) -> Array | None:
    """The first layer's weights as images (height, width, channels, filters); None if they are none.

    A dense layer's weights for an image's pixels are images too.

    >>> from funcnn import Key
    >>> from funcnn.models import fully_connected
    >>> first_filters(fully_connected([5], 10).init(Key(0), (8, 8, 1)).params, (8, 8, 1)).shape
    (8, 8, 1, 5)
    """
    named = zip(tree.paths(params), tree.flatten(params), strict=True)
    weight = next((np.asarray(leaf) for name, leaf in named if name.split(".")[-1] == "weight"), None)
    if weight is None or len(in_shape) != 3 or in_shape[-1] not in (1, 3):
        return None
    if weight.ndim == 2 and len(weight) == math.prod(in_shape):
        return weight.reshape(*in_shape, -1)
    return weight if weight.ndim == 4 and weight.shape[2] == in_shape[-1] and weight.shape[0] > 1 else None
