"""Optimizers against their papers' equations, in plain floats or whole arrays; PyTorch's values are in benchmarks/."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np
import pytest
from cases import gaussian

from funcnn import tree
from funcnn.arrays.orthogonal import newton_schulz
from funcnn.optimizers import (
    Optimizer,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    averaged,
    lamb,
    lion,
    lookahead,
    muon,
    nadam,
    plateau,
    radam,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
    weights_only,
)
from funcnn.schedules import linear
from funcnn.train import Metrics
from funcnn.tree import node

T = TypeVar("T")

STEPS = 20
STARTS = (2.0, -3.0, 4.5)

Reference = Callable[..., Iterator[float]]


def gradient(i: int, step: int) -> float:
    """The gradient of the i-th weight: each has its own scale, and changes sign along the way."""
    return 10.0 ** (i - 1) * (math.sin(1.7 * step + i) + 0.3)


def rate(step: int) -> float:
    return 0.04 / (1 + step)


def adagrad_reference(w: float, gradients: list[float], initial: float) -> Iterator[float]:
    """Duchi et al. 2011."""
    s = initial
    for step, g in enumerate(gradients):
        s += g**2
        w -= rate(step) * g / (math.sqrt(s) + 1e-10)
        yield w


def adadelta_reference(w: float, gradients: list[float], decay: float, epsilon: float) -> Iterator[float]:
    """Zeiler 2012, algorithm 1."""
    c = u = 0.0
    for step, g in enumerate(gradients):
        c = decay * c + (1 - decay) * g**2
        change = -math.sqrt(u + epsilon) / math.sqrt(c + epsilon) * g
        u = decay * u + (1 - decay) * change**2
        w += rate(step) * change
        yield w


def amsgrad_reference(w: float, gradients: list[float], b1: float, b2: float) -> Iterator[float]:
    """Reddi et al. 2018, with Adam's corrections."""
    m = v = largest = 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        largest = max(largest, v)
        w -= rate(t - 1) * (m / (1 - b1**t)) / (math.sqrt(largest / (1 - b2**t)) + 1e-8)
        yield w


def adamax_reference(w: float, gradients: list[float], b1: float, b2: float) -> Iterator[float]:
    """Kingma & Ba 2015, algorithm 2."""
    m = u = 0.0
    for t, g in enumerate(gradients, start=1):
        m, u = b1 * m + (1 - b1) * g, max(b2 * u, abs(g) + 1e-8)
        w -= rate(t - 1) / (1 - b1**t) * m / u
        yield w


def nadam_reference(w: float, gradients: list[float], b1: float, b2: float, decay: float) -> Iterator[float]:
    """Dozat 2016, algorithm 2, with the momenta of its section 4."""
    m = v = 0.0
    momenta = [b1 * (1 - 0.5 * 0.96 ** (t * decay)) for t in range(1, len(gradients) + 2)]
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        g_hat = g / (1 - math.prod(momenta[:t]))
        m_hat = m / (1 - math.prod(momenta[: t + 1]))
        ahead = (1 - momenta[t - 1]) * g_hat + momenta[t] * m_hat
        w -= rate(t - 1) * ahead / (math.sqrt(v / (1 - b2**t)) + 1e-8)
        yield w


def radam_reference(w: float, gradients: list[float], b1: float, b2: float) -> Iterator[float]:
    """Liu et al. 2020, algorithm 2."""
    m = v = 0.0
    longest = 2 / (1 - b2) - 1
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat = m / (1 - b1**t)
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length > 5:
            adaptive = math.sqrt(1 - b2**t) / (math.sqrt(v) + 1e-8)
            r = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
            w -= rate(t - 1) * m_hat * r * adaptive
        else:
            w -= rate(t - 1) * m_hat
        yield w


def lion_reference(w: float, gradients: list[float], b1: float, b2: float, decay: float) -> Iterator[float]:
    """Chen et al. 2023, algorithm 2."""
    m = 0.0
    for step, g in enumerate(gradients):
        w -= rate(step) * (math.copysign(1, b1 * m + (1 - b1) * g) + decay * w)
        m = b2 * m + (1 - b2) * g
        yield w


