"""Every error names the place, what was expected and what came; and its advice, followed to the letter, works."""

import math
import pickle
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest
from cases import DTYPES, gaussian, message

from funcnn import tree
from funcnn.compose import chunked, parallel, residual, serial
from funcnn.init import he_normal
from funcnn.keys import Key
from funcnn.layer import Config, Initialised, Layer, LayerError, Shape, ShapeError, config, make_layer
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    elu,
    flatten,
    gaussian_noise,
    global_avg_pool2d,
    leaky_relu,
    log_softmax,
    max_pool2d,
    position_bias,
    relu,
    reshape,
    scale,
    softmax,
    tanh,
)


def composition_error(layer: Layer, in_shape: Shape) -> str:
    """The text of the ShapeError that init raises; the configuration alone raises the same."""
    text = message(ShapeError, layer.init, Key(0), in_shape)
    assert message(ShapeError, layer.config.out_shape, in_shape) == text
    return text


# --- Shapes that do not fit, at composition -------------------------------------------------------------------


def convolutional(*before_dense: Layer) -> Layer:
    return serial(conv2d(32, 3, padding="same"), relu(), max_pool2d(2), conv2d(64, 8), *before_dense, dense(10))


def test_a_wrong_rank_names_the_place_and_the_layer_to_put_there() -> None:
    expected = (
        "serial[4] dense(units=10): expected examples of shape (features,), got (7, 7, 64). Put flatten() before it"
    )
    assert composition_error(convolutional(), (28, 28, 1)) == expected
    assert convolutional(flatten()).init(Key(0), (28, 28, 1)).out_shape == (10,)


def test_places_nest_from_the_outside_in() -> None:
    net = serial(relu(), residual(serial(flatten(), parallel(relu(), serial(conv2d(4, 3))))))
    expected = (
        "serial[1] residual serial[1] parallel[1] serial[0] conv2d(filters=4, kernel_size=3): "
        "expected examples of shape (height, width, channels), got (16,). "
        "Put reshape((height, width, channels)) before it"
    )
    assert composition_error(net, (4, 4, 1)) == expected


# each with the layer that its advice leads to
UNFIT: list[tuple[Layer, Shape, str, Layer]] = [
    (dense(3), (), "dense(units=3): expected examples of shape (features,), got (). Put flatten() before it",
     serial(flatten(), dense(3))),
    (conv2d(2, 3), (12,),
     "conv2d(filters=2, kernel_size=3): expected examples of shape (height, width, channels), got (12,). "
     "Put reshape((height, width, channels)) before it",
     serial(reshape((3, 4, 1)), conv2d(2, 3))),
    (max_pool2d(2), (4, 4),
     "max_pool2d(window=2): expected examples of shape (height, width, channels), got (4, 4). "
     "Put reshape((4, 4, 1)) before it",
     serial(reshape((4, 4, 1)), max_pool2d(2))),
    (global_avg_pool2d(), (12,),
     "global_avg_pool2d(): expected examples of shape (height, width, channels), got (12,). "
     "Put reshape((height, width, channels)) before it",
     serial(reshape((3, 4, 1)), global_avg_pool2d())),
    (conv2d(2, (5, 3), dilation=2), (9, 4, 1),
     "conv2d(filters=2, kernel_size=(5, 3), dilation=2): its window spans (9, 5), more than the padded image (9, 4) of "
     'an input (9, 4, 1). Use a smaller window or padding="same"',
     conv2d(2, (5, 3), dilation=2, padding="same")),
    (avg_pool2d(4, padding=((1, 0), (0, 0))), (2, 9, 1),
     "avg_pool2d(window=4, padding=((1, 0), (0, 0))): its window spans (4, 4), more than the padded image (3, 9) of "
     'an input (2, 9, 1). Use a smaller window or padding="same"',
     avg_pool2d(4, padding="same")),
    (max_pool2d(2, padding=2), (4, 4, 1),
     "max_pool2d(window=2, padding=2): padding ((2, 2), (2, 2)) would leave windows without a single real cell. "
     "Pad less than the window (2, 2) on each side",
     max_pool2d(2, padding=1)),
    (conv2d(4, 1, groups=2), (4, 4, 3),
     "conv2d(filters=4, kernel_size=1, groups=2): expected channels in 2 equal groups, got 3 channels. "
     "Use a number of groups that divides 3",
     conv2d(6, 1, groups=3)),
    (reshape((2, 3)), (5,),
     "reshape(shape=(2, 3)): expected examples of 6 values, got (5,) with 5. Give a shape of as many values",
     reshape((5, 1))),
    (softmax(), (),
     "softmax(): expected a shape whose last axis holds the classes, got (). Put dense(classes) before it",
     serial(flatten(), dense(3), softmax())),
    (log_softmax(), (3, 0),
     "log_softmax(): expected a shape whose last axis holds the classes, got (3, 0). Put dense(classes) before it",
     serial(flatten(), dense(3), log_softmax())),
    (batch_norm(), (),
     "batch_norm(): expected a shape whose last axis holds the channels, got (). Put reshape((1,)) before it",
     serial(reshape((1,)), batch_norm())),
    (residual(conv2d(3, 3)), (5, 5, 2),
     "residual: its layer must keep the shape (5, 5, 2) to be added to it, and gives (3, 3, 3). "
     'Use as many filters as input channels, stride 1 and padding="same"; or put a layer on the shortcut: '
     'parallel(layer, conv2d(...), combine="add")',
     residual(conv2d(2, 3, padding="same"))),
    (parallel(dense(3), dense(4), combine="add"), (2,),
     "parallel[1]: expected an output of shape (3,) like parallel[0]'s, got (4,). "
     "Give every branch the same output size",
     parallel(dense(3), dense(3), combine="add")),
    (parallel(conv2d(3, 2), conv2d(3, 3)), (5, 5, 1),
     "parallel[1]: expected an output of shape (4, 4, 3) in all but the last axis like parallel[0]'s, got (3, 3, 3). "
     "Give every branch the same output size",
     parallel(conv2d(3, 2), serial(conv2d(3, 3, padding=1), conv2d(3, 2)))),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "in_shape", "text", "mended"), UNFIT, ids=[str(each[0]) for each in UNFIT])
