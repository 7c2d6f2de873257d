"""Winograd's convolution: the same function as the strided one, by the same properties, from other products."""

from unittest import mock

import numpy as np
import pytest
import references
from cases import gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn import Key
from funcnn.arrays import conv_rows, conv_winograd
from funcnn.arrays.geometry import geometry
from funcnn.grad_check import check_layer
from funcnn.layer import Array, Shape, describe
from funcnn.layers import conv2d

# The transforms multiply by up to 8 and add six terms: a few digits of rounding.
RTOL = 1e-11


@st.composite
def problems(draw: st.DrawFn) -> tuple[Spec, Array, Array, int]:
    """What fits the algorithm: three rows, adjacent and at every row; anything along the columns."""
    side = st.tuples(st.integers(0, 2), st.integers(0, 2))
    spec = Spec(
        window=(3, draw(st.integers(1, 3))),
        stride=(1, draw(st.integers(1, 2))),
        dilation=(1, draw(st.integers(1, 2))),
        padding=draw(st.sampled_from(["valid", "same"]) | st.integers(0, 2) | st.tuples(side, side)),
    )
    groups, inner, filters = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = draw(st.integers(3, 11)), draw(st.integers(5, 7))
    x = gaussian((draw(st.sampled_from([1, 2, 30])), *size, groups * inner), np.float64, "x")
    return spec, x, gaussian((*spec.window, inner, groups * filters), np.float64, "weight"), groups


@settings(max_examples=150)
@given(problems())
def test_it_is_the_loop_over_pixels(problem: tuple[Spec, Array, Array, int]) -> None:
    spec, x, weight, groups = problem
    geo = spec.on(x)
    assert conv_winograd.fits(geo)
    bias = gaussian(weight.shape[3:], np.float64, "bias")
    y = conv_winograd.conv_forward(x, weight, geo, groups, bias)
    expected = references.conv2d(x, weight, spec, groups) + bias
    np.testing.assert_allclose(y, expected, rtol=0, atol=RTOL * np.abs(expected).max(), strict=True)


@settings(max_examples=150)
@given(problems())
def test_the_gradients_are_its_adjoints(problem: tuple[Spec, Array, Array, int]) -> None:
    spec, x, weight, groups = problem
    geo = spec.on(x)
    y = conv_winograd.conv_forward(x, weight, geo, groups)
    dy = gaussian(y.shape, np.float64, "dy")
    dx = conv_winograd.conv_input_gradient(dy, weight, geo, groups)
    dweight = conv_winograd.conv_weight_gradient(x, dy, geo, groups)
    assert (dx.shape, dweight.shape) == (x.shape, weight.shape)
    tolerance = RTOL * np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs(np.vdot(y, dy) - np.vdot(x, dx)) <= tolerance
    assert abs(np.vdot(y, dy) - np.vdot(weight, dweight)) <= tolerance


FUNCTIONS = "conv_forward", "conv_weight_gradient", "conv_input_gradient"
SHAPES = [((16, 26, 26, 32), 64, "valid"), ((16, 12, 12, 64), 128, "valid"), ((16, 15, 14, 16), 32, "same")]


def arguments(x_shape: Shape, filters: int, padding: str, dtype: type) -> dict[str, tuple[Array, ...]]:
    size = x_shape[1:3] if padding == "same" else (x_shape[1] - 2, x_shape[2] - 2)
    x, dy = gaussian(x_shape, dtype, "x"), gaussian((x_shape[0], *size, filters), dtype, "dy")
    weight = gaussian((3, 3, x_shape[3], filters), dtype, "weight")
    return dict(zip(FUNCTIONS, [(x, weight), (x, dy), (dy, weight)], strict=True))


