"""The public names of the library: what each module has in ``__all__``, by the module from which users import it.

docs/reference/index.md says which modules have a page: an entry there is ``Title <api/funcnn.nn.dense>``.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from funcnn.layer import Config

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "reference" / "index.md"
ENTRY = re.compile(r"^(.+) <api/([\w.]+)>$", re.MULTILINE)

# From where users import; a name that several of them have belongs to the first.
HOMES = [
    f"funcnn{name}"
    for name in (
        "", ".layers", ".compose", ".losses", ".metrics", ".optimizers", ".schedules", ".init", ".models", ".train",
        ".data", ".model_file", ".checkpoint", ".grad_check", ".sweep", ".sklearn", ".report", ".team", ".trained",
        ".web", ".experiment", ".tree", ".layer", ".checks",
    )
]  # fmt: skip
# Rooms of which nothing but what their index names is public, apart from the records that they give; and those files of
# them that are for parts of one's own, all of which is.
ROOMS = ("funcnn.nn.", "funcnn.losses.", "funcnn.metrics.", "funcnn.optimizers.", "funcnn.schedules.", "funcnn.data.")
WHOLE = ("funcnn.nn.carried", "funcnn.nn.combining", "funcnn.nn.coupled")


class Name(NamedTuple):
    """A public name: from where it is imported, and on which page it stands."""

    home: str
    name: str
    page: str

    @property
    def path(self) -> str:
        return f"{self.home}.{self.name}"

    @property
    def value(self) -> Any:
        return getattr(importlib.import_module(self.home), self.name)


def entries() -> dict[str, str]:
    """The modules that have a page, with its title."""
    return {module: title for title, module in ENTRY.findall(INDEX.read_text("utf-8"))}


def public_names(pages: list[str]) -> list[Name]:
    """Every public name, in the order of its page."""
    found: dict[str, list[Name]] = {page: [] for page in pages}
    seen: set[tuple[str, str]] = set()

    def add(home: str, name: str) -> None:
        defined_in = definition(home, name)[0]
        if (defined_in, name) in seen or name == "__version__":
            return
        page = defined_in if defined_in in found else home
        if page not in found:
            raise LookupError(f"{home}.{name}: neither {defined_in} nor {home} has a page in {INDEX}")
        seen.add((defined_in, name))
        found[page].append(Name(home, name, page))

    for home in HOMES:
        for name in importlib.import_module(home).__all__:
            add(home, name)
    for page in pages:
        for name in importlib.import_module(page).__all__:
            value = getattr(importlib.import_module(page), name)
            record = inspect.isclass(value) and value.__module__ == page and not issubclass(value, Config)
            if page in WHOLE or not page.startswith(ROOMS) or record:
                add(page, name)
    for page, names in found.items():
        lines = names_in(Path(importlib.import_module(page).__file__ or "").read_text("utf-8"))
        order = {name: at for at, name in enumerate(importlib.import_module(page).__all__)}
        names.sort(key=lambda each: (lines.get(each.name, 10**6), order.get(each.name, 0)))
    return [each for names in found.values() for each in names]


def is_documented(value: Any) -> bool:
    """Whether a value has a docstring of its own: a class or a function of the library."""
    return (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__.startswith("funcnn")


def links(names: list[Name]) -> dict[str, str]:
    """What a name in backticks leads to."""
    found: dict[str, str] = {}
    for each in names:
        found.setdefault(each.name, each.path)
        found.setdefault(each.path, each.path)
        if inspect.isclass(each.value):
            for member in vars(each.value):
                if not member.startswith("_") and (getattr(each.value, member).__doc__ or ""):
                    found.setdefault(f"{each.name}.{member}", f"{each.path}.{member}")
    return found


# --- Where a name is defined ----------------------------------------------------------------------------------


def names_in(source: str) -> dict[str, int]:
    """The lines at which the names of a Python file are defined, methods as ``Class.method``."""
    lines: dict[str, int] = {}
    for part in ast.parse(source).body:
        for name, line in defined(part):
            lines.setdefault(name, line)
        if isinstance(part, ast.ClassDef):
            for each in part.body:
                for name, line in defined(each):
                    lines.setdefault(f"{part.name}.{name}", line)
    return lines


def defined(part: ast.stmt) -> Iterator[tuple[str, int]]:
    """The names that a statement defines, with its line."""
    if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield part.name, part.lineno
    elif isinstance(part, (ast.Assign, ast.AnnAssign)):
        for target in part.targets if isinstance(part, ast.Assign) else [part.target]:
            if isinstance(target, ast.Name):
                yield target.id, part.lineno


def definition(module: str, name: str) -> tuple[str, str]:
    """The module that defines a name which `module` has, and the source of its definition."""
    source = Path(importlib.import_module(module).__file__ or "").read_text("utf-8")
    for part in ast.parse(source).body:
        if any(each == name for each, _ in defined(part)):
            return module, ast.get_source_segment(source, part) or ""
        if isinstance(part, ast.ImportFrom) and part.module:
            for alias in part.names:
                if (alias.asname or alias.name) == name:
                    return definition(part.module, alias.name)
    raise LookupError(f"{module} does not define {name}")
