"""Scaled dot-product attention on arrays (Vaswani et al. 2017): each row of the queries takes a mean of the values.

For one head, q (rows, d), k (keys, d) and v (keys, d), with scale = 1/√d:

    scores  = scale · q · kᵀ                  (rows, keys), -∞ where a row may not look at a key
    weights = softmax(scores)                 each row adds to 1
    o       = weights · v                     (rows, d)

Backward, given do; Σ_j weights · dweights of a row is do · o, since o = weights · v (Dao et al. 2022):

    dv       = weightsᵀ · do
    dweights = do · vᵀ
    dscores  = weights · (dweights - do · o)  number by number
    dq, dk   = scale · dscores · k,  scale · dscoresᵀ · q

`attention` is this on whole matrices, and what short sequences use. Long ones go by blocks of rows, so that no array
grows with rows × keys: kept is the logarithm of each row's sum of exponentials, from which backward makes the weights
anew, block by block (Rabe & Staats 2021; Dao et al. 2022, who cut the keys too: here a block has all keys of its rows,
and fewer rows the more keys there are). Where a row may only look back, keys after a block's last row are left out.

Arrays are (n, heads, time, d), by strides: a head's numbers need to be adjacent along the last axis alone, so the
product that makes all heads is used as it lies, and the results are written where the next product wants them.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn.arrays.conv_products import multiply
from funcnn.arrays.masks import LEVELS, keep_mask
from funcnn.arrays.products import times_vector
from funcnn.arrays.seam import tuned
from funcnn.arrays.threads import in_tasks, scratch, slices
from funcnn.keys import Key, fold_in
from funcnn.tree import Array, node

__all__ = ["Drop", "Kept", "Sight", "attend", "attend_back", "attention", "attention_gradients", "whole_factors"]

_SHORT = 2**16  # scores of a head at most, for the weights to be kept; with more, to make them anew costs less
_SCORES = 2**18  # in a block, about: they and their gradients stay in cache
_ROWS = 32  # in a block at least, however many keys there are: products of fewer rows are slow
_MOST = 128  # and at most: where a row may only look back, the keys after a block are left out
_SMALL = 100**3  # multiply-adds that BLAS takes as a small product, a third faster (`funcnn.arrays.conv_products`)
_NEAR = 60.0  # exp of ±60 is far from the ends of float32's range, and so is a sum of them


class Sight(NamedTuple):
    """Which keys a row may look at: with `causal` those up to its own position; of these those in a mask (n, keys)."""

    causal: bool = False
    mask: Array | None = None


ALL = Sight()


class Drop(NamedTuple):
    """Dropout of weights: the key that the masks are drawn from, and of 65,536 the number dropped."""

    key: Key
    threshold: int

    def factors(self, part: int, block: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """0 for a weight that is dropped and 1 / (1 - rate) for one that is kept, of a block of a part of the heads."""
        factors = keep_mask(fold_in(fold_in(self.key, part), block), shape, self.threshold).astype(dtype)
        factors *= LEVELS / (LEVELS - self.threshold)
        return factors


def whole_factors(drop: Drop, shape: tuple[int, ...], dtype: Any, *, causal: bool) -> Array:
    """The factors of all parts and blocks of weights (n, heads, rows, keys) together; 1 where `attend` draws none."""
    whole, (n, heads, rows, keys) = np.ones(shape, dtype), shape
    for number, part in enumerate(_parts(n, heads, rows, keys)):
        for block, at in enumerate(_blocks(rows, keys)):
            its = whole[part][:, :, at, : at.stop if causal else keys]
            its[...] = drop.factors(number, block, its.shape, dtype)
    return whole


@node
class Kept:
    """What `attend_back` is to be given: a short sequence's weights, or the logarithms of a long one's sums."""

    weights: Array | None  # (n, heads, rows, keys)
    log_sums: Array | None  # (n, heads, rows, 1)


# --- Whole matrices -------------------------------------------------------------------------------------------


def attention(
    q: Array, k: Array, v: Array, sight: Sight = ALL, factors: Array | None = None
) -> tuple[Array, Array]:  # fmt: skip
    """o (..., rows, d) and the weights (..., rows, keys); `factors` are those of a `Drop`.

    >>> q = k = v = np.eye(2)[None, None]
    >>> o, weights = attention(q, k, v, Sight(causal=True))
    >>> o.round(2)
    array([[[[1.  , 0.  ],
             [0.33, 0.67]]]])
    """
    weights = q @ _turned(k)
    _softmax(weights, 0, sight)
    return (weights if factors is None else weights * factors) @ v, weights


def attention_gradients(
    q: Array, k: Array, v: Array, weights: Array, o: Array, do: Array, factors: Array | None = None
) -> tuple[Array, Array, Array]:
    """dq, dk, dv."""
    dv = (weights if factors is None else weights * factors).swapaxes(-1, -2) @ do
    dscores = _dscores(weights, o, do, _turned(v), factors)
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv


def _turned(x: Array) -> Array:
    """xᵀ / √d, in adjacent memory: BLAS then multiplies small matrices a third faster."""
    *others, rows, d = x.shape
    out = np.empty((*others, d, rows), x.dtype)
    np.multiply(x.swapaxes(-1, -2), x.dtype.type(1 / math.sqrt(d)), out=out)
    return out


def _softmax(scores: Array, start: int, sight: Sight) -> tuple[Array, Array | None]:
    """Scores, of rows from `start` on, to weights in place: the sums of exp(scores - shift), and the shift.

    The shift is each row's largest score, or none where all are so near to zero that no exponential overflows or
    vanishes: to look at the largest and the smallest of all takes a tenth of the time of the largest of each row. A row
    that may look at nothing has weights of zero.
    """
    near = scores.dtype.itemsize > 2 and scores.size > 0 and scores.max() <= _NEAR and scores.min() >= -_NEAR
    _hide(scores, start, sight)
    shift: Array | None = None
    if not near:
        shift = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        shift[shift == -np.inf] = 0
        scores -= shift
    np.exp(scores, out=scores)
    *others, keys = scores.shape
    sums = times_vector(scores.reshape(math.prod(others), keys), np.ones(keys, scores.dtype)).reshape(*others, 1)
    sums += sums == 0
    scores *= 1 / sums
    return sums, shift


def _hide(scores: Array, start: int, sight: Sight) -> None:
    """Add -∞ to what may not be looked at, in scores (n, heads, rows, keys) of the rows from `start` on."""
    if sight.causal:
        rows = scores.shape[-2]
        scores[..., start : start + rows] += _later(rows, scores.dtype)
    if sight.mask is not None:
        hidden = np.where(sight.mask[:, : scores.shape[-1]], 0, -np.inf).astype(scores.dtype)
        scores += hidden[:, None, None]


@lru_cache(maxsize=16)
def _later(rows: int, dtype: np.dtype[Any]) -> Array:
    """-∞ above the diagonal, 0 elsewhere."""
    later = np.triu(np.full((rows, rows), -np.inf, dtype), 1)
    later.flags.writeable = False
    return later


def _dscores(weights: Array, o: Array, do: Array, turned_v: Array, factors: Array | None) -> Array:
    """The gradient of the scores, times 1/√d."""
    dscores = scratch("attention slopes", weights.shape, weights.dtype)
    multiply(do, turned_v, dscores)
    if factors is not None:
        dscores *= factors
    of_rows = np.vecdot(do, o)[..., None]
    of_rows *= o.dtype.type(1 / math.sqrt(o.shape[-1]))
    dscores -= of_rows
    dscores *= weights
    return dscores


# --- Parts and blocks -----------------------------------------------------------------------------------------


Part = tuple[slice, slice]  # of the examples, and of the heads


def _is_short(rows: int, keys: int) -> bool:
    return rows * keys <= _SHORT


def _parts(n: int, heads: int, rows: int, keys: int) -> list[Part]:
    """All heads of a few examples each, or one head of one where its scores fill a block; each may be a task."""
    all_heads = heads * rows * keys
    if all_heads <= _SCORES or _is_short(rows, keys):
        return [(examples, slice(None)) for examples in slices(n, max(1, _SCORES // max(1, all_heads)))]
    return [(slice(i, i + 1), slice(j, j + 1)) for i in range(n) for j in range(heads)]


def _blocks(rows: int, keys: int) -> list[slice]:
    """The rows of a head, in blocks."""
    if _is_short(rows, keys):
        return [slice(0, rows)]
    return slices(rows, min(_MOST, max(_ROWS, _SCORES // keys)))


@tuned
def attend(
    q: Array, k: Array, v: Array, sight: Sight = ALL, drop: Drop | None = None, *, train: bool = False
) -> tuple[Array, Kept | None]:  # fmt: skip
    """`attention` of q (n, heads, rows, d) and k, v (n, heads, keys, d), by parts on all threads.

    o is (n, rows, heads, d) in memory, the form in which the heads are multiplied next, and comes as (n, heads, rows,
    d). What is kept is None without `train`.
    """
    n, heads, rows, d = q.shape
    keys = k.shape[2]
    short = _is_short(rows, keys)
    o = np.empty((n, rows, heads, d), q.dtype).swapaxes(1, 2)
    weights = np.empty((n, heads, rows, keys), q.dtype) if train and short else None
    log_sums = np.empty((n, heads, rows, 1), q.dtype) if train and not short else None

    def look(number: int, part: Part) -> None:
        its_q, its_v, turned_k, its_o = q[part], v[part], _turned(k[part]), o[part]
        its_sight = _of_part(sight, part)
        for block, at in enumerate(_blocks(rows, keys)):
            end = at.stop if sight.causal else keys
            shape = (*its_q.shape[:2], at.stop - at.start, end)
            out = weights[part] if weights is not None else scratch("attention weights", shape, q.dtype)
            multiply(its_q[:, :, at], turned_k[..., :end], out)
            sums, shift = _softmax(out, at.start, its_sight)
            if log_sums is not None:
                np.log(sums, out=sums)
                log_sums[part][:, :, at] = sums if shift is None else sums + shift
            seen = out * drop.factors(number, block, shape, q.dtype) if drop is not None else out
            np.matmul(seen, its_v[:, :, :end], out=its_o[:, :, at])

    _in_parts(look, _parts(n, heads, rows, keys), 2 * n * heads * rows * keys * d)
    return o, Kept(weights, log_sums) if train else None


@tuned
def attend_back(
    q: Array, k: Array, v: Array, o: Array, kept: Kept, do: Array, out: tuple[Array, Array, Array],
    sight: Sight = ALL, drop: Drop | None = None,
) -> None:  # fmt: skip
    """`attention_gradients` into out = (dq, dk, dv), of the forms of q, k and v; the others as `attend` had them."""
    n, heads, rows, d = q.shape
    keys = k.shape[2]
    weights, log_sums = kept.weights, kept.log_sums

    def look(number: int, part: Part) -> None:
        its_q, its_k, its_o, its_do = q[part], k[part], o[part], do[part]
        dq, dk, dv = (each[part] for each in out)
        turned_k, turned_v, its_sight = _turned(its_k), _turned(v[part]), _of_part(sight, part)
        for block, at in reversed(list(enumerate(_blocks(rows, keys)))):  # the last has all keys
            end = at.stop if sight.causal else keys
            shape = (*its_q.shape[:2], at.stop - at.start, end)
            some_q, some_do = its_q[:, :, at], its_do[:, :, at]
            if weights is not None:
                its_weights = weights[part]
            elif log_sums is not None:
                its_weights = scratch("attention weights", shape, q.dtype)
                multiply(some_q, turned_k[..., :end], its_weights)
                _hide(its_weights, at.start, its_sight)
                its_weights -= log_sums[part][:, :, at]
                np.exp(its_weights, out=its_weights)
            factors = drop.factors(number, block, shape, q.dtype) if drop is not None else None
            seen = its_weights if factors is None else its_weights * factors
            dscores = _dscores(its_weights, its_o[:, :, at], some_do, turned_v[..., :end], factors)
            np.matmul(dscores, its_k[:, :, :end], out=dq[:, :, at])
            _put(dk[:, :, :end], dscores.swapaxes(-1, -2), some_q, first=at.stop == rows)
            _put(dv[:, :, :end], seen.swapaxes(-1, -2), some_do, first=at.stop == rows)

    _in_parts(look, _parts(n, heads, rows, keys), 5 * n * heads * rows * keys * d)


def _in_parts(look: Callable[[int, Part], None], parts: list[Part], operations: int) -> None:
    """look(number, part) for all parts, as tasks."""

    def some(numbers: slice) -> None:
        for number in range(numbers.start, numbers.stop):
            look(number, parts[number])

    in_tasks(some, parts, operations)


def _of_part(sight: Sight, part: Part) -> Sight:
    return sight if sight.mask is None else sight._replace(mask=sight.mask[part[0]])


def _put(to: Array, a: Array, b: Array, *, first: bool) -> None:
    """to = a · b for the first block, to += a · b for the others; by some rows of a, in products small for BLAS."""
    out = to if first else scratch("attention sums", to.shape, to.dtype)
    for rows in slices(a.shape[-2], max(_ROWS, _SMALL // (b.shape[-2] * b.shape[-1]) // _ROWS * _ROWS)):
        np.matmul(a[..., rows, :], b, out=out[..., rows, :])
    if not first:
        to += out
