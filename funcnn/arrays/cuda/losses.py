"""Softmax cross-entropy on a GPU: terms and slopes in one launch; its equations are in funcnn.losses.classification."""

import numpy as np

from funcnn.arrays.cuda.kernels import FLOATS, LARGEST, blocks_for, kernel
from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["cross_entropy", "fits", "log_softmax_rows"]

ROWS = 8  # of a block, as in losses.cu


def fits(logits: Array, labels: Array | None = None) -> bool:
    """Whether the functions here are for logits (m, classes), and labels (m,), which have to be class numbers."""
    whole = logits.dtype.char in FLOATS and bool(logits.flags.c_contiguous) and 0 < logits.size <= LARGEST
    return whole and (labels is None or (labels.shape == logits.shape[:-1] and labels.dtype.kind in "iu"))


def log_softmax_rows(rows: Array) -> tuple[Array, Array]:
    """log p and p = softmax of each row, (m, classes) -> two of (m, classes)."""
    xp, (m, classes) = module_of(rows), rows.shape
    log_p, p = xp.empty(rows.shape, rows.dtype), xp.empty(rows.shape, rows.dtype)
    call = kernel("losses.cu", "log_softmax", rows.dtype.char)
    call((blocks_for(m, ROWS),), (32, ROWS), (rows, log_p, p, np.int32(m), np.int32(classes)))
    return log_p, p


def cross_entropy(logits: Array, labels: Array, *, smoothing: float = 0.0) -> tuple[Array, Array]:
    """Each row's term and its slopes: logits (m, classes), labels (m,) class numbers -> (m,), (m, classes).

    The term of a row whose label is no class is not a number.
    """
    rows, classes = logits.shape
    xp, real = module_of(logits), logits.dtype.type
    terms, slopes = xp.empty(rows, logits.dtype), xp.empty(logits.shape, logits.dtype)
    labels = xp.ascontiguousarray(labels.astype(np.int64, copy=False))
    numbers = np.int32(rows), np.int32(classes), real(1 - smoothing), real(smoothing / classes)
    call = kernel("losses.cu", "cross_entropy", logits.dtype.char)
    call((blocks_for(rows, ROWS),), (32, ROWS), (logits, labels, terms, slopes, *numbers))
    return terms, slopes
