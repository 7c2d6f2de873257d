"""What a sweep runs over: grids in order, samples that only grow, and every refusal with its text."""

import enum
import itertools
import json
import math
import pickle
from collections import Counter
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest
from cases import message
from hypothesis import given
from hypothesis import strategies as st

from funcnn.keys import Key
from funcnn.sweep import Configuration, SweepError, choice, configuration, grid, integers, log_uniform, sample, uniform
from funcnn.sweep.grid import check_configurations

# --- One ------------------------------------------------------------------------------------------------------


def test_settings_are_attributes_and_a_dictionary() -> None:
    config = configuration(lr=0.1, widths=[64, [32, 16]], relu=True, name="adam", none=None)
    assert (config.lr, config.widths) == (0.1, (64, (32, 16)))
    assert (config.relu, config.name, config.none) == (True, "adam", None)
    assert config.as_dict() == {"lr": 0.1, "widths": (64, (32, 16)), "relu": True, "name": "adam", "none": None}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.lr = 0.2


def test_it_prints_as_the_call_that_makes_it() -> None:
    config = configuration(lr=1e-05, widths=(64,), name="it's", none=None)
    assert repr(config) == """configuration(lr=1e-05, widths=(64,), name="it's", none=None)"""
    assert eval(repr(config)) == config


def test_numpy_scalars_become_pythons() -> None:
    values = configuration(a=np.float64(0.1), b=np.int32(3), c=np.bool_(True), d=np.float32(0.5), e=np.str_("x"))
    assert [type(value) for value in values.as_dict().values()] == [float, int, bool, float, str]
    assert values == configuration(a=0.1, b=3, c=True, d=0.5, e="x")


finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | finite | st.text()
settings = st.dictionaries(
    st.from_regex(r"[a-z]{3}[0-9]?", fullmatch=True), scalars | st.lists(scalars, max_size=3), min_size=1, max_size=4
)


@given(settings)
def test_pickled_hashed_and_through_json_it_is_the_same(values: dict[str, Any]) -> None:
    config = configuration(**values)
    other = pickle.loads(pickle.dumps(config))
    assert other == config
    assert hash(other) == hash(config)
    assert repr(other) == repr(config)
    assert configuration(**json.loads(json.dumps(config.as_dict()))) == config


def test_what_is_written_in_another_way_is_another_configuration() -> None:
    """Python holds 1 and True and 1.0 for equal; a trial may not, so one's result must not count for another."""
    others = [configuration(a=value) for value in (1, 1.0, True, "1", (1,), 0, 0.0, False, None, "")]
    assert len(set(others)) == len(others)
    assert len(grid(a=[1, True, 1.0])) == 3


def test_the_order_of_the_axes_means_nothing() -> None:
    assert configuration(a=1, b=2) == configuration(b=2, a=1)
    assert hash(configuration(a=1, b=2)) == hash(configuration(b=2, a=1))
    assert configuration(a=1, b=2) != configuration(a=2, b=1)


def test_an_unknown_axis_has_a_hint() -> None:
    config = configuration(rate=0.1, depth=2)
    with pytest.raises(AttributeError) as caught:
        config.rates  # noqa: B018
    text = "no axis is called 'rates' in configuration(rate=0.1, depth=2): did you mean 'rate'?"
    assert str(caught.value) == text
    with pytest.raises(AttributeError, match=r"no axis is called 'q' in .*: it has rate, depth$"):
        config.q  # noqa: B018
    assert not hasattr(config, "_private")


@pytest.mark.parametrize("name", ["settings", "as_dict", "as_json", "_hidden", "__class__"])
def test_a_name_that_would_not_give_the_setting_is_refused(name: str) -> None:
    text = f"{name}: no axis can be called so: a configuration has something else of that name"
    assert message(SweepError, configuration, **{name: 1}) == text
    assert message(SweepError, grid, **{name: [1]}) == text


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, np.float32("inf")])
def test_a_setting_is_finite(value: Any) -> None:
    assert message(SweepError, configuration, lr=value) == f"lr={float(value)!r}: a setting must be finite"
    assert message(SweepError, grid, lr=[[0.1, value]]) == f"lr={float(value)!r}: a setting must be finite"


