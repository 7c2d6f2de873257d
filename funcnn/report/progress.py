"""Progress of training: a bar on a terminal and in a notebook, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from funcnn.report.notebook import Meter, Place, in_notebook
from funcnn.settings import as_int, refuse
from funcnn.system.text import Screen, cut, printable
from funcnn.train import Epoch, Step

__all__ = ["epoch_lines", "progress", "step_line"]

_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"  # the bar takes what is left of the line
_PAUSE = 0.1  # seconds between two looks of a notebook's bar


def progress(
    events: Iterable[Step | Epoch],
    *,
    epochs: int,
    print_every: int = 0,
    quiet: bool = False,
    stream: TextIO | None = None,
) -> Iterator[Step | Epoch]:
    """Pass training's events on, showing them: a bar for the run, and a line for each epoch and every k-th step.

    On a terminal (and with tqdm) or in a notebook the bar has how much of the epoch and of the run is done, the batch's
    loss and accuracy, the epoch's mean accuracy so far, and the run's time so far and remaining. Elsewhere there are
    only the lines, so that a log stays readable. The epochs' lines are a table, with a header above the first. Quiet
    shows nothing. A stream that fails ends what is shown, never the training.

    >>> from funcnn import Key
    >>> from funcnn.data import load
    >>> from funcnn.losses import softmax_cross_entropy
    >>> from funcnn.models import fully_connected
    >>> from funcnn.optimizers import adam
    >>> from funcnn.train import Problem, init_state, train
    >>> problem, data = Problem(fully_connected([8], 10), softmax_cross_entropy, adam(1e-3)), load("digits")
    >>> events = train(problem, init_state(problem, Key(0), data.in_shape), data, epochs=1, batch_size=512)
    >>> [event.epoch for event in progress(events, epochs=1, quiet=True) if isinstance(event, Epoch)]
    [1]

    Raises ValueError, before the first event, for epochs or steps that are no ints.
    """
    for name, given in (("epochs", epochs), ("print_every", print_every)):
        if not isinstance(as_int(given), int):
            refuse("progress", name, "an int", given)
    if quiet:
        yield from events
        return
    screen = Screen(sys.stdout if stream is None else stream)
    bar: _Bar = _NotebookBar(epochs, screen) if stream is None and in_notebook() else _Bar(epochs, screen)
    header = ""
    started, first_epoch = time.perf_counter(), 0
    try:
        for event in events:
            if isinstance(event, Step):
                if not bar.started:
                    first_epoch = event.epoch - 1
                bar.step(event)
                if print_every and event.step % print_every == 0:
                    bar.line(step_line(event))
            else:
                elapsed = time.perf_counter() - started
                left = elapsed / max(event.epoch - first_epoch, 1) * (epochs - event.epoch)
                its_header, line = epoch_lines(event, left)
                if its_header != header:  # it is the first, or other parts are measured than before
                    header, line = its_header, f"{its_header}\n{line}"
                bar.line(line)
            yield event
    finally:
        bar.close()


class _Bar:
    """tqdm's bar, and lines above it; the lines alone where there is no terminal, or tqdm is missing or fails."""

    def __init__(self, epochs: int, screen: Screen) -> None:
        self.epochs, self.screen = epochs, screen
        self.started = False
        self.tqdm: Any = None

    def step(self, event: Step) -> None:
        with self._as_far_as_it_goes():
            if not self.started:
                self.started = True
                self._start(event)
            if self.tqdm is not None:
                self.tqdm.set_description_str(f"{self.place(event)}, run", refresh=False)
                self.tqdm.event = event
                self.tqdm.update()

    def place(self, event: Step) -> str:
        """Which epoch it is, and how much of it is done."""
        return f"epoch {event.epoch}/{self.epochs} {event.batch / event.batches:4.0%}"

    def _start(self, first: Step) -> None:
        if not self.screen.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            print('For a progress bar: pip install "funcnn[progress]"', file=self.screen)
            return

        class Bar(tqdm):  # type: ignore[misc]
            """It asks for a step's measures only when it draws: to read those of a device is to wait for it."""

            event: Step | None = None

            @property
            def format_dict(self) -> Any:
                return super().format_dict | ({} if self.event is None else {"postfix": _measures(self.event)})

        self.tqdm = Bar(
            total=self.epochs * first.batches, initial=first.step - 1,
            file=self.screen, bar_format=_BAR, leave=False, dynamic_ncols=True,
        )  # fmt: skip

    def line(self, text: str) -> None:
        if self.tqdm is not None:
            with self._as_far_as_it_goes():
                self.tqdm.write(text, file=self.screen)
                return
        print(text, file=self.screen, flush=True)

    def close(self) -> None:
        if self.tqdm is not None:
            with self._as_far_as_it_goes():
                self.tqdm.close()

    @contextmanager
    def _as_far_as_it_goes(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # of another version of tqdm, of the variables TQDM_... in the environment, of a notebook
            self.tqdm = None


class _NotebookBar(_Bar):
    """A bar in a notebook's output, and lines below it."""

    def __init__(self, epochs: int, screen: Screen) -> None:
        super().__init__(epochs, screen)
        self.shown, self.first, self.begun = Place(), 0, time.perf_counter()
        self.last: Step | None = None
        self.due = 0.0

    def step(self, event: Step) -> None:
        if not self.started:
            self.started, self.first = True, event.step - 1
        self.last = event
        if time.perf_counter() >= self.due:
            self._show(event)

    def close(self) -> None:
        if self.last is not None:
            self._show(self.last)

    def _show(self, event: Step) -> None:
        total, seconds = self.epochs * event.batches, time.perf_counter() - self.begun
        left = seconds / (event.step - self.first) * (total - event.step)
        text = f"{self.place(event)}, {_measures(event)}, {_clock(seconds)}<{_clock(left)}"
        with self._as_far_as_it_goes():
            self.shown.show(Meter(event.step / total, text))
        self.due = time.perf_counter() + _PAUSE


def _measures(event: Step) -> str:
    """A batch's loss and accuracy, and the epoch's mean so far."""
    shown = f"loss {_number(event.loss, 3)}"
    if event.accuracy is not None:
        shown += f" acc {_number(event.accuracy, 3)} mean {_number(event.epoch_accuracy)}"
    return shown


def step_line(event: Step) -> str:
    """A step in a line: its number, its place in the epoch, its batch's loss and accuracy."""
    accuracy = "" if event.accuracy is None else f" accuracy {_number(event.accuracy)}"
    place = f"{event.batch / event.batches:.0%} of epoch {event.epoch}"
    return f"step {event.step:,} ({place})  loss {_number(event.loss)}{accuracy}"


def epoch_lines(event: Epoch, seconds_left: float) -> tuple[str, str]:
    """An epoch in a line, and the header above it: they fit 80 characters, and lines of one header are a table.

    It has the mean loss and accuracy of the epoch's steps, each part's accuracy after it (``train`` is the subset's),
    the learning rate, seconds and time remaining. Without a metric the losses stand for the accuracies.
    """
    place = f"{event.epoch}/{event.epochs}"
    columns = [("epoch", place, len(f"{event.epochs}/{event.epochs}")), ("loss", _number(event.train.loss), 6)]
    if event.train.accuracy is not None:
        columns.append(("accuracy", _number(event.train.accuracy), 6))
    for name, metrics in (("train", event.subset), ("validation", event.validation), ("test", event.test)):
        if metrics is not None:
            columns.append((name, _number(metrics.loss if metrics.accuracy is None else metrics.accuracy), 6))
    columns.append(("lr", f"{event.learning_rate:.3g}", 8))
    columns.append(("sec", f"{event.seconds:.2f}", 6))
    columns.append(("left", _clock(seconds_left), 5))
    widths = [max(len(name), width) for name, _, width in columns]
    header = (name.rjust(width) for (name, _, _), width in zip(columns, widths, strict=True))
    line = (text.rjust(width) for (_, text, _), width in zip(columns, widths, strict=True))
    return "  ".join(header), "  ".join(line)


def _number(value: Any, digits: int = 4) -> str:
    """A loss or a metric: with so many digits, and in a few characters however large; what is no number as it is."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return cut(printable(value), 8)
    return f"{value:z.{digits}f}" if abs(value) < 1000 else f"{value:.{digits}g}"


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
