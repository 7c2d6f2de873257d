"""A member of a team: what it knows, which part of the work is its own, and how it meets the others."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from funcnn.keys import Key, fold_in, generator
from funcnn.nn.at_work import AtWork
from funcnn.nn.coupled import Coroutine, Meeting, resume
from funcnn.nn.prediction import forward_for
from funcnn.problem import Examples, Problem
from funcnn.team.memory import Plan, StateMemory, piece
from funcnn.team.shared import Handle, open_block, views
from funcnn.tree import Array

__all__ = ["Member", "Room", "TeamError", "epoch_order", "own"]


class TeamError(RuntimeError):
    """A team whose processes cannot start, cannot have what they need, or have ended."""


class Room(Protocol):
    """Where the members meet (`funcnn.team.meeting`)."""

    rank: int
    size: int

    def gather(self, words: Any) -> list[Any]: ...

    def stop(self, *, failed: BaseException | None = None) -> None: ...

    def failure(self, rank: int) -> BaseException: ...

    def check(self) -> None: ...

    def leave(self) -> None: ...


class Member:
    """What a member knows: the room where it meets the others, the problem, the examples, the memory.

    Where members do not see one memory (`funcnn.team.mpi`), the methods of the last group send what they need of it.
    """

    plan: Plan
    problem: Problem
    at_work: AtWork
    batch: Any  # where batches are laid that no data set holds (`funcnn.team.calls.LaidBatch`)

    def __init__(self, room: Room) -> None:
        self.room = room
        self.examples: tuple[Examples | None, ...] = ()
        self.rows: list[Any] = []  # gradients, shard by shard
        self.row_shares: list[Any] = []  # of them this member's share
        self._maps: dict[int, Array] = {}  # by the number of their handle
        self._states: dict[int, StateMemory] = {}
        self._forward: tuple[tuple[int, int], Callable[[Any], Any]] | None = None  # of a block, for so many batches
        self._order: tuple[tuple[int, int], Array] | None = None

    def begin(self, plan: Plan, problem: Problem, examples: tuple[Examples | None, ...]) -> None:
        """Take a problem, and parts of a data set, of which the first is trained on."""
        self.plan, self.problem, self.examples = plan, problem, examples
        self.at_work = AtWork(problem.net)
        memory = self.memory(plan.gradients)
        self.rows = [views(places, memory) for places in plan.rows]
        self.row_shares = [piece(places, memory, self.part, plan.division) for places in plan.rows]
        self._states.clear()
        self._order = self.batch = self._forward = None

    @property
    def part(self) -> tuple[int, int]:
        """Which part of so many is this member's."""
        return self.room.rank, self.room.size

    def add_memory(self, handle: Handle, memory: Any) -> None:
        """Know a block that this process has made."""
        self._maps[handle.number] = np.frombuffer(memory, np.uint8)

    def open(self, handle: Handle) -> None:
        """Know a block that another process has made."""
        if handle.number not in self._maps:
            self._maps[handle.number] = np.frombuffer(open_block(handle), np.uint8)

    def leave(self) -> None:
        """Know nothing any more, so that memory is free."""
        self.room.leave()
        self._maps.clear()
        self._states.clear()
        self.rows, self.row_shares, self.batch, self._forward = [], [], None, None

    def forget(self, blocks: Iterable[int]) -> None:
        """Know these blocks no more; values that are in them keep them."""
        for block in blocks:
            self._maps.pop(block, None)

    def memory(self, block: int) -> Array:
        """A block as an array of bytes."""
        return self._maps[block]

    def state(self, block: int) -> StateMemory:
        """The memory of a state."""
        if block not in self._states:
            self._states[block] = StateMemory(self.plan, self.memory(block), self.part, self.problem.optimizer)
        return self._states[block]

    def forward(self, block: int, batches: int) -> Callable[[Any], Any]:
        """The net outside training, for so many batches, with the params in a state's memory; the last is kept."""
        if self._forward is None or self._forward[0] != (block, batches):
            memory = self.state(block)
            made = forward_for(self.problem.net, memory.params, memory.state, batches=batches)
            self._forward = (block, batches), made
        return self._forward[1]

    def renewed(self, block: int) -> None:
        """Know that a state's memory is written anew."""
        if self._forward is not None and self._forward[0][0] == block:
            self._forward = None

    def order(self, seed: int, epoch: int) -> Array:
        """The order of the training examples in an epoch."""
        if self._order is None or self._order[0] != (seed, epoch):
            examples = self.examples[0]
            self._order = (seed, epoch), epoch_order(seed, epoch, len(examples) if examples is not None else 0)
        return self._order[1]

    def own(self, count: int) -> range:
        """Which of so many things are this member's: consecutive ones, and some of the first member's if there are any.

        In the order of the members they are in order.
        """
        return own(count, *self.part)

    def receive(self, block: int) -> None:
        """See what the first member has written into a block."""

    def exchange_rows(self, count: int) -> None:
        """See this member's share of the gradients of so many shards."""

    def exchange_total(self) -> None:
        """As the first member, see the sum of the gradients, which lies in the first row."""

    def exchange_state(self, memory: StateMemory) -> None:
        """See all of a new state."""

    def exchange_outputs(self, outputs: Any, parts: list[slice]) -> None:
        """As the first member, see the outputs of which this member has made parts."""

    def meet(self, way: Coroutine | None) -> list[Any]:
        """Run this member's coroutine, if it has one, meeting those of the others: what all return, in order."""
        outcome = resume(way) if way is not None else None
        while True:
            met = outcome if isinstance(outcome, Meeting) else None
            told = self.room.gather((met is not None, met.said if met else outcome))
            if not told[0][0]:  # the first member has a coroutine, and all end together
                return [words for _, words in told]
            if way is not None and met:
                said = [words if meets else [] for meets, words in told]
                start = sum(map(len, said[: self.room.rank]))
                try:
                    replies = met.meet([each for words in said for each in words])
                except Exception as error:
                    way.throw(error)  # which names the layer
                    raise
                outcome = resume(way, replies[start : start + len(met.said)])


def own(count: int, rank: int, size: int) -> range:
    """Which of so many things are a member's, of so many members."""
    return range(-(-count * rank // size), -(-count * (rank + 1) // size))


def epoch_order(seed: int, epoch: int, n: int) -> Array:
    """The order in which a run visits its n training examples in an epoch."""
    return generator(fold_in(fold_in(Key(seed), "shuffle"), epoch)).permutation(n)