@pytest.mark.parametrize("value", [math.sqrt, {"a": 1}, {1}, 1j, b"x", np.zeros(2), object])
def test_a_setting_is_what_json_holds(value: Any) -> None:
    text = message(SweepError, configuration, f=value)
    assert text.startswith(f"f={value!r}: a setting must be a number, a string, a truth value, None or a tuple of such")
    assert text.endswith("Pass a name, and look up what it stands for in the trial")


# --- Grids ----------------------------------------------------------------------------------------------------


def test_the_last_axis_changes_fastest() -> None:
    made = [(each.a, each.b, each.c) for each in grid(a=[1, 2], b=["", "y"] + ["z"], c=(True, None))]
    assert made == [(a, b, c) for a in (1, 2) for b in ("", "y", "z") for c in (True, None)]


def test_any_iterable_is_an_axis() -> None:
    assert grid(a=range(3)) == grid(a=np.arange(3)) == grid(a=(i for i in range(3))) == grid(a=[0, 1, 2])


def test_a_grid_needs_an_axis() -> None:
    assert message(SweepError, grid) == "grid: expected at least one axis, as in grid(lr=[0.1, 0.2])"
    assert len(grid(lr=[0.1, 0.2])) == 2


def test_an_axis_needs_values() -> None:
    assert message(SweepError, grid, lr=[0.1], depth=[]) == "grid: the axis depth has no values, so the grid is empty"


@pytest.mark.parametrize("value", ["sgd", 0.1, None])
def test_an_axis_is_a_list(value: Any) -> None:
    text = f"grid: the axis x must be a list of values, got {value!r}. Write x=[{value!r}]"
    assert message(SweepError, grid, x=value) == text
    assert grid(x=[value]) == (configuration(x=value),)


def test_a_configuration_is_there_once() -> None:
    text = "configuration(lr=0.1, depth=1) is there twice. Remove one: a configuration is run once for each seed"
    assert message(SweepError, grid, lr=[0.1, 0.2, np.float64(0.1)], depth=[1]) == text
    assert message(SweepError, check_configurations, (configuration(a=1, b=[2]), configuration(b=(2,), a=1))) == (
        "configuration(b=(2,), a=1) is there twice. Remove one: a configuration is run once for each seed"
    )


def test_none_is_too_few() -> None:
    text = "expected at least one configuration, got none: the sweep is empty"
    assert message(SweepError, check_configurations, ()) == text


def test_a_grid_of_many_is_checked_at_once() -> None:
    """Ten thousand: a comparison of each with each would take minutes."""
    assert len(grid(a=range(100), b=range(100))) == 10_000


# --- Samples --------------------------------------------------------------------------------------------------

AXES = {
    "lr": log_uniform(1e-4, 1),
    "momentum": uniform(-1, 1),
    "depth": integers(1, 6),
    "optimizer": choice("sgd", "adam", None),
}


def draw(n: int, seed: int = 0) -> tuple[Configuration, ...]:
    return sample(Key(seed), n, **AXES)


def test_a_sample_follows_from_the_key() -> None:
    assert draw(20) == draw(20)
    assert repr(draw(20)) == repr(draw(20))
    assert not set(draw(20)) & set(draw(20, seed=1))


def test_a_larger_sample_begins_with_the_smaller() -> None:
    assert draw(30)[:20] == draw(20)
    few = {"a": integers(0, 3), "b": choice(True, False)}  # where draws repeat
    assert sample(Key(0), 8, **few)[:5] == sample(Key(0), 5, **few)


