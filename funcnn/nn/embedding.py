"""Vectors for whole numbers, such as the ids of words, scores for them again, and what tells positions apart."""

import math
from functools import lru_cache
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays import layout
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.products import as_rows, matmul
from funcnn.arrays.scatter import sum_rows, take_rows
from funcnn.checks import (
    Form,
    ShapeError,
    check_dy,
    check_float,
    check_input,
    check_params,
    check_residuals,
    check_weight,
    check_whole,
)
from funcnn.init import Initializer, check_initializer, normal
from funcnn.keys import Key, fold_in
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.settings import as_int, check_count, check_counts, check_positive, config, count, number
from funcnn.system.devices import beside
from funcnn.tree import Array, Shape, node

__all__ = [
    "EmbeddingParams", "PositionEmbeddingParams", "embedding", "position_embedding", "sinusoidal_positions",
    "unembedding",
]  # fmt: skip


def embedding(vocabulary: int, features: int, *, weight_init: Initializer = normal(0.02)) -> Layer:  # noqa: B008
    """y = weight[x], a learned vector for each whole number: (n, ...) -> (n, ..., features).

    x is of any integer dtype, from 0 below the vocabulary. dweight[i] = Σ dy where x = i; dx is None, since whole
    numbers have no slope. ``params.weight`` (vocabulary, features).

    >>> layer = embedding(50, 4)
    >>> params, state, out_shape = layer.init(Key(0), (7,))
    >>> params.weight.shape, out_shape
    ((50, 4), (7, 4))
    >>> y = layer.apply(params, state, np.array([[3, 1, 3]])).y
    >>> bool((y[0, 0] == y[0, 2]).all())
    True

    The weights are drawn with a deviation of 0.02, as GPT-2's are (PyTorch's have 1), small enough for their products
    to be logits (`unembedding`).

    Raises ValueError for a size that is no positive int; apply raises LayerError for numbers outside the vocabulary.
    """
    return make_layer(_Embedding(vocabulary, features, weight_init), _apply, _backward, _init)


def unembedding(vocabulary: int, *, weight_init: Initializer = normal(0.02)) -> Layer:  # noqa: B008
    """y = x · weightᵀ, a score for each whole number of a vocabulary: (n, ..., features) -> (n, ..., vocabulary).

    dweight = dyᵀ · x over all positions, dx = dy · weight. ``params.weight`` (vocabulary, features) is as that of
    `embedding`, which it may be: tied, the two layers share it (Press & Wolf 2017).

    >>> layer = unembedding(50)
    >>> params, state, out_shape = layer.init(Key(0), (7, 4))
    >>> params.weight.shape, out_shape
    ((50, 4), (7, 50))

    Raises ValueError unless `vocabulary` is a positive int.
    """
    return make_layer(_Unembedding(vocabulary, weight_init), _un_apply, _un_backward, _un_init)


def position_embedding(max_time: int | None = None, *, weight_init: Initializer = normal(0.02)) -> Layer:  # noqa: B008
    """y = x + weight[:time], a learned vector for each position: (n, time, features) -> (n, time, features).

    dweight = Σ_n dy, zero from `time` on; dx = dy. ``params.weight`` (max_time, features); without `max_time`, so many
    as an example has at init (Gehring et al. 2017). For one bias per position of an image, see `position_bias`.

    >>> layer = position_embedding(128)
    >>> params, state, out_shape = layer.init(Key(0), (10, 4))
    >>> params.weight.shape, out_shape
    ((128, 4), (10, 4))

    Raises ValueError for a `max_time` that is no positive int; apply raises ShapeError for longer sequences.
    """
    return make_layer(_PositionEmbedding(max_time, weight_init), _position_apply, _position_backward, _position_init)


