"""Predictions of raw images: drawings of all kinds are recognised, what is unlike the training data is told.

And the script that predicts: whatever it is given, it predicts, or ends with one line that says what is wrong.
"""

import csv
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import pytest
from processes import linux

from funcnn import Key, serial, tree
from funcnn.checks import FuncnnWarning
from funcnn.data import DataError, load, rescale
from funcnn.data.handwriting import NothingDrawn, centred_drawing
from funcnn.experiment import run_predict, run_script
from funcnn.experiment.predict import Prediction, predict_images, prepared, raw_images
from funcnn.layers import conv2d, dense, flatten
from funcnn.model_file import Trained, load_trained, logits_of, probabilities, save_trained
from funcnn.train import Model, NonFiniteError
from funcnn.trained import model_path

Image = pytest.importorskip("PIL.Image")

from drawings import BLACK, WHITE, Array, blurred, drawing, drawings, inverted, on, photographed, plain  # noqa: E402

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


# --- Drawings -------------------------------------------------------------------------------------------------

MNIST = load_trained(model_path("mnist_cnn"))
FIFTY = list(drawings())
BLANK = np.full((60, 80, 3), 250, np.uint8)


def right(trained: Trained, images: Any) -> list[tuple[int, str, str]]:
    """Of images as `drawings` gives them, those that are recognised."""
    images = list(images)
    predictions = predict_images(trained, (image for _, _, image in images))
    both = zip(images, predictions, strict=True)
    return [(digit, style, each.warning) for (digit, style, _), each in both if each.name == str(digit)]


def test_fifty_drawings_in_ten_styles_are_recognised() -> None:
    found = right(MNIST, FIFTY)
    assert len(found) == 50
    assert [each for each in found if each[2]] == []


def test_without_preparation_they_are_not() -> None:
    """Resized alone, as they were before: the preparation is what does it."""
    bare = attrs.evolve(MNIST, prepare=None)
    assert len(right(bare, FIFTY[:30])) <= 6


def test_the_small_net_recognises_most_of_them() -> None:
    """The net of digits in 8x8 pixels, which learned 1,294 of them."""
    assert len(right(load_trained(model_path("digits_cnn")), FIFTY[:20])) >= 17


def test_what_the_net_is_given_can_be_seen() -> None:
    image = drawing(7, 2, photographed)
    [seen] = predict_images(MNIST, [image])
    stored, odd = prepared(MNIST, image)
    assert odd == ""
    assert seen.stored is not None
    assert seen.probabilities is not None
    np.testing.assert_array_equal(seen.stored, stored)
    np.testing.assert_array_equal(seen.probabilities, probabilities(MNIST, stored[None])[0])
    assert (seen.name, seen.probabilities.argmax()) == ("7", 7)


def test_where_nothing_is_drawn_there_is_no_class() -> None:
    first, blank, last = predict_images(MNIST, [drawing(1, 0, plain), BLANK, drawing(2, 0, inverted)])
    assert (first.name, last.name) == ("1", "2")
    assert (blank.name, blank.probabilities, blank.stored) == ("", None, None)
    assert blank.warning.startswith("there is nothing drawn on it")
    assert [each.name for each in predict_images(MNIST, [BLANK])] == [""]
    assert predict_images(MNIST, []) == []
    with pytest.raises(NothingDrawn, match="there is nothing drawn on it"):
        prepared(MNIST, BLANK)


def test_what_the_net_does_not_know_is_told() -> None:
    image = drawing(4, 0, plain)
    [sure] = predict_images(MNIST, [image])
    logit = float(logits_of(MNIST, prepared(MNIST, image)[0][None]).max())
    assert MNIST.familiar_logit is not None
    assert MNIST.familiar_logit < logit
    [unsure] = predict_images(attrs.evolve(MNIST, familiar_logit=logit + 1), [image])
    assert (sure.name, sure.warning, unsure.name) == ("4", "", "4")
    assert unsure.warning == (
        f"it is unlike what the net was trained on: its largest logit is {logit:.1f}, and nearly all images like those "
        f"reach {logit + 1:.1f}"
    )
    y, x = np.mgrid[-1:1:120j, -1:1:120j]
    checks = ((x * 4).round() + (y * 4).round()) % 2 == 0
    [odd] = predict_images(MNIST, [on(255, 0, checks.astype(float))])
    assert odd.warning


