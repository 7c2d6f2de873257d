"""Pictures that answer a sweep's question, by matplotlib: curves with bands over seeds, heat maps, Pareto fronts.

They give a figure, and write it to a file if they have a path, as those of `funcnn.report.pictures`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from funcnn.report.figures import PathOrNone, as_label, as_title, make_logarithmic, picture
from funcnn.report.summary import Summary, summaries, varied_axes
from funcnn.sweep.grid import Configuration
from funcnn.sweep.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_heat_map", "draw_lines", "draw_pareto"]

_DRAWN_LINES, _NAMED_POINTS = 10, 20  # that can be told apart, and for whose settings there is room
_CELLS, _WRITTEN = 250_000, 40  # of a heat map, and rows or columns that have room for numbers


def draw_lines(
    results: Sequence[Result], path: PathOrNone = None, *, x: str, lines: str, metric: str, title: str = "",
    log_x: bool = False, log_y: bool = False, lowest: bool = False,
) -> "Figure":  # fmt: skip
    """A metric over an axis, a line for each value of another: the mean, in a band from a seed's lowest to highest.

    Where other axes vary too, each point is the best configuration there (of the highest metric, or the `lowest`): the
    curve shows what can be reached. Of more than 10 lines the best are drawn. An axis that has to show a number that is
    not positive is not logarithmic.
    """
    found = [each for each in summaries(results, metric, lowest=lowest) if _drawable(each.mean)]
    best: dict[Any, dict[Any, Summary]] = {}  # those of the lines and of each line's places, the best first
    for each in found:
        best.setdefault(getattr(each.config, lines), {}).setdefault(getattr(each.config, x), each)
    if len(best) > _DRAWN_LINES:
        title = f"{title}\nthe best {_DRAWN_LINES} of {len(best):,} lines"
    drawn = {line: best[line] for line in _sorted(list(best)[:_DRAWN_LINES])}
    places = _sorted(place for line in drawn.values() for place in line)
    at = places if _are_numbers(places) else list(range(len(places)))
    with picture(path, 7.5, 4.5) as figure:
        axes: Any = figure.add_subplot()
        for name, line in drawn.items():
            shown = [(where, line[place]) for where, place in zip(at, places, strict=True) if place in line]
            xs, means = [where for where, _ in shown], [each.mean for _, each in shown]
            # A space, since matplotlib leaves names with a leading underscore out.
            (curve,) = axes.plot(xs, means, marker="o", markersize=4, linewidth=1.5, label=f" {as_label(name)}")
            low, high = ([end(each.values) for _, each in shown] for end in (min, max))
            axes.fill_between(xs, low, high, color=curve.get_color(), alpha=0.18, linewidth=0)
        if at is not places:
            _name_ticks(axes, "x", places)
        elif log_x and all(where > 0 for where in at):
            make_logarithmic(axes, "x")
        if log_y and all((each.mean or 0) > 0 for line in drawn.values() for each in line.values()):
            make_logarithmic(axes, "y")
        _label(axes, x, metric, title)
        if drawn:
            axes.legend(frameon=False, title=_words(lines), fontsize="medium" if len(drawn) <= 6 else "x-small")
    return figure


def draw_heat_map(
    results: Sequence[Result], path: PathOrNone = None, *, x: str, y: str, metric: str, title: str = ""
) -> "Figure":
    """A metric as colours over two axes, with the means written in; the best of the configurations at each place.

    More than 40 rows or columns have no means written in, and of more than 250,000 cells those of the best
    configurations are drawn.
    """
    found = [each for each in summaries(results, metric) if _drawable(each.mean)]
    columns, rows = _values(found, x), _values(found, y)
    if len(columns) * len(rows) > _CELLS:
        side = math.isqrt(_CELLS)
        title = f"{title}\nthe best {side:,} of {len(found):,} configurations"
        found = found[:side]
        columns, rows = _values(found, x), _values(found, y)
    column_of, row_of = ({value: i for i, value in enumerate(values)} for values in (columns, rows))
    cells = np.full((len(rows), len(columns)), np.nan)
    for each in reversed(found):  # the best last, so that it stays
        cells[row_of[getattr(each.config, y)], column_of[getattr(each.config, x)]] = each.mean
    across, down = (min(len(values), _WRITTEN) for values in (columns, rows))
    written = cells.shape == (down, across)
    wide, high = (0.75, 0.5) if written else (0.25, 0.2)
    with picture(path, 2.5 + wide * across, 1.8 + high * down) as figure:
        axes = figure.add_subplot()
        axes.set_facecolor("#dddddd")  # where nothing came out
        if found:
            figure.colorbar(axes.imshow(cells, cmap="viridis", aspect="auto"), label=_words(metric))
            middle = np.nanmin(cells) / 2 + np.nanmax(cells) / 2
        for i, j in np.ndindex(*cells.shape) if written else ():
            text = f"{cells[i, j]:.3f}" if np.isfinite(cells[i, j]) else "none"
            color = "white" if cells[i, j] < middle else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color, in_layout=False)
        _name_ticks(axes, "x", columns)
        _name_ticks(axes, "y", rows)
        axes.set_xlabel(_words(x))
        axes.set_ylabel(_words(y))
        axes.set_title(as_title(title, figure), fontsize=11)
    return figure


def draw_pareto(
    results: Sequence[Result], path: PathOrNone = None, *, cost: str, metric: str, title: str = ""
) -> "Figure":
    """A metric against a cost, another metric: all configurations, and a line through those that none beats in both.

    The first 20 on the line have their settings beside it. The cost's axis is logarithmic if all costs are positive.
    """
    means = {name: {each.config: each.mean for each in summaries(results, name)} for name in (cost, metric)}
    points: list[tuple[float, float, Configuration]] = []
    for config, value in means[metric].items():
        price = means[cost][config]
        if _drawable(value) and _drawable(price):
            points.append((price, value, config))
    points.sort(key=lambda point: (point[0], -point[1]))
    front: list[tuple[float, float, Configuration]] = []
    for point in points:
        if not front or point[1] > front[-1][1]:  # the last one has the highest metric so far
            front.append(point)
    names = varied_axes([config for _, _, config in points]) if points else []
    legend = [
        f"{number}: " + ", ".join(f"{_words(name)} {_short(config.as_dict().get(name))}" for name in names)
        for number, (_, _, config) in enumerate(front[:_NAMED_POINTS], start=1)
    ]
    if len(front) > _NAMED_POINTS:
        legend.append(f"and {len(front) - _NAMED_POINTS:,} more")
    with picture(path, 9 if legend else 7.5, 4.8) as figure:
        axes = figure.add_subplot()
        axes.scatter([point[0] for point in points], [point[1] for point in points], s=18, color="#9aa5b8")
        axes.plot([point[0] for point in front], [point[1] for point in front], "o-", color="#4063d8", markersize=5)
        for number, (price, value, _) in enumerate(front[:_NAMED_POINTS], start=1):
            axes.annotate(str(number), (price, value), textcoords="offset points", xytext=(-3, 7), fontsize=8)
        if legend:  # beside the points, none of which it may hide
            unseen = [axes.plot([], [], " ")[0]] * len(legend)
            names = [as_label(line, 60) for line in legend]
            figure.legend(unseen, names, loc="outside right upper", fontsize=7, frameon=False, handlelength=0)
        if all(price > 0 for price, _, _ in points):
            make_logarithmic(axes, "x")
        _label(axes, cost, metric, title)
    return figure


def _drawable(value: float | None) -> TypeGuard[float]:
    """Whether a metric is a number, and one that matplotlib's axes reach."""
    return value is not None and abs(value) < 1e100


