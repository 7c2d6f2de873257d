"""The reference that the site is built from: every public name is in it, and its docstring has all parts."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs" / "_ext"))  # where the site keeps what makes its pages

import layer_table  # noqa: E402
import names  # noqa: E402

PAGES = names.entries()
PUBLIC = names.public_names(list(PAGES))
DOCUMENTED = [each for each in PUBLIC if names.is_documented(each.value)]
FUNCTIONS = [each for each in DOCUMENTED if inspect.isroutine(each.value)]


def text_of(name: names.Name) -> str:
    return inspect.getdoc(name.value) or ""


def without_examples(text: str) -> str:
    return re.sub(r"^>>> .*?(\n\n|\Z)", "", text, flags=re.DOTALL | re.MULTILINE)


# --- What is in it --------------------------------------------------------------------------------------------

IMPORTED = re.compile(r"^\s*(?:>>> |\.\.\. )?from (funcnn[\w.]*) import (\([^)]*\)|[^\n(]+)", re.MULTILINE)


def test_what_documents_and_experiments_import_is_in_the_reference() -> None:
    public = {(each.name, id(each.value)) for each in PUBLIC}
    docs = ROOT / "docs"
    users = [ROOT / "README.md", *docs.glob("*.md"), *docs.glob("learn/*.md"), *docs.glob("gallery/*.py")]
    users += (ROOT / "experiments").glob("*.py")
    missing = set()
    for user in users:
        for module, imported in IMPORTED.findall(user.read_text("utf-8")):
            if module.startswith("funcnn.arrays") and not module.endswith("threads"):
                continue  # arithmetic, which some pages take apart and no user needs
            for name in re.findall(r"(?<!as )\b(?!as\b)\w+", re.sub(r"#.*", "", imported)):
                value = value_of(module, name)
                if not isinstance(value, ModuleType) and (name, id(value)) not in public:
                    missing.add(f"{module}.{name} ({user.name})")
    assert missing == set(), "give its module an entry in docs/reference/index.md"
    assert len(PUBLIC) > 500


def value_of(module: str, name: str) -> Any:
    """What an import gives: an attribute, or a module."""
    home = importlib.import_module(module)
    return getattr(home, name) if hasattr(home, name) else importlib.import_module(f"{module}.{name}")


def test_a_name_stands_on_one_page() -> None:
    paths = [each.path for each in PUBLIC]
    assert len(set(paths)) == len(paths)
    assert {each.page for each in PUBLIC} == set(PAGES)  # no page is empty


# --- What a docstring has -------------------------------------------------------------------------------------


def test_every_docstring_begins_with_a_sentence() -> None:
    firsts = {each.path: text_of(each).split("\n\n")[0] for each in DOCUMENTED}
    assert {
        path: text for path, text in firsts.items() if not re.search(r"[A-Za-z0-9(`].*[.:,)]$", text, re.DOTALL)
    } == {}


# Building blocks for parts of one's own: docs/extending.md writes such parts with them, and its examples are run. Whole
# programs, and what needs other processes. Records that functions give have none of their own either.
WITHOUT_EXAMPLES = (
    "funcnn.checks", "funcnn.settings", "funcnn.nn.combining", "funcnn.nn.coupled", "funcnn.experiment", "funcnn.web",
    "funcnn.layer", "funcnn.team.mpi", "funcnn.system.files", "funcnn.report.figures", "funcnn.report.charts",
    "funcnn.system.devices",
)  # fmt: skip
SHOWN_BY = {
    "funcnn.model_file.save_trained": "load_trained",
    "funcnn.model_file.logits_of": "probabilities",
    "funcnn.checkpoint.save": "load",
    "funcnn.report.read_history": "write_history",
}
IN_DOCUMENTS = {  # what trains or waits while it is shown
    "funcnn.report.row_of": "docs/trackers.md",
    "funcnn.sweep.halving": "docs/sweeps.md",
}


def test_every_function_shows_an_example() -> None:
    missing = [
        each.path
        for each in FUNCTIONS
        if not each.page.startswith(WITHOUT_EXAMPLES)
        and each.path not in SHOWN_BY | IN_DOCUMENTS
        and ">>> " not in text_of(each)
    ]
    assert missing == [], "show what it gives, in a doctest of a few lines"


@pytest.mark.parametrize("path", SHOWN_BY)
def test_an_example_stands_beside_those_without(path: str) -> None:
    module, _, name = path.rpartition(".")
    shown_by = next(each for each in FUNCTIONS if each.path == f"{module}.{SHOWN_BY[path]}")
    assert name in text_of(shown_by)


@pytest.mark.parametrize("path", IN_DOCUMENTS)
def test_a_document_shows_what_takes_time(path: str) -> None:
    assert path.rpartition(".")[2] in (ROOT / IN_DOCUMENTS[path]).read_text("utf-8")


def test_layers_and_losses_say_equation_or_shapes() -> None:
    said = [each for each in FUNCTIONS if each.home in ("funcnn.layers", "funcnn.compose", "funcnn.losses")]
    missing = [each.path for each in said if not re.search(r"->| = |\(n, |mean", without_examples(text_of(each)))]
    assert len(said) > 100
    assert missing == []


# --- The table of layers --------------------------------------------------------------------------------------


def test_the_table_has_every_layer_and_combinator() -> None:
    from funcnn import compose, layers

    listed = [*layer_table.examples("layers"), *layer_table.examples("combinators"), *layer_table.MADE_OF_FUNCTIONS]
    assert sorted(listed) == sorted([*layers.__all__, *compose.__all__])
    for name, example in (layer_table.examples("layers") | layer_table.examples("combinators")).items():
        assert example.call.startswith(f"{name}(")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("dense", "rows | 16 | 32 | 544 | 512 | 64 | "),
        ("conv2d", "images | 8×8×16 | 6×6×32 | 4,640 | 165,888 | 4,096 | "),
        ("batch_norm", "any shape | 8×8×16 | 8×8×16 | 32 | – | 4,160 | state, coupled"),
        ("embedding", "whole numbers | 8 | 8×32 | 32,000 | – | 64 | "),
        ("dropout", "any shape | 8×8×16 | 8×8×16 | – | – | 1,024 | key"),
        ("cross_attention", "a tuple | 8×16, 8×16 | 8×16 | 1,088 | 10,240 | 4,096 | "),
    ],
)
def test_the_table_says_what_a_layer_needs_and_costs(name: str, row: str) -> None:
    paths = {each.name: each.path for each in PUBLIC}
    lines = layer_table.table("layers", paths)
    line = next(line for line in lines if f"<funcnn.layers.{name}>" in line)
    assert line.split(" | ", 1)[1].removesuffix(" |") == row


# --- Docstrings as reStructuredText ---------------------------------------------------------------------------


def test_docstrings_become_restructured_text() -> None:
    docstrings = pytest.importorskip("docstrings", reason="needs Sphinx, of the extra docs", exc_type=ImportError)
    text = (
        "y = x * w|_t, as `dense`s and ``a_b`` do.\n\n    y[i] = Σ x[j]\n\n    dense(3)\n\n"
        "* one `x`\n  more\n* two\n\n>>> 1 * 1\n1\n"
    )
    expected = (
        "y = x \\* w\\|\\_t, as :py:obj:`dense <funcnn.layers.dense>`\\ s and ``a_b`` do.\n\n"
        ".. code-block:: text\n\n   y[i] = Σ x[j]\n\n"
        ".. code-block:: python\n\n   dense(3)\n\n"
        "* one ``x`` more\n* two\n\n>>> 1 * 1\n1\n"
    )
    assert docstrings.as_rst(text, {"dense": "funcnn.layers.dense"}) == expected


def test_every_derivation_is_found() -> None:
    docstrings = pytest.importorskip("docstrings", reason="needs Sphinx, of the extra docs", exc_type=ImportError)
    found = docstrings.derivations()
    rooms = [f"funcnn.{room}" for room in docstrings.WITH_DERIVATIONS]
    helpers = {"check_labels", "make_optimizer", "make_transform", "masked", "update_leaves", "value_at", "zeros_like"}
    functions = {each.name for each in FUNCTIONS if each.home in rooms}
    assert functions - helpers - set(found) == set()
    sections = {name: found[name][0] for name in ("dense", "adam", "huber", "cosine", "self_attention", "max_pool2d")}
    assert sections == {
        "dense": "3. Dense",
        "adam": "Adam and AdamW",
        "huber": "Regression",
        "cosine": "16. Schedules",
        "self_attention": "Attention",
        "max_pool2d": "Maximum",
    }
