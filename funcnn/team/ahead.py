"""Steps on a device, the batches prepared on the host and moved while the device computes."""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

from funcnn import tree
from funcnn.arrays.finite import all_finite
from funcnn.batch import Batch
from funcnn.device import device_of_tree, first_array
from funcnn.problem import Examples, Problem
from funcnn.team.calls import FromOrder
from funcnn.team.member import epoch_order
from funcnn.team.step import ADVICE, Metrics, NonFiniteError, TrainState, prepared, step_on, there
from funcnn.tree import Array

__all__ = ["Ahead", "check_there"]


class Ahead:
    """Takes the steps of a run, and has the next batch made meanwhile: it follows from the seed and the step alone."""

    def __init__(self, problem: Problem, examples: Examples) -> None:
        self.problem, self.examples = problem, examples
        self.order: tuple[int, Array] | None = None
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="funcnn-ahead")
        self.coming: tuple[Any, Future[Batch]] | None = None

    def step(self, state: TrainState, batch: FromOrder, following: FromOrder | None) -> tuple[TrainState, Metrics]:
        """One step; `following` is the batch of the next one, if there is one."""
        wanted = state.seed, state.step, batch
        if self.coming is None or self.coming[0] != wanted:
            self._begin(state, wanted)
        assert self.coming is not None
        made = self.coming[1].result()
        self.coming = None
        if following is not None:
            self._begin(state, (state.seed, state.step + 1, following))
        return step_on(self.problem, state, made)

    def _begin(self, state: TrainState, wanted: tuple[int, int, FromOrder]) -> None:
        self.coming = wanted, self.thread.submit(self._batch, state, *wanted)

    def _batch(self, state: TrainState, seed: int, step: int, place: FromOrder) -> Batch:
        if self.order is None or self.order[0] != place.epoch:
            self.order = place.epoch, epoch_order(seed, place.epoch, len(self.examples))
        taken = self.examples.take(self.order[1][place.first : place.last])
        at = TrainState(state.params, None, None, step, seed)
        batch = prepared(self.problem, at, taken)
        # Of several GPUs each thread has its own.
        with getattr(first_array((state.params, state.state)), "device", nullcontext()):
            return there(batch, at)

    def close(self) -> None:
        """End the thread."""
        self.thread.shutdown(wait=True, cancel_futures=True)


def check_there(state: TrainState, mean: Metrics) -> None:
    """Raise NonFiniteError if what a run has on a device is not finite: it is looked at now and then, not at each step.

    On the host, each step looks.
    """
    if device_of_tree(state.params) == "cpu":
        return
    bad = None
    if math.isfinite(mean.loss):
        values = state.params, state.state
        named = zip(tree.paths(values), tree.flatten(values), strict=True)
        bad = next((path for path, leaf in named if not all_finite(leaf)), None)
        if bad is None:
            return
    what = f"the loss became {mean.loss}" if bad is None else f"{bad} of the params and the state is not finite"
    raise NonFiniteError(
        f"step {state.step}: {what} since the last look, on the device. {ADVICE}; labels or numbers out of their range "
        "give NaN there. On the CPU the same run names the step and the place"
    )