def test_a_shape_that_does_not_fit(layer: Layer, in_shape: Shape, text: str, mended: Layer) -> None:
    assert composition_error(layer, in_shape) == text
    params, state, out_shape = mended.init(Key(0), in_shape)
    assert mended.apply(params, state, gaussian((2, *in_shape), np.float32)).y.shape == (2, *out_shape)


# --- Inputs that do not fit, at apply -------------------------------------------------------------------------

PARAMETRISED = [(dense(3), (4,)), (conv2d(2, 3), (4, 4, 2)), (position_bias(), (4,)), (batch_norm(), (4,))]
INTS = "expected in_shape to be of ints, none negative"


@pytest.mark.parametrize(
    ("layer", "in_shape", "text"),
    [
        (conv2d(2, 3), (4, 4, 0),
         "conv2d(filters=2, kernel_size=3): expected at least one channel, got (4, 4, 0). Correct in_shape"),
        (conv2d(2, 3), (4.0, 4, 1), f"conv2d(filters=2, kernel_size=3): {INTS}, got (4.0, 4, 1). Pass x.shape[1:]"),
        (max_pool2d(2), (4, "4", 1), f"max_pool2d(window=2): {INTS}, got (4, '4', 1). Pass x.shape[1:]"),
        (dense(2), (-3,), f"dense(units=2): {INTS}, got (-3,). Pass x.shape[1:]"),
        (dense(2), (True,), f"dense(units=2): {INTS}, got (True,). Pass x.shape[1:]"),
        (batch_norm(), (3, 0),
         "batch_norm(): expected at least one channel, got (3, 0). Correct in_shape, or the layer before it"),
    ],
)  # fmt: skip
def test_sizes_that_are_none(layer: Layer, in_shape: Any, text: str) -> None:
    assert message(ShapeError, layer.init, Key(0), in_shape) == text


@pytest.mark.parametrize("layer", [conv2d(2, 3), max_pool2d(2), serial(conv2d(2, 3), flatten(), dense(2))], ids=str)
def test_a_shape_may_be_a_list_or_of_numpys_ints(layer: Layer) -> None:
    expected = layer.init(Key(0), (6, 5, 1)).out_shape
    assert layer.init(Key(0), [6, 5, 1]).out_shape == expected  # type: ignore[arg-type]
    assert layer.init(Key(0), tuple(np.array([6, 5, 1]))).out_shape == expected


# Each with an input's shape, and shapes of dy that NumPy would take or refuse in words of its own.
GRADIENTS: list[tuple[Layer, Shape, list[Shape]]] = [
    (dense(3), (2, 4), [(2, 4), (1, 3), (3, 3), (3,)]),
    (conv2d(2, 3), (2, 6, 6, 1), [(2, 5, 4, 2), (1, 4, 4, 2), (2, 4, 4, 1), (2, 32)]),
    (max_pool2d(2), (2, 4, 4, 3), [(2, 2, 2, 1), (1, 2, 2, 3), (2, 3, 2, 3)]),
    (avg_pool2d(2), (2, 4, 4, 3), [(2, 2, 2, 1), (1, 2, 2, 3), (3, 2, 2, 3)]),
    (global_avg_pool2d(), (2, 4, 4, 3), [(2, 1), (1, 3), (2, 4, 4, 3)]),
    (relu(), (2, 3), [(1, 3), (2, 1), (2, 3, 1)]),
    (softmax(), (2, 3), [(1, 3), (2, 1)]),
    (dropout(0.5), (2, 3), [(1, 3), (2, 1)]),
    (position_bias(), (2, 3, 4), [(2, 4), (2, 1, 4)]),
    (flatten(), (2, 3, 4), [(2, 4), (2, 3, 4)]),
    (batch_norm(), (2, 3), [(1, 3), (2, 1)]),
    (chunked(dense(3), 2), (5, 4), [(6, 3), (4, 3)]),
]


