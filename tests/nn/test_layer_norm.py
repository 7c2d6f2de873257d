"""Norms of one example: layer norm, RMS norm, group norm, instance norm, against their equations."""

from typing import Any

import numpy as np
import pytest
from cases import Case, assert_close, gaussian, message, ready

from funcnn import Key, tree
from funcnn.arrays import group_norms, row_norms
from funcnn.arrays.layout import images, rows
from funcnn.layer import Array, Layer, LayerError, ShapeError
from funcnn.layers import group_norm, instance_norm, layer_norm, rms_norm

EPSILON = 1e-5
SHAPES = [(4, 6), (3, 5, 6), (3, 4, 5, 6), (2, 1, 1, 6), (3, 4, 1, 6)]


def standardised(x: Array, axes: tuple[int, ...], *, centre: bool = True) -> Array:
    """x with its mean over some axes taken off, over the root of the mean square."""
    x = x - x.mean(axis=axes, keepdims=True) if centre else x
    return np.asarray(x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + EPSILON))


def by_groups(x: Array, groups: int) -> Array:
    split = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return standardised(split, (*range(1, x.ndim - 1), x.ndim)).reshape(x.shape)


NAIVE = {
    layer_norm(): lambda x: standardised(x, (-1,)),
    rms_norm(): lambda x: standardised(x, (-1,), centre=False),
    group_norm(1): lambda x: by_groups(x, 1),
    group_norm(3): lambda x: by_groups(x, 3),
    instance_norm(): lambda x: by_groups(x, 6),
}
every_norm = pytest.mark.parametrize("layer", NAIVE, ids=str)


def turned(x: Array) -> Array:
    """Images as convolutions lay them in memory."""
    return images(np.ascontiguousarray(rows(x))) if x.ndim == 4 else x


@every_norm
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_a_norm_computes(layer: Layer, shape: tuple[int, ...]) -> None:
    if layer == instance_norm() and len(shape) == 2:
        return
    made = ready(Case(layer, shape[1:]), n=shape[0])
    scale, shift = made.params.scale, made.params.shift
    wanted = NAIVE[layer](made.x) * scale + (0 if shift is None else shift)
    for x in (made.x, turned(made.x)):
        assert_close(layer.apply(made.params, None, x).y, wanted, 1e-12)
    y, _, _ = layer.apply(made.params, None, turned(made.x))
    assert y.ndim < 4 or min(shape) == 1 or rows(y).flags.c_contiguous, "images leave as they came"


