"""Batch norm's statistics, in training and in evaluation; L2 normalisation over the float range."""

import math

import numpy as np
import pytest
from cases import DTYPES, Case, Ready, assert_close, gaussian, message, ready
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from funcnn import tree
from funcnn.keys import Key
from funcnn.layer import Applied, Array, Gradients, LayerError, Shape
from funcnn.layers import batch_norm, l2_normalize
from funcnn.nn.chunks import cut
from funcnn.nn.coupled import resume

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_shape = pytest.mark.parametrize("shape", [(40, 3), (6, 5, 4, 3)], ids=["dense", "spatial"])


def normalised(x: Array, **settings: float) -> Array:
    """What batch norm makes of a batch in training, before it has learnt anything."""
    layer = batch_norm(**settings)
    params, state, _ = layer.init(Key(0), x.shape[1:], x.dtype)
    return layer.apply(params, state, x, train=True).y


def channels(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


# --- batch_norm -----------------------------------------------------------------------------------------------


@every_shape
def test_training_gives_every_channel_mean_zero_and_variance_one(shape: Shape) -> None:
    y = channels(normalised(5 + 3 * gaussian(shape), epsilon=1e-14))
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(axis=0), 1, rtol=1e-13)


def test_epsilon_is_added_to_the_biased_variance() -> None:
    # The variance of (0, 4) is 4, unbiased it would be 8.
    y = normalised(np.array([[0.0], [4.0]]), epsilon=5.0)
    np.testing.assert_allclose(y, [[-2 / 3], [2 / 3]], rtol=1e-15)


@every_shape
def test_scale_and_shift_are_applied_by_channel(shape: Shape) -> None:
    x, scale, shift = gaussian(shape), np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, -1.0])
    layer = batch_norm()
    params, state, _ = layer.init(Key(0), shape[1:], np.float64)
    plain = layer.apply(params, state, x, train=True).y
    learnt = tree.replace(tree.replace(params, "scale", scale), "shift", shift)
    np.testing.assert_allclose(layer.apply(learnt, state, x, train=True).y, plain * scale + shift, rtol=0, atol=4e-15)


def test_running_statistics_follow_their_formula_exactly() -> None:
    layer = batch_norm(momentum=0.75)
    params, state, _ = layer.init(Key(0), (1,), np.float64)
    assert (state.mean.tolist(), state.var.tolist()) == ([0.0], [1.0])
    # Two batches of mean 2, biased variance 4, and of mean -8, variance 0; in binary fractions nothing is rounded.
    state = layer.apply(params, state, np.array([[0.0], [4.0]]), train=True).state
    assert (state.mean.tolist(), state.var.tolist()) == ([0.25 * 2], [0.75 * 1 + 0.25 * 4])
    state = layer.apply(params, state, np.array([[-8.0], [-8.0]]), train=True).state
    assert (state.mean.tolist(), state.var.tolist()) == ([0.75 * 0.5 + 0.25 * -8], [0.75 * 1.75])


@pytest.mark.parametrize(("momentum", "mean", "var"), [(0.0, 2.0, 4.0), (1.0, 0.0, 1.0)])
def test_the_ends_of_momentum_take_the_batch_or_keep_the_past(momentum: float, mean: float, var: float) -> None:
    layer = batch_norm(momentum=momentum)
    params, state, _ = layer.init(Key(0), (1,), np.float64)
    state = layer.apply(params, state, np.array([[0.0], [4.0]]), train=True).state
    assert (state.mean.item(), state.var.item()) == (mean, var)


@every_shape
@every_dtype
def test_evaluation_uses_the_running_statistics_alone(shape: Shape, dtype: type) -> None:
    layer, params, state, x, _ = ready(Case(batch_norm(epsilon=0.5), shape[1:]), dtype, n=shape[0])
    expected = (x - state.mean) / np.sqrt(state.var + 0.5) * params.scale + params.shift
    np.testing.assert_allclose(layer.apply(params, state, x).y, expected, rtol=0, atol=16 * np.finfo(dtype).eps)


@every_shape
@every_dtype
def test_an_image_is_predicted_the_same_alone_or_in_a_batch_to_the_bit(shape: Shape, dtype: type) -> None:
    layer, params, state, x, _ = ready(Case(batch_norm(), shape[1:]), dtype, n=shape[0])
    together = layer.apply(params, state, x).y
    alone = np.concatenate([layer.apply(params, state, each[None]).y for each in x])
    np.testing.assert_array_equal(alone, together, strict=True)


def test_evaluation_meets_training_when_the_statistics_do() -> None:
    layer, params, state, x, _ = ready(Case(batch_norm(momentum=0.0), (4, 4, 3)), n=6)
    y, batch_statistics, _ = layer.apply(params, state, x, train=True)
    assert_close(layer.apply(params, batch_statistics, x).y, y, 1e-14)


