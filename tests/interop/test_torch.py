"""PyTorch's weights as arrays in its layouts: against its formulas in plain NumPy, back to the bit, and refused."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from cases import CASES
from safetensors.numpy import save_file

from funcnn import Key, tree
from funcnn.checks import LayerError
from funcnn.compose import frozen, parallel, residual, serial
from funcnn.interop import WeightsError, from_torch, put, to_torch
from funcnn.layer import Config, config, count, make_layer
from funcnn.layers import (
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose2d,
    dense,
    embedding,
    flatten,
    gru,
    layer_norm,
    lstm,
    max_pool2d,
    position_bias,
    position_embedding,
    relu,
    reshape,
    self_attention,
    tanh,
)
from funcnn.model_file import Trained
from funcnn.models import gpt
from funcnn.train import Model

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.standard_normal(shape)


def applied(net, in_shape, weights, x, **options):
    model = from_torch(weights, net, in_shape, **options)
    return net.apply(model.params, model.state, x).y


# --- PyTorch's formulas, in its layouts -----------------------------------------------------------------------


def conv_nchw(x, weight, bias, stride=1, padding=0, groups=1):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, filters, _, kh, kw = len(x), *weight.shape
    oh, ow = (x.shape[2] - kh) // stride + 1, (x.shape[3] - kw) // stride + 1
    per_group = x.shape[1] // groups
    y = np.zeros((n, filters, oh, ow))
    for o in range(filters):
        first = o // (filters // groups) * per_group
        for i in range(oh):
            for j in range(ow):
                window = x[:, first : first + per_group, i * stride : i * stride + kh, j * stride : j * stride + kw]
                y[:, o, i, j] = (window * weight[o]).sum((1, 2, 3)) + bias[o]
    return y


def conv_transpose_nchw(x, weight, bias, stride):
    n, _, h, w = x.shape
    _, filters, kh, kw = weight.shape
    y = np.zeros((n, filters, (h - 1) * stride + kh, (w - 1) * stride + kw)) + bias[:, None, None]
    for i in range(h):
        for j in range(w):
            spread = np.einsum("nc,cokl->nokl", x[:, :, i, j], weight)
            y[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw] += spread
    return y


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_of(x, w, end="l0"):
    n, time, _ = x.shape
    units = w[f"weight_hh_{end}"].shape[1]
    h, c, made = np.zeros((n, units)), np.zeros((n, units)), []
    for t in range(time):
        gates = x[:, t] @ w[f"weight_ih_{end}"].T + w[f"bias_ih_{end}"] + h @ w[f"weight_hh_{end}"].T
        i, f, g, o = np.split(gates + w[f"bias_hh_{end}"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        made.append(h)
    return np.stack(made, axis=1)


def gru_of(x, w, end="l0"):
    n, time, _ = x.shape
    units = w[f"weight_hh_{end}"].shape[1]
    h, made = np.zeros((n, units)), []
    for t in range(time):
        ir, iz, inn = np.split(x[:, t] @ w[f"weight_ih_{end}"].T + w[f"bias_ih_{end}"], 3, axis=1)
        hr, hz, hn = np.split(h @ w[f"weight_hh_{end}"].T + w[f"bias_hh_{end}"], 3, axis=1)
        z = sigmoid(iz + hz)
        h = (1 - z) * np.tanh(inn + sigmoid(ir + hr) * hn) + z * h
        made.append(h)
    return np.stack(made, axis=1)


def recurrent_weights(gates, features, units, *ends, prefix=""):
    return {
        f"{prefix}{name}_{end}": drawn(*shape)
        for end in ends
        for name, shape in (
            ("weight_ih", (gates * units, features)), ("weight_hh", (gates * units, units)),
            ("bias_ih", (gates * units,)), ("bias_hh", (gates * units,)),
        )
    }  # fmt: skip


def attention_of(x, weights, heads):
    n, time, features = x.shape
    made = x @ weights["in_proj_weight"].T + weights["in_proj_bias"]
    q, k, v = (each.reshape(n, time, heads, -1).swapaxes(1, 2) for each in np.split(made, 3, axis=-1))
    scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(features // heads))
    o = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(n, time, features)
    return o @ weights["out_proj.weight"].T + weights["out_proj.bias"]


# --- Values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, 0, 2), (1, 0, 4)])
def test_convolutions(stride, padding, groups):
    weights = {"conv.weight": drawn(8, 4 // groups, 3, 3), "conv.bias": drawn(8)}
    x = drawn(2, 6, 7, 4)
    y = applied(conv2d(8, 3, stride=stride, padding=padding, groups=groups), (6, 7, 4), weights, x)
    theirs = conv_nchw(x.transpose(0, 3, 1, 2), *weights.values(), stride, padding, groups)
    np.testing.assert_allclose(y.transpose(0, 3, 1, 2), theirs, atol=1e-12)


def test_transposed_convolutions():
    weights = {"up.weight": drawn(4, 6, 3, 2), "up.bias": drawn(6)}
    x = drawn(2, 3, 5, 4)
    y = applied(conv_transpose2d(6, (3, 2), stride=2), (3, 5, 4), weights, x)
    theirs = conv_transpose_nchw(x.transpose(0, 3, 1, 2), *weights.values(), 2)
    np.testing.assert_allclose(y.transpose(0, 3, 1, 2), theirs, atol=1e-12)


def test_convolutions_along_time():
    weights = {"weight": drawn(5, 4, 3), "bias": drawn(5)}
    x = drawn(2, 9, 4)
    y = applied(conv1d(5, 3), (9, 4), weights, x)
    theirs = conv_nchw(x.transpose(0, 2, 1)[:, :, None], weights["weight"][:, :, None], weights["bias"])
    np.testing.assert_allclose(y.transpose(0, 2, 1), theirs[:, :, 0], atol=1e-12)


def test_what_comes_after_a_flattened_image_takes_its_rows_from_channels_first():
    weights = {
        "features.0.weight": drawn(6, 3, 3, 3), "features.0.bias": drawn(6),
        "norm.weight": drawn(6 * 9), "norm.bias": drawn(6 * 9), "norm.running_mean": drawn(6 * 9),
        "norm.running_var": drawn(6 * 9) ** 2, "norm.num_batches_tracked": np.array(7),
        "fc.weight": drawn(4, 6 * 9), "fc.bias": drawn(4),
    }  # fmt: skip
    net = serial(conv2d(6, 3), relu(), max_pool2d(2), flatten(), batch_norm(), tanh(), dense(4))
    x = drawn(2, 8, 8, 3)
    made = np.maximum(conv_nchw(x.transpose(0, 3, 1, 2), *[*weights.values()][:2]), 0)
    rows = made.reshape(2, 6, 3, 2, 3, 2).max((3, 5)).reshape(2, -1)
    scale, shift, mean, var, _ = [*weights.values()][2:7]
    rows = np.tanh((rows - mean) / np.sqrt(var + 1e-5) * scale + shift)
    theirs = rows @ weights["fc.weight"].T + weights["fc.bias"]
    np.testing.assert_allclose(applied(net, (8, 8, 3), weights, x), theirs, atol=1e-12)
    as_here = applied(net, (8, 8, 3), weights, x, flattened="channels_last")
    assert abs(as_here - theirs).max() > 0.1


def test_numbers_that_become_an_image_come_from_channels_first():
    weights = {"0.weight": drawn(4 * 6, 5), "0.bias": drawn(24), "2.weight": drawn(4, 2, 2, 2), "2.bias": drawn(2)}
    net = serial(dense(24), tanh(), reshape((2, 3, 4)), conv_transpose2d(2, 2, stride=2))
    x = drawn(3, 5)
    image = np.tanh(x @ weights["0.weight"].T + weights["0.bias"]).reshape(3, 4, 2, 3)
    theirs = conv_transpose_nchw(image, weights["2.weight"], weights["2.bias"], 2)
    np.testing.assert_allclose(applied(net, (5,), weights, x).transpose(0, 3, 1, 2), theirs, atol=1e-12)


def test_flattened_sequences_are_channels_first_after_a_convolution_alone():
    conv, fc = {"0.weight": drawn(3, 4, 2), "0.bias": drawn(3)}, {"1.weight": drawn(2, 15), "1.bias": drawn(2)}
    x = drawn(2, 6, 4)
    made = conv_nchw(x.transpose(0, 2, 1)[:, :, None], conv["0.weight"][:, :, None], conv["0.bias"])[:, :, 0]
    net = serial(conv1d(3, 2), flatten(), dense(2))
    theirs = made.reshape(2, -1) @ fc["1.weight"].T + fc["1.bias"]
    np.testing.assert_allclose(applied(net, (6, 4), conv | fc, x), theirs, atol=1e-12)
    linear = {"0.weight": drawn(3, 4), "0.bias": drawn(3)} | {"1.weight": drawn(2, 18), "1.bias": drawn(2)}
    made = x @ linear["0.weight"].T + linear["0.bias"]
    theirs = made.reshape(2, -1) @ linear["1.weight"].T + linear["1.bias"]
    net = serial(dense(3, per_position=True), flatten(), dense(2))
    np.testing.assert_allclose(applied(net, (6, 4), linear, x), theirs, atol=1e-12)


@pytest.mark.parametrize(("make", "formula", "gates"), [(lstm, lstm_of, 4), (gru, gru_of, 3)])
def test_recurrent_layers_in_both_directions_and_on_top_of_each_other(make, formula, gates):
    weights = recurrent_weights(gates, 4, 5, "l0", "l0_reverse") | recurrent_weights(gates, 10, 3, "l1")
    x = drawn(2, 6, 4)
    both = [formula(x, weights), formula(x[:, ::-1], weights, "l0_reverse")[:, ::-1]]
    theirs = formula(np.concatenate(both, axis=-1), weights, "l1")
    net = serial(parallel(make(5), make(5, reverse=True)), make(3))
    named = {f"rnn.{name}": each for name, each in weights.items()}
    np.testing.assert_allclose(applied(net, (6, 4), named, x), theirs, atol=1e-12)


def test_attention_as_one_module_or_as_a_matrix_for_each():
    weights = {
        "in_proj_weight": drawn(24, 8), "in_proj_bias": drawn(24), "out_proj.weight": drawn(8, 8),
        "out_proj.bias": drawn(8),
    }  # fmt: skip
    x, net = drawn(2, 5, 8), self_attention(2)
    theirs = attention_of(x, weights, 2)
    np.testing.assert_allclose(applied(net, (5, 8), weights, x), theirs, atol=1e-12)
    joint = dict(
        zip(("a.c_attn.weight", "a.c_attn.bias", "a.c_proj.weight", "a.c_proj.bias"), weights.values(), strict=True)
    )
    np.testing.assert_allclose(applied(net, (5, 8), joint, x), theirs, atol=1e-12)
    turned = {name: each.T if each.ndim == 2 else each for name, each in joint.items()}
    in_out = ["c_attn", "c_proj"]
    np.testing.assert_allclose(applied(net, (5, 8), turned, x, in_out=in_out), theirs, atol=1e-12)
    apart = {
        f"{name}_proj.{end}": weights[f"in_proj_{end}"][8 * i : 8 * i + 8]
        for i, name in enumerate("qkv")
        for end in ("weight", "bias")
    } | {"o_proj.weight": weights["out_proj.weight"], "o_proj.bias": weights["out_proj.bias"]}
    np.testing.assert_allclose(applied(net, (5, 8), apart, x), theirs, atol=1e-12)
    in_alphabet = dict(sorted(apart.items()))  # k, o, q, v
    np.testing.assert_allclose(applied(net, (5, 8), in_alphabet, x), theirs, atol=1e-12)


def test_bare_parameters_and_embeddings():
    weights = {"pos": drawn(1, 6, 4), "bias": drawn(3, 5, 5), "tokens.weight": drawn(9, 4)}
    net = serial(embedding(9, 4), position_embedding())
    x = RNG.integers(0, 9, (2, 6))
    names = {"0": "tokens", "1": "pos"}
    y = applied(net, (6,), {name: weights[name] for name in ("pos", "tokens.weight")}, x, names=names)
    np.testing.assert_array_equal(y, weights["tokens.weight"][x] + weights["pos"])
    y = applied(position_bias(), (5, 5, 3), {"bias": weights["bias"]}, np.zeros((1, 5, 5, 3)))
    np.testing.assert_array_equal(y[0], weights["bias"].transpose(1, 2, 0))


def test_patches_become_a_sequence_and_parameters_of_the_models_own_come_first():
    """As a vision transformer has it: PyTorch lists `pos` before the modules, and never mixes up channels."""
    weights = {
        "pos": drawn(1, 6, 4), "patch.weight": drawn(4, 3, 2, 2), "patch.bias": drawn(4), "norm1.weight": drawn(4),
        "norm1.bias": drawn(4), "fc.weight": drawn(4, 4), "fc.bias": drawn(4), "norm.weight": drawn(4),
        "norm.bias": drawn(4), "head.weight": drawn(4, 4), "head.bias": drawn(4),
    }  # fmt: skip
    line = serial(layer_norm(), dense(4, per_position=True), layer_norm(), dense(4, per_position=True))
    net = serial(conv2d(4, 2, stride=2), reshape((6, 4)), position_embedding(), line)

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = drawn(2, 4, 6, 3)
    made = conv_nchw(x.transpose(0, 3, 1, 2), weights["patch.weight"], weights["patch.bias"], 2)
    made = norm(made.reshape(2, 4, 6).swapaxes(1, 2) + weights["pos"], "norm1") @ weights["fc.weight"].T
    theirs = norm(made + weights["fc.bias"], "norm") @ weights["head.weight"].T + weights["head.bias"]
    for flattened in ("channels_first", "channels_last"):
        np.testing.assert_allclose(applied(net, (4, 6, 3), weights, x, flattened=flattened), theirs, atol=1e-12)
    trained = Trained(net, from_torch(weights, net, (4, 6, 3)), (4, 6, 3), ())
    assert all((each == weights[name]).all() for name, each in to_torch(trained, like=weights).items())


def test_a_matrix_of_the_models_own_may_be_in_out():
    weights = {"proj": drawn(3, 5)}
    x = drawn(2, 3)
    net = dense(5, use_bias=False)
    with pytest.raises(WeightsError, match=r"if it is \(in, out\), pass in_out=\['proj'\]"):
        from_torch(weights, net, (3,))
    model = from_torch(weights, net, (3,), in_out=["proj"])
    np.testing.assert_allclose(net.apply(model.params, model.state, x).y, x @ weights["proj"])
    again = to_torch(Trained(net, model, (3,), ()), like=weights, in_out=["proj"])
    assert again["proj"].tobytes() == weights["proj"].tobytes()


# --- There and back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.layer.name != "cube"], ids=lambda case: str(case.layer)
)
def test_every_layer_returns_to_the_bit(case):
    params, state, _ = case.layer.init(Key(1), case.in_shape)
    params = tree.map(lambda leaf: np.asarray(leaf + np.asarray(drawn(*leaf.shape), leaf.dtype)), params)
    trained = Trained(case.layer, Model(params, state), case.in_shape, ())
    weights = to_torch(trained)
    assert all(each.flags.writeable and each.flags.c_contiguous for each in weights.values())
    assert tree.equal(from_torch(weights, case.layer, case.in_shape), trained.model)
    like = {name: each + 1 for name, each in weights.items()}
    again = to_torch(trained, like=like)
    counters = [name for name in weights if name.endswith("num_batches_tracked")]
    assert [*again] == [*weights]
    assert all(again[name].tobytes() == weights[name].tobytes() for name in weights if name not in counters)
    assert all(again[name] == 1 for name in counters)


def test_a_state_dict_returns_to_the_bit_with_its_own_names_and_biases():
    weights = recurrent_weights(3, 4, 5, "l0", "l1", prefix="body.rnn.")
    weights |= {"head.weight": drawn(2, 5), "head.bias": drawn(2), "steps": np.array([3])}
    weights = {name: weights[name] for name in reversed(weights)}
    with pytest.raises(WeightsError):  # in which order are the layers?
        from_torch(weights, dense(2), (5,))
    net = serial(gru(4), gru(5, only_last=True), dense(2))
    weights = recurrent_weights(3, 4, 4, "l0", prefix="body.rnn.") | recurrent_weights(
        3, 4, 5, "l1", prefix="body.rnn."
    )
    weights |= {"head.weight": drawn(2, 5), "head.bias": drawn(2), "steps": np.array([3])}
    trained = Trained(net, from_torch(weights, net, (6, 4), ignore=["steps"]), (6, 4), ())
    again = to_torch(trained, like=weights, ignore=["steps"])
    assert [*again] == [*weights]
    assert all(again[name].tobytes() == each.tobytes() for name, each in weights.items())
    # With another bias the split is lost, and the function is not.
    moved = tree.replace(trained.model, "params.0.bias", trained.model.params[0].bias * 2)
    changed = to_torch(Trained(net, moved, (6, 4), ()), like=weights, ignore=["steps"])
    assert tree.equal(from_torch(changed, net, (6, 4), ignore=["steps"]), moved)


def test_names_are_paths_or_those_that_are_given():
    net = serial(residual(serial(dense(4), tanh())), dense(2))
    params, state, _ = net.init(Key(0), (4,))
    trained = Trained(net, Model(params, state), (4,), ())
    assert [*to_torch(trained)] == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    assert [*to_torch(trained, names={"0": "block", "1": "fc"})] == [
        "block.0.weight", "block.0.bias", "fc.weight", "fc.bias",
    ]  # fmt: skip
    with pytest.raises(WeightsError, match=r"names gives fc\.bias, fc\.weight to more than one layer"):
        to_torch(trained, names={"0.0": "fc", "1": "fc"})
    recurrent = Trained(lstm(3), Model(*lstm(3).init(Key(0), (5, 2))[:2]), (5, 2), ())
    assert next(iter(to_torch(recurrent, names={"": "rnn.l1_reverse"}))) == "rnn.weight_ih_l1_reverse"


def test_tied_weights_are_there_once_or_twice():
    net = gpt(20, 6, layers=1, heads=2, features=8)
    params, state, _ = net.init(Key(0), (6,))
    weights = to_torch(Trained(net, Model(params, state), (6,), ()))
    assert np.array_equal(weights["0.weight"], weights["4.weight"])
    without = {name: each for name, each in weights.items() if name != "4.weight"}
    assert tree.equal(from_torch(weights, net, (6,)), from_torch(without, net, (6,)))
    assert [*to_torch(Trained(net, Model(params, state), (6,), ()), like=without)] == [*without]
    with pytest.raises(WeightsError, match=r"expected 4\.weight to be equal to 0\.weight, with which the net ties it"):
        from_torch(weights | {"4.weight": weights["4.weight"] + 1}, net, (6,))


def test_frozen_layers_have_theirs_in_the_state():
    net = serial(frozen(serial(conv2d(3, 2), batch_norm())), flatten(), dense(2))
    params, state, _ = net.init(Key(0), (4, 4, 2))
    weights = to_torch(Trained(net, Model(params, state), (4, 4, 2), ()))
    model = from_torch(weights, net, (4, 4, 2))
    assert model.params[0] is None
    assert tree.equal(model, Model(params, state))


# --- Files ----------------------------------------------------------------------------------------------------


def test_files_of_safetensors_and_half_precision(tmp_path):
    net = serial(dense(3), tanh(), dense(2))
    weights = {"0.weight": drawn(3, 4), "0.bias": drawn(3), "2.weight": drawn(2, 3), "2.bias": drawn(2)}
    save_file(weights, tmp_path / "w.safetensors")
    assert tree.equal(from_torch(tmp_path / "w.safetensors", net, (4,)), from_torch(weights, net, (4,)))
    bits = np.float32([[1.5, -2.0, 0.0, 256.0]]).view(np.uint32) >> 16  # bfloat16, as it is written
    header = b'{"weight":{"dtype":"BF16","shape":[1,4],"data_offsets":[0,8]}}'
    file = tmp_path / "half.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bits.astype("<u2").tobytes())
    model = from_torch(str(file), dense(1, use_bias=False), (4,))
    assert model.params.weight.dtype == np.float32
    assert model.params.weight.ravel().tolist() == [1.5, -2.0, 0.0, 256.0]
    narrow = from_torch({"weight": np.ones((1, 4), np.float16)}, dense(1, use_bias=False), (4,))
    assert narrow.params.weight.dtype == np.float16
    wide = from_torch({"weight": np.ones((1, 4), np.float16)}, dense(1, use_bias=False), (4,), dtype=np.float64)
    assert wide.params.weight.dtype == np.float64
    file.write_bytes(b"no such file")
    with pytest.raises(WeightsError, match="damaged or cut short"):
        from_torch(file, net, (4,))
    with pytest.raises(FileNotFoundError, match="no such file"):
        from_torch(tmp_path / "nowhere.pt", net, (4,))


def test_a_file_of_pytorch_needs_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(ImportError, match="to read this file PyTorch is needed"):
        from_torch(tmp_path / "w.pt", dense(1), (4,))
    (tmp_path / "w.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="Read it yourself and pass the state dict"):
        from_torch(tmp_path / "w.pkl", dense(1), (4,))


class Sparse:
    """What stands for a tensor of which NumPy has no array."""

    dtype = "torch.float32"

    def detach(self):
        return self

    def cpu(self):
        raise TypeError("can't convert Sparse layout tensor to numpy")


def test_what_pytorch_cannot_give_is_said_with_its_place(tmp_path, monkeypatch):
    def load(path, *, map_location, weights_only):
        assert weights_only  # whatever is in the file, no code of it is run
        raise KeyError(17)

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))
    (tmp_path / "w.pt").write_bytes(b"no file of PyTorch")
    with pytest.raises(
        WeightsError, match=r"w\.pt: damaged, or it holds more than tensors.*KeyError.*model\.state_dict"
    ):
        from_torch(tmp_path / "w.pt", dense(1), (4,))
    with pytest.raises(WeightsError, match=r"'weight' is a tensor of .* that is no array: can't convert Sparse"):
        from_torch({"weight": Sparse()}, dense(1), (4,))


def test_names_in_the_order_of_the_alphabet_say_nothing_of_the_layers():
    net = serial(*[dense(3, use_bias=False) for _ in range(11)])
    weights = {f"{i}.weight": drawn(3, 3) for i in range(11)}
    by_text = dict(sorted(weights.items()))  # 0, 1, 10, 2, ...
    assert tree.equal(from_torch(by_text, net, (3,)), from_torch(weights, net, (3,)))
    unclear = {"b.weight": drawn(3, 3), "a.weight": drawn(3, 3)}
    pair = serial(dense(3, use_bias=False), dense(3, use_bias=False))
    assert np.array_equal(from_torch(unclear, pair, (3,)).params[0].weight, unclear["b.weight"].T)  # a model's order
    with pytest.raises(WeightsError, match="so have a, b, whose order is not known"):
        from_torch(dict(sorted(unclear.items())), pair, (3,))
    model = from_torch(dict(sorted(unclear.items())), pair, (3,), names={"0": "b"})
    assert np.array_equal(model.params[0].weight, unclear["b.weight"].T)
    # Loaders of such files put those of one dtype before those of another, each in the order of the alphabet.
    norm = {"norm.num_batches_tracked": np.array(0)}
    loaded = (
        norm
        | dict(sorted(unclear.items()))
        | {f"norm.{name}": drawn(3) for name in ("bias", "running_mean", "running_var", "weight")}
    )
    with pytest.raises(WeightsError, match="so have a, b, whose order is not known"):
        from_torch(loaded, serial(batch_norm(), *pair.config.layers), (3,))
    # Modules in the order in which a constructor has them, not in that in which they are used: shapes tell.
    norms_last = {"a.weight": drawn(5, 3), "a.bias": drawn(5), "b.weight": drawn(2, 5), "b.bias": drawn(2)}
    norms_last |= {"norm1.weight": drawn(5), "norm1.bias": drawn(5), "norm2.weight": drawn(5), "norm2.bias": drawn(5)}
    net = serial(dense(5), layer_norm(), tanh(), layer_norm(), dense(2))
    assert np.array_equal(from_torch(norms_last, net, (3,)).params[3].scale, norms_last["norm2.weight"])


# --- What does not fit ----------------------------------------------------------------------------------------

NET = serial(conv2d(8, 3), batch_norm(), relu(), flatten(), dense(10))
FITTING = {
    "conv1.weight": (8, 3, 3, 3), "conv1.bias": (8,), "bn1.weight": (8,), "bn1.bias": (8,), "bn1.running_mean": (8,),
    "bn1.running_var": (8,), "fc.weight": (10, 288), "fc.bias": (10,),
}  # fmt: skip


@config
class Own(Config):
    """A layer with weights that the library does not know."""

    name: ClassVar[str] = "own"
    units: int = count()

    def out_shape(self, in_shape):
        return (self.units,)


def refused(weights, net=NET, in_shape=(8, 8, 3), **options):
    with pytest.raises(WeightsError) as caught:
        from_torch({name: drawn(*shape) for name, shape in weights.items()}, net, in_shape, **options)
    return str(caught.value)


def test_everything_that_does_not_fit_is_named():
    from_torch({name: drawn(*shape) for name, shape in FITTING.items()}, NET, (8, 8, 3))
    text = refused(
        {name: shape for name, shape in FITTING.items() if name != "conv1.bias"}
        | {"bn1.weight": (9,), "fc.weight": (288, 10), "extra.weight": (2, 2)}
    )
    for line in (
        "0 conv2d(filters=8, kernel_size=3): missing bias (8,), which 'conv1' does not have",
        "1 batch_norm(): expected weight (8,), got bn1.weight (9,)",
        "4 dense(units=10): expected weight (10, 288), got fc.weight (288, 10); if it is (in, out), pass in_out=['fc']",
        "unexpected extra.weight (2, 2)",
    ):
        assert line in text


def test_a_layer_too_few_or_too_many_does_not_hide_the_others():
    text = refused({name: shape for name, shape in FITTING.items() if not name.startswith("bn1")})
    assert "1 batch_norm(): missing weight (8,), bias (8,), running_mean (8,), running_var (8,)" in text
    assert "conv1" not in text
    assert "fc" not in text
    text = refused({"stem.weight": (4, 3, 1, 1)} | FITTING)
    assert "unexpected stem.weight (4, 3, 1, 1)" in text
    assert "bn1" not in text


def test_what_one_module_lacks_is_all_that_is_said():
    weights = {"a.weight": (8, 8, 3, 3), "n.weight": (8,), "n.bias": (8,), "n.running_var": (8,)}
    weights |= {
        "b.weight": (8, 8, 3, 3),
        "m.weight": (8,),
        "m.bias": (8,),
        "m.running_mean": (8,),
        "m.running_var": (8,),
    }
    conv = conv2d(8, 3, padding=1, use_bias=False)
    text = refused(weights, serial(conv, batch_norm(), conv, batch_norm()), (5, 5, 8))
    assert text.splitlines()[1:-1] == ["  1 batch_norm(): missing running_mean (8,), which 'n' does not have"]


def test_where_all_shapes_are_there_only_the_order_is_asked_for():
    """As in nn.TransformerEncoder with a norm of the model's own after it."""
    weights = {
        f"layers.{i}.{name}.{end}": (4,) for i in (0, 1) for name in ("norm1", "norm2") for end in ("weight", "bias")
    }
    weights |= {"norm.weight": (4,), "norm.bias": (4,)}
    weights = {"layers.0.linear.weight": (4, 4), "layers.0.linear.bias": (4,)} | weights
    net = serial(layer_norm(), dense(4), layer_norm(), layer_norm(), layer_norm(), layer_norm())
    text = refused(weights, net, (4,))
    assert "layers.1.norm2, norm, whose order is not known. Say which is which by names" in text
    assert len(text.splitlines()) == 3
    arrays = {name: drawn(*shape) for name, shape in weights.items()}
    model = from_torch(arrays, net, (4,), names={"5": "norm"})
    assert [np.array_equal(model.params[i].scale, arrays[f"{name}.weight"]) for i, name in (
        (0, "layers.0.norm1"), (2, "layers.0.norm2"), (3, "layers.1.norm1"), (4, "layers.1.norm2"), (5, "norm"),
    )] == [True] * 5  # fmt: skip


