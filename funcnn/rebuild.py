"""Values made again from their descriptions: nets, all else that a run is made of, and a user's own parts."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from inspect import Parameter, signature
from types import ModuleType, NoneType
from typing import Any, cast

import attrs
import numpy as np

from funcnn import compose, init, losses, optimizers, schedules
from funcnn import layers as layers_module
from funcnn.checks import LayerError
from funcnn.data import affine, augment, mixing, preprocess
from funcnn.data.augment_settings import Augmentation, Mixing
from funcnn.data.handwriting import PREPARATIONS
from funcnn.layer import Config, Layer
from funcnn.settings import Described, as_code, describe, function_of, settings_of
from funcnn.system.text import cut
from funcnn.tree import Array

__all__ = ["constructors", "own_parts", "rebuild"]

Constructor = Callable[..., Any]
_DEEPEST = 60  # levels of a description, lists counted too: thirty of `serial` in `serial`
_PARTS = 5_000
_INTS = 1000  # in a list: a shape's sizes are multiplied


def rebuild(description: Any, *, layers: Sequence[Constructor] = (), kind: str = "layer") -> Any:
    """What `funcnn.layer.describe` described: ``rebuild(describe(net)) == net``.

    `layers` are the functions of your own that the description names: the constructors of layers, initialisers,
    schedules and so on, and losses and other functions as they are. `kind` says what comes out: a layer, initialiser,
    preprocessing, preparation, augmentation, loss, schedule or optimizer.

    >>> from funcnn.layers import dense, relu
    >>> net = compose.serial(dense(8), relu())
    >>> rebuild(describe(net)) == net
    True
    >>> def absolute(outputs, targets):
    ...     return abs(outputs - targets).mean(), np.sign(outputs - targets) / outputs.size
    >>> rebuild(describe(absolute), layers=[absolute], kind="loss") is absolute
    True

    Raises LayerError for a name that is neither this library's nor in `layers`, or in both, a part of yours that comes
    out otherwise than it was described, or a description of another kind; TypeError for `layers` that are no
    constructors, or for arguments that one does not take; ValueError for an unknown `kind`. It reads at most 5,000
    parts, 60 levels deep, and calls no constructor before it knows.
    """
    own = constructors(layers)
    known = _library(kind) | own
    missing = [cut(name, 60) for name in dict.fromkeys(_names(description, "rebuild")) if name not in known][:10]
    if missing:
        raise LayerError(
            "rebuild",
            f"no part of this library is called {' or '.join(map(repr, missing))}",
            f"Pass your own: layers=[{', '.join(missing)}]",
        )
    made = _make(description, known, own)
    if not isinstance(made, _KINDS[kind][0]):
        got = cut(repr(description), 200)
        problem = f"expected the description of {'an' if kind[0] in 'aio' else 'a'} {kind}, got {got}"
        raise LayerError("rebuild", problem, f"Pass describe({kind})")
    return made


def own_parts(**values: Any) -> list[str]:
    """The names of your own parts in values, each passed under its kind (None for none).

    `rebuild` needs the functions of these names. A part that nothing could make again is refused here, when it is
    saved, not when it is read.

    >>> from funcnn.layers import dense
    >>> def halve(stored): ...
    >>> own_parts(layer=dense(10), preprocessing=halve)
    ['halve']

    Raises LayerError, naming the place and the fix: for a lambda, a function inside another one, a value without a
    description, a name that is also one of this library's, different parts of one name, or more parts or levels of
    them than are read.
    """
    search = _Search({}, {}, {})
    for kind, value in values.items():
        search.library = _library(kind)
        try:
            _names(describe(value), kind)
        except RecursionError:
            raise _too_large(kind, f"{_DEEPEST} levels") from None
        search.look(value, kind)
    return list(search.found)


def constructors(layers: Sequence[Constructor]) -> dict[str, Constructor]:
    """A user's own constructors and functions by their names; raises TypeError or LayerError for what is none.

    >>> def square(): ...
    >>> list(constructors([square]))
    ['square']
    """
    if callable(layers) or isinstance(layers, (str, dict, Layer)):
        raise TypeError(f"layers: expected a list of constructors, got {as_code(layers)}. Pass layers=[square, ...]")
    own: dict[str, Constructor] = {}
    for each in layers:
        name = _name(each)
        if any(table.get(name) is each for _, table in _KINDS.values()):
            continue  # known anyway
        if name in _BY_NAME or own.get(name, each) is not each:
            problem = f"{name} is the name of {'a part of this library' if name in _BY_NAME else 'two of them'}"
            raise LayerError("layers", problem, "Give your own part a name that no other has")
        own[name] = each
    return own


# --- What there is --------------------------------------------------------------------------------------------


def _giving(results: tuple[Any, ...], *modules: ModuleType) -> dict[str, Constructor]:
    """The public functions of modules whose annotated result is one of `results`, by name."""
    named = {name: getattr(each, name) for each in modules for name in each.__all__ if name.islower()}
    return {name: each for name, each in named.items() if signature(each).return_annotation in results}


_INITIALISERS = _giving((init.Initializer,), init)
_SCHEDULES = _giving((schedules.Schedule,), schedules)
# Of each kind: what its values are instances of, and this library's constructors by name, their arguments' too.
_KINDS: dict[str, tuple[Any, dict[str, Constructor]]] = {
    "layer": (Layer, _INITIALISERS | _giving((Layer,), layers_module, compose)),
    "initialiser": (init.Initializer, _INITIALISERS),
    "preprocessing": (Callable, {each.name: each for each in preprocess.KINDS}),
    "preparation": (Callable, PREPARATIONS),
    "augmentation": (Callable, _giving((Array, Augmentation, Mixing), augment, affine, mixing)),
    "loss": (Callable, _giving((losses.Result,), losses)),
    "schedule": (Callable, _SCHEDULES),
    "optimizer": (
        optimizers.Optimizer,
        _SCHEDULES | _giving((optimizers.Optimizer, optimizers.Transform, bool), optimizers),  # a mask gives a bool
    ),
}
_BY_NAME = {name: each for _, table in _KINDS.values() for name, each in table.items()}


def _library(kind: str) -> dict[str, Constructor]:
    """The library's parts by name; those of the kind first, since `constant` is an initialiser and a schedule."""
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
    return _BY_NAME | _KINDS[kind][1]


