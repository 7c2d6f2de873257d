"""The checks of problem set 1. Run them by `python grade.py set_1_gradients`, or by pytest."""

from pathlib import Path
from typing import Any

import numpy as np
from grading import Student, check, close, equal, numeric_gradient, replaced, that, unchanged

TASKS = {
    1: "slopes of functions of one number",
    2: "finite differences",
    3: "a net of two layers",
    4: "a check along one direction",
    5: "the wrong gradient",
}
student = Student(Path(__file__).with_name("gradients.py"))


def values(*shape: int, seed: int = 0) -> Any:
    """Gaussian numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


# --- Task 1 ---------------------------------------------------------------------------------------------------


@check(task=1, points=1)
def test_bump() -> None:
    """the slope of x² · exp(-x)"""
    x = values(2, 3)
    mistakes = {
        "Both factors depend on x: (u · v)' = u' · v + u · v'": 2 * x * np.exp(-x),
        "The slope of exp(-x) is -exp(-x)": (2 * x + x**2) * np.exp(-x),
    }
    close("slope_of_bump", student.slope_of_bump(x), (2 * x - x**2) * np.exp(-x), mistakes=mistakes)


@check(task=1, points=1)
def test_tanh() -> None:
    """the slope of tanh, from y"""
    x = values(4)
    y = np.tanh(x)
    mistakes = {"It is given y = tanh(x), not x: take no tanh of it": 1 - np.tanh(y) ** 2}
    close("slope_of_tanh", student.slope_of_tanh(y), 1 - y**2, mistakes=mistakes)


@check(task=1, points=1)
def test_softplus() -> None:
    """softplus and its slope"""
    x = values(3, 2)
    close("softplus", student.softplus(x), np.log(1 + np.exp(x)))
    close("slope_of_softplus", student.slope_of_softplus(x), 1 / (1 + np.exp(-x)))


@check(task=1, points=1)
def test_softplus_of_large_numbers() -> None:
    """softplus and its slope at -1000 and 1000"""
    x = np.array([-1000.0, 1000.0])
    advice = "exp(1000) overflows. log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))"
    mistakes = {advice: [0.0, np.inf], "exp(1000) overflows, and inf / inf is nan": [0.0, np.nan]}
    close("softplus", student.softplus(x), [0.0, 1000.0], mistakes=mistakes)
    close("slope_of_softplus", student.slope_of_softplus(x), [0.0, 1.0], mistakes=mistakes)


# --- Task 2 ---------------------------------------------------------------------------------------------------


def cubic(x: Any) -> float:
    """Σ x³, whose slope is 3x²."""
    return float(np.sum(x**3))


@check(task=2, points=1)
def test_numeric_gradient() -> None:
    """a gradient of a vector"""
    x = values(5)
    close("numeric_gradient of Σ x³", student.numeric_gradient(cubic, x), 3 * x**2, rtol=1e-5)


@check(task=2, points=1)
def test_any_shape() -> None:
    """arrays of any shape: (2, 3), (0,) and ()"""
    for shape in ((2, 3), (0,), ()):
        x = np.asarray(values(*shape))
        close(f"numeric_gradient of Σ x³, shape {shape},", student.numeric_gradient(cubic, x), 3 * x**2, rtol=1e-5)


@check(task=2, points=1)
def test_central() -> None:
    """central differences, of the step that is asked for"""
    x, step = values(3), 0.1
    ahead = ((x + step) ** 3 - x**3) / step
    mistakes = {
        "Yours looks ahead alone, an error of the size of the step. Look to both sides": ahead,
        "The two places are 2 · step apart: divide by that": 2 * (3 * x**2 + step**2),
        "Take the step that is passed": 3 * x**2,
    }
    got = student.numeric_gradient(cubic, x, step=step)
    close("numeric_gradient of Σ x³, step 0.1,", got, 3 * x**2 + step**2, mistakes=mistakes, rtol=1e-6)


@check(task=2, points=1)
def test_x_stays() -> None:
    """x stays as it is, at every moment"""
    x = values(4)
    kept = x.copy()

    def function(z: Any) -> float:
        that(np.array_equal(x, kept), "x: it is written to while the function is called. Make x + e, a new array")
        return cubic(z)

    with unchanged(x=x):
        student.numeric_gradient(function, x)


# --- Task 3 ---------------------------------------------------------------------------------------------------


def net(n: int = 4) -> tuple[Any, Any]:
    """Params of a net from 3 over 5 to 2 numbers, and n examples."""
    params = student.Params(values(3, 5, seed=1), values(5, seed=2), values(5, 2, seed=3), values(2, seed=4))
    return params, values(n, 3, seed=5)


def output(params: Any, x: Any) -> Any:
    """What the net gives."""
    return np.tanh(x @ params.weight1 + params.bias1) @ params.weight2 + params.bias2


@check(task=3, points=1)
def test_forward() -> None:
    """forward"""
    params, x = net()
    weight1, bias1, weight2, bias2 = params
    mistakes = {
        "tanh is missing": (x @ weight1 + bias1) @ weight2 + bias2,
        "There is no tanh after the second layer": np.tanh(output(params, x)),
    }
    with unchanged(params=params, x=x):
        y, _ = student.forward(params, x)
    close("y", y, output(params, x), mistakes=mistakes)


@check(task=3, points=1)
def test_loss() -> None:
    """the mean squared error and its gradient"""
    y, t = values(4, 2), values(4, 2, seed=1)
    value, dy = student.mean_squared_error(y, t)
    equal("the value's type", type(value), float, "Take float(...) of it")
    mean = {"The mean is over all n · out numbers": np.sum((y - t) ** 2) / len(y)}
    close("the value", value, np.mean((y - t) ** 2), mistakes=mean)
    slopes = {
        "The value is a mean: divide its gradient by n · out too": 2 * (y - t),
        "The mean is over all n · out numbers, not over the n examples": 2 * (y - t) / len(y),
        "The slope of e² is 2e": (y - t) / y.size,
    }
    close("dy", dy, 2 * (y - t) / y.size, mistakes=slopes)


def gradients_of_net(n: int = 4) -> tuple[Any, Any, Any]:
    """The params, x, and dy with the student's gradients for it."""
    params, x = net(n)
    dy = values(n, 2, seed=6)
    _, residuals = student.forward(params, x)
    with unchanged(params=params, dy=dy, residuals=residuals):
        made = student.backward(params, residuals, dy)
    return params, (x, dy), made


