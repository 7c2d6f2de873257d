"""A convolutional net with a bias for every position learns MNIST: 70,000 handwritten digits of 28x28 pixels.

    python experiments/mnist_position_bias_cnn.py                in batches of 64, by Adam, with shifts of a pixel
    python experiments/mnist_position_bias_cnn.py --per-sample   as published: plain SGD, one image a step

The net, the epochs and the learning rates, 1e-5 to 1e-3 over three epochs and down a quarter cosine over six, are
those of raisaat/Convolutional-Neural-Network-from-scratch-for-MNIST: 359,846 parameters, 2.23 million multiply-adds.
"""

from argparse import ArgumentParser
from functools import partial

import attrs

from funcnn import serial
from funcnn.data import shifted_crop
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.layers import conv2d, dense, flatten, max_pool2d, position_bias, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam, sgd
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem

POOL = max_pool2d(3, stride=2, padding=((0, 1), (0, 1)))
NET = serial(
    conv2d(16, 3, padding=1, use_bias=False), position_bias(), relu(), POOL,
    conv2d(32, 3, padding=1, use_bias=False), position_bias(), relu(), POOL,
    conv2d(64, 3, padding=1, use_bias=False), position_bias(), relu(),
    flatten(), dense(100), relu(), dense(10),
)  # fmt: skip


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--per-sample", action="store_true", help="one image a step, by plain SGD, as published")


def main() -> None:
    options = parse_options(__doc__, name="mnist_position_bias_cnn", epochs=9, batch_size=64, lr=1e-3, add=add_options)
    if options.own.per_sample:
        options = attrs.evolve(options, batch_size=1)
    data = load_data("mnist", options)
    steps = options.epochs * steps_per_epoch(data, options)
    rate = warmup_cosine(options.lr, steps // 3, steps, start=options.lr / 100, end=options.lr / 100, quarter=True)
    if options.own.per_sample:
        problem = Problem(NET, softmax_cross_entropy, sgd(rate))
    else:
        problem = Problem(NET, softmax_cross_entropy, adam(rate), augment=(partial(shifted_crop, pad=1),))
    run(problem, data, options)


if __name__ == "__main__":
    run_script(main)
