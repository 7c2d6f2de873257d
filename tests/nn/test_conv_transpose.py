"""The transposed convolution against loops over pixels, and as what it is named for: the convolution's transpose."""

from typing import Any

import numpy as np
import pytest
from cases import Case, gaussian, message, ready
from hypothesis import given, settings
from hypothesis import strategies as st

from funcnn import Key, conv_strided
from funcnn.arrays import conv_choice
from funcnn.layer import Array, Layer, Shape, ShapeError
from funcnn.layers import conv2d, conv_transpose2d, depthwise_conv2d, separable_conv2d
from funcnn.nn.filters import ConvParams


def by_hand(layer: Layer, params: ConvParams, x: Array) -> Array:
    """Each pixel lays its kernels on the output; what falls beside it is dropped."""
    config: Any = layer.config
    (sh, sw), (dh, dw), groups, weight = config.stride, config.dilation, config.groups, params.weight
    oh, ow, filters = config.out_shape(x.shape[1:])
    top, left = (side[0] for side in config.geometry(x.shape[1:]).padding)
    y = np.zeros((len(x), oh, ow, filters)) + params.bias
    inner, per_group = filters // groups, x.shape[3] // groups
    for i, j, k, l, c in np.ndindex(*x.shape[1:3], *weight.shape[:2], x.shape[3]):  # noqa: E741
        row, column, group = i * sh + k * dh - top, j * sw + l * dw - left, c // per_group
        if 0 <= row < oh and 0 <= column < ow:
            y[:, row, column, group * inner : (group + 1) * inner] += x[:, i, j, c, None] * weight[k, l, :, c]
    return y


two = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Layer, Shape]:
    options: dict[str, Any] = {"stride": draw(two), "dilation": draw(two), "groups": draw(st.integers(1, 2))}
    sides = st.tuples(st.integers(0, 1), st.integers(0, 1))
    options["padding"] = draw(st.sampled_from(["valid", "same"]) | st.integers(0, 1) | st.tuples(sides, sides))
    if options["padding"] != "same":
        options["output_padding"] = tuple(draw(st.integers(0, most - 1)) for most in options["stride"])
    groups, inner = options["groups"], draw(st.integers(1, 2))
    layer = conv_transpose2d(groups * draw(st.integers(1, 2)), draw(two), **options)
    return layer, (*draw(st.tuples(st.integers(2, 4), st.integers(2, 4))), groups * inner)


