"""`parallel`, layers side by side on one input, and `branches`, on an input for each."""

from functools import reduce
from typing import Any, ClassVar, Literal, get_args

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.checks import ShapeError, check_dy, check_dy_array, check_residuals, is_several
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, Values, Vocabulary, out_shape_of
from funcnn.nn.combining import (
    Composed,
    added,
    check_several,
    check_tuple,
    check_values,
    child_key,
    init_children,
    place,
)
from funcnn.nn.coupled import Coroutine, Meets, apply_chunk, backward_chunk, make_coupled
from funcnn.nn.joining import How, join_arrays, joined_shape, shares
from funcnn.settings import check_choice, config
from funcnn.tree import Shape, node

__all__ = ["branches", "parallel"]


def parallel(*layers: Layer, combine: How | Literal["tuple"] = "concat") -> Layer:
    """Every layer on the same input, their outputs made one or given as a tuple; dx = Σ of theirs.

    `combine` is "concat", one after the other along the last axis (Szegedy et al. 2015), "add", "multiply" or "mean",
    as `join` makes arrays one, or "tuple": all of them, for several outputs or for `branches`. Params and state are
    tuples in layer order; layer i draws from ``fold_in(key, i)``.

    >>> from funcnn.layers import conv2d, dense
    >>> block = parallel(conv2d(8, 1), conv2d(4, 3, padding="same"))
    >>> block.init(Key(0), (28, 28, 1)).out_shape
    (28, 28, 12)
    >>> parallel(dense(10), dense(1), combine="tuple").init(Key(0), (32,)).out_shape
    ((10,), (1,))

    A block of a residual net whose shape changes has a layer on its shortcut (He et al. 2016), and is
    ``parallel(block, conv2d(64, 1, stride=2), combine="add")``. Raises TypeError for an argument that is no Layer,
    ValueError for none at all or an unknown `combine`.
    """
    return make_coupled(_Parallel(layers, combine), _init_parallel)


def branches(*layers: Layer) -> Layer:
    """A layer for each of several inputs: layer i takes x[i], ((n, ...), (n, ...), ...) -> ((n, ...), (n, ...), ...).

    y and dx are tuples in layer order, as params and state are; layer i draws from ``fold_in(key, i)``. stax calls this
    ``parallel``.

    >>> from funcnn.compose import join, serial
    >>> from funcnn.layers import dense, relu
    >>> net = serial(branches(serial(dense(8), relu()), dense(8)), join("add"), dense(2))
    >>> params, state, out_shape = net.init(Key(0), ((4,), (3,)))
    >>> x = np.ones((5, 4), np.float32), np.ones((5, 3), np.float32)
    >>> net.apply(params, state, x).y.shape
    (5, 2)

    Raises TypeError for an argument that is no Layer, ValueError for none at all; init and apply raise ShapeError for
    another number of inputs than layers.
    """
    return make_coupled(_Branches(layers), _init_branches)


class _SideBySide(Composed, Meets):
    """What both are: layers none of which sees another's output."""

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise ValueError(f"{self.name}: at least one layer is needed; for the identity use serial()")

    def apply_each(self, params: Any, state: Any, xs: Any, key: Key | None, train: bool) -> Coroutine:
        """Returns the outputs, states and residuals."""
        check_values(self, params=params, state=state)
        made = []
        for i, (layer, x) in enumerate(zip(self.layers, xs, strict=True)):
            with place(self.name, i):
                its_key = child_key(key, layer, i)
                made.append((yield from apply_chunk(layer, params[i], state[i], x, key=its_key, train=train)))
        return tuple(zip(*made, strict=True))

    def backward_each(self, params: Any, kept: Any, dys: Any, need_dx: bool) -> Coroutine:
        """Returns the gradients of the params and the dxs."""
        check_values(self, params=params)
        check_tuple(self, "residuals", kept, len(self.layers), "layer", "apply")
        made = []
        for i, (layer, dy) in enumerate(zip(self.layers, dys, strict=True)):
            with place(self.name, i):
                made.append((yield from backward_chunk(layer, params[i], kept[i], dy, need_dx=need_dx)))
        return tuple(zip(*made, strict=True))

    def check_dys(self, dy: Any) -> None:
        """Raise unless dy is a tuple with one for each layer."""
        if type(dy) is not tuple or len(dy) != len(self.layers):
            got = f"a tuple of {len(dy)}" if type(dy) is tuple else type(dy).__name__
            raise ShapeError(
                self.name,
                f"expected dy to be a tuple of {len(self.layers)} arrays like the output, got {got}",
                "Pass the gradient in each of the outputs",
            )