@pytest.mark.parametrize(("layer", "shape", "wrong"), GRADIENTS, ids=[str(each[0]) for each in GRADIENTS])
def test_a_gradient_that_is_not_the_outputs(layer: Layer, shape: Shape, wrong: list[Shape]) -> None:
    x = gaussian(shape, np.float32)
    params, state, _ = layer.init(Key(0), shape[1:])
    y, _, residuals = layer.apply(params, state, x, key=Key(1), train=True)
    layer.backward(params, residuals, y)
    for each in wrong:
        text = message(ShapeError, layer.backward, params, residuals, np.ones(each, np.float32))
        assert text.startswith(f"{layer!r}: expected dy " if layer.name != "chunked" else "chunked: expected dy ")
        assert str(each if layer.name != "chunked" else each[0]) in text


@pytest.mark.parametrize("layer", [dense(3), conv2d(2, 1), relu(), position_bias()], ids=str)
def test_a_gradient_of_another_dtype_would_make_gradients_of_another_dtype(layer: Layer) -> None:
    x = gaussian((2, 4) if layer == dense(3) else (2, 4, 4, 3), np.float32)
    params, state, _ = layer.init(Key(0), x.shape[1:])
    y, _, residuals = layer.apply(params, state, x, train=True)
    text = message(ShapeError, layer.backward, params, residuals, y.astype(np.float64))
    assert f"expected dy of shape {y.shape} and dtype float32 like the output, got {y.shape} and float64" in text


def test_a_forgotten_batch_axis_is_named_by_a_net_too() -> None:
    net = serial(dense(3), relu())
    params, state, _ = net.init(Key(0), (4,))
    text = message(ShapeError, net.apply, params, state, np.ones(4, np.float32))
    assert text.startswith("serial[0] dense(units=3): expected an input of shape (n, 4), got (4,)")


PLAIN = [
    (relu(), (4,)), (flatten(), (2, 2)), (max_pool2d(2), (4, 4, 1)), (avg_pool2d(2), (4, 4, 1)),
    (global_avg_pool2d(), (4, 4, 1)), (dropout(0.5), (4,)), (gaussian_noise(0.5), (4,)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "in_shape", "x_shape", "wanted"),
    [
        (dense(3), (4,), (2, 5), "(n, 4)"),
        (conv2d(2, 3), (4, 4, 2), (1, 4, 4, 1), "(n, any, any, 2)"),
        (position_bias(), (4, 3), (2, 3, 4), "(n, 4, 3)"),
        (batch_norm(), (4,), (2, 3), "(n, 4)"),
        (batch_norm(), (3, 3, 4), (2, 3, 3, 2), "(n, any, any, 4)"),
    ],
    ids=str,
)
def test_an_input_of_another_shape_than_init_was_given(
    layer: Layer, in_shape: Shape, x_shape: Shape, wanted: str
) -> None:
    params, state, _ = layer.init(Key(0), in_shape)
    text = message(ShapeError, layer.apply, params, state, np.zeros(x_shape, np.float32))
    first = tree.flatten(params)[0].shape
    assert text == (
        f"{layer}: expected an input of shape {wanted}, got {x_shape}. Pass a batch of examples of the shape that init "
        f"was given, and the params that it gave (one here is of shape {first})"
    )
    layer.apply(params, state, np.zeros((1, *in_shape), np.float32))


@pytest.mark.parametrize(
    ("layer", "in_shape", "x_shape", "advice"),
    [
        (dense(3), (4,), (4,), "Add the batch axis: x[None]"),
        (batch_norm(), (4,), (4,), "Add the batch axis: x[None]"),
        (conv2d(2, 3), (4, 4, 2), (4, 4, 2), "Add the batch axis: x[None]"),
        (position_bias(), (4, 3), (4, 3), "Add the batch axis: x[None]"),
        (conv2d(2, 3), (4, 4, 1), (9, 4, 4), "Add the channel axis: x[..., None]"),
        (conv2d(2, 3), (4, 4, 1), (4, 4), "Add the batch axis and the channel axis: x[None, ..., None]"),
        (conv2d(2, 3), (4, 5, 3), (9, 3, 4, 5), "Put the channels last: x.transpose(0, 2, 3, 1)"),
        (serial(dense(3), relu()), (4,), (4,), "Add the batch axis: x[None]"),
    ],
    ids=str,
)
def test_an_axis_that_is_missing_is_told(layer: Layer, in_shape: Shape, x_shape: Shape, advice: str) -> None:
    params, state, _ = layer.init(Key(0), in_shape)
    x = np.zeros(x_shape, np.float32)
    assert message(ShapeError, layer.apply, params, state, x).endswith(f", got {x_shape}. {advice}")
    layer.apply(params, state, eval(advice.rpartition(": ")[2], {"x": x}))


