"""How good a classifier's probabilities are: over a whole part, as what `predict` gives."""

import math

import numpy as np

from funcnn.losses import softmax_cross_entropy
from funcnn.metrics.shared import check_outputs, class_rows, flat_weights, log_probabilities, over_part
from funcnn.settings import check_counts
from funcnn.tree import Array

__all__ = ["calibration_error", "perplexity"]


@over_part
def perplexity(
    outputs: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    from_logits: bool = True,
    ignore: int | None = None,
) -> float:
    """exp of the mean cross-entropy: from how many classes, all alike, the net seems to choose.

    outputs (n, ..., classes), logits, or probabilities with ``from_logits=False``; labels (n, ...).

    >>> round(perplexity(np.zeros((3, 5)), np.array([0, 4, 1])), 4)
    5.0

    Raises ValueError for unfit labels, an empty part, or outputs of the other kind.
    """
    rows, _, _ = class_rows("perplexity", outputs, labels, ignore)
    logits = log_probabilities("perplexity", rows, from_logits).reshape(np.shape(outputs))
    value = softmax_cross_entropy(logits, labels, weights, ignore=ignore)[0]
    return math.exp(value) if value < 709 else math.inf


@over_part
def calibration_error(
    outputs: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    bins: int = 15,
    from_logits: bool = True,
    ignore: int | None = None,
) -> float:
    """Σ_b (n_b / n) · |accuracy in b - mean confidence in b|, b the bins by confidence, the largest probability.

    outputs (n, ..., classes), logits, or probabilities with ``from_logits=False``; labels (n, ...). The bins share
    [0, 1] evenly, each with its upper end (Naeini et al. 2015, Guo et al. 2017). 0 is calibrated: of what is said with
    80 %, 80 % is right.

    >>> round(calibration_error(np.array([[0.8, 0.2]] * 4), np.array([0, 0, 0, 1]), from_logits=False), 4)
    0.05

    Raises ValueError for unfit labels, an empty part, outputs of the other kind, or bins that are no positive int.
    """
    place = "calibration_error"
    check_counts(place, bins=bins)
    rows, numbers, kept = class_rows(place, outputs, labels, ignore)
    check_outputs(place, rows)
    log_p = log_probabilities(place, rows, from_logits)
    confidence = np.exp(log_p.max(axis=1))
    by_row = flat_weights(place, weights, np.shape(outputs)[:-1], kept)
    counted = np.ones(len(rows)) if by_row is None else by_row
    total = float(counted.sum())
    if total == 0:
        return 0.0
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, counted * ((log_p.argmax(axis=1) == numbers) - confidence), minlength=bins)
    return float(np.abs(gaps).sum()) / total
