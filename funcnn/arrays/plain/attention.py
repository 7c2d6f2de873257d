"""Attention on whole matrices (n, heads, time, d); see `funcnn.arrays.attention` for the equations."""

import math

from funcnn.arrays.attention import ALL, Drop, Kept, Sight, whole_factors
from funcnn.system.devices import beside, module_of
from funcnn.tree import Array

__all__ = ["attend", "attend_back"]


def attend(
    q: Array, k: Array, v: Array, sight: Sight = ALL, drop: Drop | None = None, *, train: bool = False
) -> tuple[Array, Kept | None]:  # fmt: skip
    """o (n, heads, rows, d), and the weights (n, heads, rows, keys) as what is kept, None without `train`."""
    xp = module_of(q)
    scores = (q * q.dtype.type(1 / math.sqrt(q.shape[-1]))) @ k.swapaxes(-1, -2)
    hidden = _hidden(sight, scores)
    if hidden is not None:
        scores = xp.where(hidden, scores.dtype.type(-math.inf), scores)
    largest = scores.max(axis=-1, keepdims=True)
    weights = xp.exp(scores - xp.where(largest == -math.inf, scores.dtype.type(0), largest))
    sums = weights.sum(axis=-1, keepdims=True)
    weights /= sums + (sums == 0)  # a row that may look at nothing has weights of zero
    factors = _factors(drop, sight, weights)
    o = (weights if factors is None else weights * factors) @ v
    return o, Kept(weights, None) if train else None


def attend_back(
    q: Array, k: Array, v: Array, o: Array, kept: Kept, do: Array, out: tuple[Array, Array, Array],
    sight: Sight = ALL, drop: Drop | None = None,
) -> None:  # fmt: skip
    """The gradients of q, k and v into `out`."""
    weights = kept.weights
    assert weights is not None
    factors = _factors(drop, sight, weights)
    seen = weights if factors is None else weights * factors
    dweights = do @ v.swapaxes(-1, -2)
    if factors is not None:
        dweights *= factors
    dscores = weights * (dweights - (do * o).sum(axis=-1, keepdims=True))
    dscores *= dscores.dtype.type(1 / math.sqrt(q.shape[-1]))
    out[0][...] = dscores @ k
    out[1][...] = dscores.swapaxes(-1, -2) @ q
    out[2][...] = seen.swapaxes(-1, -2) @ do


def _hidden(sight: Sight, scores: Array) -> Array | None:
    """Which keys (..., rows, keys) a row may not look at."""
    xp, (rows, keys) = module_of(scores), scores.shape[-2:]
    hidden = None
    if sight.causal:
        hidden = xp.arange(keys) > xp.arange(rows)[:, None]
    if sight.mask is not None:
        masked = ~sight.mask[:, None, None]
        hidden = masked if hidden is None else hidden | masked
    return hidden


def _factors(drop: Drop | None, sight: Sight, weights: Array) -> Array | None:
    """0 for a weight that is dropped and 1 / (1 - rate) for one that is kept: those of the host."""
    if drop is None:
        return None
    factors: Array = beside(whole_factors(drop, weights.shape, weights.dtype, causal=sight.causal), weights)
    return factors