def test_names_that_lead_nowhere():
    text = refused(FITTING, names={"7": "fc", "0": "convolution"})
    assert "the net has no layer with weights at '7'; it has 0, 1, 4" in text
    assert "there is nothing at 'convolution', named for '0'" in text


@pytest.mark.parametrize(
    ("weights", "options", "problem"),
    [
        (
            {"epoch": 3, "model": {"weight": np.ones(2)}},
            {},
            r"expected a tensor at 'model', got a mapping. Pass the entry that is the state dict: weights\['model'\]",
        ),
        ({"weight": [1.0]}, {}, "expected a tensor at 'weight'"),
        ({"weight": np.ones((1, 4), np.int64)}, {}, "expected floats for weight, got weight of int64"),
        (3, {}, "weights must be a state dict"),
        ({"weight": np.ones((1, 4))}, {"flattened": "CHW"}, "flattened must be 'channels_first' or 'channels_last'"),
        ({"weight": np.ones((1, 4))}, {"dtype": "int32"}, "dtype must be a float type"),
        ({"weight": np.ones((1, 4))}, {"in_out": "fc"}, r"Pass \['fc'\]"),
        ({"weight": np.ones((1, 4))}, {"ignore": "fc"}, r"Pass \['fc'\]"),
        ({"weight": np.ones((1, 4))}, {"ignore": [3]}, "ignore must be a list of texts"),
        ({"weight": np.ones((1, 4))}, {"names": [("", "fc")]}, "names must be a dictionary of texts"),
    ],
)
def test_bad_arguments(weights, options, problem):
    with pytest.raises(ValueError, match=problem):
        from_torch(weights, dense(1, use_bias=False), (4,), **options)


