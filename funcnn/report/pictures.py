"""Pictures of a run by matplotlib (the extra `plots`): curves, confusion matrix, sample images.

They depend on nothing but what is drawn: figures are made without pyplot, so that no window is ever opened, and with
matplotlib's own settings in place of the user's. They are written atomically.
"""

import io
import itertools
import os
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.checks import as_array
from funcnn.report.history import Row
from funcnn.settings import refuse
from funcnn.system.files import write_bytes
from funcnn.system.text import columns, cut, printable
from funcnn.tree import Array

__all__ = [
    "as_label", "as_title", "can_draw", "class_name", "draw_confusion", "draw_curves", "draw_filters", "draw_samples",
    "picture", "visible",
]  # fmt: skip

_LINES = {"train": ("#4063d8", 1.4), "validation": ("#d66a28", 1.4), "test": ("#888888", 0.9)}
_INK, _WRONG = "#333333", "#b3261e"
_SAMPLES, _FILTERS = 40, 64
_CLASSES, _WRITTEN = 100, 40  # rows of a confusion matrix, and of one that has room for numbers
_EPOCHS = 200  # each of which has a dot in the curves
_PIXELS = 256  # of an image's side: more are not seen
_TITLE = 300  # columns
_LARGEST = 1e100  # of a curve's values: matplotlib's axes do not reach to the largest float
_GENERIC = ("serif", "sans-serif", "cursive", "fantasy", "monospace")  # matplotlib has a list of fonts for each
_DRAWING = threading.RLock()  # one picture at a time, since matplotlib's settings are the process's


# --- Figures --------------------------------------------------------------------------------------------------


def can_draw(say: Callable[[str], None]) -> bool:
    """Whether matplotlib is there; if it is not, or cannot be imported, says so and what helps."""
    try:
        _matplotlib()
    except ModuleNotFoundError:
        say('no pictures: matplotlib is not installed. For pictures: pip install "funcnn[plots]"')
        return False
    except Exception as error:  # of its settings, or of libraries that do not fit
        say(f"no pictures: matplotlib cannot be imported ({type(error).__name__}: {printable(error)})")
        return False
    return True


def _matplotlib() -> Any:
    """matplotlib, imported if need be, also where MPLBACKEND names a backend that is not there: none is used here."""
    first = "matplotlib" not in sys.modules
    backend = os.environ.pop("MPLBACKEND", None) if first else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import matplotlib.figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return matplotlib


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """A figure of that many inches to draw in, which is written as PNG when the block ends.

    In the block matplotlib has its own settings, whatever the user's are, and nothing warns.
    """
    with _DRAWING, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # names in scripts that no font has are drawn as boxes
        matplotlib = _matplotlib()
        settings = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
        settings |= {"font.family": _fonts(matplotlib), "agg.path.chunksize": 10_000}  # a path of any length
        with matplotlib.rc_context(settings):
            figure = _new_figure(width, height)
            yield figure
            _write_figure(figure, path)


def _fonts(matplotlib: Any) -> list[str]:
    """matplotlib's own font, and for what it lacks those that the user has chosen."""
    from matplotlib.font_manager import fontManager

    ours, chosen = "DejaVu Sans", matplotlib.rcParams["font.family"]
    lists = (matplotlib.rcParams[f"font.{family}"] if family in _GENERIC else [family] for family in chosen)
    names = dict.fromkeys(itertools.chain.from_iterable(lists))
    installed = {font.name for font in fontManager.ttflist}
    return [ours, *(name for name in names if name in installed and name != ours)]


def _new_figure(width: float, height: float) -> Any:
    """A figure of that many inches, made without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")


def _write_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def as_label(text: object, width: int = 40) -> str:
    """A name as matplotlib draws it character by character: cut to a width, its dollar signs no mathematics.

    >>> as_label("$x$"), as_label("a long name", 8)
    ('\\\\$x\\\\$', 'a lon...')
    """
    return cut(printable(text), width).replace("$", r"\$")


def as_title(text: str, figure: Any) -> str:
    """A title in lines that fit a figure; the text's own breaks stay."""
    lines = cut("\n".join(map(printable, text.split("\n"))), _TITLE).split("\n")
    width = max(round(11 * figure.get_figwidth()), 1)
    return "\n".join(textwrap.fill(line, width) for line in lines).replace("$", r"\$")


# --- Pictures of a run ----------------------------------------------------------------------------------------


