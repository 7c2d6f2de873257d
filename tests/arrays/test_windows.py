"""Windows as matrices: what is in them, and what is copied."""

import numpy as np
from cases import gaussian
from draws import Conv, convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Spec

from funcnn import conv_strided
from funcnn.arrays.layout import images, rows
from funcnn.arrays.windows import window_matrices


@settings(max_examples=200)
@given(convolutions(many=5), st.booleans(), st.data())
def test_each_matrix_has_a_window_in_each_column(problem: Conv, side_by_side: bool, data: st.DataObject) -> None:
    x, *_ = problem.arrays()
    geo, groups = problem.spec.on(x), problem.groups
    start = data.draw(st.integers(0, geo.out_size[0] - 1))
    part = slice(start, data.draw(st.integers(start + 1, geo.out_size[0])))
    matrices = window_matrices(np.ascontiguousarray(rows(x)), geo, groups, part, side_by_side)
    plain = conv_strided.windows(x, geo)[:, part]
    n, count, ow, kh, kw, channels = plain.shape
    split = plain.reshape(n, count, ow, kh, kw, groups, channels // groups)
    expected = split.transpose(5, 1, 3, 4, 6, 2, 0).reshape(groups, count, -1, ow * n)  # (groups, row, kh·kw·c, ow·n)
    if side_by_side:
        expected = expected.swapaxes(1, 2).reshape(groups, 1, -1, count * ow * n)
    np.testing.assert_array_equal(matrices, expected, strict=True)


def test_windows_are_overlapping_views_of_a_few_copies() -> None:
    x = gaussian((32, 5, 7, 3))
    matrices = window_matrices(np.ascontiguousarray(rows(x)), Spec((2, 3)).on(x), 1, slice(0, 4))
    assert np.shares_memory(matrices[:, 0], matrices[:, 1])
    assert not matrices.flags.writeable


def test_a_kernel_of_one_column_copies_nothing() -> None:
    x = np.ascontiguousarray(rows(gaussian((32, 5, 7, 3))))
    for window in ((1, 1), (2, 1)):
        matrices = window_matrices(x, Spec(window).on(images(x)), 1, slice(0, 4))
        assert np.shares_memory(matrices, x)
        assert not matrices.flags.writeable


def test_rows_and_images_are_each_others_inverse() -> None:
    x = gaussian((2, 3, 4, 5))
    assert rows(x).shape == (3, 5, 4, 2)
    assert rows(x)[1, 4, 2, 0] == x[0, 1, 2, 4]
    assert images(rows(x)).strides == x.strides
    assert np.shares_memory(images(rows(x)), x)
