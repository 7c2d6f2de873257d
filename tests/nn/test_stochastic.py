"""Dropout and noise: their distribution, and that the key alone decides the draws."""

import math

import numpy as np
import pytest
from by_hand import chunks_of, sizes
from cases import DTYPES, gaussian, message

from funcnn import tree
from funcnn.arrays.layout import images, rows
from funcnn.compose import residual, serial
from funcnn.init import constant
from funcnn.keys import Key
from funcnn.layer import Array, Layer
from funcnn.layers import conv2d, dropout, gaussian_noise

N = 100_000
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_rate = pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
both = pytest.mark.parametrize("layer", [dropout(0.5), gaussian_noise(0.3)], ids=str)


def trained(layer: Layer, x: Array, seed: int = 0) -> Array:
    return layer.apply(None, None, x, key=Key(seed), train=True).y


# --- The key --------------------------------------------------------------------------------------------------


@both
@every_dtype
def test_same_key_same_draws_and_different_key_different(layer: Layer, dtype: type) -> None:
    x = gaussian((4, 50), dtype)
    assert tree.equal(trained(layer, x), trained(layer, x))
    assert not tree.equal(trained(layer, x), trained(layer, x, seed=1))


@both
def test_evaluation_gives_the_input(layer: Layer) -> None:
    x = gaussian((4, 50))
    np.testing.assert_array_equal(layer.apply(None, None, x, key=Key(0)).y, x)


@both
def test_draws_do_not_depend_on_the_shape_of_the_batch_or_its_values(layer: Layer) -> None:
    x = np.ones((6, 20))
    np.testing.assert_array_equal(trained(layer, x.reshape(2, 3, 20)).ravel(), trained(layer, x).ravel())


@both
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


@pytest.mark.parametrize("rate", [1.5, -0.1, math.nan, math.inf])
def test_rates_that_make_no_sense_are_refused(rate: float) -> None:
    expected = f"dropout: rate, the probability of dropping, must be in [0, 1), got {rate}"
    assert message(ValueError, dropout, rate) == expected


@pytest.mark.parametrize("rate", [1.0, 1, 1 - 2**-20])
def test_rates_that_keep_nothing_are_refused(rate: float) -> None:
    text = message(ValueError, dropout, rate)
    assert ("must be in [0, 1)" in text) == (rate == 1)
    assert ("rounded to the nearest 1/65536" in text) == (rate < 1)


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
