"""Every script of docs/gallery/ runs as a reader runs it, without a warning, and draws a picture that can be shown."""

import ast
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
matplotlib = pytest.importorskip("matplotlib")

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
IMAGES = GALLERY.parent / "learn" / "images"
SCRIPTS = sorted(GALLERY.glob("plot_*.py"))
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])


@every_script
def test_a_script_draws_its_picture(script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(GALLERY))
    monkeypatch.setattr(sys, "argv", [str(script), "--out", str(tmp_path)])
    with matplotlib.rc_context():
        runpy.run_path(str(script), run_name="__main__")
    pictures = sorted(tmp_path.iterdir())
    assert pictures
    for path in pictures:
        kept = IMAGES / path.name
        assert kept.exists(), f"run: python {script} --out {IMAGES}"
        assert looked_at(kept) == looked_at(path), f"{kept} is an older one"


def looked_at(path: Path) -> tuple[int, int]:
    """A picture's height and its frames, if it is a small PNG as wide as the others, on white; a moving one stops."""
    assert path.stat().st_size < 400_000
    with Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        assert (image.format, image.width) == ("PNG", 900)
        assert frames == 1 or 1 <= image.info["loop"] <= 5
        pixels = np.asarray(image.convert("L"))
    assert pixels[[0, 0, -1, -1], [0, -1, 0, -1]].min() == 255
    assert pixels.std() > 5, "nothing was drawn"
    return len(pixels), frames


@every_script
def test_a_script_says_what_it_shows(script: Path) -> None:
    said = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    title, line, *text = said.split("\n")
    assert line == "=" * len(title), "a script's docstring begins with a title, underlined by ="
    assert len(" ".join(text)) > 100


def test_every_picture_of_the_pages_has_its_script() -> None:
    sources = "".join(path.read_text("utf-8") for path in SCRIPTS)
    assert [path.name for path in IMAGES.glob("*") if f'"{path.stem}"' not in sources] == []
