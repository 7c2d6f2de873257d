"""The demo's script as a user runs it: whole runs, stopped ones resumed, bad settings."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from run_of_digits import assert_same_results, is_picture

from funcnn import checkpoint
from funcnn.report.history import best_row, read_history

ROOT = Path(__file__).parents[2]
FILES = {
    "checkpoint.safetensors", "config.json", "confusion.png", "curves.png", "filters.png", "history.csv",
    "metrics.json", "model.safetensors", "samples.png",
}  # fmt: skip


def command(script, *arguments):
    return [sys.executable, str(ROOT / "experiments" / script), *map(str, arguments)]


def run(script, *arguments, **options):
    return subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A quick run left alone: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    result = run("digits_cnn.py", "--quick", "--out", folder)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_leaves_every_file_and_nothing_else(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == FILES
    for picture in ("curves.png", "confusion.png", "samples.png", "filters.png"):
        assert is_picture(folder / picture)


def test_metrics_and_history_are_complete(finished):
    folder, _ = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == {
        "test_accuracy", "test_loss", "validation_accuracy", "validation_loss", "best_epoch", "epochs",
        "train_seconds", "images_per_second", "parameters", "peak_memory_mb", "seed",
    }  # fmt: skip
    assert metrics["test_accuracy"] > 0.8  # three epochs; chance is 0.1
    rows = read_history(folder / "history.csv")
    assert [row.epoch for row in rows] == [1, 2, 3]
    for measure in ("train_loss", "validation_loss", "test_loss", "running_loss"):
        assert getattr(rows[-1], measure) < getattr(rows[0], measure)
    best = best_row(rows)
    assert metrics["best_epoch"] == best.epoch
    for measure in ("test_accuracy", "test_loss", "validation_accuracy"):
        assert metrics[measure] == getattr(best, measure)
    assert sum(row.seconds for row in rows) == pytest.approx(metrics["train_seconds"], abs=1e-3)


def test_prints_plain_lines_without_a_terminal(finished):
    _, output = finished
    assert "\r" not in output
    assert "\x1b" not in output
    assert max(map(len, output[output.index("\nepoch ") :].splitlines()[:4])) <= 80
    number = r"\d\.\d{4}"
    header = r"epoch +loss +accuracy +train +validation +test +lr +sec +left\n"
    lines = [rf" *{epoch}/3( +{number}){{5}} +\S+ +\d+\.\d\d +\d+:\d\d\n" for epoch in (1, 2, 3)]
    assert re.search("\n" + header + "".join(lines) + "test accuracy", output)
    assert "residual bytes" in output
    assert "test accuracy" in output


def test_model_file_says_what_it_is(finished):
    folder, _ = finished
    description = checkpoint.read_description(folder / "model.safetensors")
    assert description["net"]["name"] == "serial"
    assert description["in_shape"] == [8, 8, 1]
    assert description["classes"] == list("0123456789")


def test_equal_seeds_give_equal_bits(finished, tmp_path):
    folder, _ = finished
    assert run("digits_cnn.py", "--quick", "--quiet", "--no-plots", "--out", tmp_path).stdout == ""
    assert_same_results(tmp_path, folder)
    assert not (tmp_path / "curves.png").exists()


def written(path):
    return path.stat().st_mtime_ns if path.exists() else None


def test_killed_again_and_again_and_resumed_equals_left_alone(finished, tmp_path):
    """At random moments from when a run starts to train to when it ends, each killing what resumed from the last."""
    folder, _ = finished
    length = ((folder / "metrics.json").stat().st_mtime_ns - (folder / "config.json").stat().st_mtime_ns) / 1e9
    arguments = ("--quick", "--quiet", "--no-plots", "--out", tmp_path, "--resume")
    for moment in np.random.default_rng(0).uniform(0, 0.7 * length, size=4):
        before, deadline = written(tmp_path / "config.json"), time.monotonic() + 60
        process = subprocess.Popen(command("digits_cnn.py", *arguments))
        while written(tmp_path / "config.json") == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL)
    result = run("digits_cnn.py", *arguments)
    assert result.returncode == 0, result.stderr
    assert_same_results(tmp_path, folder)


def test_a_finished_run_that_is_resumed_trains_no_more(finished, tmp_path):
    folder, _ = finished
    for name in ("checkpoint.safetensors", "config.json", "history.csv", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    result = run("digits_cnn.py", "--quick", "--no-plots", "--out", tmp_path, "--resume", "--print_every=1")
    assert result.returncode == 0, result.stderr
    assert "going on after epoch 3" in result.stdout
    assert not re.search(r"^(step|epoch) |^ *\d+/\d+ ", result.stdout, re.MULTILINE)
    assert_same_results(tmp_path, folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_an_interrupt_says_how_to_go_on(number, tmp_path):
    arguments = ("--epochs", 500, "--no-plots", "--out", tmp_path)
    process = subprocess.Popen(command("digits_cnn.py", *arguments), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped after epoch" in output
    assert "--resume" in output.splitlines()[-1]


def test_without_a_standard_output_and_in_the_users_home(finished, tmp_path):
    folder, _ = finished
    arguments = ("--quick", "--no-plots", "--out=~/runs/demo")
    home = os.environ | {"HOME": str(tmp_path)}
    script = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command("digits_cnn.py", *arguments)]
    assert subprocess.run(script, env=home, check=False).returncode == 0
    assert_same_results(tmp_path / "runs" / "demo", folder)


def test_resume_of_other_settings_is_refused(finished):
    folder, _ = finished
    result = run("digits_cnn.py", "--quick", "--resume", "--batch-size", 32, "--out", folder)
    assert result.returncode != 0
    assert "saved with another" in result.stderr
    assert "batch_size" in result.stderr
    assert "leave out --resume" in result.stderr
    assert "Traceback" not in result.stderr


def test_unwritable_folder_fails_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = run("digits_cnn.py", "--quick", "--out", tmp_path / "file" / "out")
    assert result.returncode != 0
    assert f"cannot write in the folder {tmp_path / 'file' / 'out'}" in result.stderr
    assert "epoch" not in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--epochs", "0"], "must be more than 0, got 0"),
        (["--lr", "-1"], "must be more than 0, got -1"),
        (["--batch-size", "many"], "invalid int value: 'many'"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["--print_every", "0"], "argument --print-every: must be more than 0, got 0"),
        (["--recipe", "ours"], "unrecognized arguments: --recipe ours"),  # it has but one
    ],
)
def test_bad_options(arguments, text):
    result = run("digits_cnn.py", *arguments)
    assert result.returncode == 2
    assert text in result.stderr


def test_without_matplotlib_says_what_installs_it_and_goes_on(tmp_path):
    # An empty module in its place, first on the path, that fails to import as a missing one does.
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('No module named matplotlib')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = run("digits_cnn.py", "--quick", "--out", tmp_path / "out", env=environment)
    assert result.returncode == 0, result.stderr
    assert 'pip install "funcnn[plots]"' in result.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not (tmp_path / "out" / "curves.png").exists()
