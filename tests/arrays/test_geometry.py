"""Where windows lie, against windows counted one by one."""

import pytest
import references
from draws import Conv, convolutions
from hypothesis import given

from funcnn.arrays.geometry import Taps, geometry


@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "sides"),
    [
        (28, 5, 1, 1, (2, 2)),
        (28, 2, 1, 1, (0, 1)),  # the odd pixel goes to the bottom and right
        (28, 3, 2, 1, (0, 1)),
        (27, 3, 2, 1, (1, 1)),
        (28, 3, 1, 2, (2, 2)),
        (5, 1, 3, 1, (0, 0)),
        (1, 7, 1, 1, (3, 3)),
    ],
)
def test_same_padding(size: int, window: int, stride: int, dilation: int, sides: tuple[int, int]) -> None:
    geo = geometry((size, size), (window, window), (stride, stride), (dilation, dilation), "same")
    assert geo.padding == (sides, sides)
    assert geo.out_size == (-(-size // stride),) * 2


@given(convolutions())
def test_taps_are_where_the_windows_meet_the_image(problem: Conv) -> None:
    x, *_ = problem.arrays()
    spec, geo = problem.spec, problem.spec.on(x)
    for axis in (0, 1):
        starts = references.window_starts(x, spec, axis)
        assert geo.out_size[axis] == len(starts)
        for k, (outputs, pixels) in enumerate(geo.taps[axis]):
            meets = {i: start + k * spec.dilation[axis] for i, start in enumerate(starts)}
            expected = {i: pixel for i, pixel in meets.items() if 0 <= pixel < x.shape[1 + axis]}
            found = zip(range(len(starts))[outputs], range(x.shape[1 + axis])[pixels], strict=True)
            assert dict(found) == expected


def meetings(taps: Taps) -> set[tuple[int, int, int]]:
    """(tap, window, pixel), wherever a tap meets a pixel."""
    found = set()
    for k, (outputs, pixels) in enumerate(taps):
        windows = range(outputs.start, outputs.stop)
        found |= {(k, i, pixel) for i, pixel in zip(windows, range(pixels.stop)[pixels], strict=True)}
    return found


@given(convolutions())
def test_turned_windows_hold_what_reaches_each_pixel(problem: Conv) -> None:
    x, *_ = problem.arrays()
    geo = problem.spec.on(x)
    pairs = [(geo.turned, axis) for axis in (0, 1) if geo.turned is not None]
    pairs += [(geo.turned_rows, 0)] if geo.turned_rows is not None else []
    for turned, axis in pairs:
        assert turned.out_size[axis] == geo.in_size[axis]
        last = geo.window[axis] - 1
        assert {(last - k, i, u) for k, u, i in meetings(turned.taps[axis])} == meetings(geo.taps[axis])


def test_what_is_turned_are_windows_only_at_every_pixel() -> None:
    assert geometry((6, 6), (3, 3), (1, 1), (1, 1), 2).turned is not None
    assert geometry((6, 6), (3, 3), (1, 1), (1, 1), 3).turned is None
    by_columns = geometry((6, 6), (3, 3), (1, 2), (1, 1), 2)
    assert by_columns.turned is None
    assert by_columns.turned_rows is not None
    assert geometry((6, 6), (3, 3), (2, 1), (1, 1), 2).turned_rows is None


@given(convolutions())
def test_the_windows_of_all_phases_hold_what_reaches_each_pixel(problem: Conv) -> None:
    x, *_ = problem.arrays()
    geo = problem.spec.on(x)
    for axis, phases in ((0, geo.row_phases), (0, geo.phases), (1, geo.phases)):
        found = set()
        for phase in phases:
            pixels = range(geo.in_size[axis])[phase.pixels[axis]]
            taps = range(geo.window[axis])[phase.taps[axis]]
            assert phase.windows.stride == (1, 1)
            assert phase.windows.out_size[axis] == len(pixels)
            assert phase.windows.window[axis] == len(taps)
            found |= {(taps[-1 - k], i, pixels[u]) for k, u, i in meetings(phase.windows.taps[axis])}
        nowhere = phases is geo.phases and not meetings(geo.taps[1 - axis])  # the windows lie in the padding
        assert found == (set() if nowhere else meetings(geo.taps[axis]))


def test_a_pixel_is_in_one_phase_at_most() -> None:
    geo = geometry((7, 8), (3, 2), (2, 3), (1, 1), "valid")
    pixels = [(i, j) for phase in geo.phases for i in range(7)[phase.pixels[0]] for j in range(8)[phase.pixels[1]]]
    assert len(pixels) == len(set(pixels)) == 7 * 6  # no window meets the columns 2 and 5
