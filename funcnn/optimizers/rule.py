"""What transforms and optimizers share: settings with two pure functions, and masks that tell leaves apart."""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays.seam import refuse_both_kinds
from funcnn.arrays.updates import squared_norm
from funcnn.arrays.weighing import root
from funcnn.settings import Described, as_code, function_of, refuse, shown
from funcnn.system.devices import has_form
from funcnn.tree import Array

__all__ = [
    "Mask", "Rule", "Transform", "check_gradients", "check_mask", "check_settings", "foreign_state", "global_norm",
    "make_transform", "masked", "no_state", "weights_only",
]  # fmt: skip

Mask = Callable[[str, Array], bool]


@attrs.frozen(repr=False)
class Rule:
    """The base of transforms and optimizers: a name, settings, and two pure functions, called by its methods."""

    name: str
    config: Described
    _init: Callable[..., Any] = attrs.field(eq=function_of)
    _update: Callable[..., tuple[Any, Any]] = attrs.field(eq=function_of)

    def _updated(self, grads: Any, state: Any, params: Any, step: int, **asked: Any) -> tuple[Any, Any]:
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not 0 <= step < 2**63:
            refuse(f"{self.name}.update", "step", "an int from 0 on, the number of steps before", step)
        try:
            with np.errstate(under="ignore"):  # what is too small for the dtype is zero, whatever the caller's setting
                made = self._update(grads, state, params, int(step), **asked)  # NumPy's own powers round differently
        except tree.TreeError:
            raise
        except (AttributeError, TypeError, ValueError) as error:
            refuse_both_kinds(error, f"{self.name}.update", grads=grads, state=state, params=params)
            for what, values in (("gradients", grads), ("params", params)):
                _check_floats(self.name, what, values)  # looked at only now, since a step has no time to spare
            raise
        if type(made) is not tuple or len(made) != 2:
            raise TypeError(f"{self.name}: its update must return a tuple of two, got {shown(made)}")
        return made

    @property
    def parts(self) -> tuple["Rule", ...]:
        """The rules that it is made of: a chain's links, the optimizer that is wrapped; () for most."""
        return getattr(self.config, "parts", ())

    @property
    def elementwise(self) -> bool:
        """Whether it treats every number by itself, so that the update of a part is the part of the update.

        Settings say so, ``elementwise: ClassVar[bool] = True``, for rules whose state consists of trees like the
        params. A mask of your own might look at a leaf's size.
        """
        mask = getattr(self.config, "mask", None)
        own = getattr(self.config, "elementwise", False) and mask in (None, weights_only)
        return own and all(rule.elementwise for rule in self.parts)

    @property
    def asks_masks(self) -> bool:
        """Whether what it does depends on a leaf's path, by a mask."""
        return getattr(self.config, "mask", None) is not None or any(rule.asks_masks for rule in self.parts)

    def __repr__(self) -> str:
        return repr(self.config)


def _check_floats(place: str, what: str, values: Any) -> None:
    """Raise TreeError unless all leaves are plain arrays of floats."""
    for path, leaf in zip(tree.paths(values), tree.flatten(values), strict=True):
        if not (isinstance(leaf, np.generic) or has_form(leaf)) or leaf.dtype.kind != "f":
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


def make_transform(
    settings: Described, update: Callable[..., tuple[Any, Any]], init: Callable[..., Any] | None = None
) -> Transform:
    """Join settings and module-level functions, each taking them first, into a `Transform`.

    ``update(settings, grads, state, params, step) -> (grads, state)``, ``init(settings, params) -> state``; without
    `init` the state is None. Raises TypeError for settings that are no `Described`.

    >>> from funcnn.settings import config
    >>> @config
    ... class Halved(Described):
    ...     name = "halved"
    >>> def update(settings, grads, state, params, step):
    ...     return tree.map(lambda g: g / 2, grads), state
    >>> make_transform(Halved(), update).update((np.ones(2),), None, (np.zeros(2),), 0)[0]
    (array([0.5, 0.5]),)
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


def foreign_state(settings: Described, opt_state: Any) -> TypeError:
    """The error for a state that another optimizer made."""
    got = f"a tuple of {len(opt_state)}" if type(opt_state) is tuple else type(opt_state).__name__
    return TypeError(f"{settings.name}: expected the state that its own init gave, got {got}")


def global_norm(grads: Any) -> float:
    """The Euclidean norm of all leaves taken as one vector, summed in float64.

    >>> global_norm((np.array([3.0]), (None, np.array([4.0]))))
    5.0
    """
    leaves = tree.flatten(grads)
    if any(isinstance(leaf, np.ma.MaskedArray) for leaf in leaves):
        raise TypeError("global_norm: the gradients are masked arrays. Pass plain ones: array.filled(0)")
    if not all((isinstance(leaf, np.generic) or has_form(leaf)) and leaf.dtype.kind in "biuf" for leaf in leaves):
        _check_floats("global_norm", "gradients", grads)
    return root(sum(squared_norm(leaf) for leaf in leaves))  # type: ignore[no-any-return]


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
