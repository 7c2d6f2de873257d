"""How a run's values lie in shared memory, and which part of them a member of a team updates."""

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import attrs
import numpy as np

from funcnn import tree
from funcnn.optimizers import Optimizer
from funcnn.problem import Problem
from funcnn.team.shared import Place, lay_out, views
from funcnn.team.step import Model, TrainState
from funcnn.tree import Array

__all__ = [
    "Plan", "StateMemory", "byte_ranges", "copy", "division_of", "path_at", "piece", "plan_for", "values_of", "write",
]  # fmt: skip

Division = Literal["vector", "leaves", "first"]


@attrs.frozen
class Plan:
    """The places of a state (params, the net's state, the optimizer's), and for each shard of its gradients.

    `gradients` is the number of these rows' block. `division` says how the optimizer's work is divided. Each member has
    a part of all numbers, which it takes for one vector ("vector") or as parts of the leaves ("leaves"); or the first
    member has them all ("first").
    """

    state: tuple[Any, Any, Any]
    rows: tuple[Any, ...]
    gradients: int
    division: Division


def values_of(state: TrainState | Model) -> tuple[Any, Any, Any]:
    """What lies in memory of a state: params, the net's state, and the optimizer's, which a model has not."""
    return state.params, state.state, state.opt_state if isinstance(state, TrainState) else None


def plan_for(state: TrainState | Model, shards: int) -> tuple[tuple[Any, Any, Any], int, tuple[Any, ...], int]:
    """The places of a state and their end; the places of the shards' gradients and their end.

    Raises TreeError for a state that does not consist of arrays.
    """
    places, end = [], 0
    for values in values_of(state):
        its_places, end = lay_out(values, end)
        places.append(its_places)
    rows, rows_end = [], 0
    for _ in range(shards):
        its_places, rows_end = lay_out(state.params, rows_end)
        rows.append(its_places)
    return (places[0], places[1], places[2]), end, tuple(rows), rows_end


