"""The operations of a folded net, which `funcnn.nn.prediction` makes plans of.

An operation makes a new array of another. The element-wise functions that follow it belong to it (`then`): they are
applied in place, to each part of its output while that is in cache. So biases and activations are no operations.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import attrs
import numpy as np

from funcnn.arrays.conv_winograd import fits, stands_out
from funcnn.arrays.geometry import Geometry, Sides
from funcnn.arrays.planned import NO_PADDING, Held, Plan, Then, held, kernel_matrix, winograd_kernel, winograd_rows
from funcnn.checks import is_several
from funcnn.layer import Layer
from funcnn.nn.activations import Activation
from funcnn.nn.batch_norm import batch_norm
from funcnn.nn.convolution import conv2d
from funcnn.nn.coupled import Coupled
from funcnn.nn.dense import dense, position_bias
from funcnn.nn.dense_connections import dense_connections
from funcnn.nn.fold import Folded, chain, factor_and_shift, joined, kind
from funcnn.nn.parallel import branches, parallel
from funcnn.nn.piecewise import leaky_relu, relu
from funcnn.nn.pools import max_pool2d
from funcnn.nn.reshape import flatten
from funcnn.nn.serial import serial
from funcnn.nn.wrapping import chunked, residual
from funcnn.tree import Array, Shape

__all__ = ["Convolution", "Dense", "Flatten", "MaxPool", "Operation", "Other", "Residual", "emit", "operations"]

Element = Callable[[Plan, Array, Array, slice], None]  # adds steps from x to out, both of them a part of the rows


@attrs.frozen(eq=False, slots=False)
class Operation:
    """What all have; by itself a copy, for functions that have no operation before them."""

    in_shape: Shape
    out_shape: Shape
    then: list[Element] = attrs.field(factory=list, kw_only=True)

    @property
    def padding(self) -> Sides:
        """The zeros that it needs around the images that it is given."""
        return NO_PADDING

    @property
    def macs(self) -> int:
        """The multiply-adds of an example."""
        return 0

    @property
    def by_example(self) -> bool:
        """Whether no example's output depends on the others in its batch."""
        return True

    def emit(self, plan: Plan, x: Held, sides: Sides) -> Held:
        """Add its steps and those of its functions: from x to what is returned, which has padding on its sides."""
        n = len(x.batch)
        out = held(n, self.out_shape, plan.dtype, sides)
        y = held(n, self.out_shape, plan.dtype) if self.then and sides != NO_PADDING else out
        self.fill(plan, x, y, partial(self.finish, plan, y, out))
        return out

    def fill(self, plan: Plan, x: Held, y: Held, then: Then) -> None:
        """Add the steps from x to y; all rows must be given to `then`."""
        plan.add(np.copyto, y.view, x.view)
        then(_all(y))

    def finish(self, plan: Plan, y: Held, out: Held, part: slice) -> None:
        """Add the steps of its functions on a part of the rows of y: in place, the last one's result to `out`."""
        rows = y.view[part]
        for i, element in enumerate(self.then, 1):
            element(plan, rows, out.view[part] if i == len(self.then) else rows, part)


def emit(plan: Plan, todo: Sequence[Operation], x: Held) -> Held:
    """Add the steps of operations one after the other: from x to what is returned."""
    for i, operation in enumerate(todo):
        x = operation.emit(plan, x, todo[i + 1].padding if i + 1 < len(todo) else NO_PADDING)
    return x


def _all(y: Held) -> slice:
    return slice(0, len(y.view))


@attrs.frozen(eq=False, slots=False)
class Dense(Operation):
    """A matrix product."""

    weight: Array

    @property
    def macs(self) -> int:
        return self.weight.size

    def fill(self, plan: Plan, x: Held, y: Held, then: Then) -> None:
        plan.add(np.matmul, x.view, self.weight, out=y.view)
        then(_all(y))


@attrs.frozen(eq=False, slots=False)
class Convolution(Operation):
    """The products of a convolution with one group, its kernel not dilated along rows."""

    geo: Geometry
    weight: Array
    algorithm: str

    @property
    def macs(self) -> int:
        return self.weight.size * math.prod(self.geo.out_size)

    @property
    def padding(self) -> Sides:
        (top, bottom), columns = self.geo.padding
        if self._may_go_by_tiles:  # whole ones
            bottom = max(bottom, winograd_rows(self.geo.out_size[0]) + 2 - self.geo.in_size[0] - top)
        return (top, bottom), columns

    @cached_property
    def _may_go_by_tiles(self) -> bool:
        """Whether Winograd's products are faster, as in `conv2d`, unless there are too few images."""
        if self.algorithm != "auto":
            return self.algorithm == "winograd"
        _, kw, inner, filters = self.weight.shape
        large = kw * inner >= 64 and filters >= 32 and self.geo.out_size[0] > 2
        return large and self.weight.dtype == np.float32 and fits(self.geo)

    @cached_property
    def _matrix(self) -> Array:
        return kernel_matrix(self.weight)

    @cached_property
    def _transformed(self) -> Array:
        return winograd_kernel(self.weight)

    def emit(self, plan: Plan, x: Held, sides: Sides) -> Held:
        n, (oh, ow, o) = len(x.batch), self.out_shape
        if not self._may_go_by_tiles or (self.algorithm == "auto" and ow * n < 32):
            return super().emit(plan, x, sides)
        tiles = held(n, (winograd_rows(oh), ow, o), plan.dtype).whole
        y = Held(tiles, tiles[:oh])
        out = y if sides == NO_PADDING else held(n, self.out_shape, plan.dtype, sides)
        fast, safe = Plan(plan.dtype), Plan(plan.dtype)
        fast.convolve_by_tiles(x.whole, self._transformed, self.geo, tiles, partial(self.finish, fast, y, out))
        safe.convolve(x.whole, self._matrix, self.geo, y.view, partial(self.finish, safe, y, out))
        if self.algorithm == "auto":
            plan.add(_run_either, x.in_one_piece, fast, safe)
        else:
            plan.add(fast.run)
        if out is not y and not self.then:
            plan.add(np.copyto, out.view, y.view)
        return out

    def fill(self, plan: Plan, x: Held, y: Held, then: Then) -> None:
        plan.convolve(x.whole, self._matrix, self.geo, y.view, then)


