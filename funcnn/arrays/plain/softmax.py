"""Rows of scores as the logarithms of probabilities and these themselves, and the cross-entropy of class numbers."""

import numpy as np

from funcnn.arrays.seam import faster
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["cross_entropy_rows", "log_softmax_rows", "own_places"]


def log_softmax_rows(rows: Array) -> tuple[Array, Array]:
    """log p and p = softmax of each row, (m, classes) -> two of (m, classes), new arrays."""
    kernels = faster("losses", rows)
    if kernels:
        return kernels.log_softmax_rows(rows)  # type: ignore[no-any-return]
    xp = module_of(rows)
    log_p = rows - rows.max(axis=1, keepdims=True)
    p = xp.exp(log_p)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    log_p -= xp.log(total)
    return log_p, p


def own_places(rows: Array, numbers: Array) -> tuple[Array, Array]:
    """Where each row's own number is in the flat array, and what is there: NaN for a number that is none of its."""
    xp, (m, classes) = module_of(rows), rows.shape
    known = (numbers >= 0) & (numbers < classes)  # to look would make the host wait
    places = xp.arange(0, m * classes, classes) + xp.where(known, numbers, 0)
    return places, xp.where(known, rows.reshape(-1)[places], rows.dtype.type(np.nan))


def cross_entropy_rows(rows: Array, numbers: Array, smoothing: float) -> tuple[tuple[tuple[float, Array], ...], Array]:
    """The terms of each row as (factor, array) to add up, and their slopes."""
    kernels = faster("losses", rows, numbers)
    if kernels:
        terms, slopes = kernels.cross_entropy(rows, numbers, smoothing=smoothing)
        return ((1.0, terms),), slopes
    log_p, p = log_softmax_rows(rows)
    on, off = 1 - smoothing, smoothing / p.shape[1]
    own, each = own_places(log_p, numbers)
    p.reshape(-1)[own] -= on
    return ((-on, each), (-off, log_p)), p - p.dtype.type(off)
