"""Activations: closed forms, conventions at kinks, and finite values over the whole float range."""

import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from cases import DTYPES, gaussian, message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from own import cube, cube_of, slope_of_cube

from funcnn import tree
from funcnn.arrays.special import stable_sigmoid
from funcnn.keys import Key
from funcnn.layer import Array, Layer, LayerError
from funcnn.layers import (
    celu,
    elementwise,
    elu,
    geglu,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    maxout,
    mish,
    prelu,
    relu,
    relu6,
    scale,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    swiglu,
    tanh,
    tanh_shrink,
)

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def forward(layer: Layer, x: Array) -> Array:
    return layer.apply(None, None, x).y


def gradient(layer: Layer, x: Array, dy: Array | None = None) -> Array:
    """The layer's input gradient at x; without dy, its element-wise derivative."""
    y, _, residuals = layer.apply(None, None, x, train=True)
    return layer.backward(None, residuals, np.ones_like(y) if dy is None else dy).dx


# --- Closed forms, in Python's own floats ---------------------------------------------------------------------


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gelu_parts(x: float) -> tuple[float, float]:
    """The tanh inside gelu, and its derivative."""
    t = math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return t, (1 - t**2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)


def normal_cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def mish_parts(x: float) -> tuple[float, float]:
    """The tanh in mish, and its derivative."""
    t = math.tanh(math.log1p(math.exp(x)))
    return t, (1 - t**2) * logistic(x)


Function = Callable[[float], float]
SELU, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # as in Klambauer et al. 2017

