"""The checks of problem set 2. Run them by `python grade.py set_2_layers`, or by pytest."""

from pathlib import Path
from typing import Any

import numpy as np
from grading import Student, check, close, equal, that, unchanged

from funcnn import Key, fold_in, serial, tree
from funcnn.grad_check import check_contract, check_loss
from funcnn.init import he_normal
from funcnn.layers import batch_norm, dense, dropout, flatten, relu, tanh

TASKS = {
    1: "a dense layer",
    2: "relu",
    3: "softmax cross-entropy",
    4: "layers one after another",
}
student = Student(Path(__file__).with_name("layers.py"))


def values(*shape: int, seed: int = 0) -> Any:
    """Gaussian numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def same(what: str, got: Any, expected: Any, rtol: float = 1e-7) -> None:
    """Raise Wrong unless two trees have the same structure and close numbers."""
    paths = tree.paths(got), tree.paths(expected)
    equal(f"the paths of {what}", *paths)
    for path, one, other in zip(paths[0], tree.flatten(got), tree.flatten(expected), strict=True):
        close(f"{what} {path}".strip(), one, other, rtol=rtol)


# --- Task 1 ---------------------------------------------------------------------------------------------------


def dense_params() -> Any:
    """Params of a dense layer from 3 to 2 numbers, in float64."""
    return student.DenseParams(values(3, 2, seed=1), values(2, seed=2))


@check(task=1, points=1)
def test_dense_init() -> None:
    """init: params in their shapes and dtype, each drawn from its own key"""
    for dtype in (np.float32, np.float64):
        params, state, out_shape = student.dense_init(student.Dense(5), Key(0), (400,), dtype)
        equal("the state", state, None, "A dense layer carries nothing")
        equal("out_shape", out_shape, (5,), "It is of an example, without the batch axis")
        expected = he_normal()(fold_in(Key(0), "weight"), (400, 5), 400, 5, dtype)
        mistakes = {
            'Draw it from fold_in(key, "weight")': he_normal()(Key(0), (400, 5), 400, 5, dtype),
            "Yours is transposed: weight (in, units)": expected.T,
            "he_normal() is given (key, shape, in, units, dtype): in first": he_normal()(
                fold_in(Key(0), "weight"), (400, 5), 5, 400, dtype
            ),
        }
        close("params.weight", params.weight, expected, mistakes=mistakes, rtol=1e-6)
        close("params.bias", params.bias, np.zeros(5))
        for name in ("weight", "bias"):
            equal(f"the dtype of params.{name}", getattr(params, name).dtype, np.dtype(dtype), "Hand dtype on")


@check(task=1, points=1)
def test_dense_apply() -> None:
    """apply: y = x · weight + bias, the state as it came, residuals if train"""
    params, x = dense_params(), values(4, 3)
    for train in (False, True):
        y, state, residuals = student.dense_apply(student.Dense(2), params, None, x, train=train)
        right = x @ params.weight + params.bias
        close("y", y, right, mistakes={"The bias is missing": x @ params.weight})
        equal("the state", state, None)
        that((residuals is None) != train, f"with train={train}: the residuals are {'None' if train else 'kept'}")


@check(task=1, points=1)
def test_dense_gradient_of_weight() -> None:
    """backward: the gradient of the weight"""
    _, x, dy, grads = dense_gradients()
    mistakes = {
        "Yours is transposed: it has the weight's shape": dy.T @ x,
        "dy is already the gradient of a mean: sum over the examples": x.T @ dy / len(x),
    }
    close("the gradient of weight", grads.params.weight, x.T @ dy, mistakes=mistakes)


@check(task=1, points=1)
def test_dense_gradient_of_bias() -> None:
    """backward: the gradient of the bias"""
    _, _, dy, grads = dense_gradients()
    mistakes = {
        "Sum over the examples, axis 0": dy.sum(axis=1),
        "dy is already the gradient of a mean: sum over the examples": dy.mean(axis=0),
        "Sum over the examples: it has the bias's shape": dy,
    }
    close("the gradient of bias", grads.params.bias, dy.sum(axis=0), mistakes=mistakes)


@check(task=1, points=1)
def test_dense_gradient_of_x() -> None:
    """backward: the gradient of x, and None without need_dx"""
    params, _, dy, grads = dense_gradients()
    close("dx", grads.dx, dy @ params.weight.T)
    equal("dx with need_dx=False", dense_gradients(need_dx=False)[3].dx, None)


def dense_gradients(need_dx: bool = True) -> tuple[Any, Any, Any, Any]:
    """params, x and dy, and what the student's backward makes of them."""
    params, x, dy = dense_params(), values(4, 3), values(4, 2, seed=3)
    residuals = student.dense_apply(student.Dense(2), params, None, x, train=True)[2]
    with unchanged(params=params, dy=dy):
        return params, x, dy, student.dense_backward(student.Dense(2), params, residuals, dy, need_dx=need_dx)


