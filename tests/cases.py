"""The one list of layers that every generic property is checked on, and what their tests share.

A new constructor in `funcnn.layers` or `funcnn.compose` fails a test until it is here.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import own
import pytest
from numpy.typing import DTypeLike

from funcnn import compose, init, layers, tree
from funcnn.checks import is_several
from funcnn.compose import (
    branches,
    carried,
    chunked,
    dense_connections,
    frozen,
    join,
    parallel,
    remat,
    repeat,
    residual,
    serial,
    tied,
)
from funcnn.init import constant, glorot_uniform, lecun_normal, normal
from funcnn.keys import Key, fold_in, generator
from funcnn.layer import Applied, Array, Gradients, Layer, Shape
from funcnn.layers import (
    alpha_dropout,
    avg_pool1d,
    avg_pool2d,
    batch_norm,
    celu,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    crop2d,
    cross_attention,
    dense,
    depthwise_conv2d,
    drop_path,
    dropout,
    elu,
    embedding,
    flatten,
    gaussian_noise,
    gaussian_sample,
    geglu,
    gelu,
    global_avg_pool1d,
    global_avg_pool2d,
    global_max_pool1d,
    global_max_pool2d,
    glu,
    group_norm,
    gru,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    identity,
    instance_norm,
    l2_normalize,
    layer_norm,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    lstm,
    max_pool1d,
    max_pool2d,
    maxout,
    mish,
    pixel_shuffle,
    pixel_unshuffle,
    position_bias,
    position_embedding,
    prelu,
    relu,
    relu6,
    reshape,
    rms_norm,
    rnn,
    scale,
    self_attention,
    selu,
    separable_conv2d,
    sigmoid,
    silu,
    sinusoidal_positions,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    spatial_dropout,
    swiglu,
    tanh,
    tanh_shrink,
    unembedding,
    upsample2d,
    zero_pad2d,
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
    Case(dense(3, per_position=True), (5, 4)),
    Case(dense(2, per_position=True, use_bias=False), (3, 2, 4)),
    Case(embedding(7, 3), (5,)),
    Case(embedding(5, 2), ()),
    Case(serial(embedding(6, 4), position_embedding(8), dense(3, per_position=True)), (5,)),
    Case(parallel(embedding(9, 3), embedding(9, 2)), (4,)),
    Case(unembedding(6), (5, 4)),
    Case(unembedding(6), (4,)),
    Case(position_embedding(), (5, 4)),
    Case(position_embedding(9), (5, 4)),
    Case(sinusoidal_positions(), (5, 4)),
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
    Case(depthwise_conv2d(3, padding="same"), (4, 5, 2)),
    Case(depthwise_conv2d(2, 2, stride=2, use_bias=False), (5, 5, 2)),
    Case(separable_conv2d(3, 3, stride=2, padding=1), (5, 4, 2)),
    Case(conv_transpose2d(3, 4, stride=2, padding=1), (2, 3, 2)),
    Case(conv_transpose2d(4, (3, 2), stride=(2, 1), output_padding=(1, 0), dilation=(1, 2), groups=2), (2, 3, 2)),
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
    Case(conv1d(3, 3, stride=2, padding="same"), (5, 2)),
    Case(conv1d(4, 2, padding="causal", dilation=2, groups=2, use_bias=False), (5, 4)),
    Case(conv_transpose1d(3, 4, stride=2, padding=1), (3, 2)),
    Case(conv_transpose1d(4, 3, padding="same", groups=2, dilation=2), (4, 4)),
    Case(max_pool1d(2), (5, 2)),
    Case(max_pool1d(3, stride=2, padding="causal"), (5, 2)),
    Case(avg_pool1d(2), (5, 2)),
    Case(avg_pool1d(3, stride=2, padding=(1, 0)), (6, 2)),
    Case(global_avg_pool1d(), (4, 3)),
    Case(global_max_pool1d(), (4, 3)),
    Case(global_avg_pool2d(), (3, 4, 2)),
    Case(global_max_pool2d(), (3, 4, 2)),
    Case(upsample2d((2, 3)), (2, 3, 2)),
    Case(upsample2d((3, 2), method="bilinear"), (2, 3, 2)),
    Case(zero_pad2d(1), (2, 3, 2)),
    Case(crop2d(((1, 0), (0, 2))), (3, 4, 2)),
    Case(pixel_shuffle(2), (2, 3, 4)),
    Case(pixel_unshuffle(2), (2, 4, 2)),
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
    Case(prelu(), (5,)),
    Case(prelu(per_channel=True, slope_init=constant(-0.5)), (3, 4, 2)),
    Case(relu6(), (5,)),
    Case(hard_tanh(-0.5, 0.7), (5,)),
    Case(hard_sigmoid(), (5,)),
    Case(hard_swish(), (5,)),
    Case(soft_shrink(), (5,)),
    Case(hard_shrink(0.3), (5,)),
    Case(elu(), (5,)),
    Case(elu(0.5), (3, 4, 2)),
    Case(selu(), (5,)),
    Case(celu(0.5), (5,)),
    Case(sigmoid(), (5,)),
    Case(tanh(), (5,)),
    Case(softplus(), (5,)),
    Case(silu(), (5,)),
    Case(gelu(), (5,)),
    Case(gelu(), ()),
    Case(gelu(exact=True), (5,)),
    Case(mish(), (5,)),
    Case(softsign(), (5,)),
    Case(log_sigmoid(), (5,)),
    Case(tanh_shrink(), (5,)),
    Case(glu(), (3, 4, 2)),
    Case(swiglu(), (6,)),
    Case(geglu(), (6,)),
    Case(geglu(exact=True), (3, 4, 2)),
    Case(maxout(3), (6,)),
    Case(maxout(2), (3, 4, 2)),
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
    Case(self_attention(2, causal=True), (3, 4)),
    Case(self_attention(1, head_features=4, masked=True, rotary=True, dropout=0.3), ((4, 3), (4,))),
    Case(cross_attention(2), ((3, 4), (5, 2))),
    Case(cross_attention(1, masked=True, use_bias=False, weight_init=lecun_normal()), ((2, 3), (3, 3), (3,))),
    Case(rnn(3), (4, 2)),
    Case(rnn(3, activation="relu", only_last=True), (3, 2)),
    Case(lstm(2), (4, 3)),
    Case(lstm(2, only_last=True, reverse=True), (3, 2)),
    Case(gru(3), (4, 2)),
    Case(parallel(gru(2), gru(2, reverse=True)), (3, 2)),
    Case(carried(lstm(2)), ((3, 2), (2,), (2,))),
    Case(carried(serial(gru(3), repeat(serial(rnn(3), tanh()), 2))), ((2, 2), (3,), (3,), (3,))),
    Case(layer_norm(), (5, 4)),
    Case(layer_norm(epsilon=0.1, use_scale=False, use_shift=False), (3, 4, 2)),
    Case(rms_norm(), (5, 4)),
    Case(rms_norm(epsilon=0.1, use_scale=False), (3, 4, 2)),
    Case(group_norm(2), (3, 4, 4)),
    Case(group_norm(2, epsilon=0.1, use_shift=False), (5, 4)),
    Case(instance_norm(), (3, 4, 2)),
    Case(instance_norm(use_scale=False, use_shift=False), (5, 4)),
    Case(dropout(0.3), (50,)),
    Case(dropout(0.0), (5,)),
    Case(spatial_dropout(0.3), (4, 20)),
    Case(spatial_dropout(0.3), (3, 4, 20)),
    Case(drop_path(0.5), (3, 4, 2)),
    Case(residual(serial(dense(4), drop_path(0.5))), (4,)),
    Case(alpha_dropout(0.3), (50,)),
    Case(gaussian_noise(0.5), (3, 4, 2)),
    Case(gaussian_noise(0.0), (5,)),
    Case(gaussian_sample(), (6,)),
    Case(gaussian_sample(), (3, 4, 2)),
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
    Case(parallel(tanh(), sigmoid(), dense(3), combine="multiply"), (3,)),
    Case(parallel(dense(2), tanh(), combine="tuple"), (3,)),
    Case(join("concat"), ((3,), (2,))),
    Case(join("mean"), ((2, 3), (2, 3))),
    Case(branches(dense(2), serial(dense(3, use_bias=False), batch_norm())), ((3,), (4,))),
    Case(serial(branches(dense(3), dropout(0.3)), parallel(join("add"), join("multiply"))), ((4,), (3,))),
    Case(dense_connections(serial(batch_norm(), conv2d(2, 3, padding="same")), conv2d(3, 1)), (4, 5, 2)),
    Case(repeat(residual(serial(dense(4), dropout(0.3), tanh())), 3), (4,)),
    Case(repeat(serial(batch_norm(), relu(), conv2d(2, 3, padding="same", use_bias=False)), 2), (3, 4, 2)),
    Case(remat(residual(serial(dense(4), dropout(0.3), tanh()))), (4,)),
    Case(remat(serial(conv2d(2, 3, use_bias=False), batch_norm(), relu())), (3, 4, 2)),
    Case(frozen(serial(dense(4), tanh())), (3,)),
    Case(serial(dense(3, use_bias=False), frozen(serial(batch_norm(), dense(4))), dense(2)), (3,)),
    Case(tied(serial(dense(2), tanh(), dense(4)), {"2.weight": "0.weight.T"}), (4,)),
    Case(tied(serial(serial(dense(4), tanh()), batch_norm(), serial(dense(4), relu())), {"2": "0"}), (4,)),
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


def inputs(case: Case, n: int, dtype: DTypeLike = np.float64) -> Any:
    """n examples for a case's layer: Gaussian, or whole numbers below its vocabulary; of several inputs a tuple."""
    return _drawn(n, case.in_shape, case.layer.config.vocabulary, dtype, "x")


