"""Batches in chunks: how they are cut, and that a net in chunks computes what its layers do on the whole batch."""

import itertools
import pickle
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from by_hand import backward, chunks_of, forward, sizes
from cases import CASES, Case, all_configs, assert_close, gaussian, message, ready, several
from hypothesis import given, settings
from hypothesis import strategies as st

from funcnn import tree
from funcnn.arrays.layout import images, rows
from funcnn.arrays.threads import set_threads
from funcnn.arrays.threads import threads as parallel_threads
from funcnn.compose import branches, parallel, residual, serial
from funcnn.keys import Key
from funcnn.layer import Applied, Array, Config, Gradients, Initialised, Layer, LayerError, Shape, config, make_layer
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    elu,
    flatten,
    gelu,
    global_avg_pool2d,
    hard_shrink,
    hard_sigmoid,
    hard_tanh,
    identity,
    l2_normalize,
    leaky_relu,
    log_softmax,
    max_pool2d,
    position_bias,
    relu,
    relu6,
    reshape,
    sigmoid,
    silu,
    soft_shrink,
    softplus,
    tanh,
)
from funcnn.nn import chunks, stages
from funcnn.nn import dense as dense_module
from funcnn.nn.coupled import Coroutine, Coupled, make_coupled
from funcnn.tree import node

RTOL = 1e-12


# --- Nets in chunks -------------------------------------------------------------------------------------------


def coupled(stage: stages.Stage) -> list[int]:
    """The positions at which the chunks of a stage meet."""
    return [link.i for link in stage.links if link.coupled]


def check_against_by_hand(case: Case, n: int, examples: int) -> None:
    net, params, state, x, dy = ready(case, n=n)
    y, trained, kept = forward(net, params, state, x)
    gradients, dx = backward(net, params, kept, dy)
    with chunks_of(examples, net, case.in_shape):
        applied = net.apply(params, state, x, train=True)
        its_gradients, its_dx = net.backward(params, applied.residuals, dy)
        without = net.backward(params, applied.residuals, dy, need_dx=False)
        evaluated = net.apply(params, state, x)
    assert n <= examples or max(map(len, sizes(applied.residuals))) > 1
    assert_close(applied.y, y, RTOL)
    assert_close(applied.state, trained, RTOL)
    assert_close(its_gradients, gradients, RTOL)
    assert {type(leaf) for leaf in tree.flatten(its_gradients)} <= {np.ndarray}
    assert_close(its_dx, dx, RTOL)
    assert without.dx is None
    assert tree.equal(without.params, its_gradients)
    assert_close(evaluated.y, forward(net, params, state, x, train=False).y, RTOL)
    assert tree.equal(evaluated.state, state)
    assert evaluated.residuals is None


@config
class _Square(Config):
    name = "square"


