"""``--device``: runs, predictions and sweeps compute there, say so and leave the files of the CPU; or end at once."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import standin
from cases import assert_close

from funcnn import Key, checkpoint, tree
from funcnn.command import main
from funcnn.data import load
from funcnn.device import device_of_tree, to_device, to_host
from funcnn.experiment import parse_options, parse_sweep_options, run, run_sweep
from funcnn.experiment.device import shown_device
from funcnn.layers import dense
from funcnn.losses import softmax_cross_entropy
from funcnn.model_file import load_trained, probabilities
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.report.history import read_history
from funcnn.sweep import SweepError, TrainingTrial
from funcnn.system import devices
from funcnn.system.devices import register
from funcnn.team import TeamError
from funcnn.train import Problem, init_state

register("standin", standin)

ROOT = Path(__file__).parents[2]
DATA = load("digits").thin(200, 100)
PROBLEM = Problem(fully_connected([16], 10, dropout=0.2), softmax_cross_entropy, adam(0.01))
USUAL: dict[str, Any] = {"name": "demo", "epochs": 2, "batch_size": 50, "lr": 0.01}


def options(*arguments: object) -> Any:
    return parse_options("Train.", **USUAL, arguments=[*map(str, arguments)])


def state_in(folder: Path) -> Any:
    return checkpoint.load(folder / "checkpoint.safetensors", init_state(PROBLEM, Key(0), DATA.in_shape))


def test_a_run_there_is_that_of_the_cpu_says_where_it_is_and_goes_on_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {device: tmp_path / device for device in ("cpu", "standin")}
    for device, folder in folders.items():
        run(PROBLEM, DATA, options("--device", device, "--out", folder, "--no-plots"))
        printed = capsys.readouterr().out
        assert ("device     standin: standin" in printed) == (device == "standin")
        assert json.loads((folder / "config.json").read_text())["device"] == shown_device(device)
    here, there = folders.values()
    assert {path.name for path in there.iterdir()} == {path.name for path in here.iterdir()}
    assert_close(state_in(there), state_in(here), 1e-5)
    assert checkpoint.read_description(there / "checkpoint.safetensors") == checkpoint.read_description(
        here / "checkpoint.safetensors"
    )
    for one, other in zip(read_history(there / "history.csv"), read_history(here / "history.csv"), strict=True):
        assert one.validation_accuracy == other.validation_accuracy
    for folder, device in ((there, "cpu"), (here, "standin")):  # each goes on where the other was
        run(PROBLEM, DATA, options("--device", device, "--out", folder, "--epochs", 3, "--resume", "--no-plots"))
        assert "going on after epoch 2" in capsys.readouterr().out
    assert_close(state_in(there), state_in(here), 1e-5)


def test_a_run_stopped_there_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    for folder, epochs in (("whole", [3]), ("stopped", [1, 3])):
        for number in epochs:
            where = ("--device", "standin", "--out", tmp_path / folder, "--epochs", number)
            run(PROBLEM, DATA, options(*where, "--resume", "--quiet", "--no-plots"))
    assert tree.equal(state_in(tmp_path / "stopped"), state_in(tmp_path / "whole"))


def test_an_initial_model_may_lie_anywhere(tmp_path: Path) -> None:
    state = init_state(PROBLEM, Key(1), DATA.in_shape)
    results = []
    for device in ("cpu", "standin"):
        given = options("--device", device, "--out", tmp_path / device, "--quiet", "--no-plots", "--epochs", 1)
        other = "cpu" if device == "standin" else "standin"
        results.append(run(PROBLEM, DATA, given, initial=to_device(state, other)))
    assert results[0]["test_loss"] == pytest.approx(results[1]["test_loss"], rel=1e-5)


def test_a_run_in_shards_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("--workers", "--shards"):
        with pytest.raises(SystemExit):
            options("--device", "standin", given, 2)
        assert "it takes a batch whole, in one process" in capsys.readouterr().err
    begun = ("--out", tmp_path, "--quiet", "--no-plots")
    run(PROBLEM, DATA, options(*begun, "--shards", 2, "--epochs", 1))
    with pytest.raises(TeamError, match="--device standin: it takes a batch whole, and this run's have 2 shards"):
        run(PROBLEM, DATA, options(*begun, "--device", "standin", "--resume"))


# --- The command ----------------------------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command in an empty folder: its exit code, and what it printed or said."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object) -> tuple[Any, str]:
        code: Any = 0
        try:
            main(list(map(str, arguments)))
        except SystemExit as stopped:
            code = stopped.code
        return code, "".join(capsys.readouterr())

    return run_it


def test_the_command_trains_and_predicts_there(call: Callable[..., Any], tmp_path: Path) -> None:
    code, said = call("train", "digits", "--device", "standin", "--quick", "--out", "run", "--batch-size", 200)
    assert code == 0, said
    assert "device     standin" in said
    made = {path.name for path in Path("run").iterdir()}
    assert made >= {"model.safetensors", "confusion.png", "samples.png", "filters.png", "curves.png"}
    pillow = pytest.importorskip("PIL.Image")
    for i, image in enumerate(DATA.test.inputs[:3]):
        pillow.fromarray(np.uint8(image[..., 0] * (255 // 16))).save(tmp_path / f"{i}.png")
    tables = []
    for device in ("cpu", "standin"):
        code, said = call("predict", tmp_path, "--model", "run/model.safetensors", "--device", device, "--out", device)
        assert code == 0, said
        assert (" on standin: standin" in said) == (device == "standin")
        rows = [line.split(",") for line in (Path(device) / "predictions.csv").read_text().splitlines()[1:]]
        tables.append([(*row[:2], pytest.approx(float(row[2]), abs=1e-5)) for row in rows])
    assert tables[0] == [(*row[:2], row[2].expected) for row in tables[1]]
    trained = load_trained("run/model.safetensors")
    there = attrs.evolve(trained, model=to_device(trained.model, "standin"))
    assert_close(to_host(probabilities(there, DATA.test.inputs)), probabilities(trained, DATA.test.inputs), 1e-5)


@pytest.mark.parametrize("command", [("train", "digits"), ("demo",), ("predict", "none.png", "--model", "mnist_cnn")])
def test_what_is_not_there_ends_it_before_anything_is_made(
    call: Callable[..., Any], command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    monkeypatch.setattr(devices, "_MODULES", {"standin": standin})
    code, said = call(*command, "--device", "cuda")
    assert code == 2
    assert "argument --device: device 'cuda': CuPy is not installed" in said
    assert 'pip install "funcnn[cuda]"' in said
    code, said = call(*command, "--device", "gpu")
    assert code == 2
    assert "argument --device: expected one of 'cpu', 'cuda', 'standin', got 'gpu'" in said
    assert list(Path.cwd().iterdir()) == []


def test_cupy_without_a_gpu_ends_it_too(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Runtime:
        @staticmethod
        def getDeviceCount() -> int:
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    class Cupy:
        class cuda:
            runtime = Runtime

    monkeypatch.setitem(sys.modules, "cupy", Cupy)
    monkeypatch.setattr(devices, "_MODULES", {})
    code, said = call("demo", "--device", "cuda")
    assert code == 2
    assert "CuPy finds no GPU (cudaErrorNoDevice: no CUDA-capable device is detected). Look at nvidia-smi" in said


def test_a_run_called_with_a_device_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    given = attrs.evolve(options("--out", tmp_path / "run"), device="cuda:7")
    with pytest.raises(ValueError, match="device: expected one of"):
        run(PROBLEM, DATA, given)
    assert list(tmp_path.iterdir()) == []


def test_the_program_in_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "gpu.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "_MODULES", {"cuda": standin})
    monkeypatch.setattr(devices, "_CLASSES", {standin.ndarray: ("cuda", standin)})
    found: dict[str, Any] = {}
    exec(program, found)
    assert device_of_tree(found["run"].params) == "cuda"
    assert found["evaluate"](found["problem"], found["run"], found["data"].test).accuracy > 0.8
    assert (tmp_path / "run.safetensors").exists()
    with pytest.raises(TypeError) as caught:
        dense(10).apply(to_device(dense(10).init(Key(0), (4,)).params, "cuda"), None, np.ones((2, 4), np.float32))
    assert f"DeviceError: {caught.value}" in text


def test_the_benchmark_runs_without_a_gpu(tmp_path: Path) -> None:
    script, found = ROOT / "benchmarks" / "gpu.py", tmp_path / "found.json"
    parts = ("--parts", "steps", "predict", "--nets", "mlp")
    subprocess.run([sys.executable, script, "--dry", *parts, "--json", found], check=True, capture_output=True)
    results = json.loads(found.read_text())
    assert results["environment"]["dry"]
    assert [each["name"] for each in results["results"]["steps"]] == ["mlp 2", "mlp 2"]
    assert all(each["samples"]["funcnn"] for part in results["results"].values() for each in part)


# --- Sweeps ---------------------------------------------------------------------------------------------------


def sweep_options(*arguments: object) -> Any:
    axes = {"lr": (0.001, 0.01)}
    return parse_sweep_options("Q?", name="demo", axes=axes, quick={}, epochs=1, arguments=[*map(str, arguments)])


def test_a_sweeps_trials_run_there_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.device.trials import make

    common = ("--seeds", 1, "--quiet", "--no-plots")
    given = sweep_options("--device", "standin", "--out", tmp_path / "there", *common)
    assert given.jobs == 1
    found = {}
    for its_options in (given, sweep_options("--jobs", 1, "--out", tmp_path / "here", *common)):
        results = run_sweep(TrainingTrial(make), its_options, question=None, draw=lambda results, folder: None)
        assert [each.status for each in results] == ["done", "done"], results
        found[its_options.device] = {each.config.lr: each for each in results}
    for lr, one in found["standin"].items():
        assert one.config.device == "standin"
        assert "device" not in found["cpu"][lr].config.as_dict()
        assert one.metrics["test_loss"] == pytest.approx(found["cpu"][lr].metrics["test_loss"], rel=1e-5)


def test_sweeps_that_cannot_run_there_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (("--mpi",), ("--scheduler", "tcp://there:8786"), ("--workers", "2")):
        with pytest.raises(SystemExit):
            sweep_options("--device", "standin", *given)
        assert "--device standin: " in capsys.readouterr().err

    def trial(config: Any, seed: int) -> dict[str, Any]:
        return {"value": 1.0}

    with pytest.raises(SweepError, match="--device: this sweep's trials measure more than a training"):
        run_sweep(trial, sweep_options("--device", "standin", "--out", tmp_path), question=None, draw=[])