def test_a_net_without_preparation_gets_images_resized() -> None:
    net = attrs.evolve(MNIST, prepare=None)
    dark = np.concatenate([np.zeros((56, 56, 3), np.uint8), np.full((56, 56, 1), 128, np.uint8)], axis=2)
    for image, grey in (
        (np.full((9, 7, 3), (255, 0, 0), np.uint8), 76),
        (np.full((28, 28, 1), 5, np.uint8), 5),
        (dark, 127),
    ):
        stored, odd = prepared(net, image)
        assert (stored.shape, odd) == ((28, 28, 1), "")
        assert abs(int(stored.min()) - grey) <= 1
        assert stored.min() == stored.max()


def test_a_preparation_of_ones_own_is_a_function() -> None:
    def first(image: Array) -> Array:
        return image[:28, :28, :1]

    own = attrs.evolve(MNIST, prepare=first)
    [seen] = predict_images(own, [drawing(3, 0, plain)])
    assert isinstance(seen, Prediction)
    assert seen.stored is not None
    assert seen.stored.shape == (28, 28, 1)
    with pytest.raises(
        ValueError, match=r"^prepared: prepare gave an image \(5, 9, 1\), and the net takes \(28, 28, 1\)$"
    ):
        predict_images(own, [np.zeros((5, 9, 1), np.uint8)])
    with pytest.raises(ValueError, match=r"^prepared: prepare gave an image \(\), and the net takes"):
        prepared(attrs.evolve(MNIST, prepare=lambda image: None), BLANK)


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5)), np.zeros((5, 5, 6), np.uint8), [[1]], None], ids=["floats", "six", "list", "None"]
)
def test_what_is_no_image_of_bytes_is_refused(image: Any) -> None:
    for net in (MNIST, attrs.evolve(MNIST, prepare=None)):
        with pytest.raises(ValueError, match=r"^prepared: image must be bytes \(height, width, channels\)"):
            predict_images(net, [image])


def test_a_net_that_gives_no_numbers_is_refused() -> None:
    params = tree.map(lambda leaf: leaf * np.float32(np.nan), MNIST.model.params)
    with pytest.raises(NonFiniteError, match=r"^the net gives NaN or infinity"):
        predict_images(attrs.evolve(MNIST, model=Model(params, MNIST.model.state)), [drawing(1, 0, plain)])


# --- Real images ----------------------------------------------------------------------------------------------


def images_of(name: str, count: int) -> tuple[Array, Array]:
    try:
        part = load(name, data_dir=DATA).test
    except DataError:
        pytest.skip(f"{name} is not there")
    assert part is not None
    return part.inputs[:count], part.targets[:count]


DATA = Path(__file__).parents[3] / "shared" / "data"


def test_mnists_own_images_are_recognised_and_trusted_and_clothes_are_not() -> None:
    images, labels = images_of("mnist", 500)
    seen = predict_images(MNIST, images)
    plainly = (probabilities(MNIST, images).argmax(axis=1) == labels).mean()
    assert np.mean([each.name == str(label) for each, label in zip(seen, labels, strict=True)]) > plainly - 0.005
    assert np.mean([each.warning != "" for each in seen]) <= 0.02
    clothes = predict_images(MNIST, images_of("fashion_mnist", 200)[0])
    assert np.mean([each.warning != "" for each in clothes]) > 0.8