@every_shape
def test_a_large_mean_does_not_swallow_the_variance(shape: Shape) -> None:
    # Of E[x²] - E[x]² = 1000001 - 1000000, float32 would keep no digit.
    x = (1000 + gaussian(shape)).astype(np.float32)
    single, double = normalised(x), normalised(x.astype(np.float64))
    # Numbers near 1000 are 2⁻¹⁴ apart, and the mean is off by a few of these.
    np.testing.assert_allclose(single, double, rtol=0, atol=2**-12)


def test_many_float32_values_with_a_large_mean() -> None:
    y = channels(normalised((1000 + gaussian((64, 16, 16, 2))).astype(np.float32))).astype(np.float64)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=0.004)  # 16,384 numbers near 1000 are added in float32
    np.testing.assert_allclose(y.var(axis=0), 1, rtol=1e-4)


def test_a_constant_channel_becomes_zero() -> None:
    np.testing.assert_array_equal(normalised(np.full((4, 2), 3.0)), np.zeros((4, 2)))
    np.testing.assert_array_equal(normalised(np.array([[3.0, -1.0]])), [[0.0, 0.0]])  # so does a batch of one


@every_shape
def test_the_gradient_has_no_part_that_the_statistics_remove(shape: Shape) -> None:
    # Adding a constant to x, or (but for epsilon) scaling it, leaves y as it is: dx is orthogonal to both.
    layer, params, state, x, dy = ready(Case(batch_norm(epsilon=1e-14), shape[1:]), n=shape[0])
    residuals = layer.apply(params, state, x, train=True).residuals
    dx = channels(layer.backward(params, residuals, dy).dx)
    rows = channels(x)
    scale = np.linalg.norm(dx) * np.linalg.norm(rows)
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-14 * scale)
    np.testing.assert_allclose((dx * rows).sum(axis=0), 0, atol=1e-13 * scale)


@every_shape
def test_parameter_gradients_by_their_formulas(shape: Shape) -> None:
    layer, params, state, x, dy = ready(Case(batch_norm(), shape[1:]), n=shape[0])
    gradients, _ = layer.backward(params, layer.apply(params, state, x, train=True).residuals, dy)
    rows, its_dy = channels(x), channels(dy)
    hat = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-5)
    assert_close(gradients.shift, its_dy.sum(axis=0), 1e-13)
    assert_close(gradients.scale, (its_dy * hat).sum(axis=0), 1e-13)


# --- batch_norm over a batch in chunks ------------------------------------------------------------------------


def in_chunks(made: Ready, sizes: list[int], *, need_dx: bool = True) -> tuple[Applied, Gradients]:
    """What batch norm makes of a batch that comes in chunks, and of its gradient, both joined again."""
    settings, params = made.layer.config, made.params
    chunks = [settings.apply_chunk(params, x) for x in cut(made.x, sizes)]
    sent, state = settings.meet(params, made.state, [resume(chunk) for chunk in chunks])
    ys, residuals = zip(*[resume(chunk, sent) for chunk in chunks], strict=True)
    assert [len(y) for y in ys] == sizes
    chunks = [
        settings.backward_chunk(params, its, dy, need_dx=need_dx)
        for its, dy in zip(residuals, cut(made.dy, sizes), strict=True)
    ]
    sent, gradients = settings.meet_backward(params, [resume(chunk) for chunk in chunks])
    dxs = [resume(chunk, sent) for chunk in chunks]
    assert need_dx or dxs == [None] * len(sizes)
    return Applied(np.concatenate(ys), state, residuals), Gradients(gradients, np.concatenate(dxs) if need_dx else None)


@every_shape
@given(sizes=st.lists(st.integers(0, 6), min_size=2, max_size=6).filter(lambda sizes: sum(sizes) >= 4))
def test_in_chunks_it_is_what_it_is_on_the_whole_batch(shape: Shape, sizes: list[int]) -> None:
    made = ready(Case(batch_norm(), shape[1:]), n=sum(sizes))
    whole, chunked = made.train(), in_chunks(made, sizes)
    assert_close(chunked[0].y, whole.y, 1e-12)
    assert_close(chunked[0].state, whole.state, 1e-12)
    assert_close(tuple(chunked[1]), tuple(made.gradients()), 1e-12)
    without = in_chunks(made, sizes, need_dx=False)[1]
    assert without.dx is None
    assert tree.equal(without.params, chunked[1].params)


@every_shape
@every_dtype
def test_in_chunks_it_evaluates_to_the_same_bits(shape: Shape, dtype: type) -> None:
    layer, params, state, x, _ = ready(Case(batch_norm(), shape[1:]), dtype, n=7)
    ys = [layer.config.evaluate(params, state, each) for each in cut(x, [3, 0, 4])]
    y, unmoved, residuals = layer.apply(params, state, x)
    np.testing.assert_array_equal(np.concatenate(ys), y, strict=True)
    assert tree.equal(unmoved, state)
    assert residuals is None


