"""Initialisers: the distribution each one names, the same in every dtype, and settings refused early."""

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, message

from funcnn import init
from funcnn.init import (
    Initializer,
    constant,
    dirac,
    eye,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    uniform,
    variance_scaling,
    zeros,
)
from funcnn.keys import Key, generator
from funcnn.layer import describe
from funcnn.layers import conv2d, dense
from funcnn.rebuild import rebuild

FAN_IN, FAN_OUT = 400, 100

# each with its variance at these fans
RANDOM = [
    (normal(0.3), 0.09),
    (uniform(0.3), 0.03),
    (truncated_normal(0.3), 0.09),
    (variance_scaling(), 1 / 400),
    (variance_scaling(3.0, mode="fan_out", distribution="truncated_normal"), 3 / 100),
    (variance_scaling(0.5, mode="fan_avg", distribution="uniform"), 0.5 / 250),
    (lecun_normal(), 1 / 400),
    (lecun_uniform(), 1 / 400),
    (he_normal(), 2 / 400),
    (he_uniform(), 2 / 400),
    (glorot_normal(), 2 / 500),
    (glorot_uniform(), 2 / 500),
]
FIXED = [(zeros(), 0.0), (ones(), 1.0), (constant(-0.5), -0.5)]
# for what they make a matrix or a kernel of, with a shape for them
SHAPED = [
    (orthogonal(), (5, 4)),
    (orthogonal(0.5), (2, 2, 6)),
    (eye(), (5, 4)),
    (eye(-2), (3, 3)),
    (dirac(), (3, 3, 2, 4)),
    (dirac(2), (3, 2, 4)),
]
SHAPES = {each: (5, 4) for each, _ in RANDOM + FIXED} | dict(SHAPED)
every_random = pytest.mark.parametrize(("initializer", "variance"), RANDOM, ids=lambda value: str(value))
every_one = pytest.mark.parametrize("initializer", SHAPES, ids=str)


def test_every_initializer_is_listed() -> None:
    assert {each.name for each in SHAPES} == set(init.__all__) - {"Initializer"}


@every_random
def test_mean_and_variance(initializer: Initializer, variance: float) -> None:
    draws = initializer(Key(0), (FAN_IN, FAN_OUT), FAN_IN, FAN_OUT, np.float64)
    # five deviations of the mean and (for a normal, the wider of the two) of the variance of 40,000 draws
    assert abs(draws.mean()) < 5 * math.sqrt(variance / draws.size)
    assert abs(draws.var() / variance - 1) < 5 * math.sqrt(2 / draws.size)


@every_random
def test_a_normal_has_tails_and_a_uniform_none(initializer: Initializer, variance: float) -> None:
    draws = initializer(Key(0), (FAN_IN, FAN_OUT), FAN_IN, FAN_OUT, np.float64)
    limit = math.sqrt(3 * variance)  # a uniform draw on (-a, a) has variance a² / 3
    if "uniform" in repr(initializer):
        assert 0.999 * limit < abs(draws).max() < limit
    elif "truncated" in repr(initializer):  # the deviation of a standard normal's draws up to 2 is 0.8796
        end = 2 * math.sqrt(variance) / 0.87962566
        assert 0.999 * end < abs(draws).max() < end
    else:
        assert abs(draws).max() > 2 * limit


