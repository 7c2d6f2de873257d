"""Losses: values against naive formulas in plain Python, gradients against finite differences, and the contract."""

import inspect
import itertools
import math
from collections.abc import Callable
from functools import partial

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from funcnn import Key, layers, losses, serial
from funcnn.data import one_hot
from funcnn.layer import Array
from funcnn.losses import (
    Loss,
    cosine_distance,
    ctc,
    gaussian_kl,
    gaussian_nll,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    multiclass_hinge,
    poisson,
    quantile,
    sigmoid_cross_entropy,
    sigmoid_focal,
    smooth_hinge,
    softmax_cross_entropy,
    softmax_focal,
    squared_hinge,
    triplet,
)

# --- Naive formulas, of one example (a list of numbers) and its target ----------------------------------------


def naive_cross_entropy(logits: list[float], label: int | list[float], smoothing: float = 0.0) -> float:
    classes = len(logits)
    target = label if isinstance(label, list) else [float(c == label) for c in range(classes)]
    target = [(1 - smoothing) * t + smoothing / classes for t in target]
    total = math.fsum(math.exp(x) for x in logits)
    return -math.fsum(t * math.log(math.exp(x) / total) for t, x in zip(target, logits, strict=True))


def naive_hinge(scores: list[float], label: int, margin: float = 1.0) -> float:
    return math.fsum(max(0.0, s - scores[label] + margin) for c, s in enumerate(scores) if c != label)


def naive_squared_error(outputs: list[float], targets: list[float]) -> float:
    return math.fsum((y - t) ** 2 for y, t in zip(outputs, targets, strict=True)) / len(outputs)