@every_shape
@pytest.mark.parametrize("drift", [0.0, 10.0], ids=["alike", "drifting"])
def test_in_chunks_a_large_mean_does_not_swallow_the_variance(shape: Shape, drift: float) -> None:
    sizes = [3, 17, 0, 1, 19]
    double = ready(Case(batch_norm(), shape[1:]), n=40)
    steps = drift * np.repeat(np.arange(5), sizes).reshape(-1, *[1] * (len(shape) - 1))
    double = double._replace(x=(1000 + double.x + steps).astype(np.float32).astype(np.float64))
    single = Ready(double.layer, *tree.map(lambda leaf: leaf.astype(np.float32), tuple(double)[1:]))
    (y, state, _), (gradients, dx) = in_chunks(single, sizes)
    expected, (expected_gradients, expected_dx) = double.train(), double.gradients()
    # Numbers near 1000 are 2⁻¹⁴ apart, and a mean is off by a few of these.
    np.testing.assert_allclose(y, expected.y, rtol=0, atol=2**-11)
    np.testing.assert_allclose(state.mean, expected.state.mean, rtol=1e-6)
    np.testing.assert_allclose(state.var, expected.state.var, rtol=1e-4)
    np.testing.assert_allclose(gradients.scale, expected_gradients.scale, rtol=0, atol=2**-11 * abs(double.dy).sum())
    np.testing.assert_allclose(gradients.shift, expected_gradients.shift, rtol=0, atol=2**-11)
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=2**-11)


@pytest.mark.parametrize("border", [0.0, -1000.0])
@pytest.mark.parametrize("height", [3, 8, 15])
def test_no_row_of_the_images_need_be_like_the_others(height: int, border: float) -> None:
    x = (1000 + gaussian((6, height, 5, 3))).astype(np.float32)
    x[:, 0] = border
    y = normalised(x.astype(np.float64))
    np.testing.assert_allclose(normalised(x), y, rtol=0, atol=2**-18 * abs(y).max())
    made = ready(Case(batch_norm(), x.shape[1:]), np.float32, n=6)._replace(x=x)
    assert_close(in_chunks(made, [1, 5])[0].y, made.train().y, 2**-18)


def test_chunks_that_are_all_empty_have_no_mean() -> None:
    made = ready(Case(batch_norm(), (4,)), n=0)
    expected = "batch_norm(): an empty batch has no mean. Train on batches of at least one example"
    assert message(LayerError, in_chunks, made, [0, 0]) == expected
    assert message(LayerError, made.train) == expected


# --- l2_normalize ---------------------------------------------------------------------------------------------


@given(arrays(np.float64, (2, 3), elements=st.floats(-1e3, 1e3, allow_subnormal=False)))
def test_examples_get_length_one(x: Array) -> None:
    y = l2_normalize().apply(None, None, x).y
    for its_x, its_y in zip(x, y, strict=True):
        norm = math.hypot(*its_x)
        np.testing.assert_allclose(its_y, its_x / norm if norm else its_x, rtol=1e-14, atol=1e-300)


@every_dtype
def test_lengths_that_square_to_infinity_or_zero_are_exact(dtype: type) -> None:
    limits = np.finfo(dtype)
    x = np.array([[3, 4], [-4, 3], [0, 5]], dtype) * np.array([[limits.max / 8], [limits.tiny], [1]], dtype)
    with np.errstate(all="raise", under="ignore"):
        y, _, residuals = l2_normalize().apply(None, None, x, train=True)
        dx = l2_normalize().backward(None, residuals, np.ones_like(y)).dx
    np.testing.assert_allclose(y, [[0.6, 0.8], [-0.8, 0.6], [0, 1]], rtol=2 * limits.eps)
    assert np.isfinite(dx).all()


def test_an_image_is_normalised_over_all_its_axes() -> None:
    y = l2_normalize().apply(None, None, gaussian((3, 4, 5, 2))).y
    np.testing.assert_allclose((y**2).sum(axis=(1, 2, 3)), 1, rtol=1e-14)


def test_the_gradient_is_along_the_sphere_and_shrinks_with_the_length() -> None:
    x, dy = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])
    residuals = l2_normalize().apply(None, None, x, train=True).residuals
    # (dy - y ⟨dy, y⟩) / ‖x‖ with y = (0.6, 0.8)
    dx = l2_normalize().backward(None, residuals, dy).dx
    np.testing.assert_allclose(dx, [[(1 - 0.36) / 5, -0.48 / 5]], rtol=1e-15)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 2)])
def test_a_zero_stays_zero_and_passes_its_gradient_on(shape: Shape) -> None:
    y, _, residuals = l2_normalize().apply(None, None, np.zeros(shape), train=True)
    np.testing.assert_array_equal(y, np.zeros(shape))
    dy = gaussian(shape)
    np.testing.assert_array_equal(l2_normalize().backward(None, residuals, dy).dx, dy)
