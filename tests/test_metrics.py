"""Metrics against naive loops, on outputs drawn from few values so that ties are common."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from cases import message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from funcnn import losses
from funcnn.layer import Array
from funcnn.losses import Loss, mean_squared_error, multiclass_hinge, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.metrics import (
    MOST_CLASSES,
    accuracy,
    binary_accuracy,
    confusion_matrix,
    default_metric,
    top_k_accuracy,
)

METRICS: list[Callable[[Array, Array], object]] = [accuracy, partial(top_k_accuracy, k=2), confusion_matrix]

every_metric = pytest.mark.parametrize("metric", METRICS, ids=["accuracy", "top_k_accuracy", "confusion_matrix"])


def name_of(metric: Callable[..., object]) -> str:
    return getattr(metric, "func", metric).__name__


@st.composite
def batches(draw: st.DrawFn) -> tuple[Array, Array]:
    """outputs (n, classes) from few values, labels (n,)."""
    n, classes = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    outputs = draw(arrays(draw(st.sampled_from([np.float32, np.float64])), (n, classes), elements=st.integers(-2, 2)))
    labels = draw(
        arrays(draw(st.sampled_from([np.uint8, np.int32, np.int64])), n, elements=st.integers(0, classes - 1))
    )
    return outputs, labels


def first_largest(row: list[float]) -> int:
    best = 0
    for c, value in enumerate(row):
        if value > row[best]:
            best = c
    return best


# --- Values ---------------------------------------------------------------------------------------------------


@given(batch=batches())
def test_accuracy_counts_rows_whose_first_largest_output_is_the_labels(batch: tuple[Array, Array]) -> None:
    outputs, labels = batch
    right = 0
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        if first_largest(row) == label:
            right += 1
    assert accuracy(outputs, labels) == right / len(labels)


@given(batch=batches(), data=st.data())
def test_top_k_counts_rows_with_fewer_than_k_larger_outputs(batch: tuple[Array, Array], data: st.DataObject) -> None:
    outputs, labels = batch
    k = data.draw(st.integers(1, outputs.shape[1]))
    right = 0
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        larger = 0
        for value in row:
            if value > row[label]:
                larger += 1
        if larger < k:
            right += 1
    assert top_k_accuracy(outputs, labels, k) == right / len(labels)


@given(batch=batches())
def test_confusion_matrix_counts_pairs(batch: tuple[Array, Array]) -> None:
    outputs, labels = batch
    classes = outputs.shape[1]
    counts = [[0] * classes for _ in range(classes)]
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        counts[label][first_largest(row)] += 1
    matrix = confusion_matrix(outputs, labels)
    assert matrix.dtype.kind == "i"
    assert matrix.tolist() == counts
    assert matrix.trace() / len(labels) == accuracy(outputs, labels)


@given(batch=batches())
def test_top_k_grows_from_accuracy_to_one(batch: tuple[Array, Array]) -> None:
    outputs, labels = batch
    shares = [top_k_accuracy(outputs, labels, k) for k in range(1, outputs.shape[1] + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[0] >= accuracy(outputs, labels)  # a tie for the first place counts as in
    distinct = outputs + np.arange(outputs.shape[1]) / 10
    assert top_k_accuracy(distinct, labels, 1) == accuracy(distinct, labels)


@given(batch=batches())
def test_one_hot_labels_serve_as_class_numbers(batch: tuple[Array, Array]) -> None:
    outputs, labels = batch
    for dtype in (np.float32, np.uint8, np.bool_):
        rows = np.eye(outputs.shape[1], dtype=dtype)[labels]
        for metric in (accuracy, partial(top_k_accuracy, k=1), confusion_matrix):
            np.testing.assert_array_equal(metric(outputs, rows), metric(outputs, labels))


def test_ties() -> None:
    outputs = np.array([[1.0, 2.0, 2.0]])
    assert [accuracy(outputs, np.array([label])) for label in range(3)] == [0, 1, 0]
    assert [top_k_accuracy(outputs, np.array([label]), 1) for label in range(3)] == [0, 1, 1]
    assert [top_k_accuracy(outputs, np.array([label]), 2) for label in range(3)] == [0, 1, 1]


@every_metric
def test_metrics_are_pure_and_plain(metric: Callable[..., object]) -> None:
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(9, 4)), rng.integers(4, size=9)
    before = outputs.tobytes(), labels.tobytes()
    first = metric(outputs, labels)
    assert (outputs.tobytes(), labels.tobytes()) == before
    np.testing.assert_array_equal(metric(outputs, labels), first)
    assert type(first) is (np.ndarray if metric is confusion_matrix else float)


def test_confusion_matrix_of_more_pairs_than_a_small_label_dtype_counts() -> None:
    """label * classes + prediction exceeds what uint8 holds."""
    labels = np.array([19, 19, 0], np.uint8)
    matrix = confusion_matrix(np.eye(20)[[19, 3, 0]], labels)
    assert np.argwhere(matrix).tolist() == [[0, 0], [19, 3], [19, 19]]


# --- Yes or no ------------------------------------------------------------------------------------------------


@given(data=st.data(), threshold=st.sampled_from([0.0, 0.5, -1.0]))
def test_binary_accuracy_counts_answers(data: st.DataObject, threshold: float) -> None:
    shape = data.draw(st.sampled_from([(5,), (4, 1), (3, 2, 2)]))
    outputs = data.draw(arrays(np.float32, shape, elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.nan])))
    targets = data.draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))
    right = 0
    for output, target in zip(outputs.ravel().tolist(), targets.ravel().tolist(), strict=True):
        said = None if np.isnan(output) else output > threshold
        right += said == (target > 0.5)
    assert binary_accuracy(outputs, targets, threshold=threshold) == right / outputs.size
    assert type(binary_accuracy(outputs, targets)) is float


def test_binary_accuracy_of_a_logit_and_its_probability() -> None:
    logits, targets = np.array([[-3.0], [0.1], [2.0], [-0.1]]), np.array([[0], [1], [0], [1]], np.uint8)
    assert binary_accuracy(logits, targets) == 0.5
    assert binary_accuracy(1 / (1 + np.exp(-logits)), targets, threshold=0.5) == 0.5


@pytest.mark.parametrize(
    ("outputs", "targets", "text"),
    [
        (np.ones((0, 1)), np.ones((0, 1)), "expected outputs (n, ...) with n > 0, got (0, 1)"),
        (np.ones((3, 1)), np.ones(3),
         "expected targets of the outputs' shape (3, 1), got (3,). Pass targets[..., None]"),
        (np.ones((3, 2)), np.array([0, 1, 1]),
         "expected targets of the outputs' shape (3, 2), got (3,). For class numbers use accuracy"),
        (np.ones((3, 1)), np.full((3, 1), -0.7),
         "targets must be from 0 to 1, got -0.7 to -0.7. Pass 0 or 1 for no or yes; regression has no accuracy: use "
         "metric=None"),
        (np.ones((1, 1)), np.full((1, 1), np.nan), "targets must be from 0 to 1, got nan to nan"),
    ],
)  # fmt: skip
def test_what_is_no_yes_or_no(outputs: Array, targets: Array, text: str) -> None:
    assert message(ValueError, binary_accuracy, outputs, targets).startswith(f"binary_accuracy: {text}")


def own_loss(outputs: Array, targets: Array) -> tuple[float, Array]:
    return mean_squared_error(outputs, targets)


@pytest.mark.parametrize(
    ("loss", "metric"),
    [
        (softmax_cross_entropy, accuracy),
        (partial(softmax_cross_entropy, label_smoothing=0.1), accuracy),
        (partial(partial(multiclass_hinge, margin=0.5)), accuracy),
        (sigmoid_cross_entropy, binary_accuracy),
        (mean_squared_error, None),
        (own_loss, accuracy),
    ],
)
def test_a_loss_has_its_metric(loss: Loss, metric: object) -> None:
    assert default_metric(loss) is metric


def test_every_loss_has_a_metric_of_its_own() -> None:
    known = {softmax_cross_entropy, multiclass_hinge, sigmoid_cross_entropy, mean_squared_error}
    assert {getattr(losses, name) for name in losses.__all__ if name != "Loss"} == known


# --- Errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "labels", "problem"),
    [
        (np.ones(3), np.zeros(3, int), "expected outputs of shape (n, classes) with n > 0, got (3,)"),
        (np.ones((0, 3)), np.zeros(0, int), "expected outputs of shape (n, classes) with n > 0, got (0, 3)"),
        (np.ones((2, 3)), np.zeros(3, int), "expected labels of shape (2,), one for each output row, got (3,)"),
        (np.ones((2, 3)), np.zeros((2, 1), int), "expected labels of shape (2,), one for each output row, got (2, 1)"),
        (np.ones((2, 3)), np.zeros(2), "labels must be class numbers of an integer dtype, got float64"),
        (np.ones((2, 3)), np.array([0, 3]), "labels must be from 0 to 2, got 0 to 3"),
        (np.ones((2, 3)), np.array([-1, 0]), "labels must be from 0 to 2, got -1 to 0"),
    ],
)
@every_metric
def test_unfit_arguments(metric: Callable[..., object], outputs: Array, labels: Array, problem: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole problem is compared)
        metric(outputs, labels)
    assert str(raised.value).partition(". ")[0] == f"{name_of(metric)}: {problem}"


ONE = "expected outputs for two classes or more, got {}: a choice of one is always right"
SEVERAL = (
    "rows of labels must be distributions, none negative and each adding to 1; got values from {}, sums from {} to {}"
)


@pytest.mark.parametrize(
    ("outputs", "labels", "problem", "fix"),
    [
        (
            np.ones((3, 1)),
            np.zeros(3, int),
            ONE.format((3, 1)),
            "Use binary_accuracy for one output that says yes or no",
        ),
        (np.ones((3, 1)), np.array([[0.3], [2.0], [-1.0]]), ONE.format((3, 1)), "metric=None for regression"),
        (np.ones((2, 3)), np.array([[1, 1, 0], [0, 0, 1]]), SEVERAL.format(0, 1, 2), "use binary_accuracy"),
        (np.ones((2, 3)), np.zeros((2, 3)), SEVERAL.format(0.0, 0.0, 0.0), "use binary_accuracy"),
        (
            np.ones((2, 2)),
            np.array([[2.5, -1.5], [0.0, 1.0]]),
            SEVERAL.format(-1.5, 1.0, 1.0),
            "regression metric=None",
        ),
    ],
)
@every_metric
def test_outputs_of_another_kind_are_told_their_metric(
    metric: Callable[..., object], outputs: Array, labels: Array, problem: str, fix: str
) -> None:
    text = message(ValueError, metric, outputs, labels)
    assert text.startswith(f"{name_of(metric)}: {problem}. ")
    assert fix in text


def test_a_confusion_matrix_is_bounded() -> None:
    outputs = np.zeros((1, MOST_CLASSES + 1), np.float32)
    assert message(ValueError, confusion_matrix, outputs, [0]) == (
        "confusion_matrix: expected at most 5,000 classes, got 5,001, whose matrix would take 0.2 GB. "
        "Use accuracy or top_k_accuracy"
    )
    assert accuracy(outputs, [0]) == 1.0


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole text is compared)
        top_k_accuracy(np.ones((2, 3)), np.array([0, 1]), k)
    assert str(raised.value) == f"top_k_accuracy: k must be from 1 to the 3 classes, got {k}"


def test_a_row_of_nan_has_no_label_among_its_largest() -> None:
    assert top_k_accuracy(np.array([[np.nan, np.nan], [0.0, 1.0]]), np.array([0, 1]), k=1) == 0.5


# --- Not a number ---------------------------------------------------------------------------------------------


def test_a_row_with_a_nan_is_wrong_in_every_metric() -> None:
    outputs = np.array([[np.nan, 0.0], [0.0, np.nan], [1.0, 0.0]])
    for labels in (np.array([0, 1, 0]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])):
        assert accuracy(outputs, labels) == 1 / 3
        assert accuracy(outputs[:2], labels[:2]) == 0
        with pytest.raises(ValueError, match=r"confusion_matrix: 2 rows of outputs have a NaN, and predict no class"):
            confusion_matrix(outputs, labels)


@every_metric
def test_labels_that_are_not_a_number_are_refused(metric: Callable[[Array, Array], object]) -> None:
    with pytest.raises(ValueError, match=f"{name_of(metric)}: labels have a NaN"):
        metric(np.eye(2), np.full((2, 2), np.nan))
