"""The contract of a layer: three pure functions over a frozen configuration.

    init(key, in_shape, dtype=float32)                -> Initialised(params, state, out_shape)
    apply(params, state, x, *, key=None, train=False) -> Applied(y, state, residuals)
    backward(params, residuals, dy, *, need_dx=True)  -> Gradients(params, dx)

* Same arguments, same bits; arguments are never written to.
* Shapes are per example, without the batch axis; arrays carry the batch axis first. Images are NHWC.
* `params` is what is trained, `state` what is carried but not trained (batch norm's running statistics).
* `residuals` is exactly what backward needs, as data; None unless ``train=True``.
* The gradient of the params has their structure, shapes and dtypes. ``dx`` is None if ``need_dx=False``.
* A layer that draws random numbers takes them from `key` alone.
* dtype in = dtype out.

A new layer is a `Config` (an attrs class made by `config`) and three module-level functions, joined by
`make_layer`. Nothing is a closure, so a layer prints, compares, hashes, pickles and describes itself as JSON.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, cast, dataclass_transform

import attrs
import numpy as np
from numpy.typing import DTypeLike, NDArray

from funcnn.keys import Key

__all__ = [
    "Applied", "Array", "Config", "Described", "Gradients", "Initialised", "Layer", "LayerError", "Shape", "ShapeError",
    "add_place", "bare_init", "check_array", "check_count", "check_decay", "check_finite", "check_float", "check_input",
    "check_key", "check_not_negative", "check_positive", "check_residuals", "check_share", "config", "describe",
    "function_of", "make_layer", "show",
]  # fmt: skip

Array = NDArray[Any]
Shape = tuple[int, ...]
T = TypeVar("T")


class Initialised(NamedTuple):
    """What ``init`` returns."""

    params: Any
    state: Any
    out_shape: Shape


class Applied(NamedTuple):
    """What ``apply`` returns."""

    y: Array
    state: Any
    residuals: Any


class Gradients(NamedTuple):
    """What ``backward`` returns."""

    params: Any
    dx: Array | None


class Init(Protocol):
    """The signature of a layer's ``init``."""

    def __call__(self, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised: ...


class Apply(Protocol):
    """The signature of a layer's ``apply``."""

    def __call__(
        self, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
    ) -> Applied: ...


class Backward(Protocol):
    """The signature of a layer's ``backward``."""

    def __call__(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients: ...


# --- Values that describe themselves --------------------------------------------------------------------------


class Described:
    """A frozen value that prints as the call that makes it, and describes itself as JSON.

    `name` is the public constructor's name, `arguments()` what to call it with.
    """

    name: ClassVar[str]

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, those left at their defaults omitted."""
        fields = attrs.fields(cast(Any, type(self)))
        values = ((field, getattr(self, field.name)) for field in fields)
        return {field.name: value for field, value in values if value != field.default}

    def __repr__(self) -> str:
        return _call(self.name, self.arguments())

    # Written once here, where attrs would compile them anew for every class: half of the time of an import.
    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in attrs.fields(cast(Any, type(self))))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))


def _call(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={show(value)}' for key, value in arguments.items())})"


def show(value: Any) -> str:
    """A value as code: a function by its name, a partial as a call, anything else as it prints.

    >>> show(partial(max, default=0))
    'max(default=0)'
    """
    if isinstance(value, partial):
        return _call(show(value.func), value.keywords)
    named = callable(value) and not isinstance(value, Described) and hasattr(value, "__name__")
    return value.__name__ if named else repr(value)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def config(cls: type[T]) -> type[T]:
    """Make a subclass of `Described` a frozen attrs class that keeps its printed form."""
    return attrs.frozen(repr=False, eq=False)(cls)


def describe(value: Any) -> Any:
    """A layer, initialiser, schedule, optimizer or loss as JSON data: ``{"name": ..., its arguments}``.

    >>> from funcnn.layers import dense
    >>> describe(dense(10))
    {'name': 'dense', 'units': 10}
    """
    if isinstance(value, Described):
        return {"name": value.name} | {key: describe(each) for key, each in value.arguments().items()}
    if isinstance(getattr(value, "config", None), Described):
        return describe(value.config)
    if isinstance(value, partial):
        return {"name": getattr(value.func, "__name__", repr(value.func))} | {
            key: describe(each) for key, each in value.keywords.items()
        }
    if isinstance(value, (tuple, list)):
        return [describe(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__name__", repr(value))


class Config(Described):
    """The base of every layer's configuration: what can be said of a layer before it has parameters."""

    @property
    def children(self) -> tuple["Layer", ...]:
        """The layers that a combinator composes; none for a plain layer."""
        return ()

    @property
    def couples_examples(self) -> bool:
        """Whether one example's output depends on the others in its batch (batch norm in training)."""
        return any(child.config.couples_examples for child in self.children)

    @property
    def stochastic(self) -> bool:
        """Whether ``apply(..., train=True)`` draws random numbers and so needs a key."""
        return any(child.config.stochastic for child in self.children)

    @property
    def by_chunks(self) -> bool:
        """Whether `serial` may apply it to a few examples at a time, with the same params.

        Its examples must not be coupled and its state must never change; the gradients of the chunks are added up.
        """
        return bool(self.children) and all(child.config.by_chunks for child in self.children)

    # An increasing element-wise layer and a maximum commute, max f(x) = f(max x): `serial` then pools first. Increasing
    # is what computes so to the last bit: comparisons and products do, exponential functions do not.
    increasing: ClassVar[bool] = False
    takes_maximum: ClassVar[bool] = False

    def out_shape(self, in_shape: Shape) -> Shape:
        """The shape of an output example; raises ShapeError for an input shape that does not fit."""
        return in_shape

    def macs(self, in_shape: Shape) -> int:
        """The multiply-adds of one example's forward pass through products (dense, convolution)."""
        return 0


# --- The layer ------------------------------------------------------------------------------------------------


def function_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What makes two of a layer's functions the same: partials compare by identity, their functions do not."""
    return fn.func if isinstance(fn, partial) else fn


@attrs.frozen(repr=False)
class Layer:
    """A layer: its name, its configuration, and the triple of pure functions (see the module's docstring).

    >>> from funcnn.layers import dense
    >>> layer = dense(10)
    >>> layer, layer == dense(10), layer == dense(11)
    (dense(units=10), True, False)
    """

    name: str
    config: Config
    init: Init = attrs.field(eq=function_of)
    apply: Apply = attrs.field(eq=function_of)
    backward: Backward = attrs.field(eq=function_of)

    def __repr__(self) -> str:
        return repr(self.config)


def make_layer(
    config: Config,
    apply: Callable[..., Applied],
    backward: Callable[..., Gradients],
    init: Callable[..., Initialised] | None = None,
) -> Layer:
    """Join a configuration and three module-level functions, each taking it first, into a `Layer`.

    Without `init` the layer has neither params nor state.
    """
    return Layer(
        config.name, config, partial(init or bare_init, config), partial(apply, config), partial(backward, config)
    )


def bare_init(config: Config, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    """The ``init`` of a layer that has neither params nor state."""
    return Initialised(None, None, config.out_shape(in_shape))


# --- Errors ---------------------------------------------------------------------------------------------------


class LayerError(ValueError):
    """A layer that was misused; says where, what is wrong, and how to fix it.

    Combinators add their place at the front as the error passes outward (`add_place`), so that it reads
    ``serial[4] dense(units=10): ...``.
    """

    def __init__(self, place: str, problem: str, fix: str) -> None:
        super().__init__(place, problem, fix)
        self.places = [place]
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{' '.join(self.places)}: {self.problem}. {self.fix}"


class ShapeError(LayerError):
    """An array or an input shape of the wrong rank or size."""


def add_place(error: Exception, place: str) -> None:
    """Add a combinator's place to an error on its way outward; to a foreign error, as a note."""
    if isinstance(error, LayerError):
        error.places.insert(0, place)
    else:
        error.add_note(f"in {place}")


def check_input(config: Config, x: Array, shape: tuple[int | None, ...], dtype: Any) -> None:
    """Raise unless `x` is a batch of examples of a shape (None: any size) and has the params' dtype."""
    check_array(config, x, dtype)
    if x.shape[1:] == shape and x.dtype == dtype:
        return
    if x.ndim != len(shape) + 1 or any(
        want is not None and want != have for want, have in zip(shape, x.shape[1:], strict=True)
    ):
        wanted = ", ".join(["n", *("any" if size is None else str(size) for size in shape)])
        raise ShapeError(
            repr(config),
            f"expected an input of shape ({wanted}), got {x.shape}",
            "Pass a batch of examples of the shape that init was given",
        )
    if x.dtype != dtype:
        raise LayerError(
            repr(config),
            f"expected an input of dtype {dtype} like the parameters, got {x.dtype}",
            f"Convert it: x.astype(np.{dtype})",
        )


def check_float(config: Config, x: Array) -> None:
    """Raise unless `x` is an array of floats."""
    check_array(config, x, np.dtype(np.float32))
    if x.dtype.kind != "f":
        raise LayerError(
            repr(config), f"expected an input of floats, got dtype {x.dtype}", "Convert it: x.astype(np.float32)"
        )


def check_array(config: Config, x: Array, dtype: Any) -> None:
    """Raise unless `x` is an array, and suggest a dtype."""
    if not isinstance(x, np.ndarray):
        raise LayerError(
            repr(config), f"expected a NumPy array, got {type(x).__name__}", f"Convert it: np.asarray(x, np.{dtype})"
        )


def check_dy(config: Config, dy: Array, shape: tuple[int, ...], dtype: Any = None) -> None:
    """Raise unless `dy` has the shape of the output that it is the gradient of (and its dtype, if that is known)."""
    check_array(config, dy, dtype or np.dtype(np.float32))
    if dy.shape != shape or (dtype is not None and dy.dtype != dtype):
        raise ShapeError(
            repr(config),
            f"expected dy of shape {shape}{f' and dtype {dtype}' if dtype is not None else ''} like the output, "
            f"got {dy.shape} and {dy.dtype}",
            "Pass the gradient in this layer's own output, and the residuals of the same batch",
        )


def check_key(config: Config, key: Key | None) -> Key:
    """The key, or an error that shows the corrected call."""
    if key is None:
        raise LayerError(
            repr(config),
            "training draws random numbers and needs a key, got key=None",
            "Call apply(params, state, x, key=Key(0), train=True), with a fresh key for every step",
        )
    return key


def check_residuals(config: Config, residuals: Any) -> Any:
    """The residuals, or an error that says how to get them."""
    if residuals is None:
        raise LayerError(
            repr(config),
            "backward needs the residuals of a training pass, got None",
            "Call apply(params, state, x, key=key, train=True) and pass on its residuals",
        )
    return residuals


# --- Settings: validators of attrs fields, which name the constructor and the field ----------------------------


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
