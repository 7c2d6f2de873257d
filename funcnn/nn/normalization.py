"""Layers that normalise each example by itself. `batch_norm`, which does so over the batch, has a file of its own."""

import math
from typing import Any, ClassVar

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import unit_rows, wide
from funcnn.checks import check_dy, check_float, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.settings import config
from funcnn.tree import Array, node

__all__ = ["l2_normalize"]


def l2_normalize() -> Layer:
    """y = x / ‖x‖ for each example, over all its axes: (n, ...) -> (n, ...); an all-zero example stays zero.

    dx = (dy - y · ⟨dy, y⟩) / ‖x‖; at the all-zero example, where no derivative exists, dx = dy.

    >>> l2_normalize().apply(None, None, np.array([[3.0, 4.0]])).y
    array([[0.6, 0.8]])
    """
    return make_layer(_L2Normalize(), _l2_apply, _l2_backward)


@node
class _L2Residuals:
    y: Array
    inverse_norm: Array  # (n, 1)


@config
class _L2Normalize(Config):
    name: ClassVar[str] = "l2_normalize"
    by_chunks: ClassVar[bool] = True


@underflow_is_zero
def _l2_apply(
    settings: _L2Normalize, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    unit, norm, largest = unit_rows(x.reshape(len(x), math.prod(x.shape[1:])))
    y = unit.reshape(x.shape)
    return Applied(y, state, _L2Residuals(y, 1 / norm / largest) if train else None)


@underflow_is_zero
def _l2_backward(settings: _L2Normalize, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, _L2Residuals)
    check_dy(settings, dy, kept.y.shape, kept.y.dtype)
    if not need_dx:
        return Gradients(None, None)
    features = len(dy), math.prod(dy.shape[1:])
    rows, y = dy.reshape(features), kept.y.reshape(features)
    along = np.einsum("nf,nf->n", wide(rows), wide(y))[:, None]
    dx = rows - y * along.astype(dy.dtype, copy=False)
    dx *= kept.inverse_norm
    return Gradients(None, dx.reshape(dy.shape))
