"""Sums and means with weights, of which losses and metrics are made; on a device they stay there, as arrays ()."""

import math
from typing import Any

import numpy as np

from funcnn.arrays.seam import tuned
from funcnn.system.devices import is_device_array, module_of
from funcnn.tree import Array

__all__ = ["along", "count_of", "larger", "product_where", "ratio", "root", "scale_slopes", "total_of", "trust"]


@tuned
def total_of(array: Array) -> float:
    """The sum of all numbers, in float64.

    >>> total_of(np.ones((2, 2), np.float32))
    4.0
    """
    return float(np.add.reduce(array, axis=None, dtype=np.float64))  # what `sum` calls, after a microsecond


@tuned
def count_of(right: Array) -> float:
    """How many of an array of booleans are true.

    >>> count_of(np.array([True, False, True]))
    2.0
    """
    return float(np.count_nonzero(right))


def ratio(value: Any, weight: Any) -> Any:
    """value / weight, or 0 where the weight is 0, of numbers or of arrays () on a device.

    >>> ratio(3.0, 2.0), ratio(3.0, 0.0)
    (1.5, 0.0)
    """
    if is_device_array(weight):
        xp = module_of(weight)
        return xp.where(weight == 0, 0.0, value / xp.where(weight == 0, 1.0, weight))
    return value / weight if weight else 0.0


def root(value: Any) -> Any:
    """The square root of a number, or of an array () on a device.

    >>> root(4.0)
    2.0
    """
    return module_of(value).sqrt(value) if is_device_array(value) else math.sqrt(value)


def larger(value: Any, least: float) -> Any:
    """A number, or an array () on a device, but at least so much.

    >>> larger(0.5, 1.0)
    1.0
    """
    return module_of(value).maximum(value, least) if is_device_array(value) else max(value, least)


def trust(one: Any, other: Any) -> Any:
    """one / other, or 1 where either is 0, of numbers or of arrays () on a device.

    >>> trust(1.0, 2.0), trust(0.0, 2.0)
    (0.5, 1.0)
    """
    if is_device_array(other):
        xp = module_of(other)
        return xp.where((one == 0) | (other == 0), 1.0, one / xp.where(other == 0, 1.0, other))
    return one / other if one and other else 1.0


@tuned
def product_where(chosen: Array, a: Array, b: Array) -> Array:
    """a · b where chosen, 0 elsewhere, whatever is there; in the dtype of b.

    >>> product_where(np.array([True, False]), np.array([2.0, 0.0]), np.array([3.0, np.inf]))
    array([6., 0.])
    """
    return np.multiply(a, b, where=chosen, out=np.zeros_like(b), casting="same_kind")


@tuned
def scale_slopes(slopes: Array, factor: float, scale: Array | None) -> Array:
    """The slopes times a factor and their terms' weights, in place; 0 for a factor or a weight of 0, whatever is there.

    >>> scale_slopes(np.array([1.0, np.nan]), 2.0, np.array([1.0, 0.0]))
    array([2., 0.])
    """
    if factor == 0:
        slopes[...] = 0
        return slopes
    if scale is None:
        slopes *= factor
        return slopes
    if not scale.all():
        without = scale == 0
        while without.ndim > 1 and without.shape[-1] == 1:  # by whole examples, if it is by examples
            without = without[..., 0]
        slopes[without] = 0
    slopes *= (along(scale, slopes.ndim) * factor).astype(slopes.dtype)
    return slopes


def along(weights: Array, ndim: int) -> Array:
    """Weights with the terms' number of axes, the missing ones of size 1."""
    return weights.reshape(weights.shape + (1,) * (ndim - weights.ndim))