def _drawn(n: int, shape: Any, vocabulary: Any, dtype: DTypeLike, *words: int | str) -> Any:
    if is_several(shape):
        its = vocabulary if isinstance(vocabulary, tuple) else (vocabulary,) * len(shape)
        each = enumerate(zip(shape, its, strict=True))
        return tuple([_drawn(n, *both, dtype, *words, i) for i, both in each])
    draws = gaussian((n, *shape), dtype if vocabulary is None else np.float64, *words)
    return draws if vocabulary is None else (abs(draws) * 1000).astype(np.int64) % vocabulary


def several(shape: Any) -> bool:
    """Whether a shape is that of several inputs or outputs, a tuple of shapes."""
    return len(shape) > 0 and isinstance(shape[0], tuple)


ONE_INPUT = tuple(case for case in CASES if not several(case.in_shape))
ONE_OUTPUT = tuple(case for case in CASES if not several(case.layer.config.out_shape(case.in_shape)))


def part_of(batch: Any, part: slice) -> Any:
    """Some examples of a batch: of an array, of a tuple of several, of None."""
    return tree.map(lambda array: array[part], batch)


def joined(parts: Sequence[Any]) -> Any:
    """Batches as one, of arrays, of tuples of several, of None."""
    return tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def ready(case: Case, dtype: DTypeLike = np.float64, *, n: int = 3) -> Ready:
    """A case with a batch of n examples (`inputs`) and Gaussian output gradients, everything of a dtype."""
    params, state, out_shape = case.layer.init(Key(0), case.in_shape, dtype)
    return Ready(
        case.layer,
        tree.map(lambda leaf: leaf + gaussian(leaf.shape, leaf.dtype, "params") / 4, params),
        tree.map(lambda leaf: leaf + abs(gaussian(leaf.shape, leaf.dtype, "state")), state),  # variances stay positive
        inputs(case, n, dtype),
        _drawn(n, out_shape, None, dtype, "dy"),
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