def slopes_of(params: Any, x: Any, dy: Any, name: str) -> Any:
    """The gradient of Σ y · dy in one of the params, by finite differences."""
    return numeric_gradient(
        lambda leaf: float(np.sum(output(params._replace(**{name: leaf}), x) * dy)), getattr(params, name)
    )


@check(task=3, points=1)
def test_gradients_of_the_second_layer() -> None:
    """the gradients of weight2 and bias2"""
    params, (x, dy), (gradients, _) = gradients_of_net()
    h = np.tanh(x @ params.weight1 + params.bias1)
    mistakes = {
        "dy is already the gradient of a mean: the sum over the examples is what is asked": h.T @ dy / len(x),
        "Sum over the examples, axis 0": np.broadcast_to(dy.sum(axis=1), (len(x),)),
        "It is the mean over the examples; the sum is asked": dy.mean(axis=0),
    }
    for name in ("weight2", "bias2"):
        right = slopes_of(params, x, dy, name)
        close(f"the gradient of {name}", getattr(gradients, name), right, mistakes=mistakes, rtol=1e-5)


@check(task=3, points=2)
def test_gradients_of_the_first_layer() -> None:
    """the gradients of weight1 and bias1, through tanh"""
    params, (x, dy), (gradients, _) = gradients_of_net()
    dh = dy @ params.weight2.T
    mistakes = {
        "The slope of tanh is missing": x.T @ dh,
        "It is the mean over the examples; the sum is asked": slopes_of(params, x, dy, "bias1") / len(x),
    }
    for name in ("weight1", "bias1"):
        right = slopes_of(params, x, dy, name)
        close(f"the gradient of {name}", getattr(gradients, name), right, mistakes=mistakes, rtol=1e-5)


@check(task=3, points=1)
def test_gradient_of_x() -> None:
    """the gradient of x"""
    params, (x, dy), (_, dx) = gradients_of_net()
    right = numeric_gradient(lambda x: float(np.sum(output(params, x) * dy)), x)
    mistakes = {"The slope of tanh is missing": dy @ params.weight2.T @ params.weight1.T}
    close("dx", dx, right, mistakes=mistakes, rtol=1e-5)


# --- Task 4 ---------------------------------------------------------------------------------------------------


@check(task=4, points=1)
def test_relative_error() -> None:
    """the relative error"""
    for a, b, right in ((1.0, 2.0, 0.5), (-3.0, 3.0, 2.0), (1e-9, 3e-9, 2 / 3), (-4.0, -1.0, 0.75), (0.0, 0.0, 0.0)):
        close(f"relative_error({a}, {b})", student.relative_error(a, b), right)


