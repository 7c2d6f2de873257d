"""``funcnn sweep-report``: the table and the page of a sweep again, from the results in its folder."""

import html
import re
import shlex
from pathlib import Path

from funcnn.experiment.options import folder, new_parser, printer, read_arguments
from funcnn.report.page import page
from funcnn.report.summary import results_csv, summaries, summary_rows
from funcnn.sweep.grid import SweepError
from funcnn.sweep.results import Result, ResultsFile
from funcnn.system.files import write_text
from funcnn.system.text import printable, text_table

__all__ = ["main"]

_DESCRIPTION = """The table and the page of a sweep again, from the results in its folder, finished or not.

    {0} runs/sweep_learning_rate
    {0} runs/sweep_learning_rate --metric validation_loss test_loss --lowest

It writes results.csv and report.html, with the pictures that are in the folder; the sweep's script draws them anew,
with its option --report. What a page before said of its question stays."""

_IN_TERMINAL, _ON_PAGE = 20, 500  # rows of the table
_USUAL = ("validation_accuracy", "test_accuracy")


def main(arguments: list[str], prog: str) -> None:
    """Write the report.

    Raises SweepError for a folder without results, or a metric that they lack.
    """
    parser = new_parser(_DESCRIPTION.format(prog), prog)
    add = parser.add_argument
    add("folder", type=folder, metavar="DIR", help="the folder of a sweep, with its results.jsonl")
    add("--metric", nargs="+", metavar="NAME", help="columns of the table; the first ranks (default: as they were)")
    add("--lowest", action="store_true", help="put the lowest first")
    add("--quiet", action="store_true", help="print nothing but errors")
    options = read_arguments(parser, arguments)
    where: Path = options.folder
    results = ResultsFile(where / "results.jsonl").read()
    if not results:
        raise SweepError(f"{where / 'results.jsonl'}: no results to report. Pass the folder of a sweep that was run")
    before = where / "report.html"
    old = before.read_text("utf-8", errors="replace") if before.is_file() else ""
    metrics = _metrics(results, options.metric, old)
    found = [summaries(results, name, lowest=options.lowest) for name in metrics]
    header, rows = summary_rows(found[0], dict(zip(metrics, found, strict=True)))
    question, command = _question(old), _command(old) or shlex.join([*prog.split(), *arguments])
    text = page(question, sorted(where.glob("*.png")), (header, rows[:_ON_PAGE]), results, command=command)
    write_text(where / "results.csv", results_csv(results))
    write_text(before, text)
    say = printer(options.quiet)
    say(text_table(header, rows[:_IN_TERMINAL], left=len(header) - 1 - len(metrics)))
    if len(rows) > _IN_TERMINAL:
        say(f"the best {_IN_TERMINAL} of {len(rows)} configurations")
    say(f"\n{printable(before)} and results.csv: {len(results)} results")


def _metrics(results: list[Result], wanted: list[str] | None, old: str) -> list[str]:
    """The metrics to show: those asked for, or those of the page before, or the usual ones, or the first there is."""
    there = list(dict.fromkeys([*(name for each in results for name in each.metrics), "seconds"]))
    unknown = [name for name in wanted or () if name not in there]
    if unknown:
        raise SweepError(f"--metric {unknown[0]}: the results have {', '.join(there)}")
    columns = [html.unescape(each) for each in re.findall(r"<th\b[^>]*>(?:<button>)?(.*?)<", old)]
    shown = {name.replace("_", " "): name for name in there}
    kept = [shown[each] for each in columns if each in shown]
    return wanted or kept or [name for name in _USUAL if name in there] or there[:1]


def _question(old: str) -> str | None:
    """What a page says of its question, as `page` was given it; None without a page."""
    title = re.search(r"<h1>(.*?)</h1>", old, re.DOTALL)
    if title is None:
        return None
    above = old[title.end() :].partition("<h2>")[0]
    parts = re.findall(r"<(p|pre)>(?!<img)(.*?)</\1>", above, re.DOTALL)
    texts = [text if kind == "p" else "\n".join(f"    {line}" for line in text.split("\n")) for kind, text in parts]
    return html.unescape("\n\n".join([title[1], *texts]))


def _command(old: str) -> str:
    """The command that a page says to repeat its sweep with, "" without a page."""
    found = re.search(r"<h2>Do it again</h2>\s*<pre>(.*?)</pre>", old, re.DOTALL)
    return html.unescape(found[1]) if found else ""
