"""Whole experiments in this process: what a run writes, keeps, prints, refuses and goes on from."""

import json
import os
import re
import shlex
import signal
import sys
from functools import partial
from pathlib import Path

import attrs
import numpy as np
import pytest
from run_of_digits import assert_same_results, is_picture
from safetensors import safe_open
from safetensors.numpy import save_file

from funcnn import Key, checkpoint, serial, train, tree
from funcnn.checkpoint import CheckpointError
from funcnn.data import flip_horizontally, load, shifted_crop, standardise
from funcnn.experiment import load_data, parse_options, run, steps_per_epoch
from funcnn.experiment.resume import data_hash
from funcnn.layer import Applied, Config, Gradients, make_layer
from funcnn.layer import config as layer_config
from funcnn.losses import softmax_cross_entropy
from funcnn.model_file import load_trained
from funcnn.models import fully_connected
from funcnn.optimizers import adam, sgd
from funcnn.rebuild import rebuild
from funcnn.report.history import read_history
from funcnn.schedules import piecewise_constant
from funcnn.system.lock import FolderInUse, locked
from funcnn.train import Epoch, Model, NonFiniteError, Problem, Step
from funcnn.tree import TreeError


@pytest.fixture
def options(tmp_path):
    arguments = ["--quick", "--no-plots", "--out", str(tmp_path / "run")]
    return parse_options("Train.", name="demo", epochs=9, batch_size=256, lr=0.01, quick_epochs=2, arguments=arguments)


def problem(optimizer=adam(0.01)):  # noqa: B008  (it is a value)
    return Problem(fully_connected([16], 10), partial(softmax_cross_entropy, label_smoothing=0.1), optimizer)


DIGITS = load("digits")
STEPS = 6  # of 256 of the 1,294 images


def fresh(problem):
    return train.init_state(problem, Key(0), DIGITS.in_shape)


def epochs_of(problem, epochs):
    """The epochs of a run without files."""
    events = train.train(problem, fresh(problem), DIGITS, epochs=epochs, batch_size=256)
    return [event for event in events if isinstance(event, Epoch)]


def saved_state(folder):
    return checkpoint.load(folder / "checkpoint.safetensors", fresh(problem()))


def test_a_run_returns_what_it_writes_and_prints_how_it_went(options, capsys):
    metrics = run(problem(), load("digits"), options)
    assert json.loads((options.out / "metrics.json").read_text()) == metrics
    config = json.loads((options.out / "config.json").read_text())
    assert config["loss"] == {"function": "softmax_cross_entropy", "label_smoothing": 0.1}
    assert rebuild(config["net"]) == problem().net
    printed = capsys.readouterr().out
    assert "loss       softmax_cross_entropy(label_smoothing=0.1)" in printed
    assert f"test accuracy {metrics['test_accuracy']:.4f}" in printed


def test_more_epochs_go_on_from_the_checkpoint(options, capsys):
    data = load("digits")
    run(problem(), data, options)
    run(problem(), data, attrs.evolve(options, epochs=3, resume=True))
    assert "going on after epoch 2" in capsys.readouterr().out
    assert [row.epoch for row in read_history(options.out / "history.csv")] == [1, 2, 3]
    alone = attrs.evolve(options, epochs=3, quiet=True, out=options.out.parent / "alone")
    run(problem(), data, alone)
    saved = (folder / "model.safetensors" for folder in (options.out, alone.out))
    assert next(saved).read_bytes() == next(saved).read_bytes()


