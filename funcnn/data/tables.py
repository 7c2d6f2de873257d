"""One's own inputs and targets as arrays: DataFrames column by column, labels as class numbers with names."""

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from decimal import Decimal
from numbers import Real
from typing import Any

import attrs
import numpy as np

from funcnn.batch import is_several_arrays
from funcnn.checks import NUMBERS
from funcnn.data.stored import Stored, as_stored, blocks
from funcnn.settings import refuse
from funcnn.system.text import cut
from funcnn.tree import Array

__all__ = ["Labels", "as_inputs", "as_targets", "check_columns", "is_frame", "labels_in"]


# --- Inputs ---------------------------------------------------------------------------------------------------


def as_inputs(place: str, given: Any, n: int | None, *, numbers: bool, convert: bool) -> Any:
    """Inputs as an array (n, ...), or a tuple of such, but for one of `n` examples; with `convert` floats are float32.

    Raises ValueError, naming the column, for one that holds no numbers. If `numbers` are asked for, also for a column
    that lacks some, for values that are not finite, for what are no numbers or have no axis but that of the examples.
    """
    several = type(given) is tuple and is_several_arrays(tuple([_plain(each) for each in given]))
    if several and len(given) != n:
        return tuple([as_inputs(place, each, n, numbers=numbers, convert=convert) for each in given])
    if is_frame(given):
        inputs = _of_columns(place, "inputs", given, complete=numbers)
    else:
        inputs = as_stored(place, "inputs", given, kinds=NUMBERS if numbers else None)
    if inputs.ndim == 1 and numbers:
        raise ValueError(f"{place}: inputs must be examples (n, ...), got single numbers {inputs.shape}. Give each an "
                         "axis: np.asarray(inputs)[:, None]")  # fmt: skip
    if isinstance(inputs, Stored) or inputs.dtype.kind != "f" or not numbers:  # a preprocessing may fill gaps
        return inputs
    made = _as_float32(inputs) if convert else inputs
    if not all(np.isfinite(each).all() for each in blocks(made)):
        finite = np.isfinite(made)
        first = tuple(int(each[0]) for each in np.nonzero(~finite))
        raise ValueError(
            f"{place}: inputs have {finite.size - np.count_nonzero(finite):,} values that are not finite"
            f"{' as float32' * convert}, the first, {inputs[first]}, at {first}. Fill them, np.nan_to_num(inputs), "
            "scale what is too large, or leave those examples out"
        )
    return made


def _as_float32(values: Array) -> Array:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is told
        return values.astype(np.float32, copy=False)


def _plain(given: Any) -> Any:
    return np.empty((len(given), 0)) if is_frame(given) or isinstance(given, Stored) else given


def is_frame(given: Any) -> bool:
    """Whether it is a DataFrame, of pandas or another library: columns with names."""
    return hasattr(given, "columns") and hasattr(given, "dtypes") and hasattr(given, "shape")


def check_columns(place: str, name: str, given: Any, trained_on: Any) -> None:
    """Raise ValueError for a DataFrame whose columns are not those of the one to train on: they count by position."""
    if not (is_frame(given) and is_frame(trained_on)):
        return
    its, expected = list(given.columns), list(trained_on.columns)
    if its != expected:
        raise ValueError(
            f"{place}: the {name} part's columns are {_listed(its)}, and those to train on {_listed(expected)}. Pass "
            "them in that order, given[inputs.columns]; those that pd.get_dummies has not made, "
            "given.reindex(columns=inputs.columns, fill_value=0)"
        )


def _columns(frame: Any) -> Iterator[tuple[Any, Any]]:
    """The names and the columns of a DataFrame, which may have two of one name."""
    for i, name in enumerate(frame.columns):
        yield name, frame.iloc[:, i] if hasattr(frame, "iloc") else frame[name]


