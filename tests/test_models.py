"""The two families of nets, and the sizes of the nets that funcnn is to rebuild, each derived by hand."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from funcnn import Key, ShapeError, models, serial, tree
from funcnn.init import glorot_uniform, he_normal, normal
from funcnn.layer import Layer
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    flatten,
    leaky_relu,
    max_pool2d,
    position_bias,
    relu,
    tanh,
)
from funcnn.models import convnet, fully_connected, gpt

POOL = max_pool2d(2)


def size(net: Layer, in_shape: tuple[int, ...]) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in tree.flatten(net.init(Key(0), in_shape).params))


# --- Structure ------------------------------------------------------------------------------------------------


def hidden(units: int, rate: float) -> list[Layer]:
    """A hidden block as the families build it: no bias, since the norm's shift takes its place."""
    return [dense(units, use_bias=False), batch_norm(), relu(), dropout(rate)]


def block(filters: int, *pool: Layer) -> list[Layer]:
    return [conv2d(filters, 3, padding="same", use_bias=False), batch_norm(), relu(), *pool]


FAMILIES = (
    (
        fully_connected([256, 256], 10, batch_norm=True, dropout=0.3),
        serial(flatten(), *hidden(256, 0.3), *hidden(256, 0.3), dense(10)),
    ),
    (
        convnet([32, 64], [256], 10, batch_norm=True, dropout=0.5),
        serial(*block(32, POOL), *block(64, POOL), flatten(), *hidden(256, 0.5), dense(10)),
    ),
    (
        convnet([32, 32, 64, 64], [256, 256], 10, pool=[None, POOL, None, POOL], batch_norm=True, dropout=0.5),
        serial(
            *[*block(32), *block(32, POOL), *block(64), *block(64, POOL)],
            *[flatten(), *hidden(256, 0.5), *hidden(256, 0.5), dense(10)],
        ),
    ),
    (fully_connected([], 10), serial(flatten(), dense(10))),
    (fully_connected([], 10, batch_norm=True, dropout=0.5), serial(flatten(), dense(10))),
    (fully_connected((8,), 2), serial(flatten(), dense(8), relu(), dense(2))),
    (
        fully_connected([8, 4], 2, activation=leaky_relu, dropout=0.2),
        serial(flatten(), dense(8), leaky_relu(), dropout(0.2), dense(4), leaky_relu(), dropout(0.2), dense(2)),
    ),
    (convnet([], [], 10), serial(flatten(), dense(10))),
    (convnet([], [8], 10), fully_connected([8], 10)),
    (convnet([], [], 10, pool=[]), serial(flatten(), dense(10))),
    (convnet([4], [], 10), serial(conv2d(4, 3, padding="same"), relu(), POOL, flatten(), dense(10))),
    (convnet([4], [], 10, pool=None), serial(conv2d(4, 3, padding="same"), relu(), flatten(), dense(10))),
    (
        convnet([4, 8], [6], 10, kernel_size=(5, 3), stride=2, padding=1, pool=[avg_pool2d(2), None], activation=tanh),
        serial(
            *[conv2d(4, (5, 3), stride=2, padding=1), tanh(), avg_pool2d(2)],
            *[conv2d(8, (5, 3), stride=2, padding=1), tanh()],
            *[flatten(), dense(6), tanh(), dense(10)],
        ),
    ),
    (
        convnet([4], [6], 10, weight_init=normal(0.1)),
        serial(
            *[conv2d(4, 3, padding="same", weight_init=normal(0.1)), relu(), POOL],
            *[flatten(), dense(6, weight_init=normal(0.1)), relu(), dense(10, weight_init=normal(0.1))],
        ),
    ),
)


@pytest.mark.parametrize(("family", "written_out"), FAMILIES, ids=lambda net: "")
def test_families_are_what_one_would_write_out(family: Layer, written_out: Layer) -> None:
    assert family == written_out


def test_every_public_constructor_is_tried() -> None:
    assert {make.__name__ for make in (convnet, fully_connected, gpt)} == set(models.__all__)


