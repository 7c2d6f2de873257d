"""What the optimizers' arithmetic needs on a device."""

from typing import Any

import numpy as np

from funcnn.system.devices import module_of
from funcnn.tree import Array

__all__ = ["clipped", "scratch_like", "squared_norm"]


def squared_norm(array: Array) -> Any:
    """The sum of squares in float64, as an array ()."""
    wide = array.astype(np.float64, copy=False)
    return (wide * wide).sum()


def scratch_like(purpose: str, like: Array) -> Array:
    """Memory to compute in, like an array."""
    return module_of(like).empty(like.shape, like.dtype)  # type: ignore[no-any-return]


def clipped(g: Array, norm: Any, limit: float) -> Array:
    """g · min(1, limit / norm)."""
    return g * (limit / module_of(g).maximum(norm, limit)).astype(g.dtype)  # type: ignore[no-any-return]
