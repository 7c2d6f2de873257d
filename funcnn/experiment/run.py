"""A whole experiment around a problem and a data set: banner, progress, checkpoints, the best net kept, results.

What the scripts in ``experiments/`` have in common. A script's main function calls `parse_options`, builds its net and
calls `run`; `run_script` runs it.
"""

import json
import platform
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn import checkpoint, train, tree
from funcnn.checkpoint import CheckpointError
from funcnn.checks import LayerError
from funcnn.data import DataError, Dataset, load
from funcnn.experiment.options import Options, parse_options, printer, same_command
from funcnn.experiment.results import draw_results, test_metrics
from funcnn.keys import Key
from funcnn.model_file import Trained, save_trained
from funcnn.rebuild import own_parts
from funcnn.report.history import Row, best_row, read_history, row_of, write_history
from funcnn.report.pictures import can_draw
from funcnn.report.progress import progress
from funcnn.report.table import layer_table
from funcnn.settings import as_code, describe
from funcnn.sweep.grid import SweepError
from funcnn.system.files import make_folder, write_text
from funcnn.system.memory import keep_freed_memory
from funcnn.train import Epoch, Model, NonFiniteError, Problem, Step, TrainState
from funcnn.tree import TreeError

__all__ = ["Options", "load_data", "parse_options", "run", "run_script", "steps_per_epoch"]

_SUBSET = 1000  # training examples on which the accuracy after each epoch is measured
_QUICK = (2000, 500)  # examples of a quick run: to train, and in either other part


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main function; what a user can mend ends it with one line, where a traceback would say less.

    The process keeps the memory that it frees (`funcnn.system.memory.keep_freed_memory`).
    """
    keep_freed_memory()
    try:
        main()
    except (CheckpointError, DataError, LayerError, NonFiniteError, OSError, SweepError, TreeError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def load_data(name: str, options: Options | Namespace) -> Dataset:
    """A data set by name, as the options say: from where, a slice for a quick run, without a validation part.

    Raises DataError as `load`.
    """
    dataset = load(name, data_dir=options.data_dir)
    if options.quick:
        dataset = dataset.thin(*_QUICK)
    return dataset if options.validation else dataset.without_validation()


def steps_per_epoch(dataset: Dataset, options: Options) -> int:
    """The number of batches in a pass over the training part: what schedules count in."""
    return -(-len(dataset.train) // options.batch_size)


def run(
    problem: Problem, dataset: Dataset, options: Options, *, initial: Model | TrainState | None = None
) -> dict[str, Any]:
    """Train, evaluate on the test part, and leave everything in ``options.out``; returns the metrics.

    It starts from `initial`, a trained model of the same net, if that is given.

    Writes config.json, and after each epoch history.csv, checkpoint.safetensors and, if the epoch is the best so far
    on the validation part (`best_row`), model.safetensors; at the end metrics.json, the kept model's, and (with
    matplotlib) curves.png, confusion.png, samples.png and filters.png. With ``resume`` it goes on from the checkpoint,
    if there is one, to the same end, bit for bit. On Ctrl-C it says how to go on, and exits.

    Raises OSError before training if the folder cannot be written, CheckpointError for a checkpoint of other
    settings or more epochs, or one whose history.csv is not whole, TreeError for an initial model of another net, and
    ValueError for a problem without a metric.
    """
    if problem.metric is None:
        raise ValueError(
            "run: expected a problem with a metric, to choose the best epoch by and to draw; for others, "
            "loop over funcnn.train.train"
        )
    started = time.perf_counter()
    say = printer(options.quiet)
    folder = make_folder(options.out)
    settings = _settings(problem, dataset, options)
    own_parts(layer=problem.net, preprocessing=dataset.test.preprocess)  # refuses now what could not be saved later
    _banner(problem, dataset, settings, say)

    state = train.init_state(problem, Key(options.seed), dataset.in_shape)
    if initial is not None:
        names = ("the initial model", "the net")
        tree.check_like((initial.params, initial.state), (state.params, state.state), names=names, shapes=True)
        state = TrainState(initial.params, initial.state, state.opt_state, state.step, state.seed)
    rows: list[Row] = []
    if options.resume:
        state, rows = _restore(folder, state, settings, dataset, options, say)
    else:  # should this run be stopped early, --resume must not go on from the checkpoint of an earlier one
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    # Only now, since a refused resumption must leave the settings that it asks for.
    write_text(folder / "config.json", json.dumps(settings | _versions(), indent=2) + "\n")
    try:
        events = train.train(problem, state, dataset, epochs=options.epochs, batch_size=options.batch_size)
        for event in progress(
            _measured(events, problem, dataset),
            epochs=options.epochs, print_every=options.print_every, quiet=options.quiet,
        ):  # fmt: skip
            if isinstance(event, Epoch):
                state = event.state
                rows.append(row_of(event))
                write_history(folder / "history.csv", rows)
                if best_row(rows) is rows[-1]:
                    _save_model(folder, problem, dataset, state, rows[-1], settings)
                # Last: what was killed before it is done again, and the same.
                checkpoint.save(folder / "checkpoint.safetensors", state, description=settings)
    except KeyboardInterrupt:
        done = state.step // steps_per_epoch(dataset, options)
        say(f"\nStopped after epoch {done}. To go on: {same_command('--resume')}")
        raise SystemExit(130) from None

    kept = checkpoint.load(folder / "model.safetensors", Model(state.params, state.state))
    trained = Trained(problem.net, kept, dataset.in_shape, dataset.classes, dataset.test.preprocess)
    metrics = test_metrics(problem, dataset, trained, rows) | {"epochs": options.epochs, "seed": options.seed}
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    if options.plots and can_draw(say):
        draw_results(dataset, trained, rows, metrics, folder)
    say(
        f"test accuracy {metrics['test_accuracy']:.4f}  test loss {metrics['test_loss']:.4f}  "
        f"(the net after epoch {metrics['best_epoch']})  "
        f"training {metrics['train_seconds']:.1f} s  total {time.perf_counter() - started:.1f} s"
    )
    say(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return metrics


def _measured(events: Iterable[Step | Epoch], problem: Problem, dataset: Dataset) -> Iterator[Step | Epoch]:
    """The events, their epochs with the metrics of some training examples and of the test part."""
    subset = dataset.train.thin(_SUBSET)
    for event in events:
        if isinstance(event, Epoch):
            metrics = [train.evaluate(problem, event.state, part) for part in (subset, dataset.test)]
            yield attrs.evolve(event, subset=metrics[0], test=metrics[1])
        else:
            yield event


def _save_model(
    folder: Path, problem: Problem, dataset: Dataset, state: TrainState, row: Row, settings: dict[str, Any]
) -> None:
    how = {key: settings[key] for key in ("loss", "optimizer", "augment", "batch_size", "seed", "train_examples")}
    about = {"epoch": row.epoch, "validation_accuracy": row.validation_accuracy, **how}
    trained = Trained(problem.net, state, dataset.in_shape, dataset.classes, dataset.test.preprocess, about)
    save_trained(folder / "model.safetensors", trained)


def _settings(problem: Problem, dataset: Dataset, options: Options) -> dict[str, Any]:
    """What decides a run's results, as JSON: a checkpoint of other settings is not resumed."""
    return {
        "net": describe(problem.net),
        "loss": describe(problem.loss),
        "optimizer": describe(problem.optimizer),
        "augment": describe(problem.augment),
        "preprocess": describe(dataset.train.preprocess),
        "batch_size": options.batch_size,
        "epochs": options.epochs,
        "seed": options.seed,
        "in_shape": list(dataset.in_shape),
        "train_examples": len(dataset.train),
    }


