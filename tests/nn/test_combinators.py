"""Combinators against plain formulas and against the nets that they stand for; what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, assert_close, gaussian, joined, message, part_of, ready

from funcnn import Key, tree
from funcnn.compose import (
    branches,
    chunked,
    dense_connections,
    frozen,
    join,
    parallel,
    remat,
    repeat,
    residual,
    serial,
    tied,
)
from funcnn.layer import Layer, LayerError, ShapeError, describe
from funcnn.layers import batch_norm, conv2d, dense, dropout, embedding, flatten, relu, self_attention, tanh
from funcnn.losses import mean_squared_error, softmax_cross_entropy
from funcnn.model_file import Trained, load_trained, save_trained
from funcnn.nn.embedding import EmbeddingParams
from funcnn.optimizers import adam, sgd
from funcnn.rebuild import rebuild
from funcnn.report.table import layer_rows, layer_table, peak_bytes
from funcnn.train import Model, Problem, init_state, make_step

NOISY = residual(serial(dense(4), dropout(0.5), tanh()))
NORMED = serial(conv2d(3, 3, padding="same"), batch_norm(), relu())


# --- tied -----------------------------------------------------------------------------------------------------


def test_a_shared_weight_gets_the_gradients_of_all_its_places() -> None:
    plain = serial(dense(4), tanh(), dense(4), dense(4))
    net = tied(plain, {"2.weight": "0.weight", "3.weight": "0.weight.T"})
    made = ready(Case(net, (4,)))
    assert [made.params[2].weight, made.params[3].weight] == [None, None]
    shared = made.params[0].weight
    full = tree.replace(tree.replace(made.params, "2.weight", shared), "3.weight", shared.T)
    expected = plain.apply(full, made.state, made.x, train=True)
    grads, dx = plain.backward(full, expected.residuals, made.dy)
    assert tree.equal(made.train().y, expected.y)
    assert tree.equal(made.gradients().dx, dx)
    total = grads[0].weight + grads[2].weight + grads[3].weight.T
    np.testing.assert_allclose(made.gradients().params[0].weight, total, rtol=1e-14)
    assert tree.equal(made.gradients().params[3].bias, grads[3].bias)


def test_one_layer_in_several_places_is_that_many_applications_of_it() -> None:
    cell = serial(dense(3), tanh())
    made = ready(Case(tied(serial(cell, cell, cell), {"1": "0", "2": "0"}), (3,)))
    assert tree.paths(made.params) == ["0.0.weight", "0.0.bias"]
    y = made.x
    for _ in range(3):
        y = cell.apply(made.params[0], made.state[0], y).y
    assert tree.equal(made.train().y, y)


def test_a_tied_net_trains_as_one_array_and_is_read_again(tmp_path: Path) -> None:
    net = tied(serial(dense(2), tanh(), dense(4)), {"2.weight": "0.weight.T"})
    assert repr(net).endswith(", {'2.weight': '0.weight.T'})")
    problem = Problem(net, mean_squared_error, adam(0.01))
    state = init_state(problem, Key(0), (4,))
    x = gaussian((8, 4), np.float32)
    losses = []
    for _ in range(30):
        state, metrics = make_step(problem)(state, (x, x))
        losses.append(metrics.loss)
    assert losses[-1] < 0.7 * losses[0]
    assert tree.paths(state.params) == ["0.weight", "0.bias", "2.bias"]
    save_trained(tmp_path / "m.safetensors", Trained(net, Model(state.params, state.state), (4,), ()))
    again = load_trained(tmp_path / "m.safetensors")
    assert again.net == net
    assert tree.equal(again.model.params, state.params)


@pytest.mark.parametrize(
    ("places", "text"),
    [
        (
            {"2.weight": "1.weight"},
            "tied: its layer has no params at '1.weight'; it has 0.weight, 0.bias, 2.weight, 2.bias. "
            "Take one of these, or the beginning of one for all params of a layer",
        ),
        ({"5": "0"}, "tied: its layer has no params at '5'; it has 0.weight, 0.bias, 2.weight, 2.bias. Take one"),
        (
            {"2.weight": "0.weight"},
            "tied: trees differ at their root: 2.weight has an array of shape (3, 2), 0.weight has an array of shape "
            "(4, 3). Tie params of the same shape",
        ),
        ({"2.bias": "0.bias.T"}, "tied: expected a matrix at '0.bias', got float32 (3,). Leave .T out"),
    ],
)
def test_places_that_cannot_be_tied(places: dict[str, str], text: str) -> None:
    net = tied(serial(dense(3), tanh(), dense(2)), places)
    assert message(LayerError, net.init, Key(0), (4,)).startswith(text)


@pytest.mark.parametrize("places", [{"1": "0", "2": "1"}, {"1": "0", "1.weight": "0.weight"}, {"0": "0"}])
def test_places_that_overlap(places: dict[str, str]) -> None:
    text = message(ValueError, tied, serial(dense(3), dense(3), dense(3)), places)
    assert "is to be filled in, and overlaps" in text
    assert text.endswith("Tie each place once, to one that has params of its own")


def test_places_are_texts_and_params_those_of_the_whole() -> None:
    net = serial(dense(3), dense(3))
    assert message(ValueError, tied, net, "1").startswith("tied: places must be a dictionary such as {")
    assert message(ValueError, tied, net, {1: 0}).startswith("tied: places must be pairs of paths such as {")
    params, state, _ = net.init(Key(0), (3,))
    text = message(LayerError, tied(net, {"1": "0"}).apply, params, state, np.ones((1, 3), np.float32))
    assert text.startswith("tied: expected None in its params at '1', where those at '0' go, got DenseParams(")


# --- repeat, remat, frozen: each against the layers that it stands for ----------------------------------------


@pytest.mark.parametrize("case", [Case(NOISY, (4,)), Case(NORMED, (4, 5, 3))], ids=str)
def test_repeat_is_serial(case: Case) -> None:
    short, long = (
        ready(case._replace(layer=repeat(case.layer, 3))),
        ready(case._replace(layer=serial(*[case.layer] * 3))),
    )
    assert tree.equal(tuple(short.train())[:2], tuple(long.train())[:2])
    assert tree.equal(tuple(short.gradients()), tuple(long.gradients()))
    assert short.layer.config.macs(case.in_shape) == 3 * case.layer.config.macs(case.in_shape)


def test_the_place_of_an_error_in_repeat() -> None:
    text = message(ShapeError, repeat(conv2d(2, 3), 3).init, Key(0), (5, 5, 1))
    assert text.startswith("repeat serial[2] conv2d(filters=2, kernel_size=3): ")
    assert message(ValueError, repeat, tanh(), 0) == "repeat: times must be a positive int, got 0"


def test_a_description_that_would_make_too_many_layers_is_refused() -> None:
    assert rebuild(describe(repeat(repeat(tanh(), 40), 100))) == repeat(repeat(tanh(), 40), 100)
    wild = describe(repeat(repeat(tanh(), 100), 2**30))
    assert "more than 5,000 parts, the most that are read" in message(LayerError, rebuild, wild)


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("case", [Case(NOISY, (4,)), Case(NORMED, (16, 16, 3))], ids=str)
def test_remat_gives_the_same_bits_and_keeps_its_input_alone(case: Case, n: int) -> None:
    plain, again = (ready(case._replace(layer=layer), n=n) for layer in (case.layer, remat(case.layer)))
    assert tree.equal(tuple(plain.train())[:2], tuple(again.train())[:2])
    assert tree.equal(tuple(plain.gradients()), tuple(again.gradients()))
    kept = again.train().residuals
    assert kept.x is again.x
    assert tree.nbytes(kept) == again.x.nbytes + tree.nbytes(again.state)


def test_a_net_of_remat_in_chunks_is_the_plain_net() -> None:
    def net(layer: Layer) -> Layer:
        return serial(conv2d(16, 3, padding="same"), repeat(layer, 2), flatten(), dense(3))

    block = residual(serial(batch_norm(), relu(), conv2d(16, 3, padding="same")))
    plain, again = (ready(Case(net(layer), (16, 16, 3)), n=160) for layer in (block, remat(block)))
    assert len(again.train().residuals[0].sizes) > 1  # it is cut
    assert tree.equal(tuple(plain.train())[:2], tuple(again.train())[:2])
    assert tree.equal(tuple(plain.gradients()), tuple(again.gradients()))


def test_what_is_frozen_stays_and_lets_gradients_through() -> None:
    inner = serial(dense(4), batch_norm(), tanh())
    made = ready(Case(frozen(inner), (3,)))
    its_params, its_state = made.state
    expected = inner.apply(its_params, its_state, made.x, train=True)
    assert made.params is None
    assert tree.equal(made.train().y, expected.y)
    assert tree.equal(made.train().state, (its_params, expected.state))  # its statistics go on
    assert made.gradients().params is None
    assert tree.equal(made.gradients().dx, inner.backward(its_params, expected.residuals, made.dy).dx)


def test_no_optimizer_moves_what_is_frozen() -> None:
    net = serial(frozen(serial(dense(4), relu())), dense(3))
    problem = Problem(net, softmax_cross_entropy, sgd(0.1))
    before = init_state(problem, Key(0), (2,))
    after, _ = make_step(problem)(before, (gaussian((6, 2), np.float32), np.arange(6) % 3))
    assert after.state[0] is before.state[0]
    assert not tree.equal(after.params, before.params)
    text = message(LayerError, net.apply, before.params, (None, None), np.ones((1, 2), np.float32))
    assert text == (
        "serial[0] frozen: expected its state to be (params, state) of its layer, got NoneType. "
        "Pass the state that this layer's own init gave"
    )


# --- parallel, branches, join, dense_connections --------------------------------------------------------------


@pytest.mark.parametrize(("how", "formula"), [
    ("concat", lambda ys: np.concatenate(ys, axis=-1)),
    ("add", lambda ys: ys[0] + ys[1] + ys[2]),
    ("multiply", lambda ys: ys[0] * ys[1] * ys[2]),
    ("mean", lambda ys: (ys[0] + ys[1] + ys[2]) / 3),
])  # fmt: skip
def test_outputs_made_one(how: Any, formula: Any) -> None:
    layers = conv2d(2, 3, padding="same"), conv2d(2, 1), serial(conv2d(2, 1), tanh())
    made = ready(Case(parallel(*layers, combine=how), (3, 4, 2)))
    ys = [each.apply(*both, made.x).y for each, *both in zip(layers, made.params, made.state, strict=True)]
    np.testing.assert_allclose(made.train().y, formula(ys), rtol=1e-14)
    split = serial(parallel(*layers, combine="tuple"), join(how))
    its_params, its_state = (made.params, None), (made.state, None)
    applied = split.apply(its_params, its_state, made.x, train=True)
    assert tree.equal(applied.y, made.train().y)
    (gradients, _), dx = split.backward(its_params, applied.residuals, made.dy)
    assert_close((gradients, dx), tuple(made.gradients()), 1e-14)


def test_a_zero_among_the_factors_hides_no_gradient() -> None:
    x = np.zeros((1, 1)), np.full((1, 1), 3.0), np.full((1, 1), 5.0)
    applied = join("multiply").apply(None, None, x, train=True)
    dx = join("multiply").backward(None, applied.residuals, np.ones((1, 1))).dx
    assert [each.item() for each in dx] == [15.0, 0.0, 0.0]


def test_branches_have_an_input_each() -> None:
    net = branches(dense(2), serial(dense(3), tanh()))
    made = ready(Case(net, ((4,), (5,))))
    for i, layer in enumerate(net.config.children):
        expected = layer.apply(made.params[i], made.state[i], made.x[i], train=True)
        assert tree.equal(made.train().y[i], expected.y)
        grads, dx = layer.backward(made.params[i], expected.residuals, made.dy[i])
        assert tree.equal((made.gradients().params[i], made.gradients().dx[i]), (grads, dx))


def test_dense_connections_hand_on_all_that_was_made() -> None:
    first, second = dense(2), serial(dense(3), tanh())
    made = ready(Case(dense_connections(first, second), (4,)))
    x1 = np.concatenate([made.x, first.apply(made.params[0], None, made.x).y], axis=-1)
    y = np.concatenate([x1, second.apply(made.params[1], made.state[1], x1).y], axis=-1)
    assert tree.equal(made.train().y, y)
    nested = serial(parallel(serial(), first), parallel(serial(), second))
    params, state = ((((), made.params[0]), ((), made.params[1])), (((), None), ((), made.state[1])))
    applied = nested.apply(params, state, made.x, train=True)
    ((_, one), (_, two)), dx = nested.backward(params, applied.residuals, made.dy)
    assert_close(tuple(made.gradients()), ((one, two), dx), 1e-14)


SEVERAL = serial(branches(conv2d(8, 3), dense(20)), branches(serial(flatten(), dense(20)), serial()), join("add"))


@pytest.mark.parametrize("layer", [SEVERAL, chunked(SEVERAL, 9), residual(branches(tanh(), tanh())), serial()], ids=str)
def test_several_inputs_in_chunks_are_as_a_whole(layer: Layer) -> None:
    made = ready(Case(layer, ((18, 18, 3), (7,))), n=300)
    parts = [slice(0, 120), slice(120, 300)]
    singles = [made._replace(x=part_of(made.x, part), dy=part_of(made.dy, part)) for part in parts]
    if layer is SEVERAL:
        assert len(made.train().residuals[0].sizes) > 1
    ys, dxs = [each.train().y for each in singles], [each.gradients().dx for each in singles]
    assert_close(made.train().y, joined(ys), 1e-12)
    assert_close(made.gradients().dx, joined(dxs), 1e-12)
    sums = tree.map(lambda a, b: a + b, *[each.gradients().params for each in singles])
    assert_close(made.gradients().params, sums, 1e-12)


def test_a_mask_of_booleans_and_inputs_within_inputs_are_cut() -> None:
    attention = self_attention(1, masked=True)
    params, state, _ = attention.init(Key(0), ((3, 4), (3,)), np.float64)
    x = gaussian((5, 3, 4)), gaussian((5, 3)) > 0
    assert_close(chunked(attention, 2).apply(params, state, x).y, attention.apply(params, state, x).y, 1e-14)
    nested = branches(join("add"), tanh())
    both = (gaussian((5, 3)), gaussian((5, 3), np.float64, "two")), gaussian((5, 2))
    cut, whole = (layer.apply((None, None), (None, None), both).y for layer in (chunked(nested, 2), nested))
    assert tree.equal(cut, whole)
    text = message(LayerError, chunked(embedding(2, 3), 2).apply, EmbeddingParams(np.ones((2, 3))), None, x[1])
    assert "expected an input of whole numbers, got dtype bool" in text


ONE, TWO = np.ones((2, 3), np.float32), np.ones((3, 3), np.float32)


@pytest.mark.parametrize(
    ("layer", "x", "text"),
    [
        (join("add"), ONE, "join: expected its input to be a tuple of several arrays with as many examples "),
        (join("add"), (ONE, TWO), "join: expected its input to be a tuple of several arrays with as many examples "
         "each, got a tuple of shapes ((2, 3), (3, 3)). Pass (x1, x2, ...), or put a layer before it that gives "
         'several: parallel(..., combine="tuple")'),
        (join("mean"), (ONE, ONE[:, :2]), "join[1]: expected an output of shape (3,) like join[0]'s, got (2,)."),
        (join("mean"), (ONE, ONE.astype(np.float64)), "join(combine='mean'): expected arrays of one dtype, got fl"),
        (tanh(), (ONE, ONE), 'tanh(): expected one array as input, got a tuple of 2. Put join("concat") before '),
        (branches(tanh(), tanh()), (ONE, ONE, ONE), "branches: expected its input to be a tuple of 2 arrays with "),
    ],
)  # fmt: skip
def test_inputs_that_are_not_several(layer: Layer, x: Any, text: str) -> None:
    state = (None, None) if layer.name == "branches" else None
    assert message(LayerError, layer.apply, state, state, x).startswith(text)


@pytest.mark.parametrize(
    ("layer", "in_shape", "text"),
    [
        (join("add"), (3,), "join(combine='add'): expected several inputs, a tuple of shapes, got the shape (3,). P"),
        (branches(tanh()), (3,), "branches: expected 1 inputs, a tuple of as many shapes, got (3,). Give it a layer "),
        (branches(tanh(), tanh()), ((3,),), "branches: expected 2 inputs, a tuple of as many shapes, got ((3,),). "),
        (branches(conv2d(2, 3), tanh()), ((2, 2, 1), (3,)), "branches[0] conv2d(filters=2, kernel_size=3): "),
        (dense_connections(conv2d(2, 3)), (5, 5, 1), "dense_connections[0]: it must keep all but the last axis of "
         '(5, 5, 1), and gives (3, 3, 2). Use stride 1 and padding="same"'),
        (serial(branches(dense(2), tanh()), dense(3)), ((3,), (4,)), "serial[1] dense(units=3): expected one input, "
         'got 2, of shapes ((2,), (4,)). Put join("concat") before it; or takes_several = True into the settings of a '
         "layer that takes a tuple"),
        (flatten(), ((3,), (4,)), "flatten(): expected one input, got 2, of shapes ((3,), (4,)). Put "),
        (residual(chunked(tanh(), 2)), ((3,), (4,)), "residual chunked tanh(): expected one input, got 2, of shapes "),
        (join("add"), ((3,), (-1,)), "join(combine='add'): expected in_shape to be of ints, none negative, got (-1,"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit(layer: Layer, in_shape: Any, text: str) -> None:
    assert message(ShapeError, layer.init, Key(0), in_shape).startswith(text)


@pytest.mark.parametrize("make", [parallel, branches, dense_connections])
def test_nothing_to_combine(make: Any) -> None:
    assert message(ValueError, make).endswith(": at least one layer is needed; for the identity use serial()")
    assert message(TypeError, make, tanh).endswith("expected a Layer, got the function tanh; call it: tanh(...)")


def test_a_dy_that_is_not_several() -> None:
    made = ready(Case(parallel(tanh(), dense(2), combine="tuple"), (3,)))
    text = message(ShapeError, made._replace(dy=made.dy[:1]).gradients)
    assert text.startswith("parallel: expected dy to be a tuple of 2 arrays like the output, got a tuple of 1. ")


# --- All of them ----------------------------------------------------------------------------------------------

ALL = serial(
    frozen(serial(conv2d(3, 3, padding="same"), batch_norm())),
    repeat(remat(residual(NORMED)), 2),
    dense_connections(NORMED, conv2d(2, 1)),
    parallel(NORMED, conv2d(3, 1), combine="multiply"),
    parallel(flatten(), serial(flatten(), dense(4)), combine="tuple"),
    branches(tied(serial(dense(4), tanh(), dense(4), batch_norm(), dense(4)), {"4": "2"}), chunked(dense(4), 2)),
    join("add"),
    dense(3),
)  # fmt: skip


@pytest.mark.parametrize("shards", [2, 3])
def test_a_net_of_all_combinators_trains_in_shards_as_it_does_whole(shards: int) -> None:
    problem = Problem(ALL, softmax_cross_entropy, sgd(0.1))
    whole = cut = init_state(problem, Key(0), (5, 6, 3), np.float64)
    for n in (10, 7):
        batch = gaussian((n, 5, 6, 3), np.float64, n), np.arange(n) % 3
        whole, metrics = make_step(problem)(whole, batch)
        cut, its_metrics = make_step(problem, shards=shards)(cut, batch)
        np.testing.assert_allclose(its_metrics.loss, metrics.loss, rtol=1e-11)
    flat = [np.concatenate([leaf.ravel() for leaf in tree.flatten((each.params, each.state))]) for each in (cut, whole)]
    assert_close(*flat, 1e-9)


def test_a_net_of_several_inputs_is_read_again(tmp_path: Path) -> None:
    net = serial(branches(conv2d(2, 3), dense(3)), branches(serial(flatten(), dense(3)), tanh()), join("add"))
    in_shape: Any = ((4, 4, 1), (5,))
    params, state, out_shape = net.init(Key(0), in_shape)
    assert out_shape == (3,)
    save_trained(tmp_path / "m.safetensors", Trained(net, Model(params, state), in_shape, ()))
    again = load_trained(tmp_path / "m.safetensors")
    assert (again.net, again.in_shape) == (net, in_shape)
    assert tree.equal(again.model.params, params)


# --- The layer table ------------------------------------------------------------------------------------------


def owner(array: Any) -> Any:
    return array if array.base is None else owner(array.base)


def test_the_table_says_what_training_keeps() -> None:
    for net in (ALL, serial(*ALL.config.children[1:])):
        params, state, _ = net.init(Key(0), (5, 6, 3))
        rows = layer_rows(net, (5, 6, 3))
        assert sum(row.macs for row in rows) == net.config.macs((5, 6, 3))
        assert sum(row.parameters for row in rows) == sum(leaf.size for leaf in tree.flatten(params))
        x = np.zeros((64, 5, 6, 3), np.float32)
        kept = net.apply(params, state, x, train=True).residuals
        arrays = {id(owner(leaf)): leaf for leaf in tree.flatten(kept) if isinstance(leaf, np.ndarray)}
        for leaf in tree.flatten((params, state)):
            arrays.pop(id(owner(leaf)), None)
        total = sum(row.residual_bytes for row in rows)
        assert abs(sum(each.nbytes for each in arrays.values()) / 64 - total) < 0.1 * total
        assert peak_bytes(rows) > total


def test_the_rows_of_remat_count_once_it_is_applied_again() -> None:
    block = serial(dense(8), relu(), dense(8))
    plain, again = layer_rows(serial(block, block), (8,)), layer_rows(serial(remat(block), remat(block)), (8,))
    assert sum(row.residual_bytes for row in plain) == 2 * 64
    assert peak_bytes(plain) == 2 * 64 + 64  # dy and dx of a layer
    assert [row.residual_bytes for row in again if row.layer == "remat()"] == [32, 32]
    assert [row.again_bytes for row in again if row.layer == "remat()"] == [32, 32]
    assert peak_bytes(again) == 32 + 32 + 32 + 64
    last = str(layer_table(serial(remat(block)), (8,))).splitlines()[-1]
    assert last.split() == ["at", "the", "peak,", "with", "remat", "applied", "again", "-", "-", "128"]


def test_several_shapes_in_the_table() -> None:
    lines = str(layer_table(branches(dense(2), conv2d(2, 3)), ((3,), (4, 4, 1)))).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[1:4]] == ["-", "12", "64"]
    assert "2, 2x2x2" in lines[1]
    text = message(ValueError, layer_table, join("add"), ((3,), "x"))
    assert text.startswith("layer_rows: in_shape must be an example's shape, a tuple of ints")
