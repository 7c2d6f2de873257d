"""What a sweep runs over: configurations, as a grid of values or drawn at random.

A configuration is a frozen value with named settings. It prints, compares, hashes and pickles, and its settings are
what JSON holds, so a result can be told from its line in a file.
"""

import difflib
import functools
import itertools
import json
import math
import sys
from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar, Protocol

import attrs
import numpy as np

from funcnn.keys import Key, fold_in, generator
from funcnn.settings import Described, as_float, config, is_number
from funcnn.system.text import cut

__all__ = [
    "Configuration", "Distribution", "SweepError", "choice", "configuration", "grid", "integers", "log_uniform",
    "as_int", "sample", "shown", "uniform",
]  # fmt: skip

Setting = bool | int | float | str | None | tuple[Any, ...]

# Bounds, so that a slip of the keyboard is told of at once, and what is read from a file stays small.
_MOST = 100_000  # configurations
_LONGEST = 2**16  # characters of a configuration as JSON
_DEEPEST = 32  # tuples within tuples
_LARGEST = sys.float_info.max  # of a number
_SORTED = json.JSONEncoder(sort_keys=True)


class SweepError(ValueError):
    """A sweep that cannot be: of no configurations, of a trial that no other process could run, of mixed results."""


def shown(value: Any) -> str:
    """A value in a message: as it prints, if that is short."""
    try:
        return cut(repr(value), 200)
    except Exception:  # nested too deeply, or of too many digits
        return f"a {type(value).__name__}"


