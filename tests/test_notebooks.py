"""The notebooks of the documents: kept without outputs, and run from the first cell to the last."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PICTURES = {"digits": 4, "inside": 7, "layer": 2}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_the_notebooks_that_the_tests_know() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(PICTURES)


@every_notebook
def test_a_notebook_is_kept_without_outputs_and_its_links_lead_somewhere(path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose)
    assert [link for link in links if not (path.parent / link).exists()] == []


@every_notebook
@pytest.mark.filterwarnings("default")  # of Jupyter's own; those of a cell are in its outputs
def test_a_notebook_runs_and_shows_its_pictures(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for needed in ("ipykernel", "matplotlib"):
        pytest.importorskip(needed)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs: list[Any] = [each for cell in notebook.cells for each in cell.get("outputs", [])]
    assert [each["text"] for each in outputs if each.get("name") == "stderr"] == []
    assert sum("image/png" in each.get("data", {}) for each in outputs) == PICTURES[path.stem]
