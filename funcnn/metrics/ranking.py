"""How well scores put yes before no, whatever the threshold: over a whole part, as what `predict` gives.

**Questions**, outputs (n,) or (n, 1) with targets of 0 or 1, are ranked by their outputs. **Classes**, outputs
(n, classes) with class numbers (n,): of two the second is the yes; of more each is one against the rest, ranked by its
probability, and the value is the mean of all. With ``multilabel=True`` each column of (n, questions) is a question, and
the value is the mean of the columns'.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcnn.checks import as_array
from funcnn.losses.checks import check_flag, check_same_shape
from funcnn.losses.reduce import check_weights
from funcnn.metrics.shared import check_outputs, class_rows, log_probabilities, over_part
from funcnn.tree import Array

__all__ = ["average_precision", "roc_auc"]


@over_part
def roc_auc(
    outputs: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    multilabel: bool = False,
    from_logits: bool = True,
) -> float:
    """The area under the ROC curve: how often a yes has a higher score than a no, a tie half (Fawcett 2006).

    0.5 is by chance, 1 perfect. Only the order of scores counts; `from_logits` says what the outputs of several classes
    are, where probabilities are compared from row to row.

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75

    Raises ValueError for unfit targets, outputs that are not finite, and a question without a yes or without a no.
    """
    areas = []
    for yes, no in _curves("roc_auc", outputs, targets, weights, multilabel, from_logits):
        if yes[-1] == 0 or no[-1] == 0:
            raise ValueError("roc_auc: a class without examples, or without others, has no curve. Take a larger part")
        areas.append(float(np.trapezoid(np.append(0, yes), np.append(0, no))) / (yes[-1] * no[-1]))
    return float(np.mean(areas))


@over_part
def average_precision(
    outputs: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    multilabel: bool = False,
    from_logits: bool = True,
) -> float:
    """The precision at each threshold, weighed by the recall that it adds: Σ_k (R[k] - R[k-1]) · P[k].

    It is the area under the precision-recall curve without interpolation, which flatters. Chance is the share of yes.

    >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])), 4)
    0.8333

    Raises ValueError for unfit targets, outputs that are not finite, and a question without a yes.
    """
    values = []
    for yes, no in _curves("average_precision", outputs, targets, weights, multilabel, from_logits):
        if yes[-1] == 0:
            raise ValueError("average_precision: a class without examples has no recall. Take a larger part")
        precision = np.divide(yes, yes + no, where=yes > 0, out=np.zeros(len(yes)))
        values.append(float((np.diff(yes, prepend=0) * precision).sum()) / yes[-1])
    return float(np.mean(values))


# --- What they share ------------------------------------------------------------------------------------------


def _curves(
    place: str, outputs: Any, targets: Any, weights: Any, multilabel: bool, from_logits: bool
) -> Iterator[tuple[Array, Array]]:
    """Of each question, the weights of yes and of no at each threshold or above, the highest first."""
    check_flag(place, "multilabel", multilabel)
    check_flag(place, "from_logits", from_logits)
    outputs = as_array(place, "outputs", outputs)
    if outputs.ndim == 2 and outputs.shape[1] > 1 and not multilabel:
        rows, numbers, _ = class_rows(place, outputs, targets)
        check_outputs(place, rows)
        rows = rows.astype(np.float64)  # in which a difference of float16 is finite, and one of unsigned ints negative
        if rows.shape[1] == 2:
            questions = [((rows[:, 1] - rows[:, 0]) if from_logits else rows[:, 1], numbers == 1)]
        else:
            scores = log_probabilities(place, rows, from_logits)
            questions = [(scores[:, c], numbers == c) for c in range(rows.shape[1])]
    else:
        targets = as_array(place, "targets", targets)
        check_same_shape(place, outputs, targets)
        if outputs.ndim > 2:
            raise ValueError(f"{place}: expected outputs (n,) or (n, questions), got {outputs.shape}")
        check_outputs(place, outputs)
        if not ((targets == 0) | (targets == 1)).all():
            raise ValueError(f"{place}: targets must be 0 or 1, got {targets.min()} to {targets.max()}")
        n = len(outputs)
        questions = list(zip(outputs.reshape(n, -1).T.astype(np.float64), targets.reshape(n, -1).T == 1, strict=True))
    counted = np.ones(len(outputs)) if weights is None else check_weights(place, weights, outputs.shape[:1])
    for scores, is_yes in questions:
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        # The last of those that share a threshold, which may be -inf: a probability of 0 as a logarithm.
        last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(scores) - 1)
        yes, no = (np.cumsum((counted * each)[order])[last] for each in (is_yes, ~is_yes))
        yield yes, no
