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

from funcnn.layer import Array, Layer, LayerError
from funcnn.layers import (
    elementwise,
    elu,
    gelu,
    identity,
    leaky_relu,
    log_softmax,
    relu,
    scale,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from funcnn.nn.activations import stable_sigmoid

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def forward(layer: Layer, x: Array) -> Array:
    return layer.apply(None, None, x).y


def gradient(layer: Layer, x: Array, dy: Array | None = None) -> Array:
    """The layer's input gradient at x; without dy, its element-wise derivative."""
    residuals = layer.apply(None, None, x, train=True).residuals
    return layer.backward(None, residuals, np.ones_like(x) if dy is None else dy).dx


# --- Closed forms, in Python's own floats ---------------------------------------------------------------------


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gelu_parts(x: float) -> tuple[float, float]:
    """The tanh inside gelu, and its derivative."""
    t = math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return t, (1 - t**2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)


Function = Callable[[float], float]

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
    exact = np.array([each * (1 + math.erf(each / math.sqrt(2))) / 2 for each in x])
    assert abs(forward(gelu(), x) - exact).max() <= 0.0005


# --- Kinks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "slope"),
    [(relu(), 0.0), (leaky_relu(0.0), 0.0), (leaky_relu(0.25), 0.25), (leaky_relu(1.0), 1.0), (elu(0.5), 0.5)],
    ids=str,
)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_at_zero_the_slope_is_the_left_one(layer: Layer, slope: float, zero: float) -> None:
    assert gradient(layer, np.array([[zero]])).item() == slope


@pytest.mark.parametrize("layer", [relu(), leaky_relu(0.01), leaky_relu(0.3), elu(0.5), elu(3)], ids=str)
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


IN_RANGE = [each for each in LAYERS if each.name != "scale"] + [scale(-0.5)]  # 1.5 times the largest is no float


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


@pytest.mark.parametrize("layer", [each for each in LAYERS if each.name != "scale"], ids=str)
@every_dtype
def test_values_never_decrease(layer: Layer, dtype: type) -> None:
    x = np.sort(extremes(dtype))
    if layer in (silu(), gelu()):
        x = x[x >= 0]  # to the left they dip below zero
    assert (np.diff(forward(layer, x)) >= 0).all()


# --- Large arrays, cut into blocks, in any memory layout -------------------------------------------------------

LARGE = gaussian((9, 31, 26, 24))  # more than a block
ELEMENTWISE = (relu(), leaky_relu(), elu(), sigmoid(), tanh(), softplus(), silu(), gelu(), scale(-0.5), cube())
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
