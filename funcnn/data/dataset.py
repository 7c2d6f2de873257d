"""What a data set is: parts of examples, kept as stored (bytes, as a rule) until a batch is taken."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.keys import Key, fold_in, generator
from funcnn.layer import Array, Described, Shape, check_positive, config

__all__ = ["Dataset", "Part", "rescale", "standardise", "stratified_split"]

Preprocess = Callable[[Array], Array]


@attrs.frozen(eq=False)
class Part:
    """Examples in memory: inputs (n, ...), targets (n, ...), and what turns stored inputs into a net's.

    >>> part = Part(np.array([[0], [255]], np.uint8), np.array([3, 5]), rescale(255))
    >>> part.take([1])
    (array([[1.]], dtype=float32), array([5]))

    Raises ValueError unless there are as many inputs as targets.
    """

    inputs: Array
    targets: Array
    preprocess: Preprocess | None = None

    def __attrs_post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"Part: expected as many inputs as targets, got {len(self.inputs)} inputs, {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Any) -> tuple[Array, Array]:
        """The examples at positions (a slice or an array of them) as arrays (inputs, targets)."""
        inputs = self.inputs[index]
        return (self.preprocess(inputs) if self.preprocess else inputs), self.targets[index]

    def select(self, index: Any) -> "Part":
        """The part of this part at positions."""
        return attrs.evolve(self, inputs=self.inputs[index], targets=self.targets[index])


@attrs.frozen(eq=False)
class Dataset:
    """A data set: what to train on, to choose by, and to report on; the classes' names; an input's shape."""

    train: Part
    validation: Part | None
    test: Part
    classes: tuple[str, ...]
    in_shape: Shape


@config
class _Rescale(Described):
    name: ClassVar[str] = "rescale"
    divisor: float = attrs.field(validator=check_positive)
    dtype: DTypeLike = np.float32

    def __call__(self, stored: Array) -> Array:
        inputs = stored.astype(self.dtype)
        inputs *= 1 / self.divisor
        return inputs


@config
class _Standardise(Described):
    name: ClassVar[str] = "standardise"
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    dtype: DTypeLike = np.float32

    def __call__(self, stored: Array) -> Array:
        inputs = stored.astype(self.dtype)
        inputs -= np.array(self.mean, self.dtype)
        inputs *= 1 / np.array(self.deviation, self.dtype)
        return inputs


def rescale(divisor: float, *, dtype: DTypeLike = np.float32) -> Preprocess:
    """stored / divisor, as floats: ``rescale(255)`` takes bytes to 0 to 1.

    >>> rescale(255)(np.array([0, 255], np.uint8))
    array([0., 1.], dtype=float32)

    Raises ValueError unless the divisor is positive.
    """
    return _Rescale(divisor, dtype)


def standardise(images: Array, *, dtype: DTypeLike = np.float32) -> Preprocess:
    """(stored - mean) / deviation for each channel, both taken from `images` (n, ..., channels): the training part.

    A channel that never varies is only centred.

    >>> standardise(np.array([[[[0]]], [[[10]]]], np.uint8))(np.array([[[[10]]]], np.uint8)).item()
    1.0
    """
    axes = tuple(range(images.ndim - 1))
    size = math.prod(images.shape[:-1])
    mean = images.sum(axis=axes, dtype=np.float64) / size
    # Around the mean, since a difference of large squares is not exact; in slices, to keep the float copies small.
    slices = (images[start : start + 1000] for start in range(0, len(images), 1000))
    squares = np.array([np.square(each - mean).sum(axis=axes) for each in slices])
    deviation = np.sqrt(squares.sum(axis=0) / size)
    deviation[images.min(axis=axes) == images.max(axis=axes)] = 1
    return _Standardise(tuple(mean.tolist()), tuple(deviation.tolist()), dtype)


def stratified_split(labels: Array, fraction: float, key: Key) -> tuple[Array, Array]:
    """Positions of two disjoint parts, the second with a fraction of each class: labels (n,) -> two sorted arrays.

    >>> rest, held_out = stratified_split(np.array([0] * 10 + [1] * 20), 0.2, Key(0))
    >>> len(rest), len(held_out)
    (24, 6)

    Raises ValueError for a fraction outside (0, 1), or no labels.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"stratified_split: fraction must be more than 0 and less than 1, got {fraction}")
    if len(labels) == 0:
        raise ValueError("stratified_split: expected at least one label, got none")
    classes, counts = np.unique(labels, return_counts=True)
    exact = fraction * counts
    sizes = np.floor(exact).astype(int)
    # The whole part has its size to the example: the largest remainders are rounded up.
    short = round(fraction * len(labels)) - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:short]] += 1
    held_out = []
    for label, count, size in zip(classes, counts, sizes, strict=True):
        order = generator(fold_in(key, int(label))).permutation(count)
        held_out.append(np.flatnonzero(labels == label)[order[:size]])
    second = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), second), second
