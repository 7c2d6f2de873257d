"""Combinators: serial, residual and parallel compute what their layers do by hand; descriptions are rebuilt."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from cases import assert_close, gaussian

from funcnn import tree
from funcnn.arrays import conv_rows
from funcnn.compose import parallel, residual, serial
from funcnn.keys import Key, fold_in
from funcnn.layer import Array, Layer
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, gaussian_noise, identity, relu, tanh

X, DY = gaussian((5, 4)), gaussian((5, 4), np.float64, "dy")


def training(layer: Layer, x: Array = X, key: Key | None = None) -> tuple[Any, Any, Any, Any]:
    """Initialise and train once: params, y, state, residuals."""
    params, state, _ = layer.init(Key(0), x.shape[1:], np.float64)
    return params, *layer.apply(params, state, x, key=key, train=True)


# --- serial ---------------------------------------------------------------------------------------------------


def test_serial_is_one_layer_after_the_other() -> None:
    first, second, third = dense(3), tanh(), dense(4)
    net = serial(first, second, third)
    params, y, state, residuals = training(net)
    assert state == (None, None, None)

    a, _, kept_a = first.apply(params[0], None, X, train=True)
    b, _, kept_b = second.apply(None, None, a, train=True)
    c, _, kept_c = third.apply(params[2], None, b, train=True)
    np.testing.assert_array_equal(y, c)

    grads_c, dc = third.backward(params[2], kept_c, DY)
    _, db = second.backward(None, kept_b, dc)
    grads_a, da = first.backward(params[0], kept_a, db)
    gradients, dx = net.backward(params, residuals, DY)
    assert tree.equal(gradients, (grads_a, None, grads_c))
    np.testing.assert_array_equal(dx, da)


def test_an_empty_serial_is_the_identity() -> None:
    params, y, state, residuals = training(serial())
    assert (params, state) == ((), ())
    np.testing.assert_array_equal(y, X)
    assert serial().init(Key(0), (2, 3)).out_shape == (2, 3)
    np.testing.assert_array_equal(serial().backward((), residuals, DY).dx, DY)


def test_nesting_does_not_change_the_numbers() -> None:
    flat, nested = serial(dense(4), relu(), dense(4)), serial(serial(dense(4)), serial(relu(), serial(dense(4))))
    (a, _, b), state, _ = flat.init(Key(0), (4,), np.float64)
    deep = ((a,), (None, (b,)))
    _, nested_state, _ = nested.init(Key(0), (4,), np.float64)
    y, _, residuals = flat.apply((a, None, b), state, X, train=True)
    nested_y, _, nested_residuals = nested.apply(deep, nested_state, X, train=True)
    np.testing.assert_array_equal(nested_y, y)
    gradients, dx = flat.backward((a, None, b), residuals, DY)
    nested_gradients, nested_dx = nested.backward(deep, nested_residuals, DY)
    assert tree.equal(nested_gradients, ((gradients[0],), (None, (gradients[2],))))
    np.testing.assert_array_equal(nested_dx, dx)


def test_layer_i_is_initialised_and_draws_from_its_own_key() -> None:
    net = serial(dense(4), gaussian_noise(1.0), dense(4), gaussian_noise(1.0))
    params = net.init(Key(7), (4,)).params
    assert tree.equal(params[2], dense(4).init(fold_in(Key(7), 2), (4,)).params)
    assert not tree.equal(params[0], params[2])

    noises = serial(gaussian_noise(1.0), gaussian_noise(1.0))
    zero = np.zeros_like(X)
    first, second = (gaussian_noise(1.0).apply(None, None, zero, key=fold_in(Key(3), i), train=True).y for i in (0, 1))
    y = noises.apply((None, None), (None, None), zero, key=Key(3), train=True).y
    np.testing.assert_allclose(y, first + second, rtol=1e-15, atol=1e-15)


def test_a_layer_keeps_its_key_whether_those_before_it_draw_or_not() -> None:
    def mask(before: Layer) -> Array:
        net = serial(before, dropout(0.5))
        return net.apply((None, None), (None, None), np.ones((1, 99)), key=Key(0), train=True).y != 0

    np.testing.assert_array_equal(mask(identity()), mask(gaussian_noise(0.1)))


def test_every_state_moves_in_training_and_none_in_evaluation() -> None:
    net = serial(batch_norm(), dense(4), residual(batch_norm()), parallel(batch_norm()))
    params, state, _ = net.init(Key(0), (4,), np.float64)
    trained = net.apply(params, state, X, train=True).state
    moved = [not tree.equal(after, before) for before, after in zip(state, trained, strict=True)]
    assert moved == [True, False, True, True]
    assert tree.equal(net.apply(params, trained, X).state, trained)


@pytest.mark.parametrize(
    "net",
    [
        serial(relu(), flatten(), dense(3), tanh(), dense(2)),
        serial(serial(relu(), dense(4)), dense(2)),
        serial(relu(), tanh()),
        serial(),
        residual(serial(relu(), dense(4))),
        parallel(serial(relu()), dense(2)),
    ],
    ids=str,
)
def test_without_dx_the_layers_below_the_first_parameters_are_left_out(net: Layer) -> None:
    params, y, _, residuals = training(net)
    dy = gaussian(y.shape, np.float64, "dy")
    with_dx, without = (net.backward(params, residuals, dy, need_dx=need_dx) for need_dx in (True, False))
    assert tree.equal(without.params, with_dx.params)
    assert without.dx is None
    # Their residuals are not even looked at.
    if net.name == "serial" and params:
        first = next((i for i, each in enumerate(params) if each is not None), len(params))
        unused = [max(stage.order) < first for stage in net.config.stages]
        beheaded = tuple(None if skip else kept for skip, kept in zip(unused, residuals, strict=True))
        assert tree.equal(net.backward(params, beheaded, dy, need_dx=False).params, with_dx.params)


def test_without_dx_the_first_convolution_computes_none() -> None:
    net = serial(conv2d(2, 3), relu(), conv2d(2, 3))
    params, y, _, residuals = training(net, gaussian((1, 6, 6, 1)))
    spied = mock.patch.object(conv_rows, "conv_input_gradient", wraps=conv_rows.conv_input_gradient)
    with spied as input_gradient:
        net.backward(params, residuals, y, need_dx=False)
        assert input_gradient.call_count == 1  # the second convolution's
        net.backward(params, residuals, y)
        assert input_gradient.call_count == 3


# --- residual -------------------------------------------------------------------------------------------------


def test_residual_adds_its_input() -> None:
    inner = serial(dense(4), tanh())
    block = residual(inner)
    params, y, state, residuals = training(block)
    inner_params, inner_y, inner_state, inner_residuals = training(inner)
    assert tree.equal(params, inner_params)
    assert tree.equal(state, inner_state)
    np.testing.assert_array_equal(y, X + inner_y)
    gradients, dx = block.backward(params, residuals, DY)
    inner_gradients, inner_dx = inner.backward(inner_params, inner_residuals, DY)
    assert tree.equal(gradients, inner_gradients)
    np.testing.assert_array_equal(dx, DY + inner_dx)


def test_residual_hands_its_key_on() -> None:
    zero = np.zeros_like(X)
    drawn = residual(gaussian_noise(1.0)).apply(None, None, zero, key=Key(3), train=True).y
    np.testing.assert_array_equal(drawn, gaussian_noise(1.0).apply(None, None, zero, key=Key(3), train=True).y)


# --- parallel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 3, 4)], ids=["dense", "spatial"])
def test_parallel_joins_along_the_last_axis(shape: tuple[int, ...]) -> None:
    x = gaussian(shape)
    block = parallel(tanh(), identity(), relu())
    params, y, _, residuals = training(block, x)
    np.testing.assert_array_equal(y, np.concatenate([np.tanh(x), x, np.maximum(x, 0)], axis=-1))
    dy = gaussian(y.shape, np.float64, "dy")
    d_tanh, d_identity, d_relu = np.split(dy, 3, axis=-1)
    dx = block.backward(params, residuals, dy).dx
    assert_close(dx, d_tanh * (1 - np.tanh(x) ** 2) + d_identity + d_relu * (x > 0), 1e-14)


def test_parallel_branches_of_different_widths() -> None:
    block = parallel(dense(2), dense(1), dense(3))
    params, y, _, residuals = training(block)
    dy = gaussian(y.shape, np.float64, "dy")
    gradients, _ = block.backward(params, residuals, dy)
    np.testing.assert_allclose(gradients[1].bias, dy[:, 2:3].sum(axis=0), rtol=1e-15)
    np.testing.assert_allclose(gradients[2].bias, dy[:, 3:].sum(axis=0), rtol=1e-15)


def test_parallel_adds() -> None:
    block = parallel(tanh(), identity(), relu(), combine="add")
    params, y, _, residuals = training(block)
    assert_close(y, np.tanh(X) + X + np.maximum(X, 0), 1e-15)
    dx = block.backward(params, residuals, DY).dx
    assert_close(dx, DY * (1 - np.tanh(X) ** 2) + DY + DY * (X > 0), 1e-15)


def test_parallel_branches_have_their_own_keys() -> None:
    params = parallel(dense(4), dense(4)).init(Key(7), (4,)).params
    assert tree.equal(params[1], dense(4).init(fold_in(Key(7), 1), (4,)).params)
    noise = parallel(gaussian_noise(1.0), gaussian_noise(1.0))
    y = noise.apply((None, None), (None, None), np.zeros((3, 4)), key=Key(0), train=True).y
    assert not np.isin(y[:, :4], y[:, 4:]).any()


def test_a_block_of_one_branch_is_that_branch() -> None:
    for combine in ("concat", "add"):
        params, y, _, residuals = training(parallel(dense(3), combine=combine))
        np.testing.assert_array_equal(y, dense(3).apply(params[0], None, X).y)
        assert residuals is not None


# --- Composition as such --------------------------------------------------------------------------------------


def test_a_combinator_knows_what_its_layers_are() -> None:
    plain, norm, drop = serial(dense(3), relu()), residual(serial(batch_norm())), parallel(identity(), dropout(0.5))
    assert [net.config.couples_examples for net in (plain, norm, drop)] == [False, True, False]
    assert [net.config.stochastic for net in (plain, norm, drop)] == [False, False, True]
    assert serial(plain, norm, drop).config.children == (plain, norm, drop)
    assert serial(plain, norm, drop).config.couples_examples
    assert serial(plain, norm, drop).config.stochastic


def test_combinators_print_on_one_line() -> None:
    net = serial(conv2d(8, 3, padding="same"), residual(serial(relu())), parallel(dense(2), dense(3), combine="add"))
    assert repr(net) == (
        "serial(conv2d(filters=8, kernel_size=3, padding='same'), residual(layer=serial(relu())), "
        "parallel(dense(units=2), dense(units=3), combine='add'))"
    )
