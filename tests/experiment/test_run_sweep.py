"""What a sweep leaves: summaries, tables, CSV, pictures, the page; and its command line."""

import csv
import html
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import attrs
import pytest

from funcnn.data import DataError
from funcnn.experiment import parse_sweep_options, run_sweep
from funcnn.report.charts import draw_heat_map, draw_lines, draw_pareto
from funcnn.report.page import page
from funcnn.report.summary import results_csv, summaries, summary_rows, varied_axes
from funcnn.sweep import Result, SweepError, configuration

AXES = {"lr": (0.1, 0.2), "kind": ("a", "b")}


def result(seed, status="done", metrics=None, seconds=2.0, **settings):
    config = configuration(**settings)
    return Result("key", config, seed, status, metrics or {}, seconds, "host", "module.trial", "1")


RESULTS = [
    result(0, metrics={"accuracy": 0.5, "cost": 10}, lr=0.1, data="x"),
    result(1, metrics={"accuracy": 0.7, "cost": 10}, lr=0.1, data="x"),
    result(0, metrics={"accuracy": 0.9, "cost": 2000}, lr=0.2, data="x"),
    result(1, "diverged", {"accuracy": None}, lr=0.2, data="x"),
    result(0, "failed", lr=0.3, data="x"),
]


# --- Summaries ------------------------------------------------------------------------------------------------


def test_summaries_are_means_over_seeds_best_first():
    found = summaries(RESULTS, "accuracy")
    assert [each.config.lr for each in found] == [0.2, 0.1, 0.3]
    assert [each.mean for each in found] == [0.9, pytest.approx(0.6), None]
    assert found[1].deviation == pytest.approx(0.02**0.5)  # of a sample: sum of squares over n - 1
    assert [(len(each.values), each.not_done) for each in found] == [(1, 1), (2, 0), (0, 1)]


def test_summaries_may_have_the_lowest_first_and_those_without_one_last():
    assert [each.config.lr for each in summaries(RESULTS, "accuracy", lowest=True)] == [0.1, 0.2, 0.3]
    assert [each.mean for each in summaries(RESULTS, "seconds")] == [2.0, 2.0, None]


def test_the_last_result_of_a_seed_counts():
    longer = [*RESULTS, result(0, metrics={"accuracy": 0.1}, lr=0.1, data="x")]
    assert {each.config.lr: each.mean for each in summaries(longer, "accuracy")}[0.1] == pytest.approx(0.4)


def test_the_table_has_the_axes_that_vary():
    found = summaries(RESULTS, "accuracy")
    header, rows = summary_rows(found, {"accuracy": found, "cost": summaries(RESULTS, "cost")})
    assert header == ["lr", "accuracy", "cost", "done"]
    assert rows == [
        ["0.2", "0.9000", "2,000", "1/2"],
        ["0.1", "0.6000 ± 0.1414", "10", "2/2"],
        ["0.3", "-", "-", "0/1"],
    ]
    assert varied_axes([RESULTS[0].config]) == ["lr", "data"]


def test_csv_has_every_result():
    rows = list(csv.DictReader(io.StringIO(results_csv(RESULTS))))
    assert [(row["lr"], row["seed"], row["status"], row["accuracy"]) for row in rows] == [
        ("0.1", "0", "done", "0.5"), ("0.1", "1", "done", "0.7"), ("0.2", "0", "done", "0.9"),
        ("0.2", "1", "diverged", ""), ("0.3", "0", "failed", ""),
    ]  # fmt: skip


# --- Pictures -------------------------------------------------------------------------------------------------


def test_pictures_are_drawn_from_whatever_came_out(tmp_path):
    some = [
        result(seed, metrics={"accuracy": lr * (1 + seed), "cost": 1 / lr}, lr=lr, kind=kind)
        for seed in (0, 1) for lr in (0.1, 0.2) for kind in ("a", "b")
    ] + [result(0, "diverged", lr=0.4, kind="a")]  # fmt: skip
    draw_lines(some, tmp_path / "lines.png", x="lr", lines="kind", metric="accuracy", title="t" * 200, log_x=True)
    draw_heat_map(some, tmp_path / "map.png", x="lr", y="kind", metric="accuracy", title="t")
    draw_pareto(some, tmp_path / "pareto.png", cost="cost", metric="accuracy", title="t")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 3


