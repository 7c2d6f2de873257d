"""Convolution and pooling against loops over pixels, and their gradients against the adjoint identity.

A linear map A and its gradient Aᵀ satisfy ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for all x and y: together with a forward pass that
is right, that determines the gradient.
"""

from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import references
from cases import gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn import conv_strided as conv
from funcnn import pooling
from funcnn.conv_windows import geometry, rows, windows
from funcnn.layer import Array, Shape

RTOL = 1e-12


# --- Draws ----------------------------------------------------------------------------------------------------


def pairs(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(values, values)


@st.composite
def in_sizes(draw: st.DrawFn, spec: Spec) -> tuple[int, int]:
    """A size on which at least one window fits, from the smallest upward."""
    size = []
    for axis in (0, 1):
        span = (spec.window[axis] - 1) * spec.dilation[axis] + 1
        if spec.padding == "same":
            span = 1
        elif isinstance(spec.padding, int):
            span -= 2 * spec.padding
        elif spec.padding != "valid":
            span -= sum(spec.padding[axis])
        size.append(max(span, 1) + draw(st.integers(0, 4)))
    return size[0], size[1]


class Conv(NamedTuple):
    spec: Spec
    x_shape: Shape
    weight_shape: Shape
    groups: int

    def arrays(self) -> tuple[Array, Array]:
        return gaussian(self.x_shape, np.float64, "x"), gaussian(self.weight_shape, np.float64, "weight")


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    """Settings of every kind; inner = 1 with several groups is a depthwise convolution."""
    spec = Spec(
        window=draw(pairs(st.integers(1, 3))),
        stride=draw(pairs(st.integers(1, 3))),
        dilation=draw(pairs(st.integers(1, 2))),
        padding=draw(st.sampled_from(["valid", "same"]) | st.integers(0, 2) | pairs(pairs(st.integers(0, 2)))),
    )
    groups, inner, filters = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    n = draw(st.integers(1, 3) | st.just(100))  # many images, so that each output row has its own product
    return Conv(spec, (n, *draw(in_sizes(spec)), groups * inner), (*spec.window, inner, groups * filters), groups)


class Pool(NamedTuple):
    spec: Spec
    x: Array

    def output_gradient(self) -> Array:
        return gaussian(references.avg_pool(self.x, self.spec).shape, np.float64, "dy")


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Windows that overlap, touch or leave gaps; padded sides, each less than the window."""
    window = draw(pairs(st.integers(1, 3)))
    sides = st.tuples(*(pairs(st.integers(0, w - 1)) for w in window))
    padding = st.sampled_from(["valid", "same"]) | st.integers(0, min(window) - 1) | sides
    spec = Spec(window=window, stride=draw(pairs(st.integers(1, 3))), padding=draw(padding))
    shape = (draw(st.integers(1, 2)), *draw(in_sizes(spec)), draw(st.integers(1, 2)))
    x = gaussian(shape)
    # Few and negative values: ties are common, and a padded zero that won would show.
    return Pool(spec, np.round(x) - 9 if draw(st.booleans()) else x)


def inner_product(a: Array, b: Array) -> float:
    return float(np.vdot(a, b))


# --- Geometry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "sides"),
    [
        (28, 5, 1, 1, (2, 2)),
        (28, 2, 1, 1, (0, 1)),  # the odd pixel goes to the bottom and right
        (28, 3, 2, 1, (0, 1)),
        (27, 3, 2, 1, (1, 1)),
        (28, 3, 1, 2, (2, 2)),
        (5, 1, 3, 1, (0, 0)),
        (1, 7, 1, 1, (3, 3)),
    ],
)
def test_same_padding(size: int, window: int, stride: int, dilation: int, sides: tuple[int, int]) -> None:
    geo = geometry((size, size), (window, window), (stride, stride), (dilation, dilation), "same")
    assert geo.padding == (sides, sides)
    assert geo.out_size == (-(-size // stride),) * 2


@given(convolutions())
def test_geometry_counts_the_windows(problem: Conv) -> None:
    x, _ = problem.arrays()
    geo = problem.spec.on(x)
    assert geo.out_size == tuple(len(references.window_starts(x, problem.spec, axis)) for axis in (0, 1))


@given(convolutions())
def test_taps_are_where_the_windows_meet_the_image(problem: Conv) -> None:
    x, _ = problem.arrays()
    spec, geo = problem.spec, problem.spec.on(x)
    for axis in (0, 1):
        starts = references.window_starts(x, spec, axis)
        for k, (outputs, pixels) in enumerate(geo.taps[axis]):
            meets = {i: start + k * spec.dilation[axis] for i, start in enumerate(starts)}
            expected = {i: pixel for i, pixel in meets.items() if 0 <= pixel < x.shape[1 + axis]}
            found = zip(range(len(starts))[outputs], range(x.shape[1 + axis])[pixels], strict=True)
            assert dict(found) == expected


def test_windows_are_overlapping_views_of_a_few_copies() -> None:
    x = gaussian((32, 5, 7, 3))
    view = windows(np.ascontiguousarray(rows(x)), Spec((2, 3)).on(x), 1, slice(0, 4))
    assert view.shape == (1, 4, 2 * 3 * 3, 5 * 32)
    assert np.shares_memory(view[:, 0], view[:, 1])
    np.testing.assert_array_equal(view[0, 1].reshape(2, 3, 3, 5, 32)[1, 2, 0, 4], x[:, 2, 6, 0])


def test_a_kernel_of_one_column_copies_nothing() -> None:
    x = np.ascontiguousarray(rows(gaussian((32, 5, 7, 3))))
    for window in ((1, 1), (2, 1)):
        view = windows(x, Spec(window).on(x.transpose(3, 0, 2, 1)), 1, slice(0, 4))
        assert np.shares_memory(view, x)
        assert not view.flags.writeable


# --- Convolution ----------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(convolutions())
def test_convolution_is_the_loop_over_pixels(problem: Conv) -> None:
    x, weight = problem.arrays()
    y = conv.conv_forward(x, weight, problem.spec.on(x), problem.groups)
    expected = references.conv2d(x, weight, problem.spec, problem.groups)
    np.testing.assert_allclose(y, expected, rtol=RTOL, atol=RTOL, strict=True)


@settings(max_examples=200)
@given(convolutions())
def test_convolution_gradients_are_its_adjoints(problem: Conv) -> None:
    x, weight = problem.arrays()
    geo = problem.spec.on(x)
    y = conv.conv_forward(x, weight, geo, problem.groups)
    dy = gaussian(y.shape, np.float64, "dy")
    dx = conv.conv_input_gradient(dy, weight, geo, problem.groups)
    dweight = conv.conv_weight_gradient(x, dy, geo, problem.groups)
    assert (dx.shape, dweight.shape) == (x.shape, weight.shape)
    tolerance = RTOL * np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs(inner_product(y, dy) - inner_product(x, dx)) <= tolerance
    assert abs(inner_product(y, dy) - inner_product(weight, dweight)) <= tolerance


@given(convolutions(), st.integers(1, 2))
def test_blocks_of_rows_do_not_change_the_result(problem: Conv, rows_per_block: int) -> None:
    x, weight = problem.arrays()
    geo = problem.spec.on(x)
    dy = gaussian((len(x), *geo.out_size, weight.shape[3]), np.float64, "dy")

    def run() -> list[Array]:
        return [
            conv.conv_forward(x, weight, geo, problem.groups),
            conv.conv_input_gradient(dy, weight, geo, problem.groups),
            conv.conv_weight_gradient(x, dy, geo, problem.groups),
        ]

    whole = run()
    bytes_per_row = geo.window[1] * geo.out_size[1] * x.size // x.shape[2] * x.itemsize
    with mock.patch.object(conv, "_BLOCK_BYTES", rows_per_block * bytes_per_row):
        blocked = run()
    for have, want in zip(blocked, whole, strict=True):
        np.testing.assert_allclose(have, want, rtol=RTOL, atol=RTOL, strict=True)


@pytest.mark.parametrize(("x_shape", "kernel"), [((8, 28, 28, 1), (5, 5, 1, 8)), ((4, 12, 11, 16), (3, 2, 16, 24))])
def test_convolution_is_one_einsum_over_windows(x_shape: Shape, kernel: Shape) -> None:
    x, weight = gaussian(x_shape), gaussian(kernel, np.float64, "weight")
    y = conv.conv_forward(x, weight, Spec(kernel[:2]).on(x))
    np.testing.assert_allclose(y, references.conv2d_einsum(x, weight), rtol=0, atol=RTOL * abs(y).max(), strict=True)


def test_the_kernel_is_not_flipped() -> None:
    x = np.zeros((1, 3, 3, 1))
    x[0, 0, 2, 0] = 1.0
    weight = np.arange(9.0).reshape(3, 3, 1, 1)
    assert conv.conv_forward(x, weight, Spec((3, 3)).on(x)).item() == weight[0, 2, 0, 0]


def test_groups_keep_apart() -> None:
    x, weight = gaussian((2, 4, 4, 4)), gaussian((2, 2, 2, 6), np.float64, "weight")
    halves = [
        conv.conv_forward(x[..., 2 * g : 2 * g + 2], weight[..., 3 * g : 3 * g + 3], Spec((2, 2)).on(x)) for g in (0, 1)
    ]
    joined = conv.conv_forward(x, weight, Spec((2, 2)).on(x), groups=2)
    np.testing.assert_allclose(joined, np.concatenate(halves, axis=-1), rtol=RTOL, atol=RTOL)


# --- Max pooling ----------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(pools())
def test_max_pooling_is_the_loop_over_pixels(problem: Pool) -> None:
    geo = problem.spec.on(problem.x)
    expected = references.max_pool(problem.x, problem.spec)
    for keep_winners in (True, False):
        y, winners = pooling.max_pool_forward(problem.x, geo, keep_winners=keep_winners)
        np.testing.assert_array_equal(y, expected, strict=True)
        assert (winners is not None) == keep_winners


@settings(max_examples=100)
@given(pools())
def test_max_pooling_gives_the_gradient_to_the_first_maximum(problem: Pool) -> None:
    geo, dy = problem.spec.on(problem.x), problem.output_gradient()
    _, winners = pooling.max_pool_forward(problem.x, geo, keep_winners=True)
    dx = pooling.max_pool_backward(dy, winners, geo)
    expected = references.max_pool_gradient(problem.x, dy, problem.spec)
    np.testing.assert_allclose(dx, expected, rtol=RTOL, atol=RTOL, strict=True)


def test_of_equal_values_the_first_in_reading_order_wins() -> None:
    x = np.array([[1.0, 2.0, 2.0], [2.0, 2.0, 2.0], [0.0, 2.0, 2.0]]).reshape(1, 3, 3, 1)
    geo = Spec((3, 3)).on(x)
    _, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    dx = pooling.max_pool_backward(np.full((1, 1, 1, 1), 5.0), winners, geo)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 5, 0], [0, 0, 0], [0, 0, 0]])


def test_gradients_of_overlapping_windows_add() -> None:
    x = np.array([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]).reshape(1, 3, 3, 1)
    geo = Spec((2, 2)).on(x)
    _, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    dx = pooling.max_pool_backward(np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 2, 2, 1), winners, geo)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 0, 0], [0, 15, 0], [0, 0, 0]])


@pytest.mark.parametrize("low", [-1.0, np.finfo(float).min])
def test_padded_cells_never_win(low: float) -> None:
    x = np.full((1, 2, 2, 1), low)
    geo = Spec((2, 2), padding=1).on(x)
    y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    np.testing.assert_array_equal(y, np.full((1, 3, 3, 1), low))
    assert pooling.max_pool_backward(np.ones_like(y), winners, geo).sum() == 9  # none of the nine went to the padding


@pytest.mark.parametrize("window", [(16, 16), (16, 17), (20, 20)], ids=str)
def test_the_winner_of_a_large_window_is_found(window: tuple[int, int]) -> None:
    # A byte can tell 256 cells apart, no more.
    x = np.zeros((1, *window, 1))
    x[0, -1, -1, 0] = 1.0
    geo = Spec(window).on(x)
    _, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    np.testing.assert_array_equal(pooling.max_pool_backward(np.full((1, 1, 1, 1), 3.0), winners, geo), 3 * x)


# --- Average pooling ------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(pools())
def test_average_pooling_is_the_loop_over_pixels(problem: Pool) -> None:
    y = pooling.avg_pool_forward(problem.x, problem.spec.on(problem.x))
    np.testing.assert_allclose(y, references.avg_pool(problem.x, problem.spec), rtol=RTOL, atol=RTOL, strict=True)


@settings(max_examples=100)
@given(pools())
def test_the_average_pooling_gradient_is_its_adjoint(problem: Pool) -> None:
    geo, dy = problem.spec.on(problem.x), problem.output_gradient()
    y, dx = pooling.avg_pool_forward(problem.x, geo), pooling.avg_pool_backward(dy, geo)
    assert dx.shape == problem.x.shape
    tolerance = RTOL * np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs(inner_product(y, dy) - inner_product(problem.x, dx)) <= tolerance


def test_padded_cells_are_not_counted() -> None:
    x = np.full((1, 3, 3, 1), 7.0)
    np.testing.assert_allclose(pooling.avg_pool_forward(x, Spec((3, 3), padding=2).on(x)), 7.0, rtol=RTOL)


# --- Edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_batch(dtype: type) -> None:
    x, weight = np.zeros((0, 4, 4, 2), dtype), np.ones((3, 3, 2, 5), dtype)
    geo = Spec((3, 3), padding="same").on(x)
    dy = np.zeros((0, 4, 4, 5), dtype)
    np.testing.assert_array_equal(conv.conv_forward(x, weight, geo), dy, strict=True)
    np.testing.assert_array_equal(conv.conv_input_gradient(dy, weight, geo), x, strict=True)
    np.testing.assert_array_equal(conv.conv_weight_gradient(x, dy, geo), np.zeros_like(weight), strict=True)
    y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    np.testing.assert_array_equal(y, x, strict=True)
    np.testing.assert_array_equal(pooling.max_pool_backward(x, winners, geo), x, strict=True)
    np.testing.assert_array_equal(pooling.avg_pool_forward(x, geo), x, strict=True)
    np.testing.assert_array_equal(pooling.avg_pool_backward(x, geo), x, strict=True)