def test_weights_of_your_own_layers_are_refused():
    apply, backward = dense(2).apply.func, dense(2).backward.func
    own = make_layer(
        Own(2), apply, backward, lambda settings, key, in_shape, dtype=np.float32: dense(2).init(key, in_shape)
    )
    for net, place in ((own, "own"), (serial(dense(3), own), "own")):
        with pytest.raises(LayerError, match=rf"{place}.* at .*of a layer of your own no PyTorch layout is known.*put"):
            from_torch({}, net, (3,))


def test_own_layers_and_other_models_are_refused():
    cube = next(case for case in CASES if case.layer.name == "cube")
    assert to_torch(Trained(cube.layer, Model(None, None), cube.in_shape, ())) == {}  # it has no weights
    params, state, _ = dense(2).init(Key(0), (3,))
    with pytest.raises(tree.TreeError, match="the net has an array of shape"):
        to_torch(Trained(dense(2), Model(params, state), (4,), ()))
    with pytest.raises(WeightsError, match="the net is not like the weights in `like`"):
        to_torch(Trained(dense(2), Model(params, state), (3,), ()), like={"weight": np.ones((3, 3))})
    glued = serial(flatten(), residual(dense(18)), reshape((3, 3, 2)), conv2d(2, 3))
    assert to_torch(Trained(glued, Model(*glued.init(Key(0), (3, 3, 2))[:2]), (3, 3, 2), ()))
    uneven = serial(flatten(), reshape((6, 3)), conv1d(2, 3))
    trained = Trained(uneven, Model(*uneven.init(Key(0), (3, 3, 2))[:2]), (3, 3, 2), ())
    with pytest.raises(LayerError, match="its features are in an order that PyTorch's cannot be turned into"):
        to_torch(trained)
    assert to_torch(trained, flattened="channels_last")
    # What more than one layer takes, or no dense layer made, has an order that cannot be changed for an image alone.
    image, conv = reshape((2, 3, 4)), conv2d(2, 2)
    beside = parallel(serial(image, conv, flatten()), dense(4))
    for net, in_shape in (
        (serial(dense(24), residual(dense(24)), image, conv), (5,)),
        (serial(dense(24), beside), (5,)),
        (serial(lstm(24, only_last=True), image, conv), (6, 2)),
        (serial(image, conv), (24,)),
    ):
        trained = Trained(net, Model(*net.init(Key(0), in_shape)[:2]), in_shape, ())
        with pytest.raises(LayerError, match="its features are in an order that PyTorch's cannot be turned into"):
            to_torch(trained)