def _square_apply(
    settings: _Square, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    return Applied(x * x, state, x if train else None)


def _square_backward(settings: _Square, params: Any, residuals: Array, dy: Array, *, need_dx: bool = True) -> Gradients:
    return Gradients(None, 2 * residuals * dy if need_dx else None)


SQUARE = make_layer(_Square(), _square_apply, _square_backward)  # a layer of one's own, which says nothing of chunks
BLOCK = serial(conv2d(4, 3, padding="same"), tanh(), conv2d(4, 1))

NETS = (
    Case(serial(conv2d(3, 3, padding="same"), position_bias(), relu(), max_pool2d(2), conv2d(4, 2), tanh(),
                avg_pool2d(2, stride=1), flatten(), dense(5), leaky_relu(0.3), dense(3)), (6, 6, 2)),
    Case(serial(conv2d(3, 3, use_bias=False), batch_norm(), relu(), max_pool2d(2), flatten(),
                dense(4, use_bias=False), batch_norm(), tanh(), dense(2)), (6, 6, 2)),
    Case(serial(batch_norm(), conv2d(3, (2, 3), stride=(1, 2)), leaky_relu(), max_pool2d(3, stride=2, padding="same"),
                batch_norm(), elu(), batch_norm(momentum=0.5), tanh(), conv2d(2, 1), global_avg_pool2d()), (7, 7, 2)),
    Case(serial(serial(conv2d(3, 2), relu(), max_pool2d(2)), serial(position_bias(), serial(), avg_pool2d(2)),
                serial(flatten(), serial(dense(4), relu())), dense(2)), (7, 6, 1)),
    Case(serial(serial(conv2d(3, 2, use_bias=False), batch_norm()), tanh(), max_pool2d(2), serial(conv2d(2, 1)),
                flatten(), l2_normalize()), (5, 5, 2)),
    Case(serial(conv2d(4, 1), residual(BLOCK), parallel(conv2d(2, 1), serial(conv2d(3, 3, padding="same"), relu()),
                max_pool2d(3, stride=1, padding="same")), global_avg_pool2d(), dense(3)), (5, 5, 2)),
    Case(serial(residual(serial(batch_norm(), relu(), conv2d(2, 3, padding="same"))), conv2d(4, 2), relu(),
                parallel(conv2d(2, 1), serial(avg_pool2d(3, stride=1, padding="same"), conv2d(2, 1)), combine="add"),
                flatten(), dense(3)), (4, 5, 2)),
    Case(serial(conv2d(3, 2), SQUARE, conv2d(2, 2), parallel(batch_norm(), identity()), conv2d(2, 1), flatten(), SQUARE,
                dense(2), log_softmax()), (5, 4, 2)),
    Case(serial(flatten(), dense(16), reshape((4, 4, 1)), conv2d(4, 3, groups=1), gelu(), max_pool2d(2), silu(),
                reshape((2, 2)), softplus(), position_bias()), (3, 2)),
    Case(serial(conv2d(1, 3), reshape(()), position_bias()), (3, 3, 1)),
)  # fmt: skip


@pytest.mark.parametrize("case", NETS, ids=map(str, range(len(NETS))))
@settings(max_examples=15)
@given(n=st.integers(5, 12), examples=st.integers(1, 5))
def test_a_net_in_chunks_is_its_layers_by_hand(case: Case, n: int, examples: int) -> None:
    check_against_by_hand(case, n, examples)


def after_products(case: Case) -> Case:
    """The case with a convolution before it, so that `serial` cuts up its batch."""
    shape, layer = case.in_shape, case.layer
    if tree.flatten(layer.config.vocabulary):  # whole numbers come first
        return Case(serial(layer, flatten(), dense(2)), shape)
    if several(shape):
        before = branches(*[after_products(Case(serial(), each)).layer for each in shape])
        return Case(serial(before, layer), shape)
    if len(shape) == 3:
        return Case(serial(conv2d(shape[2], 1, use_bias=False), layer), shape)
    image = (1, 1, *shape) if len(shape) == 1 else (*shape, 1) if shape else (1, 1, 1)
    net = serial(reshape(image), conv2d(image[2], 1, use_bias=False), reshape(shape), layer)
    return Case(net, shape)


@pytest.mark.parametrize("case", [case for case in CASES if not case.layer.config.stochastic], ids=str)
def test_every_layer_in_chunks_is_itself_by_hand(case: Case) -> None:
    check_against_by_hand(after_products(case), 7, 2)


@pytest.mark.parametrize("case", [case for case in CASES if case.layer.config.by_chunks], ids=str)
def test_what_goes_by_chunks_neither_couples_examples_nor_changes_its_state(case: Case) -> None:
    assert not case.layer.config.couples_examples
    made = ready(case)
    assert tree.equal(made.train().state, made.state)


def test_the_chunks_are_uneven_and_batch_norm_takes_them_as_they_come() -> None:
    case = NETS[1]
    net, params, state, x, _ = ready(case, n=7)
    with chunks_of(2, net, case.in_shape):
        residuals = net.apply(params, state, x, train=True).residuals
    assert [(stage.by_chunks, coupled(stage)) for stage in net.config.stages] == [(True, [1, 6])]
    assert sizes(residuals) == [(1, 2, 2, 2)]


def test_a_dense_layer_goes_by_chunks_if_it_has_few_units() -> None:
    few = dense_module._FEW
    net = serial(conv2d(2, 3), flatten(), dense(few), batch_norm(), dense(few + 1), relu(), dense(2))
    params, state, _ = net.init(Key(0), (5, 5, 1), np.float64)
    with chunks_of(2, net, (5, 5, 1)):
        cut = sizes(net.apply(params, state, gaussian((7, 5, 5, 1)), train=True).residuals)
    assert [(stage.order, stage.by_chunks) for stage in net.config.stages] == [
        ((0, 1, 2, 3), True), ((4,), False), ((5, 6), True),
    ]  # fmt: skip
    assert [max(each) for each in cut] == [2, 7, 2]


def test_vectors_are_cut_into_larger_chunks_than_images() -> None:
    n = 4 * stages._LARGE // 100
    assert max(stages.chunk_sizes(n, 100)) == stages._MANY
    assert len(stages.chunk_sizes(n, 100, are_images=False)) == 4


def test_an_empty_batch_goes_through() -> None:
    case = NETS[0]
    net, params, state, x, dy = ready(case, n=0)
    with chunks_of(1, net, case.in_shape):
        y, _, residuals = net.apply(params, state, x, train=True)
        gradients, dx = net.backward(params, residuals, dy)
    assert (y.shape, dx.shape) == (dy.shape, x.shape)
    assert not any(leaf.any() for leaf in tree.flatten(gradients))


def test_an_image_of_another_size_is_cut_anew() -> None:
    net = serial(conv2d(2, 3), relu(), global_avg_pool2d())
    params, state, _ = net.init(Key(0), (6, 6, 1), np.float64)
    with chunks_of(4, net, (6, 6, 1)):
        small, large = (gaussian((8, size, size, 1)) for size in (6, 12))
        cuts = [sizes(net.apply(params, state, x, train=True).residuals) for x in (small, large, small)]
    assert cuts == [[(4, 4)], [(1,) * 8], [(4, 4)]]


def test_a_net_that_has_been_used_is_the_same_value() -> None:
    case = NETS[0]
    net, fresh = case.layer, pickle.loads(pickle.dumps(case.layer))
    ready(case).gradients()
    used = pickle.loads(pickle.dumps(net))
    assert (used == fresh, hash(used) == hash(fresh), repr(used) == repr(fresh)) == (True, True, True)
    assert tree.equal(tuple(ready(case._replace(layer=used)).train()), tuple(ready(case).train()))


@pytest.mark.parametrize("n", [6, 8])
def test_a_gradient_of_another_batch_size_is_refused(n: int) -> None:
    net, params, state, x, _ = ready(Case(serial(conv2d(2, 3), relu()), (4, 4, 1)), n=7)
    with chunks_of(2, net, (4, 4, 1)):
        residuals = net.apply(params, state, x, train=True).residuals
        with pytest.raises(ValueError, match=r"shape|batch"):
            net.backward(params, residuals, gaussian((n, 2, 2, 2)))


# --- A layer of one's own that couples the examples -----------------------------------------------------------


@config
class _Centre(Coupled):
    """y = x - the batch's mean, in training; it has no parameters."""

    name = "centre"

    def apply_chunk(self, params: Any, x: Array) -> Coroutine:
        mean = yield len(x), x.sum(axis=0)
        return x - mean, ()

    def meet(self, params: Any, state: Any, said: Sequence[Any]) -> tuple[Any, Any]:
        counts, sums = zip(*said, strict=True)
        return sum(sums) / sum(counts), state

    def backward_chunk(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool) -> Coroutine:
        mean = yield len(dy), dy.sum(axis=0)
        return dy - mean if need_dx else None

    def meet_backward(self, params: Any, said: Sequence[Any]) -> tuple[Any, Any]:
        return self.meet(params, None, said)

    def evaluate(self, params: Any, state: Any, x: Array) -> Array:
        return x


@pytest.mark.parametrize("examples", [2, 100])
@pytest.mark.parametrize("before", [(), (dense(4), relu())], ids=["first", "after a dense layer"])
def test_a_coupled_layer_of_ones_own(before: tuple[Layer, ...], examples: int) -> None:
    centre = make_coupled(_Centre())
    net = serial(*before, centre, dense(3))
    params, state, _ = net.init(Key(0), (4,), np.float64)
    x, dy = gaussian((7, 4)), gaussian((7, 3), np.float64, "dy")
    with chunks_of(examples, net, (4,)):
        y, _, residuals = net.apply(params, state, x, train=True)
        gradients, dx = net.backward(params, residuals, dy)
        without_dx = net.backward(params, residuals, dy, need_dx=False)
    expected = forward(net, params, state, x)
    assert_close(y, expected.y, RTOL)
    assert_close((gradients, dx), tuple(backward(net, params, expected.residuals, dy)), RTOL)
    assert tree.equal(without_dx.params, gradients)
    assert without_dx.dx is None
    np.testing.assert_allclose(net.apply(params, state, x).y, forward(net, params, state, x, train=False).y, RTOL)


# --- Sizes, cutting, joining, adding up -----------------------------------------------------------------------


@given(st.integers(0, 5000), st.integers(0, 2**22))
def test_chunks_are_alike_and_cover_the_batch(n: int, largest: int) -> None:
    cut = stages.chunk_sizes(n, largest)
    assert sum(cut) == n
    assert max(cut) - min(cut) <= 1
    assert min(cut) >= 1 or cut == (0,)
    assert len(cut) == 1 or len(cut) % 2 == 0 or len(cut) == n
    assert (max(cut) - 1) * largest < stages._LARGE or len(cut) == 1
    assert max(cut) <= stages._MANY or len(cut) == 1
    assert (len(cut) == 1) == (n < 2 or n * largest < 2 * stages._SMALL)


def test_an_empty_batch_is_one_empty_chunk() -> None:
    assert stages.chunk_sizes(0, 2**30) == (0,)
    assert stages.chunk_sizes(0, 0) == (0,)


def test_small_work_and_none_is_one_chunk() -> None:
    few = stages._MANY
    assert stages.chunk_sizes(few, 2 * stages._SMALL // few - 1) == (few,)
    assert len(stages.chunk_sizes(few, 2 * stages._SMALL // few)) == 2
    assert stages.chunk_sizes(10**9, 0) == (10**9,)


def test_the_largest_array_of_a_run_is_looked_for_in_all_its_layers() -> None:
    assert stages._largest_array([conv2d(3, 3), max_pool2d(2)], (6, 6, 1)) == (4 * 4 * 3, (2, 2, 3))
    assert stages._largest_array([max_pool2d(2), conv2d(3, 3)], (6, 6, 2)) == (6 * 6 * 2, (1, 1, 3))
    assert stages._largest_array([relu(), max_pool2d(2), flatten()], (6, 6, 2)) == (0, (18,))  # no products


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.sampled_from([(), (3,), (2, 3), (2, 4, 3)]))
def test_chunks_are_views_that_join_to_the_batch(parts: list[int], shape: Shape) -> None:
    x = gaussian((sum(parts), *shape))
    cut = chunks.cut(x, parts)
    assert [len(each) for each in cut] == parts
    assert all(np.shares_memory(each, x) for each in cut if each.size)
    np.testing.assert_array_equal(chunks.join(cut), x, strict=True)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_chunks_of_images_join_by_rows(parts: list[int]) -> None:
    xs = [images(gaussian((4, 3, 5, n), np.float64, i)) for i, n in enumerate(parts)]
    joined = chunks.join(xs)
    assert rows(joined).flags.c_contiguous
    np.testing.assert_array_equal(joined, np.concatenate(xs), strict=True)


def test_a_batch_that_is_not_cut_is_not_copied() -> None:
    x = gaussian((3, 2))
    assert chunks.cut(x, (3,))[0] is x
    assert chunks.join([x]) is x


@given(st.integers(1, 40))
def test_the_gradients_of_all_chunks_are_added_up_once(count: int) -> None:
    dys = [np.full((2, 3), float(2**i)) for i in range(count)]
    seen = []

    def backward(i: int, dy: Array) -> tuple[Any, Array]:
        seen.append(i)
        return {2: dy[0], 1: None, 0: (dy[:, 0],)}, i * dy

    sums, dxs = chunks.add_up([partial(backward, i, dy) for i, dy in enumerate(dys)])
    assert sorted(seen) == list(range(count))
    a, nothing, (b,) = sums[2], sums[1], sums[0]
    np.testing.assert_array_equal(a, np.full(3, 2.0**count - 1), strict=True)
    np.testing.assert_array_equal(b, np.full(2, 2.0**count - 1), strict=True)
    assert nothing is None
    assert [dx[0, 0] for dx in dxs] == [i * 2.0**i for i in range(count)]


# --- Stages, and pooling before an increasing activation ------------------------------------------------------

CLIPPED = (relu6(), hard_tanh(-0.5, 0.7), hard_sigmoid(), soft_shrink(0.2), hard_shrink(0.2))
INCREASING: dict[str, Layer] = {layer.name: layer for layer in (relu(), leaky_relu(0.3), *CLIPPED)}
every_increasing = pytest.mark.parametrize("layer", INCREASING.values(), ids=INCREASING)
POOLS = (max_pool2d(2), max_pool2d((1, 3)), max_pool2d(3, stride=2, padding="same"), max_pool2d(3, stride=1, padding=1))
ANY = (*INCREASING.values(), gelu(), tanh(), conv2d(2, 1), max_pool2d(2), avg_pool2d(2), batch_norm(), dense(3),
       flatten(), dropout(0.5), serial(relu()), residual(batch_norm()), SQUARE)  # fmt: skip


def test_the_layers_that_commute_with_a_maximum() -> None:
    configs = {each for case in CASES for each in all_configs(case.layer)}
    assert {each.name for each in configs if each.increasing} == set(INCREASING)
    assert {each.name for each in configs if each.takes_maximum} == {"max_pool2d"}
    x = np.linspace(-9, 9, 1001)[None]
    for each in configs:
        if each.increasing:
            assert np.diff(each.forward(x)).min() >= 0


@settings(max_examples=300)
@given(st.lists(st.sampled_from(ANY), max_size=10))
def test_stages_cut_the_layers_into_runs_and_only_move_pools_forward(layers: list[Layer]) -> None:
    found = stages.stages(layers)
    for stage in found:
        its = [(i, layers[i].config) for i in stage.order]
        assert coupled(stage) == [i for i, each in its if each.name == "batch_norm"]
        assert stage.by_chunks == all(each.by_chunks or i in coupled(stage) for i, each in its)
        assert stage.by_chunks or len(its) == 1
    together = [(first.by_chunks, second.by_chunks) for first, second in itertools.pairwise(found)]
    assert (True, True) not in together

    # By bubbles: as long as a pool follows an increasing activation, they change places.
    order = list(range(len(layers)))
    moved = True
    while moved:
        moved = False
        for at, (i, j) in enumerate(itertools.pairwise(order)):
            if layers[i].name in INCREASING and layers[j].name == "max_pool2d":
                order[at : at + 2], moved = [j, i], True
    assert [i for stage in found for i in stage.order] == order
    # The first pool after a batch norm is its own.
    taken = {(link.i, link.pool) for stage in found for link in stage.links if link.pool is not None}
    assert taken == {
        (i, j) for i, j in itertools.pairwise(order) if (layers[i].name, layers[j].name) == ("batch_norm", "max_pool2d")
    }


@every_increasing
@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_increasing_activation_and_a_max_pool_change_places(layer: Layer, pool: Layer, dtype: type) -> None:
    net, _, state, x, dy = ready(Case(serial(layer, pool), (7, 6, 3)), dtype, n=5)
    assert [stage.order for stage in net.config.stages] == [(1, 0)]
    expected = forward(net, (None, None), state, x)
    applied = net.apply((None, None), state, x, train=True)
    np.testing.assert_array_equal(applied.y, expected.y, strict=True)
    np.testing.assert_array_equal(net.apply((None, None), state, x).y, expected.y, strict=True)
    dx = net.backward((None, None), applied.residuals, dy).dx
    assert_close(dx, backward(net, (None, None), expected.residuals, dy).dx, 16 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("between", [(), (relu(),), (leaky_relu(0.3), relu())], ids=str)
@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("scale", [(2.0, 0.5, 1.0), (2.0, 0.0, 1.0), (2.0, -0.5, 1.0)], ids=str)
@pytest.mark.parametrize("examples", [2, 40], ids=["in chunks", "whole"])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_a_batch_norm_and_a_max_pool_change_places(
    between: tuple[Layer, ...], pool: Layer, scale: tuple[float, ...], examples: int, mean: float
) -> None:
    net, params, state, x, dy = ready(
        Case(serial(conv2d(3, 1, use_bias=False), batch_norm(), *between, pool), (7, 6, 3)), n=9
    )
    params = tree.replace(params, "1.scale", np.array(scale))
    x = x + mean
    assert (1, 2 + len(between)) in [(link.i, link.pool) for link in net.config.stages[0].links]
    y, moved, kept = forward(net, params, state, x)
    with chunks_of(examples, net, (7, 6, 3)):
        applied = net.apply(params, state, x, train=True)
        found = net.backward(params, applied.residuals, dy)
        assert tree.equal(found.params, net.backward(params, applied.residuals, dy, need_dx=False).params)
    assert (len(sizes(applied.residuals)[0]) == 1) == (examples > 9)
    assert_close(applied.y, y, 1e-12)
    assert_close(applied.state, moved, 1e-12)
    evaluated = forward(net, params, state, x, train=False).y
    np.testing.assert_array_equal(net.apply(params, state, x).y, evaluated, strict=True)  # to the bit
    expected = backward(net, params, kept, dy)
    assert_close(found.dx, expected.dx, 1e-11)
    assert_close(found.params, expected.params, 1e-11)


@every_increasing
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_numbers_next_to_each_other_the_same_bits_win(layer: Layer, dtype: type) -> None:
    # An activation that is not increasing to the last bit has its maximum elsewhere than its input.
    starts = gaussian((500, 1, 1, 1), dtype) * 3
    x = (starts + np.arange(64).reshape(8, 8, 1) * np.spacing(starts)).astype(dtype)
    net = serial(layer, max_pool2d(2))
    y = net.apply((None, None), (None, None), x).y
    np.testing.assert_array_equal(y, forward(net, (None, None), (None, None), x).y, strict=True)


@pytest.mark.parametrize("layer", [sigmoid(), tanh(), elu(), softplus()], ids=str)
def test_what_is_increasing_but_for_rounding_stays_where_it_is(layer: Layer) -> None:
    assert [stage.order for stage in serial(layer, max_pool2d(2)).config.stages] == [(0, 1)]


@pytest.mark.parametrize("layer", [gelu(), silu()], ids=str)
def test_other_activations_stay_where_they_are(layer: Layer) -> None:
    net = serial(layer, max_pool2d(2))
    assert [stage.order for stage in net.config.stages] == [(0, 1)]
    x = gaussian((3, 4, 4, 2)) - 1  # where they fall, the largest input has not the largest output
    y = net.apply((None, None), (None, None), x).y
    np.testing.assert_array_equal(y, forward(net, (None, None), (None, None), x).y, strict=True)
    assert (y != layer.apply(None, None, max_pool2d(2).apply(None, None, x).y).y).any()


# --- Errors in a chunk ----------------------------------------------------------------------------------------


def error_in_chunks(error: type[Exception], net: Layer, in_shape: Shape, x: Any, **options: Any) -> str:
    """The text of the error that a net raises in training, the batch in chunks of two."""
    params, state, _ = net.init(Key(0), in_shape, np.float64)
    with chunks_of(2, net, in_shape):
        return message(error, net.apply, params, state, x, train=True, **options)


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (gaussian((7, 4, 4, 1), np.float32), "expected an input of dtype float64 like the parameters, got float32"),
        (gaussian((7, 4, 4, 2)), "expected an input of shape (n, any, any, 1), got ("),
        (gaussian((7, 16)), "expected an input of shape (n, any, any, 1), got (7, 16)"),
        (gaussian((16,)), "expected an input of shape (n, any, any, 1), got (16,)"),
        (gaussian((7, 2, 9, 1)), "its window spans (3, 3), more than the padded image (2, 9)"),
        (gaussian((3, 4, 4, 1)).tolist(), "expected a NumPy array, got list"),
    ],
    ids=["dtype", "channels", "rank", "one example", "too small", "no array"],
)
def test_an_input_that_does_not_fit_is_named_with_its_place(x: Any, problem: str) -> None:
    text = error_in_chunks(LayerError, serial(conv2d(2, 3), relu()), (4, 4, 1), x)
    assert text.startswith(f"serial[0] conv2d(filters=2, kernel_size=3): {problem}")


def test_an_input_that_is_no_array_is_named_with_its_place_without_products_too() -> None:
    expected = "serial[0] relu(): expected a NumPy array, got list. Convert it: np.asarray(x, np.float32)"
    assert message(LayerError, serial(relu()).apply, (None,), (None,), [[1.0]]) == expected


def test_places_of_a_chunk_nest_and_are_named_once() -> None:
    net = serial(relu(), residual(serial(conv2d(1, 1), parallel(serial(dropout(0.5)), identity(), combine="add"))))
    text = error_in_chunks(LayerError, net, (4, 4, 1), gaussian((7, 4, 4, 1)))
    assert text.startswith(
        "serial[1] residual serial[1] parallel[0] serial[0] dropout(rate=0.5): training draws random numbers "
    )


@pytest.fixture(params=[1, 2], ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = parallel_threads()
    set_threads(request.param)
    yield request.param
    set_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("function", ["forward", "gradient"])
def test_a_foreign_error_in_a_chunk_gets_its_place_once(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def fail(*arguments: Any) -> None:
        raise FloatingPointError("not ours")

    net, params, state, x, dy = ready(Case(serial(conv2d(1, 1), residual(tanh()), relu()), (4, 4, 1)), n=7)
    with chunks_of(2, net, (4, 4, 1)):
        residuals = net.apply(params, state, x, train=True).residuals
        assert sizes(residuals) == [(1, 2, 2, 2)]
        monkeypatch.setattr(type(tanh().config), function, fail)
        with pytest.raises(FloatingPointError) as caught:
            net.backward(params, residuals, dy) if function == "gradient" else net.apply(params, state, x)
    assert caught.value.__notes__ == ["in residual", "in serial[1]"]


def test_an_empty_batch_in_chunks_has_no_mean() -> None:
    net = serial(conv2d(2, 1), batch_norm())
    expected = "serial[1] batch_norm(): an empty batch has no mean. Train on batches of at least one example"
    assert error_in_chunks(LayerError, net, (4, 4, 1), np.zeros((0, 4, 4, 1))) == expected


@node
class _Counted:
    seen: Array


@config
class _Counting(Config):
    """y = x; its state counts examples, though it says that it may get them in chunks."""

    name = "counting"
    by_chunks = True


def _counting_init(settings: _Counting, key: Key, in_shape: Shape, dtype: Any = np.float32) -> Initialised:
    return Initialised(None, _Counted(np.zeros((), dtype)), in_shape)


def _counting_apply(
    settings: _Counting, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    return Applied(x, _Counted(state.seen + len(x)) if train else state, () if train else None)


def test_a_state_that_changes_in_chunks_is_not_dropped_without_a_word() -> None:
    counting = make_layer(_Counting(), _counting_apply, _square_backward, _counting_init)
    text = error_in_chunks(LayerError, serial(conv2d(1, 1), counting), (4, 4, 1), gaussian((7, 4, 4, 1)))
    assert text == (
        "serial[1] counting(): it changed its state for a chunk of the batch, though it says by_chunks = True. "
        "Leave by_chunks out: the layer then gets the whole batch, and its new state is kept"
    )
