"""What is done and checked when all pages are written: MathJax, the front page, and every link inside the site."""

import importlib.util
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Of MathJax: TeX in, HTML out, and the fonts for it.
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


def copy_mathjax(out: Path) -> None:
    """Put what the pages need of MathJax beside them, so that they ask no other host."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ModuleNotFoundError('the site needs sphinx-mathjax-offline: pip install ".[docs]"')
    source = Path(package.origin).parent / "static" / "mathjax"
    for name in MATHJAX:
        target = out / "_static" / "mathjax" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, dirs_exist_ok=True)
        else:
            shutil.copy(source / name, target)


class Page(HTMLParser):
    """The addresses that a page asks for, and the places in it that others may lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []  # what for, address
        self.places: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.asked.append((tag, value))
            elif name == "id" and value is not None:
                self.places.add(value)


def check_links(out: Path) -> None:
    """Warn of every link inside the site that leads nowhere, and of whatever a page would load from outside."""
    pages = {path: Page(path) for path in sorted(out.rglob("*.html"))}
    for path, page in pages.items():
        for tag, address in page.asked:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if tag != "a" and parts.scheme not in ("data",):
                    logger.warning("%s loads %s from outside", path.relative_to(out), address)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.exists():
                logger.warning("%s links to %s, which is not there", path.relative_to(out), address)
            elif place and target in pages and place not in pages[target].places:
                logger.warning("%s links to %s, where that place is not", path.relative_to(out), address)


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    copy_mathjax(out)
    shutil.copy(out / f"{app.config.root_doc}.html", out / "index.html")
    check_links(out)


def setup(app: Sphinx) -> dict[str, Any]:
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.config.mathjax3_config = {"options": {"enableMenu": False}}
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
