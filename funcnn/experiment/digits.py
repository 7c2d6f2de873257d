"""The digits in the package and a convolutional net: what ``experiments/digits_cnn.py`` and ``funcnn demo`` train."""

from functools import partial
from typing import Any

from funcnn.compose import serial
from funcnn.experiment.options import Options, parse_options
from funcnn.experiment.run import load_data, run, steps_per_epoch
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem

__all__ = ["DIGITS_NET", "digits_options", "train_digits"]

DIGITS_NET = serial(
    conv2d(32, 3, padding="same", use_bias=False), batch_norm(), relu(),
    conv2d(64, 3, padding="same", use_bias=False), batch_norm(), relu(),
    max_pool2d(2), dropout(0.25),
    conv2d(128, 3, padding="same", use_bias=False), batch_norm(), relu(),
    max_pool2d(2), dropout(0.5),
    flatten(), dense(10),
)  # fmt: skip


def digits_options(description: str | None, *, arguments: list[str] | None = None, prog: str | None = None) -> Options:
    """The options of training on the digits, from the arguments after the command (None: the program's).

    >>> options = digits_options("Train.", arguments=["--quick"])
    >>> options.epochs, str(options.out.name)
    (3, 'digits_cnn')

    Ends the program with a message for an option that is wrong.
    """
    return parse_options(
        description, name="digits_cnn", epochs=30, batch_size=64, lr=4e-3, quick_epochs=3,
        arguments=arguments, prog=prog,
    )  # fmt: skip


def train_digits(options: Options) -> dict[str, Any]:
    """Train the net on 1,797 images of 8x8 pixels, and leave everything in ``options.out``; returns the metrics.

    Raises what `run` raises.
    """
    data = load_data("digits", options)
    steps = steps_per_epoch(data, options)
    rate = warmup_cosine(options.lr, warmup_steps=steps // 2, total_steps=options.epochs * steps, start=options.lr / 20)
    loss = partial(softmax_cross_entropy, label_smoothing=0.1)
    return run(Problem(DIGITS_NET, loss, adam(rate)), data, options)
