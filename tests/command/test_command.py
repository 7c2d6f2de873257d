"""The command: what it shows, runs and leaves, how it ends, and how little it imports to say what it can do."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from processes import linux
from run_of_digits import assert_same_results

from funcnn import __version__, serial, tree
from funcnn.command import COMMANDS, main
from funcnn.layers import embedding
from funcnn.model_file import Trained, load_trained, save_trained
from funcnn.nn.embedding import EmbeddingParams
from funcnn.sweep import Result, configuration
from funcnn.sweep.results import ResultsFile, trial_key
from funcnn.train import Model
from funcnn.trained import model_path, trained_models

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in an empty folder: its exit code, what it printed, and what it said on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code: object = 0
        try:
            main(list(map(str, arguments)))
        except SystemExit as stopped:
            code = stopped.code
        out, error = capsys.readouterr()
        return (code, out, error) if isinstance(code, int) else (1, out, f"{error}{code}")

    return run


def _hears_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs ignore


def started(*arguments: object, cwd: Path, stderr: int | None = None) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "funcnn", *map(str, arguments)]
    return subprocess.Popen(
        command, text=True, env=environment, stdout=subprocess.PIPE, stderr=stderr, cwd=cwd, preexec_fn=_hears_ctrl_c
    )


# --- The list of commands -------------------------------------------------------------------------------------


def test_alone_it_shows_what_it_can_do(call: Call) -> None:
    code, out, error = call()
    assert (code, error) == (0, "")
    assert call("--help") == (0, out, "")
    for name, what in COMMANDS.items():
        assert f"  {name} " in out
        assert what in out


def test_it_says_its_version(call: Call) -> None:
    assert call("--version") == (0, f"funcnn {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(name: str, call: Call) -> None:
    code, out, _ = call(name, "--help")
    assert code == 0
    assert f"\n    funcnn {name}" in out.replace("python -m funcnn", "funcnn")
    assert not {"{0}", "{1}"} & set(out.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pedict"], "there is no command 'pedict'. Did you mean predict?"),
        (["sweep_report"], "Did you mean sweep-report?"),
        (["xyz"], "The commands are demo, train, predict"),
        (["--epochs", "3"], "there is no command '3'"),
        (["--quick"], "unrecognized arguments: --quick"),
        (["demo", "--epochs", "0"], "argument --epochs: must be more than 0, got 0"),
        (["train", "nowhere"], "there is no folder nowhere, and no data set of that name, as digits, mnist"),
        (["train", __file__], f"{__file__} is a file, and no folder of images. A table is learned in Python"),
        (["generate", "x", "--temperature", "0"], "argument --temperature: must be more than 0, got 0"),
        (["export", "mnist_cnn"], "the following arguments are required: --to"),
        (["serve", "mnist_cnn", "--port", "70000"], "--port 70000: expected a port from 0 to 65535"),
    ],
)
def test_what_is_typed_wrong_ends_it_with_2(arguments: list[str], told: str, call: Call) -> None:
    code, out, error = call(*arguments)
    assert (code, out) == (2, "")
    assert told in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["info", "mnist"], "no trained net 'mnist': expected the path"),
        (["export", "no_cnn", "--to", "npz"], "fashion_mlp, mnist_cnn, notmnist_mlp"),
        (["predict", "nothing.png", "--model", "mnist_cnn"], "nothing.png: no such file or folder"),
        (["generate", "mnist_cnn"], "trained must be a net of texts, whose inputs are (time,), got (28, 28, 1)"),
        (["sweep-report", "."], "results.jsonl: no results to report"),
        (["info", "."], ". is a folder: expected a trained net's file"),
    ],
)
def test_what_a_user_can_mend_ends_it_with_one_line(arguments: list[str], told: str, call: Call) -> None:
    code, _, error = call(*arguments)
    assert code == 1
    assert error.startswith("error: ")
    assert told in error
    assert "\n" not in error.strip()


def test_the_list_of_commands_imports_little() -> None:
    heavy = ("scipy", "sklearn", "matplotlib", "onnx", "starlette", "uvicorn", "PIL", "safetensors", "funcnn.train",
             "funcnn.experiment", "funcnn.data", "funcnn.web")  # fmt: skip
    code = f"""
import sys
from funcnn.command import main
try:
    main(["--help"])
