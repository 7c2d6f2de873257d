"""The checks of problem set 4. Run them by `python grade.py set_4_convolution`, or by pytest."""

from pathlib import Path
from typing import Any

import numpy as np
from grading import Student, check, close, equal, numeric_gradient, replaced, that, unchanged

from funcnn import conv_strided
from funcnn.arrays.geometry import geometry
from funcnn.data import load
from funcnn.layers import max_pool2d

TASKS = {
    1: "windows as a view",
    2: "forward",
    3: "the gradients of the params",
    4: "the gradient of the images",
    5: "max pooling",
    6: "a convolutional net",
}
student = Student(Path(__file__).with_name("convolution.py"))


def values(*shape: int, seed: int = 0) -> Any:
    """Gaussian numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


# --- What the library says ------------------------------------------------------------------------------------


def geo(in_size: Any, size: int, stride: int) -> Any:
    """The geometry of windows."""
    return geometry(tuple(in_size), (size, size), (stride, stride), (1, 1), "valid")


def right_windows(x: Any, size: int, stride: int = 1) -> Any:
    """What task 1 asks for."""
    return conv_strided.windows(x, geo(x.shape[1:3], size, stride))


def right_apply(weight: Any, bias: Any, x: Any, stride: int = 1) -> Any:
    """What task 2 asks for."""
    return conv_strided.conv_forward(x, weight, geo(x.shape[1:3], len(weight), stride), bias=bias)


def quick_apply(weight: Any, bias: Any, x: Any, stride: int = 1) -> Any:
    """The same by einsum's faster way."""
    y = np.einsum("nijklc,klcf->nijf", right_windows(x, len(weight), stride), weight, optimize=True)
    return y + bias


def right_params_gradient(x: Any, dy: Any, size: int, stride: int = 1) -> Any:
    """What task 3 asks for."""
    return conv_strided.conv_weight_gradient(x, dy, geo(x.shape[1:3], size, stride)), dy.sum(axis=(0, 1, 2))


def quick_params_gradient(x: Any, dy: Any, size: int, stride: int = 1) -> Any:
    """The same by einsum's faster way."""
    dweight = np.einsum("nijklc,nijf->klcf", right_windows(x, size, stride), dy, optimize=True)
    return dweight, dy.sum(axis=(0, 1, 2))


def right_input_gradient(dy: Any, weight: Any, in_size: Any, stride: int = 1) -> Any:
    """What task 4 asks for."""
    return conv_strided.conv_input_gradient(dy, weight, geo(in_size, len(weight), stride))


def right_pool(x: Any, size: int) -> Any:
    """What task 5 asks for."""
    applied = max_pool2d(size).apply(None, None, x, train=True)
    return applied.y, (size, applied.residuals)


def right_pool_backward(residuals: Any, dy: Any) -> Any:
    """What task 5 asks for."""
    size, kept = residuals
    return max_pool2d(size).backward(None, kept, dy).dx


# --- Task 1 ---------------------------------------------------------------------------------------------------


@check(task=1, points=1)
def test_windows() -> None:
    """windows one pixel apart"""
    x = values(2, 5, 6, 3)
    got = student.windows(x, 3)
    right = right_windows(x, 3)
    mistakes = {
        "The axes of the window (i, j) come before those of the cell in it (k, l)": right.transpose(0, 3, 4, 1, 2, 5),
        "The channels are the last axis": right.transpose(0, 1, 2, 5, 3, 4),
    }
    close("windows", got, right, mistakes=mistakes)


@check(task=1, points=1)
def test_windows_with_a_stride() -> None:
    """windows two and three pixels apart, and their number"""
    for size, kernel, stride, right in ((8, 3, 1, 6), (8, 2, 2, 4), (8, 3, 2, 3), (7, 3, 3, 2), (3, 3, 2, 1)):
        equal(f"out_size({size}, {kernel}, {stride})", student.out_size(size, kernel, stride), right)
    x = values(2, 7, 8, 2)
    for stride in (2, 3):
        close(f"windows of 3 pixels, stride {stride}", student.windows(x, 3, stride), right_windows(x, 3, stride))


@check(task=1, points=1)
def test_windows_are_a_view() -> None:
    """a view, read-only: nothing is copied"""
    x = values(2, 6, 6, 1)
    view = student.windows(x, 3)
    that(isinstance(view, np.ndarray) and np.shares_memory(view, x), "windows: they are a copy, not a view of x")
    that(not view.flags.writeable, "windows: one can write to them, and so to x. Pass writeable=False to as_strided")
    that(x.flags.writeable, "windows: x itself was made read-only")


@check(task=1, points=1)
def test_windows_of_a_view() -> None:
    """windows of images that do not lie one after another in memory"""
    x = values(8, 6, 12, 2).astype(np.float32)
    advice = "Take the strides from x.strides: x need not lie in order, nor have 8 bytes a number"
    for name, view in (("x[::2]", x[::2]), ("x[:, :, ::-2]", x[:, :, ::-2]), ("x.transpose", x.transpose(0, 2, 1, 3))):
        that(np.array_equal(student.windows(view, 3), right_windows(view, 3)), f"windows of {name}: {advice}")


