"""Products of few rows and many columns: cut or whole, they are the same."""

from unittest import mock

import numpy as np
import pytest
from cases import gaussian

from funcnn.arrays import conv_products, threads
from funcnn.arrays.conv_products import multiply

# rows, depth, columns; those that are cut: 192 + 192 + 64, 64 · 6, a part of 32 columns
CUT = [(32, 147, 448), (17, 448, 384), (96, 320, 96), (16, 144, 896)]
WHOLE = [(4, 9, 96), (32, 147, 440), (16, 449, 896), (128, 448, 896), (0, 147, 448), (32, 0, 448), (32, 147, 0)]


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """As on a processor for which it pays; counts the cuts."""
    monkeypatch.setattr(conv_products, "_multiplies_in_place", lambda dtype: dtype == "f")
    spy = mock.Mock(wraps=conv_products._cut)
    monkeypatch.setattr(conv_products, "_cut", spy)
    return spy


@pytest.mark.parametrize(("m", "k", "n"), CUT + WHOLE)
def test_it_is_the_product(cuts: mock.Mock, m: int, k: int, n: int) -> None:
    a, b = gaussian((2, 1, m, k), np.float32, "a"), gaussian((2, 3, k, n), np.float32, "b")
    out = np.full((2, 3, m, n), np.nan, np.float32)
    multiply(a, b, out)
    size = np.abs(a).astype(float) @ np.abs(b).astype(float)
    np.testing.assert_array_less(abs(out - a.astype(float) @ b.astype(float)), 1e-5 * size + 1e-30)
    assert bool(cuts.called) == ((m, k, n) in CUT)


def test_float64_is_never_cut(cuts: mock.Mock) -> None:
    a, b, out = gaussian((16, 144)), gaussian((144, 896)), np.empty((16, 896))
    multiply(a, b, out)
    np.testing.assert_array_equal(out, a @ b)
    assert not cuts.called


@pytest.mark.skipif(not conv_products._multiplies_in_place("f"), reason="BLAS has no kernels for small products here")
@pytest.mark.parametrize(("m", "k", "n"), CUT)
def test_no_bit_changes(m: int, k: int, n: int) -> None:
    a, b, out = gaussian((m, k), np.float32, "a"), gaussian((k, n), np.float32, "b"), np.empty((m, n), np.float32)
    with threads.single_blas_thread():
        multiply(a, b, out)
        np.testing.assert_array_equal(out, a @ b)


def test_operands_may_be_overlapping_views_and_parts(cuts: mock.Mock) -> None:
    rows, kernel = gaussian((5, 70 * 448), np.float32, "rows"), gaussian((32, 140), np.float32, "kernel")
    windows = np.lib.stride_tricks.as_strided(rows, (4, 140, 448), (rows.strides[0], 448 * 4, 4), writeable=False)
    out = np.zeros((4, 2, 32, 448), np.float32)[:, 1]
    multiply(kernel, windows, out)
    np.testing.assert_allclose(out, kernel @ windows.copy(), rtol=0, atol=1e-3)
    assert cuts.called
