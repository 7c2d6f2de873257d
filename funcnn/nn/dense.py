"""Dense layers, and one bias for each position."""

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays import layout, products
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.checks import (
    Form,
    ShapeError,
    check_dy,
    check_input,
    check_params,
    check_residuals,
    check_weight,
    has_shape,
)
from funcnn.init import Initializer, check_initializer, he_normal, zeros
from funcnn.keys import Key, fold_in
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.settings import check_flag, config, count
from funcnn.tree import Array, Shape, node

__all__ = ["DenseParams", "PositionBiasParams", "dense", "position_bias"]


def dense(
    units: int,
    *,
    use_bias: bool = True,
    per_position: bool = False,
    weight_init: Initializer = he_normal(),  # noqa: B008  (a frozen value)
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """y = x · weight + bias: (n, in) -> (n, units); per position (n, ..., in) -> (n, ..., units).

    dweight = xᵀ · dy, dbias = Σ_n dy, dx = dy · weightᵀ. ``params.weight`` (in, units), ``params.bias`` (units,)
    or None. Per position, the same weights serve every position of a sequence, (n, time, in), or of an image: all of
    them are rows of one product. It has to be asked for, so that an image which should be flattened is told.

    >>> layer = dense(2)
    >>> params, state, out_shape = layer.init(Key(0), (3,))
    >>> params.weight.shape, params.bias.shape, out_shape
    ((3, 2), (2,), (2,))
    >>> dense(2, per_position=True).init(Key(0), (10, 3)).out_shape
    (10, 2)

    Raises ValueError unless `units` is a positive int.
    """
    settings = _Dense(units, use_bias, per_position, weight_init, bias_init)
    return make_layer(settings, _dense_apply, _dense_backward, _dense_init)


def position_bias() -> Layer:
    """y = x + bias with one bias for each position and channel: (n, ...) -> (n, ...).

    dbias = Σ_n dy, dx = dy. It starts at zero. ``params.bias`` has an example's shape.

    >>> params, _, _ = position_bias().init(Key(0), (28, 28, 16))
    >>> params.bias.shape
    (28, 28, 16)
    """
    return make_layer(_PositionBias(), _position_apply, _position_backward, _position_init)


# --- dense ----------------------------------------------------------------------------------------------------

# Units at most, to go by chunks: a chunk's weight gradient is then no larger than the chunk, about.
_FEW = 128
_FEW_PER_POSITION = 1024  # an example has many rows


@node
class DenseParams:
    """weight (in, out); bias (out,) or None."""

    weight: Array
    bias: Array | None


@config
class _Dense(Config):
    name: ClassVar[str] = "dense"
    units: int = count()
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    per_position: bool = attrs.field(default=False, validator=check_flag)
    weight_init: Initializer = attrs.field(default=he_normal(), validator=check_initializer)
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)

    @property
    def by_chunks(self) -> bool:
        return self.units <= (_FEW_PER_POSITION if self.per_position else _FEW)

    def out_shape(self, in_shape: Shape) -> Shape:
        if len(in_shape) != 1 and not (self.per_position and in_shape):
            fix = "Put flatten() before it"
            if len(in_shape) == 2:
                fix += f", or leave out the batch axis: ({in_shape[1]},); of a sequence, dense(..., per_position=True)"
            raise ShapeError(repr(self), f"expected examples of shape (features,), got {in_shape}", fix)
        return (*in_shape[:-1], self.units)

    def check(self, params: Any, x: Array) -> None:
        """Raise unless the params are a dense layer's, with so many units, and x is for them."""
        check_params(self, params, DenseParams)
        weight, bias, units = params.weight, params.bias, self.units
        if type(weight) is not np.ndarray or weight.shape[1:] != (units,):
            check_weight(self, "weight", weight, (None, units))
        if bias is not None and not has_shape(bias, (units,)):
            check_weight(self, "bias", bias, (units,))
        positions = (None,) * (np.ndim(x) - 2) if self.per_position else ()
        check_input(self, x, (*positions, *weight.shape[:1]), weight.dtype, weight)

    def macs(self, in_shape: Shape) -> int:
        return math.prod(in_shape) * self.units


def _dense_init(settings: _Dense, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    fans = in_shape[-1], settings.units
    weight = settings.weight_init(fold_in(key, "weight"), fans, *fans, dtype)
    bias = settings.bias_init(fold_in(key, "bias"), fans[1:], *fans, dtype) if settings.use_bias else None
    return Initialised(DenseParams(weight, bias), None, out_shape)


@underflow_is_zero
def _dense_apply(
    settings: _Dense, params: DenseParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    settings.check(params, x)
    y = products.matmul(products.as_rows(x), params.weight)
    if params.bias is not None:
        y += params.bias
    return Applied(y.reshape(*x.shape[:-1], settings.units), state, x if train else None)


@underflow_is_zero
def _dense_backward(
    settings: _Dense, params: DenseParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    x = check_residuals(settings, residuals, np.ndarray)
    settings.check(params, x)
    check_dy(settings, dy, (*x.shape[:-1], settings.units), x.dtype)
    rows, dy = products.as_rows(x), products.as_rows(dy)
    bias = layout.sum_examples(dy) if params.bias is not None else None
    dx = None
    if need_dx:  # in x's order in memory, which is the one that the layer before works in
        by_rows = rows.flags.c_contiguous
        dx = products.matmul(dy, params.weight.T) if by_rows else products.matmul(params.weight, dy.T).T
        dx = dx.reshape(x.shape)
    return Gradients(DenseParams(products.matmul(rows.T, dy), bias), dx)


# --- position_bias --------------------------------------------------------------------------------------------


@node
class PositionBiasParams:
    """bias, of an example's shape."""

    bias: Array


@config
class _PositionBias(Config):
    name: ClassVar[str] = "position_bias"
    by_chunks: ClassVar[bool] = True


def _position_init(settings: _PositionBias, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    return Initialised(PositionBiasParams(zeros()(key, in_shape, 1, 1, dtype)), None, in_shape)


@underflow_is_zero
def _position_apply(
    settings: _PositionBias, params: PositionBiasParams, state: Any, x: Array,
    *, key: Key | None = None, train: bool = False,
) -> Applied:  # fmt: skip
    check_params(settings, params, PositionBiasParams)
    check_input(settings, x, params.bias.shape, params.bias.dtype, params.bias)
    return Applied(layout.add_to_examples(x, params.bias), state, Form(x.shape, x.dtype) if train else None)


def _position_backward(
    settings: _PositionBias, params: PositionBiasParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    check_dy(settings, dy, kept.shape, kept.dtype)
    return Gradients(PositionBiasParams(layout.sum_examples(dy)), dy if need_dx else None)
