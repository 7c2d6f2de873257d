"""Values that describe themselves: settings as frozen attrs classes, and the checks of their fields."""

import hashlib
import math
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

import attrs
import numpy as np

__all__ = [
    "Described", "as_code", "as_float", "check_choice", "check_count", "check_decay", "check_finite", "check_flag",
    "check_not_negative", "check_number", "check_positive", "check_share", "config", "describe", "function_of",
    "is_number", "number", "settings_of",
]  # fmt: skip

T = TypeVar("T")


class Described:
    """A frozen value that prints as the call that makes it, and describes itself as JSON.

    `name` is the public constructor's name, `arguments()` what to call it with.
    """

    name: ClassVar[str]

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, those left at their defaults omitted."""
        fields = attrs.fields(cast(Any, type(self)))
        values = ((field, getattr(self, field.name)) for field in fields)
        # An array is no default, and would give an array of answers; that it cannot be saved is said when it is.
        return {field.name: value for field, value in values if isinstance(value, np.ndarray) or value != field.default}

    def __repr__(self) -> str:
        return _call(self.name, self.arguments())

    # Written once here, where attrs would compile them anew for every class: half of the time of an import.
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
    return attrs.field(default=default, converter=as_float, validator=[check_number, check])


def as_float(value: Any) -> Any:
    """A number as a float, of NumPy's scalars too, which would upcast float32 arrays; anything else as it is."""
    return float(value) if is_number(value) else value


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of NumPy's scalars too; a bool is none."""
    return isinstance(value, (float, Real)) and not isinstance(value, bool)


def check_number(instance: Any, attribute: Any, value: Any) -> None:
    """Raise ValueError unless a setting was a number, which `as_float` has made a float."""
    if not isinstance(value, float):
        raise ValueError(f"{instance.name}: {attribute.name} must be a number, got {value!r}")


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field, number))
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

    Of anything else it tells what tells two runs apart, an array's dtype, shape and hash, or a text: that cannot be
    read again, and `funcnn.rebuild.own_parts` says so.
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
    """What makes two of a layer's functions the same: partials compare by identity, their functions do not."""
    return fn.func if isinstance(fn, partial) else fn


# --- Validators of fields: they name the constructor and the field --------------------------------------------


def check_finite(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError for an infinity or NaN."""
    if not math.isfinite(value):
        raise ValueError(f"{instance.name}: {attribute.name} must be finite, got {value}")


def check_positive(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{instance.name}: {attribute.name} must be positive and finite, got {value}")


def check_not_negative(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is at least 0 and finite."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{instance.name}: {attribute.name} must be finite and not negative, got {value}")


def check_share(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{instance.name}: {attribute.name} must be from 0 to 1, got {value}")


def check_decay(instance: Any, attribute: Any, value: float) -> None:
    """Raise ValueError unless a number is at least 0 and less than 1, as what is to fade away must be."""
    if not 0 <= value < 1:
        raise ValueError(f"{instance.name}: {attribute.name} must be at least 0 and less than 1, got {value}")


def check_flag(instance: Any, attribute: Any, value: bool) -> None:
    """Raise ValueError unless a setting is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{instance.name}: {attribute.name} must be True or False, got {value!r}")


def check_count(instance: Any, attribute: Any, value: int) -> None:
    """Raise ValueError unless a setting is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{instance.name}: {attribute.name} must be a positive int, got {value!r}")


def check_choice(*choices: str) -> Callable[[Any, Any, str], None]:
    """The validator of a setting that is one of some words; raises ValueError for any other."""

    def check(instance: Any, attribute: Any, value: str) -> None:
        if value not in choices:
            raise ValueError(
                f"{instance.name}: {attribute.name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
            )

    return check
