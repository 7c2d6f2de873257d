"""What a data set is: parts of examples, kept as stored (bytes, as a rule) until a batch is taken."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import attrs
import numpy as np

from funcnn.batch import Batch, is_several_arrays, length, rows
from funcnn.checks import NUMBERS, FuncnnWarning, as_array
from funcnn.data.preprocess import Preprocess
from funcnn.keys import Key, fold_in, generator
from funcnn.settings import as_code, as_tuple, is_number, refuse
from funcnn.system.text import call_text, cut
from funcnn.tree import Array, Shape, brief, flatten
from funcnn.tree import map as tree_map

__all__ = ["Dataset", "Part", "stratified_split"]

_CLASSES = 90  # characters for the classes' names where a data set prints
_MOST_CLASSES = 100_000  # that get a number for a name


def _examples(name: str, given: Any, kinds: str | None, n: int | None = None) -> Any:
    """An array of `n` examples; or several, and not examples one by one: of these there would be n."""
    if is_several_arrays(given) and len(given) != n:
        return tuple([_examples(name, each, kinds, n) for each in given])
    examples = as_array("Part", name, given, kinds=kinds)
    if examples.ndim == 0:
        refuse("Part", name, "an array of examples (n, ...)", given)
    return examples


def _size(given: Any) -> int | None:
    """The number of examples in an array or a list of them, None of a single number; in several arrays, that of all."""
    if is_several_arrays(given):
        sizes = {len(leaf) for leaf in flatten(given)}
        return sizes.pop() if len(sizes) == 1 else None
    try:
        return len(given)
    except TypeError:
        return None


def _weights(given: Any) -> Array | None:
    if given is None:
        return None
    weights: Array = _examples("weights", given, NUMBERS)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        refuse("Part", "weights", "finite and not negative", given)
    return weights


def _check_preprocess(instance: Any, attribute: Any, preprocess: Preprocess | None) -> None:
    if preprocess is not None and not callable(preprocess):
        refuse("Part", "preprocess", "a function of stored examples", preprocess)


@attrs.frozen(eq=False)
class Part:
    """Examples in memory: inputs (n, ...), targets (n, ...), and what turns stored inputs into a net's.

    With `weights`, (n,) or one for each position of the targets (n, ...), losses and metrics are means over them. What
    is no array yet, a list or a pandas Series or DataFrame, is taken by position (`funcnn.checks.as_array`). For a net
    of several inputs or outputs, inputs or targets are a tuple of arrays, of as many examples each.

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
        size = _size(self.targets) or _size(self.inputs)
        object.__setattr__(self, "inputs", _examples("inputs", self.inputs, kinds, size))
        object.__setattr__(self, "targets", _examples("targets", self.targets, NUMBERS, size))
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

    def take(self, index: Any) -> Batch:
        """The examples at positions (a slice or an array of them) as arrays (inputs, targets), and weights, if any.

        Raises ValueError for what are no positions.
        """
        positions = self._positions(index)
        inputs = rows(self.inputs, positions)
        batch = (self.preprocess(inputs) if self.preprocess else inputs), rows(self.targets, positions)
        return batch if self.weights is None else (*batch, self.weights[positions])

    def select(self, index: Any) -> "Part":
        """A part with the examples at positions; raises ValueError for what are none."""
        positions = self._positions(index)
        weights = None if self.weights is None else self.weights[positions]
        inputs, targets = rows(self.inputs, positions), rows(self.targets, positions)
        return attrs.evolve(self, inputs=inputs, targets=targets, weights=weights)

    def _positions(self, index: Any) -> Any:
        """What NumPy takes along the first axis alone: of a tuple or None it would take other axes."""
        n = len(self)
        if isinstance(index, slice) and all(
            each is None or isinstance(each, (int, np.integer)) for each in _ends(index)
        ):
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

    def thin(self, size: int) -> "Part":
        """At most `size` of the examples, evenly spaced, so that parts that are sorted by class keep every class."""
        n = len(self)
        return self if n <= size else self.select(np.linspace(0, n - 1, size).astype(int))


def _ends(index: slice) -> tuple[Any, Any, Any]:
    return index.start, index.stop, index.step


def _names(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, (str, bytes, Mapping, Set)) or not isinstance(classes, Iterable):
        refuse("Dataset", "classes", 'the classes\' names in order, as ("cat", "dog")', classes)
    return tuple([str(each) for each in classes])


def _shape(in_shape: Any) -> Any:
    shape = as_tuple(in_shape)
    if isinstance(shape, tuple) and shape and all(isinstance(each, (tuple, list)) for each in shape):
        return tuple(map(_shape, shape))  # of several inputs
    if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)):
        refuse("Dataset", "in_shape", "an input's shape, a tuple of ints without the batch axis", in_shape)
    return shape


def _shape_of(inputs: Any) -> Any:
    """The shape of an example, or of each input of one."""
    return tuple(map(_shape_of, inputs)) if isinstance(inputs, tuple) else inputs.shape[1:]


@attrs.frozen(eq=False, repr=False)
class Dataset:
    """A data set: what to train on, to choose by, and to report on; the classes' names; an input's shape.

    Classes may be named by numbers: ``range(10)``, ``np.unique(labels)``. A label without a name gets its number for
    one, with a warning. Where targets are no classes, `classes` is ``()``.

    >>> from funcnn.data import load
    >>> load("digits")
    Dataset(
        train=Part(inputs=uint8 (1294, 8, 8, 1), targets=uint8 (1294,), preprocess=rescale(divisor=16)),
        validation=Part(inputs=uint8 (144, 8, 8, 1), targets=uint8 (144,), preprocess=rescale(divisor=16)),
        test=Part(inputs=uint8 (359, 8, 8, 1), targets=uint8 (359,), preprocess=rescale(divisor=16)),
        classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'),
        in_shape=(8, 8, 1),
    )

    Raises ValueError for a part without examples, inputs of another shape than `in_shape` (where no preprocessing could
    change it), or labels that are negative.
    """

    train: Part
    validation: Part | None
    test: Part
    classes: tuple[str, ...] = attrs.field(converter=_names)
    in_shape: Shape = attrs.field(converter=_shape)

    def __attrs_post_init__(self) -> None:
        labels = 0
        for name in ("train", "validation", "test"):
            part = getattr(self, name)
            if isinstance(part, Part):
                self._check_part(name, part)
                labels = max(labels, _classes_in(name, part.targets) if self.classes else 0)
            elif isinstance(part, (tuple, list, Mapping, np.ndarray)):
                refuse("Dataset", name, "a Part", part, "Pass Part(inputs, targets)")
        if labels > len(self.classes):
            self._name_more(labels)

    def _check_part(self, name: str, part: Part) -> None:
        if len(part) == 0:
            fix = "Pass None to train without one" if name == "validation" else "Give it at least one"
            raise ValueError(f"Dataset: the {name} part has no examples. {fix}")
        shape = _shape_of(part.inputs)
        if part.preprocess is None and shape != self.in_shape:
            raise ValueError(
                f"Dataset: the {name} part's inputs are of shape {shape}, and in_shape is {self.in_shape}. "
                "Pass examples of one shape, and that shape"
            )

    def _name_more(self, labels: int) -> None:
        """Name the classes beyond those that have a name by their numbers."""
        named = len(self.classes)
        fix = "Pass a name for each, or classes=() if the targets are no classes"
        if labels > _MOST_CLASSES:
            raise ValueError(f"Dataset: {named:,} names for {labels:,} classes, as the largest label says. {fix}")
        warnings.warn(
            f"Dataset: {named} names for {labels} classes, as the largest label says; the others are named by number. "
            f"{fix}",
            FuncnnWarning,
            stacklevel=4,
        )
        object.__setattr__(self, "classes", (*self.classes, *map(str, range(named, labels))))

    def prepared(self, preprocess: Preprocess | None) -> "Dataset":
        """The same examples with another preprocessing, whose statistics come from the training part alone.

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
        """The same, the validation part added to the training part: for a last training, when all settings are chosen.

        >>> from funcnn.data import load
        >>> data = load("digits").without_validation()
        >>> len(data.train), data.validation
        (1438, None)
        """
        if self.validation is None:
            return self
        both = self.train, self.validation
        joined: dict[str, Any] = {
            name: tree_map(lambda *leaves: np.concatenate(leaves), *[getattr(part, name) for part in both])
            for name in ("inputs", "targets")
        }
        weights = [np.ones(len(part)) if part.weights is None else part.weights for part in both]
        if any(part.weights is not None for part in both):
            joined["weights"] = np.concatenate(weights)
        return attrs.evolve(self, train=attrs.evolve(self.train, **joined), validation=None)

    def __repr__(self) -> str:
        values = {field.name: repr(getattr(self, field.name)) for field in attrs.fields(Dataset)}
        if len(values["classes"]) > _CLASSES:
            values["classes"] = f"<{len(self.classes):,} names: {cut(', '.join(self.classes), _CLASSES - 20)}>"
        return call_text("Dataset", values)

    def _each(self, change: Callable[[Part], Part]) -> "Dataset":
        validation = None if self.validation is None else change(self.validation)
        return attrs.evolve(self, train=change(self.train), validation=validation, test=change(self.test))


def _classes_in(name: str, targets: Any) -> int:
    """How many classes the targets tell of, if they are class numbers; else 0."""
    if isinstance(targets, tuple) or targets.ndim != 1 or targets.dtype.kind not in "iu":
        return 0
    low, high = int(targets.min()), int(targets.max())
    if low < 0:
        raise ValueError(
            f"Dataset: the {name} part's labels are from {low} to {high}. "
            "Number the classes from 0, and give what shall not count a weight of 0 (Part(..., weights=...)), or pass "
            "classes=() if the targets are no classes"
        )
    return high + 1


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
    classes, counts = np.unique(labels, return_counts=True)
    exact = fraction * counts
    sizes = np.floor(exact).astype(int)
    # The whole part has its size to the example: the largest remainders are rounded up.
    short = round(fraction * len(labels)) - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:short]] += 1
    held_out = []
    for i, (label, number, size) in enumerate(zip(classes, counts, sizes, strict=True)):
        order = generator(fold_in(key, i)).permutation(number)
        held_out.append(np.flatnonzero(labels == label)[order[:size]])
    second = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), second), second