# --- Task 2 ---------------------------------------------------------------------------------------------------


@check(task=2, points=1)
def test_forward() -> None:
    """one channel, one filter"""
    x, weight, bias = values(2, 5, 4, 1), values(3, 3, 1, 1, seed=1), values(1, seed=2)
    mistakes = {
        "The bias is missing": right_apply(weight, np.zeros(1), x),
        "The kernel is not to be flipped": right_apply(weight[::-1, ::-1], bias, x),
        "The kernel's axes are (k, l): row, column": right_apply(weight.transpose(1, 0, 2, 3), bias, x),
    }
    with replaced(student, windows=right_windows):
        close("y", student.conv_apply(weight, bias, x), right_apply(weight, bias, x), mistakes=mistakes)


@check(task=2, points=1)
def test_forward_of_many() -> None:
    """several channels and filters, with a stride"""
    x, weight, bias = values(2, 7, 8, 3), values(3, 3, 3, 4, seed=1), values(4, seed=2)
    mistakes = {"The stride is left out": right_apply(weight, bias, x)}
    with replaced(student, windows=right_windows), unchanged(x=x, weight=weight, bias=bias):
        close("y", student.conv_apply(weight, bias, x, 2), right_apply(weight, bias, x, 2), mistakes=mistakes)


@check(task=2, points=1)
def test_forward_keeps_the_dtype() -> None:
    """float32 in, float32 out"""
    x, weight, bias = (values(*s).astype(np.float32) for s in ((2, 5, 5, 2), (3, 3, 2, 4), (4,)))
    with replaced(student, windows=right_windows):
        y = student.conv_apply(weight, bias, x)
    equal("the dtype of y", y.dtype, np.dtype(np.float32))
    close("y", y, right_apply(weight, bias, x), rtol=1e-4, atol=1e-5)


# --- Task 3 ---------------------------------------------------------------------------------------------------


def params_gradient(stride: int) -> Any:
    """What the student's function gives, and what is right."""
    x = values(2, 7, 8, 3)
    dy = values(*right_windows(x, 3, stride).shape[:3], 4, seed=1)
    with replaced(student, windows=right_windows), unchanged(x=x, dy=dy):
        return student.conv_params_gradient(x, dy, 3, stride), right_params_gradient(x, dy, 3, stride)


@check(task=3, points=2)
def test_weight_gradient() -> None:
    """the gradient of the weight"""
    (got, _), (right, _) = params_gradient(1)
    mistakes = {
        "dy is already the gradient of a mean: sum over the examples": right / 2,
        "Sum over the windows; it is their mean": right / 30,
        "The gradient is not flipped": right[::-1, ::-1],
    }
    close("dweight", got, right, mistakes=mistakes)


@check(task=3, points=1)
def test_weight_gradient_with_a_stride() -> None:
    """the gradient of the weight, with a stride"""
    for stride in (2, 3):
        (got, _), (right, _) = params_gradient(stride)
        close(f"dweight with stride {stride}", got, right)


@check(task=3, points=1)
def test_bias_gradient() -> None:
    """the gradient of the bias"""
    (_, got), (_, right) = params_gradient(1)
    mistakes = {"dy is already the gradient of a mean: sum, over examples and windows": right / 2 / 30}
    close("dbias", got, right, mistakes=mistakes)


# --- Task 4 ---------------------------------------------------------------------------------------------------


def input_gradient(in_size: Any, stride: int, size: int = 3) -> Any:
    """What the student's function gives, what is right, and dy with the weight."""
    weight = values(size, size, 2, 4)
    dy = values(2, *geo(in_size, size, stride).out_size, 4, seed=1)
    with replaced(student, windows=right_windows):
        got = student.conv_input_gradient(dy, weight, in_size, stride)
    return got, right_input_gradient(dy, weight, in_size, stride), dy, weight


@check(task=4, points=2)
def test_input_gradient() -> None:
    """the gradient of the images"""
    got, right, dy, weight = input_gradient((5, 6), 1)
    last = np.zeros_like(right)
    for k, l in np.ndindex(3, 3):  # noqa: E741
        last[:, k : k + 3, l : l + 4] = dy @ weight[k, l].T
    mistakes = {
        "A pixel lies in several windows: add up what they give": last,
        "The kernel lies on dx as it lay on x: not flipped": right_input_gradient(dy, weight[::-1, ::-1], (5, 6)),
    }
    close("dx", got, right, mistakes=mistakes)


@check(task=4, points=1)
def test_input_gradient_with_a_stride() -> None:
    """with a stride, and pixels that lie in no window"""
    for in_size, stride, size in (((7, 9), 2, 3), ((8, 8), 2, 3), ((8, 7), 3, 2)):
        got, right, *_ = input_gradient(in_size, stride, size)
        close(f"dx for images of {in_size}, stride {stride}, a kernel of {size},", got, right)


