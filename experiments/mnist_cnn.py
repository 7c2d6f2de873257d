"""A small convolutional net learns MNIST: 70,000 handwritten digits of 28x28 pixels.

    python experiments/mnist_cnn.py                  9,826 parameters
    python experiments/mnist_cnn.py --data cifar10   the same with 16 filters on colour images, 30,682 parameters
    python experiments/mnist_cnn.py --data photos    a folder of your own, with a folder of images for each class

The nets and settings are those of zishansami102/CNN-from-Scratch, whose momentum is kept from batch to batch here.
"""

from funcnn import Layer, serial
from funcnn.data import standardise
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.init import lecun_normal
from funcnn.layers import conv2d, dense, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import momentum
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem

FILTERS = {1: 8, 3: 16}  # by the images' channels
INIT = lecun_normal()


def net(filters: int, classes: int) -> Layer:
    return serial(
        conv2d(filters, 5, weight_init=INIT), relu(),
        conv2d(filters, 5, weight_init=INIT), relu(), max_pool2d(2),
        flatten(), dense(classes, weight_init=INIT),
    )  # fmt: skip


def main() -> None:
    rates = {"original": 0.01, "ours": 0.01}
    options = parse_options(__doc__, name="{data}_cnn", epochs=8, batch_size=20, lr=rates, data="mnist")
    data = load_data(options.data, options)
    data = data.prepared(standardise(data.train.inputs))
    rate = options.lr
    if options.recipe == "ours":
        steps = options.epochs * steps_per_epoch(data, options)
        rate = warmup_cosine(options.lr, steps // 10, steps)
    its_net = net(FILTERS[data.in_shape[-1]], len(data.classes))
    run(Problem(its_net, softmax_cross_entropy, momentum(rate, 0.95)), data, options)


if __name__ == "__main__":
    run_script(main)
