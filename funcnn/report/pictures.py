"""Pictures of a run by matplotlib (the extra `plots`): curves, confusion matrix, sample images.

Figures are made without pyplot, so that nothing global is touched and no window is ever opened, and are written
atomically.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.files import write_bytes
from funcnn.layer import Array
from funcnn.report.history import Row

__all__ = ["draw_confusion", "draw_curves", "draw_samples"]

_TRAIN, _VALIDATION = "#4063d8", "#d66a28"
_INK = "#333333"
_SAMPLES = 40


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")


def _write(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def draw_curves(rows: list[Row], path: Path, *, title: str) -> None:
    """Loss and accuracy of both parts over the epochs, side by side in one picture."""
    figure = _figure(9, 3.6)
    figure.suptitle(title, fontsize=11)
    epochs = [row.epoch for row in rows]
    for i, measure in enumerate(("loss", "accuracy")):
        axes = figure.add_subplot(1, 2, i + 1)
        for part, color in (("train", _TRAIN), ("validation", _VALIDATION)):
            values = [getattr(row, f"{part}_{measure}") for row in rows]
            if all(value is not None for value in values):
                axes.plot(epochs, values, color=color, marker="o", markersize=2.5, linewidth=1.4, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(measure)
        if measure == "loss" and rows and all(row.train_loss > 0 for row in rows):
            axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    _write(figure, path)


def draw_confusion(counts: Array, classes: tuple[str, ...], path: Path, *, title: str) -> None:
    """The confusion matrix, rows (the true classes) as shares of 1, with the shares written in: counts (k, k)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.5 * len(classes)
    figure = _figure(size, size)
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
    _write(figure, path)


def draw_samples(
    images: Array,
    labels: Array,
    probabilities: Array,
    classes: tuple[str, ...],
    path: Path,
    *,
    title: str,
) -> None:
    """Test images with their true and predicted class and its probability, the wrong ones first, in red.

    images (n, height, width, 1 or 3), labels (n,), probabilities (n, classes).
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    # Wrong before right; among the wrong the surest first, among the right the least sure.
    wrong = predicted != labels
    order = np.lexsort((np.where(wrong, -confidence, confidence), ~wrong))[:_SAMPLES]
    columns = 8
    rows = -(-len(order) // columns)
    figure = _figure(1.25 * columns, 1.6 * rows + 0.5)
    figure.suptitle(title, fontsize=11)
    for place, i in enumerate(order):
        axes = figure.add_subplot(rows, columns, place + 1)
        image = images[i].astype(np.float64)
        image = (image - image.min()) / max(image.max() - image.min(), 1e-12)
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray_r", vmin=0, vmax=1)
        axes.set_axis_off()
        axes.set_title(
            f"{classes[labels[i]]} / {classes[predicted[i]]}\n{confidence[i]:.2f}",
            fontsize=8, color="#b3261e" if wrong[i] else _INK,
        )  # fmt: skip
    _write(figure, path)