def test_fewer_epochs_than_it_has_are_no_resumption(options):
    run(problem(), DIGITS, options)
    before = (options.out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"it has 2 epochs behind it\. Pass --epochs 2 or more"):
        run(problem(), DIGITS, attrs.evolve(options, epochs=1, resume=True))
    assert (options.out / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.unlink(), "it lacks some of the 2 epochs that the checkpoint has"),
        (lambda path: path.write_text("".join(path.read_text().splitlines(True)[:2])), "it lacks some of the 2 epochs"),
        (lambda path: path.write_text(path.read_text().replace("\n2,", "\nx,")), "line 3: not a row of a history"),
    ],
    ids=["gone", "cut", "damaged"],
)
def test_a_history_that_is_not_whole_is_no_resumption(damage, text, options):
    run(problem(), DIGITS, options)
    kept = (options.out / "model.safetensors").read_bytes()
    damage(options.out / "history.csv")
    with pytest.raises(CheckpointError, match=text) as raised:
        run(problem(), DIGITS, attrs.evolve(options, epochs=3, resume=True))
    assert "history.csv" in str(raised.value)
    assert "--resume" in str(raised.value)
    assert (options.out / "model.safetensors").read_bytes() == kept


def test_without_a_metric_the_loss_chooses_and_is_told(options, capsys):
    metrics = run(attrs.evolve(problem(SPOILT), metric=None), DIGITS, attrs.evolve(options, epochs=4, plots=True))
    rows = read_history(options.out / "history.csv")
    losses = [row.validation_loss for row in rows]
    assert metrics["best_epoch"] == losses.index(min(losses)) + 1 < 4
    assert metrics["test_loss"] == rows[metrics["best_epoch"] - 1].test_loss
    assert (metrics["test_accuracy"], rows[0].validation_accuracy) == (None, None)
    told = capsys.readouterr().out
    assert f"\ntest loss {metrics['test_loss']:.4f}  (the net after epoch {metrics['best_epoch']})" in told
    assert is_picture(options.out / "curves.png")


def test_pictures_of_ones_own_are_drawn_of_the_kept_net_and_replaced(options, capsys):
    def draw(trained, path):
        path.write_text(repr(trained.net))

    def fail(trained, path):
        raise MemoryError("no room")

    with_plots = attrs.evolve(options, plots=True)
    run(problem(), DIGITS, with_plots, pictures={"map.png": draw, "grid.png": draw})
    assert (options.out / "map.png").read_text() == (options.out / "grid.png").read_text() == repr(problem().net)
    capsys.readouterr()
    run(problem(), DIGITS, with_plots, pictures={"map.png": fail, "grid.png": draw})
    assert capsys.readouterr().err == "no map.png: MemoryError: no room\n"
    assert not (options.out / "map.png").exists()
    assert (options.out / "grid.png").exists()


def test_resuming_before_there_is_a_checkpoint_starts_anew(options, capsys):
    run(problem(), load("digits"), attrs.evolve(options, resume=True))
    assert f"no checkpoint in {options.out} yet: starting anew" in capsys.readouterr().out


def test_a_checkpoint_of_other_settings_is_refused(options):
    run(problem(), load("digits"), options)
    other = Problem(problem().net, softmax_cross_entropy, adam(0.02))
    config = (options.out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"saved with another loss, optimizer\. Resume with the settings"):
        run(other, load("digits"), attrs.evolve(options, resume=True))
    assert (options.out / "config.json").read_bytes() == config  # what the message says to resume with


def test_an_interrupt_keeps_the_finished_epochs_and_says_how_to_go_on(options, capsys, monkeypatch):
    def interrupted(events, **_):
        for event in events:
            yield event
            if isinstance(event, Epoch):
                raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["funcnn.experiment.run"], "progress", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(problem(), load("digits"), options)
    assert stopped.value.code == 130
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"Stopped after epoch 1. To go on: {shlex.quote(sys.orig_argv[0])} ")
    assert last.endswith("--resume")
    assert (options.out / "checkpoint.safetensors").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_stops_the_run_at_the_next_step(options, monkeypatch):
    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)  # what is raised in here is printed, and dropped

    def losing_one(events, **_):
        for event in events:
            seen.append(event)
            if len(seen) == 2:
                Finalised()
            yield event

    seen = []
    monkeypatch.setattr(sys.modules["funcnn.experiment.run"], "progress", losing_one)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stopped:
        run(problem(), DIGITS, options)
    assert (stopped.value.code, len(seen)) == (130, 2)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_the_users_own_handler_only_notes_stops_nothing(options, monkeypatch):
    def signalling(events, **_):
        for event in events:
            if isinstance(event, Step) and event.step == 2:
                signal.raise_signal(signal.SIGTERM)
            yield event

    noted = []
    monkeypatch.setattr(sys.modules["funcnn.experiment.run"], "progress", signalling)
    before = signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    try:
        run(problem(), DIGITS, options)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert noted == [signal.SIGTERM]
    assert (options.out / "metrics.json").exists()


