"""The script that predicts: whatever it is given, it predicts, or ends with one line that says what is wrong."""

import csv
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from processes import linux

from funcnn import Key, serial, tree
from funcnn.data import rescale
from funcnn.experiment import run_script
from funcnn.layers import conv2d, dense, flatten
from funcnn.model_file import Trained, save_trained
from funcnn.train import Model

Image = pytest.importorskip("PIL.Image")

SCRIPT = Path(__file__).parents[2] / "experiments" / "predict.py"
NET = serial(flatten(), dense(3))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("predict_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(
    path: Path, net: Any = NET, shape: tuple[int, ...] = (4, 5, 1), classes: Any = "abc", scale: float = 1
) -> Path:
    """A model's file; its parameters are multiplied by `scale`."""
    params, state, _ = net.init(Key(0), shape)
    model = Model(tree.map(lambda leaf: leaf * np.float32(scale), params), state)
    save_trained(path, Trained(net, model, shape, tuple(classes), rescale(255)))
    return path


def draw(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (7, 6), value).save(path)
    return path


Run = Callable[..., str]


@pytest.fixture
def run(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the script in an empty folder: returns "" for success, else the one line that it ends with."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        try:
            run_script(script.main)
        except SystemExit as error:
            return str(error.code)
        return ""

    return call


def rows(path: Path = Path("runs/predict/predictions.csv")) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_images_of_any_size_and_kind_are_predicted(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.jpg"):
        draw(Path("images") / name)
    assert run("images", "--model", save(Path("m"))) == ""
    assert [row[0] for row in rows()] == ["a.png", "b.jpg"]
    for row in rows():
        assert row[1] in "abc"
        assert float(row[2]) >= float(row[4]) > 0
    assert "2 images; all of them in" in capsys.readouterr().out
    assert Path("runs/predict/predictions.png").stat().st_size > 1000


def test_a_model_of_one_class_has_no_second(run: Run) -> None:
    model = save(Path("m"), serial(flatten(), dense(1)), classes="a")
    assert run(draw(Path("a.png")), "--model", model, "--no-plots") == ""
    assert rows() == [["a.png", "a", "1.000000", "", ""]]


@linux
def test_names_that_a_terminal_or_a_spreadsheet_would_obey_are_shown(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(Path("images/=1+1.png"))
    draw(Path("images/\x1b[31m.png"))
    os.rename(draw(Path("images/1.png")), b"images/\xff.png")
    assert run("images", "--model", save(Path("m"), classes=("@a", "-b", "+c")), "--no-plots") == ""
    assert [row[0] for row in rows()] == ["\\x1b[31m.png", "'=1+1.png", "\N{REPLACEMENT CHARACTER}.png"]
    assert {row[1][:2] for row in rows()} <= {"'@", "'-", "'+"}
    assert "\x1b" not in capsys.readouterr().out


def test_the_users_home_may_be_written_short(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    draw(Path("a.png"))
    save(Path("m"))
    assert run("~/a.png", "--model=~/m", "--out=~/out", "--no-plots") == ""
    assert len(rows(tmp_path / "out" / "predictions.csv")) == 1


def test_a_picture_that_cannot_be_drawn_takes_nothing_along(
    run: Run, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(script, "draw_samples", broken)
    assert run(draw(Path("a.png")), "--model", save(Path("m"))) == ""
    assert "no predictions.png: RuntimeError: no room" in capsys.readouterr().err
    assert len(rows()) == 1


def text(name: str) -> Path:
    Path(name).write_text("some text")
    return Path(name)


def folder(name: str) -> Path:
    Path(name).mkdir()
    return Path(name)


BAD_IMAGES: dict[str, tuple[Callable[[], object], str]] = {
    "none": (lambda: "none.png", "none.png: no such file or folder"),
    "an empty folder": (lambda: folder("empty"), "empty: expected images in it"),
    "a text": (
        lambda: text("a.txt"),
        "a.txt: expected a folder of images, an image (.png, .jpg, .jpeg), or an IDX file",
    ),
    "a text called an image": (lambda: text("a.png"), "a.png: it is no PNG or JPEG"),
    "a text called an IDX file": (lambda: text("a.idx"), "a.idx: not an IDX file of bytes; it starts with b'some'"),
    "a model": (lambda: Path("m"), "m: not an IDX file of bytes"),
    "a name too long": (lambda: "x" * 5000, "cannot be read: File name too long"),
}
BAD_MODELS: dict[str, tuple[Callable[[], object], str]] = {
    "none": (lambda: "none", "none"),
    "a folder": (lambda: folder("d"), "d"),
    "a text": (lambda: text("a.txt"), "a.txt: "),
    "an image": (lambda: Path("image.png"), "image.png: "),
    "no images": (
        lambda: save(Path("n"), dense(3), (4,)),
        "n: it takes examples (4,), which are no images (height, width, 1 or 3)",
    ),
    "two channels": (lambda: save(Path("n"), shape=(4, 5, 2)), "n: it takes examples (4, 5, 2), which are no images"),
    "too large": (
        lambda: save(Path("n"), serial(conv2d(1, 1, stride=5000), flatten(), dense(3)), (5000, 5000, 1)),
        "n: it takes examples (5000, 5000, 1), which are no images",
    ),
    "images for outputs": (
        lambda: save(Path("n"), conv2d(3, 1)),
        "n: it gives outputs (4, 5, 3) and names 3 classes, and tells no images apart",
    ),
    "more outputs than names": (lambda: save(Path("n"), classes="ab"), "n: it gives outputs (3,) and names 2 classes"),
    "no names": (lambda: save(Path("n"), classes=()), "n: it gives outputs (3,) and names 0 classes"),
    "no numbers": (lambda: save(Path("n"), scale=float("nan")), "n: "),
}
BAD_OPTIONS = [
    ([], "2"), (["image.png"], "2"), (["image.png", "--model", "m", "--top", "0"], "2"), (["--model", "m"], "2"),
    (["image.png", "--model", "m", "--out", "m"], "error: cannot write in the folder m"),
]  # fmt: skip


def check_line(line: str, wanted: str) -> None:
    assert line.startswith("error: "), line
    assert wanted in line
    assert "\n" not in line


@pytest.mark.parametrize(("make", "wanted"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_wrong_images_end_it_with_one_line(make: Callable[[], object], wanted: str, run: Run) -> None:
    model = save(Path("m"))
    check_line(run(make(), "--model", model), wanted)


@pytest.mark.parametrize(("make", "wanted"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_wrong_model_ends_it_with_one_line(make: Callable[[], object], wanted: str, run: Run) -> None:
    image = draw(Path("image.png"))
    check_line(run(image, "--model", make()), wanted)


@pytest.mark.parametrize(("arguments", "wanted"), BAD_OPTIONS)
def test_wrong_options_end_it(arguments: list[str], wanted: str, run: Run) -> None:
    draw(Path("image.png"))
    save(Path("m"))
    assert run(*arguments).startswith(wanted)
