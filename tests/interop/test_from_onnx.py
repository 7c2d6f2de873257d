"""ONNX files read: those that this library wrote, and graphs as others write them, against onnxruntime."""

import re
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.external_data_helper import set_external_data

from funcnn import Key, tree
from funcnn.compose import parallel, residual, serial
from funcnn.interop import WeightsError, from_onnx, to_onnx
from funcnn.layers import (
    batch_norm,
    conv1d,
    conv2d,
    dense,
    dropout,
    flatten,
    geglu,
    gelu,
    global_avg_pool1d,
    global_avg_pool2d,
    glu,
    group_norm,
    gru,
    layer_norm,
    log_sigmoid,
    lstm,
    max_pool2d,
    position_embedding,
    relu,
    reshape,
    rms_norm,
    self_attention,
    silu,
    softmax,
    softsign,
    swiglu,
)
from funcnn.model_file import Trained
from funcnn.train import Model

RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def trained_net(net, in_shape, classes=()):
    """A net with weights of which none is as it begins."""
    params, state, _ = net.init(Key(0), in_shape)
    params = tree.map(lambda leaf: np.asarray(leaf + np.asarray(drawn(*leaf.shape)) / 8, leaf.dtype), params)
    return Trained(net, Model(params, state), in_shape, classes)


def output(trained, x):
    return trained.net.apply(trained.model.params, trained.model.state, x).y


# --- What this library wrote ----------------------------------------------------------------------------------

# Layers that no operator or pattern is read as, and nets of several inputs or outputs.
UNREAD = {
    "pixel_unshuffle", "maxout", "l2_normalize", "cross_attention", "carried",
    "gaussian_sample", "join", "branches", "cube",
}  # fmt: skip


def is_read(case):
    names = {case.layer.name, *[each.name for each in case.layer.config.children]}
    return not UNREAD & names and not any(word in repr(case.layer) for word in ("'tuple'", "masked", "rotary"))


@pytest.mark.parametrize("case", [*filter(is_read, CASES)], ids=lambda case: str(case.layer))
def test_what_is_written_is_read(case, tmp_path):
    trained = trained_net(case.layer, case.in_shape)
    to_onnx(trained, tmp_path / "net.onnx")
    again = from_onnx(tmp_path / "net.onnx")
    vocabulary = case.layer.config.vocabulary
    x = drawn(3, *case.in_shape) if vocabulary is None else RNG.integers(0, vocabulary, (3, *case.in_shape))
    y, found = output(trained, x), output(again, x)
    if case.layer.name == "softmax":
        found = softmax().apply(None, None, found).y
    assert found.shape == y.shape
    assert abs(found - y).max(initial=0) <= 1e-5 * max(1, abs(y).max(initial=0))


def test_a_net_comes_back_as_it_was(tmp_path):
    block = residual(serial(conv2d(8, 3, padding=1), relu(), conv2d(8, 3, padding=1)))
    side = parallel(conv2d(4, 1), serial(conv2d(6, 1), relu(), conv2d(5, 3, padding=1)))
    net = serial(conv2d(8, 3, padding=1), relu(), block, side, max_pool2d(2), flatten(), dense(3))
    trained = trained_net(net, (8, 8, 3), ("a", "b", "c"))
    to_onnx(trained, tmp_path / "net.onnx", softmax=True)
    again = from_onnx((tmp_path / "net.onnx").read_bytes())
    assert again.net == net
    assert again.classes == ("a", "b", "c")
    assert again.in_shape == (8, 8, 3)
    assert tree.equal(again.model, trained.model)


def test_batch_norm_and_dropout_are_folded(tmp_path):
    net = serial(conv2d(4, 3), batch_norm(), dropout(0.5), flatten(), dense(2))
    trained = trained_net(net, (6, 6, 2))
    to_onnx(trained, tmp_path / "net.onnx")
    again = from_onnx(tmp_path / "net.onnx")
    assert again.net == serial(conv2d(4, 3), flatten(), dense(2))
    x = drawn(2, 6, 6, 2)
    np.testing.assert_allclose(output(again, x), output(trained, x), atol=1e-5)


# --- What others write ----------------------------------------------------------------------------------------


