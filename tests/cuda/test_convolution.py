"""The GPU's convolutions, on a GPU or emulated, against `funcnn.conv_strided`."""

from unittest import mock

import numpy as np
import pytest
from draws import Conv, convolutions
from hypothesis import given, settings
from references import Spec

from funcnn.arrays.cuda import conv_few
from funcnn.arrays.geometry import geometry
from tests.cuda.device import OnDevice

pytestmark = pytest.mark.usefixtures("_there")
convolution = OnDevice("convolution")


def check(problem: Conv, dtype: type, rtol: float) -> None:
    x, weight, _, dy = [each.astype(dtype) for each in problem.arrays()]
    geo = problem.spec.on(x)
    for pair in ((x, weight), (x, dy), (dy, weight)):
        assert convolution.fits(*pair, geo, problem.groups)
    results = problem.by(convolution, dtype)
    assert {each.dtype for each in results} == {np.dtype(dtype)}
    problem.check(results, rtol)


@settings(max_examples=30)
@given(convolutions(many=20))
def test_it_is_the_plain_convolution(problem: Conv) -> None:
    # Without the form for few channels, which would be compiled for each; with few windows in a split.
    few = mock.patch.object(conv_few, "FEW_CHANNELS", 0), mock.patch.object(convolution.module, "LEAST_WINDOWS", 16)
    with few[0], few[1], mock.patch.object(conv_few, "LEAST_WINDOWS", 16):
        check(problem, np.float64, 1e-14)


# Of every tile and every way to load, and such that rows, columns and depth end inside a tile.
@pytest.mark.parametrize(
    ("spec", "x_shape", "filters", "groups"),
    [
        (Spec((3, 3), padding="same"), (2, 9, 10, 8), 12, 1),
        (Spec((3, 5), (2, 2), padding=2), (3, 12, 11, 6), 40, 1),
        (Spec((3, 3), dilation=(2, 2)), (2, 12, 12, 5), 70, 1),
        (Spec((3, 3), (2, 1), (1, 2), 1), (2, 12, 12, 8), 16, 2),
        (Spec((2, 1)), (2, 5, 5, 68), 24, 1),
        (Spec((1, 1)), (2, 5, 5, 6), 7, 1),
    ],
    ids=str,
)
def test_tiles(spec: Spec, x_shape: tuple[int, ...], filters: int, groups: int) -> None:
    weight_shape = *spec.window, x_shape[3] // groups, filters
    check(Conv(spec, x_shape, weight_shape, groups), np.float32, 3e-7)


@pytest.mark.parametrize("most", [16, 64, convolution.LARGEST], ids=str)
def test_large_tiles(most: int) -> None:
    large = {convolution.LARGEST: (convolution.FORWARD[most][0],) * 2}
    convolution.module._forward_launch.cache_clear()
    with mock.patch.object(convolution.module, "FORWARD", large):
        check(Conv(Spec((3, 3), padding="same"), (1, 13, 13, 8), (3, 3, 8, 20), 1), np.float32, 3e-7)


@pytest.mark.parametrize(
    ("spec", "x_shape", "filters", "dtype", "rtol"),
    [
        (Spec((5, 5)), (2, 12, 13, 1), 20, np.float32, 3e-7),
        (Spec((3, 3), (2, 2), (1, 2), "same"), (3, 14, 9, 3), 7, np.float64, 1e-14),
    ],
    ids=str,
)
def test_images_of_few_channels(spec: Spec, x_shape: tuple[int, ...], filters: int, dtype: type, rtol: float) -> None:
    check(Conv(spec, x_shape, (*spec.window, x_shape[3], filters), 1), dtype, rtol)


def test_a_transposed_convolution_has_its_bias_everywhere() -> None:
    geo, rng = geometry((7, 7), (1, 1), (2, 2), (1, 1), "valid"), np.random.default_rng(0)  # odd pixels lie under none
    dy, weight, bias = rng.standard_normal((2, 4, 4, 8)), rng.standard_normal((1, 1, 5, 8)), rng.standard_normal(5)
    without = convolution.conv_input_gradient(dy, weight, geo)
    np.testing.assert_array_equal(without[:, 1::2], 0)
    np.testing.assert_allclose(convolution.conv_input_gradient(dy, weight, geo, 1, bias), without + bias, atol=1e-14)


def test_what_is_not_for_the_kernels() -> None:
    geo, x, weight = geometry((5, 5), (3, 3), (1, 1), (1, 1), "valid"), np.ones((1, 5, 5, 4)), np.ones((3, 3, 4, 8))
    assert convolution.fits(x, weight, geo, 1)
    assert not convolution.fits(x.astype(np.float16), weight.astype(np.float16), geo, 1)
    assert not convolution.fits(x[:0], weight, geo, 1)
    assert not convolution.fits(x, weight.astype(np.float32), geo, 1)
    deep = np.ones((1, 5, 5, convolution.DEEP)), np.ones((3, 3, convolution.DEEP, convolution.DEEP))
    assert not convolution.fits(*deep, geo, 1)
    assert convolution.fits(*deep, geo, convolution.DEEP)
