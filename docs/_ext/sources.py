"""Pages of the project's sources, and links to them.

A Markdown link to a file or folder outside the pages, as ``[train.py](../funcnn/train.py#make_step)``, becomes
``source:funcnn/train.py#make_step`` when its page is read, and when the page is written the address of a page of
highlighted source, at the line where that name is defined. So the same link works in an editor and in the site.
"""

import ast
import html
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from markdown_it import MarkdownIt
from names import ROOT, definition, names_in
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer, TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.application import Sphinx
from sphinx.util import logging

FOLDERS = ("funcnn", "experiments", "benchmarks", "tests", "teaching", "docs")
FILES = ("Makefile", "pyproject.toml", "Dockerfile", "LICENSE", "MANIFEST.in")
SUFFIXES = {".py", ".md", ".toml", ".js", ".css", ".html", ".json", ".txt", ".ipynb"}
HIDDEN = re.compile(r"__pycache__|\.ipynb_checkpoints|^docs/pictures/")  # the last is made by the build
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,}).*?^\1\2[ \t]*$", re.DOTALL | re.MULTILINE)

logger = logging.getLogger(__name__)


# --- What there is --------------------------------------------------------------------------------------------


def source_files() -> list[str]:
    """The files that have a page, as paths from the root of the project; documents in docs/ are pages already."""
    found = [name for name in FILES if (ROOT / name).is_file()]
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            suffixes = {".py", ".ipynb"} if folder == "docs" else SUFFIXES
            if path.suffix in suffixes and path.is_file() and not HIDDEN.search(name):
                found.append(name)
    return found


# --- Links ----------------------------------------------------------------------------------------------------


def rewrite_links(text: str, origin: Path, docname: str, pages: dict[Path, str]) -> str:
    """The text of a page with the relative links of its file `origin` leading to pages, or to ``source:``."""

    def new(link: re.Match[str]) -> str:
        target = (origin.parent / link[1]).resolve()
        anchor = link[2] or ""
        if not target.exists() or not target.is_relative_to(ROOT):
            return link[0]  # Sphinx warns of it
        if target in pages:
            suffix = ".md" if target.suffix == ".md" else ".rst"
            return os.path.relpath(pages[target] + suffix, os.path.dirname(docname) or ".") + anchor
        if target.suffix in {".png", ".svg", ".gif"}:
            return os.path.relpath(target, (ROOT / "docs" / docname).parent)
        return f"source:{target.relative_to(ROOT).as_posix()}{anchor}"

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(new, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(new, text[end:])])


def page_of(path: str) -> str:
    """The name of the page of a file or folder."""
    return f"source/{path}/index" if (ROOT / path).is_dir() else f"source/{path}"


def resolve_links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn ``source:`` into addresses."""
    known = app.source_pages  # type: ignore[attr-defined]
    for reference in doctree.findall(nodes.reference):
        uri = reference.get("refuri", "")
        if not uri.startswith("source:"):
            continue
        path, _, anchor = uri.removeprefix("source:").partition("#")
        page = page_of(path.rstrip("/"))
        if page not in known:
            logger.warning("no page of %s", path, location=reference)
        reference["refuri"] = app.builder.get_relative_uri(docname, page) + (f"#{anchor}" if anchor else "")
        reference["internal"] = True


def linkcode_resolve(domain: str, info: dict[str, str]) -> str:
    """The ``source:`` of a documented name, a method's where its class is defined or, if it is inherited, its base."""
    home, name = info["module"], info["fullname"]
    first, _, member = name.partition(".")
    if member:
        inherited = getattr(getattr(importlib.import_module(home), first), member)
        inherited = getattr(inherited, "fget", inherited)
        home, name = inherited.__module__, inherited.__qualname__
    else:
        home = definition(home, name)[0]
    path = Path(importlib.import_module(home).__file__ or "").relative_to(ROOT).as_posix()
    return f"source:{path}#{name}"


# --- Pages ----------------------------------------------------------------------------------------------------


