"""Data sets and their parts: thinned for quick runs, without a validation part, and printed."""

from typing import Any

import attrs
import numpy as np
import pytest
from cases import message
from hypothesis import given
from hypothesis import strategies as st

from funcnn.checks import FuncnnWarning
from funcnn.data import Dataset, Part, load, rescale, stratified_split, subtract_mean_image
from funcnn.keys import Key

DIGITS = load("digits")


def numbered(n: int) -> Part:
    return Part(np.arange(n), np.arange(n) + 1000, rescale(2))


@given(n=st.integers(1, 300), size=st.integers(1, 300))
def test_a_thinned_part_has_so_many_examples_in_order_evenly_spaced(n: int, size: int) -> None:
    part = numbered(n)
    thinned = part.thin(size)
    assert len(thinned) == min(n, size)
    assert len(set(thinned.inputs.tolist())) == len(thinned)
    np.testing.assert_array_equal(thinned.targets, thinned.inputs + 1000)
    assert thinned.preprocess == part.preprocess
    gaps = np.diff(thinned.inputs)
    assert gaps.min(initial=1) >= 1
    assert np.ptp(gaps) <= 1 if len(gaps) else True
    if size > 1:
        assert (thinned.inputs[0], thinned.inputs[-1]) == (0, n - 1)


def test_a_part_that_is_small_enough_is_itself() -> None:
    part = numbered(5)
    assert part.thin(5) is part
    assert part.thin(6) is part
    assert len(numbered(0).thin(3)) == 0


def test_a_part_that_is_sorted_by_class_keeps_every_class_in_its_share() -> None:
    part = Part(np.zeros(1000), np.repeat(np.arange(10), 100))
    assert np.bincount(part.thin(50).targets).tolist() == [5] * 10


@pytest.mark.parametrize("validation", [DIGITS.validation, None], ids=["validation", "none"])
def test_a_thinned_set_has_thinned_parts_and_all_else(validation: Part | None) -> None:
    data = attrs.evolve(DIGITS, validation=validation)
    thinned = data.thin(100, 50)
    np.testing.assert_array_equal(thinned.train.inputs, data.train.thin(100).inputs)
    np.testing.assert_array_equal(thinned.test.targets, data.test.thin(50).targets)
    if validation is None:
        assert thinned.validation is None
    else:
        np.testing.assert_array_equal(thinned.validation.inputs, validation.thin(50).inputs)
    assert (thinned.classes, thinned.in_shape) == (data.classes, data.in_shape)
    assert set(np.unique(thinned.test.targets)) == set(range(10))
    assert (len(data.train), len(data.test)) == (1294, 359)


def test_without_a_validation_part_its_examples_are_to_train_on() -> None:
    data = Dataset(numbered(7), numbered(3), numbered(2), (), ())
    last = data.without_validation()
    assert last.validation is None
    assert last.train.inputs.tolist() == [*range(7), *range(3)]
    assert last.train.targets.tolist() == [*range(1000, 1007), *range(1000, 1003)]
    assert (last.test, last.train.preprocess) == (data.test, data.train.preprocess)
    assert last.without_validation() is last


# --- What is no data set --------------------------------------------------------------------------------------

X, Y = np.zeros((4, 2), np.float32), np.array([0, 1, 1, 0])
PART = Part(X, Y)
NAMES = ("cat", "dog")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train": Part(X[:0], Y[:0])}, "the train part has no examples. Give it at least one"),
        ({"validation": Part(X[:0], Y[:0])}, "the validation part has no examples. Pass None to go without one"),
        ({"test": Part(X[:0], Y[:0])}, "the test part has no examples. Pass None to go without one"),
        (
            {"in_shape": (3,)},
            "the train part's inputs are of shape (2,), and in_shape is (3,). Pass examples of one shape",
        ),
        (
            {"test": Part(X[:, None], Y)},
            "the test part's inputs are of shape (1, 2), and in_shape is (2,). Pass examples",
        ),
        ({"train": (X, Y)}, "train must be a Part, got (array("),
        ({"validation": X}, "validation must be a Part, got an array float32 (4, 2). Pass Part(inputs, targets)"),
        ({"in_shape": 2}, "in_shape must be an input's shape, a tuple of ints without the batch axis, got 2"),
        ({"in_shape": (2.0,)}, "in_shape must be an input's shape, a tuple of ints without the batch axis, got (2.0,)"),
        ({"classes": "cat,dog"}, 'classes must be the classes\' names in order, as ("cat", "dog"), got \'cat,dog\''),
        ({"classes": {"cat"}}, "classes must be the classes' names in order"),
        ({"classes": None}, "classes must be the classes' names in order"),
        (
            {"train": Part(X, Y - 1)},
            "the train part's labels are from -1 to 0. Number the classes from 0, and give what ",
        ),
        (
            {"test": Part(X, Y + 10**6)},
            "2 names for 1,000,002 classes, as the largest label says. Pass a name for each, ",
        ),
    ],
)
def test_what_is_no_data_set_is_refused_when_it_is_made(changes: dict[str, Any], text: str) -> None:
    fields = {"train": PART, "validation": PART, "test": PART, "classes": NAMES, "in_shape": (2,)}
    Dataset(**fields)
    assert message(ValueError, Dataset, **(fields | changes)).startswith(f"Dataset: {text}")


