"""What a batch is: ``(inputs, targets)`` or ``(inputs, targets, weights)``, with the examples along the first axes.

Inputs and targets are arrays, or tuples of arrays where a net has several inputs or outputs. The weights are an array,
one for each example or each position of the targets: losses and metrics are means over them.
"""

from typing import Any

from funcnn import tree
from funcnn.settings import shown
from funcnn.system.devices import has_form
from funcnn.tree import Array

__all__ = ["Batch", "as_batch", "check_as_many", "length", "inputs_in", "is_several_arrays", "rows", "unpacked"]

Batch = tuple[Any, ...]


def is_several_arrays(values: Any) -> bool:
    """Whether they are those of several inputs or outputs: a tuple of arrays, each with an axis of examples."""
    return (
        type(values) is tuple
        and len(values) > 0
        and all(is_several_arrays(each) or (has_form(each) and each.ndim > 0) for each in values)
    )


def length(values: Any) -> int:
    """The number of examples in an array, in a tuple of arrays, or in a part of a data set.

    >>> import numpy as np
    >>> length((np.zeros((3, 2)), np.zeros(3)))
    3
    """
    return len(tree.flatten(values)[0] if isinstance(values, tuple) else values)


def check_as_many(place: str, inputs: Any) -> None:
    """Raise ValueError unless several inputs have as many examples each.

    >>> import numpy as np
    >>> check_as_many("here", (np.zeros((3, 2)), np.zeros(4)))
    Traceback (most recent call last):
    ValueError: here: expected several inputs to have as many examples each, got 3 and 4
    """
    counts = [len(leaf) for leaf in tree.flatten(inputs)] if isinstance(inputs, tuple) else []
    if len(set(counts)) > 1:
        found = " and ".join(map(str, counts))
        raise ValueError(f"{place}: expected several inputs to have as many examples each, got {found}")


def rows(values: Any, part: slice) -> Any:
    """Some of the examples in an array, or in each of a tuple of arrays."""
    return tree.map(lambda leaf: leaf[part], values) if isinstance(values, tuple) else values[part]


def inputs_in(given: Any, part: slice) -> Any:
    """The inputs of some of the examples in an array, in a tuple of arrays, or in a part of a data set."""
    return rows(given, part) if isinstance(given, tuple) or has_form(given) else given.take(part)[0]


def as_batch(inputs: Any, targets: Any, weights: Array | None = None) -> Batch:
    """A batch of its parts, with weights if there are some."""
    return (inputs, targets) if weights is None else (inputs, targets, weights)


def unpacked(batch: Any) -> tuple[Any, Any, Array | None]:
    """The inputs, targets and weights of a batch; raises TypeError for what is none."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise TypeError(
            f"step: batch must be a tuple (inputs, targets) or (inputs, targets, weights), got {shown(batch)}"
        )
    inputs, targets, *weights = batch
    return inputs, targets, weights[0] if weights else None
