"""Figures of matplotlib (the extra `plots`) to draw in: made without pyplot, by settings of their own.

No window is ever opened, the user's settings change no picture, and a file of one appears whole or not at all.
"""

import io
import itertools
import math
import os
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from funcnn.system.files import write_bytes
from funcnn.system.text import cut, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PathOrNone", "add_title", "as_label", "as_title", "can_draw", "make_logarithmic", "picture"]

PathOrNone: TypeAlias = "str | os.PathLike[str] | None"

_TITLE = 300  # columns
_GENERIC = ("serif", "sans-serif", "cursive", "fantasy", "monospace")  # matplotlib has a list of fonts for each
_DRAWING = threading.RLock()  # one picture at a time, since matplotlib's settings are the process's


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
def picture(path: PathOrNone, width: float, height: float) -> "Iterator[Figure]":
    """A figure of that many inches to draw in, which is written as PNG when the block ends, if there is a path.

    In the block matplotlib has its own settings, whatever the user's are, and nothing warns.
    """
    with _own_settings():
        figure = _new_figure(width, height)
        yield figure
        if path is not None:
            write_bytes(path, _as_png(figure))


@contextmanager
def _own_settings() -> Iterator[None]:
    """In the block matplotlib has its own settings, whatever the user's are, and nothing warns."""
    with _DRAWING, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # names in scripts that no font has are drawn as boxes
        matplotlib = _matplotlib()
        settings = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
        settings |= {"font.family": _fonts(matplotlib), "agg.path.chunksize": 10_000}  # a path of any length
        with matplotlib.rc_context(settings):
            yield


def _fonts(matplotlib: Any) -> list[str]:
    """matplotlib's own font, and for what it lacks those that the user has chosen."""
    from matplotlib.font_manager import fontManager

    ours, chosen = "DejaVu Sans", matplotlib.rcParams["font.family"]
    lists = (matplotlib.rcParams[f"font.{family}"] if family in _GENERIC else [family] for family in chosen)
    names = dict.fromkeys(itertools.chain.from_iterable(lists))
    installed = {font.name for font in fontManager.ttflist}
    return [ours, *(name for name in names if name in installed and name != ours)]


def _new_figure(width: float, height: float) -> "Figure":
    """A figure of that many inches, made without pyplot, which a notebook shows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    figure._repr_png_ = partial(_for_notebook, figure)  # type: ignore[attr-defined]
    return figure


def _for_notebook(figure: Any) -> tuple[bytes, dict[str, int]]:
    """A figure as a notebook asks for it: its PNG, and as many pixels of the page as a browser has for its inches."""
    with _own_settings():
        return _as_png(figure), {"width": round(96 * figure.get_figwidth())}


def _as_png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


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


def add_title(figure: Any, text: str) -> None:
    """Put a title above all of a figure, if there is one."""
    if text:
        figure.suptitle(as_title(text, figure), fontsize=11)


def make_logarithmic(axes: Any, which: str) -> None:
    """Make the x or y of axes logarithmic, with ticks as one writes numbers: 0.5 and 20,000, no powers of ten."""
    from matplotlib.ticker import FixedLocator, NullLocator

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(FixedLocator(_log_ticks(*sorted(axis.get_view_interval()))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(_tick_text)


def _tick_text(tick: float, place: int | None = None) -> str:
    """A number as an axis has it; by a function with a name, so that a figure pickles."""
    return f"{tick:,.0f}" if 1000 <= tick < 1e7 else f"{tick:g}"


def _log_ticks(low: float, high: float) -> list[float]:
    """Four to seven numbers that are short to write, between two positive ones, about as far apart by their ratios."""
    from matplotlib.ticker import MaxNLocator

    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(-(-(last - first) // 6), 1)  # powers of ten apart, where there are many
    for factors, step in (((1, 2, 5), 1), ((1, 3), 1), ((1,), every), ((1, 1.5, 2, 3, 4, 6, 8), 1)):
        powers = range(first - first % step, last + 1, step)
        ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if 4 <= len(ticks) <= 7:
            return ticks
    return [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
