"""docs/learn/13_when_it_goes_wrong.md against the library: no error class and no place that warns is left out.

That its examples give what they say, tests/test_site.py sees.
"""

import ast
import builtins
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

import funcnn

PACKAGE = Path(funcnn.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "learn" / "13_when_it_goes_wrong.md").read_text("utf-8")
BUILT_IN = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)}


# --- What the library has -------------------------------------------------------------------------------------


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module of the library, by its name."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = ast.parse(path.read_text("utf-8"))
    return modules


def said_module(definition: ast.ClassDef) -> str | None:
    """What a class says in its body: ``__module__ = "..."``."""
    for each in definition.body:
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__module__":
            return str(ast.literal_eval(each.value))
    return None


def exceptions(modules: dict[str, ast.Module]) -> dict[str, str]:
    """The classes that are exceptions or warnings, and the modules that define them, or that they say they are of."""
    classes = [
        (each.name, said_module(each) or name, {base.id for base in each.bases if isinstance(base, ast.Name)})
        for name, module in modules.items()
        for each in module.body
        if isinstance(each, ast.ClassDef)
    ]
    found: dict[str, str] = {}
    while True:
        known = BUILT_IN | found.keys()
        more = {name: module for name, module, bases in classes if name not in found and bases & known}
        if not more:
            return found
        found |= more


def warning_modules(modules: dict[str, ast.Module]) -> set[str]:
    """The modules that call ``warnings.warn``."""
    return {
        name
        for name, module in modules.items()
        for each in ast.walk(module)
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "warnings.warn"
    }


# --- What the page has ----------------------------------------------------------------------------------------


def rows_under(page: str, header: str) -> list[list[str]]:
    """The rows of the table with this header."""
    table = re.search(rf"^{re.escape(header)}\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table, f"there is no table {header}"
    return [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in table[1].splitlines()]


def shown(page: str) -> dict[str, str]:
    """The classes of the table, and where the page imports them from."""
    rows = rows_under(page, "| class | import it from | it is about |")
    return {re.sub(r"\[`(\w+)`\]\(#(\w+)\)", r"\1", name): module for name, module, _ in rows}


def inside(page: str) -> set[str]:
    """The classes that, as the page says, never reach a user."""
    paragraph = re.search(r"^Some exceptions stay inside.*?(?=\n\n)", page, re.DOTALL | re.MULTILINE)
    assert paragraph
    return set(re.findall(r"`(\w+)`", paragraph[0])) - set(shown(page)) - {"check_contract"}


def raised(page: str) -> set[str]:
    """The classes whose message stands in an example's output."""
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^(\w+): \S", "\n".join(blocks), re.MULTILINE))


def section(page: str, name: str) -> str:
    """What stands under the heading of a class."""
    found = re.search(rf"^### {name}\n(.*?)(?=^##)", page, re.DOTALL | re.MULTILINE)
    assert found, f"there is no section on {name}"
    return found[1]


def lacking(page: str) -> set[str]:
    """The library's exceptions that a page does not have."""
    return exceptions(trees()).keys() - shown(page).keys() - inside(page)


# --- Both -----------------------------------------------------------------------------------------------------


def test_no_error_class_is_left_out() -> None:
    known = exceptions(trees())
    assert {"LayerError", "ShapeError", "FuncnnWarning", "FolderInUse", "Stopped"} <= known.keys()
    assert lacking(PAGE) == set(), "write an example, its cause and its cure in docs/learn/13_when_it_goes_wrong.md"
    assert (shown(PAGE).keys() | inside(PAGE)) - known.keys() == set(), "it is gone from the library"
    assert shown(PAGE).keys() & inside(PAGE) == set()


@pytest.mark.parametrize("name", shown(PAGE))
def test_each_has_an_example_its_message_and_a_cure(name: str) -> None:
    text = section(PAGE, name)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert name in raised(text)
    examples = re.findall(r"^(?:>>> .*\n(?:\.\.\. .*\n)*)", "".join(blocks), re.MULTILINE)
    assert [each for each in examples if "told()" not in each and "import" not in each], "a cure is code, too"
    imported = getattr(importlib.import_module(shown(PAGE)[name]), name)
    assert imported.__module__ == exceptions(trees())[name]


def test_every_place_that_warns_is_in_the_table() -> None:
    warn = warning_modules(trees())
    assert "funcnn.problem" in warn
    assert {row[0] for row in rows_under(PAGE, "| module | warns of | cure |")} == warn


def test_a_page_without_a_class_would_fail() -> None:
    assert lacking(PAGE.replace("| [`TeamError`](#teamerror) |", "| `Team` |")) == {"TeamError"}
    assert lacking(PAGE.replace("`Stopped`", "it")) == {"Stopped"}
    made = ast.parse(
        "class NewError(LayerError):\n    pass\n\nclass Other(NewError):\n    pass\n\nclass Plain:\n    pass"
    )
    assert exceptions({**trees(), "new": made}).keys() - exceptions(trees()).keys() == {"NewError", "Other"}
    assert "TeamError" not in raised(section(PAGE, "SweepError"))


# --- The list of what to look at ------------------------------------------------------------------------------


def test_every_class_and_every_step_of_the_checklist_leads_to_its_section() -> None:
    listed = re.findall(r"\]\(#([\w-]+)\)", PAGE)
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(listed) >= 8 + len(shown(PAGE))
    assert set(listed) - set(anchors) == set()
