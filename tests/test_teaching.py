"""The teacher's kit: solutions get all points, skeletons none, and a typical mistake costs the points of its task."""

import ast
import doctest
import importlib
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from other_answers import OTHER
from wrong_answers import WRONG

KIT = Path(__file__).parents[1] / "teaching"
if not KIT.is_dir():
    pytest.skip("the teacher's kit is not here", allow_module_level=True)
sys.path.insert(0, str(KIT))
grading: Any = importlib.import_module("grading")
command: Any = importlib.import_module("grade")
make_skeletons: Any = importlib.import_module("make_skeletons")
sys.path[:] = [path for path in sys.path if path != str(KIT)]

SETS = sorted(path.name for path in KIT.glob("set_*"))
every_set = pytest.mark.parametrize("name", SETS)


def file_of(name: str) -> str:
    """The name of the file that students fill in."""
    (path,) = (KIT / "solutions" / name).glob("*.py")
    return path.name


def submitted(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """A folder with a solution in which some text stands in the place of other text."""
    text = (KIT / "solutions" / name / file_of(name)).read_text("utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    folder.mkdir(parents=True)
    (folder / file_of(name)).write_text(text, "utf-8")
    return folder


# --- Solutions and skeletons ----------------------------------------------------------------------------------


def test_all_sets_are_here() -> None:
    assert len(SETS) == 6
    assert [grading.load_problems(KIT / name).most for name in SETS] == [20] * 6


@every_set
def test_the_solution_gets_all_points_and_the_skeleton_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([name, str(KIT / "solutions" / name)]) == 0
    assert "total 20 of 20" in capsys.readouterr().out
    problems = grading.load_problems(KIT / name)
    assert {grading.run_check(problems, check.name) for check in problems.checks} == {"not written yet"}


def test_skeletons_are_made_of_the_solutions() -> None:
    assert len(make_skeletons.pairs()) == 6
    for source, target in make_skeletons.pairs():
        text = source.read_text("utf-8")
        assert target.read_text("utf-8") == make_skeletons.skeleton(text), f"run teaching/make_skeletons.py: {target}"
        answers = {int(number) for number in re.findall(r"# task (\d)", text)}
        assert answers == set(grading.load_problems(target.parent).tasks)


@every_set
def test_every_function_to_write_says_what_it_is_to_do(name: str) -> None:
    tree = ast.parse((KIT / name / file_of(name)).read_text("utf-8"))
    functions = [part for part in tree.body if isinstance(part, ast.FunctionDef)]
    assert [part.name for part in functions if not ast.get_docstring(part) or part.returns is None] == []
    assert sum("NotImplementedError" in ast.unparse(part) for part in functions) >= 5


def test_the_kits_own_examples() -> None:
    for module in (grading, make_skeletons):
        results = doctest.testmod(module)
        assert (results.failed, results.attempted > 0) == (0, True)
    assert doctest.testfile(str(KIT / "set_3_training" / "README.md"), module_relative=False).failed == 0


@pytest.mark.parametrize("document", sorted(KIT.rglob("*.md")), ids=lambda path: path.parent.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#\s]+)", document.read_text("utf-8"))
    assert links
    assert [link for link in links if not (document.parent / link).exists()] == []


@every_set
def test_the_text_names_every_task_and_its_points(name: str) -> None:
    text = (KIT / name / "README.md").read_text("utf-8")
    problems = grading.load_problems(KIT / name)
    for task, title in problems.tasks.items():
        points = sum(check.points for check in problems.checks if check.task == task)
        assert re.search(rf"^## Task {task}: {re.escape(title)} \({points} points?\)$", text, re.MULTILINE), title


# --- Other answers, right and wrong ----------------------------------------------------------------------------


@every_set
def test_right_answers_in_another_style_get_all_points(name: str, tmp_path: Path) -> None:
    text = (KIT / "solutions" / name / file_of(name)).read_text("utf-8")
    assert len(OTHER[name]) >= 4
    for function, body in OTHER[name].items():
        answer = rf"(^def {function}\(.*?^    # task \d\n).*?(?=^\S|\Z)"
        body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        text, found = re.subn(
            answer, lambda match, body=body: f"{match[1]}{body}\n\n\n", text, flags=re.DOTALL | re.MULTILINE
        )
        assert found == 1, function
    (tmp_path / file_of(name)).write_text(text, "utf-8")
    problems = grading.load_problems(KIT / name, tmp_path)
    assert {grading.run_check(problems, check.name) for check in problems.checks} == {None}


@every_set
def test_wrong_answers_lose_the_points_of_their_task(name: str, tmp_path: Path) -> None:
    assert len(WRONG[name]) >= 15
    found, expected = {}, {}
    for i, answer in enumerate(WRONG[name]):
        folder = submitted(tmp_path / str(i), name, (answer.old, answer.new))
        problems = grading.load_problems(KIT / name, folder)
        said = {check: grading.run_check(problems, check.name) for check in problems.checks}
        lost: Counter[int] = Counter()
        for check, problem in said.items():
            lost[check.task] += check.points if problem else 0
        text = " ".join(filter(None, said.values()))
        found[answer.mistake, i] = {task: points for task, points in lost.items() if points}, answer.advice in text
        expected[answer.mistake, i] = answer.lost, True
    assert found == expected


# --- The command ----------------------------------------------------------------------------------------------


def test_what_hangs_or_crashes_costs_its_own_points(tmp_path: Path) -> None:
    name = "set_1_gradients"
    folder = submitted(
        tmp_path / "one",
        name,
        ("slope: Array = (2 * x - x**2) * np.exp(-x)", "while True:\n        pass"),
        ("return 1 - y**2", "import os\n    os._exit(0)"),
        ("y: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))", "raise SystemExit('good bye')"),
        ("gradient = np.zeros(x.shape)", "gradient = np.zeros(10**13)"),
        ("return abs(a - b) / larger if larger else 0.0", "return relative_error(a, b)"),
        ("draw = np.random.default_rng(seed)\n    wrong", "print('wrong is ' * 2)\n    wrong"),
    )
    graded = command.grade(KIT / name, folder, seconds=2.0)
    problems = {result.check.name: result.problem for result in graded.results if result.problem}
    assert graded.points == {1: 0, 2: 0, 3: 6, 4: 1, 5: 0}
    assert problems["test_bump"] == "no answer within 2 s. Is there a loop that never ends?"
    assert problems["test_tanh"] == "the process ended (code 0) before the answer came"
    assert problems["test_softplus"].startswith("SystemExit: good bye (line ")
    assert "ArrayMemoryError" in problems["test_numeric_gradient"] or "allocate" in problems["test_numeric_gradient"]
    assert problems["test_relative_error"].startswith("RecursionError")
    assert problems["test_seeded"].startswith("NameError: name 'draw' is not defined (line ")
    text = command.report("one", graded)
    assert "| wrong is wrong is" in text
    assert text.endswith("total 7 of 20")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def f(:\n", "SyntaxError"),
        ("raise SystemExit", "SystemExit"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("slope_of_bump = 3", "has no softplus"),
        (None, "there is no file gradients.py"),
    ],
)
def test_a_file_that_cannot_be_loaded_gets_no_points(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "gradients.py").write_text(text, "utf-8")
    problems = grading.load_problems(KIT / "set_1_gradients", tmp_path)
    said = [grading.run_check(problems, check.name) for check in problems.checks]
    assert all(said)
    assert any(problem in each for each in said)


def test_several_folders_make_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "set_1_gradients"
    good = submitted(tmp_path / "ada", name)
    bad = submitted(tmp_path / "bob", name, ("return 1 - y**2", "return y"))
    arguments = [name, str(good), str(bad / file_of(name)), "--csv", str(tmp_path / "points.csv")]
    assert command.main([*arguments, "--task", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines[-2:]] == [["4", "4"], ["3", "3"]]
    rows = (tmp_path / "points.csv").read_text("utf-8").splitlines()
    assert rows == ["name,task 1,total", f"{good},4,4", f"{bad / file_of(name)},3,3"]
    assert {path.name for path in tmp_path.rglob("*")} == {"ada", "bob", "gradients.py", "points.csv"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set_7"], "there is no problem set set_7; there are set_1_gradients, set_2_layers"),
        (["set_1_gradients", "no_such_folder"], "no_such_folder: there is no such folder"),
        (["set_1_gradients", "--task", "9"], "has the tasks 1 to 5, got 9"),
    ],
)
def test_what_cannot_be_graded(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_pytest_prints_points_too(tmp_path: Path) -> None:
    shutil.copytree(KIT, tmp_path / "kit", ignore=shutil.ignore_patterns("solutions", "__pycache__"))
    shutil.copy(KIT / "solutions" / "set_1_gradients" / "gradients.py", tmp_path / "kit" / "set_1_gradients")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "kit/set_1_gradients"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "total: 20 of 20 points" in run.stdout, run.stdout + run.stderr
    assert run.returncode == 0