def sinusoidal_positions(*, base: float = 10000.0) -> Layer:
    """y = x + p, sines and cosines of the position: (n, time, features) -> (n, time, features); dx = dy.

    p[t, 2i] = sin(t / base^(2i / features)), p[t, 2i + 1] = cos of the same (Vaswani et al. 2017, 3.5): any length
    will do, and nothing is learned.

    >>> x = np.zeros((1, 2, 4))
    >>> sinusoidal_positions().apply(None, None, x).y.round(3)
    array([[[0.   , 1.   , 0.   , 1.   ],
            [0.841, 0.54 , 0.01 , 1.   ]]])

    Raises ValueError for a base that is not positive.
    """
    return make_layer(_SinusoidalPositions(base), _sinusoidal_apply, _same_backward)


# --- embedding ------------------------------------------------------------------------------------------------

_FEW = 1024  # words at most, to go by chunks: a chunk's weight gradient is then no larger than the chunk, about


@node
class EmbeddingParams:
    """weight (vocabulary, features)."""

    weight: Array


@config
class _Embedding(Config):
    name: ClassVar[str] = "embedding"
    vocabulary: int = count()
    features: int = count()
    weight_init: Initializer = attrs.field(default=normal(0.02), validator=check_initializer)

    @property
    def by_chunks(self) -> bool:
        return self.vocabulary <= _FEW

    def out_shape(self, in_shape: Shape) -> Shape:
        return (*in_shape, self.features)


