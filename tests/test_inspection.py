"""A look inside nets of every kind: what each layer gives is what the net makes its output of."""

import math
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case, assert_close, ready

from funcnn import Key, serial, tree
from funcnn.compose import chunked, frozen, parallel, repeat, residual, tied
from funcnn.inspection import activations, first_filters, gradient_norms, update_ratios
from funcnn.layer import Config, Layer, config, make_layer
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu, tanh
from funcnn.report.table import layer_rows


def output_path(net: Layer, path: str = "") -> str:
    """The path of what gives a net's output: of layers in a row the last."""
    if net.name in ("serial", "repeat") and net.config.children:
        last = len(net.config.children) - 1
        return output_path(net.config.children[last], f"{path}.{last}".removeprefix("."))
    return path


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_every_layer_of_the_table_is_seen_and_the_last_gives_the_nets_output(case: Case) -> None:
    net, params, state, x, _ = ready(case)
    seen = activations(net, params, state, x)
    rows = layer_rows(net, case.in_shape)
    assert [path.replace(".layer", "").removeprefix("layer") for path in seen] == [row.place for row in rows]
    for row, y in zip(rows, seen.values(), strict=True):
        each = (y, row.out_shape) if isinstance(y, tuple) else ((y,), (row.out_shape,))
        assert [array.shape[1:] for array in each[0]] == list(each[1])
    assert_close(seen[output_path(net)], net.apply(params, state, x).y, 1e-12)


def test_each_layer_gives_what_it_gives_by_itself() -> None:
    net = serial(
        conv2d(4, 3, padding="same"), batch_norm(), relu(), max_pool2d(2), dropout(0.5),
        residual(serial(conv2d(4, 3, padding="same"), tanh())), residual(chunked(relu(), 2)),
        parallel(serial(flatten(), dense(3)), frozen(serial(flatten(), dense(3))), combine="add"),
        repeat(serial(dense(3), tanh()), 2), tied(serial(dense(3), dense(3)), {"1": "0"}),
    )  # fmt: skip
    case = Case(net, (6, 6, 2))
    _, params, state, x, _ = ready(case, n=5)
    seen = activations(net, params, state, x)

    def given(layer: Layer, its_params: Any, its_state: Any, its_x: Any) -> Any:
        return layer.apply(its_params, its_state, its_x).y

    layers: Any = net.config.children
    for i, before in enumerate([x, *(seen[str(j)] for j in range(8))]):
        if str(i) in seen:
            assert_close(seen[str(i)], given(layers[i], params[i], state[i], before), 1e-12)
    assert_close(seen["5"], seen["4"] + seen["5.1"], 1e-12)
    assert_close(seen["6"], seen["5"] + seen["6.layer"], 1e-12)  # a residual around
    assert np.array_equal(seen["6.layer"], seen["6.layer.layer"])  # what is chunked, and the relu in it
    assert_close(seen["7"], seen["7.0.1"] + seen["7.1"], 1e-12)
    assert np.array_equal(seen["7.1"], seen["7.1.1"])
    assert_close(seen["8.1.1"], np.tanh(seen["8.1.0"]), 1e-12)
    assert_close(seen["8.1.0"], given(dense(3), params[8][1][0], None, seen["8.0.1"]), 1e-12)
    assert_close(seen["9.1"], given(dense(3), params[9][0], None, seen["9.0"]), 1e-12)
    assert np.array_equal(seen["4"], seen["3"])  # as for prediction, dropout drops nothing
    assert seen["2"].shape == (5, 6, 6, 4)  # before the pool, though the net itself pools first


def test_a_batch_that_the_net_cuts_into_chunks_is_whole() -> None:
    net = serial(conv2d(16, 3, padding="same"), relu(), max_pool2d(2), flatten(), dense(3))
    params, state, _ = net.init(Key(0), (28, 28, 1))
    x = np.random.default_rng(0).normal(size=(96, 28, 28, 1)).astype(np.float32)
    before = tree.map(np.copy, params)
    seen = activations(net, params, state, x)
    assert_close(seen["4"], net.apply(params, state, x).y, 1e-5)
    assert [len(y) for y in seen.values()] == [96] * 5
    assert tree.equal(before, params)


