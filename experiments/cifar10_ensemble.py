"""The models that cifar10_convnet.py left, as one: the mean of their probabilities.

    python experiments/cifar10_convnet.py --model 1
    python experiments/cifar10_convnet.py --model 2
    python experiments/cifar10_ensemble.py

A net errs otherwise on an image's mirror image, or a pixel further, so that the mean over views is better, too:

    python experiments/cifar10_resnet.py
    python experiments/cifar10_ensemble.py --models runs/cifar10_resnet/model.safetensors --views 6
"""

import json
from argparse import Namespace
from pathlib import Path

import attrs
import numpy as np

from funcnn.data import DataError, Dataset, Part
from funcnn.device import to_device
from funcnn.experiment import load_data, run_script
from funcnn.experiment.device import add_device
from funcnn.experiment.options import new_parser, printer, read_arguments
from funcnn.experiment.results import draw_predictions
from funcnn.layer import Array
from funcnn.model_file import Trained, load_trained, probabilities
from funcnn.report.figures import can_draw
from funcnn.system.files import make_folder, write_text
from funcnn.system.text import show, text_table

MODELS = [Path("runs") / f"cifar10_convnet_{number}" / "model.safetensors" for number in (1, 2)]


def parse() -> Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--models", type=Path, nargs="+", default=MODELS, help="model files (default: those that the above leaves)")
    text = "what each model sees of an image: 2 mirrored as well, 6 both and a pixel up and left, down and right"
    add("--views", type=int, choices=(1, 2, 6), default=1, help=f"{text} (default %(default)s, as it is)")
    add("--no-validation", dest="validation", action="store_false", help="for models that were trained on all images")
    add("--data-dir", help="the folder of the data files (default: FUNCNN_DATA, or else they are downloaded)")
    add("--out", type=Path, default=Path("runs") / "cifar10_ensemble", help="the folder for results (%(default)s)")
    add("--quick", action="store_true", help="a slice of the data, to see that everything works")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--no-plots", dest="plots", action="store_false", help="draw no pictures")
    add_device(parser)
    return read_arguments(parser)


def load_member(path: Path, data: Dataset, options: Namespace) -> Trained:
    """A model that tells the data's classes apart, and was not trained on what it is to be measured by."""
    trained = load_trained(path)
    if trained.classes != data.classes:
        raise DataError(f"{path}: its classes are {', '.join(trained.classes)}; expected {', '.join(data.classes)}")
    known = trained.about if isinstance(trained.about, dict) else {}
    if options.validation and not options.quick and known.get("train_examples", 0) > len(data.train):
        raise DataError(f"{path}: it was trained on the images to validate by. Add --no-validation")
    return attrs.evolve(trained, model=to_device(trained.model, options.device))


def views(images: Array, number: int) -> list[Array]:
    """The images as they are, then mirrored, then both a pixel further either way, edges repeated: so many of these."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [padded[:, start : start + height, start : start + width] for start in (1, 0, 2)]
    return [view for some in shifted for view in (some, some[:, :, ::-1])][:number]


def predictions(trained: Trained, part: Part, number: int) -> Array:
    """The mean of a model's probabilities of so many views of a part's images."""
    return np.mean([probabilities(trained, images) for images in views(part.inputs, number)], axis=0)


def main() -> None:
    options = parse()
    folder = make_folder(options.out)
    data = load_data("cifar10", options)
    parts = {"validation": data.validation, "test": data.test} if options.validation else {"test": data.test}
    found, members = {}, []
    for path in options.models:
        trained = load_member(path, data, options)
        for number in sorted({1, options.views}):
            name = str(path) if number == 1 else f"{path}, {number} views"
            found[name] = {part: predictions(trained, parts[part], number) for part in parts}
        members.append(found[name])  # by most views
    mean = {part: np.mean([shares[part] for shares in members], axis=0) for part in parts}
    if len(members) > 1:
        found["their mean"] = mean
    rows = []
    for name, shares in found.items():
        right = {part: float((shares[part].argmax(axis=1) == parts[part].targets).mean()) for part in parts}
        rows.append({"model": name} | {f"{part}_accuracy": accuracy for part, accuracy in right.items()})
    write_text(folder / "metrics.json", json.dumps(rows, indent=2) + "\n")
    if options.plots and can_draw(printer(options.quiet)):
        draw_predictions(data.test, data.classes, mean["test"], folder)
    if not options.quiet:
        show(text_table(tuple(rows[0]), [tuple(row.values()) for row in rows], left=1))


if __name__ == "__main__":
    run_script(main)
