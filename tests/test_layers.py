"""What every layer does beyond its contract (`test_contract`); and what dense, biases and reshaping compute."""

import re
from typing import Any

import numpy as np
import pytest
from cases import (
    CASES,
    CONSTRUCTORS,
    DTYPES,
    Case,
    Ready,
    all_configs,
    assert_close,
    gaussian,
    joined,
    part_of,
    ready,
)

from funcnn import compose, layers, tree
from funcnn.arrays.layout import images, rows
from funcnn.compose import parallel, residual, serial
from funcnn.init import constant, he_normal, normal
from funcnn.keys import Key, fold_in
from funcnn.layer import Array, Layer, LayerError, Shape, describe
from funcnn.layers import (
    batch_norm,
    conv2d,
    dense,
    dropout,
    elu,
    flatten,
    gaussian_noise,
    global_avg_pool2d,
    leaky_relu,
    max_pool2d,
    position_bias,
    relu,
    reshape,
    scale,
)

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_stochastic_case = pytest.mark.parametrize("case", [c for c in CASES if c.layer.config.stochastic], ids=str)
RTOL = {np.float32: 1e-5, np.float64: 1e-12}


def test_every_constructor_is_on_the_list() -> None:
    made_of_others = {"elementwise", "separable_conv2d", "transformer_block"}  # which print as cube, or as a serial
    public = {*layers.__all__, *compose.__all__, "cube"} - made_of_others
    listed = {config.name for case in CASES for config in all_configs(case.layer)}
    assert public - listed == set(), "put a Case of it into tests/cases.py"
    assert listed - public == set(), "it is in no index: funcnn/layers.py or funcnn/compose.py"


def test_no_case_is_listed_twice() -> None:
    assert len(set(map(str, CASES))) == len(CASES)


# --- How arrays lie in memory, and their dtypes ---------------------------------------------------------------


@every_case
def test_memory_layout_does_not_matter(case: Case) -> None:
    made = ready(case)
    x, dy = tree.map(np.asfortranarray, (made.x, made.dy))
    turned = made._replace(x=x, dy=dy)
    assert_close(turned.train().y, made.train().y, 1e-14)
    assert_close(tuple(turned.gradients()), tuple(made.gradients()), 1e-14)


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case.in_shape) == 3 and type(case.in_shape[0]) is int], ids=str
)
@every_dtype
def test_images_may_lie_by_rows_or_by_examples(case: Case, dtype: type) -> None:
    made = ready(case, dtype)
    x, dy = tree.map(laid_by_rows, (made.x, made.dy))
    by_rows = made._replace(x=x, dy=dy)
    assert by_rows.x.strides != made.x.strides
    assert_close(by_rows.train().y, made.train().y, RTOL[dtype])
    assert_close(by_rows.train().state, made.train().state, RTOL[dtype])
    assert_close(tuple(by_rows.gradients()), tuple(made.gradients()), RTOL[dtype])
    evaluated = [case.layer.apply(each.params, each.state, each.x).y for each in (by_rows, made)]
    assert_close(*evaluated, RTOL[dtype])


def laid_by_rows(x: Array) -> Array:
    """The same values; of images, in the order in which convolution and pooling lay them in memory."""
    return images(np.ascontiguousarray(rows(x))) if x.ndim == 4 else x


def float_dtypes(*trees: Any) -> set[type]:
    leaves = [leaf for each in trees for leaf in tree.flatten(each)]
    return {leaf.dtype.type for leaf in leaves if isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind == "f"}


@pytest.mark.parametrize(
    "layer",
    [
        leaky_relu(np.float64(0.1)), elu(np.float64(0.5)), scale(np.float64(0.5)), dropout(np.float64(0.5)),
        gaussian_noise(np.float64(0.5)), batch_norm(momentum=np.float64(0.5)), batch_norm(epsilon=np.float64(0.1)),
        dense(3, weight_init=constant(np.float64(0.5))),
    ],
    ids=lambda layer: describe(layer)["name"],
)  # fmt: skip
def test_settings_that_come_from_numpy_do_not_upcast(layer: Layer) -> None:
    made = ready(Case(layer, (4,)), np.float32)
    assert float_dtypes(*made.train(), *layer.apply(made.params, made.state, made.x), *made.gradients()) == {np.float32}


