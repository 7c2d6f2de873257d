"""The depthwise convolution against the plain one."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from draws import Conv, by_rows, convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn.arrays import conv_depthwise as conv
from funcnn.arrays import threads
from funcnn.arrays.layout import rows
from funcnn.layer import Shape

RTOL = 1e-14
FLOAT32 = 1e-6


@st.composite
def depthwise(draw: st.DrawFn) -> Conv:
    """Settings of every kind, two or three channels."""
    problem = draw(convolutions())
    groups = draw(st.integers(2, 3))
    x_shape, (kh, kw, *_) = problem.x_shape, problem.weight_shape
    return Conv(problem.spec, (*x_shape[:3], groups), (kh, kw, 1, groups), groups)


@settings(max_examples=300)
@given(depthwise())
def test_it_is_the_plain_convolution(problem: Conv) -> None:
    assert conv.fits(problem.arrays()[1], problem.groups)
    problem.check(problem.by(conv), RTOL)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("padding", ["valid", "same", 2, ((2, 0), (0, 1)), ((0, 3), (4, 0))], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3), (3, 1)], ids=str)
def test_every_combination_of_settings(stride: Any, padding: Any, dilation: Any) -> None:
    for window in ((3, 3), (2, 3), (1, 1), (3, 1)):
        problem = Conv(Spec(window, stride, dilation, padding), (4, 9, 8, 5), (*window, 1, 5), 5)
        problem.check(problem.by(conv), RTOL)
        problem.check(problem.by(conv, np.float32), FLOAT32)


@pytest.mark.parametrize("shape", [(8, 28, 28, 8), (3, 7, 6, 16), (1, 5, 5, 3)], ids=str)
def test_blocks_of_channels_do_not_change_the_result(shape: Shape) -> None:
    problem = Conv(Spec((3, 3), padding=1), shape, (3, 3, 1, shape[3]), shape[3])
    whole = problem.by(conv, np.float32)
    problem.check(whole, FLOAT32)
    with mock.patch.object(conv, "_BLOCK_BYTES", 1):
        for have, want in zip(problem.by(conv, np.float32), whole, strict=True):
            np.testing.assert_array_equal(have, want, strict=True)


def test_the_number_of_threads_changes_no_bit() -> None:
    problem = Conv(Spec((3, 3), (1, 2), padding=1), (32, 56, 56, 24), (3, 3, 1, 24), 24)  # two tasks
    before, results = threads.threads(), []
    try:
        for count in (1, 2):
            threads.set_threads(count)
            results.append(problem.by(conv, np.float32))
    finally:
        threads.set_threads(before)
    for have, want in zip(*results, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


@pytest.mark.parametrize(
    ("weight_shape", "groups", "expected"),
    [((3, 3, 1, 4), 4, True), ((3, 3, 1, 8), 4, False), ((3, 3, 2, 4), 4, False), ((3, 3, 1, 1), 1, False)],
)
def test_what_it_is_for(weight_shape: Shape, groups: int, expected: bool) -> None:
    assert conv.fits(np.ones(weight_shape), groups) == expected


@given(depthwise())
def test_images_are_made_by_rows_and_may_lie_in_any_order(problem: Conv) -> None:
    x, weight, bias, dy = problem.arrays()
    geo, groups = problem.spec.on(x), problem.groups
    for its_x, its_dy in ((x, dy), (by_rows(x), by_rows(dy)), (np.asfortranarray(x), dy[::-1][::-1])):
        y = conv.conv_forward(its_x, weight, geo, groups, bias)
        dweight = conv.conv_weight_gradient(its_x, its_dy, geo, groups)
        dx = conv.conv_input_gradient(its_dy, weight, geo, groups)
        problem.check((y, dweight, dx), RTOL)
        assert rows(y).flags.c_contiguous
        assert rows(dx).flags.c_contiguous


@given(depthwise())
def test_results_never_lie_in_scratch_memory(problem: Conv) -> None:
    problem.check_memory(conv)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_batch(dtype: type) -> None:
    for stride in ((1, 1), (2, 2)):
        problem = Conv(Spec((3, 3), stride, padding="same"), (0, 4, 4, 2), (3, 3, 1, 2), 2)
        results = problem.by(conv, dtype)
        problem.check(results, 0)
        assert {each.dtype for each in results} == {np.dtype(dtype)}
