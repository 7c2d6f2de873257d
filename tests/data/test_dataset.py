"""Data sets and their parts: thinned for quick runs, without a validation part, and printed."""

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcnn.data import Dataset, Part, load, rescale, subtract_mean_image

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
    data = Dataset(numbered(7), numbered(3), numbered(2), ("a",), ())
    last = data.without_validation()
    assert last.validation is None
    assert last.train.inputs.tolist() == [*range(7), *range(3)]
    assert last.train.targets.tolist() == [*range(1000, 1007), *range(1000, 1003)]
    assert (last.test, last.train.preprocess) == (data.test, data.train.preprocess)
    assert last.without_validation() is last


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
