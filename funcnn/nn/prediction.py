"""`predictor`: a net and its params as one function of the input, in which nothing is done twice.

The net is folded (`funcnn.nn.fold`). At the first batch of a shape its layers become operations
(`funcnn.nn.operations`) and these the steps of a plan (`funcnn.arrays.planned`), which that batch and every later one
goes through. A large batch goes in chunks, spread over the threads: convolutions and pools by a few images, so that
they stay in cache, and the dense layers after them by many, since each chunk reads all their weights.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays import threads
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.planned import Plan, held
from funcnn.layer import Layer, Values
from funcnn.nn.fold import Folded, chain, fold, kind
from funcnn.nn.operations import Dense, Operation, emit, operations
from funcnn.nn.reshape import flatten, reshape
from funcnn.system.devices import is_device_array
from funcnn.tree import Array, Shape

__all__ = ["Predictor", "forward_for", "predictor"]

_IMAGES = 16  # of a chunk at most, where there is work for several
_LARGE = 2**20  # numbers in the largest array of a chunk, about
_ROWS = 128  # of a chunk of what is no image, at least
_BATCHES = 8  # from which on the first call, which takes as long as three others of a small net, is earned
_SHAPES = 100  # whose plans are kept at most
_RESHAPING = tuple(map(kind, (flatten(), reshape(()))))


def predictor(net: Layer, params: Any, state: Any) -> "Predictor":
    """A function x -> y for many calls: the net's outputs outside training, but for rounding.

    What follows from the net and from a shape is done at the first call with that shape: batch norm is folded (`fold`),
    weights are laid as their products take them, and every array in between has its memory, and keeps it. On one image
    that takes a third to nine tenths of the time of ``net.apply``; on one batch alone it does not pay.

    >>> from funcnn import Key
    >>> from funcnn.compose import serial
    >>> from funcnn.layers import conv2d, dense, flatten, relu
    >>> net = serial(conv2d(8, 3), relu(), flatten(), dense(10))
    >>> params, state, _ = net.init(Key(0), (28, 28, 1))
    >>> logits = predictor(net, params, state)
    >>> logits(np.ones((1, 28, 28, 1), np.float32)).shape
    (1, 10)

    y depends on x alone: threads may share the function, and what it returns is the caller's. Raises as `fold` does; a
    call raises what the net's own layers raise.
    """
    return Predictor(net, params, state, fold(net, params, state))


def forward_for(net: Layer, params: Any, state: Any, *, batches: int) -> Callable[[Values], Values]:
    """x -> y outside training, for so many batches: a `predictor` where there are enough of them to pay for it.

    What overflows in folding shows in the outputs, and is no warning by itself.
    """
    if batches < _BATCHES or is_device_array(next(iter(tree.flatten((params, state))), None)):
        return partial(_apply, net, params, state)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return predictor(net, params, state)


def _apply(net: Layer, params: Any, state: Any, x: Values) -> Values:
    return net.apply(params, state, x).y


@attrs.frozen(eq=False, slots=False, repr=False)
class Predictor:
    """What `predictor` returns."""

    net: Layer
    params: Any
    state: Any
    folded: Folded

    @cached_property
    def _planned(self) -> dict[Any, "_Planned"]:
        return {}  # by the batch's shape and dtype

    @cached_property
    def _operations(self) -> dict[Shape, list[Operation]]:
        return {}  # by an example's shape, since they hold the weights

    def __call__(self, x: Values) -> Values:
        """The net's outputs for a batch, (n, ...) -> (n, ...)."""
        form = (x.shape, x.dtype) if type(x) is np.ndarray else None
        planned = self._planned.get(form)
        if planned is None:
            if form is None or x.size == 0 or x.dtype.char not in "fd" or not self._fits(x):
                return self.net.apply(self.params, self.state, x).y
            planned = self._plan(x)
        return planned(x)

    def _fits(self, x: Array) -> bool:
        """Whether the net takes the batch, since a plan checks nothing, and gives one array."""
        try:
            return isinstance(self.net.apply(self.params, self.state, x[:1]).y, np.ndarray)
        except Exception:
            return False  # with all examples, the same call says what is wrong

    def _plan(self, x: Array) -> "_Planned":
        if len(self._planned) >= _SHAPES:
            self._planned.clear()
            self._operations.clear()
        n, in_shape, parts = x.shape[0], x.shape[1:], chain(self.folded)
        while parts and isinstance(parts[0].net.config, _RESHAPING):  # of x itself, which takes no copy as a rule
            in_shape, parts = parts[0].net.config.out_shape(in_shape), parts[1:]
        if in_shape not in self._operations:
            self._operations[in_shape] = operations(parts, in_shape)
        planned = _Planned(in_shape, _stages(self._operations[in_shape], n), x.dtype)
        self._planned[x.shape, x.dtype] = planned
        return planned

    def __repr__(self) -> str:
        return f"predictor({self.net!r}, ...)"


