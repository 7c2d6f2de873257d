"""A finite-difference checker for backward passes.

Each of a layer's inputs (every leaf of its params, and x) is checked on its own, in float64, along random
directions v, with a Gaussian cotangent dy: the slope of ε -> ⟨apply(leaf + ε·v), dy⟩ at 0, measured by central
differences, must equal ⟨gradient, v⟩ from backward. A random direction weighs every element, so a single wrong
one shows.

Where a function has a kink (relu at 0, a tie in max pooling) between leaf - ε·v and leaf + ε·v, its slope cannot be
measured so. Kinks show in the second difference D(ε) = φ(ε) - 2φ(0) + φ(-ε), which shrinks 16-fold when ε does
4-fold if φ is smooth, and does not if there is a kink. Such directions are counted and drawn again; they can hide no
wrong gradient, since D never looks at one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np

from funcnn import tree
from funcnn.keys import Key, fold_in, generator
from funcnn.layer import Array, Gradients, Layer, Shape
from funcnn.losses import Loss

__all__ = ["Check", "GradientError", "Report", "check_layer", "check_loss"]

_STEP = 1e-6  # ε relative to the leaf's size; balances the differences' rounding against kinks in reach
_TOLERANCE = 1e-6  # relative: float64 differences are good to some 1e-9 at this step
_DIRECTIONS = 3  # per leaf
_REDRAWS = 50  # of a direction that meets a kink
_BEND = 1e-6  # the change of slope that counts as a kink; less could not spoil a check
_NOISE = 2e-14  # what rounding alone makes of a bend, relative to the numbers added up
_SMALLEST = 1e-300  # against 0 / 0


class GradientError(AssertionError):
    """A gradient that its function's slope contradicts, or that has the wrong structure, shape or dtype."""


@attrs.frozen
class Check:
    """One direction of one leaf: the slope from backward, the measured one, their relative error, the step ε."""

    leaf: str
    analytic: float
    numeric: float
    error: float
    step: float


@attrs.frozen
class Report:
    """All that was checked, and how many directions were drawn again because of a kink."""

    checks: tuple[Check, ...]
    kinks: int

    @property
    def largest_error(self) -> float:
        """The largest relative error."""
        return max((check.error for check in self.checks), default=0.0)


def check_layer(layer: Layer, in_shape: Shape, *, key: Key, batch: int = 3, train: bool = True) -> Report:
    """Check a layer's backward pass against finite differences of its forward pass.

    The params are init's plus Gaussian noise, so that zero biases and unit scales hide nothing; x and the cotangent
    are Gaussian. One key serves every forward pass, so that dropout's mask stays. Checked as well: the gradients
    have the structure, shapes and dtypes of the params, dx those of x, and ``need_dx=False`` gives the same ones.

    >>> from funcnn.layers import dense
    >>> check_layer(dense(3), (4,), key=Key(0)).largest_error < 1e-6
    True

    Raises GradientError, naming the leaf, both slopes and the step; ValueError for an empty batch; whatever the layer
    itself raises, for one, with ``train=False``, that there are no residuals.
    """
    if batch < 1:
        raise ValueError(f"check_layer: batch must be at least 1, got {batch}: without examples nothing is checked")
    params, state, _ = layer.init(fold_in(key, "init"), in_shape, np.float64)
    draw = generator(fold_in(key, "draws"))
    params = tree.map(lambda leaf: np.asarray(leaf + 0.3 * draw.standard_normal(leaf.shape)), params)
    x = draw.standard_normal((batch, *in_shape))
    layer_key = fold_in(key, "layer")

    y, _, residuals = layer.apply(params, state, x, key=layer_key, train=train)
    dy = draw.standard_normal(y.shape)
    grads, dx = layer.backward(params, residuals, dy)
    _check_form(layer, params, x, grads, dx)
    _check_without_dx(layer, grads, layer.backward(params, residuals, dy, need_dx=False))

    inputs = (params, x)
    leaves = tree.flatten(inputs)
    names = [f"params.{path}".rstrip(".") for path in tree.paths(params)] + ["x"]
    gradients = [*tree.flatten(grads), dx]

    def inner(i: int, value: Array) -> float:
        """⟨y, dy⟩ with the i-th leaf replaced."""
        new_params, new_x = tree.unflatten(inputs, [*leaves[:i], value, *leaves[i + 1 :]])
        return float(np.vdot(layer.apply(new_params, state, new_x, key=layer_key, train=train).y, dy))

    scale = float(np.linalg.norm(y))
    checks: list[Check] = []
    kinks = 0
    for i, (name, leaf, gradient) in enumerate(zip(names, leaves, gradients, strict=True)):
        if leaf.size == 0:
            continue
        found, met = _check_leaf(f"{layer}: {name}", leaf, gradient, partial(inner, i), scale, draw)
        checks += found
        kinks += met
    return Report(tuple(checks), kinks)


