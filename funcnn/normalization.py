"""Normalising layers: batch norm over the batch, L2 normalisation over each example."""

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import kernels
from funcnn.keys import Key
from funcnn.layer import (
    Applied,
    Array,
    Config,
    Gradients,
    Initialised,
    Layer,
    LayerError,
    Shape,
    ShapeError,
    check_array,
    check_float,
    check_input,
    check_positive,
    check_residuals,
    check_share,
    config,
    make_layer,
)
from funcnn.tree import node, read_only

__all__ = ["BatchNormParams", "BatchNormState", "batch_norm", "l2_normalize"]


@node
class BatchNormParams:
    """What batch norm learns, one number per channel each."""

    scale: Array
    shift: Array


@node
class BatchNormState:
    """Batch norm's running statistics, one number per channel each."""

    mean: Array
    var: Array


@node
class _BatchNormResiduals:
    normalised: Array
    inverse_deviation: Array


@config
class _BatchNorm(Config):
    name: ClassVar[str] = "batch_norm"
    couples_examples: ClassVar[bool] = True
    momentum: float = attrs.field(default=0.9, validator=check_share, converter=float)
    epsilon: float = attrs.field(default=1e-5, validator=check_positive, converter=float)

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape:
            raise ShapeError(
                repr(self), "expected a shape whose last axis holds the channels, got ()", "Put reshape((1,)) before it"
            )
        return in_shape


def _init(config: _BatchNorm, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = config.out_shape(in_shape)
    channels = in_shape[-1]
    params = BatchNormParams(scale=np.ones(channels, dtype), shift=np.zeros(channels, dtype))
    state = BatchNormState(mean=np.zeros(channels, dtype), var=np.ones(channels, dtype))
    return Initialised(read_only(params), read_only(state), out_shape)


def _apply(
    config: _BatchNorm, params: BatchNormParams, state: BatchNormState, x: Array,
    *, key: Key | None = None, train: bool = False,
) -> Applied:  # fmt: skip
    check_array(config, x, params.scale.dtype)
    check_input(config, x, (*[None] * (x.ndim - 2), len(params.scale)), params.scale.dtype)
    rows = x.reshape(-1, x.shape[-1])
    if not train:
        scale = params.scale / np.sqrt(state.var + config.epsilon)
        y = kernels.normalise(rows, scale, params.shift - state.mean * scale)
        return Applied(y.reshape(x.shape), state, None)
    if len(rows) == 0:
        raise LayerError(repr(config), "an empty batch has no mean", "Train on batches of at least one example")
    normalised, y = np.empty_like(rows), np.empty_like(rows)
    mean = (kernels.sum_rows(lambda part: rows[part].sum(axis=0), rows.shape) / len(rows)).astype(x.dtype)

    def centre(part: slice) -> Array:
        np.subtract(rows[part], mean, out=normalised[part])
        squares: Array = np.einsum("nc,nc->c", normalised[part], normalised[part])
        return squares

    var = (kernels.sum_rows(centre, rows.shape) / len(rows)).astype(x.dtype)
    inverse_deviation = 1 / np.sqrt(var + config.epsilon)

    def scale_and_shift(part: slice) -> None:
        normalised[part] *= inverse_deviation
        np.multiply(normalised[part], params.scale, out=y[part])
        y[part] += params.shift

    kernels.for_rows(scale_and_shift, rows.shape)
    keep, take = config.momentum, 1 - config.momentum
    running = BatchNormState(mean=keep * state.mean + take * mean, var=keep * state.var + take * var)
    return Applied(y.reshape(x.shape), read_only(running), _BatchNormResiduals(normalised, inverse_deviation))


def _backward(
    config: _BatchNorm, params: BatchNormParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(config, residuals)
    rows = dy.reshape(kept.normalised.shape)
    x = kept.normalised

    def sums(part: slice) -> Array:
        return np.stack([np.einsum("nc,nc->c", rows[part], x[part]), rows[part].sum(axis=0)])

    scale, shift = kernels.sum_rows(sums, rows.shape).astype(dy.dtype)
    gradients = BatchNormParams(scale=scale, shift=shift)
    if not need_dx:
        return Gradients(gradients, None)
    # dx = scale/σ · (dy - mean(dy) - x̂ · mean(dy · x̂)): what is left of dy once its parts along the two
    # directions that the statistics remove, constants and x̂, are taken out.
    dx = np.empty_like(rows)
    along_x, along_1, factor = -scale / len(rows), shift / len(rows), params.scale * kept.inverse_deviation

    def project(part: slice) -> None:
        np.multiply(x[part], along_x, out=dx[part])
        dx[part] += rows[part]
        dx[part] -= along_1
        dx[part] *= factor

    kernels.for_rows(project, rows.shape)
    return Gradients(gradients, dx.reshape(dy.shape))


def batch_norm(*, momentum: float = 0.9, epsilon: float = 1e-5) -> Layer:
    """y = scale · (x - mean) / sqrt(var + epsilon) + shift, per channel (Ioffe & Szegedy 2015).

    (n, ..., c) -> (n, ..., c). In training, mean and the biased variance are the batch's, over every axis but the
    last, and running = momentum · running + (1 - momentum) · batch; otherwise they are the running ones, so that
    an example's output does not depend on its batch. Deviation from the paper: the running variance is biased
    too. ``params.scale, params.shift; state.mean, state.var``.

    >>> layer = batch_norm()
    >>> params, state, _ = layer.init(Key(0), (1,))
    >>> y, state, _ = layer.apply(params, state, np.array([[1.0], [3.0]], np.float32), train=True)
    >>> y.round(3).tolist(), state.mean
    ([[-1.0], [1.0]], array([0.2], dtype=float32))

    Raises ValueError for a momentum outside [0, 1] or an epsilon that is not positive.
    """
    return make_layer(_BatchNorm(momentum, epsilon), _apply, _backward, _init)


@node
class _L2Residuals:
    y: Array
    inverse_norm: Array


@config
class _L2Normalize(Config):
    name: ClassVar[str] = "l2_normalize"


def _l2_apply(
    config: _L2Normalize, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(config, x)
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    # Dividing by the largest value first keeps the squares from overflowing or vanishing. A zero stays zero.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    largest[largest == 0] = 1
    scaled = rows / largest
    norm = np.sqrt(np.einsum("nf,nf->n", scaled, scaled))[:, None]
    norm[norm == 0] = 1
    scaled /= norm
    y = scaled.reshape(x.shape)
    return Applied(y, state, _L2Residuals(scaled, 1 / norm / largest) if train else None)


def _l2_backward(config: _L2Normalize, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(config, residuals)
    if not need_dx:
        return Gradients(None, None)
    rows = dy.reshape(kept.y.shape)
    dx = rows - kept.y * np.einsum("nf,nf->n", rows, kept.y)[:, None]
    dx *= kept.inverse_norm
    return Gradients(None, dx.reshape(dy.shape))


def l2_normalize() -> Layer:
    """y = x / ‖x‖ for each example, over all its axes; an all-zero example stays zero.

    dx = (dy - y · ⟨dy, y⟩) / ‖x‖; at the all-zero example, where no derivative exists, dx = dy.

    >>> l2_normalize().apply(None, None, np.array([[3.0, 4.0]])).y
    array([[0.6, 0.8]])
    """
    return make_layer(_L2Normalize(), _l2_apply, _l2_backward)
