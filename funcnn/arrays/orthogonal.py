"""The nearest orthogonal matrix, nearly, by products alone: what Muon makes of a gradient."""

import math

import numpy as np

from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import single_blas_thread
from funcnn.arrays.updates import squared_norm
from funcnn.tree import Array

__all__ = ["QUINTIC", "newton_schulz"]

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: steepest at zero, and bounded by about 1.2 for singular values up to 1


@tuned
def newton_schulz(matrix: Array, steps: int) -> Array:
    """U Vᵀ of a matrix U Σ Vᵀ, but for singular values between about 0.7 and 1.2.

    X ← a X + (b A + c A²) X with A = X Xᵀ, so many times, from X = matrix / ‖matrix‖.

    >>> turned = newton_schulz(np.diag([3.0, 0.5]), 5)
    >>> turned[0, 1], (np.diag(turned) > 0.6).all(), (np.diag(turned) < 1.3).all()
    (np.float64(0.0), np.True_, np.True_)
    """
    a, b, c = QUINTIC
    norm = max(math.sqrt(squared_norm(matrix)), 1e-7)
    tall = matrix.shape[0] > matrix.shape[1]
    x: Array = np.ascontiguousarray(matrix.T if tall else matrix) / matrix.dtype.type(norm)
    with single_blas_thread():  # so that no bit depends on the number of threads
        for _ in range(steps):
            gram = x @ x.T
            mixed = gram @ gram
            mixed *= c
            gram *= b
            mixed += gram
            product = mixed @ x
            x *= a
            x += product
    return x.T if tall else x
