"""Our docstrings as reStructuredText: plain text with `names`, ``code``, indented formulas, and doctests.

A name in backticks becomes a link where it is one public name; a block that is indented becomes code; whatever else
would mean something in reStructuredText is escaped. After the text stands the way to the derivation, if there is one.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import attrs
from names import ROOT, definition
from sphinx.application import Sphinx

CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
ITEM = re.compile(r"(?:[*-]|\d+\.) ")
SETTING = re.compile(r"^([a-z_]+(?:, [a-z_]+)*): ")  # what a class is made with, a line each
HEADING = re.compile(r"^(#{2,3}) (.*)$")


def as_rst(text: str, names: dict[str, str]) -> str:
    """A docstring's text as reStructuredText; `names` has what a name in backticks leads to."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(block_as_rst(block, names) for block in blocks if block.strip()) + "\n"


def block_as_rst(block: str, names: dict[str, str]) -> str:
    """What stands between two empty lines."""
    lines = block.splitlines()
    if lines[0].lstrip().startswith(">>>"):
        return textwrap.dedent(block)
    if all(line.startswith("    ") for line in lines):
        language = "python" if is_python(textwrap.dedent(block)) else "text"
        return f".. code-block:: {language}\n\n{textwrap.indent(textwrap.dedent(block), '   ')}"
    if all(SETTING.match(line) or line.startswith("    ") for line in lines) and len(lines) > 1:
        lines = [SETTING.sub(r"* ``\1``: ", line) for line in lines]
    if ITEM.match(lines[0]):
        starts = [at for at, line in enumerate(lines) if ITEM.match(line)]
        items = ["\n".join(lines[a:b]) for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
        return "\n".join(item_as_rst(item, names) for item in items)
    return inline_as_rst(block, names)


def item_as_rst(item: str, names: dict[str, str]) -> str:
    """One item of a list, its further lines below its first."""
    mark = ITEM.match(item)
    assert mark
    mark = mark[0]
    text = inline_as_rst(" ".join(item[len(mark) :].split()), names)
    return mark + text


def inline_as_rst(text: str, names: dict[str, str]) -> str:
    """A paragraph: code, links, and all else escaped."""
    parts, end = [], 0
    for found in CODE.finditer(text):
        parts.append(escaped(text[end : found.start()]))
        code = " ".join((found[1] or found[2]).split())
        before, after = text[: found.start()][-1:], text[found.end() :][:1]
        target = names.get(code.removesuffix("()")) if found[1] is None else None
        role = f":py:obj:`{code} <{target}>`" if target else f"``{code}``"
        parts.append(("\\ " if before.strip() else "") + role + ("\\ " if after.strip() else ""))
        end = found.end()
    made = "".join([*parts, escaped(text[end:])])
    # What begins a paragraph as a list, a field or a directive would.
    return re.sub(r"^(\.\.|:|[+-] |\w\. |\d+\. )", r"\\\1", made) if not CODE.match(text) else made


def escaped(text: str) -> str:
    return re.sub(r"([\\*|`_])", r"\\\1", text)


def is_python(text: str) -> bool:
    """Whether a block is a program rather than a formula."""
    try:
        parsed = ast.parse(text)
    except SyntaxError:
        return False
    return text.isascii() and any(isinstance(part, (ast.Call, ast.FunctionDef)) for part in ast.walk(parsed))


# --- The way to the mathematics -------------------------------------------------------------------------------


def derivations() -> dict[str, tuple[str, str]]:
    """For each function that docs/mathematics.md names, the heading of the section that names it first, and its anchor.

    A name that begins a paragraph or an item in bold or code counts before one in passing.
    """
    found: dict[str, tuple[int, str]] = {}
    heading = ""
    for line in prose(ROOT / "docs" / "mathematics.md").splitlines():
        if match := HEADING.match(line):
            heading = match[2]
        elif heading:
            for at, name in enumerate(re.findall(r"`(\w+)(?=[(`])", line)):
                weight = 0 if at == 0 and re.match(rf"[|*\s-]*`{name}\b", line) else 1
                if name not in found or weight < found[name][0]:
                    found[name] = (weight, heading)
            for name in re.findall(r"\w+", heading.lower()):
                found.setdefault(name, (0, heading))
    return {name: (heading, slug(heading)) for name, (_, heading) in found.items()}


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# --- Sphinx ---------------------------------------------------------------------------------------------------


def process(app: Sphinx, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    own = parameters(target)
    known = {name: path for name, path in app.public_names.items() if name not in own}  # type: ignore[attr-defined]
    text = as_rst("\n".join(lines), known)
    short = name.rpartition(".")[2]
    derivation = app.derivations.get(short)  # type: ignore[attr-defined]
    if what == "function" and derivation and name.split(".")[1] in WITH_DERIVATIONS:
        heading, anchor = derivation
        text += f"\nDerivation: `{heading} <page:mathematics#{anchor}>`__\n"
    lines[:] = text.splitlines()


def parameters(target: Any) -> set[str]:
    """The names of what a function or class is given: in its text they mean that."""
    try:
        return set(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return set()


WITH_DERIVATIONS = {"layers", "compose", "losses", "optimizers", "schedules", "init"}


def signature_as_written(
    app: Sphinx, what: str, name: str, target: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str] | None:
    """A signature as its source has it: there a type has its name, and a default is a call."""
    function = target
    if inspect.isclass(target):
        function = vars(target).get("__init__")
        if attrs.has(target) and (function is None or is_generated(function)):
            return fields_as_written(target), ""
    elif inspect.isroutine(target):
        function = inspect.unwrap(getattr(target, "__func__", target))  # that of a class method
    if not inspect.isfunction(function) or is_generated(function) or not function.__module__.startswith("funcnn"):
        return None
    (written,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(written, ast.FunctionDef)
    is_static = any(ast.unparse(each) == "staticmethod" for each in written.decorator_list)
    if what in ("method", "class") and not is_static:
        del (written.args.posonlyargs or written.args.args)[0]
    result = written.returns if what != "class" else None
    return f"({unquoted(ast.unparse(written.args))})", unquoted(ast.unparse(result)) if result else ""


def fields_as_written(record: type) -> str:
    """What a class of attrs is made with."""
    types: dict[str, str] = {}
    for each in reversed(record.__mro__):
        if each.__module__.startswith("funcnn"):
            (written,) = ast.parse(definition(each.__module__, each.__name__)[1]).body
            assert isinstance(written, ast.ClassDef)
            fields = [part for part in written.body if isinstance(part, ast.AnnAssign)]
            types |= {ast.unparse(part.target): ast.unparse(part.annotation) for part in fields}
    shown = []
    for field in attrs.fields(record):
        if not field.init:
            continue
        default = "" if field.default is attrs.NOTHING else f" = {default_of(field.default)}"
        if field.kw_only and "*" not in shown:
            shown.append("*")
        shown.append(f"{field.alias}: {unquoted(types.get(field.name, 'Any'))}{default}")
    return f"({', '.join(shown)})"


def default_of(value: Any) -> str:
    """A default, or dots for one that is made anew."""
    return "..." if isinstance(value, attrs.Factory) or "<" in repr(value) else repr(value)


def is_generated(function: Any) -> bool:
    return str(function.__code__.co_filename).startswith("<")


def unquoted(types: str) -> str:
    """Types without the quotes of those that are defined further down."""
    return re.sub(r"(?<=: )['\"]([\w.| \[\]]+)['\"]|^['\"](.+)['\"]$", r"\1\2", types)


def skip(app: Sphinx, what: str, name: str, target: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what has no text of its own: the fields of records, and what attrs adds."""
    text = getattr(target, "__doc__", None) or ""
    if re.fullmatch(r"set_\w+_request", name):  # scikit-learn's
        return True
    if text.startswith(("Alias for field number", "Method generated by attrs")):
        return True
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    def begin(app: Sphinx) -> None:
        app.derivations = derivations()  # type: ignore[attr-defined]

    app.connect("builder-inited", begin)
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature_as_written)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
