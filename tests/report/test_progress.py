"""Progress: the lines of epochs and steps, and the bar on a terminal."""

import fcntl
import io
import pty
import re
import struct
import sys
import termios
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from funcnn.report.progress import epoch_lines, progress, step_line
from funcnn.train import Epoch, Metrics, Step


@pytest.fixture(autouse=True)
def _a_terminal_that_moves(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def step(number, accuracy=0.5, batches=2):
    epoch, batch = divmod(number - 1, batches)
    return Step(number, 1 + epoch, 1 + batch, batches, 0.5, accuracy, 0.6, accuracy and 0.625, 0.1)


def epoch(number, epochs=2, validation=None, **parts):
    return Epoch(number, epochs, None, Metrics(0.5, 0.75), validation, 0.1, 1.5, **parts)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def events():
    parts = {"subset": Metrics(0.3, 0.9), "test": Metrics(0.6, 0.7)}
    return [step(1), step(2), epoch(1, validation=Metrics(0.4, 0.8), **parts), step(3), step(4), epoch(2)]


def shown(given, stream=None, **settings):
    """What progress shows of these events."""
    stream = stream or io.StringIO()
    list(progress(given, **{"epochs": 2, "stream": stream} | settings))
    return stream.getvalue() if isinstance(stream, io.StringIO) else ""


@pytest.mark.parametrize("settings", [{}, {"print_every": 1}, {"quiet": True}], ids=str)
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_progress_passes_every_event_on_unchanged(settings, stream):
    given = events()
    passed = list(progress(iter(given), epochs=2, stream=stream(), **settings))
    assert [id(event) for event in passed] == [id(event) for event in given]


def test_progress_without_a_terminal_is_a_line_per_epoch_below_a_header():
    assert shown([*events(), epoch(3)]).splitlines() == [
        "epoch    loss  accuracy   train  validation    test        lr     sec   left",
        "  1/2  0.5000    0.7500  0.9000      0.8000  0.7000       0.1    1.50   0:00",
        "epoch    loss  accuracy        lr     sec   left",  # from here on no other part is measured
        "  2/2  0.5000    0.7500       0.1    1.50   0:00",
        "  3/2  0.5000    0.7500       0.1    1.50   0:00",
    ]


def test_an_epochs_line_has_losses_where_there_is_no_metric():
    event = attrs.evolve(epoch(9, epochs=120, validation=Metrics(0.4, None)), train=Metrics(0.5, None))
    assert epoch_lines(event, 0) == (
        "  epoch    loss  validation        lr     sec   left",
        "  9/120  0.5000      0.4000       0.1    1.50   0:00",
    )


def test_an_epochs_line_fits_a_terminal_however_long_the_run():
    parts = dict.fromkeys(("validation", "subset", "test"), Metrics(2.5, 0.5))
    event = attrs.evolve(epoch(100, epochs=200, **parts), learning_rate=1.234e-05, seconds=359.99)
    header, line = epoch_lines(event, 35_999)
    assert line.split() == [
        *["100/200", "0.5000", "0.7500", "0.5000", "0.5000", "0.5000", "1.23e-05", "359.99", "9:59:59"]
    ]
    assert max(len(header), len(line)) <= 80


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.7, "1:00"), (61, "1:01"), (3599, "59:59"), (3725, "1:02:05")]
)
def test_an_epochs_line_has_the_time_that_is_left(seconds, text):
    assert epoch_lines(epoch(1), seconds)[1].split()[-1] == text


