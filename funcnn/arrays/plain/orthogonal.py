"""The nearest orthogonal matrix, nearly, by products alone: what Muon makes of a gradient."""

from funcnn.arrays.orthogonal import QUINTIC
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["newton_schulz"]


def newton_schulz(matrix: Array, steps: int) -> Array:
    """U Vᵀ of a matrix U Σ Vᵀ, but for singular values between about 0.7 and 1.2."""
    xp, (a, b, c) = module_of(matrix), QUINTIC
    norm = xp.maximum(xp.sqrt((matrix * matrix).sum()), matrix.dtype.type(1e-7))
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / norm
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x  # type: ignore[no-any-return]