@pytest.mark.parametrize(("x_shape", "filters", "padding"), SHAPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_differs_from_the_strided_result_by_rounding(
    name: str, x_shape: Shape, filters: int, padding: str
) -> None:
    geo = geometry(x_shape[1:3], (3, 3), (1, 1), (1, 1), padding)
    taken = arguments(x_shape, filters, padding, np.float32)[name]
    strided, winograd = (getattr(module, name)(*taken, geo) for module in (conv_rows, conv_winograd))
    assert winograd.dtype == np.float32
    assert np.abs(winograd - strided).max() <= 1e-5 * np.abs(strided).max()  # a tenth of what "auto" promises


@pytest.mark.parametrize("tiles", [1, 2])
def test_blocks_of_tiles_do_not_change_the_result(tiles: int) -> None:
    x_shape, filters, padding = (5, 13, 6, 4), 6, "same"
    geo = geometry(x_shape[1:3], (3, 3), (1, 1), (1, 1), padding)
    for name, taken in arguments(x_shape, filters, padding, np.float64).items():
        whole = getattr(conv_winograd, name)(*taken, geo)
        row_bytes = (3 * x_shape[3] if name != FUNCTIONS[2] else filters) * 6 * 5 * 8
        with mock.patch.object(conv_winograd, "_BLOCK_BYTES", tiles * 6 * row_bytes):
            blocked = getattr(conv_winograd, name)(*taken, geo)
        np.testing.assert_allclose(blocked, whole, rtol=0, atol=RTOL * np.abs(whole).max(), strict=True)


def test_an_empty_batch() -> None:
    geo = geometry((6, 5), (3, 3), (1, 1), (1, 1), "same")
    x, dy, weight = np.zeros((0, 6, 5, 2)), np.zeros((0, 6, 5, 4)), np.ones((3, 3, 2, 4))
    np.testing.assert_array_equal(conv_winograd.conv_forward(x, weight, geo), dy, strict=True)
    np.testing.assert_array_equal(conv_winograd.conv_forward(x, weight, geo, 1, np.ones(4)), dy, strict=True)
    np.testing.assert_array_equal(conv_winograd.conv_input_gradient(dy, weight, geo), x, strict=True)
    np.testing.assert_array_equal(conv_winograd.conv_weight_gradient(x, dy, geo), np.zeros_like(weight), strict=True)


# --- The layer's choice ---------------------------------------------------------------------------------------


def test_any_padding_of_columns() -> None:
    layer = conv2d(4, (3, 7), padding=((1, 2), (3, 0)), algorithm="winograd")
    assert check_layer(layer, (7, 6, 2), key=Key(0)).largest_error < 1e-6
    for padding in (3, ((3, 0), (0, 0))):
        with pytest.raises(ValueError, match="at most two rows of padding"):
            conv2d(4, 3, padding=padding, algorithm="winograd")


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_the_layer(groups: int) -> None:
    layer = conv2d(4, 3, padding="same", groups=groups, algorithm="winograd")
    assert check_layer(layer, (7, 5, 2), key=Key(0)).largest_error < 1e-6


def products(layer: object, shape: Shape, dtype: type) -> str:
    """Which module the layer takes for a batch."""
    geo = layer.config.geometry(shape[1:])  # type: ignore[attr-defined]
    weight = layer.init(Key(0), shape[1:], dtype).params.weight  # type: ignore[attr-defined]
    return str(layer.config.products(geo, shape[0], weight).__name__).removeprefix("funcnn.")  # type: ignore[attr-defined]


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
    ],
    ids=str,
)
def test_auto_takes_what_fits_and_pays(layer: object, shape: Shape, dtype: type, expected: str) -> None:
    assert products(layer, shape, dtype) == expected


def test_an_unfit_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="algorithm must be one of 'auto', 'strided', 'winograd', got 'fft'"):
        conv2d(4, 3, algorithm="fft")  # type: ignore[arg-type]
    unfit = ({"kernel_size": 5}, {"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "dilation": 2})
    for settings_ in (*unfit, {"kernel_size": 3, "padding": 3}):
        with pytest.raises(ValueError, match="the Winograd algorithm is for kernels of three rows"):
            conv2d(4, **settings_, algorithm="winograd")  # type: ignore[arg-type]


def test_the_algorithm_is_part_of_the_description() -> None:
    assert describe(conv2d(4, 3, algorithm="winograd"))["algorithm"] == "winograd"
    assert "algorithm" not in describe(conv2d(4, 3))
