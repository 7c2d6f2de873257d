"""Fully connected layers with batch norm and dropout learn CIFAR-10: how far one gets without convolution.

    python experiments/cifar10_mlp.py

The net, 3072-256-256-10, is that of jind11/ANN_CNN_fromScratch; the mean image is subtracted, Adam's rate falls by a
twentieth each epoch.
"""

from funcnn.data import subtract_mean_image
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.schedules import exponential_decay
from funcnn.train import Problem


def main() -> None:
    options = parse_options(__doc__, name="cifar10_mlp", epochs=50, batch_size=200, lr=1e-3)
    data = load_data("cifar10", options)
    data = data.prepared(subtract_mean_image(data.train.inputs))
    rate = exponential_decay(options.lr, 0.95, every=steps_per_epoch(data, options), staircase=True)
    net = fully_connected([256, 256], 10, batch_norm=True, dropout=0.3)
    run(Problem(net, softmax_cross_entropy, adam(rate)), data, options)


if __name__ == "__main__":
    run_script(main)
