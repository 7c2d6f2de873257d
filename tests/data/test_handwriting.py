"""Drawings prepared as data sets of handwriting are: whatever they are drawn with and on, the same digit comes out."""

import re
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from funcnn.checks import LayerError
from funcnn.data import load
from funcnn.data.handwriting import NothingDrawn, centred_drawing
from funcnn.data.ink import _opened, _parts
from funcnn.data.preprocess import rescale
from funcnn.rebuild import own_parts, rebuild
from funcnn.settings import describe

pytest.importorskip("PIL.Image")

import drawings
from drawings import HANDS, STYLES, Array, drawing, ink, on

MNIST = centred_drawing()
DIGITS = load("digits").prepare
assert DIGITS is not None

SHAPE = (200, 240)
FIVE = ink(HANDS[0][5], SHAPE, (40, 50), 120, 9)  # shares of ink
PLAIN = MNIST(on(255, 0, FIVE))


def unlike(image: Array, other: Array = PLAIN) -> float:
    """How much two prepared images differ, in shares of the ink of the second, shifts by a pixel not counted."""
    moved = [np.roll(image, (i, j), (0, 1)).astype(float) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return min(float(abs(each - other).sum()) for each in moved) / float(other.sum())


# --- What comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
@pytest.mark.parametrize("digit", [1, 4, 8])
def test_a_drawing_is_made_as_mnist_was(digit: int, style: Any) -> None:
    """Light on black, in 20 of 28 pixels, the centre of its mass on the 15th, strokes of a usual width."""
    image = MNIST(drawing(digit, 1, style))
    assert (image.shape, image.dtype, image.max()) == ((28, 28, 1), np.uint8, 255)
    for axis in (0, 1):
        mass = image.sum(axis=(1 - axis, 2), dtype=float)
        extent = np.flatnonzero(mass)
        assert extent[-1] - extent[0] < 20
        assert abs((mass * np.arange(28)).sum() / mass.sum() - 14) <= 0.6
    assert max(np.ptp(np.flatnonzero(image.any(axis=(each, 2)))) for each in (0, 1)) >= 18
    ridge = (image[..., 0] > 127).sum()
    assert 20 < ridge < 250  # of 784: a line of one to five pixels
    if style not in (drawings.thick, drawings.turned):
        assert unlike(image, MNIST(drawing(digit, 1, drawings.plain))) < 0.45


@pytest.mark.parametrize("style", STYLES[:5], ids=lambda style: style.__name__)
def test_a_drawing_is_made_as_ucis_digits_were(style: Any) -> None:
    image = DIGITS(drawing(3, 0, style))
    assert (image.shape, image.dtype) == ((8, 8, 1), np.uint8)
    assert 12 <= image.max() <= 16
    assert image[0].any()  # as high as the image, five eighths as wide
    assert image[-1].any()
    assert not image[:, [0, -1]].any()


def test_mnists_own_images_stay_nearly_what_they_are() -> None:
    """A digit in 20 pixels of 28 is found where it is."""
    for digit in range(10):
        image = MNIST(drawing(digit, 3, drawings.plain))
        assert unlike(MNIST(image), image) < 0.15


# --- What makes no difference ---------------------------------------------------------------------------------

Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]][:, :, :, None] / 240
NOISE = np.random.default_rng(0).normal(0, 6, (*SHAPE, 3))
SAME = {
    "white on black": lambda: on(0, 255, FIVE),
    "pale grey on grey": lambda: on(128, 170, FIVE),
    "one channel": lambda: on(255, 0, FIVE)[..., :1],
    "red on white": lambda: on(255, (220, 20, 30), FIVE),
    "yellow on blue": lambda: on((20, 30, 90), (250, 240, 60), FIVE),
    "colours of one brightness": lambda: on((0, 130, 0), (220, 20, 20), FIVE),
    "in a corner": lambda: on(255, 0, FIVE)[36:, 46:],
    "in the other corner": lambda: np.pad(on(255, 0, FIVE)[:163, :170], ((200, 0), (200, 0), (0, 0)), mode="edge"),
    "on a large sheet": lambda: np.pad(on(255, 0, FIVE), ((300, 100), (100, 400), (0, 0)), mode="edge"),
    "light from the left": lambda: on(120 + 120 * X, 0.4 * (120 + 120 * X), FIVE),
    "a board in the dark": lambda: on(90 - 70 * Y, 190 - 70 * Y, FIVE),
    "noise": lambda: np.clip(on(200, 90, FIVE) + NOISE, 0, 255).astype(np.uint8),
    "dust": lambda: np.where((np.abs(X * 240 - 20) < 2) & (np.abs(Y * 240 - 150) < 2), 0, on(255, 0, FIVE)).astype(
        np.uint8
    ),
    "on nothing": lambda: np.concatenate([on(0, 0, FIVE), np.uint8(255 * FIVE)[..., None]], axis=2),
    "light on nothing": lambda: np.concatenate([on(255, 255, FIVE), np.uint8(255 * FIVE)[..., None]], axis=2),
    "grey on nothing": lambda: np.concatenate([on(90, 90, FIVE)[..., :1], np.uint8(255 * FIVE)[..., None]], axis=2),
    "nothing transparent in four channels": lambda: np.pad(
        on(255, 0, FIVE), ((0, 0),) * 2 + ((0, 1),), constant_values=255
    ),
    "three times as large": lambda: on(255, 0, FIVE).repeat(3, 0).repeat(3, 1),
    "far larger": lambda: on(255, 0, FIVE).repeat(8, 0).repeat(8, 1),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_paper_light_colour_and_place_make_no_difference(make: Any) -> None:
    image, doubt = MNIST.examined(make())
    assert unlike(image) < 0.2
    assert doubt == ""


def test_a_drawing_beside_other_things_is_found_and_doubted() -> None:
    image, doubt = MNIST.examined(np.where(X < 0.05, 60, on(230, 20, FIVE)).astype(np.uint8))  # the table's edge
    assert unlike(image) < 0.2
    assert doubt == "it shows much else than a drawing on even paper"


@pytest.mark.parametrize("pen", [1, 3, 6, 20, 26])
def test_the_pen_makes_little_difference(pen: float) -> None:
    image = MNIST(on(255, 0, ink(HANDS[0][5], SHAPE, (40, 50), 120, pen)))
    assert 45 < (image > 127).sum() < 190  # the plain one has 80
    assert unlike(image) < (0.5 if pen < 20 else 1.1)


def test_the_image_itself_stays_as_it_is() -> None:
    image = drawing(2, 0, drawings.photographed).copy()
    before = image.copy()
    MNIST(image)
    np.testing.assert_array_equal(image, before)


# --- What is no drawing ---------------------------------------------------------------------------------------

RNG = np.random.default_rng(1)
BLANK = {
    "white": np.full((50, 60, 3), 255, np.uint8),
    "one pixel": np.zeros((1, 1, 1), np.uint8),
    "noise": np.clip(RNG.normal(180, 12, (200, 200, 3)), 0, 255).astype(np.uint8),
    "shade": np.broadcast_to(np.uint8(80 + 150 * X), (*SHAPE, 3)),
    "shade and noise": np.clip(100 + 100 * X * Y + NOISE, 0, 255).astype(np.uint8),
    "all transparent": np.zeros((40, 40, 4), np.uint8),
    "the faintest": on(200, 190, FIVE),
}


@pytest.mark.parametrize("image", BLANK.values(), ids=BLANK)
def test_where_nothing_is_drawn_it_says_so(image: Array) -> None:
    with pytest.raises(NothingDrawn, match=r"^there is nothing drawn on it: no ink stands out of the paper$"):
        MNIST(image)


def scene(seed: int) -> Array:
    """Something like a photograph of the world: waves of all lengths, in three channels."""
    rng = np.random.default_rng(seed)
    waves = np.fft.fft2(rng.normal(size=(3, 160, 200)))
    far = np.hypot(np.fft.fftfreq(160)[:, None], np.fft.fftfreq(200))
    field = np.fft.ifft2(waves / np.maximum(far, 1 / 200) ** 1.4).real
    field = (field - field.min(axis=(1, 2), keepdims=True)) / np.ptp(field, axis=(1, 2), keepdims=True)
    return np.uint8(field.transpose(1, 2, 0) * 255)


def test_what_is_no_drawing_is_doubted_or_refused() -> None:
    trusted = 0
    for seed in range(12):
        with suppress(NothingDrawn):
            trusted += MNIST.examined(scene(seed))[1] == ""
    assert trusted == 0


def test_whatever_the_pixels_an_image_comes_out_or_nothing_is_drawn() -> None:
    rng = np.random.default_rng(2)
    found = 0
    for i in range(120):
        shape = (*rng.integers(1, 4 if i % 3 else 40, 2), rng.integers(1, 5))
        image = rng.integers(0, 256, shape).astype(np.uint8)
        if i % 2:
            image = np.where(image > rng.integers(1, 255), 255, 0).astype(np.uint8)
        for prepare in (MNIST, DIGITS):
            try:
                made = prepare(image)
            except NothingDrawn:
                continue
            assert (made.shape, made.dtype) == (prepare.out_shape, np.uint8)  # type: ignore[union-attr]
            assert made.any()
            found += 1
    assert found > 40


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 1)),
        np.zeros((5, 5, 5), np.uint8),
        np.zeros((0, 5, 1), np.uint8),
        None,
    ],
    ids=["no channels", "floats", "five channels", "no pixels", "None"],
)
def test_what_is_no_image_of_bytes_is_refused(image: Any) -> None:
    with pytest.raises(ValueError, match=r"^find_ink: expected an image \(height, width, channels\) of bytes"):
        MNIST(image)


