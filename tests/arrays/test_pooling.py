"""Pooling against its plain form and loops over pixels, and its gradients against loops or the adjoint identity."""

from typing import NamedTuple

import numpy as np
import pytest
import references
from cases import gaussian
from draws import RTOL, in_sizes, inner_product, pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn.arrays import pooling, threads
from funcnn.arrays.layout import images, rows
from funcnn.conv_strided import windows
from funcnn.layer import Array


class Pool(NamedTuple):
    spec: Spec
    x: Array

    def output_gradient(self) -> Array:
        return gaussian(references.avg_pool(self.x, self.spec).shape, np.float64, "dy")


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Windows that overlap, touch or leave gaps; padded sides, each less than the window."""
    window = draw(pairs(st.integers(1, 3)))
    sides = st.tuples(*(pairs(st.integers(0, w - 1)) for w in window))
    padding = st.sampled_from(["valid", "same"]) | st.integers(0, min(window) - 1) | sides
    spec = Spec(window=window, stride=draw(pairs(st.integers(1, 3))), padding=draw(padding))
    shape = (draw(st.integers(1, 2)), *draw(in_sizes(spec)), draw(st.integers(1, 2)))
    x = gaussian(shape)
    # Few and negative values: ties are common, and a padded zero that won would show.
    return Pool(spec, np.round(x) - 9 if draw(st.booleans()) else x)


# --- Max pooling ----------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(pools())
def test_max_pooling_is_the_largest_of_each_window(problem: Pool) -> None:
    geo = problem.spec.on(problem.x)
    plain = windows(problem.x, geo, padding=-np.inf).max(axis=(3, 4))
    expected = references.max_pool(problem.x, problem.spec)
    np.testing.assert_array_equal(plain, expected, strict=True)
    for keep_winners in (True, False):
        y, winners = pooling.max_pool_forward(problem.x, geo, keep_winners=keep_winners)
        np.testing.assert_array_equal(y, expected, strict=True)
        assert (winners is not None) == keep_winners


@settings(max_examples=100)
@given(pools())
def test_max_pooling_gives_the_gradient_to_the_first_maximum(problem: Pool) -> None:
    geo, dy = problem.spec.on(problem.x), problem.output_gradient()
    _, winners = pooling.max_pool_forward(problem.x, geo, keep_winners=True)
    dx = pooling.max_pool_backward(dy, winners, geo)
    expected = references.max_pool_gradient(problem.x, dy, problem.spec)
    np.testing.assert_allclose(dx, expected, rtol=RTOL, atol=RTOL, strict=True)


def test_of_equal_values_the_leftmost_wins_and_of_those_the_topmost() -> None:
    x = np.array([[1.0, 2.0, 2.0], [2.0, 2.0, 2.0], [0.0, 2.0, 2.0]]).reshape(1, 3, 3, 1)
    geo = Spec((3, 3)).on(x)
    _, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    dx = pooling.max_pool_backward(np.full((1, 1, 1, 1), 5.0), winners, geo)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 0, 0], [5, 0, 0], [0, 0, 0]])


def test_gradients_of_overlapping_windows_add() -> None:
    x = np.array([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]).reshape(1, 3, 3, 1)
    geo = Spec((2, 2)).on(x)
    _, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    dx = pooling.max_pool_backward(np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 2, 2, 1), winners, geo)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 0, 0], [0, 15, 0], [0, 0, 0]])


@pytest.mark.parametrize("low", [-1.0, np.finfo(float).min])
def test_padded_cells_never_win(low: float) -> None:
    x = np.full((1, 2, 2, 1), low)
    geo = Spec((2, 2), padding=1).on(x)
    y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    np.testing.assert_array_equal(y, np.full((1, 3, 3, 1), low))
    assert pooling.max_pool_backward(np.ones_like(y), winners, geo).sum() == 9  # none of the nine went to the padding


@pytest.mark.parametrize("window", [(16, 16), (16, 17), (20, 20)], ids=str)
def test_the_winner_of_a_large_window_is_found(window: tuple[int, int]) -> None:
    # A byte can tell 256 cells apart, no more.
    x = np.zeros((1, *window, 1))
    x[0, -1, -1, 0] = 1.0
    geo = Spec(window).on(x)
    _, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    np.testing.assert_array_equal(pooling.max_pool_backward(np.full((1, 1, 1, 1), 3.0), winners, geo), 3 * x)


# --- Average pooling ------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(pools())
def test_average_pooling_is_the_mean_of_each_window(problem: Pool) -> None:
    x, geo = problem.x, problem.spec.on(problem.x)
    plain = windows(x, geo).sum(axis=(3, 4)) / windows(np.ones_like(x), geo).sum(axis=(3, 4))
    for mean in (plain, pooling.avg_pool_forward(x, geo)):
        np.testing.assert_allclose(mean, references.avg_pool(x, problem.spec), rtol=RTOL, atol=RTOL, strict=True)


@settings(max_examples=100)
@given(pools())
def test_the_average_pooling_gradient_is_its_adjoint(problem: Pool) -> None:
    geo, dy = problem.spec.on(problem.x), problem.output_gradient()
    y, dx = pooling.avg_pool_forward(problem.x, geo), pooling.avg_pool_backward(dy, geo)
    assert dx.shape == problem.x.shape
    tolerance = RTOL * np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs(inner_product(y, dy) - inner_product(problem.x, dx)) <= tolerance


def test_padded_cells_are_not_counted() -> None:
    x = np.full((1, 3, 3, 1), 7.0)
    np.testing.assert_allclose(pooling.avg_pool_forward(x, Spec((3, 3), padding=2).on(x)), 7.0, rtol=RTOL)


# --- How the results lie in memory ----------------------------------------------------------------------------


@given(pools())
def test_images_are_made_by_rows(problem: Pool) -> None:
    x, geo = problem.x, problem.spec.on(problem.x)
    y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    made = [y, pooling.max_pool_backward(y, winners, geo), pooling.avg_pool_forward(x, geo)]
    made.append(pooling.avg_pool_backward(y, geo))
    for each in made:
        assert_by_rows(each)


def assert_by_rows(x: Array) -> None:
    assert rows(x).flags.c_contiguous, f"{x.shape} has strides {x.strides}"


@given(pools())
def test_images_may_lie_in_any_order(problem: Pool) -> None:
    geo, dy = problem.spec.on(problem.x), problem.output_gradient()
    results = []
    for turn in (np.asarray, by_rows, np.asfortranarray):
        x, its_dy = turn(problem.x), turn(dy)
        y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
        results.append((y, pooling.max_pool_backward(its_dy, winners, geo), pooling.avg_pool_forward(x, geo)))
        results[-1] += (pooling.avg_pool_backward(its_dy, geo),)
    for result in results[1:]:
        for have, want in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(have, want, strict=True)


def by_rows(x: Array) -> Array:
    return images(np.ascontiguousarray(rows(x)))


@given(pools())
def test_neither_x_nor_dy_is_what_comes_out(problem: Pool) -> None:
    x, dy = by_rows(problem.x), by_rows(problem.output_gradient())
    geo = problem.spec.on(x)
    y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    made = y, pooling.max_pool_backward(dy, winners, geo), pooling.avg_pool_backward(dy, geo)
    for each in (*made, pooling.avg_pool_forward(x, geo)):
        assert not np.shares_memory(each, x)
        assert not np.shares_memory(each, dy)


def test_the_number_of_threads_changes_no_bit() -> None:
    x = gaussian((32, 26, 26, 64), np.float32)  # two tasks
    geo = Spec((3, 3), (2, 2), padding=1).on(x)
    before, results = threads.threads(), []
    try:
        for count in (1, 2):
            threads.set_threads(count)
            y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
            mean = pooling.avg_pool_forward(x, geo)
            gradients = pooling.max_pool_backward(y, winners, geo), pooling.avg_pool_backward(mean, geo)
            results.append((y, mean, *gradients))
    finally:
        threads.set_threads(before)
    for have, want in zip(*results, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


# --- Edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_batch(dtype: type) -> None:
    x = np.zeros((0, 4, 4, 2), dtype)
    geo = Spec((3, 3), padding="same").on(x)
    y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    np.testing.assert_array_equal(y, x, strict=True)
    np.testing.assert_array_equal(pooling.max_pool_backward(x, winners, geo), x, strict=True)
    np.testing.assert_array_equal(pooling.avg_pool_forward(x, geo), x, strict=True)
    np.testing.assert_array_equal(pooling.avg_pool_backward(x, geo), x, strict=True)
