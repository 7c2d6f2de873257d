"""Schedules: closed forms, what happens at every boundary, and the contract on one list of them all."""

import inspect
import json
import math
import pickle
from collections.abc import Callable
from itertools import pairwise

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcnn import schedules
from funcnn.layer import describe
from funcnn.schedules import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    exponential_decay,
    inverse_time_decay,
    join_schedules,
    linear,
    one_cycle,
    piecewise_constant,
    polynomial,
    scaled,
    value_at,
    warmup,
    warmup_cosine,
)

SCHEDULES = [
    constant(0.1),
    exponential_decay(0.1, 0.9),
    exponential_decay(0.1, 0.9, every=7),
    exponential_decay(0.1, 0.9, every=7, staircase=True),
    inverse_time_decay(0.1, 0.5),
    inverse_time_decay(0.1, 0.5, every=7),
    inverse_time_decay(0.1, 0.5, every=7, staircase=True),
    warmup_cosine(0.1, 5, 20),
    warmup_cosine(0.1, 0, 20, end=0.01),
    warmup_cosine(0.1, 5, 20, start=0.01, end=0.001, quarter=True),
    piecewise_constant([], [0.1]),
    piecewise_constant([3, 10], [0.1, 0.01, 0.5]),
    linear(0.1, 0.01, 10),
    polynomial(0.1, 10, 2.0, end=0.01),
    cosine(0.1, 10, end=0.01),
    cosine_restarts(0.1, 4, 2),
    cosine_restarts(0.1, 4, end=0.01),
    cyclic(0.01, 0.1, 3),
    cyclic(0.01, 0.1, 3, 5, factor=0.5),
    one_cycle(0.1, 20),
    one_cycle(0.1, 20, rise=0.5, start_factor=0.1, end_factor=0.5),
    scaled(exponential_decay(0.1, 0.9), 0.5),
    warmup(cosine(0.1, 10), 4, start=0.01),
    join_schedules([0.1, linear(0.1, 0.0, 5), cosine(0.1, 10)], [3, 8]),
]

every_schedule = pytest.mark.parametrize("rate", SCHEDULES, ids=repr)

rates = st.floats(1e-6, 10.0)
steps = st.integers(0, 2000)


# --- Closed forms ---------------------------------------------------------------------------------------------


@given(value=rates, step=steps)
def test_constant(value: float, step: int) -> None:
    assert constant(value)(step) == value


