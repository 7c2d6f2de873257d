"""Augmentation: exactly the mirrored or shifted images, fair draws, pure functions, and their place in training."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest
from cases import gaussian

from funcnn import Key, fold_in, tree
from funcnn.data import augment as module
from funcnn.data import flip_horizontally, load, shifted_crop
from funcnn.keys import generator
from funcnn.layer import Array
from funcnn.layers import dense
from funcnn.losses import softmax_cross_entropy
from funcnn.models import convnet
from funcnn.optimizers import momentum
from funcnn.train import Epoch, Problem, TrainState, evaluate, init_state, make_step, predict, train

# The one list of augmentations that the generic properties are checked on.
AUGMENTS = (flip_horizontally, partial(shifted_crop, pad=1), partial(shifted_crop, pad=3))
every_augment = pytest.mark.parametrize("augment", AUGMENTS, ids=["flip_horizontally", "pad 1", "pad 3"])


def images(n: int = 40, shape: tuple[int, ...] = (4, 5, 2), dtype: type = np.float32) -> Array:
    return gaussian((n, *shape), dtype)


# --- What all have in common ----------------------------------------------------------------------------------


def test_every_public_augmentation_is_tried() -> None:
    assert {getattr(augment, "func", augment).__name__ for augment in AUGMENTS} == set(module.__all__)


@every_augment
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(4, 5, 2), (1, 1, 1), (1, 7, 3), (6, 1, 1)], ids=str)
def test_shape_and_dtype_stay(augment: Callable[..., Array], dtype: type, shape: tuple[int, ...]) -> None:
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
    name = getattr(augment, "func", augment).__name__
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