@pytest.mark.parametrize("net", [convnet([4], [6], 3, batch_norm=True, dropout=0.5), fully_connected([6], 3)], ids=str)
def test_families_give_one_row_of_scores_for_each_image(net: Layer) -> None:
    params, state, out_shape = net.init(Key(0), (4, 4, 2))
    scores = net.apply(params, state, np.ones((5, 4, 4, 2), np.float32)).y
    assert out_shape == (3,)
    assert scores.shape == (5, 3)
    assert scores.dtype == np.float32


def test_weights_are_he_normal_by_default_and_any_other_by_wish() -> None:
    assert fully_connected([8], 2) == fully_connected([8], 2, weight_init=he_normal())
    assert fully_connected([8], 2) != fully_connected([8], 2, weight_init=glorot_uniform())


# --- Sizes ----------------------------------------------------------------------------------------------------


def small_convnet(filters: int) -> Layer:
    """conv 5x5 - relu - conv 5x5 - relu - pool - dense: 28 -> 24 -> 20 -> 10 on MNIST."""
    return serial(conv2d(filters, 5), relu(), conv2d(filters, 5), relu(), POOL, flatten(), dense(10))


LARGE_CONVNET = serial(
    *[conv2d(32, 3), leaky_relu(), conv2d(64, 3), leaky_relu(), POOL, dropout(0.25)],  # 28 -> 26 -> 24 -> 12
    *[conv2d(128, 3), leaky_relu(), POOL, dropout(0.25)],  # -> 10 -> 5
    *[flatten(), dense(512), leaky_relu(), dropout(0.5), dense(10)],
)


def stage(filters: int, pool: bool) -> list[Layer]:
    """A convolution with one bias per position; the pool halves 28 to 14 to 7."""
    pools = [max_pool2d(3, stride=2, padding=((0, 1), (0, 1)))] if pool else []
    return [conv2d(filters, 3, padding=1, use_bias=False), position_bias(), relu(), *pools]


POSITIONAL_CONVNET = serial(
    *[*stage(16, True), *stage(32, True), *stage(64, False), flatten(), dense(100), relu(), dense(10)]
)
MNIST, CIFAR = (28, 28, 1), (32, 32, 3)


