"""Images of another size: values by hand and by plain formulas, the transposes, and the errors."""

from typing import Any

import numpy as np
import pytest
from cases import Case, gaussian, message, ready

from funcnn import Key
from funcnn.arrays.layout import images, rows
from funcnn.layer import Array, Layer, ShapeError
from funcnn.layers import (
    crop2d,
    global_max_pool2d,
    max_pool2d,
    pixel_shuffle,
    pixel_unshuffle,
    upsample2d,
    zero_pad2d,
)

FACTORS = [(1, 1), (2, 2), (3, 1), (4, 5)]
LINEAR = [
    *(upsample2d(factor, method=method) for factor in FACTORS for method in ("nearest", "bilinear")),
    zero_pad2d(((1, 0), (2, 3))), crop2d(((1, 0), (0, 2))), pixel_shuffle(2), pixel_unshuffle(2),
]  # fmt: skip


def forward(layer: Layer, x: Array) -> Array:
    return layer.apply(None, None, x).y


def interpolated(x: Array, axis: int, factor: int) -> Array:
    """An axis of x, each output from the two pixels whose middles it lies between."""
    size, found = x.shape[axis], []
    for i in range(size * factor):
        place = (i + 0.5) / factor - 0.5
        before = int(np.floor(place))
        share = place - before
        first, second = (np.take(x, min(max(each, 0), size - 1), axis) for each in (before, before + 1))
        found.append((1 - share) * first + share * second)
    return np.stack(found, axis)


@pytest.mark.parametrize("factor", FACTORS, ids=str)
@pytest.mark.parametrize("size", [(3, 4), (1, 2)], ids=str)
def test_enlarged_images(factor: tuple[int, int], size: tuple[int, int]) -> None:
    x = gaussian((2, *size, 3))
    smooth = interpolated(interpolated(x, 1, factor[0]), 2, factor[1])
    repeated = x.repeat(factor[0], axis=1).repeat(factor[1], axis=2)
    np.testing.assert_array_equal(forward(upsample2d(factor), x), repeated, strict=True)
    np.testing.assert_allclose(forward(upsample2d(factor, method="bilinear"), x), smooth, atol=1e-14, strict=True)


def test_a_bilinear_ramp_stays_a_ramp_and_ends_flat() -> None:
    ramp = np.arange(4.0).reshape(1, 4, 1, 1)
    y = forward(upsample2d((2, 1), method="bilinear"), ramp)
    np.testing.assert_allclose(y.ravel(), [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], atol=1e-15)


