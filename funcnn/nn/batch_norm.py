"""Batch norm, written for a chunk of a batch that meets the others (`funcnn.nn.coupled`).

The chunks' sums are added up in float64, first chunk to last; float16 is computed in float32.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import tree
from funcnn.arrays.layout import (
    add_line,
    channel_rows,
    dot_channels,
    line,
    of_channel_rows,
    plane,
    scale_channels,
    sum_channels,
    wide,
)
from funcnn.arrays.moments import Moments, add_up, batch_statistics, moments, surely_positive, whole_batch
from funcnn.checks import (
    LayerError,
    ShapeError,
    check_array,
    check_dy,
    check_input,
    check_params,
    check_residuals,
    check_weight,
    has_shape,
)
from funcnn.init import ones, zeros
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer
from funcnn.nn.coupled import Coroutine, Coupled, make_coupled
from funcnn.settings import check_positive, check_share, config, number
from funcnn.tree import Array, Shape, node, read_only

__all__ = ["BatchNormParams", "BatchNormState", "batch_norm"]


def batch_norm(*, momentum: float = 0.9, epsilon: float = 1e-5) -> Layer:
    """y = scale · x̂ + shift, x̂ = (x - mean) / sqrt(var + epsilon), per channel (Ioffe & Szegedy 2015).

    (n, ..., c) -> (n, ..., c). In training, mean and the biased variance are the batch's, over every axis but the
    last, and running = momentum · running + (1 - momentum) · batch; otherwise they are the running ones, so that
    an example's output does not depend on its batch. Deviation from the paper: the running variance is biased
    too. ``params.scale, params.shift; state.mean, state.var``.

    dscale = Σ dy · x̂, dshift = Σ dy, dx = scale / sqrt(var + epsilon) · (dy - mean(dy) - x̂ · mean(dy · x̂)).

    >>> layer = batch_norm()
    >>> params, state, _ = layer.init(Key(0), (1,))
    >>> y, state, _ = layer.apply(params, state, np.array([[1.0], [3.0]], np.float32), train=True)
    >>> y.round(3).tolist(), state.mean
    ([[-1.0], [1.0]], array([0.2], dtype=float32))

    Raises ValueError for a momentum outside [0, 1] or an epsilon that is not positive.
    """
    return make_coupled(_BatchNorm(momentum, epsilon), _init)


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


def _init(settings: "_BatchNorm", key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    one, zero = (partial(each(), key, in_shape[-1:], 1, 1, dtype) for each in (ones, zeros))
    return Initialised(BatchNormParams(scale=one(), shift=zero()), BatchNormState(mean=zero(), var=one()), out_shape)


# --- What chunks say and are sent; all of it for each channel -------------------------------------------------


class _Statistics(NamedTuple):
    """Of the batch: y = factor · (x - mean) + shift, and x̂ = (x - mean) · inverse_deviation."""

    mean: Array
    factor: Array
    shift: Array
    inverse_deviation: Array


@node
class _ChunkResiduals:
    """x - c as `channel_rows`; c - mean; 1 / deviation; the residuals of the pool, and its output if it went first.

    `shape` is that of y, and so of dy.
    """

    shape: tuple[int, ...]
    centred: Array
    offset: Array
    inverse_deviation: Array
    pool: Any
    pooled: Array | None


@node
class _WholeResiduals:
    """Of a batch that a device takes whole: x, its mean (float64) and 1 / deviation, the residuals of the pool."""

    shape: tuple[int, ...]
    x: Array
    mean: Array
    inverse_deviation: Array
    pool: Any


class _Sums(NamedTuple):
    """Of a chunk: how many numbers, Σ dy · (x - mean), Σ dy; and the batch's 1 / deviation."""

    size: int
    along: Array
    total: Array
    inverse_deviation: Array


class _Projection(NamedTuple):
    """dx = factor · dy + along_x · (x - mean) + along_1."""

    factor: Array
    along_x: Array
    along_1: Array


# --- The layer ------------------------------------------------------------------------------------------------


