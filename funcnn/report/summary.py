"""What the results of a sweep say: the mean and deviation over seeds for each configuration, as a table and as CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence

import attrs

from funcnn.configurations import Configuration
from funcnn.records import Result
from funcnn.report.table import text_table

__all__ = ["Summary", "results_csv", "summaries", "summary_table", "varied_axes"]


@attrs.frozen
class Summary:
    """A configuration's metric over its seeds: mean, deviation (of a sample; 0 for one seed), how many came out how."""

    config: Configuration
    mean: float | None
    deviation: float
    done: int
    not_done: int

    def shown(self) -> str:
        """The metric as text: mean ± deviation, the latter if there are several seeds and they differ."""
        if self.mean is None:
            return "-"
        form = ",.0f" if abs(self.mean) >= 1000 else ".4f"
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
        values = [value for each in by_seed.values() if (value := _value(each, metric)) is not None]
        mean = sum(values) / len(values) if values else None
        found.append(Summary(config, mean, _deviation(values), len(values), len(by_seed) - len(values)))
    sign = 1.0 if lowest else -1.0
    return sorted(found, key=lambda each: math.inf if each.mean is None else sign * each.mean)


def _value(result: Result, metric: str) -> float | None:
    """A result's metric; its seconds are one too."""
    if result.status != "done":
        return None
    value = result.seconds if metric == "seconds" else result.metrics.get(metric)
    return None if value is None else float(value)


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def varied_axes(configurations: Sequence[Configuration]) -> list[str]:
    """The axes on which the configurations differ; all of them if there is but one configuration."""
    names = [name for name, _ in configurations[0].settings]
    varied = [name for name in names if len({getattr(each, name) for each in configurations}) > 1]
    return varied or names


def summary_table(found: Sequence[Summary], metrics: dict[str, Sequence[Summary]], *, rows: int = 20) -> str:
    """The first summaries as text: the axes that vary, then every metric (by name, in the configurations' order)."""
    axes = varied_axes([each.config for each in found])
    others = {name: {each.config: each for each in several} for name, several in metrics.items()}
    lines = [
        [*(_cell(getattr(each.config, axis)) for axis in axes), *(others[name][each.config].shown() for name in others),
         f"{each.done}/{each.done + each.not_done}"]
        for each in found[:rows]
    ]  # fmt: skip
    return text_table([*axes, *others, "done"], lines, left=len(axes))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def results_csv(results: Sequence[Result]) -> str:
    """All results as CSV: the axes, the seed, the status, the metrics, the seconds."""
    axes = list(dict.fromkeys(name for each in results for name, _ in each.config.settings))
    metrics = list(dict.fromkeys(name for each in results for name in each.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*axes, "seed", "status", *metrics, "seconds", "host"])
    for each in results:
        settings = each.config.as_dict()
        cells = [*(settings.get(axis) for axis in axes), each.seed, each.status]
        writer.writerow([*cells, *(each.metrics.get(name) for name in metrics), round(each.seconds, 4), each.host])
    return text.getvalue()