# A rate that is right for two epochs, and then so high that they are undone.
SPOILT = adam(piecewise_constant([2 * STEPS], [0.01, 10.0]))


def test_the_net_of_the_best_epoch_is_kept(options):
    metrics = run(problem(SPOILT), DIGITS, attrs.evolve(options, epochs=4, quiet=True))
    rows = read_history(options.out / "history.csv")
    accuracies = [row.validation_accuracy for row in rows]
    best = accuracies.index(max(accuracies))
    assert best == 1
    assert metrics["best_epoch"] == best + 1
    for measure in ("validation_accuracy", "test_accuracy", "test_loss"):
        assert metrics[measure] == getattr(rows[best], measure) != getattr(rows[-1], measure)
    trained = load_trained(options.out / "model.safetensors")
    states = [event.state for event in epochs_of(problem(SPOILT), 4)]
    assert tree.equal(trained.model, Model(states[best].params, states[best].state))
    assert (trained.net, trained.classes, trained.in_shape) == (problem().net, DIGITS.classes, DIGITS.in_shape)
    assert trained.preprocess == DIGITS.test.preprocess
    about = {key: trained.about[key] for key in ("epoch", "validation_accuracy", "batch_size", "seed")}
    assert about == {"epoch": 2, "validation_accuracy": accuracies[best], "batch_size": 256, "seed": 0}
    # The checkpoint goes on from the last epoch, whichever was the best.
    assert tree.equal(saved_state(options.out), states[-1])


def test_every_part_is_measured_after_each_epoch(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    for row, event in zip(read_history(options.out / "history.csv"), epochs_of(problem(), 2), strict=True):
        parts = {"train": DIGITS.train.thin(1000), "validation": DIGITS.validation, "test": DIGITS.test}
        for name, part in parts.items():
            metrics = train.evaluate(problem(), event.state, part)
            assert (getattr(row, f"{name}_loss"), getattr(row, f"{name}_accuracy")) == (metrics.loss, metrics.accuracy)
        assert (row.running_loss, row.running_accuracy) == (event.train.loss, event.train.accuracy)
        assert row.learning_rate == 0.01


class Killed(BaseException):
    """What ends a run in the midst, as no handler of exceptions knows it."""


def killed_at(write, monkeypatch, *arguments):
    """Whether a run was ended before a file, counted from 0, was put in its place."""
    replace, count = Path.replace, 0

    def last(path, target):
        nonlocal count
        count += 1
        if count > write:
            raise Killed
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", last)
        try:
            run(*arguments)
        except Killed:
            return True
    return False


def save_every(seconds, monkeypatch):
    monkeypatch.setattr(sys.modules["funcnn.experiment.run"], "_SECONDS", seconds)


# The settings, for each saving a history, a checkpoint and the model if it is a new one, the metrics.
@pytest.mark.parametrize(("seconds", "writes"), [(0, 1 + 4 + 4 + 2 + 1), (1000, 1 + 1 + 1 + 1 + 1)])
def test_killed_before_any_of_its_files_a_run_goes_on_to_the_same_end(seconds, writes, options, monkeypatch):
    save_every(seconds, monkeypatch)
    alone = attrs.evolve(options, epochs=4, quiet=True)
    run(problem(SPOILT), DIGITS, alone)
    for write in range(writes):
        ended = attrs.evolve(alone, out=options.out.parent / f"killed_{write}")
        assert killed_at(write, monkeypatch, problem(SPOILT), DIGITS, ended)
        run(problem(SPOILT), DIGITS, attrs.evolve(ended, resume=True))
        assert_same_results(ended.out, alone.out)
    assert not killed_at(writes, monkeypatch, problem(SPOILT), DIGITS, alone)


def test_a_run_may_be_killed_again_and_again(options, monkeypatch):
    save_every(0, monkeypatch)
    alone = attrs.evolve(options, epochs=4, quiet=True)
    run(problem(SPOILT), DIGITS, alone)
    ended = attrs.evolve(alone, out=options.out.parent / "killed", resume=True)
    kills = 0
    while killed_at(5, monkeypatch, problem(SPOILT), DIGITS, ended):  # enough for one epoch's files each time
        kills += 1
    assert kills > 2
    assert_same_results(ended.out, alone.out)


def test_epochs_are_saved_about_once_a_second_and_the_last_at_once(options, monkeypatch):
    module, clock, saved = sys.modules["funcnn.experiment.run"], iter(np.arange(0.3, 100, 0.3)), []
    events = epochs_of(problem(), 8)
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(module, "write_history", lambda path, rows: saved.append(len(rows)))
    epochs = module._Epochs(options.out, problem(), None, {}, module._Reached(None, ()), saved=0.0)
    monkeypatch.setattr(module, "_save_model", lambda *arguments: None)
    monkeypatch.setattr(module.checkpoint, "save", lambda *arguments, **options: None)
    for event in events:
        epochs.add(event)
    assert saved == [4, 8]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, NonFiniteError("step 9")], ids=repr)