@pytest.mark.parametrize(("initializer", "value"), FIXED, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_fixed_values(initializer: Initializer, value: float, dtype: type) -> None:
    filled = initializer(Key(0), (2, 3), 2, 3, dtype)
    np.testing.assert_array_equal(filled, np.full((2, 3), value, dtype), strict=True)


@every_one
def test_float32_is_the_rounded_float64(initializer: Initializer) -> None:
    half, single, double = (initializer(Key(1), SHAPES[initializer], 5, 4, dtype) for dtype in (np.float16, *DTYPES))
    np.testing.assert_array_equal(half, double.astype(np.float16), strict=True)
    np.testing.assert_array_equal(single, double.astype(np.float32), strict=True)


@every_one
def test_made_read_only_and_from_the_key_alone(initializer: Initializer) -> None:
    first, second, other = (initializer(Key(seed), SHAPES[initializer], 5, 4) for seed in (0, 0, 1))
    assert not first.flags.writeable
    assert first.tobytes() == second.tobytes()
    draws_none = initializer in [each for each, _ in FIXED] or initializer.name in ("eye", "dirac")
    assert (first.tobytes() == other.tobytes()) == draws_none


@pytest.mark.parametrize("initializer", [each for each, _ in RANDOM + FIXED], ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (2,), ()], ids=str)
def test_shapes_at_the_edges(initializer: Initializer, shape: tuple[int, ...]) -> None:
    filled = initializer(Key(0), shape, 0, 3)
    assert isinstance(filled, np.ndarray)
    assert filled.shape == shape


@every_one
def test_is_a_value(initializer: Initializer) -> None:
    copy = pickle.loads(pickle.dumps(initializer))
    assert copy == initializer
    assert hash(copy) == hash(initializer)
    assert eval(repr(initializer), vars(init).copy()) == initializer
    assert rebuild(json.loads(json.dumps(describe(initializer))), kind="initialiser") == initializer


# --- Matrices and kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 2, 6), (3, 1, 2, 2), (1, 1), (0, 3), (3, 0)], ids=str)
def test_orthogonal_columns_or_rows_are_orthonormal(shape: tuple[int, ...]) -> None:
    weight = orthogonal(2.0)(Key(0), shape, 1, 1, np.float64).reshape(math.prod(shape[:-1]), shape[-1])
    products = weight.T @ weight if weight.shape[0] >= weight.shape[1] else weight @ weight.T
    np.testing.assert_allclose(products, 4 * np.eye(min(weight.shape)), atol=1e-14)


def test_no_orthogonal_matrix_is_likelier_than_another() -> None:
    # No entry has a sign or a size of its own; those of LAPACK's Q alone do.
    draws = np.array([orthogonal()(Key(seed), (3, 3), 1, 1, np.float64) for seed in range(2000)])
    assert abs(draws.mean(axis=0)).max() < 5 / math.sqrt(3 * 2000)
    np.testing.assert_allclose(np.square(draws).mean(axis=0), 1 / 3, atol=5 * math.sqrt(4 / 45 / 2000))
    assert abs(np.mean(np.linalg.det(draws))) < 5 / math.sqrt(2000)


def test_a_deep_linear_net_of_orthogonal_matrices_keeps_lengths() -> None:
    signal = generator(Key(0)).standard_normal((3, 30))
    lengths = np.linalg.norm(signal, axis=1)
    for i in range(50):
        signal = signal @ orthogonal()(Key(i), (30, 30), 30, 30, np.float64)
    np.testing.assert_allclose(np.linalg.norm(signal, axis=1), lengths, rtol=1e-12)


@pytest.mark.parametrize(
    ("layer", "in_shape"),
    [
        (dense(4, weight_init=eye()), (4,)),
        (conv2d(4, 3, padding="same", weight_init=dirac()), (5, 6, 4)),
        (conv2d(6, (1, 5), padding="same", groups=3, weight_init=dirac(3)), (3, 4, 6)),
    ],
    ids=str,
)
def test_layers_that_begin_as_the_identity(layer: Any, in_shape: tuple[int, ...]) -> None:
    params, state, _ = layer.init(Key(0), in_shape, np.float64)
    x = generator(Key(0)).standard_normal((2, *in_shape))
    np.testing.assert_array_equal(layer.apply(params, state, x).y, x)


@pytest.mark.parametrize(("channels", "filters"), [(2, 3), (3, 2)])
def test_dirac_passes_on_as_many_channels_as_there_are(channels: int, filters: int) -> None:
    kernel = dirac()(Key(0), (3, 2, channels, filters), 1, 1)
    ones_at = [tuple(each) for each in np.argwhere(kernel)]
    assert ones_at == [(1, 1, i, i) for i in range(2)]
    assert kernel.sum() == 2