def collect_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page of each file, and one of each folder."""
    files = source_files()
    folders: dict[str, list[str]] = {}
    for path in files:
        body = notebook(app, path) if path.endswith(".ipynb") else listing(path)
        yield page_of(path), {"title": path, "body": trail(path) + body}, "page.html"
        while path:
            folder = os.path.dirname(path)
            folders.setdefault(folder, [])
            if path not in folders[folder]:
                folders[folder].append(path)
            path = folder
    for folder, inside in folders.items():
        title = folder or "Sources"
        page = page_of(folder) if folder else "source/index"
        yield page, {"title": title, "body": trail(folder) + contents(inside)}, "page.html"


def trail(path: str) -> str:
    """The headline of a page: its path, each folder a link."""
    parts = path.split("/") if path else []
    ups = len(parts) - (not (ROOT / path).is_dir())
    links = [f'<a href="{"../" * ups}index.html">sources</a>'] if path else ["sources"]
    for depth, part in enumerate(parts, 1):
        last = depth == len(parts)
        links.append(html.escape(part) if last else f'<a href="{"../" * (ups - depth)}index.html">{part}</a>')
    return f'<h1 class="source-path">{" / ".join(links)}</h1>'


def contents(paths: list[str]) -> str:
    """A table of a folder's files and folders, with the first line of what each says of itself."""
    rows = []
    for path in sorted(paths, key=lambda each: (not (ROOT / each).is_dir(), each)):
        name = os.path.basename(path)
        href = f"{name}/index.html" if (ROOT / path).is_dir() else f"{name}.html"
        rows.append(f'<tr><td><a href="{href}">{name}</a></td><td>{html.escape(summary(path))}</td></tr>')
    return f'<table class="docutils source-contents">{"".join(rows)}</table>'


def summary(path: str) -> str:
    """The first line of the docstring of a module or package."""
    file = ROOT / path / "__init__.py" if (ROOT / path).is_dir() else ROOT / path
    if file.suffix != ".py" or not file.is_file():
        return ""
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").split("\n")[0]


def listing(path: str) -> str:
    """A file, highlighted, with an anchor at each line and at each name that is defined."""
    text = (ROOT / path).read_text("utf-8")
    try:
        lexer = get_lexer_for_filename(path, stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
    shown = highlight(text, lexer, HtmlFormatter(linespans="L", wrapcode=True))
    if path.endswith(".py"):
        for name, line in names_in(text).items():
            start = f'<span id="L-{line}">'
            shown = shown.replace(start, f'<span class="name" id="{name}"></span>{start}', 1)
    return f'<div class="source">{shown}</div>'


def notebook(app: Sphinx, path: str) -> str:
    """The cells of a notebook, without outputs, and the way to the file."""

    def new(link: re.Match[str]) -> str:
        target = (ROOT / path).parent.joinpath(link[1]).resolve()
        page = app.markdown_pages.get(target)  # type: ignore[attr-defined]
        page = page or page_of(target.relative_to(ROOT).as_posix())
        return os.path.relpath(f"{page}.html", os.path.dirname(page_of(path))) + (link[2] or "")

    parts = [f'<p><a download href="{os.path.basename(path)}">Download {os.path.basename(path)}</a></p>']
    for cell in json.loads((ROOT / path).read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(MarkdownIt().enable("table").render(LINK.sub(new, source)))
        else:
            parts.append(highlight(source, PythonLexer(), HtmlFormatter()))
    return "".join(parts)


def short_navigation(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Show no more than the names of the sections beside a page of sources: there are hundreds of them."""
    if page.startswith("source/"):
        toctree = context["toctree"]
        context["toctree"] = lambda **options: toctree(**options | {"maxdepth": 1})


def copy_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put each notebook beside its page, to be downloaded."""
    for path in source_files():
        if path.endswith(".ipynb") and exception is None and app.builder.name == "html":
            shutil.copy(ROOT / path, Path(app.outdir, page_of(path)))


def remember_pages(app: Sphinx) -> None:
    files = source_files()
    folders = {parent.as_posix() for path in files for parent in Path(path).parents} - {"."}
    app.source_pages = {page_of(path) for path in [*files, *folders]} | {"source/index"}  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, Any]:
    app.config.linkcode_resolve = linkcode_resolve
    app.connect("builder-inited", remember_pages)
    app.connect("doctree-resolved", resolve_links)
    app.connect("html-page-context", short_navigation, priority=400)  # before the theme's
    app.connect("build-finished", copy_notebooks)
    app.connect("html-collect-pages", collect_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
