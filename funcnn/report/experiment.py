"""A whole experiment around a problem and a data set: options, banner, progress, checkpoints, results, pictures.

What the scripts in ``experiments/`` have in common. A script's main function calls `parse_options`, builds its net and
calls `run`; `run_script` runs it.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn import checkpoint, train
from funcnn.checkpoint import CheckpointError
from funcnn.data import DataError, Dataset
from funcnn.files import make_folder, write_text
from funcnn.keys import Key
from funcnn.layer import LayerError, describe, show
from funcnn.layers import softmax
from funcnn.memory import keep_freed_memory
from funcnn.metrics import confusion_matrix
from funcnn.report.history import Row, read_history, row_of, write_history
from funcnn.report.progress import progress
from funcnn.report.table import count_parameters, layer_table
from funcnn.train import Epoch, Model, NonFiniteError, Problem, TrainState

__all__ = ["Options", "parse_options", "run", "run_script"]


@attrs.frozen
class Options:
    """What the command line of every experiment sets."""

    epochs: int
    batch_size: int
    lr: float
    seed: int
    data_dir: str | None
    out: Path
    resume: bool
    quick: bool
    quiet: bool
    plots: bool


def parse_options(
    description: str,
    *,
    name: str,
    epochs: int,
    batch_size: int,
    lr: float,
    quick_epochs: int = 1,
    arguments: list[str] | None = None,
) -> Options:
    """The options of a script from its command line, with its defaults; ``--help`` explains them.

    >>> parse_options("Train.", name="demo", epochs=9, batch_size=32, lr=0.1, arguments=["--quick"]).epochs
    1
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    passes = f"passes over the training data (default {epochs}; {quick_epochs} if --quick)"
    add("--epochs", type=_positive(int), help=passes)
    add("--batch-size", type=_positive(int), default=batch_size, help="examples per step (default %(default)s)")
    add("--lr", type=_positive(float), default=lr, help="the learning rate, or its peak (default %(default)s)")
    add("--seed", type=int, default=0, help="the run's seed: equal seeds give equal results (default %(default)s)")
    add("--data-dir", help="the folder of the data files (default: the environment variable FUNCNN_DATA)")
    add("--out", type=Path, default=Path("runs") / name, help="the folder for results (default %(default)s)")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add("--quick", action="store_true", help="a short run, to see that everything works")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--no-plots", dest="plots", action="store_false", help="draw no pictures")
    values = vars(parser.parse_args(arguments))
    values["epochs"] = values["epochs"] or (quick_epochs if values["quick"] else epochs)
    return Options(**values)