@pytest.mark.parametrize(
    ("initializer", "shape", "text"),
    [
        (orthogonal(), (3,), "orthogonal: shape must be one of a matrix or a kernel, with two axes or more, got (3,)"),
        (eye(), (3,), "eye: shape must be one of a matrix, with two axes, got (3,). For a convolution use dirac()"),
        (dirac(), (3, 3), "dirac: shape must be a kernel's, (..., in, out), of outputs for 1 equal groups, got (3, 3)"),
    ],
    ids=str,
)  # fmt: skip
def test_shapes_that_make_no_sense(initializer: Initializer, shape: tuple[int, ...], text: str) -> None:
    assert message(ValueError, initializer, Key(0), shape, 1, 1) == text


def test_a_mode_or_distribution_that_is_none() -> None:
    assert message(ValueError, variance_scaling, mode="fan") == (
        "variance_scaling: mode must be one of 'fan_in', 'fan_out', 'fan_avg', got 'fan'"
    )
    assert message(ValueError, variance_scaling, distribution="cauchy").startswith(
        "variance_scaling: distribution must"
    )
    assert "of outputs for 4 equal groups, got (3, 2, 6)" in message(ValueError, dirac(4), Key(0), (3, 2, 6), 1, 1)
    assert message(ValueError, dirac, 0) == "dirac: groups must be a positive int, got 0"


# --- Fans -----------------------------------------------------------------------------------------------------


def test_fans_of_a_dense_layer_are_its_two_sizes() -> None:
    weight = dense(FAN_OUT, weight_init=glorot_uniform()).init(Key(0), (FAN_IN,)).params.weight
    assert abs(weight).max() == pytest.approx(math.sqrt(6 / (FAN_IN + FAN_OUT)), rel=1e-3)


def test_fans_of_a_convolution_count_the_kernel_area_and_one_group() -> None:
    layer = conv2d(40, (3, 2), groups=4, weight_init=glorot_uniform())
    weight = layer.init(Key(0), (5, 5, 80)).params.weight
    fan_in, fan_out = 6 * 80 // 4, 6 * 40 // 4
    assert abs(weight).max() == pytest.approx(math.sqrt(6 / (fan_in + fan_out)), rel=1e-3)


@pytest.mark.parametrize(
    ("initializer", "activation"),
    [
        (lecun_normal(), lambda x: x),
        (he_normal(), lambda x: np.maximum(x, 0)),
        (he_uniform(), lambda x: np.maximum(x, 0)),
    ],
    ids=["lecun_normal", "he_normal", "he_uniform"],
)
def test_the_scale_of_a_signal_survives_ten_layers(initializer: Initializer, activation: Any) -> None:
    signal = generator(Key(0)).standard_normal((50, 400))
    for i in range(10):
        signal = activation(signal) @ initializer(Key(i + 1), (400, 400), 400, 400, np.float64)
    # One layer multiplies the variance by 1 ± sqrt(2 / 400) or so; a gain wrong by 2 would make it 2¹⁰ after ten.
    assert 0.5 < signal.var() < 2


@pytest.mark.parametrize(
    ("constructor", "value", "text"),
    [
        (constant, math.nan, "constant: value must be finite, got nan"),
        (constant, math.inf, "constant: value must be finite, got inf"),
        (normal, -1.5, "normal: stddev must be positive and finite, got -1.5"),
        (normal, math.nan, "normal: stddev must be positive and finite, got nan"),
        (uniform, math.inf, "uniform: limit must be positive and finite, got inf"),
    ],
)
def test_invalid_settings(constructor: Any, value: float, text: str) -> None:
    assert message(ValueError, constructor, value) == text


@pytest.mark.parametrize("constructor", [normal, uniform, truncated_normal, variance_scaling, orthogonal])
def test_no_spread_is_refused(constructor: Any) -> None:
    assert "must be positive and finite, got 0" in message(ValueError, constructor, 0)
