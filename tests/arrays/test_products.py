"""Products with a vector: their values, and no warning of what happens to lie in memory."""

import ctypes
import sys
import warnings
from functools import partial

import numpy as np
import pytest
from cases import gaussian

from funcnn.arrays.products import matmul, times_vector, whole
from funcnn.arrays.threads import run, single_blas_thread

WORDS = 2**14


class _Large(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint32 * WORDS)]


def leave_signalling_nans() -> None:
    """On the stack, where a call by value has copied them: what multiplies them sets the flag of an invalid value."""
    call = ctypes.CDLL(None).abs
    call.argtypes = [ctypes.c_int, _Large]
    call(1, _Large((ctypes.c_uint32 * WORDS)(*[0x7F800001] * WORDS)))


@pytest.mark.skipif(sys.platform != "linux", reason="a call by value of 64 KiB, as Linux does it")
@pytest.mark.parametrize("k", range(1, 10))
def test_a_product_with_a_vector_warns_of_nothing(k: int) -> None:
    for m in range(1, 12):
        x, vector = gaussian((m, k), np.float32, "x"), gaussian((k,), np.float32, "vector")
        wanted = (x.astype(np.float64) * vector).sum(axis=1)
        products = (
            partial(times_vector, x, vector),
            partial(matmul, x, vector[:, None]),
            partial(matmul, x, vector[:, None], np.empty((m, 1), np.float32)),
            partial(matmul, vector[None], x.T),
        )
        for product in products:
            leave_signalling_nans()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                made = product().reshape(-1)
            np.testing.assert_allclose(made, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_whole_products_are_blas_s_own_in_every_task(turned: bool) -> None:
    a, b = gaussian((301, 257), np.float64, "a"), gaussian((257, 311), np.float64, "b")
    if turned:
        a, b = np.asfortranarray(a), np.asfortranarray(b)
    with single_blas_thread():
        product = a @ b
    with whole(True):
        for made in run([partial(matmul, a, b)] * 3):
            np.testing.assert_array_equal(made, product, strict=True)
    np.testing.assert_allclose(matmul(a, b), product, rtol=0, atol=1e-12)
