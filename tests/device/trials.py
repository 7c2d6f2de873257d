"""A training for the tests of sweeps on a device, in a module that spawned processes can import."""

import standin

from funcnn.data import load
from funcnn.losses import softmax_cross_entropy
from funcnn.models import fully_connected
from funcnn.optimizers import adam
from funcnn.sweep import Configuration, Training
from funcnn.system.devices import register
from funcnn.train import Problem

register("standin", standin)


def make(config: Configuration, seed: int) -> Training:
    problem = Problem(fully_connected([16], 10), softmax_cross_entropy, adam(config.lr))
    return Training(problem, load("digits").thin(200, 100), config.epochs, batch_size=50)
