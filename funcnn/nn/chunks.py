"""The run of a stage in chunks: cut the batch, send each chunk through the layers, let them meet, join what they give.

Gradients are added up in the order of the chunks, so results do not depend on the number of threads.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from funcnn import tree
from funcnn.arrays import threads
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.layout import images, rows
from funcnn.checks import LayerError, ShapeError, check_dy_array
from funcnn.keys import Key, fold_in
from funcnn.nn.coupled import Coroutine, resume
from funcnn.nn.stages import Link
from funcnn.tree import Array

__all__ = ["Batch", "add_up", "apply_in_chunks", "backward_in_chunks", "cut", "cut_like", "join"]

T = TypeVar("T")
_SUMS = 8  # of chunks' gradients at most, each a task


class Batch(NamedTuple):
    """What the layers share on the way forward: the arguments of `apply`, but for x."""

    params: Any
    state: Any
    key: Key | None
    train: bool


# --- Forward --------------------------------------------------------------------------------------------------


@underflow_is_zero
def apply_in_chunks(
    links: Sequence[Link], batch: Batch, xs: Sequence[Array]
) -> tuple[Array, tuple[Any, ...], dict[int, Any]]:
    """Chunks through the links of a stage: the joined y, the chunks' residuals, the states that have changed."""
    chunks = [_forward(links, batch, j, x) for j, x in enumerate(xs)]
    sent, changed = None, {}
    for link in links if batch.train else ():
        if link.coupled:
            said = threads.run([partial(resume, chunk, sent) for chunk in chunks])
            try:
                sent, changed[link.i] = link.coupled.meet(batch.params[link.i], batch.state[link.i], said)
            except Exception as error:
                link.blame(error)
                raise
    ys, residuals = zip(*threads.run([partial(resume, chunk, sent) for chunk in chunks]), strict=True)
    return join(ys), residuals, changed


def _forward(links: Sequence[Link], batch: Batch, j: int, x: Array) -> Coroutine:
    """The way of chunk j through the links: returns y and the residuals of each.

    Layer i draws from ``k = fold_in(key, i)`` where the batch is whole, and here from ``fold_in(k, j)``.
    """
    kept = []
    for link in links:
        i = link.i
        try:
            if link.coupled and batch.train:
                x, residuals = yield from link.coupled.apply_chunk(batch.params[i], x)
            else:
                key = fold_in(fold_in(batch.key, i), j) if link.draws and batch.key is not None else None
                x, state, residuals = link.layer.apply(batch.params[i], batch.state[i], x, key=key, train=batch.train)
                if state is not batch.state[i]:
                    _check_unchanged(link, batch.state[i], state)
        except Exception as error:
            link.blame(error)
            raise
        kept.append(residuals)
    return x, tuple(kept)


def _check_unchanged(link: Link, state: Any, new_state: Any) -> None:
    if not tree.equal(state, new_state):
        raise LayerError(
            repr(link.layer),
            "it changed its state for a chunk of the batch, though it says by_chunks = True",
            "Leave by_chunks out: the layer then gets the whole batch, and its new state is kept",
        )


# --- Backward -------------------------------------------------------------------------------------------------


@underflow_is_zero
def backward_in_chunks(
    links: Sequence[Link], params: Any, kept: Sequence[Any], dys: Sequence[Array], *, first: int, need_dx: bool
) -> tuple[dict[int, Any], Array | None]:
    """Chunks back through the links of a stage, as far as layer `first`: the gradients by position, the joined dx."""
    chunks = [_back(links, params, its, dy, first, need_dx) for its, dy in zip(kept, dys, strict=True)]
    sent, gradients = None, {}
    for link in reversed(links):
        if link.coupled and link.i >= first:
            sums, said = add_up([partial(resume, chunk, sent) for chunk in chunks])
            try:
                sent, gradients[link.i] = link.coupled.meet_backward(params[link.i], said)
            except Exception as error:
                link.blame(error)
                raise
            gradients |= sums
    sums, dxs = add_up([partial(resume, chunk, sent) for chunk in chunks])
    return gradients | sums, join(dxs) if dxs[0] is not None else None


def _back(links: Sequence[Link], params: Any, kept: Sequence[Any], dy: Any, first: int, need_dx: bool) -> Coroutine:
    """The way of a chunk back, as far as layer `first`: returns gradients by position, and dx.

    Where it meets others it yields the gradients since the last meeting, and what it says. Those that it yields or
    returns are never given twice.
    """
    gradients: dict[int, Any] = {}
    for link, residuals in zip(reversed(links), reversed(kept), strict=True):
        i, needed = link.i, need_dx or link.i > first
        if i < first:
            break
        try:
            if link.coupled:
                chunk = link.coupled.backward_chunk(params[i], residuals, dy, need_dx=needed)
                sent = yield gradients, next(chunk)
                gradients, dy = {}, resume(chunk, sent)
            else:
                gradients[i], dy = link.layer.backward(params[i], residuals, dy, need_dx=needed)
        except Exception as error:
            link.blame(error)
            raise
    return gradients, dy


# --- Cutting, joining, adding up ------------------------------------------------------------------------------


def cut(x: Array, sizes: Sequence[int]) -> list[Array]:
    """A batch as chunks of the given sizes, all views."""
    if len(sizes) == 1:
        return [x]
    ends = np.cumsum(sizes).tolist()
    return [x[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def cut_like(name: str, dy: Array, sizes: Sequence[int]) -> list[Array]:
    """A batch's dy as chunks of the sizes that its x had; raises ShapeError unless they add up."""
    check_dy_array(name, dy)
    if dy.shape[:1] != (sum(sizes),):
        raise ShapeError(
            name,
            f"expected dy for a batch of {sum(sizes)} examples, got {dy.shape}",
            "Pass the residuals and the dy of the same batch",
        )
    return cut(dy, sizes)


def join(xs: Sequence[Array]) -> Array:
    """The chunks as one batch again."""
    if len(xs) == 1:
        return xs[0]
    if xs[0].ndim == 4:  # by rows, as convolution and pooling make images
        return images(np.concatenate([rows(x) for x in xs], axis=-1))
    return np.concatenate(xs)


def add_up(tasks: Sequence[Callable[[], tuple[dict[int, Any], T]]]) -> tuple[dict[int, Any], list[T]]:
    """Run tasks that return (gradients by position, another value): the gradients' sums, and the others in order."""

    def share(part: slice) -> tuple[dict[int, Any], list[T]]:
        sums: dict[int, Any] = {}
        others = []
        for task in tasks[part]:
            gradients, other = task()
            sums = _add(sums, gradients) if sums else gradients
            others.append(other)
        return sums, others

    # A few sums over many chunks each: one for every chunk would make memory grow with parameters × batch.
    shares = threads.for_each(share, threads.slices(len(tasks), -(-len(tasks) // _SUMS)))
    sums = shares[0][0]
    for gradients, _ in shares[1:]:
        sums = _add(sums, gradients)
    return sums, [other for _, others in shares for other in others]


def _add(a: dict[int, Any], b: dict[int, Any]) -> dict[int, Any]:
    sums = tree.map(lambda x, y: np.asarray(x + y), tuple(a.values()), tuple(b.values()))
    return dict(zip(a, sums, strict=True))
