"""The models that cifar10_convnet.py left, as one: the mean of their probabilities.

python experiments/cifar10_convnet.py --model 1
python experiments/cifar10_convnet.py --model 2
python experiments/cifar10_ensemble.py
"""

import json
from argparse import Namespace
from pathlib import Path

import attrs
import numpy as np

from funcnn.data import DataError, Dataset
from funcnn.device import to_device
from funcnn.experiment import load_data, run_script
from funcnn.experiment.device import add_device
from funcnn.experiment.options import new_parser, printer, read_arguments
from funcnn.experiment.results import draw_predictions
from funcnn.layer import Array
from funcnn.model_file import load_trained, probabilities
from funcnn.report.figures import can_draw
from funcnn.system.files import make_folder, write_text
from funcnn.system.text import show, text_table

MODELS = [Path("runs") / f"cifar10_convnet_{number}" / "model.safetensors" for number in (1, 2)]


def parse() -> Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--models", type=Path, nargs="+", default=MODELS, help="model files (default: those that the above leaves)")
    add("--data-dir", help="the folder of the data files (default: FUNCNN_DATA, or else they are downloaded)")
    add("--out", type=Path, default=Path("runs") / "cifar10_ensemble", help="the folder for results (%(default)s)")
    add("--quick", action="store_true", help="a slice of the data, to see that everything works")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--no-plots", dest="plots", action="store_false", help="draw no pictures")
    add_device(parser)
    parser.set_defaults(validation=True)
    return read_arguments(parser)


def predictions(path: Path, data: Dataset, device: str) -> tuple[Array, Array]:
    """A model's probabilities of the validation images and of the test images."""
    trained = load_trained(path)
    if trained.classes != data.classes:
        raise DataError(f"{path}: its classes are {', '.join(trained.classes)}; expected {', '.join(data.classes)}")
    trained = attrs.evolve(trained, model=to_device(trained.model, device))
    parts = (data.validation.inputs, data.test.inputs)
    return tuple(probabilities(trained, images) for images in parts)


def main() -> None:
    options = parse()
    folder = make_folder(options.out)
    data = load_data("cifar10", options)
    each = [predictions(path, data, options.device) for path in options.models]
    mean = tuple(np.mean(shares, axis=0) for shares in zip(*each, strict=True))
    rows = []
    for name, shares in [*zip(map(str, options.models), each, strict=True), ("their mean", mean)]:
        labels = (data.validation.targets, data.test.targets)
        right = [float((some.argmax(axis=1) == true).mean()) for some, true in zip(shares, labels, strict=True)]
        rows.append({"model": name, "validation_accuracy": right[0], "test_accuracy": right[1]})
    write_text(folder / "metrics.json", json.dumps(rows, indent=2) + "\n")
    if options.plots and can_draw(printer(options.quiet)):
        draw_predictions(data.test, data.classes, mean[1], folder)
    if not options.quiet:
        show(text_table(tuple(rows[0]), [tuple(row.values()) for row in rows], left=1))


if __name__ == "__main__":
    run_script(main)
