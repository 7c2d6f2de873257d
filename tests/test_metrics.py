"""Metrics against naive loops, on outputs drawn from few values so that ties are common."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from cases import message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from funcnn import losses, metrics
from funcnn.checks import FuncnnWarning
from funcnn.layer import Array
from funcnn.layers import dense
from funcnn.losses import Loss, mean_squared_error, multiclass_hinge, sigmoid_cross_entropy, softmax_cross_entropy
from funcnn.metrics import (
    MOST_CLASSES,
    accuracy,
    average_precision,
    binary_accuracy,
    calibration_error,
    confusion_matrix,
    default_metric,
    f1,
    mae,
    per_class_table,
    perplexity,
    precision,
    r2,
    recall,
    rmse,
    roc_auc,
    top_k_accuracy,
)
from funcnn.metrics.default import _METRICS
from funcnn.optimizers import sgd
from funcnn.train import Problem

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
    assert top_k_accuracy(outputs, labels, k=k) == right / len(labels)


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
    shares = [top_k_accuracy(outputs, labels, k=k) for k in range(1, outputs.shape[1] + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[0] >= accuracy(outputs, labels)  # a tie for the first place counts as in
    distinct = outputs + np.arange(outputs.shape[1]) / 10
    assert top_k_accuracy(distinct, labels, k=1) == accuracy(distinct, labels)


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
    assert [top_k_accuracy(outputs, np.array([label]), k=1) for label in range(3)] == [0, 1, 1]
    assert [top_k_accuracy(outputs, np.array([label]), k=2) for label in range(3)] == [0, 1, 1]


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
    of_losses = {loss for loss, _ in _METRICS}
    assert of_losses == {getattr(losses, name) for name in losses.__all__ if name[0].islower()}


def test_what_a_loss_ignores_its_metric_ignores() -> None:
    loss = partial(partial(softmax_cross_entropy, ignore=-1), label_smoothing=0.1)
    outputs, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, -1, 2, 1])
    metric = default_metric(loss)
    assert metric(outputs, labels) == (2 / 3, 3.0)
    assert metric(outputs, labels, np.array([1, 5, 0, 3])) == (0.25, 4.0)
    assert default_metric(partial(loss, ignore=None)) is accuracy


# --- Weights, sequences ---------------------------------------------------------------------------------------


@given(batch=batches(), data=st.data())
def test_weights_count_rows_several_times(batch: tuple[Array, Array], data: st.DataObject) -> None:
    outputs, labels = batch
    times = data.draw(arrays(np.int64, len(labels), elements=st.integers(0, 3)).filter(np.any))
    repeated = np.repeat(outputs, times, axis=0), np.repeat(labels, times)
    for metric in (accuracy, partial(top_k_accuracy, k=2)):
        value, weight = metric(outputs, labels, times)
        assert (value, weight) == (pytest.approx(metric(*repeated)), times.sum())
    np.testing.assert_array_equal(confusion_matrix(outputs, labels, times), confusion_matrix(*repeated))
    for metric in (f1, precision, recall, partial(f1, average="weighted"), perplexity, calibration_error):
        assert metric(2 * outputs, labels, times) == pytest.approx(
            metric(2 * repeated[0], repeated[1]), rel=1e-12, abs=1e-15
        )
    yes = (labels > 0)[:, None].astype(float)
    value, weight = binary_accuracy(outputs[:, :1], yes, times)
    assert (value, weight) == (
        pytest.approx(binary_accuracy(repeated[0][:, :1], np.repeat(yes, times, axis=0))),
        times.sum(),
    )
    value, weight = mae(outputs[:, 0], labels, times)
    assert value == pytest.approx(mae(repeated[0][:, 0], repeated[1]))
    for metric in (rmse, r2):
        assert metric(outputs[:, 0], labels, times) == pytest.approx(metric(repeated[0][:, 0], repeated[1]))


def test_sequences_are_rows_and_what_is_ignored_is_left_out() -> None:
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(6, 4, 3)), rng.integers(3, size=(6, 4))
    kept = rng.random((6, 4)) < 0.6
    padded = np.where(kept, labels, -1)
    for metric in METRICS:
        np.testing.assert_array_equal(metric(outputs, labels), metric(outputs.reshape(24, 3), labels.ravel()))
    for metric in METRICS[:2]:
        assert metric(outputs, padded, ignore=-1) == (pytest.approx(metric(outputs[kept], labels[kept])), kept.sum())
        assert metric(outputs, np.full((6, 4), -1), ignore=-1) == (0.0, 0.0)
    for metric in (confusion_matrix, f1, perplexity, calibration_error, partial(recall, average="none")):
        np.testing.assert_allclose(metric(outputs, padded, ignore=-1), metric(outputs[kept], labels[kept]), rtol=1e-12)
    answers = np.where(kept[..., None], outputs > 0.5, -1)
    assert binary_accuracy(outputs, answers, threshold=0.5, ignore=-1) == (1.0, 3 * kept.sum())
    assert message(ValueError, accuracy, outputs, labels[:, :3]) == (
        "accuracy: expected labels of shape (6, 4), one for each position, got (6, 3)"
    )


# --- Over a whole part ----------------------------------------------------------------------------------------


@given(batch=batches())
def test_precision_recall_and_f1_count(batch: tuple[Array, Array]) -> None:
    outputs, labels = batch
    said = [first_largest(row) for row in outputs.tolist()]
    each = []
    for c in range(outputs.shape[1]):
        right = sum(1 for s, label in zip(said, labels, strict=True) if s == label == c)
        predicted, support = said.count(c), labels.tolist().count(c)
        each.append((
            right / predicted if predicted else 0.0,
            right / support if support else 0.0,
            2 * right / (predicted + support) if predicted + support else 0.0,
            support,
            predicted + support > 0,
        ))  # fmt: skip
    table = per_class_table(outputs, labels)
    np.testing.assert_allclose([table.precision, table.recall, table.f1, table.support], np.array(each).T[:4])
    there = [row for row in each if row[4]]
    for i, metric in enumerate((precision, recall, f1)):
        np.testing.assert_allclose(metric(outputs, labels, average="none"), [row[i] for row in each])
        assert metric(outputs, labels) == pytest.approx(sum(row[i] for row in there) / len(there))
        assert metric(outputs, labels, average="micro") == pytest.approx(accuracy(outputs, labels))
        weighted = sum(row[i] * row[3] for row in each) / len(labels)
        assert metric(outputs, labels, average="weighted") == pytest.approx(weighted)


def test_a_table_prints_by_name() -> None:
    outputs, labels = np.eye(3)[[0, 1, 1, 2, 2]], np.array([0, 1, 2, 2, 2])
    table = per_class_table(outputs, labels, names=["a", "b", "zebra"])
    assert str(table).splitlines() == [
        "class  precision  recall     f1  support",
        "a         1.0000  1.0000  1.000        1",
        "b         0.5000  1.0000  0.667        1",
        "zebra     1.0000  0.6667  0.800        3",
    ]
    assert message(ValueError, per_class_table, outputs, labels, names=["a"]) == (
        "per_class_table: names must be 3, one for each class, got ['a']"
    )


def test_a_row_of_nan_is_a_miss_and_no_prediction() -> None:
    outputs = np.array([[np.nan, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert precision(outputs, np.array([0, 1, 0]), average="none").tolist() == [1, 1]
    assert recall(outputs, np.array([0, 1, 0]), average="none").tolist() == [0.5, 1]


@given(data=st.data(), n=st.integers(2, 9))
def test_curves_count_pairs_and_thresholds(data: st.DataObject, n: int) -> None:
    scores = data.draw(arrays(np.float64, n, elements=st.integers(-2, 2)))
    yes = data.draw(arrays(np.int64, n, elements=st.integers(0, 1)).filter(lambda a: 0 < a.sum() < len(a)))
    pairs = [(s > t) + (s == t) / 2 for s in scores[yes == 1] for t in scores[yes == 0]]
    assert roc_auc(scores, yes) == pytest.approx(sum(pairs) / len(pairs))
    value, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        said = scores >= threshold
        found = (said & (yes == 1)).sum() / yes.sum()
        value += (found - before) * (said & (yes == 1)).sum() / said.sum()
        before = found
    assert average_precision(scores, yes) == pytest.approx(value)
    for metric in (roc_auc, average_precision):
        assert metric(scores[:, None], yes[:, None]) == metric(scores, yes)
        two = np.stack([np.zeros(n), scores], axis=1)
        assert metric(two, yes) == metric(scores, yes)  # of two classes the second is the yes
        both = np.stack([yes, 1 - yes], axis=1)
        assert metric(np.stack([scores, -scores], axis=1), both, multilabel=True) == pytest.approx(
            (metric(scores, yes) + metric(-scores, 1 - yes)) / 2
        )


def test_several_classes_are_ranked_by_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 3)), rng.integers(3, size=40)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for metric in (roc_auc, average_precision):
        wanted = np.mean([metric(p[:, c], labels == c) for c in range(3)])
        assert metric(logits + 5 * rng.normal(size=(40, 1)), labels) == pytest.approx(wanted)
        assert metric(p, labels, from_logits=False) == pytest.approx(wanted)
        text = (
            f"{metric.__name__}: outputs look like probabilities, not like logits. If they are, pass from_logits=False"
        )
        with pytest.warns(FuncnnWarning, match=text):
            metric(p, labels)
    assert perplexity(p, labels, from_logits=False) == pytest.approx(np.exp(softmax_cross_entropy(logits, labels)[0]))
    assert perplexity(p, labels, from_logits=False) == pytest.approx(perplexity(logits, labels))


def test_probabilities_of_zero_share_a_threshold() -> None:
    p = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    labels = np.array([0, 1, 2, 1, 2, 0])
    for metric in (roc_auc, average_precision):
        wanted = np.mean([metric(p[:, c], labels == c) for c in range(3)])
        for order in (slice(None), slice(None, None, -1)):
            assert metric(p[order], labels[order], from_logits=False) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", [roc_auc, average_precision])
def test_scores_are_ranked_by_value_in_any_dtype(metric: Callable[..., float]) -> None:
    yes, scores = np.array([0, 1, 0, 1, 1]), np.array([0, 1, 1, 3, 2])
    for each in (scores.astype(np.uint8), scores > 1, scores.astype(np.float16)):
        assert metric(each, yes) == metric(each.astype(float), yes)
        two = np.stack([each[::-1], each], axis=1)
        assert metric(two, yes) == metric(two.astype(float), yes)
    far = np.array([[-4e4, 4e4], [-5e4, 5e4], [4e4, -3e4]], np.float16)  # whose differences float16 has not
    assert metric(far, np.array([0, 1, 0])) == 1


def test_calibration_error_is_the_gap_in_each_bin() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1, 1, 1], 200)
    labels = rng.integers(3, size=200)
    total = 0.0
    for b in range(10):
        within = [i for i in range(200) if b / 10 < p[i].max() <= (b + 1) / 10]
        if within:
            right = np.mean([p[i].argmax() == labels[i] for i in within])
            total += len(within) / 200 * abs(right - np.mean([p[i].max() for i in within]))
    assert calibration_error(p, labels, bins=10, from_logits=False) == pytest.approx(total)
    assert calibration_error(np.log(p) + 3, labels, bins=10) == pytest.approx(total)
    assert calibration_error(1e4 * np.eye(3), np.arange(3)) == 0


def test_regression_by_its_formulas() -> None:
    y, t = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0]]), np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]])
    assert r2(y, t) == pytest.approx((1 - 2 / 2 + 1) / 2)  # a constant column that is met counts 1
    assert r2(y + [0, 1], t) == pytest.approx((0 + 0) / 2)
    tenths = np.full(3, 0.1)  # whose mean in floats is not 0.1
    assert r2(tenths, tenths) == 1
    assert r2(tenths + [0, 0, 1], tenths) == 0
    assert r2(tenths + [0, 0, 1], tenths * [1, 1, 7], [1, 1, 0]) == 1  # what does not count does not vary
    assert rmse(y, t) == pytest.approx((2 / 6) ** 0.5)
    assert mae(y, t) == pytest.approx(2 / 6)


MEANS = (accuracy, binary_accuracy, mae, top_k_accuracy, None, own_loss)
OVER_PART = (
    average_precision, calibration_error, confusion_matrix, f1, per_class_table, perplexity, precision, r2, recall,
    rmse, roc_auc,
)  # fmt: skip


def test_metrics_over_a_part_are_no_means_over_batches() -> None:
    problem_of = partial(Problem, dense(2), softmax_cross_entropy, sgd(0.1))
    for metric in MEANS:
        assert problem_of(metric).metric is metric
    for metric in OVER_PART:
        assert message(ValueError, problem_of, metric) == (
            f"Problem: {metric.__name__} is no mean over examples, so that a mean of its values over batches says "
            f"nothing. Predict the whole part, then {metric.__name__}(outputs, targets)"
        )
    assert message(ValueError, problem_of, partial(f1, average="micro")).endswith("then f1(outputs, targets)")
    listed = {each for name in metrics.__all__ if name.islower() for each in [getattr(metrics, name)]}
    assert listed - {default_metric} == {*MEANS[:4], *OVER_PART}


@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "problem"),
    [
        (roc_auc, np.ones(3), np.ones(3), "roc_auc: a class without examples, or without others, has no curve"),
        (average_precision, np.ones(3), np.zeros(3), "average_precision: a class without examples has no recall"),
        (roc_auc, np.array([1.0, np.nan]), np.array([0, 1]), "roc_auc: outputs have 1 values that are not finite"),
        (roc_auc, np.ones(2), np.array([0, 2]), "roc_auc: targets must be 0 or 1, got 0 to 2"),
        (f1, np.ones(3), np.ones(3), "f1: outputs (3,) are for one class"),
        (partial(f1, average="mean"), np.eye(2), np.arange(2),
         "f1: average must be 'macro', 'weighted', 'micro' or 'none', got 'mean'"),
        (partial(perplexity, from_logits=False), 2 * np.eye(2), np.arange(2),
         "perplexity: outputs must be probabilities, none negative and each row adding to 1; got values from 0.0, "
         "sums from 2.0 to 2.0"),
        (partial(calibration_error, bins=0), np.eye(2), np.arange(2),
         "calibration_error: bins must be an int of at least 1, got 0"),
        (r2, np.ones(3), np.ones(4), "r2: expected targets of the outputs' shape (3,), got (4,)"),
    ],
)  # fmt: skip
def test_what_metrics_over_a_part_refuse(metric: object, outputs: Array, targets: Array, problem: str) -> None:
    assert message(ValueError, metric, outputs, targets).partition(". ")[0] == problem


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
        top_k_accuracy(np.ones((2, 3)), np.array([0, 1]), k=k)
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
