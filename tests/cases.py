"""The one list of layers that every generic property is checked on, and what their tests share.

A new constructor in `funcnn.layers` or `funcnn.compose` fails a test until it is here.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import own
import pytest
from numpy.typing import DTypeLike

from funcnn import compose, init, layers, tree
from funcnn.compose import chunked, parallel, residual, serial
from funcnn.init import constant, glorot_uniform, lecun_normal, normal
from funcnn.keys import Key, fold_in, generator
from funcnn.layer import Applied, Array, Gradients, Layer, Shape
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    elu,
    flatten,
    gaussian_noise,
    gelu,
    global_avg_pool2d,
    identity,
    l2_normalize,
    leaky_relu,
    log_softmax,
    max_pool2d,
    position_bias,
    relu,
    reshape,
    scale,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)

DTYPES = (np.float32, np.float64)


class Case(NamedTuple):
    """A layer, and the shape of the examples to try it on."""

    layer: Layer
    in_shape: Shape

    def __str__(self) -> str:
        return f"{self.layer} on {self.in_shape}"


CASES: tuple[Case, ...] = (
    Case(dense(3), (4,)),
    Case(dense(3, use_bias=False), (4,)),
    Case(dense(1, weight_init=glorot_uniform(), bias_init=constant(0.5)), (1,)),
    Case(conv2d(3, 3), (5, 6, 2)),
    Case(conv2d(3, (2, 3), use_bias=False), (5, 6, 2)),
    Case(conv2d(2, (1, 3), stride=(2, 3)), (5, 9, 1)),
    Case(conv2d(2, 2, stride=2), (5, 5, 2)),  # the last row and column meet no window
    Case(conv2d(3, 1), (3, 4, 2)),
    Case(conv2d(3, 1, stride=2), (4, 5, 2)),
    Case(conv2d(2, 3, padding="same"), (4, 5, 2)),
    Case(conv2d(2, 3, stride=2, padding="same"), (4, 5, 2)),
    Case(conv2d(2, 3, padding=2), (3, 3, 1)),
    Case(conv2d(2, (3, 2), padding=((2, 0), (0, 1))), (3, 4, 1)),
    Case(conv2d(2, 2, dilation=2), (5, 5, 2)),
    Case(conv2d(2, (3, 2), stride=(1, 2), dilation=(2, 3), padding="same"), (5, 6, 1)),
    Case(conv2d(4, 3, groups=2), (4, 5, 6)),
    Case(conv2d(6, 2, groups=3, stride=2, padding="same"), (5, 5, 3)),  # depthwise, two filters a channel
    Case(conv2d(3, 3, groups=3, padding="same", weight_init=lecun_normal(), bias_init=normal(0.1)), (4, 4, 3)),
    Case(conv2d(3, 3, stride=2, padding="same", algorithm="plain"), (4, 5, 2)),
    Case(conv2d(4, (2, 3), dilation=(2, 1), groups=2, algorithm="plain"), (5, 5, 4)),
    Case(max_pool2d(2), (4, 6, 2)),
    Case(max_pool2d((2, 3), stride=(1, 2)), (4, 7, 2)),
    Case(max_pool2d(3, stride=2, padding=((0, 1), (0, 1))), (6, 6, 2)),
    Case(max_pool2d(3, stride=2, padding="same"), (5, 6, 2)),
    Case(max_pool2d(2, stride=1, padding=1), (3, 3, 1)),
    Case(avg_pool2d(2), (4, 6, 2)),
    Case(avg_pool2d((2, 3), stride=(1, 2)), (4, 7, 2)),
    Case(avg_pool2d(3, stride=2, padding=((0, 1), (0, 1))), (6, 6, 2)),
    Case(avg_pool2d(3, stride=1, padding="same"), (5, 6, 2)),
    Case(avg_pool2d(2, padding=1), (3, 3, 1)),
    Case(global_avg_pool2d(), (3, 4, 2)),
    Case(position_bias(), (3, 4, 2)),
    Case(position_bias(), (5,)),
    Case(position_bias(), ()),
    Case(flatten(), (3, 4, 2)),
    Case(flatten(), ()),
    Case(reshape((2, 6)), (3, 4)),
    Case(reshape(()), (1,)),
    Case(identity(), (4,)),
    Case(relu(), (3, 4, 2)),
    Case(leaky_relu(), (5,)),
    Case(leaky_relu(0.3), (3, 4, 2)),
    Case(leaky_relu(0.0), (5,)),
    Case(leaky_relu(1.0), (5,)),
    Case(elu(), (5,)),
    Case(elu(0.5), (3, 4, 2)),
    Case(sigmoid(), (5,)),
    Case(tanh(), (5,)),
    Case(softplus(), (5,)),
    Case(silu(), (5,)),
    Case(gelu(), (5,)),
    Case(gelu(), ()),
    Case(own.cube(), (2, 3)),  # what elementwise makes has the name of a constructor of one's own
    Case(scale(-0.5), (3, 4, 2)),
    Case(scale(2), (3,)),
    Case(softmax(), (5,)),
    Case(softmax(), (2, 3, 4)),
    Case(log_softmax(), (5,)),
    Case(log_softmax(), (2, 3, 4)),
    Case(l2_normalize(), (5,)),
    Case(l2_normalize(), (2, 3, 2)),
    Case(batch_norm(), (4,)),
    Case(batch_norm(), (3, 4, 2)),
    Case(batch_norm(momentum=0.5, epsilon=0.1), (3, 2)),
    Case(dropout(0.3), (50,)),
    Case(dropout(0.0), (5,)),
    Case(gaussian_noise(0.5), (3, 4, 2)),
    Case(gaussian_noise(0.0), (5,)),
    Case(serial(), (4,)),
    Case(serial(relu(), flatten()), (2, 3)),
    Case(serial(dense(4), relu(), dense(2, use_bias=False)), (3,)),
    Case(serial(serial(), serial(dropout(0.3), serial(dense(4)), tanh()), dense(2)), (3,)),
    Case(
        serial(
            conv2d(3, 3, padding="same"),
            batch_norm(),
            relu(),
            max_pool2d(2),
            conv2d(4, 2),
            elu(),
            global_avg_pool2d(),
            dropout(0.5),
            dense(3),
            log_softmax(),
        ),
        (4, 6, 2),
    ),
    Case(residual(serial(dense(4), tanh())), (4,)),
    Case(residual(serial(batch_norm(), relu(), conv2d(2, 3, padding="same"))), (4, 4, 2)),
    Case(residual(residual(sigmoid())), (3,)),
    Case(chunked(serial(dense(4), tanh()), 2), (4,)),
    Case(chunked(serial(conv2d(3, 3, padding="same"), relu(), max_pool2d(2)), 1), (4, 4, 2)),
    Case(chunked(dropout(0.5), 2), (3,)),
    Case(parallel(dense(2), serial(dense(3), relu()), identity()), (4,)),
    Case(parallel(conv2d(2, 1), conv2d(3, 3, padding="same"), max_pool2d(3, stride=1, padding="same")), (4, 5, 2)),
    Case(parallel(dense(3), serial(gaussian_noise(0.1), dense(3)), combine="add"), (4,)),
    Case(parallel(batch_norm()), (4,)),
)


CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name) for module in (layers, compose, init) for name in module.__all__ if name[0].islower()
} | {"cube": own.cube}
"""Everything that may be written in a layer's printed form, by its public name."""