def _positive(kind: type) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
        return value

    convert.__name__ = kind.__name__  # argparse names the converter in its messages
    return convert


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main function; what a user can mend ends it with one line, where a traceback would say less.

    The process keeps the memory that it frees (`funcnn.memory.keep_freed_memory`).
    """
    keep_freed_memory()
    try:
        main()
    except (CheckpointError, DataError, LayerError, NonFiniteError, OSError) as error:
        sys.exit(f"error: {error}")


def run(problem: Problem, dataset: Dataset, options: Options) -> dict[str, Any]:
    """Train, evaluate on the test part, and leave everything in ``options.out``; returns the metrics.

    Writes config.json, and after each epoch history.csv and checkpoint.safetensors; at the end metrics.json,
    model.safetensors and (with matplotlib) curves.png, confusion.png and samples.png. With ``resume`` it goes on
    from the checkpoint, if there is one, to the same end, bit for bit. On Ctrl-C it says how to go on, and exits.

    Raises OSError before training if the folder cannot be written, CheckpointError for a checkpoint of other
    settings.
    """
    started = time.perf_counter()
    say = _silent if options.quiet else print
    folder = make_folder(options.out)
    settings = _settings(problem, dataset, options)
    _banner(problem, dataset, settings, say)

    state = train.init_state(problem, Key(options.seed), dataset.in_shape)
    rows: list[Row] = []
    if options.resume:
        state, rows = _restore(folder, state, settings, dataset, options, say)
    # Only now, since a refused resumption must leave the settings that it asks for.
    write_text(folder / "config.json", json.dumps(settings | _versions(), indent=2) + "\n")
    per_epoch = -(-len(dataset.train) // options.batch_size)
    try:
        events = train.train(problem, state, dataset, epochs=options.epochs, batch_size=options.batch_size)
        for event in progress(events, epochs=options.epochs, quiet=options.quiet):
            if isinstance(event, Epoch):
                state = event.state
                rows.append(row_of(event))
                write_history(folder / "history.csv", rows)
                checkpoint.save(folder / "checkpoint.safetensors", state, description=settings)
    except KeyboardInterrupt:
        say(f"\nStopped after epoch {state.step // per_epoch}. To go on: {_resume_command()}")
        raise SystemExit(130) from None

    metrics = _evaluate(problem, dataset, state, rows, options)
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    trained = {"net": describe(problem.net), "in_shape": dataset.in_shape, "classes": dataset.classes}
    trained["preprocess"] = describe(dataset.test.preprocess)
    checkpoint.save(folder / "model.safetensors", Model(state.params, state.state), description=trained)
    if options.plots:
        _draw(problem, dataset, state, rows, metrics, folder, say)
    say(
        f"test accuracy {metrics['test_accuracy']:.4f}  test loss {metrics['test_loss']:.4f}  "
        f"training {metrics['train_seconds']:.1f} s  total {time.perf_counter() - started:.1f} s"
    )
    say(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return metrics


def _silent(text: str) -> None:
    return None


def _settings(problem: Problem, dataset: Dataset, options: Options) -> dict[str, Any]:
    """What decides a run's results, as JSON: a checkpoint of other settings is not resumed."""
    return {
        "net": describe(problem.net),
        "loss": describe(problem.loss),
        "optimizer": describe(problem.optimizer),
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
    say(f"optimizer  {problem.optimizer}")
    say(f"loss       {show(problem.loss)}")
    say(f"run        {settings['epochs']} epochs of batches of {settings['batch_size']}, seed {settings['seed']}\n")
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
    epochs = state.step // -(-len(dataset.train) // options.batch_size)
    say(f"going on after epoch {epochs}")
    return state, [row for row in read_history(folder / "history.csv") if row.epoch <= epochs]


def _resume_command() -> str:
    command = [Path(sys.executable).name, *sys.argv]
    return shlex.join(command if "--resume" in command else [*command, "--resume"])


def _evaluate(
    problem: Problem, dataset: Dataset, state: TrainState, rows: list[Row], options: Options
) -> dict[str, Any]:
    test = train.evaluate(problem, state, dataset.test)
    seconds = sum(row.seconds for row in rows)
    return {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "epochs": options.epochs,
        "train_seconds": round(seconds, 3),
        "images_per_second": round(len(rows) * len(dataset.train) / seconds, 1) if seconds else None,
        "parameters": count_parameters(state.params),
        "peak_memory_mb": _peak_memory_mb(),
        "seed": options.seed,
    }


def _peak_memory_mb() -> float | None:
    """The most memory that this process has had resident; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _draw(
    problem: Problem,
    dataset: Dataset,
    state: TrainState,
    rows: list[Row],
    metrics: dict[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say('no pictures: matplotlib is not installed. For pictures: pip install "funcnn[plots]"')
        return
    from funcnn.report.pictures import draw_confusion, draw_curves, draw_samples

    logits = train.predict(problem.net, state, dataset.test)
    probabilities = softmax().apply(None, None, logits).y
    labels = dataset.test.targets
    shown = f"test accuracy {metrics['test_accuracy']:.4f}"
    draw_curves(rows, folder / "curves.png", title=f"{folder.name}: {shown}")
    draw_confusion(confusion_matrix(logits, labels), dataset.classes, folder / "confusion.png", title=shown)
    draw_samples(
        dataset.test.inputs, labels, probabilities, dataset.classes, folder / "samples.png",
        title="true / predicted, with its probability; the wrong ones first",
    )  # fmt: skip
