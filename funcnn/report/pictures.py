"""Pictures of a run by matplotlib (the extra `plots`): curves, confusion matrix, sample images, filters.

Each function gives a figure, which a notebook shows, and writes it to a file, whole or not at all, if it has a path.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcnn.checks import as_array
from funcnn.report.figures import PathOrNone, add_title, as_label, as_title, make_logarithmic, picture
from funcnn.report.history import Row
from funcnn.settings import refuse
from funcnn.system.text import columns
from funcnn.tree import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "class_name", "draw_confusion", "draw_curves", "draw_filters", "draw_maps", "draw_samples", "visible",
]  # fmt: skip

_RUNNING = "train, mean of the epoch"
_LINES = {
    "train": ("#4063d8", 1.4), _RUNNING: ("#4063d8", 1.4), "validation": ("#d66a28", 1.4), "test": ("#888888", 0.9)
}  # fmt: skip
_INK, _WRONG = "#333333", "#b3261e"
_SAMPLES, _FILTERS = 40, 64
_CLASSES, _WRITTEN = 100, 40  # rows of a confusion matrix, and of one that has room for numbers
_EPOCHS = 200  # each of which has a dot in the curves
_PIXELS = 256  # of an image's side: more are not seen
_LARGEST = 1e100  # of a curve's values: matplotlib's axes do not reach to the largest float

# --- Pictures of a run ----------------------------------------------------------------------------------------


def draw_curves(rows: Sequence[Row], path: PathOrNone = None, *, title: str = "") -> "Figure":
    """Loss and accuracy of each part after each epoch, side by side in one picture; the loss alone without a metric.

    Where no training examples were measured after the epochs, the means over the epochs' steps stand for them.

    >>> rows = [Row(epoch, 0.3, 0.1, *[0.5, 0.9] * 3, 0.6, 0.8) for epoch in (1, 2)]
    >>> [axes.get_ylabel() for axes in draw_curves(rows).axes]
    ['loss', 'accuracy']
    """
    epochs = [row.epoch for row in rows]
    curves = {"loss": _curves(rows, "loss"), "accuracy": _curves(rows, "accuracy")}
    if not curves["accuracy"]:
        del curves["accuracy"]
    # To search for the best place takes long among many points.
    marker, place = ("o", "best") if len(rows) <= _EPOCHS else (None, "upper right")
    with picture(path, 9 if len(curves) > 1 else 6, 3.6) as figure:
        add_title(figure, title)
        for i, (measure, parts) in enumerate(curves.items()):
            axes: Any = figure.add_subplot(1, len(curves), i + 1)
            for part, values in parts.items():
                color, width = _LINES[part]
                axes.plot(epochs, values, color=color, marker=marker, markersize=2 * width, linewidth=width, label=part)
            axes.set_xlabel("epoch")
            axes.set_ylabel(measure)
            lowest = min((np.nanmin(values) for values in parts.values()), default=0.0)
            highest = max((np.nanmax(values) for values in parts.values()), default=0.0)
            if measure == "loss" and 1 / _LARGEST < lowest < highest / 2:
                make_logarithmic(axes, "y")
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
            if parts:
                axes.legend(frameon=False, loc=place)
    return figure


def _curves(rows: Sequence[Row], measure: str) -> dict[str, Array]:
    """A measure's values by the names of the curves, NaN where there is none; those without any are left out."""
    found = {}
    for part in ("running", "train", "validation", "test"):
        values = np.array([getattr(row, f"{part}_{measure}") for row in rows], float)  # None becomes NaN
        if np.isfinite(values).any():
            found[part] = np.clip(values, -_LARGEST, _LARGEST)
    running = found.pop("running", None)
    return found if running is None or "train" in found else {_RUNNING: running} | found


