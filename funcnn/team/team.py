"""A team of processes that train one net together: this process is its first member, and starts the others.

    with Team(4) as team:
        step = make_step(problem, team=team)

The others wait for a call, run it as this process does, and wait for the next (`funcnn.team.calls`). They end when the
team is closed, when one of them fails, or when this process is gone.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
import weakref
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from funcnn import tree
from funcnn.arrays import threads
from funcnn.batch import Batch, inputs_in, length
from funcnn.layer import Layer
from funcnn.losses import mean_squared_error
from funcnn.nn.coupled import check_meets
from funcnn.optimizers import sgd
from funcnn.problem import Examples, Problem
from funcnn.settings import check_counts, refuse
from funcnn.team.calls import Begin, Call, Evaluate, FromOrder, Hello, LayBatch, Open, Predict, Step
from funcnn.team.meeting import CAPACITY, MeetingRoom, Stopped, size_of_room
from funcnn.team.member import Member, TeamError
from funcnn.team.memory import Plan, copy, division_of, plan_for, values_of, write
from funcnn.team.shared import Block, Handle, lay_out, open_block, pack, views
from funcnn.team.step import Metrics, Model, TrainState, cuttable
from funcnn.tree import Array

__all__ = ["Team", "TeamError", "prepare_to_serve", "serve"]

_GRACE = 5.0  # seconds that a member has to end before it is killed


class Team:
    """Processes that train together, this one among them, of one thread each. Close it, or use it in a ``with``.

    What is computed follows from the shards of a batch (`shards`, by default as many as there are members), and not
    from the number of members.

    Raises ValueError unless the numbers are positive ints, and at most as many members as shards; TeamError if a
    process cannot start.
    """

    def __init__(self, size: int, *, shards: int | None = None) -> None:
        shards = size if shards is None else shards
        check_counts("Team", size=size, shards=shards)
        if size > shards:
            refuse("Team", "shards", f"at least {size}, one for each member", shards)
        self.size, self.shards = int(size), int(shards)
        self._blocks: list[Block] = []
        self._slots: list[_Slot] = []
        self._begun: tuple[Any, ...] | None = None
        # The form of the last batch, its memory, and its arrays there.
        self._batch: tuple[Any, Block, list[Array]] | None = None
        self._closed = self._started = False
        self._pid = os.getpid()
        self._processes: list[SpawnProcess] = []
        try:
            self._member = self._assembled()
            self._lasting = len(self._blocks)  # the room's is not a problem's
            self.run(Hello())
            self._started = True
        except BaseException:
            self.close()
            raise

    def _assembled(self) -> Member:
        """Start the other processes: this one as a member."""
        if self.size > 1 and multiprocessing.current_process().daemon:
            raise TeamError(
                "this process is a daemon, such as a pool's or a Dask worker, and may start no others. Train with one "
                "worker here, or in a process with daemon=False"
            )
        context = multiprocessing.get_context("spawn")
        room = self._new_block(size_of_room(self.size))
        bells = [context.Semaphore(0) for _ in range(self.size)]
        for rank in range(1, self.size):
            arguments = (room.handle, rank, bells)
            self._processes.append(context.Process(target=_serve, args=arguments, daemon=True, name=f"funcnn-{rank}"))
            self._processes[-1].start()
        return Member(MeetingRoom(room.map, 0, bells, self._look))

    def __enter__(self) -> "Team":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the other processes. States that the team has made stay as they are."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:
            return  # in a forked process it is the parent's
        if hasattr(self, "_member"):
            self._member.room.stop()
            self._member.leave()
        for process in self._processes:
            if process.pid is None:
                continue
            process.join(_GRACE)
            if process.exitcode is None:
                process.kill()
                process.join(_GRACE)
        for block in self._blocks:
            block.close()
        self._blocks, self._slots, self._batch = [], [], None

    # --- What a team does -------------------------------------------------------------------------------------

    def begin(self, problem: Problem, state: TrainState | Model, *examples: Examples | None) -> None:
        """Have all members know a problem and parts of a data set, and lay out memory for states like this one.

        Raises TeamError for what cannot be sent to another process, LayerError for a layer that needs whole batches.
        """
        check_meets(problem.net)
        places, size, rows, rows_size = plan_for(state, self.shards)
        division = division_of(problem, state)
        old, self._begun, self._slots, self._batch = self._blocks[self._lasting :], None, [], None
        try:
            packed = pack((problem, examples) if self.size > 1 else None, self._new_block)
        except Exception as error:
            raise TeamError(
                f"what is to be trained cannot be sent to another process ({type(error).__name__}: {error}). Make "
                "it of functions and classes at the top of a module: no lambda, nothing within a function"
            ) from error
        self._tell_of(packed)
        plan = Plan(places, rows, self._block(rows_size).handle.number, division)
        self._member.begin(plan, problem, examples)
        self.run(Begin(packed.handle.number, plan, tuple(block.handle.number for block in old)))
        for block in (*old, packed):
            block.close()
            self._blocks.remove(block)
        self._begun = problem, examples, size

    def step(
        self, problem: Problem, state: TrainState, batch: Batch | FromOrder, *examples: Examples | None
    ) -> tuple[TrainState, Metrics]:
        """A training step, of a batch given as arrays or by its place in an epoch's order."""
        self._ensure(problem, state, *examples)
        old, fresh = self._slot_of(state)
        order = batch if isinstance(batch, FromOrder) else None
        if order is None:
            self._lay(cuttable(batch))
        new = self._free_slot(but=old)
        metrics = self.run(Step(old.number, new.number, state.step, state.seed, self.shards, order, fresh))
        return self._handed_out(new, state.step + 1, state.seed), metrics

    def evaluate(
        self, problem: Problem, state: TrainState | Model, examples: Examples, batch_size: int
    ) -> list[tuple[Metrics, str]]:
        """What each batch of examples gives: metrics, and why they are not finite."""
        part = self._part_of(problem, state, examples)
        slot, fresh = self._slot_of(state)
        made: list[tuple[Metrics, str]] = self.run(Evaluate(slot.number, part, batch_size, fresh))
        return made

    def predict(self, net: Layer, state: TrainState | Model, inputs: Any, batch_size: int) -> Any:
        """The net's outputs for inputs: an array, a tuple of arrays, or examples."""
        problem = self._begun[0] if self._begun else None
        if problem is None or problem.net is not net:
            problem = Problem(net, mean_squared_error, sgd(0.0), metric=None)  # of which the net alone is used
        part = None
        if isinstance(inputs, (np.ndarray, tuple)):
            self._ensure(problem, state)
            self._lay((inputs,))
        else:
            part = self._part_of(problem, state, inputs)
        like, n = net.apply(state.params, state.state, inputs_in(inputs, slice(0, 1))).y, length(inputs)
        places, size = lay_out(tree.map(lambda leaf: np.broadcast_to(leaf, (n, *leaf.shape[1:])), like))
        block = self._new_block(size)
        self._member.add_memory(block.handle, block.map)
        slot, fresh = self._slot_of(state)
        self.run(Predict(slot.number, part, block.handle, places, batch_size, fresh))
        block.close()
        self._blocks.remove(block)
        return views(places, np.frombuffer(block.map, np.uint8))

    def _part_of(self, problem: Problem, state: TrainState | Model, examples: Examples) -> int:
        """The number of examples among those that all members know."""
        parts = self._begun[1] if self._begun and self._begun[0] is problem else ()
        found = [i for i, each in enumerate(parts) if each is examples]
        if not found:
            parts, found = (examples,), [0]
        self._ensure(problem, state, *parts)
        return found[0]

    # --- Memory -----------------------------------------------------------------------------------------------

    def _new_block(self, size: int) -> Block:
        self._blocks.append(Block(size))
        return self._blocks[-1]

    def _block(self, size: int) -> Block:
        """Memory that all members have, by its handle's number."""
        block = self._new_block(size)
        self._tell_of(block)
        return block

    def _tell_of(self, block: Block) -> None:
        """Have all members know a block."""
        self._member.add_memory(block.handle, block.map)
        self.run(Open(block.handle))

    def _ensure(self, problem: Problem, state: TrainState | Model, *examples: Examples | None) -> None:
        """Begin, unless all members know the problem, examples and states like this one already."""
        if not (self._knows(problem, examples) and (self._found(state) or self._is_alike(state))):
            self.begin(problem, state, *examples)

    def _knows(self, problem: Problem, examples: tuple[Examples | None, ...]) -> bool:
        if self._begun is None or self._begun[0] is not problem or len(examples) > len(self._begun[1]):
            return False
        return all(one is other for one, other in zip(examples, self._begun[1], strict=False))

    def _is_alike(self, state: TrainState | Model) -> bool:
        places, known = plan_for(state, 0)[0], self._member.plan.state
        return tree.paths(places) == tree.paths(known) and tree.flatten(places) == tree.flatten(known)

    def _found(self, state: TrainState | Model) -> "_Slot | None":
        """The memory of a state that lies in this team's."""
        return next((slot for slot in self._slots if slot.state() is state), None)

    def _slot_of(self, state: TrainState | Model) -> "tuple[_Slot, bool]":
        """The memory of a state, and whether it has just been written: a copy, unless the state lies here already."""
        found = self._found(state)
        if found:
            return found, False
        slot, values = self._free_slot(), values_of(state)
        write(values, self._member.state(slot.number).written)
        if not any(leaf.flags.writeable for leaf in tree.flatten(values)):  # nobody changes it: the copy stays true
            slot.state = weakref.ref(state)
        return slot, True

    def _free_slot(self, but: "_Slot | None" = None) -> "_Slot":
        """Memory for a state that nobody has."""
        slot = next((slot for slot in self._slots if slot is not but and slot.root() is None), None)
        if slot is None:
            slot = _Slot(self._block(self._begun[2] if self._begun else 0))
            self._slots.append(slot)
        slot.state = lambda: None
        return slot

    def _handed_out(self, slot: "_Slot", step: int, seed: int) -> TrainState:
        """The state in a slot, which is free again when nobody has any of its arrays."""
        root = np.frombuffer(slot.block.map, np.uint8)  # of no other array, so that NumPy has it for the views' base
        root.flags.writeable = False
        slot.root = weakref.ref(root)
        params, net_state, opt_state = self._member.state(slot.number).seen_through(root)
        state = TrainState(params, net_state, opt_state, step, seed)
        slot.state = weakref.ref(state)
        return state

    def _lay(self, arrays: Batch) -> None:
        """Write a batch, or inputs alone, into memory that all have."""
        leaves = tree.flatten(arrays)
        form = tree.unflatten(arrays, [(leaf.shape, leaf.dtype) for leaf in leaves])
        if self._batch is None or self._batch[0] != form:
            places, size = lay_out(arrays)
            block = self._batch[1] if self._batch is not None else None
            if block is None or block.handle.size < size:
                block = self._block(max(size, 2 * block.handle.size if block else 0))
            memory = tree.flatten(views(places, self._member.memory(block.handle.number)))
            self._batch = form, block, memory
            self.run(LayBatch(block.handle.number, places))
        copy(leaves, self._batch[2])

    # --- The others -------------------------------------------------------------------------------------------

    def run(self, call: Call) -> Any:
        """Have all members run a call: what it gives in this one."""
        if self._closed or os.getpid() != self._pid:
            raise TeamError("the team has ended, or is another process's: make another one, with Team(...)")
        room = self._member.room
        try:
            room.gather(call)
            with threads.single_thread():
                return call.run(self._member)
        except Stopped as stopped:
            failure = room.failure(stopped.by) if stopped.by > 0 else TeamError("the team was stopped")
            self.close()
            raise failure from None
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        """Raise TeamError if another member has ended."""
        for process in self._processes:
            code = process.exitcode
            if code is not None:
                self._member.room.check()  # it may have said why
                raise TeamError(_ended(process.name, code, started=self._started))


