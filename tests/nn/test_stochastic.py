"""Dropout and noise: their distribution, and that the key alone decides the draws."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from by_hand import chunks_of, sizes
from cases import DTYPES, gaussian, message

from funcnn import tree
from funcnn.arrays.layout import images, rows
from funcnn.compose import residual, serial
from funcnn.init import constant
from funcnn.keys import Key
from funcnn.layer import Array, Layer, LayerError
from funcnn.layers import (
    alpha_dropout,
    conv2d,
    dense,
    drop_path,
    dropout,
    gaussian_noise,
    gaussian_sample,
    selu,
    spatial_dropout,
)

N = 100_000
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_rate = pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
both = pytest.mark.parametrize("layer", [dropout(0.5), gaussian_noise(0.3)], ids=str)
DRAWING = [dropout(0.5), gaussian_noise(0.3), spatial_dropout(0.5), drop_path(0.5), alpha_dropout(0.5)]
every_layer = pytest.mark.parametrize("layer", DRAWING, ids=str)


def trained(layer: Layer, x: Array, seed: int = 0) -> Array:
    return layer.apply(None, None, x, key=Key(seed), train=True).y


# --- The key --------------------------------------------------------------------------------------------------


@every_layer
@every_dtype
def test_same_key_same_draws_and_different_key_different(layer: Layer, dtype: type) -> None:
    x = gaussian((40, 50), dtype)
    assert tree.equal(trained(layer, x), trained(layer, x))
    assert not tree.equal(trained(layer, x), trained(layer, x, seed=1))


@every_layer
def test_evaluation_gives_the_input(layer: Layer) -> None:
    x = gaussian((4, 50))
    np.testing.assert_array_equal(layer.apply(None, None, x, key=Key(0)).y, x)


@both
def test_draws_do_not_depend_on_the_shape_of_the_batch_or_its_values(layer: Layer) -> None:
    x = np.ones((6, 20))
    np.testing.assert_array_equal(trained(layer, x.reshape(2, 3, 20)).ravel(), trained(layer, x).ravel())


@every_layer
def test_draws_do_not_depend_on_how_images_lie_in_memory(layer: Layer) -> None:
    x = gaussian((5, 4, 6, 3))
    by_rows = images(np.ascontiguousarray(rows(x)))
    assert by_rows.strides != x.strides
    np.testing.assert_array_equal(trained(layer, by_rows), trained(layer, x), strict=True)


# --- A batch in chunks ----------------------------------------------------------------------------------------


def in_chunks(layer: Layer, seed: int = 0) -> tuple[list[Array], list[Array]]:
    """y and dx of a layer on ones, dy of ones, in four chunks: after a convolution that changes nothing."""
    net, x = serial(conv2d(1, 1, weight_init=constant(1.0)), layer), np.ones((8, 5, 6, 1))
    params, state, _ = net.init(Key(0), (5, 6, 1), np.float64)
    with chunks_of(2, net, (5, 6, 1)):
        y, _, residuals = net.apply(params, state, x, key=Key(seed), train=True)
        dx = net.backward(params, residuals, np.ones_like(y)).dx
    assert sizes(residuals) == [(2, 2, 2, 2)]
    return np.split(y, 4), np.split(dx, 4)


NESTED = serial(residual(dropout(0.5)), conv2d(1, 1, weight_init=constant(1.0)))
every_nest = pytest.mark.parametrize("layer", [dropout(0.5), gaussian_noise(0.3), NESTED, serial(NESTED)], ids=str)


@every_nest
def test_in_chunks_same_key_same_draws_and_different_key_different(layer: Layer) -> None:
    first, again, other = in_chunks(layer), in_chunks(layer), in_chunks(layer, seed=1)
    assert tree.equal(tuple(first[0] + first[1]), tuple(again[0] + again[1]))
    assert not any(np.array_equal(a, b) for a, b in zip(first[0], other[0], strict=True))


@every_nest
def test_every_chunk_has_its_own_draws(layer: Layer) -> None:
    ys, _ = in_chunks(layer)
    different = {y.tobytes() for chunk in ys for y in chunk}
    assert len(different) == 8


@pytest.mark.parametrize("layer", [dropout(0.5), dropout(0.3), NESTED, serial(NESTED)], ids=str)
def test_in_chunks_the_gradient_goes_where_the_values_went(layer: Layer) -> None:
    ys, dxs = in_chunks(layer)
    assert len({*np.concatenate(ys).ravel()}) == 2
    np.testing.assert_array_equal(np.concatenate(dxs), np.concatenate(ys))


def test_dropout_in_chunks_keeps_to_its_rate() -> None:
    rate, layer = 0.25, serial(conv2d(1, 1, weight_init=constant(1.0)), dropout(0.25))
    params, state, _ = layer.init(Key(0), (50, 50, 1))
    with chunks_of(1, layer, (50, 50, 1)):
        y, _, residuals = layer.apply(params, state, np.ones((40, 50, 50, 1), np.float32), key=Key(0), train=True)
    assert sizes(residuals) == [(1,) * 40]
    assert abs(np.count_nonzero(y) / N - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / N)
    masks = y.reshape(40, -1) != 0
    assert abs(np.corrcoef(masks)[np.triu_indices(40, 1)]).max() < 5 / math.sqrt(masks.shape[1])


# --- dropout --------------------------------------------------------------------------------------------------


@every_rate
@every_dtype
def test_values_are_dropped_at_the_rate_and_the_others_scaled(rate: float, dtype: type) -> None:
    y = trained(dropout(rate), np.ones((10, N // 10), dtype))
    kept = y[y != 0]
    assert abs(kept.size / N - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / N)
    assert len(set(kept.tolist())) == 1
    assert kept[0] == dtype(1 / (1 - round(rate * 65536) / 65536))  # the rate is rounded to the nearest 1/65536
    # y is x on average: a value is 1 / (1 - rate) with probability 1 - rate, and its variance rate / (1 - rate).
    assert abs(y.mean(dtype=np.float64) - 1) < 5 * math.sqrt(rate / (1 - rate) / N)


@pytest.mark.parametrize(("rate", "kept"), [(1 / 65536, 2**20 - 16), (1 - 1 / 65536, 16)])
def test_the_rates_at_the_ends_are_kept_to(rate: float, kept: int) -> None:
    y = trained(dropout(rate), np.ones((1, 2**20), np.float32))
    assert abs(np.count_nonzero(y) - kept) < 16  # four deviations of the number that is rare


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
def test_rates_in_binary_fractions_scale_exactly(rate: float) -> None:
    assert set(trained(dropout(rate), np.ones((1, 1000))).ravel()) == {0, 1 / (1 - rate)}


def test_the_gradient_goes_where_the_values_went() -> None:
    layer, x, dy = dropout(0.3), gaussian((5, 40)), gaussian((5, 40), np.float64, "dy")
    y, _, residuals = layer.apply(None, None, x, key=Key(0), train=True)
    np.testing.assert_allclose(layer.backward(None, residuals, dy).dx, dy * (y / x), rtol=1e-14)
    assert [leaf.dtype for leaf in tree.flatten(residuals) if isinstance(leaf, np.ndarray)] == [bool]


def test_masks_of_different_keys_are_independent() -> None:
    rate, count = 0.3, 10
    masks = np.array([trained(dropout(rate), np.ones((1, 10_000)), seed)[0] != 0 for seed in range(count)])
    correlations = np.corrcoef(masks)[np.triu_indices(count, 1)]
    assert abs(correlations).max() < 4.5 / math.sqrt(masks.shape[1])


def test_neighbouring_values_are_dropped_independently() -> None:
    # Four values share one 64-bit word of the generator.
    mask = trained(dropout(0.5), np.ones((1, N)))[0] != 0
    for lag in (1, 2, 3, 4):
        assert abs(np.corrcoef(mask[:-lag], mask[lag:])[0, 1]) < 4.5 / math.sqrt(N)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_sizes_that_leave_a_word_unfinished(size: int) -> None:
    longer = trained(dropout(0.5), np.ones((1, 8)))
    np.testing.assert_array_equal(trained(dropout(0.5), np.ones((1, size))), longer[:, :size])


def test_rate_zero_is_the_identity_and_needs_no_key() -> None:
    x, dy = gaussian((3, 4)), gaussian((3, 4), np.float64, "dy")
    y, _, residuals = dropout(0.0).apply(None, None, x, train=True)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dropout(0.0).backward(None, residuals, dy).dx, dy)
    assert not dropout(0.0).config.stochastic


@pytest.mark.parametrize("make", [dropout, spatial_dropout, drop_path, alpha_dropout])
@pytest.mark.parametrize("rate", [1.5, -0.1, math.nan, math.inf])
def test_rates_that_make_no_sense_are_refused(make: Callable[..., Layer], rate: float) -> None:
    expected = f"{make.__name__}: rate, the probability of dropping, must be in [0, 1), got {rate}"
    assert message(ValueError, make, rate) == expected


@pytest.mark.parametrize("rate", [1.0, 1, 1 - 2**-20])
def test_rates_that_keep_nothing_are_refused(rate: float) -> None:
    text = message(ValueError, dropout, rate)
    assert ("must be in [0, 1)" in text) == (rate == 1)
    assert ("rounded to the nearest 1/65536" in text) == (rate < 1)


# --- Whole channels, whole examples ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(200, 3, 4, 50), (200, 6, 50), (200, 50), (200, 2, 3, 2, 50)], ids=str)
@every_dtype
def test_a_channel_of_an_example_is_dropped_as_a_whole(shape: tuple[int, ...], dtype: type) -> None:
    y = trained(spatial_dropout(0.3), np.ones(shape, dtype))
    channels = y.reshape(200, -1, 50)
    np.testing.assert_array_equal(channels, np.broadcast_to(channels[:, :1], channels.shape))
    kept = channels[:, 0] != 0
    assert abs(kept.mean() - 0.7) < 5 * math.sqrt(0.21 / 10_000)
    assert len({*y.ravel().tolist()}) == 2
    assert y.max() == dtype(1 / (1 - round(0.3 * 65536) / 65536))
    for one, other in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1])):  # each on its own
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(9_800)


@pytest.mark.parametrize("shape", [(10_000,), (10_000, 2), (10_000, 2, 1, 2)], ids=str)
def test_an_example_is_dropped_as_a_whole(shape: tuple[int, ...]) -> None:
    y = trained(drop_path(0.2), np.ones(shape)).reshape(10_000, -1)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    kept = y[:, 0] != 0
    assert abs(kept.mean() - 0.8) < 5 * math.sqrt(0.16 / 10_000)
    assert abs(np.corrcoef(kept[1:], kept[:-1])[0, 1]) < 5 / math.sqrt(10_000)


@pytest.mark.parametrize("layer", [spatial_dropout(0.4), drop_path(0.4), alpha_dropout(0.4)], ids=str)
@pytest.mark.parametrize("shape", [(5, 4, 6, 3), (5, 7, 3)], ids=str)
def test_gradients_go_where_the_values_went_whatever_lies_where(layer: Layer, shape: tuple[int, ...]) -> None:
    x, dy = gaussian(shape), gaussian(shape, np.float64, "dy")
    y, _, residuals = layer.apply(None, None, x, key=Key(2), train=True)
    slope = trained(layer, x + 1, 2) - y  # of an affine function
    np.testing.assert_allclose(layer.backward(None, residuals, dy).dx, dy * slope, rtol=1e-12, atol=1e-14)
    if len(shape) == 4:
        by_rows = images(np.ascontiguousarray(rows(dy)))
        again = layer.backward(None, residuals, by_rows).dx
        np.testing.assert_array_equal(again, layer.backward(None, residuals, dy).dx)
        assert rows(again).flags.c_contiguous


def test_a_residual_branch_with_drop_path_is_left_out_for_whole_examples() -> None:
    branch = dense(3, weight_init=constant(1.0))
    net = residual(serial(branch, drop_path(0.5)))
    params, state, _ = net.init(Key(0), (3,), np.float64)
    x = gaussian((200, 3))
    added = net.apply(params, state, x, key=Key(0), train=True).y - x
    whole = branch.apply(params[0], None, x).y
    gone = (added == 0).all(axis=1)
    np.testing.assert_allclose(added[~gone], 2 * whole[~gone], rtol=1e-12)
    assert abs(gone.mean() - 0.5) < 5 * math.sqrt(0.25 / 200)
    np.testing.assert_allclose(net.apply(params, state, x).y, x + whole, rtol=1e-12)


def test_single_numbers_have_no_channels() -> None:
    text = message(LayerError, spatial_dropout(0.5).apply, None, None, np.ones(3))
    assert text == "spatial_dropout(rate=0.5): expected examples with channels, got single numbers. Use dropout(rate)"


# --- alpha_dropout --------------------------------------------------------------------------------------------


@every_rate
def test_alpha_dropout_keeps_mean_and_variance(rate: float) -> None:
    x = gaussian((10, N // 10))
    x = (x - x.mean()) / x.std()
    y = trained(alpha_dropout(rate), x)
    assert abs(y.mean()) < 5 / math.sqrt(N)
    assert abs(y.var() - 1) < 5 * math.sqrt(np.var(np.square(y)) / N)


@every_rate
def test_alpha_dropout_by_its_formula(rate: float) -> None:
    x, limit = gaussian((4, 1000)), float(selu().apply(None, None, np.array([-1e4])).y[0])
    p = round(rate * 65536) / 65536
    a = ((1 - p) * (1 + limit**2 * p)) ** -0.5
    mask = trained(dropout(rate), np.ones_like(x)) != 0  # of the same bits
    wanted = a * np.where(mask, x, limit) - a * limit * p
    np.testing.assert_allclose(trained(alpha_dropout(rate), x), wanted, rtol=1e-12, atol=1e-14)


# --- gaussian_noise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stddev", [0.1, 2.0])
@every_dtype
def test_noise_has_the_given_deviation_and_mean_zero(stddev: float, dtype: type) -> None:
    noise = trained(gaussian_noise(stddev), np.zeros((10, N // 10), dtype)).astype(np.float64)
    assert abs(noise.mean()) < 5 * stddev / math.sqrt(N)
    assert abs(noise.std() / stddev - 1) < 5 / math.sqrt(2 * N)
    assert abs(np.mean((noise / stddev) ** 4) - 3) < 5 * math.sqrt(96 / N)  # a normal's, whose variance is 96


def test_noise_is_added() -> None:
    layer, x = gaussian_noise(0.5), gaussian((4, 6))
    np.testing.assert_allclose(trained(layer, x) - x, trained(layer, np.zeros_like(x)), rtol=0, atol=1e-15)
    residuals = layer.apply(None, None, x, key=Key(0), train=True).residuals
    np.testing.assert_array_equal(layer.backward(None, residuals, x).dx, x)


def test_no_deviation_no_noise() -> None:
    x = gaussian((4, 6))
    np.testing.assert_array_equal(trained(gaussian_noise(0.0), x), x)


@pytest.mark.parametrize("stddev", [-0.1, math.nan, math.inf])
def test_deviations_that_make_no_sense_are_refused(stddev: float) -> None:
    expected = f"gaussian_noise: stddev must be finite and not negative, got {stddev}"
    assert message(ValueError, gaussian_noise, stddev) == expected


# --- gaussian_sample ------------------------------------------------------------------------------------------


@every_dtype
def test_samples_have_the_given_means_and_variances(dtype: type) -> None:
    means, log_variances = np.array([3.0, -1.0, 0.0]), np.array([0.0, -2.0, 2.0])
    x = np.tile(np.concatenate([means, log_variances]), (N, 1)).astype(dtype)
    y = trained(gaussian_sample(), x).astype(np.float64)
    deviations = np.exp(log_variances / 2)
    assert (abs(y.mean(axis=0) - means) < 5 * deviations / math.sqrt(N)).all()
    standard = (y - means) / deviations
    assert (abs((standard**2).mean(axis=0) - 1) < 5 * math.sqrt(2 / N)).all()
    assert (abs(standard.T @ standard / N - np.eye(3)) < 5 * math.sqrt(2 / N)).all()  # drawn independently
    assert trained(gaussian_sample(), x, seed=1)[0, 0] != y[0, 0]


def test_a_sample_moves_with_its_mean_and_its_deviation() -> None:
    layer, x, dy = gaussian_sample(), gaussian((5, 4, 6)), gaussian((5, 4, 3), np.float64, "dy")
    zero = np.zeros_like(x)
    standard = trained(layer, zero)
    mean, log_variance = x[..., :3], x[..., 3:]
    y, _, residuals = layer.apply(None, None, x, key=Key(0), train=True)
    np.testing.assert_allclose(y, mean + np.exp(log_variance / 2) * standard, rtol=1e-12, atol=1e-12)
    dx = layer.backward(None, residuals, dy).dx
    np.testing.assert_array_equal(dx[..., :3], dy)
    np.testing.assert_allclose(dx[..., 3:], dy * np.exp(log_variance / 2) * standard / 2, rtol=1e-12, atol=1e-12)


def test_evaluation_gives_the_mean_in_memory_of_its_own() -> None:
    x = gaussian((4, 6))
    y = gaussian_sample().apply(None, None, x).y
    np.testing.assert_array_equal(y, x[:, :3])
    assert not np.shares_memory(y, x)


@pytest.mark.parametrize("in_shape", [(3,), (2, 5), ()], ids=str)
def test_a_mean_without_a_variance_is_refused(in_shape: tuple[int, ...]) -> None:
    expected = (
        "gaussian_sample(): expected the last axis of examples to be even, means and log-variances, "
        f"got {in_shape}. Put dense(2 * k) before it"
    )
    assert message(LayerError, gaussian_sample().init, Key(0), in_shape) == expected
    assert message(LayerError, gaussian_sample().apply, None, None, np.ones((2, *in_shape))) == expected
