"""What is not finite in a tree of arrays, found fast enough to look at every step."""

import math
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.system.devices import has_form

__all__ = ["all_finite", "first_non_finite"]


def first_non_finite(values: Any) -> str | None:
    """The path of the first leaf with an infinity or NaN, "" for a lone leaf; None if there is none.

    >>> first_non_finite((np.ones(2), (np.array([0.0, np.inf]),)))
    '1.0'
    """
    for i, leaf in enumerate(tree.flatten(values)):
        if not isinstance(leaf, np.ndarray) or leaf.dtype.kind not in "fc":
            continue
        # A dot product is by far the fastest look at all elements; it may overflow where they do not.
        if not math.isfinite(np.vdot(leaf, leaf).real) and not np.isfinite(leaf).all():
            return tree.paths(values)[i]
    return None


def all_finite(leaf: Any) -> bool:
    """Whether an array of floats has no infinity and no NaN; one on a device is waited for. All else is finite.

    >>> all_finite(np.array([0.0, np.nan])), all_finite(np.array([3]))
    (False, True)
    """
    return not has_form(leaf) or leaf.dtype.kind not in "fc" or bool(np.isfinite(leaf).all())
