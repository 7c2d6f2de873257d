"""Connectionist temporal classification: labels without times, for outputs at every step of a sequence.

A path gives each step a label or the blank. It spells the labels that are left when its repeats are joined and then its
blanks dropped. The likelihood of labels is the sum over all paths that spell them: two recursions over time, one from
the start and one from the end, in logarithms, since a path's probability is a product of hundreds.
"""

from typing import Any, NamedTuple

import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.checks import as_array
from funcnn.losses.checks import check_batch, floats_and
from funcnn.losses.reduce import Result, reduce
from funcnn.settings import refuse
from funcnn.system.devices import is_device_array
from funcnn.tree import Array

__all__ = ["ctc"]

_NEVER = -1e30  # the log-probability of what cannot be: finite, so that no difference of two is NaN


@underflow_is_zero
def ctc(
    logits: Array,
    targets: Any,
    weights: Array | None = None,
    *,
    blank: int = 0,
    padding: int = -1,
    reduction: str = "mean",
) -> Result:
    """mean_n -log P(labels[n] | logits[n]), P the sum over all paths that spell the labels (Graves et al. 2006).

    logits (n, time, classes), the class `blank` standing for no label; targets: labels (n, length), class numbers,
    filled up at the end with `padding`; or (labels, steps), steps (n,) the number of outputs of each example that
    count. d_logits = (softmax(logits) - γ) / n, γ[n, t, c] the share of the paths that are at class c at time t, and 0
    after an example's last step. PyTorch's mean divides each term by its number of labels first; its sum is the same.

    >>> value, d_logits = ctc(np.zeros((1, 2, 3)), np.array([[1]]))  # the paths 11, 01 and 10 of nine
    >>> round(float(np.exp(-value)), 4)
    0.3333

    Raises ValueError for unfit labels or steps, and for more labels than steps, each repeat counting as one more.
    """
    place = "ctc"
    if is_device_array(logits):
        raise ValueError(f"{place}: it is computed on the host alone. Take to_host(logits), or train on the CPU")
    labels, steps = targets if isinstance(targets, tuple) and len(targets) == 2 else (targets, None)
    logits, labels = floats_and(place, "labels", logits, labels)
    if logits.ndim != 3:
        raise ValueError(f"{place}: expected outputs of shape (n, time, classes), got {logits.shape}")
    check_batch(place, logits)
    n, time, classes = logits.shape
    if type(blank) is not int or not 0 <= blank < classes:
        refuse(place, "blank", f"a class number from 0 to {classes - 1}", blank)
    if type(padding) is not int:
        refuse(place, "padding", "an int, no label", padding)
    lengths = _check_labels(place, labels, logits.shape, blank, padding)
    steps = _check_steps(place, steps, n, time)
    spelling = _spelling(labels, lengths, blank)
    _check_room(place, labels, lengths, steps)
    slopes = logits - logits.max(axis=2, keepdims=True)  # the log-likelihoods, until the loop is through
    p = np.exp(slopes)
    total = p.sum(axis=2, keepdims=True)
    p /= total
    slopes -= np.log(total)
    log_likelihood, shares = _paths(slopes, spelling, steps)
    p -= _by_class(shares, spelling.classes, blank, classes).astype(p.dtype, copy=False)
    if steps.min() < time:
        p[np.arange(time) >= steps[:, None]] = 0
    return reduce(place, ((-1.0, log_likelihood),), p, (n,), weights, reduction)


# --- The paths ------------------------------------------------------------------------------------------------


class _Spelling(NamedTuple):
    """The labels with a blank before, between and after them, (n, 2 length + 1), and how many of these there are.

    `skips` says where a path may come from two places before: onto a label that is not the one before it.
    """

    classes: Array
    sizes: Array
    skips: Array


def _spelling(labels: Array, lengths: Array, blank: int) -> _Spelling:
    n, length = labels.shape
    classes = np.full((n, 2 * length + 1), blank)
    classes[:, 1::2] = np.where(np.arange(length) < lengths[:, None], labels, blank)
    skips = np.zeros(classes.shape, bool)
    skips[:, 3::2] = classes[:, 3::2] != classes[:, 1:-2:2]
    return _Spelling(classes, 2 * lengths + 1, skips)


