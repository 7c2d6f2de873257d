"""What a Jupyter notebook shows while a program runs: a bar and curves, drawn anew in their place.

It needs IPython alone, which a notebook has: no widgets.
"""

import html
import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from funcnn.report.figures import can_draw
from funcnn.report.history import Row, row_of
from funcnn.report.pictures import draw_curves
from funcnn.system.text import cut, printable, show
from funcnn.train import Epoch, Step

__all__ = ["Meter", "Place", "in_notebook", "live_curves"]

_PATIENCE = 4  # as long as a picture took to draw, so often, before the next one


def live_curves(events: Iterable[Step | Epoch], *, title: str = "") -> Iterator[Step | Epoch]:
    """Pass training's events on, showing the curves of loss and accuracy in a notebook, drawn anew after epochs.

    Drawing takes at most a fifth of the time, so that of short epochs some are drawn together; the last picture has
    them all, also when the loop breaks off. What fails in drawing is said, and ends the curves, never the training.
    Outside a notebook, nothing is shown.

    >>> from funcnn import Key
    >>> from funcnn.data import load
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.models import fully_connected
    >>> from funcnn.optimizers import adam
    >>> from funcnn.train import Problem, init_state, train
    >>> data = load("digits")
    >>> problem = Problem(fully_connected([16], 10), softmax_cross_entropy, adam(0.01))
    >>> state = init_state(problem, Key(0), data.in_shape)
    >>> for event in live_curves(train(problem, state, data, epochs=2, batch_size=64)):
    ...     if isinstance(event, Epoch):
    ...         state = event.state
    >>> state.step
    42
    """
    if not in_notebook() or not can_draw(show):
        yield from events
        return
    rows: list[Row] = []
    place, drawn, due = Place(), 0, 0.0

    def draw() -> tuple[int, float]:
        started = time.perf_counter()
        try:
            place.show(draw_curves(rows, title=title))
        except Exception as error:
            show(f"no more curves: {type(error).__name__}: {cut(printable(error), 300)}")
            return len(rows), math.inf
        now = time.perf_counter()
        return len(rows), now + _PATIENCE * (now - started)

    try:
        for event in events:
            if place.empty:
                place.show(_Nothing())  # above all that is printed in the loop
            if isinstance(event, Epoch):
                rows.append(row_of(event))
                if time.perf_counter() >= due:
                    drawn, due = draw()
            yield event
    finally:
        if drawn < len(rows) and due < math.inf:
            draw()


def in_notebook() -> bool:
    """Whether the program runs in a notebook's kernel, which shows pictures and pages.

    >>> in_notebook()
    False
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class Place:
    """A place in a notebook's output: what is shown there last replaces all before."""

    def __init__(self) -> None:
        self._handle: Any = None

    @property
    def empty(self) -> bool:
        """Whether nothing has been shown there yet."""
        return self._handle is None

    def show(self, value: Any) -> None:
        """Show a value, as a notebook shows the last one of a cell."""
        import IPython.display

        display: Any = IPython.display.display
        if self._handle is None:
            self._handle = display(value, display_id=True)
        else:
            self._handle.update(value)


class _Nothing:
    """What keeps a place in the output, and is not seen."""

    def __repr__(self) -> str:
        return ""

    def _repr_html_(self) -> str:
        return ""


@attrs.frozen(repr=False)
class Meter:
    """A bar that is filled to a share of 1, and a text beside it.

    >>> Meter(0.25, "epoch 1/4")
     25% epoch 1/4
    """

    share: float
    text: str

    def __repr__(self) -> str:
        return f"{self.share:4.0%} {self.text}"

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self.share:.4f}" style="width: 12em; vertical-align: middle"></progress>'
        return f'{bar} <code style="background: none">{html.escape(repr(self))}</code>'