def naive_sigmoid_cross_entropy(logits: list[float], targets: list[float]) -> float:
    def term(x: float, t: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return -t * math.log(p) - (1 - t) * math.log(1 - p)

    return math.fsum(term(x, t) for x, t in zip(logits, targets, strict=True)) / len(logits)


def naive_by_value(term: Callable[[float, float], float]) -> Callable[..., float]:
    """The mean of a term of each output and its target."""
    return lambda outputs, targets: math.fsum(map(term, outputs, targets)) / len(outputs)


def naive_sequence(logits: list[float], labels: list[int]) -> float:
    """The mean cross-entropy over the positions of one sequence, its logits in one row."""
    classes = len(logits) // len(labels)
    rows = [logits[i * classes : (i + 1) * classes] for i in range(len(labels))]
    return math.fsum(map(naive_cross_entropy, rows, labels)) / len(labels)


def naive_softmax_focal(logits: list[float], label: int, gamma: float = 2.0) -> float:
    p = math.exp(-naive_cross_entropy(logits, label))
    return -((1 - p) ** gamma) * math.log(p)


def naive_kl_divergence(logits: list[float], target: list[float]) -> float:
    return naive_cross_entropy(logits, target) + math.fsum(t * math.log(t) for t in target if t > 0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def sigmoid_focal_term(x: float, t: float, alpha: float = 0.25) -> float:
    p = sigmoid(x)
    return -alpha * t * (1 - p) ** 2 * math.log(p) - (1 - alpha) * (1 - t) * p**2 * math.log(1 - p)


def huber_term(y: float, t: float, delta: float) -> float:
    e = abs(y - t)
    return e**2 / 2 if e <= delta else delta * (e - delta / 2)


def smooth_hinge_term(x: float, t: float) -> float:
    z = x * (2 * t - 1)
    return 0.5 - z if z <= 0 else max(0.0, 1 - z) ** 2 / 2


def naive_gaussian(outputs: list[float], target: float) -> float:
    mean, log_variance = outputs
    density = math.exp(-((target - mean) ** 2) / (2 * math.exp(log_variance))) / math.exp(log_variance / 2)
    return -math.log(density)


def naive_gaussian_kl(outputs: list[float], targets: list[float]) -> float:
    """The expectation of log p - log q under p, by the trapezoid rule over what both distributions reach."""
    half, total = len(outputs) // 2, 0.0
    for m, v, t, s in zip(outputs[:half], outputs[half:], targets[:half], targets[half:], strict=True):
        x = m + math.exp(v / 2) * np.linspace(-12, 12, 4001)
        log_p, log_q = (-((x - mean) ** 2) / math.exp(log_v) / 2 - log_v / 2 for mean, log_v in ((m, v), (t, s)))
        total += float(np.trapezoid(np.exp(log_p) * (log_p - log_q), x)) / math.sqrt(2 * math.pi)
    return total


def naive_cosine(outputs: list[float], target: list[float]) -> float:
    return 1 - math.fsum(x * t for x, t in zip(outputs, target, strict=True)) / math.hypot(*outputs) / math.hypot(
        *target
    )


def naive_triplet(three: list[float], _: float, power: int = 1) -> float:
    size = len(three) // 3
    a, p, q = three[:size], three[size : 2 * size], three[2 * size :]
    return max(0.0, math.dist(a, p) ** power - math.dist(a, q) ** power + 1)


def naive_ctc(logits: list[float], labels: list[int], time: int = 4) -> float:
    """The sum over all paths, one by one."""
    classes = len(logits) // time
    rows = [logits[i * classes : (i + 1) * classes] for i in range(time)]
    total = 0.0
    for path in itertools.product(range(classes), repeat=time):
        spelled = [label for label, _ in itertools.groupby(path) if label != 0]
        if spelled == [label for label in labels if label >= 0]:
            total += math.exp(-math.fsum(map(naive_cross_entropy, rows, path)))
    return -math.log(total)


def per_example(values: Array) -> list:
    """A batch as a list of examples, each a flat list of numbers, or a number."""
    return values.tolist() if values.ndim == 1 else values.reshape(len(values), -1).tolist()


# --- The one list of losses -----------------------------------------------------------------------------------


@attrs.frozen
class Case:
    """A loss with its settings, the naive formula of one example, and data away from the loss's kinks."""

    loss: Loss
    naive: Callable[..., float]
    outputs: Array
    targets: Array

    @property
    def name(self) -> str:
        return getattr(self.loss, "func", self.loss).__name__

    def __str__(self) -> str:
        settings = [f"{key}={value}" for key, value in getattr(self.loss, "keywords", {}).items()]
        return " ".join([self.name, *settings, f"{self.outputs.shape}-{self.targets.shape}"])


def gaussian(*shape: int) -> Array:
    return np.random.default_rng(shape).normal(scale=1.5, size=shape)


def class_numbers(n: int, classes: int) -> Array:
    return np.random.default_rng(n).integers(classes, size=n)


def probabilities(*shape: int) -> Array:
    return np.random.default_rng(shape).uniform(size=shape)


def distributions(n: int, classes: int) -> Array:
    rows = probabilities(n, classes)
    return rows / rows.sum(axis=1, keepdims=True)


BITS = class_numbers(18, 2).reshape(6, 3)
SPELLED = np.array([[1, 2, 3], [1, 1, 2], [3, -1, -1], [2, 2, -1], [-1, -1, -1], [3, 1, 3]])  # repeats, and none

CASES = [
    Case(softmax_cross_entropy, naive_cross_entropy, gaussian(7, 5), class_numbers(7, 5)),
    Case(softmax_cross_entropy, naive_cross_entropy, gaussian(1, 3), class_numbers(1, 3)),
    Case(softmax_cross_entropy, naive_cross_entropy, gaussian(4, 1), class_numbers(4, 1)),
    Case(softmax_cross_entropy, naive_cross_entropy, gaussian(7, 5), distributions(7, 5)),
    *[
        Case(
            partial(softmax_cross_entropy, label_smoothing=smoothing),
            partial(naive_cross_entropy, smoothing=smoothing),
            gaussian(6, 4),
            labels,
        )
        for smoothing in (0.1, 1.0)
        for labels in (class_numbers(6, 4), distributions(6, 4))
    ],
    Case(multiclass_hinge, naive_hinge, gaussian(7, 5), class_numbers(7, 5)),
    Case(multiclass_hinge, naive_hinge, gaussian(4, 1), class_numbers(4, 1)),
    Case(partial(multiclass_hinge, margin=0.3), partial(naive_hinge, margin=0.3), gaussian(7, 5), class_numbers(7, 5)),
    Case(mean_squared_error, naive_squared_error, gaussian(5, 3), gaussian(3, 5).T),
    Case(mean_squared_error, naive_squared_error, gaussian(2, 3, 4, 2), probabilities(2, 3, 4, 2)),
    Case(sigmoid_cross_entropy, naive_sigmoid_cross_entropy, gaussian(6, 3), probabilities(6, 3)),
    Case(sigmoid_cross_entropy, naive_sigmoid_cross_entropy, gaussian(6, 3), class_numbers(18, 2).reshape(6, 3)),
    Case(sigmoid_cross_entropy, naive_sigmoid_cross_entropy, gaussian(2, 3, 3, 1), probabilities(2, 3, 3, 1)),
    Case(softmax_cross_entropy, naive_sequence, gaussian(3, 4, 5), class_numbers(12, 5).reshape(3, 4)),
    Case(softmax_focal, naive_softmax_focal, gaussian(7, 5), class_numbers(7, 5)),
    Case(
        partial(softmax_focal, gamma=0.5), partial(naive_softmax_focal, gamma=0.5), gaussian(7, 5), class_numbers(7, 5)
    ),
    Case(kl_divergence, naive_kl_divergence, gaussian(7, 5), distributions(7, 5)),
    Case(partial(sigmoid_focal, alpha=0.25), naive_by_value(sigmoid_focal_term), gaussian(6, 3), probabilities(6, 3)),
    Case(hinge, naive_by_value(lambda x, t: max(0.0, 1 - (2 * t - 1) * x)), gaussian(6, 3), BITS),
    Case(squared_hinge, naive_by_value(lambda x, t: max(0.0, 1 - (2 * t - 1) * x) ** 2), gaussian(6, 3), BITS),
    Case(smooth_hinge, naive_by_value(smooth_hinge_term), gaussian(6, 3), BITS),
    Case(mean_absolute_error, naive_by_value(lambda y, t: abs(y - t)), gaussian(5, 3), gaussian(3, 5).T),
    Case(
        partial(huber, delta=0.7),
        naive_by_value(partial(huber_term, delta=0.7)),
        gaussian(5, 2, 3),
        gaussian(2, 5, 3).swapaxes(0, 1),
    ),
    Case(log_cosh, naive_by_value(lambda y, t: math.log(math.cosh(y - t))), gaussian(5, 3), gaussian(3, 5).T),
    Case(
        partial(quantile, q=0.8),
        naive_by_value(lambda y, t: max(0.8 * (t - y), -0.2 * (t - y))),
        gaussian(5, 3),
        gaussian(3, 5).T,
    ),
    Case(poisson, naive_by_value(lambda x, t: math.exp(x) - t * x), gaussian(5, 3), class_numbers(15, 9).reshape(5, 3)),
    Case(
        partial(poisson, log_input=False),
        naive_by_value(lambda x, t: x - t * math.log(x + 1e-8)),
        probabilities(5, 3) + 0.1,
        class_numbers(15, 9).reshape(5, 3),
    ),
    Case(gaussian_nll, naive_gaussian, gaussian(6, 2), gaussian(6)),
    Case(gaussian_kl, naive_gaussian_kl, gaussian(6, 4), gaussian(4, 6).T),
    Case(cosine_distance, naive_cosine, gaussian(6, 4), gaussian(4, 6).T),
    Case(triplet, naive_triplet, gaussian(6, 3, 4), np.zeros(6)),
    Case(partial(triplet, squared=True), partial(naive_triplet, power=2), gaussian(6, 3, 4), np.zeros(6)),
    Case(ctc, naive_ctc, gaussian(6, 4, 4), SPELLED),
]

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_public_loss_is_on_the_list() -> None:
    public = {name: getattr(losses, name) for name in losses.__all__}
    returns = {
        name: inspect.signature(each).return_annotation for name, each in public.items() if inspect.isfunction(each)
    }
    assert {name for name, kind in returns.items() if kind == losses.Result} == {case.name for case in CASES}


@every_case
def test_value_is_the_mean_of_the_naive_formula(case: Case) -> None:
    terms = [case.naive(*pair) for pair in zip(per_example(case.outputs), per_example(case.targets), strict=True)]
    value, _ = case.loss(case.outputs, case.targets)
    assert value == pytest.approx(math.fsum(terms) / len(terms), rel=1e-13, abs=1e-15)


@every_case
def test_gradient_is_that_of_finite_differences(case: Case) -> None:
    step = 1e-5
    _, d_outputs = case.loss(case.outputs, case.targets)
    numeric = np.empty_like(case.outputs)
    for i in np.ndindex(case.outputs.shape):
        sides = []
        for sign in (1, -1):
            moved = case.outputs.copy()
            moved[i] += sign * step
            sides.append(case.loss(moved, case.targets)[0])
        numeric[i] = (sides[0] - sides[1]) / (2 * step)
    # What the central difference itself is off by, h² f''' / 6 + u f / h, is about 1e-10.
    np.testing.assert_allclose(d_outputs, numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@every_case
def test_value_is_a_float_and_the_gradient_has_the_outputs_form(case: Case, dtype: type) -> None:
    outputs = case.outputs.astype(dtype)
    value, d_outputs = case.loss(outputs, case.targets)
    assert type(value) is float
    assert d_outputs.dtype == dtype
    assert d_outputs.shape == outputs.shape
    exact, d_exact = case.loss(case.outputs, case.targets)
    assert value == pytest.approx(exact, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(d_outputs, d_exact, rtol=1e-4, atol=1e-6)


@every_case
def test_loss_is_pure(case: Case) -> None:
    outputs, targets = case.outputs.copy(), case.targets.copy()
    first, d_first = case.loss(outputs, targets)
    again, d_again = case.loss(outputs, targets)
    assert outputs.tobytes() == case.outputs.tobytes()
    assert targets.tobytes() == case.targets.tobytes()
    assert first == again
    assert d_first.tobytes() == d_again.tobytes()
    assert not np.shares_memory(d_first, outputs)


@every_case
def test_arguments_may_be_read_only_and_of_any_layout(case: Case) -> None:
    wanted, d_wanted = case.loss(case.outputs, case.targets)
    outputs = np.repeat(case.outputs, 2, axis=-1)[..., ::2]
    targets = np.asfortranarray(case.targets)
    outputs.flags.writeable = targets.flags.writeable = False
    value, d_outputs = case.loss(outputs, targets)
    assert value == pytest.approx(wanted, rel=1e-14)
    np.testing.assert_allclose(d_outputs, d_wanted, rtol=1e-14)


@every_case
def test_loss_is_a_mean_over_the_batch(case: Case) -> None:
    """Twice the batch has the same mean, and each example half its share; a single example has its own."""
    value, d_outputs = case.loss(case.outputs, case.targets)
    twice, d_twice = case.loss(np.concatenate([case.outputs] * 2), np.concatenate([case.targets] * 2))
    assert twice == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(d_twice, np.concatenate([d_outputs] * 2) / 2, rtol=1e-14)
    alone = [case.loss(case.outputs[i : i + 1], case.targets[i : i + 1]) for i in range(len(case.outputs))]
    assert value == pytest.approx(math.fsum(each for each, _ in alone) / len(alone), rel=1e-13, abs=1e-15)
    np.testing.assert_allclose(
        d_outputs, np.concatenate([gradient for _, gradient in alone]) / len(alone), rtol=1e-13, atol=1e-16
    )


# --- Weights and reductions -----------------------------------------------------------------------------------


@every_case
def test_weights_count_examples_several_times(case: Case) -> None:
    times = np.arange(len(case.outputs)) % 3  # the first not at all
    if len(times) == 1:
        times = np.array([2])
    value, d_outputs, weight = case.loss(case.outputs, case.targets, times)
    wanted, d_wanted = case.loss(np.repeat(case.outputs, times, axis=0), np.repeat(case.targets, times, axis=0))
    assert (type(value), weight) == (float, times.sum())
    assert value == pytest.approx(wanted, rel=1e-13, abs=1e-15)
    summed = np.zeros_like(case.outputs)
    np.add.at(summed, np.repeat(np.arange(len(times)), times), d_wanted)
    np.testing.assert_allclose(d_outputs, summed, rtol=1e-12, atol=1e-15)
    # What has no weight may be anything.
    wild = case.outputs.copy()
    wild[times == 0] = np.nan
    again, d_again, _ = case.loss(wild, case.targets, times) if case.name != "poisson" else (value, d_outputs, weight)
    assert again == value
    np.testing.assert_array_equal(d_again, d_outputs)


@every_case
def test_no_weight_at_all_gives_nothing(case: Case) -> None:
    value, d_outputs, weight = case.loss(case.outputs, case.targets, np.zeros(len(case.outputs)))
    assert (value, weight) == (0.0, 0.0)
    np.testing.assert_array_equal(d_outputs, np.zeros_like(case.outputs), strict=True)


@every_case
def test_the_sum_and_the_terms_make_the_mean(case: Case) -> None:
    mean, d_mean = case.loss(case.outputs, case.targets)
    value, d_sum = case.loss(case.outputs, case.targets, reduction="sum")
    terms, slopes = case.loss(case.outputs, case.targets, reduction="none")
    assert (terms.dtype, terms.shape) == (case.outputs.dtype, case.outputs.shape[: terms.ndim])
    assert float(terms.sum()) == pytest.approx(value, rel=1e-13, abs=1e-15)
    assert mean == pytest.approx(value / terms.size, rel=1e-13, abs=1e-15)
    np.testing.assert_allclose(slopes / terms.size, d_mean, rtol=1e-12, atol=1e-16)
    np.testing.assert_array_equal(slopes, d_sum, strict=True)
    # With weights each term has its own; those of the leading axes serve all terms behind them.
    weights = probabilities(len(terms))
    along = weights.reshape(-1, *[1] * (terms.ndim - 1))
    weighed, _ = case.loss(case.outputs, case.targets, weights, reduction="none")
    np.testing.assert_allclose(weighed, terms * along, rtol=1e-13)
    every = np.broadcast_to(along, terms.shape)
    by_example, d_by_example, weight = case.loss(case.outputs, case.targets, weights)
    by_term, d_by_term, all_weight = case.loss(case.outputs, case.targets, every)
    assert by_example == pytest.approx(by_term, rel=1e-13)
    assert weight * (terms.size // len(terms)) == pytest.approx(all_weight, rel=1e-13)
    np.testing.assert_allclose(d_by_example, d_by_term, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("loss", [softmax_cross_entropy, softmax_focal, multiclass_hinge])
def test_class_weights_and_ignored_labels_are_weights(loss: Loss) -> None:
    by_class = np.array([0.5, 0.0, 2.0, 1.0, 0.25])
    scores, labels = gaussian(4, 3, 5), class_numbers(12, 5).reshape(4, 3)
    wanted = loss(scores, labels, by_class[labels])
    for weights in (by_class, tuple(by_class), by_class.tolist()):
        made = loss(scores, labels, class_weights=weights)
        np.testing.assert_allclose(made[0], wanted[0], rtol=1e-13)
        np.testing.assert_allclose(made[1], wanted[1], rtol=1e-12, atol=1e-17)
        assert made[2] == pytest.approx(wanted[2])
    kept = probabilities(4, 3) > 0.4
    ignoring = loss(scores, np.where(kept, labels, 99), ignore=99, class_weights=by_class)
    wanted = loss(scores[kept], labels[kept], class_weights=by_class)
    assert ignoring[0] == pytest.approx(wanted[0], rel=1e-13)
    assert ignoring[2] == pytest.approx(wanted[2], rel=1e-13)
    np.testing.assert_allclose(ignoring[1][kept], wanted[1], rtol=1e-12, atol=1e-17)
    assert not ignoring[1][~kept].any()
    value, d_scores, weight = loss(scores, np.full((4, 3), -1), ignore=-1)
    assert (value, weight, d_scores.any()) == (0.0, 0.0, False)
    assert loss(scores, labels, ignore=-1)[2] == 12  # three are returned always, for an option


def test_a_class_of_weight_zero_counts_nothing_even_if_it_is_impossible() -> None:
    logits, labels = np.array([[1.0, -np.inf], [0.0, 1.0]]), np.array([1, 0])
    value, d_logits, weight = softmax_cross_entropy(logits, labels, class_weights=[1.0, 0.0])
    wanted = softmax_cross_entropy(logits[1:], labels[1:])
    assert (value, weight) == (wanted[0], 1.0)
    np.testing.assert_array_equal(d_logits, [[0, 0], wanted[1][0]])
    # Of nothing that counts the mean is 0, and so are the slopes, whatever the logits are.
    value, d_logits, weight = softmax_cross_entropy(np.full((2, 2), np.nan), labels, class_weights=[0.0, 0.0])
    assert (value, weight) == (0.0, 0.0)
    np.testing.assert_array_equal(d_logits, np.zeros((2, 2)))
    terms, _ = softmax_cross_entropy(logits, labels, class_weights=[1.0, 0.0], reduction="none")[:2]
    assert not np.signbit(terms).any()  # 0, and not -0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_of_one_hot_rows_are_those_of_labels(smoothing: float) -> None:
    logits, labels, by_class = gaussian(7, 5), class_numbers(7, 5), (0.5, 0.0, 2.0, 1.0, 3.0)
    loss = partial(softmax_cross_entropy, label_smoothing=smoothing, class_weights=by_class)
    for one, other in zip(loss(logits, labels), loss(logits, np.eye(5)[labels]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-17)
    # By the formula, in plain numbers: PyTorch's mean over the labels' weights.
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    wanted = -(targets * by_class * log_p).sum() / np.array(by_class)[labels].sum()
    assert loss(logits, labels)[0] == pytest.approx(wanted, rel=1e-13)


def test_sequences_are_rows_one_after_the_other() -> None:
    logits, labels = gaussian(4, 3, 5), class_numbers(12, 5).reshape(4, 3)
    for loss in (softmax_cross_entropy, softmax_focal, multiclass_hinge, partial(softmax_cross_entropy, ignore=2)):
        for targets in (labels, np.asfortranarray(labels)):
            value, d_logits, *_ = loss(logits, targets)
            flat, d_flat, *_ = loss(logits.reshape(12, 5), labels.reshape(12))
            assert value == flat
            np.testing.assert_array_equal(d_logits, d_flat.reshape(4, 3, 5), strict=True)
    rows = distributions(12, 5)
    for loss in (softmax_cross_entropy, kl_divergence, cosine_distance):
        assert loss(logits, rows.reshape(4, 3, 5))[0] == loss(logits.reshape(12, 5), rows)[0]


# --- The whole range ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@every_case
def test_large_outputs_overflow_nowhere(case: Case, dtype: type) -> None:
    """Warnings are errors in these tests. Likelihoods of exp(10,000) are infinite, and no loss of logits."""
    if case.name in ("poisson", "gaussian_kl", "gaussian_nll"):
        return
    for outputs in (np.sign(case.outputs) * 1e4, np.zeros_like(case.outputs), case.outputs):
        value, d_outputs = case.loss(outputs.astype(dtype), case.targets)
        assert math.isfinite(value)
        assert d_outputs.dtype == dtype
        assert np.isfinite(d_outputs).all()
        exact, d_exact = case.loss(outputs.astype(dtype).astype(np.float64), case.targets)
        tolerance = {np.float16: 5e-3, np.float32: 1e-5, np.float64: 0}[dtype]
        assert value == pytest.approx(exact, rel=tolerance, abs=tolerance)
        np.testing.assert_allclose(d_outputs, d_exact, rtol=4 * tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "slopes"),
    [
        (mean_absolute_error, [1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [1, 0, -1]),
        (partial(huber, delta=0.5), [0.5, -0.5, 0.75], [0.0, 0.0, 0.0], [0.5, -0.5, 0.5]),
        (partial(quantile, q=0.75), [0.0, 1.0, -1.0], [0.0, 0.0, 0.0], [0, 0.25, -0.75]),
        (hinge, [1.0, -1.0, 0.5], [1, 0, 1], [0, 0, -1]),
        (squared_hinge, [1.0, -1.0, 0.5], [1, 0, 1], [0, 0, -1]),
        (smooth_hinge, [1.0, 0.0, -1.0], [1, 1, 0], [0, -1, 0]),
        # At the margin a triplet counts; two equal points have no slope.
        (triplet, [[[0.0], [1.0], [2.0]], [[1.0], [1.0], [1.5]]], [0, 0], [[[0], [1], [-1]], [[1], [0], [-1]]]),
        (cosine_distance, [[0.0, 0.0]], [[3.0, 4.0]], [[-0.6, -0.8]]),
    ],
)  # fmt: skip
def test_slopes_at_kinks(loss: Loss, outputs: list, targets: list, slopes: list) -> None:
    _, d_outputs = loss(np.array(outputs), np.array(targets), reduction="none")
    np.testing.assert_array_equal(d_outputs, slopes)


def test_log_cosh_keeps_its_digits_near_zero_and_far_away() -> None:
    for error, wanted in ((1e-9, 5e-19), (1e-3, math.log(math.cosh(1e-3))), (800.0, 800 - math.log(2))):
        assert log_cosh(np.array([error]), np.array([0.0]))[0] == pytest.approx(wanted, rel=1e-9, abs=0)


def test_focal_losses_without_focus_are_cross_entropies() -> None:
    logits, labels = gaussian(7, 5), class_numbers(7, 5)
    for made, wanted in (
        (softmax_focal(logits, labels, gamma=0.0), softmax_cross_entropy(logits, labels)),
        (sigmoid_focal(gaussian(6, 3), BITS, gamma=0), sigmoid_cross_entropy(gaussian(6, 3), BITS)),
    ):
        assert made[0] == pytest.approx(wanted[0], rel=1e-14)
        np.testing.assert_allclose(made[1], wanted[1], rtol=1e-12, atol=1e-16)


# --- Triplets and paths ---------------------------------------------------------------------------------------


def test_triplets_may_be_three_arrays() -> None:
    three = gaussian(6, 3, 4)
    value, d_three = triplet(three)
    apart, d_apart = triplet(tuple(three.transpose(1, 0, 2)))
    assert apart == value
    assert type(d_apart) is tuple
    np.testing.assert_array_equal(np.stack(d_apart, axis=1), d_three)


def test_ctc_counts_the_steps_that_there_are() -> None:
    logits, steps = gaussian(6, 7, 4), np.array([7, 5, 4, 7, 3, 6])
    for blank, labels in ((0, SPELLED), (2, np.where(SPELLED == 2, 0, SPELLED))):
        value, d_logits = ctc(logits, (labels, steps), blank=blank, reduction="none")
        for i, count in enumerate(steps):
            alone, d_alone = ctc(logits[i : i + 1, :count], labels[i : i + 1], blank=blank)
            assert value[i] == pytest.approx(alone, rel=1e-12)
            np.testing.assert_allclose(d_logits[i, :count], d_alone[0], rtol=1e-11, atol=1e-14)
            assert not d_logits[i, count:].any()


def test_ctc_of_certain_steps() -> None:
    """One path alone, however long: its likelihood is 1, and others of logits 10,000 apart underflow to nothing."""
    path = np.array([0, 1, 1, 0, 1, 2, 2, 0] * 40)
    logits = 1e4 * np.eye(4)[path][None]
    labels = np.array([[1, 1, 2] * 40])
    value, d_logits = ctc(logits, labels)
    assert value == 0
    assert np.abs(d_logits).max() == 0
    wrong, _ = ctc(logits, np.array([[3]]))
    assert wrong == pytest.approx(1e4 * np.count_nonzero(path), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "steps", "text"),
    [
        ([[1, 1]], None, "ctc: example 0 has 2 labels and 1 repeats, and 2 steps, too few for any path. Leave such "),
        ([[1, 2]], [1], "ctc: example 0 has 2 labels and 0 repeats, and 1 steps, too few for any path. Leave such "),
        ([[1, 0]], None, "ctc: labels must be from 0 to 2 and not the blank, 0, got 0. Fill up by padding=-1"),
        ([[3, -1]], None, "ctc: labels must be from 0 to 2 and not the blank, 0, got 3. Fill up by padding=-1"),
        ([[-1, 1]], None, "ctc: labels must be filled up with padding=-1 at the end of a row, got it before"),
        ([[1.0]], None, "ctc: expected labels of shape (1, length), class numbers of an integer dtype, got float64"),
        ([[1]], [3], "ctc: steps must be 1 whole numbers from 1 to the 2 steps of the outputs, got an array int64"),
    ],
)  # fmt: skip
def test_what_ctc_refuses(labels: list, steps: list | None, text: str) -> None:
    targets = np.array(labels) if steps is None else (np.array(labels), np.array(steps))
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the text is compared)
        ctc(np.zeros((1, 2, 3)), targets)
    assert str(raised.value).startswith(text)


# --- Softmax cross-entropy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [class_numbers(7, 5), distributions(7, 5)], ids=["numbers", "distributions"])
@pytest.mark.parametrize("shift", [-700.0, 3.0, 1e4])
def test_softmax_cross_entropy_is_invariant_to_a_shift(shift: float, labels: Array) -> None:
    logits = np.round(gaussian(7, 5) * 2**20) / 2**20  # so that adding the shift rounds nothing away
    value, d_logits = softmax_cross_entropy(logits, labels, label_smoothing=0.1)
    moved, d_moved = softmax_cross_entropy(logits + shift, labels, label_smoothing=0.1)
    assert moved == value
    assert d_moved.tobytes() == d_logits.tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("loss", [softmax_cross_entropy, multiclass_hinge])
def test_labels_of_any_integer_dtype(loss: Loss, dtype: type) -> None:
    wanted, d_wanted = loss(gaussian(7, 5), class_numbers(7, 5))
    value, d_outputs = loss(gaussian(7, 5), class_numbers(7, 5).astype(dtype))
    assert value == wanted
    assert d_outputs.tobytes() == d_wanted.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_numbers_equal_one_hot_rows(smoothing: float, dtype: type) -> None:
    logits, labels = gaussian(7, 5), class_numbers(7, 5)
    value, d_logits = softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    rows = np.eye(5, dtype=dtype)[labels]
    same, d_same = softmax_cross_entropy(logits, rows, label_smoothing=smoothing)
    assert same == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(d_same, d_logits, rtol=1e-14, atol=1e-17)


def test_full_smoothing_forgets_the_labels() -> None:
    logits = gaussian(6, 4)
    smooth = partial(softmax_cross_entropy, logits, label_smoothing=1.0)
    value, _ = smooth(np.zeros(6, np.int64))
    assert smooth(np.full(6, 3))[0] == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1e30), (np.float64, 1e300)], ids=["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy_is_finite_for_huge_logits(dtype: type, huge: float, smoothing: float) -> None:
    """Warnings are errors in these tests, so an overflow on the way would show as well."""
    logits = np.array([[huge, -huge, 0.0], [-huge, huge, huge], [-huge, -huge, -huge]], dtype)
    numbers = np.array([0, 0, 2])
    for labels in (numbers, np.eye(3)[numbers]):
        value, d_logits = softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
        off = smoothing / 3
        # Row by row: -log p is 0 but for its smoothed share; 2 huge; log 3.
        wanted = (off * 3 + (1 - smoothing) * 2 + off * 2) * huge / 3
        assert value == pytest.approx(wanted, rel=1e-6)
        p = np.array([[1, 0, 0], [0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
        np.testing.assert_allclose(d_logits, (p - (1 - smoothing) * np.eye(3)[numbers] - off) / 3, atol=1e-6)


def test_certain_and_right_costs_nothing() -> None:
    value, d_logits = softmax_cross_entropy(np.array([[1000.0, 0.0]]), np.array([0]))
    assert value == 0
    assert not d_logits.any()


logit_rows = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-50, 50))


@given(logits=logit_rows, data=st.data())
def test_softmax_cross_entropy_gradient_is_a_difference_of_distributions(logits: Array, data: st.DataObject) -> None:
    n, classes = logits.shape
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    value, d_logits = softmax_cross_entropy(logits, labels)
    assert value >= 0
    np.testing.assert_allclose(d_logits.sum(axis=1), 0, atol=1e-15)
    assert np.abs(d_logits).sum() <= 2 + 1e-12
    own = d_logits[np.arange(n), labels]
    assert (own <= 1e-16).all()  # the label's logit is never pushed down
    assert np.count_nonzero(d_logits < -1e-16) <= n


# --- Hinge ----------------------------------------------------------------------------------------------------


def test_hinge_at_the_margin_counts_nothing() -> None:
    # Distances from the label's score: exactly the margin, a little more, less, and the label itself.
    scores = np.array([[1.0, 0.75, 2.0, 2.0]])
    value, d_scores = multiclass_hinge(scores, np.array([2]))
    assert value == 1.0  # class 3 alone
    np.testing.assert_array_equal(d_scores, [[0, 0, -1, 1]])


def test_hinge_gradient_counts_the_classes_within_the_margin() -> None:
    value, d_scores = multiclass_hinge(np.array([[0.0, 0.5, 0.75], [4.0, 0.0, 0.0]], np.float32), np.array([0, 0]))
    assert value == (1.5 + 1.75) / 2
    np.testing.assert_array_equal(d_scores, np.array([[-1, 0.5, 0.5], [0, 0, 0]], np.float32))


# --- Sigmoid cross-entropy and squared error ------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1e30), (np.float64, 1e300)], ids=["float32", "float64"])
def test_sigmoid_cross_entropy_is_finite_for_huge_logits(dtype: type, huge: float) -> None:
    logits = np.array([[huge, -huge, huge, -huge]], dtype)
    value, d_logits = sigmoid_cross_entropy(logits, np.array([[1.0, 0.0, 0.0, 0.5]]))
    assert value == pytest.approx((0 + 0 + 1 + 0.5) * huge / 4, rel=1e-6)
    np.testing.assert_array_equal(d_logits, np.array([[0, 0, 0.25, -0.125]], dtype))


@pytest.mark.parametrize("x", [-40.0, -1.0, 0.0, 1.0, 40.0])
def test_two_class_softmax_is_the_sigmoid(x: float) -> None:
    """Accurate in both tails: the relative error of -log σ(40), 4e-18, is small as well."""
    for target in (0, 1):
        value, d_logit = sigmoid_cross_entropy(np.array([[x]]), np.array([[target]]))
        wanted, d_wanted = softmax_cross_entropy(np.array([[0.0, x]]), np.array([target]))
        tail = math.log1p(math.exp(-x if target else x))
        assert value == pytest.approx(tail, rel=1e-14)
        assert value == pytest.approx(wanted, rel=1e-14, abs=1e-16)
        assert d_logit[0, 0] == pytest.approx(d_wanted[0, 1], rel=1e-13, abs=1e-16)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int64, np.bool_])
@pytest.mark.parametrize("loss", [mean_squared_error, sigmoid_cross_entropy])
def test_targets_of_any_dtype_keep_float32(loss: Loss, dtype: type) -> None:
    outputs, targets = gaussian(6, 3).astype(np.float32), class_numbers(18, 2).reshape(6, 3)
    wanted, d_wanted = loss(outputs, targets.astype(np.float32))
    value, d_outputs = loss(outputs, targets.astype(dtype))
    assert value == pytest.approx(wanted, rel=1e-6)
    assert d_outputs.dtype == np.float32
    np.testing.assert_allclose(d_outputs, d_wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "terms"),
    [
        (mean_squared_error, [[2.0**12, 1.0]], [[0.0, 0.0]], (2.0**24, 1.0)),
        (multiclass_hinge, [[0.0, 2.0**24 - 1], [0.0, 0.0]], [0, 0], (2.0**24, 1.0)),
        (softmax_cross_entropy, [[0.0, 2.0**24], [0.0, 0.0]], [0, 0], (2.0**24, math.log(2))),
        (softmax_cross_entropy, [[0.0, 2.0**24], [0.0, 0.0]], [[1, 0], [1, 0]], (2.0**24, math.log(2))),
        (sigmoid_cross_entropy, [[2.0**24, 0.0]], [[0.0, 0.0]], (2.0**24, math.log(2))),
    ],
)
def test_values_are_summed_in_float64(loss: Loss, outputs: list, targets: list, terms: tuple[float, float]) -> None:
    """Both terms are exact in float32 or nearly so, and their float32 sum would lose the second."""
    assert np.float32(terms[0]) + np.float32(terms[1]) == terms[0]
    value, _ = loss(np.array(outputs, np.float32), np.array(targets))
    assert value == pytest.approx(sum(terms) / 2, rel=1e-13, abs=1e-7)


# --- Errors ---------------------------------------------------------------------------------------------------


def refused(loss: Callable[..., object], *arguments: Array) -> tuple[str, str]:
    """What the loss says is wrong, and its advice."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (callers compare the whole text)
        loss(*arguments)
    problem, _, advice = str(raised.value).partition(". ")
    return problem, advice


def name_of(loss: Loss) -> str:
    return getattr(loss, "func", loss).__name__


@every_case
def test_batch_of_zero(case: Case) -> None:
    problem, advice = refused(case.loss, case.outputs[:0], case.targets[:0])
    shape = (0, *case.outputs.shape[1:])
    assert problem == f"{case.name}: a batch of zero has no mean, got outputs {shape}"
    assert advice == "Skip empty batches"


@pytest.mark.parametrize("loss", [softmax_cross_entropy, multiclass_hinge])
@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_labels_that_are_no_integers(loss: Loss, dtype: type) -> None:
    labels = class_numbers(7, 2).astype(dtype)
    problem, advice = refused(loss, gaussian(7, 5), labels)
    assert problem == f"{name_of(loss)}: labels must be class numbers of an integer dtype, got {labels.dtype}"
    assert advice.startswith("Convert them: ")
    converted = eval(advice.removeprefix("Convert them: "), {"labels": labels, "np": np})
    assert loss(gaussian(7, 5), converted)[0] == loss(gaussian(7, 5), class_numbers(7, 2))[0]


@pytest.mark.parametrize("loss", [softmax_cross_entropy, multiclass_hinge])
@pytest.mark.parametrize("labels", [np.arange(1, 6), np.array([-1, 0, 1, 2, 3]), np.array([-2, 7, 0, 0, 0])], ids=str)
def test_labels_out_of_range(loss: Loss, labels: Array) -> None:
    problem, advice = refused(loss, gaussian(5, 5), labels)
    low, high = labels.min(), labels.max()
    assert problem == f"{name_of(loss)}: labels must be from 0 to 4, got {low} to {high}"
    start, _, outputs = advice.partition("Number the classes from 0, and give the net at least ")
    assert not start
    # The advice followed: numbered from 0, the labels fit the outputs that it names.
    numbered = labels - min(low, 0)
    assert loss(gaussian(5, int(outputs.removesuffix(" outputs"))), numbered)[0] > 0


@pytest.mark.parametrize("loss", [softmax_cross_entropy, multiclass_hinge])
def test_labels_of_another_length(loss: Loss) -> None:
    problem, _ = refused(loss, gaussian(7, 5), class_numbers(6, 5))
    assert problem == f"{name_of(loss)}: expected labels of shape (7,), one for each output row, got (6,)"


def test_labels_of_another_shape() -> None:
    for shape in ((7, 1), (7, 4), (6, 5), (7, 5, 1), ()):
        problem, _ = refused(softmax_cross_entropy, gaussian(7, 5), np.ones(shape, np.int64))
        assert problem == f"softmax_cross_entropy: expected targets of the outputs' shape (7, 5), got {shape}"
    problem, _ = refused(multiclass_hinge, gaussian(7, 5), np.ones((7, 5), np.int64))
    assert problem == "multiclass_hinge: expected labels of shape (7,), one for each output row, got (7, 5)"


@pytest.mark.parametrize("loss", [softmax_cross_entropy, multiclass_hinge])
def test_outputs_that_are_no_rows_of_scores(loss: Loss) -> None:
    outputs, labels, classes = gaussian(4, 3, 2, 2), class_numbers(4, 5), 5
    problem, advice = refused(loss, outputs, labels)
    assert problem == f"{name_of(loss)}: expected outputs of shape (n, classes), got (4, 3, 2, 2)"
    assert advice.startswith("End the net with ")
    net = serial(*eval(f"({advice.removeprefix('End the net with ')})", vars(layers) | {"classes": classes}))
    params, state, _ = net.init(Key(0), outputs.shape[1:], np.float64)
    assert loss(net.apply(params, state, outputs).y, labels)[0] > 0


@pytest.mark.parametrize("loss", [mean_squared_error, sigmoid_cross_entropy])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 3), (3,), (5, 3, 1)], ids=str)
def test_targets_of_another_shape_are_not_broadcast(loss: Loss, shape: tuple[int, ...]) -> None:
    problem, _ = refused(loss, gaussian(5, 3), np.zeros(shape))
    assert problem == f"{name_of(loss)}: expected targets of the outputs' shape (5, 3), got {shape}"


@pytest.mark.parametrize("loss", [mean_squared_error, sigmoid_cross_entropy])
def test_class_numbers_for_a_loss_of_rows_are_told_both_ways_out(loss: Loss) -> None:
    outputs, targets = gaussian(5, 3), class_numbers(5, 3)
    _, advice = refused(loss, outputs, targets)
    assert advice == "Of class numbers make rows, one_hot(targets, 3), or take softmax_cross_entropy"
    assert loss(outputs, one_hot(targets, 3, dtype=np.float64))[0] > 0
    assert softmax_cross_entropy(outputs, targets)[0] > 0


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ([[0.5, 0.4], [0.5, 0.5]], "values from 0.4, sums from 0.9 to 1.0"),
        ([[2.0, 2.0], [0.5, 0.5]], "values from 0.5, sums from 1.0 to 4.0"),
        ([[1.5, -0.5], [0.5, 0.5]], "values from -0.5, sums from 1.0 to 1.0"),
        ([[0.0, 0.0], [1.0, 0.0]], "values from 0.0, sums from 0.0 to 1.0"),
        ([[math.nan, 1.0], [1.0, 0.0]], "values from nan, sums from nan to nan"),
    ],
)
def test_rows_that_are_no_distributions(rows: list[list[float]], got: str) -> None:
    problem, _ = refused(softmax_cross_entropy, gaussian(2, 2), np.array(rows))
    assert problem == (
        f"softmax_cross_entropy: rows of labels must be distributions, none negative and each adding to 1; got {got}"
    )


@pytest.mark.parametrize(
    ("loss", "options", "problem"),
    [
        (mean_squared_error, {"weights": np.ones(3)},
         "expected weights of shape (5,), one for each example, or one for each position, (5, 3), got (3,)"),
        (gaussian_nll, {"weights": np.ones((5, 1))},
         "expected weights of shape (5,), one for each example, got (5, 1)"),
        (mean_squared_error, {"weights": np.array([1, 1, 1, -1, 1])},
         "weights must be finite and not negative, got -1 to 1"),
        (mean_squared_error, {"weights": np.array([1, 1, 1, math.nan, 1])},
         "weights must be finite and not negative, got nan to nan"),
        (mean_squared_error, {"reduction": "average"}, "reduction must be 'mean', 'sum' or 'none', got 'average'"),
        (softmax_cross_entropy, {"class_weights": [1.0, 2.0]},
         "class_weights must be 3 numbers, one for each class, none negative, got [1.0, 2.0]"),
        (softmax_cross_entropy, {"class_weights": (1, 2, -1)},
         "class_weights must be 3 numbers, one for each class, none negative, got (1, 2, -1)"),
        (multiclass_hinge, {"ignore": 0.5},
         "ignore must be an int, the label of what is not to count, or None, got 0.5"),
        (softmax_focal, {"gamma": -1}, "gamma must be a finite number of at least 0, got -1"),
        (sigmoid_focal, {"alpha": 2}, "alpha must be from 0 to 1, or None, got 2"),
        (hinge, {"margin": 0}, "margin must be positive and finite, got 0"),
        (huber, {"delta": math.inf}, "delta must be positive and finite, got inf"),
        (quantile, {"q": 1}, "q must be between 0 and 1, got 1"),
    ],
)  # fmt: skip
def test_unfit_options(loss: Loss, options: dict, problem: str) -> None:
    outputs = gaussian(5, 2) if loss is gaussian_nll else gaussian(5, 3)
    labels = class_numbers(5, 3) if loss in (softmax_cross_entropy, softmax_focal, multiclass_hinge) else None
    targets = np.zeros(5) if loss is gaussian_nll else np.zeros((5, 3))
    found, _ = refused(partial(loss, **options), outputs, targets if labels is None else labels)
    assert found == f"{loss.__name__}: {problem}"


@pytest.mark.parametrize("shape", [(5, 3), (5,)], ids=str)
def test_means_without_log_variances_are_refused(shape: tuple[int, ...]) -> None:
    problem, _ = refused(gaussian_kl, gaussian(*shape), np.zeros(shape))
    assert problem == f"gaussian_kl: expected outputs (n, ..., 2k), means and log-variances, got {shape}"


def test_a_distribution_does_not_diverge_from_itself() -> None:
    outputs = gaussian(5, 2, 6)
    value, d_outputs = gaussian_kl(outputs, outputs)
    assert value == 0
    assert not d_outputs.any()


def test_ignore_needs_class_numbers() -> None:
    problem, advice = refused(partial(softmax_cross_entropy, ignore=-1), gaussian(7, 5), distributions(7, 5))
    assert problem == "softmax_cross_entropy: ignore is for labels that are class numbers"
    assert advice == "Weigh rows of distributions by 0"
    assert len(softmax_cross_entropy(gaussian(7, 5), distributions(7, 5), np.ones(7))) == 3


def test_labels_of_sequences_of_another_shape() -> None:
    problem, _ = refused(softmax_cross_entropy, gaussian(4, 3, 5), np.zeros((4, 2), np.int64))
    assert problem == "softmax_cross_entropy: expected labels of shape (4, 3), one for each position, got (4, 2)"


def test_distributions_rounded_to_float32_or_16_pass() -> None:
    rows = distributions(7, 5)
    value, _ = softmax_cross_entropy(gaussian(7, 5), rows)
    for dtype in (np.float32, np.float16):
        assert softmax_cross_entropy(gaussian(7, 5), rows.astype(dtype))[0] == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("wrong", [-0.5, 1.5, 255.0, math.nan])
def test_targets_that_are_no_probabilities(wrong: float) -> None:
    targets = np.array([[0.0, 1.0, wrong]])
    problem, advice = refused(sigmoid_cross_entropy, gaussian(1, 3), targets)
    low, high = targets.min(), targets.max()
    assert problem == f"sigmoid_cross_entropy: targets must be from 0 to 1, got {low} to {high}"
    assert advice == "Pass probabilities, 0 or 1 for a plain yes or no"
    for yes_or_no in (0, 1):
        assert sigmoid_cross_entropy(gaussian(1, 3), np.array([[0.0, 1.0, yes_or_no]]))[0] > 0


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan])
def test_smoothing_out_of_range(smoothing: float) -> None:
    loss = partial(softmax_cross_entropy, label_smoothing=smoothing)
    problem, _ = refused(loss, gaussian(7, 5), class_numbers(7, 5))
    assert problem == f"softmax_cross_entropy: label_smoothing must be from 0 to 1, got {smoothing}"


@pytest.mark.parametrize("margin", [0.0, -1.0, math.inf, math.nan])
def test_margin_out_of_range(margin: float) -> None:
    problem, _ = refused(partial(multiclass_hinge, margin=margin), gaussian(7, 5), class_numbers(7, 5))
    assert problem == f"multiclass_hinge: margin must be positive and finite, got {margin}"


def test_a_class_of_probability_zero_counts_nothing_however_unlikely() -> None:
    logits = np.array([[3e38, -3e38]], np.float32)
    with np.errstate(over="ignore"):
        for labels in (np.array([0]), np.array([[1.0, 0.0]], np.float32), np.array([[1, 0]])):
            value, d_logits = softmax_cross_entropy(logits, labels)
            assert value == 0
            np.testing.assert_array_equal(d_logits, [[0, 0]])