# --- A layer is a value ---------------------------------------------------------------------------------------


@every_case
def test_prints_as_the_call_that_makes_it(case: Case) -> None:
    assert eval(repr(case.layer), {"__builtins__": {}}, CONSTRUCTORS) == case.layer


def test_layers_with_other_settings_differ() -> None:
    distinct = {case.layer for case in CASES}
    assert len(distinct) == len({repr(case.layer) for case in CASES})
    assert dense(3) != dense(4)
    assert dense(3) == dense(3, weight_init=he_normal())
    assert max_pool2d(2) == max_pool2d((2, 2), stride=2)


def test_a_layer_is_frozen() -> None:
    with pytest.raises(AttributeError):
        dense(3).name = "other"
    with pytest.raises(AttributeError):
        dense(3).config.units = 4


# --- Evaluation and training ----------------------------------------------------------------------------------


@every_case
def test_backward_without_residuals_shows_the_corrected_call(case: Case) -> None:
    made = ready(case)
    with pytest.raises(LayerError, match=re.escape("train=True") + ".* and pass on its residuals$"):
        case.layer.backward(made.params, None, made.dy)


@every_stochastic_case
def test_training_without_a_key_shows_the_corrected_call(case: Case) -> None:
    layer, params, state, x, _ = ready(case)
    with pytest.raises(LayerError) as caught:
        layer.apply(params, state, x, train=True)
    assert str(caught.value).endswith(
        "training draws random numbers and needs a key, got key=None. "
        "Call apply(params, state, x, key=Key(0), train=True), with a fresh key for every step"
    )
    applied = eval(
        re.search(r"Call (apply\(.*\)), with", str(caught.value))[1],
        {"apply": layer.apply, "params": params, "state": state, "x": x, "Key": Key},
    )
    assert tree.equal(tuple(applied), tuple(layer.apply(params, state, x, key=Key(0), train=True)))


# --- Batches --------------------------------------------------------------------------------------------------


def one_by_one(made: Ready) -> list[Ready]:
    n = len(tree.flatten(made.x)[0])
    return [made._replace(x=part_of(made.x, slice(i, i + 1)), dy=part_of(made.dy, slice(i, i + 1))) for i in range(n)]


@every_case
def test_a_batch_in_float32_is_as_its_examples_one_by_one(case: Case) -> None:
    made = ready(case, np.float32)
    singles = one_by_one(made)
    evaluated = [case.layer.apply(made.params, made.state, each.x).y for each in singles]
    assert_close(joined(evaluated), case.layer.apply(made.params, made.state, made.x).y, RTOL[np.float32])
    if case.layer.config.couples_examples or case.layer.config.stochastic:
        return
    assert_close(joined([each.train().y for each in singles]), made.train().y, RTOL[np.float32])
    gradients = [each.gradients() for each in singles]
    assert_close(joined([each.dx for each in gradients]), made.gradients().dx, RTOL[np.float32])
    sums = tree.map(lambda *leaves: sum(leaves), *[each.params for each in gradients])
    assert_close(sums, made.gradients().params, RTOL[np.float32])


# --- dense, biases, global average pooling, reshaping ---------------------------------------------------------


