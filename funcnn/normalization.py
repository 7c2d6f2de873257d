"""Normalising layers: batch norm over the batch, L2 normalisation over each example."""

import math
from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import parallel
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

    def apply_chunks(
        self, params: BatchNormParams, state: BatchNormState, xs: list[Array], *, train: bool, pool: Layer | None = None
    ) -> tuple[list[Array], BatchNormState, Any]:
        return _apply_chunks(self, params, state, xs, train=train, pool=pool)

    def backward_chunks(
        self, params: BatchNormParams, residuals: Any, dys: list[Array], *, need_dx: bool, pool: Layer | None = None
    ) -> tuple[BatchNormParams, list[Array] | None]:
        return _backward_chunks(self, params, residuals, dys, need_dx=need_dx, pool=pool)


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
    (y,), state, residuals = config.apply_chunks(params, state, [x], train=train)
    return Applied(y, state, residuals)


def _backward(
    config: _BatchNorm, params: BatchNormParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    gradients, dxs = config.backward_chunks(params, residuals, [dy], need_dx=need_dx)
    return Gradients(gradients, dxs[0] if dxs else None)


# The layer itself is written for a batch in chunks, as `serial` holds it; statistics are added up in float64, first
# chunk to last. With a max pool to follow, the pool goes first if it may: scale · x + shift increases with x unless the
# scale is negative, so it has its maxima where x has them, and what is left to do is done on a quarter of the numbers
# (or less), forward and back.

_SAFE = 16.0  # Σx² by its part around the mean: from there on, differences of squares lose more than four bits


@node
class _Chunk:
    """x as `channel_rows`, less a centre; the centre less the mean; the pool's residuals, and its y if it was first."""

    centred: Array
    offset: Array
    pool: Any
    pooled: Array | None


@node
class _BatchNormResiduals:
    chunks: tuple[_Chunk, ...]
    inverse_deviation: Array


def _apply_chunks(
    config: _BatchNorm, params: BatchNormParams, state: BatchNormState, xs: list[Array], *, train: bool,
    pool: Layer | None,
) -> tuple[list[Array], BatchNormState, _BatchNormResiduals | None]:  # fmt: skip
    for x in xs:
        check_array(config, x, params.scale.dtype)
        check_input(config, x, (*[None] * (x.ndim - 2), len(params.scale)), params.scale.dtype)
    if not train:
        factor = params.scale / np.sqrt(state.var + config.epsilon)
        shift = params.shift - state.mean * factor
        return parallel.run([partial(_evaluate, x, factor, shift, pool) for x in xs]), state, None
    if sum(x.size for x in xs) == 0:
        raise LayerError(repr(config), "an empty batch has no mean", "Train on batches of at least one example")
    centred, centres, sums, squares = zip(*parallel.run([partial(_moments, x) for x in xs]), strict=True)
    # Moments about the chunks' centres, then about the batch's mean.
    counts = np.array([x.size // x.shape[-1] for x in xs], np.float64)[:, None]
    mean = (np.sum(sums, axis=0) + (counts * centres).sum(axis=0)) / counts.sum()
    offsets = centres - mean
    total = np.sum(squares, axis=0) + (offsets * (2 * np.stack(sums) + counts * offsets)).sum(axis=0)
    var = np.maximum(total, 0) / counts.sum()
    mean, var, offsets = (each.astype(xs[0].dtype) for each in (mean, var, offsets))
    inverse_deviation = 1 / np.sqrt(var + config.epsilon)
    factor = params.scale * inverse_deviation
    tasks = [
        partial(_normalise, x, x_centred, offset, factor, params.shift, pool)
        for x, x_centred, offset in zip(xs, centred, offsets, strict=True)
    ]
    ys, chunks = zip(*parallel.run(tasks), strict=True)
    keep, take = config.momentum, 1 - config.momentum
    running = BatchNormState(mean=keep * state.mean + take * mean, var=keep * state.var + take * var)
    return list(ys), read_only(running), _BatchNormResiduals(chunks, inverse_deviation)


def _evaluate(x: Array, factor: Array, shift: Array, pool: Layer | None) -> Array:
    if pool is None:
        return _scale_and_shift(x, factor, shift)
    if (factor >= 0).all():
        return _scale_and_shift(pool.apply(None, None, x).y, factor, shift)
    return pool.apply(None, None, _scale_and_shift(x, factor, shift)).y


def _moments(x: Array) -> tuple[Array, Array, Array, Array]:
    """x less a centre, as `channel_rows`; and for each channel the centre, the sum of what is left, and of its squares.

    The centre is 0 if float32 has digits enough for that, and else the mean: it costs a pass, and a copy.
    """
    source = channel_rows(x)
    total, squares = sum_channels(source), dot_channels(source, source)
    centre = total / max(1, source.size // x.shape[-1])
    if (squares <= _SAFE * (squares - total * centre)).all():
        return source, np.zeros(len(centre), x.dtype), total, squares
    centre = centre.astype(x.dtype)
    centred = np.subtract(source, for_channels(centre, source))
    return centred, centre, sum_channels(centred), dot_channels(centred, centred)


def _normalise(
    x: Array, centred: Array, offset: Array, factor: Array, shift: Array, pool: Layer | None
) -> tuple[Array, _Chunk]:
    """factor · (centred + offset) + shift, pooled if there is a pool."""
    shift = shift + offset * factor
    its = _shaped(centred, x.shape)
    if pool is None:
        return _scale_and_shift(its, factor, shift), _Chunk(centred, offset, None, None)
    if (factor >= 0).all():
        pooled, _, kept = pool.apply(None, None, its, train=True)
        return _scale_and_shift(pooled, factor, shift), _Chunk(centred, offset, kept, pooled)
    y, _, kept = pool.apply(None, None, _scale_and_shift(its, factor, shift), train=True)
    return y, _Chunk(centred, offset, kept, None)


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


def _backward_chunks(
    config: _BatchNorm, params: BatchNormParams, residuals: Any, dys: list[Array], *, need_dx: bool, pool: Layer | None
) -> tuple[BatchNormParams, list[Array] | None]:
    kept = check_residuals(config, residuals)
    pairs = list(zip(kept.chunks, dys, strict=True))
    sums = parallel.run([partial(_sums, chunk, dy, pool) for chunk, dy in pairs])
    along, total, spread = zip(*sums, strict=True)
    dtype = kept.inverse_deviation.dtype
    dscale = (np.sum(along, axis=0) * kept.inverse_deviation).astype(dtype)
    dshift = np.sum(total, axis=0).astype(dtype)
    gradients = BatchNormParams(scale=dscale, shift=dshift)
    if not need_dx:
        return gradients, None
    # dx = scale/σ · (dy - mean(dy) - x̂ · mean(dy · x̂)): what is left of dy once its parts along the two
    # directions that the statistics remove, constants and (but for epsilon) x̂ = (x - mean)/σ, are taken out. The means
    # are dshift / count and dscale / count, and x̂ = (centred + offset)/σ.
    count = sum(chunk.centred.size for chunk, _ in pairs) // len(dshift)
    factor = params.scale * kept.inverse_deviation
    along_x, along_1 = -factor * kept.inverse_deviation * dscale / count, -factor * dshift / count
    tasks = [
        partial(_project, chunk, dy, factor, along_x, along_1 + chunk.offset * along_x, pool)
        for (chunk, _), dy in zip(pairs, spread, strict=True)
    ]
    return gradients, parallel.run(tasks)


def _sums(chunk: _Chunk, dy: Array, pool: Layer | None) -> tuple[Array, Array, Array]:
    """Σ dy · (x - mean) and Σ dy for each channel, and dy, before the pool if that was not first."""
    x = chunk.centred
    if chunk.pooled is not None:
        x = channel_rows(chunk.pooled)  # where a maximum was, dy is; elsewhere it is zero
    elif pool is not None:
        dy = _unpool(pool, chunk, dy)
    gradient = channel_rows(dy)
    total = sum_channels(gradient)
    return dot_channels(gradient, x) + chunk.offset * total, total, dy


def _project(chunk: _Chunk, dy: Array, factor: Array, along_x: Array, along_1: Array, pool: Layer | None) -> Array:
    """factor · dy + along_x · centred + along_1, dy taken back through the pool if that was first."""
    x = chunk.centred
    scaled = empty_like_channels(dy)
    np.multiply(channel_rows(dy), for_channels(factor, channel_rows(dy)), out=channel_rows(scaled))
    dx = _unpool(pool, chunk, scaled) if pool is not None and chunk.pooled is not None else scaled
    rest = np.multiply(x, for_channels(along_x, x), out=parallel.scratch("batch norm", x.shape, x.dtype))
    rest += for_channels(along_1, x)
    out = channel_rows(dx)
    out += rest
    return dx


def _unpool(pool: Layer, chunk: _Chunk, dy: Array) -> Array:
    return pool.backward(None, chunk.pool, dy).dx  # type: ignore[return-value]  # never None: it is asked for


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