def _init(settings: _Embedding, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    shape = settings.vocabulary, settings.features
    weight = settings.weight_init(fold_in(key, "weight"), shape, *shape, dtype)
    return Initialised(EmbeddingParams(weight), None, settings.out_shape(in_shape))


@underflow_is_zero
def _apply(
    settings: _Embedding, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_params(settings, params, EmbeddingParams)
    check_weight(settings, "weight", params.weight, (settings.vocabulary, settings.features))
    check_whole(settings, x, settings.vocabulary)
    y = take_rows(params.weight, x.reshape(x.size)).reshape(*x.shape, settings.features)
    return Applied(y, state, x if train else None)


@underflow_is_zero
def _backward(settings: _Embedding, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    x = check_residuals(settings, residuals, np.ndarray)
    check_params(settings, params, EmbeddingParams)
    check_whole(settings, x, settings.vocabulary)
    check_dy(settings, dy, (*x.shape, settings.features), params.weight.dtype)
    rows = dy.reshape(x.size, settings.features)
    return Gradients(EmbeddingParams(sum_rows(rows, x.reshape(x.size), settings.vocabulary)), None)


# --- unembedding ----------------------------------------------------------------------------------------------


def _check_words(instance: Any, attribute: Any, value: Any) -> None:
    check_counts(instance.name, vocabulary=value)


@config
class _Unembedding(Config):
    name: ClassVar[str] = "unembedding"
    # Not `vocabulary`, which says that a layer's inputs are whole numbers.
    words: int = attrs.field(converter=as_int, validator=_check_words)
    weight_init: Initializer = attrs.field(default=normal(0.02), validator=check_initializer)

    @property
    def by_chunks(self) -> bool:
        return self.words <= _FEW

    def arguments(self) -> dict[str, Any]:
        return {{"words": "vocabulary"}.get(name, name): value for name, value in super().arguments().items()}

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape:
            raise ShapeError(
                repr(self), "expected examples of shape (..., features), got ()", "Put an embedding before it"
            )
        return (*in_shape[:-1], self.words)

    def macs(self, in_shape: Shape) -> int:
        return math.prod(in_shape) * self.words

    def check(self, params: Any, x: Array) -> None:
        """Raise unless the params are of so many words, and x is for them."""
        check_params(self, params, EmbeddingParams)
        weight = params.weight
        check_weight(self, "weight", weight, (self.words, None))
        check_input(self, x, (*(None,) * (np.ndim(x) - 2), weight.shape[1]), weight.dtype, weight)


def _un_init(settings: _Unembedding, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    shape = settings.words, in_shape[-1]
    weight = settings.weight_init(fold_in(key, "weight"), shape, in_shape[-1], settings.words, dtype)
    return Initialised(EmbeddingParams(weight), None, out_shape)


@underflow_is_zero
def _un_apply(
    settings: _Unembedding, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    settings.check(params, x)
    y = matmul(as_rows(x), params.weight.T)
    return Applied(y.reshape(*x.shape[:-1], settings.words), state, x if train else None)


@underflow_is_zero
def _un_backward(settings: _Unembedding, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    x = check_residuals(settings, residuals, np.ndarray)
    settings.check(params, x)
    check_dy(settings, dy, (*x.shape[:-1], settings.words), x.dtype)
    dx = matmul(as_rows(dy), params.weight).reshape(x.shape) if need_dx else None
    return Gradients(EmbeddingParams(matmul(as_rows(dy).T, as_rows(x))), dx)


# --- positions ------------------------------------------------------------------------------------------------


@node
class PositionEmbeddingParams:
    """weight (max_time, features)."""

    weight: Array


class _Positions(Config):
    by_chunks: ClassVar[bool] = True

    def out_shape(self, in_shape: Shape) -> Shape:
        if len(in_shape) != 2:
            raise ShapeError(
                repr(self),
                f"expected sequences of shape (time, features), got {in_shape}",
                f"Leave out the batch axis: {in_shape[1:]}" if len(in_shape) == 3 else "Put an embedding before it",
            )
        return in_shape


@config
class _PositionEmbedding(_Positions):
    name: ClassVar[str] = "position_embedding"
    max_time: int | None = attrs.field(default=None, converter=as_int, validator=attrs.validators.optional(check_count))
    weight_init: Initializer = attrs.field(default=normal(0.02), validator=check_initializer)

    def out_shape(self, in_shape: Shape) -> Shape:
        out_shape = super().out_shape(in_shape)
        self.check_time(in_shape[0], self.max_time)
        return out_shape

    def check_time(self, time: int, most: int | None) -> None:
        """Raise unless there is a position for each step."""
        if most is not None and time > most:
            raise ShapeError(
                repr(self), f"expected sequences of at most {most} steps, got {time}", "Shorten them, or give max_time"
            )


def _position_init(
    settings: _PositionEmbedding, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32
) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    shape = in_shape[0] if settings.max_time is None else settings.max_time, in_shape[1]
    weight = settings.weight_init(fold_in(key, "weight"), shape, *shape, dtype)
    return Initialised(PositionEmbeddingParams(weight), None, out_shape)


@underflow_is_zero
def _position_apply(
    settings: _PositionEmbedding, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_params(settings, params, PositionEmbeddingParams)
    weight = params.weight
    check_weight(settings, "weight", weight, (settings.max_time, None))
    check_input(settings, x, (None, weight.shape[1]), weight.dtype, weight)
    settings.check_time(x.shape[1], len(weight))
    return Applied(x + weight[: x.shape[1]], state, Form(x.shape, x.dtype) if train else None)


def _position_backward(
    settings: _PositionEmbedding, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    check_params(settings, params, PositionEmbeddingParams)
    check_dy(settings, dy, kept.shape, kept.dtype)
    gradient = np.zeros_like(params.weight)
    gradient[: dy.shape[1]] = layout.sum_examples(dy)
    return Gradients(PositionEmbeddingParams(gradient), dy if need_dx else None)


@config
class _SinusoidalPositions(_Positions):
    name: ClassVar[str] = "sinusoidal_positions"
    base: float = number(check_positive, default=10000.0)


@lru_cache(maxsize=16)
def _sinusoids(time: int, features: int, base: float, dtype: np.dtype[Any]) -> Array:
    """The sines and cosines (time, features)."""
    angles = np.outer(np.arange(time), base ** (-(np.arange(features) // 2) * 2 / features))
    table: Array = np.where(np.arange(features) % 2, np.cos(angles), np.sin(angles)).astype(dtype)
    table.flags.writeable = False
    return table


def _sinusoidal_apply(
    settings: _SinusoidalPositions, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_float(settings, x)
    settings.out_shape(x.shape[1:])
    y = x + beside(_sinusoids(*x.shape[1:], settings.base, x.dtype), x)
    return Applied(y, state, Form(x.shape, x.dtype) if train else None)


def _same_backward(
    settings: _SinusoidalPositions, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    check_dy(settings, dy, kept.shape, kept.dtype)
    return Gradients(None, dy if need_dx else None)