def _values(found: Iterable[Summary], axis: str) -> list[Any]:
    return _sorted(dict.fromkeys(getattr(each.config, axis) for each in found))


def _sorted(values: Iterable[Any]) -> list[Any]:
    """Numbers by size, names by the alphabet."""
    values = list(dict.fromkeys(values))
    return sorted(values) if _are_numbers(values) else sorted(values, key=str)


def _are_numbers(values: Iterable[Any]) -> bool:
    """Whether all are numbers that an axis reaches; a truth value is a name."""
    return all(isinstance(each, (int, float)) and not isinstance(each, bool) and abs(each) < 1e100 for each in values)


def _name_ticks(axes: Any, which: str, values: Sequence[Any]) -> None:
    """Ticks at 0, 1, ... with the values' names, as far as there is room."""
    shown = np.linspace(0, len(values) - 1, min(len(values), _WRITTEN)).round().astype(int)
    names = [_short(values[i]) for i in shown]
    getattr(axes, f"set_{which}ticks")(shown, names)
    if which == "x" and (len(values) > _WRITTEN or any(len(name) > 9 for name in names)):
        axes.tick_params(axis="x", rotation=90)


def _label(axes: Any, x: str, y: str, title: str) -> None:
    axes.set_xlabel(_words(x))
    axes.set_ylabel(_words(y))
    axes.set_title(as_title(title, axes.figure), fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _words(name: str) -> str:
    return as_label(name.replace("_", " "))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else as_label(value, 20)
