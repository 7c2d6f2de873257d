"""Convolution and pooling along time against plain loops, and their conventions at edges and ties."""

from typing import Any

import numpy as np
import pytest
from cases import assert_close, gaussian, message

from funcnn import tree
from funcnn.arrays.threads import set_threads, threads
from funcnn.compose import serial
from funcnn.keys import Key
from funcnn.layer import Array, Layer, ShapeError
from funcnn.layers import (
    avg_pool1d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    global_avg_pool1d,
    global_max_pool1d,
    max_pool1d,
)

# --- Convolution ----------------------------------------------------------------------------------------------


def by_loops(x: Array, weight: Array, before: int, after: int, stride: int, dilation: int) -> Array:
    """One sequence (time, channels) with one group, as the docstring has it."""
    taps, _, filters = weight.shape
    out = (len(x) + before + after - (taps - 1) * dilation - 1) // stride + 1
    y = np.zeros((out, filters))
    for i in range(out):
        for k in range(taps):
            step = i * stride + k * dilation - before
            if 0 <= step < len(x):
                y[i] += x[step] @ weight[k]
    return y


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({}, (0, 0)),
        ({"stride": 2}, (0, 0)),
        ({"stride": 5, "padding": 2}, (2, 2)),
        ({"padding": (4, 1)}, (4, 1)),  # more than the kernel reaches, before
        ({"dilation": 2, "padding": "same"}, (2, 2)),
        ({"dilation": 3, "padding": "causal", "stride": 2}, (6, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [13, 600])  # in blocks of examples, and of steps
def test_conv1d_is_its_sum(options: Any, sides: tuple[int, int], length: int) -> None:
    layer, x = conv1d(5, 3, **options), gaussian((2, length, 4))
    params, _, out_shape = layer.init(Key(0), (length, 4), np.float64)
    y, _, residuals = layer.apply(params, None, x, train=True)
    settings: Any = layer.config
    wanted = [by_loops(each, params.weight, *sides, settings.stride, settings.dilation) for each in x]
    assert y.shape[1:] == out_shape
    assert_close(y, np.array(wanted), 1e-12)

    # It is linear in x and in the weight: so <y, dy> = <x, dx> = <weight, dweight>.
    dy = gaussian(y.shape, np.float64, "dy")
    gradients, dx = layer.backward(params, residuals, dy)
    np.testing.assert_allclose([np.vdot(x, dx), np.vdot(params.weight, gradients.weight)], np.vdot(y, dy), rtol=1e-10)
    np.testing.assert_allclose(gradients.bias, dy.sum(axis=(0, 1)), rtol=1e-10)


IN_TWO_DIMENSIONS = [
    (conv1d(6, 3, groups=2, stride=2), conv2d(6, (3, 1), groups=2, stride=(2, 1))),
    (conv1d(6, 3, groups=6, padding="same"), conv2d(6, (3, 1), groups=6, padding="same")),
    (conv1d(6, 3, groups=6, stride=2), conv2d(6, (3, 1), groups=6, stride=(2, 1))),
    (conv1d(12, 2, groups=6, dilation=3), conv2d(12, (2, 1), groups=6, dilation=(3, 1))),
    (conv_transpose1d(4, 3, stride=2), conv_transpose2d(4, (3, 1), stride=(2, 1))),
    (conv_transpose1d(4, 3, padding="same", stride=3), conv_transpose2d(4, (3, 1), padding="same", stride=(3, 1))),
    (
        conv_transpose1d(4, 2, padding=(0, 1), stride=2, output_padding=1, dilation=2, groups=2),
        conv_transpose2d(
            4, (2, 1), padding=((0, 1), (0, 0)), stride=(2, 1), output_padding=(1, 0), dilation=(2, 1), groups=2
        ),
    ),
]


@pytest.mark.parametrize(("layer", "image_layer"), IN_TWO_DIMENSIONS, ids=str)
def test_is_the_layer_of_images_of_one_column(layer: Layer, image_layer: Layer) -> None:
    x = gaussian((2, 9, 6))
    params, _, (out, filters) = layer.init(Key(0), (9, 6), np.float64)
    image_params, _, image_shape = image_layer.init(Key(0), (9, 1, 6), np.float64)
    assert image_shape == (out, 1, filters)
    np.testing.assert_array_equal(params.weight, image_params.weight[:, 0])

    dy = gaussian((2, out, filters), np.float64, "dy")
    y, _, residuals = layer.apply(params, None, x, train=True)
    image_y, _, image_residuals = image_layer.apply(image_params, None, x[:, :, None], train=True)
    assert_close(y, image_y[:, :, 0], 1e-12)
    gradients, dx = layer.backward(params, residuals, dy)
    image_gradients, image_dx = image_layer.backward(image_params, image_residuals, dy[:, :, None])
    assert image_dx is not None
    assert_close(dx, image_dx[:, :, 0], 1e-12)
    assert_close(gradients.weight, image_gradients.weight[:, 0], 1e-12)
    assert_close(gradients.bias, image_gradients.bias, 1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_causal_outputs_see_nothing_that_comes_after(groups: int) -> None:
    layer, x = conv1d(4, 3, padding="causal", dilation=2, groups=groups), gaussian((1, 12, 4))
    params = layer.init(Key(0), (12, 4), np.float64).params
    changed = x.copy()
    changed[:, 7:] = np.nan
    y, its = layer.apply(params, None, x).y, layer.apply(params, None, changed).y
    np.testing.assert_array_equal(its[:, :7], y[:, :7])
    assert np.isnan(its[:, 7]).all()


@pytest.mark.parametrize("layer", [conv1d(64, 3, dilation=2), conv1d(64, 5, stride=2), conv1d(64, 5, groups=64)])
def test_threads_change_no_bit(layer: Layer) -> None:
    net = serial(layer)
    params, state, _ = net.init(Key(0), (600, 64))
    x, before, found = gaussian((20, 600, 64), np.float32), threads(), []
    try:
        for number in (1, 2):
            set_threads(number)
            for each, its_params, its_state in ((net, params, state), (layer, params[0], None)):
                y, _, residuals = each.apply(its_params, its_state, x, train=True)
                found.append((y, *tree.flatten(tuple(each.backward(its_params, residuals, y)))))
    finally:
        set_threads(before)
    for one, two in zip([*found[0], *found[1]], [*found[2], *found[3]], strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_does_not_fit_is_refused() -> None:
    assert message(ShapeError, conv1d(4, 3).init, Key(0), (2, 9, 6)) == (
        "conv1d(filters=4, kernel_size=3): expected examples of shape (time, channels), got (2, 9, 6). "
        "Leave out the batch axis: (9, 6)"
    )
    assert message(ShapeError, conv1d(4, 3, dilation=4).init, Key(0), (8, 6)) == (
        "conv1d(filters=4, kernel_size=3, dilation=4): its window spans 9 steps, more than the 8 of an input (8, 6) "
        'with its padding. Use a smaller window or padding="same"'
    )
    assert conv1d(4, 3, dilation=4, padding="same").init(Key(0), (8, 6)).out_shape == (8, 4)
    assert "Put reshape((9, 1)) before it" in message(ShapeError, max_pool1d(2).init, Key(0), (9,))
    assert "expected channels in 4 equal groups, got 6" in message(
        ShapeError, conv1d(4, 3, groups=4).init, Key(0), (8, 6)
    )
    assert "filters must be a multiple of groups" in message(ValueError, conv1d, 4, 3, groups=3)
    assert 'padding must be "valid", "same", "causal", an int, or (before, after), none negative, got -1' in message(
        ValueError, conv1d, 4, 3, padding=-1
    )
    assert 'padding must be "valid", "same", an int' in message(ValueError, conv_transpose1d, 4, 3, padding="causal")
    assert "at least 0 and less than the stride 2" in message(
        ValueError, conv_transpose1d, 4, 3, stride=2, output_padding=2
    )
    assert "leaves nothing of the output" in message(ShapeError, conv_transpose1d(4, 3, padding=4).init, Key(0), (3, 2))
    assert "would leave windows without a single real step" in message(
        ShapeError, max_pool1d(2, padding=2).init, Key(0), (9, 3)
    )
    assert "expected at least one step" in message(ShapeError, global_max_pool1d().init, Key(0), (0, 3))


# --- Pools ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "options", "sides"),
    [
        (2, {}, (0, 0)),
        (3, {"stride": 1, "padding": "same"}, (1, 1)),
        (2, {"stride": 3}, (0, 0)),
        (3, {"stride": 2, "padding": "causal"}, (2, 0)),
        (300, {"stride": 7, "padding": (0, 20)}, (0, 20)),  # more taps than a byte counts
    ],
    ids=str,
)
def test_pools_are_the_largest_and_the_mean_of_the_real_steps(window: int, options: Any, sides: Any) -> None:
    time = 11 if window < 100 else 350
    x = gaussian((2, time, 3))
    stride = options.get("stride", window)
    starts = range(-sides[0], time + sides[1] - window + 1, stride)
    windows = [x[:, max(0, start) : max(0, start + window)] for start in starts]
    y, _, residuals = max_pool1d(window, **options).apply(None, None, x, train=True)
    np.testing.assert_array_equal(y, np.stack([each.max(axis=1) for each in windows], axis=1))
    mean = avg_pool1d(window, **options).apply(None, None, x).y
    assert_close(mean, np.stack([each.mean(axis=1) for each in windows], axis=1), 1e-12)

    dy, dx = gaussian(y.shape, np.float64, "dy"), np.zeros_like(x)
    for i, start in enumerate(starts):
        place = windows[i].argmax(axis=1)[:, None] + max(0, start)
        np.put_along_axis(dx, place, np.take_along_axis(dx, place, 1) + dy[:, i : i + 1], 1)
    assert_close(max_pool1d(window, **options).backward(None, residuals, dy).dx, dx, 1e-12)


@pytest.mark.parametrize("layer", [max_pool1d(3), global_max_pool1d()], ids=str)
def test_of_equal_values_the_first_wins(layer: Layer) -> None:
    x = np.array([[[1.0], [2.0], [2.0]]])
    y, _, residuals = layer.apply(None, None, x, train=True)
    dx = layer.backward(None, residuals, np.full(y.shape, 5.0)).dx
    assert dx is not None
    np.testing.assert_array_equal(dx[0, :, 0], [0, 5, 0])


def test_windows_that_share_a_step_add_up() -> None:
    x = np.array([[[1.0], [9.0], [2.0]]])
    residuals = max_pool1d(2, stride=1).apply(None, None, x, train=True).residuals
    dx = max_pool1d(2, stride=1).backward(None, residuals, np.array([[[3.0], [4.0]]])).dx
    assert dx is not None
    np.testing.assert_array_equal(dx[0, :, 0], [0, 7, 0])


def test_global_pools() -> None:
    x = gaussian((3, 7, 2))
    np.testing.assert_array_equal(global_max_pool1d().apply(None, None, x).y, x.max(axis=1))
    assert_close(global_avg_pool1d().apply(None, None, x).y, x.mean(axis=1), 1e-13)