def _run_either(x: Array, fast: Plan, safe: Plan) -> None:
    (safe if stands_out(x) else fast).run()


@attrs.frozen(eq=False, slots=False)
class MaxPool(Operation):
    """The largest value of each window."""

    geo: Geometry

    def fill(self, plan: Plan, x: Held, y: Held, then: Then) -> None:
        plan.max_pool(x.view, self.geo, y.view)
        then(_all(y))


@attrs.frozen(eq=False, slots=False)
class Flatten(Operation):
    """Images as rows without a copy: their numbers stay in the order in which they lie in memory, (h, c, w)."""

    def emit(self, plan: Plan, x: Held, sides: Sides) -> Held:
        flat = x.view.reshape(-1, x.view.shape[3]).T
        return Held(flat, flat)


@attrs.frozen(eq=False, slots=False)
class Residual(Operation):
    """x + f(x)."""

    inner: Sequence[Operation]

    @property
    def padding(self) -> Sides:
        return self.inner[0].padding

    @property
    def macs(self) -> int:
        return sum(each.macs for each in self.inner)

    @property
    def by_example(self) -> bool:
        return all(each.by_example for each in self.inner)

    def fill(self, plan: Plan, x: Held, y: Held, then: Then) -> None:
        plan.add(np.add, x.view, emit(plan, self.inner, x).view, out=y.view)
        then(_all(y))


@attrs.frozen(eq=False, slots=False)
class Other(Operation):
    """Any other layer, by its own `apply`."""

    part: Folded

    @property
    def macs(self) -> int:
        return self.part.net.config.macs(self.in_shape)

    @property
    def by_example(self) -> bool:
        return _by_example(self.part.net)

    def fill(self, plan: Plan, x: Held, y: Held, then: Then) -> None:
        plan.add(_apply, self.part, x.batch, y.batch)
        then(_all(y))


def _apply(part: Folded, x: Array, y: Array) -> None:
    np.copyto(y, part.net.apply(part.params, part.state, x).y)


# --- From layers ----------------------------------------------------------------------------------------------

_DENSE, _CONV2D, _MAX_POOL, _POSITION_BIAS = map(kind, (dense(1), conv2d(1, 1), max_pool2d(1), position_bias()))
_BATCH_NORM, _RELU, _LEAKY_RELU = map(kind, (batch_norm(), relu(), leaky_relu()))
_FLATTEN, _RESIDUAL = map(kind, (flatten(), residual(relu())))
_SIDE_BY_SIDE = tuple(map(kind, (parallel(relu()), branches(relu()), dense_connections(relu()))))
_COMBINATORS = (kind(serial()), *_SIDE_BY_SIDE, _RESIDUAL, kind(chunked(relu(), 1)))


def operations(parts: Sequence[Folded], in_shape: Shape) -> list[Operation]:
    """The operations of folded layers, one after the other, on examples of a shape: at least one."""
    found, parts = _Found(in_shape), _runs(parts, in_shape)
    for i, part in enumerate(parts):
        found.add(part, parts[i + 1 :])
    return found.done()


def _runs(parts: Sequence[Folded], shape: Shape) -> list[Folded]:
    """The parts, but as one those between which several arrays go: operations take and make one."""
    found, run = [], []
    for part in parts:
        shape = part.net.config.out_shape(shape)
        run.append(part)
        if not is_several(shape):
            found.append(joined(run))
            run = []
    return found