def draw_confusion(counts: Array, classes: Sequence[object], path: PathOrNone = None, *, title: str = "") -> "Figure":
    """The confusion matrix, rows (the true classes) as shares of 1, with the shares written in: counts (k, k).

    Colours follow the root of a share, so that rare mistakes are seen. More than 40 classes have no shares written in,
    but the most frequent mistakes in words; of more than 100 those with the most mistakes are drawn. A class without a
    name has its number.

    >>> figure = draw_confusion(np.array([[8, 2], [1, 9]]), ("cat", "dog"))
    >>> [text.get_text() for text in figure.axes[0].get_xticklabels()]
    ['cat', 'dog']

    Raises ValueError for counts of another shape.
    """
    counts = as_array("draw_confusion", "counts", counts)
    if counts.ndim != 2 or len(counts) != counts.shape[1]:
        refuse("draw_confusion", "counts", "a square array, rows for the true classes", counts)
    totals = counts.sum(axis=1)
    drawn = np.arange(len(counts))
    if len(counts) > _CLASSES:
        mistakes = totals + counts.sum(axis=0) - 2 * counts.diagonal()
        drawn = np.sort(np.argsort(-mistakes, kind="stable")[:_CLASSES])
        title = f"{title}\nthe {_CLASSES} of {len(counts):,} classes with the most mistakes".strip()
    counts = counts[np.ix_(drawn, drawn)]
    shares = counts / np.maximum(totals[drawn, None], 1)
    names = [class_name(classes, i, 24) for i in drawn]
    written = len(drawn) <= _WRITTEN
    if not written:
        title = f"{title}\n{_most_often(shares, names)}".strip()
    size = 2.2 + (0.36 if written else 0.12) * len(drawn)
    with picture(path, size + 1, size) as figure:
        from matplotlib.colors import PowerNorm

        axes = figure.add_subplot()
        colours = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1] if size > 4 else [0, 0.1, 0.5, 1]
        figure.colorbar(colours, ticks=ticks, format="{x:g}", label="share of the true class", shrink=min(1, 6 / size))
        for true, predicted in np.argwhere((counts > 0) & written):
            share = shares[true, predicted]
            color = "white" if share > 0.4 else _INK
            axes.text(
                predicted, true, _share(share), ha="center", va="center", fontsize=8, color=color, in_layout=False
            )
        rotation = 90 if not written else 45 if max(map(columns, names), default=0) > 2 else 0
        axes.set_xticks(range(len(names)), names, rotation=rotation, ha="right" if rotation == 45 else "center")
        axes.set_yticks(range(len(names)), names)
        if not written:  # names on all sides, and lines to find them by
            axes.tick_params(labelsize=6.5, labelright=True, labeltop=True, length=2)
            for tick in axes.xaxis.get_major_ticks():
                tick.label2.set_rotation(90)
            for place in range(9, len(names) - 1, 10):
                axes.axhline(place + 0.5, color="#bbbbbb", linewidth=0.5)
                axes.axvline(place + 0.5, color="#bbbbbb", linewidth=0.5)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(as_title(title, figure), fontsize=11)
    return figure


def _most_often(shares: Array, names: Sequence[str]) -> str:
    """The three most frequent mistakes in words; "" without any."""
    mistakes = shares * (1 - np.eye(len(shares)))
    most = np.argsort(-mistakes, axis=None, kind="stable")[:3]
    pairs = zip(*np.unravel_index(most, mistakes.shape), strict=True)
    words = [f"{names[i]} as {names[j]} {_share(mistakes[i, j])}" for i, j in pairs if mistakes[i, j] > 0]
    return f"most often taken: {', '.join(words)}" if words else ""


def _share(share: float) -> str:
    """A share of 1 in as few characters as it takes: .05, and 1."""
    return f"{share:.2f}".removeprefix("0") if share < 0.995 else "1"


