"""Problem set 2: layers as triples of pure functions. README.md has the tasks.

A layer is three functions (`funcnn/layer.py` states the whole contract):

    init(settings, key, in_shape, dtype)                        -> Initialised(params, state, out_shape)
    apply(settings, params, state, x, *, key=None, train=False) -> Applied(y, state, residuals)
    backward(settings, params, residuals, dy, *, need_dx=True)  -> Gradients(params, dx)

`in_shape` and `out_shape` are of one example, without the batch axis; x, y, dx and dy have it first. The settings are
frozen classes, and are given here. None of the functions writes to its arguments.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from funcnn import Key, fold_in, tree
from funcnn.init import he_normal, zeros
from funcnn.layer import (
    Applied,
    Array,
    Config,
    Gradients,
    Initialised,
    Layer,
    Shape,
    ShapeError,
    check_residuals,
    config,
    count,
    make_layer,
)
from funcnn.nn.combining import Composed, child_key

# --- Task 1: a dense layer ------------------------------------------------------------------------------------


@tree.node
class DenseParams:
    """weight (in, units), bias (units,)."""

    weight: Array
    bias: Array


@config
class Dense(Config):
    """The settings of a dense layer: how many numbers an output example has."""

    name = "my_dense"
    units: int = count()

    def out_shape(self, in_shape: Shape) -> Shape:
        """(in,) -> (units,)"""
        if len(in_shape) != 1:
            raise ShapeError(repr(self), f"expected examples of shape (features,), got {in_shape}", "Flatten them")
        return (self.units,)


def dense_init(settings: Dense, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    """in_shape (in,) -> Initialised(DenseParams, None, (units,)).

    The weight (in, units) is made by `he_normal()` from the key ``fold_in(key, "weight")``, the bias (units,) by
    `zeros()` from ``fold_in(key, "bias")``. An initialiser is called as ``he_normal()(key, shape, in, units, dtype)``.
    """
    raise NotImplementedError("task 1")


def dense_apply(
    settings: Dense, params: DenseParams, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    """x (n, in) -> Applied(y, state, residuals), y (n, units) = x · weight + bias.

    The state goes through as it came. The residuals are what `dense_backward` needs if `train`, and None if not.
    """
    raise NotImplementedError("task 1")


def dense_backward(
    settings: Dense, params: DenseParams, residuals: Any, dy: Array, *, need_dx: bool = True
) -> Gradients:
    """dy (n, units) -> Gradients(DenseParams, dx): the gradients of the weight, the bias and x; dx None unless needed.

    Begin, as every backward, with ``check_residuals(settings, residuals)``: it refuses None and returns the residuals.
    """
    raise NotImplementedError("task 1")


def my_dense(units: int) -> Layer:
    """A dense layer of `units` outputs."""
    return make_layer(Dense(units), dense_apply, dense_backward, dense_init)


# --- Task 2: relu ---------------------------------------------------------------------------------------------


@config
class Relu(Config):
    """relu has no settings, and an output of its input's shape."""

    name = "my_relu"


def relu_apply(
    settings: Relu, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    """x of any shape -> Applied(y, state, residuals), y = max(x, 0), in x's dtype.

    Keep as residuals one byte for each number of x, no more.
    """
    raise NotImplementedError("task 2")


def relu_backward(settings: Relu, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    """dy -> Gradients(None, dx): dx = dy where x > 0, and 0 elsewhere, at x = 0 too."""
    raise NotImplementedError("task 2")


def my_relu() -> Layer:
    """max(x, 0), number by number."""
    return make_layer(Relu(), relu_apply, relu_backward)


# --- Task 3: softmax cross-entropy ----------------------------------------------------------------------------


def softmax(logits: Array) -> Array:
    """Each row's shares: exp(logit) / Σ exp(logits) along the last axis, (n, classes) -> (n, classes).

    Finite for every finite logit: a row [1000, 0] gives [1, 0].
    """
    raise NotImplementedError("task 3")


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """logits (n, classes), labels (n,) of whole numbers -> (value, dlogits).

    The value, a Python float, is the mean over the n examples of -log softmax(logits)[label]; dlogits (n, classes), in
    the logits' dtype, is its gradient. Both are finite for every finite logit: row [1000, 0] with label 1 costs 1000.
    """
    raise NotImplementedError("task 3")


# --- Task 4: layers one after another -------------------------------------------------------------------------


@config
class Serial(Composed):
    """The settings: `settings.layers`, a tuple of layers, each applied to what the one before it gave."""

    name = "my_serial"

    def out_shape(self, in_shape: Shape) -> Shape:
        """The shape of what the last layer gives."""
        for layer in self.layers:
            in_shape = layer.config.out_shape(in_shape)
        return in_shape


def serial_init(settings: Serial, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    """in_shape -> Initialised(params, state, out_shape), params and state tuples with an entry for each layer.

    Layer i is made by ``layer.init(fold_in(key, i), its_in_shape, dtype)``, where its_in_shape is the out_shape of the
    layer before it.
    """
    raise NotImplementedError("task 4")


def serial_apply(
    settings: Serial, params: Any, state: Any, x: Any, *, key: Key | None = None, train: bool = False
) -> Applied:
    """x -> Applied(y, state, residuals): y of the last layer, the tuple of the layers' new states.

    Each layer is called with its own params and state, with `train`, and with its own key, which is
    ``child_key(key, layer, i)``. The residuals are a tuple of the layers' residuals if `train`, and None if not.
    """
    raise NotImplementedError("task 4")


def serial_backward(settings: Serial, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
    """dy -> Gradients(params, dx): a tuple of the layers' gradients, in the layers' order, and the first layer's dx.

    A layer's dy is the dx of the layer after it. dx is None unless `need_dx`, and then the first layer is not asked
    for it either.
    """
    raise NotImplementedError("task 4")


def my_serial(*layers: Layer) -> Layer:
    """Layers one after another."""
    return make_layer(Serial(layers), serial_apply, serial_backward, serial_init)


# --- See it work: python layers.py ----------------------------------------------------------------------------


def main() -> None:
    """Train a net of your own layers and loss on the digits, by funcnn's optimizer and loop."""
    from funcnn.data import load
    from funcnn.layers import flatten
    from funcnn.optimizers import adam
    from funcnn.train import Epoch, Problem, evaluate, init_state, train

    data = load("digits")
    net = my_serial(flatten(), my_dense(64), my_relu(), my_dense(10))
    problem = Problem(net, softmax_cross_entropy, adam(3e-3))
    state = init_state(problem, Key(0), data.in_shape)
    for event in train(problem, state, data, epochs=10, batch_size=64):
        if isinstance(event, Epoch) and event.validation is not None:
            state = event.state
            print(f"epoch {event.epoch:2}  loss {event.train.loss:.4f}  validation {event.validation.accuracy:.4f}")
    assert data.test is not None
    print(f"test accuracy {evaluate(problem, state, data.test).accuracy:.4f}")


if __name__ == "__main__":
    main()