except SystemExit:
    print([each for each in {heavy!r} if each in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- Names of nets --------------------------------------------------------------------------------------------


def test_the_nets_in_the_package_are_found_by_name_and_others_by_path(tmp_path: Path) -> None:
    assert {"fashion_mlp", "mnist_cnn", "notmnist_mlp"} <= set(trained_models())
    for name in trained_models():
        assert load_trained(model_path(name)).classes
    other = tmp_path / "other"
    other.write_bytes(model_path("mnist_cnn").read_bytes())
    assert model_path(other) == model_path(str(other)) == other


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"or one of .*fashion_mlp, .*Did you mean mnist_cnn\?"):
        model_path("mnist_cn")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"is a folder.*Pass .*model\.safetensors"):
        model_path(tmp_path)


# --- demo, train, info ----------------------------------------------------------------------------------------


def test_the_demo_is_the_scripts_run_and_says_what_comes_next(tmp_path: Path) -> None:
    with started("demo", "--quick", "--no-plots", cwd=tmp_path) as command:
        out, _ = command.communicate(timeout=120)
    assert command.returncode == 0
    model = "runs/digits_cnn/model.safetensors"
    assert f"python -m funcnn predict drawing.png --model {model}\n  python -m funcnn serve {model}\n" in out
    script = [sys.executable, str(ROOT / "experiments" / "digits_cnn.py"), "--quick", "--no-plots", "--out", "script"]
    told = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True).stdout
    assert_same_results(tmp_path / "runs" / "digits_cnn", tmp_path / "script")
    banner = told[: told.index("\nepoch")]
    assert banner in out
    assert "98,026" in banner


def test_a_data_set_is_trained_on_by_its_name_and_info_shows_what_is_left(call: Call) -> None:
    code, out, error = call("train", "digits", "--quick", "--no-plots")
    assert (code, error) == (0, "")
    assert out.endswith("predict IMAGES --model runs/digits/model.safetensors\n")
    code, out, _ = call("info", "runs/digits/model.safetensors")
    assert code == 0
    for told in ("a trained net", "conv2d(32, 3,", "input ", "8x8x1", "10: 0, 1, 2, 3", "float32", "preprocess "):
        assert told in out
    code, out, _ = call("info", "runs/digits/checkpoint.safetensors")
    assert code == 0
    for told in ("a checkpoint", "opt_state", "step", "21", "seed", "softmax_cross_entropy(label_smoothing=0.1)"):
        assert told in out