def test_images_for_a_dense_layer_are_to_be_flattened() -> None:
    params, state, _ = dense(3).init(Key(0), (32,))
    x = np.zeros((5, 4, 4, 2), np.float32)
    assert message(ShapeError, dense(3).apply, params, state, x).endswith(", got (5, 4, 4, 2). Put flatten() before it")
    serial(flatten(), dense(3)).apply((None, params), (None, state), x)


@pytest.mark.parametrize(
    ("layer", "in_shape", "text"),
    [
        (conv2d(2, 3), (64, 28, 28, 1), "got (64, 28, 28, 1). Leave out the batch axis: (28, 28, 1)"),
        (max_pool2d(2), (64, 28, 28, 1), "got (64, 28, 28, 1). Leave out the batch axis: (28, 28, 1)"),
        (dense(3), (64, 784), "got (64, 784). Put flatten() before it, or leave out the batch axis: (784,); "
         "of a sequence, dense(..., per_position=True)"),
        *[
            (layer, 64, "expected in_shape, an example's shape, to be a tuple, got 64. Pass (64,)")
            for layer in (
                dense(3), conv2d(2, 3), max_pool2d(2), global_avg_pool2d(), batch_norm(), position_bias(), flatten(),
                reshape((2,)), softmax(), serial(), serial(relu()), parallel(relu()), residual(dense(3)),
            )
        ],
        (dense(3), None, "expected in_shape, an example's shape, to be a tuple, got None. Pass x.shape[1:]"),
        (serial(dense(3)), "64", "expected in_shape, an example's shape, to be a tuple, got '64'. Pass x.shape[1:]"),
    ],
    ids=str,
)  # fmt: skip
def test_an_in_shape_that_is_none(layer: Layer, in_shape: Any, text: str) -> None:
    assert message(ShapeError, layer.init, Key(0), in_shape).endswith(text)


