"""One's own inputs and targets as arrays: DataFrames column by column, labels as class numbers with names."""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import attrs
import numpy as np

from funcnn.batch import is_several_arrays
from funcnn.checks import NUMBERS
from funcnn.data.stored import Stored, as_stored, blocks
from funcnn.settings import refuse
from funcnn.system.text import cut
from funcnn.tree import Array

__all__ = ["Labels", "as_inputs", "as_targets", "labels_in"]

_TEXT = "OUS"


# --- Inputs ---------------------------------------------------------------------------------------------------


def as_inputs(place: str, given: Any, *, convert: bool) -> Any:
    """Inputs as an array (n, ...), or a tuple of such; with `convert` floats become float32.

    Raises ValueError, naming the column, for one that holds no numbers or lacks some; for values that are not finite.
    """
    if type(given) is tuple and is_several_arrays(tuple([_plain(each) for each in given])):
        return tuple([as_inputs(place, each, convert=convert) for each in given])
    if _is_frame(given):
        inputs = _of_columns(place, given)
    else:
        inputs = as_stored(place, "inputs", given, kinds=NUMBERS if convert else None)
    if inputs.ndim == 1 and convert:
        raise ValueError(f"{place}: inputs must be examples (n, ...), got single numbers {inputs.shape}. Give each an "
                         "axis: np.asarray(inputs)[:, None]")  # fmt: skip
    if isinstance(inputs, Stored) or inputs.dtype.kind != "f":
        return inputs
    if not all(np.isfinite(each).all() for each in blocks(inputs)):
        finite = np.isfinite(inputs)
        first = tuple(int(each[0]) for each in np.nonzero(~finite))
        raise ValueError(
            f"{place}: inputs have {finite.size - np.count_nonzero(finite):,} values that are not finite, the first at "
            f"{first}. Fill them, np.nan_to_num(inputs), or leave those examples out"
        )
    return inputs.astype(np.float32, copy=False) if convert else inputs


def _plain(given: Any) -> Any:
    return np.empty((len(given), 0)) if _is_frame(given) or isinstance(given, Stored) else given


def _is_frame(given: Any) -> bool:
    """Whether it is a DataFrame, of pandas or another library: columns with names."""
    return hasattr(given, "columns") and hasattr(given, "dtypes") and hasattr(given, "shape")


def _columns(frame: Any) -> Iterator[tuple[Any, Any]]:
    """The names and the columns of a DataFrame, which may have two of one name."""
    for i, name in enumerate(frame.columns):
        yield name, frame.iloc[:, i] if hasattr(frame, "iloc") else frame[name]


def _of_columns(place: str, frame: Any) -> Array:
    """A DataFrame's columns, in their order, as an array (n, columns) of float64."""
    columns: list[Array] = []
    for name, column in _columns(frame):
        try:
            values = np.asarray(column)
            if values.dtype.kind == "O":  # pandas keeps numbers among which some are missing as objects
                _check_no_text(place, name, values)
                values = np.asarray([np.nan if _is_missing(each) else each for each in values], np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise _no_numbers(place, name, column) from error
        if values.dtype.kind not in NUMBERS:
            raise _no_numbers(place, name, column)
        values = values.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"{place}: column {name!r} has {len(bad):,} missing or infinite values of {len(values):,}, the first "
                f"in row {bad[0]}. Fill them, as inputs[{name!r}].fillna(inputs[{name!r}].median()) does, or leave out "
                "those rows"
            )
        columns.append(values)
    if not columns:
        raise ValueError(f"{place}: inputs are a DataFrame without columns")
    return np.stack(columns, axis=1)


def _check_no_text(place: str, name: Any, values: Array) -> None:
    if any(isinstance(each, (str, bytes)) for each in values):
        raise TypeError(f"{place}: column {name!r} has texts")


def _no_numbers(place: str, name: Any, column: Any) -> ValueError:
    dtype = getattr(column, "dtype", "object")
    return ValueError(
        f"{place}: column {name!r} holds no numbers, but {dtype}. Leave it out, inputs.drop(columns=[{name!r}]), or "
        f"make a column of each of its values, pd.get_dummies(inputs, columns=[{name!r}])"
    )