@pytest.mark.parametrize(
    "classes", [range(2), np.unique(Y), [0, 1], np.array(["0", "1"])], ids=["range", "unique", "list", "array"]
)
def test_classes_may_be_numbers(classes: Any) -> None:
    data = Dataset(PART, None, PART, classes, [np.int64(2)])
    assert data.classes == ("0", "1")
    assert {type(each) for each in data.classes} == {str}
    assert data.in_shape == (2,)
    assert "classes=('0', '1')" in repr(data)


def test_a_label_without_a_name_is_named_by_its_number_with_a_warning() -> None:
    with pytest.warns(
        FuncnnWarning, match=r"^Dataset: 1 names for 3 classes, as the largest label says; the others"
    ) as all:
        data = Dataset(PART, None, Part(X, Y + 1), ("cat",), (2,))
    assert all[0].filename == __file__
    assert data.classes == ("cat", "1", "2")
    assert data.prepared(rescale(2)).classes == data.classes  # said once


def test_targets_that_are_no_class_numbers_need_no_names() -> None:
    for targets in (Y - 5, Y + 10**9, np.ones(4), np.ones((4, 3), int)):
        assert Dataset(Part(X, targets), None, PART, (), (2,)).classes == ()
    assert Dataset(Part(X, np.full((4, 1), -7)), None, Part(X, np.ones(4)), NAMES, (2,)).classes == NAMES


def test_a_part_is_of_examples() -> None:
    for arguments, text in (
        ((5, Y), "inputs must be an array of examples (n, ...), got 5"),
        ((X, 5), "targets must be an array of examples (n, ...), got 5"),
        ((X, Y[:3]), "expected as many inputs as targets, got 4 inputs, 3 targets"),
    ):
        assert message(ValueError, Part, *arguments) == f"Part: {text}"


@pytest.mark.parametrize(
    "index", [slice(1, None, 2), [1, 3], (1, 3), np.array([-3, -1]), Y != 0, [False, True] * 2], ids=str
)
def test_examples_are_taken_by_position(index: Any) -> None:
    part = Part(np.arange(8).reshape(4, 2), Y)
    at = index if isinstance(index, slice) else list(index)
    inputs, targets = part.take(index)
    np.testing.assert_array_equal(inputs, part.inputs[at])
    np.testing.assert_array_equal(targets, Y[at])
    assert len(part.select(index)) == len(inputs)
    assert len(part.take([])[0]) == 0


NO_POSITIONS = "index must be a slice or an array of positions, got"


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (None, "index must be an array of numbers, got NoneType"),
        (2, f"{NO_POSITIONS} 2. Pass [i] for a single example"),
        ([0.5], f"{NO_POSITIONS} [0.5]"),
        ([[0, 1]], f"{NO_POSITIONS} [[0, 1]]"),
        ([True, False], f"{NO_POSITIONS} [True, False]"),
        ([0, 4], "expected positions below 4, the number of examples, got some from 0 to 4"),
        ([-5], "expected positions below 4, the number of examples, got some from -5 to -5"),
        (slice("a", None), "index must be an array of numbers, got slice"),
    ],
)
def test_what_are_no_positions(index: Any, text: str) -> None:
    for take in (PART.take, PART.select):
        assert message(ValueError, take, index).startswith(f"Part.take: {text}")


@pytest.mark.parametrize("fraction", [0, 1.5, "0.5", None])
def test_a_share_that_is_none(fraction: Any) -> None:
    text = message(ValueError, stratified_split, Y, fraction, Key(0))
    assert text == f"stratified_split: fraction must be more than 0 and less than 1, got {fraction!r}"


# --- Printing -------------------------------------------------------------------------------------------------


def test_a_data_set_prints_a_line_for_each_part() -> None:
    assert repr(DIGITS).splitlines() == [
        "Dataset(",
        "    train=Part(inputs=uint8 (1294, 8, 8, 1), targets=uint8 (1294,), preprocess=rescale(divisor=16)),",
        "    validation=Part(inputs=uint8 (144, 8, 8, 1), targets=uint8 (144,), preprocess=rescale(divisor=16)),",
        "    test=Part(inputs=uint8 (359, 8, 8, 1), targets=uint8 (359,), preprocess=rescale(divisor=16)),",
        "    classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'),",
        "    in_shape=(8, 8, 1),",
        ")",
    ]


def test_many_classes_and_a_long_preprocessing_print_short() -> None:
    mean = subtract_mean_image(DIGITS.train.inputs)  # its mean image is a long text
    data = attrs.evolve(DIGITS.thin(9, 9), validation=None, classes=tuple(f"class {i}" for i in range(1000)))
    lines = repr(data.prepared(mean)).splitlines()
    assert lines[1].startswith(
        "    train=Part(inputs=uint8 (9, 8, 8, 1), targets=uint8 (9,), preprocess=subtract_mean_"
    )
    assert lines[2] == "    validation=None,"
    assert lines[4].startswith("    classes=<1,000 names: class 0, class 1, class 2, ")
    assert lines[4].endswith("...>,")
    assert max(map(len, lines)) <= 110
    assert repr(Part(np.zeros(2), np.zeros(2), np.negative)).endswith("preprocess=negative)")
