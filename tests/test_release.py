"""What `make release` checks before it builds, and of what it has built."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANGES = "# Changes\n\n## 0.2.0 (2027-01-01)\n\n- A change.\n\n## 0.1.0\n\n- First.\n"


def test_what_agrees_is_released(release: ModuleType) -> None:
    assert release.version_problems("0.2.0", CHANGES, ["v0.1.0"]) == []


@pytest.mark.parametrize(
    ("version", "changes", "tags", "problem"),
    [
        ("0.3.0", CHANGES, [], "begins with 0.2.0, funcnn.__version__ is 0.3.0"),
        ("0.2.0", CHANGES.replace("0.2.0 (2027-01-01)", "Unreleased"), [], "begins with Unreleased"),
        ("0.2.0", CHANGES.replace("- A change.\n", ""), [], "says nothing of 0.2.0"),
        ("0.2.0", CHANGES, ["v0.2.0"], "the tag v0.2.0 exists already"),
        ("0.2.0", "# Changes\n", [], "begins with nothing"),
    ],
)
def test_what_does_not_agree_is_said(
    release: ModuleType, version: str, changes: str, tags: list[str], problem: str
) -> None:
    problems = release.version_problems(version, changes, tags)
    assert len(problems) == 1
    assert problem in problems[0]


def test_what_a_distribution_lacks_or_should_not_hold_is_said(release: ModuleType) -> None:
    assert release.content_problems(["a/b.py", "c.md"], ["b.py"]) == []
    names = ["a/__pycache__/b.pyc", "docs/reference/api/funcnn.rst", "docs/reference/index.md"]
    assert release.content_problems(names, ["LICENSE"]) == [
        "lacks LICENSE",
        "holds a/__pycache__/b.pyc",
        "holds docs/reference/api/funcnn.rst",
    ]


def test_what_a_release_needs_is_here(release: ModuleType) -> None:
    packaged = [path.relative_to(ROOT).as_posix() for path in (ROOT / "funcnn").rglob("*") if path.is_file()]
    assert set(release.content_problems([*packaged, "LICENSE"], release.IN_WHEEL)) <= {
        f"holds {name}" for name in packaged if "__pycache__" in name
    }
    assert [name for name in release.IN_SDIST if not (ROOT / name).is_file()] == []
