"""A sweep's answer as one HTML page that needs no other file: question, pictures, table, how to do it again."""

import base64
import html
import itertools
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from funcnn.report.summary import axis_values
from funcnn.sweep.results import Result, check_results
from funcnn.system.text import printable

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ddd; --inset: #f5f5f3; --best: #eef2fb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #161618; --line: #3a3a3e; --inset: #222226; --best: #22304f }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } img { max-width: 100%; background: #fff; border-radius: 4px }
pre, .wide { overflow-x: auto; font-size: 14px }
pre { background: var(--inset); padding: 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { border-bottom: 2px solid var(--ink) } tr.best { background: var(--best) }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer }
th[aria-sort=ascending] button::after { content: " \\2191" }
th[aria-sort=descending] button::after { content: " \\2193" }
@media (max-width: 40rem) {
  table, tbody, tr, td { display: block }
  thead tr { display: flex; flex-wrap: wrap; gap: 0 1rem } th { border: 0; padding: 0.2rem 0 }
  thead tr::before { content: "sort by" } tr { border-bottom: 2px solid var(--line); padding: 0.4rem }
  td { display: flex; justify-content: space-between; border: 0; padding: 0; white-space: normal }
  td::before { content: attr(data-name); margin-right: 1rem }
}
"""

# A column's button sorts by it, and the other way if pressed again. Numbers go before texts, what is missing last.
_SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0]
  const down = head.ariaSort === "descending" ? 1 : -1
  const value = row => {
    const text = row.cells[head.cellIndex].textContent, number = parseFloat(text.replaceAll(",", ""))
    return text === "-" ? [2, 0] : Number.isNaN(number) ? [1, text] : [0, number]
  }
  for (const each of head.parentElement.cells) each.ariaSort = null
  head.ariaSort = down > 0 ? "ascending" : "descending"
  const keyed = [...body.rows].map(row => [value(row), row])
  keyed.sort(([[a, x]], [[b, y]]) => a - b || (x < y ? -down : x > y ? down : 0))
  body.append(...keyed.map(([, row]) => row))
})
"""


def page(
    question: str | None,
    pictures: Sequence[Path],
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    results: Sequence[Result],
    *,
    command: str,
) -> str:
    """The page as text, images within it; the table is (header, rows), and below it is what did not end well.

    The question is a script's description: its first line the title, then paragraphs, and indented lines for commands.
    Without one (``python -OO`` removes docstrings) the trial's name is the title.
    What the sweep ran over is read off the results, since a report may be made with other options than the sweep had.

    >>> text = page("Which?", [], (["lr", "accuracy"], [["0.1", "0.9"]]), [], command="python which.py")
    >>> "<h1>Which?</h1>" in text, ">0.9</td>" in text
    (True, True)
    """
    results = check_results("page", results)
    title, _, rest = (question or "").strip().partition("\n")
    title = title or (results[0].trial if results else "A sweep")
    header, rows = table
    names = [_escaped(name.replace("_", " ")) for name in header]
    head = "".join(f'<th scope="col"><button>{name}</button></th>' for name in names)
    body = "\n".join(f"<tr{' class=best' * (i == 0)}>{_cells(names, row)}</tr>" for i, row in enumerate(rows))
    versions = ", ".join(sorted({f"{each.trial}, version {each.version}" for each in results}))
    configurations = len({each.config for each in results})
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_escaped(title)}</title><style>{_STYLE}</style></head>
<body>
<h1>{_escaped(title)}</h1>
{_paragraphs(rest)}
{"".join(map(_image, pictures))}
<h2>Results</h2>
<div class="wide"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
<p>{len(rows)} of {configurations} configurations, the best first; mean ± deviation over seeds. {_outcomes(results)}</p>
<h2>Do it again</h2>
<pre>{_escaped(command)}</pre>
<p>{len(results)} results of {_escaped(versions)}, with</p>
<pre>{_escaped(_settings(results))}</pre>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _cells(names: Sequence[str], row: Sequence[str]) -> str:
    """A row's cells; each knows its column's name, which a narrow page shows beside it."""
    return "".join(
        f'<td data-name="{name}">{_escaped(cell)}</td>'
        for name, cell in itertools.zip_longest(names, row, fillvalue="")
    )


def _paragraphs(text: str) -> str:
    """Paragraphs, those of indented lines as they stand."""
    found = [each.strip("\n") for each in text.split("\n\n") if each.strip()]
    return "\n".join(
        f"<pre>{_escaped(textwrap.dedent(each))}</pre>" if each.startswith(" ") else f"<p>{_escaped(each)}</p>"
        for each in found
    )


def _escaped(text: object) -> str:
    """A text in HTML, without what a browser or a terminal would obey; its lines stay lines."""
    return html.escape("\n".join(map(printable, str(text).split("\n"))))


def _settings(results: Sequence[Result]) -> str:
    """A line for each axis, and one for the seeds, with their values in the order in which they came."""
    axes = axis_values(results).items()
    return "\n".join(f"{printable(name)}: {', '.join(map(printable, values))}" for name, values in axes)


def _image(path: Path) -> str:
    name = _escaped(path.stem.replace("_", " "))
    return f'<p><img alt="{name}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></p>\n'


def _outcomes(results: Sequence[Result]) -> str:
    """Which trials have no metrics to show, in words."""
    bad = Counter(each.status for each in results if each.status != "done")
    return "".join(f"{count} trial{'s'[: count > 1]} {_escaped(status)}. " for status, count in sorted(bad.items()))
