"""What all members of a team do, called by the first: a step, an evaluation, a prediction.

All run the same calls in the same order, and each knows from its rank what is its own. Parameters, moments and
gradients lie in shared memory. A step:

    shards      forward, loss and backward of each; its gradients go to the shard's own row of memory
    -- meet --  all gradients are there, and all members know the metrics
    share       a member adds up its share of all rows (`funcnn.team.step.add_up`), and makes its share of the new
                parameters and moments, in the memory of the new state
    -- meet --  the new state is there

A state's memory is written once, before anybody else has it, and never changed as long as somebody does.

A block of memory is made known once (`Open`), and so is where a batch lies in it (`LayBatch`). What is said at every
step is a few numbers: a small net's step takes half a millisecond, and to pickle and read a tree a tenth of that.
"""

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays.products import whole
from funcnn.arrays.updates import writing_to
from funcnn.batch import Batch, inputs_in, length, rows
from funcnn.nn.coupled import Coroutine, together
from funcnn.problem import Examples, Problem
from funcnn.team.member import Member, TeamError
from funcnn.team.memory import Plan, StateMemory, copy, path_at, write
from funcnn.team.shared import Handle, unpack, views
from funcnn.team.step import (
    QUIET,
    Metrics,
    Shard,
    TrainState,
    add_up,
    check_finite,
    forward_and_back,
    measured,
    prepared,
    shard_slices,
    summed,
    unlike,
    updated,
)

__all__ = ["Begin", "Call", "Evaluate", "FromOrder", "Hello", "LayBatch", "Open", "Predict", "Step", "add_to"]


class Call(Protocol):
    """What all members are to do."""

    def run(self, member: Member) -> Any: ...


@attrs.frozen
class Hello:
    """Be there."""

    def run(self, member: Member) -> None:
        pass


class Open(NamedTuple):
    """Have a block of memory, by its number from now on."""

    handle: Handle

    def run(self, member: Member) -> None:
        member.open(self.handle)


@attrs.frozen
class Begin:
    """Take a plan, and from a block a problem and parts of a data set."""

    packed: int
    plan: Plan
    forget: tuple[int, ...]  # memory of what was begun before

    def run(self, member: Member) -> None:
        member.forget(self.forget)
        member.receive(self.packed)
        if member.room.rank > 0:  # the first has begun before it packed
            member.begin(self.plan, *self._unpacked(member))
        member.room.gather(None)  # all have read the block, which is then closed
        member.forget([self.packed])

    def _unpacked(self, member: Member) -> tuple[Problem, tuple[Examples | None, ...]]:
        try:
            return unpack(member.memory(self.packed))  # type: ignore[no-any-return]
        except Exception as error:
            raise TeamError(
                f"what is to be trained cannot be read in another process ({type(error).__name__}: {error}). Put your "
                "own layers, losses and data into a module, or into a script's file, not into an interpreter or a "
                "notebook"
            ) from error


class FromOrder(NamedTuple):
    """A batch of the training examples: positions in the order of an epoch."""

    epoch: int
    first: int
    last: int

    def size(self) -> int:
        return self.last - self.first

    def take(self, member: Member, seed: int, part: slice) -> Batch:
        order = member.order(seed, self.epoch)[self.first : self.last]
        return member.examples[0].take(order[part])  # type: ignore[union-attr]


class LaidBatch(NamedTuple):
    """A batch that the first member writes into shared memory, and its arrays there."""

    memory: int
    arrays: Batch

    def size(self) -> int:
        return length(self.arrays[0])

    def take(self, member: Member, seed: int, part: slice) -> Batch:
        return rows(self.arrays, part)  # type: ignore[no-any-return]


class LayBatch(NamedTuple):
    """Know where the arrays of the batches to come will lie."""

    memory: int
    places: Any

    def run(self, member: Member) -> None:
        member.batch = LaidBatch(self.memory, tree.read_only(views(self.places, member.memory(self.memory))))


class _Said(NamedTuple):
    """What a member says of its shards: of each the numbers of its metrics; a checksum of the net's new state."""

    metrics: list[tuple[Any, ...]]
    state: int


