"""Embeddings, positions, and dense layers of sequences: what they compute, and what they refuse."""

import math
from typing import Any

import numpy as np
import pytest
from cases import assert_close, gaussian, message
from hypothesis import given, settings
from hypothesis import strategies as st

from funcnn import Key, tree
from funcnn.arrays import scatter
from funcnn.arrays.rotary import rotate, rotate_back
from funcnn.compose import serial
from funcnn.grad_check import check_contract
from funcnn.layer import LayerError, ShapeError
from funcnn.layers import (
    dense,
    embedding,
    flatten,
    position_bias,
    position_embedding,
    relu,
    sinusoidal_positions,
    unembedding,
)
from funcnn.losses import softmax_cross_entropy
from funcnn.nn.embedding import EmbeddingParams
from funcnn.optimizers import adam
from funcnn.train import Problem, init_state, make_step, predict

# --- embedding ------------------------------------------------------------------------------------------------


def test_an_embedding_takes_rows_and_adds_gradients_up() -> None:
    layer = embedding(4, 2)
    weight = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    params = EmbeddingParams(weight)
    y, _, residuals = layer.apply(params, None, np.array([[3, 0, 3]]), train=True)
    np.testing.assert_array_equal(y, [[[6, 7], [0, 1], [6, 7]]])
    gradients, dx = layer.backward(params, residuals, np.array([[[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]]))
    np.testing.assert_array_equal(gradients.weight, [[10, 20], [0, 0], [0, 0], [101, 202]])
    assert dx is None


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_any_integer_dtype_will_do(dtype: type) -> None:
    params, state, _ = embedding(100, 3).init(Key(0), (5,))
    x = np.array([[0, 99, 3, 3, 7]])
    wanted = embedding(100, 3).apply(params, state, x).y
    assert tree.equal((embedding(100, 3).apply(params, state, x.astype(dtype)).y,), (wanted,))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.array([[0, 5]]), "expected whole numbers from 0 to 4, got 0 to 5. "
         "Number what they stand for from 0, with a vocabulary of at least 6"),
        (np.array([[-1, 2]]), "expected whole numbers from 0 to 4, got -1 to 2. "),
        (np.array([[0.0]]), "expected an input of whole numbers, got dtype float64. Convert it: x.astype(np.int64)"),
        (np.array([[True]]), "expected an input of whole numbers, got dtype bool. "),
        (np.array(3), "expected a batch of examples, got a single number. Pass x[None]"),
        ([[0, 1]], "expected a NumPy array, got list. Convert it: np.asarray(x, np.int64)"),
    ],
)  # fmt: skip
def test_what_an_embedding_refuses(x: Any, text: str) -> None:
    params, state, _ = embedding(5, 2).init(Key(0), (2,))
    said = message(LayerError, embedding(5, 2).apply, params, state, x)
    assert said.startswith(f"embedding(vocabulary=5, features=2): {text}")


def naive_sums(values: Any, numbers: Any, count: int) -> Any:
    sums = np.zeros((count, values.shape[1]))
    for row, number in zip(values, numbers, strict=True):
        sums[number] += row
    return sums


@settings(max_examples=40)
@given(
    rows=st.integers(0, 300), features=st.integers(1, 5), count=st.sampled_from([1, 2, 7, 300, 70_000]),
    skew=st.sampled_from([1.0, 4.0]), seed=st.integers(0, 100),
)  # fmt: skip
def test_sums_of_rows_are_those_of_a_loop(rows: int, features: int, count: int, skew: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    numbers = (count * draw.random(rows) ** skew).astype(np.int64)  # some often, most seldom or never
    values = draw.standard_normal((rows, features))
    assert_close(scatter.sum_rows(values, numbers, count), naive_sums(values, numbers, count), 1e-13)


def test_rows_that_fill_several_blocks_are_summed_and_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatter, "_BLOCK", 16)
    draw = np.random.default_rng(0)
    numbers, values, table = draw.integers(0, 40, 200), draw.standard_normal((200, 3)), draw.standard_normal((40, 3))
    assert_close(scatter.sum_rows(values, numbers, 40), naive_sums(values, numbers, 40), 1e-13)
    np.testing.assert_array_equal(scatter.take_rows(table, numbers), table[numbers])