# --- put ------------------------------------------------------------------------------------------------------


def test_put_checks_every_array_where_it_is_put():
    params, state, _ = serial(dense(2), batch_norm()).init(Key(0), (3,))
    model = Model(params, state)
    weight = np.ones((3, 2), np.float32)
    changed = put(model, {"params.0.weight": weight})
    weight[:] = 0
    assert (changed.params[0].weight == 1).all()
    assert not changed.params[0].weight.flags.writeable
    assert changed.state is not model.params
    assert tree.equal(changed.state, state)
    with pytest.raises(tree.TreeError) as caught:
        put(model, {"params.0.weight": np.ones((2, 3)), "params.0.bais": weight, "state.1.mean": [0, 0],
                    "state.1.var": np.ones(2)})  # fmt: skip
    for line in (
        "4 of 4 arrays do not fit",
        "params.0.weight: expected float32 (3, 2), got float64 (2, 3). Transpose it: weight.T",
        "params.0.bais: no such path; nearest: params.0.bias",
        "state.1.mean: expected float32 (2,), got list. Convert it: np.asarray(..., np.float32)",
        "state.1.var: expected float32 (2,), got float64. Convert it: var.astype(np.float32)",
    ):
        assert line in str(caught.value)
    with pytest.raises(TypeError, match="arrays must be a mapping"):
        put(params, [weight])


def test_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "interop.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text.split("## PyTorch\n")[1].split("\n## ")[0], re.DOTALL)
    assert len(blocks) == 4
    namespace = {}
    for block in blocks:
        exec(compile(block, "interop.md", "exec"), namespace)


# --- PyTorch itself, where it is ------------------------------------------------------------------------------


def test_nets_trained_in_pytorch_give_the_same():
    pytest.importorskip("torch")
    path = ROOT / "benchmarks" / "torch_values" / "interop.py"
    spec = importlib.util.spec_from_file_location("torch_interop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.compare()
    assert {name: each for name, each in found.items() if not each <= 1e-9} == {}
    assert len(found) > 50
