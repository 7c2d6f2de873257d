"""Every layer constructor: dense, biases and reshaping here, the others re-exported.

Shapes in the docstrings carry the batch axis n; images are (n, height, width, channels).
"""

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import kernels, parallel
from funcnn.activations import (
    elu,
    gelu,
    identity,
    leaky_relu,
    log_softmax,
    relu,
    scale,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)  # fmt: skip
from funcnn.conv_windows import images, rows
from funcnn.convolution import avg_pool2d, conv2d, global_avg_pool2d, max_pool2d
from funcnn.init import Initializer, check_initializer, he_normal, zeros
from funcnn.keys import Key, fold_in
from funcnn.layer import (
    Applied,
    Array,
    Config,
    Gradients,
    Initialised,
    Layer,
    Shape,
    ShapeError,
    check_count,
    check_dy,
    check_flag,
    check_float,
    check_input,
    check_residuals,
    config,
    make_layer,
)
from funcnn.normalization import batch_norm, l2_normalize
from funcnn.stochastic import dropout, gaussian_noise
from funcnn.tree import node

__all__ = [
    "avg_pool2d", "batch_norm", "conv2d", "dense", "dropout", "elu", "flatten", "gaussian_noise", "gelu",
    "global_avg_pool2d", "identity", "l2_normalize", "leaky_relu", "log_softmax", "max_pool2d", "position_bias", "relu",
    "reshape", "scale", "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip


# --- Dense ----------------------------------------------------------------------------------------------------

_FEW = 128  # units: the weight gradient, which every chunk of a batch makes anew, is then about as large as the chunk


@node
class DenseParams:
    """weight (in, out); bias (out,) or None."""

    weight: Array
    bias: Array | None


@config
class _Dense(Config):
    name: ClassVar[str] = "dense"
    units: int = attrs.field(validator=check_count)
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    weight_init: Initializer = attrs.field(default=he_normal(), validator=check_initializer)
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)

    @property
    def by_chunks(self) -> bool:
        return self.units <= _FEW

    def out_shape(self, in_shape: Shape) -> Shape:
        if len(in_shape) != 1:
            raise ShapeError(
                repr(self), f"expected examples of shape (features,), got {in_shape}", "Put flatten() before it"
            )
        return (self.units,)

    def macs(self, in_shape: Shape) -> int:
        return in_shape[0] * self.units


def _dense_init(config: _Dense, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = config.out_shape(in_shape)
    fans = in_shape[0], config.units
    weight = config.weight_init(fold_in(key, "weight"), fans, *fans, dtype)
    bias = config.bias_init(fold_in(key, "bias"), out_shape, *fans, dtype) if config.use_bias else None
    return Initialised(DenseParams(weight, bias), None, out_shape)


def _dense_apply(
    config: _Dense, params: DenseParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_input(config, x, params.weight.shape[:1], params.weight.dtype)
    y = parallel.matmul(x, params.weight)
    if params.bias is not None:
        y += params.bias
    return Applied(y, state, x if train else None)


def _dense_backward(
    config: _Dense, params: DenseParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    x = check_residuals(config, residuals)
    check_dy(config, dy, (len(x), config.units), x.dtype)
    bias = dy.sum(axis=0) if params.bias is not None else None
    dx = None
    if need_dx:  # in the order in which x lies in memory, so that what comes before finds it as it made it
        by_rows = x.flags.c_contiguous
        dx = parallel.matmul(dy, params.weight.T) if by_rows else parallel.matmul(params.weight, dy.T).T
    return Gradients(DenseParams(parallel.matmul(x.T, dy), bias), dx)


def dense(
    units: int,
    *,
    use_bias: bool = True,
    weight_init: Initializer = he_normal(),  # noqa: B008  (a frozen value)
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """y = x · weight + bias: (n, in) -> (n, units).

    dweight = xᵀ · dy, dbias = Σ_n dy, dx = dy · weightᵀ. ``params.weight`` (in, units), ``params.bias`` (units,)
    or None.

    >>> layer = dense(2)
    >>> params, state, out_shape = layer.init(Key(0), (3,))
    >>> params.weight.shape, params.bias.shape, out_shape
    ((3, 2), (2,), (2,))

    Raises ValueError unless `units` is a positive int.
    """
    return make_layer(_Dense(units, use_bias, weight_init, bias_init), _dense_apply, _dense_backward, _dense_init)


# --- One bias per position ------------------------------------------------------------------------------------


@node
class PositionBiasParams:
    """bias, of an example's shape."""

    bias: Array


@config
class _PositionBias(Config):
    name: ClassVar[str] = "position_bias"
    by_chunks: ClassVar[bool] = True


def _position_init(config: _PositionBias, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    return Initialised(PositionBiasParams(zeros()(key, in_shape, 1, 1, dtype)), None, in_shape)


def _position_apply(
    config: _PositionBias, params: PositionBiasParams, state: Any, x: Array,
    *, key: Key | None = None, train: bool = False,
) -> Applied:  # fmt: skip
    check_input(config, x, params.bias.shape, params.bias.dtype)
    return Applied(kernels.add_to_examples(x, params.bias), state, () if train else None)


def _position_backward(
    config: _PositionBias, params: PositionBiasParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    check_residuals(config, residuals)
    check_dy(config, dy, (len(dy), *params.bias.shape), params.bias.dtype)
    return Gradients(PositionBiasParams(kernels.sum_examples(dy)), dy if need_dx else None)


def position_bias() -> Layer:
    """y = x + bias with one bias for each position and channel: (n, ...) -> (n, ...).

    dbias = Σ_n dy, dx = dy. It starts at zero. ``params.bias`` has an example's shape.

    >>> params, _, _ = position_bias().init(Key(0), (28, 28, 16))
    >>> params.bias.shape
    (28, 28, 16)
    """
    return make_layer(_PositionBias(), _position_apply, _position_backward, _position_init)


# --- Reshaping ------------------------------------------------------------------------------------------------


def _tuple(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape


def _check_shape(instance: Any, attribute: Any, shape: Shape) -> None:
    whole = isinstance(shape, tuple) and all(isinstance(each, int) and not isinstance(each, bool) for each in shape)
    if not whole or min(shape, default=1) < 1:
        raise ValueError(f"reshape: shape must be positive ints, the batch axis left out, got {shape!r}")


@config
class _Reshape(Config):
    name: ClassVar[str] = "reshape"
    by_chunks: ClassVar[bool] = True
    shape: Shape = attrs.field(converter=_tuple, validator=_check_shape)

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
    config: Config, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(config, x)
    shape = config.out_shape(x.shape[1:])
    if len(shape) == 1 and x.strides[0] == x.itemsize:
        # Images by rows: examples that stay next to each other in memory are copied in long runs.
        y = np.moveaxis(x, 0, -1).reshape(*shape, len(x)).T
    else:
        y = x.reshape(len(x), *shape)
    return Applied(y, state, x.shape[1:] if train else None)


def _reshape_backward(config: Config, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    in_shape = check_residuals(config, residuals)
    if not need_dx:
        return Gradients(None, None)
    check_dy(config, dy, (len(dy), *config.out_shape(in_shape)))
    dx = dy.reshape(len(dy), *in_shape)
    if len(in_shape) == 3:  # in the order in which the layers before hold their images in memory
        dx = images(np.ascontiguousarray(rows(dx)))
    return Gradients(None, dx)


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