class _Found:
    """The operations so far, while layers are added to them."""

    def __init__(self, in_shape: Shape) -> None:
        self.shape = in_shape
        self.operations: list[Operation] = []
        self.waiting: list[Element] = []  # increasing functions: a max pool that follows goes before them
        self.order: Shape | None = None  # of the images that `Flatten` has left as they lie

    def done(self) -> list[Operation]:
        """All of them."""
        self._attach()
        return self.operations or [Operation(self.shape, self.shape)]

    def add(self, part: Folded, after: Sequence[Folded]) -> None:
        """The operation of a layer, or its functions of the output of the operation before it."""
        settings: Any = part.net.config
        its_kind, params, shapes = kind(part.net), part.params, (self.shape, settings.out_shape(self.shape))
        if its_kind is _RELU:
            self.waiting.append(_relu)
        elif its_kind is _LEAKY_RELU:
            self.waiting.append(partial(_leaky_relu, settings.slope))
        elif its_kind is _MAX_POOL:
            self.operations.append(MaxPool(*shapes, geo=settings.geometry(self.shape)))
        elif its_kind is _DENSE and len(self.shape) == 1:  # per position, it is what it is
            self._append(Dense(*shapes, weight=self._in_order(params.weight)))
            self._wait_for_bias(params.bias)
        elif its_kind is _CONV2D and settings.groups == settings.dilation[0] == 1 and settings.algorithm != "plain":
            geo = settings.geometry(self.shape)
            self._append(Convolution(*shapes, geo=geo, weight=params.weight, algorithm=settings.algorithm))
            self._wait_for_bias(params.bias)
        elif its_kind is _FLATTEN and len(self.shape) == 3 and _meets_dense(after):
            self._append(Flatten(*shapes))
            self.order = self.shape
        elif its_kind is _RESIDUAL:
            inner = chain(part._replace(net=settings.layer))
            self._append(Residual(*shapes, inner=operations(inner, self.shape)))
        elif isinstance(settings, Activation) and settings.is_elementwise:
            self._attach(partial(_function, settings.forward))
        elif its_kind is _POSITION_BIAS:
            self._attach(_add_positions(params.bias))
        elif its_kind is _BATCH_NORM:
            factor, shift = (self._by_channel(each.astype(params.scale.dtype)) for each in factor_and_shift(part))
            self._attach(partial(_combine, np.multiply, factor), partial(_combine, np.add, shift))
        else:
            self._append(Other(*shapes, part=part))
        self.shape = shapes[1]

    def _append(self, operation: Operation) -> None:
        self._attach()
        self.operations.append(operation)

    def _attach(self, *elements: Element) -> None:
        """Give what waits, and more, to the operation before it; not to `Flatten`, which makes no array."""
        self.waiting += elements
        at = len(self.operations)
        while at > 0 and isinstance(self.operations[at - 1], Flatten):
            at -= 1
        if self.waiting and at == 0:
            shape = self.operations[0].in_shape if self.operations else self.shape
            self.operations.insert(0, Operation(shape, shape))
            at = 1
        if self.waiting:
            self.operations[at - 1].then.extend(self.waiting)
            self.waiting = []

    def _wait_for_bias(self, bias: Array | None) -> None:
        if bias is not None:
            self.waiting.append(partial(_combine, np.add, self._by_channel(bias)))

    def _by_channel(self, values: Array) -> Array:
        """A number for each channel, (c,), ready to be combined with what is held."""
        return values[:, None, None] if len(self.shape) == 3 else values

    def _in_order(self, weight: Array) -> Array:
        """A dense layer's weight, its rows in the order in which `Flatten` has left the numbers."""
        if self.order is None:
            return weight
        split, self.order = weight.reshape(*self.order, -1), None  # (h, w, c, o)
        return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(weight.shape)


def _meets_dense(parts: Sequence[Folded]) -> bool:
    """Whether a dense layer comes next, but for functions of each number by itself."""
    for part in parts:
        settings = part.net.config
        if kind(part.net) is _DENSE:
            return True
        if not (isinstance(settings, Activation) and settings.is_elementwise):
            break
    return False


def _by_example(layer: Layer) -> bool:
    """Whether outside training no example's output depends on the others in its batch."""
    if isinstance(layer.config, _COMBINATORS):
        return all(map(_by_example, layer.config.children))
    return layer.config.by_chunks or isinstance(layer.config, (_DENSE, Coupled))


# --- Element-wise functions -----------------------------------------------------------------------------------


def _relu(plan: Plan, x: Array, out: Array, part: slice) -> None:
    plan.relu(x, out)


def _leaky_relu(slope: float, plan: Plan, x: Array, out: Array, part: slice) -> None:
    plan.leaky_relu(slope, x, out)


def _function(function: Callable[[Array], Array], plan: Plan, x: Array, out: Array, part: slice) -> None:
    plan.add(_put, function, x, out)


def _put(function: Callable[[Array], Array], x: Array, out: Array) -> None:
    np.copyto(out, function(x))


def _combine(function: Callable[..., object], values: Array, plan: Plan, x: Array, out: Array, part: slice) -> None:
    plan.combine(function, x, values, out)


def _add_positions(bias: Array) -> Element:
    """Addition of a number for each position and channel."""
    if bias.ndim != 3:
        return partial(_combine, np.add, bias)
    return partial(_add_rows, bias.swapaxes(1, 2)[..., None])  # (h, c, w, 1)


def _add_rows(bias: Array, plan: Plan, x: Array, out: Array, part: slice) -> None:
    plan.combine(np.add, x, bias[part], out)