def check_loss(loss: Loss, outputs: Array, targets: Array, *, key: Key) -> Report:
    """Check a loss's gradient in the outputs, taken in float64, against finite differences of its value.

    >>> from funcnn.losses import softmax_cross_entropy
    >>> outputs = np.array([[0.3, -1.0, 2.0]])
    >>> check_loss(softmax_cross_entropy, outputs, np.array([0]), key=Key(0)).largest_error < 1e-6
    True

    Raises GradientError, naming both slopes and the step.
    """
    exact = outputs.astype(np.float64)
    value, gradient = loss(exact, targets)
    if gradient.shape != exact.shape or gradient.dtype != exact.dtype:
        raise GradientError(
            f"d_outputs: expected {exact.dtype} {exact.shape} like the outputs, got {gradient.dtype} {gradient.shape}"
        )
    # A value near zero may be a difference of outputs that are not.
    scale = max(abs(value), float(np.abs(exact).mean()))
    checks, kinks = _check_leaf(
        "d_outputs", exact, gradient, lambda value: loss(value, targets)[0], scale, generator(key)
    )
    return Report(tuple(checks), kinks)


def _check_form(layer: Layer, params: Any, x: Array, grads: Any, dx: Array | None) -> None:
    try:
        tree.check_like(params, grads, ("params", "gradients"))
    except tree.TreeError as error:
        raise GradientError(f"{layer}: {error}") from None
    pairs = zip(tree.paths(params), tree.flatten(params), tree.flatten(grads), strict=True)
    for name, leaf, gradient in [*pairs, ("dx", x, dx)]:
        got = f"{gradient.dtype} {gradient.shape}" if isinstance(gradient, np.ndarray) else type(gradient).__name__
        if got != f"{leaf.dtype} {leaf.shape}":
            raise GradientError(f"{layer}: the gradient {name} should be {leaf.dtype} {leaf.shape}, and is {got}")


def _check_without_dx(layer: Layer, grads: Any, without: Gradients) -> None:
    if without.dx is not None:
        raise GradientError(f"{layer}: backward(..., need_dx=False) should give dx=None")
    if not tree.equal(grads, without.params):
        raise GradientError(f"{layer}: backward(..., need_dx=False) gives other gradients of the params")


def _check_leaf(
    name: str,
    leaf: Array,
    gradient: Array,
    function: Callable[[Array], float],
    scale: float,
    draw: np.random.Generator,
) -> tuple[list[Check], int]:
    """Compare slopes along random directions; returns the checks and the number of kinks met.

    `scale` is the size of the numbers that `function` adds up: its values are exact to some 1e-16 of it.
    """
    step = _STEP * max(1.0, float(np.abs(leaf).max()))
    # Errors are relative to what a slope along a random direction is like; or, where the gradient vanishes, to
    # the smallest slope that differences at this step can tell from zero to six digits.
    unit = max(float(np.linalg.norm(gradient)), 1e-3 * scale)
    center = function(leaf)
    checks: list[Check] = []
    kinks = 0
    while len(checks) < _DIRECTIONS:
        direction = draw.standard_normal(leaf.shape)
        analytic = float(np.vdot(gradient, direction))
        numeric, bend = _slope(function, leaf, direction, step, center)
        kinked = bend > max(_BEND * step * max(unit, abs(numeric)), _NOISE * scale)
        if kinked:
            kinks += 1
            if kinks > _REDRAWS:
                raise GradientError(
                    f"{name}: {kinks} directions met a kink within {step:g}; its slope cannot be measured there. "
                    "Choose inputs away from kinks"
                )
            continue
        error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), unit, _SMALLEST)
        checks.append(Check(name, analytic, numeric, error, step))
        if not error <= _TOLERANCE:
            raise GradientError(
                f"{name}: backward gives the slope {analytic:.10g}, finite differences {numeric:.10g} "
                f"(relative error {error:.1e} at step {step:g})"
            )
    return checks, kinks


def _slope(
    function: Callable[[Array], float], leaf: Array, direction: Array, step: float, center: float
) -> tuple[float, float]:
    """The central difference, and how far its points bend otherwise than a smooth function's would."""
    far = [function(leaf + sign * step * direction) for sign in (1, -1)]
    near = [function(leaf + sign * step / 4 * direction) for sign in (1, -1)]
    slope = (far[0] - far[1]) / (2 * step)
    bend = (far[0] - 2 * center + far[1]) - 16 * (near[0] - 2 * center + near[1])
    return slope, abs(bend)