# --- parallel -------------------------------------------------------------------------------------------------


@node
class _ParallelResiduals:
    """The residuals of each layer, and of joining their outputs."""

    residuals: Any
    joined: Any


@config
class _Parallel(_SideBySide):
    name: ClassVar[str] = "parallel"
    combine: How | Literal["tuple"] = attrs.field(default="concat", validator=check_choice(*get_args(How), "tuple"))

    def out_shape(self, in_shape: Shape) -> Shape:
        shapes = []
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                shapes.append(out_shape_of(layer, in_shape))
        if self.combine == "tuple":
            return tuple(shapes)
        return joined_shape(self.name, self.combine, shapes)

    def macs(self, in_shape: Shape) -> int:
        return sum(layer.config.macs(in_shape) for layer in self.layers)

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        y, states, kept = yield from self.apply_each(params, state, [x] * len(self.layers), key, train)
        joined = None
        if self.combine != "tuple":
            joined_shape(self.name, self.combine, [np.shape(each)[1:] for each in y])
            y, joined = join_arrays(self.combine, y)
        return Applied(y, states, _ParallelResiduals(kept, joined) if train else None)

    def backward_meeting(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Coroutine:
        its = check_residuals(self, residuals, _ParallelResiduals)
        if self.combine == "tuple":
            self.check_dys(dy)
        else:
            check_dy_array(self.name, dy)
            check_dy(self, dy, its.joined.form.shape, its.joined.form.dtype)
            dy = shares(self.combine, its.joined, dy)
        gradients, dxs = yield from self.backward_each(params, its.residuals, dy, need_dx)
        return Gradients(gradients, reduce(added, dxs) if need_dx else None)


def _init_parallel(settings: _Parallel, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    return Initialised(*init_children(settings, key, [in_shape] * len(settings.layers), dtype), out_shape)


# --- branches -------------------------------------------------------------------------------------------------


@config
class _Branches(_SideBySide):
    name: ClassVar[str] = "branches"

    @property
    def vocabulary(self) -> Vocabulary:
        each = tuple([layer.config.vocabulary for layer in self.layers])
        return each if any(its is not None for its in each) else None

    def out_shape(self, in_shape: Any) -> Any:
        count = len(self.layers)
        if not is_several(in_shape) or len(in_shape) != count:
            raise ShapeError(
                self.name,
                f"expected {count} inputs, a tuple of as many shapes, got {in_shape}",
                "Give it a layer for each input, or use parallel for several layers on one",
            )
        shapes = []
        for i, (layer, shape) in enumerate(zip(self.layers, in_shape, strict=True)):
            with place(self.name, i):
                shapes.append(out_shape_of(layer, shape))
        return tuple(shapes)

    def macs(self, in_shape: Any) -> int:
        return sum(layer.config.macs(shape) for layer, shape in zip(self.layers, in_shape, strict=True))

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        check_several(self, x, len(self.layers))
        y, states, kept = yield from self.apply_each(params, state, x, key, train)
        return Applied(y, states, kept if train else None)

    def backward_meeting(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Coroutine:
        kept = check_residuals(self, residuals)
        self.check_dys(dy)
        gradients, dxs = yield from self.backward_each(params, kept, dy, need_dx)
        return Gradients(gradients, dxs if need_dx else None)


def _init_branches(settings: _Branches, key: Key, in_shape: Any, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    return Initialised(*init_children(settings, key, list(in_shape), dtype), out_shape)
