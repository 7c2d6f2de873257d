"""What the results of a sweep say: the mean and deviation over seeds for each configuration, as a table and as CSV."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from funcnn.sweep.grid import Configuration
from funcnn.sweep.results import Result, check_results
from funcnn.system.text import printable

__all__ = ["Summary", "axis_values", "metric_of", "results_csv", "summaries", "summary_rows", "varied_axes"]


@attrs.frozen
class Summary:
    """A configuration's metric: its values, one for each seed that ended well, and how many seeds did not."""

    config: Configuration
    values: tuple[float, ...]
    not_done: int

    @property
    def mean(self) -> float | None:
        return math.fsum(value / len(self.values) for value in self.values) if self.values else None

    @property
    def deviation(self) -> float:
        """That of a sample, over n - 1; 0 for one value."""
        if self.mean is None or len(self.values) < 2:
            return 0.0
        return math.hypot(*(value - self.mean for value in self.values)) / math.sqrt(len(self.values) - 1)

    def shown(self) -> str:
        """The metric as text: mean ± deviation, the latter if there are several seeds and they differ."""
        if self.mean is None:
            return "-"
        whole = all(value.is_integer() for value in self.values)
        form = ",.0f" if abs(self.mean) >= 1000 or (whole and abs(self.mean) > 1) else ".4f"
        return f"{self.mean:{form}}" + (f" ± {self.deviation:{form}}" if self.deviation else "")


def summaries(results: Iterable[Result], metric: str, *, lowest: bool = False) -> list[Summary]:
    """A summary of a metric for each configuration, the highest mean first (or the lowest), those without one last.

    If a configuration has several results with one seed, the last counts: it was trained the longest. A metric that is
    no number has no summary.
    """
    by_config: dict[Configuration, dict[int, Result]] = {}
    for each in check_results("summaries", results):
        by_config.setdefault(each.config, {})[each.seed] = each
    found = []
    for config, by_seed in by_config.items():
        values = tuple(value for each in by_seed.values() if (value := metric_of(each, metric)) is not None)
        found.append(Summary(config, values, len(by_seed) - len(values)))
    sign = 1.0 if lowest else -1.0
    return sorted(found, key=lambda each: math.inf if each.mean is None else sign * each.mean)


def metric_of(result: Result, metric: str) -> float | None:
    """A result's metric, if it is a number; its seconds are one, unless the trial has measured some of its own."""
    if result.status != "done":
        return None
    value = result.metrics.get(metric, result.seconds if metric == "seconds" else None)
    return float(value) if isinstance(value, (int, float)) else None


def varied_axes(configurations: Sequence[Configuration]) -> list[str]:
    """The axes on which the configurations differ; all of them if there is but one configuration."""
    names = list(dict.fromkeys(name for each in configurations for name, _ in each.settings))
    # Compared as they print: Python holds 1 and True and 1.0 for equal.
    varied = [name for name in names if len({repr(each.as_dict().get(name)) for each in configurations}) > 1]
    return varied or names


def summary_rows(
    found: Sequence[Summary], metrics: Mapping[str, Sequence[Summary]]
) -> tuple[list[str], list[list[str]]]:
    """The summaries as a table's header and rows: the axes that vary, every metric in the given order, how many ended.

    Metrics come by name, each with its summaries of the same configurations in any order.
    """
    axes = varied_axes([each.config for each in found])
    others = {name: {each.config: each for each in several} for name, several in metrics.items()}
    rows = [
        [*(_cell(each.config.as_dict().get(axis, "")) for axis in axes),
         *(other[each.config].shown() if each.config in other else "-" for other in others.values()),
         f"{len(each.values)}/{len(each.values) + each.not_done}"]
        for each in found
    ]  # fmt: skip
    names, measured = _columns(axes, list(others), ["done"])
    return [*names, *measured, "done"], rows


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _columns(axes: Sequence[str], metrics: Sequence[str], fixed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of columns for axes and metrics, of which no two are the same, nor the same as one of the fixed."""
    taken = set(fixed)

    def name(column: str, prefix: str) -> str:
        while column in taken:
            column = prefix + column
        taken.add(column)
        return column

    return [name(each, "axis_") for each in axes], [name(each, "measured_") for each in metrics]


def axis_values(results: Iterable[Result]) -> dict[str, list[Any]]:
    """What the results were made over: each axis's values in the order in which they came, and the seeds."""
    values: dict[str, dict[str, Any]] = {}
    seeds: dict[str, Any] = {}
    for each in results:
        for name, value in each.config.settings:
            values.setdefault(name, {})[repr(value)] = value
        seeds[repr(each.seed)] = each.seed
    names, _ = _columns(list(values), [], ["seed"])
    axes = dict(zip(names, values.values(), strict=True))
    return {name: list(several.values()) for name, several in (axes | {"seed": seeds}).items()}


def results_csv(results: Iterable[Result]) -> str:
    """All results as CSV: the axes, the seed, the status, the metrics, the seconds, the host.

    Numbers are as they were measured. Texts are `printable`, and one that a spreadsheet would calculate begins with an
    apostrophe. A column's name that would be there twice begins with ``axis_`` or ``measured_``.
    """
    results = check_results("results_csv", results)
    axes = list(dict.fromkeys(name for each in results for name, _ in each.config.settings))
    metrics = list(dict.fromkeys(name for each in results for name in each.metrics))
    names, measured = _columns(axes, metrics, ["seed", "status", "seconds", "host"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_field, [*names, "seed", "status", *measured, "seconds", "host"]))
    for each in results:
        settings = each.config.as_dict()
        cells = [*(settings.get(axis) for axis in axes), each.seed, each.status]
        cells += [*(each.metrics.get(name) for name in metrics), round(each.seconds, 4), each.host]
        writer.writerow(map(_field, cells))
    return text.getvalue()


def _field(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = printable(value)
    return f"'{text}" if text[:1] in tuple("=+-@") else text
