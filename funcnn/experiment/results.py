"""What a finished run leaves: the kept net's metrics, and the pictures, each of which may fail without the others."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from funcnn import train, tree
from funcnn.data import Dataset
from funcnn.metrics import confusion_matrix
from funcnn.metrics.shared import is_lower_better
from funcnn.model_file import Trained, probabilities
from funcnn.report.history import Row, best_row
from funcnn.report.pictures import draw_confusion, draw_curves, draw_filters, draw_samples
from funcnn.report.table import count_parameters
from funcnn.system.text import cut, printable, show
from funcnn.train import Problem
from funcnn.tree import Array, Shape

__all__ = ["NO_PICTURES", "Draw", "draw_predictions", "draw_results", "first_filters", "test_metrics"]

Say = Callable[[str], None]
Draw = Callable[[Trained, Path], Any]  # a picture of a script's own: of the kept net, into a file
NO_PICTURES: Mapping[str, Draw] = MappingProxyType({})


def test_metrics(
    problem: Problem, dataset: Dataset, trained: Trained, rows: list[Row], per_epoch: int
) -> dict[str, Any]:
    """The kept net's test accuracy and loss, and what the run with these rows took.

    An epoch has `per_epoch` examples.
    """
    test = train.evaluate(problem, trained.model, dataset.test)
    best = best_row(rows, lower=is_lower_better(problem.metric))
    seconds = sum(row.seconds for row in rows)
    return {
        "test_accuracy": _plain(test.accuracy),
        "test_loss": _plain(test.loss),
        "validation_accuracy": _plain(best.validation_accuracy),
        "best_epoch": best.epoch,
        "train_seconds": round(seconds, 3),
        "images_per_second": round(len(rows) * per_epoch / seconds, 1) if seconds else None,
        "parameters": count_parameters(trained.model.params),
        "peak_memory_mb": _peak_memory_mb(),
    }


def _plain(value: float | None) -> float | None:
    """A metric as Python's float: one of your own may give NumPy's, which JSON does not take."""
    return None if value is None else float(value)


def _peak_memory_mb() -> float | None:
    """The most memory that this process has had resident; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def draw_results(
    dataset: Dataset,
    trained: Trained,
    rows: list[Row],
    metrics: dict[str, Any],
    folder: Path,
    *,
    pictures: Mapping[str, Draw] = NO_PICTURES,
    say: Say | None = None,
) -> list[str]:
    """Draw the curves, the confusion matrix, test images, the first layer's filters and `pictures` into the folder.

    A picture that cannot be drawn is said (on standard error without a `say`), with the reason, and the others are
    drawn; returns the names of those that could not.
    """
    failed: list[str] = []
    with _apart(["curves.png"], folder, say, failed):
        measure = "loss" if metrics["test_accuracy"] is None else "accuracy"
        value = metrics[f"test_{measure}"]
        reached = "" if value is None else f": test {measure} {value:.4f} after epoch {metrics['best_epoch']}"
        draw_curves(rows, folder / "curves.png", title=folder.name + reached)
    with _apart(["filters.png"], folder, say, failed):
        filters = first_filters(trained.model.params, dataset.in_shape)
        if filters is not None:
            draw_filters(filters, folder / "filters.png", title="what the first layer looks for")
    if dataset.classes and _names_one_class_each(dataset.test.targets):
        with _apart(["confusion.png", "samples.png"], folder, say, failed):
            shares = probabilities(trained, dataset.test.inputs)
            failed += draw_predictions(dataset, shares, folder, say=say)
    for name, draw in pictures.items():
        with _apart([name], folder, say, failed):
            draw(trained, folder / name)
    return failed


def draw_predictions(dataset: Dataset, shares: Array, folder: Path, *, say: Say | None = None) -> list[str]:
    """Draw confusion.png and samples.png for the test part and its probabilities (n, classes), as `draw_results`."""
    failed: list[str] = []
    with _apart(["confusion.png", "samples.png"], folder, say, failed):
        labels = _labels(dataset.test.targets)
        with _apart(["confusion.png"], folder, say, failed):
            certain = ~np.isnan(shares).any(axis=1)
            counts = confusion_matrix(shares[certain], labels[certain])
            title = f"test accuracy {np.trace(counts) / len(labels):.4f}"
            if not certain.all():
                title += f"\n{np.count_nonzero(~certain):,} of {len(labels):,} predictions are NaN"
            draw_confusion(counts, dataset.classes, folder / "confusion.png", title=title)
        images = dataset.test.inputs
        if images.ndim == 4 and images.shape[-1] in (1, 3):
            with _apart(["samples.png"], folder, say, failed):
                title = "true / predicted, with its probability; the wrong ones first"
                draw_samples(images, labels, shares, dataset.classes, folder / "samples.png", title=title)
    return failed


@contextmanager
def _apart(names: list[str], folder: Path, say: Say | None, failed: list[str]) -> Iterator[None]:
    """Say what fails in the block, and go on; no picture of an earlier run stays in the place of one that failed."""
    try:
        yield
    except Exception as error:
        failed += names
        for name in names:
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        text = f"no {' and '.join(names)}: {type(error).__name__}: {cut(printable(error), 300)}"
        say(text) if say else show(text, error=True)


def _labels(targets: Array) -> Array:
    """The number of each example's class: targets (n,) as they are, or (n, classes), a share for each class."""
    if targets.ndim == 1:
        return targets
    if targets.ndim != 2 or not np.allclose(targets.sum(axis=1), 1, atol=1e-3):
        raise ValueError(f"expected targets that name one class each, got {targets.dtype} {targets.shape}")
    numbers: Array = targets.argmax(axis=1)
    return numbers


def _names_one_class_each(targets: Array) -> bool:
    """Whether targets are those of a classifier of whole examples: not those of every symbol of a sequence."""
    return targets.ndim == 1 or targets.dtype.kind == "f"


def first_filters(params: Any, in_shape: Shape) -> Array | None:
    """The first layer's weights as images (height, width, channels, filters); None if they are no images.

    A dense layer's weights are images if its inputs are an image's pixels.

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
