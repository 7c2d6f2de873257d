"""The GPU's pools, on a GPU or emulated, against the loops of `references` and by their own transposes."""

import numpy as np
import pytest
import references
from cases import gaussian
from draws import in_sizes, inner_product, pairs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn.layer import Shape
from tests.cuda.device import OnDevice

pytestmark = pytest.mark.usefixtures("_there")
pooling = OnDevice("pooling")


@st.composite
def pools(draw: st.DrawFn) -> tuple[Spec, Shape]:
    window = draw(pairs(st.integers(1, 4)))
    spec = Spec(
        window=window,
        stride=draw(pairs(st.integers(1, 4))),
        dilation=draw(pairs(st.integers(1, 2))),
        padding=draw(st.sampled_from(["valid", "same"]) | st.integers(0, min(window) - 1)),
    )
    return spec, (draw(st.integers(1, 2)), *draw(in_sizes(spec)), draw(st.integers(1, 3)))


@settings(max_examples=40)
@given(pools(), st.sampled_from([np.float32, np.float64]))
def test_pools(drawn: tuple[Spec, Shape], dtype: type) -> None:
    spec, shape = drawn
    x = np.round(gaussian(shape, np.float64, "x") * 2).astype(dtype)  # with equal values
    assume(all(cells for *_, cells in references.window_cells(x, spec)))  # no window of padding alone
    geo = spec.on(x)
    dy = np.round(gaussian((len(x), *geo.out_size, x.shape[3]), np.float64, "d") * 8).astype(dtype)
    assert pooling.fits(x, geo)
    y, winners = pooling.max_pool_forward(x, geo, keep_winners=True)
    np.testing.assert_array_equal(y, references.max_pool(x, spec))
    assert winners is not None
    want = references.max_pool_gradient(x, dy, spec)
    np.testing.assert_array_equal(pooling.max_pool_backward(dy, winners, geo), want)
    assert pooling.max_pool_forward(x, geo, keep_winners=False)[1] is None

    rtol = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(pooling.avg_pool_forward(x, geo), references.avg_pool(x, spec), rtol, 10 * rtol)
    for forward, backward in (
        (pooling.avg_pool_forward, pooling.avg_pool_backward), (pooling.sum_pool, pooling.spread),
    ):  # fmt: skip
        one, other = inner_product(forward(x, geo), dy), inner_product(x, backward(dy, geo))
        assert abs(one - other) <= 10 * rtol * (np.abs(x).sum() * np.abs(dy).max() + 1)


def test_a_window_of_many_cells() -> None:
    spec, x = Spec((17, 17)), gaussian((1, 17, 17, 2), np.float32, "x")
    y, winners = pooling.max_pool_forward(x, spec.on(x), keep_winners=True)
    assert winners is not None
    assert winners[0].dtype == np.int32
    dx = pooling.max_pool_backward(np.ones_like(y), winners, spec.on(x))
    np.testing.assert_array_equal(dx, x == y)
