"""``funcnn train``: a net for a folder of images or a data set, as ``experiments/train_folder.py`` does it."""

import shlex

from funcnn.command import program
from funcnn.experiment.images import image_options, train_images
from funcnn.experiment.options import printer

__all__ = ["main"]

_DESCRIPTION = """A convolutional net learns your own images, in a folder that has a folder of them for each class.

    {0} photos --size 64        a fifth of each class is held out for the test
    {0} fashion_mnist           a data set by its name, from your files or downloaded once

Where there are class folders below train, and below val or test, these are the parts."""


def main(arguments: list[str], prog: str) -> None:
    """Train the net, and say what to do with it."""
    options = image_options(arguments, description=_DESCRIPTION.format(prog), prog=prog)
    train_images(options)
    model = shlex.quote(str(options.out / "model.safetensors"))
    printer(options.quiet)(f"\nTo use it: {program()} predict IMAGES --model {model}")
