"""Every layer as `to_onnx` writes it, against its own `apply`."""

from typing import Any

import numpy as np
import pytest
from cases import CASES, Case, inputs
from onnx_files import assert_same, cube_to_onnx, run, trained

from funcnn.compose import (
    branches,
    carried,
    dense_connections,
    frozen,
    parallel,
    remat,
    repeat,
    residual,
    serial,
    tied,
)
from funcnn.interop.to_onnx import to_onnx
from funcnn.layers import (
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    cross_attention,
    dense,
    depthwise_conv2d,
    dropout,
    flatten,
    gelu,
    glu,
    group_norm,
    gru,
    identity,
    instance_norm,
    l2_normalize,
    layer_norm,
    lstm,
    maxout,
    pixel_unshuffle,
    position_bias,
    prelu,
    relu,
    relu6,
    reshape,
    rms_norm,
    rnn,
    self_attention,
    softmax,
    swiglu,
    tanh,
    transformer_block,
    upsample2d,
)  # fmt: skip

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


# --- Every layer ----------------------------------------------------------------------------------------------

# What no single case of a layer shows: one layout after another, sizes at their edges, what `carried` may hold.
MORE = (
    Case(conv_transpose2d(3, 1, stride=3, padding="same"), (4, 5, 2)),  # fewer taps than the stride
    Case(conv_transpose2d(4, 5, stride=2, padding="same", dilation=2), (6, 5, 2)),
    Case(conv_transpose2d(3, 3, stride=2, padding=((1, 0), (0, 1)), output_padding=1), (4, 5, 2)),
    Case(conv_transpose1d(3, 2, stride=3, output_padding=2), (5, 2)),
    Case(upsample2d(5, method="bilinear"), (7, 9, 3)),
    Case(pixel_unshuffle(3), (6, 9, 4)),
    Case(lstm(16, reverse=True), (30, 7)),
    Case(gru(8, reverse=True, only_last=True), (9, 4)),
    Case(rnn(5, activation="relu", reverse=True), (9, 4)),
    Case(
        serial(
            lstm(8), dense(3, per_position=True), prelu(per_channel=True), layer_norm(), batch_norm(), gru(5),
            group_norm(5), position_bias(), softmax(),
        ),
        (6, 4),
    ),
    Case(serial(conv1d(8, 3, padding="causal"), relu(), lstm(8), conv1d(4, 3), swiglu(), flatten(), dense(3)), (12, 4)),
    Case(parallel(lstm(4), lstm(4, reverse=True), conv1d(4, 3, padding="same")), (7, 3)),
    Case(parallel(lstm(4), conv1d(4, 3, padding="same"), combine="mean"), (7, 3)),
    Case(
        serial(
            batch_norm(), conv2d(4, 3), rms_norm(), l2_normalize(), instance_norm(), prelu(), position_bias(), softmax()
        ),
        (9, 8, 3),
    ),
    Case(
        serial(
            conv2d(6, 3), glu(), dense_connections(conv2d(2, 3, padding="same"), serial(layer_norm(), gelu())),
            maxout(5), flatten(),
        ),
        (9, 8, 3),
    ),
    Case(self_attention(2, masked=True, causal=True), ((9, 8), (9,))),
    Case(cross_attention(4, masked=True), ((9, 32), (13, 16), (13,))),
    Case(transformer_block(16, 2, pre_norm=False, norm=rms_norm()), (9, 16)),
    Case(
        carried(serial(lstm(4), remat(serial(dense(4, per_position=True), dropout(0.5))), lstm(3))),
        ((5, 2), (4,), (4,), (3,), (3,)),
    ),
    Case(frozen(tied(serial(dense(4), repeat(serial(dense(4), relu()), 3)), {"1.0.0": "0"})), (4,)),
    Case(branches(branches(dense(2), dense(3)), dense(4)), (((3,), (4,)), (5,))),
    Case(residual(branches(dense(3), conv2d(2, 1))), ((3,), (4, 4, 2))),
    Case(serial(depthwise_conv2d(3), batch_norm(), relu6()), (9, 9, 4)),
    Case(serial(reshape((4, 4, 1)), conv2d(2, 3), reshape((2, 4)), gru(3), flatten()), (16,)),
    Case(parallel(identity(), tanh(), combine="tuple"), (3, 4, 2)),
    Case(serial(), ()),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES + MORE, ids=str)
def test_onnxruntime_gives_what_the_net_gives(case: Case, tmp_path: Any) -> None:
    net = trained(case.layer, case.in_shape)
    to_onnx(net, tmp_path / "net.onnx", exporters={"cube": cube_to_onnx})
    for n in (1, 4):  # the batch may be of any size
        x = inputs(case, n, np.float32)
        assert_same(run(tmp_path / "net.onnx", x), net.net.apply(net.model.params, net.model.state, x).y)


def test_a_mask_that_lets_nothing_be_seen(tmp_path: Any) -> None:
    net = trained(self_attention(1, masked=True), ((4, 2), (4,)))
    to_onnx(net, tmp_path / "net.onnx")
    x = np.ones((2, 4, 2), np.float32), np.array([[1, 0, 1, 0], [0, 0, 0, 0]])
    want = net.net.apply(net.model.params, net.model.state, x).y
    assert_same(run(tmp_path / "net.onnx", x), want)
    np.testing.assert_allclose(want[1], np.broadcast_to(net.model.params.out.bias, (4, 2)))


def test_a_net_in_float64_is_computed_in_float32(tmp_path: Any) -> None:
    net = trained(serial(dense(4), gelu(), dense(3)), (5,), np.float64)
    to_onnx(net, tmp_path / "net.onnx")
    x = np.ones((2, 5))
    want = net.net.apply(net.model.params, net.model.state, x).y
    assert_same(run(tmp_path / "net.onnx", x.astype(np.float32)), want)
