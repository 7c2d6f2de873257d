"""A residual net of 0.32 million parameters learns CIFAR-10: 60,000 colour images of 32x32 pixels, ten kinds of things.

    python experiments/cifar10_resnet.py                            SGD over one cycle, flips, shifted crops
    python experiments/cifar10_resnet.py --widths 16 32 64 --blocks 3    the ResNet-20 of He et al. 2016

Each block adds to its input what two convolutions make of it, so that a gradient reaches the first layer undiminished.
The first block of a later stage halves the image and widens it, and its shortcut is a 1x1 convolution.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial

from funcnn.compose import parallel, residual, serial
from funcnn.data import flip_horizontally, shifted_crop, standardise
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.experiment.options import positive
from funcnn.layer import Layer
from funcnn.layers import batch_norm, conv2d, dense, global_avg_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import add_decayed_weights, chain, momentum, weights_only
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem


def convolution(filters: int, kernel: int = 3, stride: int = 1) -> Layer:
    return serial(conv2d(filters, kernel, stride=stride, padding="same", use_bias=False), batch_norm())


def block(filters: int, stride: int, *, widens: bool) -> Layer:
    """Two convolutions beside a shortcut: (height, width, channels) -> (height / stride, width / stride, filters)."""
    branch = serial(convolution(filters, stride=stride), relu(), convolution(filters))
    if widens:
        shortcut = convolution(filters, kernel=1, stride=stride)
        return serial(parallel(branch, shortcut, combine="add"), relu())
    return serial(residual(branch), relu())


def resnet(widths: Sequence[int], blocks: int, classes: int) -> Layer:
    """So many blocks of each width; each width after the first halves the image."""
    layers = [convolution(widths[0]), relu()]
    for stage, filters in enumerate(widths):
        first = block(filters, 2, widens=True) if stage else block(filters, 1, widens=False)
        layers += [first, *[block(filters, 1, widens=False)] * (blocks - 1)]
    return serial(*layers, global_avg_pool2d(), dense(classes))


def add_options(parser: ArgumentParser) -> None:
    add, filters = parser.add_argument, "the filters of each stage (default 16 32 96)"
    add("--widths", type=positive(int), nargs="+", default=[16, 32, 96], help=filters)
    add("--blocks", type=positive(int), default=2, help="the blocks of each stage (default %(default)s)")


def main() -> None:
    options = parse_options(
        __doc__, name="{data}_resnet", epochs=30, batch_size=128, lr=0.2, data="cifar10", add=add_options
    )
    data = load_data(options.data, options)
    data = data.prepared(standardise(data.train.inputs))
    steps = options.epochs * steps_per_epoch(data, options)
    rate = warmup_cosine(options.lr, steps // 5, steps, start=options.lr / 20)
    problem = Problem(
        resnet(options.own.widths, options.own.blocks, len(data.classes)),
        softmax_cross_entropy,
        chain(add_decayed_weights(5e-4, mask=weights_only), momentum(rate, nesterov=True)),
        augment=(flip_horizontally, partial(shifted_crop, pad=4)),
    )
    run(problem, data, options)


if __name__ == "__main__":
    run_script(main)
