"""What all losses share: each computes its terms and their slopes, and `reduce` makes the mean of them, or the sum.

A term belongs to an example, or to a position of a sequence or an image; its slopes are its derivatives in the outputs.
The plain mean goes first and alone, since every step of training takes it: one sum, and one pass over the slopes.
"""

import math
from typing import Any

import numpy as np

from funcnn.checks import as_array
from funcnn.settings import refuse
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
        for times, array in terms:  # what `sum` calls, after a microsecond
            total += times * float(np.add.reduce(array, axis=None, dtype=np.float64))
        slopes *= factor / size
        return total / size, slopes
    given = None if weights is None else _along(check_weights(place, weights, shape), len(shape))
    own, norms = (None if each is None else each.reshape(shape) for each in (own, norms))
    scale = given if own is None else own if given is None else own * given
    each_term = _weighed(_each(terms, shape), scale)
    if reduction == "none":
        return each_term.astype(slopes.dtype), _scaled(slopes, factor, scale)
    value = float(each_term.sum())
    if reduction == "sum":
        return value, _scaled(slopes, factor, scale)
    counted = np.asarray(1.0 if scale is None else scale)
    if norms is not None:
        counted = counted * norms
    weight = float(counted.sum())
    total = weight * (each_term.size // counted.size)  # of weights for several terms each
    if total == 0:
        slopes[...] = 0
        return 0.0, slopes, 0.0
    return value / total, _scaled(slopes, factor / total, scale), weight


def check_weights(place: str, weights: Any, shape: tuple[int, ...]) -> Array:
    """Weights as an array of float64; raises ValueError unless their shape is the beginning of another."""
    array = as_array(place, "weights", weights)
    if array.ndim == 0 or array.shape != shape[: array.ndim]:
        every = f", or one for each position, {shape}" if len(shape) > 1 else ""
        raise ValueError(
            f"{place}: expected weights of shape {shape[:1]}, one for each example{every}, got {array.shape}"
        )
    if not (array.min() >= 0 and array.max() < math.inf):
        raise ValueError(
            f"{place}: weights must be finite and not negative, got {array.min()} to {array.max()}. "
            "Weigh by 0 what is not to count"
        )
    return array.astype(np.float64)


def _along(weights: Array, ndim: int) -> Array:
    """Weights with the terms' number of axes, the missing ones of size 1."""
    return weights.reshape(weights.shape + (1,) * (ndim - weights.ndim))


def _each(terms: tuple[Addend, ...], shape: tuple[int, ...]) -> Array:
    """Each term by itself, in float64."""
    made = np.zeros(shape)
    for factor, array in terms:
        made += factor * array.reshape(*shape, -1).sum(axis=-1, dtype=np.float64)
    return made


def _weighed(terms: Array, scale: Array | None) -> Array:
    """The terms times their weights; 0 for a weight of 0, also where a term is not finite."""
    if scale is None:
        return terms
    return np.multiply(terms, scale, where=scale > 0, out=np.zeros_like(terms))


def _scaled(slopes: Array, factor: float, scale: Array | None) -> Array:
    """The slopes times a factor and their terms' weights, in place; 0 for a weight of 0."""
    if scale is None:
        slopes *= factor
        return slopes
    if not scale.all():
        without = scale == 0
        while without.ndim > 1 and without.shape[-1] == 1:  # by whole examples, if it is by examples
            without = without[..., 0]
        slopes[without] = 0
    slopes *= (_along(scale, slopes.ndim) * factor).astype(slopes.dtype)
    return slopes
