"""Preprocessing: each formula, statistics of the images given alone, exact descriptions; labels as vectors."""

import json
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from funcnn.data import load, one_hot, rescale, standardise, subtract_mean_image, unit_norm
from funcnn.data import preprocess as module
from funcnn.data.preprocess import Preprocess
from funcnn.layer import Array, describe
from funcnn.rebuild import rebuild

DIGITS = load("digits")
BYTES = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)
SINGLE, DOUBLE = np.float32, np.float64

# The one list of preprocesses that the generic properties are checked on; a new constructor fails a test until it is
# here. Each is made of images and a dtype.
MAKE: dict[str, Callable[[Array, Any], Preprocess]] = {
    "rescale": lambda images, dtype: rescale(255, dtype=dtype),
    "standardise": lambda images, dtype: standardise(images, dtype=dtype),
    "subtract_mean_image": lambda images, dtype: subtract_mean_image(images, dtype=dtype),
    "unit_norm": lambda images, dtype: unit_norm(dtype=dtype),
}
every_kind = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
every_dtype = pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=["float32", "float64"])

CHANNELS = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
)


# --- What all have in common ----------------------------------------------------------------------------------


def test_every_public_constructor_is_tried() -> None:
    others = {"Preprocess", "one_hot"}
    assert set(MAKE) == set(module.__all__) - others


@every_kind
@every_dtype
@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.float32, np.float64])
def test_floats_of_the_dtype_come_out_in_the_same_shape(
    make: Callable[..., Preprocess], dtype: type, stored: type
) -> None:
    images = BYTES.astype(stored)
    inputs = make(images, dtype)(images)
    assert (inputs.dtype, inputs.shape) == (dtype, images.shape)
    assert make(images, dtype)(images[2:3]).tobytes() == inputs[2:3].tobytes()


@every_kind
@every_dtype
def test_what_is_stored_is_never_written_to(make: Callable[..., Preprocess], dtype: type) -> None:
    for images in (BYTES.copy(), BYTES.astype(dtype)):  # floats of the dtype could be changed in place
        before = images.copy()
        preprocess = make(images, dtype)
        assert not np.shares_memory(preprocess(images), images)
        np.testing.assert_array_equal(images, before, strict=True)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "by columns": np.asfortranarray,
    "channels first": lambda images: np.moveaxis(np.ascontiguousarray(np.moveaxis(images, -1, 1)), 1, -1),
    "a mirrored view": lambda images: np.ascontiguousarray(images[:, :, ::-1])[:, :, ::-1],
    "read-only": lambda images: np.frombuffer(images.tobytes(), images.dtype).reshape(images.shape),
}


@every_kind
@pytest.mark.parametrize("turn", LAYOUTS.values(), ids=LAYOUTS)
def test_images_may_lie_in_any_order(make: Callable[..., Preprocess], turn: Callable[[Array], Array]) -> None:
    turned = turn(BYTES)
    # Sums in another order are rounded differently.
    np.testing.assert_allclose(make(turned, DOUBLE)(turned), make(BYTES, DOUBLE)(BYTES), rtol=1e-12, strict=True)


@every_kind
def test_no_images_are_no_inputs(make: Callable[..., Preprocess]) -> None:
    inputs = make(BYTES, SINGLE)(BYTES[:0])
    assert (inputs.dtype, inputs.shape) == (SINGLE, (0, 4, 5, 3))


@every_kind
def test_statistics_are_those_of_the_images_given(make: Callable[..., Preprocess]) -> None:
    """A preprocess is made once: what it is applied to later does not change it."""
    preprocess = make(BYTES[:4], DOUBLE)
    first = preprocess(BYTES[:4])
    preprocess(255 - BYTES)
    np.testing.assert_array_equal(preprocess(BYTES[:4]), first)
    np.testing.assert_array_equal(preprocess(BYTES)[:4], first)
    assert make(BYTES[:4], DOUBLE) == preprocess


@every_kind
@every_dtype
def test_a_description_in_a_file_rebuilds_it_exactly(make: Callable[..., Preprocess], dtype: type) -> None:
    for images in (BYTES, BYTES.astype(DOUBLE) * math.pi, DIGITS.train.inputs):
        preprocess = make(images, dtype)
        description = json.loads(json.dumps(describe(preprocess)))
        again = rebuild(description, kind="preprocessing")
        inputs = again(images)
        assert inputs.dtype == dtype
        assert inputs.tobytes() == preprocess(images).tobytes()
        assert describe(again) == description


@every_kind
def test_a_preprocess_is_a_value(make: Callable[..., Preprocess]) -> None:
    preprocess = make(BYTES, SINGLE)
    for again in (
        make(BYTES, SINGLE),
        pickle.loads(pickle.dumps(preprocess)),
        rebuild(describe(preprocess), kind="preprocessing"),
    ):
        assert again == preprocess
        assert hash(again) == hash(preprocess)
    assert make(BYTES, DOUBLE) != preprocess


