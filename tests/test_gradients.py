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
from funcnn.losses import (
    Loss,
    cosine_distance,
    ctc,
    gaussian_kl,
    gaussian_nll,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    multiclass_hinge,
    poisson,
    quantile,
    sigmoid_cross_entropy,
    sigmoid_focal,
    smooth_hinge,
    softmax_cross_entropy,
    softmax_focal,
    squared_hinge,
    triplet,
)
from funcnn.models import convnet, fully_connected
from funcnn.settings import function_of

LIMIT = 1e-6
SEEDS = range(3)
every_seed = pytest.mark.parametrize("seed", SEEDS)


@pytest.mark.parametrize("seed", SEEDS[1:])  # the first is test_contract's
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case: Case, seed: int) -> None:
    report = Candidate(case.layer, case.in_shape, Key(seed)).slopes
    if case.layer.config.vocabulary is None:  # whole numbers have no slope
        assert report.checks[-1].leaf.partition(".")[0] == "x"
    assert report.largest_error < LIMIT


# --- Losses ---------------------------------------------------------------------------------------------------


def class_numbers(draw: np.random.Generator) -> Array:
    return draw.integers(0, 5, size=6)


def distributions(draw: np.random.Generator) -> Array:
    return draw.dirichlet(np.ones(5), size=6)


def numbers(draw: np.random.Generator) -> Array:
    return draw.normal(size=(6, 5))


def normals(draw: np.random.Generator) -> Array:
    return draw.normal(size=(6, 4))


def probabilities(draw: np.random.Generator) -> Array:
    return draw.random((6, 5))


def bits(draw: np.random.Generator) -> Array:
    return draw.integers(0, 2, size=(6, 5))


def spelled(draw: np.random.Generator) -> Array:
    return np.array([[1, 2], [2, 2], [1, -1], [1, 1], [-1, -1], [2, -1]])


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
    (partial(softmax_cross_entropy, class_weights=(1, 0, 2, 0.5, 3), ignore=3, label_smoothing=0.1), class_numbers),
    (partial(softmax_cross_entropy, class_weights=(1, 0, 2, 0.5, 3), label_smoothing=0.1), distributions),
    (partial(softmax_focal, gamma=0.5, ignore=0), class_numbers),
    (softmax_focal, class_numbers),
    (kl_divergence, distributions),
    (sigmoid_focal, probabilities),
    (hinge, bits),
    (squared_hinge, bits),
    (smooth_hinge, bits),
    (mean_absolute_error, numbers),
    (partial(huber, delta=0.5), numbers),
    (log_cosh, numbers),
    (partial(quantile, q=0.2), numbers),
    (poisson, bits),
    (cosine_distance, numbers),
    (gaussian_kl, normals),
    (gaussian_nll, numbers),
    (triplet, class_numbers),
    (partial(triplet, squared=True), class_numbers),
    (ctc, spelled),
)
FORMS = {gaussian_kl: (6, 4), gaussian_nll: (6, 5, 2), triplet: (6, 3, 5), ctc: (6, 4, 3)}  # of outputs, else (6, 5)


def test_every_loss_is_on_the_list() -> None:
    public = {name for name in losses.__all__ if name[0].islower()}
    assert {function_of(loss).__name__ for loss, _ in LOSSES} == public


@every_seed
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("loss", "targets"), LOSSES)
def test_loss(loss: Loss, targets: object, size: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    outputs = size * draw.normal(size=FORMS.get(function_of(loss), (6, 5)))
    report = check_loss(loss, outputs, targets(draw), key=Key(seed))
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