def _of_columns(place: str, what: str, frame: Any, *, complete: bool = True) -> Array:
    """A DataFrame's columns, in their order, as an array (n, columns) of float64; `what` says what it is.

    Unless it has to be `complete`, values may be missing. What is wrong with any column is told at once.
    """
    columns: list[Array] = []
    others: list[tuple[Any, Any]] = []  # that hold no numbers: their names and dtypes
    gaps: list[tuple[Any, Array]] = []  # that lack some: their names, and in which rows
    for name, column in _columns(frame):
        values = _numbers_of(column)
        if values is None:
            others.append((name, getattr(column, "dtype", "object")))
            continue
        bad = np.flatnonzero(~np.isfinite(values))
        if complete and len(bad):
            gaps.append((name, bad))
        columns.append(values)
    if others or gaps:
        told = [_no_numbers(what, others)] if others else []
        told += [_incomplete(what, gaps, len(frame))] if gaps else []
        raise ValueError(f"{place}: {'. And '.join(told)}")
    if not columns:
        raise ValueError(f"{place}: {what} are a DataFrame without columns")
    return np.stack(columns, axis=1)


def _numbers_of(column: Any) -> Array | None:
    """A column as numbers (n,) of float64, NaN where one is missing; None for one that holds none."""
    try:
        values = np.asarray(column)
        if values.dtype.kind == "O":  # pandas keeps numbers among which some are missing as objects
            if any(isinstance(each, (str, bytes)) for each in values):  # also those that look like numbers
                return None
            values = np.asarray([np.nan if _is_missing(each) else each for each in values], np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return values.astype(np.float64) if values.dtype.kind in NUMBERS and values.ndim == 1 else None


def _no_numbers(what: str, others: list[tuple[Any, Any]]) -> str:
    several = len(others) > 1
    names = _listed(repr(name) for name, _ in others)
    dates = [name for name, dtype in others if str(dtype).lower().startswith("datetime")]
    kinds = _listed(repr(name) for name, _ in others if name not in dates)
    ways = [f"leave out what only names a row, {what}.drop(columns=[{kinds or names}])"]
    if kinds:
        ways.append(f"make a column of each value where these are few, pd.get_dummies({what}, columns=[{kinds}])")
    if dates:
        ways.append(f"make days of dates, ({what}[{dates[0]!r}] - {what}[{dates[0]!r}].min()).dt.days")
    return (
        f"column{'s' * several} {names} hold{'s' * (not several)} no numbers, but "
        f"{_listed(dict.fromkeys(str(dtype) for _, dtype in others))}. To mend it: {'; '.join(ways)}"
    )


def _incomplete(what: str, gaps: list[tuple[Any, Array]], n: int) -> str:
    (name, bad), *more = gaps
    if not more:
        return (
            f"column {name!r} has {len(bad):,} missing or infinite values of {n:,}, the first in row {bad[0]}. Fill "
            f"them, as {what}[{name!r}].fillna({what}[{name!r}].median()) does, or leave out those rows"
        )
    counts = _listed(f"{name!r} ({len(bad):,})" for name, bad in gaps)
    return (
        f"columns {counts} have missing or infinite values of {n:,}. Fill them, as "
        f"{what}.fillna({what}.median(numeric_only=True)) does, or leave out those rows"
    )


def _is_missing(value: Any) -> bool:
    """Whether it is None, NaN or a library's own value for what is missing, which equals nothing."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA says neither
        return True
    except ValueError:  # an array
        return False


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
    if labels is not None and labels.dtype.kind == "f":
        labels = None
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
        values = np.asarray(targets)
        fix = "astype(int) if they are class numbers" if values.ndim < 2 else "argmax(axis=1) if each row marks a class"
        raise ValueError(
            f"{place}: classes are named, and targets {_kind_of(targets)} are no labels (n,). Pass np.asarray(targets)."
            f"{fix}, or leave out the names"
        )
    if given is None:
        values = np.unique(labels)
        return Labels(values, tuple(map(str, values.tolist())))
    names = tuple(map(str, given))
    if len(set(names)) < len(names):
        refuse(place, "classes", "names of which no two are the same", classes)
    numbers = labels.dtype.kind in "biu" and not all(isinstance(each, (int, np.integer)) for each in given)
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
        return _amounts(place, _of_columns(place, "targets", given) if is_frame(given) else given)
    if values is None or values.dtype.kind == "f" or (values.dtype.kind == "U") != (labels.values.dtype.kind == "U"):
        raise ValueError(
            f"{place}: the labels must be like the classes, {_listed(labels.names)}, got {_kind_of(given)}"
        )
    order = np.argsort(labels.values)
    at = np.searchsorted(labels.values, values, sorter=order).clip(max=len(order) - 1)
    numbers = order[at]
    unknown = labels.values[numbers] != values
    if unknown.any():
        known = zip(map(str, labels.values.tolist()), labels.names, strict=True)
        raise ValueError(
            f"{place}: {np.count_nonzero(unknown):,} of {len(values):,} labels are none of the classes, "
            f"{_listed(value if value == name else f'{value} ({name})' for value, name in known)}: "
            f"{_listed(np.unique(values[unknown]).tolist())}. Name all in classes="
        )
    return numbers


def _one_each(place: str, given: Any) -> Array | None:
    """The targets (n,), texts or numbers, one for each example, objects too and in a column; None of other targets."""
    if isinstance(given, Stored) and given.ndim > 1:
        return None
    values = np.asarray(given)
    if values.dtype.kind in "US" and not isinstance(given, (np.ndarray, Stored)):
        values = np.asarray(given, object)  # of a list that has texts, NumPy would make texts of the rest, as of NaN
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind != "f":
        values = values[:, 0]  # a DataFrame of one column
    if values.dtype.kind == "O" and values.ndim == 1:
        values = _of_objects(place, values)
    if values.dtype.kind in "US" and values.ndim != 1:
        refuse(place, "targets", "one label for each example (n,)", values.shape)
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{place}: targets are bytes that are no UTF-8 ({error}). Decode them, as np.char.decode(targets, "
                "'latin-1') does"
            ) from error
    return values if values.ndim == 1 and values.dtype.kind in "Ubiuf" else None


def _of_objects(place: str, values: Array) -> Array:
    """What pandas and lists keep as objects: texts, bools or numbers, all of one kind."""
    missing = [i for i, each in enumerate(values) if _is_missing(each)]
    if missing:
        raise ValueError(
            f"{place}: {len(missing):,} of {len(values):,} targets are missing, the first in row {missing[0]}. Leave "
            "out those rows"
        )
    kinds_of: tuple[tuple[Any, Any], ...] = (
        (str, str),
        (bytes, bytes),
        ((bool, np.bool_), bool),
        ((int, np.integer), np.int64),
        ((Real, Decimal), np.float64),
    )
    for kind, dtype in kinds_of:
        if all(isinstance(each, kind) for each in values):
            with suppress(OverflowError):  # whole numbers of more than 64 bits are floats
                return values.astype(dtype)
    kinds = ", ".join(sorted({type(each).__name__ for each in values}))
    raise ValueError(
        f"{place}: targets must be all texts or all numbers, got {kinds}. Convert them: np.asarray(targets, str)"
    )


def _amounts(place: str, given: Any) -> Any:
    amounts = as_stored(place, "targets", given)
    if isinstance(amounts, Stored):
        if amounts.ndim > 1:
            return amounts
        amounts = np.asarray(amounts)
    if amounts.dtype.kind != "f" and amounts.ndim != 1:
        return amounts
    amounts = _as_float32(amounts)
    if amounts.ndim and not np.isfinite(amounts).all():
        bad = np.flatnonzero(~np.isfinite(amounts).reshape(len(amounts), -1).all(axis=1))
        raise ValueError(
            f"{place}: targets of {len(bad):,} examples are not finite as float32, the first in row {bad[0]}. Leave "
            "out these, or scale what is too large"
        )
    return amounts[:, None] if amounts.ndim == 1 else amounts


def _kind_of(given: Any) -> str:
    values = given if isinstance(given, Stored) else np.asarray(given)
    return f"{values.dtype} {values.shape}"


def _listed(values: Iterable[Any]) -> str:
    return cut(", ".join(map(str, values)), 200)
