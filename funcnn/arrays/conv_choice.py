"""Which of the modules of convolution to compute with; all have the same functions, of the same arguments."""

from types import ModuleType

import numpy as np

from funcnn.arrays import conv_depthwise, conv_rows, conv_winograd
from funcnn.arrays.finite import first_non_finite
from funcnn.arrays.geometry import Geometry
from funcnn.arrays.seam import faster, plain_module
from funcnn.tree import Array

__all__ = ["fastest"]


def fastest(geo: Geometry, weight: Array, groups: int, values: Array, *, spreads: bool = True) -> ModuleType:
    """The fastest module for a kernel and the values of a batch that are as precise by it: what goes in, x or dy.

    Winograd's where it is as good, in float32 alone, and faster: where the products that it saves are large
    (docs/architecture.md). It `spreads` a value's rounding over the rows of a tile: not where one stands out. Depthwise
    convolutions have a module of their own, which spreads nothing but what is not finite.

    >>> from funcnn.arrays.geometry import geometry
    >>> weight, dy = np.ones((3, 3, 1, 8), np.float32), np.ones((2, 5, 5, 8), np.float32)
    >>> fastest(geometry((5, 5), (3, 3), (1, 1), (1, 1), "same"), weight, 8, dy).__name__
    'funcnn.arrays.conv_depthwise'
    """
    if not isinstance(values, np.ndarray):
        return faster("convolution", values, weight, geo, groups) or plain_module("convolution")
    if conv_depthwise.fits(weight, groups) and geo.out_size[0] > 2:
        # It multiplies every row of a window of four by zeros, which an infinity survives as NaN.
        finite = not spreads or first_non_finite(values.ravel(order="K")) is None
        return conv_depthwise if finite else conv_rows
    inner = weight.shape[1] * weight.shape[2]
    large = inner >= 64 and weight.shape[3] // groups >= 32 and geo.out_size[1] * len(values) >= 32
    if not (large and weight.dtype == np.float32 and geo.out_size[0] > 2 and conv_winograd.fits(geo)):
        return conv_rows
    return conv_rows if spreads and conv_winograd.stands_out(values) else conv_winograd