# each with its value and its derivative, away from kinks
FORMULAS: list[tuple[Layer, Function, Function]] = [
    (identity(), lambda x: x, lambda x: 1),
    (relu(), lambda x: max(x, 0), lambda x: float(x > 0)),
    (leaky_relu(), lambda x: x if x > 0 else 0.01 * x, lambda x: 1 if x > 0 else 0.01),
    (leaky_relu(0.3), lambda x: x if x > 0 else 0.3 * x, lambda x: 1 if x > 0 else 0.3),
    (elu(), lambda x: x if x > 0 else math.expm1(x), lambda x: 1 if x > 0 else math.exp(x)),
    (elu(0.5), lambda x: x if x > 0 else 0.5 * math.expm1(x), lambda x: 1 if x > 0 else 0.5 * math.exp(x)),
    (elu(2), lambda x: x if x > 0 else 2 * math.expm1(x), lambda x: 1 if x > 0 else 2 * math.exp(x)),
    (sigmoid(), logistic, lambda x: logistic(x) * logistic(-x)),
    (tanh(), math.tanh, lambda x: 1 / math.cosh(x) ** 2),
    (softplus(), lambda x: math.log1p(math.exp(x)), logistic),
    (silu(), lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * logistic(-x))),
    (
        gelu(),
        lambda x: x / 2 * (1 + gelu_parts(x)[0]),
        lambda x: (1 + gelu_parts(x)[0] + x * gelu_parts(x)[1]) / 2,
    ),
    (
        gelu(exact=True),
        lambda x: x * normal_cdf(x),
        lambda x: normal_cdf(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    (mish(), lambda x: x * mish_parts(x)[0], lambda x: mish_parts(x)[0] + x * mish_parts(x)[1]),
    (
        selu(),
        lambda x: SELU * (x if x > 0 else SELU_ALPHA * math.expm1(x)),
        lambda x: SELU * (1 if x > 0 else SELU_ALPHA * math.exp(x)),
    ),
    (celu(), lambda x: x if x > 0 else math.expm1(x), lambda x: 1 if x > 0 else math.exp(x)),
    (celu(2.0), lambda x: x if x > 0 else 2 * math.expm1(x / 2), lambda x: 1 if x > 0 else math.exp(x / 2)),
    (softsign(), lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    (log_sigmoid(), lambda x: -math.log1p(math.exp(-x)), lambda x: logistic(-x)),
    (tanh_shrink(), lambda x: x - math.tanh(x), lambda x: math.tanh(x) ** 2),
    (relu6(), lambda x: min(max(x, 0), 6), lambda x: float(0 < x < 6)),
    (hard_tanh(), lambda x: min(max(x, -1), 1), lambda x: float(-1 < x < 1)),
    (hard_tanh(-0.3, 2.5), lambda x: min(max(x, -0.3), 2.5), lambda x: float(-0.3 < x < 2.5)),
    (hard_sigmoid(), lambda x: min(max(x / 6 + 0.5, 0), 1), lambda x: float(-3 < x < 3) / 6),
    (hard_swish(), lambda x: x * min(max(x / 6 + 0.5, 0), 1), lambda x: float(x >= 3) if abs(x) >= 3 else x / 3 + 0.5),
    (soft_shrink(), lambda x: x - min(max(x, -0.5), 0.5), lambda x: float(abs(x) > 0.5)),
    (hard_shrink(1.5), lambda x: x if abs(x) > 1.5 else 0, lambda x: float(abs(x) > 1.5)),
    (scale(-1.5), lambda x: -1.5 * x, lambda x: -1.5),
    (
        elementwise(np.arcsinh, lambda x: 1 / np.hypot(1, x), name="arcsinh"),
        math.asinh,
        lambda x: 1 / math.hypot(1, x),
    ),
]
LAYERS = [layer for layer, _, _ in FORMULAS]


@pytest.mark.parametrize(("layer", "value", "derivative"), FORMULAS, ids=[str(each) for each in LAYERS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 2e-15)])
def test_value_and_derivative(
    layer: Layer, value: Function, derivative: Function, dtype: type, tolerance: float
) -> None:
    x = np.linspace(-7, 7, 100, dtype=dtype)  # without 0, where some have a kink
    dy = gaussian(x.shape, dtype)
    values = np.array([value(float(each)) for each in x])
    slopes = np.array([derivative(float(each)) for each in x])
    np.testing.assert_allclose(forward(layer, x), values, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient(layer, x, dy), slopes * dy, rtol=4 * tolerance, atol=4 * tolerance)


@every_dtype
def test_the_sigmoid_is_accurate_in_both_tails(dtype: type) -> None:
    x = np.linspace(-80, 80, 161, dtype=dtype)
    expected = np.array([logistic(float(each)) for each in x])
    np.testing.assert_allclose(stable_sigmoid(x), expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(stable_sigmoid(x) + stable_sigmoid(-x), 1, rtol=2 * np.finfo(dtype).eps)


@every_dtype
@pytest.mark.parametrize("layer", [softplus(), silu()], ids=str)
def test_the_left_tail_keeps_its_relative_accuracy(layer: Layer, dtype: type) -> None:
    # There both decay like exp(x), softplus without a factor and silu with x: log(1 + exp(x)) would be 0.
    x = np.linspace(-80, -40, 41, dtype=dtype)
    expected = np.exp(x.astype(np.float64)) * (x if layer == silu() else 1)
    np.testing.assert_allclose(forward(layer, x), expected, rtol=4 * np.finfo(dtype).eps)


def test_gelu_is_close_to_the_one_by_the_error_function() -> None:
    x = np.linspace(-6, 6, 1201)
    assert abs(forward(gelu(), x) - [each * normal_cdf(each) for each in x]).max() <= 0.0005


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 1e-7), (np.float64, 2e-16), (np.float16, 5e-4)])
def test_the_exact_gelu_is_so_to_the_last_bits(dtype: type, error: float) -> None:
    x = np.concatenate([np.linspace(-9, 9, 20_001), np.linspace(-1, 1, 20_001), [0.0, -0.0]]).astype(dtype)
    cdf = np.array([normal_cdf(float(each)) for each in x])
    density = np.exp(-np.square(x.astype(np.float64)) / 2) / math.sqrt(2 * math.pi)
    # A rounding of y besides, half a unit in its last place: y reaches 9.
    bound = error * np.maximum(np.abs(x.astype(np.float64)), 1) + np.finfo(dtype).eps / 2 * np.abs(x * cdf)
    assert (np.abs(forward(gelu(exact=True), x) - x * cdf) <= bound).all()
    assert np.abs(gradient(gelu(exact=True), x) - (cdf + x * density)).max() <= 2 * error + np.finfo(dtype).eps / 2


@pytest.mark.parametrize(("dtype", "relative"), [(np.float32, 4e-3), (np.float64, 1e-6)])
def test_the_exact_gelu_keeps_some_digits_of_its_left_tail(dtype: type, relative: float) -> None:
    x = np.linspace(-12, -6, 61, dtype=dtype)
    np.testing.assert_allclose(forward(gelu(exact=True), x), [each * normal_cdf(each) for each in x.tolist()], relative)