@config
class _BatchNorm(Coupled):
    name: ClassVar[str] = "batch_norm"
    momentum: float = number(check_share, default=0.9)
    epsilon: float = number(check_positive, default=1e-5)

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

    @property
    def pool(self) -> Layer | None:
        """The max pool that is a part of it (`_PooledNorm`)."""
        return None

    def with_pool(self, pool: Layer) -> Layer:
        return make_coupled(_PooledNorm(self.momentum, self.epsilon, pool=pool))

    def check(self, params: BatchNormParams, x: Array) -> None:
        """Raise unless x and the params have the same channels."""
        check_params(self, params, BatchNormParams)
        if type(params.scale) is not np.ndarray or params.scale.ndim != 1:
            check_weight(self, "scale", params.scale, (None,))
        channels = params.scale.shape
        if not has_shape(params.shift, channels):
            check_weight(self, "shift", params.shift, channels)
        check_array(self, x, params.scale.dtype)
        check_input(self, x, (*[None] * (x.ndim - 2), *channels), params.scale.dtype, params.scale)

    def check_state(self, params: BatchNormParams, state: BatchNormState) -> None:
        """Raise unless the state has the params' channels."""
        if not isinstance(state, BatchNormState):
            raise LayerError(
                repr(self),
                f"expected its state to be BatchNormState(...), got {type(state).__name__}",
                "Pass the state that this layer's own init or apply gave",
            )
        for name, value in (("mean", state.mean), ("var", state.var)):
            if not has_shape(value, params.scale.shape):
                check_weight(self, name, value, params.scale.shape)

    def evaluate(self, params: BatchNormParams, state: BatchNormState, x: Array) -> Array:
        self.check(params, x)
        self.check_state(params, state)
        factor = wide(params.scale) / np.sqrt(wide(state.var) + self.epsilon)
        y, _, _ = _normalise_and_pool(wide(x), factor, params.shift - state.mean * factor, self.pool, train=False)
        return y.astype(x.dtype, copy=False)

    def apply_meeting(
        self, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        self.check(params, x)
        whole = whole_batch(x) if train else None
        if whole is None:
            return (yield from super().apply_meeting(params, state, x, key=key, train=train))
        self.check_state(params, state)
        found = whole.statistics(x, state.mean, state.var, momentum=self.momentum, epsilon=self.epsilon)
        y, kept = whole.normalize(x, found.mean, found.inverse, params.scale, params.shift), None
        if self.pool is not None:
            y, _, kept = self.pool.apply(None, None, y, train=True)
        state = BatchNormState(found.running_mean, found.running_var)
        return Applied(y, state, _WholeResiduals(y.shape, x, found.mean, found.inverse, kept))

    def backward_meeting(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Coroutine:
        if not isinstance(residuals, _WholeResiduals):
            return (yield from super().backward_meeting(params, residuals, dy, need_dx=need_dx))
        check_params(self, params, BatchNormParams)
        check_dy(self.pool.config if self.pool else self, dy, residuals.shape, params.scale.dtype)
        if self.pool is not None:
            dy = _unpool(self.pool, residuals, dy)
        x, mean, inverse = residuals.x, residuals.mean, residuals.inverse_deviation
        dx, *sums = whole_batch(x).normalize_back(dy, x, mean, inverse, params.scale, need_dx=need_dx)
        return Gradients(BatchNormParams(*sums), dx)

    def apply_chunk(self, params: BatchNormParams, x: Array) -> Coroutine:
        self.check(params, x)
        dtype, x = x.dtype, wide(x)
        centred, its_moments = moments(x)
        mean, factor, shift, inverse_deviation = yield its_moments
        # x - mean = centred + offset
        offset = (its_moments.centre - mean).astype(x.dtype)
        y, kept, pooled = _normalise_and_pool(
            of_channel_rows(centred, x.shape), factor, shift + offset * factor, self.pool, train=True
        )
        kept = _ChunkResiduals(y.shape, centred, offset, inverse_deviation, kept, pooled)
        return y.astype(dtype, copy=False), kept

    def meet(
        self, params: BatchNormParams, state: BatchNormState, said: Sequence[Moments]
    ) -> tuple[_Statistics, BatchNormState]:
        self.check_state(params, state)
        count = sum(each.size for each in said)
        if count == 0:
            raise LayerError(repr(self), "an empty batch has no mean", "Train on batches of at least one example")
        mean, inverse_deviation, *running = batch_statistics(said, state.mean, state.var, self.momentum, self.epsilon)
        factor, shift = wide(params.scale) * inverse_deviation, wide(params.shift)
        return _Statistics(mean, factor, shift, inverse_deviation), read_only(BatchNormState(*running))

    def backward_chunk(self, params: BatchNormParams, residuals: Any, dy: Array, *, need_dx: bool) -> Coroutine:
        kept = check_residuals(self, residuals, _ChunkResiduals)
        check_params(self, params, BatchNormParams)
        x = kept.centred
        check_dy(self.pool.config if self.pool else self, dy, kept.shape, params.scale.dtype)
        dtype, dy = dy.dtype, wide(dy)
        if kept.pooled is not None:
            x = channel_rows(kept.pooled)  # where a maximum was, dy is; elsewhere it is zero
        elif self.pool is not None:
            dy = _unpool(self.pool, kept, dy)
        gradient = channel_rows(dy)
        # x - mean = centred + offset, so Σ dy·(x - mean) = Σ dy·centred + offset·Σ dy, and below in the same way
        # along_x·(x - mean) + along_1 = along_x·centred + (along_1 + offset·along_x).
        total = sum_channels(gradient)
        along = dot_channels(gradient, x) + kept.offset * total
        factor, along_x, along_1 = yield _Sums(kept.centred.size // len(total), along, total, kept.inverse_deviation)
        if not need_dx:
            return None
        dx = _project(kept, dy, factor, along_x, along_1 + kept.offset * along_x, self.pool)
        return dx.astype(dtype, copy=False)

    def meet_backward(self, params: BatchNormParams, said: Sequence[_Sums]) -> tuple[_Projection, BatchNormParams]:
        # dx = scale/σ · (dy - mean(dy) - x̂ · mean(dy · x̂)): what is left of dy once its parts along the two
        # directions that the statistics remove, constants and (but for epsilon) x̂ = (x - mean)/σ, are taken out.
        # The means are dshift / count and dscale / count.
        sizes, along, total, (inverse_deviation, *_) = zip(*said, strict=True)
        dtype, count = inverse_deviation.dtype, sum(sizes)
        dscale = (add_up(along) * inverse_deviation).astype(dtype)
        dshift = add_up(total).astype(dtype)
        factor = wide(params.scale) * inverse_deviation
        sent = _Projection(factor, -factor * inverse_deviation * dscale / count, -factor * dshift / count)
        return sent, tree.map(lambda sums: sums.astype(params.scale.dtype, copy=False), BatchNormParams(dscale, dshift))


@config
class _PooledNorm(_BatchNorm):
    """Batch norm and the max pool that follows it, as one layer.

    The pool goes first if it may: factor · x + shift increases with x where the factor is positive, so its maxima are
    where those of x are, and what is left to do is done on a quarter of the numbers (or less), forward and back.
    """

    pool: Layer = attrs.field(kw_only=True)

    def arguments(self) -> dict[str, Any]:
        given = super().arguments()
        del given["pool"]  # it prints as the batch norm that was written, which an error then names
        return given


# --- Arithmetic -----------------------------------------------------------------------------------------------


def _normalise_and_pool(
    x: Array, factor: Array, shift: Array, pool: Layer | None, *, train: bool
) -> tuple[Array, Any, Array | None]:
    """factor · x + shift, pooled; the pool's residuals; and x pooled, if the pool went first."""
    if pool is None:
        return line(x, factor, shift), None, None
    if surely_positive(factor):
        pooled, _, kept = pool.apply(None, None, x, train=train)
        return line(pooled, factor, shift), kept, pooled
    y, _, kept = pool.apply(None, None, line(x, factor, shift), train=train)
    return y, kept, None


def _unpool(pool: Layer, kept: "_ChunkResiduals | _WholeResiduals", dy: Array) -> Array:
    return pool.backward(None, kept.pool, dy).dx  # type: ignore[return-value]  # not None: dx is asked for


def _project(
    kept: _ChunkResiduals, dy: Array, factor: Array, along_x: Array, along_1: Array, pool: Layer | None
) -> Array:
    """factor · dy + along_x · centred + along_1, dy taken back through the pool if that went first."""
    if pool is None or kept.pooled is None:
        return plane(dy, kept.centred, factor, along_x, along_1)
    dx = _unpool(pool, kept, scale_channels(dy, factor))
    add_line(channel_rows(dx), kept.centred, along_x, along_1)
    return dx
