"""Every gradient of the library against finite differences: layers, losses, and the families of nets."""

from functools import partial

import numpy as np
import pytest
from cases import CASES, Case

from funcnn import Key, losses, serial
from funcnn.compose import parallel, residual
from funcnn.contract.candidate import Candidate
from funcnn.grad_check import check_layer, check_loss
from funcnn.layer import Array, Layer
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    flatten,
    gelu,
    global_avg_pool2d,
    leaky_relu,
    max_pool2d,
    relu,
    sigmoid,
    tanh,
)
from funcnn.losses import Loss, mean_squared_error, multiclass_hinge, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.models import convnet, fully_connected
from funcnn.settings import function_of

LIMIT = 1e-6
SEEDS = range(3)
every_seed = pytest.mark.parametrize("seed", SEEDS)


@pytest.mark.parametrize("seed", SEEDS[1:])  # the first is test_contract's
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case: Case, seed: int) -> None:
    report = Candidate(case.layer, case.in_shape, Key(seed)).slopes
    assert report.checks[-1].leaf == "x"
    assert report.largest_error < LIMIT


# --- Losses ---------------------------------------------------------------------------------------------------


def class_numbers(draw: np.random.Generator) -> Array:
    return draw.integers(0, 5, size=6)


def distributions(draw: np.random.Generator) -> Array:
    return draw.dirichlet(np.ones(5), size=6)


def numbers(draw: np.random.Generator) -> Array:
    return draw.normal(size=(6, 5))


def probabilities(draw: np.random.Generator) -> Array:
    return draw.random((6, 5))


def bits(draw: np.random.Generator) -> Array:
    return draw.integers(0, 2, size=(6, 5))


LOSSES = (
    (softmax_cross_entropy, class_numbers),
    (softmax_cross_entropy, distributions),
    (partial(softmax_cross_entropy, label_smoothing=0.1), class_numbers),
    (partial(softmax_cross_entropy, label_smoothing=0.1), distributions),
    (partial(softmax_cross_entropy, label_smoothing=1.0), class_numbers),
    (multiclass_hinge, class_numbers),
    (partial(multiclass_hinge, margin=0.25), class_numbers),
    (mean_squared_error, numbers),
    (sigmoid_cross_entropy, probabilities),
    (sigmoid_cross_entropy, bits),
)


def test_every_loss_is_on_the_list() -> None:
    public = {name for name in losses.__all__ if name[0].islower()} - {"check_labels"}
    assert {function_of(loss).__name__ for loss, _ in LOSSES} == public


@every_seed
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("loss", "targets"), LOSSES)
def test_loss(loss: Loss, targets: object, size: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    report = check_loss(loss, size * draw.normal(size=(6, 5)), targets(draw), key=Key(seed))
    assert report.largest_error < LIMIT


@every_seed
@pytest.mark.parametrize("loss", [mean_squared_error, sigmoid_cross_entropy])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 3, 2)], ids=str)
def test_loss_of_outputs_of_any_rank(loss: Loss, shape: tuple[int, ...], seed: int) -> None:
    draw = np.random.default_rng(seed)
    assert check_loss(loss, draw.normal(size=shape), draw.random(shape), key=Key(seed)).largest_error < LIMIT


# --- Nets -----------------------------------------------------------------------------------------------------

BOTTLENECK = residual(serial(conv2d(2, 1), batch_norm(), leaky_relu(), conv2d(3, 3, padding="same"), tanh()))
NETS = (
    (fully_connected([], 3), (2, 3)),
    (fully_connected([5], 3), (6,)),
    (fully_connected([6, 5], 3, batch_norm=True, dropout=0.3), (3, 3, 1)),
    (fully_connected([6, 5], 3, activation=leaky_relu, dropout=0.5), (8,)),
    (convnet([], [], 3), (3, 3, 2)),
    (convnet([], [5], 3, batch_norm=True), (3, 3, 2)),
    (convnet([3], [], 3), (4, 4, 2)),
    (convnet([3, 4], [5], 3, batch_norm=True, dropout=0.3), (6, 6, 2)),
    (convnet([2, 3, 4], [5], 3, pool=[None, max_pool2d(2), avg_pool2d(2)], activation=leaky_relu), (6, 6, 1)),
    (convnet([3], [4], 3, kernel_size=(2, 3), stride=(2, 1), padding="valid", pool=None, activation=gelu), (6, 5, 2)),
    (convnet([3, 2], [4], 3, pool=max_pool2d(3, stride=2, padding=((0, 1), (0, 1))), activation=sigmoid), (6, 6, 1)),
    (serial(BOTTLENECK, residual(BOTTLENECK), global_avg_pool2d(), dense(2)), (4, 4, 3)),
    (
        serial(
            parallel(conv2d(2, 1), serial(conv2d(2, 1), relu(), conv2d(3, 3, padding="same")), batch_norm()),
            parallel(serial(dropout(0.3), conv2d(3, 1)), residual(conv2d(7, 1)), combine="concat"),
            parallel(serial(flatten(), dense(4)), serial(global_avg_pool2d(), dense(4)), combine="add"),
        ),
        (4, 4, 2),
    ),
)


@every_seed
@pytest.mark.parametrize(("net", "in_shape"), NETS, ids=str)
def test_net(net: Layer, in_shape: tuple[int, ...], seed: int) -> None:
    report = check_layer(net, in_shape, key=Key(seed), batch=4)
    leaves = {check.leaf for check in report.checks}
    assert len(report.checks) == 3 * len(leaves)
    assert report.largest_error < LIMIT
