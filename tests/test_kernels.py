"""Fused kernels: both routes give the formula's value and dtype, whatever the blocks."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import numexpr
import numpy as np
import pytest
from cases import DTYPES, gaussian

from funcnn import kernels, tree
from funcnn.kernels import fused
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
    monkeypatch.setattr(kernels, "_NUMEXPR_FROM", numexpr_from)
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
    monkeypatch.setattr(kernels, "_NUMEXPR_FROM", numexpr_from)
    x = gaussian((4,), np.float32)
    np.testing.assert_array_equal(fused("a * x", a=number, x=x), np.float32(number) * x, strict=True)


@pytest.mark.parametrize("numexpr_from", [EVERYWHERE, NOWHERE], ids=["numexpr", "numpy"])
def test_fused_gives_a_new_array(monkeypatch: pytest.MonkeyPatch, numexpr_from: int) -> None:
    monkeypatch.setattr(kernels, "_NUMEXPR_FROM", numexpr_from)
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
        monkeypatch.setattr(kernels, "_NUMEXPR_FROM", numexpr_from)
        y, _, residuals = layer.apply(None, None, x, train=True)
        return y, layer.backward(None, residuals, dy).dx

    for large, small in zip(forward_and_backward(EVERYWHERE), forward_and_backward(NOWHERE), strict=True):
        np.testing.assert_allclose(large, small, rtol=0, atol=8 * np.finfo(dtype).eps, strict=True)


# --- The optimizers' kernels ----------------------------------------------------------------------------------
#
# The formulas of their docstrings, written out in float64.


def sgd(g: Array, leaf: Array) -> Array:
    return leaf - 0.1 * g


def momentum(g: Array, v: Array, leaf: Array, *, nesterov: bool) -> tuple[Array, Array]:
    new_v = 0.9 * v - 0.1 * g
    return leaf + (0.9 * new_v - 0.1 * g if nesterov else new_v), new_v


def rmsprop(g: Array, c: Array, leaf: Array) -> tuple[Array, Array]:
    new_c = 0.8 * c + 0.2 * g**2
    return leaf - 0.1 * g / (np.sqrt(new_c) + 1e-3), new_c


def adam(g: Array, m: Array, v: Array, leaf: Array, *, step: int, decay: float) -> tuple[Array, Array, Array]:
    new_m, new_v = 0.9 * m + 0.1 * g, 0.8 * v + 0.2 * g**2
    m_hat, v_hat = new_m / (1 - 0.9 ** (step + 1)), new_v / (1 - 0.8 ** (step + 1))
    return leaf - 0.1 * (m_hat / (np.sqrt(v_hat) + 1e-3) + decay * leaf), new_m, new_v


# name: (how many arrays it takes, the kernel, the formula)
KERNELS: dict[str, tuple[int, Callable[..., Any], Callable[..., Any]]] = {
    "sgd": (2, lambda *a: kernels.sgd(*a, 0.1), sgd),
    "momentum": (3, lambda *a: kernels.momentum(*a, 0.1, 0.9, False), lambda *a: momentum(*a, nesterov=False)),
    "nesterov": (3, lambda *a: kernels.momentum(*a, 0.1, 0.9, True), lambda *a: momentum(*a, nesterov=True)),
    "rmsprop": (3, lambda *a: kernels.rmsprop(*a, 0.1, 0.8, 1e-3), rmsprop),
    "adam at the first step": (
        4,
        lambda *a: kernels.adam(*a, 0.1, 0.9, 0.8, 1e-3, 0, 0.0),
        lambda *a: adam(*a, step=0, decay=0.0),
    ),
    "adam with decay": (
        4,
        lambda *a: kernels.adam(*a, 0.1, 0.9, 0.8, 1e-3, 6, 0.5),
        lambda *a: adam(*a, step=6, decay=0.5),
    ),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)


def leaves(name: str, shape: tuple[int, ...], dtype: type = np.float64) -> list[Array]:
    """A gradient, moments (positive, as squares are) and a parameter."""
    count = KERNELS[name][0]
    arrays = [gaussian(shape, dtype, i) for i in range(count)]
    return [arrays[0], *map(abs, arrays[1:-1]), arrays[-1]]


@every_kernel
@pytest.mark.parametrize("shape", [(13,), (3, 4, 2), (), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_a_kernel_computes_its_formula(name: str, shape: tuple[int, ...], dtype: type, rtol: float) -> None:
    _, kernel, formula = KERNELS[name]
    arrays = leaves(name, shape, dtype)
    new, expected = kernel(*arrays), formula(*(each.astype(np.float64) for each in arrays))
    for have, want in zip(tree.flatten(new), tree.flatten(expected), strict=True):
        assert (have.dtype, have.shape) == (dtype, shape)
        np.testing.assert_allclose(have, want, rtol=rtol, atol=rtol)


@every_kernel
def test_the_size_of_a_block_does_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _, kernel, _ = KERNELS[name]
    arrays = leaves(name, (5, 7), np.float32)
    results = []
    for block in (1, 4, 2**15):
        monkeypatch.setattr(kernels, "_BLOCK", block)
        results.append(kernel(*arrays))
    assert tree.equal(results[0], results[1])
    assert tree.equal(results[0], results[2])


@every_kernel
def test_memory_layout_does_not_matter(name: str) -> None:
    _, kernel, _ = KERNELS[name]
    arrays = leaves(name, (4, 6))
    assert tree.equal(kernel(*map(np.asfortranarray, arrays)), kernel(*arrays))


@every_kernel
def test_arguments_stay_and_results_are_read_only(name: str) -> None:
    _, kernel, _ = KERNELS[name]
    arrays = leaves(name, (5,))
    before = [each.copy() for each in arrays]
    for leaf in tree.flatten(kernel(*arrays)):
        assert not leaf.flags.writeable
        assert not any(np.shares_memory(leaf, each) for each in arrays)
    assert tree.equal(tuple(arrays), tuple(before))
