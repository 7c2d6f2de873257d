"""A part of a data set: examples, kept as stored (bytes, as a rule) until a batch is taken."""

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np

from funcnn.batch import Batch, is_several_arrays, length, rows, unpacked
from funcnn.checks import NUMBERS, as_array
from funcnn.data.preprocess import Preprocess
from funcnn.data.stored import Stored, as_stored
from funcnn.settings import as_code, refuse
from funcnn.system.text import cut
from funcnn.tree import Array, brief, flatten
from funcnn.tree import map as tree_map

__all__ = ["Part", "positions_in", "size_of"]


def _examples(name: str, given: Any, kinds: str | None, n: int | None = None) -> Any:
    """An array of `n` examples; or several, and not examples one by one: of these there would be n."""
    if _is_several(given) and len(given) != n:
        return tuple([_examples(name, each, kinds, n) for each in given])
    examples = as_stored("Part", name, given, kinds=kinds)
    if examples.ndim == 0:
        refuse("Part", name, "an array of examples (n, ...)", given)
    return examples


def _is_several(given: Any) -> bool:
    """Whether it is a tuple of arrays with an axis of examples each, in memory or in files."""
    if type(given) is not tuple:
        return False
    return is_several_arrays(tuple([each.array if isinstance(each, Stored) else each for each in given]))


def size_of(given: Any) -> int | None:
    """The number of examples in an array or a list of them, None of a single number; in several arrays, that of all."""
    if _is_several(given):
        sizes = {len(leaf) for leaf in flatten(given)}
        return sizes.pop() if len(sizes) == 1 else None
    try:
        return len(given)
    except TypeError:
        return None


def _weights(given: Any) -> Array | None:
    if given is None:
        return None
    weights: Array = as_array("Part", "weights", given)
    if weights.ndim == 0:
        refuse("Part", "weights", "an array, one for each example", given)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        refuse("Part", "weights", "finite and not negative", given)
    return weights


def _check_preprocess(instance: Any, attribute: Any, preprocess: Preprocess | None) -> None:
    if preprocess is not None and not callable(preprocess):
        refuse("Part", "preprocess", "a function of stored examples", preprocess)


