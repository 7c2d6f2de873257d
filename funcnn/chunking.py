"""How a batch is cut into chunks: runs of layers that treat examples one by one take a few examples at a time.

A chunk goes through all layers of a run while it is in cache, forward and back, each chunk a task for one of the
threads (`funcnn.parallel`): one wake-up of the threads for a run instead of one for every layer, and the
memory that a layer frees is used again by the next chunk. Where a layer couples the examples (batch norm), the chunks
meet: each is a coroutine that says what the others must know of it and goes on with what follows from all (`resume`).
Other layers (a dense one of many units, whose weight gradient is as large as many chunks) take the whole batch.

The number of chunks depends on shapes alone, never on threads, and gradients are added up in the order of the
chunks: so results do not depend on the number of threads.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import attrs
import numpy as np

from funcnn import parallel, tree
from funcnn.conv_windows import images, rows
from funcnn.layer import Array, Config, Layer, Shape

__all__ = [
    "Chunk", "Coupled", "Stage", "Step", "add_up", "chunk_sizes", "join", "largest_array", "resume", "split", "stages",
]  # fmt: skip

Chunk = Generator[Any, Any, Any]  # of a batch, on its way through layers that may have it wait for the others
T = TypeVar("T")

_LARGE = 2**20  # numbers in the largest array that a chunk makes, about: larger ones leave the cache
_SMALL = 2**18  # and at least, about: on smaller ones two threads wait longer for the interpreter than they gain
_MANY = 32  # examples in a chunk at most: rows of images have that many times their width
_SUMS = 8  # of the gradients' shares, each a task


class Coupled(Config, ABC):
    """The base for a layer that couples the examples in training alone, as functions of one chunk of a batch.

    `apply_chunk` and `backward_chunk` are coroutines: each yields what the other chunks must know of its own, is sent
    what a meeting makes of all that was said, and returns its result. `pool` is the max pool to apply after the layer,
    if one follows, in any order that gives the same.
    """

    couples_examples: ClassVar[bool] = True

    @abstractmethod
    def apply_chunk(self, params: Any, x: Array, *, pool: Layer | None) -> Chunk:
        """Returns y and the residuals."""

    @abstractmethod
    def meet(self, params: Any, state: Any, said: Sequence[Any]) -> tuple[Any, Any]:
        """What the chunks are sent, and the state after the batch."""

    @abstractmethod
    def backward_chunk(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool, pool: Layer | None) -> Chunk:
        """Returns dx, or None if it is not needed."""

    @abstractmethod
    def meet_backward(self, params: Any, said: Sequence[Any]) -> tuple[Any, Any]:
        """What the chunks are sent, and the gradients of the params."""

    @abstractmethod
    def evaluate(self, params: Any, state: Any, x: Array, *, pool: Layer | None) -> Array:
        """y in evaluation, where no example depends on another."""


class Step(NamedTuple):
    """A layer's position, and that of the max pool that it takes along, if it does."""

    layer: int
    pool: int | None = None


@attrs.frozen
class Stage:
    """Layers that take a batch in one way: in chunks all of them, or one of them the whole batch."""

    by_chunks: bool
    steps: tuple[Step, ...]
    coupled: tuple[tuple[int, Coupled], ...] = ()  # those layers at which the chunks meet

    @property
    def order(self) -> tuple[int, ...]:
        """The layers' positions, as they are applied."""
        return tuple([i for step in self.steps for i in step if i is not None])


def stages(layers: Sequence[Layer]) -> tuple[Stage, ...]:
    """Maximal runs of layers that go by chunks, and every other layer for itself.

    A max pool goes before the increasing activation that it follows: they commute, and after a pool of 2 × 2 there is
    a quarter of the work. The gradient is the same too: the same cell wins, unless the activation makes equals of
    different values; their gradients are then zero, or equal but for rounding. What couples the examples, as batch norm
    does, takes such a pool along.

    >>> from funcnn.layers import batch_norm, conv2d, dense, flatten, max_pool2d, relu
    >>> for stage in stages([conv2d(8, 3), batch_norm(), relu(), max_pool2d(2), flatten(), dense(512), dense(10)]):
    ...     print(stage.by_chunks, stage.order)
    True (0, 1, 3, 2, 4)
    False (5,)
    True (6,)
    """
    found: list[Stage] = []
    for i in _pools_first(layers):
        config, before = layers[i].config, found[-1] if found else None
        meetings = ((i, config),) if isinstance(config, Coupled) else ()
        by_chunks = config.by_chunks or bool(meetings)
        if before is None or not (before.by_chunks and by_chunks):
            found.append(Stage(by_chunks, (Step(i),), meetings))
            continue
        *steps, last = before.steps
        if config.takes_maximum and last.pool is None and isinstance(layers[last.layer].config, Coupled):
            found[-1] = Stage(True, (*steps, Step(last.layer, i)), before.coupled)
        else:
            found[-1] = Stage(True, (*before.steps, Step(i)), (*before.coupled, *meetings))
    return tuple(found)