@given(start=rates, factor=st.floats(0.5, 1.0), every=st.integers(1, 50), step=steps)
def test_exponential_decay(start: float, factor: float, every: int, step: int) -> None:
    smooth = exponential_decay(start, factor, every=every)
    assert smooth(step) == pytest.approx(start * math.exp(math.log(factor) * step / every), rel=1e-9)
    assert exponential_decay(start, factor, every=every, staircase=True)(step) == start * factor ** (step // every)


@given(start=rates, factor=st.floats(0.0, 2.0), every=st.integers(1, 50), step=steps)
def test_inverse_time_decay(start: float, factor: float, every: int, step: int) -> None:
    smooth = inverse_time_decay(start, factor, every=every)
    assert smooth(step) * (1 + factor * step / every) == pytest.approx(start, rel=1e-12)
    assert inverse_time_decay(start, factor, every=every, staircase=True)(step) == start / (
        1 + factor * (step // every)
    )


@pytest.mark.parametrize("make", [exponential_decay, inverse_time_decay])
def test_staircase_meets_the_smooth_decay_at_its_boundaries_and_keeps_it_in_between(
    make: Callable[..., Schedule],
) -> None:
    smooth, stairs = make(1.0, 0.5, every=4), make(1.0, 0.5, every=4, staircase=True)
    for period in range(5):
        assert stairs(4 * period) == smooth(4 * period)
        assert {stairs(4 * period + i) for i in range(4)} == {smooth(4 * period)}
        assert all(smooth(4 * period + i) < stairs(4 * period) for i in (1, 2, 3))
    assert stairs(3) == 1.0
    assert stairs(4) < 1.0


@st.composite
def cosines(draw: st.DrawFn) -> tuple[dict, Schedule]:
    """A warm-up and cosine that rises to its peak and falls from it, with its settings."""
    total = draw(st.integers(1, 300))
    settings = {
        "peak": draw(st.floats(0.1, 1.0)),
        "warmup_steps": draw(st.integers(0, total - 1)),
        "total_steps": total,
        "start": draw(st.floats(0.0, 0.1)),
        "end": draw(st.floats(0.0, 0.1)),
        "quarter": draw(st.booleans()),
    }
    return settings, warmup_cosine(**settings)


@given(made=cosines(), step=st.integers(0, 400))
def test_warmup_cosine(made: tuple[dict, Schedule], step: int) -> None:
    """Independently written: the half cosine is 1 - sin² of half the angle, the quarter a sine read backwards."""
    settings, rate = made
    peak, warmup, total = settings["peak"], settings["warmup_steps"], settings["total_steps"]
    start, end = settings["start"], settings["end"]
    if step < warmup:
        wanted = (start * (warmup - step) + peak * step) / warmup
    else:
        done = min(1.0, (step - warmup) / (total - warmup))
        left = math.sin(math.pi / 2 * (1 - done)) if settings["quarter"] else 1 - math.sin(math.pi / 2 * done) ** 2
        wanted = end * (1 - left) + peak * left
    assert rate(step) == pytest.approx(wanted, rel=1e-12, abs=1e-15)


@given(made=cosines())
def test_warmup_cosine_end_points(made: tuple[dict, Schedule]) -> None:
    settings, rate = made
    warmup, total = settings["warmup_steps"], settings["total_steps"]
    assert rate(warmup) == pytest.approx(settings["peak"], rel=1e-15)
    assert rate(0) == pytest.approx(settings["start"] if warmup else settings["peak"], rel=1e-15)
    # A quarter cosine's zero, cos(pi / 2), is 6e-17 in floats.
    assert rate(total) == pytest.approx(settings["end"], rel=1e-15, abs=1e-16)
    assert {rate(step) for step in range(total, total + 20)} == {rate(total)}


@given(made=cosines())
def test_warmup_cosine_rises_and_then_falls(made: tuple[dict, Schedule]) -> None:
    settings, rate = made
    warmup, total = settings["warmup_steps"], settings["total_steps"]
    values = [rate(step) for step in range(total + 1)]
    assert all(a <= b for a, b in pairwise(values[: warmup + 1]))
    assert all(a >= b for a, b in pairwise(values[warmup:]))
    assert min(values) >= min(settings["start"], settings["end"]) * (1 - 1e-15)


def test_quarter_cosine_stays_high_for_longer() -> None:
    half, quarter = warmup_cosine(1.0, 0, 12), warmup_cosine(1.0, 0, 12, quarter=True)
    assert half(6) == pytest.approx(0.5)
    assert quarter(6) == pytest.approx(math.sqrt(0.5))
    assert quarter(8) == pytest.approx(0.5)
    assert all(quarter(step) > half(step) for step in range(1, 12))


def test_r3s_schedule_is_expressible() -> None:
    """1e-5 to 1e-3 linearly over 3 epochs, then a quarter cosine to 1e-5 over 6 (by epochs of 100 steps)."""
    rate = warmup_cosine(1e-3, 300, 900, start=1e-5, end=1e-5, quarter=True)
    assert rate(0) == 1e-5
    assert rate(150) == pytest.approx((1e-5 + 1e-3) / 2)
    assert rate(300) == pytest.approx(1e-3)
    assert rate(600) == pytest.approx(1e-5 + 99e-5 * math.cos(math.pi / 4))
    assert rate(900) == pytest.approx(1e-5)


@given(boundaries=st.lists(st.integers(0, 100), unique=True, max_size=6), step=st.integers(0, 120))
def test_piecewise_constant_counts_the_boundaries_reached(boundaries: list[int], step: int) -> None:
    boundaries.sort()
    rate = piecewise_constant(boundaries, [float(i) for i in range(len(boundaries) + 1)])
    assert rate(step) == sum(1 for boundary in boundaries if step >= boundary)


@given(start=rates, factor=st.floats(0.0, 1.0), every=st.integers(1, 50), staircase=st.booleans())
def test_decays_never_rise(start: float, factor: float, every: int, staircase: bool) -> None:
    for make in (exponential_decay, inverse_time_decay):
        rate = make(start, factor, every=every, staircase=staircase)
        values = [rate(step) for step in range(60)]
        assert values[0] == start
        assert all(a >= b >= 0 for a, b in pairwise(values))


# --- Of other schedules, cycles -------------------------------------------------------------------------------


@given(start=rates, end=rates, steps=st.integers(1, 100), step=st.integers(0, 150))
def test_linear_and_polynomial_go_from_end_to_end(start: float, end: float, steps: int, step: int) -> None:
    share = min(step, steps) / steps
    assert linear(start, end, steps)(step) == pytest.approx(start * (1 - share) + end * share, rel=1e-12)
    assert polynomial(start, steps, end=end)(step) == pytest.approx(start * (1 - share) + end * share, rel=1e-12)
    assert linear(start, end, steps)(steps) == end
    assert polynomial(start, steps, 3.0)(step) == pytest.approx(start * (1 - share) ** 3, rel=1e-12)


@given(start=rates, steps=st.integers(1, 100), warm=st.integers(1, 50), step=st.integers(0, 200))
def test_a_warm_up_before_a_cosine_is_warmup_cosine(start: float, steps: int, warm: int, step: int) -> None:
    wanted = warmup_cosine(start, warm, warm + steps, start=0.1 * start)(step)
    assert warmup(cosine(start, steps), warm, start=0.1 * start)(step) == pytest.approx(wanted, rel=1e-12, abs=1e-15)


@given(boundaries=st.lists(st.integers(1, 60), unique=True, max_size=5), step=st.integers(0, 80))
def test_join_schedules_begins_each_at_its_own_step_0(boundaries: list[int], step: int) -> None:
    boundaries.sort()
    made = [exponential_decay(1.0 + i, 0.9) for i in range(len(boundaries) + 1)]
    i = sum(boundary <= step for boundary in boundaries)
    assert join_schedules(made, boundaries)(step) == made[i](step - ([0, *boundaries])[i])


@given(period=st.integers(1, 20), factor=st.integers(1, 3), step=st.integers(0, 400))
def test_cosine_restarts_are_cosines_one_after_the_other(period: int, factor: int, step: int) -> None:
    starts, length = [0], period
    while starts[-1] + length <= step:
        starts.append(starts[-1] + length)
        length *= factor
    assert cosine_restarts(1.0, period, factor, end=0.1)(step) == cosine(1.0, length, end=0.1)(step - starts[-1])


@given(up=st.integers(1, 20), down=st.integers(1, 20), factor=st.floats(0.1, 1.0), step=st.integers(0, 200))
def test_a_cycle_is_a_triangle(up: int, down: int, factor: float, step: int) -> None:
    rate, cycle = cyclic(0.5, 1.5, up, down, factor=factor), step // (up + down)
    first = cycle * (up + down)
    corners = [first, first + up, first + up + down]
    heights = [0.5, 0.5 + factor**cycle, 0.5]
    assert rate(step) == pytest.approx(float(np.interp(step, corners, heights)), rel=1e-12)
    assert cyclic(0.5, 1.5, up)(step) == cyclic(0.5, 1.5, up, up)(step)


@given(steps=st.integers(4, 200), rise=st.floats(0.3, 0.9))
def test_one_cycle_rises_and_falls_far(steps: int, rise: float) -> None:
    rate = one_cycle(1.0, steps, rise=rise, start_factor=0.1, end_factor=0.01)
    values = [rate(step) for step in range(steps + 5)]
    top = values.index(max(values))
    assert abs(top - (rise * steps - 1)) <= 1
    assert all(a <= b for a, b in pairwise(values[: top + 1]))
    assert all(a >= b for a, b in pairwise(values[top:]))
    if rise * steps > 1.0001:
        assert values[0] == pytest.approx(0.1)
    assert values[steps - 1 :] == pytest.approx([0.001] * 6)


@pytest.mark.parametrize("rise", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_one_cycle_may_only_rise_or_only_fall(steps: int, rise: float) -> None:
    rate = one_cycle(1.0, steps, rise=rise, start_factor=0.1, end_factor=0.1)
    values = [rate(step) for step in range(steps + 2)]
    assert values[0] == pytest.approx(0.01 if steps == 1 else 0.1 if rise else 1.0)
    assert values[-1] == pytest.approx(0.01)
    assert rise == 0 or steps == 1 or values[steps - 1] == 1  # the peak is the last step's


def test_schedules_of_ones_own_and_numbers_may_be_within_others() -> None:
    def own(step: int) -> float:
        return 0.5 / (1 + step)

    assert scaled(own, 2.0)(1) == 0.5
    assert warmup(own, 2)(3) == 0.25
    assert join_schedules([own, 0.1], [1])(0) == 0.5
    with pytest.raises(ValueError, match=r"the learning rate at step 0 must be a number, finite and not negative"):
        join_schedules([0.1, lambda step: -1.0], [3])(3)


# --- The contract ---------------------------------------------------------------------------------------------


def test_every_public_schedule_is_on_the_list() -> None:
    makers = {name for name in schedules.__all__ if name.islower() and name not in ("number", "value_at")}
    assert makers == {rate.name for rate in SCHEDULES}
    assert {inspect.signature(getattr(schedules, name)).return_annotation for name in makers} == {Schedule}


@every_schedule
def test_schedules_pickle_print_compare_and_hash(rate: Schedule) -> None:
    for other in (pickle.loads(pickle.dumps(rate)), eval(repr(rate), vars(schedules).copy())):
        assert other == rate
        assert hash(other) == hash(rate)
        assert [other(step) for step in range(30)] == [rate(step) for step in range(30)]
    assert [other for other in SCHEDULES if other == rate] == [rate]


@every_schedule
def test_schedules_are_frozen_and_describe_themselves_as_json(rate: Schedule) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        rate.start = 1.0
    description = describe(rate)
    assert json.loads(json.dumps(description)) == description
    assert description["name"] == rate.name


def test_printed_forms_leave_defaults_out() -> None:
    assert repr(exponential_decay(0.1, 0.5)) == "exponential_decay(start=0.1, factor=0.5)"
    assert repr(exponential_decay(0.1, 0.5, every=2, staircase=True)) == (
        "exponential_decay(start=0.1, factor=0.5, every=2, staircase=True)"
    )
    assert describe(piecewise_constant((3,), (0.1, 0.01))) == {
        "name": "piecewise_constant",
        "boundaries": [3],
        "values": [0.1, 0.01],
    }


def test_sequences_of_any_kind_are_equal() -> None:
    assert piecewise_constant([3], [0.1, 0.01]) == piecewise_constant((3,), (0.1, 0.01))


@every_schedule
def test_value_at_reads_schedules_and_numbers(rate: Schedule) -> None:
    assert value_at(rate, 6) == rate(6)
    assert value_at(0.25, 6) == 0.25
    assert type(value_at(1, 0)) is float
    assert type(value_at(lambda step: np.float64(step), 3)) is float


@pytest.mark.parametrize("number", [float, int, np.float64, np.float32])
@pytest.mark.parametrize(
    "make",
    [
        lambda number: constant(number(1)),
        lambda number: exponential_decay(number(1), number(1)),
        lambda number: inverse_time_decay(number(1), number(1)),
        lambda number: warmup_cosine(number(1), 2, 9, start=number(0), end=number(0)),
        lambda number: piecewise_constant([2], [number(1), number(2)]),
        lambda number: linear(number(1), number(0), 5),
        lambda number: polynomial(number(1), 5, number(2), end=number(0)),
        lambda number: cosine(number(1), 5, end=number(0)),
        lambda number: cosine_restarts(number(1), 5, end=number(0)),
        lambda number: cyclic(number(0), number(1), 3, factor=number(1)),
        lambda number: one_cycle(number(1), 9, rise=number(1), start_factor=number(1), end_factor=number(0)),
        lambda number: scaled(number(1), number(2)),
        lambda number: warmup(number(1), 3, start=number(0)),
        lambda number: join_schedules([number(1), number(2)], [3]),
    ],
    ids=lambda make: make(int).name,
)
def test_values_are_python_floats_whatever_the_settings(make: Callable[..., Schedule], number: type) -> None:
    """An np.float64 would upcast float32 arrays, and an int would print as one."""
    assert {type(make(number)(step)) for step in range(12)} == {float}
    assert json.loads(json.dumps(describe(make(number)))) == describe(make(float))


# --- Errors ---------------------------------------------------------------------------------------------------

NOT_NEGATIVE = "must be finite and not negative, got"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: constant(-0.1), f"constant: value {NOT_NEGATIVE} -0.1"),
        (lambda: constant(math.nan), f"constant: value {NOT_NEGATIVE} nan"),
        (lambda: exponential_decay(-0.1, 0.5), f"exponential_decay: start {NOT_NEGATIVE} -0.1"),
        (lambda: exponential_decay(0.1, -0.5), f"exponential_decay: factor {NOT_NEGATIVE} -0.5"),
        (lambda: exponential_decay(0.1, 0.5, every=0), "exponential_decay: every must be a positive int, got 0"),
        (lambda: exponential_decay(0.1, 0.5, every=2.5), "exponential_decay: every must be a positive int, got 2.5"),
        (lambda: inverse_time_decay(math.inf, 0.5), f"inverse_time_decay: start {NOT_NEGATIVE} inf"),
        (lambda: inverse_time_decay(0.1, -1.0), f"inverse_time_decay: factor {NOT_NEGATIVE} -1.0"),
        (lambda: inverse_time_decay(0.1, 0.5, every=-3), "inverse_time_decay: every must be a positive int, got -3"),
        (lambda: warmup_cosine(-1.0, 1, 3), f"warmup_cosine: peak {NOT_NEGATIVE} -1.0"),
        (lambda: warmup_cosine(1.0, 1, 3, start=-0.1), f"warmup_cosine: start {NOT_NEGATIVE} -0.1"),
        (lambda: warmup_cosine(1.0, 1, 3, end=math.nan), f"warmup_cosine: end {NOT_NEGATIVE} nan"),
        (lambda: constant(True), "constant: value must be a number, got True"),
        (lambda: warmup_cosine("1", 1, 3), "warmup_cosine: peak must be a number, got '1'"),
        (lambda: piecewise_constant([3], [0.1, None]), "piecewise_constant: values must be a number, got None"),
        (lambda: warmup_cosine(1.0, 0, 0), "warmup_cosine: total_steps must be a positive int, got 0"),
        (
            lambda: warmup_cosine(1.0, 3, 3),
            "warmup_cosine: warmup_steps must be an int from 0 to less than total_steps (3), got 3",
        ),
        (
            lambda: warmup_cosine(1.0, -1, 3),
            "warmup_cosine: warmup_steps must be an int from 0 to less than total_steps (3), got -1",
        ),
        (lambda: piecewise_constant([3], [0.1]), "piecewise_constant: 1 boundaries need 2 values, got 1"),
        (lambda: linear(0.1, -0.1, 5), f"linear: end {NOT_NEGATIVE} -0.1"),
        (lambda: polynomial(0.1, 5, 0.0), "polynomial: power must be positive and finite, got 0.0"),
        (lambda: cosine(0.1, 0), "cosine: steps must be a positive int, got 0"),
        (lambda: cosine_restarts(0.1, 5, 0), "cosine_restarts: factor must be a positive int, got 0"),
        (lambda: cyclic(0.2, 0.1, 5), "cyclic: high must be at least low (0.2), got 0.1"),
        (lambda: cyclic(0.1, 0.2, 5, 0), "cyclic: down must be a positive int or None, got 0"),
        (lambda: one_cycle(0.1, 5, rise=1.5), "one_cycle: rise must be from 0 to 1, got 1.5"),
        (lambda: scaled("0.1", 2.0), "scaled: rate must be a number or a schedule, a function of the step, got '0.1'"),
        (lambda: warmup(-0.1, 5), f"warmup: rate {NOT_NEGATIVE} -0.1"),
        (lambda: join_schedules([0.1], [3]), "join_schedules: 1 boundaries need 2 rates, got 1"),
        (lambda: join_schedules([0.1, 0.2], [0]), "join_schedules: boundaries must be steps from 1 on, got (0,)"),
        (lambda: join_schedules([0.1, 0.2, 0.3], [5, 3]), "join_schedules: boundaries must increase, got (5, 3)"),
        (
            lambda: join_schedules([0.1, None], [3]),
            "join_schedules: rates must be a number or a schedule, a function of the step, got None",
        ),
        (lambda: piecewise_constant([], []), "piecewise_constant: 0 boundaries need 1 values, got 0"),
        (
            lambda: piecewise_constant([3, 3], [0.1, 0.2, 0.3]),
            "piecewise_constant: boundaries must increase, got (3, 3)",
        ),
        (
            lambda: piecewise_constant([5, 3], [0.1, 0.2, 0.3]),
            "piecewise_constant: boundaries must increase, got (5, 3)",
        ),
    ],
)
def test_invalid_settings_raise_in_the_constructor(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole text is compared)
        make()
    assert str(raised.value) == text


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_values_of_piecewise_constant_are_checked_like_every_rate(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"piecewise_constant: values .*{NOT_NEGATIVE} .*{wrong}"):
        piecewise_constant([3], [0.1, wrong])


def test_steps_of_the_warm_up_are_whole() -> None:
    with pytest.raises(ValueError, match=r"warmup_cosine: warmup_steps must be .*, got 1\.5"):
        warmup_cosine(1.0, 1.5, 3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: exponential_decay(0.1, 0.5, staircase="no"), "exponential_decay: staircase must be True or False"),  # type: ignore[arg-type]
        (lambda: inverse_time_decay(0.1, 0.5, staircase=1), "inverse_time_decay: staircase must be True or False"),  # type: ignore[arg-type]
        (lambda: warmup_cosine(0.1, 1, 5, quarter="false"), "warmup_cosine: quarter must be True or False"),  # type: ignore[arg-type]
        (lambda: piecewise_constant([math.nan], [0.1, 0.2]), "piecewise_constant: boundaries must increase"),  # type: ignore[list-item]
    ],
)
def test_settings_of_another_kind_are_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