@attrs.frozen(eq=False)
class Part:
    """Examples: inputs (n, ...), targets (n, ...), and what turns stored inputs into a net's.

    With `weights`, (n,) or one for each position of the targets (n, ...), losses and metrics are means over them. What
    is no array yet, a list or a pandas Series or DataFrame, is taken by position (`funcnn.checks.as_array`). For a net
    of several inputs or outputs, inputs or targets are a tuple of arrays, of as many examples each. An array in a file
    (``np.load(path, mmap_mode="r")``, ``np.memmap``) stays there, and is read when a batch is taken (`Stored`).

    >>> from funcnn.data import rescale
    >>> part = Part(np.array([[0], [255]], np.uint8), np.array([3, 5]), rescale(255))
    >>> part
    Part(inputs=uint8 (2, 1), targets=int64 (2,), preprocess=rescale(divisor=255))
    >>> part.take([1])
    (array([[1.]], dtype=float32), array([5]))

    Raises ValueError unless there are as many inputs as targets and weights, and all are numbers, the weights finite
    and not negative; inputs that a preprocessing turns into numbers may be anything.
    """

    inputs: Any = attrs.field(repr=brief)
    targets: Any = attrs.field(repr=brief)
    # It prints cut, since a mean image is thousands of characters.
    preprocess: Preprocess | None = attrs.field(
        default=None, repr=lambda given: cut(as_code(given), 30), validator=_check_preprocess
    )
    weights: Array | None = attrs.field(default=None, repr=False, converter=_weights)

    def __attrs_post_init__(self) -> None:
        kinds = NUMBERS if self.preprocess is None else None
        size = size_of(self.targets) or size_of(self.inputs)
        object.__setattr__(self, "inputs", _examples("inputs", self.inputs, kinds, size))
        targets = _examples("targets", self.targets, NUMBERS, size)
        if isinstance(targets, Stored) and targets.ndim == 1:  # numbers that are looked at as a whole, and are few
            targets = np.asarray(targets)
        object.__setattr__(self, "targets", targets)
        n = length(self.inputs)
        for name, values in (("inputs", self.inputs), ("targets", self.targets)):
            for each in flatten(values):
                if len(each) != n:
                    raise ValueError(f"Part: expected as many inputs as {name}, got {n} inputs, {len(each)} {name}")
        if self.weights is not None:
            shapes = [each.shape[: self.weights.ndim] for each in flatten(self.targets)]
            if self.weights.shape not in shapes:
                refuse("Part", "weights", f"one for each of the {n} targets, or each of their positions", self.weights)

    def __len__(self) -> int:
        return length(self.inputs)

    @classmethod
    def from_batches(cls, batches: Iterable[Batch], preprocess: Preprocess | None = None) -> "Part":
        """A part in memory of all that an iterable gives: batches (inputs, targets), or (inputs, targets, weights).

        A generator may be one, or what another library loads batches by; it is read once, to its end.

        >>> Part.from_batches((np.full((2, 3), i), np.full(2, i)) for i in range(4))
        Part(inputs=int64 (8, 3), targets=int64 (8,), preprocess=None)

        Raises ValueError for no batches, or one that differs from the first in shapes.
        """
        if not isinstance(batches, Iterable):
            refuse("Part.from_batches", "batches", "an iterable of batches (inputs, targets)", batches)
        parts = []
        for i, batch in enumerate(batches):
            try:
                inputs, targets, weights = unpacked(batch)
                part = cls(inputs, targets, preprocess, weights)
            except (TypeError, ValueError) as error:
                raise ValueError(f"Part.from_batches: batch {i}: {error}") from error
            # A copy, since who makes batches may make the next one in the same memory.
            parts.append([None if each is None else tree_map(np.array, each) for each in part._arrays()])
            first, last = ([leaf.shape[1:] for leaf in flatten(tuple(each))] for each in (parts[0], parts[-1]))
            if first != last:
                raise ValueError(f"Part.from_batches: batch {i}: expected examples of shapes {first}, got {last}")
        if not parts:
            raise ValueError("Part.from_batches: expected at least one batch, got none. Has the generator been read?")
        inputs, targets, weights = [
            None if each[0] is None else tree_map(lambda *leaves: np.concatenate(leaves), *each)
            for each in zip(*parts, strict=True)
        ]
        return cls(inputs, targets, preprocess, weights)

    def take(self, index: Any) -> Batch:
        """The examples at positions (a slice or an array of them) as arrays (inputs, targets), and weights, if any.

        Raises ValueError for what are no positions.
        """
        positions = positions_in(index, len(self))
        inputs = rows(self.inputs, positions)
        batch = (self.preprocess(inputs) if self.preprocess else inputs), rows(self.targets, positions)
        return batch if self.weights is None else (*batch, self.weights[positions])

    def select(self, index: Any) -> "Part":
        """A part with the examples at positions: what is in a file stays there. Raises ValueError for no positions."""
        positions = positions_in(index, len(self))

        def some(leaf: Any) -> Any:
            return leaf.select(positions) if isinstance(leaf, Stored) else leaf[positions]

        weights = None if self.weights is None else self.weights[positions]
        inputs, targets = tree_map(some, self.inputs), tree_map(some, self.targets)
        return attrs.evolve(self, inputs=inputs, targets=targets, weights=weights)

    def _arrays(self) -> tuple[Any, Any, Array | None]:
        return self.inputs, self.targets, self.weights

    def thin(self, size: int) -> "Part":
        """At most `size` of the examples, evenly spaced, so that parts that are sorted by class keep every class."""
        n = len(self)
        return self if n <= size else self.select(np.linspace(0, n - 1, size).astype(int))


def positions_in(index: Any, n: int) -> Any:
    """What NumPy takes along the first axis of n examples alone: of a tuple or None it would take other axes.

    Raises ValueError for what is no slice, no array of positions below n, and no mask of n.
    """
    if isinstance(index, slice) and all(each is None or isinstance(each, (int, np.integer)) for each in _ends(index)):
        return index
    positions = as_array("Part.take", "index", index)
    if positions.size == 0 and isinstance(index, (list, tuple)):
        return slice(0, 0)
    mask = positions.dtype.kind == "b" and positions.shape == (n,)
    if not mask and (positions.ndim != 1 or positions.dtype.kind not in "iu"):
        refuse("Part.take", "index", "a slice or an array of positions", index, "Pass [i] for a single example")
    if not mask and positions.size and not -n <= positions.min() <= positions.max() < n:
        raise ValueError(
            f"Part.take: expected positions below {n}, the number of examples, "
            f"got some from {positions.min()} to {positions.max()}"
        )
    return positions


def _ends(index: slice) -> tuple[Any, Any, Any]:
    return index.start, index.stop, index.step
