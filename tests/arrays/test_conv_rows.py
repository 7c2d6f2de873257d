"""Convolution against loops over pixels, and its gradients against the adjoint identity.

A linear map A and its gradient Aᵀ satisfy ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for all x and y: together with a forward pass that
is right, that determines the gradient.
"""

from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import references
from cases import gaussian
from draws import RTOL, in_sizes, inner_product, pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn.arrays import conv_rows as conv
from funcnn.arrays import threads
from funcnn.arrays import windows as windows_module
from funcnn.arrays.geometry import geometry, turned
from funcnn.arrays.layout import images, rows
from funcnn.arrays.windows import shares_products, turned_kernel, windows
from funcnn.layer import Array, Shape

# --- Draws ----------------------------------------------------------------------------------------------------


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
    n = draw(st.integers(1, 3) | st.just(100))  # many images, so that rows of any kernel have a product each
    return Conv(spec, (n, *draw(in_sizes(spec)), groups * inner), (*spec.window, inner, groups * filters), groups)


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


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_weight_gradient_of_few_filters_is_an_adjoint_too(groups: int, dilation: int) -> None:
    # Its products are cut by the kernel's rows, of 16 to 64 numbers; smaller and larger ones are whole.
    for inner in (5, 6, 21, 22):
        spec = Spec((2, 3), dilation=(dilation, 1), padding=1)
        x, weight = gaussian((40, 6, 5, groups * inner), np.float64), gaussian((2, 3, inner, groups * 4), np.float64)
        geo = spec.on(x)
        y = references.conv2d(x, weight, spec, groups)
        dy = gaussian(y.shape, np.float64, "dy")
        dweight = conv.conv_weight_gradient(x, dy, geo, groups)
        tolerance = RTOL * np.linalg.norm(y) * np.linalg.norm(dy)
        assert abs(inner_product(y, dy) - inner_product(weight, dweight)) <= tolerance


@given(convolutions())
def test_a_turned_convolution_gives_the_same_input_gradient(problem: Conv) -> None:
    x, weight = problem.arrays()
    geo = problem.spec.on(x)
    back = turned(geo)
    if back is None:
        assert geo.stride != (1, 1) or max(map(max, geo.padding)) > 0
        return
    dy = gaussian((len(x), *geo.out_size, weight.shape[3]), np.float64, "dy")
    dx = conv.conv_forward(dy, turned_kernel(weight, problem.groups), back, problem.groups)
    assert back.out_size == geo.in_size
    with mock.patch.object(conv, "turned", return_value=None):
        np.testing.assert_allclose(dx, conv.conv_input_gradient(dy, weight, geo, problem.groups), rtol=RTOL, atol=RTOL)


def convolution_and_gradients(problem: Conv) -> list[Array]:
    x, weight = problem.arrays()
    geo = problem.spec.on(x)
    dy = gaussian((len(x), *geo.out_size, weight.shape[3]), np.float64, "dy")
    return [
        conv.conv_forward(x, weight, geo, problem.groups, gaussian(weight.shape[3:], np.float64, "bias")),
        conv.conv_input_gradient(dy, weight, geo, problem.groups),
        conv.conv_weight_gradient(x, dy, geo, problem.groups),
    ]


@given(convolutions(), st.integers(1, 2))
def test_blocks_of_rows_do_not_change_the_result(problem: Conv, rows_per_block: int) -> None:
    whole = convolution_and_gradients(problem)
    x, _ = problem.arrays()
    geo = problem.spec.on(x)
    bytes_per_row = geo.window[1] * geo.out_size[1] * x.size // x.shape[2] * x.itemsize
    with mock.patch.object(conv, "_BLOCK_BYTES", rows_per_block * bytes_per_row):
        blocked = convolution_and_gradients(problem)
    for have, want in zip(blocked, whole, strict=True):
        np.testing.assert_allclose(have, want, rtol=RTOL, atol=RTOL, strict=True)


@settings(max_examples=200)
@given(convolutions())
def test_rows_that_share_a_product_give_the_same(problem: Conv) -> None:
    x, weight = problem.arrays()
    assert not shares_products(problem.spec.on(x), 1, weight.size)  # only those of a kernel that leaves the cache
    each = convolution_and_gradients(problem)
    with mock.patch.object(windows_module, "_LARGE", 0):
        assert shares_products(problem.spec.on(x), 1, weight.size)
        shared = convolution_and_gradients(problem)
    for have, want in zip(shared, each, strict=True):
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


# --- How the results lie in memory ----------------------------------------------------------------------------


@given(convolutions())
def test_images_are_made_by_rows(problem: Conv) -> None:
    x, weight = problem.arrays()
    geo = problem.spec.on(x)
    y = conv.conv_forward(x, weight, geo, problem.groups)
    assert rows(y).flags.c_contiguous
    assert rows(conv.conv_input_gradient(y, weight, geo, problem.groups)).flags.c_contiguous


@given(convolutions())
def test_images_may_lie_in_any_order(problem: Conv) -> None:
    x, weight = problem.arrays()
    geo = problem.spec.on(x)
    y = conv.conv_forward(x, weight, geo, problem.groups)
    dy = gaussian(y.shape, np.float64, "dy")
    results = [
        (
            conv.conv_forward(its_x, weight, geo, problem.groups),
            conv.conv_input_gradient(its_dy, weight, geo, problem.groups),
            conv.conv_weight_gradient(its_x, its_dy, geo, problem.groups),
        )
        for its_x, its_dy in ((x, dy), (by_rows(x), by_rows(dy)), (np.asfortranarray(x), dy[::-1][::-1]))
    ]
    for result in results[1:]:
        for have, want in zip(result, results[0], strict=True):
            np.testing.assert_allclose(have, want, rtol=RTOL, atol=RTOL, strict=True)


def by_rows(x: Array) -> Array:
    return images(np.ascontiguousarray(rows(x)))


@given(convolutions())
def test_results_never_lie_in_scratch_memory(problem: Conv) -> None:
    x, weight = problem.arrays()
    geo = problem.spec.on(x)
    y = conv.conv_forward(x, weight, geo, problem.groups)
    results = [y, conv.conv_input_gradient(y, weight, geo, problem.groups)]
    results.append(conv.conv_weight_gradient(x, y, geo, problem.groups))
    before = [result.copy() for result in results]
    for buffer in threads._scratch.buffers.values():
        buffer[...] = 255
    for have, want in zip(results, before, strict=True):
        np.testing.assert_array_equal(have, want)


def test_rows_and_images_are_each_others_inverse() -> None:
    x = gaussian((2, 3, 4, 5))
    assert rows(x).shape == (3, 5, 4, 2)
    assert rows(x)[1, 4, 2, 0] == x[0, 1, 2, 4]
    assert images(rows(x)).strides == x.strides
    assert np.shares_memory(images(rows(x)), x)


# --- Edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_batch(dtype: type) -> None:
    x, weight = np.zeros((0, 4, 4, 2), dtype), np.ones((3, 3, 2, 5), dtype)
    geo = Spec((3, 3), padding="same").on(x)
    dy = np.zeros((0, 4, 4, 5), dtype)
    np.testing.assert_array_equal(conv.conv_forward(x, weight, geo), dy, strict=True)
    np.testing.assert_array_equal(conv.conv_input_gradient(dy, weight, geo), x, strict=True)
    np.testing.assert_array_equal(conv.conv_weight_gradient(x, dy, geo), np.zeros_like(weight), strict=True)
