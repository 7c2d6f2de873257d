"""Pictures that answer a sweep's question, by matplotlib: curves with bands over seeds, heat maps, Pareto fronts."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.report.pictures import new_figure, write_figure
from funcnn.report.summary import Summary, summaries, varied_axes
from funcnn.sweep.grid import Configuration
from funcnn.sweep.results import Result

__all__ = ["draw_heat_map", "draw_lines", "draw_pareto"]


def draw_lines(
    results: Sequence[Result], path: Path, *, x: str, lines: str, metric: str, title: str, log_x: bool = False,
    log_y: bool = False, lowest: bool = False,
) -> None:  # fmt: skip
    """A metric over an axis, a line for each value of another: the mean, in a band from a seed's lowest to highest.

    Where other axes vary too, each point is the best configuration there, of the highest metric (or the `lowest`): the
    curve of what can be reached.
    """
    figure = new_figure(7.5, 4.5)
    axes = figure.add_subplot()
    found = [each for each in summaries(results, metric, lowest=lowest) if each.mean is not None]
    for value in _values(found, lines):
        best: dict[Any, Summary] = {}
        for each in found:  # best first
            if getattr(each.config, lines) == value:
                best.setdefault(getattr(each.config, x), each)
        places = sorted(best)
        means = [best[place].mean for place in places]
        (line,) = axes.plot(places, means, marker="o", markersize=4, linewidth=1.5, label=f"{value}")
        low, high = ([end(best[place].values) for place in places] for end in (min, max))
        axes.fill_between(places, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    _label(axes, x, metric, title)
    axes.legend(frameon=False, title=_words(lines))
    write_figure(figure, path)


def draw_heat_map(results: Sequence[Result], path: Path, *, x: str, y: str, metric: str, title: str) -> None:
    """A metric as colours over two axes, with the means written in; the best of the configurations at each place."""
    found = summaries(results, metric)
    columns, rows = _values(found, x), _values(found, y)
    cells = np.full((len(rows), len(columns)), np.nan)
    for each in reversed(found):  # the best last, so that it stays
        if each.mean is not None:
            cells[rows.index(getattr(each.config, y)), columns.index(getattr(each.config, x))] = each.mean
    figure = new_figure(2.5 + 0.75 * len(columns), 1.8 + 0.5 * len(rows))
    axes = figure.add_subplot()
    axes.set_facecolor("#dddddd")  # where nothing came out
    shown = axes.imshow(cells, cmap="viridis", aspect="auto")
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2 if np.isfinite(cells).any() else 0.0
    for i, j in np.ndindex(*cells.shape):
        text = f"{cells[i, j]:.3f}" if np.isfinite(cells[i, j]) else "none"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if cells[i, j] < middle else "black")
    axes.set_xticks(range(len(columns)), [_short(value) for value in columns])
    axes.set_yticks(range(len(rows)), [_short(value) for value in rows])
    figure.colorbar(shown, label=_words(metric))
    axes.set_xlabel(_words(x))
    axes.set_ylabel(_words(y))
    axes.set_title(_wrapped(title, figure), fontsize=11)
    write_figure(figure, path)


def draw_pareto(results: Sequence[Result], path: Path, *, cost: str, metric: str, title: str) -> None:
    """A metric against a cost that is a metric too: every configuration, and those that none beats in both, joined."""
    means = {name: {each.config: each.mean for each in summaries(results, name)} for name in (cost, metric)}
    points: list[tuple[float, float, Configuration]] = []
    for config, value in means[metric].items():
        price = means[cost][config]
        if value is not None and price is not None:
            points.append((price, value, config))
    points.sort(key=lambda point: (point[0], -point[1]))
    front = [point for i, point in enumerate(points) if all(point[1] > other[1] for other in points[:i])]
    figure = new_figure(7.5, 4.8)
    axes = figure.add_subplot()
    axes.scatter([point[0] for point in points], [point[1] for point in points], s=18, color="#9aa5b8")
    axes.plot([point[0] for point in front], [point[1] for point in front], "o-", color="#4063d8", markersize=5)
    names = varied_axes([config for _, _, config in points]) if points else []
    for number, (price, value, _) in enumerate(front, start=1):
        axes.annotate(str(number), (price, value), textcoords="offset points", xytext=(-3, 7), fontsize=8)
    settings = (
        ", ".join(f"{_words(name)} {_short(getattr(config, name))}" for name in names) for _, _, config in front
    )
    legend = "\n".join(f"{number}: {text}" for number, text in enumerate(settings, start=1))
    axes.text(0.98, 0.03, legend, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)
    axes.set_xscale("log")
    _label(axes, cost, metric, title)
    write_figure(figure, path)


def _values(found: Sequence[Summary], axis: str) -> list[Any]:
    """An axis's values, numbers by size, names by the alphabet."""
    values = list(dict.fromkeys(getattr(each.config, axis) for each in found))
    return sorted(values) if all(isinstance(value, (int, float)) for value in values) else sorted(values, key=str)


def _label(axes: Any, x: str, y: str, title: str) -> None:
    axes.set_xlabel(_words(x))
    axes.set_ylabel(_words(y))
    axes.set_title(_wrapped(title, axes.figure), fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _wrapped(title: str, figure: Any) -> str:
    return textwrap.fill(title, round(11 * figure.get_figwidth()))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