# --- Chunks ---------------------------------------------------------------------------------------------------


@attrs.frozen
class _Stage:
    """Operations that take a batch in chunks of some sizes."""

    todo: Sequence[Operation]
    sizes: tuple[int, ...]

    @property
    def parts(self) -> list[slice]:
        """Where the chunks lie in the batch."""
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


def _stages(todo: Sequence[Operation], n: int) -> list[_Stage]:
    """Operations on n examples: those on images, and those on what is made of them; in one, where neither is cut."""
    ends = [i for i, each in enumerate(todo, 1) if len(each.in_shape) == 3 and len(each.out_shape) == 1]
    cut = ends[0] if ends else 0
    found = [_Stage(part, _chunk_sizes(part, n)) for part in (todo[:cut], todo[cut:]) if part]
    return found if any(len(stage.sizes) > 1 for stage in found) else [_Stage(todo, (n,))]


def _chunk_sizes(todo: Sequence[Operation], n: int) -> tuple[int, ...]:
    """The sizes of the chunks, from shapes alone: the number of threads changes no result."""
    if not all(each.by_example for each in todo):
        return (n,)
    tasks = n * sum(each.macs for each in todo) // threads.TASK_OPERATIONS
    if len(todo[0].in_shape) == 3:
        largest = max(math.prod(shape) for each in todo for shape in (each.in_shape, each.out_shape))
        parts = max(-(-n // _IMAGES) if tasks > 1 else 1, -(-n * largest // _LARGE))
    else:
        parts = min(tasks, n // _ROWS, threads.TASKS)
    if parts > 1:
        parts += parts % 2  # for two threads
    parts = max(1, min(parts, n))
    return tuple([(i + 1) * n // parts - i * n // parts for i in range(parts)])


@attrs.frozen(eq=False, slots=False)
class _Planned:
    """What a batch of one shape goes through: stages, the first of which takes examples of a shape."""

    in_shape: Shape
    stages: Sequence[_Stage]
    dtype: np.dtype[Any]

    @cached_property
    def _idle(self) -> dict[tuple[int, int], list["_Program"]]:
        """By stage and size of chunk, the programs that no thread is using. A list's pop and append are atomic."""
        return {(i, size): [] for i, stage in enumerate(self.stages) for size in stage.sizes}

    def __call__(self, x: Array) -> Array:
        n = len(x)
        if x.shape[1:] != self.in_shape:
            x = x.reshape(n, *self.in_shape)
        with threads.single_blas_thread():
            for i, stage in enumerate(self.stages):
                y = _empty(n, stage.todo[-1].out_shape, self.dtype, between=i + 1 < len(self.stages))
                if len(stage.sizes) == 1:
                    self._run(i, x, y, slice(None))
                else:
                    threads.for_each(partial(self._run, i, x, y), stage.parts)
                x = y
        return x

    def _run(self, i: int, x: Array, y: Array, part: slice) -> None:
        chunk = x[part]
        idle = self._idle[i, len(chunk)]
        try:
            program = idle.pop()
        except IndexError:
            program = _Program(self.stages[i].todo, len(chunk), self.dtype)
        program.run(chunk, y[part])
        idle.append(program)


def _empty(n: int, shape: Shape, dtype: np.dtype[Any], *, between: bool) -> Array:
    """Memory for n outputs of a shape, in the order in which chunks hold theirs."""
    if between:  # rows that were images: (features, n)
        return np.empty((*shape, n), dtype).T
    if len(shape) == 3:
        return held(n, shape, dtype).batch
    return np.empty((n, *shape), dtype)


# --- Programs -------------------------------------------------------------------------------------------------


class _Program:
    """Operations on n examples with their plan. It has memory of its own: one thread at a time may run it."""

    def __init__(self, todo: Sequence[Operation], n: int, dtype: np.dtype[Any]) -> None:
        self._plan, first = Plan(dtype), todo[0]
        self._enter: Callable[[Array], object]
        if isinstance(first, Dense):  # it takes x where it is
            x = held(n, first.out_shape, dtype)
            self._enter = partial(_multiply, first.weight, x.view)
            first.finish(self._plan, x, x, slice(0, n))
            todo = todo[1:]
        else:
            x = held(n, first.in_shape, dtype, first.padding)
            self._enter = partial(np.copyto, x.batch)
        self._y = emit(self._plan, todo, x).batch

    @underflow_is_zero
    def run(self, x: Array, y: Array) -> None:
        """Fill y with the outputs for x."""
        self._enter(x)
        self._plan.run()
        np.copyto(y, self._y)


def _multiply(weight: Array, y: Array, x: Array) -> None:
    np.matmul(x, weight, out=y)