@check(task=1, points=1)
def test_dense_contract() -> None:
    """the whole contract, by check_contract"""
    check_contract(student.my_dense(3), (4,), key=Key(0), layers=[student.my_dense])


# --- Task 2 ---------------------------------------------------------------------------------------------------


@check(task=2, points=1)
def test_relu_apply() -> None:
    """apply: max(x, 0), and a byte for each number as residuals"""
    x = values(3, 4).astype(np.float32)
    with unchanged(x=x):
        y, _, residuals = student.relu_apply(student.Relu(), None, None, x, train=True)
    close("y", y, np.maximum(x, 0))
    equal("the dtype of y", y.dtype, x.dtype)
    size = sum(np.asarray(leaf).nbytes for leaf in tree.flatten(residuals))
    that(0 < size <= x.size, f"residuals: expected at most {x.size} bytes, got {size}. Keep x > 0, an array of bools")


@check(task=2, points=1)
def test_relu_backward() -> None:
    """backward: dy where x > 0, and 0 at x = 0"""
    x, dy = np.array([[-2.0, 0.0, 3.0], [4.0, -1.0, 0.0]]), values(2, 3)
    residuals = student.relu_apply(student.Relu(), None, None, x, train=True).residuals
    with unchanged(dy=dy, residuals=residuals):
        params, dx = student.relu_backward(student.Relu(), None, residuals, dy)
    mistakes = {
        "At x = 0 the slope is to be 0": dy * (x >= 0),
        "Where x is not positive, the gradient is 0": dy,
        "It is dy that passes where x > 0, not 1": (x > 0) * 1.0,
        "It is dy that passes where x > 0, whatever dy's sign": np.maximum(dy, 0),
    }
    close("dx", dx, dy * (x > 0), mistakes=mistakes)
    equal("the gradients of the params", params, None)


@check(task=2, points=1)
def test_relu_contract() -> None:
    """the whole contract, by check_contract"""
    check_contract(student.my_relu(), (4, 5), key=Key(0), layers=[student.my_relu])


# --- Task 3 ---------------------------------------------------------------------------------------------------


def shares(logits: Any) -> Any:
    """softmax."""
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@check(task=3, points=1)
def test_softmax() -> None:
    """softmax along the last axis"""
    logits = values(3, 4)
    below = np.exp(logits - logits.max(axis=1, keepdims=True))
    mistakes = {
        "Each row adds up to 1, not each column": np.exp(logits) / np.exp(logits).sum(axis=0),
        "Each row adds up to 1, not each column: axis=-1": below / below.sum(axis=0),
        "Each row adds up to 1, not the whole array": np.exp(logits) / np.exp(logits).sum(),
    }
    with unchanged(logits=logits):
        close("softmax", student.softmax(logits), shares(logits), mistakes=mistakes)


@check(task=3, points=1)
def test_value() -> None:
    """the mean of -log softmax at the labels"""
    logits, labels = values(5, 4), np.array([3, 0, 1, 1, 2])
    log_shares = np.log(shares(logits))
    terms = -log_shares[np.arange(5), labels]
    mistakes = {
        "It is the sum over the examples; the mean is asked": terms.sum(),
        "The mean is over the examples, not over examples and classes": terms.sum() / logits.size,
        "The sign": -terms.mean(),
        "Take the label's column in each row: log_shares[np.arange(n), labels]": -log_shares[:, labels].mean(),
    }
    value, _ = student.softmax_cross_entropy(logits, labels)
    close("the value", value, terms.mean(), mistakes=mistakes)
    equal("the value's type", type(value), float, "Take float(...) of it")


@check(task=3, points=2)
def test_gradient() -> None:
    """its gradient"""
    logits, labels = values(5, 4), np.array([3, 0, 1, 1, 2])
    with unchanged(logits=logits, labels=labels):
        _, dlogits = student.softmax_cross_entropy(logits, labels)
    right = (shares(logits) - np.eye(4)[labels]) / 5
    mistakes = {
        "The value is a mean over the examples: divide by n": right * 5,
        "Take 1 from the label's share": shares(logits) / 5,
    }
    close("dlogits", dlogits, right, mistakes=mistakes)


