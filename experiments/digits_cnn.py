"""A small convolutional net with batch norm and dropout learns handwritten digits, from the data in the package.

    python experiments/digits_cnn.py            trains, and leaves its results in runs/digits_cnn
    python experiments/digits_cnn.py --resume   goes on where the last run was stopped

1,797 images of 8x8 pixels (UCI's optical digits), four fifths of them to train and validate on.
"""

from functools import partial

from funcnn import serial
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem

NET = serial(
    conv2d(32, 3, padding="same", use_bias=False), batch_norm(), relu(),
    conv2d(64, 3, padding="same", use_bias=False), batch_norm(), relu(),
    max_pool2d(2), dropout(0.25),
    conv2d(128, 3, padding="same", use_bias=False), batch_norm(), relu(),
    max_pool2d(2), dropout(0.5),
    flatten(), dense(10),
)  # fmt: skip


def main() -> None:
    options = parse_options(__doc__, name="digits_cnn", epochs=30, batch_size=64, lr=4e-3, quick_epochs=3)
    data = load_data("digits", options)
    steps = steps_per_epoch(data, options)
    rate = warmup_cosine(options.lr, warmup_steps=steps // 2, total_steps=options.epochs * steps, start=options.lr / 20)
    loss = partial(softmax_cross_entropy, label_smoothing=0.1)
    run(Problem(NET, loss, adam(rate)), data, options)


if __name__ == "__main__":
    run_script(main)
