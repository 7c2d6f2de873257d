"""How examples are split into parts: by class where targets are classes, so that each part has some of every one."""

import numpy as np

from funcnn.checks import NUMBERS, as_array
from funcnn.keys import Key, fold_in, generator
from funcnn.settings import is_number, refuse
from funcnn.tree import Array

__all__ = ["random_split", "stratified_split"]


def stratified_split(labels: Array, fraction: float, key: Key) -> tuple[Array, Array]:
    """Positions of two disjoint parts, the second with a fraction of each class: labels (n,) -> two sorted arrays.

    >>> rest, held_out = stratified_split(np.array([0] * 10 + [1] * 20), 0.2, Key(0))
    >>> len(rest), len(held_out)
    (24, 6)

    Raises ValueError for a fraction outside (0, 1), or no labels.
    """
    labels = as_array("stratified_split", "labels", labels, kinds=NUMBERS + "SU")
    if not (is_number(fraction) and 0 < fraction < 1):
        refuse("stratified_split", "fraction", "more than 0 and less than 1", fraction)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"stratified_split: expected labels (n,), at least one, got an array {labels.shape}")
    counts = np.unique(labels, return_counts=True)[1]
    exact = fraction * counts
    sizes = np.floor(exact).astype(int)
    # The whole part has its size to the example: the largest remainders are rounded up.
    short = round(fraction * len(labels)) - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:short]] += 1
    held_out = []
    of_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for i, (positions, size) in enumerate(zip(of_class, sizes, strict=True)):
        order = generator(fold_in(key, i)).permutation(len(positions))
        held_out.append(positions[order[:size]])
    second = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), second), second


def random_split(n: int, fraction: float, key: Key) -> tuple[Array, Array]:
    """Positions of two disjoint parts of n examples, the second with a fraction of them: two sorted arrays.

    >>> [len(each) for each in random_split(10, 0.2, Key(0))]
    [8, 2]
    """
    order = generator(key).permutation(n)
    held_out = round(fraction * n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
