"""Augmentation: exactly what each says, fair draws, pure functions, and their place in training."""

import math
import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest
from cases import gaussian, message

from funcnn import Key, fold_in, tree
from funcnn import data as index
from funcnn.data import (
    affine,
    augment,
    color_jitter,
    cutmix,
    cutout,
    flip_horizontally,
    load,
    mixing,
    mixup,
    random_affine,
    random_erasing,
    random_grayscale,
    random_rotation,
    shifted_crop,
)
from funcnn.keys import generator
from funcnn.layer import Array
from funcnn.layers import dense
from funcnn.losses import softmax_cross_entropy
from funcnn.models import convnet
from funcnn.optimizers import momentum
from funcnn.train import Epoch, Problem, TrainState, evaluate, init_state, make_step, predict, train

# The one list of augmentations that the generic properties are checked on.
AUGMENTS = (
    flip_horizontally,
    partial(shifted_crop, pad=1),
    partial(shifted_crop, pad=3),
    cutout(2, fill=-1.0),
    random_erasing(0.9, area=(0.1, 0.6)),
    color_jitter(brightness=0.5, contrast=0.5, saturation=0.5),
    random_grayscale(0.5),
    random_rotation(90, fill=0.5),
    random_affine(10, scale=(0.5, 2), shift=0.2, shear=20),
)
COLOURED = ("color_jitter", "random_grayscale")  # they need three channels
MIXING = (mixup(0.5, classes=4), cutmix(classes=4))


def name_of(augment: Any) -> str:
    return getattr(augment, "name", None) or getattr(augment, "func", augment).__name__


def id_of(augment: Any) -> str:
    return f"pad {augment.keywords['pad']}" if isinstance(augment, partial) else name_of(augment)


every_augment = pytest.mark.parametrize("augment", AUGMENTS, ids=id_of)
every_mixing = pytest.mark.parametrize("mixing", MIXING, ids=str)


def images(n: int = 40, shape: tuple[int, ...] = (4, 5, 3), dtype: type = np.float32) -> Array:
    return gaussian((n, *shape), dtype)


# --- What all have in common ----------------------------------------------------------------------------------


def test_every_public_augmentation_is_tried() -> None:
    public = {*augment.__all__, *affine.__all__}
    assert {name_of(each) for each in AUGMENTS} == public
    assert {each.name for each in MIXING} == set(mixing.__all__)
    assert public | {*mixing.__all__} <= set(index.__all__)


@pytest.mark.parametrize("value", [each for each in (*AUGMENTS, *MIXING) if hasattr(each, "name")], ids=id_of)
def test_one_with_settings_is_a_value(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value == eval(repr(value), {value.name: getattr(index, value.name)})
    assert hash(value) == hash(pickle.loads(pickle.dumps(value)))


@every_augment
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(4, 5, 2), (1, 1, 1), (1, 7, 3), (6, 1, 1)], ids=str)
def test_shape_and_dtype_stay(augment: Callable[..., Array], dtype: type, shape: tuple[int, ...]) -> None:
    shape = (*shape[:2], 3) if name_of(augment) in COLOURED else shape
    given = abs(images(6, shape) * 50).astype(dtype)
    augmented = augment(given, Key(0))
    assert (augmented.shape, augmented.dtype) == (given.shape, given.dtype)
    assert augment(given[:0], Key(0)).shape == (0, *shape)


@every_augment
def test_the_same_key_gives_the_same_bits_and_changes_nothing(augment: Callable[..., Array]) -> None:
    given = images()
    before = given.copy()
    first, again = augment(given, Key(3)), augment(given, Key(3))
    assert first.tobytes() == again.tobytes()
    assert not np.shares_memory(first, given)
    np.testing.assert_array_equal(given, before)


@every_augment
def test_other_keys_give_other_images(augment: Callable[..., Array]) -> None:
    given = images()
    keys = [Key(0), Key(1), fold_in(Key(0), 0), fold_in(Key(0), 1)]
    assert len({augment(given, key).tobytes() for key in keys}) == len(keys)


@every_augment
@pytest.mark.parametrize(
    "turn", [np.asfortranarray, lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)]
)
def test_images_may_lie_in_any_order(augment: Callable[..., Array], turn: Callable[[Array], Array]) -> None:
    np.testing.assert_array_equal(augment(turn(images()), Key(0)), augment(images(), Key(0)))


