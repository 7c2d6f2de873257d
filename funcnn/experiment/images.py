"""A net for any folder of images: what ``experiments/train_folder.py`` and ``funcnn train`` do.

    train_images(image_options(arguments))

`image_options` reads the command line, `train_images` loads the folder, builds a net for images of that size and
number of classes, and runs the whole experiment (`funcnn.experiment.run`).
"""

from argparse import ArgumentParser
from functools import partial
from typing import Any

from funcnn.compose import serial
from funcnn.data import Dataset, flip_horizontally, shifted_crop, standardise
from funcnn.experiment.options import Options, parse_options
from funcnn.experiment.run import load_data, run, steps_per_epoch
from funcnn.layer import Layer
from funcnn.layers import batch_norm, conv2d, dense, dropout, global_avg_pool2d, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adamw
from funcnn.schedules import warmup_cosine
from funcnn.settings import refuse
from funcnn.train import Augment, Problem
from funcnn.tree import Shape

_DESCRIPTION = """A convolutional net learns your own images: a folder that has a folder of PNG or JPEG files for each
class.

A fifth of each class is held out for the test, and a tenth of the rest to choose the best net by. Where there are
class folders below train, and below val or test, these are the parts."""

__all__ = ["image_net", "image_options", "train_images"]

_LAST = 7  # pixels: a feature map with a side as short is not halved
_FILTERS, _MOST_FILTERS, _FEWEST = 32, 256, 3


def image_options(
    arguments: list[str] | None = None, *, description: str | None = _DESCRIPTION, prog: str | None = None
) -> Options:
    """The options of training on a folder of class folders, from the arguments after the command (None: the program's).

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory(suffix="_photos") as folder:
    ...     options = image_options([folder, "--size", "48x64", "--epochs", "2"])
    >>> options.size, options.out.name.endswith("_photos"), options.epochs
    ((48, 64), True, 2)

    Ends the program with a message for a folder that does not exist, as for any option that is wrong.
    """
    return parse_options(
        description, name="{data}", epochs=20, batch_size=64, lr=2e-3, takes_folder=True, add=_add_options,
        arguments=arguments, prog=prog,
    )  # fmt: skip


def _add_options(parser: ArgumentParser) -> None:
    mirror = "mirror half of the training images left to right: for photographs, not for letters"
    parser.add_argument("--flip", action="store_true", help=mirror)


def train_images(options: Options) -> dict[str, Any]:
    """Train a convolutional net on the options' folder, and leave everything in ``options.out``; returns the metrics.

    Raises DataError for a folder that cannot be read (`funcnn.data.load_folder`), and what `run` raises.
    """
    if options.data is None:
        refuse("train_images", "options", "those that image_options gives", options)
    data = load_data(options.data, options)
    data = data.prepared(standardise(data.train.inputs))
    return run(_problem(data, options), data, options)


def _problem(data: Dataset, options: Options) -> Problem:
    steps = options.epochs * steps_per_epoch(data, options)
    rate = warmup_cosine(options.lr, steps // 10, steps, start=options.lr / 20)
    shift = min(data.in_shape[:2]) // 10
    augment: tuple[Augment, ...] = (flip_horizontally,) if options.own.flip else ()
    if shift:
        augment = (*augment, partial(shifted_crop, pad=shift))
    return Problem(
        image_net(data.in_shape, len(data.classes)),
        partial(softmax_cross_entropy, label_smoothing=0.1),
        adamw(rate, weight_decay=0.05),
        augment=augment,
    )


def image_net(in_shape: Shape, classes: int) -> Layer:
    """A convolutional net for images of a size: stages of {conv - batch norm - relu}, halved until they are small.

    There are three stages at least; filters begin with 32 and double from one to the next, up to 256. The mean over all
    places goes to the classes: (n, height, width, channels) -> (n, classes).

    >>> from funcnn import Key
    >>> image_net((64, 48, 3), 5).init(Key(0), (64, 48, 3)).out_shape
    (5,)
    """
    layers: list[Layer] = []
    filters, side, stages = _FILTERS, min(in_shape[:2]), 0
    while stages < _FEWEST or side > _LAST:
        if layers:
            layers += [max_pool2d(2)] if side > _LAST else []
            side, filters = side // 2, min(2 * filters, _MOST_FILTERS)
        layers += [conv2d(filters, 3, padding="same", use_bias=False), batch_norm(), relu()]
        stages += 1
    return serial(*layers, global_avg_pool2d(), dropout(0.2), dense(classes))