@pytest.mark.parametrize(
    ("net", "in_shape", "parameters"),
    [
        (small_convnet(8), MNIST, (5 * 5 * 1 * 8 + 8) + (5 * 5 * 8 * 8 + 8) + (10 * 10 * 8 * 10 + 10)),
        (small_convnet(8), MNIST, 9_826),
        (small_convnet(16), CIFAR, (5 * 5 * 3 * 16 + 16) + (5 * 5 * 16 * 16 + 16) + (12 * 12 * 16 * 10 + 10)),
        (small_convnet(16), CIFAR, 30_682),
        (LARGE_CONVNET, MNIST, 1_736_714),
        (POSITIONAL_CONVNET, MNIST, 359_846),
        (fully_connected([128, 64], 10), MNIST, 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
        # Batch norm has a scale and a shift for each unit or filter, and takes the bias's place.
        (FAMILIES[0][0], CIFAR, 3072 * 256 + 2 * 256 + 256 * 256 + 2 * 256 + 256 * 10 + 10),
        (FAMILIES[1][0], CIFAR, 27 * 32 + 2 * 32 + 288 * 64 + 2 * 64 + 4096 * 256 + 2 * 256 + 256 * 10 + 10),
    ],
)
def test_parameters(net: Layer, in_shape: tuple[int, ...], parameters: int) -> None:
    assert size(net, in_shape) == parameters


@pytest.mark.parametrize(
    ("net", "in_shape", "macs"),
    [
        (small_convnet(8), MNIST, 24 * 24 * 8 * 25 + 20 * 20 * 8 * 25 * 8 + 800 * 10),
        (LARGE_CONVNET, MNIST, 26**2 * 32 * 9 + 24**2 * 64 * 9 * 32 + 10**2 * 128 * 9 * 64 + 3200 * 512 + 512 * 10),
        (LARGE_CONVNET, MNIST, 19_827_840),
        (
            POSITIONAL_CONVNET,
            MNIST,
            28**2 * 16 * 9 + 14**2 * 32 * 9 * 16 + 7**2 * 64 * 9 * 32 + 3136 * 100 + 100 * 10,
        ),
        (POSITIONAL_CONVNET, MNIST, 2_233_832),
        (FAMILIES[1][0], CIFAR, 32**2 * 32 * 9 * 3 + 16**2 * 64 * 9 * 32 + 4096 * 256 + 256 * 10),
        (FAMILIES[1][0], CIFAR, 6_654_464),
        (fully_connected([128, 64], 10), MNIST, 784 * 128 + 128 * 64 + 64 * 10),
        (fully_connected([128, 64], 10), MNIST, 109_184),
    ],
)
def test_multiply_adds(net: Layer, in_shape: tuple[int, ...], macs: int) -> None:
    assert net.config.macs(in_shape) == macs


def test_overlapping_pool_with_one_padded_pixel_halves_the_image() -> None:
    config = POSITIONAL_CONVNET.config
    shapes = [serial(*config.children[:i]).config.out_shape(MNIST) for i in (4, 8, 11, 12)]
    assert shapes == [(14, 14, 16), (7, 7, 32), (7, 7, 64), (3136,)]


# --- Errors ---------------------------------------------------------------------------------------------------


SIZES = "must be a list of positive ints, got"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fully_connected([8, 0], 10), f"fully_connected: hidden {SIZES} (8, 0)"),
        (lambda: fully_connected([8.0], 10), f"fully_connected: hidden {SIZES} (8.0,)"),
        (lambda: fully_connected(64, 10), f"fully_connected: hidden {SIZES} 64. For a single one write [64]"),
        (lambda: fully_connected("64", 10), f"fully_connected: hidden {SIZES} '64'"),
        (lambda: fully_connected([8], -1), "fully_connected: classes must be a positive int, got -1"),
        (
            lambda: fully_connected([], 10, dropout=1.0),
            "fully_connected: dropout must be at least 0 and less than 1, got 1.0",
        ),
        (
            lambda: fully_connected([], 10, activation=relu()),
            "fully_connected: activation must be a constructor, to be called for each layer, got relu(). "
            "Pass relu, without the brackets",
        ),
        (
            lambda: fully_connected([8], 10, activation=dense),
            "fully_connected: activation must be a constructor of layers that takes no arguments, got dense. "
            "Write one around yours (def)",
        ),
        (lambda: convnet(3, [8], 10), f"convnet: filters {SIZES} 3. For a single one write [3]"),
        (lambda: convnet([4], [0], 10), f"convnet: hidden {SIZES} (0,)"),
        (
            lambda: convnet([], [8], 10, kernel_size=0),
            "convnet: kernel_size must be a positive int or a pair (height, width), got (0, 0)",
        ),
        (lambda: convnet([], [], 10, batch_norm="no"), "convnet: batch_norm must be True or False, got 'no'"),
        (
            lambda: convnet([4, 8], [8], 10, pool=[POOL]),
            "convnet: pool must be one layer or one for each convolution, got 1 for 2 filters",
        ),
        (
            lambda: convnet([], [8], 10, pool=[POOL]),
            "convnet: pool must be one layer or one for each convolution, got 1 for 0 filters",
        ),
        (
            lambda: convnet([8], [], 10, pool=[max_pool2d]),
            "convnet: pool must be of layers and None, got max_pool2d. Call it: max_pool2d(...)",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named_with_the_family(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()


def test_an_image_that_does_not_fit_is_refused_with_the_place() -> None:
    with pytest.raises(ShapeError, match=re.escape("serial[0] conv2d(filters=4")):
        convnet([4], [8], 10).init(Key(0), (28, 28))
    with pytest.raises(ShapeError, match=re.escape("serial[5] max_pool2d(window=2")):  # 3 -> 1 -> nothing to pool
        convnet([4, 4], [8], 10).init(Key(0), (3, 3, 1))