def lookahead_reference(w: float, gradients: list[float], k: int, alpha: float) -> Iterator[float]:
    """Zhang et al. 2019, algorithm 1, around gradient descent."""
    slow = w
    for step, g in enumerate(gradients, start=1):
        w -= rate(step - 1) * g
        if step % k == 0:
            w = slow = slow + alpha * (w - slow)
        yield w


def trajectory(optimizer: Optimizer, params: T, gradients: list[T]) -> list[T]:
    """The params after each step."""
    opt_state, seen = optimizer.init(params), []
    for step, grads in enumerate(gradients):
        params, opt_state = optimizer.update(grads, opt_state, params, step)
        seen.append(params)
    return seen


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (adagrad(rate, initial=0.1), partial(adagrad_reference, initial=0.1)),
        (adadelta(rate, 0.8, 1e-3), partial(adadelta_reference, decay=0.8, epsilon=1e-3)),
        (adam(rate, 0.5, 0.3, amsgrad=True), partial(amsgrad_reference, b1=0.5, b2=0.3)),
        (adamax(rate, 0.5, 0.8), partial(adamax_reference, b1=0.5, b2=0.8)),
        (nadam(rate, 0.5, 0.8, momentum_decay=0.2), partial(nadam_reference, b1=0.5, b2=0.8, decay=0.2)),
        (radam(rate, 0.5, 0.9), partial(radam_reference, b1=0.5, b2=0.9)),
        (lion(rate, 0.8, 0.95, weight_decay=0.3), partial(lion_reference, b1=0.8, b2=0.95, decay=0.3)),
        (lookahead(sgd(rate), 3, 0.4), partial(lookahead_reference, k=3, alpha=0.4)),
    ],
    ids=lambda value: repr(value) if isinstance(value, Optimizer) else "",
)
def test_trajectory_follows_the_paper(optimizer: Optimizer, reference: Reference) -> None:
    gradients = [[gradient(i, step) for step in range(STEPS)] for i in range(len(STARTS))]
    wanted = [list(reference(w, its_gradients)) for w, its_gradients in zip(STARTS, gradients, strict=True)]
    got = trajectory(optimizer, np.array(STARTS), list(np.array(gradients).T))
    np.testing.assert_allclose(got, np.array(wanted).T, rtol=1e-12, atol=0)


def test_radam_has_both_its_forms_in_a_trajectory() -> None:
    """With b2 = 0.9 the variance becomes tractable after some steps: the reference above goes both ways."""
    longest = 2 / (1 - 0.9) - 1
    lengths = [longest - 2 * t * 0.9**t / (1 - 0.9**t) for t in range(1, STEPS + 1)]
    assert min(lengths) <= 5 < max(lengths)


def test_nadams_product_of_momenta_may_be_cut_where_it_is_nothing() -> None:
    settings = nadam(0.1).config
    assert settings.product(500) == settings.product(10**6) < 1e-19
    assert settings.product(3) == pytest.approx(math.prod(float(settings.momentum(t)) for t in (1, 2, 3)), rel=1e-15)
    assert nadam(0.1, b1=0.0).config.product(5) == 0


# --- By norms of a leaf ---------------------------------------------------------------------------------------


@node
class Pair:
    weight: np.ndarray
    bias: np.ndarray


def pairs(count: int, dtype: type = np.float64) -> list[Pair]:
    return [Pair(gaussian((4, 3), dtype, "weight", i), gaussian((5,), dtype, "bias", i)) for i in range(count)]


def test_lamb_scales_each_leafs_step_by_its_own_norm() -> None:
    """You et al. 2020, algorithm 2."""
    params, *gradients = pairs(6)
    got = trajectory(lamb(0.1, 0.8, 0.9, 1e-3, weight_decay=0.2, mask=weights_only), params, gradients)
    for name, decay in (("weight", 0.2), ("bias", 0.0)):
        w = getattr(params, name)
        m = v = np.zeros_like(w)
        for t, grads in enumerate(gradients, start=1):
            g = getattr(grads, name)
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
            r = (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3) + decay * w
            w = w - 0.1 * np.linalg.norm(w) / np.linalg.norm(r) * r
            np.testing.assert_allclose(getattr(got[t - 1], name), w, rtol=1e-12)


