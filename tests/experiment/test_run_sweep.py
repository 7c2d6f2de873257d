"""What a sweep leaves: summaries, tables, CSV, pictures, the page; and its command line."""

import base64
import csv
import html
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import attrs
import pytest
from processes import TESTS
from sweep_trials import make

from funcnn.data import DataError
from funcnn.experiment import parse_sweep_options, run_sweep
from funcnn.report.charts import draw_heat_map, draw_lines, draw_pareto
from funcnn.report.page import page
from funcnn.report.summary import axis_values, metric_of, results_csv, summaries, summary_rows, varied_axes
from funcnn.sweep import Result, SweepError, TrainingTrial, configuration
from funcnn.sweep.results import ResultsFile, trial_key
from funcnn.sweep.trials import trial_name

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


def test_a_metric_is_a_number_or_nothing():
    assert [metric_of(result(0, metrics={"a": value}), "a") for value in (1, True, 2.5, "x", [1], None)] == [
        1.0, 1.0, 2.5, None, None, None,
    ]  # fmt: skip
    assert metric_of(result(0, metrics={"seconds": 7.5}), "seconds") == 7.5  # its own, not the trial's
    (found,) = summaries([result(seed, metrics={"a": 1e300 * seed}, lr=1) for seed in range(3)], "a")
    assert found.shown() == f"{1e300:,.0f} ± {1e300:,.0f}"  # whose squares are infinite


def test_axes_that_python_holds_for_equal_differ():
    configs = [configuration(a=value, b=1) for value in (1, True, 1.0)]
    assert varied_axes(configs) == ["a"]


def read_csv(results):
    return list(csv.reader(io.StringIO(results_csv(results))))


def test_columns_have_names_of_their_own():
    own = {"seed": 5, "status": "s", "seconds": 6.0, "host": "h", "epochs": 7, "measured_epochs": 8}
    header, row = read_csv([attrs.evolve(result(3, metrics=own), config=configuration(seed=9, epochs=4, host="x"))])
    assert len(set(header)) == len(header)
    values = dict(zip(header, row, strict=True))
    assert (values["seed"], values["axis_seed"], values["measured_seed"]) == ("3", "9", "5")
    assert (values["seconds"], values["measured_seconds"]) == ("2.0", "6.0")
    assert (values["host"], values["axis_host"], values["measured_host"]) == ("host", "x", "h")
    assert (values["epochs"], values["measured_epochs"], values["measured_measured_epochs"]) == ("4", "7", "8")
    found = summaries([result(0, metrics={"lr": 0.5}, lr=1, done=2)], "lr")
    assert summary_rows(found, {"lr": found, "lr2": []}) == (
        ["lr", "axis_done", "measured_lr", "lr2", "done"], [["1", "2", "0.5000", "-", "1/1"]]
    )  # fmt: skip
    assert axis_values([attrs.evolve(result(3), config=configuration(seed=9))]) == {"axis_seed": [9], "seed": [3]}


WILD_NAMES = {
    "=1+1": "'=1+1", "+a": "'+a", "-a": "'-a", "@a": "'@a", "\t=1": "\\t=1", "\r=1": "\\r=1", "a=1": "a=1",
    "\x1b[31m": "\\x1b[31m", "a\nb": "a\\nb", "\udc80": "\\udc80", "\u202e": "\\u202e", "$x$": "$x$", "": "",
}  # fmt: skip


@pytest.mark.parametrize(("name", "shown"), WILD_NAMES.items())
def test_no_name_is_calculated_or_obeyed(name, shown, tmp_path):
    each = attrs.evolve(result(0, metrics={"m": name}, a=name), host=name)
    _, row = read_csv([each])
    assert [*row[:1], *row[3:4], row[-1]] == [shown] * 3
    if name:
        assert read_csv([result(0, metrics={name: -5})])[0][-3] == shown
    found = summaries([each], "m")
    text = page(f"Q {name}", [], summary_rows(found, {"m": found}), [each], command=f"python {name}")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    assert not set(text) & {"\x1b", "\udc80", "\u202e", "\t", "\r"}


