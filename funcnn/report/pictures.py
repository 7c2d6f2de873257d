"""Pictures of a run by matplotlib (the extra `plots`): curves, confusion matrix, sample images.

Figures are made without pyplot, so that nothing global is touched and no window is ever opened, and are written
atomically.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.report.history import Row
from funcnn.system.files import write_bytes
from funcnn.tree import Array

__all__ = [
    "can_draw", "draw_confusion", "draw_curves", "draw_filters", "draw_samples", "new_figure", "write_figure",
]  # fmt: skip

_LINES = {"train": ("#4063d8", 1.4), "validation": ("#d66a28", 1.4), "test": ("#888888", 0.9)}
_INK, _WRONG = "#333333", "#b3261e"
_SAMPLES = 40


def can_draw(say: Callable[[str], None]) -> bool:
    """Whether matplotlib is there; if it is not, says what installs it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say('no pictures: matplotlib is not installed. For pictures: pip install "funcnn[plots]"')
        return False
    return True


def new_figure(width: float, height: float) -> Any:
    """A figure of that many inches, made without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def draw_curves(rows: list[Row], path: Path, *, title: str) -> None:
    """Loss and accuracy of each part after each epoch, side by side in one picture."""
    figure = new_figure(9, 3.6)
    figure.suptitle(title, fontsize=11)
    epochs = [row.epoch for row in rows]
    for i, measure in enumerate(("loss", "accuracy")):
        axes = figure.add_subplot(1, 2, i + 1)
        for part, (color, width) in _LINES.items():
            values = [getattr(row, f"{part}_{measure}") for row in rows]
            if all(value is not None for value in values):
                axes.plot(epochs, values, color=color, marker="o", markersize=2 * width, linewidth=width, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(measure)
        if measure == "loss" and rows and all((row.train_loss or row.running_loss) > 0 for row in rows):
            axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    write_figure(figure, path)


def draw_confusion(counts: Array, classes: tuple[str, ...], path: Path, *, title: str) -> None:
    """The confusion matrix, rows (the true classes) as shares of 1, with the shares written in: counts (k, k)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.5 * len(classes)
    figure = new_figure(size, size)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, predicted in np.argwhere(counts > 0):
        share = shares[true, predicted]
        axes.text(
            predicted, true, f"{share:.2f}".removeprefix("0") if share < 1 else "1", ha="center", va="center",
            fontsize=8, color="white" if share > 0.5 else _INK,
        )  # fmt: skip
    rotation = 45 if max(map(len, classes)) > 2 else 0
    axes.set_xticks(range(len(classes)), classes, rotation=rotation, ha="right" if rotation else "center")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=11)
    write_figure(figure, path)


def draw_samples(
    images: Array, labels: Array | None, probabilities: Array, classes: tuple[str, ...], path: Path, *, title: str
) -> None:
    """Images titled with their true and predicted class and its probability, the wrong ones first, in red.

    images (n, height, width, 1 or 3), labels (n,), probabilities (n, classes); 40 are drawn. Without labels they are
    the first ones, titled with the predicted class.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.zeros(len(images), bool) if labels is None else predicted != labels
    if labels is None:
        order = np.arange(len(images))[:_SAMPLES]
    else:  # among the wrong the surest first, among the right the least sure
        order = np.lexsort((np.where(wrong, -confidence, confidence), ~wrong))[:_SAMPLES]
    columns = min(8, len(order))
    rows = -(-len(order) // columns)
    figure = new_figure(max(1.25 * columns, 4), 1.6 * rows + 0.5)
    figure.suptitle(title, fontsize=11)
    for place, i in enumerate(order):
        axes = figure.add_subplot(rows, columns, place + 1)
        image = images[i].astype(np.float64)
        image = (image - image.min()) / max(image.max() - image.min(), 1e-12)
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray_r", vmin=0, vmax=1)
        axes.set_axis_off()
        true = "" if labels is None else f"{classes[labels[i]]} / "
        axes.set_title(
            f"{true}{classes[predicted[i]]}\n{confidence[i]:.2f}", fontsize=8, color=_WRONG if wrong[i] else _INK
        )
    write_figure(figure, path)


def draw_filters(weight: Array, path: Path, *, title: str) -> None:
    """The first layer's filters as images, at most 64: weight (height, width, channels, filters).

    One channel in red for positive and blue for negative, three as colours around grey; each filter by its own scale.
    """
    height, width, channels, filters = weight.shape
    count = min(filters, 64)
    columns = 8
    rows = -(-count // columns)
    figure = new_figure(0.9 * columns, 0.9 * rows * height / width + 0.5)
    figure.suptitle(title, fontsize=11)
    for i in range(count):
        axes = figure.add_subplot(rows, columns, i + 1)
        image = weight[..., i].astype(np.float64)
        image /= max(float(np.abs(image).max()), 1e-12)
        if channels == 3:
            axes.imshow((image + 1) / 2)
        else:
            axes.imshow(image.mean(axis=-1), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_axis_off()
    write_figure(figure, path)
