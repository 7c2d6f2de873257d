"""The GPU's cross-entropy, on a GPU or emulated, against the loss."""

import numpy as np
import pytest

from funcnn.arrays import softmax
from funcnn.losses import softmax_cross_entropy
from tests.cuda.device import OnDevice

pytestmark = pytest.mark.usefixtures("_there")
losses = OnDevice("losses")


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (5, 10), (20, 3), (9, 70)], ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-6), (np.float64, 1e-14)], ids=["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_loss(rows: int, classes: int, dtype: type, rtol: float, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(100, 5, (rows, classes)) - 1000 * rng.integers(0, 2, (rows, 1))).astype(dtype)
    labels = rng.integers(0, classes, rows)
    given = logits.astype(np.float64), labels
    want_terms, want_slopes = softmax_cross_entropy(*given, label_smoothing=smoothing, reduction="none")
    assert losses.fits(logits, labels)
    for numbers in (labels, labels.astype(np.uint8)):
        terms, slopes = losses.cross_entropy(logits, numbers, smoothing=smoothing)
        assert terms.dtype == slopes.dtype == dtype
        np.testing.assert_allclose(terms, want_terms, 10 * rtol, 10 * rtol)
        np.testing.assert_allclose(slopes, want_slopes, 10 * rtol, rtol)


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (20, 3), (9, 70)], ids=str)
def test_log_softmax(rows: int, classes: int) -> None:
    logits = np.random.default_rng(0).normal(100, 5, (rows, classes))
    for have, want in zip(losses.log_softmax_rows(logits), softmax.log_softmax_rows(logits), strict=True):
        np.testing.assert_allclose(have, want, 1e-13, 1e-13)


def test_a_label_that_is_no_class_is_seen() -> None:
    logits, labels = np.zeros((4, 3)), np.array([0, 3, -1, 7])
    terms, _ = losses.cross_entropy(logits, labels)
    assert np.isnan(terms).tolist() == [False, True, True, True]


def test_a_logit_that_is_no_number_is_seen() -> None:
    logits = np.zeros((2, 40))
    logits[1, 35] = np.nan
    terms, slopes = losses.cross_entropy(logits, np.array([0, 0]))
    assert np.isnan(terms).tolist() == [False, True]
    assert np.isnan(slopes[1]).all()
