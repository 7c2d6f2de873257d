"""What a finished run leaves: the kept net's metrics, and the pictures, each of which may fail without the others."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from funcnn import train
from funcnn.data import Dataset, Part
from funcnn.data.stored import Stored, memory_of
from funcnn.device import to_host
from funcnn.inspection import first_filters
from funcnn.metrics import confusion_matrix
from funcnn.metrics.shared import is_lower_better
from funcnn.model_file import Trained, probabilities
from funcnn.report.history import Row, best_row
from funcnn.report.pictures import draw_confusion, draw_curves, draw_filters, draw_samples
from funcnn.report.table import count_parameters
from funcnn.system.text import cut, printable, show
from funcnn.train import Problem
from funcnn.tree import Array

__all__ = ["NO_PICTURES", "Draw", "draw_predictions", "draw_results", "reached", "test_metrics"]

Say = Callable[[str], None]
Draw = Callable[[Trained, Path], Any]  # a picture of a script's own: of the kept net, into a file
_DRAWN = 2**28  # bytes of a part in a file, of which pictures are drawn
NO_PICTURES: Mapping[str, Draw] = MappingProxyType({})


def test_metrics(
    problem: Problem, dataset: Dataset, trained: Trained, rows: list[Row], per_epoch: int
) -> dict[str, Any]:
    """The kept net's measures, and what the run with these rows took; None for those of a part that there is not.

    An epoch has `per_epoch` examples.
    """
    test = None if dataset.test is None else train.evaluate(problem, trained.model, dataset.test)
    best = best_row(rows, lower=is_lower_better(problem.metric))
    seconds = sum(row.seconds for row in rows)
    return {
        "test_accuracy": None if test is None else _plain(test.accuracy),
        "test_loss": None if test is None else _plain(test.loss),
        "validation_accuracy": _plain(best.validation_accuracy),
        "validation_loss": _plain(best.validation_loss),
        "best_epoch": best.epoch,
        "train_seconds": round(seconds, 3),
        "images_per_second": round(len(rows) * per_epoch / seconds, 1) if seconds else None,
        "parameters": count_parameters(trained.model.params),
        "peak_memory_mb": _peak_memory_mb(),
    }


def reached(metrics: Mapping[str, Any]) -> str:
    """What the kept net has reached on the test part, or else the validation part; nothing if there is neither.

    >>> reached({"test_loss": None, "validation_accuracy": 0.5, "validation_loss": 0.7})
    'validation accuracy 0.5000  validation loss 0.7000  '
    """
    for part in ("test", "validation"):
        measures = ((f"{part} {name}", metrics.get(f"{part}_{name}")) for name in ("accuracy", "loss"))
        if text := "".join(f"{name} {value:.4f}  " for name, value in measures if value is not None):
            return text
    return ""


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
        first = reached(metrics).partition("  ")[0]
        what = f": {first} after epoch {metrics['best_epoch']}" if first else ""
        draw_curves(rows, folder / "curves.png", title=folder.name + what)
    with _apart(["filters.png"], folder, say, failed):
        filters = first_filters(to_host(trained.model.params), dataset.in_shape)
        if filters is not None:
            draw_filters(filters, folder / "filters.png", title="what the first layer looks for")
    name, part = ("test", dataset.test) if dataset.test is not None else ("validation", dataset.validation)
    if part is not None and dataset.classes and _names_one_class_each(part.targets):
        with _apart(["confusion.png", "samples.png"], folder, say, failed):
            part, name = _in_memory(part, name)
            shares = probabilities(trained, part.inputs)
            failed += draw_predictions(part, dataset.classes, shares, folder, name=name, say=say)
    on_host = attrs.evolve(trained, model=to_host(trained.model))  # for what looks at arrays
    for name, draw in pictures.items():
        with _apart([name], folder, say, failed):
            draw(on_host, folder / name)
    return failed


def _in_memory(part: Part, name: str) -> tuple[Part, str]:
    """A part, and its name; of one in a file that is large some of the examples, which the name then says."""
    if not isinstance(part.inputs, Stored):
        return part, name
    some = part.thin(max(1, _DRAWN * len(part) // max(part.inputs.nbytes, 1)))
    name = name if len(some) == len(part) else f"{name} (of {len(some):,} of {len(part):,} examples)"
    return attrs.evolve(some, inputs=memory_of(some.inputs)), name


def draw_predictions(
    part: Part, classes: tuple[str, ...], shares: Array, folder: Path, *, name: str = "test", say: Say | None = None
) -> list[str]:
    """Draw confusion.png and samples.png for a part and its probabilities (n, classes), as `draw_results`.

    The pictures say the part's `name`.
    """
    failed: list[str] = []
    with _apart(["confusion.png", "samples.png"], folder, say, failed):
        labels = _labels(part.targets)
        with _apart(["confusion.png"], folder, say, failed):
            certain = ~np.isnan(shares).any(axis=1)
            counts = confusion_matrix(shares[certain], labels[certain])
            title = f"{name} accuracy {np.trace(counts) / len(labels):.4f}"
            if not certain.all():
                title += f"\n{np.count_nonzero(~certain):,} of {len(labels):,} predictions are NaN"
            draw_confusion(counts, classes, folder / "confusion.png", title=title)
        images = part.inputs
        if images.ndim == 4 and images.shape[-1] in (1, 3):
            with _apart(["samples.png"], folder, say, failed):
                title = "true / predicted, with its probability; the wrong ones first"
                title = title if name == "test" else f"{name}: {title}"
                draw_samples(images, labels, shares, classes, folder / "samples.png", title=title)
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