def division_of(problem: Problem, state: TrainState | Model) -> Division:
    """How the optimizer's work may be divided.

    An optimizer that treats every number by itself may update a part of them, if its state consists of trees like the
    params; and if it asks no mask about leaves, it may take them all for one vector.
    """
    optimizer = problem.optimizer
    params, _, moments = map(_forms, values_of(state))
    shapes = [shape for shape, _ in params]
    if not (
        params and optimizer.elementwise and [shape for shape, _ in moments] == shapes * (len(moments) // len(params))
    ):
        return "first"
    if not _consists_of_trees_like_params(optimizer, state.params, len(moments) // len(params)):
        return "first"
    dtypes = {dtype for _, dtype in params}, {dtype for _, dtype in moments}
    alike = len(dtypes[0]) == 1 and len(dtypes[1]) <= 1
    return "vector" if alike and not optimizer.asks_masks else "leaves"


def _consists_of_trees_like_params(optimizer: Optimizer, params: Any, count: int) -> bool:
    """Whether an optimizer's state is so many trees like the params, one after the other."""
    # Leaves that differ all in size tell their order.
    sizes = [(i + 2,) for i in range(len(tree.flatten(params)))]
    try:
        made = tree.flatten(optimizer.init(tree.unflatten(params, [np.zeros(size, np.float32) for size in sizes])))
    except Exception:  # an optimizer of one's own may look at more than that
        return False
    return [np.shape(leaf) for leaf in made] == sizes * count


def path_at(places: Any, number: int) -> str:
    """The path of the leaf that has a number, of all numbers one after the other."""
    for path, leaf in zip(tree.paths(places), tree.flatten(places), strict=True):
        if number < leaf.size:
            return path
        number -= leaf.size
    raise IndexError(number)


def _forms(values: Any) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    return [(leaf.shape, leaf.dtype) for leaf in tree.flatten(values)]


def piece(places: Any, memory: Array, part: tuple[int, int], division: Division) -> Any:
    """Of a tree at places, part k of n of its numbers: the tuple of one vector, or a tree of parts of the leaves.

    >>> places, end = lay_out((np.zeros((2, 2)), np.zeros(3)))
    >>> memory = np.zeros(end, np.uint8)
    >>> [each.size for each in piece(places, memory, (1, 2), "leaves")], piece(places, memory, (1, 2), "vector")[0].size
    ([1, 3], 4)
    """
    leaves: list[Place] = tree.flatten(places)
    total = sum(leaf.size for leaf in leaves)
    first, last = (total * k // part[1] for k in (part[0], part[0] + 1))
    if division == "vector":
        dtype, start = leaves[0].dtype, leaves[0].start
        return (memory[start + first * dtype.itemsize : start + last * dtype.itemsize].view(dtype),)
    parts, start = [], 0
    for leaf in leaves:
        low, high = (min(max(bound - start, 0), leaf.size) for bound in (first, last))
        begin = leaf.start + low * leaf.dtype.itemsize
        parts.append(memory[begin : begin + (high - low) * leaf.dtype.itemsize].view(leaf.dtype))
        start += leaf.size
    return tree.unflatten(places, parts)


def byte_ranges(places: Any, size: int) -> list[slice]:
    """Where the parts of `piece` lie in the memory, for each of so many members: bytes without gaps between them.

    >>> byte_ranges(lay_out((np.zeros((2, 2)), np.zeros(3)))[0], 2)
    [slice(0, 24, None), slice(24, 56, None)]
    """
    leaves: list[Place] = tree.flatten(places)
    total = sum(leaf.size for leaf in leaves)

    def byte_of(number: int) -> int:
        for leaf in leaves:
            if number < leaf.size:
                return leaf.start + number * leaf.dtype.itemsize
            number -= leaf.size
        return leaves[-1].start + leaves[-1].size * leaves[-1].dtype.itemsize if leaves else 0

    bounds = [byte_of(total * member // size) for member in range(size + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(bounds)]


class StateMemory:
    """The memory of a state as a member sees it."""

    def __init__(self, plan: Plan, memory: Array, part: tuple[int, int], optimizer: Optimizer) -> None:
        self.plan, self.memory, self.part, self.optimizer = plan, memory, part, optimizer
        self._read = memory.view()
        self._read.flags.writeable = False
        self.params, self.state, self.opt_state = views(plan.state, self._read)
        self._places = [(place.shape, place.dtype, place.start) for place in tree.flatten(plan.state)]

    def seen_through(self, memory: Array) -> tuple[Any, Any, Any]:
        """(params, state, opt_state) as views of another array of this memory's bytes."""
        leaves = [np.ndarray(shape, dtype, memory, start) for shape, dtype, start in self._places]
        return tree.unflatten((self.params, self.state, self.opt_state), leaves)

    @cached_property
    def written(self) -> tuple[Any, Any, Any]:
        """(params, state, opt_state) to be written."""
        return views(self.plan.state, self.memory)  # type: ignore[no-any-return]

    @cached_property
    def share(self) -> tuple[Any, Any]:
        """This member's part of the params and of the optimizer's state, as the optimizer would make it for these."""
        return self._share_in(self._read)

    @cached_property
    def share_written(self) -> tuple[Any, Any]:
        """The same to be written."""
        return self._share_in(self.memory)

    def _share_in(self, memory: Array) -> tuple[Any, Any]:
        places, _, moments = self.plan.state
        params = piece(places, memory, self.part, self.plan.division)
        count = len(tree.flatten(places))
        groups = tree.flatten(moments)
        parts: list[Array] = []
        for i in range(0, len(groups), count):
            group = tree.unflatten(places, groups[i : i + count])
            parts += tree.flatten(piece(group, memory, self.part, self.plan.division))
        return params, tree.unflatten(self.optimizer.init(params), parts)

    @cached_property
    def written_by_leaf(self) -> list[tuple[Array, ...]]:
        """For each leaf of the share to be written, it and its moments."""
        params, opt_state = self.share_written
        leaves, moments = tree.flatten(params), tree.flatten(opt_state)
        return [(leaf, *moments[i :: len(leaves)]) for i, leaf in enumerate(leaves)]


def write(values: Any, memory: Any) -> None:
    """Copy the arrays of a tree into those of another, where they are not there already.

    Raises TreeError if they differ in structure, shape or dtype.
    """
    tree.check_like(memory, values, ("the old state", "the new one"), shapes=True)
    copy(tree.flatten(values), tree.flatten(memory))


def copy(values: Sequence[Array], memory: Sequence[Array]) -> None:
    """`write`, for lists of arrays of the same shapes."""
    for target, value in zip(memory, values, strict=True):
        if value.dtype != target.dtype:
            raise tree.TreeError(f"the new state has an array of {value.dtype} for one of {target.dtype}")
        if value.base is not target and not np.may_share_memory(target, value):
            target[...] = value
