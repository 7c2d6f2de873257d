"""The documents that stand beside the folder docs/ as pages, and the relative links of all."""

from pathlib import Path
from typing import Any

from sources import ROOT, rewrite_links
from sphinx.application import Sphinx

# Where each is found in the site; the copies are made at every build.
OUTSIDE = {
    "README.md": "project/readme",
    "CONTRIBUTING.md": "project/contributing",
    "CHANGELOG.md": "project/changelog",
    "funcnn/trained/README.md": "project/trained",
    "funcnn/data/DIGITS.md": "project/digits",
    "teaching/README.md": "project/teaching",
}
NOT_PAGES = {ROOT / "docs" / "index.md"}


def pages() -> dict[Path, str]:
    """The page of every file that is one: Markdown, and the gallery's scripts."""
    docs = ROOT / "docs"
    inside = {
        path: path.relative_to(docs).with_suffix("").as_posix()
        for path in docs.rglob("*.md")
        if path not in NOT_PAGES and not path.is_relative_to(docs / "project")
    }
    gallery = {path: f"pictures/{path.stem}" for path in docs.glob("gallery/plot_*.py")}
    gallery[docs / "gallery" / "GALLERY_HEADER.rst"] = "pictures/index"
    return inside | gallery | {ROOT / name: page for name, page in OUTSIDE.items()}


def copy_documents(app: Sphinx) -> None:
    """Write the copies of documents that stand outside, where they have changed."""
    for name, page in OUTSIDE.items():
        copy = Path(app.srcdir, f"{page}.md")
        text = (ROOT / name).read_text("utf-8")
        if not copy.exists() or copy.read_text("utf-8") != text:
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(text, "utf-8")


def rewrite(app: Sphinx, docname: str, content: list[str]) -> None:
    """Lead a page's relative links to pages."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return
    known = app.markdown_pages  # type: ignore[attr-defined]
    origins = {page: origin for origin, page in known.items()}
    content[0] = rewrite_links(content[0], origins[docname], docname, known)


def remember_pages(app: Sphinx) -> None:
    app.markdown_pages = pages()  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", lambda app, config: copy_documents(app))
    app.connect("builder-inited", remember_pages)
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
