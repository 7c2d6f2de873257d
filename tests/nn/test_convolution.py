"""The convolutional layer: which algorithm it takes, and that all of them are the same layer."""

import numpy as np
import pytest
from cases import Case, assert_close, ready

from funcnn import Key
from funcnn.grad_check import check_layer
from funcnn.layer import Shape, describe
from funcnn.layers import conv2d


@pytest.mark.parametrize("algorithm", ["plain", "strided", "winograd"])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_algorithm_is_the_same_layer(algorithm: str, groups: int) -> None:
    layer = conv2d(4, 3, padding="same", groups=groups, algorithm=algorithm)  # type: ignore[arg-type]
    assert check_layer(layer, (7, 5, 2), key=Key(0)).largest_error < 1e-6
    auto, its = (ready(Case(each, (7, 5, 2))) for each in (conv2d(4, 3, padding="same", groups=groups), layer))
    assert_close(its.train().y, auto.train().y, 1e-12)
    assert_close(tuple(its.gradients()), tuple(auto.gradients()), 1e-12)


def test_any_padding_of_columns() -> None:
    layer = conv2d(4, (3, 7), padding=((1, 2), (3, 0)), algorithm="winograd")
    assert check_layer(layer, (7, 6, 2), key=Key(0)).largest_error < 1e-6
    for padding in (3, ((3, 0), (0, 0))):
        with pytest.raises(ValueError, match="at most two rows of padding"):
            conv2d(4, 3, padding=padding, algorithm="winograd")


def products(layer: object, shape: Shape, dtype: type) -> str:
    """Which module the layer takes for a batch."""
    geo = layer.config.geometry(shape[1:])  # type: ignore[attr-defined]
    weight = layer.init(Key(0), shape[1:], dtype).params.weight  # type: ignore[attr-defined]
    return str(layer.config.products(geo, shape[0], weight).__name__).rpartition(".")[2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("layer", "shape", "dtype", "expected"),
    [
        (conv2d(64, 3), (16, 26, 26, 32), np.float32, "conv_winograd"),
        (conv2d(64, 3), (16, 26, 26, 32), np.float64, "conv_rows"),  # as precise as it gets
        (conv2d(64, 3), (1, 26, 26, 32), np.float32, "conv_rows"),  # products too narrow
        (conv2d(64, 3), (16, 26, 26, 1), np.float32, "conv_rows"),  # too few channels
        (conv2d(8, 3), (16, 26, 26, 32), np.float32, "conv_rows"),  # too few filters
        (conv2d(64, 5), (16, 26, 26, 32), np.float32, "conv_rows"),
        (conv2d(64, 3, stride=2), (16, 26, 26, 32), np.float32, "conv_rows"),
        (conv2d(64, 3, dilation=2), (16, 26, 26, 32), np.float32, "conv_rows"),
        (conv2d(64, 3, algorithm="strided"), (16, 26, 26, 32), np.float32, "conv_rows"),
        (conv2d(4, 3, algorithm="winograd"), (1, 6, 6, 1), np.float64, "conv_winograd"),
        (conv2d(64, 3, algorithm="plain"), (16, 26, 26, 32), np.float32, "conv_strided"),
    ],
    ids=str,
)
def test_auto_takes_what_fits_and_pays(layer: object, shape: Shape, dtype: type, expected: str) -> None:
    assert products(layer, shape, dtype) == expected


def test_an_unfit_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="algorithm must be one of 'auto', 'plain', 'strided', 'winograd', got 'fft'"):
        conv2d(4, 3, algorithm="fft")  # type: ignore[arg-type]
    unfit = ({"kernel_size": 5}, {"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "dilation": 2})
    for settings_ in (*unfit, {"kernel_size": 3, "padding": 3}):
        with pytest.raises(ValueError, match="the Winograd algorithm is for kernels of three rows"):
            conv2d(4, **settings_, algorithm="winograd")  # type: ignore[arg-type]


def test_the_algorithm_is_part_of_the_description() -> None:
    assert describe(conv2d(4, 3, algorithm="winograd"))["algorithm"] == "winograd"
    assert "algorithm" not in describe(conv2d(4, 3))