# --- The page -------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# What the browser made of the page, written where --dump-dom shows it.
PROBE = """<script>addEventListener("load", () => {
  const root = document.documentElement
  document.title = JSON.stringify({
    images: [...document.images].map(each => [each.naturalWidth, each.width]),
    rows: [...document.querySelectorAll("tr")].map(each => [...each.cells].map(cell => cell.innerText)),
    heading: document.querySelector("h1").innerText,
    commands: [...document.querySelectorAll("pre")].map(each => each.innerText),
    sideways: root.scrollWidth - root.clientWidth,
  })
})</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_renders_the_page(tmp_path):
    draw_heat_map(RESULTS, tmp_path / "map.png", x="lr", y="data", metric="accuracy", title="a map")
    found = summaries(RESULTS, "accuracy")
    rows = summary_rows(found, {"accuracy": found})
    question = "What is <best>?\n\nA & B.\n\n    python a.py\n    python b.py\n"
    text = page(question, [tmp_path / "map.png"], rows, RESULTS, command="python -m it")
    (tmp_path / "report.html").write_text(text + PROBE, encoding="utf-8")
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    switches += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *switches, "--window-size=800,900", "--virtual-time-budget=5000", "--dump-dom"]
    address = (tmp_path / "report.html").as_uri()
    shown = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True).stdout
    seen = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", shown, re.DOTALL)[1]))
    assert seen["heading"] == "What is <best>?"
    ((natural, width),) = seen["images"]
    assert 0 < width <= min(natural, 800)
    assert seen["rows"] == [["lr", "accuracy", "done"], ["0.2", "0.9000", "1/2"], ["0.1", "0.6000 ± 0.1414", "2/2"],
                            ["0.3", "-", "0/1"]]  # fmt: skip
    assert seen["commands"] == ["python a.py\npython b.py", "python -m it", "lr: 0.1, 0.2, 0.3\ndata: x\nseed: 0, 1"]
    assert seen["sideways"] == 0


# --- The command line -----------------------------------------------------------------------------------------


def options(*arguments, **more):
    return parse_sweep_options(
        "A question?\n\nMore of it.", name="demo", axes=AXES, quick={"lr": (0.1,)}, epochs=9, arguments=list(arguments),
        **more,
    )  # fmt: skip


def test_axes_seeds_and_epochs_from_the_command_line():
    assert (options().axes, options().epochs, options().seeds) == (AXES, 9, 3)
    quick = options("--quick")
    assert (quick.axes, quick.epochs, quick.seeds) == ({"lr": (0.1,), "kind": ("a", "b")}, 2, 1)
    given = options("--axis", "lr=1,2.5,true,none,x", "--seeds", "2", "--no_plots")
    assert given.axes["lr"] == (1, 2.5, True, None, "x")
    assert (given.seeds, given.plots) == (2, False)


@pytest.mark.parametrize("argument", ["rate=0.1", "lr"])
def test_an_unknown_axis_is_refused(argument, capsys):
    with pytest.raises(SystemExit):
        options("--axis", argument)
    assert f"--axis {argument}: expected NAME=V1,V2 with a name out of lr, kind" in capsys.readouterr().err


def test_names_are_those_of_the_script(capsys):
    assert options("--axis", "kind= b ,a").axes["kind"] == ("b", "a")
    with pytest.raises(SystemExit):
        options("--axis", "kind=a,c")
    assert "--axis kind=a,c: kind is one of 'a', 'b', not 'c'" in capsys.readouterr().err


def test_halving_is_an_option_where_trials_can_be_halved(capsys):
    assert options("--halving", halving=True).halving
    with pytest.raises(SystemExit):
        options("--halving")
    assert "unrecognized arguments: --halving" in capsys.readouterr().err


def trial(config, seed):
    if config.kind == "b" and config.lr > 0.1:
        raise ValueError("no such kind")
    return {"validation_accuracy": config.lr + seed / 100, "test_accuracy": 0.5, "epochs": config.epochs}


def draw(results, folder):
    draw_heat_map(results, folder / "map.png", x="lr", y="kind", metric="validation_accuracy", title="a map")


class Page(HTMLParser):
    """The tags of a page, its text, and what it loads."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.loads = [], "", []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_sweep_leaves_table_csv_pictures_and_a_page_of_its_own(tmp_path, capsys):
    chosen = options("--jobs", "1", "--seeds", "2", "--out", str(tmp_path))
    results = run_sweep(trial, chosen, question="A <question>?\n\nMore of it.", draw=draw)
    printed = capsys.readouterr().out
    assert len(results) == 8
    assert "best validation accuracy 0.2100" in printed
    assert "2 failed, as configuration(lr=0.2, kind='b'" in printed
    assert "ValueError: no such kind" in printed
    assert re.search(r"0\.2 +a +0\.2050 ± 0\.0071 +0\.5000 +2/2", printed)
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl", "results.csv", "map.png", "report.html"}
    page = Page()
    page.feed((tmp_path / "report.html").read_text())
    assert page.open == []
    assert "A <question>?" in page.text
    assert "0.2050 ± 0.0071" in page.text
    assert [each[:22] for each in page.loads] == ["data:image/png;base64,"]

    # All of it again, from the results alone.
    before = (tmp_path / "results.jsonl").read_bytes()
    for name in ("results.csv", "map.png"):
        (tmp_path / name).unlink()
    again = run_sweep(trial, options("--report", "--seeds", "2", "--out", str(tmp_path)), question="Q?", draw=draw)
    assert again == [*records_of(tmp_path)]
    assert (tmp_path / "map.png").exists()
    assert (tmp_path / "results.csv").exists()
    assert (tmp_path / "results.jsonl").read_bytes() == before