def test_dense_by_hand() -> None:
    layer = dense(2)
    params, _, _ = layer.init(Key(0), (3,), np.float64)
    params = tree.replace(params, "weight", np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    params = tree.replace(params, "bias", np.array([10.0, 20.0]))
    y, _, residuals = layer.apply(params, None, np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]), train=True)
    np.testing.assert_array_equal(y, [[6.0, 16.0], [15.0, 28.0]])
    gradients, dx = layer.backward(params, residuals, np.array([[1.0, 0.0], [0.0, -1.0]]))
    np.testing.assert_array_equal(gradients.weight, [[1.0, -2.0], [0.0, -1.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(gradients.bias, [1.0, -1.0])
    np.testing.assert_array_equal(dx, [[1.0, 3.0, 5.0], [-2.0, -4.0, -6.0]])


@pytest.mark.parametrize(
    ("layer", "in_shape"),
    [(dense(6, bias_init=normal(0.1)), (60,)), (conv2d(6, 3, groups=2, bias_init=normal(0.1)), (8, 8, 20))],
    ids=["dense", "conv2d"],
)
def test_weight_and_bias_are_drawn_from_their_own_keys(layer: Layer, in_shape: Shape) -> None:
    params, _, _ = layer.init(Key(5), in_shape)
    fan_in = params.weight[..., 0].size  # what one output sums
    assert tree.equal(params.weight, he_normal()(fold_in(Key(5), "weight"), params.weight.shape, fan_in, 1))
    assert tree.equal(params.bias, normal(0.1)(fold_in(Key(5), "bias"), (6,), fan_in, 1))


def test_a_bias_starts_at_zero() -> None:
    assert not dense(2).init(Key(0), (3,)).params.bias.any()
    assert not conv2d(2, 3).init(Key(0), (3, 3, 1)).params.bias.any()


def test_without_a_bias_there_is_none() -> None:
    assert dense(2, use_bias=False).init(Key(0), (3,)).params.bias is None
    assert conv2d(2, 3, use_bias=False).init(Key(0), (3, 3, 1)).params.bias is None


def test_position_bias_starts_at_zero_and_differs_by_position() -> None:
    layer = position_bias()
    params, _, _ = layer.init(Key(0), (2, 2, 1), np.float64)
    assert not params.bias.any()
    bias = np.arange(4.0).reshape(2, 2, 1)
    y, _, residuals = layer.apply(tree.replace(params, "bias", bias), None, np.ones((3, 2, 2, 1)), train=True)
    np.testing.assert_array_equal(y, np.broadcast_to(1 + bias, (3, 2, 2, 1)))
    dy = gaussian((3, 2, 2, 1))
    gradients, dx = layer.backward(params, residuals, dy)
    np.testing.assert_array_equal(gradients.bias, dy.sum(axis=0))
    np.testing.assert_array_equal(dx, dy)


def test_global_average_pooling_shares_its_gradient_equally() -> None:
    x, dy = gaussian((2, 3, 5, 4)), gaussian((2, 4), np.float64, "dy")
    y, _, residuals = global_avg_pool2d().apply(None, None, x, train=True)
    np.testing.assert_allclose(y, x.reshape(2, 15, 4).sum(axis=1) / 15, rtol=1e-13)
    dx = global_avg_pool2d().backward(None, residuals, dy).dx
    np.testing.assert_allclose(dx, np.broadcast_to(dy[:, None, None] / 15, x.shape), rtol=1e-15)


@pytest.mark.parametrize("layer", [flatten(), reshape((24,)), reshape((4, 3, 2)), reshape((2, 12))], ids=str)
def test_reshaping_keeps_the_values_in_order(layer: Layer) -> None:
    x, dy = np.arange(48.0).reshape(2, 2, 3, 4), -np.arange(48.0)
    y, _, residuals = layer.apply(None, None, x, train=True)
    assert y.ravel().tolist() == x.ravel().tolist()
    dx = layer.backward(None, residuals, dy.reshape(y.shape)).dx
    assert dx.shape == x.shape
    assert dx.ravel().tolist() == dy.tolist()


@pytest.mark.parametrize(
    ("layer", "in_shape", "macs"),
    [
        (dense(3), (4,), 4 * 3),
        (conv2d(8, 3, padding="same"), (5, 6, 2), 5 * 6 * 8 * 3 * 3 * 2),
        (conv2d(6, (2, 3), stride=2, groups=2), (6, 7, 4), 3 * 3 * 6 * 2 * 3 * 2),
        (relu(), (4,), 0),
        (serial(conv2d(2, 2), flatten(), dense(3)), (3, 3, 1), 2 * 2 * 2 * 4 + 8 * 3),
        (residual(dense(4)), (4,), 16),
        (parallel(dense(2), dense(3)), (4,), 8 + 12),
    ],
    ids=str,
)
def test_multiply_adds(layer: Layer, in_shape: Shape, macs: int) -> None:
    assert layer.config.macs(in_shape) == macs