def test_lamb_moves_a_leaf_of_zeros_by_the_direction_alone() -> None:
    new = trajectory(lamb(0.1), (np.zeros(2),), [(np.array([1.0, 0.0]),)])[0][0]
    np.testing.assert_allclose(new, [-0.1, 0.0], rtol=1e-5)
    assert trajectory(lamb(0.1), (np.ones(2),), [(np.zeros(2),)])[0][0].tolist() == [1.0, 1.0]


def test_adafactor_by_its_equations() -> None:
    """Shazeer & Stern 2018, algorithm 4, of matrices and of a vector; a kernel is a matrix for each place in it."""
    params = Pair(gaussian((2, 4, 3), np.float64, "weight"), gaussian((5,), np.float64, "bias"))
    gradients = [
        Pair(gaussian((2, 4, 3), np.float64, "g", i), 3 * gaussian((5,), np.float64, "b", i)) for i in range(4)
    ]
    optimizer = adafactor(0.4, 0.7, epsilon=1e-30, least_scale=0.01, clip=1.0)
    got = trajectory(optimizer, params, gradients)

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean(values**2)))

    w, b = params.weight, params.bias
    r, c, v = np.zeros((2, 4)), np.zeros((2, 3)), np.zeros(5)
    for t, grads in enumerate(gradients, start=1):
        kept, step = 1 - t**-0.7, min(0.4, 1 / math.sqrt(t))
        squares = grads.weight**2
        r, c = kept * r + (1 - kept) * squares.mean(axis=2), kept * c + (1 - kept) * squares.mean(axis=1)
        v = kept * v + (1 - kept) * grads.bias**2
        estimate = np.stack([np.outer(r[i], c[i]) / r[i].mean() for i in range(2)])
        for u, name in ((grads.weight / np.sqrt(estimate), "weight"), (grads.bias / np.sqrt(v), "bias")):
            leaf = w if name == "weight" else b
            new = leaf - step * max(0.01, rms(leaf)) * u / max(1.0, rms(u))
            w, b = (new, b) if name == "weight" else (w, new)
            np.testing.assert_allclose(getattr(got[t - 1], name), new, rtol=1e-12)
    assert [leaf.shape for leaf in tree.flatten(optimizer.init(params))] == [(2, 4, 1), (2, 1, 3), (5,)]


# --- Muon -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_newton_schulz_keeps_the_singular_vectors_and_evens_the_values(shape: tuple[int, int], dtype: type) -> None:
    matrix = gaussian(shape, dtype, "muon")
    before = matrix.copy()
    turned = newton_schulz(matrix, 5)
    assert (turned.dtype, turned.shape) == (dtype, shape)
    np.testing.assert_array_equal(matrix, before)
    u, values, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    x = values / np.linalg.norm(values)
    for _ in range(5):  # the quintic of each singular value
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    np.testing.assert_allclose(turned, u * x @ v, atol=1e-5 if dtype is np.float32 else 1e-12)
    assert (x > 0.6).all()
    assert (x < 1.3).all()


def test_muon_trains_matrices_by_the_orthogonal_step_and_all_else_by_adamw() -> None:
    params, *gradients = pairs(4)
    got = trajectory(muon(0.1, 0.8, weight_decay=0.2), params, gradients)
    rest = trajectory(adamw(0.1, weight_decay=0.2), (params.bias,), [(grads.bias,) for grads in gradients])
    w, m = params.weight, np.zeros((4, 3))
    for step, grads in enumerate(gradients):
        m = 0.8 * m + grads.weight
        w = (1 - 0.1 * 0.2) * w - 0.1 * 0.2 * 2 * newton_schulz(grads.weight + 0.8 * m, 5)  # sqrt(max(4, 3)) = 2
        np.testing.assert_allclose(got[step].weight, w, rtol=1e-12)
        np.testing.assert_array_equal(got[step].bias, rest[step][0])


def test_muon_takes_a_kernel_for_a_matrix_of_a_row_for_each_weight_of_a_filter() -> None:
    kernel, grads = gaussian((3, 2, 4, 5), np.float64, "kernel"), gaussian((3, 2, 4, 5), np.float64, "gradient")
    optimizer = muon(0.1, mask=None)
    four = trajectory(optimizer, (kernel,), [(grads,)])[0][0]
    two = trajectory(optimizer, (kernel.reshape(24, 5),), [(grads.reshape(24, 5),)])[0][0]
    np.testing.assert_array_equal(four.reshape(24, 5), two)


