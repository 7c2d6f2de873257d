"""The contract of a layer: three pure functions over frozen settings.

    init(key, in_shape, dtype=float32)                -> Initialised(params, state, out_shape)
    apply(params, state, x, *, key=None, train=False) -> Applied(y, state, residuals)
    backward(params, residuals, dy, *, need_dx=True)  -> Gradients(params, dx)

* Same arguments, same bits (on one kind of processor and one NumPy); arguments are never written to.
* Shapes are per example, without the batch axis; arrays carry the batch axis first. Images are NHWC.
* Of a layer with several inputs, x is a tuple of arrays with the same number of examples, its shape a tuple of shapes,
  and dx a tuple too; of one with several outputs, y and dy are.
* `params` is what is trained, `state` what is carried but not trained (batch norm's running statistics).
* `residuals` is exactly what backward needs, as data; None unless ``train=True``.
* The gradient of the params has their structure, shapes and dtypes. ``dx`` is None if ``need_dx=False``.
* A layer that draws random numbers takes them from `key` alone.
* Of floats, dtype in = dtype out. Of whole numbers below the settings' `vocabulary`, of any integer dtype, the output
  has the params' dtype, and ``dx`` is always None: whole numbers have no slope.

A new layer is a `Config` (an attrs class made by `config`) and three module-level functions, joined by
`make_layer`. Nothing is a closure, so a layer prints, compares, hashes, pickles and describes itself as JSON.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.checks import (
    LayerError,
    ShapeError,
    add_place,
    check_array,
    check_dy,
    check_float,
    check_input,
    check_key,
    check_residuals,
    check_shape,
    is_several,
)
from funcnn.keys import Key, check_is_key
from funcnn.settings import (
    Described,
    as_code,
    check_choice,
    check_count,
    check_decay,
    check_finite,
    check_flag,
    check_not_negative,
    check_positive,
    check_share,
    config,
    count,
    describe,
    float_dtype,
    function_of,
    number,
    refuse,
    shown,
)
from funcnn.tree import Array, Shape

__all__ = [
    "Applied", "Array", "Config", "Described", "Gradients", "Initialised", "Layer", "LayerError", "Shape", "ShapeError",
    "Values", "Vocabulary", "add_place", "as_code", "bare_init", "check_array", "check_choice", "check_count",
    "check_decay", "check_dy", "check_finite", "check_flag", "check_float", "check_input", "check_key",
    "check_not_negative", "check_positive", "check_residuals", "check_share", "config", "count", "describe",
    "make_layer", "number",
]  # fmt: skip


Vocabulary: TypeAlias = "int | tuple[Vocabulary, ...] | None"
Values: TypeAlias = Any  # an array; or a tuple of them, which few layers take or give


class Initialised(NamedTuple):
    """What ``init`` returns."""

    params: Any
    state: Any
    out_shape: Shape


class Applied(NamedTuple):
    """What ``apply`` returns."""

    y: Values
    state: Any
    residuals: Any


class Gradients(NamedTuple):
    """What ``backward`` returns."""

    params: Any
    dx: Values | None


class Init(Protocol):
    """The signature of a layer's ``init``."""

    def __call__(self, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised: ...


class Apply(Protocol):
    """The signature of a layer's ``apply``."""

    def __call__(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Applied: ...


class Backward(Protocol):
    """The signature of a layer's ``backward``."""

    def __call__(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Gradients: ...


class Config(Described):
    """The base of every layer's settings: what can be said of a layer before it has parameters."""

    @property
    def children(self) -> tuple["Layer", ...]:
        """The layers that a combinator composes; none for a plain layer."""
        return ()

    @property
    def vocabulary(self) -> "Vocabulary":
        """Whether the inputs are whole numbers, from 0 below this one, of any integer dtype; None: floats.

        A combinator's is its first child's; of several inputs it is a tuple, one for each.
        """
        return self.children[0].config.vocabulary if self.children else None

    @property
    def takes_several(self) -> bool:
        """Whether its input may be a tuple; a combinator leaves that to its layers."""
        return bool(self.children)

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

    # An increasing element-wise layer and a maximum commute, max f(x) = f(max x): `serial` then pools first. They must
    # commute to the last bit, which holds for comparisons and products, and not for exponential functions.
    increasing: ClassVar[bool] = False
    takes_maximum: ClassVar[bool] = False

    def out_shape(self, in_shape: Shape) -> Shape:
        """The shape of an output example; raises ShapeError for an input shape that does not fit."""
        return in_shape

    def macs(self, in_shape: Shape) -> int:
        """The multiply-adds of one example's forward pass through products (dense, convolution)."""
        return 0


# --- The layer ------------------------------------------------------------------------------------------------


@attrs.frozen(repr=False)
class Layer:
    """A layer: its name, its settings, and the triple of pure functions (see the module's docstring).

    >>> from funcnn.layers import dense
    >>> layer = dense(10)
    >>> layer, layer == dense(10), layer == dense(11)
    (dense(units=10), True, False)
    """

    name: str
    config: Config
    _init: Init = attrs.field(eq=function_of)  # by a method, which checks once what `apply` would meet at every step
    apply: Apply = attrs.field(eq=function_of)
    backward: Backward = attrs.field(eq=function_of)

    def init(self, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
        """New params and state, and an output example's shape, for examples of a shape, without the batch axis.

        Raises TypeError for what is no key, ShapeError for a shape that does not fit, ValueError for a dtype that is
        not of floats.
        """
        check_is_key(f"{self.name}.init", key)
        in_shape = check_shape(self.config, in_shape)
        check_one_input(self.config, in_shape)
        if float_dtype(dtype) is None:
            refuse(f"{self.name}.init", "dtype", "a float type such as np.float32", dtype)
        return self._init(key, in_shape, dtype)

    def __repr__(self) -> str:
        return repr(self.config)


def make_layer(
    settings: Config,
    apply: Callable[..., Applied],
    backward: Callable[..., Gradients],
    init: Callable[..., Initialised] | None = None,
) -> Layer:
    """Join settings and three module-level functions, each taking them first, into a `Layer`.

    Without `init` the layer has neither params nor state. Raises TypeError for settings that are no `Config`.

    >>> @config
    ... class Double(Config):
    ...     name = "double"
    >>> layer = make_layer(
    ...     Double(),
    ...     lambda settings, params, state, x, *, key=None, train=False: Applied(2 * x, state, () if train else None),
    ...     lambda settings, params, residuals, dy, *, need_dx=True: Gradients(None, 2 * dy if need_dx else None),
    ... )
    >>> layer, layer.apply(None, None, np.ones(3)).y
    (double(), array([2., 2., 2.]))
    """
    if not isinstance(settings, Config):
        raise TypeError(
            f"make_layer: settings must be a Config, got {shown(settings)}. Make their class a subclass: "
            "@config class Square(Config)"
        )
    return Layer(
        settings.name,
        settings,
        partial(init or bare_init, settings),
        partial(apply, settings),
        partial(backward, settings),
    )


def check_one_input(settings: Config, in_shape: Any) -> None:
    """Raise ShapeError for the shapes of several inputs, unless the settings' `takes_several`."""
    if is_several(in_shape) and not settings.takes_several:
        raise ShapeError(
            repr(settings),
            f"expected one input, got {len(in_shape)}, of shapes {in_shape}",
            'Put join("concat") before it; or takes_several = True into the settings of a layer that takes a tuple',
        )


def out_shape_of(layer: Layer, in_shape: Any) -> Any:
    """The shape of what a layer gives, for a combinator to ask; raises ShapeError for one that does not fit."""
    check_one_input(layer.config, in_shape)
    return layer.config.out_shape(in_shape)


def bare_init(settings: Config, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    """The ``init`` of a layer that has neither params nor state."""
    return Initialised(None, None, settings.out_shape(in_shape))
