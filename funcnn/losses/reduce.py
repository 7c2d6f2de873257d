"""What all losses share: each computes its terms and their slopes, and `reduce` makes the mean of them, or the sum.

A term belongs to an example, or to a position of a sequence or an image; its slopes are its derivatives in the outputs.
The plain mean goes first and alone, since every step of training takes it: one sum, and one pass over the slopes.
"""

import math
from typing import Any

import numpy as np

from funcnn.arrays.weighing import along, product_where, ratio, scale_slopes, total_of
from funcnn.checks import as_array
from funcnn.settings import refuse
from funcnn.system.devices import is_device_array
from funcnn.tree import Array

__all__ = ["Addend", "Result", "check_weights", "reduce"]

# (value, d_outputs), and as a third the sum of the weights where the mean is over weights.
Result = tuple[Any, ...]


# factor · array, a part of the terms: the array's first axes are the terms' shape, what lies within is to be added up.
Addend = tuple[float, Array]


def reduce(
    place: str,
    terms: tuple[Addend, ...],
    slopes: Array,
    shape: tuple[int, ...],
    weights: Any = None,
    reduction: str = "mean",
    *,
    factor: float = 1.0,
    own: Array | None = None,
    norms: Array | None = None,
) -> Result:
    """The mean Σ w · term / Σ w · norm of the terms, a sum of addends, and its slopes; or the sum; or each term.

    `shape` is that of the terms, the leading axes of the outputs. `slopes` is a new array of the outputs' shape, to be
    multiplied by `factor`, which spares a pass. The weights w are the user's `weights`, whose shape is the beginning of
    the terms', one number for all terms of an example or position, times the loss's `own`, one for each term: 0 for a
    label that is ignored. `norms` are what terms count in the mean if not 1: class weights, which are in them already.

    Plain, the mean is (value, d_outputs); with weights of any kind (value, d_outputs, weight), weight the sum of the
    weights: where it is 0, so are the value and d_outputs. ``"sum"`` gives (value, d_outputs), ``"none"`` (terms, their
    slopes).

    >>> terms, slopes = np.array([1.0, 4.0]), np.array([2.0, 4.0])
    >>> reduce("here", ((1.0, terms),), slopes, (2,), np.array([3, 1]))
    (1.75, array([1.5, 1. ]), 4.0)

    Raises ValueError for weights of another shape, negative or not finite, and another reduction.
    """
    if type(reduction) is not str or reduction not in ("mean", "sum", "none"):
        refuse(place, "reduction", "'mean', 'sum' or 'none'", reduction)
    if weights is None and own is None and norms is None and reduction == "mean":
        size = math.prod(shape)
        total = 0.0
        for times, array in terms:
            total += times * total_of(array)
        slopes *= factor / size
        return total / size, slopes
    given = None if weights is None else along(check_weights(place, weights, shape), len(shape))
    own, norms = (None if each is None else each.reshape(shape) for each in (own, norms))
    scale = given if own is None else own if given is None else own * given
    each_term = _weighed(_each(terms, shape), scale)
    if reduction == "none":
        return each_term.astype(slopes.dtype), scale_slopes(slopes, factor, scale)
    value = total_of(each_term)
    if reduction == "sum":
        return value, scale_slopes(slopes, factor, scale)
    counted: Any = scale if norms is None else norms if scale is None else scale * norms
    weight = total_of(counted)
    total = weight * (each_term.size // counted.size)  # of weights for several terms each
    return ratio(value, total), scale_slopes(slopes, ratio(factor, total), scale), weight


def check_weights(place: str, weights: Any, shape: tuple[int, ...]) -> Array:
    """Weights as an array of float64; raises ValueError unless their shape is the beginning of another."""
    array: Any = as_array(place, "weights", weights)
    if array.ndim == 0 or array.shape != shape[: array.ndim]:
        every = f", or one for each position, {shape}" if len(shape) > 1 else ""
        raise ValueError(
            f"{place}: expected weights of shape {shape[:1]}, one for each example{every}, got {array.shape}"
        )
    if not (is_device_array(array) or (array.min() >= 0 and array.max() < math.inf)):
        raise ValueError(
            f"{place}: weights must be finite and not negative, got {array.min()} to {array.max()}. "
            "Weigh by 0 what is not to count"
        )
    return array.astype(np.float64)  # type: ignore[no-any-return]


def _each(terms: tuple[Addend, ...], shape: tuple[int, ...]) -> Array:
    """Each term by itself, in float64."""
    each = [times * array.reshape(*shape, -1).sum(axis=-1, dtype=np.float64) for times, array in terms]
    return sum(each)  # type: ignore[no-any-return]  # from 0 on, so that no term is -0


def _weighed(terms: Array, scale: Array | None) -> Array:
    """The terms times their weights; 0 for a weight of 0, also where a term is not finite."""
    return terms if scale is None else product_where(scale > 0, scale, terms)
