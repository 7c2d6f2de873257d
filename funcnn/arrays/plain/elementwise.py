"""Element-wise arithmetic on whole arrays."""

import numpy as np

from funcnn.tree import Array

__all__ = ["positive_part"]


def positive_part(x: Array, y: Array | None = None) -> Array:
    """max(x, 0), into y if it is given."""
    return np.maximum(x, 0, out=y)
