"""A team over the ranks of MPI, on one machine or several: the same calls, by messages where there is no shared memory.

    mpirun -n 4 python script.py

Every rank runs the script. The first trains, prints and writes; the others serve it (`serving`) and end with it.
Gradients, parameters and moments go over the net by the shares in which the members of a team own them, and the sum has
the order that it has on one machine, so the bits are the same.
"""

import contextlib
import itertools
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.batch import rows
from funcnn.team.meeting import Stopped
from funcnn.team.member import Member, own
from funcnn.team.memory import StateMemory, byte_ranges, write
from funcnn.team.shared import Block, Handle
from funcnn.team.team import Team, prepare_to_serve, serve
from funcnn.tree import Array

__all__ = ["MpiTeam", "ranks", "serving", "team_of"]


def _is_under_mpi() -> bool:
    """Whether this process is one of several ranks that mpirun (Open MPI, MPICH, Slurm's) has started."""
    sizes = (os.environ.get(name, "1") for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS"))
    return any(size.isdigit() and int(size) > 1 for size in sizes)


def ranks() -> int:
    """The number of MPI's ranks; 1 without it."""
    return _world().Get_size() if _is_under_mpi() else 1


def _world() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise SystemExit("error: several ranks of MPI train together with mpi4py: pip install 'funcnn[mpi]'") from error
    return MPI.COMM_WORLD


class _Said:
    """What a rank says: words, or that it stops, or why it fails."""

    def __init__(self, words: Any = None, *, stops: bool = False, failure: BaseException | None = None) -> None:
        self.words, self.stops, self.failure = words, stops, failure


class _Ranks:
    """The room of the ranks: a meeting is an allgather, and a rank that stops or fails says so at the next."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.rank, self.size = world.Get_rank(), world.Get_size()
        self._failures: dict[int, BaseException] = {}
        self._stopped = False

    def gather(self, words: Any) -> list[Any]:
        return self._gather(_Said(words))

    def _gather(self, mine: _Said) -> list[Any]:
        said = self.world.allgather(mine)
        for rank, each in enumerate(said):
            if each.stops or each.failure is not None:
                self._stopped = True
                if each.failure is not None:
                    self._failures[rank] = each.failure
                raise Stopped(rank if each.failure is not None else -1)
        return [each.words for each in said]

    def stop(self, *, failed: BaseException | None = None) -> None:
        if not self._stopped:
            self._stopped = True
            with contextlib.suppress(Stopped):
                self._gather(_Said(stops=True, failure=failed))

    def failure(self, rank: int) -> BaseException:
        return self._failures[rank]

    def check(self) -> None:
        pass

    def leave(self) -> None:
        pass


class _LocalBlock(Block):
    """Memory of this rank alone, of which the others have their own by the same handle."""

    _numbers = itertools.count()

    def __init__(self, size: int) -> None:
        self.map = mmap.mmap(-1, max(size, 1))
        self.handle = Handle("mpi", max(size, 1), next(self._numbers))

    def close(self) -> None:
        pass


class _MpiMember(Member):
    """A member on a rank of its own."""

    room: _Ranks

    def open(self, handle: Handle) -> None:
        if handle.number not in self._maps:
            self._maps[handle.number] = np.zeros(handle.size, np.uint8)

    def receive(self, block: int) -> None:
        self.room.world.Bcast(self.memory(block), root=0)

    def exchange_rows(self, count: int) -> None:
        memory, (rank, size) = self.memory(self.plan.gradients), self.part
        ranges = [byte_ranges(places, size) for places in self.plan.rows[:count]]
        nothing = memory[:0]
        to_send = [np.concatenate([nothing, *[memory[ranges[i][to]] for i in self.own(count)]]) for to in range(size)]
        mine = [len(memory[each[rank]]) for each in ranges]
        lengths = [sum(mine[i] for i in own(count, owner, size)) for owner in range(size)]
        received = np.empty(sum(lengths), np.uint8)
        sent = [np.concatenate(to_send), [len(each) for each in to_send]]
        self.room.world.Alltoallv(sent, [received, lengths])
        start = 0
        for i in range(count):  # in the order of their owners, which is theirs
            place = memory[ranges[i][rank]]
            place[:] = received[start : start + len(place)]
            start += len(place)

    def exchange_total(self) -> None:
        self._gather_parts(self.memory(self.plan.gradients), self.plan.rows[0])

    def exchange_state(self, memory: StateMemory) -> None:
        places, state, moments = self.plan.state
        if self.plan.division == "first":
            self.room.world.Bcast(memory.memory, root=0)
            return
        leaves = tree.flatten(moments)
        count = len(tree.flatten(places))
        groups = [tree.unflatten(places, leaves[i : i + count]) for i in range(0, len(leaves), count)]
        for each in (places, *groups):
            self._gather_parts(memory.memory, each)
        for place in tree.flatten(state):
            self.room.world.Bcast(memory.memory[place.start : place.start + place.size * place.dtype.itemsize], root=0)

    def exchange_outputs(self, outputs: Any, parts: list[slice]) -> None:
        made = self.room.world.gather([(part, rows(outputs, part)) for part in parts], root=0)
        for part, values in [each for several in made or () for each in several]:
            write(values, rows(outputs, part))

    def _gather_parts(self, memory: Array, places: Any) -> None:
        """Have every rank's part of what lies at places, on all ranks."""
        ranges = byte_ranges(places, self.room.size)
        lengths = [each.stop - each.start for each in ranges]
        whole = memory[ranges[0].start : ranges[-1].stop]
        self.room.world.Allgatherv(memory[ranges[self.room.rank]].copy(), [whole, lengths])


class MpiTeam(Team):
    """The ranks of MPI as a team, made by the first while the others are in `serving`."""

    def __init__(self, *, shards: int | None = None) -> None:
        super().__init__(_world().Get_size(), shards=shards)

    def _assembled(self) -> Member:
        world = _world()
        world.bcast(True, root=0)
        return _MpiMember(_Ranks(world))

    def _new_block(self, size: int) -> Block:
        self._blocks.append(_LocalBlock(size))
        return self._blocks[-1]


def team_of(workers: int, shards: int) -> Team:
    """The team of so many workers: processes of this machine, or MPI's ranks where there are several.

    Raises ValueError for another number of workers than of ranks.
    """
    if ranks() == 1:
        return Team(workers, shards=shards)
    if workers != ranks():
        raise ValueError(f"train: workers must be {ranks()}, the number of MPI's ranks, got {workers}")
    return MpiTeam(shards=shards)


@contextmanager
def serving() -> Iterator[None]:
    """On the first rank the block, for which the others serve its teams; on another it serves, and the program ends.

    Without MPI it is the block alone.
    """
    if not _is_under_mpi():
        yield
        return
    world = _world()
    if world.Get_rank() > 0:
        prepare_to_serve()
        while world.bcast(None, root=0):  # another team
            serve(_MpiMember(_Ranks(world)))
        sys.exit(0)
    try:
        yield
    finally:
        world.bcast(False, root=0)  # no more teams
