"""Multi-head attention: every position of a sequence looks at all others, or at those of another sequence."""

import math
from typing import Any, ClassVar, cast

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.attention import Drop, Kept, Sight, attend, attend_back
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.masks import LEVELS
from funcnn.arrays.products import as_rows, column_sums, matmul
from funcnn.arrays.rotary import rotate, rotate_back
from funcnn.checks import (
    LayerError,
    ShapeError,
    check_dy,
    check_input,
    check_key,
    check_params,
    check_residuals,
    check_weight,
    is_several,
    range_of,
)
from funcnn.init import Initializer, check_initializer, glorot_uniform, zeros
from funcnn.keys import Key, fold_in
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, Vocabulary, make_layer
from funcnn.nn.combining import check_several
from funcnn.nn.dense import DenseParams
from funcnn.settings import as_int, check_count, check_decay, check_flag, config, count, number
from funcnn.tree import Array, Shape, node

__all__ = ["CrossAttentionParams", "SelfAttentionParams", "cross_attention", "self_attention"]


def self_attention(
    heads: int,
    *,
    head_features: int | None = None,
    causal: bool = False,
    masked: bool = False,
    rotary: bool = False,
    dropout: float = 0.0,
    use_bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008  (a frozen value)
    out_init: Initializer | None = None,
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Each position a mean over all, weighted by how its query fits their keys: (n, time, features) -> the same.

    [q, k, v] = x · qkv + bias, cut into heads of `head_features` (features / heads, if None); each head makes
    o = softmax(q · kᵀ / √head_features) · v; y = [o of all heads] · out + bias (Vaswani et al. 2017; backward is in
    `funcnn.arrays.attention`). ``params.qkv`` and ``params.out`` are a weight and a bias each: (features,
    3 · heads · head_features) and (heads · head_features, features).

    - `causal`: a position looks at itself and those before it.
    - `masked`: x is a tuple (sequence, mask), the mask (n, time) of booleans, or of 0 and 1: which positions may be
      looked at, False for padding. dx is then (dx, None). A row that may look at nothing gets o = 0.
    - `rotary`: queries and keys are turned by their positions (`funcnn.arrays.rotary`).
    - `dropout`: the share of the weights that are dropped in training (rounded as in `dropout`).

    >>> layer = self_attention(4, causal=True)
    >>> params, state, out_shape = layer.init(Key(0), (10, 32))
    >>> params.qkv.weight.shape, params.out.weight.shape, out_shape
    ((32, 96), (32, 32), (10, 32))

    Up to 65,536 pairs of positions a head's weights are kept for backward; of longer sequences only a number for each
    row is, and memory grows with the time, not with its square (Rabe & Staats 2021, Dao et al. 2022). The masks of
    dropout are drawn anew in backward, for each block of weights from a key of its own. `weight_init` is drawn with the
    fans of one of q, k and v; `out_init`, if it is not None, is that of `out`.

    Raises ValueError for counts that are not positive, ShapeError unless the heads divide the features, or for an odd
    `head_features` with `rotary`.
    """
    settings = _SelfAttention(
        heads, head_features, masked, dropout, use_bias, weight_init, out_init, bias_init, causal, rotary
    )
    return make_layer(settings, _apply, _backward, _init)


def cross_attention(
    heads: int,
    *,
    head_features: int | None = None,
    masked: bool = False,
    dropout: float = 0.0,
    use_bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    out_init: Initializer | None = None,
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """`self_attention` with the keys and values of a memory: ((n, time, features), (n, time2, features2)) -> the first.

    x is a tuple (sequence, memory): q = sequence · query + bias, [k, v] = memory · key_value + bias, then as there.
    dx is a tuple of both's. ``params.query`` (features, heads · head_features), ``params.key_value`` (features2,
    2 · heads · head_features) and ``params.out``, a weight and a bias each. If `masked`, x is (sequence, memory, mask),
    the mask (n, time2) of what may be looked at, and dx ends with None.

    >>> layer = cross_attention(4)
    >>> params, state, out_shape = layer.init(Key(0), ((10, 32), (7, 24)))
    >>> params.query.weight.shape, params.key_value.weight.shape, out_shape
    ((32, 32), (24, 64), (10, 32))

    Raises what `self_attention` does, and LayerError for what is no tuple of sequences.
    """
    settings = _CrossAttention(heads, head_features, masked, dropout, use_bias, weight_init, out_init, bias_init)
    return make_layer(settings, _apply, _backward, _init)


# --- Params ---------------------------------------------------------------------------------------------------


@node
class SelfAttentionParams:
    """qkv (features, 3 · heads · head_features) and out (heads · head_features, features): a weight and a bias each."""

    qkv: DenseParams
    out: DenseParams


@node
class CrossAttentionParams:
    """query, key_value (twice as wide) and out: a weight and a bias each."""

    query: DenseParams
    key_value: DenseParams
    out: DenseParams


# --- Settings -------------------------------------------------------------------------------------------------


@config
class _Attention(Config):
    """What both have. A sequence of x is multiplied by the weight of a name, and gives so many of q, k and v."""

    by_chunks: ClassVar[bool] = True
    takes_several: ClassVar[bool] = True
    makes: ClassVar[dict[str, int]]
    params_class: ClassVar[type]
    heads: int = count()
    head_features: int | None = attrs.field(
        default=None, converter=as_int, validator=attrs.validators.optional(check_count)
    )
    masked: bool = attrs.field(default=False, validator=check_flag)
    dropout: float = number(check_decay, default=0.0)
    use_bias: bool = attrs.field(default=True, validator=check_flag)
    weight_init: Initializer = attrs.field(default=glorot_uniform(), validator=check_initializer)
    out_init: Initializer | None = attrs.field(default=None, validator=attrs.validators.optional(check_initializer))
    bias_init: Initializer = attrs.field(default=zeros(), validator=check_initializer)
    causal: bool = attrs.field(default=False, validator=check_flag)  # self_attention's alone, and so is rotary
    rotary: bool = attrs.field(default=False, validator=check_flag)

    @property
    def stochastic(self) -> bool:
        return self.dropout > 0

    @property
    def vocabulary(self) -> Vocabulary:
        return (*[None] * len(self.makes), 2) if self.masked else None

    def drop(self, key: Key | None) -> Drop | None:
        """What is dropped in training."""
        if self.dropout == 0:
            return None
        return Drop(check_key(self, key), min(round(self.dropout * LEVELS), LEVELS - 1))

    # Shapes.

    def width(self, features: int) -> int:
        """The numbers of all heads together, given the features of the sequence that asks."""
        size = self.head_features
        if size is None and features % self.heads:
            fix = f"Take another number of heads, or give {self.name} head_features"
            raise ShapeError(repr(self), f"expected features that its {self.heads} heads divide, got {features}", fix)
        size = size or features // self.heads
        if self.rotary and size % 2:
            problem = f"expected heads of an even number of features, which rotary turns in pairs, got {size}"
            raise ShapeError(repr(self), problem, "Pass an even head_features")
        return self.heads * size

    def shapes(self, in_shape: Any) -> tuple[Shape, ...]:
        """The shapes of an example's sequences; raises ShapeError for any others, and for a mask of another length."""
        kinds = len(self.makes)
        shapes: tuple[Shape, ...] = tuple(in_shape) if is_several(in_shape) else (in_shape,)
        sequences, masks = shapes[:kinds], shapes[kinds:]
        fits = len(sequences) == kinds and all(len(shape) == 2 for shape in sequences)
        if not fits or masks != (sequences[-1][:1],) * self.masked:
            fix = ("Put embedding(...) before it", "Give a tuple (sequence, memory)")[kinds - 1]
            if fits and len(masks) > self.masked:
                fix = f"For a mask write {self.name}(..., masked=True)"
            elif fits and self.masked:
                fix = "Give a mask of one boolean for each position, last in the tuple"
            wanted = ["(time, features)", "(time2, features2)"][:kinds]
            wanted += [("(time,)", "(time2,)")[kinds - 1]] if self.masked else []
            raise ShapeError(repr(self), f"expected the shape {', '.join(wanted)}, got {in_shape}", fix)
        return sequences

    def out_shape(self, in_shape: Any) -> Shape:
        first, *_ = self.shapes(in_shape)
        self.width(first[-1])
        return first

    def macs(self, in_shape: Any) -> int:
        shapes = self.shapes(in_shape)
        (time, features), (keys, _) = shapes[0], shapes[-1]
        width = self.width(features)
        made = sum(math.prod(shape) * count for shape, count in zip(shapes, self.makes.values(), strict=True))
        return width * (made + time * features + 2 * time * keys)

    # What apply and backward are given.

    def sequences(self, params: Any, x: Any) -> tuple[tuple[Array, ...], Array | None]:
        """The sequences of x, and where the last may be looked at; raises unless they and the params fit."""
        check_params(self, params, self.params_class)
        sequences, mask = (x,), None
        if isinstance(x, tuple) and len(x) == len(self.makes) + 1 and not self.masked:
            wanted = ("a sequence", "(sequence, memory)")[len(self.makes) - 1]
            problem = f"expected {wanted}, got a tuple of {len(x)}"
            raise LayerError(repr(self), problem, f"For a mask write {self.name}(..., masked=True)")
        if len(self.makes) + self.masked > 1:
            check_several(self, x, len(self.makes) + self.masked)
            sequences, mask = (x[:-1], x[-1]) if self.masked else (x, None)
        width = self.width(getattr(params, next(iter(self.makes))).weight.shape[0])
        for (name, parts), sequence in zip(self.makes.items(), sequences, strict=True):
            its = self.check_product(name, getattr(params, name), None, parts * width)
            check_input(self, sequence, (None, its.weight.shape[0]), its.weight.dtype, its.weight)
        self.check_product("out", params.out, width, sequences[0].shape[-1])
        if mask is not None and (mask.shape != sequences[-1].shape[:2] or mask.dtype.kind not in "biu"):
            raise ShapeError(
                repr(self),
                f"expected a mask of booleans {sequences[-1].shape[:2]}, got {mask.dtype} {mask.shape}",
                "Give one for each position, True where it may be looked at, last in the tuple",
            )
        low, high = (0, 1) if mask is None or mask.dtype.kind == "b" else range_of(mask)
        if not 0 <= low <= high <= 1:
            problem = f"expected a mask of booleans, or of 0 and 1, got {low} to {high}"
            raise LayerError(repr(self), problem, "Pass mask != 0")
        return sequences, None if mask is None else mask != 0

    def check_product(self, name: str, its: Any, rows: int | None, columns: int) -> DenseParams:
        """The weight and the bias of a product; raises unless they have such shapes."""
        check_params(self, its, DenseParams)
        check_weight(self, f"{name}.weight", its.weight, (rows, columns))
        if its.bias is not None:
            check_weight(self, f"{name}.bias", its.bias, (columns,))
        return cast(DenseParams, its)


