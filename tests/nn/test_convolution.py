"""The convolutional layer: which algorithm it takes, and that all of them are the same layer."""

import numpy as np
import pytest
from cases import Case, assert_close, gaussian, ready

from funcnn import Key
from funcnn.arrays import conv_winograd
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


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_convolution_is_the_same_layer(stride: int) -> None:
    auto = conv2d(3, 3, padding="same", stride=stride, groups=3)
    assert check_layer(auto, (7, 6, 3), key=Key(0)).largest_error < 1e-6
    for algorithm in ("plain", "strided"):
        other = conv2d(3, 3, padding="same", stride=stride, groups=3, algorithm=algorithm)  # type: ignore[arg-type]
        its, expected = (ready(Case(each, (7, 6, 3))) for each in (auto, other))
        assert_close(its.train().y, expected.train().y, 1e-12)
        assert_close(tuple(its.gradients()), tuple(expected.gradients()), 1e-12)


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
    batch = gaussian(shape, dtype)
    return str(layer.config.products(geo, weight, batch).__name__).rpartition(".")[2]  # type: ignore[attr-defined]


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
        (conv2d(32, 3, groups=32), (16, 26, 26, 32), np.float32, "conv_depthwise"),
        (conv2d(32, 3, groups=32, stride=2), (16, 26, 26, 32), np.float64, "conv_depthwise"),
        (conv2d(32, 3, groups=32), (16, 4, 26, 32), np.float32, "conv_rows"),  # two rows would be computed as four
        (conv2d(64, 3, groups=32), (16, 26, 26, 32), np.float32, "conv_rows"),  # two filters for each channel
        (conv2d(32, 3, groups=32, algorithm="strided"), (16, 26, 26, 32), np.float32, "conv_rows"),
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


# --- A value that stands out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -9999.0, 1e9, -3.4e38, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("n", [1, 16])
def test_a_spoilt_pixel_reaches_only_the_windows_that_hold_it(value: float, n: int) -> None:
    auto, strided = conv2d(64, 3, padding="same"), conv2d(64, 3, padding="same", algorithm="strided")
    params, state, _ = auto.init(Key(0), (32, 32, 32))
    x = gaussian((n, 32, 32, 32), np.float32)
    dy = gaussian((n, 32, 32, 64), np.float32, "dy")
    x[:, 16, 16, 0] = dy[:, 16, 16, 0] = value
    away = np.ones((32, 32), bool)
    away[15:18, 15:18] = False
    with np.errstate(over="ignore", invalid="ignore"):
        (y, _, kept), (plain, _, its) = (each.apply(params, state, x, train=True) for each in (auto, strided))
        dx, expected = auto.backward(params, kept, dy).dx, strided.backward(params, its, dy).dx
    for found, wanted in ((y, plain), (dx, expected)):
        assert np.isfinite(found[:, away]).all()
        np.testing.assert_allclose(found[:, away], wanted[:, away], rtol=0, atol=2e-5 * abs(wanted[:, away]).max())


@pytest.mark.parametrize("value", [-9999.0, 3.4e38, np.inf, -np.inf, np.nan])
def test_a_spoilt_pixel_of_a_depthwise_convolution(value: float) -> None:
    layer = conv2d(4, 3, padding="same", groups=4)
    params, state, _ = layer.init(Key(0), (12, 12, 4))
    x, dy = gaussian((2, 12, 12, 4), np.float32), gaussian((2, 12, 12, 4), np.float32, "dy")
    y, _, kept = layer.apply(params, state, x, train=True)
    dx = layer.backward(params, kept, dy).dx
    spoilt_x, spoilt_dy = x.copy(), dy.copy()
    spoilt_x[:, 6, 6, 0] = spoilt_dy[:, 6, 6, 0] = value
    away = np.ones((12, 12, 4), bool)
    away[5:8, 5:8, 0] = False
    with np.errstate(over="ignore", invalid="ignore"):
        spoilt = layer.apply(params, state, spoilt_x).y, layer.backward(params, kept, spoilt_dy).dx
    for found, wanted in zip(spoilt, (y, dx), strict=True):
        np.testing.assert_allclose(found[:, away], wanted[:, away], rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [1e-4, 0.01, 0.3])
def test_the_error_is_bounded_by_what_is_usual_in_the_batch(share: float) -> None:
    # Values just small enough not to stand out, one or many: the worst that "auto" lets through.
    auto, strided = conv2d(64, 3, padding="same"), conv2d(64, 3, padding="same", algorithm="strided")
    params, state, _ = auto.init(Key(0), (16, 16, 32))
    x = gaussian((16, 16, 16, 32), np.float32)
    far = gaussian(x.shape, np.float64, "far") < np.quantile(gaussian(x.shape, np.float64, "far"), share)
    x[far] = 50
    assert not conv_winograd.stands_out(x)
    y, expected = (each.apply(params, state, x).y for each in (auto, strided))
    usual = float(np.sqrt(np.square(expected, dtype=np.float64).mean()))
    assert abs(y - expected).max() <= 1e-4 * usual


@pytest.mark.parametrize("errors", ["ignore", "raise"])
def test_looking_for_it_is_quiet_and_takes_any_batch(errors: str) -> None:
    with np.errstate(all=errors):
        for value in (np.nan, np.inf, -1e20, 3e38, -9999):
            batch = np.ones((2, 8, 8, 64), np.float32)
            batch[1, 2, 3, 4] = value
            assert conv_winograd.stands_out(batch)
        for batch in (
            np.zeros((2, 3, 3, 64)),
            np.zeros((0, 3, 3, 64)),
            1e-30 * np.ones((2, 3, 3, 64)),
            gaussian((1, 4, 8, 64)),
        ):
            assert not conv_winograd.stands_out(batch.astype(np.float32)) or abs(batch).max() < 1e-20