def test_a_run_that_is_stopped_or_fails_loses_no_epoch(stop, options, monkeypatch):
    save_every(1000, monkeypatch)

    def stopping(events, **_):
        for event in events:
            yield event
            if isinstance(event, Epoch) and event.epoch == 3:
                raise stop

    alone = attrs.evolve(options, epochs=4, quiet=True)
    run(problem(SPOILT), DIGITS, alone)
    ended = attrs.evolve(alone, out=options.out.parent / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["funcnn.experiment.run"], "progress", stopping)
        with pytest.raises(SystemExit if stop is KeyboardInterrupt else NonFiniteError):
            run(problem(SPOILT), DIGITS, ended)
    assert [row.epoch for row in read_history(ended.out / "history.csv")] == [1, 2, 3]
    assert tree.equal(saved_state(ended.out), epochs_of(problem(SPOILT), 3)[-1].state)
    run(problem(SPOILT), DIGITS, attrs.evolve(ended, resume=True))
    assert_same_results(ended.out, alone.out)


def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    before = {path.name: path.read_bytes() for path in options.out.iterdir()}
    for resume in (False, True):
        with locked(options.out, "another run"), pytest.raises(FolderInUse, match=r"in use by another run \(process"):
            run(problem(), DIGITS, attrs.evolve(options, resume=resume, epochs=3))
    assert {path.name: path.read_bytes() for path in options.out.iterdir()} == before


def test_what_an_earlier_run_left_does_not_stand_beside_a_model_of_another(options, monkeypatch):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    assert (options.out / "metrics.json").exists()
    run(problem(), DIGITS, attrs.evolve(options, quiet=True, resume=True))  # nothing is left to do
    assert (options.out / "metrics.json").exists()
    monkeypatch.setattr(sys.modules["funcnn.experiment.run"], "progress", lambda *_, **__: iter([1 / 0]))
    for change in ({"resume": True, "epochs": 3}, {}):
        (options.out / "metrics.json").touch()
        with pytest.raises(ZeroDivisionError):
            run(problem(), DIGITS, attrs.evolve(options, quiet=True, **change))
        assert not (options.out / "metrics.json").exists()


def no_number(text):
    raise AssertionError(f"{text} is no JSON")


