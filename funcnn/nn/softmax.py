"""Softmax and its logarithm over the last axis: any shape in, the same shape out, no parameters.

Both are finite wherever the differences within a row are.
"""

from typing import ClassVar

import numpy as np

from funcnn.checks import ShapeError
from funcnn.layer import Layer
from funcnn.nn.activations import Activation
from funcnn.settings import config
from funcnn.tree import Array, Shape

__all__ = ["log_softmax", "softmax"]


def softmax() -> Layer:
    """y_i = exp(x_i) / Σ_j exp(x_j) over the last axis; dx = y · (dy - Σ_j dy_j y_j).

    Not for training: `funcnn.losses.softmax_cross_entropy` takes the logits and is exact where this saturates.

    >>> softmax().apply(None, None, np.array([[1000.0, 1000.0]])).y
    array([[0.5, 0.5]])
    """
    return _Softmax().as_layer()


def log_softmax() -> Layer:
    """y_i = x_i - log Σ_j exp(x_j) over the last axis; dx = dy - exp(y) · Σ_j dy_j.

    >>> log_softmax().apply(None, None, np.array([[1000.0, 0.0]])).y
    array([[    0., -1000.]])
    """
    return _LogSoftmax().as_layer()


# --- What they make -------------------------------------------------------------------------------------------


class _OverClasses(Activation):
    """Softmax and its logarithm: every row of classes by itself."""

    is_elementwise: ClassVar[bool] = False

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape or in_shape[-1] < 1:
            raise ShapeError(
                repr(self),
                f"expected a shape whose last axis holds the classes, got {in_shape}",
                "Put dense(classes) before it",
            )
        return in_shape

    def below_largest(self, x: Array) -> Array:
        """x less each row's largest: no exponential of it overflows."""
        if x.ndim < 2:
            raise ShapeError(
                repr(self), f"expected a batch whose last axis holds the classes, got {x.shape}", "Pass x[None]"
            )
        self.out_shape(x.shape[1:])
        below: Array = x - x.max(axis=-1, keepdims=True)
        return below


@config
class _Softmax(_OverClasses):
    name: ClassVar[str] = "softmax"

    def forward(self, x: Array) -> Array:
        y = self.below_largest(x)
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        dx: Array = dy - (dy * kept).sum(axis=-1, keepdims=True)
        dx *= kept
        return dx


@config
class _LogSoftmax(_OverClasses):
    name: ClassVar[str] = "log_softmax"

    def forward(self, x: Array) -> Array:
        y = self.below_largest(x)
        y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
        return y

    def gradient(self, kept: Array, dy: Array) -> Array:
        dx = np.exp(kept)
        dx *= -dy.sum(axis=-1, keepdims=True)
        dx += dy
        return dx
