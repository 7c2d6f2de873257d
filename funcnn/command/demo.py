"""``funcnn demo``: a small net learns the digits in the package, as ``experiments/digits_cnn.py`` does it."""

import shlex

from funcnn.command import program
from funcnn.experiment.digits import digits_options, train_digits
from funcnn.experiment.options import printer

__all__ = ["main"]

_DESCRIPTION = """A small convolutional net learns handwritten digits, in half a minute on a laptop.

    {0}            trains, and leaves the net and pictures in runs/digits_cnn
    {0} --resume   goes on where the last run was stopped

1,797 images of 8x8 pixels come with the package, four fifths of them to train and validate on."""

_NEXT = """
What to do with it:
  {0} predict drawing.png --model {1}
  {0} serve {1}
And a net for your own images, in a folder with a folder for each class:
  {0} train FOLDER"""


def main(arguments: list[str], prog: str) -> None:
    """Train the net, and say what to do with it."""
    options = digits_options(_DESCRIPTION.format(prog), arguments=arguments, prog=prog)
    train_digits(options)
    printer(options.quiet)(_NEXT.format(program(), shlex.quote(str(options.out / "model.safetensors"))))
