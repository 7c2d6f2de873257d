"""What a sweep runs over: configurations, as a grid of values or drawn at random.

A configuration is a frozen value with named settings. It prints, compares, hashes and pickles, and its settings are
what JSON holds, so a result can be told from its line in a file.
"""

import difflib
import itertools
import json
import math
from typing import Any, ClassVar, Protocol

import attrs
import numpy as np

from funcnn.keys import Key, fold_in, generator
from funcnn.settings import Described, config

__all__ = [
    "Configuration", "Distribution", "SweepError", "choice", "configuration", "grid", "integers", "log_uniform",
    "sample", "uniform",
]  # fmt: skip

Setting = bool | int | float | str | None | tuple[Any, ...]


class SweepError(ValueError):
    """A sweep that cannot be: of no configurations, of a trial that no other process could run, of mixed results."""


@attrs.frozen(repr=False)
class Configuration:
    """Named settings, read as attributes: ``grid(lr=[0.1])[0].lr``. Made by `grid`, `sample` and `configuration`."""

    settings: tuple[tuple[str, Setting], ...] = attrs.field(eq=False)
    # Two configurations are compared by this text: 1 differs from True in it, and the order of the axes does not count.
    # It is made once, since a long sweep compares often.
    as_json: str = attrs.field(init=False)

    @as_json.default
    def _as_json(self) -> str:
        return json.dumps(self.as_dict(), sort_keys=True)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name not in (
            "settings",
            "as_json",
        ):  # which do not exist yet while one is unpickled
            for known, value in self.settings:
                if known == name:
                    return value
            near = difflib.get_close_matches(name, [known for known, _ in self.settings], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known for known, _ in self.settings)}"
            raise AttributeError(f"no axis is called {name!r} in {self!r}: {hint}")
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"configuration({', '.join(f'{name}={value!r}' for name, value in self.settings)})"

    def as_dict(self) -> dict[str, Setting]:
        """The settings as a dictionary."""
        return dict(self.settings)


def configuration(**settings: Any) -> Configuration:
    """One configuration.

    >>> configuration(lr=0.1, widths=[64, 32])
    configuration(lr=0.1, widths=(64, 32))

    Raises SweepError for a value that JSON cannot hold (pass the name of a function, say, and look it up in the trial),
    or a name that a configuration's own attributes have.
    """
    for name in settings:
        if name.startswith("_") or hasattr(Configuration, name):
            raise SweepError(f"{name}: no axis can be called so: a configuration has something else of that name")
    return Configuration(tuple((name, _setting(name, value)) for name, value in settings.items()))


def _setting(name: str, value: Any) -> Setting:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return tuple(_setting(name, each) for each in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise SweepError(f"{name}={value!r}: a setting must be finite")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SweepError(
        f"{name}={value!r}: a setting must be a number, a string, a truth value, None or a tuple of such, so that it "
        "can be written to a file. Pass a name, and look up what it stands for in the trial"
    )


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
    values = {}
    for name, given in axes.items():
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise SweepError(f"grid: the axis {name} must be a list of values, got {given!r}. Write {name}=[{given!r}]")
        values[name] = list(given)
        if not values[name]:
            raise SweepError(f"grid: the axis {name} has no values, so the grid is empty")
    made = tuple(configuration(**dict(zip(values, each, strict=True))) for each in itertools.product(*values.values()))
    check_configurations(made)
    return made


def check_configurations(configurations: tuple[Configuration, ...]) -> None:
    """Raise SweepError if there are none, or two are the same."""
    if not configurations:
        raise SweepError("expected at least one configuration, got none: the sweep is empty")
    seen: set[Configuration] = set()
    for each in configurations:
        if each in seen:
            raise SweepError(f"{each!r} is there twice. Remove one: a configuration is run once for each seed")
        seen.add(each)


# --- At random ------------------------------------------------------------------------------------------------


class Distribution(Protocol):
    """What an axis is drawn from."""

    def draw(self, rng: "np.random.Generator") -> Setting: ...


def _check_range(distribution: Any) -> None:
    if not -math.inf < distribution.low < distribution.high < math.inf:
        raise ValueError(f"{distribution!r}: low must be less than high, and both finite")


@config
class _Uniform(Described):
    name: ClassVar[str] = "uniform"
    low: float = attrs.field(converter=float)
    high: float = attrs.field(converter=float)

    def __attrs_post_init__(self) -> None:
        _check_range(self)

    def draw(self, rng: "np.random.Generator") -> float:
        return float(rng.uniform(self.low, self.high))


@config
class _LogUniform(Described):
    name: ClassVar[str] = "log_uniform"
    low: float = attrs.field(converter=float)
    high: float = attrs.field(converter=float)

    def __attrs_post_init__(self) -> None:
        _check_range(self)
        if self.low <= 0:
            raise ValueError(f"{self!r}: low must be more than 0")

    def draw(self, rng: "np.random.Generator") -> float:
        return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))


@config
class _Integers(Described):
    name: ClassVar[str] = "integers"
    low: int
    high: int

    def __attrs_post_init__(self) -> None:
        _check_range(self)
        if not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise ValueError(f"{self!r}: low and high must be ints")

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
    """A float from low to high. Raises ValueError unless low is less than high, and both finite."""
    return _Uniform(low, high)


def log_uniform(low: float, high: float) -> Distribution:
    """A float whose logarithm is uniform. Raises ValueError unless 0 < low < high, and both finite."""
    return _LogUniform(low, high)


def integers(low: int, high: int) -> Distribution:
    """An int from low to high, both included. Raises ValueError unless low is less than high."""
    return _Integers(low, high)


def choice(*options: Any) -> Distribution:
    """One of the options, each as likely. Raises ValueError without options."""
    return _Choice(tuple(options))


def sample(key: Key, n: int, **distributions: Distribution) -> tuple[Configuration, ...]:
    """n different configurations drawn at random; more of them leave the first ones as they are.

    The i-th draw is from ``fold_in(key, i)``, and one that repeats an earlier one is drawn again.

    >>> sample(Key(0), 2, lr=log_uniform(1e-4, 1), depth=integers(1, 3), relu=choice(True, False))[1].depth in (1, 2, 3)
    True

    Raises SweepError for no distributions, values that are none, n less than 1, or fewer than n configurations that
    differ.
    """
    if not distributions or n < 1:
        raise SweepError(f"sample: expected at least one axis and n of at least 1, got {len(distributions)} and {n}")
    for name, given in distributions.items():
        if not hasattr(given, "draw"):
            raise SweepError(f"sample: the axis {name} must be a distribution, got {given!r}. Write {name}=choice(...)")
    made: dict[Configuration, None] = {}
    for i in range(100 * n):
        place = fold_in(key, i)
        drawn = {name: each.draw(generator(fold_in(place, name))) for name, each in distributions.items()}
        made.setdefault(configuration(**drawn))
        if len(made) == n:
            return tuple(made)
    raise SweepError(f"sample: {n} different configurations were asked for, but only {len(made)} were found")