def test_other_settings_are_other_values() -> None:
    assert repr(rescale(16)) == "rescale(divisor=16)"
    assert rescale(16) != rescale(255)
    assert standardise(BYTES) != standardise(BYTES[1:])
    assert subtract_mean_image(BYTES) != subtract_mean_image(BYTES[1:])
    assert subtract_mean_image(BYTES) != subtract_mean_image(BYTES, divisor=1)
    assert unit_norm() != unit_norm(epsilon=1e-6)


def test_preparing_a_set_changes_how_every_part_is_taken_and_nothing_else() -> None:
    preprocess = standardise(DIGITS.train.inputs)
    data = DIGITS.prepared(preprocess)
    for part, same in ((data.train, DIGITS.train), (data.validation, DIGITS.validation), (data.test, DIGITS.test)):
        assert part.inputs is same.inputs
        assert part.targets is same.targets
        inputs, labels = part.take(slice(5))
        np.testing.assert_array_equal(inputs, preprocess(same.inputs[:5]))
        np.testing.assert_array_equal(labels, same.targets[:5])
    assert (data.classes, data.in_shape) == (DIGITS.classes, DIGITS.in_shape)
    assert DIGITS.train.preprocess == rescale(16)
    assert data.prepared(None).test.take(slice(1))[0].dtype == np.uint8


# --- rescale --------------------------------------------------------------------------------------------------


@every_dtype
def test_rescaling_divides(dtype: type) -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    scaled = rescale(255, dtype=dtype)(stored)
    assert scaled.dtype == dtype
    np.testing.assert_allclose(scaled, np.arange(256).reshape(16, 16) / 255, rtol=np.finfo(dtype).eps)
    assert (scaled.min(), scaled.max()) == (0, 1)


@pytest.mark.parametrize("divisor", [0, -1.0, float("nan"), float("inf")])
def test_a_divisor_that_is_not_positive_is_refused(divisor: float) -> None:
    with pytest.raises(ValueError, match=f"^rescale: divisor must be positive and finite, got {divisor}$"):
        rescale(divisor)


# --- standardise ----------------------------------------------------------------------------------------------


def test_standardised_training_images_have_mean_0_and_deviation_1() -> None:
    images = DIGITS.train.inputs
    standardised = standardise(images)(images)
    assert standardised.dtype == np.float32
    assert standardised.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert standardised.std(dtype=np.float64) == pytest.approx(1, rel=1e-6)


