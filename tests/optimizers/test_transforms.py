"""Transforms of gradients: what each makes of leaves of several shapes."""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from cases import gaussian

from funcnn import tree
from funcnn.optimizers import Transform, adaptive_clip, centralize, clip_by_norm, clip_by_value

T = TypeVar("T")

KERNEL, WEIGHT, BIAS = (3, 2, 4, 5), (4, 3), (5,)
PARAMS = tuple(gaussian(shape, np.float64, "params", i) for i, shape in enumerate((KERNEL, WEIGHT, BIAS, ())))
GRADS = tuple(gaussian(shape, np.float64, "grads", i) for i, shape in enumerate((KERNEL, WEIGHT, BIAS, ())))


def transformed(transform: Transform, grads: T, params: object = None) -> T:
    made, state = transform.update(grads, transform.init(params), params, 0)
    assert state is None
    return made


def test_clip_by_norm_takes_each_leaf_by_itself() -> None:
    limit = 1.5
    norms = [float(np.linalg.norm(g)) for g in GRADS]
    assert min(norms) < limit < max(norms)
    for made, g, norm in zip(transformed(clip_by_norm(limit), GRADS), GRADS, norms, strict=True):
        np.testing.assert_allclose(made, g * min(1.0, limit / norm), rtol=1e-14)


def test_clip_by_norm_does_not_overflow_in_float32() -> None:
    (made,) = transformed(clip_by_norm(1.0), (np.full(4, 1e30, np.float32),))
    np.testing.assert_allclose(made, np.full(4, 0.5), rtol=1e-6)
    assert made.dtype == np.float32


def test_clip_by_value_takes_each_number_by_itself() -> None:
    for made, g in zip(transformed(clip_by_value(0.3), GRADS), GRADS, strict=True):
        np.testing.assert_array_equal(made, np.minimum(np.maximum(g, -0.3), 0.3))


def test_adaptive_clip_takes_each_unit_by_itself() -> None:
    """Brock et al. 2021, equation 3: of a kernel and a weight by the last axis, of a bias or a number as one unit."""
    limit = 0.8
    clipped = 0
    for made, g, w in zip(transformed(adaptive_clip(limit), GRADS, PARAMS), GRADS, PARAMS, strict=True):
        units = [(..., i) for i in range(g.shape[-1])] if g.ndim > 1 else [...]
        for unit in units:
            most, norm = limit * max(float(np.linalg.norm(w[unit])), 1e-3), float(np.linalg.norm(g[unit]))
            clipped += norm > most
            np.testing.assert_allclose(made[unit], g[unit] * (most / norm if norm > most else 1.0), rtol=1e-13)
    assert 3 <= clipped <= 9


def test_adaptive_clip_lets_weights_of_zero_begin() -> None:
    (made,) = transformed(adaptive_clip(0.1, epsilon=1e-2), (np.array([3.0, 4.0]),), (np.zeros(2),))
    np.testing.assert_allclose(made, [0.6e-3, 0.8e-3], rtol=1e-12)
    assert transformed(adaptive_clip(), (np.zeros(2),), (np.zeros(2),))[0].tolist() == [0.0, 0.0]


def test_centralize_takes_each_units_mean_away() -> None:
    kernel, weight, bias, number = transformed(centralize(), GRADS)
    np.testing.assert_allclose(kernel, GRADS[0] - GRADS[0].reshape(-1, 5).mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(weight.sum(axis=0), np.zeros(3), atol=1e-15)
    assert bias is GRADS[2]
    assert number is GRADS[3]
    assert transformed(centralize(), (np.zeros((0, 3)),))[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: clip_by_norm(0.0), "clip_by_norm: limit must be positive and finite, got 0.0"),
        (lambda: clip_by_value(-1.0), "clip_by_value: limit must be positive and finite, got -1.0"),
        (lambda: adaptive_clip(math.inf), "adaptive_clip: limit must be positive and finite, got inf"),
        (lambda: adaptive_clip(epsilon=0.0), "adaptive_clip: epsilon must be positive and finite, got 0.0"),
    ],
)
def test_limits_are_positive(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the whole text is compared)
        make()
    assert str(raised.value) == text


def test_gradients_unlike_the_params_are_named() -> None:
    with pytest.raises(tree.TreeError, match="params has an array of shape"):
        transformed(adaptive_clip(), (np.ones((3, 4)),), (np.ones((4, 3)),))
