"""Folders of images from the command line: what is built for them, what runs and sweeps say of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from funcnn import Key
from funcnn.data import DataError
from funcnn.experiment import load_data, parse_options, sweep_data
from funcnn.experiment.images import image_net, image_options, train_images
from funcnn.experiment.options import same_command
from funcnn.experiment.sweep_data import data_axes
from funcnn.sweep import configuration

image = pytest.importorskip("PIL.Image")


def photographs(root: Path, sizes: tuple[tuple[int, int], ...] = ((20, 20),), count: int = 20) -> Path:
    draw = np.random.default_rng(0)
    for label, name in enumerate(("night", "noon")):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.normal(60 + 120 * label, 20, (*sizes[i % len(sizes)], 3)).clip(0, 255).astype(np.uint8)
            image.fromarray(pixels).save(root / name / f"{i:02}.jpg")
    return root


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 90, 3), (28, 28, 1), (64, 48, 3), (300, 200, 3)])
def test_a_net_is_built_for_images_of_any_size(shape: tuple[int, int, int]) -> None:
    params, state, out_shape = image_net(shape, 7).init(Key(0), shape)
    assert out_shape == (7,)
    outputs = image_net(shape, 7).apply(params, state, np.zeros((2, *shape), np.float32)).y
    assert outputs.shape == (2, 7)


def test_a_folder_of_any_photographs_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photographs(tmp_path / "photos", ((20, 24), (30, 18)))
    options = image_options(
        [str(folder), "--epochs", "2", "--no-plots", "--out", str(tmp_path / "run"), "--size", "16"]
    )
    metrics = train_images(options)
    assert metrics["test_accuracy"] > 0.8
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["data_source"], config["in_shape"]) == (str(folder), [16, 16, 3])
    assert "29 examples to train, 3 to validate, 8 to test" in capsys.readouterr().out


def test_images_that_are_alike_keep_their_size_and_others_get_a_usual_one(tmp_path: Path) -> None:
    for name, sizes, shape in (
        ("alike", ((20, 24),), (20, 24, 3)), ("differing", ((20, 20), (20, 21)), (64, 64, 3)),
        ("large", ((100, 20),), (64, 64, 3)),
    ):  # fmt: skip
        folder = photographs(tmp_path / name, sizes)
        options = parse_options("", name="x", epochs=1, batch_size=1, lr=1.0, data=str(folder), arguments=[])
        assert options.data is not None
        assert load_data(options.data, options).in_shape == shape
    grey = parse_options(
        "", name="x", epochs=1, batch_size=1, lr=1.0, data="mnist", arguments=["--data", str(folder), "--channels", "1"]
    )
    assert grey.data is not None
    assert (load_data(grey.data, grey).in_shape, grey.out) == ((64, 64, 1), Path("runs/x_large"))
    with pytest.raises(
        DataError, match=r"^fotos: there is no such folder, and no data set of that name. There are 'dig"
    ):
        load_data("fotos", grey)


def test_a_sweeps_configuration_says_which_data_and_each_process_checks_them(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    options = SimpleNamespace(data=str(folder), data_dir=None, size=(8, 8), channels=1)
    axes = data_axes(options)
    assert {**axes, "data_hash": None} == {
        "data": [str(folder)], "image_size": [(8, 8)], "channels": [1], "data_hash": None
    }  # fmt: skip
    config = configuration(**{name: values[0] for name, values in axes.items()})
    assert sweep_data(config).in_shape == (8, 8, 1)
    (folder / "noon" / "00.jpg").unlink()
    sweep_data.__globals__["_loaded"].cache_clear()  # as in another process
    with pytest.raises(
        DataError, match=f"its content has the hash .* here, and {axes['data_hash'][0]} where the sweep"
    ):
        sweep_data(config)
    other = SimpleNamespace(data="digits", data_dir=str(tmp_path), size=None, channels=None)
    assert list(data_axes(other)) == ["data", "data_dir", "data_hash"]


def test_the_command_to_go_on_is_the_one_that_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for started, argv, command in (
        (["python", "/there/train.py", "a b"], ["/there/train.py", "a b"], "python /there/train.py 'a b' --resume"),
        (["python", "-m", "funcnn", "train"], ["/lib/funcnn/__main__.py", "train"], "python -m funcnn train --resume"),
    ):
        monkeypatch.setattr("sys.orig_argv", started)
        monkeypatch.setattr("sys.argv", argv)
        assert same_command("--resume") == command
