"""A whole experiment around a problem and a data set: banner, progress, checkpoints, the best net kept, results.

What the scripts in ``experiments/`` have in common. A script's main function calls `parse_options`, builds its net and
calls `run`; `run_script` runs it.
"""

import io
import os
import platform
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn import checkpoint, train, tree
from funcnn.arrays.threads import cores
from funcnn.checkpoint import CheckpointError
from funcnn.checks import LayerError
from funcnn.data import DataError, Dataset, load, load_folder
from funcnn.data.folders import usual_size
from funcnn.data.load import IMAGE_SETS
from funcnn.device import to_device
from funcnn.experiment.device import shown_device
from funcnn.experiment.options import Options, plain_warnings, printer, same_command, warn
from funcnn.experiment.results import NO_PICTURES, Draw, draw_results, reached, test_metrics
from funcnn.experiment.resume import restore, run_settings, shards_of
from funcnn.keys import Key
from funcnn.metrics.shared import is_lower_better
from funcnn.model_file import Trained, familiar_logit, save_trained
from funcnn.rebuild import own_parts
from funcnn.report.figures import can_draw
from funcnn.report.history import Row, best_row, row_of, write_history
from funcnn.report.progress import progress
from funcnn.report.table import layer_table
from funcnn.settings import as_code, refuse
from funcnn.sweep.grid import SweepError
from funcnn.system.files import make_folder, write_json
from funcnn.system.interrupts import heeded, stopped_by
from funcnn.system.lock import locked
from funcnn.system.memory import keep_freed_memory
from funcnn.system.text import printable
from funcnn.team import TeamError
from funcnn.team.mpi import ranks, serving
from funcnn.train import Epoch, Model, NonFiniteError, Problem, Step, TrainState
from funcnn.tree import TreeError

__all__ = ["load_data", "load_set", "run", "run_script", "steps_per_epoch"]