@config
class Twice(Config):
    name = "twice"
    layer: Layer

    @property
    def children(self) -> tuple[Layer, ...]:
        return (self.layer,)


def twice_apply(settings: Twice, params: Any, state: Any, x: Any, **options: Any) -> Any:
    return settings.layer.apply(params, state, 2 * x, **options)


def test_a_combinator_of_ones_own_is_one_step() -> None:
    own = make_layer(Twice(serial(relu(), relu())), twice_apply, lambda *_: None)
    seen = activations(serial(tanh(), own), (None, (None, None)), (None, (None, None)), np.ones((1, 2), np.float32))
    assert list(seen) == ["0", "1"]
    assert_close(seen["1"], 2 * seen["0"], 0)


def test_what_is_wrong_is_said_as_the_net_says_it() -> None:
    net = serial(relu(), dense(3))
    params, state, _ = net.init(Key(0), (4,))
    with pytest.raises(ValueError, match=r"serial\[1\] dense\(units=3\): expected .*\(n, 4\), got \(1, 2, 5\)"):
        activations(net, params, state, np.ones((1, 2, 5), np.float32))
    with pytest.raises(ValueError, match="activations: net must be a Layer, got 'net'"):
        activations("net", params, state, np.ones((1, 4), np.float32))  # type: ignore[arg-type]


def test_norms_and_ratios_are_by_the_paths_of_the_params() -> None:
    net = serial(dense(3), relu(), dense(2))
    params, _, _ = net.init(Key(0), (4,))
    norms = gradient_norms(params)
    assert list(norms) == ["0.weight", "0.bias", "2.weight", "2.bias"] == tree.paths(params)
    assert norms["0.weight"] == pytest.approx(np.sqrt((params[0].weight ** 2).sum()))
    ratios = update_ratios(params, tree.map(lambda leaf: leaf * np.float32(1.5), params))
    assert ratios == pytest.approx({"0.weight": 0.5, "0.bias": 0.0, "2.weight": 0.5, "2.bias": 0.0})
    assert update_ratios((np.zeros(2),), (np.ones(2),)) == {"0": math.inf}
    with pytest.raises(tree.TreeError, match="differ at '1'"):
        update_ratios(params, (params[0], params[0], params[2]))
    with pytest.raises(tree.TreeError, match="differ at '0'"):
        update_ratios((np.ones(3),), (np.ones(1),))  # which NumPy would make alike


# --- Filters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_filters_are_the_first_layers_weights(channels: int) -> None:
    in_shape = (6, 5, channels)
    net = serial(serial(conv2d(4, (3, 2)), relu()), conv2d(2, 3), flatten(), dense(3))
    params = net.init(Key(0), in_shape).params
    np.testing.assert_array_equal(first_filters(params, in_shape), params[0][0].weight)
    # A unit's weights, by the pixel that each is for: laid on an image, they give the unit's value.
    params = serial(flatten(), dense(3)).init(Key(0), in_shape).params
    image = np.random.default_rng(0).normal(size=in_shape)
    filters = first_filters(params, in_shape)
    assert filters is not None
    assert filters.shape == (*in_shape, 3)
    np.testing.assert_allclose(np.einsum("hwc,hwcf->f", image, filters), image.reshape(-1) @ params[1].weight)


@pytest.mark.parametrize(
    ("net", "in_shape"),
    [
        (dense(3), (4,)),
        (serial(flatten(), dense(3)), (2, 2, 2)),  # two channels are neither grey nor colours
        (conv2d(3, 1), (4, 4, 3)),  # filters of one pixel are no pictures
        (relu(), (4, 4, 1)),
        (conv2d(6, 3, groups=3), (4, 4, 3)),
    ],
    ids=str,
)
def test_weights_that_are_no_images_are_no_filters(net: Layer, in_shape: Any) -> None:
    assert first_filters(net.init(Key(0), in_shape).params, in_shape) is None