# --- Kinks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "slope"),
    [
        (relu(), 0.0), (leaky_relu(0.0), 0.0), (leaky_relu(0.25), 0.25), (leaky_relu(1.0), 1.0), (elu(0.5), 0.5),
        (selu(), SELU * SELU_ALPHA), (celu(0.5), 1.0), (relu6(), 0.0), (hard_tanh(0.0, 1.0), 0.0), (softsign(), 1.0),
        (soft_shrink(0.0), 0.0), (hard_shrink(0.0), 0.0),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_at_zero_the_slope_is_the_left_one(layer: Layer, slope: float, zero: float) -> None:
    assert gradient(layer, np.array([[zero]])).item() == slope


@pytest.mark.parametrize(
    ("layer", "x", "slope"),
    [
        (relu6(), 6, 0), (hard_tanh(), -1, 0), (hard_tanh(), 1, 0), (hard_tanh(0.1, 0.3), 0.3, 0),
        (hard_sigmoid(), -3, 0), (hard_sigmoid(), 3, 0), (hard_swish(), -3, 0), (hard_swish(), 3, 1),
        (soft_shrink(0.3), 0.3, 0), (soft_shrink(0.3), -0.3, 0), (hard_shrink(0.3), 0.3, 0),
        (hard_shrink(0.3), -0.3, 0),
    ],
    ids=str,
)  # fmt: skip
@every_dtype
def test_at_the_other_kinks_the_slope_is_pytorchs(layer: Layer, x: float, slope: float, dtype: type) -> None:
    assert gradient(layer, np.array([[x]], dtype)).item() == slope


@pytest.mark.parametrize("layer", [relu(), leaky_relu(0.01), leaky_relu(0.3), elu(0.5), elu(3), celu(0.5)], ids=str)
@every_dtype
def test_to_the_right_of_zero_the_slope_is_exactly_one(layer: Layer, dtype: type) -> None:
    x = np.array([np.finfo(dtype).tiny, np.finfo(dtype).eps, 1, np.finfo(dtype).max], dtype)
    np.testing.assert_array_equal(forward(layer, x), x)
    np.testing.assert_array_equal(gradient(layer, x), np.ones_like(x))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
@every_dtype
def test_elu_is_continuous_and_bounded(alpha: float, dtype: type) -> None:
    tiny = np.finfo(dtype).tiny
    step = forward(elu(alpha), np.array([-tiny, 0, tiny], dtype))
    np.testing.assert_allclose(step, [-alpha * tiny, 0, tiny], rtol=np.finfo(dtype).eps, atol=0)
    assert forward(elu(alpha), np.array([-1e4], dtype)).item() == -alpha
    assert gradient(elu(alpha), np.array([-1e4], dtype)).item() == 0


def test_at_alpha_one_the_slope_of_elu_is_continuous_too() -> None:
    np.testing.assert_allclose(gradient(elu(), np.array([-1e-12, 1e-12])), 1, rtol=1e-11)


# --- The whole float range ------------------------------------------------------------------------------------


def extremes(dtype: type) -> Array:
    """Where exponentials, squares, cubes and the floats themselves end; both signs."""
    limits = np.finfo(dtype)
    powers = np.array([limits.max, limits.max / 2, np.sqrt(limits.max), np.cbrt(limits.max)])
    logs = [abs(math.log(each)) for each in (limits.max, limits.eps, limits.tiny, limits.smallest_subnormal)]
    small = [0, limits.smallest_subnormal, limits.tiny, limits.eps, 1e-3, 1, 9.99, 10, 10.01, 20]
    positive = np.concatenate([powers, logs, np.nextafter(logs, np.inf), small]).astype(dtype)
    return np.concatenate([positive, -positive])


def assert_finite_without_a_warning(layer: Layer, x: Array) -> None:
    with np.errstate(all="raise", under="ignore"):
        values, slopes = forward(layer, x), gradient(layer, x)
    assert np.isfinite(values).all()
    assert np.isfinite(slopes).all()


# 1.5 times the largest float is none, nor is selu's 1.05 times.
IN_RANGE = [each for each in LAYERS if each.name not in ("scale", "selu")] + [scale(-0.5)]


@pytest.mark.parametrize("layer", IN_RANGE, ids=str)
@every_dtype
def test_extremes_are_finite(layer: Layer, dtype: type) -> None:
    assert_finite_without_a_warning(layer, extremes(dtype)[None])


@pytest.mark.parametrize("layer", [*IN_RANGE, softmax(), log_softmax()], ids=str)
@pytest.mark.parametrize("width", [32, 64])
@given(data=st.data())
def test_every_finite_input_has_a_finite_output(layer: Layer, width: int, data: st.DataObject) -> None:
    # Half of the range for softmax's sake: the difference of two logits must itself be a float.
    largest = float(np.finfo(f"f{width // 8}").max) / 2
    floats = st.floats(-largest, largest, width=width)
    x = data.draw(arrays(f"f{width // 8}", (2, 3), elements=floats))
    assert_finite_without_a_warning(layer, x)


@pytest.mark.parametrize("layer", [each for each in IN_RANGE if each.name != "scale"], ids=str)
@every_dtype
def test_values_never_decrease(layer: Layer, dtype: type) -> None:
    x = np.sort(extremes(dtype))
    if layer in (silu(), gelu(), gelu(exact=True), mish(), hard_swish()):
        x = x[x >= 0]  # to the left they dip below zero
    assert (np.diff(forward(layer, x)) >= 0).all()


# --- Large arrays, cut into blocks, in any memory layout -------------------------------------------------------

LARGE = gaussian((9, 31, 26, 24))  # more than a block
ELEMENTWISE = (relu(), leaky_relu(), elu(), sigmoid(), tanh(), softplus(), silu(), gelu(), gelu(exact=True), mish(),
               hard_tanh(), scale(-0.5), cube())  # fmt: skip
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "by rows": lambda x: np.ascontiguousarray(x.transpose(1, 3, 2, 0)).transpose(3, 0, 2, 1),
    "fortran": np.asfortranarray,
    "with gaps": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "backwards": lambda x: x[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "read-only": lambda x: np.broadcast_to(x, x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_large_arrays_in_any_memory_layout(layer: Layer, layout: str) -> None:
    x, dy = LAYOUTS[layout](LARGE), gaussian(LARGE.shape, np.float64, "dy")
    np.testing.assert_array_equal(x, LARGE)
    np.testing.assert_allclose(forward(layer, x), by_parts(layer, LARGE), rtol=1e-14)
    expected = by_parts(layer, LARGE, dy)
    for each in (dy, LAYOUTS[layout](dy)):
        np.testing.assert_allclose(gradient(layer, x, each), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_large_arrays_whose_elements_appear_many_times(layer: Layer) -> None:
    image, row = LARGE[0], LARGE[0, 0, 0]
    for repeated in (np.broadcast_to(image, LARGE.shape), np.broadcast_to(row, LARGE.shape)):
        x, dy = repeated.copy(), gaussian(LARGE.shape, np.float64, "dy")
        np.testing.assert_array_equal(forward(layer, repeated), forward(layer, x))
        np.testing.assert_array_equal(gradient(layer, repeated, dy), gradient(layer, x, dy))
        np.testing.assert_array_equal(gradient(layer, x, repeated), gradient(layer, x, x))


def by_parts(layer: Layer, x: Array, dy: Array | None = None) -> Array:
    """The values, or the input gradient, of 1000 numbers at a time."""
    x, cut = x.ravel(), range(1000, x.size, 1000)
    parts = zip(np.split(x, cut), np.split(x if dy is None else dy.ravel(), cut), strict=True)
    made = [forward(layer, its_x) if dy is None else gradient(layer, its_x, its_dy) for its_x, its_dy in parts]
    return np.concatenate(made).reshape(LARGE.shape)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192, 10_000, 2**17 + 1])
@every_dtype
def test_relu_of_any_size(size: int, dtype: type) -> None:
    x = gaussian((size,), dtype)
    x[:3] = [np.nan, np.inf, -np.inf][:size]
    np.testing.assert_array_equal(forward(relu(), x), np.where(x < 0, 0, x), strict=True)


# --- Pools that are taken first -------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [each for each in LAYERS if each.config.increasing], ids=str)
@every_dtype
def test_what_is_increasing_commutes_with_a_maximum_to_the_last_bit(layer: Layer, dtype: type) -> None:
    x = np.concatenate([extremes(dtype), 4 * gaussian((10_000,), dtype)])
    x = np.sort(np.concatenate([x, np.nextafter(x[-1000:], dtype(np.inf))]))
    y = forward(layer, x)
    assert (y[1:] >= y[:-1]).all()
    assert {each.name for each in LAYERS if each.config.increasing} == {
        "relu", "leaky_relu", "relu6", "hard_tanh", "hard_sigmoid", "soft_shrink", "hard_shrink",
    }  # fmt: skip


# --- elementwise ----------------------------------------------------------------------------------------------


def test_a_layer_of_two_functions_is_a_value() -> None:
    assert (repr(cube()), cube().name) == ("cube()", "cube")
    assert pickle.loads(pickle.dumps(cube())) == cube() == elementwise(cube_of, slope_of_cube, name="cube")
    assert (
        len({cube(), cube(), elementwise(cube_of, cube_of, name="cube"), elementwise(abs, np.sign, name="cube")}) == 3
    )
    double = elementwise(lambda x: 2 * x, lambda x: np.full_like(x, 2), name="double")
    assert gradient(double, np.ones((1, 2), np.float32)).tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("f", "got"),
    [
        (lambda x: x * np.float64(2), "float64 (1, 2)"),
        (lambda x: x[:, :1], "float32 (1, 1)"),
        (lambda x: 1.0, "float"),
        (lambda x: None, "NoneType"),
    ],
    ids=["dtype", "shape", "number", "nothing"],
)
def test_what_the_functions_give_must_be_like_x(f: Callable[[Array], Array], got: str) -> None:
    x = np.ones((1, 2), np.float32)
    wrong = f"an array float32 (1, 2) like its x, got {got}. Make it of x by element-wise operations"
    text = message(LayerError, forward, elementwise(f, np.sign, name="mine"), x)
    assert text.startswith(f"mine(): expected of f {wrong}")
    assert message(LayerError, gradient, elementwise(abs, f, name="mine"), x).startswith(
        f"mine(): expected of df {wrong}"
    )


@pytest.mark.parametrize("name", ["", "my layer", "2d", None, 3])
def test_a_name_is_one_that_a_constructor_can_have(name: object) -> None:
    expected = f"elementwise: name must be that of a function, such as 'square', got {name!r}"
    assert message(ValueError, elementwise, np.sin, np.cos, name=name) == expected
    assert message(TypeError, elementwise, relu(), np.cos, name="sine") == (
        "elementwise: f must be a function of an array, got relu()"
    )


# --- prelu ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_prelu_by_its_formula(per_channel: bool, layout: str) -> None:
    layer, shape = prelu(per_channel=per_channel), (5, 6, 4, 3)
    x, dy = LAYOUTS[layout](gaussian(shape)), gaussian(shape, np.float64, "dy")
    params, state, _ = layer.init(Key(0), shape[1:], np.float64)
    assert params.slope.tolist() == [0.25] * (3 if per_channel else 1)
    slope = np.array([0.3, -0.2, 1.5]) if per_channel else np.array([-0.4])
    params = tree.replace(params, "slope", slope)
    y, _, residuals = layer.apply(params, state, x, train=True)
    np.testing.assert_array_equal(y, np.where(x > 0, x, slope * x))
    gradients, dx = layer.backward(params, residuals, dy)
    np.testing.assert_array_equal(dx, np.where(x > 0, dy, slope * dy))
    wanted = np.where(x > 0, 0, x * dy).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(gradients.slope, wanted if per_channel else [wanted.sum()], rtol=1e-13)


def test_at_zero_prelus_slope_is_the_trained_one() -> None:
    params, state, _ = prelu().init(Key(0), (2,), np.float64)
    residuals = prelu().apply(params, state, np.array([[0.0, -0.0]]), train=True).residuals
    assert prelu().backward(params, residuals, np.ones((1, 2))).dx.tolist() == [[0.25, 0.25]]


def test_what_is_no_input_of_prelu_is_refused() -> None:
    layer = prelu(per_channel=True)
    params, state, _ = layer.init(Key(0), (3,))
    text = message(LayerError, layer.apply, params, state, np.ones((2, 4), np.float32))
    assert text.startswith("prelu(per_channel=True): expected an input of shape (n, 3), got (2, 4)")
    text = message(LayerError, prelu().apply, params, state, np.ones((2, 3), np.float32))
    assert text.startswith("prelu(): expected its slope to have the shape (1,), got (3,)")
    assert message(LayerError, layer.init, Key(0), ()) == (
        "prelu(per_channel=True): expected examples with channels, got single numbers. "
        "Leave out per_channel, or reshape them to (1,)"
    )


# --- Gates and maxout -----------------------------------------------------------------------------------------

GATES = [(glu(), sigmoid()), (swiglu(), silu()), (geglu(), gelu()), (geglu(exact=True), gelu(exact=True))]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("layer", "gate"), GATES, ids=str)
def test_a_gate_is_the_first_half_times_a_function_of_the_second(layer: Layer, gate: Layer, layout: str) -> None:
    x, dy = LAYOUTS[layout](gaussian((5, 6, 4, 8))), gaussian((5, 6, 4, 4), np.float64, "dy")
    a, b = x[..., :4].copy(), x[..., 4:].copy()
    np.testing.assert_allclose(forward(layer, x), a * forward(gate, b), rtol=1e-14)
    dx = gradient(layer, x, dy)
    np.testing.assert_allclose(dx[..., :4], dy * forward(gate, b), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dx[..., 4:], gradient(gate, b, dy * a), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("layer", [layer for layer, _ in GATES], ids=str)
def test_large_gates_go_by_blocks(layer: Layer) -> None:
    x, dy = gaussian((3, 2**17), np.float32), gaussian((3, 2**16), np.float32, "dy")
    parts = [
        np.concatenate([x[:, i : i + 2**12], x[:, 2**16 + i : 2**16 + i + 2**12]], 1) for i in range(0, 2**16, 2**12)
    ]
    cuts = [dy[:, i : i + 2**12] for i in range(0, 2**16, 2**12)]
    np.testing.assert_allclose(forward(layer, x), np.concatenate([forward(layer, each) for each in parts], 1), 1e-6)
    slopes = [gradient(layer, each, its) for each, its in zip(parts, cuts, strict=True)]
    wanted = np.concatenate([*(each[:, : 2**12] for each in slopes), *(each[:, 2**12 :] for each in slopes)], 1)
    np.testing.assert_allclose(gradient(layer, x, dy), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", [layer for layer, _ in GATES], ids=str)
@every_dtype
def test_gates_are_finite_at_the_extremes(layer: Layer, dtype: type) -> None:
    gate = extremes(dtype)
    assert_finite_without_a_warning(layer, np.concatenate([np.full_like(gate, 0.5), gate])[None])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pieces", [2, 3, 6])
def test_maxout_by_loops(pieces: int, layout: str) -> None:
    x = np.round(LAYOUTS[layout](gaussian((3, 4, 2, 6))), 1)  # with ties
    k = 6 // pieces
    dy = gaussian((3, 4, 2, k), np.float64, "dy")
    y, dx = np.empty_like(dy), np.zeros(x.shape)
    for at in np.ndindex(*dy.shape):
        values = [x[(*at[:-1], j * k + at[-1])] for j in range(pieces)]
        winner = values.index(max(values))  # the first
        y[at] = values[winner]
        dx[(*at[:-1], winner * k + at[-1])] = dy[at]
    np.testing.assert_array_equal(forward(maxout(pieces), x), y)
    np.testing.assert_array_equal(gradient(maxout(pieces), x, dy), dx)


def test_of_equals_the_first_piece_wins() -> None:
    x = np.array([[1.0, 2.0, 1.0, 2.0, 1.0, 3.0]])
    assert gradient(maxout(3), x).tolist() == [[1, 0, 0, 0, 0, 1]]
    many = np.arange(256.0)[None]
    assert gradient(maxout(256), many).argmax() == 255


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (glu(), (5,), "glu(): expected the last axis of examples to be even, got (5,). Put dense(2 * k) before it"),
        (swiglu(), (), "swiglu(): expected the last axis of examples to be even, got (). Put dense(2 * k) before it"),
        (
            maxout(3),
            (4, 4, 8),
            "maxout(pieces=3): expected the last axis of examples to be a multiple of 3, got (4, 4, 8). "
            "Put 3 * k features or channels before it",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_divided_is_refused(layer: Layer, shape: tuple[int, ...], text: str) -> None:
    assert message(LayerError, layer.init, Key(0), shape) == text
    assert message(LayerError, layer.apply, None, None, np.ones((2, *shape))) == text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: maxout(1), "maxout: pieces must be from 2 to 256, got 1"),
        (lambda: maxout(257), "maxout: pieces must be from 2 to 256, got 257"),
        (lambda: maxout(0), "maxout: pieces must be a positive int, got 0"),
        (lambda: hard_tanh(1.0, -1.0), "hard_tanh: high must be more than low, 1.0, got -1.0"),
        (lambda: hard_tanh(math.nan), "hard_tanh: low must be finite, got nan"),
        (lambda: soft_shrink(-1), "soft_shrink: threshold must be finite and not negative, got -1.0"),
        (lambda: celu(0), "celu: alpha must be positive and finite, got 0.0"),
        (lambda: gelu(exact=1), "gelu: exact must be True or False, got 1"),
        (lambda: prelu(per_channel=None), "prelu: per_channel must be True or False, got None"),
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], Layer], text: str) -> None:
    assert message(ValueError, make) == text


