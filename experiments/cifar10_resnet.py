"""A residual net of 0.31 million parameters learns CIFAR-10: 60,000 colour images of 32x32 pixels, ten kinds of things.

    python experiments/cifar10_resnet.py --workers 2
    python experiments/cifar10_resnet.py --workers 2 --epochs 80 --no-validation
    python experiments/cifar10_ensemble.py --models runs/cifar10_resnet/model.safetensors --views 6 --no-validation
    python experiments/cifar10_resnet.py --widths 64 128 160 160 --epochs 80

Images are halved before they are widened, so that most of the work is done on few pixels, and each channel's largest
value is what the last layer sees (after D. Page's net for DAWNBench, 2018, narrower). A residual block adds to its
input what two convolutions make of it, so that a gradient reaches the first layer undiminished. Training images are
flipped, shifted and have a square cut out (DeVries & Taylor 2017); a tenth of each label goes to all classes alike.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial

from funcnn.compose import residual, serial
from funcnn.data import cutout, flip_horizontally, shifted_crop, standardise
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.experiment.options import positive
from funcnn.layer import Layer
from funcnn.layers import batch_norm, conv2d, dense, global_max_pool2d, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import add_decayed_weights, chain, momentum, weights_only
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem


def convolution(filters: int) -> Layer:
    return serial(conv2d(filters, 3, padding="same", use_bias=False), batch_norm())


def block(filters: int) -> Layer:
    """x and what two convolutions make of it, added: (height, width, filters) -> the same."""
    return residual(serial(convolution(filters), relu(), convolution(filters), relu()))


def resnet(widths: Sequence[int], classes: int) -> Layer:
    """A stage for each width, half as high and wide as the one before; all but the first and the last have a block."""
    first, *middle, last = widths
    stages: list[Layer] = [convolution(first), relu()]
    for filters in middle:
        stages += [max_pool2d(2), convolution(filters), relu(), block(filters)]
    return serial(*stages, max_pool2d(2), convolution(last), relu(), global_max_pool2d(), dense(classes))


def add_options(parser: ArgumentParser) -> None:
    text = "the filters of each stage, two or more (default 32 64 80 80)"
    parser.add_argument("--widths", type=positive(int), nargs="+", default=[32, 64, 80, 80], help=text)


def main() -> None:
    options = parse_options(
        __doc__, name="{data}_resnet", epochs=40, batch_size=128, lr=0.2, data="cifar10", add=add_options
    )
    if len(options.own.widths) < 2:
        raise SystemExit("--widths: expected two widths or more, of the first stage and the last")
    data = load_data(options.data, options)
    data = data.prepared(standardise(data.train.inputs))
    steps = options.epochs * steps_per_epoch(data, options)
    rate = warmup_cosine(options.lr, steps // 5, steps, start=options.lr / 20)
    problem = Problem(
        resnet(options.own.widths, len(data.classes)),
        partial(softmax_cross_entropy, label_smoothing=0.1),
        chain(add_decayed_weights(5e-4, mask=weights_only), momentum(rate, nesterov=True)),
        augment=(flip_horizontally, partial(shifted_crop, pad=4), cutout(8)),
    )
    run(problem, data, options)


if __name__ == "__main__":
    run_script(main)
