"""Problem set 1: gradients by hand, and by finite differences. README.md has the tasks.

Everything here is a function of arrays that gives new arrays: none writes to its arguments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


# --- Task 1: slopes of functions of one number ----------------------------------------------------------------


def bump(x: Array) -> Array:
    """f(x) = x² · exp(-x), element by element: an array of any shape -> an array of that shape."""
    y: Array = x**2 * np.exp(-x)
    return y


def slope_of_bump(x: Array) -> Array:
    """f'(x) for f = bump, element by element: an array of any shape -> an array of that shape."""
    # task 1
    slope: Array = (2 * x - x**2) * np.exp(-x)
    return slope


def slope_of_tanh(y: Array) -> Array:
    """The slope of y = tanh(x), given y and not x: an array of any shape -> an array of that shape.

    Use y alone; no exponential function is needed.
    """
    # task 1
    return 1 - y**2


def softplus(x: Array) -> Array:
    """f(x) = log(1 + exp(x)), element by element, finite for every finite x: softplus(1000) is 1000."""
    # task 1
    y: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y


def slope_of_softplus(x: Array) -> Array:
    """The slope of softplus, element by element; between 0 and 1 for every finite x."""
    # task 1
    small = np.exp(-np.abs(x))  # at most 1: it cannot overflow
    slope: Array = np.where(x >= 0, 1.0, small) / (1 + small)
    return slope


# --- Task 2: finite differences -------------------------------------------------------------------------------


def numeric_gradient(function: Callable[[Array], float], x: Array, step: float = 1e-6) -> Array:
    """The gradient of a function at x by central differences: one number for each element of x.

        gradient[i] = (function(x + step · e_i) - function(x - step · e_i)) / (2 · step)

    where e_i is 1 at element i and 0 elsewhere. `function` takes an array of x's shape and gives one number. x is of
    any shape, () too; the result has that shape. x itself stays as it is, at every moment: `function` may keep it.
    """
    # task 2
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        e = np.zeros(x.shape)
        e[i] = step
        gradient[i] = (function(x + e) - function(x - e)) / (2 * step)
    return gradient


# --- Task 3: a net of two layers ------------------------------------------------------------------------------


class Params(NamedTuple):
    """The parameters of the net: weight1 (in, hidden), bias1 (hidden,), weight2 (hidden, out), bias2 (out,)."""

    weight1: Array
    bias1: Array
    weight2: Array
    bias2: Array


def forward(params: Params, x: Array) -> tuple[Array, Any]:
    """The net: x (n, in) -> (y, residuals), y (n, out).

        h = tanh(x · weight1 + bias1)
        y = h · weight2 + bias2

    The residuals are what `backward` will need; what is in them is yours to choose.
    """
    # task 3
    h = np.tanh(x @ params.weight1 + params.bias1)
    return h @ params.weight2 + params.bias2, (x, h)


def mean_squared_error(y: Array, t: Array) -> tuple[float, Array]:
    """y (n, out) and targets t (n, out) -> (value, dy): the mean of (y - t)² over all n · out numbers.

    The value is a Python float; dy, its gradient in y, has y's shape.
    """
    # task 3
    error = y - t
    return float(np.mean(error**2)), 2 * error / error.size


def backward(params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    """dy (n, out) -> (gradients, dx): the gradients of the loss in the params, as Params, and in x (n, in).

    dy is the gradient of the loss in y, whatever the loss was.
    """
    # task 3
    x, h = residuals
    dz = (dy @ params.weight2.T) * (1 - h**2)
    return Params(x.T @ dz, dz.sum(axis=0), h.T @ dy, dy.sum(axis=0)), dz @ params.weight1.T


# --- Task 4: a check along one direction ----------------------------------------------------------------------


def relative_error(a: float, b: float) -> float:
    """|a - b| / max(|a|, |b|); 0.0 if both are zero."""
    # task 4
    larger = max(abs(a), abs(b))
    return abs(a - b) / larger if larger else 0.0


def slopes_along(
    function: Callable[[Array], float], x: Array, gradient: Array, direction: Array, step: float = 1e-6
) -> tuple[float, float]:
    """The slope of `function` at x along a direction, in two ways -> (analytic, numeric).

        analytic = Σ gradient · direction
        numeric  = (function(x + step · direction) - function(x - step · direction)) / (2 · step)

    x, gradient and direction have one shape, any. It calls `function` exactly twice.
    """
    # task 4
    analytic = float(np.sum(gradient * direction))
    numeric = (function(x + step * direction) - function(x - step * direction)) / (2 * step)
    return analytic, float(numeric)


# --- Task 5: the wrong gradient -------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A function of an array, what is said to be its gradient, and a place to look at."""

    name: str
    function: Callable[[Array], float]
    gradient: Callable[[Array], Array]
    x: Array


def wrong_gradients(candidates: list[Candidate], seed: int) -> list[str]:
    """The names of those candidates whose gradient is wrong at their x, in the order in which they came.

    A gradient counts as wrong if along one of three random directions (Gaussian, from `np.random.default_rng(seed)`)
    the relative error of its slope is more than 1e-4. No function has a kink near its x.
    """
    # task 5
    draw = np.random.default_rng(seed)
    wrong = []
    for name, function, gradient, x in candidates:
        at_x = gradient(x)
        errors = [
            relative_error(*slopes_along(function, x, at_x, direction))
            for direction in draw.standard_normal((3, *x.shape))
        ]
        if max(errors) > 1e-4:
            wrong.append(name)
    return wrong


# --- See it work: python gradients.py -------------------------------------------------------------------------


def main() -> None:
    """Fit sin by the net of task 3, and print the loss as it falls."""
    draw = np.random.default_rng(0)
    params = Params(draw.normal(size=(1, 16)), np.zeros(16), draw.normal(size=(16, 1)) / 4, np.zeros(1))
    x = np.linspace(-3, 3, 100)[:, None]
    for step in range(3001):
        y, residuals = forward(params, x)
        loss, dy = mean_squared_error(y, np.sin(x))
        gradients, _ = backward(params, residuals, dy)
        params = Params(*[leaf - 0.05 * slope for leaf, slope in zip(params, gradients, strict=True)])
        if step % 500 == 0:
            print(f"step {step:4}  loss {loss:.6f}")


if __name__ == "__main__":
    main()
