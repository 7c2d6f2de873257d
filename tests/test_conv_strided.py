"""The plain convolution against loops over pixels. The fast forms are held against it (tests/arrays)."""

import numpy as np
import references
from cases import gaussian
from draws import Conv, convolutions
from hypothesis import given, settings
from references import Spec

from funcnn import conv_strided as conv


@settings(max_examples=200)
@given(convolutions(many=5))
def test_convolution_and_its_gradients_are_loops_over_pixels(problem: Conv) -> None:
    x, weight, bias, dy = problem.arrays()
    y = references.conv2d(x, weight, problem.spec, problem.groups) + bias
    problem.check((y, *references.conv2d_gradients(x, weight, dy, problem.spec, problem.groups)), 2e-15)
    results = problem.by(conv, np.float32)
    assert {each.dtype for each in results} == {np.dtype(np.float32)}
    problem.check(results, 1e-6)


def test_windows_are_a_view() -> None:
    x = gaussian((2, 5, 7, 3))
    view = conv.windows(x, Spec((2, 3)).on(x))
    assert np.shares_memory(view[:, 0, 0, 1, 2], view[:, 1, 2, 0, 0])  # the same pixel in two windows
    assert np.shares_memory(view, conv._split(view, 3))
    np.testing.assert_array_equal(view[:, 1, 4, 0, 2], x[:, 1, 6])


def test_the_kernel_is_not_flipped() -> None:
    x = np.zeros((1, 3, 3, 1))
    x[0, 0, 2, 0] = 1.0
    weight = np.arange(9.0).reshape(3, 3, 1, 1)
    assert conv.conv_forward(x, weight, Spec((3, 3)).on(x)).item() == weight[0, 2, 0, 0]


def test_no_argument_is_written_to() -> None:
    problem = Conv(Spec((2, 2)), (2, 3, 3, 2), (2, 2, 2, 3), 1)
    x, weight, bias, dy = arrays = problem.arrays()
    for each in arrays:
        each.flags.writeable = False
    conv.conv_forward(x, weight, problem.spec.on(x), 1, bias)
    conv.conv_weight_gradient(x, dy, problem.spec.on(x))
    dx = conv.conv_input_gradient(dy, weight, problem.spec.on(x))
    assert dx.flags.c_contiguous
    assert dx.base is None


def test_an_empty_batch() -> None:
    problem = Conv(Spec((3, 3), padding="same"), (0, 4, 4, 2), (3, 3, 2, 5), 1)
    y, dweight, dx = problem.by(conv, np.float32)
    assert (y.shape, dx.shape, y.dtype) == ((0, 4, 4, 5), (0, 4, 4, 2), np.float32)
    np.testing.assert_array_equal(dweight, np.zeros((3, 3, 2, 5), np.float32), strict=True)