@check(task=4, points=1)
def test_slopes_along() -> None:
    """both slopes along a direction, by two calls"""
    x, direction, gradient = values(2, 3), values(2, 3, seed=1), values(2, 3, seed=2)
    calls = []

    def function(z: Any) -> float:
        calls.append(np.array(z))
        return cubic(z)

    with unchanged(x=x, direction=direction, gradient=gradient):
        analytic, numeric = student.slopes_along(function, x, gradient, direction, step=1e-2)
    unit = np.linalg.norm(direction)
    mistakes = {"The direction is to be taken as long as it is": np.sum(gradient * direction) / unit}
    close("analytic", analytic, np.sum(gradient * direction), mistakes=mistakes)
    central = (cubic(x + 1e-2 * direction) - cubic(x - 1e-2 * direction)) / 2e-2
    mistakes = {
        "Yours looks ahead alone. Look to both sides": (cubic(x + 1e-2 * direction) - cubic(x)) / 1e-2,
        "The two places are 2 · step apart: divide by that": 2 * central,
        "The direction is to be taken as long as it is": central / unit,
    }
    close("numeric", numeric, central, mistakes=mistakes)
    equal("the number of calls", len(calls), 2, "One to each side")


# --- Task 5 ---------------------------------------------------------------------------------------------------


def reference_slopes(function: Any, x: Any, gradient: Any, direction: Any, step: float = 1e-6) -> tuple[float, float]:
    """What task 4 asks for."""
    ahead, behind = function(x + step * direction), function(x - step * direction)
    return float(np.sum(gradient * direction)), (ahead - behind) / (2 * step)


def reference_error(a: float, b: float) -> float:
    """What task 4 asks for."""
    return abs(a - b) / (max(abs(a), abs(b)) or 1.0)


def candidate(name: str, function: Any, gradient: Any, x: Any) -> Any:
    """A candidate as the student's file has them."""
    return student.Candidate(name, function, gradient, x)


def wrong_at(at: tuple[int, ...], factor: float) -> Any:
    """The gradient of Σ sin x with one element that is wrong by a factor."""

    def gradient(x: Any) -> Any:
        slopes = np.cos(x)
        slopes[at] *= factor
        return slopes

    return gradient


def sum_of_sines(x: Any) -> float:
    """Σ sin x."""
    return float(np.sum(np.sin(x)))


@check(task=5, points=2)
def test_finds_the_wrong_ones() -> None:
    """names all that are wrong, in their order"""
    x = values(4, 5)
    asked = [
        candidate("sign", sum_of_sines, lambda x: -np.cos(x), x),
        candidate("right", sum_of_sines, np.cos, x),
        candidate("one element", sum_of_sines, wrong_at((2, 3), 1.1), x),
        candidate("a term", lambda x: float(np.sum(x**2 + x)), lambda x: 2 * x, x),
        candidate("scale", lambda x: float(np.sum(x**2)) * 1e-7, lambda x: 1e-7 * x, x),
        candidate("zero", sum_of_sines, np.zeros_like, x),
    ]
    expected = ["sign", "one element", "a term", "scale", "zero"]
    with replaced(student, slopes_along=reference_slopes, relative_error=reference_error):
        got = student.wrong_gradients(asked, 0)
    advice = ""
    if isinstance(got, list) and set(got) < set(expected):
        advice = "Those that are missing err in one of 20 elements, or are small: relative errors, all directions"
    equal("the wrong gradients", got, expected, advice)


@check(task=5, points=1)
def test_accuses_no_right_one() -> None:
    """names none that is right, large and small ones too"""
    x = values(4, 5)
    asked = [
        candidate("sines", sum_of_sines, np.cos, x),
        candidate("large", lambda x: 1e8 * float(np.sum(x**2)), lambda x: 2e8 * x, x),
        candidate("small", lambda x: 1e-8 * float(np.sum(x**3)), lambda x: 3e-8 * x**2, x),
        candidate("constant", lambda x: 3.0, np.zeros_like, x),
        candidate("a number", lambda x: float(x**4), lambda x: 4 * x**3, np.array(1.5)),
    ]
    with replaced(student, slopes_along=reference_slopes, relative_error=reference_error):
        for seed in range(3):
            equal("the wrong gradients", student.wrong_gradients(asked, seed), [], "Is the error relative?")


@check(task=5, points=1)
def test_seeded() -> None:
    """takes random directions from the seed alone"""
    x = values(3)
    seen: list[Any] = []

    def spied(function: Any, x: Any, gradient: Any, direction: Any, step: float = 1e-6) -> tuple[float, float]:
        seen.append(np.array(direction))
        return reference_slopes(function, x, gradient, direction, step)

    asked = [candidate("sines", sum_of_sines, np.cos, x)]
    with replaced(student, slopes_along=spied, relative_error=reference_error):
        for seed in (5, 5, 6):
            student.wrong_gradients(asked, seed)
    equal("the calls of slopes_along for one candidate that is right", len(seen) / 3, 3, "One for each direction")
    first, again, other = np.array(seen).reshape(3, 3, 3)
    that(np.array_equal(first, again), "the same seed gives other directions. Draw from np.random.default_rng(seed)")
    that(not np.array_equal(first, other), "another seed gives the same directions")
    that(not np.array_equal(first[0], first[1]), "the three directions are the same. Make the generator once")
