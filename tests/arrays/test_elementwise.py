"""Fused elementwise: both routes give the formula's value and dtype, whatever the blocks."""

from unittest import mock

import numexpr
import numpy as np
import pytest
from cases import DTYPES, gaussian

from funcnn.arrays import elementwise
from funcnn.arrays.elementwise import BLOCK, fused, value_and_slope
from funcnn.arrays.threads import single_thread
from funcnn.layer import Array, Layer
from funcnn.layers import gelu, sigmoid, silu, tanh

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


# --- fused ----------------------------------------------------------------------------------------------------

EVERYWHERE, NOWHERE = 1, 2**62  # from how many elements on numexpr is used


@pytest.mark.parametrize("numexpr_from", [EVERYWHERE, NOWHERE], ids=["numexpr", "numpy"])
@every_dtype
def test_fused_takes_either_route_to_the_same_value(
    monkeypatch: pytest.MonkeyPatch, numexpr_from: int, dtype: type
) -> None:
    monkeypatch.setattr(elementwise, "_NUMEXPR_FROM", numexpr_from)
    x, y = gaussian((4, 5), dtype, "x"), gaussian((4, 5), dtype, "y")
    with mock.patch.object(numexpr, "evaluate", wraps=numexpr.evaluate) as evaluate:
        result = fused("a * x + y / (1 + x * x) - 3 * b", x=x, y=y, a=0.1, b=0.7)
    assert evaluate.called == (numexpr_from == EVERYWHERE)
    expected = dtype(0.1) * x + y / (1 + x * x) - 3 * dtype(0.7)
    np.testing.assert_allclose(result, expected, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps, strict=True)


@pytest.mark.parametrize("numexpr_from", [EVERYWHERE, NOWHERE], ids=["numexpr", "numpy"])
@pytest.mark.parametrize("number", [0.1, np.float64(0.1), 2], ids=repr)
def test_fused_casts_numbers_to_the_arrays_dtype(
    monkeypatch: pytest.MonkeyPatch, numexpr_from: int, number: float
) -> None:
    monkeypatch.setattr(elementwise, "_NUMEXPR_FROM", numexpr_from)
    x = gaussian((4,), np.float32)
    np.testing.assert_array_equal(fused("a * x", a=number, x=x), np.float32(number) * x, strict=True)


@pytest.mark.parametrize("numexpr_from", [EVERYWHERE, NOWHERE], ids=["numexpr", "numpy"])
def test_fused_gives_a_new_array(monkeypatch: pytest.MonkeyPatch, numexpr_from: int) -> None:
    monkeypatch.setattr(elementwise, "_NUMEXPR_FROM", numexpr_from)
    x, y = np.ones(6), np.ones((3, 2)).T.reshape(-1)
    result = fused("x + y", x=x, y=y)
    assert result.flags.writeable
    assert not any(np.shares_memory(result, each) for each in (x, y))


@pytest.mark.parametrize("layer", [sigmoid(), tanh(), silu(), gelu()], ids=str)
@every_dtype
def test_activations_of_large_arrays_equal_those_of_small_ones(
    monkeypatch: pytest.MonkeyPatch, layer: Layer, dtype: type
) -> None:
    x, dy = 5 * gaussian((7, 9), dtype, "x"), gaussian((7, 9), dtype, "dy")

    def forward_and_backward(numexpr_from: int) -> tuple[Array, Array]:
        monkeypatch.setattr(elementwise, "_NUMEXPR_FROM", numexpr_from)
        y, _, residuals = layer.apply(None, None, x, train=True)
        return y, layer.backward(None, residuals, dy).dx

    for large, small in zip(forward_and_backward(EVERYWHERE), forward_and_backward(NOWHERE), strict=True):
        np.testing.assert_allclose(large, small, rtol=0, atol=8 * np.finfo(dtype).eps, strict=True)


# --- value_and_slope ------------------------------------------------------------------------------------------


def square(x: Array, y: Array, slope: Array | None) -> None:
    assert x.shape == y.shape
    np.square(x, out=y)
    if slope is not None:
        assert slope.shape == x.shape
        np.multiply(x, 2, out=slope)


LARGE = gaussian((3, BLOCK // 2, 2))


@pytest.mark.parametrize(
    "x",
    [gaussian((5, 3)), np.ones(()), np.ones((0, 4)), LARGE, np.asfortranarray(LARGE), LARGE[:, ::2], LARGE[::-1],
     np.broadcast_to(LARGE[0], LARGE.shape), LARGE.astype(np.float16), LARGE.astype(np.float32)],
    ids=["small", "number", "empty", "large", "fortran", "gaps", "backwards", "repeated", "float16", "float32"],
)  # fmt: skip
def test_a_value_and_its_slope_in_any_layout(x: Array) -> None:
    y, slope = value_and_slope(square, x, slope=True)
    np.testing.assert_array_equal(y, np.square(x.astype(np.float64)).astype(x.dtype), strict=True)
    np.testing.assert_array_equal(slope, 2 * x, strict=True)
    alone, none = value_and_slope(square, x, slope=False)
    assert none is None
    np.testing.assert_array_equal(alone, y, strict=True)
    with single_thread():
        again = value_and_slope(square, x, slope=True)
    np.testing.assert_array_equal(again, (y, slope))
