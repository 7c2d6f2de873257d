"""Every script in ``experiments``, as a user runs it, on a slice of the real data."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from funcnn import Key, checkpoint, serial, tree
from funcnn.data import rescale
from funcnn.grad_check import check_loss
from funcnn.layer import Array
from funcnn.layers import dense, dropout, flatten, gaussian_noise, relu
from funcnn.model_file import Trained, load_trained, save_trained
from funcnn.report.history import best_row, read_history
from funcnn.report.table import count_parameters
from funcnn.train import Model, predict

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
SCRIPTS = sorted(path.name for path in (ROOT / "experiments").glob("*.py"))

# What to run a script with, where that is not `--quick --no-plots` alone, and which one must have run before it.
NETWORK = (
    "--layers", "784,64,32,10", "--active-funcs", "relu,tanh,linear", "--regularizers", "dropOut,L2Norm,nothing",
    "--input-noise", "0.1",
)  # fmt: skip
ARGUMENTS: dict[str, list[tuple[str, ...]]] = {
    "cifar10_convnet.py": [("--model", "1", "--no-plots"), ("--model", "2", "--recipe", "ours", "--no-plots")],
    "cifar10_ensemble.py": [
        (),
        ("--models", "runs/cifar10_convnet_1/model.safetensors", "--views", "6", "--no-validation", "--no-plots",
         "--out", "runs/views"),
    ],
    "fashion_autoencoder.py": [("--no-plots",), ("--variational", "--latent", "2", "--batch-size", "40")],
    "fashion_cnn.py": [("--recipe", "ours", "--no-plots")],
    "mlp_variants.py": [
        ("--data", "mnist", "--variants", "plain", "dropout_l2", "stochastic_momentum", "--no-plots"),
        ("--data", "fashion_mnist", "--variants", "dropout", "--recipe", "ours", "--no-plots", "--out", "runs/ours"),
    ],
    "mnist_cnn.py": [()],
    "train_folder.py": [("digits", "--flip")],
    "predict.py": [(str(DATA / "mnist" / "t10k-images-idx3-ubyte.gz"), "--model", "runs/mnist_cnn/model.safetensors")],
    "notmnist_mlp.py": [
        ("--num_epochs", "2", "--optimizer", "GD", "--layers", "784,100,10", "--active_funcs", "linear,sigmoid",
         "--regularizers", "dropOut,nothing", "--lr", "0.7", "--no-plots"),
        (*NETWORK, "--optimizer", "adam", "--lr", "0.002", "--epochs", "5", "--no-plots", "--out", "runs/deeper"),
        (*NETWORK, "--optimizer", "momentum", "--lr", "0.001", "--no-plots", "--out", "runs/further",
         "--weights", "runs/deeper/model.safetensors"),
    ],
}  # fmt: skip
BEFORE = {"cifar10_ensemble.py": "cifar10_convnet.py", "predict.py": "mnist_cnn.py"}

# The runs that a script leaves, as folders below `runs`, and a test accuracy that each surely reaches: of ten classes,
# chance is 0.1, which few steps of a large net need not leave. Any other script leaves something in its own folder.
FOLDERS: dict[str, dict[str, float]] = {
    "cifar10_convnet.py": {"cifar10_convnet_1": 0.0, "cifar10_convnet_2": 0.0},
    "cifar10_mlp.py": {"cifar10_mlp": 0.15},
    "cifar10_resnet.py": {"cifar10_resnet": 0.0},
    "digits_cnn.py": {"digits_cnn": 0.8},
    "fashion_cnn.py": {"fashion_cnn": 0.3},
    "mlp_variants.py": {
        "mlp_variants/mnist_plain": 0.3, "mlp_variants/mnist_dropout_l2": 0.3,
        "mlp_variants/mnist_stochastic_momentum": 0.6, "ours/fashion_mnist_dropout": 0.3,
    },
    "mnist_cnn.py": {"mnist_cnn": 0.6},
    "mnist_position_bias_cnn.py": {"mnist_position_bias_cnn": 0.6},
    "notmnist_mlp.py": {"notmnist_mlp": 0.15, "deeper": 0.7, "further": 0.7},
    "train_folder.py": {"digits": 0.3},
}  # fmt: skip
PLOTTED = {"mnist_cnn", "digits"}


def unpack_cifar(folder: Path, train: int, test: int) -> None:
    """Some images of each of CIFAR-10's files in its binary layout, from the JPEG archives."""
    image = pytest.importorskip("PIL.Image")
    folder.mkdir(parents=True)

    def records(archive: str, batches: int, count: int) -> Iterator[bytes]:
        with np.load(DATA / "cifar-10-jpeg" / archive) as data:
            labels, lengths, jpegs = data["labels"], data["lengths"].astype(int), data["jpegs"].tobytes()
        starts = np.concatenate([[0], np.cumsum(lengths)])
        size = len(labels) // batches
        for first in range(0, len(labels), size):
            file = []
            for i in range(first, first + count):
                jpeg = io.BytesIO(jpegs[starts[i] : starts[i + 1]])
                pixels = np.asarray(image.open(jpeg).convert("RGB"))
                file.append(bytes([labels[i]]) + pixels.transpose(2, 0, 1).tobytes())
            yield b"".join(file)

    for i, content in enumerate(records("train.npz", 5, train), start=1):
        (folder / f"data_batch_{i}.bin").write_bytes(content)
    for content in records("test.npz", 1, test):
        (folder / "test_batch.bin").write_bytes(content)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds all sets: links to those that are as they are published, and part of CIFAR-10."""
    if not DATA.is_dir():
        pytest.skip(f"the real data sets are not beside the project, in {DATA.parent.name}/{DATA.name}")
    folder = tmp_path_factory.mktemp("data")
    for name in ("mnist", "fashion-mnist", "notmnist", "tinyshakespeare"):
        (folder / name).symlink_to(DATA / name, target_is_directory=True)
    return folder


@pytest.fixture(scope="session")
def cifar(data: Path) -> Path:
    unpack_cifar(data / "cifar-10-batches-bin", 1300, 1000)
    return data


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Run a script, and first what must have run before it, in a folder that is common to all: its folder `runs`."""
    folder = tmp_path_factory.mktemp("experiments")

    @cache
    def run(script: str) -> Path:
        environment = {key: value for key, value in os.environ.items() if key != "FUNCNN_DATA"}
        if not script.startswith(("digits", "sweep", "train_folder")):
            environment["FUNCNN_DATA"] = str(request.getfixturevalue("cifar" if "cifar" in script else "data"))
        if script in BEFORE:
            run(BEFORE[script])
        for arguments in ARGUMENTS.get(script, [("--no-plots",)]):
            result = subprocess.run(
                [sys.executable, str(ROOT / "experiments" / script), "--quick", *arguments],
                cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert result.returncode == 0, result.stderr
            assert result.stderr == ""
            assert result.stdout
        return folder / "runs"

    return run


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_quick_run_ends_and_leaves_its_results(script: str, finished: Callable[[str], Path]) -> None:
    runs = finished(script)
    if script not in FOLDERS:
        assert list((runs / Path(script).stem).iterdir())
    for name, accuracy in FOLDERS.get(script, {}).items():
        folder = runs / name
        files = {path.name for path in folder.iterdir()}
        pictures = {"confusion.png", "curves.png", "filters.png", "samples.png"}
        results = {"checkpoint.safetensors", "config.json", "history.csv", "metrics.json", "model.safetensors"}
        assert files == (results | pictures if name in PLOTTED else results)
        metrics, rows = read(folder / "metrics.json"), read_history(folder / "history.csv")
        best = best_row(rows)
        assert (metrics["best_epoch"], metrics["test_accuracy"]) == (best.epoch, best.test_accuracy)
        assert accuracy <= metrics["test_accuracy"] <= 1
        assert np.isfinite([row.validation_loss for row in rows]).all()
        trained = load_trained(folder / "model.safetensors")
        assert count_parameters(trained.model.params) == metrics["parameters"]
        assert (
            checkpoint.read_description(folder / "checkpoint.safetensors").items()
            <= read(folder / "config.json").items()
        )


def test_the_ensemble_tells_what_each_model_and_their_mean_reach(finished: Callable[[str], Path]) -> None:
    runs = finished("cifar10_ensemble.py")
    folder = runs / "cifar10_ensemble"
    assert {path.name for path in folder.iterdir()} == {"confusion.png", "metrics.json", "samples.png"}
    *each, mean = read(folder / "metrics.json")
    assert [Path(row["model"]).parent.name for row in each] == ["cifar10_convnet_1", "cifar10_convnet_2"]
    assert mean["model"] == "their mean"
    for row in each:
        metrics = read(runs / Path(row["model"]).parent.name / "metrics.json")
        assert row["test_accuracy"] == pytest.approx(metrics["test_accuracy"], abs=1e-12)
        assert row["validation_accuracy"] == pytest.approx(metrics["validation_accuracy"], abs=1e-12)
    one, six = read(runs / "views" / "metrics.json")
    assert six["model"] == f"{one['model']}, 6 views"
    assert set(one) == set(six) == {"model", "test_accuracy"}
    assert one["test_accuracy"] == each[0]["test_accuracy"]
    assert 0.1 < six["test_accuracy"] < 1


def test_the_ensembles_views_are_the_image_its_mirror_image_and_both_a_pixel_further() -> None:
    images = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    one, mirrored, before, _, behind, last = module_of("cifar10_ensemble.py").views(images, 6)
    assert np.array_equal(one, images)
    assert np.array_equal(mirrored, images[:, :, ::-1])
    assert np.array_equal(before[:, 1:, 1:], images[:, :-1, :-1])
    assert np.array_equal(before[:, 0, 1:], images[:, 0, :-1])
    assert np.array_equal(behind[:, :-1, :-1], images[:, 1:, 1:])
    assert np.array_equal(last, behind[:, :, ::-1])
    assert len(module_of("cifar10_ensemble.py").views(images, 2)) == 2


def test_autoencoders_are_chosen_by_their_loss_and_show_what_they_make(finished: Callable[[str], Path]) -> None:
    runs = finished("fashion_autoencoder.py")
    drawn = {"codes.png", "curves.png", "filters.png", "inventions.png", "reconstructions.png"}
    for name, pictures in (("fashion_autoencoder", set()), ("fashion_autoencoder_variational", drawn)):
        assert {path.name for path in (runs / name).glob("*.png")} == pictures
        metrics, rows = read(runs / name / "metrics.json"), read_history(runs / name / "history.csv")
        assert (metrics["test_accuracy"], metrics["test_loss"]) == (None, best_row(rows).test_loss)
        assert metrics["test_loss"] < 520  # where every pixel is grey, 784 log 2 = 543
        trained = load_trained(runs / name / "model.safetensors")
        images, codes = predict(trained.net, trained.model, np.zeros((2, 28, 28, 1), np.float32))
        assert (images.shape, codes.shape) == ((2, 28, 28, 1), (2, 4 if pictures else 16))


def test_the_table_of_variants_has_a_row_for_each(finished: Callable[[str], Path]) -> None:
    runs = finished("mlp_variants.py")
    rows = read(runs / "mlp_variants" / "table.json")
    assert [(row["data"], row["variant"]) for row in rows] == [
        ("mnist", variant) for variant in ("plain", "dropout_l2", "stochastic_momentum")
    ]
    for row in rows:
        metrics = read(runs / "mlp_variants" / f"{row['data']}_{row['variant']}" / "metrics.json")
        assert {key: row[key] for key in metrics} == metrics
    sizes = [read(runs / f"mlp_variants/mnist_{row['variant']}/config.json")["batch_size"] for row in rows]
    assert sizes == [64, 64, 1]


def test_weights_of_an_earlier_run_are_where_training_starts(finished: Callable[[str], Path]) -> None:
    """One epoch more after them, on which a net that starts anew would be worse by far."""
    runs = finished("notmnist_mlp.py")
    first, later = (read_history(runs / name / "history.csv") for name in ("deeper", "further"))
    assert later[0].running_loss < first[1].running_loss


# --- In this process ------------------------------------------------------------------------------------------


def module_of(script: str) -> ModuleType:
    path = ROOT / "experiments" / script
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_a_script_does_and_how_it_is_run(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = module_of(script)
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert module.__doc__.splitlines()[0] in told
    assert f"python experiments/{script}" in told
    assert "--quick" in told


@pytest.mark.parametrize(
    ("script", "net", "in_shape", "parameters", "macs"),
    [
        ("mnist_cnn.py", lambda module: module.net(module.FILTERS[1], 10), (28, 28, 1), 9_826, 763_200),
        ("mnist_cnn.py", lambda module: module.net(module.FILTERS[3], 10), (32, 32, 3), 30_682, None),
        ("mnist_position_bias_cnn.py", lambda module: module.NET, (28, 28, 1), 359_846, 2_233_832),
        ("fashion_cnn.py", lambda module: module.net(10), (28, 28, 1), 1_736_714, 19_827_840),
    ],
)
def test_a_net_is_of_the_size_that_its_script_tells(
    script: str, net: Callable[[ModuleType], Any], in_shape: tuple[int, ...], parameters: int, macs: int | None
) -> None:
    module = module_of(script)
    made = net(module)
    assert count_parameters(made.init(Key(0), in_shape).params) == parameters
    assert f"{parameters:,} parameters" in module.__doc__
    assert macs in (None, made.config.macs(in_shape))


@pytest.mark.parametrize("name", ["reconstruction_loss", "variational_loss"])
def test_the_autoencoders_losses_have_the_gradients_of_their_values(name: str) -> None:
    loss = getattr(module_of("fashion_autoencoder.py"), name)
    images = np.random.default_rng(0).integers(256, size=(3, 2, 2, 1), dtype=np.uint8)

    def of_rows(outputs: Array, images: Array) -> tuple[float, Array]:
        value, slopes = loss((outputs[:, :4].reshape(3, 2, 2, 1), outputs[:, 4:]), images)
        return value, np.concatenate([each.reshape(3, -1) for each in slopes], axis=1)

    outputs = np.random.default_rng(1).normal(size=(3, 4 + 6))
    assert check_loss(of_rows, outputs, images, key=Key(0)).largest_error < 1e-6


@pytest.mark.parametrize("number", [1, 2])
def test_the_ensembles_models_are_those_of_the_published_one(number: int) -> None:
    net = module_of("cifar10_convnet.py").net(number, 10)
    names = [layer.name for layer in net.config.children]
    assert (names.count("conv2d"), names.count("dense")) == ((2, 2), (4, 3))[number - 1]
    assert names.count("batch_norm") == len([name for name in names if name in ("conv2d", "dense")]) - 1
    assert net.config.out_shape((32, 32, 3)) == (10,)


def test_weights_come_from_a_net_of_the_same_layers_however_it_was_regularized(tmp_path: Path) -> None:
    module = module_of("notmnist_mlp.py")
    theirs = serial(flatten(), dense(5), relu(), dense(3))
    model = Model(*theirs.init(Key(1), (2, 2, 1))[:2])
    save_trained(tmp_path / "model.safetensors", Trained(theirs, model, (2, 2, 1), ("a", "b", "c"), rescale(255)))
    net = serial(flatten(), gaussian_noise(0.1), dense(5), relu(), dropout(0.5), dense(3))
    found = module.weights_of(str(tmp_path / "model.safetensors"), net, [4, 5, 3])
    assert tree.equal((found.params[2], found.params[5]), (model.params[1], model.params[3]))
    made = net.init(Key(0), (2, 2, 1))
    tree.check_like((found.params, found.state), (made.params, made.state), names=("found", "made"), shapes=True)
    with pytest.raises(SystemExit, match=r"its layers are 4,5,3, those of --layers 4,6,3\. Pass --layers 4,5,3"):
        module.weights_of(str(tmp_path / "model.safetensors"), net, [4, 6, 3])


@pytest.mark.skipif(os.name != "posix", reason="names of files are text on this system")
def test_a_drawing_on_nothing_in_a_file_of_any_name_is_recognised(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((28, 28, 2), np.uint8)
    pixels[4:24, 13:16, 1] = 255  # an upright stroke, black on transparent
    image.fromarray(pixels, "LA").save(tmp_path / "one.png")
    os.rename(tmp_path / "one.png", os.fsencode(tmp_path) + b"/\xffone.png")
    model = ROOT / "funcnn" / "trained" / "mnist_cnn.safetensors"
    command = [sys.executable, str(ROOT / "experiments" / "predict.py"), str(tmp_path), "--model", str(model)]
    result = subprocess.run(
        [*command, "--invert", "--csv", "--no-plots", "--out", str(tmp_path / "out")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    _, row = result.stdout.splitlines()
    name, best, probability, *_ = row.split(",")
    assert (name, best) == ("\N{REPLACEMENT CHARACTER}one.png", "1")
    assert float(probability) > 0.9


@pytest.mark.parametrize("script", ["shakespeare_gpt.py", "shakespeare_lstm.py"])
def test_a_prompt_that_the_text_has_not_is_refused_before_training(script: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, " * 100, encoding="utf-8")  # without a new line
    command = [sys.executable, str(ROOT / "experiments" / script), "--text", "text.txt", "--prompt", "boX"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    wanted = "error: the prompt must be of characters of the text, ' ,benort', got 'X', which it has not\n"
    assert (result.stdout, result.stderr) == ("", wanted)
    assert not (tmp_path / "runs").exists()
