"""What a trained model sees in images: the class of each, with its probability, as a table and a picture.

    python experiments/predict.py digit.png --model models/mnist_cnn.safetensors --invert
    python experiments/predict.py folder_of_images --model runs/cifar10_convnet_1/model.safetensors

The images are a PNG or JPEG file, a folder of such, or an IDX file. They are resized to what the model takes, and made
grey or coloured. The models learned light figures on black; --invert is for dark ones on white paper.
"""

import csv
import io
import os
from argparse import Namespace
from pathlib import Path

from funcnn.data import DataError, read_images
from funcnn.experiment import run_script
from funcnn.experiment.options import new_parser, printer, read_arguments
from funcnn.model_file import load_trained, probabilities
from funcnn.report.pictures import can_draw, draw_samples
from funcnn.report.table import text_table
from funcnn.system.files import make_folder, write_text

QUICK = 100  # images
SHOWN = 40  # rows of the table on the screen; predictions.csv has all


def parse() -> Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("images", type=Path, help="an image, a folder of images, or an IDX file")
    add("--model", type=Path, required=True, help="a model.safetensors that an experiment left, or one of models/")
    add("--invert", action="store_true", help="turn white into black before the model sees it")
    add("--out", type=Path, default=Path("runs") / "predict", help="the folder for results (default %(default)s)")
    add("--csv", action="store_true", help="print all predictions as CSV instead of a table")
    add("--quick", action="store_true", help=f"the first {QUICK} images alone")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--no-plots", dest="plots", action="store_false", help="draw no picture")
    return read_arguments(parser)


def main() -> None:
    options = parse()
    folder = make_folder(options.out)
    trained = load_trained(options.model)
    if len(trained.in_shape) != 3 or trained.in_shape[2] not in (1, 3):
        raise DataError(f"{options.model}: it takes examples {trained.in_shape}, which are no images")
    height, width, channels = trained.in_shape
    names, images = read_images(options.images, size=(height, width), channels=channels)
    names = [os.fsencode(name).decode(errors="replace") for name in names]  # a file's name may be any bytes
    if options.quick:
        names, images = names[:QUICK], images[:QUICK]
    if options.invert:
        images = 255 - images
    shares = probabilities(trained, images)
    best = shares.argsort(axis=1)[:, ::-1]
    rows = [
        (name, trained.classes[i], float(each[i]), trained.classes[j], float(each[j]))
        for name, each, (i, j) in zip(names, shares, best[:, :2], strict=True)
    ]
    header = ("image", "class", "probability", "second", "its probability")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [header, *((*row[:2], f"{row[2]:.6f}", row[3], f"{row[4]:.6f}") for row in rows)]
    )
    write_text(folder / "predictions.csv", text.getvalue())
    if options.csv:
        print(text.getvalue(), end="")
    elif not options.quiet:
        print(text_table(header, rows[:SHOWN], left=2))
        print(f"{len(rows):,} images; all of them in {folder / 'predictions.csv'}")
    if options.plots and can_draw(printer(options.quiet or options.csv)):
        path = folder / "predictions.png"
        draw_samples(images, None, shares, trained.classes, path, title="predicted, with its probability")


if __name__ == "__main__":
    run_script(main)
