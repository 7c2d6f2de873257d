"""The fast convolution against the plain one."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from draws import Conv, by_rows, convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn.arrays import conv_rows as conv
from funcnn.arrays.layout import rows
from funcnn.layer import Shape

RTOL = 1e-14
FLOAT32 = 1e-6


@settings(max_examples=200)
@given(convolutions())
def test_it_is_the_plain_convolution(problem: Conv) -> None:
    problem.check(problem.by(conv), RTOL)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("padding", ["valid", "same", 2, ((2, 0), (0, 1)), ((0, 3), (4, 0))], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3), (3, 1)], ids=str)
def test_every_combination_of_settings(stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    for window in ((3, 3), (2, 3), (1, 1), (3, 1)):
        for inner, filters in ((4, 2), (1, 3)):  # fewer filters than channels, and more
            spec = Spec(window, stride, dilation, padding)
            problem = Conv(spec, (4, 9, 8, groups * inner), (*window, inner, groups * filters), groups)
            problem.check(problem.by(conv), RTOL)
            problem.check(problem.by(conv, np.float32), FLOAT32)


# --- The ways that sizes choose -------------------------------------------------------------------------------


@settings(max_examples=200)
@given(convolutions(), st.integers(1, 2))
def test_blocks_of_rows_do_not_change_the_result(problem: Conv, rows_per_block: int) -> None:
    x, *_ = problem.arrays()
    geo = problem.spec.on(x)
    bytes_per_row = geo.window[1] * geo.out_size[1] * x.size // x.shape[2] * x.itemsize
    with mock.patch.object(conv, "_BLOCK_BYTES", rows_per_block * bytes_per_row):
        problem.check(problem.by(conv), RTOL)


@settings(max_examples=200)
@given(convolutions())
def test_rows_side_by_side_give_the_same(problem: Conv) -> None:
    # By themselves only those of a kernel that leaves the cache, on few and narrow images.
    with mock.patch.object(conv, "_LARGE", 0), mock.patch.object(conv, "_WIDE", 10**6):
        problem.check(problem.by(conv), RTOL)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("inner", [5, 6, 21, 22])
def test_a_weight_gradient_of_few_filters(inner: int, groups: int) -> None:
    # Its products are cut by the kernel's rows, where they have 16 to 64 numbers; smaller and larger ones are whole.
    for dilation in (1, 2):
        spec = Spec((2, 3), dilation=(dilation, 1), padding=1)
        problem = Conv(spec, (40, 6, 5, groups * inner), (2, 3, inner, groups * 4), groups)
        with mock.patch.object(conv, "_multiply_in_parts", wraps=conv._multiply_in_parts) as spy:
            problem.check(problem.by(conv), RTOL)
        assert {call.args[2] for call in spy.call_args_list} == {2 if inner in (6, 21) else 1}


@pytest.mark.parametrize(
    ("x_shape", "kernel"),
    [((20, 26, 26, 1), (5, 5, 1, 8)), ((4, 12, 11, 16), (3, 2, 16, 24)), ((1, 8, 8, 128), (3, 3, 128, 256))],
)
def test_sizes_as_in_nets(x_shape: Shape, kernel: Shape) -> None:
    problem = Conv(Spec(kernel[:2]), x_shape, kernel, 1)
    problem.check(problem.by(conv), RTOL)
    problem.check(problem.by(conv, np.float32), FLOAT32)


# --- How the results lie in memory ----------------------------------------------------------------------------


@given(convolutions())
def test_images_are_made_by_rows(problem: Conv) -> None:
    y, _, dx = problem.by(conv)
    assert rows(y).flags.c_contiguous
    assert rows(dx).flags.c_contiguous


@given(convolutions())
def test_images_may_lie_in_any_order(problem: Conv) -> None:
    x, weight, bias, dy = problem.arrays()
    geo, groups = problem.spec.on(x), problem.groups
    for its_x, its_dy in ((by_rows(x), by_rows(dy)), (np.asfortranarray(x), dy[::-1][::-1])):
        y = conv.conv_forward(its_x, weight, geo, groups, bias)
        dweight = conv.conv_weight_gradient(its_x, its_dy, geo, groups)
        problem.check((y, dweight, conv.conv_input_gradient(its_dy, weight, geo, groups)), RTOL)


@given(convolutions())
def test_results_never_lie_in_scratch_memory(problem: Conv) -> None:
    problem.check_memory(conv)


# --- Edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_batch(dtype: type) -> None:
    for stride in ((1, 1), (2, 2)):
        problem = Conv(Spec((3, 3), stride, padding="same"), (0, 4, 4, 2), (3, 3, 2, 5), 1)
        results = problem.by(conv, dtype)
        problem.check(results, 0)
        assert {each.dtype for each in results} == {np.dtype(dtype)}