class _Slot:
    """A block for a state, and weak references to the state there and to the array that its arrays are views of.

    They are asked, and call nobody when the state dies: an interrupt that came in such a call would be lost.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.number = block.handle.number
        self.root: Callable[[], Array | None] = lambda: None
        self.state: Callable[[], TrainState | Model | None] = lambda: None


def _ended(name: str, code: int, *, started: bool) -> str:
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        how = f"was killed by {names.get(-code, f'signal {-code}')}"
        fix = "If the memory is full, take fewer workers or smaller batches; a run goes on from its last checkpoint"
    else:
        how = f"ended with exit code {code}" + " before it had begun" * (not started)
        fix = "Something in it has ended the process; a run goes on from its last checkpoint"
        if not started:
            fix = "A script trains below `if __name__ == '__main__':`, since every process imports it"
    return f"a process of the team, {name}, {how}. {fix}"


# --- The other members ----------------------------------------------------------------------------------------


def _serve(handle: Handle, rank: int, bells: list[Any]) -> None:
    """What another process of the team does, until the team is stopped."""
    for name in ("SIGINT", "SIGHUP"):  # the first member decides what they mean
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    prepare_to_serve()
    serve(Member(MeetingRoom(open_block(handle), rank, bells, _look_at_parent)))


def prepare_to_serve() -> None:
    """Make this process another member's: of one thread, and keeping the memory that it frees."""
    from funcnn.system.memory import keep_freed_memory  # here, so that an import alone sets nothing

    threads.set_threads(1)
    threadpool_limits(1)
    keep_freed_memory()


def serve(member: Member) -> None:
    """Run the first member's calls until the team is stopped, or until one fails here, which stops it."""
    room = member.room
    try:
        while True:
            room.gather(None)[0].run(member)
    except Stopped:
        pass
    except BaseException as error:
        room.stop(failed=_sendable(error, room.rank))


def _look_at_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


def _sendable(error: BaseException, rank: int) -> BaseException:
    """The error as it can be raised in another process, with where it was raised here."""
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(Exception):
        copy: BaseException = pickle.loads(pickle.dumps(error))
        copy.add_note(f"In member {rank} of the team:\n{text}"[-20_000:])
        if len(pickle.dumps(copy)) <= CAPACITY // 2:
            return copy
    return TeamError(f"member {rank} of the team failed:\n{text[-20_000:]}")
