"""A convolutional net with dropout learns Fashion-MNIST: 60,000 images of 28x28 pixels, ten kinds of clothes.

    python experiments/fashion_cnn.py                   as published: momentum, a rate that falls with 1 / epoch
    python experiments/fashion_cnn.py --recipe ours     AdamW over one cycle, flips, shifts of a pixel
    python experiments/fashion_cnn.py --data photos     a folder of your own, with a folder of images for each class

The net is that of devvrath123/neuralnetworksfromscratch: 1,736,714 parameters, 19.8 million multiply-adds an image.
"""

from functools import partial

from funcnn import Layer, serial
from funcnn.data import flip_horizontally, shifted_crop
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.layers import conv2d, dense, dropout, flatten, leaky_relu, max_pool2d
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adamw, momentum
from funcnn.schedules import inverse_time_decay, warmup_cosine
from funcnn.train import Problem


def net(classes: int) -> Layer:
    return serial(
        conv2d(32, 3), leaky_relu(),
        conv2d(64, 3), leaky_relu(), max_pool2d(2), dropout(0.25),
        conv2d(128, 3), leaky_relu(), max_pool2d(2), dropout(0.25),
        flatten(), dense(512), leaky_relu(), dropout(0.5),
        dense(classes),
    )  # fmt: skip


def main() -> None:
    rates = {"original": 0.005, "ours": 1e-3}
    options = parse_options(__doc__, name="fashion_cnn", epochs=40, batch_size=64, lr=rates, data="fashion_mnist")
    data = load_data(options.data, options)
    steps = steps_per_epoch(data, options)
    if options.recipe == "original":
        rate = inverse_time_decay(options.lr, 0.001, every=steps, staircase=True)
        problem = Problem(net(len(data.classes)), softmax_cross_entropy, momentum(rate))
    else:
        rate = warmup_cosine(options.lr, options.epochs * steps // 20, options.epochs * steps, start=options.lr / 20)
        loss = partial(softmax_cross_entropy, label_smoothing=0.1)
        augment = (flip_horizontally, partial(shifted_crop, pad=1))
        problem = Problem(net(len(data.classes)), loss, adamw(rate, weight_decay=0.05), augment=augment)
    run(problem, data, options)


if __name__ == "__main__":
    run_script(main)
