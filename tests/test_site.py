"""The pages to learn from, docs/learn/*.md: every Python block is run as it stands, and its outputs are compared.

A block is a doctest session, if it begins with ``>>> ``, or plain code. The blocks of a page run in order in one
namespace, in a folder of their own, solutions of exercises among them. One page alone:
``pytest tests/test_site.py -k 03_one``.
"""

import doctest
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from funcnn.arrays import threads
from funcnn.system import devices

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "learn").glob("[0-9][0-9]_*.md"))
BUILT_BY_SOLUTIONS = {"04_write_a_layer"}  # pages whose code needs what the reader wrote in the exercises
RUN_TOO = [ROOT / "docs" / name for name in ("contents.md", "tour.md")]  # pages with code and no exercises
every_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


class PageError(Exception):
    """What is wrong with a page, and in which line."""


# --- Reading a page -------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """The Python of a fenced block: the number of its first line, and whether it belongs to a solution."""

    line: int
    code: str
    in_solution: bool

    @property
    def is_session(self) -> bool:
        return self.code.lstrip().startswith(">>> ")


class Content(NamedTuple):
    """A page's Python blocks, and the numbers of the lines where solutions begin."""

    blocks: list[Block]
    solutions: list[int]


def read_page(text: str) -> Content:
    """The blocks and solutions of a page; raises PageError for a fence or a dropdown that does not end."""
    blocks: list[Block] = []
    solutions: list[int] = []
    open_colons: list[tuple[str, int, bool]] = []  # fence, line, whether it is a solution
    fence, language, first = "", "", 0
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(`{3,}|~{3,}|:{3,})(.*)$", line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                if language == "python":
                    code = textwrap.dedent("\n".join(lines)) + "\n"
                    blocks.append(Block(first, code, any(solution for _, _, solution in open_colons)))
                fence = ""
            else:
                lines.append(line)
        elif mark and mark[1][0] != ":":
            fence, language, first, lines = mark[1], mark[2].strip(), number + 1, []
        elif mark and mark[2].strip():
            solution = mark[2].strip() == "{dropdown} Solution"
            solutions += [number] if solution else []
            open_colons.append((mark[1], number, solution))
        elif mark:
            if not open_colons or open_colons[-1][0] != mark[1]:
                raise PageError(f"line {number}: {mark[1]} closes nothing")
            open_colons.pop()
    if fence:
        raise PageError(f"line {first - 1}: the fence {fence}{language} is not closed")
    if open_colons:
        raise PageError(f"line {open_colons[-1][1]}: {open_colons[-1][0]} is not closed")
    return Content(blocks, solutions)


# --- Running it -----------------------------------------------------------------------------------------------


class Ran(NamedTuple):
    """What of a page was run: blocks, those of solutions among them, and the outputs that were compared."""

    blocks: int
    in_solutions: int
    outputs: int


def run_page(text: str, name: str, *, skips: bool = True) -> Ran:
    """Run a page's blocks in order in one namespace; raises what they raise, and PageError for a wrong output.

    What solutions define is for solutions alone, since a reader may skip them; unless `skips` is False.
    """
    blocks = read_page(text).blocks
    if not blocks:
        raise PageError(f"{name} has no Python block")
    module = ModuleType("page")  # one that pickle finds, as it finds a user's own
    sys.modules["page"] = module
    names, of_text, of_solutions = vars(module), {}, {}
    in_solution, outputs = False, 0
    try:
        for block in blocks:
            if skips and block.in_solution and not in_solution:
                of_text = dict(names)
                names.update({key: value for key, value in of_solutions.items() if key not in names})
            elif skips and in_solution and not block.in_solution:
                of_solutions = {key: value for key, value in names.items() if of_text.get(key, names) is not value}
                names.clear()
                names.update(of_text)
            in_solution = block.in_solution
            if block.is_session:
                outputs += run_session(block, vars(module), name)
            elif re.search(r"^\s*>>> ", block.code, re.MULTILINE):
                raise PageError(f"{name}, line {block.line}: the block has >>> but does not begin with it")
            else:  # line numbers in a traceback are the page's
                exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), vars(module))
    finally:
        del sys.modules["page"]
    return Ran(len(blocks), sum(block.in_solution for block in blocks), outputs)


def run_session(block: Block, namespace: dict[str, Any], name: str) -> int:
    """Run a doctest session in a namespace, which it adds to; the number of examples in it."""
    test = doctest.DocTestParser().get_doctest(block.code, {}, name, name, block.line - 1)
    test.globs = namespace
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    results = runner.run(test, out=said.append, clear_globs=False)
    if results.failed:
        raise PageError("".join(said))
    return results.attempted


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own, no windows, and the process's settings as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(devices, "_MODULES", {})  # a page may make a device up
    monkeypatch.setattr(devices, "_CLASSES", {})
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].switch_backend("Agg")
    used = threads.threads()
    with np.printoptions():
        yield
    threads.set_threads(used)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


# --- The pages ------------------------------------------------------------------------------------------------


@every_page
@pytest.mark.usefixtures("alone")
def test_every_block_runs(page: Path) -> None:
    text = page.read_text("utf-8")
    ran = run_page(text, page.name, skips=page.stem not in BUILT_BY_SOLUTIONS)
    assert ran.blocks == len(re.findall(r"^\s*```python$", text, re.MULTILINE)) > 0
    assert ran.outputs > 0, "a page shows what its code gives: begin a block with >>>"


@pytest.mark.parametrize("stem", BUILT_BY_SOLUTIONS)
@pytest.mark.usefixtures("alone")
def test_a_page_that_solutions_build_cannot_do_without(stem: str) -> None:
    page = next(page for page in PAGES if page.stem == stem)
    with pytest.raises((PageError, NameError)):
        run_page(page.read_text("utf-8"), page.name)


@pytest.mark.parametrize("page", RUN_TOO, ids=[page.stem for page in RUN_TOO])
@pytest.mark.usefixtures("alone")
def test_other_pages_run(page: Path) -> None:
    assert run_page(page.read_text("utf-8"), page.name).blocks > 0


@every_page
def test_every_exercise_has_a_solution(page: Path) -> None:
    text = page.read_text("utf-8")
    lines = text.splitlines()
    exercises = [number for number, line in enumerate(lines, 1) if re.match(r"#+ Exercise", line)]
    titles = [lines[number - 1] for number in exercises]
    assert [re.match(r"### Exercise (\d+): \S", title) and title.split()[2] for title in titles] == [
        f"{count}:" for count in range(1, len(titles) + 1)
    ]
    solutions = read_page(text).solutions
    ends = [*exercises[1:], len(lines) + 1]
    without = [
        title
        for title, first, last in zip(titles, exercises, ends, strict=True)
        if not any(first < solution < last for solution in solutions)
    ]
    assert without == []
    assert exercises, "a page has exercises"


@every_page
def test_a_page_says_what_it_takes_and_what_comes_next(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.search(r"^\*Takes \d+ minutes to read; its code runs in \d+ s and \d+ MB\.\*$", text, re.MULTILINE)
    assert re.search(r"^## What to read next$", text, re.MULTILINE)
    assert re.match(r"# \S", text), "the first line is the title"


# --- The runner -----------------------------------------------------------------------------------------------

PAGE = """# A page

```python
import numpy as np
x = np.arange(3)
```

It is shown, not run:

```text
>>> x
```

```python
>>> int(x.sum())
3
>>> 1 / 3
0.333...
```

### Exercise 1: twice

:::{dropdown} Solution
```python
>>> (2 * x).tolist()
[0, 2, 4]
```
:::
"""


@pytest.mark.usefixtures("alone")
def test_a_page_that_is_right_runs() -> None:
    assert run_page(PAGE, "page.md") == Ran(blocks=3, in_solutions=1, outputs=3)
    assert "page" not in sys.modules


@pytest.mark.usefixtures("alone")
def test_what_a_solution_defines_is_for_solutions_alone() -> None:
    solution = ":::{dropdown} Solution\n```python\n%s\n```\n:::\n"
    one, other = solution % "y = 2 * x\nx = None", solution % ">>> y.tolist(), x.tolist()\n([0, 2, 4], [0, 1, 2])"
    text = "```python\n>>> x.tolist()\n[0, 1, 2]\n```\n"
    run_page(PAGE + one + text + other, "page.md")
    with pytest.raises(PageError, match="name 'y' is not defined"):
        run_page(PAGE + one + "```python\n>>> y\n```\n", "page.md")
    run_page(PAGE + one + "```python\n>>> y.tolist()\n[0, 2, 4]\n```\n", "page.md", skips=False)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ("\n3\n", "\n4\n", "line 15.*Expected:\n *4\nGot:\n *3"),
        ("[0, 2, 4]", "[0, 2, 5]", r"line 25.*Got:\n *\[0, 2, 4\]"),  # in a solution
        (">>> int(x.sum())", "total = int(x.sum())\n>>> total", "line 15: the block has >>> but does not begin"),
        ("0.333...", "0.334...", "line 17"),
    ],
)
def test_a_wrong_output_fails(right: str, wrong: str, error: str) -> None:
    with pytest.raises(PageError, match=f"(?s){error}"):
        run_page(PAGE.replace(right, wrong), "page.md")


@pytest.mark.usefixtures("alone")
def test_code_that_raises_or_warns_fails() -> None:
    with pytest.raises(NameError, match="y"):
        run_page(PAGE.replace("x = np.arange(3)", "x = y"), "page.md")
    with pytest.raises(RuntimeWarning, match="divide by zero"):
        run_page(PAGE.replace("x = np.arange(3)", "x = np.ones(1) / np.zeros(1)"), "page.md")
    with pytest.raises(PageError, match="RuntimeWarning: divide by zero"):
        run_page(PAGE.replace(">>> int(x.sum())\n3", ">>> (x / np.zeros(3)).sum()\nnan"), "page.md")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("# A page\n\n```text\n>>> 1\n```\n", "page.md has no Python block"),
        (PAGE.replace("[0, 2, 4]\n```", "[0, 2, 4]"), "line 24: the fence ```python is not closed"),
        (PAGE.removesuffix(":::\n"), "line 23: ::: is not closed"),
        (PAGE + ":::\n", "line 29: ::: closes nothing"),
    ],
    ids=["no block", "open fence", "open dropdown", "closed twice"],
)
def test_a_page_that_is_malformed_fails(text: str, error: str) -> None:
    with pytest.raises(PageError, match=error):
        run_page(text, "page.md")