def test_muons_other_leaves_may_have_an_optimizer_of_their_own() -> None:
    params, grads = pairs(2)
    got = trajectory(muon(0.1, others=sgd(0.5)), params, [grads])[0]
    np.testing.assert_array_equal(got.bias, params.bias - 0.5 * grads.bias)


def test_muon_hands_on_what_the_other_optimizer_can() -> None:
    params, grads = pairs(2)
    inner = averaged(plateau(sgd(0.5), 0.1, patience=0), None)
    optimizer = muon(0.1, others=inner)
    opt_state, before = optimizer.init(params), params
    for step in range(2):
        params, opt_state = optimizer.update(grads, opt_state, params, step)
    evaluated = optimizer.evaluated(params, opt_state)
    np.testing.assert_array_equal(evaluated.weight, params.weight)
    np.testing.assert_allclose(evaluated.bias, before.bias - 0.75 * grads.bias, rtol=1e-12)  # of 0.5 and 1
    assert muon(0.1).evaluated(params, muon(0.1).init(params)) is params
    for _ in range(2):
        opt_state = optimizer.observe(opt_state, Metrics(1.0, None))
    made, _ = optimizer.update(grads, opt_state, params, 2)
    np.testing.assert_allclose(made.bias, params.bias - 0.05 * grads.bias, rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_muon_takes_a_matrix_without_numbers(shape: tuple[int, ...]) -> None:
    params, optimizer = (np.zeros(shape),), muon(0.1, mask=None)
    made, opt_state = optimizer.update(params, optimizer.init(params), params, 0)
    assert made[0].shape == opt_state.mean[0].shape == shape


# --- Schedule-free --------------------------------------------------------------------------------------------


def test_schedule_free_sgd_keeps_three_sequences() -> None:
    """Defazio et al. 2024, equations 3 to 5, x kept by itself, with weights of the rates' squares."""
    beta, decay, warm = 0.8, 0.1, linear(0.0, 0.3, 4)
    optimizer = schedule_free_sgd(warm, beta, weight_decay=decay)
    y = x = z = np.array(STARTS)
    opt_state, params, weights = optimizer.init(y), y, 0.0
    for step in range(STEPS):
        g = np.array([gradient(i, step) for i in range(len(STARTS))])
        params, opt_state = optimizer.update(g, opt_state, params, step)
        z = z - warm(step) * (g + decay * y)
        weights += warm(step) ** 2
        c = warm(step) ** 2 / weights if weights else 0.0
        x = (1 - c) * x + c * z
        y = (1 - beta) * z + beta * x
        np.testing.assert_allclose(params, y, rtol=1e-12)
        np.testing.assert_allclose(opt_state.base, z, rtol=1e-12)
        np.testing.assert_allclose(optimizer.evaluated(params, opt_state), x, rtol=1e-11)
        assert opt_state.weight == pytest.approx(weights, rel=1e-14)


def test_schedule_free_adamw_by_algorithm_1() -> None:
    beta, b2, epsilon, decay = 0.8, 0.9, 1e-3, 0.1
    optimizer = schedule_free_adamw(0.05, beta, b2, epsilon, weight_decay=decay)
    y = x = z = np.array(STARTS)
    v, opt_state, params, weights = np.zeros(3), optimizer.init(y), y, 0.0
    for t in range(1, STEPS + 1):
        g = np.array([gradient(i, t) for i in range(len(STARTS))])
        params, opt_state = optimizer.update(g, opt_state, params, t - 1)
        v = b2 * v + (1 - b2) * g**2
        gamma = 0.05 * math.sqrt(1 - b2**t)
        z = z - gamma * g / (np.sqrt(v) + epsilon) - gamma * decay * y
        weights += gamma**2
        x = (1 - gamma**2 / weights) * x + gamma**2 / weights * z
        y = (1 - beta) * z + beta * x
        np.testing.assert_allclose(params, y, rtol=1e-12)
        np.testing.assert_allclose(optimizer.evaluated(params, opt_state), x, rtol=1e-11)
