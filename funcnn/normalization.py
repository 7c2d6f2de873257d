"""Normalising layers: batch norm over the batch, L2 normalisation over each example."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import parallel
from funcnn.chunking import Chunk, Coupled, resume
from funcnn.conv_windows import images
from funcnn.kernels import channel_rows, dot_channels, empty_like_channels, for_channels, sum_channels
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


# Batch norm is written for a chunk of a batch, as `serial` has them; statistics are added up in float64, first
# chunk to last. With a max pool to follow, the pool goes first if it may: scale · x + shift increases with x unless the
# scale is negative, so it has its maxima where x has them, and what is left to do is done on a quarter of the numbers
# (or less), forward and back.

_SAFE = 16.0  # Σx² by its part around the mean: from there on, differences of squares lose more than four bits


class _Moments(NamedTuple):
    """Of a chunk, for each channel: how many numbers, a centre, and of x - centre the sum and the sum of squares."""

    size: int
    centre: Array
    total: Array
    squares: Array


class _Normalising(NamedTuple):
    """Of the batch, for each channel: y = factor · (x - mean) + shift, and x̂ = (x - mean) · inverse_deviation."""

    mean: Array
    factor: Array
    shift: Array
    inverse_deviation: Array


@node
class _ChunkResiduals:
    """x as `channel_rows`, less a centre; the centre less the mean; the pool's residuals, and its y if it was first."""

    centred: Array
    offset: Array
    inverse_deviation: Array
    pool: Any
    pooled: Array | None


class _Sums(NamedTuple):
    """Of a chunk, for each channel: how many numbers, Σ dy · (x - mean), Σ dy; and 1/σ of the batch."""

    size: int
    along: Array
    total: Array
    inverse_deviation: Array


class _Projecting(NamedTuple):
    """dx = factor · dy + along_x · (x - mean) + along_1."""

    factor: Array
    along_x: Array
    along_1: Array