@every_augment
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            np.zeros((3, 4, 5)),
            "expected images (n, height, width, channels), got (3, 4, 5). Pass images[..., None], or",
        ),
        (np.zeros((3, 4)), "expected images (n, height, width, channels), got (3, 4). Pass images[None, ..., None]"),
        (np.zeros((2, 3, 4, 5, 6)), "expected images (n, height, width, channels), got (2, 3, 4, 5, 6)"),
        (np.ma.masked_equal(np.zeros((1, 1, 1, 1)), 0), "images has 1 masked values"),
        (np.zeros((1, 1, 1, 1), object), "images must be numbers"),
        (None, "images must be an array of numbers, got NoneType"),
    ],
    ids=["3 axes", "2 axes", "5 axes", "masked", "objects", "none"],
)
def test_what_are_no_images_is_refused(augment: Callable[..., Array], given: Any, problem: str) -> None:
    name = name_of(augment)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: {problem}')}"):
        augment(given, Key(0))


@every_augment
def test_a_list_of_images_is_taken_for_an_array(augment: Callable[..., Array]) -> None:
    given = images(3)
    np.testing.assert_array_equal(augment(given.tolist(), Key(0)), augment(given.astype(np.float64), Key(0)))


@every_augment
@pytest.mark.parametrize("shape", [(0, 4, 5, 2), (3, 0, 5, 2), (3, 4, 0, 2), (3, 4, 5, 0)], ids=str)
def test_what_is_empty_stays_so(augment: Callable[..., Array], shape: tuple[int, ...]) -> None:
    assert augment(np.zeros(shape), Key(0)).shape == shape


# --- Flips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5, 2), (3, 4, 1), (1, 2, 3)], ids=str)
def test_an_image_is_mirrored_or_the_same(shape: tuple[int, ...]) -> None:
    given = images(50, shape)
    flipped = flip_horizontally(given, Key(0))
    mirrored = np.zeros_like(given)
    for column in range(shape[1]):
        mirrored[:, :, column] = given[:, :, shape[1] - 1 - column]
    same = (flipped == given).all(axis=(1, 2, 3))
    other = (flipped == mirrored).all(axis=(1, 2, 3))
    assert (same ^ other).all()
    assert same.any()
    assert other.any()


def test_about_half_are_mirrored_each_on_its_own() -> None:
    n = 40_000
    given = np.broadcast_to(np.array([0, 1], np.uint8).reshape(1, 1, 2, 1), (n, 1, 2, 1))
    flipped = flip_horizontally(given, Key(0))[:, 0, 0, 0] == 1
    assert abs(flipped.mean() - 0.5) < 4.5 * math.sqrt(0.25 / n)
    # So is the one beside it, and the one in its place under the next key.
    later = flip_horizontally(given, Key(1))[:, 0, 0, 0] == 1
    for pair in (flipped[1:] == flipped[:-1], flipped == later):
        assert abs(pair.mean() - 0.5) < 4.5 * math.sqrt(0.25 / n)


# --- Shifts ---------------------------------------------------------------------------------------------------


def crop(image: Array, top: int, left: int, pad: int) -> Array:
    """The crop from (top, left) of the padded image, a pixel after the other."""
    height, width, _ = image.shape
    cropped = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            row, column = top + i - pad, left + j - pad
            if 0 <= row < height and 0 <= column < width:
                cropped[i, j] = image[row, column]
    return cropped


@pytest.mark.parametrize(("shape", "pad"), [((4, 5, 2), 1), ((3, 3, 1), 2), ((2, 4, 3), 3)], ids=str)
def test_every_image_is_the_crop_at_a_drawn_place(shape: tuple[int, ...], pad: int) -> None:
    n = 30 * (2 * pad + 1) ** 2
    given = images(n, shape)
    shifted = shifted_crop(given, Key(0), pad=pad)
    places = [(top, left) for top in range(2 * pad + 1) for left in range(2 * pad + 1)]
    found = []
    for image, moved in zip(given, shifted, strict=True):
        fits = [place for place in places if np.array_equal(moved, crop(image, *place, pad))]
        assert fits
        if moved.any():  # where the whole image is pushed out, its place cannot be told
            assert len(fits) == 1
        found += fits[:1] if moved.any() else []
    seen = [place for place in places if crop(np.ones(shape), *place, pad).any()]
    assert set(found) == set(seen)
    # Each place is as likely as any other.
    share = 1 / len(places)
    for place in seen:
        assert abs(found.count(place) - n * share) < 5 * math.sqrt(n * share * (1 - share))