# --- Making ---------------------------------------------------------------------------------------------------


def _names(description: Any, place: str) -> list[str]:
    """The names of all parts in a description; raises LayerError for more than are read, before any is made."""
    names, parts = [], 0
    todo = [(description, 0, 1)]
    while todo:
        each, depth, times = todo.pop()
        if isinstance(each, dict):
            names.append(str(each.get("name", each.get("function"))))
            parts += times
            if names[-1] == "repeat" and type(each.get("times")) is int:
                times *= max(each["times"], 1)
            each = list(each.values())
        if isinstance(each, list):
            todo += [(inner, depth + 1, times) for inner in reversed(each)]
            if sum(type(inner) is int for inner in each) > _INTS:
                raise _too_large(place, f"{_INTS:,} ints in a list")
        if type(each) is int and abs(each) >= 2**63:
            raise _too_large(place, "64 bits in an int")
        if depth > _DEEPEST or parts > _PARTS:
            raise _too_large(place, f"{_DEEPEST} levels" if depth > _DEEPEST else f"{_PARTS:,} parts")
    return names


def _too_large(place: str, limit: str) -> LayerError:
    return LayerError(place, f"what is described has more than {limit}, the most that are read", "Make it of fewer")


def _make(description: Any, known: dict[str, Constructor], own: dict[str, Constructor]) -> Any:
    if isinstance(description, list):
        return tuple(_make(each, known, own) for each in description)
    if not isinstance(description, dict):
        return description
    inner = {key: _make(each, known, own) for key, each in description.items() if key not in ("name", "function")}
    if "name" not in description:
        function = known[description["function"]]
        return partial(function, *inner.pop("*", ()), **inner) if inner else function
    name = description["name"]
    made = _call(known[name], inner)
    if name in own:
        again = describe(made)
        if not (isinstance(again, dict) and all(description.get(key) == each for key, each in again.items())):
            raise LayerError(
                "rebuild",
                f"{as_code(own[name])} was to make what is described as {cut(str(description), 200)}, and made "
                f"{cut(str(again), 200)}",
                "Give it the defaults of its settings, and settings whose name is the function's",
            )
    return made


def _call(constructor: Constructor, arguments: dict[str, Any]) -> Any:
    """Call a constructor with its arguments by name, those that it takes as ``*layers`` one by one."""
    spread = _spread(constructor)
    return constructor(*(arguments.pop(spread, ()) if spread else ()), **arguments)


@lru_cache(maxsize=256)  # a net has many parts of a few kinds
def _spread(constructor: Constructor) -> str:
    """The name of the arguments that a constructor takes one by one, as ``*layers``; "" without them."""
    parameters = signature(constructor).parameters.values()
    return next((each.name for each in parameters if each.kind is Parameter.VAR_POSITIONAL), "")


# --- What can be made again -----------------------------------------------------------------------------------