@check(task=4, points=1)
def test_input_gradient_is_the_transpose() -> None:
    """⟨conv(x), dy⟩ = ⟨x, dx⟩ for any x and dy; arguments stay as they are"""
    weight, dy, x = values(2, 2, 3, 2), values(3, 4, 3, 2, seed=1), values(3, 5, 4, 3, seed=2)
    with replaced(student, windows=right_windows), unchanged(weight=weight, dy=dy):
        dx = student.conv_input_gradient(dy, weight, (5, 4))
    equal("the shape of dx", np.shape(dx), x.shape)
    close("⟨x, dx⟩", np.vdot(x, dx), np.vdot(right_apply(weight, np.zeros(2), x), dy))


# --- Task 5 ---------------------------------------------------------------------------------------------------


@check(task=5, points=1)
def test_pool() -> None:
    """the largest pixel of each block"""
    for shape, size in (((2, 4, 6, 3), 2), ((1, 6, 3, 2), 3)):
        x = values(*shape) - 5  # all are negative
        with unchanged(x=x):
            y, _ = student.max_pool_apply(x, size)
        mistakes = {"Its blocks are not those of neighbouring pixels": -right_pool(-x, size)[0]}
        close(f"y of blocks of {size}", y, right_pool(x, size)[0], mistakes=mistakes)


@check(task=5, points=1)
def test_pool_backward() -> None:
    """the gradient goes to the largest pixel"""
    for shape, size in (((2, 4, 6, 3), 2), ((1, 6, 3, 2), 3)):
        x = values(*shape)
        y, kept = right_pool(x, size)
        dy = values(*y.shape, seed=1)
        residuals = student.max_pool_apply(x, size)[1]
        with unchanged(dy=dy, residuals=residuals):
            dx = student.max_pool_backward(residuals, dy)
        mistakes = {"It is dy that passes, not 1": right_pool_backward(kept, np.ones_like(dy))}
        close(f"dx of blocks of {size}", dx, right_pool_backward(kept, dy), mistakes=mistakes)


@check(task=5, points=1)
def test_pool_of_equal_pixels() -> None:
    """of equal pixels the first in reading order gets all"""
    x = np.array([[1.0, 3.0, 0.0], [2.0, 3.0, 0.0], [3.0, 0.0, 3.0]]).reshape(1, 3, 3, 1)
    _, residuals = student.max_pool_apply(x, 3)
    dx = student.max_pool_backward(residuals, np.full((1, 1, 1, 1), 6.0))[0, :, :, 0]
    right = np.array([[0.0, 6.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    mistakes = {
        "Each of them gets all: dy counts four times": 6.0 * (x[0, :, :, 0] == 3),
        "They share it": 1.5 * (x[0, :, :, 0] == 3),
        "The last gets it": 6.0 * (np.arange(9).reshape(3, 3) == 8),
        "Yours reads column by column": 6.0 * (np.arange(9).reshape(3, 3) == 6),
    }
    close("dx", dx, right, mistakes=mistakes)


# --- Task 6 ---------------------------------------------------------------------------------------------------


def all_right() -> Any:
    """The library's functions in the place of the student's of tasks 1 to 5."""
    return replaced(
        student, windows=right_windows, conv_apply=quick_apply, conv_params_gradient=quick_params_gradient,
        conv_input_gradient=right_input_gradient, max_pool_apply=right_pool, max_pool_backward=right_pool_backward,
    )  # fmt: skip


@check(task=6, points=1)
def test_net() -> None:
    """logits, and the gradients of all params"""
    params, x, dlogits = student.init(0, filters=1), values(2, 8, 8, 1, seed=1), values(2, 10, seed=2)
    params = params._replace(bias1=np.array([-1.5]), bias2=values(10, seed=4))

    def logits_of(params: Any) -> Any:
        z = np.maximum(quick_apply(params.kernel, params.bias1, x), 0)
        return right_pool(z, 2)[0].reshape(2, -1) @ params.weight + params.bias2

    with all_right():
        logits, residuals = student.net_apply(params, x)
        close("the logits", logits, logits_of(params))
        with unchanged(params=params, dlogits=dlogits):
            gradients = student.net_backward(params, residuals, dlogits)
    for name in params._fields:

        def inner(leaf: Any, name: str = name) -> float:
            return float(np.vdot(logits_of(params._replace(**{name: leaf})), dlogits))

        right = numeric_gradient(inner, getattr(params, name))
        close(f"the gradient of {name}", getattr(gradients, name), right, rtol=1e-5, atol=1e-7)


@check(task=6, points=1)
def test_digits() -> None:
    """digits: a test accuracy of 0.7 after an epoch"""
    data = load("digits")
    x, labels = data.train.take(slice(None))
    assert data.test is not None
    with all_right():
        params = student.fit(student.init(0), x, labels, epochs=1)
        got = student.accuracy(params, *data.test.take(slice(None)))
    that(got >= 0.7, f"test accuracy: expected at least 0.7, got {got:.4f}")
