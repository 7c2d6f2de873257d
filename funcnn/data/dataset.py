"""What a data set is: parts of examples, kept as stored (bytes, as a rule) until a batch is taken."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from funcnn.data.preprocess import Preprocess
from funcnn.keys import Key, fold_in, generator
from funcnn.settings import as_code
from funcnn.system.text import call_text, cut
from funcnn.tree import Array, Shape, brief

__all__ = ["Dataset", "Part", "stratified_split"]

_CLASSES = 90  # characters for the classes' names where a data set prints


@attrs.frozen(eq=False)
class Part:
    """Examples in memory: inputs (n, ...), targets (n, ...), and what turns stored inputs into a net's.

    >>> from funcnn.data import rescale
    >>> part = Part(np.array([[0], [255]], np.uint8), np.array([3, 5]), rescale(255))
    >>> part
    Part(inputs=uint8 (2, 1), targets=int64 (2,), preprocess=rescale(divisor=255))
    >>> part.take([1])
    (array([[1.]], dtype=float32), array([5]))

    Raises ValueError unless there are as many inputs as targets.
    """

    inputs: Array = attrs.field(repr=brief)
    targets: Array = attrs.field(repr=brief)
    # It prints cut, since a mean image is thousands of characters.
    preprocess: Preprocess | None = attrs.field(default=None, repr=lambda given: cut(as_code(given), 30))

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

    def thin(self, size: int) -> "Part":
        """At most `size` of the examples, evenly spaced, so that parts that are sorted by class keep every class."""
        n = len(self)
        return self if n <= size else self.select(np.linspace(0, n - 1, size).astype(int))


@attrs.frozen(eq=False, repr=False)
class Dataset:
    """A data set: what to train on, to choose by, and to report on; the classes' names; an input's shape.

    >>> from funcnn.data import load
    >>> load("digits")
    Dataset(
        train=Part(inputs=uint8 (1294, 8, 8, 1), targets=uint8 (1294,), preprocess=rescale(divisor=16)),
        validation=Part(inputs=uint8 (144, 8, 8, 1), targets=uint8 (144,), preprocess=rescale(divisor=16)),
        test=Part(inputs=uint8 (359, 8, 8, 1), targets=uint8 (359,), preprocess=rescale(divisor=16)),
        classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'),
        in_shape=(8, 8, 1),
    )
    """

    train: Part
    validation: Part | None
    test: Part
    classes: tuple[str, ...]
    in_shape: Shape

    def prepared(self, preprocess: Preprocess | None) -> "Dataset":
        """The same examples, turned into inputs another way; what it is made of comes from the training part alone.

        >>> from funcnn.data import load, standardise
        >>> data = load("digits")
        >>> data = data.prepared(standardise(data.train.inputs))
        """
        return self._each(lambda part: attrs.evolve(part, preprocess=preprocess))

    def thin(self, train: int, rest: int) -> "Dataset":
        """At most `train` examples to train on, and at most `rest` in either of the other parts, evenly spaced."""
        thinned = self._each(lambda part: part.thin(rest))
        return attrs.evolve(thinned, train=self.train.thin(train))

    def without_validation(self) -> "Dataset":
        """The same, with the validation part among what to train on: for a last training, its settings chosen before.

        >>> from funcnn.data import load
        >>> data = load("digits").without_validation()
        >>> len(data.train), data.validation
        (1438, None)
        """
        if self.validation is None:
            return self
        both = self.train, self.validation
        inputs, targets = (np.concatenate([getattr(part, name) for part in both]) for name in ("inputs", "targets"))
        return attrs.evolve(self, train=attrs.evolve(self.train, inputs=inputs, targets=targets), validation=None)

    def __repr__(self) -> str:
        values = {field.name: repr(getattr(self, field.name)) for field in attrs.fields(Dataset)}
        if len(values["classes"]) > _CLASSES:
            values["classes"] = f"<{len(self.classes):,} names: {cut(', '.join(self.classes), _CLASSES - 20)}>"
        return call_text("Dataset", values)

    def _each(self, change: Callable[[Part], Part]) -> "Dataset":
        validation = None if self.validation is None else change(self.validation)
        return attrs.evolve(self, train=change(self.train), validation=validation, test=change(self.test))


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
    for i, (label, count, size) in enumerate(zip(classes, counts, sizes, strict=True)):
        order = generator(fold_in(key, i)).permutation(count)
        held_out.append(np.flatnonzero(labels == label)[order[:size]])
    second = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), second), second
