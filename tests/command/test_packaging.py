"""What is in the distributions, and what their page says, as far as files tell; ``make test-sdist`` builds them."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def extras_in(requirements: list[str]) -> set[str]:
    """The project's own extras among requirements."""
    return {each for names in re.findall(r"funcnn\[(.*?)\]", " ".join(requirements)) for each in names.split(",")}


def test_all_extras_are_in_all_but_those_for_clusters_and_for_tests() -> None:
    assert extras_in(EXTRAS["all"]) == set(EXTRAS) - {"all", "cuda", "dask", "mpi", "docs", "dev"}
    assert {"all", "dask", "mpi"} <= extras_in(EXTRAS["dev"])
    for document in ("README.md", "docs/index.md"):
        text = (ROOT / document).read_text("utf-8")
        assert [each for each in EXTRAS if f"`{each}`" not in text] == []


def test_every_requirement_has_a_lowest_version() -> None:
    for each in [*PROJECT["project"]["dependencies"], *(each for extra in EXTRAS.values() for each in extra)]:
        assert each.startswith("funcnn[") or re.match(r"[\w-]+(\[\w+\])?>=\d", each), each


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    data = PROJECT["tool"]["setuptools"]["package-data"]
    package = ROOT / "funcnn"
    left_out = []
    for path in sorted(package.rglob("*")):
        if path.is_dir() or path.suffix == ".pyc":
            continue
        home = next(each for each in path.parents if (each / "__init__.py").exists())
        name = ".".join(home.relative_to(ROOT).parts)
        inside = path.relative_to(home).as_posix()
        patterns = [*data["*"], *data.get(name, [])]
        if not (path.suffix == ".py" and home == path.parent) and not any(fnmatch(inside, each) for each in patterns):
            left_out.append(inside)
    assert left_out == []


def test_what_the_tests_need_is_in_the_source_distribution() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text("utf-8")
    for folder in ("benchmarks", "docs", "experiments", "tests"):
        assert f"graft {folder}\n" in manifest
    for file in ("CHANGELOG.md", "CONTRIBUTING.md", "Makefile"):
        assert (ROOT / file).is_file()
        assert file in manifest


def test_the_page_of_the_index_stands_alone_and_its_example_runs() -> None:
    assert PROJECT["project"]["readme"] == "docs/index.md"
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert re.findall(r"!\[|\]\((?!https?://)", text) == []  # there is nothing beside it
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "docs/index.md", "exec"), names)
    assert names["evaluate"](names["problem"], names["run"], names["data"].test).accuracy > 0.85  # type: ignore[operator, attr-defined]
