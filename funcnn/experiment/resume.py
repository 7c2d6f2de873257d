"""How a run goes on where an earlier one stopped: the settings that must be the same, and what had been reached."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from funcnn import checkpoint, tree
from funcnn.checkpoint import CheckpointError
from funcnn.data import Dataset, Part
from funcnn.data.stored import memory_of
from funcnn.experiment.options import Options
from funcnn.report.history import Row, best_row, read_history
from funcnn.settings import describe
from funcnn.system.content import content_hash
from funcnn.system.text import cut
from funcnn.team.mpi import ranks
from funcnn.train import Problem, TrainState
from funcnn.tree import Array

__all__ = ["data_hash", "restore", "run_settings", "shards_of"]

_HASHED = 2**28  # bytes of a part that count whole
_CODE = "code of its parts"


def shards_of(options: Options) -> int:
    """The shards of a run's batches: as given, or as the run was begun that is resumed, or one for each worker.

    Raises CheckpointError for a checkpoint of no run.
    """
    if options.shards is not None:
        return options.shards
    path = options.out / "checkpoint.safetensors"
    if options.resume and path.exists():
        saved = checkpoint.read_description(path)
        shards = saved.get("shards", 1) if isinstance(saved, dict) else None
        if isinstance(shards, bool) or not isinstance(shards, int) or shards < 1:
            raise CheckpointError(f"{path}: no checkpoint of a run. Leave out --resume to start anew")
        return shards
    return max(options.workers, ranks())


def run_settings(problem: Problem, dataset: Dataset, options: Options, shards: int = 1) -> dict[str, Any]:
    """What decides a run's results, as JSON: a checkpoint of other settings is not resumed.

    Where a description may be the same and the run another, a hash of the content tells: of the functions that the run
    is made of, and of the examples as they are stored.
    """
    preprocess = dataset.train.preprocess
    parts = (problem.net, problem.loss, problem.optimizer, problem.metric, problem.augment, preprocess)
    return {
        "net": describe(problem.net),
        "loss": describe(problem.loss),
        "optimizer": describe(problem.optimizer),
        "metric": describe(problem.metric),
        "augment": describe(problem.augment),
        "preprocess": describe(preprocess),
        _CODE: _hash(parts),
        "batch_size": options.batch_size,
        "shards": shards,
        "epoch_steps": options.epoch_steps,
        "epochs": options.epochs,
        "seed": options.seed,
        "in_shape": describe(tuple(dataset.in_shape)),
        "train_examples": len(dataset.train),
        "data": data_hash(dataset),
    }


def data_hash(dataset: Dataset) -> str | None:
    """What tells the examples of a data set from others, as they are stored; None if nothing can be told of them."""
    parts = [part for part in (dataset.train, dataset.validation, dataset.test) if part is not None]
    return _hash([_sample(part) for part in parts])


def _hash(value: Any) -> str | None:
    """What tells values of the same description apart; None for one that nothing can be told of."""
    try:
        return content_hash(value)[:16]
    except TypeError:
        return None


def _sample(part: Part) -> tuple[Array, ...]:
    """A part's examples as they are stored; of one that is large, some thousands, evenly spaced."""
    weights = getattr(part, "weights", None)
    size = sum(each.nbytes for each in tree.flatten(part.inputs))
    inputs = part.thin(max(1, len(part) * _HASHED // size)).inputs if size > _HASHED else part.inputs
    arrays = memory_of(inputs), memory_of(part.targets)
    return arrays if weights is None else (*arrays, weights)


def restore(
    folder: Path,
    like: TrainState,
    settings: dict[str, Any],
    options: Options,
    say: Callable[[str], None],
    *,
    lower: bool,
) -> tuple[TrainState, list[Row]]:
    """The state and the rows that a run in the folder has reached; those of a new one if it has saved nothing.

    Raises CheckpointError for a checkpoint of other settings or more epochs, or files that are not whole.
    """
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        say(f"no checkpoint in {folder} yet: starting anew")
        return like, []
    saved = checkpoint.read_description(path)
    if not isinstance(saved, dict):
        raise CheckpointError(f"{path}: no checkpoint of a run. Leave out --resume to start anew")
    # More epochs may be added to a run, unless its schedule (a part of the optimizer) counts on their number.
    now = json.loads(json.dumps(settings))  # tuples as lists
    saved = {"shards": 1, "epoch_steps": None} | saved  # as it was before there were any
    differing = [key for key in saved if key != "epochs" and json.dumps(saved[key]) != json.dumps(now.get(key))]
    if len(differing) > 1 and _CODE in differing:  # which says no more
        differing.remove(_CODE)
    if differing:
        raise CheckpointError(
            f"{path}: saved with another {cut(', '.join(differing), 200)}. Resume with the settings it was started "
            f"with ({folder / 'config.json'}), or leave out --resume to start anew"
        )
    state = checkpoint.load(path, like)
    epochs, rest = divmod(state.step, options.epoch_steps or -(-settings["train_examples"] // options.batch_size))
    if epochs < 1 or rest or state.seed != options.seed:
        raise CheckpointError(f"{path}: damaged: step {state.step} with seed {state.seed} is no end of an epoch here")
    if epochs > options.epochs:
        raise CheckpointError(
            f"{path}: it has {epochs} epochs behind it. Pass --epochs {epochs} or more, or leave out --resume to start "
            "anew"
        )
    try:
        rows = [row for row in read_history(folder / "history.csv") if row.epoch <= epochs]
    except CheckpointError as error:
        raise CheckpointError(f"{error}. Mend it, or leave out --resume to start anew") from error
    if [row.epoch for row in rows] != list(range(1, epochs + 1)):
        raise CheckpointError(
            f"{folder / 'history.csv'}: it lacks some of the {epochs} epochs that the checkpoint has, by which the "
            "best is known. Put it back, or leave out --resume to start anew"
        )
    _check_model(folder / "model.safetensors", best_row(rows, lower=lower).epoch, epochs, options.epochs)
    say(f"going on after epoch {epochs}")
    return state, rows


def _check_model(path: Path, best: int, behind: int, wanted: int) -> None:
    """Raise CheckpointError unless the model is of the best epoch so far, or of one that will be done again."""
    described = checkpoint.read_description(path) if path.exists() else None
    about = described.get("about") if isinstance(described, dict) else None
    epoch = about.get("epoch") if isinstance(about, dict) else None
    if not isinstance(epoch, int) or (epoch <= behind and epoch != best):
        raise CheckpointError(
            f"{path}: it is not the net of epoch {best}, the best that the checkpoint has behind it. Put it back, or "
            "leave out --resume to start anew"
        )
    if epoch > wanted:
        raise CheckpointError(f"{path}: it has {epoch} epochs behind it. Pass --epochs {epoch} or more")
