"""Own arrays and tables as a data set: how they are split, numbered, standardised, and what is refused by name."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from cases import message
from hypothesis import given
from hypothesis import strategies as st

from funcnn import Key
from funcnn.data import Dataset, Part, rescale
from funcnn.layer import Array
from funcnn.layers import dense
from funcnn.losses import mean_squared_error
from funcnn.optimizers import sgd
from funcnn.train import Problem, init_state, train

DRAW = np.random.default_rng(0)
X = DRAW.normal(3, 2, (200, 4))
Y = np.arange(200) % 3


def parts(data: Dataset) -> list[Part]:
    return [part for part in (data.train, data.validation, data.test) if part is not None]


def rows(part: Part) -> Array:
    return np.asarray(part.take(slice(None))[0])


# --- Splits ---------------------------------------------------------------------------------------------------


@given(st.integers(30, 400), st.integers(2, 5), st.floats(0.1, 0.5), st.floats(0.1, 0.5), st.integers(0, 5))
def test_each_part_has_its_share_of_each_class_and_every_example_is_in_one(
    n: int, classes: int, validation: float, test: float, seed: int
) -> None:
    labels = np.random.default_rng(n).permutation(np.arange(n) % classes)
    numbered = np.arange(n, dtype=np.float32)[:, None]
    data = Dataset.from_arrays(numbered, labels, validation=validation, test=test, key=Key(seed))
    assert sorted(number for part in parts(data) for number in rows(part)[:, 0]) == list(range(n))
    assert all((labels[rows(part)[:, 0].astype(int)] == part.targets).all() for part in parts(data))
    assert data.test is not None
    assert len(data.test) == round(test * n)
    shares = np.bincount(data.test.targets, minlength=classes) - test * np.bincount(labels, minlength=classes)
    assert abs(shares).max() <= 1


def test_a_key_decides_the_split_and_nothing_else_does() -> None:
    same, again, other = (Dataset.from_arrays(X, Y, key=Key(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(rows(one), rows(two)) for one, two in zip(parts(same), parts(again), strict=True))
    assert not np.array_equal(rows(same.train), rows(other.train))
    amounts = Dataset.from_arrays(X, X.sum(axis=1), key=Key(1))
    assert [len(part) for part in parts(amounts)] == [144, 16, 40]


def test_parts_may_be_given_or_none() -> None:
    data = Dataset.from_arrays(X, Y, validation=None, test=None)
    assert (len(data.train), data.validation, data.test) == (200, None, None)
    data = Dataset.from_arrays(X, Y, validation=0.25, test=(X[:7], Y[:7], np.ones(7)), weights=np.arange(200))
    assert [len(part) for part in parts(data)] == [150, 50, 7]
    assert np.array_equal(
        data.train.take([0])[2], [np.flatnonzero((X.astype(np.float32) == rows(data.train)[0]).all(1))[0]]
    )
    strings = Dataset.from_arrays(X[:4], ["a", "b", "a", "b"], test=(X[:2], ["b", "a"]), validation=None)
    assert strings.test is not None
    assert strings.test.targets.tolist() == [1, 0]


# --- Targets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "classes", "names", "numbers"),
    [
        (["no", "yes", "no"], None, ("no", "yes"), [0, 1, 0]),
        (np.array([b"no", b"yes"]), None, ("no", "yes"), [0, 1]),
        (np.array(["größer".encode(), b"a"], object), None, ("a", "größer"), [1, 0]),
        ([True, False], ("ham", "spam"), ("ham", "spam"), [1, 0]),
        (np.array(["b", "a"], object), ("b", "a", "c"), ("b", "a", "c"), [0, 1]),
        ([True, False], None, ("False", "True"), [1, 0]),
        ([7, -3, 7], None, ("-3", "7"), [1, 0, 1]),
        ([2, 0], ("x", "y", "z"), ("x", "y", "z"), [2, 0]),
        ([7, 3], [3, 7, 9], ("3", "7", "9"), [1, 0]),
        (np.array([[1], [0]]), None, ("0", "1"), [1, 0]),
    ],
)
def test_labels_of_any_kind_are_numbered_and_keep_their_names(
    labels: Any, classes: Any, names: tuple[str, ...], numbers: list[int]
) -> None:
    data = Dataset.from_arrays(X[: len(labels)], labels, classes=classes, validation=None, test=None)
    assert (data.classes, data.train.targets.tolist()) == (names, numbers)


def test_amounts_become_columns_of_float32_that_a_net_can_learn() -> None:
    for targets, options in ((X.sum(axis=1), {}), (np.arange(200), {"classes": ()}), (X[:, :2], {})):
        data = Dataset.from_arrays(X, targets, standardise=True, **options)
        assert data.classes == ()
        _, taken = data.train.take([0, 1])
        assert (taken.dtype, taken.ndim) == (np.float32, 2)
        problem = Problem(dense(taken.shape[1]), mean_squared_error, sgd(0.01))
        assert list(train(problem, init_state(problem, Key(0), data.in_shape), data, epochs=1, batch_size=32))


def test_amounts_may_be_objects_as_pandas_keeps_them_among_others() -> None:
    for amounts in ([1, 2.5], [np.float32(1), 2.5], [Decimal(1), 2.5]):
        data = Dataset.from_arrays(X[:2], np.array(amounts, object), validation=None, test=None)
        assert data.train.targets.tolist() == [[1.0], [2.5]]


def test_examples_one_by_one_in_a_tuple_are_no_inputs_of_several_kinds() -> None:
    inputs, labels = zip(*((row, label) for row, label in zip(X, Y, strict=True)), strict=True)
    data = Dataset.from_arrays(inputs, labels)
    for part, other in zip(parts(data), parts(Dataset.from_arrays(X, Y)), strict=True):
        assert np.array_equal(rows(part), rows(other))


def test_several_inputs_and_outputs_are_split_alike() -> None:
    data = Dataset.from_arrays((X, X[:, :2].astype(np.float32)), (Y[:, None] + 0.5, X))
    assert data.in_shape == ((4,), (2,))
    (one, two), (three, four) = data.train.take([3])
    assert np.array_equal(one[:, :2], two)
    assert np.array_equal(one, four)
    assert three.shape == (1, 1)


# --- Inputs ---------------------------------------------------------------------------------------------------


def test_standardised_by_the_training_part_alone() -> None:
    data = Dataset.from_arrays(X, Y, standardise=True)
    assert data.test is not None
    made = rows(data.train)
    assert abs(made.mean(axis=0)).max() < 1e-6
    assert abs(made.std(axis=0) - 1).max() < 1e-5
    mean, deviation = data.train.inputs.mean(axis=0), data.train.inputs.std(axis=0)
    np.testing.assert_allclose(rows(data.test), (data.test.inputs - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_small_differences_of_large_numbers_are_kept() -> None:
    """As of times in seconds, which float32 has 128 apart: to subtract the mean of such would leave nothing."""
    seconds = 1.7e9 + np.arange(200.0)[:, None]
    for stored in (seconds, seconds.astype(int)):
        data = Dataset.from_arrays(stored, Y, standardise=True)
        made = rows(data.train)
        assert made.dtype == np.float32
        order = data.train.inputs[:, 0] - 1.7e9
        np.testing.assert_allclose(made[:, 0], (order - order.mean()) / order.std(), rtol=1e-5, atol=1e-6)


def test_floats_become_float32_and_whole_numbers_stay_unless_prepared() -> None:
    assert Dataset.from_arrays(X, Y).train.take([0])[0].dtype == np.float32
    tokens = np.arange(400).reshape(200, 2)
    assert Dataset.from_arrays(tokens, Y).train.take([0])[0].dtype == tokens.dtype
    images = Dataset.from_arrays(np.full((200, 2, 2, 1), 255, np.uint8), Y, preprocess=rescale(255))
    assert images.train.inputs.dtype == np.uint8
    assert images.train.take([0])[0].tolist() == [[[[1.0], [1.0]], [[1.0], [1.0]]]]


def test_a_table_is_taken_by_column() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": range(200), "b": X[:, 0], "c": Y == 1, "d": pandas.array(Y, "Int64")})
    table.index = table.index[::-1]  # positions count, not the index
    labels = pandas.Series(["n", "y"] * 100, index=range(200))
    data = Dataset.from_arrays(table, labels, validation=None, test=None)
    np.testing.assert_array_equal(
        rows(data.train), np.stack([range(200), X[:, 0], Y == 1, Y], axis=1).astype(np.float32)
    )
    assert data.train.targets.tolist() == [0, 1] * 100
    assert Dataset.from_arrays(table, labels.astype("category").to_frame()).classes == ("n", "y")

    def refused(**changes: Any) -> str:
        return message(ValueError, Dataset.from_arrays, table.assign(**changes), labels)

    assert refused(city=["Bern", "Rome"] * 100).startswith("Dataset.from_arrays: column 'city' holds no numbers, but ")
    assert "pd.get_dummies(inputs, columns=['city'])" in refused(city=["Bern", "Rome"] * 100)
    assert "column 'day' holds no numbers, but datetime64" in refused(day=pandas.Timestamp("2020-01-01"))
    gaps = pandas.array([None, 1, *range(198)], "Int64")
    assert "column 'gaps' has 1 missing or infinite values of 200, the first in row 0. Fill" in refused(gaps=gaps)
    assert "column 'b' has 1 missing" in refused(b=[np.nan, *range(199)])
    assert "column 'e' holds no numbers, but object" in refused(e=[[1, 2]] * 200)
    several = refused(city="Bern", day=pandas.Timestamp("2020-01-01"), gaps=gaps, b=[np.nan, *range(199)])
    for told in (  # all at once, and what mends them
        "columns 'city', 'day' hold no numbers, but ", "pd.get_dummies(inputs, columns=['city']); make ",
        "make days of dates, (inputs['day'] - inputs['day'].min()).dt.days. And columns 'b' (1), 'gaps' (1) have",
        "infinite values of 200. Fill them, as inputs.fillna(inputs.median(numeric_only=True)) does",
    ):  # fmt: skip
        assert told in several
    for columns in (["b", "a", "c", "d"], ["a", "b", "c"]):  # each would count as another by its position
        text = message(ValueError, Dataset.from_arrays, table, labels, test=(table[columns], labels))
        assert f"the test part's columns are {', '.join(columns)}, and those to train on a, b, c, d. Pass" in text
    fixed = table[["b", "a", "c"]].reindex(columns=table.columns, fill_value=0)  # what the message says
    assert Dataset.from_arrays(table, labels, test=(fixed, labels)).in_shape == (4,)
    assert "targets.drop(columns=['city'])" in message(
        ValueError, Dataset.from_arrays, table, pandas.DataFrame({"city": ["Bern"] * 200, "b": X[:, 0]})
    )
    assert "1 of 200 targets are missing, the first in row 0" in message(
        ValueError, Dataset.from_arrays, table, labels.where(labels.index > 0)
    )
    filled = table.assign(b=[np.nan, *range(199)])
    filled = filled.fillna(filled["b"].median())  # what the message says
    assert np.isfinite(rows(Dataset.from_arrays(filled, labels).train)).all()
    assert Dataset.from_arrays(pandas.get_dummies(table.assign(city="Bern"), columns=["city"]), labels).in_shape == (5,)


def test_a_preprocessing_may_fill_what_is_missing() -> None:
    inputs = np.where(X > 8, np.nan, X)
    data = Dataset.from_arrays(inputs, Y, preprocess=np.nan_to_num)
    assert np.isnan(data.train.inputs).any()
    assert np.isfinite(rows(data.train)).all()
    pandas = pytest.importorskip("pandas")
    of_frame = Dataset.from_arrays(pandas.DataFrame(inputs), Y, preprocess=np.nan_to_num)
    np.testing.assert_array_equal(rows(of_frame.train), rows(data.train))


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "text"),
    [
        (X, Y, {"test": 1.0}, "test must be a fraction of more than 0 and less than 1, (inputs, targets), or None"),
        (X, Y, {"validation": "0.1"}, "validation must be a fraction"),
        (X, Y, {"standardise": 1}, "standardise must be True or False, got 1"),
        (X, Y, {"standardise": True, "preprocess": rescale(2)}, "standardise=True and a preprocess are two ways"),
        (X[:4], Y[:4], {"test": 0.01}, "test=0.01 of 4 examples is none, or all of them"),
        (X[:10], [*"aaaaaaaaab"], {"test": 0.6, "validation": None}, "class 'b' has 1 example, and none is left"),
        (X[:, 0], Y, {}, "inputs must be examples (n, ...), got single numbers (200,). Give each an axis: "),
        (X[:, 0], Y, {"standardise": True}, "inputs must be examples (n, ...), got single numbers (200,). Give each"),
        (np.where(X > 8, np.nan, X), Y, {}, "inputs have "),
        (np.where(Y[:, None] == 1, 1e300, X), Y, {}, "268 values that are not finite as float32, the first, 1e+300"),
        (X, np.where(Y == 1, np.inf, 0.5), {}, "targets of 67 examples are not finite as float32, the first in row 1."),
        (X, np.where(Y == 1, 1e300, 0.5), {}, "targets of 67 examples are not finite as float32, the first in row 1."),
        (X, Y, {"standardise": True, "test": (X[:, :2], Y)}, "the test part's inputs are of shape (2,), and those to"),
        (X, ["a", float("nan")] * 100, {}, "100 of 200 targets are missing, the first in row 1."),
        (X, ["a", 1] * 100, {}, "targets must be all texts or all numbers, got int, str. Convert them: np.asarray("),
        (X, [b"\xff", b"a"] * 100, {}, "targets are bytes that are no UTF-8 ("),
        (X, np.eye(3)[Y], {"classes": [*"xyz"]}, "Pass np.asarray(targets).argmax(axis=1) if each row marks a"),
        (X, DRAW.permutation(200), {}, "or hold out less. If the numbers are amounts, pass classes=()"),
        (X, Y, {"test": (X, Y + 0.0)}, "the labels must be like the classes, 0, 1, 2, got float64 (200,)"),
        (X, [*"ab"] * 100, {"classes": "ab"}, "classes must be the classes' names in order"),
        (X, [*"ab"] * 100, {"classes": ("a", "c")}, "100 of 200 labels are none of the classes, a, c: b. Name all in"),
        (X, [*"ab"] * 100, {"classes": ()}, "classes must be not (), since the targets are texts"),
        (X, Y, {"classes": ("x", "y")}, "66 of 200 labels are none of the classes, 0 (x), 1 (y): 2"),
        (X, Y + 0.5, {"classes": ("x", "y", "z")}, "(200,) are no labels (n,). Pass np.asarray(targets).astype(int)"),
        (X, Y + 0.5, {"test": (X, [*"ab"] * 100)}, "targets must be numbers, got"),
        (X, [*"ab"] * 100, {"test": (X, Y)}, "the labels must be like the classes, a, b, got int64 (200,)"),
        (X, np.array(["a", 1] * 100, object), {}, "targets must be all texts or all numbers, got int, str."),
        (X, [*"ab"] * 99, {}, "expected as many inputs as targets, got 200 inputs, 198 targets"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_the_way_out(
    inputs: Any, targets: Any, options: dict[str, Any], text: str
) -> None:
    assert text in message(ValueError, Dataset.from_arrays, inputs, targets, **options)


# --- Generators -----------------------------------------------------------------------------------------------


def test_batches_of_a_generator_are_collected_though_it_uses_its_memory_again() -> None:
    room = np.zeros((2, 3))

    def batches() -> Any:
        for i in range(4):
            room[:] = i
            yield room, [i, i], [1.0, 0.5]

    part = Part.from_batches(batches(), rescale(2))
    inputs, targets, weights = part.take(slice(None))
    assert (inputs[:, 0] * 2).tolist() == targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert weights.tolist() == [1.0, 0.5] * 4
    assert "expected at least one batch, got none" in message(ValueError, Part.from_batches, iter(()))
    assert "batches must be an iterable of batches" in message(ValueError, Part.from_batches, 5)
    uneven = [(np.ones((2, 3)), [0, 1]), (np.ones((2, 4)), [0, 1])]
    assert "batch 1: expected examples of shapes [(3,), ()], got [(4,), ()]" in message(
        ValueError, Part.from_batches, uneven
    )
    assert "batch 0: Part: expected as many inputs" in message(ValueError, Part.from_batches, [(np.ones((2, 3)), [0])])
