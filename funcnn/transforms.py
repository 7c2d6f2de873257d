"""Transforms of gradients, which `funcnn.optimizers.chain` puts before an optimizer; and what both kinds of rule share.

    transform.init(params)                              -> state
    transform.update(grads, state, params, step)        -> (grads, state)

A transform turns gradients into gradients; like an optimizer it is a pair of pure functions and the settings that
they take. Use the transforms here by their names in `funcnn.optimizers`; `docs/extending.md` writes one more.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.settings import (
    Described,
    as_code,
    check_not_negative,
    check_positive,
    config,
    function_of,
    number,
    refuse,
    shown,
)
from funcnn.tree import Array

__all__ = [
    "Mask", "Rule", "Transform", "add_decayed_weights", "check_gradients", "check_mask", "check_settings",
    "clip_by_global_norm", "global_norm", "make_transform", "masked", "no_state", "weights_only",
]  # fmt: skip

Mask = Callable[[str, Array], bool]


@attrs.frozen(repr=False)
class Rule:
    """The base of transforms and optimizers: a name, settings, and two pure functions, called by its methods."""

    name: str
    config: Described
    _init: Callable[..., Any] = attrs.field(eq=function_of)
    _update: Callable[..., tuple[Any, Any]] = attrs.field(eq=function_of)

    def _updated(self, grads: Any, state: Any, params: Any, step: int) -> tuple[Any, Any]:
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not 0 <= step < 2**63:
            refuse(f"{self.name}.update", "step", "an int from 0 on, the number of steps before", step)
        try:
            with np.errstate(under="ignore"):  # what is too small for the dtype is zero, whatever the caller's setting
                made = self._update(grads, state, params, int(step))  # NumPy's own powers round differently
        except tree.TreeError:
            raise
        except (AttributeError, TypeError, ValueError):
            for what, values in (("gradients", grads), ("params", params)):
                _check_floats(self.name, what, values)  # looked at only now, since a step has no time to spare
            raise
        if type(made) is not tuple or len(made) != 2:
            raise TypeError(f"{self.name}: its update must return a tuple of two, got {shown(made)}")
        return made

    @property
    def elementwise(self) -> bool:
        """Whether it treats every number by itself, so that the update of a part is the part of the update.

        Settings say so, ``elementwise: ClassVar[bool] = True``. A mask of your own might look at a leaf's size.
        """
        if hasattr(self.config, "rules"):
            return all(rule.elementwise for rule in self.config.rules)
        return getattr(self.config, "elementwise", False) and getattr(self.config, "mask", None) in (None, weights_only)

    @property
    def asks_masks(self) -> bool:
        """Whether what it does depends on a leaf's path, by a mask."""
        rules = getattr(self.config, "rules", ())
        return getattr(self.config, "mask", None) is not None or any(rule.asks_masks for rule in rules)

    def __repr__(self) -> str:
        return repr(self.config)


def _check_floats(place: str, what: str, values: Any) -> None:
    """Raise TreeError unless all leaves are plain arrays of floats."""
    for path, leaf in zip(tree.paths(values), tree.flatten(values), strict=True):
        if not isinstance(leaf, (np.ndarray, np.generic)) or leaf.dtype.kind != "f":
            raise tree.TreeError(
                f"{place}: expected {what} that are plain arrays of floats, got {shown(leaf)} at {path!r}. "
                "Pass those that backward or init gave"
            )


class Transform(Rule):
    """Pure ``init(params) -> state``, ``update(grads, state, params, step) -> (grads, state)``."""

    def init(self, params: Any) -> Any:
        """The state at the start."""
        return self._init(params)

    def update(self, grads: Any, state: Any, params: Any, step: int) -> tuple[Any, Any]:
        """The transformed gradients, and the new state, at a step counted from 0."""
        return self._updated(grads, state, params, step)


# --- Constructors ---------------------------------------------------------------------------------------------


def clip_by_global_norm(limit: float) -> Transform:
    """g' = g · min(1, limit / ‖g‖), the norm over all leaves (Pascanu et al. 2013).

    >>> grads, _ = clip_by_global_norm(1.0).update((np.array([3.0, 4.0]),), None, None, step=0)
    >>> grads
    (array([0.6, 0.8]),)

    Raises ValueError for a limit that is not positive.
    """
    return make_transform(_Clip(limit), _clip_update)


def add_decayed_weights(rate: float, *, mask: Mask | None = None) -> Transform:
    """g' = g + rate · w: the gradient of the L2 penalty rate/2 · Σ w² (weight decay, if plain sgd follows).

    ``mask(path, leaf)`` says which leaves, for example `weights_only`; all without one.

    >>> grads, _ = add_decayed_weights(0.5).update((np.zeros(1),), None, (np.ones(1),), step=0)
    >>> grads
    (array([0.5]),)

    Raises ValueError for a negative rate, and for a mask that is no function.
    """
    return make_transform(_DecayedWeights(rate, mask), _decay_update)


