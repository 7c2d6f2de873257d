"""Masks, drawn on the host, on a device's arrays."""

from funcnn.arrays.layout import contiguous
from funcnn.arrays.seam import faster
from funcnn.tree import Array

__all__ = ["masked"]


def masked(x: Array, mask: Array, factor: float) -> Array:
    """x · mask · factor, the mask of booleans of x's shape."""
    kernels = faster("elementwise", x)
    if kernels:
        return kernels.masked(x, contiguous(mask), factor)  # type: ignore[no-any-return]
    return x * mask * x.dtype.type(factor)  # type: ignore[no-any-return]
