"""The GPU's element-wise formulas, on a GPU or emulated, against the layers."""

import inspect
from typing import Any

import numpy as np
import pytest

from funcnn import layers
from funcnn.layer import Layer
from funcnn.nn import piecewise, smooth
from tests.cuda.device import OnDevice

pytestmark = pytest.mark.usefixtures("_there")
elementwise = OnDevice("elementwise")

SETTINGS: dict[str, dict[str, float]] = {
    "leaky_relu": {"slope": 0.2}, "hard_tanh": {"low": -0.5, "high": 2.0}, "soft_shrink": {"threshold": 0.4},
    "hard_shrink": {"threshold": 0.4}, "elu": {"alpha": 1.5}, "celu": {"alpha": 1.5}, "scale": {"factor": 3.0},
}  # fmt: skip
EXTREME = [-1e30, -1000.0, -90.0, -20.0, -0.5, 0.0, 0.5, 20.0, 90.0, 1000.0, 1e30]


def layer_of(name: str) -> Layer:
    if name == "gelu_exact":
        return layers.gelu(exact=True)
    constructor: Any = getattr(layers, name)
    return constructor(**SETTINGS.get(name, {}))  # type: ignore[no-any-return]


def test_every_activation_has_a_formula() -> None:
    names = [(module, name) for module in (piecewise, smooth) for name in module.__all__]
    made = {name for module, name in names if inspect.isfunction(getattr(module, name))}
    assert {*elementwise.ACTIVATIONS} == made - {"prelu"} | {"gelu_exact", "scale"}


@pytest.mark.parametrize("name", elementwise.ACTIVATIONS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 3e-6), (np.float64, 1e-13)], ids=["float32", "float64"])
def test_it_is_the_layer(name: str, dtype: type, rtol: float) -> None:
    layer, rng, given = layer_of(name), np.random.default_rng(0), SETTINGS.get(name, {})
    x = np.concatenate([rng.normal(0, 2, 500), np.array(EXTREME)]).astype(dtype)[:, None]
    dy = rng.normal(0, 1, x.shape).astype(dtype)
    with np.errstate(all="ignore"):
        want = layer.apply(None, None, x, train=True)
        want_dx = layer.backward(None, want.residuals, dy).dx
    y, slope = elementwise.activate(name, x, keep_slope=True, **given)
    assert (slope is None) == (not elementwise.ACTIVATIONS[name].dy_dx)
    dx = elementwise.activate_back(name, y if slope is None else slope, dy, **given)
    for have, expected in ((y, want.y), (dx, want_dx)):
        assert have.dtype == dtype
        np.testing.assert_allclose(have, expected, rtol, 2 * rtol)
    nan, _ = elementwise.activate(name, np.full((1, 1), np.nan, dtype), **given)
    assert np.isnan(nan).all()


def test_masks_and_lines() -> None:
    rng = np.random.default_rng(0)
    x, factor, constant = rng.standard_normal((4, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    mask = rng.random(x.shape) < 0.5
    np.testing.assert_array_equal(elementwise.masked(x, mask, 1.25), x * mask * 1.25)
    np.testing.assert_allclose(elementwise.line(x, factor, constant), factor * x + constant, 1e-15)
