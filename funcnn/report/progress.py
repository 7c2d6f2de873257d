"""Progress of training: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from funcnn.train import Epoch, Step

__all__ = ["epoch_lines", "progress", "step_line"]

_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"  # the bar takes what is left of the line


def progress(
    events: Iterable[Step | Epoch],
    *,
    epochs: int,
    print_every: int = 0,
    quiet: bool = False,
    stream: TextIO | None = None,
) -> Iterator[Step | Epoch]:
    """Pass training's events on, showing them: a bar for the run, and a line for each epoch and every k-th step.

    On a terminal (and with tqdm) the bar has how much of the epoch and of the run is done, the batch's loss and
    accuracy, the epoch's mean accuracy so far, and the run's time so far and remaining. Elsewhere there are only the
    lines, so that a log stays readable. The epochs' lines are a table, with a header above the first. Quiet shows
    nothing.
    """
    if quiet:
        yield from events
        return
    stream = stream or sys.stdout
    bar, header = None, ""
    started, first_epoch = time.perf_counter(), 0
    for event in events:
        if isinstance(event, Step):
            if bar is None:
                bar = _bar(event, epochs, stream)
                first_epoch = event.epoch - 1
            _show_step(bar, event, epochs)
            if print_every and event.step % print_every == 0:
                bar.write(step_line(event), file=stream)
        else:
            elapsed = time.perf_counter() - started
            left = elapsed / max(event.epoch - first_epoch, 1) * (epochs - event.epoch)
            its_header, line = epoch_lines(event, left)
            if its_header != header:  # it is the first, or other parts are measured than before
                header, line = its_header, f"{its_header}\n{line}"
            (_NoBar() if bar is None else bar).write(line, file=stream)
        yield event
    if bar is not None:
        bar.close()


class _NoBar:
    """What stands for the bar where there is no terminal, or no tqdm to draw one."""

    def update(self) -> None:
        pass

    def set_description_str(self, text: str, refresh: bool) -> None:
        pass

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        pass

    def write(self, line: str, file: TextIO) -> None:
        print(line, file=file, flush=True)

    def close(self) -> None:
        pass


def _bar(first: Step, epochs: int, stream: TextIO) -> Any:
    if not stream.isatty():
        return _NoBar()
    try:
        from tqdm import tqdm
    except ImportError:
        print('For a progress bar: pip install "funcnn[progress]"', file=stream)
        return _NoBar()
    steps = epochs * first.batches
    return tqdm(total=steps, initial=first.step - 1, file=stream, bar_format=_BAR, leave=False, dynamic_ncols=True)


def _show_step(bar: Any, event: Step, epochs: int) -> None:
    bar.set_description_str(f"epoch {event.epoch}/{epochs} {event.batch / event.batches:4.0%}, run", refresh=False)
    shown = f"loss {event.loss:.3f}"
    if event.accuracy is not None:
        shown += f" acc {event.accuracy:.3f} mean {event.epoch_accuracy:.4f}"
    bar.set_postfix_str(shown, refresh=False)
    bar.update()


def step_line(event: Step) -> str:
    """A step in a line: its number, its place in the epoch, its batch's loss and accuracy."""
    accuracy = "" if event.accuracy is None else f" accuracy {event.accuracy:.4f}"
    place = f"{event.batch / event.batches:.0%} of epoch {event.epoch}"
    return f"step {event.step:,} ({place})  loss {event.loss:.4f}{accuracy}"


def epoch_lines(event: Epoch, seconds_left: float) -> tuple[str, str]:
    """An epoch in a line, and the header above it: they fit 80 characters, and lines of one header are a table.

    It has the mean loss and accuracy of the epoch's steps, each part's accuracy after it (``train`` is the subset's),
    the learning rate, seconds and time remaining. Without a metric the losses stand for the accuracies.
    """
    place = f"{event.epoch}/{event.epochs}"
    columns = [("epoch", place, len(f"{event.epochs}/{event.epochs}")), ("loss", f"{event.train.loss:.4f}", 6)]
    if event.train.accuracy is not None:
        columns.append(("accuracy", f"{event.train.accuracy:.4f}", 6))
    for name, metrics in (("train", event.subset), ("validation", event.validation), ("test", event.test)):
        if metrics is not None:
            columns.append((name, f"{metrics.loss if metrics.accuracy is None else metrics.accuracy:.4f}", 6))
    columns.append(("lr", f"{event.learning_rate:.3g}", 8))
    columns.append(("sec", f"{event.seconds:.2f}", 6))
    columns.append(("left", _clock(seconds_left), 5))
    widths = [max(len(name), width) for name, _, width in columns]
    header = (name.rjust(width) for (name, _, _), width in zip(columns, widths, strict=True))
    line = (text.rjust(width) for (_, text, _), width in zip(columns, widths, strict=True))
    return "  ".join(header), "  ".join(line)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
