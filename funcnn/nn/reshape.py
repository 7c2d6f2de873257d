"""Examples in another shape."""

import math
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays.layout import by_rows
from funcnn.checks import Form, ShapeError, check_dy, check_float, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.settings import as_tuple, config, refuse
from funcnn.tree import Array, Shape

__all__ = ["flatten", "reshape"]


def flatten() -> Layer:
    """Each example as one row: (n, ...) -> (n, features); the last axis varies fastest.

    >>> flatten().apply(None, None, np.ones((2, 4, 4, 3))).y.shape
    (2, 48)
    """
    return make_layer(_Flatten(), _reshape_apply, _reshape_backward)


def reshape(shape: Shape) -> Layer:
    """Each example in another shape of as many values: (n, ...) -> (n, *shape).

    >>> reshape((4, 4, 1)).apply(None, None, np.ones((2, 16))).y.shape
    (2, 4, 4, 1)

    Raises ValueError unless the shape is of positive ints.
    """
    return make_layer(_Reshape(shape), _reshape_apply, _reshape_backward)


# --- What they make -------------------------------------------------------------------------------------------


def _check_shape(instance: Any, attribute: Any, shape: Shape) -> None:
    whole = isinstance(shape, tuple) and all(isinstance(each, int) and not isinstance(each, bool) for each in shape)
    if not whole or min(shape, default=1) < 1:
        refuse("reshape", "shape", "positive ints, the batch axis left out", shape)


@config
class _Reshape(Config):
    name: ClassVar[str] = "reshape"
    by_chunks: ClassVar[bool] = True
    shape: Shape = attrs.field(converter=as_tuple, validator=_check_shape)

    def out_shape(self, in_shape: Shape) -> Shape:
        if math.prod(in_shape) != math.prod(self.shape):
            raise ShapeError(
                repr(self),
                f"expected examples of {math.prod(self.shape)} values, got {in_shape} with {math.prod(in_shape)}",
                "Give a shape of as many values",
            )
        return self.shape


@config
class _Flatten(Config):
    name: ClassVar[str] = "flatten"
    by_chunks: ClassVar[bool] = True

    def out_shape(self, in_shape: Shape) -> Shape:
        return (math.prod(in_shape),)


def _reshape_apply(
    settings: Config, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    shape = settings.out_shape(x.shape[1:])
    if len(shape) == 1 and x.strides[0] == x.itemsize:
        # Images by rows: examples that stay next to each other in memory are copied in long runs.
        y = np.moveaxis(x, 0, -1).reshape(*shape, len(x)).T
    else:
        y = x.reshape(len(x), *shape)
    return Applied(y, state, Form(x.shape, x.dtype) if train else None)


def _reshape_backward(settings: Config, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    n, in_shape = kept.shape[0], kept.shape[1:]
    check_dy(settings, dy, (n, *settings.out_shape(in_shape)), kept.dtype)
    if not need_dx:
        return Gradients(None, None)
    dx = dy.reshape(n, *in_shape)
    if len(in_shape) == 3:  # in the order in which the layers before hold their images in memory
        dx = by_rows(dx)
    return Gradients(None, dx)