def nan_after(examples):
    """A metric that is not a number on a larger batch than the two examples on which it is tried out."""

    def metric(outputs, targets):
        return np.float32("nan" if len(outputs) > examples else 0.5)

    return metric


def test_metrics_that_are_no_numbers_are_null_and_the_rest_is_written(options, capsys):
    metrics = run(attrs.evolve(problem(), metric=nan_after(2)), DIGITS, options)
    text = (options.out / "metrics.json").read_text()
    assert json.loads(text, parse_constant=no_number) == metrics
    assert (metrics["test_accuracy"], metrics["validation_accuracy"], metrics["epochs"]) == (None, None, 2)
    assert "test accuracy nan" in capsys.readouterr().out
    assert np.isnan(load_trained(options.out / "model.safetensors").about["validation_accuracy"])


def test_what_fails_at_the_end_is_said_and_the_rest_is_written(options, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("latex could not be found")

    for name in ("can_draw", "draw_results"):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["funcnn.experiment.run"], name, fail)
            metrics = run(problem(), DIGITS, attrs.evolve(options, plots=True, quiet=True))
        assert "the pictures are not complete: RuntimeError: latex could not be found\n" in capsys.readouterr().err
        assert json.loads((options.out / "metrics.json").read_text()) == metrics


WRONG_METRICS = {"a text": lambda outputs, targets: np.str_("good"), "many": lambda outputs, targets: np.ones(3)}


@pytest.mark.parametrize("metric", WRONG_METRICS.values(), ids=WRONG_METRICS)
def test_a_metric_that_gives_no_number_is_refused_before_training(metric, options):
    with pytest.raises((TypeError, ValueError)):
        run(attrs.evolve(problem(), metric=metric), DIGITS, options)
    assert os.listdir(options.out) == []


def test_a_run_stays_in_its_folder_wherever_the_process_goes(options, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def moving(images, key):
        os.chdir(tmp_path / "elsewhere")
        return images

    run(attrs.evolve(problem(), augment=(moving,)), DIGITS, attrs.evolve(options, out=Path("here")))
    assert os.listdir(tmp_path / "elsewhere") == []
    assert "metrics.json" in os.listdir(tmp_path / "here")
    assert "results in here: checkpoint.safetensors, config.json, history.csv" in capsys.readouterr().out


@pytest.mark.parametrize("every", [4, 5])
def test_lines_for_steps_are_printed_on_wish(every, options, capsys):
    run(problem(), DIGITS, attrs.evolve(options, print_every=every))
    printed = re.findall(
        r"^step (\d+) \((\d+)% of epoch (\d)\)  loss \S+ accuracy ", capsys.readouterr().out, re.MULTILINE
    )
    wanted = [number for number in range(1, 2 * STEPS + 1) if number % every == 0]
    assert [int(number) for number, _, _ in printed] == wanted
    assert [int(epoch) for _, _, epoch in printed] == [1 + (number - 1) // STEPS for number in wanted]
    # After the first epoch, a run that goes on prints those of the second.
    run(problem(), DIGITS, attrs.evolve(options, print_every=every, epochs=3, resume=True))
    printed = re.findall(r"^step (\d+) ", capsys.readouterr().out, re.MULTILINE)
    assert [int(number) for number in printed] == [n for n in range(2 * STEPS + 1, 3 * STEPS + 1) if n % every == 0]


def test_a_quiet_run_prints_nothing(options, capsys):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True, print_every=1))
    assert capsys.readouterr() == ("", "")