def test_numbers_stay_numbers():
    _, row = read_csv([result(0, metrics={"a": -5, "b": -0.5, "c": 1e-300, "d": True, "e": None}, lr=-1)])
    assert row == ["-1", "0", "done", "-5", "-0.5", "1e-300", "True", "", "2.0", "host"]


@pytest.mark.parametrize("function", [summaries, results_csv])
@pytest.mark.parametrize("wild", [3, "results", [1], [None]])
def test_what_are_no_results_are_named(function, wild):
    arguments = ["a"] if function is summaries else []
    with pytest.raises(TypeError, match=rf"^{function.__name__}: results must be a list of a sweep's results, got "):
        function(wild, *arguments)


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
  const rows = () => [...document.querySelectorAll("tr")].map(each => [...each.cells].map(cell => cell.innerText))
  const press = i => (document.querySelectorAll("th button")[i].click(), rows().slice(1).map(each => each[i]))
  document.title = JSON.stringify({
    images: [...document.images].map(each => [each.naturalWidth, each.width]),
    rows: rows(),
    sorted: [press(0), press(0), press(1), press(1)],
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
    assert seen["sorted"] == [
        ["0.3", "0.2", "0.1"], ["0.1", "0.2", "0.3"],
        ["0.9000", "0.6000 ± 0.1414", "-"], ["0.6000 ± 0.1414", "0.9000", "-"],
    ]  # fmt: skip
    assert seen["sideways"] == 0


SCRIPT = "<script>alert(1)</script>"


def test_nothing_on_the_page_is_obeyed():
    """Whatever a file of results says: the page is for others to open."""
    names = {"a": SCRIPT, SCRIPT: 1}
    each = attrs.evolve(result(0, "failed", **names), trial=SCRIPT, version=SCRIPT, host=SCRIPT, error=SCRIPT)
    object.__setattr__(each, "status", SCRIPT)  # as no file may hold it any more
    rows = ([SCRIPT, "x"], [[SCRIPT, SCRIPT]])
    text = page(f"{SCRIPT}\n\n{SCRIPT}\n\n    {SCRIPT}", [], rows, [each], command=SCRIPT)
    assert text.count("<script") == 1  # the page's own
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 11


@pytest.mark.parametrize("question", [None, "", " \n"])
def test_without_a_docstring_the_trial_is_the_title(question):
    assert "<h1>module.trial</h1>" in page(question, [], (["a"], []), RESULTS, command="x")
    assert "<h1>A sweep</h1>" in page(question, [], (["a"], []), [], command="x")


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
    return ResultsFile(folder / "results.jsonl").read()


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


# --- The last step ----------------------------------------------------------------------------------------------


@pytest.fixture
def reported(tmp_path):
    """Options for a report of results that are there, and a folder with a picture of somebody else's."""
    records = ResultsFile(tmp_path / "results.jsonl")
    for lr, seed in itertools.product((0.1, 0.2), range(2)):
        config = configuration(lr=lr, kind="a", data="digits", epochs=9)
        name, metrics = trial_name(trial), {"validation_accuracy": lr + seed / 100, "test_accuracy": 0.5}
        records.append(Result(trial_key(config, seed, name, "1"), config, seed, "done", metrics, 1.0, "h", name, "1"))
    (tmp_path / "private.png").write_bytes(b"\x89PNG somebody else's")
    return options("--report", "--out", str(tmp_path))


def test_a_metric_that_no_trial_gives_is_told_at_the_first(reported, tmp_path):
    start = "run_sweep: no metric is called 'Test_accuracy': did you mean 'test_accuracy'? The trial gives "
    with pytest.raises(SweepError, match=re.escape(f"{start}'validation_accuracy', 'test_accuracy'. Its results")):
        run_sweep(trial, reported, question="Q?", draw=draw, metric="Test_accuracy")
    fresh = options("--seeds", "9", "--jobs", "1", "--out", str(tmp_path / "fresh"))
    with pytest.raises(SweepError, match=re.escape(start)):
        run_sweep(trial, fresh, question="Q?", draw=draw, metric="Test_accuracy")
    assert 1 <= len(ResultsFile(tmp_path / "fresh" / "results.jsonl").read()) < 9


def broken(results, folder):
    (folder / "half.png").write_bytes(b"\x89PNG half")
    raise RuntimeError("no such \x1b[31mcolour")


def failing(error):
    def fail(*arguments, **more):
        raise error

    return fail


def loads(folder):
    found = Page()
    found.feed((folder / "report.html").read_text(encoding="utf-8"))
    return [base64.b64decode(each.partition(",")[2]) for each in found.loads]


def test_only_what_this_sweep_drew_is_on_its_page(reported):
    run_sweep(trial, reported, question="Q?", draw=draw)
    assert loads(reported.out) == [(reported.out / "map.png").read_bytes()]
    first = (reported.out / "map.png").stat().st_ino
    run_sweep(trial, reported, question="Q?", draw=draw)  # drawn again
    assert len(loads(reported.out)) == 1
    assert (reported.out / "map.png").stat().st_ino != first
    run_sweep(trial, reported, question="Q?", draw=[])
    assert loads(reported.out) == []


def test_a_picture_that_fails_takes_nothing_along(reported, capsys):
    results = run_sweep(trial, attrs.evolve(reported, quiet=True), question="Q?", draw=[broken, draw])
    assert len(results) == 4
    assert sorted(loads(reported.out)) == sorted(
        (reported.out / f"{name}.png").read_bytes() for name in ("half", "map")
    )
    assert (reported.out / "results.csv").exists()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "no picture of broken: RuntimeError: no such \\x1b[31mcolour. The results are in results.jsonl: --report makes "
        "all from them again\n"
    )


@pytest.mark.parametrize("part", ["results_csv", "summary_rows", "page"])
def test_a_part_that_fails_takes_no_other_along(part, reported, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["funcnn.experiment.run_sweep"], part, failing(RuntimeError("no luck")))
    assert len(run_sweep(trial, reported, question="Q?", draw=draw)) == 4
    made = {path.name for path in reported.out.iterdir()} - {"private.png", "results.jsonl"}
    names = {"results_csv": "results.csv", "page": "report.html", "summary_rows": "table"}
    assert made == {"map.png", "results.csv", "report.html"} - {names[part]}
    assert f"no {names[part]}: RuntimeError: no luck" in capsys.readouterr().err


def test_a_full_disk_at_last_is_an_error_and_the_rest_is_made(reported, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["funcnn.experiment.run_sweep"], "results_csv", failing(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        run_sweep(trial, reported, question="Q?", draw=draw)
    assert len(loads(reported.out)) == 1
    assert "no results.csv: OSError: [Errno 28] full" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", None])
def test_any_terminal_shows_the_table(encoding, reported, monkeypatch):
    if encoding is None:
        monkeypatch.setattr(sys, "stdout", None)
    else:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    run_sweep(trial, reported, question="Q?", draw=draw)
    if encoding is not None:
        sys.stdout.flush()
        text = sys.stdout.buffer.getvalue().decode(encoding)
        assert re.search(r"0\.2 +0\.2050 \S+ ?0\.0071 +0\.5000 +2/2", text)
    assert "0.2050 ± 0.0071" in (reported.out / "report.html").read_text(encoding="utf-8")


def test_a_script_without_docstrings_makes_its_report(reported):
    """``python -OO`` takes them away."""
    program = (
        "from importlib import import_module; from funcnn.experiment import parse_sweep_options, run_sweep\n"
        f"t = import_module({trial.__module__!r})\n"
        "options = parse_sweep_options(t.trial.__doc__, name='demo', axes=t.AXES, quick={}, epochs=9)\n"
        "run_sweep(t.trial, options, question=t.__doc__, draw=t.draw)"
    )
    command = [sys.executable, "-OO", "-c", program, "--report", "--no-plots", "--out", str(reported.out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    run = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert f"<h1>{trial_name(trial)}</h1>" in (reported.out / "report.html").read_text(encoding="utf-8")


WILD = {
    "draw": ({"draw": 3}, "draw must be a function of (results, folder), or several, got (3,)"),
    "draws": ({"draw": [draw, "map"]}, "draw must be a function of (results, folder), or several, got (<function"),
    "trial": ({"trial": 3}, "trial must be a function of (config, seed), got 3"),
    "metric": ({"metric": None}, "metric must be a name, got None"),
    "also": ({"also": "test_accuracy"}, "also must be names, got 'test_accuracy'"),
}


@pytest.mark.parametrize(("given", "text"), WILD.values(), ids=WILD)
def test_what_can_be_known_is_said_before_the_trials(given, text, tmp_path):
    arguments = {"trial": trial, "options": options("--out", str(tmp_path / "out")), "question": "Q?", "draw": draw}
    with pytest.raises(TypeError, match=f"^{re.escape(f'run_sweep: {text}')}"):
        run_sweep(**(arguments | given))
    assert not (tmp_path / "out").exists()


def test_a_home_is_where_results_may_go(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert options("--out=~/runs").out == tmp_path / "runs"


def test_a_report_of_another_sweep_says_so(tmp_path):
    run_sweep(trial, options("--jobs", "1", "--quick", "--quiet", "--out", str(tmp_path)), question="Q?", draw=draw)
    with pytest.raises(SweepError, match=r"it has results of .*\.trial\. Choose another --out"):
        run_sweep(moody, options("--report", "--out", str(tmp_path)), question="Q?", draw=draw)


def test_data_that_are_not_there_end_it_at_once(tmp_path):
    chosen = options("--out", str(tmp_path), "--data", "mnist", "--data-dir", str(tmp_path))
    with pytest.raises(DataError, match=f"mnist: no train-images-idx3-ubyte in {re.escape(str(tmp_path))}"):
        run_sweep(trial, chosen, question="Q?", draw=draw)
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


# --- Workers of a trial ---------------------------------------------------------------------------------------


def test_workers_share_a_trial_and_its_result_follows_from_the_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["funcnn.experiment.run_sweep"], "cores", lambda: 2)
    how = ["--axis", "kind=a", "--axis", "lr=0.1", "--epochs", "2", "--seeds", "1", "--quiet", "--no-plots"]
    found = {}
    for name, given in {"workers": ["--workers", "2"], "shards": ["--shards", "2"], "alone": []}.items():
        chosen = options(*how, *given, "--out", str(tmp_path / name))
        assert chosen.jobs == (1 if name == "workers" else None)
        (made,) = run_sweep(TrainingTrial(make), chosen, question="Q?", draw=draw)
        found[name] = made.config.as_dict().get("shards"), made.metrics
    assert found["workers"] == found["shards"] == (2, found["shards"][1])
    assert found["alone"][0] is None
    assert found["alone"][1]["train_loss"] == pytest.approx(found["shards"][1]["train_loss"], rel=1e-3)
    with pytest.raises(SweepError, match="--workers, --shards: this sweep's trials measure more than a training"):
        run_sweep(trial, options("--shards", "2", "--out", str(tmp_path)), question="Q?", draw=draw)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["--workers", "5"], "--workers 5: 1 trial at a time with 5 workers each would take 5 cores, and there are 4"),
        (
            ["--workers", "2", "--jobs", "3"],
            "3 trials at a time with 2 workers each would take 6 cores, and there are 4",
        ),
        (["--workers", "2", "--shards", "1"], "--shards 1: at least one for each of the 2 workers"),
        (["--workers", "2", "--mpi"], "--workers: a trial on a cluster has one process. Pass --shards alone"),
    ],
)
def test_trials_and_their_workers_do_not_take_more_cores_than_there_are(given, text, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["funcnn.experiment.run_sweep"], "cores", lambda: 4)
    assert (options("--workers", "2").jobs, options("--workers", "3").jobs) == (2, 1)
    with pytest.raises(SystemExit):
        options(*given)
    assert text in capsys.readouterr().err
