"""The plan of `serial`: in which order its layers are run, which of them take a batch in chunks, how large a chunk is.

A chunk goes through all layers of a stage while it is in cache, forward and back, each chunk a task for one of the
threads. So the threads wake up once for a stage instead of once for every layer, and the next chunk uses the memory
that a layer has freed. The plan follows from the layers and from shapes alone, never from the number of threads.
"""

import itertools
from collections.abc import Sequence
from functools import cached_property

import attrs

from funcnn.checks import LayerError, add_place, is_several, size_of
from funcnn.layer import Layer
from funcnn.nn.coupled import Coupled, Meets
from funcnn.tree import Shape

__all__ = ["Link", "Stage", "chunk_sizes", "stage_sizes", "stages"]

_LARGE = 2**20  # numbers in the largest array that a chunk makes, about: larger ones leave the cache
_SMALL = 2**18  # and at least, about: with smaller ones two threads wait longer for the interpreter than they gain
_MANY = 32  # images in a chunk at most: in memory, a row is as many times as long


@attrs.frozen(slots=False)  # so that what follows from the fields can be kept beside them
class Link:
    """A layer as it is run, and its position; also the position of a max pool that is a part of it."""

    layer: Layer
    i: int
    pool: int | None = None

    @cached_property
    def coupled(self) -> Coupled | None:
        """Its settings, if it is where chunks meet."""
        return self.layer.config if isinstance(self.layer.config, Coupled) else None

    @cached_property
    def meets(self) -> bool:
        """Whether chunks meet in it, or in a layer within it."""
        return isinstance(self.layer.config, Meets) and self.layer.config.couples_examples

    @cached_property
    def by_chunks(self) -> bool:
        """Whether it may take a batch in chunks."""
        return self.layer.config.by_chunks or self.coupled is not None

    @cached_property
    def draws(self) -> bool:
        """Whether it needs a key."""
        return self.layer.config.stochastic

    def blame(self, error: Exception) -> None:
        """Put ``serial[i]`` before an error on its way outward; a pool's position before what the pool says."""
        pools = self.pool is not None and isinstance(error, LayerError) and error.places[0].startswith("max_pool2d")
        add_place(error, f"serial[{self.pool if pools else self.i}]")


@attrs.frozen(slots=False)
class Stage:
    """Links that take a batch in one way: all of them in chunks, or one of them the whole batch."""

    by_chunks: bool
    links: tuple[Link, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The layers' positions, as they are applied."""
        return tuple([i for link in self.links for i in (link.i, link.pool) if i is not None])

    @cached_property
    def last(self) -> int:
        """The highest position."""
        return max(self.order, default=0)


def stages(layers: Sequence[Layer]) -> tuple[Stage, ...]:
    """The longest runs of layers that go by chunks, and each other layer by itself.

    >>> from funcnn.layers import batch_norm, conv2d, dense, flatten, max_pool2d, relu
    >>> for stage in stages([conv2d(8, 3), batch_norm(), relu(), max_pool2d(2), flatten(), dense(512), dense(10)]):
    ...     print(stage.by_chunks, stage.order)
    True (0, 1, 3, 2, 4)
    False (5,)
    True (6,)
    """
    found: list[Stage] = []
    links = _links(layers, _pools_first(layers))
    for by_chunks, group in itertools.groupby(links, key=lambda link: link.by_chunks):
        run = tuple(group)
        found += [Stage(True, run)] if by_chunks else [Stage(False, (link,)) for link in run]
    return tuple(found)


def _pools_first(layers: Sequence[Layer]) -> list[int]:
    """The layers' positions, each max pool's before those of the increasing activations that it follows.

    They commute, and after a pool of 2 × 2 there is a quarter of the work. The gradient is the same too, since the same
    cell wins. Where the activation makes equals of different values, their gradients are zero, or equal but for
    rounding.
    """
    order: list[int] = []
    for i, layer in enumerate(layers):
        at = len(order)
        while layer.config.takes_maximum and at > 0 and layers[order[at - 1]].config.increasing:
            at -= 1
        order.insert(at, i)
    return order


def _links(layers: Sequence[Layer], order: Sequence[int]) -> list[Link]:
    """The layers in order; a max pool that follows a coupled layer is a part of that, if it can be."""
    links: list[Link] = []
    for i in order:
        last = links[-1] if links and layers[i].config.takes_maximum else None
        joined = last.coupled.with_pool(layers[i]) if last and last.coupled and last.pool is None else None
        if last and joined:
            links[-1] = Link(joined, last.i, pool=i)
        else:
            links.append(Link(layers[i], i))
    return links


# --- How large a chunk is -------------------------------------------------------------------------------------


def stage_sizes(
    stages: Sequence[Stage], layers: Sequence[Layer], n: int, in_shape: Shape
) -> tuple[tuple[int, ...], ...]:
    """The sizes of the chunks in which each stage takes a batch of n examples of a shape.

    Raises LayerError, without a place, for a batch that the layers do not take.
    """
    found = []
    for stage in stages:
        largest, out_shape = _largest_array([layers[i] for i in stage.order], in_shape)
        are_images = len(in_shape) == 3 and not is_several(in_shape)
        found.append(chunk_sizes(n, largest, are_images=are_images) if stage.by_chunks else (n,))
        in_shape = out_shape
    return tuple(found)


def _largest_array(layers: Sequence[Layer], in_shape: Shape) -> tuple[int, Shape]:
    """The numbers in the largest array that layers make of an example (0 without products), and the output's shape.

    Without products there is too little work for a batch to be cut.
    """
    sizes, products = [size_of(in_shape)], 0
    for layer in layers:
        out_shape = layer.config.out_shape(in_shape)  # first: it refuses what does not fit
        products += layer.config.macs(in_shape)
        in_shape = out_shape
        sizes.append(size_of(in_shape))
    return (max(sizes) if products else 0), in_shape


def chunk_sizes(n: int, largest: int, *, are_images: bool = True) -> tuple[int, ...]:
    """The sizes of the chunks of a batch of n examples, given the numbers in the largest array made of one.

    >>> chunk_sizes(64, 28 * 28 * 16), chunk_sizes(20, 24 * 24 * 8)
    ((32, 32), (20,))
    """
    numbers = n * largest
    if n == 0 or numbers < 2 * _SMALL:
        return (n,)
    parts = max(-(-numbers // _LARGE), -(-n // _MANY) if are_images else 1)
    parts = min(-(-parts // 2) * 2, n)  # even, for two threads
    return tuple([(i + 1) * n // parts - i * n // parts for i in range(parts)])
