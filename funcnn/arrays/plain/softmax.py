"""Rows of scores as the logarithms of probabilities and these themselves."""

import numpy as np

from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["log_softmax_rows", "own_places"]


def log_softmax_rows(rows: Array) -> tuple[Array, Array]:
    """log p and p = softmax of each row, (m, classes) -> two of (m, classes), new arrays."""
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
