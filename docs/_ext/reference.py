"""The reference: a page for each module that docs/reference/index.md lists, and the table of all layers.

An entry ``Title <api/funcnn.nn.dense>`` there asks for a page. What is public is what a module has in ``__all__``; a
name is shown as users import it, by the first of `HOMES` that has it, on the page of the module that defines it.
"""

import importlib
import inspect
import textwrap
from pathlib import Path
from typing import Any

from docstrings import as_rst
from docutils import nodes
from layer_table import table
from names import ROOT, Name, definition, entries, is_documented, links, public_names
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def page_text(module: str, title: str, names: list[Name], known: dict[str, str]) -> str:
    """A module's page."""
    said = inspect.getdoc(importlib.import_module(module)) or ""
    path = Path(importlib.import_module(module).__file__ or "").relative_to(ROOT).as_posix()
    parts = [
        title,
        "=" * len(title),
        "",
        as_rst(said, known),
        f"Source: `{path} <source:{path}>`__",
        "",
    ]
    for each in names:
        if is_documented(each.value):
            kind, options = ("class", "   :members:") if inspect.isclass(each.value) else ("function", "")
            parts += [f".. auto{kind}:: {each.path}", options, ""]
        else:  # a type, or a constant
            source = textwrap.indent(definition(each.home, each.name)[1], " " * 6)
            data = [f".. py:data:: {each.name}", f"   :module: {each.home}"]
            parts += [*data, "", "   .. code-block:: python", "", source, ""]
    return "\n".join(parts)


def write_pages(app: Sphinx) -> None:
    """Write the pages that have changed, and delete those that nothing asks for any more."""
    pages = entries()
    names = public_names(list(pages))
    app.public_names = known = links(names)  # type: ignore[attr-defined]
    folder = Path(app.srcdir, "reference", "api")
    folder.mkdir(exist_ok=True)
    for module, title in pages.items():
        text = page_text(module, title, [each for each in names if each.page == module], known)
        file = folder / f"{module}.rst"
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")
    for file in folder.glob("*.rst"):
        if file.stem not in pages:
            file.unlink()


class LayerTable(SphinxDirective):
    """``{layer-table}``: what each layer, or combinator, needs and costs."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = table(self.arguments[0], self.env.app.public_names)  # type: ignore[attr-defined]
        return self.parse_text_to_nodes("\n".join(lines))


def find_type(app: Sphinx, env: Any, node: nodes.Element, content: nodes.Element) -> nodes.Node | None:
    """A type in a signature: a link if it is public, and else its name; one that does not exist is warned of."""
    if node.get("refdomain") != "py" or node["reftype"] not in ("class", "exc", "data"):
        return None
    target = node["reftarget"]
    path = app.public_names.get(target)  # type: ignore[attr-defined]
    if path is not None and path != target:
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", path, node, content)
    if not target.startswith("funcnn."):  # as a source has it, which the type checker has seen
        return content
    module, _, name = target.rpartition(".")
    try:
        return content if hasattr(importlib.import_module(module), name) else None
    except ModuleNotFoundError:
        return None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", lambda app, config: write_pages(app))
    app.connect("missing-reference", find_type)
    app.add_directive("layer-table", LayerTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
