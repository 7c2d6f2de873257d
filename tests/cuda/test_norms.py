"""The GPU's batch norm, layer norm and RMS norm, on a GPU or emulated, against the host's."""

import numpy as np
import pytest
import standin

from funcnn.arrays import row_norms as host_rows
from funcnn.arrays.cuda.kernels import alike
from funcnn.keys import Key
from funcnn.layers import batch_norm
from funcnn.nn.batch_norm import BatchNormParams, BatchNormState
from funcnn.tree import Array
from tests.cuda.device import OnDevice

pytestmark = pytest.mark.usefixtures("_there")
norms, row_norms = OnDevice("norms"), OnDevice("row_norms")

SHAPES = [(1, 4), (3, 4, 5, 8), (150, 1), (7, 33)]
DTYPES = [(np.float32, 3e-6), (np.float64, 1e-12)]


@pytest.mark.parametrize("shape", [*SHAPES, (300, 40)], ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), DTYPES, ids=["float32", "float64"])
def test_batch_norm(shape: tuple[int, ...], dtype: type, rtol: float) -> None:
    rng, channels, layer = np.random.default_rng(0), shape[-1], batch_norm()
    x, dy = (rng.normal(2, 1.5, shape).astype(dtype).astype(np.float64) for _ in range(2))
    scale, shift, mean, var = rng.uniform(0.5, 2, (4, channels))
    params, state = BatchNormParams(scale, shift), BatchNormState(mean, var)
    assert layer.init(Key(0), shape[1:]).out_shape == shape[1:]
    want_y, want_state, kept = layer.apply(params, state, x, train=True)
    want, want_dx = layer.backward(params, kept, dy)

    x, dy, scale, shift, mean, var = (each.astype(dtype) for each in (x, dy, scale, shift, mean, var))
    assert norms.fits(x)
    found = norms.statistics(x, mean, var, momentum=0.9, epsilon=1e-5)
    y = norms.normalize(x, found.mean, found.inverse, scale, shift)
    dx, dscale, dshift = norms.normalize_back(dy, x, found.mean, found.inverse, scale)
    for have, expected in (
        (y, want_y), (found.running_mean, want_state.mean), (found.running_var, want_state.var),
        (dx, want_dx), (dscale, want.scale), (dshift, want.shift),
    ):  # fmt: skip
        assert have.dtype == dtype
        # A single row has no deviation, and its gradient is none: what is left is of the size of a rounding of dy / √ε.
        size = np.abs(expected).max() if len(x) > 1 or x.ndim > 2 else 1000
        np.testing.assert_allclose(have, expected, 0, 4 * rtol * max(size, 1))
    assert norms.normalize_back(dy, x, found.mean, found.inverse, scale, need_dx=False)[0] is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_of_what_has_a_large_mean(dtype: type) -> None:
    x = (1e4 + np.random.default_rng(0).standard_normal((500, 6))).astype(dtype)
    zero, one = np.zeros(6, dtype), np.ones(6, dtype)
    mean, inverse, _, _ = norms.statistics(x, zero, one, momentum=0.9, epsilon=1e-5)
    wide = x.astype(np.longdouble)
    np.testing.assert_allclose(mean, wide.mean(axis=0).astype(float), 1e-14)
    np.testing.assert_allclose(inverse, 1 / np.sqrt(wide.var(axis=0).astype(float) + 1e-5), 1e-6)


@pytest.mark.parametrize("shape", [*SHAPES, (70, 100)], ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("centre", [True, False], ids=["layer norm", "RMS norm"])
def test_rows(shape: tuple[int, ...], dtype: type, rtol: float, centre: bool) -> None:
    rng, features = np.random.default_rng(0), shape[-1]
    x, dy = rng.normal(0.5, 1.5, shape), rng.standard_normal(shape)
    scale, shift = rng.uniform(0.5, 2, features), rng.standard_normal(features)
    for factors in ((scale, shift), (scale, None), (None, None)):
        want = host_rows.normalize_rows(x, *factors, 1e-3, centre=centre)
        back = host_rows.normalize_rows_back(dy, x, *want[1:], factors[0], centre=centre, need_dx=True)
        its_scale, its_shift = (None if each is None else each.astype(dtype) for each in factors)
        its_x, its_dy = x.astype(dtype), dy.astype(dtype)
        assert row_norms.fits(its_x)
        have = row_norms.normalize_rows(its_x, its_scale, its_shift, 1e-3, centre=centre)
        assert have[1].shape == (*shape[:-1], 1)
        have_back = row_norms.normalize_rows_back(its_dy, its_x, *have[1:], its_scale, centre=centre, need_dx=True)
        pairs = zip((have[0], have[1].ravel(), have[2].ravel(), *have_back), (*want, *back), strict=True)
        for got, expected in pairs:
            assert got.dtype == dtype
            np.testing.assert_allclose(got, expected, 0, 4 * rtol * max(np.abs(expected).max(), 1))


def test_scales_and_shifts_may_lie_anyhow() -> None:
    rng = np.random.default_rng(0)
    x, dy, (scale, shift, mean, var) = (
        *rng.standard_normal((2, 9, 4)).astype("f"),
        rng.uniform(1, 2, (4, 4)).astype("f"),
    )
    apart = [np.repeat(each, 2)[::2] for each in (scale, shift, mean, var)]
    wide = [each.astype(np.float64) for each in (scale, shift, mean, var)]

    def all_of(scale: Array, shift: Array, mean: Array, var: Array) -> tuple[Array, ...]:
        found = norms.statistics(x, mean, var, momentum=0.9, epsilon=1e-5)
        y = norms.normalize(x, found.mean, found.inverse, scale, shift)
        rows = row_norms.normalize_rows(x, scale, shift, 1e-5, centre=True)
        back = norms.normalize_back(dy, x, found.mean, found.inverse, scale)
        its_back = row_norms.normalize_rows_back(dy, x, *rows[1:], scale, centre=True, need_dx=True)
        return *found, y, *back, *rows, *its_back

    wanted = all_of(scale, shift, mean, var)
    for given in (apart, wide):
        for one, other in zip(all_of(*given), wanted, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)


def test_what_is_not_there_is_refused() -> None:
    scale = np.ones(4, np.float32)
    with pytest.raises(TypeError, match="expected an array beside those of"):
        alike(scale, standin.asarray(scale))