def records_of(folder):
    from funcnn.sweep.results import Records

    return Records(folder / "results.jsonl").read()


def moody(config, seed):
    if (Path(config.mood) / "bad").exists():
        raise MemoryError("not now")
    return {"validation_accuracy": 0.5, "test_accuracy": 0.5, "epochs": 20}


def test_what_failed_is_run_again_if_asked_for(tmp_path, capsys):
    (tmp_path / "bad").touch()
    where = ["--axis", f"mood={tmp_path}", "--out", str(tmp_path / "out")]
    how = ["--jobs", "1", "--seeds", "1", "--no-plots", "--quiet"]
    chosen = parse_sweep_options("Q?", name="demo", axes={"mood": (1,)}, quick={}, epochs=9, arguments=[*where, *how])
    with pytest.raises(SweepError, match=r"no trial has ended well: .*results\.jsonl says why\. --retry runs them"):
        run_sweep(moody, chosen, question="Q?", draw=draw)
    (tmp_path / "bad").unlink()
    with pytest.raises(SweepError, match="no trial has ended well"):  # what failed has ended, unless told otherwise
        run_sweep(moody, chosen, question="Q?", draw=draw)
    (result,) = run_sweep(moody, attrs.evolve(chosen, retry=True), question="Q?", draw=draw)
    assert result.status == "done"
    assert records_of(tmp_path / "out") == [result]
    header, row = csv.reader((tmp_path / "out" / "results.csv").read_text().splitlines())
    assert len(set(header)) == len(header)
    assert (row[header.index("epochs")], row[header.index("measured_epochs")]) == ("9", "20")


def test_a_report_of_another_sweep_says_so(tmp_path):
    run_sweep(trial, options("--jobs", "1", "--quick", "--quiet", "--out", str(tmp_path)), question="Q?", draw=draw)
    with pytest.raises(SweepError, match=r"it has results of .*\.trial\. Choose another --out"):
        run_sweep(moody, options("--report", "--out", str(tmp_path)), question="Q?", draw=draw)


def test_data_that_are_not_there_end_it_at_once(tmp_path, monkeypatch):
    def fail(name):
        raise DataError(f"{name}: nowhere")

    monkeypatch.setattr(sys.modules["funcnn.experiment.run_sweep"], "load", fail)
    with pytest.raises(DataError, match="digits: nowhere"):
        run_sweep(trial, options("--out", str(tmp_path)), question="Q?", draw=draw)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_report_of_nothing_says_so(tmp_path):
    with pytest.raises(SweepError, match=r"no results to report\. Run the sweep first, without --report"):
        run_sweep(trial, options("--report", "--out", str(tmp_path)), question="Q?", draw=draw)


def test_what_cannot_be_halved_says_so(tmp_path):
    chosen = options("--halving", "--jobs", "1", "--out", str(tmp_path), halving=True)
    with pytest.raises(SweepError, match="--halving: this sweep's trials measure more than a training"):
        run_sweep(trial, chosen, question="Q?", draw=draw)


def test_a_scheduler_that_is_not_there_says_so(tmp_path):
    pytest.importorskip("distributed", reason="Dask is not installed")
    chosen = options("--scheduler", "nonsense://nowhere", "--out", str(tmp_path))
    with pytest.raises(SweepError, match="--scheduler nonsense://nowhere: no scheduler can be reached there"):
        run_sweep(trial, chosen, question="Q?", draw=draw)


def test_configurations_say_the_data_and_the_epochs(tmp_path):
    chosen = options("--jobs", "1", "--seeds", "1", "--quiet", "--no-plots", "--epochs", "4", "--out", str(tmp_path))
    results = run_sweep(trial, chosen, question="Q?", draw=draw)
    assert {(each.config.data, each.config.epochs, each.metrics.get("epochs", 4)) for each in results} == {
        ("digits", 4, 4)
    }
    first = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])
    assert first["config"]["data"] == "digits"


def test_mpi_is_not_asked_of_a_process_without_ranks(tmp_path):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    python = re.escape(sys.orig_argv[0])
    with pytest.raises(SweepError, match=rf"For two that work: mpirun -n 3 {python} -m mpi4py\.futures "):
        run_sweep(trial, options("--mpi", "--out", str(tmp_path)), question="Q?", draw=draw)