def _pools_first(layers: Sequence[Layer]) -> list[int]:
    """The layers' positions, each max pool's before those of the increasing activations that it follows."""
    order: list[int] = []
    for i, layer in enumerate(layers):
        place = len(order)
        while layer.config.takes_maximum and place > 0 and layers[order[place - 1]].config.increasing:
            place -= 1
        order.insert(place, i)
    return order


def largest_array(layers: Sequence[Layer], in_shape: Shape) -> int:
    """The numbers in the largest array that a run of layers makes of an example; 0 if it has no products.

    Without products there is too little work to cut up a batch that comes whole.
    """
    sizes, products = [math.prod(in_shape)], 0
    for layer in layers:
        out_shape = layer.config.out_shape(in_shape)  # refuses what does not fit, before anything else is made of it
        products += layer.config.macs(in_shape)
        in_shape = out_shape
        sizes.append(math.prod(in_shape))
    return max(sizes) if products else 0


def chunk_sizes(n: int, largest: int, *, are_images: bool = True) -> tuple[int, ...]:
    """The sizes of the chunks of a batch of n examples, given the `largest_array` of one.

    >>> chunk_sizes(64, 28 * 28 * 16), chunk_sizes(20, 24 * 24 * 8)
    ((32, 32), (20,))
    """
    numbers = n * largest
    if n == 0 or numbers < 2 * _SMALL:
        return (n,)
    parts = max(-(-numbers // _LARGE), -(-n // _MANY) if are_images else 1)
    parts = min(-(-parts // 2) * 2, n)  # even, for two threads
    return tuple([(i + 1) * n // parts - i * n // parts for i in range(parts)])


def split(x: Array, sizes: Sequence[int]) -> list[Array]:
    """A batch as chunks of some sizes, views all."""
    if len(sizes) == 1:
        return [x]
    ends = np.cumsum(sizes).tolist()
    return [x[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def join(xs: Sequence[Array]) -> Array:
    """The batch that chunks are of."""
    if len(xs) == 1:
        return xs[0]
    if xs[0].ndim == 4:  # by rows, as convolution and pooling make images
        return images(np.concatenate([rows(x) for x in xs], axis=-1))
    return np.concatenate(xs)


def resume(chunk: Chunk, sent: Any = None) -> Any:
    """What a coroutine yields next, or what it returns; it is started, or sent what it waits for."""
    try:
        return chunk.send(sent)
    except StopIteration as end:
        return end.value


def add_up(tasks: Sequence[Callable[[], tuple[Any, T]]]) -> tuple[Any, list[T]]:
    """Of tasks that each give gradients and something else: the sum of the gradients, in order, and all the others."""

    if len(tasks) == 1:  # most often, in a net of dense layers: no need of threads, or of sums
        gradients, other = tasks[0]()
        return gradients, [other]

    def share(part: slice) -> tuple[Any, list[T]]:
        total, others = None, []
        for i, task in enumerate(tasks[part]):
            gradients, other = task()
            total = gradients if i == 0 else _add(total, gradients)
            others.append(other)
        return total, others

    # A few sums over many chunks each: one for every chunk would make memory grow with parameters × batch.
    shares = parallel.for_each(share, parallel.chunks(len(tasks), -(-len(tasks) // _SUMS)))
    total = shares[0][0]
    for gradients, _ in shares[1:]:
        total = _add(total, gradients)
    return total, [other for _, others in shares for other in others]


def _add(a: Any, b: Any) -> Any:
    return tree.map(lambda x, y: np.asarray(x + y), a, b)
