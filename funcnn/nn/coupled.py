"""Layers that couple the examples of a batch in training, written for a chunk of it that meets the others.

Two chunks of a batch at batch norm. Each says what the others must know (its sums), waits, is sent what follows from
all that was said (the batch's statistics), and goes on:

    chunk 0   conv2d   batch_norm: says its sums ──┐         ┌── is sent mean and deviation: y   relu   conv2d
                                                   ├─ meet ──┤
    chunk 1   conv2d   batch_norm: says its sums ──┘         └── is sent mean and deviation: y   relu   conv2d

So a chunk is a coroutine, a Python generator that yields a `Meeting` and returns its result. Who runs the chunks
decides how they meet. A batch that is not cut is one chunk that meets itself (`alone`), which is how `apply` and
`backward` of such a layer work; chunks on threads meet where they stand (`together`); and since a meeting is a pure
function of what was said, chunks in several processes meet by telling each other what they say (`funcnn.team`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from funcnn import tree
from funcnn.arrays import threads
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.checks import LayerError, add_place
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.tree import Array

__all__ = [
    "Coroutine", "Coupled", "Meeting", "Meets", "alone", "apply_chunk", "backward_chunk", "check_meets", "make_coupled",
    "resume", "together",
]  # fmt: skip

Coroutine = Generator[Any, Any, Any]


class Meeting(NamedTuple):
    """What a coroutine yields where it must know of the other chunks: ``replies = yield Meeting(meet, said)``.

    `said` is a list of what its own chunks say, in order; `meet` is the pure function from what all chunks say to the
    list of what each is sent. The coroutine is sent its own part of that list.
    """

    meet: Callable[[Sequence[Any]], Sequence[Any]]
    said: list[Any]


# --- Running coroutines ---------------------------------------------------------------------------------------


def resume(chunk: Coroutine, sent: Any = None) -> Any:
    """What a coroutine yields next, or returns, once it is started or sent what it waits for."""
    try:
        return chunk.send(sent)
    except StopIteration as end:
        return end.value


def alone(chunk: Coroutine) -> Any:
    """What a coroutine returns that has the whole batch, so that it meets nobody but itself."""
    outcome = resume(chunk)
    while isinstance(outcome, Meeting):
        try:
            replies = outcome.meet(outcome.said)
        except Exception as error:
            chunk.throw(error)  # which names the layer
            raise
        outcome = resume(chunk, replies)
    return outcome


def together(chunks: Sequence[Coroutine]) -> Coroutine:
    """Coroutines of consecutive chunks as one, on all threads: it returns the list of what they return."""
    outcomes = threads.run([partial(resume, chunk) for chunk in chunks])
    while isinstance(outcomes[0], Meeting):
        ends = np.cumsum([len(each.said) for each in outcomes]).tolist()
        try:
            replies = yield Meeting(outcomes[0].meet, [words for each in outcomes for words in each.said])
        except Exception as error:
            chunks[0].throw(error)
            raise
        sent = [replies[end - len(each.said) : end] for each, end in zip(outcomes, ends, strict=True)]
        outcomes = threads.run([partial(resume, *each) for each in zip(chunks, sent, strict=True)])
    return outcomes


# --- Layers whose chunks meet ---------------------------------------------------------------------------------


class Meets(Config, ABC):
    """The base for a layer in which chunks may meet: one that couples the examples, or has such a layer within.

    Both are coroutines with the arguments and results of the layer's `apply` and `backward`, for a chunk. The chunks'
    gradients are added up.
    """

    @abstractmethod
    def apply_meeting(
        self, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        """Returns `Applied`."""

    @abstractmethod
    def backward_meeting(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Coroutine:
        """Returns `Gradients`."""


def apply_chunk(
    layer: Layer, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Coroutine:
    """A layer's `apply` to a chunk of a batch, as a coroutine."""
    if train and isinstance(layer.config, Meets) and layer.config.couples_examples:
        return (yield from layer.config.apply_meeting(params, state, x, key=key, train=True))
    return layer.apply(params, state, x, key=key, train=train)


def backward_chunk(layer: Layer, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Coroutine:
    """A layer's `backward` for a chunk of a batch, as a coroutine."""
    if isinstance(layer.config, Meets) and layer.config.couples_examples:
        return (yield from layer.config.backward_meeting(params, residuals, dy, need_dx=need_dx))
    return layer.backward(params, residuals, dy, need_dx=need_dx)


def check_meets(layer: Layer) -> None:
    """Raise LayerError for a layer, or one within it, that couples the examples and cannot have its chunks meet."""
    if not layer.config.couples_examples:
        return
    if not isinstance(layer.config, Meets):
        raise LayerError(
            repr(layer),
            "in training it couples the examples of a batch, which is to be cut",
            "Write it as a Coupled, or a combinator as one that Meets (funcnn.nn.coupled); or leave the batch whole",
        )
    for i, child in enumerate(layer.config.children):
        try:
            check_meets(child)
        except LayerError as error:
            add_place(error, f"{layer.name}[{i}]")
            raise


class Coupled(Meets):
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

    def apply_meeting(
        self, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        if not train:
            return Applied(self.evaluate(params, state, x), state, None)
        chunk = self.apply_chunk(params, x)
        ((sent, state),) = yield Meeting(partial(self._replies, params, state), [next(chunk)])
        y, residuals = resume(chunk, sent)
        return Applied(y, state, residuals)

    def backward_meeting(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Coroutine:
        chunk = self.backward_chunk(params, residuals, dy, need_dx=need_dx)
        ((sent, gradients),) = yield Meeting(partial(self._replies_backward, params), [next(chunk)])
        return Gradients(gradients, resume(chunk, sent))

    def _replies(self, params: Any, state: Any, said: Sequence[Any]) -> list[Any]:
        return [self.meet(params, state, said)] * len(said)

    def _replies_backward(self, params: Any, said: Sequence[Any]) -> list[Any]:
        sent, gradients = self.meet_backward(params, said)
        if len(said) == 1:
            return [(sent, gradients)]
        nothing = tree.map(np.zeros_like, gradients)  # the chunks' are added up, and these are the whole batch's
        return [(sent, gradients), *[(sent, nothing)] * (len(said) - 1)]


# --- As a layer -----------------------------------------------------------------------------------------------


def make_coupled(settings: Meets, init: Callable[..., Initialised] | None = None) -> Layer:
    """The layer of such settings, as `make_layer` makes others: its batch is one chunk."""
    return make_layer(settings, _apply, _backward, init)


@underflow_is_zero
def _apply(
    settings: Meets, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    return alone(settings.apply_meeting(params, state, x, key=key, train=train))  # type: ignore[no-any-return]


@underflow_is_zero
def _backward(settings: Meets, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    return alone(settings.backward_meeting(params, residuals, dy, need_dx=need_dx))  # type: ignore[no-any-return]
