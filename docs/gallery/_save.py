"""The style of the gallery's pictures, and where they go: beside each script `from _save import save, subplots`.

A script draws one figure and gives it a name. Run by itself, it writes that picture to the folder of `--out`, or else
to the folder in which it is run; when the site is built, sphinx-gallery takes the figure as it is.

    figure, axes = subplots(1, 2, height=3)
    axes[0].plot(x, y)
    save(figure, "activations")
"""

import argparse
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from funcnn.system.files import write_bytes

# Told apart by who sees fewer colours, too; lines also differ by their dashes, so that they can be printed in grey.
BLUE, ORANGE, TEAL, PURPLE = COLORS = ("#4063d8", "#d66a28", "#00a3a3", "#7d2069")
INK, GREY, PALE = "#333333", "#909090", "#e6e9f0"
DASHES = ("-", (0, (6, 2)), (0, (2, 1.2)), (0, (6, 2, 1.5, 2)))

WIDTH = 6.0  # inches: 900 pixels, and at 400 pixels letters of 10
STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "figure.facecolor": "white",  # of their own, on a dark page too
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.titlesize": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "image.cmap": "gray_r",  # ink on paper
    "axes.prop_cycle": cycler(color=COLORS, linestyle=DASHES),
}


def subplots(rows: int = 1, columns: int = 1, *, height: float = 3.4, **more: Any) -> tuple[Figure, Any]:
    """A figure in this style and its axes, as pyplot's `subplots` gives them; the height is in inches, the width 6."""
    matplotlib.use("agg")  # no window
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
    return plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **more)


def drawing(axes: Any) -> None:
    """Make axes a plain sheet to draw on: no frame, no ticks, a unit as long across as up."""
    axes.set_axis_off()
    axes.set_aspect("equal")


def cells(axes: Any, words: Any, corner: tuple[float, float], *, size: float = 1.0, fontsize: float = 10) -> Any:
    """A grid of squares with a word in each, its upper left corner given: the array of its `Cell`s."""
    words = np.asarray(words, object)
    made = np.empty(words.shape, object)
    for (i, j), word in np.ndenumerate(words):
        x, y = corner[0] + j * size, corner[1] - (i + 1) * size
        square = Rectangle((x, y), size, size, facecolor="white", edgecolor=GREY, linewidth=0.8)
        axes.add_patch(square)
        text = axes.text(x + size / 2, y + size / 2, word, ha="center", va="center", fontsize=fontsize)
        made[i, j] = Cell(square, text)
    return made


class Cell(NamedTuple):
    """One square of `cells` with its word."""

    square: Rectangle
    text: Text

    def show(self, fill: str = "white", ink: str = INK, word: object = None) -> None:
        """Change its colours, and its word if one is given."""
        self.square.set_facecolor(fill)
        self.text.set_color(ink)
        if word is not None:
            self.text.set_text(str(word))


def save(figure: Figure, name: str) -> None:
    """Keep a figure as `name`.png."""
    save_moving(figure, [0], name)


def save_moving(figure: Figure, frames: Iterable[float], name: str, *, loops: int = 3) -> None:
    """Keep a moving picture as `name`.png, an animated PNG that stops on its last frame after some loops.

    `frames` changes the figure and gives the seconds for which it is to be seen so, again and again: a generator.
    """
    pixels, milliseconds = [], []
    for seconds in frames:
        figure.canvas.draw()
        figure.set_layout_engine("none")  # what stands still stays where the first frame has it
        pixels.append(np.array(figure.canvas.buffer_rgba())[..., :3])  # type: ignore[attr-defined]
        milliseconds.append(round(1000 * seconds))
    palette = Image.fromarray(np.concatenate(pixels)).quantize(256, Image.Quantize.MAXCOVERAGE)
    colors = np.array(palette.getpalette()).reshape(-1, 3)
    colors[(colors > 245).all(axis=1)] = 255  # what is nearly white, to which Pillow's coarse search takes white
    palette.putpalette(colors.ravel().tolist())
    first, *others = [Image.fromarray(each).quantize(palette=palette, dither=Image.Dither.NONE) for each in pixels]
    moving = {"save_all": True, "append_images": others, "duration": milliseconds, "loop": loops} if others else {}
    buffer = io.BytesIO()
    first.save(buffer, format="png", optimize=True, **moving)
    if "sphinx_gallery" in sys.modules:  # it keeps every figure that is open
        return
    parser = argparse.ArgumentParser(description="Draws a picture.")
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to write it to (this one)")
    path = parser.parse_args().out / f"{name}.png"
    write_bytes(path, buffer.getvalue())
    plt.close(figure)
    print(f"{path}: {len(buffer.getvalue()) / 1000:,.0f} kB")