_FIXES = [
    (list, "Make it a tuple, with attrs.field(converter=tuple)"),
    (np.dtype, "Keep its name, with attrs.field(converter=lambda given: np.dtype(given).name)"),
    (object, "Describe it by numbers, texts, tuples, functions and values made by @config"),
]


@attrs.define
class _Search:
    """A walk over values that finds the user's own parts, and refuses what could not be made again."""

    library: dict[str, Constructor]
    found: dict[str, Any]  # own parts by name: a function, or the class of a part's settings
    alike: dict[str, Described]  # own parts by what describes them

    def look(self, value: Any, place: str) -> None:
        settings = settings_of(value)
        if settings is not None:
            self._look_at_settings(settings, f"{place} {settings.name}")
        elif type(value) is tuple:
            for i, each in enumerate(value):
                self.look(each, f"{place}[{i}]")
        elif isinstance(value, partial):
            self._look_at_function(value.func, place)
            for key, each in (value.keywords | {"*": value.args}).items():
                if key in ("name", "function"):
                    raise LayerError(place, f"a partial's keyword {key} would be taken for its own", "Rename it")
                self.look(each, f"{place}.{key}")
        elif callable(value):
            self._look_at_function(value, place)
        elif type(value.item() if isinstance(value, np.generic) else value) not in (NoneType, bool, int, float, str):
            problem = f"the {type(value).__name__} {as_code(value)} would not be read back from a file as it is"
            raise LayerError(place, problem, next(fix for kind, fix in _FIXES if isinstance(value, kind)))

    def _look_at_settings(self, settings: Described, place: str) -> None:
        name, arguments = settings.name, settings.arguments()
        known = name in self.library and _makes(self.library[name], settings)
        if not known:
            self._note(name, type(settings), place)
        for key, each in arguments.items():
            self.look(each, f"{place}.{key}")
        for key, each in attrs.asdict(cast(Any, settings), recurse=False).items():
            # Functions that the settings hold and their call does not show, as those of `elementwise`.
            if key not in arguments and callable(each) and settings_of(each) is None:
                _check_findable(function_of(each), f"{place}.{key}")
        if not known and self.alike.setdefault(json.dumps(describe(settings)), settings) != settings:
            raise LayerError(place, f"two different parts are described as {settings}", "Give them two names")

    def _look_at_function(self, function: Any, place: str) -> None:
        _check_findable(function, place)
        if self.library.get(function.__name__) is not function:
            self._note(function.__name__, function, place)

    def _note(self, name: str, what: Any, place: str) -> None:
        if not name.isidentifier():
            raise LayerError(
                place, f"no function can be called {name!r}", "Name the part as the function that makes it"
            )
        if name in _BY_NAME or self.found.setdefault(name, what) is not what:
            other = "a part of this library" if name in _BY_NAME else "another part"
            raise LayerError(
                place, f"{name} is also the name of {other}", "Give your own part a name that no other has"
            )


def _makes(constructor: Constructor, settings: Described) -> bool:
    """Whether a constructor of the library makes these settings."""
    try:
        return settings_of(_call(constructor, settings.arguments())) == settings
    except (TypeError, ValueError):  # another's arguments
        return False


def _check_findable(function: Any, place: str) -> None:
    """Raise LayerError unless a function can be found by its name in a module."""
    name, holder = getattr(function, "__name__", None), getattr(function, "__self__", None)
    problem, fix = "", "Write it as a function (def) at the top of a module"
    if not isinstance(name, str) or not (holder is None or isinstance(holder, ModuleType)):
        problem = f"{as_code(function)} is known by how it prints alone"
        fix = "Make it a function at the top of a module, or a value that describes itself, of a class made by @config"
    elif name == "<lambda>":
        problem = "a lambda has no name by which it could be read back"
    elif "<locals>" in getattr(function, "__qualname__", name):
        problem = f"the function {name} is inside another one, where it could not be found again"
    if problem:
        raise LayerError(place, problem, fix)


def _name(own: Any) -> str:
    """The name by which a description knows a user's own constructor or function."""
    if isinstance(own, type) and issubclass(own, Config):
        raise TypeError(
            f"layers: expected functions that make layers, got the class of a layer's settings, {own.__name__}. "
            "Pass the function that calls make_layer with them"
        )
    if isinstance(own, type) and issubclass(own, Described):
        return own.name
    settings, name = settings_of(own), getattr(own, "__name__", "<lambda>")
    if settings is not None:
        raise TypeError(f"layers: expected constructors, got {own!r}. Pass {settings.name}, without the brackets")
    if not callable(own) or name == "<lambda>":
        raise TypeError(
            f"layers: expected functions with a name, got {own!r}. Pass a function (def) that makes the part"
        )
    return str(name)