def test_a_run_may_start_from_a_trained_model(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    initial = load_trained(options.out / "model.safetensors").model
    again = attrs.evolve(options, quiet=True, epochs=1, out=options.out.parent / "again")
    run(problem(sgd(0.0)), DIGITS, again, initial=initial)
    assert tree.equal(load_trained(again.out / "model.safetensors").model, initial)
    # A state gives its parameters alone: the steps are counted anew, in this run's order, from the optimizer's start.
    state = saved_state(options.out)
    run(problem(), DIGITS, again, initial=state)
    saved = saved_state(again.out)
    assert (saved.step, saved.seed) == (STEPS, 0)
    start = attrs.evolve(fresh(problem()), params=state.params, state=state.state)
    (*_, last) = train.train(problem(), start, DIGITS, epochs=1, batch_size=256)
    assert tree.equal(saved, last.state)


def test_an_initial_model_of_another_net_is_refused_before_anything_is_written(options):
    other = fully_connected([17], 10)
    with pytest.raises(TreeError, match="the initial model"):
        run(problem(), DIGITS, options, initial=Model(*other.init(Key(0), DIGITS.in_shape)[:2]))
    assert list(options.out.iterdir()) == []


def test_augmentation_is_told_and_makes_another_run(options, capsys):
    run(problem(), DIGITS, options)
    plain = capsys.readouterr().out
    augmented = attrs.evolve(problem(), augment=(flip_horizontally, partial(shifted_crop, pad=1)))
    with pytest.raises(CheckpointError, match="saved with another augment"):
        run(augmented, DIGITS, attrs.evolve(options, resume=True))
    capsys.readouterr()
    model = (options.out / "model.safetensors").read_bytes()
    run(augmented, DIGITS, options)
    assert "augment    flip_horizontally, shifted_crop(pad=1)" in capsys.readouterr().out
    assert "augment  " not in plain
    assert json.loads((options.out / "config.json").read_text())["augment"] == [
        {"function": "flip_horizontally"},
        {"function": "shifted_crop", "pad": 1},
    ]
    assert (options.out / "model.safetensors").read_bytes() != model


def test_a_run_in_shards_goes_on_with_other_workers(options, capsys):
    whole = attrs.evolve(options, epochs=3, shards=2, quiet=True, out=options.out.parent / "whole")
    run(problem(), DIGITS, whole)
    run(problem(), DIGITS, attrs.evolve(options, workers=2))
    assert "workers    2, each batch in 2 shards\n" in capsys.readouterr().out
    # The shards are those that it was begun with, whatever the workers now.
    run(problem(), DIGITS, attrs.evolve(options, epochs=3, resume=True, quiet=True))
    assert_same_results(options.out, whole.out)
    with pytest.raises(CheckpointError, match="saved with another shards"):
        run(problem(), DIGITS, attrs.evolve(options, epochs=4, resume=True, shards=3))


def test_another_preprocessing_is_another_run(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    other = DIGITS.prepared(standardise(DIGITS.train.inputs))
    with pytest.raises(CheckpointError, match="saved with another preprocess"):
        run(problem(), other, attrs.evolve(options, resume=True))
    run(problem(), other, attrs.evolve(options, quiet=True))
    assert load_trained(options.out / "model.safetensors").preprocess == other.train.preprocess


def changed(part):
    inputs = part.inputs.copy()
    inputs[7, 3, 3] ^= 1
    return attrs.evolve(part, inputs=inputs)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_other_examples_are_another_run(part, options):
    """Of as many, with the same shapes and labels: one bit of one pixel differs."""
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    other = attrs.evolve(DIGITS, **{part: changed(getattr(DIGITS, part))})
    with pytest.raises(CheckpointError, match=r"saved with another data\. Resume with"):
        run(problem(), other, attrs.evolve(options, resume=True))
    with pytest.raises(CheckpointError, match=r"saved with another train_examples, data\. Resume"):
        run(problem(), DIGITS.thin(1000, 100), attrs.evolve(options, resume=True))


def own_loss(factor):
    """Losses that print and describe themselves alike."""

    def loss(outputs, targets):
        value, gradient = softmax_cross_entropy(outputs, targets)
        return factor * value, np.float32(factor) * gradient

    return loss


def test_parts_that_only_their_code_tells_apart_make_another_run(options):
    run(attrs.evolve(problem(), loss=own_loss(1)), DIGITS, attrs.evolve(options, quiet=True))
    run(attrs.evolve(problem(), loss=own_loss(1)), DIGITS, attrs.evolve(options, resume=True, quiet=True, epochs=3))
    with pytest.raises(CheckpointError, match=r"saved with another code of its parts\. Resume with"):
        run(attrs.evolve(problem(), loss=own_loss(2)), DIGITS, attrs.evolve(options, resume=True))


def lacks_checksums(folder):
    """As earlier versions left it: fewer settings, and no checksums."""
    path = folder / "checkpoint.safetensors"
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["funcnn"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["checksums"], metadata["description"]["data"], metadata["description"]["code of its parts"]
    save_file(arrays, path, metadata={"funcnn": json.dumps(metadata)})


def test_a_run_of_an_earlier_version_goes_on(options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    lacks_checksums(options.out)
    run(problem(), DIGITS, attrs.evolve(options, resume=True, quiet=True, epochs=3))
    alone = attrs.evolve(options, epochs=3, quiet=True, out=options.out.parent / "alone")
    run(problem(), DIGITS, alone)
    assert_same_results(options.out, alone.out)


def another_state(folder, **values):
    path = folder / "checkpoint.safetensors"
    checkpoint.save(path, attrs.evolve(saved_state(folder), **values), description=checkpoint.read_description(path))


DAMAGED_RUNS = {
    "no settings": (
        lambda folder: checkpoint.save(folder / "checkpoint.safetensors", saved_state(folder), description=[1]),
        "no checkpoint of a run",
    ),
    "a step within an epoch": (lambda folder: another_state(folder, step=7), "step 7 with seed 0 is no end of an"),
    "a step before the first": (lambda folder: another_state(folder, step=-STEPS), "step -6 with seed 0 is no end"),
    "another seed": (lambda folder: another_state(folder, seed=1), "step 12 with seed 1 is no end of an epoch here"),
    "no model": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: it is not the net of ep"),
    "another model": (
        lambda folder: checkpoint.save(folder / "model.safetensors", 1, description=3),
        "model.safetensors: it is not the net of epoch 2, the best that the checkpoint has behind it. Put it back",
    ),
    "half a model": (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "damaged or cut short"),
}


@pytest.mark.parametrize(("damage", "text"), DAMAGED_RUNS.values(), ids=DAMAGED_RUNS)
def test_what_is_damaged_is_found_before_training(damage, text, options):
    run(problem(), DIGITS, attrs.evolve(options, quiet=True))
    damage(options.out)
    with pytest.raises(CheckpointError, match=text):
        run(problem(), DIGITS, attrs.evolve(options, resume=True, epochs=3))


def half(stored):
    return stored.astype(np.float32) / 8


@layer_config
class Doubled(Config):
    name = "doubled"


def doubled_apply(config, params, state, x, *, key=None, train=False):
    return Applied(2 * x, state, ())


def doubled_backward(config, params, residuals, dy, *, need_dx=True):
    return Gradients(None, 2 * dy)


DOUBLED = make_layer(Doubled(), doubled_apply, doubled_backward)
OWN = {
    "layer": (serial(DOUBLED, fully_connected([16], 10)), DIGITS),
    "preprocessing": (fully_connected([16], 10), DIGITS.prepared(half)),
}


@pytest.mark.parametrize(("net", "data"), OWN.values(), ids=OWN)
def test_a_run_with_a_part_of_the_users_own_ends_as_any_other(net, data, options):
    """A file cannot rebuild what this library does not know: nothing that a run needs may depend on it."""
    metrics = run(attrs.evolve(problem(), net=net), data, attrs.evolve(options, quiet=True))
    assert (
        metrics["test_accuracy"] == read_history(options.out / "history.csv")[metrics["best_epoch"] - 1].test_accuracy
    )


def test_a_quick_run_takes_a_slice_of_the_data(options):
    data = load_data("digits", attrs.evolve(options, quick=True))
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)  # all of what is so small
    assert steps_per_epoch(data, options) == STEPS
    assert steps_per_epoch(data, attrs.evolve(options, batch_size=1294)) == 1
    assert steps_per_epoch(data, attrs.evolve(options, batch_size=1293)) == 2


def test_a_run_without_a_validation_part_trains_on_all_and_keeps_the_last_epoch(options):
    options = attrs.evolve(options, validation=False, plots=True)
    data = load_data("digits", options)
    assert (len(data.train), data.validation) == (1438, None)
    metrics = run(problem(), data, options)
    rows = read_history(options.out / "history.csv")
    assert (metrics["best_epoch"], metrics["validation_accuracy"]) == (options.epochs, None)
    assert metrics["test_accuracy"] == rows[-1].test_accuracy
    assert {row.validation_accuracy for row in rows} == {None}
    assert (options.out / "curves.png").exists()


def test_a_run_draws_its_pictures(options, capsys):
    run(problem(), load("digits"), attrs.evolve(options, plots=True, quiet=True))
    assert capsys.readouterr() == ("", "")
    assert all(is_picture(options.out / name) for name in ("curves.png", "confusion.png", "samples.png", "filters.png"))


def test_a_run_without_validation_or_matplotlib(options, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = attrs.evolve(load("digits"), validation=None)
    run(problem(), data, attrs.evolve(options, plots=True))
    printed = capsys.readouterr().out
    assert 'matplotlib is not installed. For pictures: pip install "funcnn[plots]"' in printed
    assert "validate" not in printed
    assert read_history(options.out / "history.csv")[0].validation_loss is None


@pytest.mark.parametrize("held_out", ["validation", None])
def test_a_run_without_a_test_part_says_what_there_is_and_nothing_of_a_test(held_out, options, capsys):
    data = attrs.evolve(load_data("digits", options), test=None)
    data = data if held_out else attrs.evolve(data, validation=None)
    metrics = run(problem(), data, attrs.evolve(options, plots=True))
    printed, rows = capsys.readouterr().out, read_history(options.out / "history.csv")
    assert {row.test_accuracy for row in rows} == {row.test_loss for row in rows} == {None}
    assert metrics["test_accuracy"] is metrics["test_loss"] is None
    assert " to test" not in printed
    assert "test accuracy" not in printed
    assert not any(" test" in line for line in printed.splitlines() if line.startswith("epoch"))
    if held_out:
        assert f"validation accuracy {metrics['validation_accuracy']:.4f}  validation loss " in printed
        assert metrics["validation_accuracy"] == max(row.validation_accuracy for row in rows)
        assert is_picture(options.out / "samples.png")
    else:
        assert "examples to train, and none to measure the net by" in printed
        assert "no part to measure it by  (the net after epoch 2)" in printed
        assert not (options.out / "confusion.png").exists()
    assert is_picture(options.out / "curves.png")
    again = run(problem(), data, attrs.evolve(options, resume=True, epochs=3))
    assert (again["epochs"], again["test_loss"]) == (3, None)


def test_a_run_says_where_its_data_are_from_and_a_hash_of_them(options, tmp_path):
    data = load_data("digits", options)
    run(problem(), data, options)
    config = json.loads((options.out / "config.json").read_text())
    assert (config["data_source"], config["data"]) == ("digits", data_hash(data))
    assert data_hash(data) != data_hash(data.without_validation())


def test_examples_in_a_file_make_the_same_run_as_in_memory(options, tmp_path):
    data = load_data("digits", options)
    kept = [run(problem(), data, options)]
    for name in ("train", "validation", "test"):
        part = getattr(data, name)
        np.save(tmp_path / f"{name}.npy", part.inputs)
        inputs = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        data = attrs.evolve(data, **{name: attrs.evolve(part, inputs=inputs)})
    options = attrs.evolve(options, epochs=3, resume=True, plots=True)
    kept.append(run(problem(), data, options))  # the checkpoint is of the same examples
    assert [each["epochs"] for each in kept] == [2, 3]
    assert all(is_picture(options.out / name) for name in ("confusion.png", "samples.png"))
