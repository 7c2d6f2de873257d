"""Losses of embeddings: how near outputs are to each other, or to a target's direction."""

from typing import Any

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import contiguous, row_products, unit_rows, wide
from funcnn.losses.checks import check_at_least, check_batch, check_flag, check_same_shape, floats_and
from funcnn.losses.reduce import Result, reduce
from funcnn.tree import Array

__all__ = ["cosine_distance", "triplet"]


@underflow_is_zero
def cosine_distance(outputs: Array, targets: Array, weights: Array | None = None, *, reduction: str = "mean") -> Result:
    """mean_n (1 - u · v), of the unit vectors u of outputs and v of targets: from 0 (one direction) to 2 (opposite).

    outputs and targets (n, ..., features), of one shape: the mean is over all positions. d_outputs = ((u · v) u - v) /
    (n |outputs|). A vector of zeros has the cosine 0, and its slope is taken as if it had the length 1, as by
    `l2_normalize`; PyTorch's is 10⁸ times that.

    >>> cosine_distance(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))[0]
    0.040000000000000036

    Raises ValueError for an empty batch, outputs that are no vectors, or targets of another shape.
    """
    place = "cosine_distance"
    outputs, targets = floats_and(place, "targets", outputs, targets)
    check_same_shape(place, outputs, targets)
    if outputs.ndim < 2:
        raise ValueError(f"{place}: expected outputs (n, ..., features), vectors, got {outputs.shape}")
    u, norm, largest = unit_rows(outputs.reshape(-1, outputs.shape[-1]))
    v, _, _ = unit_rows(targets.reshape(u.shape).astype(u.dtype, copy=False))
    cosine = row_products(wide(u), wide(v))
    u *= cosine[:, None].astype(u.dtype, copy=False)
    u -= v
    u /= norm
    u /= largest
    return reduce(place, ((1.0, 1 - cosine),), u.reshape(outputs.shape), outputs.shape[:-1], weights, reduction)


@underflow_is_zero
def triplet(
    outputs: Any,
    targets: Any = None,
    weights: Array | None = None,
    *,
    margin: float = 1.0,
    squared: bool = False,
    reduction: str = "mean",
) -> Result:
    """mean_n max(0, |a - p| - |a - q| + margin), of an anchor a, a positive p of its kind, a negative q of another.

    outputs (n, 3, features), anchors, positives and negatives, or a tuple of three arrays (n, features); d_outputs
    alike. The targets are not looked at. With ``squared=True`` the distances are squared, as by Schroff et al. (2015),
    else plain, as PyTorch's with ``eps=0``. da is the difference of the unit vectors of a - p and a - q, dp and dq are
    the negative of the first, and the second; two equal points have no slope. A triplet exactly at the margin still has
    its slopes, as PyTorch's.

    >>> value, d_outputs = triplet(np.array([[[0.0], [2.0], [-1.5]]]))
    >>> value, d_outputs.tolist()
    (1.5, [[[-2.0], [1.0], [1.0]]])

    Raises ValueError for an empty batch, outputs of another form, or a negative margin.
    """
    place = "triplet"
    check_at_least(place, "margin", margin)
    check_flag(place, "squared", squared)
    three, apart = _three(place, outputs)
    a, p, q = (wide(three[:, i]) for i in range(3))
    to_p, to_q = a - p, a - q
    far = row_products(to_p, to_p), row_products(to_q, to_q)
    if not squared:
        far = np.sqrt(far[0]), np.sqrt(far[1])
        to_p /= np.where(far[0] > 0, far[0], 1)[:, None]
        to_q /= np.where(far[1] > 0, far[1], 1)[:, None]
    terms = far[0] - far[1] + margin
    counts = terms >= 0
    np.maximum(terms, 0, out=terms)
    to_p *= counts[:, None]
    to_q *= counts[:, None]
    slopes = np.stack((to_p - to_q, -to_p, to_q), axis=1).astype(three.dtype, copy=False)
    value, d_three, *weight = reduce(
        place, ((1.0, terms),), slopes, (len(three),), weights, reduction, factor=2.0 if squared else 1.0
    )
    d_outputs = tuple(contiguous(d_three[:, i]) for i in range(3)) if apart else d_three
    return value, d_outputs, *weight


def _three(place: str, outputs: Any) -> tuple[Array, bool]:
    """Anchors, positives and negatives as one array (n, 3, features), and whether they came as three."""
    apart = isinstance(outputs, tuple)
    if apart:
        each = [floats_and(place, "outputs", array, 0)[0] for array in outputs]
        forms = {(array.shape, array.dtype) for array in each}
        if len(each) != 3 or len(forms) > 1 or each[0].ndim != 2:
            got = ", ".join(f"{array.dtype} {array.shape}" for array in each) or "none"
            raise ValueError(f"{place}: expected three arrays (n, features) of one shape and dtype, got {got}")
        outputs = np.stack(each, axis=1)
    three, _ = floats_and(place, "outputs", outputs, 0)
    if three.ndim != 3 or three.shape[1] != 3:
        raise ValueError(
            f"{place}: expected outputs (n, 3, features), anchor, positive and negative, got {three.shape}. "
            "Or pass a tuple of three arrays (n, features)"
        )
    check_batch(place, three)
    return three, apart