def gaussian(shape: Shape, dtype: DTypeLike = np.float64, *words: int | str) -> Array:
    """Standard normal draws; other words, other draws."""
    key = Key(0)
    for word in words:
        key = fold_in(key, word)
    return np.asarray(generator(key).standard_normal(shape), dtype)


class Ready(NamedTuple):
    """A layer with the arguments of its functions: none at its initial value, for there biases are zero and could
    be left out unnoticed; all writable, so that a write shows in their bytes."""

    layer: Layer
    params: Any
    state: Any
    x: Array
    dy: Array

    def train(self) -> Applied:
        return self.layer.apply(self.params, self.state, self.x, key=Key(1), train=True)

    def gradients(self, *, need_dx: bool = True) -> Gradients:
        return self.layer.backward(self.params, self.train().residuals, self.dy, need_dx=need_dx)


def ready(case: Case, dtype: DTypeLike = np.float64, *, n: int = 3) -> Ready:
    """A case with a batch of n Gaussian examples and Gaussian output gradients, everything of a dtype."""
    params, state, out_shape = case.layer.init(Key(0), case.in_shape, dtype)
    return Ready(
        case.layer,
        tree.map(lambda leaf: leaf + gaussian(leaf.shape, leaf.dtype, "params") / 4, params),
        tree.map(lambda leaf: leaf + abs(gaussian(leaf.shape, leaf.dtype, "state")), state),  # variances stay positive
        gaussian((n, *case.in_shape), dtype, "x"),
        gaussian((n, *out_shape), dtype, "dy"),
    )


def all_configs(layer: Layer) -> Iterator[Any]:
    """The configurations of a layer and of all layers inside it."""
    yield layer.config
    for child in layer.config.children:
        yield from all_configs(child)


def message(error: type[Exception], fn: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The text of the error that a call raises."""
    with pytest.raises(error) as caught:
        fn(*arguments, **options)
    return str(caught.value)


def assert_close(actual: Any, desired: Any, rtol: float) -> None:
    """Assert that two trees agree to `rtol`, relative to the largest value of each leaf.

    Sums of mixed signs cancel, so that the smallest values of an array are less accurate than its largest.
    """
    tree.check_like(desired, actual, ("desired", "actual"))
    for path, have, want in zip(tree.paths(desired), tree.flatten(actual), tree.flatten(desired), strict=True):
        largest = float(np.abs(want).max(initial=0))
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * largest, err_msg=f"at {path!r}", strict=True)
