"""Builds a release and checks it; nothing is uploaded. ``make release`` runs it.

First what is written must agree: the version in the code, the newest heading of CHANGELOG.md, the tags. Then the source
distribution and the wheel are built, read, and the wheel is tried in an environment of its own; then the site is built
and packed. All of it lies in dist/ in the end, and what is left to do by hand is said.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent
DIST = ROOT / "dist"

# What a distribution must have of each kind, and what it must not have.
IN_WHEEL = ("funcnn/layer.py", "funcnn/py.typed", "funcnn/data/digits.npz", "funcnn/trained/mnist_cnn.safetensors",
            "funcnn/web/static/index.html", "LICENSE")  # fmt: skip
IN_SDIST = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "docs/conf.py", "docs/gallery/_save.py",
            "docs/learn/01_ten_seconds.md", "tests/conftest.py", "experiments/mnist_cnn.py",
            "benchmarks/layers.py")  # fmt: skip
NOWHERE = re.compile(r"__pycache__|\.pyc$|/runs/|^docs/(pictures|project|reference/api)/|\.ipynb_checkpoints|\.env$")


def version_problems(version: str, changelog: str, tags: Iterable[str]) -> list[str]:
    """What does not agree: the version of the code, the first heading of the changelog, the tags that there are."""
    problems = []
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    newest = headings[0].split()[0] if headings else "nothing"
    if newest != version:
        problems.append(
            f"CHANGELOG.md begins with {newest}, funcnn.__version__ is {version}: they must be the same. "
            f"Name the version in funcnn/__init__.py, and head what is new with ## {version}"
        )
    elif not re.search(rf"^## {re.escape(version)}.*\n+(?!## )\S", changelog, re.MULTILINE):
        problems.append(f"CHANGELOG.md says nothing of {version}")
    if f"v{version}" in tags:
        problems.append(f"the tag v{version} exists already: a version is released once")
    return problems


def content_problems(names: Iterable[str], needed: Iterable[str]) -> list[str]:
    """What a distribution lacks, and what it should not have; names without the folder that all are in."""
    names = set(names)
    lacks = [f"lacks {each}" for each in needed if not any(name.endswith(each) for name in names)]
    return [*lacks, *(f"holds {name}" for name in sorted(names) if NOWHERE.search(name))]


def run(*command: object, cwd: Path = ROOT) -> None:
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def stop_at(problems: list[str]) -> None:
    if problems:
        raise SystemExit("\n".join(["not released:", *(f"  {problem}" for problem in problems)]))


def tags() -> list[str]:
    """The tags of the repository; none where this is no repository."""
    done = subprocess.run(["git", "tag"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.split()


def build() -> tuple[Path, Path]:
    """Build both distributions and check what is in them."""
    shutil.rmtree(DIST, ignore_errors=True)
    uv = Path(sys.executable).parent / "uv"
    run(uv, "build", "--quiet")
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    with tarfile.open(sdist) as file:
        in_sdist = [name.partition("/")[2] for name in file.getnames()]
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    stop_at([f"{sdist.name} {each}" for each in content_problems(in_sdist, IN_SDIST)])
    stop_at([f"{wheel.name} {each}" for each in content_problems(in_wheel, IN_WHEEL)])
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def try_wheel(wheel: Path, version: str) -> None:
    """Install the wheel where nothing else is, and train with it, away from the sources."""
    uv = Path(sys.executable).parent / "uv"
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "venv", "Scripts" if sys.platform == "win32" else "bin", "python")
        run(uv, "venv", "--quiet", "--python", sys.executable, Path(folder, "venv"))
        run(uv, "pip", "install", "--quiet", "--python", python, f"{wheel}[all]")
        said = f"import funcnn; assert funcnn.__version__ == {version!r} and {folder!r} in funcnn.__file__"
        run(python, "-c", said, cwd=Path(folder))
        run(python, "-m", "funcnn", "demo", "--quick", cwd=Path(folder))


def main() -> None:
    import funcnn

    version = funcnn.__version__
    stop_at(version_problems(version, (ROOT / "CHANGELOG.md").read_text("utf-8"), tags()))
    sdist, wheel = build()
    try_wheel(wheel, version)
    run("make", "docs")
    site = shutil.make_archive(str(DIST / f"funcnn-{version}-site"), "zip", ROOT / "build" / "site")
    print(f"\n{sdist.name}, {wheel.name} and {Path(site).name} are in dist/. By hand, when all of it is to be public:")
    print(f"  git tag v{version} and push it; twine upload the first two; unpack the third where the site lives")


if __name__ == "__main__":
    main()