def _paths(log_p: Array, spelling: _Spelling, steps: Array) -> tuple[Array, Array]:
    """log P (n,), and the share of the paths at each time and place of the spelling, (time, n, places).

    α[t, s] is the log-probability of all beginnings of paths that are at place s at time t, β[t, s] that of all ends:

        α[t, s] = log p[t, s] + log(exp α[t-1, s] + exp α[t-1, s-1] + exp α[t-1, s-2]),

    the last only where it may be skipped. β is the same from the other end, and goes along in the same arrays with
    time and places reversed, so that one loop does both.
    """
    classes, sizes, skips = spelling
    n, time, _ = log_p.shape
    places = classes.shape[1]
    emitted = np.take_along_axis(log_p.astype(np.float64, copy=False), classes[:, None], axis=2).transpose(1, 0, 2)
    np.maximum(emitted, _NEVER * 1e-5, out=emitted)  # where a logit is -inf
    both = np.empty((time, 2, n, places))  # of α from the start, of β from the end
    both[:, 0] = emitted
    both[:, 1] = emitted[::-1, :, ::-1]
    barred = np.full((2, n, places), _NEVER)
    barred[0][skips] = 0
    barred[1, :, 2:][skips[:, :1:-1]] = 0
    begun = np.full((2, n, places), _NEVER)
    begun[0, :, :2] = 0
    rows = np.arange(n)
    begun[1, rows, places - sizes] = 0
    begun[1, rows, np.minimum(places - sizes + 1, places - 1)] = 0
    ends = steps.min() < time
    last = np.full((2, n, places + 2), _NEVER)  # with two places before the first
    here, before, two_before = last[..., 2:], last[..., 1:-1], last[..., :-2]
    ways = np.empty((3, 2, n, places))
    largest, total = np.empty((2, n, places)), np.empty((2, n, places))
    for t in range(time):
        if t == 0:
            total[...] = begun
        else:
            np.add(two_before, barred, out=ways[2])
            np.maximum(here, before, out=largest)
            np.maximum(largest, ways[2], out=largest)
            np.subtract(here, largest, out=ways[0])
            np.subtract(before, largest, out=ways[1])
            ways[2] -= largest
            np.exp(ways, out=ways)
            np.add(ways[0], ways[1], out=total)
            total += ways[2]
            np.log(total, out=total)
            total += largest
            if ends:  # β of an example begins at its own last step
                np.copyto(total[1], begun[1], where=(time - t >= steps)[:, None])
        both[t] += total
        here[...] = both[t]
    alpha, beta = both[:, 0], both[::-1, 1, :, ::-1]
    final = alpha[steps - 1, rows]
    ends_at = np.stack((final[rows, sizes - 1], np.where(sizes > 1, final[rows, np.maximum(sizes - 2, 0)], _NEVER)))
    peak = ends_at.max(axis=0)
    log_likelihood = np.log(np.exp(ends_at - peak).sum(axis=0)) + peak
    shares = alpha + beta
    shares -= emitted
    shares -= log_likelihood[:, None]
    return log_likelihood, np.exp(shares, out=shares)


def _by_class(shares: Array, classes: Array, blank: int, count: int) -> Array:
    """The shares of places (time, n, places) added up by their classes: -> (n, time, count)."""
    labels = classes[:, 1::2]
    one_hot = np.zeros((*labels.shape, count))
    np.put_along_axis(one_hot, labels[..., None], 1.0, axis=2)
    made = np.ascontiguousarray(shares[:, :, 1::2].transpose(1, 0, 2)) @ one_hot
    made[:, :, blank] += shares[:, :, ::2].sum(axis=2).T
    return made


# --- Checks ---------------------------------------------------------------------------------------------------


def _check_labels(place: str, labels: Array, shape: tuple[int, ...], blank: int, padding: int) -> Array:
    """The number of labels of each example; raises ValueError unless they are class numbers, filled up at the end."""
    n, _, classes = shape
    if labels.dtype.kind not in "iu" or labels.ndim != 2 or len(labels) != n:
        raise ValueError(
            f"{place}: expected labels of shape ({n}, length), class numbers of an integer dtype, got {labels.dtype} "
            f"{labels.shape}"
        )
    real = labels != padding
    if (real[:, 1:] > real[:, :-1]).any():
        raise ValueError(f"{place}: labels must be filled up with padding={padding} at the end of a row, got it before")
    wrong = real & ((labels < 0) | (labels >= classes) | (labels == blank))
    if wrong.any():
        raise ValueError(
            f"{place}: labels must be from 0 to {classes - 1} and not the blank, {blank}, got {labels[wrong][0]}. "
            f"Fill up by padding={padding}, and number the labels past the blank"
        )
    return np.asarray(real.sum(axis=1))


def _check_steps(place: str, steps: Any, n: int, time: int) -> Array:
    if steps is None:
        return np.full(n, time)
    steps = as_array(place, "steps", steps)
    if steps.dtype.kind not in "iu" or steps.shape != (n,) or steps.min() < 1 or steps.max() > time:
        refuse(place, "steps", f"{n} whole numbers from 1 to the {time} steps of the outputs", steps)
    return np.asarray(steps, np.int64)


def _check_room(place: str, labels: Array, lengths: Array, steps: Array) -> None:
    """Raise ValueError for an example that no path spells: between two equal labels there must be a blank."""
    repeats = ((labels[:, 1:] == labels[:, :-1]) & (np.arange(1, labels.shape[1]) < lengths[:, None])).sum(axis=1)
    short = np.flatnonzero(lengths + repeats > steps)
    if len(short):
        i = short[0]
        raise ValueError(
            f"{place}: example {i} has {lengths[i]} labels and {repeats[i]} repeats, and {steps[i]} steps, too few for "
            "any path. Leave such examples out, or take fewer strides over time"
        )