def test_mnists_images_are_recognised_wherever_and_however_they_are() -> None:
    digits, labels = images_of("mnist", 60)
    light = 90 + 150 * np.arange(200)[:, None, None] / 200 * np.ones(3)

    def placed(i: int, digit: Array) -> Array:
        share = np.zeros((200, 200))
        side = (0, 40, 84, 168)[i % 4] or 28
        large = np.asarray(Image.fromarray(digit.squeeze()).resize((side, side), Image.Resampling.BICUBIC)) / 255
        top, left = ((2, 2), (198 - side, 198 - side), (16, 16), (2, 198 - side))[i // 4 % 4]
        share[top : top + side, left : left + side] = large
        papers = (on(BLACK, 255, share), on(WHITE, 10, share), on(light, 0.4 * light, share))
        papers += (blurred(on((230, 230, 230), 30, share), side / 40), on((40, 60, 50), (240, 240, 230), share))
        return papers[i % 5]

    found = predict_images(MNIST, [placed(i, digit) for i, digit in enumerate(digits)])
    assert sum(each.name == str(label) for each, label in zip(found, labels, strict=True)) >= 57


# --- The script -----------------------------------------------------------------------------------------------

Run = Callable[..., str]


def test_a_file_or_a_folder_gives_its_images_as_they_are(tmp_path: Path) -> None:
    Image.new("L", (7, 6), 3).save(tmp_path / "a.png")
    Image.new("RGBA", (4, 9), (1, 2, 3, 40)).save(tmp_path / "b.png")
    Image.new("RGB", (5, 5)).save(tmp_path / "c.jpg")
    found = {name: image.shape for name, image in raw_images(tmp_path)}
    assert found == {"a.png": (6, 7, 1), "b.png": (9, 4, 4), "c.jpg": (5, 5, 3)}
    [(name, image)] = raw_images(tmp_path / "b.png")
    assert (name, image[0, 0].tolist()) == ("b.png", [1, 2, 3, 40])
    (tmp_path / "d.png").write_text("no image")
    with pytest.warns(FuncnnWarning, match=r"1 of 4 images cannot be read and are left out: d\.png"):
        assert len(list(raw_images(tmp_path))) == 3


def test_drawings_in_files_are_recognised_and_what_is_blank_has_no_class(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("images").mkdir()
    for digit, style in ((3, plain), (5, inverted)):
        Image.fromarray(drawing(digit, 1, style)).save(f"images/{digit}.png")
    Image.fromarray(drawing(8, 1, photographed)).save("images/8.jpg")
    white = np.zeros((90, 60, 4), np.uint8)
    white[20:70, 25:33] = 255  # white on nothing, which a page would hide
    Image.fromarray(white).save("images/1.png")
    Image.fromarray(BLANK).save("images/blank.png")
    assert run("images", "--model", "mnist_cnn") == ""
    assert {row[0]: row[1] for row in rows()} == {
        "1.png": "1",
        "3.png": "3",
        "5.png": "5",
        "8.jpg": "8",
        "blank.png": "",
    }
    assert [row[-1] != "" for row in rows()] == [False] * 4 + [True]
    out = capsys.readouterr().out
    assert "warning: blank.png: there is nothing drawn on it" in out
    assert "5 images, 1 with a warning; all of them in" in out
    assert Path("runs/predict/predictions.png").stat().st_size > 1000
    line = run("images/blank.png", "--model", "mnist_cnn")
    assert line.startswith("error: blank.png: there is nothing drawn on it")


def test_white_is_made_black_for_a_model_that_prepares_nothing(run: Run) -> None:
    """And makes no difference to one that finds the ink itself."""
    Image.fromarray(drawing(3, 1, plain)).save("3.png")
    params, state, _ = NET.init(Key(0), (4, 5, 1))
    model = Model(tree.map(lambda leaf: leaf * np.float32(20), params), state)
    for name, prepare in (("bare", None), ("prepared", centred_drawing(20, 18))):
        shape = (4, 5, 1) if prepare is None else (20, 20, 1)
        if prepare is not None:
            model = Model(*NET.init(Key(0), shape)[:2])
        save_trained(name, Trained(NET, model, shape, "abc", rescale(255), prepare=prepare))
        found = []
        for options in ([], ["--invert"]):
            assert run("3.png", "--model", name, "--no-plots", *options) == ""
            found.append(rows())
        assert (found[0] == found[1]) == (prepare is not None)


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
    assert rows() == [["a.png", "a", "1.000000", "", "", ""]]


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
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(run_predict, "draw_samples", broken)
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
    "no numbers": (lambda: save(Path("n"), scale=float("nan")), "the net gives NaN or infinity"),
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