def test_sums_of_float16_are_added_up_in_float32() -> None:
    sums = scatter.sum_rows(np.ones((4096, 1), np.float16), np.zeros(4096, np.int64), 2)
    assert (sums.dtype, sums.tolist()) == (np.float16, [[4096.0], [0.0]])


def test_weights_may_be_tied() -> None:
    """The same array at both ends, and its gradient the sum of both: what a net does that shares them by path."""
    first, last, x, dy = embedding(6, 4), unembedding(6), np.array([[1, 2, 1]]), gaussian((1, 3, 6))
    params = EmbeddingParams(gaussian((6, 4)))
    y = first.apply(params, None, x, train=True)
    logits, _, residuals = last.apply(params, None, y.y, train=True)
    np.testing.assert_allclose(logits[0], params.weight[x[0]] @ params.weight.T, rtol=1e-12)
    later = last.backward(params, residuals, dy)
    total = first.backward(params, y.residuals, later.dx).params.weight + later.params.weight
    step = 1e-6 * gaussian((6, 4), np.float64, "step")

    def inner(weight: Any) -> float:
        return float(np.vdot(weight[x[0]] @ weight.T, dy[0]))

    slope = (inner(params.weight + step) - inner(params.weight - step)) / 2
    np.testing.assert_allclose(np.vdot(total, step), slope, rtol=1e-6)


def test_a_language_model_learns_what_comes_next() -> None:
    text = np.array([0, 1, 2, 3, 1, 0, 2, 1] * 5)
    inputs, targets = text[:-1].reshape(13, 3), text[1:].reshape(13, 3)
    net = serial(embedding(4, 8), position_embedding(), dense(16, per_position=True), relu(), flatten(), dense(4))
    problem = Problem(net, softmax_cross_entropy, adam(0.02))
    state = init_state(problem, Key(0), (3,))
    step = make_step(problem)
    for _ in range(60):
        state, metrics = step(state, (inputs, targets[:, -1]))
    assert metrics.loss < 0.1
    assert (predict(net, state, inputs).argmax(axis=1) == targets[:, -1]).all()
    many = np.tile(inputs, (300, 1))  # by the plan of a predictor
    assert_close(predict(net, state, many, batch_size=39)[:13], predict(net, state, inputs), 1e-5)


# --- positions ------------------------------------------------------------------------------------------------


def test_positions_of_shorter_sequences_are_the_first_ones() -> None:
    layer = position_embedding(6)
    params, state, _ = layer.init(Key(0), (6, 3), np.float64)
    x = gaussian((2, 4, 3))
    y, _, residuals = layer.apply(params, state, x, train=True)
    np.testing.assert_array_equal(y, x + params.weight[:4])
    gradients, dx = layer.backward(params, residuals, y)
    np.testing.assert_allclose(gradients.weight[:4], y.sum(axis=0), rtol=1e-12)
    assert not gradients.weight[4:].any()
    np.testing.assert_array_equal(dx, y)


def test_sequences_that_are_too_long_are_refused() -> None:
    layer = position_embedding(6)
    text = (
        "position_embedding(max_time=6): expected sequences of at most 6 steps, got 7. Shorten them, or give max_time"
    )
    assert message(ShapeError, layer.init, Key(0), (7, 3)) == text
    params, state, _ = layer.init(Key(0), (6, 3))
    assert message(ShapeError, layer.apply, params, state, np.ones((1, 7, 3), np.float32)) == text
    assert position_embedding(8).init(Key(0), (7, 3)).out_shape == (7, 3)


@pytest.mark.parametrize("layer", [position_embedding(), sinusoidal_positions()], ids=str)
def test_positions_are_those_of_sequences(layer: Any) -> None:
    said = message(ShapeError, layer.init, Key(0), (4,))
    assert said == f"{layer}: expected sequences of shape (time, features), got (4,). Put an embedding before it"
    assert message(ShapeError, layer.init, Key(0), (8, 5, 4)).endswith("Leave out the batch axis: (5, 4)")


