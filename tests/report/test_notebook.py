"""What a notebook shows of a training: a bar, a table below it, and curves, each in its place."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from funcnn.report.notebook import Meter, Place, in_notebook, live_curves
from funcnn.report.progress import progress
from funcnn.train import Epoch, Metrics, Step


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """What the places of a notebook's output have shown."""
    shown: list[list[Any]] = []

    def display(value: Any, *, display_id: bool) -> Any:
        assert display_id
        shown.append([value])
        return SimpleNamespace(update=shown[-1].append)

    module = SimpleNamespace(display=display)
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=module, version_info=(9, 0, 0))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test sets."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    for module in (sys.modules[progress.__module__], sys.modules[live_curves.__module__]):
        monkeypatch.setattr(module, "time", clock)
    return clock


def events(epochs: int, clock: SimpleNamespace, seconds: float = 1.0) -> Iterator[Step | Epoch]:
    """Epochs of two steps, each of which takes so long."""
    for number in range(1, 2 * epochs + 1):
        clock.now += seconds
        epoch, batch = divmod(number - 1, 2)
        yield Step(number, epoch + 1, batch + 1, 2, 0.5, 0.5, 0.6, 0.625, 0.1)
        if batch:
            state: Any = None
            yield Epoch(epoch + 1, epochs, state, Metrics(0.5, 0.75), Metrics(0.4, 0.8), 0.1, 2.0)


def test_a_notebook_has_a_bar_with_the_table_of_the_epochs_below(
    places: list[list[Any]], clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    given = list(events(2, clock))
    clock.now = 0.0
    assert list(progress(iter(given), epochs=2)) == given
    (bar,) = places
    assert repr(bar[-1]) == "100% epoch 2/2 100%, loss 0.500 acc 0.500 mean 0.6250, 0:00<0:00"
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["epoch", "1/2", "2/2"]


def test_a_bar_has_the_time_that_is_left_and_is_drawn_ten_times_a_second_at_most(
    places: list[list[Any]], clock: SimpleNamespace
) -> None:
    list(progress(events(50, clock, 0.02), epochs=50))
    (bar,) = places
    assert 15 <= len(bar) <= 22  # of 100 steps in two seconds
    assert bar[-1].share == 1
    clock.now = 0.0
    for event in progress(events(50, clock, 6.0), epochs=50):
        if isinstance(event, Step) and event.step == 25:
            assert repr(places[1][-1]).endswith("25% epoch 13/50  50%, loss 0.500 acc 0.500 mean 0.6250, 2:30<7:30")


def test_a_stream_of_ones_own_gets_lines_in_a_notebook_too(places: list[list[Any]], clock: SimpleNamespace) -> None:
    list(progress(events(2, clock), epochs=2, stream=sys.stderr))
    list(progress(events(2, clock), epochs=2, quiet=True))
    assert places == []


def test_curves_are_drawn_anew_in_one_place(places: list[list[Any]], clock: SimpleNamespace) -> None:
    passed = list(live_curves(events(3, clock), title="a run"))
    assert len(passed) == 9
    (figures,) = places
    nothing = figures.pop(0)  # which keeps the place above what the loop prints
    assert (repr(nothing), nothing._repr_html_()) == ("", "")
    assert all(isinstance(figure, Figure) for figure in figures)
    assert [len(figure.axes[0].lines[0].get_xdata()) for figure in figures] == [1, 2, 3]
    assert figures[-1].get_suptitle() == "a run"


def test_drawing_takes_a_fifth_of_the_time_and_the_last_picture_has_all(
    places: list[list[Any]], clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(rows: Any, *, title: str) -> int:
        clock.now += 1.0
        return len(rows)

    monkeypatch.setattr(sys.modules[live_curves.__module__], "draw_curves", slow)
    list(live_curves(events(20, clock, 0.25)))  # ten seconds of epochs
    assert places[0][1:] == [1, 9, 17, 20]
    for event in live_curves(events(20, clock, 0.25)):
        if isinstance(event, Epoch) and event.epoch == 3:
            break  # as early stopping does
    del event
    assert places[1][1:] == [1, 3]


@pytest.mark.usefixtures("places")
def test_what_fails_in_showing_ends_no_training(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError("no room for a figure")

    monkeypatch.setattr(sys.modules[live_curves.__module__], "draw_curves", broken)
    assert len(list(live_curves(events(3, clock)))) == 9
    assert capsys.readouterr().out == "no more curves: MemoryError: no room for a figure\n"  # once
    monkeypatch.setattr(Place, "show", broken)
    assert len(list(progress(events(3, clock), epochs=3))) == 9


def test_outside_a_notebook_nothing_is_shown(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert not in_notebook()
    assert len(list(live_curves(events(2, clock)))) == 6
    assert capsys.readouterr().out == ""


def test_without_matplotlib_curves_are_left_out_and_it_is_said(
    places: list[list[Any]], clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert len(list(live_curves(events(2, clock)))) == 6
    assert places == []
    assert 'pip install "funcnn[plots]"' in capsys.readouterr().out


def test_a_meter_is_a_line_and_a_page() -> None:
    meter = Meter(0.256, "loss <0.5>")
    assert repr(meter) == " 26% loss <0.5>"
    assert '<progress value="0.2560"' in meter._repr_html_()
    assert "loss &lt;0.5&gt;" in meter._repr_html_()
