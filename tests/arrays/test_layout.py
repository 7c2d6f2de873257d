"""How images lie in memory: copies are the same arrays, whatever way they are made."""

import numpy as np
import pytest
from cases import gaussian

from funcnn.arrays.layout import contiguous_rows, copy_columns, images, rows
from funcnn.layer import Shape


@pytest.mark.parametrize(
    "shape",
    [
        (32, 32, 32, 3),  # images 12,288 bytes apart in float32: they are moved apart
        (9, 64, 16, 1),
        (8, 64, 16, 1),
        (20, 28, 28, 1),
        (1, 32, 32, 3),
        (0, 4, 4, 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_contiguous_rows(shape: Shape, dtype: type) -> None:
    x = gaussian(shape, dtype)
    for its in (x, x[::-1], np.asfortranarray(x)):
        made = contiguous_rows(its)
        np.testing.assert_array_equal(made, rows(its), strict=True)
        assert made.flags.c_contiguous


def test_rows_that_are_contiguous_are_not_copied() -> None:
    by_rows = gaussian((32, 3, 32, 32), np.float32)
    assert contiguous_rows(images(by_rows)).ctypes.data == by_rows.ctypes.data


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 3, 16])
def test_copy_columns(dtype: type, n: int) -> None:
    source, to = gaussian((2, 3, 7, n), dtype), np.zeros((2, 3, 4, n), dtype)
    copy_columns(to, source[:, :, ::2])
    np.testing.assert_array_equal(to, source[:, :, ::2])
    back = np.zeros_like(source)
    copy_columns(back[:, :, 1::2], to[:, :, 1:])
    np.testing.assert_array_equal(back[:, :, 1::2], to[:, :, 1:])
    assert not back[:, :, ::2].any()


def test_copy_columns_of_another_dtype_or_order() -> None:
    source, to = gaussian((2, 3, 4, 5), np.float32), np.zeros((2, 3, 4, 5))
    copy_columns(to, source)
    np.testing.assert_array_equal(to, source)
    copy_columns(to[..., ::-1], source.astype(float))
    np.testing.assert_array_equal(to, source[..., ::-1])