def _versions() -> dict[str, str]:
    from funcnn import __version__

    return {"funcnn": __version__, "numpy": np.__version__, "python": platform.python_version()}


def _banner(problem: Problem, dataset: Dataset, settings: dict[str, Any], say: Callable[[str], None]) -> None:
    held_out = f"{len(dataset.validation):,} to validate, " if dataset.validation is not None else ""
    say(f"data       {len(dataset.train):,} examples to train, {held_out}{len(dataset.test):,} to test")
    if problem.augment:
        say(f"augment    {', '.join(map(as_code, problem.augment))}")
    say(f"optimizer  {problem.optimizer}")
    say(f"loss       {as_code(problem.loss)}")
    epochs = f"{settings['epochs']} epoch{'s'[: settings['epochs'] > 1]}"
    say(f"run        {epochs} of batches of {settings['batch_size']}, seed {settings['seed']}\n")
    say(layer_table(problem.net, dataset.in_shape) + "\n")


def _restore(
    folder: Path,
    like: TrainState,
    settings: dict[str, Any],
    dataset: Dataset,
    options: Options,
    say: Callable[[str], None],
) -> tuple[TrainState, list[Row]]:
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        say(f"no checkpoint in {folder} yet: starting anew")
        return like, []
    saved = checkpoint.read_description(path)
    # More epochs may be added to a run, unless its schedule (a part of the optimizer) counts on their number.
    differing = [key for key in settings if key != "epochs" and saved.get(key) != json.loads(json.dumps(settings[key]))]
    if differing:
        raise CheckpointError(
            f"{path}: saved with another {', '.join(differing)}. Resume with the settings it was started with "
            f"({folder / 'config.json'}), or leave out --resume to start anew"
        )
    state = checkpoint.load(path, like)
    epochs = state.step // steps_per_epoch(dataset, options)
    if epochs > options.epochs:
        raise CheckpointError(
            f"{path}: it has {epochs} epochs behind it. Pass --epochs {epochs} or more, or leave out --resume to start "
            "anew"
        )
    try:
        rows = [row for row in read_history(folder / "history.csv") if row.epoch <= epochs]
    except ValueError as error:
        raise CheckpointError(f"{error}. Mend it, or leave out --resume to start anew") from error
    if [row.epoch for row in rows] != list(range(1, epochs + 1)):
        raise CheckpointError(
            f"{folder / 'history.csv'}: it lacks some of the {epochs} epochs that the checkpoint has, by which the "
            "best is known. Put it back, or leave out --resume to start anew"
        )
    say(f"going on after epoch {epochs}")
    return state, rows