@settings(max_examples=100, deadline=None)
@given(layers())
def test_it_is_what_its_definition_says(problem: tuple[Layer, Shape]) -> None:
    layer, in_shape = problem
    try:
        made = ready(Case(layer, in_shape))
    except ShapeError:  # the padding takes all of it
        return
    y, _, residuals = made.train()
    np.testing.assert_allclose(y, by_hand(layer, made.params, made.x), rtol=0, atol=1e-12, strict=True)
    # Linear in x and in the weight, so that both gradients are its transposes.
    gradients, dx = layer.backward(made.params, residuals, made.dy)
    for part, gradient in ((made.x, dx), (made.params.weight, gradients.weight)):
        linear = np.vdot(y - made.params.bias, made.dy)
        assert abs(linear - np.vdot(part, gradient)) <= 1e-10 * (1 + abs(linear))
    np.testing.assert_allclose(gradients.bias, made.dy.sum(axis=(0, 1, 2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "in_shape"),
    [
        ({"stride": 2, "padding": 1}, (14, 14, 32)),  # by phases
        ({"stride": 2, "padding": 1}, (14, 14, 64)),  # by rows: many more channels in than out
        ({"padding": "same"}, (16, 16, 32)),
        ({"stride": 2, "groups": 8, "padding": "same"}, (14, 14, 8)),  # depthwise
    ],
    ids=str,
)
@pytest.mark.parametrize("kernel", [3, 4])
def test_the_fast_forms_are_the_same_layer(options: dict[str, Any], in_shape: Shape, kernel: int) -> None:
    layer = conv_transpose2d(8, kernel, **options)
    made = ready(Case(layer, in_shape), np.float32, n=4)
    geo, groups = layer.config.geometry(in_shape), layer.config.groups  # type: ignore[attr-defined]
    x, weight, dy = (each.astype(np.float64) for each in (made.x, made.params.weight, made.dy))
    expected = conv_strided.conv_input_gradient(x, weight, geo, groups) + made.params.bias
    np.testing.assert_allclose(made.train().y, expected, rtol=0, atol=1e-5 * abs(expected).max())
    expected = conv_strided.conv_forward(dy, weight, geo, groups)
    np.testing.assert_allclose(made.gradients().dx, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_winograd_takes_the_bias_along() -> None:
    for filters, channels in ((32, 64), (64, 32)):  # products first, shifts first
        layer = conv_transpose2d(filters, 3, padding="same")
        made = ready(Case(layer, (12, 12, channels)), np.float32, n=4)
        geo = layer.config.geometry((12, 12, channels))  # type: ignore[attr-defined]
        products = conv_choice.fastest(geo, made.params.weight, 1, made.x)
        assert products.__name__ == "funcnn.arrays.conv_winograd"
        expected = by_hand(layer, made.params, made.x)
        np.testing.assert_allclose(made.train().y, expected, rtol=0, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("size", [6, 7])
def test_output_padding_tells_apart_the_sizes_that_a_stride_makes_one(size: int) -> None:
    down = conv2d(4, 3, stride=2, padding=1)
    up = conv_transpose2d(2, 3, stride=2, padding=1, output_padding=1 - size % 2)
    assert up.config.out_shape(down.config.out_shape((size, size, 2))) == (size, size, 2)


def test_same_padding_multiplies_the_size_by_the_stride() -> None:
    for kernel in range(1, 6):
        for stride in range(1, 4):
            layer = conv_transpose2d(2, kernel, stride=stride, padding="same")
            assert layer.config.out_shape((5, 4, 1)) == (5 * stride, 4 * stride, 2)


def test_the_weights_start_as_large_as_the_outputs_number_of_terms_says() -> None:
    # Each output of a 4×4 kernel with stride 2 adds up 4 taps of 64 channels.
    layer = conv_transpose2d(64, 4, stride=2, padding="same")
    params, state, _ = layer.init(Key(0), (16, 16, 64))
    y = layer.apply(params, state, gaussian((4, 16, 16, 64), np.float32)).y
    assert 1.3 < y[:, 2:-2, 2:-2].std() < 1.5  # he_normal: the square root of 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 2, "output_padding": 2}, "at least 0 and less than the stride (2, 2), got (2, 2)"),
        ({"output_padding": -1}, "at least 0 and less than the stride (1, 1), got (-1, -1)"),
        ({"stride": 2, "output_padding": True}, "conv_transpose2d: output_padding must be an int or a pair"),
        ({"stride": 2, "output_padding": 1, "padding": "same"}, 'output_padding must be 0 with padding="same"'),
        ({"groups": 2}, "filters must be a multiple of groups, got 3 filters, 2 groups"),
        ({"stride": 0}, "conv_transpose2d: stride must be a positive int or a pair (height, width), got (0, 0)"),
        ({"padding": -1}, "conv_transpose2d: padding must be"),
    ],
    ids=str,
)
def test_settings_that_are_none(options: dict[str, Any], expected: str) -> None:
    assert expected in message(ValueError, conv_transpose2d, 3, 3, **options)


def test_inputs_that_do_not_fit() -> None:
    init = conv_transpose2d(4, 3, padding=2, groups=2).init
    assert "leaves nothing of the output" in message(ShapeError, init, Key(0), (2, 2, 2))
    assert "expected channels in 2 equal groups, got 3" in message(ShapeError, init, Key(0), (5, 5, 3))
    assert "Leave out the batch axis: (5, 5, 2)" in message(ShapeError, init, Key(0), (8, 5, 5, 2))
    layer = conv_transpose2d(4, 3)
    params, state, _ = layer.init(Key(0), (5, 5, 2))
    found = message(ShapeError, layer.apply, params, state, np.ones((1, 5, 5, 3), np.float32))
    assert "expected an input of shape (n, any, any, 2), got (1, 5, 5, 3)" in found
    other = ConvParams(params.weight.swapaxes(2, 3), params.bias)
    found = message(ShapeError, layer.apply, other, state, np.ones((1, 5, 5, 2), np.float32))
    assert "expected its weight to have the shape (3, 3, 4, any), got (3, 3, 2, 4)" in found


# --- Depthwise and separable ----------------------------------------------------------------------------------


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_is_a_convolution_with_as_many_groups_as_channels(multiplier: int) -> None:
    options: dict[str, Any] = {"stride": (1, 2), "padding": "same", "dilation": 2}
    layer, plain = depthwise_conv2d(3, multiplier, **options), conv2d(3 * multiplier, 3, groups=3, **options)
    made, its = (ready(Case(each, (7, 6, 3))) for each in (layer, plain))
    assert layer.config.macs((7, 6, 3)) == plain.config.macs((7, 6, 3))
    np.testing.assert_array_equal(made.params.weight, its.params.weight, strict=True)
    np.testing.assert_array_equal(made.train().y, its.train().y, strict=True)
    np.testing.assert_array_equal(made.gradients().dx, its.gradients().dx, strict=True)
    np.testing.assert_array_equal(made.gradients().params.weight, its.gradients().params.weight, strict=True)


def test_depthwise_errors_speak_of_the_layer_as_it_is_written() -> None:
    layer = depthwise_conv2d(3)
    params, state, _ = layer.init(Key(0), (5, 5, 2))
    found = message(ShapeError, layer.apply, params, state, np.ones((1, 5, 5, 3), np.float32))
    assert found.startswith("depthwise_conv2d(kernel_size=3): expected an input of shape (n, any, any, 2), got")
    found = message(
        ShapeError, layer.apply, ConvParams(params.weight[:, :2], params.bias), state, gaussian((1, 5, 5, 2))
    )
    assert "expected its weight to have the shape (3, 3, 1, any), got (3, 2, 1, 2)" in found
    assert "depthwise_conv2d: multiplier must be a positive int, got 0" in message(ValueError, depthwise_conv2d, 3, 0)


def test_separable_is_the_convolution_of_the_product_of_its_kernels() -> None:
    made = ready(Case(separable_conv2d(5, 3, multiplier=2, stride=2, padding=1), (6, 7, 3)))
    (depthwise, pointwise), layer = made.params, conv2d(5, 3, stride=2, padding=1)
    kernel = np.einsum("klcm,cmo->klco", depthwise.weight.reshape(3, 3, 3, 2), pointwise.weight.reshape(3, 2, 5))
    y = layer.apply(ConvParams(kernel, pointwise.bias), None, made.x).y
    np.testing.assert_allclose(made.train().y, y, rtol=0, atol=1e-12)
