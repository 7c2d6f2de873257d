"""Updates that divide by the root of a running mean, or sum, of squares: Adam and its relatives.

Each goes over its leaf block by block (`updates.by_block`), in place, and treats every element by itself, but for
`lamb_update` and `adafactor_update`, which take norms of the leaf.
"""

import math
from typing import Any

import numpy as np

from funcnn.arrays import elementwise, threads
from funcnn.arrays.updates import by_block, scratch_like, squared_norm, walk
from funcnn.arrays.weighing import larger, root, trust
from funcnn.tree import Array

__all__ = [
    "adadelta_update", "adafactor_update", "adagrad_update", "adam_update", "adamax_update", "lamb_update",
    "nadam_update", "radam_update", "rmsprop_update", "schedule_free_adamw_update",
]  # fmt: skip


def rmsprop_update(
    leaf: Array, gradient: Array, square: Array, *, rate: float, decay: float, epsilon: float
) -> tuple[Array, ...]:
    """c' = decay · c + (1 - decay) · g², and leaf - rate · g / (sqrt(c') + epsilon)."""

    def fill(old: Array, g: Array, old_c: Array, new: Array, c: Array) -> None:
        root = _mean_square(g, old_c, decay, out=c)
        _divide(g, c, epsilon, root)
        root *= -rate
        np.add(old, root, out=new)

    return by_block(fill, leaf, gradient, square)


def adagrad_update(leaf: Array, gradient: Array, square: Array, *, rate: float, epsilon: float) -> tuple[Array, ...]:
    """s' = s + g², and leaf - rate · g / (sqrt(s') + epsilon)."""

    def fill(old: Array, g: Array, old_s: Array, new: Array, s: Array) -> None:
        root = scratch_like("optimizer", g)
        np.multiply(g, g, out=root)
        np.add(old_s, root, out=s)
        _divide(g, s, epsilon, root)
        root *= -rate
        np.add(old, root, out=new)

    return by_block(fill, leaf, gradient, square)


def adadelta_update(
    leaf: Array, gradient: Array, square: Array, change: Array, *, rate: float, decay: float, epsilon: float
) -> tuple[Array, ...]:
    """c' = decay · c + (1 - decay) · g², d = g · sqrt(u + epsilon) / sqrt(c' + epsilon),

    u' = decay · u + (1 - decay) · d², and leaf - rate · d.
    """

    def fill(old: Array, g: Array, old_c: Array, old_u: Array, new: Array, c: Array, u: Array) -> None:
        root = _mean_square(g, old_c, decay, out=c)
        least = _in_dtype(epsilon, root)
        np.add(c, least, out=root)
        np.add(old_u, least, out=new)
        np.divide(new, root, out=root)
        np.sqrt(root, out=root)
        np.multiply(root, g, out=new)  # d
        np.multiply(new, new, out=root)
        root *= 1 - decay
        np.multiply(old_u, decay, out=u)
        u += root
        new *= -rate
        new += old

    return by_block(fill, leaf, gradient, square, change)


def adam_update(
    leaf: Array, gradient: Array, mean: Array, square: Array, *largest: Array,
    rate: float, b1: float, b2: float, epsilon: float, step: int, weight_decay: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """m' = b1·m + (1-b1)·g, v' = b2·v + (1-b2)·g², and leaf - rate · (m̂ / (sqrt(v̂) + epsilon) + weight_decay · leaf),

    where m̂ = m' / (1 - b1^t) and v̂ = v' / (1 - b2^t) at the t-th step (`step` = t - 1). With a further moment, the
    largest v so far, that is taken in the place of v' (amsgrad).
    """
    # m̂ / (sqrt(v̂) + ε) = (r / (1 - b1^t)) · m' / (sqrt(v') + r·ε) with r = sqrt(1 - b2^t): one pass fewer
    root_correction = (1 - b2 ** (step + 1)) ** 0.5
    factor = -rate * root_correction / (1 - b1 ** (step + 1))
    keep, least = 1 - rate * weight_decay, root_correction * epsilon
    return _by_moments(leaf, gradient, mean, square, *largest, b1=b1, b2=b2, factor=factor, epsilon=least, keep=keep)


def radam_update(
    leaf: Array, gradient: Array, mean: Array, square: Array, *,
    rate: float, b1: float, b2: float, epsilon: float, step: int,
) -> tuple[Array, ...]:  # fmt: skip
    """Adam's moments, and leaf - rate · r · m̂ / ((sqrt(v') + epsilon) / sqrt(1 - b2^t)), r the rectification;

    leaf - rate · m̂ as long as the variance of v' is not tractable (ρ at most 5).
    """
    t = step + 1
    decayed = b2**t
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * decayed / (1 - decayed)
    factor = -rate / (1 - b1**t)
    least: float | None = None
    if length > 5:
        shares = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2) * length
        factor *= math.sqrt(shares[0] / shares[1]) * math.sqrt(1 - decayed)
        least = epsilon
    return _by_moments(leaf, gradient, mean, square, b1=b1, b2=b2, factor=factor, epsilon=least)


