"""docs/mathematics.md against the library: its examples, its completeness, and the links of every document."""

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest

import funcnn
from funcnn import compose, init, layers, losses, optimizers, schedules

ROOT = Path(__file__).parents[1]
MATHEMATICS = ROOT / "docs" / "mathematics.md"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "learn").glob("*.md")),
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
]

# Public functions that are no layer, loss, optimizer, schedule or initialiser: there is nothing to derive.
HELPERS = {
    "check_labels", "make_optimizer", "make_transform", "masked", "update_leaves", "value_at", "zeros_like",
}  # fmt: skip

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def only_python(text: str) -> str:
    """A document with every line outside its Python blocks made empty, so that line numbers stay."""
    lines, language = [], None
    for line in text.splitlines():
        fence = line.startswith("```")
        if fence:
            language = line[3:] if language is None else None
        lines.append(line if language == "python" and not fence else "")
    return "\n".join(lines) + "\n"


def run_examples(text: str, name: str) -> tuple[doctest.TestResults, str]:
    """The results of a document's examples, run in order in one namespace, and what is to be said of failures."""
    test = doctest.DocTestParser().get_doctest(only_python(text), {}, name, name, 0)
    said: list[str] = []
    return doctest.DocTestRunner(verbose=False).run(test, out=said.append), "".join(said)


# --- Examples -------------------------------------------------------------------------------------------------


def test_the_examples_of_mathematics_give_what_they_say() -> None:
    results, said = run_examples(MATHEMATICS.read_text("utf-8"), "mathematics.md")
    assert results.failed == 0, said
    assert results.attempted >= 60


def test_a_wrong_example_would_fail() -> None:
    results, said = run_examples("text\n```python\n>>> 1 + 1\n3\n```\n>>> not in a block\n", "wrong.md")
    assert (results.failed, results.attempted) == (1, 1)
    assert "line 3" in said


# --- Completeness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [layers, compose, losses, init, optimizers, schedules], ids=lambda m: m.__name__)
def test_mathematics_names_everything(module: ModuleType) -> None:
    named = set(re.findall(r"`(\w+)[(`]", prose(MATHEMATICS)))
    functions = {name for name in module.__all__ if name.islower() and callable(getattr(module, name))}
    assert functions - HELPERS
    missing = functions - HELPERS - named
    assert missing == set(), f"write its forward and backward pass in docs/mathematics.md: {', '.join(missing)}"


def test_mathematics_names_no_function_that_is_gone() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in sorted(Path(funcnn.__file__).parent.rglob("*.py")))
    private = set(re.findall(r"`(_\w+)", prose(MATHEMATICS)))
    assert private
    assert {name for name in private if not re.search(rf"^ *(def |class |){name}\b", sources, re.MULTILINE)} == set()


# --- Links ----------------------------------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """The anchors that a document's headings get on GitHub; of a program, the names that it defines."""
    if document.suffix == ".py":
        source = document.read_text("utf-8")
        return set(re.findall(r"^(?:def|class|async def) (\w+)", source, re.MULTILINE))
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_document
def test_relative_links_lead_to_files_and_headings(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose(document))
    missing = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []
