"""What a data set is: parts to train on, to choose by and to report on, the classes' names, an example's shape."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import attrs
import numpy as np

from funcnn.checks import FuncnnWarning
from funcnn.data.handwriting import Prepare, check_prepare
from funcnn.data.part import Part, size_of
from funcnn.data.preprocess import Preprocess, rescale, standardise
from funcnn.data.split import random_split, stratified_split
from funcnn.data.stored import Stored, joined
from funcnn.data.tables import Labels, as_inputs, as_targets, check_columns, labels_in
from funcnn.keys import Key, check_is_key, fold_in
from funcnn.settings import as_tuple, is_number, refuse
from funcnn.system.text import call_text, cut
from funcnn.tree import Shape
from funcnn.tree import map as tree_map

__all__ = ["Dataset", "Part", "stratified_split"]

_CLASSES = 90  # characters for the classes' names where a data set prints
_MOST_CLASSES = 100_000  # that get a number for a name


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

    There may be no part to choose by, and none to report on: None. `source` says where the examples are from, `prepare`
    makes of any image one that is stored as theirs are (`funcnn.data.handwriting`), for predictions.
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
    change it), labels that are negative, or a `prepare` that makes images of another shape.
    """

    train: Part
    validation: Part | None
    test: Part | None
    classes: tuple[str, ...] = attrs.field(converter=_names)
    in_shape: Shape = attrs.field(converter=_shape)
    source: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    prepare: Prepare | None = attrs.field(default=None, validator=check_prepare)

    def __attrs_post_init__(self) -> None:
        labels = 0
        for name in ("train", "validation", "test"):
            part = getattr(self, name)
            if isinstance(part, Part):
                self._check_part(name, part)
                labels = max(labels, _classes_in(name, part.targets) if self.classes else 0)
            elif isinstance(part, (tuple, list, Mapping, np.ndarray)) or (part is None and name == "train"):
                refuse("Dataset", name, "a Part", part, "Pass Part(inputs, targets)")
        if labels > len(self.classes):
            self._name_more(labels)

    def _check_part(self, name: str, part: Part) -> None:
        if len(part) == 0:
            fix = "Give it at least one" if name == "train" else "Pass None to go without one"
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

    @classmethod
    def from_arrays(
        cls,
        inputs: Any,
        targets: Any,
        *,
        weights: Any = None,
        validation: Any = 0.1,
        test: Any = 0.2,
        classes: Iterable[Any] | None = None,
        standardise: bool = False,
        preprocess: Preprocess | None = None,
        key: Key = Key(0),  # noqa: B008  (a frozen value)
    ) -> "Dataset":
        """A data set of your own arrays, or pandas DataFrames and Series: inputs (n, ...), targets (n, ...).

        A fraction `test` of the examples is kept for the test, and a fraction `validation` of the rest to validate;
        None is for no such part, and ``(inputs, targets)`` or ``(inputs, targets, weights)`` for one that there is
        already. The `key` decides which, and where targets are classes each part has its share of every one.

        Targets that are texts, bools or whole numbers, one for each example, are classes: those that occur, in order,
        are numbered from 0 and keep their names; or `classes` names them all in the order of their numbers, and is
        ``()`` where whole numbers are amounts. Floats are amounts, one for each example (n,) a column
        (n, 1), as a net of one output gives them. A tuple of arrays is for several inputs or outputs, each as it is.

        With `standardise` every column or channel is brought to mean 0 and deviation 1, by the training part alone;
        `preprocess` is any other function of stored inputs. Without either, inputs that are floats become float32, and
        whole numbers stay, as embeddings take them. A `preprocess` may fill what is missing: NaN is left to it. What is
        in a file stays there (`Part`), and is not looked through.

        >>> rows = np.random.default_rng(0).normal(5, 2, (100, 3))
        >>> data = Dataset.from_arrays(rows, ["yes", "no"] * 50, standardise=True)
        >>> len(data.train), len(data.validation), len(data.test), data.classes, data.in_shape
        (72, 8, 20, ('no', 'yes'), (3,))
        >>> inputs, labels = data.train.take(slice(None))
        >>> bool(abs(inputs.mean()) < 1e-6), labels[:4]
        (True, array([0, 1, 0, 1]))

        Raises ValueError, naming the column where there are such, for texts or dates among the inputs, for missing
        values unless there is a `preprocess`, for a part that has other columns than the one to train on, labels that
        `classes` does not name, fractions outside (0, 1), or a class or part of which nothing is left.
        """
        return _from_arrays(cls, inputs, targets, weights, validation, test, classes, standardise, preprocess, key)

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
        joint: dict[str, Any] = {
            name: tree_map(joined, getattr(self.train, name), getattr(self.validation, name))
            for name in ("inputs", "targets")
        }
        weights = [np.ones(len(part)) if part.weights is None else part.weights for part in both]
        if any(part.weights is not None for part in both):
            joint["weights"] = np.concatenate(weights)
        return attrs.evolve(self, train=attrs.evolve(self.train, **joint), validation=None)

    def __repr__(self) -> str:
        values = {
            field.name: repr(getattr(self, field.name))
            for field in attrs.fields(Dataset)
            if field.name not in ("source", "prepare")
        }
        if len(values["classes"]) > _CLASSES:
            values["classes"] = f"<{len(self.classes):,} names: {cut(', '.join(self.classes), _CLASSES - 20)}>"
        return call_text("Dataset", values)

    def _each(self, change: Callable[[Part], Part]) -> "Dataset":
        parts = {name: getattr(self, name) for name in ("train", "validation", "test")}
        changed: dict[str, Any] = {name: None if part is None else change(part) for name, part in parts.items()}
        return attrs.evolve(self, **changed)


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


# --- Of one's own arrays --------------------------------------------------------------------------------------

_PLACE = "Dataset.from_arrays"


def _from_arrays(
    cls: type[Dataset],
    inputs: Any,
    targets: Any,
    weights: Any,
    validation: Any,
    test: Any,
    classes: Any,
    standardised: Any,
    preprocess: Preprocess | None,
    key: Key,
) -> Dataset:
    check_is_key(_PLACE, key)
    if not isinstance(standardised, bool):
        refuse(_PLACE, "standardise", "True or False", standardised, "Of a function make preprocess=")
    if standardised and preprocess is not None:
        raise ValueError(
            f"{_PLACE}: standardise=True and a preprocess are two ways to prepare inputs. Pass one of them"
        )
    given, fractions = {"train": (inputs, targets, weights)}, {}
    for name, part in (("test", test), ("validation", validation)):
        if isinstance(part, (tuple, list)) and len(part) in (2, 3):
            given[name] = (*part, None)[:3]
        elif part is not None:
            if not (is_number(part) and 0 < part < 1):
                expected = "a fraction of more than 0 and less than 1, (inputs, targets), or None for no such part"
                refuse(_PLACE, name, expected, part)
            fractions[name] = float(part)
    labels = labels_in(_PLACE, targets, classes)
    numbers = preprocess is None
    convert = numbers and not standardised
    parts: dict[str, Part] = {}
    for name, (its_inputs, its_targets, its_weights) in given.items():
        check_columns(_PLACE, name, its_inputs, inputs)
        examples = as_inputs(_PLACE, its_inputs, size_of(its_targets), numbers=numbers, convert=convert)
        parts[name] = Part(examples, as_targets(_PLACE, its_targets, labels), preprocess, its_weights)
        its_shape, shape = _shape_of(parts[name].inputs), _shape_of(parts["train"].inputs)
        if numbers and its_shape != shape:
            raise ValueError(
                f"{_PLACE}: the {name} part's inputs are of shape {its_shape}, and those to train on {shape}. Pass "
                "examples of one shape"
            )
    _hold_out(parts, fractions, labels, key)
    stored = parts["train"].inputs
    if standardised:
        if isinstance(stored, tuple):
            fix = "Pass a preprocess, a function of the tuple of them"
            refuse(_PLACE, "standardise", "False for several inputs", True, fix)
        preprocess = standardise(stored)
    elif convert and isinstance(stored, Stored) and stored.dtype.kind == "f" and stored.dtype != np.float32:
        preprocess = rescale(1)  # what is in memory is converted at once
    parts = {name: attrs.evolve(part, preprocess=preprocess) for name, part in parts.items()}
    in_shape = _shape_of(parts["train"].take(slice(0, 1))[0])
    names = () if labels is None else labels.names
    return cls(parts["train"], parts.get("validation"), parts.get("test"), names, in_shape)


def _hold_out(parts: dict[str, Part], fractions: dict[str, float], labels: Labels | None, key: Key) -> None:
    """Take from the training part, for each other that has a fraction, so many of the examples, of each class alike."""
    train = parts["train"]
    at = {"train": np.arange(len(train))}
    for name, fraction in fractions.items():
        left = at["train"]
        its_key = fold_in(key, name)
        if labels is None:
            rest, held_out = random_split(len(left), fraction, its_key)
        else:
            rest, held_out = stratified_split(train.targets[left], fraction, its_key)
        if not (len(rest) and len(held_out)):
            raise ValueError(
                f"{_PLACE}: {name}={fraction} of {len(left)} examples is none, or all of them. Pass another fraction, "
                "or None for no such part"
            )
        at["train"], at[name] = left[rest], left[held_out]
    if labels is not None and fractions:
        lost = np.setdiff1d(train.targets, train.targets[at["train"]])
        if len(lost):
            few = int(np.count_nonzero(train.targets == lost[0]))
            amounts = ". If the numbers are amounts, pass classes=()" * (labels.values.dtype.kind in "iu")
            raise ValueError(
                f"{_PLACE}: class {labels.names[lost[0]]!r} has {few} example{'s'[: few > 1]}, and none is left to "
                f"train on. Leave the class out, give it more, or hold out less{amounts}"
            )
    if fractions:
        parts.update((name, train.select(positions)) for name, positions in at.items())
