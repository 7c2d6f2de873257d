"""Convolutional nets with batch norm learn CIFAR-10: 60,000 colour images of 32x32 pixels, ten kinds of things.

    python experiments/cifar10_convnet.py --model 1                  as published: Adam, dropout, L2
    python experiments/cifar10_convnet.py --model 2 --recipe ours    AdamW over one cycle, flips, shifted crops

The nets are those of jind11/ANN_CNN_fromScratch, of which cifar10_ensemble.py makes one: model 1 has two convolutions,
model 2 has four. Each leaves the parameters that were best on the validation images.
"""

from argparse import ArgumentParser
from functools import partial

from funcnn.data import flip_horizontally, shifted_crop, standardise
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.layer import Layer
from funcnn.layers import max_pool2d
from funcnn.losses import softmax_cross_entropy
from funcnn.models import convnet
from funcnn.optimizers import adam, adamw, add_decayed_weights, chain, weights_only
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem

POOL = max_pool2d(2)
MODELS = {  # filters, hidden units, what follows each convolution
    1: ([32, 64], [256], POOL),
    2: ([32, 32, 64, 64], [256, 256], [None, POOL, None, POOL]),
}


def net(model: int, classes: int) -> Layer:
    filters, hidden, pool = MODELS[model]
    return convnet(filters, hidden, classes, pool=pool, batch_norm=True, dropout=0.5)


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", type=int, choices=tuple(MODELS), default=1, help="the net (default %(default)s)")


def main() -> None:
    rates = {"original": 1e-3, "ours": 2e-3}
    options = parse_options(
        __doc__, name="{data}_convnet_{model}", epochs=50, batch_size=200, lr=rates, data="cifar10", add=add_options
    )
    data = load_data(options.data, options)
    data = data.prepared(standardise(data.train.inputs))
    its_net = net(options.own.model, len(data.classes))
    if options.recipe == "original":
        l2 = add_decayed_weights(0.01, mask=weights_only)
        problem = Problem(its_net, softmax_cross_entropy, chain(l2, adam(options.lr)))
    else:
        steps = options.epochs * steps_per_epoch(data, options)
        rate = warmup_cosine(options.lr, steps // 10, steps, start=options.lr / 20)
        augment = (flip_horizontally, partial(shifted_crop, pad=4))
        problem = Problem(its_net, softmax_cross_entropy, adamw(rate, weight_decay=0.05), augment=augment)
    run(problem, data, options)


if __name__ == "__main__":
    run_script(main)