def test_the_two_directions_are_drawn_apart() -> None:
    n = 30_000
    given = np.zeros((n, 3, 3, 1), np.uint8)
    given[:, 1, 1] = 1
    place = shifted_crop(given, Key(0), pad=1).reshape(n, 9).argmax(axis=1)
    rows, columns = np.divmod(place, 3)
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 4.5 / math.sqrt(n)
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("pad", [2, 3, 5, 400, 2**31])
def test_a_shift_may_be_longer_than_the_image_at_no_cost_of_memory(pad: int) -> None:
    given = images(60, (2, 4, 3))
    corners = generator(Key(7)).integers(2 * pad + 1, size=(60, 2)).tolist()
    wanted = [crop(image, top, left, pad) for image, (top, left) in zip(given, corners, strict=True)]
    np.testing.assert_array_equal(shifted_crop(given, Key(7), pad=pad), np.array(wanted))


@pytest.mark.parametrize(
    ("pad", "problem"),
    [
        (0, "at least 1, got 0"),
        (-1, "at least 1, got -1"),
        (10**30, "at most 2,147,483,648, got 1000000000000000000000000000000"),
        (1.0, "a whole number of pixels, got 1.0"),
        (True, "a whole number of pixels, got True"),
        ("1", "a whole number of pixels, got '1'"),
    ],
)
def test_a_pad_that_is_none_is_refused(pad: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^shifted_crop: pad must be {problem}$"):
        shifted_crop(images(), Key(0), pad=pad)
    assert (
        shifted_crop(images(), Key(0), pad=np.uint8(200)).tolist() == shifted_crop(images(), Key(0), pad=200).tolist()
    )


# --- Parts filled ---------------------------------------------------------------------------------------------


def rectangle(mask: Array) -> tuple[int, int, int, int]:
    """The rectangle (top, bottom, left, right) that is all True in a mask, and nothing else is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask.sum() == (rows[-1] + 1 - rows[0]) * (columns[-1] + 1 - columns[0])
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout_fills_a_square_that_may_leave_the_image(size: int) -> None:
    given = images(500, (6, 7, 2))
    cut = cutout(size, fill=9.0)(given, Key(0))
    filled = (cut == 9).all(axis=3)
    np.testing.assert_array_equal(cut[~filled], given[~filled])
    sizes = set()
    for mask in filled:
        top, bottom, left, right = rectangle(mask)
        sizes |= {(bottom - top, right - left)}
        assert bottom - top == size or top == 0 or bottom == 6
        assert right - left == size or left == 0 or right == 7
    whole, least = (min(size, 6), min(size, 7)), (min(-(-size // 2), 6), min(-(-size // 2), 7))
    assert whole in sizes
    assert min(sizes) >= least or size % 2 == 0
    share = filled.mean(axis=0)  # a pixel in the middle is filled by size² centres of 42
    if size <= 3:
        expected = size**2 / 42
        assert abs(share[3, 3] - expected) < 5 * math.sqrt(expected / 500)


def test_erasing_fills_a_rectangle_of_the_area_and_ratio_with_its_probability() -> None:
    given = images(4000, (30, 20, 1))
    erased = random_erasing(0.4, area=(0.1, 0.3), ratio=(0.5, 4.0), fill=7.0)(given, Key(0))
    filled = (erased == 7)[..., 0]
    np.testing.assert_array_equal(erased[~filled], given[~filled])
    touched = filled.any(axis=(1, 2))
    assert abs(touched.mean() - 0.4) < 5 * math.sqrt(0.24 / 4000)
    boxes = np.array([rectangle(mask) for mask in filled[touched]])
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    area, ratio = heights * widths / 600, heights / widths
    assert 0.09 < area.min() < 0.12
    assert 0.28 < area.max() < 0.33
    assert abs(area.mean() - 0.2) < 5 * math.sqrt(0.04 / 12 / 1600) + 0.002
    assert 0.45 < ratio.min() < 0.55
    assert 3.5 < ratio.max() <= 4.5
    assert (boxes[:, 0] == 0).any()
    assert (boxes[:, 1] == 30).any()
    assert (boxes[:, 2] == 0).any()
    assert (boxes[:, 3] == 20).any()


def test_an_image_too_small_for_any_rectangle_stays() -> None:
    given = images(10, (1, 5, 2))
    np.testing.assert_array_equal(random_erasing(1.0)(given, Key(0)), given)


# --- Colours --------------------------------------------------------------------------------------------------


def test_colours_change_by_their_formulas() -> None:
    given = gaussian((3, 2, 4, 3))
    weights = (0.299, 0.587, 0.114)
    jittered = color_jitter(brightness=0.5, contrast=0.4, saturation=1.0)(given, Key(1))
    draws = generator(Key(1)).uniform(-1, 1, (3, 3))
    for i, image in enumerate(given):
        b, c, s = 1 + draws[:, i] * (0.5, 0.4, 1.0)
        wanted = b * image
        grey = sum(w * wanted[..., k] for k, w in enumerate(weights))
        wanted = grey.mean() + c * (wanted - grey.mean())
        grey = sum(w * wanted[..., k] for k, w in enumerate(weights))[..., None]
        wanted = grey + s * (wanted - grey)
        np.testing.assert_allclose(jittered[i], wanted, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(color_jitter()(given, Key(0)), given)


def test_bytes_stay_bytes() -> None:
    given = np.full((50, 1, 1, 3), 200, np.uint8)
    bright = color_jitter(brightness=1.0)(given, Key(0))
    wanted = np.rint(200 * (1 + generator(Key(0)).uniform(-1, 1, (3, 50))[0]).astype(np.float32))
    np.testing.assert_array_equal(bright[:, 0, 0, 0], np.minimum(wanted, 255))
    assert (bright == 255).any()


def test_grey_images_have_equal_channels() -> None:
    given = images(2000, (2, 2, 3))
    grey = random_grayscale(0.3)(given, Key(0))
    changed = (grey != given).any(axis=(1, 2, 3))
    assert abs(changed.mean() - 0.3) < 5 * math.sqrt(0.21 / 2000)
    wanted = (given[changed] * (0.299, 0.587, 0.114)).sum(axis=3, keepdims=True)
    np.testing.assert_allclose(grey[changed], np.broadcast_to(wanted, grey[changed].shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("augment", [color_jitter(contrast=0.1), random_grayscale()], ids=str)
def test_colours_need_three_channels(augment: Any) -> None:
    text = message(ValueError, augment, np.zeros((2, 3, 3, 1)), Key(0))
    assert text == f"{augment.name}: expected images of three channels, red, green and blue, got (2, 3, 3, 1)"


# --- Turned and zoomed ----------------------------------------------------------------------------------------


def mapped(image: Array, turn: Array, shift: Array, fill: float) -> Array:
    """An image of which each pixel is interpolated at its place before, one after the other."""
    height, width, _ = image.shape
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    made = np.empty_like(image)

    def pixel(i: int, j: int) -> Any:
        return image[i, j] if 0 <= i < height and 0 <= j < width else fill

    for i in range(height):
        for j in range(width):
            y, x = turn @ (np.array([i, j]) - middle - shift) + middle
            top, left = math.floor(y), math.floor(x)
            dy, dx = y - top, x - left
            upper = (1 - dx) * pixel(top, left) + dx * pixel(top, left + 1)
            lower = (1 - dx) * pixel(top + 1, left) + dx * pixel(top + 1, left + 1)
            made[i, j] = (1 - dy) * upper + dy * lower
    return made


def rotation(angle: float) -> Array:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


@pytest.mark.parametrize("shape", [(5, 8, 2), (1, 4, 1), (6, 1, 3)], ids=str)
def test_rotation_is_interpolation_at_the_turned_place(shape: tuple[int, ...]) -> None:
    given = images(5, shape, np.float64)
    turned = random_rotation(170, fill=2.5)(given, Key(4))
    angles = np.radians(generator(Key(4)).uniform(-170, 170, 5))
    wanted = [mapped(image, rotation(angle), np.zeros(2), 2.5) for image, angle in zip(given, angles, strict=True)]
    np.testing.assert_allclose(turned, wanted, rtol=0, atol=1e-12)


def test_an_affine_map_is_all_of_its_parts() -> None:
    given = images(300, (6, 9, 1), np.float64)  # more than a block of them
    made = random_affine(40, scale=(0.5, 2), shift=0.3, shear=30, fill=-1.0)(given, Key(4))
    draw = generator(Key(4))
    angles = np.radians(draw.uniform(-40, 40, 300))
    factors = np.exp(draw.uniform(math.log(0.5), math.log(2), 300))
    shears = np.tan(np.radians(draw.uniform(-30, 30, 300)))
    shifts = draw.uniform(-0.3, 0.3, (300, 2)) * (6, 9)
    for i in range(0, 300, 30):
        turn = rotation(angles[i]) @ np.array([[1, -shears[i]], [0, 1]]) / factors[i]
        np.testing.assert_allclose(made[i], mapped(given[i], turn, shifts[i], -1.0), rtol=0, atol=1e-12)


def test_no_turn_is_the_image_to_the_last_bit() -> None:
    for dtype in (np.float32, np.float64, np.uint8):
        given = abs(images(7, (5, 6, 2)) * 40).astype(dtype)
        np.testing.assert_array_equal(random_rotation(0)(given, Key(0)), given)
        np.testing.assert_array_equal(random_affine()(given, Key(0)), given)


def test_a_larger_scale_enlarges_and_a_turn_keeps_what_is_round() -> None:
    y, x = np.mgrid[-20:21, -20:21]
    disc = (np.hypot(y, x) < 8).astype(np.float64)[None, :, :, None]
    large, small = (random_affine(scale=(each, each))(disc, Key(0)).sum() for each in (2.0, 0.5))
    assert large / disc.sum() == pytest.approx(4, rel=0.05)
    assert small / disc.sum() == pytest.approx(0.25, rel=0.1)
    smooth = np.exp(-np.square(np.hypot(y, x) / 8))[None, :, :, None]
    np.testing.assert_allclose(random_rotation(180)(smooth, Key(0)), smooth, atol=1e-2)


def test_shifts_go_both_ways_and_as_far_as_they_may() -> None:
    point = np.zeros((500, 21, 11, 1))
    point[:, 10, 5] = 1
    moved = random_affine(shift=0.2)(point, Key(0))[..., 0]
    down = (moved.sum(axis=2) @ np.arange(21)) - 10
    across = (moved.sum(axis=1) @ np.arange(11)) - 5
    for shift, most in ((down, 4.2), (across, 2.2)):
        assert 0.95 * most < shift.max() <= most
        assert 0.95 * most < -shift.min() <= most
    assert abs(np.corrcoef(down, across)[0, 1]) < 5 / math.sqrt(500)


PAIR = "a pair (low, high) of positive numbers"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: random_rotation(181), "random_rotation: degrees must be from 0 to 180, got 181.0"),
        (lambda: random_rotation(-1), "random_rotation: degrees must be from 0 to 180, got -1.0"),
        (lambda: random_rotation(9, fill=math.nan), "random_rotation: fill must be finite, got nan"),
        (lambda: random_affine(shear=90), "random_affine: shear must be from 0 to 89, got 90.0"),
        (lambda: random_affine(shift=2), "random_affine: shift must be from 0 to 1, got 2.0"),
        (lambda: random_affine(scale=(2, 1)), f"random_affine: scale must be {PAIR}, got (2, 1)"),
        (lambda: random_affine(scale=2), f"random_affine: scale must be {PAIR}, got 2"),
        (lambda: random_erasing(area=(0.1, 2)), f"random_erasing: area must be {PAIR} and at most 1, got (0.1, 2)"),
        (lambda: random_erasing(1.5), "random_erasing: probability must be from 0 to 1, got 1.5"),
        (lambda: cutout(0), "cutout: size must be a positive int, got 0"),
        (lambda: color_jitter(contrast=-0.1), "color_jitter: contrast must be from 0 to 1, got -0.1"),
        (lambda: mixup(0, classes=3), "mixup: alpha must be positive and finite, got 0.0"),
        (lambda: cutmix(classes=0), "cutmix: classes must be a positive int, got 0"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(make: Callable[[], Any], text: str) -> None:
    assert message(ValueError, make) == text


# --- Mixed ----------------------------------------------------------------------------------------------------


@every_mixing
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_a_mixed_batch_has_its_form_and_distributions(mixing: Any, dtype: type) -> None:
    given, labels = abs(images(40) * 50).astype(dtype), np.arange(40) % 4
    before = given.copy()
    (mixed, targets), again = mixing((given, labels), Key(0)), mixing((given, labels), Key(0))
    assert (mixed.shape, mixed.dtype) == (given.shape, given.dtype)
    assert (targets.shape, targets.dtype) == ((40, 4), np.float64 if dtype is np.float64 else np.float32)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert targets.min() >= 0
    assert (mixed.tobytes(), targets.tobytes()) == (again[0].tobytes(), again[1].tobytes())
    np.testing.assert_array_equal(given, before)
    assert mixing((given, labels), Key(1))[0].tobytes() != mixed.tobytes()
    assert [each.shape for each in mixing((given[:0], labels[:0]), Key(0))] == [(0, 4, 5, 3), (0, 4)]


@every_mixing
def test_what_is_too_small_for_a_dtype_is_zero(mixing: Any) -> None:
    tiny = np.full((40, 4, 5, 3), 1e-7, np.float16)
    with np.errstate(all="raise"):
        mixed, targets = attrs.evolve(mixing, alpha=1e-3)((tiny, np.arange(40) % 4), Key(0))
    assert (mixed.dtype, targets.dtype) == (np.float16, np.float16)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-3)


@every_mixing
def test_class_numbers_are_mixed_as_their_vectors(mixing: Any) -> None:
    given, labels = images(12), np.arange(12) % 4
    for one, other in zip(mixing((given, labels), Key(0)), mixing((given, np.eye(4)[labels]), Key(0)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_mixup_mixes_inputs_and_targets_by_the_same_shares() -> None:
    vectors, labels = gaussian((500, 6)), np.arange(500) % 4
    mixed, targets = mixup(0.7, classes=4)((vectors, labels), Key(3))
    draw = generator(Key(3))
    partners, shares = draw.permutation(500), draw.beta(0.7, 0.7, 500)[:, None]
    np.testing.assert_allclose(mixed, shares * vectors + (1 - shares) * vectors[partners], rtol=1e-12, atol=1e-14)
    one_hot = np.eye(4)[labels]
    np.testing.assert_allclose(targets, shares * one_hot + (1 - shares) * one_hot[partners], rtol=1e-12, atol=1e-14)


def test_cutmix_counts_the_pixels_of_a_rectangle() -> None:
    labels = np.arange(600) % 4
    given = np.broadcast_to(labels.reshape(-1, 1, 1, 1), (600, 9, 7, 2)).astype(np.float64)
    mixed, targets = cutmix(1.0, classes=4)((given, labels), Key(0))
    for image, label, target in zip(mixed, labels, targets, strict=True):
        np.testing.assert_allclose(target, [(image == each).mean() for each in range(4)], rtol=0, atol=1e-12)
        other = (image != label).all(axis=2)
        if other.any():
            rectangle(other)
    shares = (mixed != given).mean(axis=(1, 2, 3))
    assert shares.max() > 0.8
    assert 0 < np.quantile(shares[shares > 0], 0.2) < 0.3


@every_mixing
def test_what_cannot_be_mixed_is_refused(mixing: Any) -> None:
    given, name = images(3), mixing.name
    for targets, text in (
        (np.array([0, 1, 4]), f"{name}: labels must be from 0 to 3, got 0 to 4"),
        (np.array([0, 1]), f"{name}: expected labels of shape (3,), one for each output row, got (2,)"),
        (np.full((3, 4), 0.5), f"{name}: rows of labels must be distributions"),
        (np.array([0.0, 1.0, 2.0]), f"{name}: labels must be class numbers of an integer dtype, got float64"),
    ):
        assert message(ValueError, mixing, (given, targets), Key(0)).startswith(text)
    assert message(ValueError, mixing, given, Key(0)) == (
        f"{name}: expected a batch (inputs, targets), got an array float32 (3, 4, 5, 3)"
    )
    assert message(ValueError, mixing, (np.float32(1), 0), Key(0)).startswith(f"{name}: expected inputs (n, ...)")


# --- In training ----------------------------------------------------------------------------------------------

DIGITS = load("digits")
SMALL = attrs.evolve(DIGITS, train=DIGITS.train.select(slice(50)), validation=DIGITS.validation.select(slice(20)))
NET = convnet([4], [], 10, batch_norm=True)
PLAIN = Problem(NET, softmax_cross_entropy, momentum(0.05))
AUGMENTED = attrs.evolve(PLAIN, augment=[flip_horizontally, partial(shifted_crop, pad=2)])
START = init_state(PLAIN, Key(3), DIGITS.in_shape)
PER_EPOCH = 4  # batches of 16, 16, 16 and 2


def run(problem: Problem, state: TrainState) -> list[Any]:
    return list(train(problem, state, SMALL, epochs=2, batch_size=16))


def test_a_problem_has_its_augmentations_in_order() -> None:
    assert PLAIN.augment == ()
    assert AUGMENTED.augment[0] is flip_horizontally
    assert isinstance(AUGMENTED.augment, tuple)


def noted(images: Array, key: Key, *, notes: list[tuple[Array, Key]]) -> Array:
    notes.append((images, key))
    return images + np.float32(1)


@pytest.mark.parametrize("seed", [0, 3])
def test_every_step_has_a_key_of_its_own_for_each_augmentation(seed: int) -> None:
    notes: list[tuple[Array, Key]] = []
    again: list[tuple[Array, Key]] = []
    for each in (notes, again):
        problem = attrs.evolve(PLAIN, augment=[partial(noted, notes=each), partial(noted, notes=each)])
        run(problem, attrs.evolve(START, seed=seed))
    keys = [key for _, key in notes]
    assert len(set(keys)) == len(keys) == 2 * 2 * PER_EPOCH  # neither in validation nor anywhere else
    assert {key.seed for key in keys} == {seed}
    assert [key for _, key in again] == keys
    # Each is given what the one before it has made.
    for (first, _), (second, _) in zip(notes[::2], notes[1::2], strict=True):
        np.testing.assert_array_equal(second, first + np.float32(1))


def test_the_draws_are_none_that_dropout_or_shuffling_has() -> None:
    notes: list[tuple[Array, Key]] = []
    make_step(attrs.evolve(PLAIN, augment=[partial(noted, notes=notes)]))(START, SMALL.train.take(slice(16)))
    ((_, key),) = notes
    others = [fold_in(fold_in(Key(3), purpose), 0) for purpose in ("step", "shuffle")]
    draws = [generator(each).random() for each in (key, *others, Key(3), fold_in(Key(3), "init"))]
    assert len(set(draws)) == len(draws)


def test_a_step_is_that_of_the_augmented_batch() -> None:
    inputs, labels = SMALL.train.take(slice(16))
    keys: list[tuple[Array, Key]] = []
    make_step(attrs.evolve(PLAIN, augment=[partial(noted, notes=keys)] * 2))(START, (inputs, labels))
    by_hand = shifted_crop(flip_horizontally(inputs, keys[0][1]), keys[1][1], pad=2)
    state, metrics = make_step(AUGMENTED)(START, (inputs, labels))
    wanted, its_metrics = make_step(PLAIN)(START, (by_hand, labels))
    assert tree.equal(state, wanted)
    assert metrics == its_metrics
    assert not np.array_equal(by_hand, inputs)
    assert not tree.equal(state, make_step(PLAIN)(START, (inputs, labels))[0])


@pytest.mark.parametrize("stop", range(2 * PER_EPOCH + 1))
def test_a_run_that_goes_on_ends_in_the_same_bits(stop: int) -> None:
    whole = [event for event in run(AUGMENTED, START) if isinstance(event, Epoch)][-1].state
    state, step = START, make_step(AUGMENTED)
    for _ in range(stop):
        epoch, batch = divmod(state.step, PER_EPOCH)
        order = generator(fold_in(fold_in(Key(3), "shuffle"), epoch)).permutation(50)[batch * 16 : batch * 16 + 16]
        state, _ = step(state, SMALL.train.take(order))
    rest = [event for event in run(AUGMENTED, state) if isinstance(event, Epoch)]
    assert tree.equal(rest[-1].state if rest else state, whole)


def test_augmentation_changes_the_run() -> None:
    assert not tree.equal(run(AUGMENTED, START)[-1].state, run(PLAIN, START)[-1].state)


def test_what_is_evaluated_or_predicted_is_never_augmented() -> None:
    def never(images: Array, key: Key) -> Array:
        raise AssertionError("augmented outside of training")

    problem = attrs.evolve(PLAIN, augment=[never])
    fresh = init_state(PLAIN, Key(3), DIGITS.in_shape)
    assert evaluate(problem, fresh, SMALL.test) == evaluate(PLAIN, fresh, SMALL.test)
    with pytest.raises(AssertionError, match="outside"):
        make_step(problem)(fresh, SMALL.train.take(slice(4)))
    event = run(AUGMENTED, START)[-1]
    assert event.validation == evaluate(PLAIN, event.state, SMALL.validation)
    inputs, _ = SMALL.test.take(slice(10))
    np.testing.assert_array_equal(predict(NET, fresh, inputs), NET.apply(fresh.params, fresh.state, inputs).y)


def test_vectors_can_be_augmented_by_functions_of_ones_own() -> None:
    """An augmentation is any function of inputs and a key."""
    problem = Problem(dense(10), softmax_cross_entropy, momentum(0.1), augment=[lambda inputs, key: 0 * inputs])
    state = init_state(problem, Key(0), (64,))
    _, metrics = make_step(problem)(state, (gaussian((5, 64), np.float32), np.arange(5)))
    assert metrics.loss == pytest.approx(math.log(10), rel=1e-6)


# --- Mixing in training ---------------------------------------------------------------------------------------


def step_key(i: int, *shard: int) -> Key:
    key = fold_in(fold_in(fold_in(Key(START.seed), "augment"), START.step), i)
    return fold_in(key, shard[0]) if shard else key


@pytest.mark.parametrize("mixes", [mixup(1.0, classes=10), cutmix(classes=10)], ids=str)
def test_a_step_is_that_of_the_mixed_batch(mixes: Any) -> None:
    inputs, labels = SMALL.train.take(slice(16))
    problem = attrs.evolve(PLAIN, augment=[flip_horizontally, mixes, random_erasing(1.0)])
    mixed, targets = mixes((flip_horizontally(inputs, step_key(0)), labels), step_key(1))
    by_hand = random_erasing(1.0)(mixed, step_key(2)), targets
    state, metrics = make_step(problem)(START, (inputs, labels))
    wanted, its_metrics = make_step(PLAIN)(START, by_hand)
    assert tree.equal(state, wanted)
    assert metrics == its_metrics
    events = run(problem, START)
    assert math.isfinite(events[-1].train.loss)
    for shards in (1, 2):  # an example of weight 0 would count by another's weight
        with pytest.raises(TypeError, match="the batch has weights, and mixed with another an example would count by"):
            make_step(problem, shards=shards)(START, (inputs, labels, np.arange(16) % 2))


def test_a_shard_is_mixed_within_itself() -> None:
    mixes = mixup(1.0, classes=10)
    inputs, labels = SMALL.train.take(slice(8))
    parts = [mixes((inputs[part], labels[part]), step_key(0, i)) for i, part in enumerate((slice(4), slice(4, 8)))]
    by_hand = tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    net = attrs.evolve(PLAIN, net=convnet([4], [], 10))
    start = attrs.evolve(init_state(net, Key(3), DIGITS.in_shape), seed=START.seed)
    state, _ = make_step(attrs.evolve(net, augment=[mixes]), shards=2)(start, (inputs, labels))
    assert tree.equal(state, make_step(net, shards=2)(start, by_hand)[0])


def smoothed(batch: tuple[Array, Array], key: Key) -> tuple[Array, Array]:
    inputs, labels = batch
    return inputs, np.eye(10)[labels] * 0.9 + 0.01


smoothed.mixes = True  # type: ignore[attr-defined]


def test_a_function_of_ones_own_may_mix() -> None:
    inputs, labels = SMALL.train.take(slice(4))
    wanted = make_step(PLAIN)(START, smoothed((inputs, labels), Key(0)))[0]
    for own in (smoothed, partial(smoothed)):
        assert tree.equal(make_step(attrs.evolve(PLAIN, augment=[own]))(START, (inputs, labels))[0], wanted)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda x, y: x, "what mixes must return (inputs, targets), got an array float32 (4, 8, 8, 1)"),
        (lambda x, y: (x, y[:2]), "what mixes must return a target for each of its 4 inputs, got an array int64 (2,)"),
        (
            lambda x, y: (x[:2], y),
            "an augmentation must return as many inputs as it is given, 4 of float32, got an array",
        ),
    ],
)
def test_what_a_mixing_function_must_give(made: Callable[[Array, Array], Any], problem: str) -> None:
    def own(batch: tuple[Array, Array], key: Key) -> Any:
        return made(*batch)

    own.mixes = True  # type: ignore[attr-defined]
    inputs, labels = SMALL.train.take(slice(4))
    text = message(TypeError, make_step(attrs.evolve(PLAIN, augment=[own])), START, (inputs, labels.astype(np.int64)))
    assert text.startswith(f"own: {problem}")