def as_int(place: str, name: str, value: Any) -> int:
    """An int, of NumPy's too. Raises TypeError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{place}: {name} must be an int, got {shown(value)}")
    return int(value)


def _pairs(given: Any) -> tuple[tuple[str, Setting], ...]:
    try:
        pairs = [(name, value) for name, value in given]
    except (TypeError, ValueError):
        raise SweepError(
            f"Configuration: settings must be pairs of a name and a value, got {shown(given)}. Write "
            "configuration(lr=0.1)"
        ) from None
    for name, _ in pairs:
        if not isinstance(name, str) or not _can_be_an_axis(name):
            raise SweepError(f"{name}: no axis can be called so: a configuration has something else of that name")
    if len({name for name, _ in pairs}) < len(pairs):
        raise SweepError(f"Configuration: a name is there twice in {shown(given)}")
    return tuple((name, _setting(name, value)) for name, value in pairs)


@functools.lru_cache
def _can_be_an_axis(name: str) -> bool:
    return bool(name) and not name.startswith("_") and not hasattr(Configuration, name)


def _setting(name: str, value: Any, depth: int = 0) -> Setting:
    kind = type(value)
    if kind is str or (kind in (float, int) and -_LARGEST <= value <= _LARGEST):  # as most are, of a hundred thousand
        return value  # type: ignore[no-any-return]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        if depth == _DEEPEST:
            raise SweepError(f"{name}: a setting may have tuples within tuples, up to {_DEEPEST} deep")
        return tuple(_setting(name, each, depth + 1) for each in value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not -_LARGEST <= value <= _LARGEST:
            raise SweepError(f"{name}={shown(value)}: a setting must be finite")
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, str):
        return str.__str__(value)  # of a member of an enumeration its value
    raise SweepError(
        f"{name}={shown(value)}: a setting must be a number, a string, a truth value, None or a tuple of such, so that "
        "it can be written to a file. Pass a name, and look up what it stands for in the trial"
    )


@attrs.frozen(repr=False)
class Configuration:
    """Named settings, read as attributes: ``grid(lr=[0.1])[0].lr``. Made by `grid`, `sample` and `configuration`."""

    settings: tuple[tuple[str, Setting], ...] = attrs.field(converter=_pairs, eq=False)
    # Configurations are compared by this text: 1 differs from True in it, and the order of the axes does not count. It
    # is made once, since a long sweep compares often.
    as_json: str = attrs.field(init=False)

    @as_json.default
    def _as_json(self) -> str:
        text = _SORTED.encode(self.as_dict())
        if len(text) > _LONGEST:
            raise SweepError(
                f"a configuration of {len(text):,} characters: at most {_LONGEST:,}. Pass a name for what is long, and "
                "look it up in the trial"
            )
        return text

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("settings", "as_json"):  # the two are missing while one is unpickled
            raise AttributeError(name)
        for known, value in self.settings:
            if known == name:
                return value
        near = difflib.get_close_matches(name, [known for known, _ in self.settings], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known for known, _ in self.settings)}"
        raise AttributeError(f"no axis is called {name!r} in {self!r}: {hint}")

    def __repr__(self) -> str:
        return f"configuration({', '.join(f'{name}={value!r}' for name, value in self.settings)})"

    def as_dict(self) -> dict[str, Setting]:
        """The settings as a dictionary."""
        return dict(self.settings)


def configuration(**settings: Any) -> Configuration:
    """One configuration.

    >>> configuration(lr=0.1, widths=[64, 32])
    configuration(lr=0.1, widths=(64, 32))

    Raises SweepError for a value that JSON cannot hold (for a function, pass its name, and look it up in the trial), or
    a name that is taken by an attribute of every configuration.
    """
    return Configuration(tuple(settings.items()))


def grid(**axes: Any) -> tuple[Configuration, ...]:
    """Every combination of the axes' values, the last axis changing fastest.

    >>> grid(lr=[0.1, 0.2], depth=[1, 2])[1]
    configuration(lr=0.1, depth=2)
    >>> len(grid(lr=[0.1, 0.2], depth=[1, 2]))
    4

    Raises SweepError for no axes, an axis without values, or values that repeat.
    """
    if not axes:
        raise SweepError("grid: expected at least one axis, as in grid(lr=[0.1, 0.2])")
    values = {name: _axis(name, given) for name, given in axes.items()}
    count = math.prod(map(len, values.values()))
    if count > _MOST:
        raise SweepError(
            f"grid: it would have {count:,} configurations, at most {_MOST:,}. Draw some: sample(key, n, ...)"
        )
    made = tuple(configuration(**dict(zip(values, each, strict=True))) for each in itertools.product(*values.values()))
    check_configurations(made)
    return made


def _axis(name: str, given: Any) -> list[Any]:
    wrong = isinstance(given, (str, bytes))
    try:
        values = [] if wrong else list(itertools.islice(given, _MOST + 1))
    except TypeError:
        wrong = True
    if wrong:
        text = shown(given)
        raise SweepError(f"grid: the axis {name} must be a list of values, got {text}. Write {name}=[{text}]")
    if not values:
        raise SweepError(f"grid: the axis {name} has no values, so the grid is empty")
    if len(values) > _MOST:
        raise SweepError(f"grid: the axis {name} has more than {_MOST:,} values")
    return values


def check_configurations(given: Any) -> tuple[Configuration, ...]:
    """Configurations as a tuple. Raises SweepError if there are none, or two are the same, or one is none."""
    try:
        configurations = tuple(itertools.islice(given, _MOST + 1))
    except TypeError:
        configurations = (None,)
    wrong = [each for each in configurations if not isinstance(each, Configuration)]
    if wrong or isinstance(given, (str, bytes, Mapping)):
        raise SweepError(
            f"configurations must be a list of them, got {shown(given)}. Write grid(lr=[0.1, 0.2]), or "
            "[configuration(lr=0.1)] for one"
        )
    if len(configurations) > _MOST:
        raise SweepError(f"more than {_MOST:,} configurations: draw some, sample(key, n, ...)")
    if not configurations:
        raise SweepError("expected at least one configuration, got none: the sweep is empty")
    seen: set[Configuration] = set()
    for each in configurations:
        if each in seen:
            raise SweepError(f"{each!r} is there twice. Remove one: a configuration is run once for each seed")
        seen.add(each)
    return configurations


# --- At random ------------------------------------------------------------------------------------------------


class Distribution(Protocol):
    """What an axis is drawn from."""

    def draw(self, rng: "np.random.Generator") -> Setting: ...


def _check_range(distribution: Any) -> None:
    for name in ("low", "high"):
        value = getattr(distribution, name)
        if not is_number(value):
            raise ValueError(f"{distribution.name}: {name} must be a number, got {shown(value)}")
    if not -math.inf < distribution.low < distribution.high < math.inf:
        raise ValueError(f"{distribution!r}: low must be less than high, and both finite")
    if not distribution.high - distribution.low <= _LARGEST:
        raise ValueError(f"{distribution!r}: the range is wider than the largest float")


@config
class _Uniform(Described):
    name: ClassVar[str] = "uniform"
    low: float = attrs.field(converter=as_float)
    high: float = attrs.field(converter=as_float)

    def __attrs_post_init__(self) -> None:
        _check_range(self)

    def draw(self, rng: "np.random.Generator") -> float:
        return float(rng.uniform(self.low, self.high))


@config
class _LogUniform(Described):
    name: ClassVar[str] = "log_uniform"
    low: float = attrs.field(converter=as_float)
    high: float = attrs.field(converter=as_float)

    def __attrs_post_init__(self) -> None:
        _check_range(self)
        if self.low <= 0:
            raise ValueError(f"{self!r}: low must be more than 0")

    def draw(self, rng: "np.random.Generator") -> float:
        return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))


def _as_int(value: Any) -> Any:
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


@config
class _Integers(Described):
    name: ClassVar[str] = "integers"
    low: int = attrs.field(converter=_as_int)
    high: int = attrs.field(converter=_as_int)

    def __attrs_post_init__(self) -> None:
        _check_range(self)
        if not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise ValueError(f"{self!r}: low and high must be ints")
        if not -(2**63) <= self.low < self.high < 2**63:
            raise ValueError(f"{self.name}: low and high must be from -2**63 to 2**63 - 1")

    def draw(self, rng: "np.random.Generator") -> int:
        return int(rng.integers(self.low, self.high, endpoint=True))


@config
class _Choice(Described):
    name: ClassVar[str] = "choice"
    options: tuple[Setting, ...]

    def __attrs_post_init__(self) -> None:
        if not self.options:
            raise ValueError("choice: expected at least one option, got none")

    def draw(self, rng: "np.random.Generator") -> Setting:
        return self.options[int(rng.integers(len(self.options)))]


def uniform(low: float, high: float) -> Distribution:
    """A float from low to high.

    >>> 0.1 <= sample(Key(0), 1, rate=uniform(0.1, 0.5))[0].rate <= 0.5
    True

    Raises ValueError unless low is less than high, and both finite.
    """
    return _Uniform(low, high)


def log_uniform(low: float, high: float) -> Distribution:
    """A float whose logarithm is uniform.

    >>> 1e-4 <= sample(Key(0), 1, lr=log_uniform(1e-4, 1))[0].lr <= 1
    True

    Raises ValueError unless 0 < low < high, and both finite.
    """
    return _LogUniform(low, high)


def integers(low: int, high: int) -> Distribution:
    """An int from low to high, both included.

    >>> sample(Key(0), 1, depth=integers(1, 3))[0].depth in (1, 2, 3)
    True

    Raises ValueError unless low is less than high.
    """
    return _Integers(low, high)


def choice(*options: Any) -> Distribution:
    """One of the options, each as likely.

    >>> sample(Key(0), 1, activation=choice("relu", "gelu"))[0].activation in ("relu", "gelu")
    True

    Raises ValueError without options.
    """
    return _Choice(tuple(options))


def sample(key: Key, n: int, **distributions: Distribution) -> tuple[Configuration, ...]:
    """n different configurations drawn at random; a larger n begins with the same ones.

    The i-th draw is from ``fold_in(key, i)``; one that repeats an earlier one is left out.

    >>> sample(Key(0), 2, lr=log_uniform(1e-4, 1), depth=integers(1, 3), relu=choice(True, False))[1].depth in (1, 2, 3)
    True

    Raises SweepError for no distributions, values that are none, n less than 1, or fewer than n configurations that
    differ; TypeError for a key that is none.
    """
    if not isinstance(key, Key):
        raise TypeError(f"sample: key must be a Key, as Key(0), got {shown(key)}")
    if isinstance(n, bool) or not isinstance(n, Integral) or not 1 <= n <= _MOST:
        raise SweepError(f"sample: n must be an int from 1 to {_MOST:,}, got {shown(n)}")
    if not distributions:
        raise SweepError("sample: expected at least one axis, as in sample(key, 10, lr=uniform(0, 1))")
    for name, given in distributions.items():
        if not callable(getattr(given, "draw", None)):
            raise SweepError(
                f"sample: the axis {name} must be a distribution, got {shown(given)}. Write {name}=choice(...)"
            )
    made: dict[Configuration, None] = {}
    last = 0  # the draw that gave the last one
    for i in itertools.count():
        place = fold_in(key, i)
        drawn = {name: each.draw(generator(fold_in(place, name))) for name, each in distributions.items()}
        config = configuration(**drawn)
        if config not in made:
            made[config] = None
            last = i
        if len(made) == n:
            break
        if i - last > 100 + 20 * len(made):  # a further one would have been met by now
            raise SweepError(f"sample: {n} different configurations were asked for, but only {len(made)} were found")
    return tuple(made)
