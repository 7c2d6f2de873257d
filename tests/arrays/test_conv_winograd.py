"""Winograd's convolution against the plain one: the same functions, from other products."""

from unittest import mock

import numpy as np
import pytest
from draws import Conv, pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn import conv_strided
from funcnn.arrays import conv_winograd as conv
from funcnn.layer import Shape

# The transforms multiply by up to 8 and add six terms: a few digits of rounding.
RTOL = 1e-14
FLOAT32 = 1e-6


@st.composite
def problems(draw: st.DrawFn) -> Conv:
    """What fits the algorithm: three rows, adjacent and at every row; anything along the columns."""
    spec = Spec(
        window=(3, draw(st.integers(1, 3))),
        stride=(1, draw(st.integers(1, 2))),
        dilation=(1, draw(st.integers(1, 2))),
        padding=draw(st.sampled_from(["valid", "same"]) | st.integers(0, 2) | pairs(pairs(st.integers(0, 2)))),
    )
    groups, inner, filters = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x_shape = draw(st.sampled_from([1, 2, 30])), draw(st.integers(3, 11)), draw(st.integers(5, 7)), groups * inner
    return Conv(spec, x_shape, (*spec.window, inner, groups * filters), groups)


@settings(max_examples=300)
@given(problems())
def test_it_is_the_plain_convolution(problem: Conv) -> None:
    x, *_ = problem.arrays()
    assert conv.fits(problem.spec.on(x))
    problem.check(problem.by(conv), RTOL)


@pytest.mark.parametrize(
    ("x_shape", "filters", "padding"),
    [((16, 26, 26, 32), 64, "valid"), ((16, 12, 12, 64), 128, "valid"), ((16, 15, 14, 16), 32, "same")],
    ids=str,
)
def test_float32_differs_by_rounding(x_shape: Shape, filters: int, padding: str) -> None:
    problem = Conv(Spec((3, 3), padding=padding), x_shape, (3, 3, x_shape[3], filters), 1)
    results = problem.by(conv, np.float32)
    assert {each.dtype for each in results} == {np.dtype(np.float32)}
    problem.check(results, FLOAT32)
    for have, want in zip(results, problem.by(conv_strided), strict=True):
        assert np.abs(have - want).max() <= 4e-6 * np.abs(want).max()  # about 3e-6, as documented


@pytest.mark.parametrize("tiles", [1, 2])
@pytest.mark.parametrize("filters", [4, 8])
def test_blocks_of_tiles_do_not_change_the_result(tiles: int, filters: int) -> None:
    problem = Conv(Spec((3, 3), padding="same"), (5, 13, 6, 6), (3, 3, 6, filters), 1)
    for row_bytes in (6 * 5 * 8 * each for each in (3 * 6, 3 * filters, filters)):
        with mock.patch.object(conv, "_BLOCK_BYTES", tiles * 6 * row_bytes):
            problem.check(problem.by(conv), RTOL)


def test_an_empty_batch() -> None:
    for filters in (1, 4):
        problem = Conv(Spec((3, 3), padding="same"), (0, 6, 5, 2), (3, 3, 2, filters), 1)
        problem.check(problem.by(conv), 0)