def model_of(nodes, constants, in_shape, *, batch="n", kind=TensorProto.FLOAT, opset=20, outputs=("y",)):
    """A file of nodes (operator, inputs, outputs, attributes), of one input "x"."""
    made = [
        helper.make_node(op, ins.split(), outs.split(), name=outs.split()[0], **more) for op, ins, outs, more in nodes
    ]
    graph = helper.make_graph(
        made, "graph", [helper.make_tensor_value_info("x", kind, [batch, *in_shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    model = shape_inference.infer_shapes(model)  # that of the output, which the checker asks for
    for each in model.graph.output:
        if not each.type.tensor_type.HasField("shape"):
            each.type.tensor_type.shape.dim.add().dim_param = batch
    return model


def runs(model, x):
    """What onnxruntime makes of an input."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return y


def check(nodes, constants, in_shape, x=None, **options):
    """The net that is read, if it gives what onnxruntime does; images turned for it."""
    model = model_of(nodes, constants, in_shape, **options)
    x = drawn(3, *in_shape) if x is None else x
    theirs = runs(model, x)
    trained = from_onnx(model.SerializeToString())
    turned = trained.in_shape != x.shape[1:] or (x.ndim == 4)
    y = output(trained, np.moveaxis(x, 1, -1) if turned else x)
    y = np.moveaxis(y, -1, 1) if y.ndim == 4 else y
    assert y.shape == theirs.shape
    np.testing.assert_allclose(y, theirs, rtol=1e-5, atol=1e-5)
    return trained.net


def test_a_convnet_with_channels_first():
    constants = {
        "w": drawn(6, 3, 3, 3), "b": drawn(6), "s": drawn(6), "t": drawn(6), "m": drawn(6), "v": drawn(6) ** 2 + 1,
        "fw": drawn(4, 6 * 9), "fb": drawn(4),
    }  # fmt: skip
    nodes = [
        ("Conv", "x w b", "c", {"pads": [1, 1, 1, 1]}), ("BatchNormalization", "c s t m v", "n", {"epsilon": 1e-3}),
        ("Relu", "n", "r", {}), ("MaxPool", "r", "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Flatten", "p", "f", {}), ("Gemm", "f fw fb", "g", {"transB": 1}), ("Softmax", "g", "y", {}),
    ]  # fmt: skip
    x = drawn(3, 3, 6, 6)
    model = model_of(nodes, constants, (3, 6, 6))
    shares = runs(model, x)
    trained = from_onnx(model.SerializeToString())
    assert trained.net == serial(
        conv2d(6, 3, padding=1), batch_norm(epsilon=1e-3), relu(), max_pool2d(2), flatten(), dense(4)
    )
    logits = output(trained, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(softmax().apply(None, None, logits).y, shares, atol=1e-5)
    # The same for a batch of one size, flattened by a shape that is in the file.
    nodes[4] = ("Reshape", "p shape", "f", {})
    nodes.pop()
    nodes[-1] = ("Gemm", "f fw fb", "y", {"transB": 1})
    check(nodes, constants | {"shape": np.array([3, 54])}, (3, 6, 6), batch=3)


def test_values_that_part_and_meet():
    constants = {"a": drawn(4, 4, 3, 3), "b": drawn(4, 4, 1, 1), "c": drawn(5, 4, 1, 1), "axes": np.array([2, 3])}
    nodes = [
        ("Conv", "x a", "one", {"pads": [1, 1, 1, 1]}), ("Relu", "one", "two", {}), ("Conv", "two b", "three", {}),
        ("Add", "three x", "sum", {}), ("Conv", "sum c", "left", {}), ("Concat", "left sum", "both", {"axis": 1}),
        ("ReduceMean", "both axes", "y", {"keepdims": 0}),
    ]  # fmt: skip
    net = check(nodes, constants, (4, 5, 5))
    inner = serial(conv2d(4, 3, padding=1, use_bias=False), relu(), conv2d(4, 1, use_bias=False))
    both = parallel(conv2d(5, 1, use_bias=False), serial())
    assert net == serial(residual(inner), both, global_avg_pool2d())


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Sigmoid", "x", "s", {}), ("Mul", "x s", "y", {})], silu()),
        (
            [("Div", "x root2", "d", {}), ("Erf", "d", "e", {}), ("Add", "e one", "a", {}), ("Mul", "x a", "m", {}),
             ("Mul", "m half", "y", {})],
            gelu(exact=True),
        ),
        (
            [("Mul", "x half", "h", {}), ("Div", "x root2", "d", {}), ("Erf", "d", "e", {}), ("Add", "e one", "a", {}),
             ("Mul", "h a", "y", {})],
            gelu(exact=True),
        ),
        ([("Sigmoid", "x", "s", {}), ("Log", "s", "y", {})], log_sigmoid()),
        ([("Abs", "x", "a", {}), ("Add", "a one", "b", {}), ("Div", "x b", "y", {})], softsign()),
        (
            [("Pow", "x two", "p", {}), ("ReduceMean", "p last", "m", {}), ("Add", "m eps", "e", {}),
             ("Sqrt", "e", "r", {}), ("Reciprocal", "r", "i", {}), ("Mul", "x i", "n", {}), ("Mul", "n w", "y", {})],
            rms_norm(epsilon=1e-3),
        ),
        (
            [("ReduceMean", "x last", "m", {}), ("Sub", "x m", "c", {}), ("Pow", "c two", "p", {}),
             ("ReduceMean", "p last", "v", {}), ("Add", "v eps", "e", {}), ("Sqrt", "e", "r", {}),
             ("Div", "c r", "n", {}), ("Mul", "n w", "s", {}), ("Add", "s w", "y", {})],
            layer_norm(epsilon=1e-3),
        ),
        (
            [("Mul", "x half", "h", {}), ("Pow", "x three", "q", {}), ("Mul", "q share", "s", {}),
             ("Add", "x s", "a", {}), ("Mul", "a root2pi", "i", {}), ("Tanh", "i", "t", {}), ("Add", "t one", "u", {}),
             ("Mul", "h u", "y", {})],
            gelu(),
        ),
        (
            [("Mul", "x x", "p", {}), ("Mul", "x p", "q", {}), ("Mul", "share q", "s", {}), ("Add", "x s", "a", {}),
             ("Mul", "root2pi a", "i", {}), ("Tanh", "i", "t", {}), ("Add", "one t", "u", {}), ("Mul", "x u", "v", {}),
             ("Mul", "half v", "y", {})],
            gelu(),
        ),
        (
            [("Split", "x", "a b", {"axis": -1, "num_outputs": 2}), ("Sigmoid", "b", "s", {}), ("Mul", "a s", "y", {})],
            glu(),
        ),
        (
            [("Split", "x", "a b", {"axis": -1, "num_outputs": 2}), ("Sigmoid", "b", "s", {}), ("Mul", "b s", "t", {}),
             ("Mul", "t a", "y", {})],
            swiglu(),
        ),
        (
            [("Split", "x", "a b", {"axis": -1, "num_outputs": 2}), ("Gelu", "b", "s", {}), ("Mul", "a s", "y", {})],
            geglu(exact=True),
        ),
        ([("Mul", "x w", "m", {}), ("Add", "m w", "y", {})], batch_norm()),
        ([("MatMul", "x k", "m", {}), ("Add", "bias m", "y", {})], dense(5)),
    ],
    ids=lambda value: str(value) if hasattr(value, "name") else "",
)  # fmt: skip
def test_patterns_that_are_one_layer(nodes, expected):
    numbers = {"root2": 2**0.5, "one": 1.0, "half": 0.5, "two": 2.0, "three": 3.0, "eps": 1e-3}
    numbers |= {"share": 0.044715, "root2pi": (2 / np.pi) ** 0.5}
    constants = {name: np.float32(each) for name, each in numbers.items()}
    constants |= {"last": np.array([-1]), "w": drawn(8), "k": drawn(8, 5), "bias": drawn(5)}
    used = {name for _, ins, _, _ in nodes for name in ins.split()}
    net = check(nodes, {name: each for name, each in constants.items() if name in used}, (8,))
    assert net == expected


def test_group_norm_in_several_nodes():
    constants = {
        "groups": np.array([0, 2, -1]), "ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32),
        "w": drawn(4, 1, 1), "b": drawn(4, 1, 1),
    }  # fmt: skip
    nodes = [
        ("Reshape", "x groups", "r", {}), ("InstanceNormalization", "r ones zeros", "n", {"epsilon": 1e-3}),
        ("Shape", "x", "shape", {}), ("Reshape", "n shape", "back", {}), ("Mul", "back w", "m", {}),
        ("Add", "m b", "y", {}),
    ]  # fmt: skip
    assert check(nodes, constants, (4, 3, 5)) == group_norm(2, epsilon=1e-3)


def recurrent(gates, features, units, directions):
    return (
        drawn(directions, gates * units, features),
        drawn(directions, gates * units, units),
        drawn(directions, 2 * gates * units),
    )


def test_recurrent_layers_both_ways_and_the_last_step():
    w, r, b = recurrent(4, 5, 6, 2)
    w2, r2, b2 = recurrent(3, 12, 4, 1)
    constants = {
        "w": w, "r": r, "b": b, "w2": w2, "r2": r2, "b2": b2, "merged": np.array([0, 0, -1]), "last": np.array(-1),
        "one": np.array([1]), "k": drawn(3, 4),
    }  # fmt: skip
    nodes = [
        ("Transpose", "x", "t", {"perm": [1, 0, 2]}),
        ("LSTM", "t w r b", "l", {"hidden_size": 6, "direction": "bidirectional"}),
        ("Transpose", "l", "u", {"perm": [0, 2, 1, 3]}), ("Reshape", "u merged", "v", {}),
        ("GRU", "v w2 r2 b2", "g", {"hidden_size": 4, "linear_before_reset": 1}), ("Squeeze", "g one", "h", {}),
        ("Transpose", "h", "i", {"perm": [1, 0, 2]}), ("Gather", "i last", "j", {"axis": 1}),
        ("Gemm", "j k", "y", {"transB": 1}),
    ]  # fmt: skip
    net = check(nodes, constants, (7, 5))
    assert net == serial(parallel(lstm(6), lstm(6, reverse=True)), gru(4, only_last=True), dense(3, use_bias=False))
    ends = [("Transpose", "x", "t", {"perm": [1, 0, 2]}), ("LSTM", "t w r b", "l end c", {"hidden_size": 6})]
    ends += [("Squeeze", "end zero", "y", {})]
    one = {"w": w[:1], "r": r[:1], "b": b[:1], "zero": np.array([0])}
    assert check(ends, one, (7, 5)) == lstm(6, only_last=True)
    # As PyTorch has the ends of all layers and directions in one value, of which a classifier takes the last ones.
    bidirectional = {"hidden_size": 6, "direction": "bidirectional"}
    w3, r3, b3 = recurrent(4, 12, 6, 2)
    nodes = [
        *nodes[:1], ("LSTM", "t w r b", "l e0", bidirectional), *nodes[2:4], ("Transpose", "v", "v2", {}),
        ("LSTM", "v w3 r3 b3", "g e1", bidirectional), ("Concat", "e0 e1", "ends", {"axis": 0}),
        ("Gather", "ends before", "i", {"axis": 0}), ("Gather", "ends last", "j", {"axis": 0}),
        ("Concat", "i j", "both", {"axis": 1}), ("Gemm", "both k2", "y", {"transB": 1}),
    ]  # fmt: skip
    del nodes[4]
    constants |= {"w3": w3, "r3": r3, "b3": b3, "before": np.array(-2), "k2": drawn(3, 12)}
    used = {name: constants[name] for _, ins, _, _ in nodes for name in ins.split() if name in constants}
    deep = parallel(lstm(6, only_last=True), lstm(6, reverse=True, only_last=True))
    assert check(nodes, used, (7, 5)) == serial(
        parallel(lstm(6), lstm(6, reverse=True)), deep, dense(3, use_bias=False)
    )
    with pytest.raises(WeightsError, match="matrices of 24 and 24 rows, where 20 are those of all gates"):
        from_onnx(
            model_of([*ends[:1], ("LSTM", "t w r b", "l y", {"hidden_size": 5})], one, (7, 5)).SerializeToString()
        )
    with pytest.raises(WeightsError, match="Squeeze 'y': it takes 'c', which no layer here gives"):
        check(
            [*ends[:1], ("LSTM", "t w r b", "l end c", {"hidden_size": 6}), ("Squeeze", "c zero", "y", {})], one, (7, 5)
        )


@pytest.mark.parametrize("causal", ["added", "chosen", ""])
def test_attention_as_pytorch_writes_it(causal):
    """Time first, the heads beside the examples in a batch, and positions and examples in one row at the end."""
    later = np.triu(np.full((7, 7), -np.inf, np.float32), 1)
    constants = {
        "w": drawn(8, 24), "b": drawn(24), "apart": np.array([7, 3, 3, 8]), "zero": np.array([0]),
        "three": np.array([3]), "i0": np.array(0), "i1": np.array(1), "i2": np.array(2), "heads": np.array([7, 6, 4]),
        "root": np.float32(0.5**0.5),
        "batch": np.array([3, 2, 7, 4]), "row": np.array([21, 8]), "o": drawn(8, 8), "ob": drawn(8),
        "rows": np.array([7, 3, 8]), "later": later, "hidden": later < 0, "far": np.float32(-np.inf),
    }  # fmt: skip
    masked = ("Where", "hidden far z0", "z1", {}) if causal == "chosen" else ("Add", "z0 later", "z1", {})
    nodes = [
        ("Transpose", "x", "t", {"perm": [1, 0, 2]}), ("MatMul", "t w", "m", {}), ("Add", "b m", "qkv", {}),
        ("Reshape", "qkv apart", "r", {}), ("Unsqueeze", "r zero", "u", {}),
        ("Transpose", "u", "v", {"perm": [3, 1, 2, 0, 4]}), ("Squeeze", "v three", "s", {}),
    ]  # fmt: skip
    for i, name in enumerate("qkv"):
        nodes += [
            ("Gather", f"s i{i}", f"{name}0", {"axis": 0}), ("Reshape", f"{name}0 heads", f"{name}1", {}),
            ("Transpose", f"{name}1", f"{name}2", {"perm": [1, 0, 2]}), ("Reshape", f"{name}2 batch", f"{name}3", {}),
        ]  # fmt: skip
    nodes += [
        ("Transpose", "k3", "k4", {"perm": [0, 1, 3, 2]}), ("Mul", "q3 root", "q4", {}), ("Mul", "k4 root", "k5", {}),
        ("MatMul", "q4 k5", "z0", {}), masked, ("Softmax", "z1" if causal else "z0", "z2", {}),
        ("MatMul", "z2 v3", "z3", {}), ("Transpose", "z3", "z4", {"perm": [2, 0, 1, 3]}),
        ("Reshape", "z4 row", "z5", {}), ("Gemm", "z5 o ob", "z6", {"transB": 1}), ("Reshape", "z6 rows", "z7", {}),
        ("Transpose", "z7", "y", {"perm": [1, 0, 2]}),
    ]  # fmt: skip
    assert check(nodes, constants, (7, 8), batch=3) == self_attention(2, causal=causal != "")
    # Another scale, or another mask, is no attention that there is here.
    with pytest.raises(WeightsError, match="attention whose scores are multiplied by"):
        check(nodes, constants | {"root": np.float32(0.5)}, (7, 8), batch=3)
    if causal:
        with pytest.raises(WeightsError, match="a mask other than that of later positions"):
            check(nodes, constants | {"later": later.T, "hidden": later.T < 0}, (7, 8), batch=3)


def test_words_and_numbers_that_become_images():
    nodes = [("Gather", "table x", "e", {}), ("Add", "e places", "y", {})]
    words = RNG.integers(0, 9, (3, 6))
    check(nodes, {"table": drawn(9, 4), "places": drawn(6, 4)}, (6,), words, kind=TensorProto.INT64)
    constants = {"k": drawn(5, 24), "b": drawn(24), "image": np.array([-1, 4, 2, 3]), "w": drawn(4, 2, 2, 2)}
    nodes = [
        ("Gemm", "x k b", "g", {}), ("Relu", "g", "r", {}), ("Reshape", "r image", "i", {}),
        ("ConvTranspose", "i w", "y", {"strides": [2, 2]}),
    ]  # fmt: skip
    net = check(nodes, constants, (5,))
    assert net.config.children[2] == reshape((2, 3, 4))


def test_patches_of_an_image_become_a_sequence():
    """As a vision transformer begins; and a mean over time that stands beside an axis of one."""
    constants = {
        "w": drawn(4, 3, 2, 2), "rows": np.array([0, 4, 6]), "places": drawn(1, 6, 4), "k": drawn(4, 4),
        "b": drawn(4), "one": np.array([2]), "axes": np.array([-1, -2]), "o": drawn(2, 4),
    }  # fmt: skip
    nodes = [
        ("Conv", "x w", "c", {"strides": [2, 2]}), ("Reshape", "c rows", "r", {}),
        ("Transpose", "r", "t", {"perm": [0, 2, 1]}), ("Add", "t places", "p", {}), ("MatMul", "p k", "m", {}),
        ("Add", "m b", "d", {}), ("Transpose", "d", "u", {"perm": [0, 2, 1]}), ("Unsqueeze", "u one", "v", {}),
        ("ReduceMean", "v axes", "a", {"keepdims": 0}), ("Gemm", "a o", "y", {"transB": 1}),
    ]  # fmt: skip
    net = check(nodes, constants, (3, 4, 6))
    assert net == serial(
        conv2d(4, 2, stride=2, use_bias=False), reshape((6, 4)), position_embedding(6), dense(4, per_position=True),
        global_avg_pool1d(), dense(2, use_bias=False),
    )  # fmt: skip
    back = [*nodes[:3], ("Transpose", "t", "s", {"perm": [0, 2, 1]}), ("Reshape", "s image", "i", {}),
            ("Conv", "i w2", "y", {})]  # fmt: skip
    constants = {
        "w": constants["w"],
        "rows": constants["rows"],
        "image": np.array([0, 4, 2, 3]),
        "w2": drawn(2, 4, 2, 2),
    }
    assert check(back, constants, (3, 4, 6)).config.layers[1:3] == (reshape((6, 4)), reshape((2, 3, 4)))


def test_what_lies_differently_is_no_pattern():
    nodes = [
        ("Sigmoid", "x", "s", {}), ("Transpose", "s", "t", {"perm": [0, 2, 1]}), ("Mul", "x t", "y", {}),
    ]  # fmt: skip
    with pytest.raises(WeightsError, match="Mul 'y': two values whose axes lie as"):
        check(nodes, {}, (4, 4))


def test_layers_that_take_all_before_them_are_there_once():
    """As in a DenseNet; ways that meet otherwise are followed as long as that makes no more than some layers twice."""
    nodes, names, constants = [], ["x"], {}
    for k in range(20):
        constants[f"w{k}"] = drawn(2, 3 + 2 * k, 1, 1) / np.float32(3 + 2 * k)  # of larger ones rounding grows too
        nodes += [("Concat", " ".join(names), f"c{k}", {"axis": 1}), ("Conv", f"c{k} w{k}", f"d{k}", {})]
        names.append(f"d{k}")
    nodes.append(("Concat", " ".join(names), "y", {"axis": 1}))
    assert repr(check(nodes, constants, (3, 2, 2))).count("conv2d") == 20
    ladder = [("Relu", "x", "a0", {}), ("Tanh", "x", "b0", {})]
    for k in range(40):
        ladder += [("Add", f"a{k} b{k}", f"a{k + 1}", {}), ("Mul", f"a{k} b{k}", f"b{k + 1}", {})]
    with pytest.raises(WeightsError, match="values part and meet in ways that no combinator here has"):
        from_onnx(model_of([*ladder, ("Add", "a40 b40", "y", {})], {}, (4,)).SerializeToString())
    for depth in (250, 1000):  # too deep to be built, and to be read
        deep = [("Relu", f"r{k}", f"r{k + 1}", {}) for k in range(depth)]
        deep += [("Add", f"{f's{k + 1}' if k < depth - 1 else f'r{depth}'} r{k}", f"s{k}", {}) for k in range(depth)][
            ::-1
        ]
        nodes = [("Relu", "x", "r0", {}), *deep, ("Relu", "s0", "y", {})]
        with pytest.raises(WeightsError, match="more deeply than can be read"):
            from_onnx(model_of(nodes, {}, (4,)).SerializeToString())


def test_sequences_of_channels():
    constants = {"w": drawn(6, 4, 3), "b": drawn(6), "k": drawn(42, 2)}
    nodes = [("Conv", "x w b", "c", {}), ("Flatten", "c", "f", {}), ("MatMul", "f k", "y", {})]
    model = model_of(nodes, constants, (4, 9))
    x = drawn(2, 4, 9)
    trained = from_onnx(model.SerializeToString())
    assert trained.net == serial(conv1d(6, 3), flatten(), dense(2, use_bias=False))
    theirs = runs(model, x)
    np.testing.assert_allclose(output(trained, x.transpose(0, 2, 1).copy()), theirs, atol=1e-5)


def test_means_that_count_padding_and_windows_that_stand_out():
    mean = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "count_include_pad": 1}
    check([("AveragePool", "x", "y", mean)], {}, (2, 7, 7))
    largest = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
    check([("MaxPool", "x", "y", largest)], {}, (2, 6, 6))


# --- What cannot be read --------------------------------------------------------------------------------------


def test_everything_that_cannot_be_read_is_named():
    nodes = [
        ("Sin", "x", "a", {}), ("Relu", "a", "b", {}), ("Det", "b", "c", {}),
        ("Conv", "x w", "d", {"auto_pad": "SAME_LOWER"}),
        ("Add", "c d", "y", {}),
    ]  # fmt: skip
    with pytest.raises(WeightsError) as caught:
        from_onnx(model_of(nodes, {"w": drawn(2, 2, 3, 3)}, (2, 5, 5)).SerializeToString())
    text = str(caught.value)
    assert "Sin 'a': an operator that no layer here is" in text
    assert "Det 'c': an operator that no layer here is" in text
    assert "Conv 'd': padding that has the odd pixel first" in text
    assert "Relu" not in text  # it is read


HUGE = np.array([200_000, 20_000])
LOOP = helper.make_graph(
    [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Neg", ["v"], ["w"])],
    "body",
    [helper.make_tensor_value_info(*each) for each in (
        ("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, []), ("v", TensorProto.FLOAT, [1]))],
    [helper.make_tensor_value_info(*each) for each in (("d", TensorProto.BOOL, []), ("w", TensorProto.FLOAT, [1]))],
)  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "constants", "in_shape", "problem"),
    [
        ([("ConstantOfShape", "s", "c", {}), ("Add", "x c", "y", {})], {"s": HUGE}, (4,), "constants become 3,999,"),
        ([("Expand", "o s", "c", {}), ("Add", "x c", "y", {})], {"o": [1.0], "s": HUGE}, (4,), "pass largest=3999"),
        ([("MatMul", "a b", "c", {}), ("Add", "x c", "y", {})],
         {"a": np.ones((10**5, 1)), "b": np.ones((1, 10**5))}, (4,), "constants become 9,999,800,000"),
        ([("Add", "x b", "y", {})], {"b": np.ones((8000, 1), np.float32)}, (8000, 10000), "Add 'y': constants become"),
        ([("Loop", "n t v", "c", {"body": LOOP}), ("Add", "x c", "y", {})],
         {"n": 2**60, "t": True, "v": np.zeros(1, np.float32)}, (4,), "Loop 'c': an operator that no layer here is"),
        ([("RandomNormal", "", "c", {"shape": [4]}), ("Add", "x c", "y", {})], {}, (4,), "RandomNormal 'c': an oper"),
        ([("Tile", "o s", "c", {}), ("Add", "x c", "y", {})], {"o": [1.0], "s": HUGE}, (4,), "it cannot be computed"),
        ([("Flatten", "x", "y", {})], {}, (3, 10**5, 10**5), "an example has 30,000,000,000 values there"),
        ([("MaxPool", "x", "p i", {"kernel_shape": [2, 2]}), ("Identity", "i", "y", {})], {}, (3, 8, 8),
         "Identity 'y': it takes 'i', which no layer here gives"),
        ([("BatchNormalization", "x s s s s", "y m v", {"training_mode": 1})], {"s": np.ones(3)}, (3, 8, 8),
         "it is in training.*Export the model after eval"),
        ([("Dropout", "x r t", "y", {})], {"r": 0.5, "t": True}, (4,), "it is in training, and drops values"),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) else "",
)  # fmt: skip
def test_small_files_cannot_ask_for_all_memory_or_time(nodes, constants, in_shape, problem):
    given = {name: np.asarray(each) for name, each in constants.items()}
    given = {name: each.astype(np.float32) if each.dtype.kind == "f" else each for name, each in given.items()}
    with pytest.raises(WeightsError, match=problem):
        from_onnx(model_of(nodes, given, in_shape).SerializeToString())


def test_a_softmax_of_before_opset_13_is_over_all_axes_from_one_on():
    nodes = [("Conv", "x w", "c", {}), ("Softmax", "c", "s", {"axis": 1}), ("GlobalAveragePool", "s", "y", {})]
    constants = {"w": drawn(3, 3, 1)}
    with pytest.raises(WeightsError, match="along another axis than that of the features"):
        from_onnx(model_of(nodes, constants, (3, 7), opset=12).SerializeToString())
    assert from_onnx(model_of(nodes, constants, (3, 7), opset=13).SerializeToString()).net.config.layers[1] == softmax()


def test_files_that_do_not_say_enough_or_say_it_otherwise(tmp_path, monkeypatch):
    relu_alone = [("Relu", "x", "y", {})]
    unknown = model_of(relu_alone, {}, ("time", 4)).SerializeToString()
    with pytest.raises(ValueError, match="Pass in_shape, an example's shape"):
        from_onnx(unknown)
    assert from_onnx(unknown, in_shape=(7, 4)).in_shape == (7, 4)
    with pytest.raises(ValueError, match=r"in_shape \(4, 7\) is not that of the input 'x', which is \(None, 4\)"):
        from_onnx(unknown, in_shape=(4, 7))
    images = model_of(relu_alone, {}, (3, 8, 6)).SerializeToString()
    assert from_onnx(images).in_shape == (8, 6, 3)
    assert from_onnx(images, channels_first=False).in_shape == (3, 8, 6)
    with pytest.raises(WeightsError, match="one input and one output, got 1 and 2"):
        from_onnx(model_of([*relu_alone, ("Neg", "x", "z", {})], {}, (4,), outputs=("y", "z")).SerializeToString())
    with pytest.raises(WeightsError, match="damaged, or no ONNX file"):
        from_onnx(b"\xff\xff no file")
    for metadata, problem in (
        ({"about": "[[["}, "metadata are damaged"),
        ({"classes": "3"}, "a list of classes.*got 3"),
    ):
        ours = model_of(relu_alone, {}, (4,))
        ours.producer_name = "funcnn"
        helper.set_model_props(ours, metadata)
        with pytest.raises(WeightsError, match=problem):
            from_onnx(ours.SerializeToString())
    beside = model_of([("MatMul", "x w", "y", {})], {"w": drawn(4, 3)}, (4,))
    set_external_data(beside.graph.initializer[0], "w.bin")
    beside.graph.initializer[0].ClearField("raw_data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(bytes(48))  # a file of a folder that the bytes' sender does not own
    with pytest.raises(WeightsError, match="weights are in a file beside the one whose bytes these are"):
        from_onnx(beside.SerializeToString())
    (tmp_path / "net.onnx").write_bytes(beside.SerializeToString())
    assert (from_onnx("net.onnx").model.params.weight == 0).all()
    with pytest.raises(WeightsError, match="opset 8; convert it to 11"):
        from_onnx(model_of(relu_alone, {}, (4,), opset=8).SerializeToString())
    with pytest.raises(FileNotFoundError, match="no such file"):
        from_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(ValueError, match="source must be a path or bytes"):
        from_onnx(3)


def test_images_that_are_flattened_in_two_ways_are_refused():
    constants = {"w": drawn(4, 2, 1, 1), "k": drawn(4 * 6, 3)}
    nodes = [
        ("Conv", "x w", "c", {}), ("Flatten", "c", "f", {}), ("MatMul", "f k", "a", {}),
        ("Transpose", "c", "t", {"perm": [0, 2, 3, 1]}), ("Flatten", "t", "g", {}), ("MatMul", "g k", "b", {}),
        ("Add", "a b", "y", {}),
    ]  # fmt: skip
    with pytest.raises(WeightsError, match="some images are flattened with their channels first"):
        from_onnx(model_of(nodes, constants, (2, 2, 3)).SerializeToString())
    turned = [("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("Flatten", "t", "f", {}), ("MatMul", "f k", "y", {})]
    with pytest.raises(
        WeightsError, match="a sequence is flattened with its channels first after layers that have them"
    ):
        from_onnx(model_of(turned, {"k": drawn(24, 3)}, (6, 4)).SerializeToString(), channels_first=False)
    last = [nodes[0], *nodes[3:5], ("MatMul", "g k", "y", {})]
    check(last, constants, (2, 2, 3))
    # Nor can its values be moved where no weights take them.
    bare = [("Conv", "x w", "c", {}), ("Flatten", "c", "f", {}), ("Relu", "f", "y", {})]
    with pytest.raises(WeightsError, match="the output is an image that is flattened with its channels first"):
        from_onnx(model_of(bare, {"w": constants["w"]}, (2, 2, 3)).SerializeToString())


def test_a_long_chain_takes_no_recursion():
    nodes = [("Relu", "x" if i == 0 else f"v{i - 1}", "y" if i == 1499 else f"v{i}", {}) for i in range(1500)]
    net = from_onnx(model_of(nodes, {}, (4,)).SerializeToString()).net
    assert net == serial(*[relu()] * 1500)


def test_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "interop.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text.split("## From ONNX\n")[1].split("\n## ")[0], re.DOTALL)
    assert len(blocks) == 1
    namespace = {}
    for block in blocks:
        exec(compile(block, "interop.md", "exec"), namespace)