@config
class _SelfAttention(_Attention):
    name: ClassVar[str] = "self_attention"
    makes: ClassVar[dict[str, int]] = {"qkv": 3}
    params_class: ClassVar[type] = SelfAttentionParams


@config
class _CrossAttention(_Attention):
    name: ClassVar[str] = "cross_attention"
    makes: ClassVar[dict[str, int]] = {"query": 1, "key_value": 2}
    params_class: ClassVar[type] = CrossAttentionParams


# --- The functions --------------------------------------------------------------------------------------------


def _init(settings: _Attention, key: Key, in_shape: Any, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    features = out_shape[-1]
    width = settings.width(features)

    def product(name: str, fan_in: int, fan_out: int, count: int, weight_init: Initializer) -> DenseParams:
        its_key, columns = fold_in(key, name), count * fan_out
        weight = weight_init(fold_in(its_key, "weight"), (fan_in, columns), fan_in, fan_out, dtype)
        if not settings.use_bias:
            return DenseParams(weight, None)
        return DenseParams(weight, settings.bias_init(fold_in(its_key, "bias"), (columns,), fan_in, fan_out, dtype))

    made = [
        product(name, shape[-1], width, count, settings.weight_init)
        for (name, count), shape in zip(settings.makes.items(), settings.shapes(in_shape), strict=True)
    ]
    out = product("out", width, features, 1, settings.out_init or settings.weight_init)
    return Initialised(settings.params_class(*made, out), None, out_shape)


@node
class _Residuals:
    """The sequences; q, k and v (n, heads, time, d) as they met, and how; all heads' outputs (n, time, heads · d)."""

    sequences: tuple[Array, ...]
    q: Array
    k: Array
    v: Array
    mask: Array | None
    key: Key | None
    kept: Kept
    o: Array


@underflow_is_zero
def _apply(
    settings: _Attention, params: Any, state: Any, x: Any, *, key: Key | None = None, train: bool = False
) -> Applied:
    sequences, mask = settings.sequences(params, x)
    made = zip(sequences, settings.makes.items(), strict=True)
    q, k, v = [
        each for x, (name, count) in made for each in _heads(settings, _product(x, getattr(params, name)), count)
    ]
    if settings.rotary:
        q, k = rotate(q), rotate(k)
    drop = settings.drop(key) if train else None
    heads, kept = attend(q, k, v, Sight(settings.causal, mask), drop, train=train)
    n, _, time, size = heads.shape
    o = heads.swapaxes(1, 2).reshape(n, time, settings.heads * size)
    residuals = None
    if kept is not None:
        residuals = _Residuals(sequences, q, k, v, mask, key if drop else None, kept, o)
    return Applied(_product(o, params.out), state, residuals)


@underflow_is_zero
def _backward(settings: _Attention, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    its = check_residuals(settings, residuals, _Residuals)
    check_params(settings, params, settings.params_class)
    sequences, o = its.sequences, its.o
    check_dy(settings, dy, sequences[0].shape, o.dtype)
    out, do = _product_back(o, params.out, dy)
    width = o.shape[-1]
    made = [
        np.empty_like(o, shape=(*x.shape[:2], count * width))
        for x, count in zip(sequences, settings.makes.values(), strict=True)
    ]
    dq, dk, dv = [
        each for its, count in zip(made, settings.makes.values(), strict=True) for each in _heads(settings, its, count)
    ]
    (o_heads,), (do_heads,) = _heads(settings, o, 1), _heads(settings, do, 1)
    sight, drop = Sight(settings.causal, its.mask), settings.drop(its.key)
    attend_back(its.q, its.k, its.v, o_heads, its.kept, do_heads, (dq, dk, dv), sight, drop)
    if settings.rotary:
        dq[...], dk[...] = rotate_back(dq), rotate_back(dk)
    gradients, dxs = zip(
        *[
            _product_back(x, getattr(params, name), dy, need_dx=need_dx)
            for x, name, dy in zip(sequences, settings.makes, made, strict=True)
        ],
        strict=True,
    )
    dx = (*dxs, None) if settings.masked else dxs if len(dxs) > 1 else dxs[0]
    return Gradients(settings.params_class(*gradients, out), dx if need_dx else None)


def _heads(settings: _Attention, y: Array, count: int) -> Array:
    """The view (n, time, count · heads · d) -> (count, n, heads, time, d)."""
    n, time, width = y.shape
    return y.reshape(n, time, count, settings.heads, width // (count * settings.heads)).transpose(2, 0, 3, 1, 4)


def _product(x: Array, params: DenseParams) -> Array:
    """x · weight + bias: (n, time, in) -> (n, time, out)."""
    y = matmul(as_rows(x), params.weight)
    if params.bias is not None:
        y += params.bias
    return y.reshape(*x.shape[:2], y.shape[-1])


def _product_back(x: Array, params: DenseParams, dy: Array, *, need_dx: bool = True) -> tuple[DenseParams, Any]:
    """The gradients of a product, and dx if it is needed."""
    rows, dy = as_rows(x), as_rows(dy)
    bias = column_sums(dy) if params.bias is not None else None
    dx = matmul(dy, params.weight.T).reshape(x.shape) if need_dx else None
    return DenseParams(matmul(rows.T, dy), bias), dx
