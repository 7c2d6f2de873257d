"""Values that describe themselves: settings as frozen attrs classes, and the checks of their fields."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Real
from typing import Any, ClassVar, NoReturn, Self, TypeVar, cast, dataclass_transform

import attrs
import numpy as np

from funcnn.system.devices import has_form
from funcnn.system.text import cut

__all__ = [
    "Described", "as_code", "as_float", "as_floats", "as_int", "as_tuple", "check_choice", "check_count",
    "check_counts", "check_decay", "check_finite", "check_flag", "check_not_negative", "check_number",
    "check_positive", "check_share", "config", "count", "describe", "float_dtype", "function_of", "is_number",
    "number", "number_dtype", "refuse", "settings_of", "shown",
]  # fmt: skip

T = TypeVar("T")
_MOST = 2**31 - 1  # a count: beyond it lies nothing that fits into a memory


class Described:
    """A frozen value that prints as the call that makes it, and describes itself as JSON.

    `name` is the public constructor's name, `arguments()` what to call it with.
    """

    name: ClassVar[str]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """A new value; raises TypeError for a class that is not made by `config`, or has no name."""
        if "__attrs_attrs__" not in vars(cls):
            raise TypeError(
                f"{cls.__name__}: expected a class made by @config. Write @config above class {cls.__name__}"
            )
        if not hasattr(cls, "name"):
            raise TypeError(
                f'{cls.__name__}: expected a class with the name of its constructor. Add name = "..." to it'
            )
        return super().__new__(cls)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, those left at their defaults omitted."""
        fields = attrs.fields(cast(Any, type(self)))
        values = ((field, getattr(self, field.name)) for field in fields)
        # An array is never a default, and comparing it gives an array. That it cannot be saved is said on saving.
        return {field.name: value for field, value in values if isinstance(value, np.ndarray) or value != field.default}

    def __repr__(self) -> str:
        return _call(self.name, self.arguments())

    # Written once here: attrs would compile them for every class, which takes half of the time of an import.
    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in attrs.fields(cast(Any, type(self))))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))


def _call(name: str, keywords: dict[str, Any], positional: tuple[Any, ...] = ()) -> str:
    arguments = [*map(as_code, positional), *(f"{key}={as_code(each)}" for key, each in keywords.items())]
    return f"{name}({', '.join(arguments)})"


def as_code(value: Any) -> str:
    """A value as code: a function by its name, a partial as a call, anything else as it prints.

    >>> as_code(partial(max, default=0))
    'max(default=0)'
    """
    if isinstance(value, partial):
        return _call(as_code(value.func), value.keywords, value.args)
    named = callable(value) and not isinstance(value, Described) and hasattr(value, "__name__")
    return value.__name__ if named else repr(value)


def number(check: Callable[[Any, Any, float], None], default: Any = attrs.NOTHING) -> Any:
    """A field of settings that is a number: kept as a float, and one that `check` accepts.

    Raises ValueError, when settings are made, for anything else; a bool or a text is no number.
    """
    return attrs.field(default=default, converter=as_float, validator=check)


def count(default: Any = attrs.NOTHING) -> Any:
    """A field of settings that is an int of at least 1, NumPy's too; raises ValueError for anything else."""
    return attrs.field(default=default, converter=as_int, validator=check_count)


def is_number(value: Any) -> bool:
    """Whether a value is a real number, Python's or NumPy's; a bool is none."""
    return isinstance(value, (float, Real)) and not isinstance(value, bool)


def as_float(value: Any) -> Any:
    """A number as Python's float, since NumPy's float64 upcasts float32 arrays; anything else as it is."""
    try:
        return float(value) if is_number(value) else value
    except OverflowError:  # an int beyond the floats is no number here
        return value


def as_floats(values: Any) -> Any:
    """A sequence as a tuple, its numbers Python's floats; anything else as it is, for a check to refuse."""
    listed = as_tuple(values)
    return tuple(map(as_float, listed)) if isinstance(listed, tuple) else listed


def as_int(value: Any) -> Any:
    """An int of NumPy's as Python's, anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def as_tuple(value: Any) -> Any:
    """A sequence as a tuple, its numbers Python's; a text, a dictionary or what is no sequence as it is."""
    flat = isinstance(value, np.ndarray) and value.ndim == 0
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable) or flat:
        return value
    return tuple([each.item() if isinstance(each, np.generic) else each for each in value])