class Step(NamedTuple):
    """A training step, from the memory of one state to that of the next, of a batch in shards."""

    old: int
    new: int
    step: int
    seed: int
    shards: int
    order: FromOrder | None  # None: of the batch that is laid
    fresh: bool  # whether the first member has just written the old state

    def batch(self, member: Member) -> "FromOrder | LaidBatch":
        return self.order or member.batch

    def run(self, member: Member) -> Metrics:
        member.renewed(self.new)
        if self.fresh:
            _see(member, self.old)
        batch = self.batch(member)
        if isinstance(batch, LaidBatch):
            member.receive(batch.memory)
        old, new = member.state(self.old), member.state(self.new)
        state = TrainState(old.params, old.state, old.opt_state, self.step, self.seed)
        slices = shard_slices(batch.size(), self.shards)
        own = [(number, slices[number]) for number in member.own(len(slices))]
        with np.errstate(**QUIET), whole(len(slices) > 1):
            said = member.meet(self._shards(member, state, own) if own else None)
        said = [words for words in said if words is not None]
        if any(words.state != said[0].state for words in said):
            raise unlike()
        metrics = summed([Metrics(*each) for words in said for each in words.metrics])
        member.exchange_rows(len(slices))
        # A share is added up where the first shard's gradients were: nobody needs these any more.
        with np.errstate(**QUIET):
            total = add_up(member.row_shares[: len(slices)], add_to)
        if member.plan.division == "first":
            member.room.gather(None)
            member.exchange_total()
            if member.room.rank == 0:
                check_finite(member.rows[0], state, metrics)
                params, opt_state = updated(member.problem, state, member.rows[0])
                write((params, opt_state), (new.written[0], new.written[2]))
        else:
            self._update(member, total, old, new, metrics)
        member.room.gather(None)
        member.exchange_state(new)
        return metrics

    def _update(self, member: Member, total: Any, old: StateMemory, new: StateMemory, metrics: Metrics) -> None:
        """Make this member's share of the new params and moments from the sum of its share of the gradients."""
        params, opt_state = old.share
        state = TrainState(params, None, opt_state, self.step, self.seed)
        check_finite(total, state, metrics, partial(self._place, member, total))
        there = {id(leaf): to for leaf, to in zip(tree.flatten(params), new.written_by_leaf, strict=True)}
        with writing_to(there):
            made = updated(member.problem, state, total)
        copy(tree.flatten(made), tree.flatten(new.share_written))

    def _place(self, member: Member, total: Any, path: str) -> str:
        """The path of the parameter at which a share of the gradients is not finite, of whose leaves one is not."""
        if member.plan.division != "vector":
            return path
        places, (rank, size) = member.plan.rows[0], member.part
        numbers = sum(leaf.size for leaf in tree.flatten(places))
        return path_at(places, numbers * rank // size + int(np.argmin(np.isfinite(total[0]))))

    def _shards(self, member: Member, state: TrainState, own: Sequence[tuple[int, slice]]) -> Coroutine:
        """This member's shards: returns what it says of them. Gradients and the new state are in their memory then."""
        problem, whole = member.problem, self.batch(member)
        n = whole.size()
        ways = []
        for number, part in own:
            batch = prepared(problem, state, whole.take(member, self.seed, part), Shard(number, n))
            into = member.rows[number]
            ways.append(forward_and_back(problem, state, batch, Shard(number, n), at_work=member.at_work, into=into))
        made = yield from together(ways)
        for (number, _), each in zip(own, made, strict=True):
            if each.gradients is not member.rows[number]:
                write(each.gradients, member.rows[number])
        checksums = {_checksum(each.state, state.state) for each in made}
        if len(checksums) > 1:
            raise unlike()
        if member.room.rank == 0:
            write(made[0].state, member.state(self.new).written[1])
        return _Said([each.metrics.as_they_lie for each in made], *checksums)


def add_to(total: Any, other: Any) -> Any:
    """A tree of arrays, to which another one's are added in place."""
    for one, two in zip(tree.flatten(total), tree.flatten(other), strict=True):
        np.add(one, two, out=one)
    return total


def _checksum(state: Any, before: Any) -> int:
    """A checksum of what has become of a state: what is frozen in it may be large, and is the very same array."""
    checksum, kept = 0, {id(leaf) for leaf in tree.flatten(before)}
    for i, leaf in enumerate(tree.flatten(state)):
        if id(leaf) not in kept:
            checksum = zlib.crc32(leaf.tobytes(), zlib.crc32(b"%d" % i, checksum))
    return checksum


class Evaluate(NamedTuple):
    """The loss and metric of a part of the examples, by its number: for each batch, and why it is not finite."""

    state: int
    part: int
    batch_size: int
    fresh: bool

    def run(self, member: Member) -> list[tuple[Metrics, str]]:
        if self.fresh:
            _see(member, self.state)
        examples = member.examples[self.part]
        assert examples is not None
        memory, n = member.state(self.state), len(examples)
        many = -(-n // self.batch_size)
        forward = member.forward(self.state, many)
        own = []
        for i in member.own(many):
            batch = examples.take(slice(i * self.batch_size, min((i + 1) * self.batch_size, n)))
            own.append(measured(member.problem, memory.params, memory.state, batch, forward))
        return [each for several in member.room.gather(own) for each in several]


class Predict(NamedTuple):
    """The net's outputs, batch by batch, into a block that this call alone needs."""

    state: int
    part: int | None  # of the examples; None: for the inputs that are laid
    outputs: Handle
    places: Any
    batch_size: int
    fresh: bool

    def run(self, member: Member) -> None:
        if self.fresh:
            _see(member, self.state)
        member.open(self.outputs)
        outputs = views(self.places, member.memory(self.outputs.number))
        inputs = self._inputs(member)
        many = -(-length(inputs) // self.batch_size)
        forward = member.forward(self.state, many)
        parts = [slice(i * self.batch_size, (i + 1) * self.batch_size) for i in member.own(many)]
        for part in parts:
            write(forward(inputs_in(inputs, part)), rows(outputs, part))
        member.exchange_outputs(outputs, parts)
        member.room.gather(None)
        member.forget([self.outputs.number])

    def _inputs(self, member: Member) -> Any:
        if self.part is not None:
            return member.examples[self.part]
        laid: LaidBatch = member.batch
        member.receive(laid.memory)
        return laid.arrays[0]


def _see(member: Member, state: int) -> None:
    """See a state that the first member has just written."""
    member.renewed(state)
    member.receive(state)