def test_info_of_a_damaged_file_says_so(call: Call, tmp_path: Path) -> None:
    save_trained(tmp_path / "whole", load_trained(model_path("mnist_cnn")))
    whole = (tmp_path / "whole").read_bytes()
    middle = len(whole) - 2000
    damaged = {
        "cut": whole[:3000],
        "empty": b"",
        "text": b"some text",
        "flipped": whole[:middle] + b"\xff\x01" + whole[middle + 2 :],
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        code, out, error = call("info", name)
        assert (code, out) == (1, ""), name
        assert error.startswith(f"error: {name}: damaged"), error


def test_a_folder_with_a_damaged_image_is_trained_on_and_a_line_says_so(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, shade in (("night", 40), ("noon", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            image.new("RGB", (8, 8), (shade + i,) * 3).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "photos" / "noon" / "0.png").write_bytes(b"no image")
    with started("train", "photos", "--quick", "--no-plots", cwd=tmp_path, stderr=subprocess.PIPE) as command:
        _, error = command.communicate(timeout=120)
    assert command.returncode == 0
    start = "warning: photos: 1 of 20 images cannot be read and are left out: noon/0.png (the first: "
    assert [line[: len(start)] for line in error.splitlines()] == [start]


@linux
def test_an_interrupt_ends_it_with_130_and_the_command_to_go_on(tmp_path: Path) -> None:
    with started("demo", "--epochs", 500, "--no-plots", cwd=tmp_path) as command:
        checkpoint, deadline = tmp_path / "runs" / "digits_cnn" / "checkpoint.safetensors", time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
        out, _ = command.communicate(timeout=60)
    assert command.returncode == 130
    assert out.splitlines()[-1].endswith("-m funcnn demo --epochs 500 --no-plots --resume")


# --- predict, serve, export -----------------------------------------------------------------------------------


def test_a_net_in_the_package_predicts_by_its_name(call: Call, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 13:16] = 255
    image.fromarray(pixels).save(tmp_path / "one.png")
    code, out, _ = call("predict", "one.png", "--model", "mnist_cnn", "--no-plots")
    assert code == 0
    assert out.splitlines()[1].split()[:2] == ["one.png", "1"]


def test_a_net_of_texts_goes_on_from_a_prompt(call: Call) -> None:
    net = serial(embedding(3, 3))
    always = EmbeddingParams(np.roll(1000 * np.eye(3, dtype=np.float32), 1, axis=1))  # b after a, c after b, a after c
    save_trained("abc.safetensors", Trained(net, Model((always,), (None,)), (2,), ("a", "b", "c")))
    assert call("generate", "abc.safetensors", "--prompt", "ca", "--length", 5) == (0, "cabcabc\n", "")
    assert call("generate", "abc.safetensors", "--length", 3)[1] == "abca\n"
    code, _, error = call("generate", "abc.safetensors", "--prompt", "dab")
    assert (code, error) == (1, "error: the prompt must be of characters of the text, 'abc', got 'd', which it has not")


@linux
def test_the_page_is_served_until_an_interrupt(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    with started("serve", "mnist_cnn", "--port", 0, cwd=tmp_path) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("mnist_cnn is at http://127.0.0.1:")
        with urllib.request.urlopen(line.split()[3], timeout=30) as answer:
            page = answer.read().decode()
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
    assert "<canvas" in page


def test_a_net_is_exported_for_other_libraries(call: Call) -> None:
    trained = load_trained(model_path("mnist_cnn"))
    model = Model(trained.model.params, trained.model.state)
    assert call("export", "mnist_cnn", "--to", "npz")[0] == 0
    with np.load("mnist_cnn.npz") as arrays:
        assert tuple(arrays["classes"]) == trained.classes
        assert set(arrays) - {"classes"} == set(tree.paths(model))
        for name, leaf in zip(tree.paths(model), tree.flatten(model), strict=True):
            np.testing.assert_array_equal(arrays[name], leaf)
    from safetensors.numpy import load_file

    assert call("export", "mnist_cnn", "--to", "torch", "--out", "there.safetensors")[0] == 0
    weights = load_file("there.safetensors")
    assert weights["0.weight"].shape == (8, 1, 5, 5)
    np.testing.assert_array_equal(weights["0.weight"].transpose(2, 3, 1, 0), trained.model.params[0].weight)
    assert call("export", model_path("mnist_cnn"), "--to", "npz", "--out", model_path("mnist_cnn"))[0] == 2


def test_a_net_is_exported_to_onnx(call: Call) -> None:
    onnx = pytest.importorskip("onnx")
    code, out, _ = call("export", "mnist_cnn", "--to", "onnx")
    assert (code, out) == (0, f"mnist_cnn.onnx: {Path('mnist_cnn.onnx').stat().st_size:,} bytes\n")
    onnx.checker.check_model(onnx.load("mnist_cnn.onnx"))


# --- sweep-report ---------------------------------------------------------------------------------------------


def test_a_sweeps_report_is_written_again_and_keeps_what_it_said(call: Call, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "experiments" / "sweep_learning_rate.py"), "--quick", "--no-plots"]
    more = ["--axis", "optimizer=sgd,adam", "--axis", "lr=0.1,0.01", "--out", "sweep"]
    subprocess.run([*script, *more], cwd=tmp_path, capture_output=True, timeout=120, check=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "sweep").iterdir()}
    code, out, _ = call("sweep-report", "sweep")
    assert code == 0
    assert out.split()[:3] == ["optimizer", "lr", "validation_accuracy"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "sweep").iterdir()} == before


def test_a_report_has_the_metrics_that_one_asks_for(call: Call, tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "results.jsonl")
    for lr, error in ((0.1, 3.5), (0.2, 1.5)):
        config = configuration(lr=lr)
        key = trial_key(config, 0, "mine", "1")
        file.append(Result(key, config, 0, "done", {"error": error, "<size>": 5}, 1.0, "host", "mine", "1"))
    code, out, _ = call("sweep-report", ".", "--metric", "error", "<size>", "--lowest")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["lr", "error"],
        ["0.2", "1.5000"],
        ["0.1", "3.5000"],
    ]
    assert "<h1>mine</h1>" in Path("report.html").read_text()
    assert call("sweep-report", ".", "--lowest")[1] == out  # as the page before has them
    code, _, error = call("sweep-report", ".", "--metric", "loss")
    assert (code, error) == (1, "error: --metric loss: the results have error, <size>, seconds")
    assert json.loads(Path("results.jsonl").read_text().splitlines()[0])["metrics"]["error"] == 3.5