# --- The value ------------------------------------------------------------------------------------------------


def test_it_prints_as_its_call_and_is_made_again_from_its_description() -> None:
    for value, text in (
        (MNIST, "centred_drawing()"),
        (centred_drawing(14, np.int64(10)), "centred_drawing(size=14, box=10)"),
        (DIGITS, "centred_drawing(size=32, box=(32, 20), stroke=(4.5, 6.0), blocks=4)"),
    ):
        assert repr(value) == text
        assert eval(text) == value
        assert own_parts(preparation=value) == []
        assert rebuild(describe(value), kind="preparation") == value


def test_another_kind_of_value_is_no_preparation() -> None:
    with pytest.raises(LayerError, match="dense"):
        rebuild({"name": "dense", "units": 3}, kind="preparation")
    assert rebuild(describe(rescale(2)), kind="preprocessing") == rescale(2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": 0}, "size must be a positive int, got 0"),
        ({"size": 10}, "box must be from 1 to the size, 10, or two such (height, width), got 20"),
        ({"box": (20, 20, 20)}, "box must be from 1 to the size, 28"),
        ({"box": "20"}, "box must be from 1 to the size, 28"),
        ({"stroke": (3, 2)}, "stroke must be the least and the largest width in pixels, got (3.0, 2.0)"),
        ({"stroke": 2}, "stroke must be the least and the largest width in pixels, got 2"),
        ({"blocks": 5}, "blocks must be 0, or from 1 to 15 and a divisor of the size, 28, got 5"),
        ({"blocks": True}, "blocks must be 0, or from 1 to 15 and a divisor of the size, 28, got True"),
    ],
    ids=str,
)
def test_settings_of_no_meaning_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^centred_drawing: {re.escape(text)}"):
        centred_drawing(**arguments)


