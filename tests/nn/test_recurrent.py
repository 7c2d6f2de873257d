"""Recurrent layers against their equations in plain loops; and `carried`, by pieces and step by step."""

from typing import Any

import attrs
import numpy as np
import pytest
from cases import assert_close, gaussian, message

from funcnn import tree
from funcnn.arrays.threads import set_threads, threads
from funcnn.compose import branches, carried, parallel, repeat, serial
from funcnn.grad_check import check_contract
from funcnn.keys import Key
from funcnn.layer import Array, Layer, LayerError, ShapeError
from funcnn.layers import embedding, gru, lstm, rnn, tanh
from funcnn.nn.carried import zero_carry

LAYERS = [rnn(3), rnn(3, activation="relu"), lstm(3), gru(3)]
every_layer = pytest.mark.parametrize("layer", LAYERS, ids=str)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def steps_of(layer: Layer, params: Any, x: Array) -> Array:
    """The hidden values of one sequence (time, features), by the equations in the docstrings."""
    units = layer.config.units  # type: ignore[attr-defined]
    h, c, found = np.zeros(units), np.zeros(units), []
    for inputs in x:
        from_x, from_h = inputs @ params.weight + params.bias, h @ params.recurrent_weight
        if layer.name == "lstm":
            i, f, g, o = np.split(from_x + from_h, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif layer.name == "gru":
            (r, z, a), (its_r, its_z, its_a) = np.split(from_x, 3), np.split(from_h, 3)
            s = sigmoid(z + its_z)
            h = (1 - s) * np.tanh(a + sigmoid(r + its_r) * (its_a + params.candidate_bias)) + s * h
        else:
            h = (np.tanh if "relu" not in repr(layer) else lambda sums: np.maximum(sums, 0))(from_x + from_h)
        found.append(h)
    return np.array(found)


def params_of(layer: Layer, in_shape: Any, dtype: Any = np.float64) -> Any:
    params = layer.init(Key(0), in_shape, dtype).params
    return tree.map(lambda leaf: leaf + gaussian(leaf.shape, dtype, "params") / 4, params)


# --- The layers -----------------------------------------------------------------------------------------------


@every_layer
def test_is_its_equations_step_by_step(layer: Layer) -> None:
    params, x = params_of(layer, (5, 2)), gaussian((4, 5, 2))
    y = layer.apply(params, None, x).y
    assert_close(y, np.array([steps_of(layer, params, each) for each in x]), 1e-13)


@pytest.mark.parametrize("make", [rnn, lstm, gru])
def test_the_last_step_and_the_other_way(make: Any) -> None:
    params, x = params_of(make(3), (5, 2)), gaussian((4, 5, 2))
    y = make(3).apply(params, None, x).y
    turned = make(3, reverse=True).apply(params, None, x[:, ::-1]).y
    np.testing.assert_array_equal(make(3, only_last=True).apply(params, None, x).y, y[:, -1])
    np.testing.assert_array_equal(turned[:, ::-1], y)
    # In reverse the last step is the first of the sequence.
    last = make(3, reverse=True, only_last=True).apply(params, None, x[:, ::-1]).y
    np.testing.assert_array_equal(last, y[:, -1])


@every_layer
def test_sequences_may_have_other_lengths_than_init_was_told(layer: Layer) -> None:
    params, x = params_of(layer, (5, 2)), gaussian((4, 9, 2))
    np.testing.assert_array_equal(
        layer.apply(params, None, x[:, :3]).y, np.ascontiguousarray(layer.apply(params, None, x).y[:, :3])
    )


def test_the_forget_gates_alone_begin_open() -> None:
    bias = lstm(2).init(Key(0), (5, 3)).params.bias
    np.testing.assert_array_equal(bias, [0, 0, 1, 1, 0, 0, 0, 0])
    assert not lstm(2, forget_bias=0.0).init(Key(0), (5, 3)).params.bias.any()
    assert not gru(2).init(Key(0), (5, 3)).params.bias.any()


@pytest.mark.parametrize("layer", [rnn(3), lstm(3), gru(3)], ids=str)
def test_gates_that_are_open_or_shut_are_finite_and_have_no_slope(layer: Layer) -> None:
    params = params_of(layer, (6, 2), np.float32)
    with np.errstate(all="raise"):
        y, _, residuals = layer.apply(params, None, gaussian((4, 6, 2), np.float32) * 1e6, train=True)
        gradients, dx = layer.backward(params, residuals, np.ones_like(y))
    assert all(np.isfinite(each).all() for each in [y, dx, *tree.flatten(gradients)])
    assert np.abs(y).max() <= 6  # |h| <= |c| <= the number of steps


def test_the_slope_of_the_relu_at_zero_is_zero() -> None:
    layer = rnn(1, activation="relu")
    params = layer.init(Key(0), (1, 1), np.float64).params
    residuals = layer.apply(params, None, np.zeros((1, 1, 1)), train=True).residuals
    assert not np.any(layer.backward(params, residuals, np.ones((1, 1, 1))).dx)


def test_threads_change_no_bit() -> None:
    net = serial(lstm(96), gru(80, only_last=True))
    params, state, _ = net.init(Key(0), (70, 30))
    x, before, found = gaussian((80, 70, 30), np.float32), threads(), []
    try:
        for number in (1, 2):
            set_threads(number)
            y, _, residuals = net.apply(params, state, x, train=True)
            found.append(tuple(net.backward(params, residuals, y)))
    finally:
        set_threads(before)
    for one, two in zip(*map(tree.flatten, found), strict=True):
        np.testing.assert_array_equal(one, two)


def test_residuals_are_as_large_as_the_docstrings_say() -> None:
    for layer, units in ((rnn(5), 1), (lstm(5), 6), (gru(5), 5)):
        residuals = layer.apply(params_of(layer, (100, 3)), None, gaussian((2, 100, 3)), train=True).residuals
        bases = {id(each if each.base is None else each.base): each for each in tree.flatten(residuals)}
        size = sum(each.size for each in bases.values())
        assert 0 <= size / 200 - (3 + 1 + units * 5) < 1  # but for the carry that it begins with


def test_what_is_no_sequence_is_refused() -> None:
    assert message(ShapeError, gru(3).init, Key(0), (8, 5, 2)) == (
        "gru(units=3): expected examples of shape (time, features), both at least 1, got (8, 5, 2). "
        "Leave out the batch axis: (5, 2)"
    )
    params = params_of(lstm(3), (5, 2))
    assert "expected an input of shape (n, any, 2), got (4, 5, 3)" in message(
        ShapeError, lstm(3).apply, params, None, gaussian((4, 5, 3))
    )
    assert "expected its recurrent_weight to have the shape (3, 9)" in message(
        ShapeError, gru(3).apply, attrs.evolve(params, weight=np.zeros((2, 9))), None, gaussian((4, 5, 2))
    )
    residuals = lstm(3).apply(params, None, gaussian((4, 5, 2)), train=True).residuals
    assert "expected residuals of 3 gates, got 4" in message(
        LayerError, gru(3).backward, params, residuals, gaussian((4, 5, 3))
    )
    assert "activation must be one of 'tanh', 'relu'" in message(ValueError, rnn, 3, activation="sigmoid")
    assert "forget_bias must be finite" in message(ValueError, lstm, 3, forget_bias=np.inf)


# --- carried --------------------------------------------------------------------------------------------------

NET = serial(gru(4), serial(tanh(), lstm(3)), repeat(rnn(3), 2))
CARRY: Any = ((4,), (3,), (3,), (3,), (3,))
IN_SHAPE: Any = ((9, 5), *CARRY)


def test_a_sequence_in_pieces_is_the_sequence() -> None:
    net, x = carried(NET), gaussian((2, 9, 5))
    params, state, out_shape = net.init(Key(0), IN_SHAPE, np.float64)
    assert out_shape == ((9, 3), *CARRY)
    whole, begin = NET.apply(params, state, x).y, zero_carry(net, 2, np.float64)
    np.testing.assert_array_equal(net.apply(params, state, (x, *begin)).y[0], whole)
    for length in (1, 4):
        pieces, carry = [], begin
        for start in range(0, 9, length):
            y, *carry = net.apply(params, state, (x[:, start : start + length], *carry)).y
            pieces.append(y)
        assert_close(np.concatenate(pieces, axis=1), whole, 1e-13)


def test_handing_back_the_gradient_of_the_carry_is_the_gradient_of_the_whole() -> None:
    net, x, dy = carried(NET), gaussian((2, 9, 5)), gaussian((2, 9, 3), np.float64, "dy")
    params, state, _ = net.init(Key(0), IN_SHAPE, np.float64)
    zeros = zero_carry(net, 2, np.float64)
    (_, *carry), _, first = net.apply(params, state, (x[:, :4], *zeros), train=True)
    _, _, second = net.apply(params, state, (x[:, 4:], *carry), train=True)
    of_second, (dx_second, *dcarry) = net.backward(params, second, (dy[:, 4:], *zeros))  # type: ignore[misc]
    of_first, (dx_first, *_) = net.backward(params, first, (dy[:, :4], *dcarry))  # type: ignore[misc]
    truncated, _ = net.backward(params, first, (dy[:, :4], *zeros))

    _, _, kept = NET.apply(params, state, x, train=True)
    gradients, dx = NET.backward(params, kept, dy)
    assert_close(np.concatenate([dx_first, dx_second], axis=1), dx, 1e-12)
    assert_close(tree.map(np.add, of_first, of_second), gradients, 1e-12)
    assert np.abs(truncated[0].weight - of_first[0].weight).max() > 1e-3


def test_a_net_of_texts_keeps_the_contract() -> None:
    net = carried(serial(embedding(5, 2), gru(3), repeat(rnn(3), 2)))
    in_shape: Any = ((2,), (3,), (3,), (3,))
    check_contract(net, in_shape, key=Key(0))
    params, state, _ = net.init(Key(0), in_shape)
    x = np.array([[1, 4], [0, 2]])
    y, _, residuals = net.apply(params, state, (x, *zero_carry(net, 2)), train=True)
    dx: Any = net.backward(params, residuals, y).dx
    assert [None if each is None else each.shape for each in dx] == [None, (2, 3), (2, 3), (2, 3)]


def test_what_cannot_be_carried_is_refused() -> None:
    assert message(LayerError, carried, serial(tanh())) == (
        "carried: expected a recurrent layer inside, got serial(tanh()). Use it as it is"
    )
    assert message(LayerError, carried, serial(tanh(), gru(3, reverse=True))) == (
        "carried serial[1] gru(units=3, reverse=True): in reverse a sequence begins with what is still to come. "
        "Take the whole sequence at once: without carried(...)"
    )
    assert "carried goes no further than serial and repeat" in message(
        LayerError, carried, serial(parallel(gru(3), tanh()))
    )
    assert "zero_carry: expected a net made by carried(...)" in message(TypeError, zero_carry, gru(3), 2)
    assert carried(gru(3)).config.by_chunks
    in_shape: Any = (((5, 2), (3,)), (4,))
    assert repr(branches(carried(gru(3)), tanh()).init(Key(0), in_shape).out_shape) == "(((5, 3), (3,)), (4,))"


def test_a_carry_that_does_not_fit_is_refused() -> None:
    net, x = carried(lstm(3)), gaussian((2, 9, 5))
    in_shape: Any = ((9, 5), (3,), (3,))
    params = net.init(Key(0), in_shape, np.float64).params
    zeros = zero_carry(net, 2, np.float64)
    assert message(ShapeError, net.init, Key(0), (9, 5)) == (
        "carried: expected the shapes of a sequence and of its carry, (..., (3,), (3,)), got (9, 5). "
        "Give it (x, *carry), the first time (x, *zero_carry(net, n))"
    )
    assert "expected its input to be a tuple of 3 arrays" in message(LayerError, net.apply, params, None, x)
    assert message(ShapeError, net.apply, params, None, x).endswith("the first time (x, *zero_carry(net, n))")
    text = message(ShapeError, net.apply, params, None, (x, zeros[0], np.zeros((2, 4))))
    assert "expected each array of its carry to be float64 (2, 3), got float64 (2, 4)" in text
    text = message(ShapeError, net.apply, params, None, (x, *zero_carry(net, 2)))
    assert text.endswith("got float32 (2, 3). Begin with zero_carry(net, 2, np.float64), and hand on what it gives")
    residuals = net.apply(params, None, (x, *zeros), train=True).residuals
    assert "expected dy to be a tuple of 3 arrays as y is, got ndarray" in message(
        LayerError, net.backward, params, residuals, gaussian((2, 9, 3))
    )
