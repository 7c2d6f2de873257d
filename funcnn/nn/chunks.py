"""The run of a stage in chunks: cut the batch, send each chunk through the layers, let them meet, join what they give.

Gradients are added up in the order of the chunks, so results do not depend on the number of threads.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from funcnn import tree
from funcnn.arrays import threads
from funcnn.arrays.layout import images, rows
from funcnn.checks import LayerError, ShapeError, check_dy_array
from funcnn.keys import Key, fold_in
from funcnn.layer import Values
from funcnn.nn.coupled import Coroutine, apply_chunk, backward_chunk, resume, together
from funcnn.nn.stages import Link

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


def apply_in_chunks(links: Sequence[Link], batch: Batch, xs: Sequence[Values]) -> Coroutine:
    """Chunks through the links of a stage: returns the joined y, the chunks' residuals, the states by position."""
    chunks = yield from together([_forward(links, batch, j, x) for j, x in enumerate(xs)])
    ys, residuals, states = zip(*chunks, strict=True)
    return join(ys), residuals, states[0]


def _forward(links: Sequence[Link], batch: Batch, j: int, x: Values) -> Coroutine:
    """The way of chunk j through the links: returns y, the residuals of each, the states by position.

    Layer i draws from ``k = fold_in(key, i)`` where the batch is whole, and here from ``fold_in(k, j)``.
    """
    kept, states = [], {}
    for link in links:
        i = link.i
        try:
            key = fold_in(fold_in(batch.key, i), j) if link.draws and batch.key is not None else None
            state = batch.state[i]
            x, states[i], residuals = yield from apply_chunk(
                link.layer, batch.params[i], state, x, key=key, train=batch.train
            )
            if states[i] is not state and not link.meets:
                _check_unchanged(link, state, states[i])
        except Exception as error:
            link.blame(error)
            raise
        kept.append(residuals)
    return x, tuple(kept), states


def _check_unchanged(link: Link, state: Any, new_state: Any) -> None:
    if not tree.equal(state, new_state):
        raise LayerError(
            repr(link.layer),
            "it changed its state for a chunk of the batch, though it says by_chunks = True",
            "Leave by_chunks out: the layer then gets the whole batch, and its new state is kept",
        )


# --- Backward -------------------------------------------------------------------------------------------------


def backward_in_chunks(
    links: Sequence[Link], params: Any, kept: Sequence[Any], dys: Sequence[Values], *, first: int, need_dx: bool
) -> Coroutine:
    """Chunks back through the links, as far as layer `first`: returns the gradients by position, the joined dx."""
    chunks = [_back(links, params, its, dy, first, need_dx) for its, dy in zip(kept, dys, strict=True)]
    tasks = [partial(resume, chunk) for chunk in chunks]
    if any(link.meets and link.i >= first for link in links):
        made = yield from together(chunks)
        tasks = [partial(_given, each) for each in made]
    sums, dxs = add_up(tasks)
    return sums, join(dxs)


def _given(value: T) -> T:
    return value


def _back(links: Sequence[Link], params: Any, kept: Sequence[Any], dy: Any, first: int, need_dx: bool) -> Coroutine:
    """The way of a chunk back, as far as layer `first`: returns the gradients by position, and dx."""
    gradients = {}
    for link, residuals in zip(reversed(links), reversed(kept), strict=True):
        i = link.i
        if i < first:
            break
        try:
            gradients[i], dy = yield from backward_chunk(
                link.layer, params[i], residuals, dy, need_dx=need_dx or i > first
            )
        except Exception as error:
            link.blame(error)
            raise
    return gradients, dy


# --- Cutting, joining, adding up ------------------------------------------------------------------------------


def cut(x: Values, sizes: Sequence[int]) -> list[Values]:
    """A batch as chunks of the given sizes, all views."""
    if len(sizes) == 1:
        return [x]
    if type(x) is tuple:
        return list(zip(*[cut(each, sizes) for each in x], strict=True))
    ends = np.cumsum(sizes).tolist()
    return [x[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def cut_like(name: str, dy: Values, sizes: Sequence[int]) -> list[Values]:
    """A batch's dy as chunks of the sizes that its x had; raises ShapeError unless they add up."""
    if type(dy) is tuple:
        return list(zip(*[cut_like(name, each, sizes) for each in dy], strict=True))
    check_dy_array(name, dy)
    if dy.shape[:1] != (sum(sizes),):
        raise ShapeError(
            name,
            f"expected dy for a batch of {sum(sizes)} examples, got {dy.shape}",
            "Pass the residuals and the dy of the same batch",
        )
    return cut(dy, sizes)


def join(xs: Sequence[Values]) -> Values:
    """The chunks as one batch again; of tuples a tuple, in which None stays None."""
    if len(xs) == 1 or xs[0] is None:
        return xs[0]
    if type(xs[0]) is tuple:
        return tuple([join(each) for each in zip(*xs, strict=True)])
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
    sums = tree.map(lambda x, y: (x + y)[...], tuple(a.values()), tuple(b.values()))
    return dict(zip(a, sums, strict=True))
