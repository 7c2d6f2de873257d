"""The documents' Python is run as it stands, each document's blocks in order in one namespace."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def python_blocks(document):
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md", "docs/extending.md"])
def test_examples_run(document, monkeypatch):
    module = ModuleType("example")  # one that pickle finds, as it finds a user's own
    monkeypatch.setitem(sys.modules, "example", module)
    images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
    vars(module).update(images=images, labels=np.array([3, 1, 4, 1]))
    blocks = python_blocks(document)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), vars(module))


def test_the_readme_example_learns_what_it_says():
    namespace = {"images": np.ones((2, 28, 28, 1), np.float32), "labels": np.array([3, 1])}
    exec(compile(python_blocks("README.md")[0], "README.md", "exec"), namespace)
    assert namespace["out_shape"] == (10,)
    assert namespace["logits"].shape == (2, 10)
    assert np.isfinite(namespace["loss"])
