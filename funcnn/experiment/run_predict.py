"""A whole prediction from a command line: images of a file or folder, a table, and what it leaves in a folder."""

import csv
import io
import os
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn.data import DataError
from funcnn.device import to_device
from funcnn.experiment.device import add_device, shown_device
from funcnn.experiment.options import new_parser, printer, read_arguments
from funcnn.experiment.predict import Prediction, check_classifies, predict_images, raw_images
from funcnn.model_file import load_trained
from funcnn.report.figures import can_draw
from funcnn.report.pictures import draw_samples
from funcnn.system.files import make_folder, write_text
from funcnn.system.text import printable, show, text_table
from funcnn.trained import model_path, trained_models
from funcnn.tree import Array

__all__ = ["parse_predict_options", "run_predict"]

QUICK = 100  # images
SHOWN = 40  # rows of the table on the screen; predictions.csv has all


def parse_predict_options(
    description: str | None, arguments: list[str] | None = None, prog: str | None = None
) -> Namespace:
    """What a command line asks to predict."""
    parser = new_parser(description, prog)
    add = parser.add_argument
    add("images", type=_path, help="an image, a folder of images, or an IDX file")
    add("--model", required=True,
        help=f"a model.safetensors that an experiment left, or one of {', '.join(trained_models())}")  # fmt: skip
    add("--invert", action="store_true",
        help="turn white into black first, for a model that prepares no drawings itself")  # fmt: skip
    add("--out", type=_path, default=Path("runs") / "predict", help="the folder for results (default %(default)s)")
    add_device(parser)
    add("--csv", action="store_true", help="print all predictions as CSV instead of a table")
    add("--quick", action="store_true", help=f"the first {QUICK} images alone")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--no-plots", dest="plots", action="store_false", help="draw no picture")
    return read_arguments(parser, arguments)


def _path(text: str) -> Path:
    """A path; ``~`` is the user's home, which a shell does not put in after ``--out=``."""
    return Path(os.path.expanduser(text))


def run_predict(options: Namespace) -> None:
    """Predict as `parse_predict_options` was told: prints a table, and leaves predictions.csv and predictions.png.

    Raises DataError for images that cannot be read, a single one in which nothing is drawn, and a model that tells no
    images apart; CheckpointError or OSError for what is no model, NonFiniteError for one that gives NaN.
    """
    folder = make_folder(options.out)
    trained = load_trained(model_path(options.model))
    trained = attrs.evolve(trained, model=to_device(trained.model, options.device))
    try:
        check_classifies(trained)
    except ValueError as error:
        raise DataError(f"{options.model}: {error}") from None
    names: list[str] = []
    inverted = options.invert and trained.prepare is None

    def images() -> Iterator[Array]:
        for name, image in islice(raw_images(options.images), QUICK if options.quick else None):
            names.append(printable(os.fsencode(name).decode(errors="replace")))  # a file's name may be any bytes
            yield _inverted(image) if inverted else image

    predictions = predict_images(trained, images())
    if not any(each.name for each in predictions):
        raise DataError(f"{names[0]}: {predictions[0].warning}")
    _tell(names, predictions, trained.classes, options)
    if options.plots and can_draw(printer(options.quiet or options.csv)):
        path = folder / "predictions.png"
        drawn = [each for each in predictions if each.stored is not None]
        stored, shares = (np.stack([getattr(each, what) for each in drawn]) for what in ("stored", "probabilities"))
        try:
            draw_samples(stored, None, shares, trained.classes, path, title="predicted, with its probability")
        except Exception as error:  # the predictions are there, and a picture is no reason to fail
            path.unlink(missing_ok=True)  # one of other images
            show(f"no {path.name}: {type(error).__name__}: {printable(error)}", error=True)


def _inverted(image: Array) -> Array:
    colours = 3 if image.shape[2] > 2 else 1
    return np.concatenate([255 - image[..., :colours], image[..., colours:]], axis=2)


def _tell(names: list[str], predictions: list[Prediction], classes: tuple[str, ...], options: Namespace) -> None:
    """Write predictions.csv, and print a table of the first, or all of it as CSV."""
    rows = [_row(name, each, classes) for name, each in zip(names, predictions, strict=True)]
    header = ("image", "class", "probability", "second", "its probability", "warning")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *([_csv_cell(cell) for cell in row] for row in rows)])
    path = options.out / "predictions.csv"
    write_text(path, text.getvalue())
    if options.csv:
        show(text.getvalue().rstrip("\n"))
    elif not options.quiet:
        doubted = [row for row in rows if row[-1]]
        show(text_table(header[:-1], [row[:-1] for row in rows[:SHOWN]], left=2))
        for row in doubted[:SHOWN]:
            show(f"warning: {row[0]}: {row[-1]}")
        count = f"{len(rows):,} image{'s'[: len(rows) > 1]}"
        count += f" on {shown_device(options.device)}" if options.device != "cpu" else ""
        show(f"{count}{f', {len(doubted):,} with a warning' if doubted else ''}; all of them in {path}")


def _row(name: str, prediction: Prediction, classes: tuple[str, ...]) -> tuple[Any, ...]:
    """An image's row: its name, the two best classes and their probabilities, and the warning."""
    shares = np.zeros(0) if prediction.probabilities is None else prediction.probabilities
    best: list[tuple[str, float | None]] = [(classes[i], float(shares[i])) for i in shares.argsort()[::-1][:2]]
    best += [("", None)] * (2 - len(best))
    return (name, *best[0], *best[1], prediction.warning)


def _csv_cell(value: Any) -> str:
    """A cell of a CSV file; a spreadsheet would take a name that begins like a formula for one."""
    if isinstance(value, float):
        return f"{value:.6f}"
    text = "" if value is None else printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