def draw_curves(rows: list[Row], path: Path, *, title: str) -> None:
    """Loss and accuracy of each part after each epoch, side by side in one picture; the loss alone without a metric."""
    epochs = [row.epoch for row in rows]
    # To search for the best place takes long among many points.
    marker, place = ("o", "best") if len(rows) <= _EPOCHS else (None, "upper right")
    measured = any(getattr(row, f"{part}_accuracy") is not None for row in rows for part in _LINES)
    measures = ("loss", "accuracy") if measured else ("loss",)
    with picture(path, 9 if measured else 6, 3.6) as figure:
        figure.suptitle(as_title(title, figure), fontsize=11)
        for i, measure in enumerate(measures):
            axes = figure.add_subplot(1, len(measures), i + 1)
            lowest, highest = np.inf, -np.inf
            for part, (color, width) in _LINES.items():
                values = np.array([getattr(row, f"{part}_{measure}") for row in rows], float)  # None becomes NaN
                if np.isfinite(values).any():
                    values = np.clip(values, -_LARGEST, _LARGEST)
                    lowest, highest = min(lowest, np.nanmin(values)), max(highest, np.nanmax(values))
                    axes.plot(
                        epochs, values, color=color, marker=marker, markersize=2 * width, linewidth=width, label=part
                    )
            axes.set_xlabel("epoch")
            axes.set_ylabel(measure)
            if measure == "loss" and 1 / _LARGEST < lowest < highest / 2:  # else there is no power of ten to name
                axes.set_yscale("log")
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, loc=place)


def draw_confusion(counts: Array, classes: Sequence[object], path: Path, *, title: str) -> None:
    """The confusion matrix, rows (the true classes) as shares of 1, with the shares written in: counts (k, k).

    More than 40 classes have no shares written in, and of more than 100 those with the most mistakes are drawn. A class
    without a name has its number.

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
        title = f"{title}\nthe {_CLASSES} of {len(counts):,} classes with the most mistakes"
    counts = counts[np.ix_(drawn, drawn)]
    shares = counts / np.maximum(totals[drawn, None], 1)
    names = [class_name(classes, i, 24) for i in drawn]
    written = len(drawn) <= _WRITTEN
    size = 2.4 + (0.5 if written else 0.2) * len(drawn)
    with picture(path, size, size) as figure:
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for true, predicted in np.argwhere((counts > 0) & written):
            share = shares[true, predicted]
            axes.text(
                predicted, true, f"{share:.2f}".removeprefix("0") if share < 1 else "1", ha="center", va="center",
                fontsize=8, color="white" if share > 0.5 else _INK, in_layout=False,
            )  # fmt: skip
        rotation = 45 if max(map(columns, names), default=0) > 2 else 0
        axes.set_xticks(range(len(names)), names, rotation=rotation, ha="right" if rotation else "center")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(labelsize="medium" if written else "x-small")
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(as_title(title, figure), fontsize=11)


def draw_samples(
    images: Array, labels: Array | None, probabilities: Array, classes: Sequence[object], path: Path, *, title: str
) -> None:
    """Images titled with their true and predicted class and its probability, the wrong ones first, in red.

    images (n, height, width, channels), labels (n,), probabilities (n, classes); 40 are drawn. Without labels they are
    the first ones, titled with the predicted class. Channels that are not three are drawn by their mean, in grey.

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
        figure.suptitle(as_title(title if len(order) else f"{title}\nno images", figure), fontsize=11)
        for place, i in enumerate(order):
            axes = figure.add_subplot(down, across, place + 1)
            axes.imshow(_from_0_to_1(visible(images[i])), cmap="gray_r", vmin=0, vmax=1)
            axes.set_axis_off()
            true = "" if labels is None else f"{class_name(classes, labels[i], 12)} / "
            axes.set_title(
                f"{true}{class_name(classes, predicted[i], 12)}\n{confidence[i]:.2f}",
                fontsize=8, color=_WRONG if wrong[i] else _INK,
            )  # fmt: skip


def draw_filters(weight: Array, path: Path, *, title: str) -> None:
    """The first layer's filters as images, at most 64: weight (height, width, channels, filters).

    Three channels are colours around grey, the mean of others is red where it is positive and blue where it is
    negative; each filter by its own scale.

    Raises ValueError for a weight of another shape.
    """
    weight = as_array("draw_filters", "weight", weight)
    if weight.ndim != 4:
        refuse("draw_filters", "weight", "an array (height, width, channels, filters)", weight)
    height, width, _, filters = weight.shape
    count = min(filters, _FILTERS)
    across = 8
    down = max(-(-count // across), 1)
    shape = min(max(height / max(width, 1), 0.25), 4)
    with picture(path, 0.9 * across, 0.9 * down * shape + 0.5) as figure:
        figure.suptitle(as_title(title, figure), fontsize=11)
        for i in range(count):
            axes = figure.add_subplot(down, across, i + 1)
            image = visible(weight[..., i])
            sizes = np.abs(image[np.isfinite(image)])
            image = np.clip(np.nan_to_num(image / (sizes.max(initial=0) or 1)), -1, 1)
            if image.ndim == 3:
                axes.imshow((image + 1) / 2)
            else:
                axes.imshow(image, cmap="RdBu_r", vmin=-1, vmax=1)
            axes.set_axis_off()


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