@config
class _BatchNorm(Coupled):
    name: ClassVar[str] = "batch_norm"
    momentum: float = attrs.field(default=0.9, validator=check_share, converter=float)
    epsilon: float = attrs.field(default=1e-5, validator=check_positive, converter=float)

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape:
            raise ShapeError(
                repr(self), "expected a shape whose last axis holds the channels, got ()", "Put reshape((1,)) before it"
            )
        if in_shape[-1] < 1:
            raise ShapeError(
                repr(self), f"expected at least one channel, got {in_shape}", "Correct in_shape, or the layer before it"
            )
        return in_shape

    def check(self, params: BatchNormParams, x: Array) -> None:
        check_array(self, x, params.scale.dtype)
        check_input(self, x, (*[None] * (x.ndim - 2), len(params.scale)), params.scale.dtype)

    def apply_chunk(self, params: BatchNormParams, x: Array, *, pool: Layer | None) -> Chunk:
        self.check(params, x)
        source, moments = _moments(x)
        mean, factor, shift, inverse_deviation = yield moments
        # y = factor · (centred + offset) + shift
        offset = (moments.centre - mean).astype(x.dtype)
        shift = shift + offset * factor
        centred, kept, pooled = _shaped(source, x.shape), None, None
        if pool is None:
            y = _scale_and_shift(centred, factor, shift)
        elif (factor >= 0).all():
            pooled, _, kept = pool.apply(None, None, centred, train=True)
            y = _scale_and_shift(pooled, factor, shift)
        else:
            y, _, kept = pool.apply(None, None, _scale_and_shift(centred, factor, shift), train=True)
        return y, _ChunkResiduals(source, offset, inverse_deviation, kept, pooled)

    def meet(
        self, params: BatchNormParams, state: BatchNormState, said: Sequence[_Moments]
    ) -> tuple[_Normalising, BatchNormState]:
        counts = np.array([each.size for each in said], np.float64)[:, None]
        centres, sums, squares = (np.stack(each) for each in list(zip(*said, strict=True))[1:])
        if counts.sum() == 0:
            raise LayerError(repr(self), "an empty batch has no mean", "Train on batches of at least one example")
        # Moments about the chunks' centres, then about the batch's mean.
        dtype = params.scale.dtype
        mean = (sums + counts * centres).sum(axis=0) / counts.sum()
        offsets = centres - mean
        total = squares.sum(axis=0) + (offsets * (2 * sums + counts * offsets)).sum(axis=0)
        var = (np.maximum(total, 0) / counts.sum()).astype(dtype)
        inverse_deviation = 1 / np.sqrt(var + self.epsilon)
        keep, take = self.momentum, 1 - self.momentum
        running = BatchNormState(mean=keep * state.mean + take * mean.astype(dtype), var=keep * state.var + take * var)
        return _Normalising(mean, params.scale * inverse_deviation, params.shift, inverse_deviation), read_only(running)

    def backward_chunk(
        self, params: BatchNormParams, residuals: Any, dy: Array, *, need_dx: bool, pool: Layer | None
    ) -> Chunk:
        kept = check_residuals(self, residuals)
        x = kept.centred
        if kept.pooled is not None:
            x = channel_rows(kept.pooled)  # where a maximum was, dy is; elsewhere it is zero
        elif pool is not None:
            dy = _unpool(pool, kept, dy)
        gradient = channel_rows(dy)
        if gradient.shape != x.shape:
            raise ShapeError(
                repr(self), f"expected dy of the output's shape, got {dy.shape}", "Pass the residuals of the same batch"
            )
        # x - mean = centred + offset, so Σ dy·(x - mean) = Σ dy·centred + offset·Σ dy, and below in the same way
        # along_x·(x - mean) + along_1 = along_x·centred + (along_1 + offset·along_x).
        total = sum_channels(gradient)
        along = dot_channels(gradient, x) + kept.offset * total
        factor, along_x, along_1 = yield _Sums(kept.centred.size // len(total), along, total, kept.inverse_deviation)
        return _project(kept, dy, factor, along_x, along_1 + kept.offset * along_x, pool) if need_dx else None

    def meet_backward(self, params: BatchNormParams, said: Sequence[_Sums]) -> tuple[_Projecting, BatchNormParams]:
        # dx = scale/σ · (dy - mean(dy) - x̂ · mean(dy · x̂)): what is left of dy once its parts along the two
        # directions that the statistics remove, constants and (but for epsilon) x̂ = (x - mean)/σ, are taken out.
        # The means are dshift / count and dscale / count.
        sizes, along, total, (inverse_deviation, *_) = zip(*said, strict=True)
        dtype, count = inverse_deviation.dtype, sum(sizes)
        dscale = (np.sum(along, axis=0) * inverse_deviation).astype(dtype)
        dshift = np.sum(total, axis=0).astype(dtype)
        factor = params.scale * inverse_deviation
        sent = _Projecting(factor, -factor * inverse_deviation * dscale / count, -factor * dshift / count)
        return sent, BatchNormParams(scale=dscale, shift=dshift)

    def evaluate(self, params: BatchNormParams, state: BatchNormState, x: Array, *, pool: Layer | None) -> Array:
        self.check(params, x)
        factor = params.scale / np.sqrt(state.var + self.epsilon)
        shift = params.shift - state.mean * factor
        if pool is None:
            return _scale_and_shift(x, factor, shift)
        if (factor >= 0).all():
            return _scale_and_shift(pool.apply(None, None, x).y, factor, shift)
        return pool.apply(None, None, _scale_and_shift(x, factor, shift)).y


def _moments(x: Array) -> tuple[Array, _Moments]:
    """x less a centre, as `channel_rows`, and its moments.

    The centre is 0 if float32 has digits enough for that, and else the mean: it costs a pass, and a copy.
    """
    source = channel_rows(x)
    size = source.size // x.shape[-1]
    total, squares = sum_channels(source), dot_channels(source, source)
    centre = total / max(1, size)
    if (squares <= _SAFE * (squares - total * centre)).all():
        return source, _Moments(size, np.zeros(len(centre), x.dtype), total, squares)
    centre = centre.astype(x.dtype)
    centred = np.subtract(source, for_channels(centre, source))
    return centred, _Moments(size, centre, sum_channels(centred), dot_channels(centred, centred))


def _shaped(x: Array, shape: tuple[int, ...]) -> Array:
    """`channel_rows` as a batch of a shape again."""
    if len(shape) != 4:
        return x.reshape(shape)
    n, h, w, c = shape
    return images(x.reshape(h, c, w, n))


def _scale_and_shift(x: Array, factor: Array, shift: Array) -> Array:
    y = empty_like_channels(x)
    source, out = channel_rows(x), channel_rows(y)
    np.multiply(source, for_channels(factor, source), out=out)
    out += for_channels(shift, source)
    return y


def _project(
    kept: _ChunkResiduals, dy: Array, factor: Array, along_x: Array, along_1: Array, pool: Layer | None
) -> Array:
    """factor · dy + along_x · centred + along_1, dy taken back through the pool if that was first."""
    x, gradient, scaled = kept.centred, channel_rows(dy), empty_like_channels(dy)
    np.multiply(gradient, for_channels(factor, gradient), out=channel_rows(scaled))
    dx = _unpool(pool, kept, scaled) if pool is not None and kept.pooled is not None else scaled
    rest = np.multiply(x, for_channels(along_x, x), out=parallel.scratch("batch norm", x.shape, x.dtype))
    rest += for_channels(along_1, x)
    out = channel_rows(dx)
    out += rest
    return dx


def _unpool(pool: Layer, kept: _ChunkResiduals, dy: Array) -> Array:
    return pool.backward(None, kept.pool, dy).dx  # type: ignore[return-value]  # never None: it is asked for


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
    if not train:
        return Applied(config.evaluate(params, state, x, pool=None), state, None)
    batch = config.apply_chunk(params, x, pool=None)
    sent, state = config.meet(params, state, [next(batch)])
    y, residuals = resume(batch, sent)
    return Applied(y, state, residuals)


def _backward(
    config: _BatchNorm, params: BatchNormParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    batch = config.backward_chunk(params, residuals, dy, need_dx=need_dx, pool=None)
    sent, gradients = config.meet_backward(params, [next(batch)])
    return Gradients(gradients, resume(batch, sent))


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
    by_chunks: ClassVar[bool] = True


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
