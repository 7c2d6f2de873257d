"""What the results of a sweep say: the mean and deviation over seeds for each configuration, as a table and as CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence

import attrs

from funcnn.sweep.grid import Configuration
from funcnn.sweep.results import Result

__all__ = ["Summary", "results_csv", "summaries", "summary_rows", "varied_axes"]


@attrs.frozen
class Summary:
    """A configuration's metric: its values, one for each seed that ended well, and how many seeds did not."""

    config: Configuration
    values: tuple[float, ...]
    not_done: int

    @property
    def mean(self) -> float | None:
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def deviation(self) -> float:
        """That of a sample, over n - 1; 0 for one value."""
        if self.mean is None or len(self.values) < 2:
            return 0.0
        return math.sqrt(sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1))

    def shown(self) -> str:
        """The metric as text: mean ± deviation, the latter if there are several seeds and they differ."""
        if self.mean is None:
            return "-"
        whole = all(value.is_integer() for value in self.values)
        form = ",.0f" if abs(self.mean) >= 1000 or (whole and abs(self.mean) > 1) else ".4f"
        return f"{self.mean:{form}}" + (f" ± {self.deviation:{form}}" if self.deviation else "")


def summaries(results: Iterable[Result], metric: str, *, lowest: bool = False) -> list[Summary]:
    """A summary of a metric for each configuration, the highest mean first (or the lowest), those without one last.

    Of a configuration's results with one seed the last counts: the one that was trained the longest.
    """
    by_config: dict[Configuration, dict[int, Result]] = {}
    for each in results:
        by_config.setdefault(each.config, {})[each.seed] = each
    found = []
    for config, by_seed in by_config.items():
        values = tuple(value for each in by_seed.values() if (value := _value(each, metric)) is not None)
        found.append(Summary(config, values, len(by_seed) - len(values)))
    sign = 1.0 if lowest else -1.0
    return sorted(found, key=lambda each: math.inf if each.mean is None else sign * each.mean)


def _value(result: Result, metric: str) -> float | None:
    """A result's metric; its seconds are one too."""
    if result.status != "done":
        return None
    value = result.seconds if metric == "seconds" else result.metrics.get(metric)
    return None if value is None else float(value)


def varied_axes(configurations: Sequence[Configuration]) -> list[str]:
    """The axes on which the configurations differ; all of them if there is but one configuration."""
    names = list(dict.fromkeys(name for each in configurations for name, _ in each.settings))
    varied = [name for name in names if len({each.as_dict().get(name) for each in configurations}) > 1]
    return varied or names


def summary_rows(found: Sequence[Summary], metrics: dict[str, Sequence[Summary]]) -> tuple[list[str], list[list[str]]]:
    """The summaries as a table's header and rows: the axes that vary, every metric in the given order, how many ended.

    Metrics come by name, each with its summaries of the same configurations in any order.
    """
    axes = varied_axes([each.config for each in found])
    others = {name: {each.config: each for each in several} for name, several in metrics.items()}
    rows = [
        [*(_cell(each.config.as_dict().get(axis, "")) for axis in axes),
         *(others[name][each.config].shown() for name in others),
         f"{len(each.values)}/{len(each.values) + each.not_done}"]
        for each in found
    ]  # fmt: skip
    return [*axes, *others, "done"], rows


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def results_csv(results: Sequence[Result]) -> str:
    """All results as CSV: the axes, the seed, the status, the metrics, the seconds."""
    axes = list(dict.fromkeys(name for each in results for name, _ in each.config.settings))
    metrics = list(dict.fromkeys(name for each in results for name in each.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"measured_{name}" if name in axes else name for name in metrics]  # epochs may be both
    writer.writerow([*axes, "seed", "status", *columns, "seconds", "host"])
    for each in results:
        settings = each.config.as_dict()
        cells = [*(settings.get(axis) for axis in axes), each.seed, each.status]
        writer.writerow([*cells, *(each.metrics.get(name) for name in metrics), round(each.seconds, 4), each.host])
    return text.getvalue()