_SECONDS = 1.0  # between two savings: they take longer than an epoch of a tiny net, so that a run would only wait
_PICTURES = ("curves.png", "confusion.png", "samples.png", "filters.png")
_SUBSET = 1000  # training examples on which the accuracy after each epoch is measured
_QUICK = (2000, 500)  # examples of a quick run: to train, and in either other part


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main function; what a user can mend ends it with one line, where a traceback would say less.

    SIGTERM and SIGHUP stop it as Ctrl-C does. A character that its output does not have, as an ASCII terminal no ±, is
    written as an escape. The process keeps the memory that it frees (`funcnn.system.memory.keep_freed_memory`).
    """
    keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with stopped_by("SIGTERM", "SIGHUP"), plain_warnings():
            main()
    except (CheckpointError, DataError, LayerError, NonFiniteError, OSError, SweepError, TeamError, TreeError) as error:
        lines = [printable(line) for line in str(error).split("\n")]  # a name in it may hold terminal escapes
        sys.exit("error: " + "\n".join(lines))
    except KeyboardInterrupt:
        sys.exit(130)


def load_data(name: str, options: Options | Namespace) -> Dataset:
    """A data set by name, or a folder of class folders, as the options say.

    They say where its files are, which size and channels a folder's images get, whether all of it is meant, and whether
    there is a part for validation. Raises DataError as `load_set`.
    """
    size, channels = getattr(options, "size", None), getattr(options, "channels", None)
    dataset = load_set(name, data_dir=options.data_dir, size=size, channels=channels)
    if options.quick:
        dataset = dataset.thin(*_QUICK)
    return dataset if options.validation else dataset.without_validation()


def load_set(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> Dataset:
    """A data set by name (`load`), or of a folder (`load_folder`), whose images get a usual size if none is given.

    >>> load_set("digits").source
    'digits'

    Raises DataError for what is neither, and as these two do.
    """
    if name in IMAGE_SETS or name == "tinyshakespeare":
        if size or channels:
            raise DataError(f"{name}: --size and --channels are for the images of a folder. Leave them out")
        return load(name, data_dir=data_dir)
    if not Path(name).is_dir():
        sets = ", ".join(map(repr, IMAGE_SETS))
        raise DataError(f"{name}: there is no such folder, and no data set of that name. There are {sets}")
    return load_folder(name, size=size or usual_size(name), channels=channels)


def steps_per_epoch(dataset: Dataset, options: Options) -> int:
    """The number of steps in an epoch: what schedules count in."""
    return options.epoch_steps or -(-len(dataset.train) // options.batch_size)


def run(
    problem: Problem,
    dataset: Dataset,
    options: Options,
    *,
    initial: Model | TrainState | None = None,
    pictures: Mapping[str, Draw] = NO_PICTURES,
) -> dict[str, Any]:
    """Train, evaluate on the test part, if there is one, and leave everything in ``options.out``; returns the metrics.

    It starts from `initial`, a trained model of the same net, if that is given. `pictures` of your own, by their files'
    names, are functions of the kept net and a path: ``pictures={"map.png": draw_map}``.

    Writes config.json, and after each epoch history.csv, checkpoint.safetensors and, if the epoch is the best so far
    on the validation part (`best_row`; without a metric by its loss), model.safetensors; at the end metrics.json, the
    kept model's, and (with matplotlib) curves.png, filters.png, of classes confusion.png and samples.png, and your own.
    A picture that cannot be drawn is said, and the run ends well. Epochs that take less than a second are written
    together, about once a second: a run that is killed loses as much, one that is stopped or fails nothing. With
    ``resume`` it goes on from the checkpoint, if there is one, to the same end, bit for bit. On Ctrl-C it says how to
    go on, and exits. It computes where the options say, and may go on elsewhere: the files are the same, and what a
    device computes differs by rounding.

    Raises RuntimeError at once for a device that is not here, OSError before training if the folder cannot be written
    or another run has it (`FolderInUse`), CheckpointError for a checkpoint of other settings, data or more epochs, or
    one whose history.csv or model.safetensors is not whole, TreeError for an initial model of another net, and
    ValueError for a metric that gives no number, or for parts that lack some of what a `Part` has.
    """
    shown_device(options.device)
    folder = make_folder(options.out).absolute()  # wherever the process goes meanwhile
    with serving(), locked(folder, "a run"):
        return _run(problem, dataset, options, initial, pictures, folder)


def _run(
    problem: Problem,
    dataset: Dataset,
    options: Options,
    initial: Model | TrainState | None,
    pictures: Mapping[str, Draw],
    folder: Path,
) -> dict[str, Any]:
    started = time.perf_counter()
    _check_parts(dataset)
    say = printer(options.quiet)
    shards = shards_of(options)
    workers = min(options.workers, shards, cores()) if ranks() == 1 else ranks()  # none of which changes a bit
    if workers > shards:
        raise TeamError(
            f"{workers} ranks of MPI share {shards} shards of a batch: start fewer, or pass --shards {workers}"
        )
    if options.device != "cpu" and shards > 1:  # as the run was begun, or by its ranks
        raise TeamError(f"--device {options.device}: it takes a batch whole, and this run's have {shards} shards")
    settings = run_settings(problem, dataset, options, shards)
    # Refuses now what could not be saved later.
    own_parts(layer=problem.net, preprocessing=dataset.train.preprocess, preparation=dataset.prepare)
    _banner(problem, dataset, settings, workers, options.device, say)

    state = train.init_state(problem, Key(options.seed), dataset.in_shape)
    if initial is not None:
        names = ("the initial model", "the net")
        tree.check_like((initial.params, initial.state), (state.params, state.state), names=names, shapes=True)
        state = TrainState(initial.params, initial.state, state.opt_state, state.step, state.seed)
    state = to_device(state, options.device)
    _try_out(problem, state, dataset)
    rows: list[Row] = []
    if options.resume:
        state, rows = restore(folder, state, settings, options, say, lower=is_lower_better(problem.metric))
    # Only now, since a refused resumption must leave what it asks for. What an earlier run left must not be taken for
    # this one's should it be stopped early, least of all by --resume.
    stale = ("metrics.json", *_PICTURES, *pictures) if len(rows) < options.epochs else ()
    for name in stale if options.resume else ("checkpoint.safetensors", *stale):
        (folder / name).unlink(missing_ok=True)
    epochs = _Epochs(folder, problem, dataset, settings, _Reached(state, tuple(rows)))
    write_json(folder / "config.json", settings | {"data_source": dataset.source} | _where(options.device))
    try:
        events = train.train(
            problem, state, dataset,
            epochs=options.epochs, batch_size=options.batch_size, epoch_steps=options.epoch_steps,
            workers=workers, shards=shards,
        )  # fmt: skip
        with heeded("SIGINT", "SIGTERM", "SIGHUP") as heed:
            for event in progress(
                _measured(events, problem, dataset),
                epochs=options.epochs, print_every=options.print_every, quiet=options.quiet,
            ):  # fmt: skip
                if isinstance(event, Epoch):
                    epochs.add(event)
                heed()
    except KeyboardInterrupt:
        epochs.save()
        say(f"\nStopped after epoch {len(epochs.reached.rows)}. To go on: {same_command('--resume')}")
        raise SystemExit(130) from None
    except Exception:
        epochs.save()  # those before what went wrong
        raise

    state, rows = epochs.reached.state, list(epochs.reached.rows)
    kept = checkpoint.load(folder / "model.safetensors", Model(state.params, state.state))
    trained = Trained(problem.net, kept, dataset.in_shape, dataset.classes, dataset.train.preprocess)
    per_epoch = options.epoch_steps * options.batch_size if options.epoch_steps else len(dataset.train)
    metrics = test_metrics(problem, dataset, trained, rows, per_epoch) | {
        "epochs": options.epochs,
        "seed": options.seed,
    }
    written: dict[str, Any] = write_json(folder / "metrics.json", metrics)
    if options.plots:
        try:
            if can_draw(say):
                draw_results(dataset, trained, rows, metrics, folder, pictures=pictures)
        except Exception as error:  # the user's matplotlib, its settings, or what it cannot draw
            warn(f"the pictures are not complete: {type(error).__name__}: {error}")
    say(
        f"{reached(metrics) or 'no part to measure it by  '}(the net after epoch {metrics['best_epoch']})  "
        f"training {metrics['train_seconds']:.1f} s  total {time.perf_counter() - started:.1f} s"
    )
    left = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    say(f"results in {options.out}: {', '.join(left)}")
    return written


def _check_parts(dataset: Dataset) -> None:
    """Raise ValueError for parts that have no more than training reads: a run also keeps, hashes and draws of them."""
    for name in ("train", "validation", "test"):
        part = getattr(dataset, name)
        lacking = [each for each in ("inputs", "targets", "preprocess", "thin") if not hasattr(part, each)]
        if part is not None and lacking:
            fix = f"Train on examples without {', '.join(lacking)} by a loop around funcnn.train.train"
            refuse("run", f"dataset.{name}", "a Part, or what has all of its fields", part, fix)


def _try_out(problem: Problem, state: TrainState, dataset: Dataset) -> None:
    """Measure two examples of each part, so that what cannot be measured is known before training."""
    for part in (dataset.train, dataset.validation, dataset.test):
        if part is None:
            continue
        measured = train.evaluate(problem, state, part.thin(2))
        for what, value in (("loss", measured.loss), ("metric", measured.accuracy)):
            if value is None and problem.metric is None:
                continue
            if np.asarray(value).ndim or np.asarray(value).dtype.kind not in "buif":
                raise ValueError(f"run: expected the {what} to be a number, the mean over the batch, got {value!r}")


@attrs.frozen
class _Reached:
    """What a run has behind it: the state after its last epoch, its rows, the best net if that is not written yet."""

    state: TrainState
    rows: tuple[Row, ...]
    best: tuple[Model, Row] | None = None


@attrs.define
class _Epochs:
    """The epochs that a run has behind it: each in memory at once, and in the folder about once a second."""

    folder: Path
    problem: Problem
    dataset: Dataset
    settings: dict[str, Any]
    reached: _Reached  # one value, replaced as a whole: an interrupt may come at any time
    is_saved: bool = True
    saved: float = attrs.field(factory=time.perf_counter)

    def add(self, event: Epoch) -> None:
        row = row_of(event)
        rows = (*self.reached.rows, row)
        is_best = best_row(rows, lower=is_lower_better(self.problem.metric)) is row
        net = train.for_evaluation(self.problem, event.state)
        best = (Model(net.params, net.state), row) if is_best else self.reached.best
        self.is_saved = False
        self.reached = _Reached(event.state, rows, best)
        if event.epoch == event.epochs or time.perf_counter() - self.saved >= _SECONDS:
            self.save()

    def save(self) -> None:
        """Write what is not yet written.

        The checkpoint comes last: if the run is killed before it, the epochs since the checkpoint before are done
        again, with the same result. Until then the history and the model may be ahead of it.
        """
        if self.is_saved:
            return
        write_history(self.folder / "history.csv", self.reached.rows)
        if self.reached.best is not None:
            _save_model(self.folder, self.problem, self.dataset, *self.reached.best, self.settings)
        checkpoint.save(self.folder / "checkpoint.safetensors", self.reached.state, description=self.settings)
        self.reached = attrs.evolve(self.reached, best=None)
        self.is_saved, self.saved = True, time.perf_counter()


def _measured(events: Iterable[Step | Epoch], problem: Problem, dataset: Dataset) -> Iterator[Step | Epoch]:
    """The events; epochs also have the metrics of some training examples and of the test part."""
    subset = dataset.train.thin(_SUBSET)
    for event in events:
        if isinstance(event, Epoch):
            test = None if dataset.test is None else train.evaluate(problem, event.state, dataset.test)
            yield attrs.evolve(event, subset=train.evaluate(problem, event.state, subset), test=test)
        else:
            yield event


def _save_model(
    folder: Path, problem: Problem, dataset: Dataset, model: Model, row: Row, settings: dict[str, Any]
) -> None:
    how = {key: settings[key] for key in ("loss", "optimizer", "augment", "batch_size", "seed", "train_examples")}
    about = {"epoch": row.epoch, "validation_accuracy": row.validation_accuracy, **how}
    trained = Trained(
        problem.net, model, dataset.in_shape, dataset.classes, dataset.train.preprocess, about, dataset.prepare
    )
    save_trained(folder / "model.safetensors", attrs.evolve(trained, familiar_logit=_familiar(trained, dataset)))


def _familiar(trained: Trained, dataset: Dataset) -> float | None:
    """The `familiar_logit` of a net that tells images apart, by some of those to validate by; None of any other net."""
    part = None if dataset.validation is None else dataset.validation.thin(_SUBSET)
    logits = trained.net.config.out_shape(trained.in_shape)
    if part is None or not isinstance(part.inputs, np.ndarray) or not dataset.classes:
        return None
    if part.inputs.shape[1:] != trained.in_shape or logits != (len(dataset.classes),):
        return None
    return familiar_logit(trained, part.inputs)


def _where(device: str) -> dict[str, str]:
    from funcnn import __version__

    versions = {"funcnn": __version__, "numpy": np.__version__, "python": platform.python_version()}
    return {"device": shown_device(device)} | versions


def _banner(
    problem: Problem,
    dataset: Dataset,
    settings: dict[str, Any],
    workers: int,
    device: str,
    say: Callable[[str], None],
) -> None:
    others = (("to validate", dataset.validation), ("to test", dataset.test))
    held_out = "".join(f", {len(part):,} {what}" for what, part in others if part is not None)
    say(f"data       {len(dataset.train):,} examples to train{held_out or ', and none to measure the net by'}")
    if problem.augment:
        say(f"augment    {', '.join(map(as_code, problem.augment))}")
    say(f"optimizer  {problem.optimizer}")
    say(f"loss       {as_code(problem.loss)}")
    epochs = f"{settings['epochs']} epoch{'s'[: settings['epochs'] > 1]}"
    if settings["epoch_steps"] is not None:
        epochs += f" of {settings['epoch_steps']:,} steps"
    say(f"run        {epochs} of batches of {settings['batch_size']}, seed {settings['seed']}")
    if settings["shards"] > 1:
        say(f"workers    {workers}, each batch in {settings['shards']} shards")
    if device != "cpu":
        say(f"device     {shown_device(device)}")
    say("")
    say(layer_table(problem.net, dataset.in_shape) + "\n")
