"""Element-wise arithmetic on whole arrays."""

from typing import Any

import numpy as np

from funcnn.arrays.elementwise import value_and_slope
from funcnn.arrays.seam import faster
from funcnn.tree import Array

__all__ = ["activate", "activate_back", "positive_part"]


def positive_part(x: Array, y: Array | None = None) -> Array:
    """max(x, 0), into y if it is given."""
    return np.maximum(x, 0, out=y)


def activate(function: Any, x: Array, *, slope: bool) -> tuple[Array, Array | None]:
    """y = f(x), and f'(x) of a function that keeps it, if asked for."""
    kernels = faster("elementwise", x)
    if kernels and function.formula in kernels.ACTIVATIONS:
        return kernels.activate(function.formula, x, keep_slope=slope, **_settings(kernels, function))  # type: ignore[no-any-return]
    if function.keeps_slope:
        return value_and_slope(function.fill, x, slope=slope)
    return function.forward(x), None


def activate_back(function: Any, kept: Array, dy: Array) -> Array:
    """dx of dy and what the function has kept."""
    kernels = faster("elementwise", kept)
    if kernels and function.formula in kernels.ACTIVATIONS:
        return kernels.activate_back(function.formula, kept, dy, **_settings(kernels, function))  # type: ignore[no-any-return]
    return function.gradient(kept, dy)  # type: ignore[no-any-return]


def _settings(kernels: Any, function: Any) -> dict[str, float]:
    return {name: getattr(function, name) for name in kernels.ACTIVATIONS[function.formula].settings}