@pytest.mark.parametrize(("done", "left"), [(0, ["4:00", "2:00"]), (1, ["2:00"])], ids=["from the start", "resumed"])
def test_the_time_that_is_left_is_that_of_the_epochs_so_far(done, left, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    module = sys.modules[progress.__module__]  # whose name in its package is the function's
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def slow():
        for number in range(2 * done + 1, 7):
            clock.now += 60
            yield step(number)
            if number % 2 == 0:
                yield epoch(number // 2, epochs=3)

    lines = shown(slow(), epochs=3).splitlines()[1:]
    assert [line.split()[-1] for line in lines] == [*left, "0:00"]


def test_a_steps_line_has_its_place_loss_and_accuracy():
    assert step_line(step(1234, batches=1000)) == "step 1,234 (23% of epoch 2)  loss 0.5000 accuracy 0.5000"
    assert step_line(step(2, accuracy=None)) == "step 2 (100% of epoch 1)  loss 0.5000"


@pytest.mark.parametrize("first", [0, 3, 7, 8], ids=lambda first: f"after step {first}")
@pytest.mark.parametrize("every", [1, 3, 4, 100])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_there_is_a_line_for_every_kth_step_of_the_run(first, every, stream):
    """The number of a step is that in the run, so that a run that goes on prints the lines it would have printed."""
    given = [step(number, batches=7) for number in range(first + 1, 15)]
    printed = re.findall(r"(?:^|[\r\n])step (\d+) ", shown(given, stream(), print_every=every))
    assert [int(number) for number in printed] == [number for number in range(first + 1, 15) if number % every == 0]


def test_without_print_every_no_step_has_a_line():
    assert "step" not in shown(events())


def everything_on(screen):
    """What a terminal was sent up to the line of the last of `events`; it comes in pieces."""
    seen = b""
    while not re.search(rb"[\r\n] +2/2 ", seen):
        seen += screen.read(2**16)
    return seen.decode()


@pytest.mark.parametrize("first", [1, 3], ids=["from the start", "resumed"])
def test_progress_on_a_terminal_of_80_columns_has_both_shares_the_times_loss_and_accuracies_in_a_line(first):
    given = [event for event in events() if not isinstance(event, Step) or event.step >= first]
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(follower, "w", encoding="utf-8") as stream, open(leader, "rb", buffering=0) as screen:
        shown(given, stream, print_every=1)
        lines = re.split(r"[\r\n]+", everything_on(screen))
    assert max(map(len, lines)) < 80
    for number in range(first, 5):
        place = f"epoch {(number + 1) // 2}/2 {100 - number % 2 * 50:3}%, run {number * 25:3}%|"
        (drawn, *_) = [line for line in lines if line.startswith(place)]
        assert re.search(r"\| \d\d:\d\d<\d\d:\d\d, loss 0\.500 acc 0\.500 mean 0\.6250$", drawn)


def test_the_bar_is_gone_when_the_run_is_done():
    last = shown(events(), Terminal()).split("\r")[-2:]
    assert [each.strip() for each in last] == ["", ""]


def test_progress_on_a_terminal_without_tqdm_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = Terminal()
    list(progress(events(), epochs=2, stream=stream))
    assert stream.getvalue().startswith('For a progress bar: pip install "funcnn[progress]"')
    assert stream.getvalue().splitlines()[-1].startswith("  2/2 ")


# --- What fails ends nothing but what is shown ----------------------------------------------------------------


class Gone(Terminal):
    """A terminal that is gone."""

    def write(self, text):
        raise BrokenPipeError


class Bare:
    """A stream that can only write."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("stream", [None, Gone(), Bare(), object()], ids=["none", "gone", "bare", "no stream"])
def test_training_goes_on_whatever_the_stream_is(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    given = events()
    assert list(progress(iter(given), epochs=2, print_every=1)) == given
    if isinstance(stream, Bare):
        assert stream.text.count("\n") == 8  # four steps, and two epochs, each below a header of its own


@pytest.mark.parametrize("settings", [{"epochs": "2"}, {"epochs": None}, {"epochs": 2, "print_every": 0.5}], ids=str)
def test_what_would_fail_after_an_epoch_is_refused_before_it(settings):
    name, value = list(settings.items())[-1]
    with pytest.raises(ValueError, match=re.escape(f"progress: {name} must be an int, got {value!r}")):
        next(progress(events(), **settings))


def other_tqdm(**attributes):
    """A module in tqdm's place whose bar lacks or refuses what is used of it."""
    return SimpleNamespace(tqdm=type("tqdm", (), {"__init__": lambda self, **settings: None} | attributes))


def refuse(*arguments, **settings):
    raise TypeError("another version")


@pytest.mark.parametrize(
    "module",
    [
        SimpleNamespace(),
        other_tqdm(__init__=refuse),
        other_tqdm(),
        other_tqdm(**dict.fromkeys(("set_description_str", "set_postfix_str"), lambda *_, **__: None), update=refuse),
    ],
    ids=["empty", "no such settings", "no such methods", "fails later"],
)
def test_another_tqdm_leaves_the_lines(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", module)
    stream = Terminal()
    given = events()
    assert list(progress(given, epochs=2, stream=stream)) == given
    assert stream.getvalue().splitlines()[-1].startswith("  2/2 ")


def test_a_dumb_terminal_has_lines_alone(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert shown(events(), Terminal()) == shown(events())


@pytest.mark.parametrize("width", [0, 1, 20])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_may_be_narrow_and_lack_characters(width, encoding):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with open(follower, "w", encoding=encoding) as stream, open(leader, "rb", buffering=0) as screen:
        given = events()
        assert list(progress(given, epochs=2, stream=stream)) == given
        assert "epoch 1/2" in everything_on(screen)


def test_the_bar_is_gone_when_training_fails():
    def failing():
        yield step(1)
        raise FloatingPointError

    stream = Terminal()
    with pytest.raises(FloatingPointError) as caught:
        list(progress(failing(), epochs=2, stream=stream))
    assert caught.traceback  # which keeps the bar, so that it is not closed for being dropped
    assert stream.getvalue().split("\r")[-1].strip() == ""
    assert len(stream.getvalue().split("\r")) > 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e300, "1e+300"), (2.34567e23, "2.346e+23"), (float("nan"), "nan"), (float("-inf"), "-inf"), (-1e-9, "0.0000"),
        (np.float32(0.5), "0.5000"), ("a\x1b[1m text", "a\\x1b..."),
    ],
    ids=repr,
)  # fmt: skip
def test_lines_hold_any_number(value, text):
    event = attrs.evolve(epoch(1), train=Metrics(value, value), test=Metrics(value, value))
    line = epoch_lines(event, float("nan"))[1]
    assert line.split() == ["1/2", text, text, text, "0.1", "1.50", "-"]
    assert len(line) <= 80
    assert f"loss {text} accuracy {text}" in step_line(attrs.evolve(step(1), loss=value, accuracy=value))


def test_progress_without_a_metric():
    printed = shown([step(1, accuracy=None)], Terminal(), print_every=1)
    assert "accuracy" not in printed
    assert "loss 0.5000" in printed


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_progress_shows_nothing(stream, capsys):
    assert shown(events(), stream(), quiet=True, print_every=1) == ""
    assert capsys.readouterr() == ("", "")
