"""Sums and means with weights, as arrays () that stay on the device."""

from typing import Any

import numpy as np

from funcnn.arrays.weighing import along
from funcnn.system.devices import is_device_array, module_of
from funcnn.tree import Array

__all__ = ["count_of", "product_where", "scale_slopes", "total_of"]


def total_of(array: Array) -> Any:
    """The sum of all numbers, in float64."""
    return array.sum(dtype=np.float64)


def count_of(right: Array) -> Any:
    """How many of an array of booleans are true."""
    return right.sum(dtype=np.float64)


def product_where(chosen: Array, a: Array, b: Array) -> Array:
    """a · b where chosen, 0 elsewhere, whatever is there; in the dtype of b."""
    return module_of(b).where(chosen, a * b, 0.0).astype(b.dtype)  # type: ignore[no-any-return]


def scale_slopes(slopes: Array, factor: Any, scale: Array | None) -> Array:
    """The slopes times a factor and their terms' weights, in place; 0 for a factor or a weight of 0, whatever is there.

    A factor that is a number of the host's is not 0.
    """
    if scale is None and not is_device_array(factor):
        slopes *= factor
        return slopes
    weights = factor if scale is None else along(scale, slopes.ndim) * factor
    slopes *= weights.astype(slopes.dtype)
    slopes[...] = module_of(slopes).where(weights == 0, slopes.dtype.type(0), slopes)
    return slopes
