"""What a trained model sees in images: the class of each, with its probability, as a table and a picture.

    python experiments/predict.py digit.png --model funcnn/trained/mnist_cnn.safetensors --invert
    python experiments/predict.py folder_of_images --model runs/cifar10_convnet_1/model.safetensors

The images are a PNG or JPEG file, a folder of such, or an IDX file. They are resized to what the model takes, and made
grey or coloured. The models learned light figures on black; --invert is for dark ones on white paper.
"""

import csv
import io
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.data import DataError, read_images
from funcnn.experiment import run_script
from funcnn.experiment.options import new_parser, printer, read_arguments
from funcnn.model_file import Trained, load_trained, probabilities
from funcnn.report.pictures import can_draw, draw_samples
from funcnn.system.files import make_folder, write_text
from funcnn.system.text import printable, show, text_table
from funcnn.tree import Array, Shape

QUICK = 100  # images
SHOWN = 40  # rows of the table on the screen; predictions.csv has all
LARGEST = 2**24  # pixels of an image that a model takes


def parse() -> Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("images", type=path_of, help="an image, a folder of images, or an IDX file")
    add("--model", type=path_of, required=True, help="a model.safetensors that an experiment left, or one of funcnn/trained/")
    add("--invert", action="store_true", help="turn white into black before the model sees it")
    add("--out", type=path_of, default=Path("runs") / "predict", help="the folder for results (default %(default)s)")
    add("--csv", action="store_true", help="print all predictions as CSV instead of a table")
    add("--quick", action="store_true", help=f"the first {QUICK} images alone")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--no-plots", dest="plots", action="store_false", help="draw no picture")
    return read_arguments(parser)


def path_of(text: str) -> Path:
    """A path; ``~`` is the user's home, which a shell does not put in after ``--out=``."""
    return Path(os.path.expanduser(text))


def main() -> None:
    options = parse()
    folder = make_folder(options.out)
    trained = load_trained(options.model)
    height, width, channels = image_shape(options.model, trained)
    names, images = read_images(options.images, size=(height, width), channels=channels)
    names = [printable(os.fsencode(name).decode(errors="replace")) for name in names]  # a file's name may be any bytes
    if options.quick:
        names, images = names[:QUICK], images[:QUICK]
    if options.invert:
        images = 255 - images
    shares = probabilities(trained, images)
    if not np.isfinite(shares).all():
        raise DataError(
            f"{options.model}: it gives {names[np.argmin(shares.sum(axis=1) > 0)]} no probabilities, but NaN"
        )
    rows = [row_of(name, each, trained.classes) for name, each in zip(names, shares, strict=True)]
    header = ("image", "class", "probability", "second", "its probability")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *([csv_cell(cell) for cell in row] for row in rows)])
    write_text(folder / "predictions.csv", text.getvalue())
    if options.csv:
        show(text.getvalue().rstrip("\n"))
    elif not options.quiet:
        show(text_table(header, rows[:SHOWN], left=2))
        show(f"{len(rows):,} images; all of them in {folder / 'predictions.csv'}")
    if options.plots and can_draw(printer(options.quiet or options.csv)):
        path = folder / "predictions.png"
        try:
            draw_samples(images, None, shares, trained.classes, path, title="predicted, with its probability")
        except Exception as error:  # the predictions are there, and a picture is no reason to fail
            path.unlink(missing_ok=True)  # one of other images
            show(f"no {path.name}: {type(error).__name__}: {printable(error)}", error=True)


def image_shape(path: Path, trained: Trained) -> Shape:
    """The shape of the images that a model tells apart. Raises DataError for a model that does something else."""
    shape = trained.in_shape
    if len(shape) != 3 or shape[2] not in (1, 3) or not 0 < shape[0] * shape[1] <= LARGEST:
        raise DataError(f"{path}: it takes examples {shape}, which are no images (height, width, 1 or 3)")
    outputs = trained.net.config.out_shape(shape)
    if not trained.classes or outputs != (len(trained.classes),):
        raise DataError(
            f"{path}: it gives outputs {outputs} and names {len(trained.classes)} classes, and tells no images apart"
        )
    return shape


def row_of(name: str, shares: Array, classes: tuple[str, ...]) -> tuple[Any, ...]:
    """An image's row: its name, the two best classes and their probabilities."""
    best = [(classes[i], float(shares[i])) for i in shares.argsort()[::-1][:2]]
    return (name, *best[0], *(best[1] if len(best) > 1 else (None, None)))


def csv_cell(value: Any) -> str:
    """A cell of a CSV file; a spreadsheet would take a name that begins like a formula for one."""
    if isinstance(value, float):
        return f"{value:.6f}"
    text = "" if value is None else printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


if __name__ == "__main__":
    run_script(main)