def test_an_axis_is_drawn_independently_of_the_others() -> None:
    alone = sample(Key(0), 20, lr=AXES["lr"])
    assert [each.lr for each in alone] == [each.lr for each in draw(20)]
    assert len(set(draw(200))) == 200
    unit = sample(Key(0), 400, a=uniform(0, 1), b=uniform(0, 1))
    assert abs(np.corrcoef([each.a for each in unit], [each.b for each in unit])[0, 1]) < 4.5 / 20


def test_draws_are_within_their_range_and_spread_over_it() -> None:
    n = 2000
    drawn = draw(n)
    depths, names = Counter(each.depth for each in drawn), Counter(each.optimizer for each in drawn)
    assert sorted(depths) == [1, 2, 3, 4, 5, 6]
    assert set(names) == {"sgd", "adam", None}
    for counts in (depths, names):
        for count in counts.values():
            expected = n / len(counts)
            assert abs(count - expected) < 4.5 * math.sqrt(expected)
    for values in (
        [(math.log10(each.lr) + 4) / 4 for each in drawn],
        [(each.momentum + 1) / 2 for each in drawn],
    ):
        assert -1e-12 <= min(values) < 0.01 < 0.99 < max(values) <= 1 + 1e-12
        # The largest distance from the straight line beyond 2.2 / sqrt(n) has a chance of 1 in 8,000 (Kolmogorov).
        assert np.abs(np.sort(values) - (np.arange(n) + 0.5) / n).max() < 2.2 / math.sqrt(n)
    assert {type(each.depth) for each in drawn} == {int}
    assert {type(each.lr) for each in drawn} == {float}


def test_what_repeats_is_drawn_again_until_there_are_no_more() -> None:
    axes = {"a": integers(0, 1), "b": choice(1, True)}
    assert len(set(sample(Key(0), 4, **axes))) == 4
    text = "sample: 5 different configurations were asked for, but only 4 were found"
    assert message(SweepError, sample, Key(0), 5, **axes) == text


def test_a_sample_of_nothing_is_refused() -> None:
    text = "sample: expected at least one axis, as in sample(key, 10, lr=uniform(0, 1))"
    assert message(SweepError, sample, Key(0), 3) == text
    for n in (0, -1, 2.5, "3", True, None, 10**9, 10**30):
        assert (
            message(SweepError, sample, Key(0), n, **AXES) == f"sample: n must be an int from 1 to 100,000, got {n!r}"
        )
    assert message(TypeError, sample, 0, 3, **AXES) == "sample: key must be a Key, as Key(0), got 0"
    assert len(sample(Key(0), np.int64(3), **AXES)) == 3


def test_a_sample_is_drawn_from_distributions() -> None:
    text = "sample: the axis lr must be a distribution, got [0.1, 0.2]. Write lr=choice(...)"
    assert message(SweepError, sample, Key(0), 2, lr=[0.1, 0.2]) == text
    assert len(sample(Key(0), 2, lr=choice(0.1, 0.2))) == 2


@pytest.mark.parametrize("make", [uniform, log_uniform, integers])
@pytest.mark.parametrize(("low", "high"), [(2, 1), (1, 1), (1, math.inf), (math.nan, 1), (-math.inf, 1)])
def test_a_range_goes_up(make: Any, low: float, high: float) -> None:
    text = message(ValueError, make, low, high)
    assert text.startswith(f"{make.__name__}(low=")
    assert text.endswith(": low must be less than high, and both finite")


@pytest.mark.parametrize("low", [0, -1])
def test_a_logarithm_is_of_what_is_positive(low: float) -> None:
    assert message(ValueError, log_uniform, low, 1) == f"log_uniform(low={low:.1f}, high=1.0): low must be more than 0"


def test_a_choice_is_of_something() -> None:
    assert message(ValueError, choice) == "choice: expected at least one option, got none"


