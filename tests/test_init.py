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
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    normal,
    ones,
    uniform,
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
    (lecun_normal(), 1 / 400),
    (he_normal(), 2 / 400),
    (he_uniform(), 2 / 400),
    (glorot_normal(), 2 / 500),
    (glorot_uniform(), 2 / 500),
]
FIXED = [(zeros(), 0.0), (ones(), 1.0), (constant(-0.5), -0.5)]
every_random = pytest.mark.parametrize(("initializer", "variance"), RANDOM, ids=lambda value: str(value))
every_one = pytest.mark.parametrize("initializer", [each for each, _ in RANDOM + FIXED], ids=str)


def test_every_initializer_is_listed() -> None:
    assert {each.name for each, _ in RANDOM + FIXED} == set(init.__all__) - {"Initializer"}


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
    if "uniform" in initializer.name:
        assert 0.999 * limit < abs(draws).max() < limit
    else:
        assert abs(draws).max() > 2 * limit


@pytest.mark.parametrize(("initializer", "value"), FIXED, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_fixed_values(initializer: Initializer, value: float, dtype: type) -> None:
    filled = initializer(Key(0), (2, 3), 2, 3, dtype)
    np.testing.assert_array_equal(filled, np.full((2, 3), value, dtype), strict=True)


@every_one
def test_float32_is_the_rounded_float64(initializer: Initializer) -> None:
    single, double = (initializer(Key(1), (5, 4), 5, 4, dtype) for dtype in DTYPES)
    np.testing.assert_array_equal(single, double.astype(np.float32), strict=True)


@every_one
def test_made_read_only_and_from_the_key_alone(initializer: Initializer) -> None:
    first, second, other = (initializer(Key(seed), (5, 4), 5, 4) for seed in (0, 0, 1))
    assert not first.flags.writeable
    assert first.tobytes() == second.tobytes()
    assert (first.tobytes() == other.tobytes()) == (initializer in [each for each, _ in FIXED])


@every_one
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


@pytest.mark.parametrize("constructor", [normal, uniform])
def test_no_spread_is_refused(constructor: Any) -> None:
    assert "must be positive and finite, got 0" in message(ValueError, constructor, 0)