def draw_samples(
    images: Array, labels: Array | None, probabilities: Array, classes: Sequence[object],
    path: PathOrNone = None, *, title: str = "",
) -> "Figure":  # fmt: skip
    """Images titled with their true and predicted class and its probability, the wrong ones first, in red.

    images (n, height, width, channels), labels (n,), probabilities (n, classes); 40 are drawn. Without labels they are
    the first ones, titled with the predicted class. Channels that are not three are drawn by their mean, in grey.

    >>> images, labels = np.zeros((2, 8, 8, 1)), np.array([0, 1])
    >>> figure = draw_samples(images, labels, np.array([[0.9, 0.1], [0.7, 0.3]]), ("cat", "dog"))
    >>> [axes.get_title() for axes in figure.axes]
    ['dog / cat\\n0.70', 'cat / cat\\n0.90']

    Raises ValueError for arrays of other shapes.
    """
    images = as_array("draw_samples", "images", images)
    if images.ndim not in (3, 4):
        refuse("draw_samples", "images", "an array (n, height, width, channels)", images)
    probabilities = as_array("draw_samples", "probabilities", probabilities)
    if probabilities.ndim != 2 or len(probabilities) != len(images) or not probabilities.shape[1]:
        refuse(
            "draw_samples", "probabilities", f"an array ({len(images)}, classes), as there are images", probabilities
        )
    if labels is not None:
        labels = as_array("draw_samples", "labels", labels)
        if labels.shape != (len(images),):
            refuse("draw_samples", "labels", f"an array ({len(images)},), as there are images", labels)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.zeros(len(images), bool) if labels is None else predicted != labels
    if labels is None:
        order = np.arange(len(images))[:_SAMPLES]
    else:  # among the wrong the surest first, among the right the least sure
        order = np.lexsort((np.where(wrong, -confidence, confidence), ~wrong))[:_SAMPLES]
    across = max(min(8, len(order)), 1)
    down = -(-len(order) // across)
    with picture(path, max(1.25 * across, 4), 1.6 * down + 0.5) as figure:
        add_title(figure, title if len(order) else f"{title}\nno images".strip())
        for place, i in enumerate(order):
            axes = figure.add_subplot(down, across, place + 1)
            axes.imshow(_from_0_to_1(visible(images[i])), cmap="gray_r", vmin=0, vmax=1)
            axes.set_axis_off()
            true = "" if labels is None else f"{class_name(classes, labels[i], 12)} / "
            axes.set_title(
                f"{true}{class_name(classes, predicted[i], 12)}\n{confidence[i]:.2f}",
                fontsize=8, color=_WRONG if wrong[i] else _INK,
            )  # fmt: skip
    return figure


def draw_filters(weight: Array, path: PathOrNone = None, *, title: str = "") -> "Figure":
    """The first layer's filters as images, at most 64: weight (height, width, channels, filters).

    Three channels are colours around grey, the mean of others is red where it is positive and blue where it is
    negative; each filter by its own scale.

    >>> len(draw_filters(np.random.default_rng(0).normal(size=(3, 3, 1, 8))).axes)
    8

    Raises ValueError for a weight of another shape.
    """
    weight = as_array("draw_filters", "weight", weight)
    if weight.ndim != 4:
        refuse("draw_filters", "weight", "an array (height, width, channels, filters)", weight)
    images = [visible(weight[..., i]) for i in range(min(weight.shape[-1], _FILTERS))]
    return _draw_signed(images, [_largest(each) for each in images], path, title)


def draw_maps(maps: Array, path: PathOrNone = None, *, title: str = "") -> "Figure":
    """What a layer gives for one image, each channel as an image, at most 64: maps (height, width, channels).

    Red where it is positive and blue where it is negative, all channels by one scale. `funcnn.inspection.activations`
    gives the maps of a batch.

    >>> len(draw_maps(np.zeros((8, 8, 4))).axes)
    4

    Raises ValueError for maps of another shape.
    """
    maps = as_array("draw_maps", "maps", maps)
    if maps.ndim != 3:
        refuse("draw_maps", "maps", "an array (height, width, channels), those of one image", maps)
    images = [visible(maps[..., i]) for i in range(min(maps.shape[-1], _FILTERS))]
    largest = max(map(_largest, images), default=0.0)
    return _draw_signed(images, [largest] * len(images), path, title)


def _draw_signed(images: list[Array], scales: list[float], path: PathOrNone, title: str) -> "Figure":
    """Images of numbers around zero in rows of eight, each divided by its scale."""
    across = 8
    down = max(-(-len(images) // across), 1)
    height, width = images[0].shape[:2] if images else (1, 1)
    shape = min(max(height / width, 0.25), 4)
    with picture(path, 0.9 * across, 0.9 * down * shape + (0.5 if title else 0.1)) as figure:
        add_title(figure, title)
        for i, (image, scale) in enumerate(zip(images, scales, strict=True)):
            axes = figure.add_subplot(down, across, i + 1)
            image = np.clip(np.nan_to_num(image / (scale or 1)), -1, 1)
            if image.ndim == 3:
                axes.imshow((image + 1) / 2)
            else:
                axes.imshow(image, cmap="RdBu_r", vmin=-1, vmax=1)
            axes.set_axis_off()
    return figure


def _largest(image: Array) -> float:
    """The largest size of an image's numbers that are finite; 0 without any."""
    return float(np.abs(image[np.isfinite(image)]).max(initial=0))


def class_name(classes: Sequence[object], label: Any, width: int) -> str:
    """A class's name, or its number if it has none."""
    known = float(label).is_integer() and 0 <= label < len(classes)
    return as_label(classes[int(label)] if known else label, width)


def visible(image: Array) -> Array:
    """An image's colours (height, width, 3), or the mean of its channels (height, width), in few enough pixels."""
    if image.ndim == 2:
        image = image[..., None]
    step = [max(-(-side // _PIXELS), 1) for side in image.shape[:2]]
    pixels = image[:: step[0], :: step[1]].astype(np.float64)
    if not pixels.size:
        return np.zeros((1, 1))
    return pixels if pixels.shape[-1] == 3 else pixels.mean(axis=-1)


def _from_0_to_1(image: Array) -> Array:
    """An image's numbers by its own scale; what is no number is 0."""
    finite = image[np.isfinite(image)] / 2  # halves, so that no difference overflows
    low, high = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    scaled: Array = np.nan_to_num(np.clip((image / 2 - low) / ((high - low) or 1), 0, 1))
    return scaled
