"""The examples of docs/scikit-learn.md are run as they stand."""

import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

DOCUMENT = Path(__file__).parents[2] / "docs" / "scikit-learn.md"


def test_examples_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)  # where an example saves a file
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), names)
    assert len(blocks) >= 9
    said = capsys.readouterr().out.splitlines()
    assert float(said[0].split()[0]) > 0.93
    assert names["stopped"].n_iter_ < 200