def nadam_update(
    leaf: Array, gradient: Array, mean: Array, square: Array, *,
    b1: float, b2: float, epsilon: float, step: int, mean_rate: float, gradient_rate: float,
) -> tuple[Array, ...]:  # fmt: skip
    """Adam's moments, and leaf - (mean_rate · m' + gradient_rate · g) / (sqrt(v̂) + epsilon)."""
    root_correction = (1 - b2 ** (step + 1)) ** 0.5
    least, shares = root_correction * epsilon, (-root_correction * mean_rate, -root_correction * gradient_rate)
    return _by_moments(leaf, gradient, mean, square, b1=b1, b2=b2, factor=1.0, epsilon=least, ahead=shares)


def _by_moments(
    *row: Array, b1: float, b2: float, factor: float, epsilon: float | None,
    keep: float = 1.0, ahead: tuple[float, float] | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    """Adam's two running means, and keep · leaf + factor · m' / (sqrt(v') + epsilon).

    Without an epsilon nothing is divided; with a fifth array the largest v' so far is in its place; with `ahead` a sum
    of shares of m' and of g is in the place of m'.
    """
    largest = len(row) == 5

    def fill(old: Array, g: Array, old_m: Array, old_v: Array, *others: Array) -> None:
        new, m, v = others[1:4] if largest else others
        most = others[-1]  # the largest v so far, or v
        root = _mean_square(g, old_v, b2, out=v)
        np.multiply(g, 1 - b1, out=root)
        np.multiply(old_m, b1, out=m)
        m += root
        upper = m
        if ahead is not None:
            upper = scratch_like("ahead", g)
            np.multiply(m, ahead[0], out=upper)
            upper += np.multiply(g, ahead[1], out=root)
        if largest:
            np.maximum(others[0], v, out=most)
        if epsilon is None:
            np.multiply(upper, factor, out=root)
        else:
            _divide(upper, most, epsilon, root)
            if factor != 1:
                root *= factor
        if keep == 1:
            np.add(old, root, out=new)
        else:
            np.multiply(old, keep, out=new)
            new += root

    return by_block(fill, *row)


def adamax_update(
    leaf: Array, gradient: Array, mean: Array, largest: Array, *,
    rate: float, b1: float, b2: float, epsilon: float, step: int,
) -> tuple[Array, ...]:  # fmt: skip
    """m' = b1·m + (1-b1)·g, u' = max(b2 · u, |g| + epsilon), and leaf - rate · m̂ / u', m̂ = m' / (1 - b1^t)."""
    factor = -rate / (1 - b1 ** (step + 1))

    def fill(old: Array, g: Array, old_m: Array, old_u: Array, new: Array, m: Array, u: Array) -> None:
        part = scratch_like("optimizer", g)
        np.multiply(g, 1 - b1, out=part)
        np.multiply(old_m, b1, out=m)
        m += part
        np.abs(g, out=part)
        part += _in_dtype(epsilon, part)
        np.multiply(old_u, b2, out=u)
        np.maximum(u, part, out=u)
        np.divide(m, u, out=part)
        part *= factor
        np.add(old, part, out=new)

    return by_block(fill, leaf, gradient, mean, largest)


def schedule_free_adamw_update(
    leaf: Array, gradient: Array, base: Array, square: Array, *,
    rate: float, momentum: float, share: float, b2: float, epsilon: float, weight_decay: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """v' = b2·v + (1-b2)·g², and `updates.schedule_free_update` with g / (sqrt(v') + epsilon) in the place of g."""

    def fill(y: Array, g: Array, old_z: Array, old_v: Array, new: Array, z: Array, v: Array) -> None:
        u = _mean_square(g, old_v, b2, out=v)
        _divide(g, v, epsilon, u)
        if weight_decay:
            u += np.multiply(y, weight_decay, out=new)
        walk(u, y, old_z, new, z, rate, momentum, share)

    return by_block(fill, leaf, gradient, base, square)


# --- Updates that take norms of a leaf ------------------------------------------------------------------------


def lamb_update(
    leaf: Array, gradient: Array, mean: Array, square: Array, *,
    rate: float, b1: float, b2: float, epsilon: float, step: int, weight_decay: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """Adam's moments, r = m̂ / (sqrt(v̂) + epsilon) + weight_decay · leaf, and leaf - rate · (‖leaf‖ / ‖r‖) · r.

    The quotient of norms is 1 where one of them is zero.
    """
    root_correction = (1 - b2 ** (step + 1)) ** 0.5
    factor = root_correction / (1 - b1 ** (step + 1))
    row = (leaf, gradient, mean, square)
    new, m, v = _by_moments(*row, b1=b1, b2=b2, factor=factor, epsilon=root_correction * epsilon, keep=weight_decay)
    return _step_in_place(leaf, new, -rate * trust(root(squared_norm(leaf)), root(squared_norm(new)))), m, v


def adafactor_update(
    leaf: Array, gradient: Array, *squares: Array,
    rate: float, share: float, epsilon: float, least_scale: float, clip: float, keep: float = 1.0,
) -> tuple[Array, ...]:  # fmt: skip
    """New running means of g² over rows and over columns of the last two axes (or one of g²), by ``share``,

    u = g / sqrt(r · c / mean(r)), and keep · leaf - rate · max(least_scale, rms(leaf)) · u / max(1, rms(u) / clip).
    """
    scale = larger(_rms(leaf), least_scale)
    u = gradient.astype(leaf.dtype, order="C")[...]  # a number becomes an array ()
    np.square(u, out=u)
    means = (u.mean(axis=-1, keepdims=True), u.mean(axis=-2, keepdims=True)) if len(squares) == 2 else (u,)
    squares = tuple([(old + share * (mean - old))[...] for old, mean in zip(squares, means, strict=True)])
    if len(squares) == 2:
        rows, columns = squares
        rows = rows / np.maximum(rows.mean(axis=-2, keepdims=True), epsilon)
        np.multiply(rows, columns, out=u)
    else:
        u = squares[0].copy()
    np.maximum(u, _in_dtype(epsilon * epsilon, u), out=u)
    np.sqrt(u, out=u)
    np.divide(gradient, u, out=u)
    factor = -rate * scale / larger(_rms(u) / clip, 1.0)
    return _step_in_place(leaf if keep == 1 else leaf * keep, u, factor), *squares


def _rms(array: Array) -> Any:
    return root(squared_norm(array) / max(array.size, 1))


def _step_in_place(leaf: Array, direction: Array, factor: Any) -> Array:
    """leaf + factor · direction, in the direction's memory."""
    old, new = leaf.reshape(-1), direction.reshape(-1)

    def fill(block: slice) -> None:
        new[block] *= factor
        new[block] += old[block]

    blocks = elementwise.blocks(new.size) if isinstance(new, np.ndarray) else [slice(None)]
    threads.for_each(fill, blocks)
    return direction


# --- What they share ------------------------------------------------------------------------------------------


def _in_dtype(epsilon: float, like: Array) -> float:
    """An epsilon, or the smallest normal number of a dtype in which it would be zero, and 0 / 0 follow."""
    return max(epsilon, float(np.finfo(like.dtype).tiny))


def _mean_square(g: Array, old: Array, decay: float, *, out: Array) -> Array:
    """out = decay · old + (1 - decay) · g²; returns an array of their size to compute in."""
    square = scratch_like("optimizer", g)
    np.multiply(g, g, out=square)
    square *= 1 - decay
    np.multiply(old, decay, out=out)
    out += square
    return square


def _divide(upper: Array, square: Array, epsilon: float, out: Array) -> None:
    """out = upper / (sqrt(square) + epsilon)."""
    np.sqrt(square, out=out)
    out += _in_dtype(epsilon, out)
    np.divide(upper, out, out=out)