# --- softmax --------------------------------------------------------------------------------------------------

logits = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 5)), elements=st.floats(-50, 50))


@given(logits)
def test_softmax_rows_are_probabilities(x: Array) -> None:
    y = forward(softmax(), x)
    assert (y > 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-15)


@given(logits, st.floats(-1e3, 1e3))
def test_softmax_does_not_change_with_a_shift_of_all_logits(x: Array, shift: float) -> None:
    for layer in (softmax(), log_softmax()):
        np.testing.assert_allclose(forward(layer, x + shift), forward(layer, x), rtol=1e-11, atol=1e-11)


@given(logits)
def test_log_softmax_is_the_logarithm_of_softmax(x: Array) -> None:
    np.testing.assert_allclose(forward(log_softmax(), x), np.log(forward(softmax(), x)), rtol=1e-13, atol=1e-14)


@given(logits)
def test_softmax_by_its_formula(x: Array) -> None:
    for row, y in zip(x, forward(softmax(), x), strict=True):
        total = math.fsum(math.exp(each) for each in row)
        np.testing.assert_allclose(y, [math.exp(each) / total for each in row], rtol=1e-14)


@given(logits)
def test_softmax_gradients_are_its_jacobian(x: Array) -> None:
    dy = gaussian(x.shape)
    for row, its_dy, dx, log_dx in zip(x, dy, gradient(softmax(), x, dy), gradient(log_softmax(), x, dy), strict=True):
        y = forward(softmax(), row[None])[0]
        jacobian = np.diag(y) - np.outer(y, y)  # symmetric
        np.testing.assert_allclose(dx, jacobian @ its_dy, rtol=0, atol=1e-15)
        np.testing.assert_allclose(log_dx, its_dy - y * its_dy.sum(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("layer", [softmax(), log_softmax()], ids=str)
def test_each_position_of_an_image_has_its_own_softmax(layer: Layer) -> None:
    x, dy = gaussian((2, 3, 4, 5)), gaussian((2, 3, 4, 5), np.float64, "dy")
    rows = forward(layer, x.reshape(-1, 5))
    np.testing.assert_array_equal(forward(layer, x).reshape(-1, 5), rows)
    expected = gradient(layer, x.reshape(-1, 5), dy.reshape(-1, 5))
    np.testing.assert_array_equal(gradient(layer, x, dy).reshape(-1, 5), expected)


@every_dtype
def test_softmax_of_far_logits_is_exact(dtype: type) -> None:
    largest = np.finfo(dtype).max
    x = np.array([[largest, 0, 0], [-largest, -largest, -largest], [largest / 2, -largest / 2, 0]], dtype)
    with np.errstate(all="raise", under="ignore"):
        probabilities, logs = forward(softmax(), x), forward(log_softmax(), x)
    np.testing.assert_array_equal(probabilities, np.array([[1, 0, 0], [1 / 3] * 3, [1, 0, 0]], dtype))
    np.testing.assert_array_equal(logs[[0, 2]], [[0, -largest, -largest], [0, -largest, -largest / 2]])
    np.testing.assert_allclose(logs[1], -math.log(3), rtol=2 * np.finfo(dtype).eps)