def number_dtype(value: Any, kinds: str = "biuf") -> np.dtype[Any] | None:
    """The dtype that a value names, if it is of these kinds of numbers; None for any other, and for what names none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old names, none of which are numbers'
            dtype = np.dtype(value)
    except (TypeError, ValueError):
        return None
    return dtype if dtype.kind in kinds and value is not None else None  # np.dtype(None) is float64


def float_dtype(value: Any) -> np.dtype[Any] | None:
    """The dtype that a value names, if it is one of floats."""
    return number_dtype(value, "f")


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field, number, count))
def config(cls: type[T]) -> type[T]:
    """Make a subclass of `Described` a frozen attrs class that keeps its printed form."""
    return attrs.frozen(repr=False, eq=False)(cls)


def settings_of(value: Any) -> Described | None:
    """The settings that describe a value: its own, or those of a layer or an optimizer; None if it has none."""
    settings = value if isinstance(value, Described) else getattr(value, "config", None)
    return settings if isinstance(settings, Described) else None


def describe(value: Any) -> Any:
    """Anything a run is made of as JSON data, which `funcnn.rebuild.rebuild` reads.

    A layer, initialiser, schedule or optimizer is ``{"name": ..., its arguments}``, a function
    ``{"function": its name}``, a partial that and its arguments, a tuple a list.

    >>> from funcnn.layers import dense, relu
    >>> describe((dense(10), relu))
    [{'name': 'dense', 'units': 10}, {'function': 'relu'}]

    Anything else is described so that two runs can be told apart (an array by dtype, shape and hash), but cannot be
    read again: `funcnn.rebuild.own_parts` says so.
    """
    settings = settings_of(value)
    if settings is not None:
        return {"name": settings.name} | {key: describe(each) for key, each in settings.arguments().items()}
    if isinstance(value, partial):
        options = ({"*": value.args} if value.args else {}) | value.keywords
        return {"function": as_code(value.func)} | {key: describe(each) for key, each in options.items()}
    if isinstance(value, dict):
        return {str(key): describe(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [describe(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    return {"function": value.__name__} if callable(value) and hasattr(value, "__name__") else repr(value)


def function_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function in a partial, by which layers are compared: two equal partials are not ``==``."""
    return fn.func if isinstance(fn, partial) else fn


# --- Validators of fields: they name the constructor and the field --------------------------------------------


def refuse(place: str, name: str, expected: str, value: Any, fix: str = "") -> NoReturn:
    """Raise ValueError: an argument of a place is not what it must be.

    >>> refuse("dense", "units", "a positive int", 0)
    Traceback (most recent call last):
    ValueError: dense: units must be a positive int, got 0
    """
    raise ValueError(f"{place}: {name} must be {expected}, got {shown(value)}{fix and f'. {fix}'}")


def check_counts(place: str, **counts: Any) -> None:
    """Raise ValueError unless all are ints of at least 1.

    >>> check_counts("train", epochs=1.5)
    Traceback (most recent call last):
    ValueError: train: epochs must be an int of at least 1, got 1.5
    """
    for name, value in counts.items():
        if type(as_int(value)) is not int or value < 1:
            refuse(place, name, "an int of at least 1", value)


def shown(value: Any) -> str:
    """A value as errors show it: an array by dtype and shape, anything else as code, cut to a line.

    >>> shown(np.ones((2, 3))), shown("a" * 100)[-10:]
    ('an array float64 (2, 3)', 'aaaaaaa...')
    """
    if has_form(value):
        return f"an array {value.dtype} {value.shape}{'' if isinstance(value, np.ndarray) else ' on a device'}"
    try:
        return cut(" ".join(as_code(value).splitlines()), 80)
    except Exception:  # a message must come of whatever was passed
        return f"a value of type {type(value).__name__} that does not print"


def check_number(instance: Any, attribute: Any, value: Any) -> None:
    """Raise ValueError unless a setting is a number."""
    if not isinstance(as_float(value), float):
        refuse(instance.name, attribute.name, "a number", value)


def check_finite(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError for an infinity, NaN, or no number."""
    check_number(instance, attribute, value)
    if not math.isfinite(value):
        refuse(instance.name, attribute.name, "finite", value)


def check_positive(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is positive and finite."""
    check_number(instance, attribute, value)
    if not 0 < value < math.inf:
        refuse(instance.name, attribute.name, "positive and finite", value)


def check_not_negative(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is at least 0 and finite."""
    check_number(instance, attribute, value)
    if not 0 <= value < math.inf:
        refuse(instance.name, attribute.name, "finite and not negative", value)


def check_share(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is from 0 to 1."""
    check_number(instance, attribute, value)
    if not 0 <= value <= 1:
        refuse(instance.name, attribute.name, "from 0 to 1", value)


def check_decay(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is at least 0 and less than 1."""
    check_number(instance, attribute, value)
    if not 0 <= value < 1:
        refuse(instance.name, attribute.name, "at least 0 and less than 1", value)


def check_flag(instance: Any, attribute: Any, value: bool) -> None:
    """Raise ValueError unless a setting is True or False."""
    if not isinstance(value, bool):
        refuse(instance.name, attribute.name, "True or False", value)


def check_count(instance: Any, attribute: Any, value: int) -> None:
    """Raise ValueError unless a setting is an int of at least 1, and less than 2**31."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        refuse(instance.name, attribute.name, "a positive int", value)
    if value > _MOST:
        refuse(instance.name, attribute.name, f"at most {_MOST:,}", value)


def check_choice(*choices: str) -> Callable[[Any, Any, str], None]:
    """The validator of a setting that is one of some words; raises ValueError for any other."""

    def check(instance: Any, attribute: Any, value: str) -> None:
        if not (isinstance(value, str) and value in choices):
            refuse(instance.name, attribute.name, f"one of {', '.join(map(repr, choices))}", value)

    return check
