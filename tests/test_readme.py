"""The documents' Python is run as it stands, each document's blocks in order in one namespace."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def python_blocks(document):
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


DOCUMENTS = ["README.md", *(f"docs/{name}.md" for name in ("architecture", "data", "extending", "predict"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_run(document, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where an example saves a file
    module = ModuleType("example")  # one that pickle finds, as it finds a user's own
    monkeypatch.setitem(sys.modules, "example", module)
    blocks = python_blocks(document)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), vars(module))


def test_the_script_of_workers_runs(tmp_path):
    script = tmp_path / "script.py"
    shown = "    print(run.step, metrics.loss < 2, logits.shape)\n"
    script.write_text("\n".join(python_blocks("docs/workers.md")) + shown)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("43 True (359, 10)\n", "")


def test_the_readme_example_learns_what_it_says():
    namespace = {}
    exec(compile(python_blocks("README.md")[0], "README.md", "exec"), namespace)
    assert namespace["out_shape"] == (10,)
    assert namespace["logits"].shape == (64, 10)
    assert np.isfinite(namespace["loss"])


def test_the_readme_lists_every_script():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| script |")[1].split("\n\n")[0]
    patterns = [name for cell in re.findall(r"\n\| (`.*?) \|", table) for name in re.findall(r"`([\w*]+\.py)`", cell)]
    listed = [path for pattern in patterns for path in (ROOT / "experiments").glob(pattern)]
    assert sorted(listed) == sorted((ROOT / "experiments").glob("*.py"))