def _is_missing(value: Any) -> bool:
    """Whether it is None, NaN or a library's own value for what is missing, which equals nothing."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA says neither
        return True


# --- Targets --------------------------------------------------------------------------------------------------


@attrs.frozen
class Labels:
    """The classes of a data set: the labels that stand for them, in the order of their numbers, and their names."""

    values: Array
    names: tuple[str, ...]


def labels_in(place: str, targets: Any, classes: Any) -> Labels | None:
    """The classes that targets (n,) are of, those named or those that occur; None for targets that are amounts.

    Raises ValueError for labels of several kinds, or missing ones.
    """
    if is_several_arrays(targets):
        return None
    labels = _one_each(place, targets)
    if classes is not None and not (
        isinstance(classes, Iterable) and not isinstance(classes, (str, bytes, Mapping, Set))
    ):
        refuse(place, "classes", 'the classes\' names in order, as ("cat", "dog"), or () for amounts', classes)
    given = None if classes is None else tuple(classes)
    if given == () or (labels is None and given is None):
        if labels is not None and labels.dtype.kind == "U":
            refuse(place, "classes", "not (), since the targets are texts", classes, "Leave it out, or name them")
        return None
    if labels is None:
        raise ValueError(
            f"{place}: classes are named, and targets {_kind_of(targets)} are no labels (n,). Pass targets.astype(int) "
            "if they are class numbers, or leave out the names"
        )
    if given is None:
        values = np.unique(labels)
        return Labels(values, tuple(map(str, values.tolist())))
    names = tuple(map(str, given))
    if len(set(names)) < len(names):
        refuse(place, "classes", "names of which no two are the same", classes)
    numbers = labels.dtype.kind in "iu" and not all(isinstance(each, (int, np.integer)) for each in given)
    values = np.arange(len(given)) if numbers else np.asarray(given)
    return Labels(values.astype(str) if labels.dtype.kind == "U" else values, names)


def as_targets(place: str, given: Any, labels: Labels | None) -> Any:
    """Targets as class numbers (n,), or as amounts: floats become float32, and single ones of an example (n, 1).

    Raises ValueError for labels that are not among the classes, or amounts that are not finite.
    """
    if is_several_arrays(given):
        return tuple([_amounts(place, each) for each in given])
    values = _one_each(place, given)
    if labels is None:
        if values is not None:
            return _amounts(place, values)
        return _amounts(place, _of_columns(place, given) if _is_frame(given) else given)
    if values is None or (values.dtype.kind == "U") != (labels.values.dtype.kind == "U"):
        raise ValueError(
            f"{place}: the labels must be like the classes, {_listed(labels.names)}, got {_kind_of(given)}"
        )
    order = np.argsort(labels.values)
    at = np.searchsorted(labels.values, values, sorter=order).clip(max=len(order) - 1)
    numbers = order[at]
    unknown = labels.values[numbers] != values
    if unknown.any():
        raise ValueError(
            f"{place}: {np.count_nonzero(unknown):,} of {len(values):,} labels are none of the classes, "
            f"{_listed(labels.names)}: {_listed(np.unique(values[unknown]).tolist())}. Name all in classes="
        )
    return numbers


def _one_each(place: str, given: Any) -> Array | None:
    """The targets as labels (n,), texts, bools or whole numbers; None for amounts, and several for an example."""
    values = np.asarray(given) if not isinstance(given, Stored) else given[:]
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind != "f":
        values = values[:, 0]  # a DataFrame of one column
    if values.dtype.kind == "O" and values.ndim == 1:
        values = _of_objects(place, values)
    if values.dtype.kind in "US" and values.ndim != 1:
        refuse(place, "targets", "one label for each example (n,)", values.shape)
    if values.dtype.kind == "S":
        values = values.astype(str)
    return values if values.ndim == 1 and values.dtype.kind in "Ubiu" else None


def _of_objects(place: str, values: Array) -> Array:
    """What pandas keeps as objects: texts, whole numbers or bools, all of one kind."""
    missing = [i for i, each in enumerate(values) if _is_missing(each)]
    if missing:
        raise ValueError(
            f"{place}: {len(missing):,} of {len(values):,} targets are missing, the first in row {missing[0]}. Leave "
            "out those rows"
        )
    for kind, dtype in (
        (str, str),
        ((bool, np.bool_), bool),
        ((int, np.integer), np.int64),
        ((int, float), np.float64),
    ):
        if all(isinstance(each, kind) for each in values):
            return values.astype(dtype)
    kinds = ", ".join(sorted({type(each).__name__ for each in values}))
    raise ValueError(
        f"{place}: targets must be all texts or all numbers, got {kinds}. Convert them: targets.astype(str)"
    )


def _amounts(place: str, given: Any) -> Any:
    amounts = as_stored(place, "targets", given)
    if isinstance(amounts, Stored):
        return amounts
    if amounts.dtype.kind == "f" and not np.isfinite(amounts).all():
        rows = np.flatnonzero(~np.isfinite(amounts).reshape(len(amounts), -1).all(axis=1))
        raise ValueError(
            f"{place}: targets of {len(rows):,} examples are not finite, the first in row {rows[0]}. Leave out these"
        )
    if amounts.ndim == 1:
        return amounts.astype(np.float32)[:, None]
    return amounts.astype(np.float32, copy=False) if amounts.dtype.kind == "f" else amounts


def _kind_of(given: Any) -> str:
    values = given if isinstance(given, Stored) else np.asarray(given)
    return f"{values.dtype} {values.shape}"


def _listed(values: Iterable[Any]) -> str:
    return cut(", ".join(map(str, values)), 200)
