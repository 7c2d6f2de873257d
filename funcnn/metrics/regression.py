"""How far a regression is from its targets: outputs and targets (n, ...), of one shape."""

import math
from typing import Any

import numpy as np

from funcnn.losses import mean_absolute_error, mean_squared_error
from funcnn.losses.checks import check_same_shape, floats_and
from funcnn.losses.reduce import check_weights
from funcnn.metrics.shared import over_part
from funcnn.tree import Array

__all__ = ["mae", "r2", "rmse"]


def mae(outputs: Array, targets: Array, weights: Array | None = None) -> Any:
    """The mean of |outputs - targets| over examples and values; with weights (mean, weight).

    >>> mae(np.array([1.0, 4.0]), np.array([0.0, 2.0]))
    1.5

    Raises ValueError for an empty batch or targets of another shape.
    """
    value, _, *weight = mean_absolute_error(outputs, targets, weights)
    return (value, *weight) if weight else value


@over_part
def rmse(outputs: Array, targets: Array, weights: Array | None = None) -> float:
    """The root of `mean_squared_error`, in the targets' unit.

    It is over all values; scikit-learn's is the mean of the columns' roots.

    >>> rmse(np.array([1.0, 4.0]), np.array([0.0, -3.0]))
    5.0

    Raises ValueError for an empty part or targets of another shape.
    """
    return math.sqrt(mean_squared_error(outputs, targets, weights)[0])


mae.lower_is_better = True  # type: ignore[attr-defined]  # which of two nets is the better one


@over_part
def r2(outputs: Array, targets: Array, weights: Array | None = None) -> float:
    """1 - Σ (t - y)² / Σ (t - mean t)²: the share of the targets' variance that the outputs explain.

    outputs and targets (n, ...), weights (n,); of several values an example it is the mean of each column's. 1 is
    perfect, 0 what the mean gives, and a constant column counts 1 if it is met exactly, else 0.

    >>> r2(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    0.5

    Raises ValueError for an empty part or targets of another shape.
    """
    outputs, targets = floats_and("r2", "targets", outputs, targets)
    check_same_shape("r2", outputs, targets)
    n = len(outputs)
    y, t = (each.reshape(n, -1).astype(np.float64) for each in (outputs, targets))
    counted = (np.ones(n) if weights is None else check_weights("r2", weights, (n,)))[:, None]
    if not counted.any():
        return 0.0
    missed = (counted * (t - y) ** 2).sum(axis=0)
    spread = (counted * (t - (counted * t).sum(axis=0) / counted.sum()) ** 2).sum(axis=0)
    varies = np.ptp(t[counted[:, 0] > 0], axis=0) > 0  # the mean of equal numbers may be another by its last bit
    share = np.divide(missed, spread, where=varies & (spread > 0), out=(missed > 0).astype(np.float64))
    return float((1 - share).mean())