BLAMED: list[tuple[Layer, Shape, str, Any, str]] = [
    (dense(3), (4,), "weight", np.ones((4, 2)), "expected its weight to have the shape (any, 3), got (4, 2)"),
    (dense(3), (4,), "weight", np.ones(4), "expected its weight to have the shape (any, 3), got (4,)"),
    (dense(3), (4,), "weight", [[1.0] * 3] * 4, "expected its weight to have the shape (any, 3), got list"),
    (dense(3), (4,), "weight", np.ma.ones((4, 3)), "expected its weight to have the shape (any, 3), got MaskedArray"),
    (dense(3), (4,), "bias", np.ones(1), "expected its bias to have the shape (3,), got (1,)"),
    (conv2d(2, 3), (4, 4, 1), "weight", np.ones((3, 2, 1, 2)),
     "expected its weight to have the shape (3, 3, any, 2), got (3, 2, 1, 2)"),
    (conv2d(2, 3), (4, 4, 1), "bias", np.ones((2, 1)), "expected its bias to have the shape (2,), got (2, 1)"),
    (batch_norm(), (4,), "scale", np.ones(()), "expected its scale to have the shape (any,), got ()"),
    (batch_norm(), (4,), "shift", np.ones(1), "expected its shift to have the shape (4,), got (1,)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "in_shape", "path", "value", "text"), BLAMED)
def test_a_parameter_of_another_shape_is_blamed_and_not_the_input(
    layer: Layer, in_shape: Shape, path: str, value: Any, text: str
) -> None:
    params, state, _ = layer.init(Key(0), in_shape)
    value = value.astype(np.float32) if isinstance(value, np.ndarray) else value
    other = attrs.evolve(params, **{path: value})
    fix = "Pass the params that this layer's own init gave, or put in arrays of their shapes"
    x = np.zeros((5, *in_shape), np.float32)
    for train in (False, True):
        assert message(ShapeError, layer.apply, other, state, x, train=train) == f"{layer}: {text}. {fix}"


def test_a_state_of_another_shape_is_blamed_too() -> None:
    params, state, _ = batch_norm().init(Key(0), (4,))
    x = np.zeros((5, 4), np.float32)
    for train in (False, True):
        text = message(ShapeError, batch_norm().apply, params, attrs.evolve(state, var=np.ones(1)), x, train=train)
        assert text.startswith("batch_norm(): expected its var to have the shape (4,), got (1,). ")
        text = message(LayerError, batch_norm().apply, params, None, x, train=train)
        assert text.startswith("batch_norm(): expected its state to be BatchNormState(...), got NoneType. ")


@pytest.mark.parametrize("layer", [residual(dense(3)), residual(serial(dense(1)))], ids=str)
def test_a_residual_whose_layer_gives_another_shape_is_not_broadcast(layer: Layer) -> None:
    units = 1 if layer == residual(serial(dense(1))) else 3
    params, state, _ = (dense(units) if units == 3 else serial(dense(1))).init(Key(0), (4,))
    text = message(ShapeError, layer.apply, params, state, np.zeros((2, 4), np.float32))
    assert text.startswith(f"residual: its layer must keep the shape (4,) to be added to it, and gives ({units},)")


@pytest.mark.parametrize("combine", ["add", "concat"])
def test_branches_of_different_shapes_are_not_broadcast(combine: Any) -> None:
    net = parallel(reshape((2, 1)), reshape((1, 2)), combine=combine)
    text = message(ShapeError, net.apply, (None, None), (None, None), np.zeros((3, 2)))
    assert text.startswith("parallel[1]: expected an output of shape (2, 1)")


@pytest.mark.parametrize("layer", [max_pool2d(2), avg_pool2d(2), global_avg_pool2d()], ids=str)
def test_an_input_that_is_no_image(layer: Layer) -> None:
    for shape, advice in (((4, 4, 1), "x[None]"), ((9, 4, 4), "x[..., None]"), ((9,), "x[None]")):
        text = message(ShapeError, layer.apply, None, None, np.zeros(shape))
        assert text == (
            f"{layer}: expected images of shape (n, height, width, channels), got {shape}. "
            "Give a single image a batch axis: x[None]; grey images a channel axis: x[..., None]"
        )
        assert advice in text


@pytest.mark.parametrize("layer", [softmax(), log_softmax()], ids=str)
def test_logits_without_a_batch_axis(layer: Layer) -> None:
    # Taken for a batch of numbers, they would be normalised over the batch.
    text = message(ShapeError, layer.apply, None, None, np.zeros(3))
    assert text == f"{layer}: expected a batch whose last axis holds the classes, got (3,). Pass x[None]"


@pytest.mark.parametrize(("layer", "in_shape"), PARAMETRISED, ids=[str(layer) for layer, _ in PARAMETRISED])
@pytest.mark.parametrize(("dtype", "other"), [(np.float32, np.float64), (np.float64, np.int64)])
def test_an_input_of_another_dtype_than_the_parameters(layer: Layer, in_shape: Shape, dtype: type, other: type) -> None:
    params, state, _ = layer.init(Key(0), in_shape, dtype)
    x = np.ones((1, *in_shape), other)
    text = message(LayerError, layer.apply, params, state, x)
    want, got = np.dtype(dtype), np.dtype(other)
    start = f"{layer}: expected an input of dtype {want} like the parameters, got {got}. Convert it: "
    assert text == f"{start}x.astype(np.{want})"
    layer.apply(params, state, eval(text.removeprefix(start), {"x": x, "np": np}))


@pytest.mark.parametrize(("layer", "in_shape"), PLAIN, ids=[str(layer) for layer, _ in PLAIN])
def test_an_input_of_integers(layer: Layer, in_shape: Shape) -> None:
    for dtype, advice in (
        (np.int64, "Convert it: x.astype(np.float32)"),
        # Bytes of images: a net that was trained on 0 to 1 would take 0 to 255 without a word.
        (np.uint8, "Convert and scale it, as rescale(255) of funcnn.data does: x.astype(np.float32) / 255"),
    ):
        x = np.ones((1, *in_shape), dtype)
        text = message(LayerError, layer.apply, None, None, x)
        assert text == f"{layer}: expected an input of floats, got dtype {x.dtype}. {advice}"
        layer.apply(None, None, eval(advice.rpartition(": ")[2], {"x": x, "np": np}))


@pytest.mark.parametrize(
    ("layer", "in_shape"), PARAMETRISED + PLAIN, ids=[str(layer) for layer, _ in PARAMETRISED + PLAIN]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_input_that_is_no_array(layer: Layer, in_shape: Shape, dtype: type) -> None:
    params, state, _ = layer.init(Key(0), in_shape, dtype)
    x = np.ones((1, *in_shape)).tolist()
    text = message(LayerError, layer.apply, params, state, x)
    start = f"{layer}: expected a NumPy array, got list. Convert it: "
    assert text.startswith(f"{start}np.asarray(x, np.float")
    layer.apply(params, state, eval(text.removeprefix(start), {"x": x, "np": np}))


def test_training_batch_norm_on_nothing() -> None:
    params, state, _ = batch_norm().init(Key(0), (3,))
    text = message(LayerError, batch_norm().apply, params, state, np.zeros((0, 3), np.float32), train=True)
    assert text == "batch_norm(): an empty batch has no mean. Train on batches of at least one example"
    batch_norm().apply(params, state, np.zeros((1, 3), np.float32), train=True)


def test_errors_at_apply_and_backward_name_the_place_too() -> None:
    net = serial(relu(), residual(parallel(serial(dense(2)), dropout(0.5), combine="add")))
    params, state, _ = net.init(Key(0), (2,))
    x = np.zeros((1, 2), np.float32)
    wrong_size = message(ShapeError, net.apply, params, state, np.zeros((1, 3), np.float32))
    assert wrong_size.startswith("serial[1] residual parallel[0] serial[0] dense(units=2): expected an input of shape ")
    without_key = message(LayerError, net.apply, params, state, x, train=True)
    assert without_key.startswith("serial[1] residual parallel[1] dropout(rate=0.5): training draws random numbers ")
    applied = net.apply(params, state, x)
    untrained = message(LayerError, net.backward, params, applied.residuals, x)
    assert untrained.startswith("serial(relu(), residual(layer=parallel(")
    (stage,) = net.apply(params, state, x, key=Key(0), train=True).residuals
    ((first, branches),) = stage.residuals
    branches = attrs.evolve(branches, residuals=(None, branches.residuals[1]))
    half = (attrs.evolve(stage, residuals=((first, branches),)),)
    half_trained = message(LayerError, net.backward, params, half, x)
    assert half_trained.startswith(
        "serial[1] residual parallel[0] serial(dense(units=2)): backward needs the residuals"
    )


def test_an_error_survives_pickling_with_its_places() -> None:
    # Process pools pickle what a worker raises.
    with pytest.raises(ShapeError) as caught:
        serial(serial(dense(3))).init(Key(0), (2, 2))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is ShapeError
    assert str(copy) == str(caught.value)


# --- Errors that are not this library's own -------------------------------------------------------------------


@config
class _Faulty(Config):
    name = "faulty"
    fault: str

    def out_shape(self, in_shape: Shape) -> Shape:
        if self.fault == "out_shape":
            raise RuntimeError("out of memory")
        return in_shape


def _init(config: _Faulty, key: Key, in_shape: Shape, dtype: Any = np.float32) -> Initialised:
    if config.fault == "init":
        raise RuntimeError("out of memory")
    return Initialised(None, None, config.out_shape(in_shape))


def _apply(config: _Faulty, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
    if config.fault == "apply":
        raise RuntimeError("out of memory")
    return x, state, ()


def _backward(config: _Faulty, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Any:
    raise RuntimeError("out of memory")


def _faulty(fault: str) -> Layer:
    return make_layer(_Faulty(fault), _apply, _backward, _init)


def _use(net: Layer) -> None:
    params, state, _ = net.init(Key(0), (2,))
    applied = net.apply(params, state, np.ones((1, 2)), train=True)
    net.backward(params, applied.residuals, applied.y)


@pytest.mark.parametrize("fault", ["out_shape", "init", "apply", "backward"])
def test_a_foreign_error_carries_a_note_of_the_place(fault: str) -> None:
    net = serial(relu(), parallel(residual(_faulty(fault))))
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        _use(net)
    assert getattr(caught.value, "__notes__", []) == ["in residual", "in parallel[0]", "in serial[1]"]


def test_every_shape_is_checked_before_the_first_layer_is_initialised() -> None:
    # The message must not come after minutes of drawing the weights of the layers before.
    assert composition_error(serial(_faulty("init"), conv2d(2, 3)), (3,)).startswith("serial[1] conv2d")


def test_params_of_another_layer_are_placed() -> None:
    for layer in (dense(2), conv2d(2, 1), batch_norm(), position_bias()):
        net = serial(relu(), layer)
        text = message(LayerError, net.apply, (None, None), (None, None), np.zeros((1, 2)))
        kind = type(layer.init(Key(0), (2, 2, 2) if layer.name == "conv2d" else (2,)).params).__name__
        assert text == (
            f"serial[1] {layer}: expected its params to be {kind}(...), got NoneType. "
            "Pass the params that this layer's own init gave"
        )


@pytest.mark.parametrize("combinator", [serial, parallel])
@pytest.mark.parametrize(
    "change",
    [lambda values: values[:1], lambda values: (*values, None), lambda values: None],
    ids=["too few", "too many", "none at all"],
)
@pytest.mark.parametrize("name", ["params", "state"])
def test_params_and_state_of_another_net_are_not_cut_to_fit(combinator: Any, change: Any, name: str) -> None:
    net = serial(relu(), combinator(dense(2), dense(2)))
    x = np.zeros((3, 2), np.float32)
    own = net.init(Key(0), (2,))._asdict()
    wrong = change(own[name][1])
    other = own | {name: (None, wrong)}
    text = message(LayerError, net.apply, other["params"], other["state"], x)
    got = "NoneType" if wrong is None else f"a tuple of {len(wrong)}"
    assert text == (
        f"serial[1] {combinator.__name__}: expected {name} to be a tuple of 2, one for each layer, got {got}. "
        f"Pass the {name} that this net's own init gave"
    )
    applied = net.apply(own["params"], own["state"], x, train=True)
    if name == "params":
        assert message(LayerError, net.backward, other["params"], applied.residuals, applied.y) == text


def test_residuals_of_another_net_are_not_cut_to_fit() -> None:
    net = serial(tanh(), tanh())
    x = np.ones((1, 2))
    assert message(LayerError, net.backward, (None, None), (x, x, x), x) == (
        "serial: expected residuals to be a tuple of 1, one for each run of layers, got a tuple of 3. "
        "Pass the residuals that this net's own apply gave"
    )
    assert message(LayerError, net.backward, (None, None), (x,), x) == (
        "serial: expected the residuals of this net, got ndarray. Pass the residuals that this net's own apply gave"
    )
    net.backward((None, None), net.apply((None, None), (None, None), x, train=True).residuals, x)


# --- Arguments that are no layers -----------------------------------------------------------------------------


@pytest.mark.parametrize("combinator", [serial, parallel])
def test_a_constructor_that_was_not_called(combinator: Any) -> None:
    text = message(TypeError, combinator, dense(3), relu)
    assert text == f"{combinator.__name__}[1]: expected a Layer, got the function relu; call it: relu(...)"
    combinator(dense(3), relu())


@pytest.mark.parametrize("wrong", [3, None, [dense(3)], (dense(3), relu())], ids=str)
def test_what_is_no_layer_is_shown(wrong: Any) -> None:
    assert message(TypeError, serial, wrong) == f"serial[0]: expected a Layer, got {wrong!r}"
    assert message(TypeError, residual, wrong) == f"residual: layer must be a Layer, got {wrong!r}"


def test_callables_without_a_name_are_shown_too() -> None:
    text = message(TypeError, serial, relu(), partial(dense, 3))
    assert text.startswith("serial[1]: expected a Layer, got ")
    serial(relu(), partial(dense, 3)())


def test_a_residual_constructor_that_was_not_called() -> None:
    assert "got the function relu; call it: relu(...)" in message(TypeError, residual, relu)


# --- Settings that make no sense ------------------------------------------------------------------------------

SIZE = "must be a positive int or a pair (height, width), got"
PADDING = 'padding must be "valid", "same", an int, or ((top, bottom), (left, right)), none negative, got'


@pytest.mark.parametrize(
    ("constructor", "arguments", "text"),
    [
        (dense, {"units": 0}, "dense: units must be a positive int, got 0"),
        (dense, {"units": -1}, "dense: units must be a positive int, got -1"),
        (dense, {"units": 3.0}, "dense: units must be a positive int, got 3.0"),
        (dense, {"units": True}, "dense: units must be a positive int, got True"),
        (conv2d, {"filters": 0, "kernel_size": 3}, "conv2d: filters must be a positive int, got 0"),
        (conv2d, {"filters": 2, "kernel_size": 0}, f"conv2d: kernel_size {SIZE} (0, 0)"),
        (conv2d, {"filters": 2, "kernel_size": (3, 3, 3)}, f"conv2d: kernel_size {SIZE} (3, 3, 3)"),
        (conv2d, {"filters": 2, "kernel_size": "33"}, f"conv2d: kernel_size {SIZE} ('33', '33')"),
        (conv2d, {"filters": 2, "kernel_size": 3, "stride": 0}, f"conv2d: stride {SIZE} (0, 0)"),
        (conv2d, {"filters": 2, "kernel_size": 3, "stride": (1, -1)}, f"conv2d: stride {SIZE} (1, -1)"),
        (conv2d, {"filters": 2, "kernel_size": 3, "dilation": 1.5}, f"conv2d: dilation {SIZE} (1.5, 1.5)"),
        (conv2d, {"filters": 2, "kernel_size": 3, "groups": 0}, "conv2d: groups must be a positive int, got 0"),
        (
            conv2d,
            {"filters": 6, "kernel_size": 3, "groups": 4},
            "conv2d: filters must be a multiple of groups, got 6 filters, 4 groups",
        ),
        (max_pool2d, {"window": 0}, f"max_pool2d: window {SIZE} (0, 0)"),
        (max_pool2d, {"window": 2, "stride": 0}, f"max_pool2d: stride {SIZE} (0, 0)"),
        (avg_pool2d, {"window": 2, "padding": "smae"}, f"avg_pool2d: {PADDING} 'smae'"),
        (reshape, {"shape": (2, 0)}, "reshape: shape must be positive ints, the batch axis left out, got (2, 0)"),
        (reshape, {"shape": (-1,)}, "reshape: shape must be positive ints, the batch axis left out, got (-1,)"),
        (dense, {"units": 2, "use_bias": "no"}, "dense: use_bias must be True or False, got 'no'"),
        (conv2d, {"filters": 2, "kernel_size": 3, "use_bias": 1}, "conv2d: use_bias must be True or False, got 1"),
        (scale, {"factor": math.inf}, "scale: factor must be finite, got inf"),
        (leaky_relu, {"slope": 2.5}, "leaky_relu: slope must be from 0 to 1, got 2.5"),
        (leaky_relu, {"slope": -0.1}, "leaky_relu: slope must be from 0 to 1, got -0.1"),
        (leaky_relu, {"slope": math.nan}, "leaky_relu: slope must be from 0 to 1, got nan"),
        (elu, {"alpha": -0.5}, "elu: alpha must be positive and finite, got -0.5"),
        (elu, {"alpha": math.inf}, "elu: alpha must be positive and finite, got inf"),
        (batch_norm, {"momentum": 1.1}, "batch_norm: momentum must be from 0 to 1, got 1.1"),
        (batch_norm, {"momentum": math.nan}, "batch_norm: momentum must be from 0 to 1, got nan"),
        (batch_norm, {"epsilon": -0.1}, "batch_norm: epsilon must be positive and finite, got -0.1"),
        (parallel, {"combine": "add"}, "parallel: at least one layer is needed; for the identity use serial()"),
    ],
)  # fmt: skip
def test_invalid_settings(constructor: Any, arguments: dict[str, Any], text: str) -> None:
    assert message(ValueError, constructor, **arguments) == text


@pytest.mark.parametrize(
    ("constructor", "arguments"),
    [(leaky_relu, {"slope": 2}), (elu, {"alpha": 0}), (batch_norm, {"epsilon": 0}), (batch_norm, {"momentum": -1})],
)
def test_settings_just_outside_their_range(constructor: Any, arguments: dict[str, float]) -> None:
    assert "must be " in message(ValueError, constructor, **arguments)


def test_a_setting_is_not_rounded_into_its_range_by_the_message() -> None:
    assert message(ValueError, leaky_relu, 1.00000001) == "leaky_relu: slope must be from 0 to 1, got 1.00000001"
    expected = "batch_norm: momentum must be from 0 to 1, got 1.00000001"
    assert message(ValueError, batch_norm, momentum=1.00000001) == expected


@pytest.mark.parametrize(
    "padding",
    [-1, "smae", "VALID", True, None, 1.0, (1, 1), ((1, 1),), ((0, -1), (0, 0)), ((0, 1), (0, 1.5)), ((0, 1), 1),
     ((0, 1), (0, 1), 1), ((0, 1, 2), (0, 1)), [1, 1], [[0, 1], [0]]],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("constructor", [partial(conv2d, 2), max_pool2d], ids=["conv2d", "max_pool2d"])
def test_invalid_padding(constructor: Any, padding: Any) -> None:
    expected = f"{constructor(3).name}: {PADDING} "
    assert message(ValueError, constructor, 3, padding=padding).startswith(expected)


@pytest.mark.parametrize("padding", ["valid", "same", 0, 2, ((0, 1), (2, 0)), [[0, 1], [2, 0]]], ids=repr)
def test_valid_padding(padding: Any) -> None:
    assert conv2d(2, 3, padding=padding).init(Key(0), (5, 5, 1)).out_shape[2] == 2


def test_an_unknown_way_to_combine() -> None:
    expected = "parallel: combine must be one of 'concat', 'add', 'multiply', 'mean', 'tuple', got 'sum'"
    assert message(ValueError, parallel, relu(), combine="sum") == expected
    parallel(relu(), combine="add")


@pytest.mark.parametrize("constructor", [partial(dense, 3), partial(conv2d, 3, 3)], ids=["dense", "conv2d"])
@pytest.mark.parametrize("option", ["weight_init", "bias_init"])
@pytest.mark.parametrize("wrong", [he_normal, "he_normal", None, 0.1], ids=["function", "name", "None", "number"])
def test_what_is_no_initialiser_is_refused_at_once(constructor: Any, option: str, wrong: Any) -> None:
    assert option in message(TypeError, constructor, **{option: wrong})
    constructor(**{option: he_normal()})


def test_a_shape_that_is_one_number() -> None:
    assert message(ValueError, reshape, 5).startswith("reshape: shape must be positive ints")


def test_a_misspelt_option_is_not_swallowed() -> None:
    assert "unexpected keyword argument 'bias'" in message(TypeError, dense, 3, bias=False)
    assert "unexpected keyword argument 'strides'" in message(TypeError, conv2d, 3, 3, strides=2)
    assert "unexpected keyword argument 'p'" in message(TypeError, dropout, p=0.5)