@given(images=CHANNELS)
def test_every_channel_is_standardised_on_its_own(images: Array) -> None:
    preprocess = standardise(images, dtype=np.float64)
    exact = images.astype(np.float64)
    mean, deviation = exact.mean(axis=(0, 1, 2)), exact.std(axis=(0, 1, 2))
    wanted = (exact - mean) / np.where(deviation > 0, deviation, 1)
    np.testing.assert_allclose(preprocess(images), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_channel_that_never_varies_is_only_centred(value: int) -> None:
    images = np.stack([np.full((5, 4, 4), value), np.arange(80).reshape(5, 4, 4)], axis=-1).astype(np.uint8)
    centred = standardise(images)(images)
    assert not centred[..., 0].any()
    assert centred[..., 1].std() == pytest.approx(1, rel=1e-6)
    # Another value of it, met in another part, is moved but not stretched.
    assert (abs(standardise(images)(images ^ 1)[..., 0]) == 1).all()


@pytest.mark.parametrize("mean", [0.1, 1e4])
def test_floats_are_standardised_as_exactly_as_bytes(mean: float) -> None:
    """Sums of floats are rounded, and squares of numbers far from zero lose the small differences between them."""
    images = np.random.default_rng(0).normal(mean, 1e-3, size=(50, 4, 4, 2))
    images[..., 1] = mean  # a channel that never varies
    preprocess = standardise(images, dtype=np.float64)
    assert preprocess(images)[..., 0].mean() == pytest.approx(0, abs=1e-6)
    assert preprocess(images)[..., 0].std() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(preprocess(images + 1)[..., 1], 1, rtol=1e-9)


def test_vectors_are_standardised_feature_by_feature() -> None:
    inputs = np.array([[1.0, 10.0], [3.0, 30.0]])
    assert standardise(inputs)(inputs).tolist() == [[-1, -1], [1, 1]]


# --- subtract_mean_image --------------------------------------------------------------------------------------


@every_dtype
@given(images=CHANNELS, divisor=st.sampled_from([1, 255.0, 0.5]))
def test_the_mean_image_is_subtracted_place_by_place(dtype: type, images: Array, divisor: float) -> None:
    preprocess = subtract_mean_image(images, divisor=divisor, dtype=dtype)
    exact = images.astype(DOUBLE)
    wanted = (exact - exact.mean(axis=0)) / divisor
    # The mean is kept in float32, of at most 255.
    np.testing.assert_allclose(preprocess(images), wanted, rtol=1e-6, atol=255 * 2.0**-23 / divisor)


def test_the_mean_image_is_divided_by_255_unless_told_otherwise() -> None:
    assert subtract_mean_image(BYTES) == subtract_mean_image(BYTES, divisor=255.0)
    black = subtract_mean_image(np.zeros((2, 1, 1, 1), np.uint8))
    assert black(np.full((1, 1, 1, 1), 255, np.uint8)).item() == 1


def test_bytes_below_the_mean_are_negative() -> None:
    """In bytes themselves, 0 - 1 would be 255."""
    images = np.array([[0, 255], [2, 255]], np.uint8)
    for make in (standardise, subtract_mean_image):
        inputs = make(images)(images)
        assert inputs[0, 0] < 0 < inputs[1, 0]
        assert inputs[:, 0].sum() == 0
        assert inputs[:, 1].tolist() == [0, 0]


def test_the_mean_of_many_images_is_exact() -> None:
    """In float32, 255 added to more than 2**25 is 256: the mean of as many images as this would be too large."""
    images = np.full((400_000, 2), 255, np.uint8)
    images[::2, 1] = 254
    inputs = subtract_mean_image(images, divisor=1)(images[:2])
    assert inputs.tolist() == [[0, -0.5], [0, 0.5]]


def test_the_mean_image_is_a_line_of_text_in_the_description() -> None:
    description = describe(subtract_mean_image(BYTES))
    assert len(json.dumps(description)) < 6 * BYTES[0].size + 100


@pytest.mark.parametrize("divisor", [0, -1.0, float("nan"), float("inf")])
def test_a_divisor_of_the_mean_image_that_is_not_positive_is_refused(divisor: float) -> None:
    with pytest.raises(ValueError, match=f"^subtract_mean_image: divisor must be positive and finite, got {divisor}$"):
        subtract_mean_image(BYTES, divisor=divisor)


# --- unit_norm ------------------------------------------------------------------------------------------------


@every_dtype
@given(images=CHANNELS)
def test_every_example_has_length_one_unless_it_is_zero(dtype: type, images: Array) -> None:
    exact = images.astype(DOUBLE)
    norms = np.sqrt(np.square(exact).sum(axis=(1, 2, 3), keepdims=True))
    wanted = exact / np.where(norms > 0, norms, 1)
    inputs = unit_norm(dtype=dtype)(images)
    np.testing.assert_allclose(inputs, wanted, rtol=4 * np.finfo(dtype).eps)


def test_vectors_have_length_one_too() -> None:
    np.testing.assert_allclose(unit_norm()(np.array([[3, 4], [-5, 12]])), [[0.6, 0.8], [-5 / 13, 12 / 13]], rtol=1e-6)


def test_what_is_shorter_than_epsilon_is_divided_by_epsilon() -> None:
    short, long = unit_norm(epsilon=0.5, dtype=DOUBLE)(np.array([[0.03, 0.04], [3.0, 4.0]]))
    np.testing.assert_allclose(short, [0.06, 0.08], rtol=1e-12)
    np.testing.assert_allclose(long, [0.6, 0.8], rtol=1e-12)


@pytest.mark.parametrize("epsilon", [0, -1.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_not_positive_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=f"^unit_norm: epsilon must be positive and finite, got {epsilon}$"):
        unit_norm(epsilon=epsilon)


# --- one_hot --------------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("labels_dtype", [np.uint8, np.int64])
def test_labels_become_rows_with_a_one_in_their_place(dtype: type, labels_dtype: type) -> None:
    labels = np.array([2, 0, 3, 2], labels_dtype)
    rows = one_hot(labels, 4, dtype=dtype)
    assert (rows.dtype, rows.shape) == (dtype, (4, 4))
    assert rows.tolist() == [[float(column == label) for column in range(4)] for label in labels]


def test_no_labels_are_no_rows() -> None:
    assert one_hot(np.zeros(0, np.uint8), 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("labels", "classes", "text"),
    [
        ([0, 3], 3, "labels must be from 0 to 2, got some from 0 to 3"),
        ([-1, 2], 3, "labels must be from 0 to 2, got some from -1 to 2"),
        ([0.0, 1.0], 3, r"labels must be integers, got float64\. Pass labels\.astype\(int\)"),
        ([], 3, r"labels must be integers, got float64\. Pass labels\.astype\(int\)"),
        ([10], 10, "labels must be from 0 to 9, got some from 10 to 10"),
    ],
)
def test_labels_out_of_range_are_refused(labels: list[int], classes: int, text: str) -> None:
    """A label of -1 would otherwise count from the end."""
    with pytest.raises(ValueError, match=f"^one_hot: {text}$"):
        one_hot(np.array(labels), classes)


@pytest.mark.parametrize("preprocess", [standardise, subtract_mean_image])
def test_no_images_have_no_mean(preprocess: Callable[[Array], Preprocess]) -> None:
    with pytest.raises(
        ValueError, match=f"{preprocess.__name__}: expected at least one image .* {re.escape('(0, 2, 2, 1)')}"
    ):
        preprocess(np.zeros((0, 2, 2, 1), np.uint8))


@pytest.mark.parametrize("dtype", ["a", "S3", object, None, "what", 7])
def test_one_hot_in_no_dtype_of_numbers_is_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"^one_hot: dtype must be a dtype of numbers, got"):
        one_hot(np.array([0, 1]), 2, dtype=dtype)