@check(task=3, points=1)
def test_large_logits() -> None:
    """finite numbers for logits of 1000 and -1000"""
    logits, labels = np.array([[1000.0, 0.0], [-1000.0, 0.0]]), np.array([1, 0])
    advice = "exp(1000) overflows. Take each row's largest logit from it first: the shares stay the same"
    bad = {advice: [[np.nan, 0.0], [0.0, 1.0]]}
    close("softmax", student.softmax(logits), [[1.0, 0.0], [0.0, 1.0]], mistakes=bad)
    value, dlogits = student.softmax_cross_entropy(logits, labels)
    advice = "log of a share of 0 is -inf. log softmax(z) = z - log Σ exp(z), without the shares in between"
    close("the value", value, 1000.0, mistakes={advice: np.inf, "inf / inf is nan": np.nan})
    close("dlogits", dlogits, [[0.5, -0.5], [-0.5, 0.5]])


@check(task=3, points=1)
def test_loss_by_differences() -> None:
    """check_loss; float32 in, float32 out"""
    labels = np.array([2, 0])
    check_loss(student.softmax_cross_entropy, values(2, 3), labels, key=Key(0))
    _, dlogits = student.softmax_cross_entropy(values(2, 3).astype(np.float32), labels)
    equal("the dtype of dlogits for float32", dlogits.dtype, np.dtype(np.float32))


# --- Task 4 ---------------------------------------------------------------------------------------------------

LAYERS = (flatten(), dense(5), batch_norm(), tanh(), dropout(0.5), dense(2))
SHAPE = (2, 3)


def nets() -> tuple[Any, Any]:
    """The settings of the student's net, and funcnn's net of the same layers."""
    return student.Serial(LAYERS), serial(*LAYERS)


@check(task=4, points=1)
def test_serial_init() -> None:
    """init: shapes handed on from layer to layer, a key for each"""
    settings, right = nets()
    params, state, out_shape = student.serial_init(settings, Key(0), SHAPE, np.float64)
    equal("out_shape", out_shape, (2,))
    expected = right.init(Key(0), SHAPE, np.float64)
    equal("the number of params", len(params), len(LAYERS), "One entry for each layer, None too")
    same("params", params, expected.params)
    same("state", state, expected.state)


@check(task=4, points=1)
def test_serial_apply() -> None:
    """apply: y, new states, a key for each layer, residuals if train"""
    settings, right = nets()
    params, state, _ = right.init(Key(0), SHAPE, np.float64)
    x = values(4, *SHAPE)
    for train in (False, True):
        with unchanged(params=params, state=state, x=x):
            y, after, residuals = student.serial_apply(settings, params, state, x, key=Key(1), train=train)
        expected = right.apply(params, state, x, key=Key(1), train=train)
        close(f"y with train={train}", y, expected.y)
        same(f"the state with train={train}", after, expected.state)
        that((residuals is None) != train, f"with train={train}: the residuals are {'None' if train else 'kept'}")


@check(task=4, points=2)
def test_serial_backward() -> None:
    """backward: from the last layer to the first, the gradients in the layers' order"""
    settings, right = nets()
    params, state, _ = right.init(Key(0), SHAPE, np.float64)
    x, dy = values(4, *SHAPE), values(4, 2, seed=1)
    kept = tuple(own_residuals(params, state, x))
    grads = student.serial_backward(settings, params, kept, dy)
    expected = right.backward(params, right.apply(params, state, x, key=Key(1), train=True).residuals, dy)
    equal("the number of gradients", len(grads.params), len(LAYERS), "One entry for each layer, None too")
    same("the gradients", grads.params, expected.params, 1e-6)
    close("dx", grads.dx, expected.dx, rtol=1e-6)
    equal("dx with need_dx=False", student.serial_backward(settings, params, kept, dy, need_dx=False).dx, None)


def own_residuals(params: Any, state: Any, x: Any) -> list[Any]:
    """What the layers keep, one after another."""
    kept = []
    for i, layer in enumerate(LAYERS):
        key = fold_in(Key(1), i) if layer.config.stochastic else None
        x, _, residuals = layer.apply(params[i], state[i], x, key=key, train=True)
        kept.append(residuals)
    return kept


@check(task=4, points=1)
def test_serial_contract() -> None:
    """the whole contract, by check_contract"""
    net = student.my_serial(dense(4), tanh(), student.my_serial(dense(3), relu()), dropout(0.5))
    check_contract(net, (5,), key=Key(0), layers=[student.my_serial])