@every_norm
@pytest.mark.parametrize("shape", SHAPES[1:3], ids=str)
@pytest.mark.parametrize("by_rows", [False, True])
def test_a_batch_in_many_blocks_is_that_in_one(
    layer: Layer, shape: tuple[int, ...], by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ready(Case(layer, shape[1:]), n=shape[0])
    if by_rows:
        made = made._replace(x=turned(made.x), dy=turned(made.dy))
    whole = made.train().y, made.gradients()
    for module in (row_norms, group_norms):
        monkeypatch.setattr(module, "BLOCK", 20)
    monkeypatch.setattr(group_norms, "_POSITIONS", 2)
    assert_close(made.train().y, whole[0], 1e-13)
    assert_close(tuple(made.gradients()), tuple(whole[1]), 1e-12)


@every_norm
@pytest.mark.parametrize("shape", SHAPES[1:3], ids=str)
def test_a_large_mean_destroys_neither_the_variance_nor_the_gradients(layer: Layer, shape: tuple[int, ...]) -> None:
    """In float32, the square of a mean of 3,000 deviations has no digit left for the variance."""
    x = (gaussian(shape) + (0 if layer == rms_norm() else 3000)).astype(np.float32)
    made = ready(Case(layer, shape[1:]), np.float32, n=shape[0])._replace(x=x)
    exact = tree.map(lambda leaf: leaf.astype(np.float64), (made.params, made.x, made.dy))
    double = ready(Case(layer, shape[1:]), n=shape[0])._replace(params=exact[0], x=exact[1], dy=exact[2])
    for each, other in ((made, double), (made._replace(x=turned(x), dy=turned(made.dy)), double)):
        single = tree.map(lambda leaf: leaf.astype(np.float64), (each.train().y, *each.gradients()))
        assert_close(single, (other.train().y, *other.gradients()), 1e-3)


@pytest.mark.parametrize("layer", [layer_norm(), group_norm(2), instance_norm()], ids=str)
def test_what_has_no_variance_becomes_the_shift(layer: Layer) -> None:
    made = ready(Case(layer, (3, 3, 4)))
    for value in (0.0, 7.0):
        y = layer.apply(made.params, None, np.full((2, 3, 3, 4), value)).y
        np.testing.assert_allclose(y, np.broadcast_to(made.params.shift, y.shape), atol=1e-12)


@every_norm
def test_float16_is_computed_in_float32(layer: Layer) -> None:
    x = (gaussian((3, 40, 6)) * 300).astype(np.float16)  # squares are infinite
    single, half = (ready(Case(layer, (40, 6)), dtype, n=3) for dtype in (np.float32, np.float16))
    single = single._replace(params=tree.map(lambda leaf: leaf.astype(np.float32), half.params), x=x.astype(np.float32))
    half = half._replace(x=x)
    assert half.train().y.dtype == half.gradients().dx.dtype == np.float16
    assert {leaf.dtype for leaf in tree.flatten(half.gradients().params)} == {np.dtype(np.float16)}
    assert_close(half.train().y.astype(np.float32), single.train().y, 1e-3)


@every_norm
def test_what_is_not_finite_stays_in_its_example(layer: Layer) -> None:
    made = ready(Case(layer, (5, 6)), n=3)
    spoilt = made.x.copy()
    spoilt[1, 2, 0] = np.nan
    y = layer.apply(made.params, None, spoilt).y
    assert_close(y[[0, 2]], made.train().y[[0, 2]], 1e-12)
    assert np.isnan(y[1, 2]).any()


def test_instance_norm_is_group_norm_with_a_group_for_each_channel() -> None:
    one, other = (ready(Case(layer, (4, 5, 6))) for layer in (instance_norm(), group_norm(6)))
    assert tree.equal((one.train().y, *one.gradients()), (other.train().y, *other.gradients()))


def test_settings_leave_scale_and_shift_out() -> None:
    for layer in (layer_norm, group_norm, instance_norm):
        options: Any = {"groups": 2} if layer is group_norm else {}
        params = layer(**options, use_scale=False, use_shift=False).init(Key(0), (3, 4)).params
        assert (params.scale, params.shift) == (None, None)
    params = rms_norm().init(Key(0), (3, 4)).params
    assert (params.scale.tolist(), params.shift) == ([1.0] * 4, None)


@pytest.mark.parametrize(
    ("layer", "in_shape", "text"),
    [
        (layer_norm(), (), "layer_norm(): expected examples of shape (..., features), at least one feature, got (). "),
        (rms_norm(), (3, 0), "rms_norm(): expected examples of shape (..., features), at least one feature, got (3,"),
        (group_norm(3), (5, 4), "group_norm(groups=3): expected examples of shape (..., channels), a multiple of 3 "
         "channels, got (5, 4). Choose groups that divide the channels"),
        (instance_norm(), (4,), "instance_norm(): expected examples of shape (..., channels) with positions to take "
         "the mean over, got (4,). Use layer_norm() for features without positions"),
    ],
)  # fmt: skip
def test_shapes_that_a_norm_refuses(layer: Layer, in_shape: tuple[int, ...], text: str) -> None:
    assert message(ShapeError, layer.init, Key(0), in_shape).startswith(text)


@every_norm
def test_params_and_inputs_that_do_not_fit(layer: Layer) -> None:
    params, _, _ = layer.init(Key(0), (5, 6))
    text = message(ShapeError, layer.apply, params, None, np.ones((2, 5, 3), np.float32))
    assert text.startswith(f"{layer}: expected an input of shape (n, any, 6), got (2, 5, 3)")
    text = message(LayerError, layer.apply, params, None, np.ones((2, 5, 6)))
    assert "expected an input of dtype float32 like the parameters, got float64" in text
    text = message(LayerError, layer.apply, None, None, np.ones((2, 5, 6)))
    assert "expected its params to be NormParams(...), got NoneType" in text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layer_norm(epsilon=0.0), "layer_norm: epsilon"),
        (lambda: group_norm(0), "group_norm: groups"),
        (lambda: rms_norm(use_scale=1), "rms_norm: use_scale"),
    ],
)
def test_settings_that_are_refused(make: Any, text: str) -> None:
    assert message(ValueError, make).startswith(text)


@pytest.mark.parametrize("layer", [group_norm(2), instance_norm()], ids=str)
def test_images_without_pixels_have_no_mean(layer: Layer) -> None:
    params = layer.init(Key(0), (1, 3, 4), np.float64).params
    for use in (lambda: layer.init(Key(0), (0, 3, 4)), lambda: layer.apply(params, None, gaussian((2, 0, 3, 4)))):
        assert "positions to take the mean over, got (0, 3, 4)" in message(ShapeError, use)