# --- Its steps, as one would write them first -----------------------------------------------------------------


def test_parts_are_those_of_a_flood() -> None:
    rng = np.random.default_rng(3)
    for share in (0.1, 0.35, 0.5, 0.8):
        mask = rng.random((17, 23)) < share
        flood, number = np.zeros(mask.shape, int), 0
        for start in zip(*np.nonzero(mask), strict=True):
            if flood[start]:
                continue
            number += 1
            todo = [start]
            while todo:
                y, x = todo.pop()
                if 0 <= y < 17 and 0 <= x < 23 and mask[y, x] and not flood[y, x]:
                    flood[y, x] = number
                    todo += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        parts = _parts(mask)
        assert len({*zip(parts.ravel().tolist(), flood.ravel().tolist(), strict=True)}) == number + 1
        assert parts.max() == number


def test_the_opening_is_the_largest_of_the_least_values() -> None:
    image = np.random.default_rng(4).integers(0, 256, (12, 15, 2)).astype(np.uint8)

    def windowed(image: Array, extreme: Any) -> Array:
        wide = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        return np.array([[extreme(wide[i : i + 5, j : j + 5], axis=(0, 1)) for j in range(15)] for i in range(12)])

    np.testing.assert_array_equal(_opened(image, 5), windowed(windowed(image, np.min), np.max))