def test_distributions_print_as_the_calls_that_make_them() -> None:
    texts = "log_uniform(low=0.0001, high=1.0) uniform(low=-1.0, high=1.0) integers(low=1, high=6)".replace(") ", ")|")
    assert [repr(each) for each in AXES.values()] == [*texts.split("|"), "choice(options=('sgd', 'adam', None))"]


def test_integers_are_between_integers() -> None:
    with pytest.raises(ValueError, match=r"integers\(low=0.5, high=3.5\): low and high must be ints"):
        integers(0.5, 3.5)  # type: ignore[arg-type]
    assert integers(np.int64(1), np.int8(3)) == integers(1, 3)
    text = "integers: low and high must be from -2**63 to 2**63 - 1"
    assert message(ValueError, integers, 0, 2**63) == text
    assert -(2**63) <= sample(Key(0), 1, a=integers(-(2**63), 2**63 - 1))[0].a < 2**63


@pytest.mark.parametrize("make", [uniform, log_uniform, integers])
@pytest.mark.parametrize("wild", ["1", True, None, [1], 1j])
def test_a_range_is_between_numbers(make: Any, wild: Any) -> None:
    assert message(ValueError, make, wild, 3) == f"{make.__name__}: low must be a number, got {wild!r}"
    assert message(ValueError, make, 1, wild) == f"{make.__name__}: high must be a number, got {wild!r}"


def test_a_range_is_no_wider_than_floats() -> None:
    text = "uniform(low=-1e+308, high=1e+308): the range is wider than the largest float"
    assert message(ValueError, uniform, -1e308, 1e308) == text


# --- Bounds ---------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


WILD = {
    "endless": (grid, {"a": itertools.count()}, "grid: the axis a has more than 100,000 values"),
    "too many": (grid, {"a": range(1000), "b": range(1000)}, "grid: it would have 1,000,000 configurations, at"),
    "bytes": (grid, {"a": b"ab"}, "grid: the axis a must be a list of values, got b'ab'. Write a=[b'ab']"),
    "one number in an array": (grid, {"a": np.array(1)}, "grid: the axis a must be a list of values, got array(1)"),
    "too long": (configuration, {"a": "x" * 70_000}, "a configuration of 70,009 characters: at most 65,536"),
    "too deep": (configuration, {"a": nested(33)}, "a: a setting may have tuples within tuples, up to 32 deep"),
    "far too deep": (configuration, {"a": nested(5000)}, "a: a setting may have tuples within tuples, up to 32 deep"),
    "beyond floats": (configuration, {"a": 10**400}, "a=1000000"),
    "endless digits": (configuration, {"a": 10**5000}, "a=a int: a setting must be finite"),
    "no name": (configuration, {"": 1}, ": no axis can be called so"),
    "no pairs": (Configuration, {"settings": 3}, "Configuration: settings must be pairs of a name and a value, got 3"),
    "no names": (Configuration, {"settings": ((1, 2),)}, "1: no axis can be called so"),
    "a name twice": (Configuration, {"settings": (("a", 1), ("a", 2))}, "Configuration: a name is there twice in (("),
    "a sample of too few": (
        partial(sample, Key(0)), {"n": 10_000, "a": choice(1, 2)},
        "sample: 10000 different configurations were asked for, but only 2 were found",
    ),
    "no distribution": (partial(sample, Key(0)), {"n": 1, "a": 3}, "sample: the axis a must be a distribution, got 3"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "given", "text"), WILD.values(), ids=WILD)
def test_what_is_wild_is_refused_at_once(make: Any, given: Any, text: str) -> None:
    assert message(SweepError, make, **given).startswith(text)


def test_members_of_enumerations_are_their_values() -> None:
    name, depth = enum.Enum("Name", {"ADAM": "adam"}, type=str), enum.IntEnum("Depth", {"TWO": 2})
    assert repr(configuration(a=name.ADAM, b=depth.TWO)) == "configuration(a='adam', b=2)"