@pytest.mark.parametrize("features", [1, 5, 8])
def test_sinusoids_by_the_paper(features: int) -> None:
    y = sinusoidal_positions().apply(None, None, np.zeros((1, 7, features))).y[0]
    for t in range(7):
        for i in range(features):
            angle = t / 10000 ** (i // 2 * 2 / features)
            assert math.isclose(y[t, i], math.cos(angle) if i % 2 else math.sin(angle), abs_tol=1e-15)


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (3, 2, 5, 6)], ids=str)
def test_rotary_positions_turn_the_halves(shape: tuple[int, ...]) -> None:
    x = gaussian(shape)
    turned, half = rotate(x, offset=2, base=100.0), shape[-1] // 2
    for t in range(5):
        for i in range(half):
            angle = (2 + t) * 100.0 ** (-i / half)
            a, b = x[..., t, i], x[..., t, i + half]
            np.testing.assert_allclose(turned[..., t, i], a * math.cos(angle) - b * math.sin(angle), rtol=1e-12)
            np.testing.assert_allclose(turned[..., t, i + half], b * math.cos(angle) + a * math.sin(angle), rtol=1e-12)
    np.testing.assert_allclose(rotate_back(turned, offset=2, base=100.0), x, rtol=1e-12)
    dy = gaussian(shape, np.float64, "dy")
    np.testing.assert_allclose(np.vdot(turned, dy), np.vdot(x, rotate_back(dy, offset=2, base=100.0)), rtol=1e-12)


def test_rotary_products_tell_how_far_apart_two_positions_are() -> None:
    q, k = np.tile(gaussian((1, 8)), (6, 1)), np.tile(gaussian((1, 8), np.float64, "k"), (6, 1))
    scores = rotate(q) @ rotate(k).T
    for distance in range(-5, 6):
        along = np.diagonal(scores, distance)
        np.testing.assert_allclose(along, along[0], rtol=1e-12)


def test_rotary_positions_of_a_turned_array() -> None:
    x = gaussian((2, 5, 3, 6)).transpose(0, 2, 1, 3)  # heads beside each other in memory
    np.testing.assert_array_equal(rotate(x), rotate(np.ascontiguousarray(x)))
    np.testing.assert_array_equal(rotate(x[..., ::2][..., :2]), rotate(x[..., [0, 2]]))
    assert rotate(np.ones((0, 3, 4), np.float32)).shape == (0, 3, 4)


# --- dense per position ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4)], ids=str)
def test_a_dense_layer_per_position_is_one_of_every_position(shape: tuple[int, ...]) -> None:
    layer, plain = dense(3, per_position=True), dense(3)
    params, state, out_shape = layer.init(Key(0), shape, np.float64)
    assert tree.equal(params, plain.init(Key(0), (4,), np.float64).params)
    assert out_shape == (*shape[:-1], 3)
    x, dy = gaussian((2, *shape)), gaussian((2, *out_shape), np.float64, "dy")
    y, _, residuals = layer.apply(params, state, x, train=True)
    gradients, dx = layer.backward(params, residuals, dy)
    kept = plain.apply(params, None, x.reshape(-1, 4), train=True)
    wanted = plain.backward(params, kept.residuals, dy.reshape(-1, 3))
    np.testing.assert_array_equal(y.reshape(-1, 3), kept.y)
    assert tree.equal((gradients, dx.reshape(-1, 4)), (wanted.params, wanted.dx))


def test_what_a_sequence_is_told() -> None:
    params, state, _ = dense(3, per_position=True).init(Key(0), (5, 4))
    text = message(ShapeError, dense(3, per_position=True).apply, params, state, np.ones((2, 5, 3), np.float32))
    assert text.startswith("dense(units=3, per_position=True): expected an input of shape (n, any, 4), got (2, 5, 3)")
    assert message(ShapeError, dense(3).init, Key(0), (5, 4)).endswith("of a sequence, dense(..., per_position=True)")


# --- Whole numbers in the contract ----------------------------------------------------------------------------


def test_the_contract_knows_whole_numbers() -> None:
    report = check_contract(serial(embedding(7, 3), position_bias()), (4,), key=Key(0), layers=[serial, embedding])
    assert report.largest_error < 1e-6
    assert "2 arrays, and no dx of whole numbers" in str(report)
    assert [serial(embedding(7, 3), relu()).config.vocabulary, serial(relu()).config.vocabulary] == [7, None]
