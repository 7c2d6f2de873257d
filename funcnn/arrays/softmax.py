"""Rows of scores as the logarithms of probabilities and these themselves."""

import numpy as np

from funcnn.arrays.seam import tuned
from funcnn.tree import Array

__all__ = ["cross_entropy_rows", "log_softmax_rows", "own_places"]


@tuned
def log_softmax_rows(rows: Array) -> tuple[Array, Array]:
    """log p and p = softmax of each row, (m, classes) -> two of (m, classes), new arrays.

    >>> log_p, p = log_softmax_rows(np.array([[0.0, 0.0]]))
    >>> p
    array([[0.5, 0.5]])
    """
    log_p = rows - np.maximum.reduce(rows, axis=1, keepdims=True)
    p = np.exp(log_p)
    total = np.add.reduce(p, axis=1, keepdims=True)
    p /= total
    log_p -= np.log(total, out=total)
    return log_p, p


@tuned
def own_places(rows: Array, numbers: Array) -> tuple[Array, Array]:
    """Where each row's own number is in the flat array (of one index, twice as fast as of two), and what is there.

    >>> own_places(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
    (array([1, 2]), array([2., 3.]))
    """
    m, classes = rows.shape
    places = np.arange(0, m * classes, classes) + numbers
    return places, rows.reshape(-1)[places]


@tuned
def cross_entropy_rows(rows: Array, numbers: Array, smoothing: float) -> tuple[tuple[tuple[float, Array], ...], Array]:
    """-Σ_c t[c] · log softmax(row)[c] of each row as (factor, array) to add up, and p - t, t one-hot and smoothed.

    >>> ((factor, log_p),), slopes = cross_entropy_rows(np.array([[0.0, 0.0]]), np.array([0]), 0.0)
    >>> round(float(factor * log_p[0]), 4), slopes
    (0.6931, array([[-0.5,  0.5]]))
    """
    log_p, p = log_softmax_rows(rows)
    on, off = 1 - smoothing, smoothing / p.shape[1]
    own, each = own_places(log_p, numbers)
    p.reshape(-1)[own] -= on
    if not smoothing:
        return ((-on, each),), p
    p -= off
    return ((-on, each), (-off, log_p)), p