# --- Building blocks ------------------------------------------------------------------------------------------


def make_transform(
    settings: Described, update: Callable[..., tuple[Any, Any]], init: Callable[..., Any] | None = None
) -> Transform:
    """Join settings and module-level functions, each taking them first, into a `Transform`.

    ``update(settings, grads, state, params, step) -> (grads, state)``, ``init(settings, params) -> state``; without
    `init` the state is None. Raises TypeError for settings that are no `Described`.
    """
    check_settings("make_transform", settings, update, init)
    return Transform(settings.name, settings, partial(init or no_state, settings), partial(update, settings))


def check_settings(place: str, settings: Any, update: Any, init: Any) -> None:
    """Raise TypeError unless settings and functions are to become a rule."""
    for name, function in (("update", update), ("init", init)):
        if not (callable(function) or (name == "init" and function is None)):
            raise TypeError(f"{place}: {name} must be a function, got {shown(function)}")
    if not isinstance(settings, Described):
        raise TypeError(
            f"{place}: settings must be a Described, got {shown(settings)}. Make their class a subclass: "
            "@config class Clip(Described)"
        )


def no_state(settings: Described, params: Any) -> None:
    """The `init` of a rule without state."""


def global_norm(grads: Any) -> float:
    """The Euclidean norm of all leaves taken as one vector, summed in float64.

    >>> global_norm((np.array([3.0]), (None, np.array([4.0]))))
    5.0
    """
    leaves = tree.flatten(grads)
    if any(isinstance(leaf, np.ma.MaskedArray) for leaf in leaves):
        raise TypeError("global_norm: the gradients are masked arrays. Pass plain ones: array.filled(0)")
    if not all(isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind in "biuf" for leaf in leaves):
        _check_floats("global_norm", "gradients", grads)
    return math.sqrt(sum(float(np.square(leaf, dtype=np.float64).sum()) for leaf in leaves))


def weights_only(path: str, leaf: Array) -> bool:
    """The mask that decays weights, and neither biases nor batch norm's scale and shift.

    >>> weights_only("2.weight", np.ones((2, 2))), weights_only("2.bias", np.ones(2))
    (True, False)
    """
    return str(path).rpartition(".")[2] == "weight"


def masked(params: Any, value: float, mask: Mask | None) -> Any:
    """A tree of floats like the params: the value for leaves that the mask chooses (all without one), 0 for others.

    >>> masked((np.ones((2, 2)), np.ones(2)), 0.5, lambda path, leaf: leaf.ndim > 1)
    (0.5, 0.0)
    """
    if mask is None:
        return tree.map(lambda leaf: value, params)
    if not callable(mask):
        refuse("masked", "mask", "a function (path, leaf) -> bool or None", mask)
    leaves = zip(tree.paths(params), tree.flatten(params), strict=True)
    try:
        return tree.unflatten(params, [value if mask(path, leaf) else 0.0 for path, leaf in leaves])
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{as_code(mask)}: a mask must be a function (path, leaf) -> bool, and fails ({text})"
        ) from error


def check_mask(instance: Any, attribute: Any, value: Mask | None) -> None:
    """Raise ValueError unless a setting is a function, or None."""
    if value is not None and not callable(value):
        refuse(instance.name, attribute.name, "a function (path, leaf) -> bool or None", value)


def check_gradients(params: Any, grads: Any) -> None:
    """Raise TreeError unless gradients have the params' structure and shapes."""
    tree.check_like(params, grads, ("params", "gradients"), shapes=True)


# --- The transforms -------------------------------------------------------------------------------------------


@config
class _Clip(Described):
    name: ClassVar[str] = "clip_by_global_norm"
    limit: float = number(check_positive)


def _clip_update(settings: _Clip, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    norm = global_norm(grads)
    if norm <= settings.limit:
        return grads, None
    return tree.map(lambda g: g * (settings.limit / norm), grads), None


@config
class _DecayedWeights(Described):
    name: ClassVar[str] = "add_decayed_weights"
    elementwise: ClassVar[bool] = True
    rate: float = number(check_not_negative)
    mask: Mask | None = attrs.field(default=None, validator=check_mask)


def _decay_update(settings: _DecayedWeights, grads: Any, state: None, params: Any, step: int) -> tuple[Any, None]:
    def add(g: Array, leaf: Array, rate: float) -> Array:
        return g + rate * leaf if rate else g

    check_gradients(params, grads)
    return tree.map(add, grads, params, masked(params, settings.rate, settings.mask)), None