@pytest.mark.parametrize("layer", LINEAR, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backward_is_the_transpose(layer: Layer, dtype: type) -> None:
    made = ready(Case(layer, (4, 6, 4)), dtype)
    y, dx = made.train().y, made.gradients().dx
    assert dx is not None
    assert dx.dtype == y.dtype == dtype
    assert abs(np.vdot(y, made.dy) - np.vdot(made.x, dx)) < 1e3 * np.finfo(dtype).eps * np.linalg.norm(y)


@pytest.mark.parametrize("layer", [each for each in LINEAR if each.name != "crop2d"], ids=str)
def test_images_are_made_by_rows(layer: Layer) -> None:
    y = forward(layer, gaussian((3, 4, 6, 4), np.float32))
    assert rows(y).flags.c_contiguous


def test_edges() -> None:
    x = gaussian((2, 3, 4, 2))
    padded = forward(zero_pad2d(((1, 2), (3, 0))), x)
    np.testing.assert_array_equal(padded, np.pad(x, ((0, 0), (1, 2), (3, 0), (0, 0))), strict=True)
    np.testing.assert_array_equal(forward(crop2d(((1, 2), (3, 0))), padded), x, strict=True)
    np.testing.assert_array_equal(forward(crop2d(0), x), forward(zero_pad2d(0), x), strict=True)


def test_channels_as_pixels() -> None:
    x = gaussian((2, 3, 4, 18))
    y = forward(pixel_shuffle(3), x)
    for i, j, c in np.ndindex(9, 12, 2):
        np.testing.assert_array_equal(y[:, i, j, c], x[:, i // 3, j // 3, (c * 3 + i % 3) * 3 + j % 3])
    np.testing.assert_array_equal(forward(pixel_unshuffle(3), y), x, strict=True)


@pytest.mark.parametrize("n", [1, 5])
def test_the_global_maximum_is_a_pool_over_the_whole_image(n: int) -> None:
    x = np.round(gaussian((n, 5, 6, 3)))  # with ties
    layer, whole = (ready(Case(each, (5, 6, 3)))._replace(x=x) for each in (global_max_pool2d(), max_pool2d((5, 6))))
    dy = gaussian((n, 3), np.float64, "dy")
    np.testing.assert_array_equal(layer.train().y, x.max(axis=(1, 2)), strict=True)
    dx = layer._replace(dy=dy).gradients().dx
    np.testing.assert_array_equal(dx, whole._replace(dy=dy[:, None, None]).gradients().dx, strict=True)


def test_nan_is_the_largest_of_a_channel() -> None:
    x = gaussian((2, 3, 4, 2))
    x[0, 1, 2, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(forward(global_max_pool2d(), x)), [[False, True], [False, False]])


@pytest.mark.parametrize("layer", [*LINEAR, global_max_pool2d()], ids=str)
def test_an_empty_batch(layer: Layer) -> None:
    y, _, residuals = layer.apply(None, None, np.zeros((0, 4, 6, 4)), train=True)
    assert y.shape == (0, *layer.config.out_shape((4, 6, 4)))
    assert layer.backward(None, residuals, y).dx.shape == (0, 4, 6, 4)  # type: ignore[union-attr]


def test_images_by_rows_and_by_examples_are_the_same() -> None:
    x = gaussian((16, 4, 6, 4), np.float32)
    turned = images(np.ascontiguousarray(rows(x)))
    for layer in LINEAR:
        np.testing.assert_array_equal(forward(layer, x), forward(layer, turned), strict=True)


@pytest.mark.parametrize(
    ("make", "argument", "expected"),
    [
        (upsample2d, 0, "upsample2d: factor must be a positive int or a pair (height, width), got (0, 0)"),
        (upsample2d, 1.5, "upsample2d: factor must be a positive int or a pair (height, width), got (1.5, 1.5)"),
        (zero_pad2d, -1, "zero_pad2d: padding must be"),
        (zero_pad2d, "same", "zero_pad2d: padding must be an int, or ((top, bottom), (left, right)), none negative"),
        (crop2d, (1, 1), "crop2d: cropping must be"),
        (pixel_shuffle, True, "pixel_shuffle: factor must be a positive int, got True"),
        (pixel_unshuffle, 0, "pixel_unshuffle: factor must be a positive int, got 0"),
    ],
)
def test_settings_that_are_none(make: Any, argument: Any, expected: str) -> None:
    assert expected in message(ValueError, make, argument)


def test_another_method() -> None:
    found = message(ValueError, upsample2d, 2, method="cubic")
    assert found == "upsample2d: method must be one of 'nearest', 'bilinear', got 'cubic'"


@pytest.mark.parametrize(
    ("layer", "in_shape", "expected"),
    [
        (crop2d(((2, 1), (0, 0))), (3, 4, 1), "expected images of which something is left, got (3, 4, 1). Crop less"),
        (pixel_shuffle(2), (3, 4, 6), "expected a multiple of 4 channels, got 6"),
        (pixel_unshuffle(2), (3, 4, 6), "expected sizes that are multiples of 2, got 3 × 4 pixels"),
        (upsample2d(2), (3, 4), "expected examples of shape (height, width, channels), got (3, 4)"),
    ],
    ids=str,
)
def test_images_that_do_not_fit(layer: Layer, in_shape: tuple[int, ...], expected: str) -> None:
    assert expected in message(ShapeError, layer.init, Key(0), in_shape)
