"""Layers that couple the examples of a batch in training, written for a chunk of it that meets the others.

Two chunks of a batch at batch norm. Each says what the others must know (its sums), waits, is sent what follows from
all that was said (the batch's statistics), and goes on:

    chunk 0   conv2d   batch_norm: says its sums ──┐         ┌── is sent mean and deviation: y   relu   conv2d
                                                   ├─ meet ──┤
    chunk 1   conv2d   batch_norm: says its sums ──┘         └── is sent mean and deviation: y   relu   conv2d

So a chunk is a coroutine, a Python generator that yields what it says and returns its result (`resume`). A batch that
is not cut is one chunk that meets itself, which is how `apply` and `backward` of such a layer work (`make_coupled`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.tree import Array

__all__ = ["Coroutine", "Coupled", "make_coupled", "resume"]

Coroutine = Generator[Any, Any, Any]


class Coupled(Config, ABC):
    """The base for a layer that couples the examples in training alone.

    `apply_chunk` and `backward_chunk` are coroutines: each yields once what the other chunks must know, is sent what a
    meeting makes of all that was said, and returns its result.
    """

    couples_examples: ClassVar[bool] = True

    @abstractmethod
    def apply_chunk(self, params: Any, x: Array) -> Coroutine:
        """Returns y and the residuals."""

    @abstractmethod
    def meet(self, params: Any, state: Any, said: Sequence[Any]) -> tuple[Any, Any]:
        """What the chunks are sent, and the state after the batch."""

    @abstractmethod
    def backward_chunk(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool) -> Coroutine:
        """Returns dx, or None if it is not needed."""

    @abstractmethod
    def meet_backward(self, params: Any, said: Sequence[Any]) -> tuple[Any, Any]:
        """What the chunks are sent, and the gradients of the params."""

    @abstractmethod
    def evaluate(self, params: Any, state: Any, x: Array) -> Array:
        """y in evaluation, where no example depends on another."""

    def with_pool(self, pool: Layer) -> Layer | None:
        """One layer for this one and a max pool after it, if it gives the same and is faster; otherwise None."""
        return None


def make_coupled(settings: Coupled, init: Callable[..., Initialised] | None = None) -> Layer:
    """The layer of such settings, as `make_layer` makes others."""
    return make_layer(settings, _apply, _backward, init)


def resume(chunk: Coroutine, sent: Any = None) -> Any:
    """What a coroutine yields next, or returns, once it is started or sent what it waits for."""
    try:
        return chunk.send(sent)
    except StopIteration as end:
        return end.value


@underflow_is_zero
def _apply(
    settings: Coupled, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    if not train:
        return Applied(settings.evaluate(params, state, x), state, None)
    batch = settings.apply_chunk(params, x)
    sent, state = settings.meet(params, state, [next(batch)])
    y, residuals = resume(batch, sent)
    return Applied(y, state, residuals)


@underflow_is_zero
def _backward(settings: Coupled, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    batch = settings.backward_chunk(params, residuals, dy, need_dx=need_dx)
    sent, gradients = settings.meet_backward(params, [next(batch)])
    return Gradients(gradients, resume(batch, sent))
