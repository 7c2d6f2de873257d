"""Weights from PyTorch and back: nets trained there give the same outputs here, and their weights return as they were.

Outputs are compared in float64, and those of the trained nets in float32 too, of which what is beyond 1e-5 counts. Of
what comes back every bit counts: the difference is 0 or infinite.
"""

import math
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from funcnn import Layer
from funcnn.compose import parallel, residual, serial, tied
from funcnn.interop import from_onnx, from_torch, to_torch
from funcnn.layer import Array
from funcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    dense,
    depthwise_conv2d,
    embedding,
    flatten,
    gelu,
    global_avg_pool1d,
    global_avg_pool2d,
    group_norm,
    gru,
    instance_norm,
    layer_norm,
    lstm,
    max_pool1d,
    max_pool2d,
    position_embedding,
    prelu,
    relu,
    reshape,
    rms_norm,
    rnn,
    self_attention,
    tanh,
)
from funcnn.model_file import Trained
from funcnn.models import gpt
from funcnn.train import Model

nn = torch.nn
N = 3
Case = tuple[Layer, nn.Module, tuple[int, ...]]


# --- Models in PyTorch ----------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two convolutions with a shortcut, as in He et al. 2016."""

    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A small residual net for images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class Block(nn.Module):
    """A transformer's block as GPT-2 has it."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(features)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(features, 3 * features), "c_proj": nn.Linear(features, features)}
        )
        self.ln_2 = nn.LayerNorm(features)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(features, 4 * features), "c_proj": nn.Linear(4 * features, features)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, time, features = x.shape
        qkv = self.attn["c_attn"](self.ln_1(x)).view(n, time, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](y.transpose(1, 2).reshape(n, time, features))
        hidden = nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](hidden)


class Gpt(nn.Module):
    """A language model of GPT-2's form: learned positions, norms first, the embedding's weights for the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(30, 16), nn.Embedding(12, 16)
        self.h = nn.ModuleList([Block(16, 4), Block(16, 4)])
        self.ln_f = nn.LayerNorm(16)
        self.lm_head = nn.Linear(16, 30, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wte(x) + self.wpe.weight[: x.shape[1]]
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class Lstm(nn.Module):
    """Two layers of LSTM in both directions, and a class for the whole sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(12 * 7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.lstm(x)[0].flatten(1))


class Vit(nn.Module):
    """A small vision transformer: patches, positions of the model's own, norms first, the mean over patches."""

    def __init__(self) -> None:
        super().__init__()
        self.pos = nn.Parameter(torch.randn(1, 16, 12))
        self.patch = nn.Conv2d(3, 12, 2, 2)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(12, 3, 24, 0.0, "gelu", batch_first=True, norm_first=True),
            2,
            enable_nested_tensor=False,
        )
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.patch(x).flatten(2).transpose(1, 2) + self.pos)
        return self.head(self.norm(x).mean(1))


class Ends(nn.Module):
    """Two layers of GRU in both directions, of which the last layer's ends tell the class."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ends = self.gru(x)[1]
        return self.fc(torch.cat([ends[-2], ends[-1]], 1))


class Recurrent(nn.Module):
    """One recurrent module's outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)[0]


class Attention(nn.Module):
    """Self-attention by PyTorch's own module."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


# --- The same nets here ---------------------------------------------------------------------------------------


def _resnet() -> Layer:
    def body(filters: int, stride: int) -> Layer:
        return serial(
            conv2d(filters, 3, stride=stride, padding=1, use_bias=False), batch_norm(), relu(),
            conv2d(filters, 3, padding=1, use_bias=False), batch_norm(),
        )  # fmt: skip

    def block(filters: int) -> tuple[Layer, Layer]:
        return residual(body(filters, 1)), relu()

    shortcut = serial(conv2d(16, 1, stride=2, use_bias=False), batch_norm())
    return serial(
        conv2d(8, 7, stride=2, padding=3, use_bias=False), batch_norm(), relu(), max_pool2d(3, stride=2, padding=1),
        *block(8), *block(8), parallel(body(16, 2), shortcut, combine="add"), relu(), *block(16),
        global_avg_pool2d(), dense(10),
    )  # fmt: skip


def _both_ways(make: Callable[..., Layer], units: int) -> Layer:
    return parallel(make(units), make(units, reverse=True))


def _vit() -> Layer:
    def block() -> tuple[Layer, Layer]:
        hidden = serial(dense(24, per_position=True), gelu(exact=True), dense(12, per_position=True))
        return residual(serial(layer_norm(), self_attention(3))), residual(serial(layer_norm(), hidden))

    patches = conv2d(12, 2, stride=2), reshape((16, 12)), position_embedding()
    return serial(*patches, *block(), *block(), layer_norm(), global_avg_pool1d(), dense(5))


# In the order of the alphabet, names leave open which of some norms is which; in a Vit's own order, too.
NAMES = {ResNet: {"1": "bn1", "8.1": "layer2.0.downsample"}, Vit: {"7": "norm"}}


def trained_cases() -> dict[str, Case]:
    """Models that are trained, by name: the net here, the model there, an example's shape."""
    return {
        "ResNet": (_resnet(), ResNet(), (32, 32, 3)),
        "GPT-2's form": (gpt(30, 12, layers=2, heads=4, features=16), Gpt(), (9,)),
        "ViT": (_vit(), Vit(), (8, 8, 3)),
        "GRU, two layers both ways, the ends": (
            serial(
                _both_ways(gru, 6),
                parallel(gru(6, only_last=True), gru(6, reverse=True, only_last=True)),
                dense(4),
            ),
            Ends(),
            (7, 5),
        ),
        "LSTM, two layers both ways": (
            serial(_both_ways(lstm, 6), _both_ways(lstm, 6), flatten(), dense(4)),
            Lstm(),
            (7, 5),
        ),
    }


def cases() -> list[Case]:
    """Single layers and small nets, with weights as they are drawn."""
    images, sequences = (7, 8, 4), (9, 4)
    return [
        (conv2d(6, (3, 2), stride=2, padding=1, groups=2), nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2), images),
        (depthwise_conv2d(3, 2), nn.Conv2d(4, 8, 3, groups=4), images),
        (conv_transpose2d(6, 4, stride=2, padding=1, groups=2), nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), images),
        (conv1d(6, 3, padding=1, groups=2), nn.Conv1d(4, 6, 3, padding=1, groups=2), sequences),
        (conv_transpose1d(6, 3, stride=2), nn.ConvTranspose1d(4, 6, 3, 2), sequences),
        (prelu(per_channel=True), nn.PReLU(4), images),
        (prelu(), nn.PReLU(), images),
        (batch_norm(), nn.BatchNorm2d(4), images),
        (group_norm(2), nn.GroupNorm(2, 4), images),
        (instance_norm(), nn.InstanceNorm2d(4, affine=True), images),
        (layer_norm(), nn.LayerNorm(6), (6,)),
        (rms_norm(epsilon=1e-6), nn.RMSNorm(6, eps=1e-6), (6,)),
        (embedding(20, 5), nn.Embedding(20, 5), (6,)),
        (dense(3, use_bias=False), nn.Linear(6, 3, bias=False), (6,)),
        (rnn(5), Recurrent(nn.RNN(4, 5, batch_first=True)), sequences),
        (gru(5), Recurrent(nn.GRU(4, 5, batch_first=True)), sequences),
        (serial(gru(5), gru(5)), Recurrent(nn.GRU(4, 5, num_layers=2, batch_first=True)), sequences),
        (_both_ways(gru, 5), Recurrent(nn.GRU(4, 5, bidirectional=True, batch_first=True)), sequences),
        (self_attention(4), Attention(), (7, 16)),
        (self_attention(4, use_bias=False), Attention(bias=False), (7, 16)),
        (  # an image is flattened, with norms of its features before the dense layer
            serial(conv2d(6, 3), max_pool2d(2), flatten(), batch_norm(), prelu(per_channel=True), dense(5)),
            nn.Sequential(
                nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), nn.Flatten(), nn.BatchNorm1d(36), nn.PReLU(36), nn.Linear(36, 5)
            ),
            images,
        ),
        (  # a sequence of channels is
            serial(conv1d(6, 3), max_pool1d(2), flatten(), dense(5)),
            nn.Sequential(nn.Conv1d(4, 6, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(18, 5)),
            sequences,
        ),
        (  # numbers become an image
            serial(dense(24), batch_norm(), relu(), reshape((2, 3, 4)), conv_transpose2d(2, 2, stride=2)),
            nn.Sequential(
                nn.Linear(6, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Unflatten(1, (4, 2, 3)),
                nn.ConvTranspose2d(4, 2, 2, 2),
            ),
            (6,),
        ),
        (
            serial(conv2d(6, 5, padding=2), tanh(), avg_pool2d(2), flatten(), dense(8), tanh(), dense(3)),
            nn.Sequential(
                nn.Conv2d(4, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 8), nn.Tanh(),
                nn.Linear(8, 3),
            ),
            images,
        ),
    ]  # fmt: skip


# --- Comparing ------------------------------------------------------------------------------------------------


def _batch(net: Layer, in_shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng(seed)
    vocabulary = net.config.vocabulary
    if isinstance(vocabulary, int):
        return rng.integers(0, vocabulary, (N, *in_shape))
    return rng.standard_normal((N, *in_shape))


def _theirs(module: nn.Module, x: Array) -> Array:
    """The module's output for what is given as this library has it, as this library would give it."""
    first = nn.Conv1d, nn.ConvTranspose1d, nn.Conv2d, nn.ConvTranspose2d, nn.modules.batchnorm._NormBase, nn.GroupNorm
    leading = next(iter(module.modules())) if not isinstance(module, nn.Sequential) else module[0]
    turned = x.ndim == 4 or (x.ndim == 3 and isinstance(leading, first))
    given = torch.tensor(np.moveaxis(x, -1, 1) if turned else x)
    with torch.no_grad():
        y: Array = module(given).numpy()
    made_images = y.ndim == 4 or (y.ndim == 3 and turned)
    return np.moveaxis(y, 1, -1) if made_images else y


def _names(module: nn.Module) -> dict[str, str] | None:
    """What is to be said of a state dict in its own order."""
    return NAMES[Vit] if isinstance(module, Vit) else None


def _train(net: Layer, module: nn.Module, in_shape: tuple[int, ...]) -> None:
    """A few steps towards drawn targets, so that no weight and no running statistic is as it began."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for step in range(5):
        x = _batch(net, in_shape, step)
        given = torch.tensor(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)
        if given.is_floating_point():
            given = given.to(next(module.parameters()).dtype)
        y = module(given)
        optimizer.zero_grad()
        (y - torch.sin(torch.arange(y.numel(), dtype=y.dtype).view(y.shape))).square().mean().backward()
        optimizer.step()


def _outputs(net: Layer, module: nn.Module, in_shape: tuple[int, ...], model: Model) -> float:
    x = _batch(net, in_shape, 100)
    dtype = next(module.parameters()).detach().numpy().dtype
    x = x if x.dtype.kind == "i" else x.astype(dtype)
    y = net.apply(model.params, model.state, x).y
    return float(np.abs(y - _theirs(module, x)).max())


def _returned(net: Layer, module: nn.Module, in_shape: tuple[int, ...], model: Model) -> float:
    """0 if the weights come back to the bit, and the module takes them; else infinity."""
    before = {name: each.numpy().copy() for name, each in module.state_dict().items()}
    after = to_torch(Trained(net, model, in_shape, ()), like=module.state_dict(), names=_names(module))
    module.load_state_dict({name: torch.from_numpy(each) for name, each in after.items()}, strict=True)
    same = [*before] == [*after] and all(
        before[name].dtype == after[name].dtype and before[name].tobytes() == after[name].tobytes() for name in before
    )
    return 0.0 if same else math.inf


def _by_file(net: Layer, module: nn.Module, in_shape: tuple[int, ...]) -> float:
    """0 if files of both kinds, and of bfloat16, give what the state dict gives; else infinity."""
    names = NAMES.get(type(module))
    weights = {name: each.clone() for name, each in module.state_dict().items()}
    short = {name: each.bfloat16() if each.is_floating_point() else each for name, each in weights.items()}
    pairs = [(weights, weights), (short, {name: each.float() for name, each in short.items()})]
    with TemporaryDirectory() as folder:
        for given, expected in pairs:
            save_file(given, Path(folder, "w.safetensors"))
            torch.save(given, Path(folder, "w.pt"))
            wanted = to_torch(Trained(net, from_torch(expected, net, in_shape, names=_names(module)), in_shape, ()))
            for name in ("w.safetensors", "w.pt"):
                found = to_torch(Trained(net, from_torch(Path(folder, name), net, in_shape, names=names), in_shape, ()))
                if any(wanted[key].tobytes() != found[key].tobytes() for key in wanted):
                    return math.inf
    return 0.0


def _hugging_face(module: Gpt) -> float:
    """The outputs of a GPT whose matrices are (in, out), with the masks that old files have, and no tied copy."""
    net = gpt(30, 12, layers=2, heads=4, features=16)
    weights = {
        name: each.T.contiguous() if each.ndim == 2 and ".c_" in name else each
        for name, each in module.state_dict().items()
        if name != "lm_head.weight"
    }
    weights |= {f"h.{i}.attn.bias": torch.ones(1, 1, 12, 12) for i in range(2)}
    named = {"in_out": ["c_attn", "c_proj", "c_fc"], "ignore": ["*.attn.bias"]}
    model = from_torch(weights, net, (9,), **named)
    after = to_torch(Trained(net, model, (9,), ()), like=weights, **named)
    same = all(np.array_equal(after[name], each.numpy()) for name, each in weights.items())
    return _outputs(net, module, (9,), model) if same else math.inf


def _by_onnx(net: Layer, module: nn.Module, in_shape: tuple[int, ...]) -> float:
    """The outputs of the net that is read from what PyTorch exports, by the larger difference of both exporters."""
    x = _batch(net, in_shape, 100)
    x = x if x.dtype.kind == "i" else x.astype(np.float32)
    given = torch.tensor(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)
    largest = 0.0
    with TemporaryDirectory() as folder, warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        for dynamo in (True, False):
            path = f"{folder}/{dynamo}.onnx"
            if dynamo:
                batch = ({0: torch.export.Dim("n")},)
                torch.onnx.export(module, (given,), path, dynamo=True, dynamic_shapes=batch, external_data=False)
            else:
                torch.onnx.export(module, (given,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
            read = from_onnx(path)
            y = read.net.apply(read.model.params, read.model.state, x).y
            largest = max(largest, float(np.abs(y - _theirs(module, x)).max()))
    return largest


def compare() -> dict[str, float]:
    """By net, the largest absolute difference of outputs, and whether weights come back to the bit."""
    torch.manual_seed(0)
    found: dict[str, float] = {}
    for net, module, in_shape in cases():
        module = module.double().eval()
        with torch.no_grad():
            for each in module.parameters():
                each.add_(torch.randn_like(each) / 4)
        model = from_torch(module.state_dict(), net, in_shape)
        name = repr(net) if len(repr(net)) < 80 else f"{repr(net)[:77]}..."
        found[name] = _outputs(net, module, in_shape, model)
        found[f"{name}, back"] = _returned(net, module, in_shape, model)
    for name, (net, module, in_shape) in trained_cases().items():
        module = module.double()
        _train(net, module, in_shape)
        module.eval()
        model = from_torch(module.state_dict(), net, in_shape, names=_names(module))
        found[f"{name}, trained"] = _outputs(net, module, in_shape, model)
        found[f"{name}, back"] = _returned(net, module, in_shape, model)
        if isinstance(module, Gpt):
            found[f"{name}, (in, out)"] = _hugging_face(module)
        module = module.float()
        model = from_torch(module.state_dict(), net, in_shape, names=_names(module))
        found[f"{name}, float32 beyond 1e-5"] = max(0.0, _outputs(net, module, in_shape, model) - 1e-5)
        if not isinstance(module, Gpt):  # a file has no array twice
            found[f"{name}, from files"] = _by_file(net, module, in_shape)
        if find_spec("onnx") and find_spec("onnxscript"):  # which PyTorch needs, too
            found[f"{name}, from ONNX, beyond 1e-5"] = max(0.0, _by_onnx(net, module, in_shape) - 1e-5)
    net = tied(serial(dense(3), tanh(), dense(6)), {"2.weight": "0.weight.T"})
    module = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 6)).double()
    with torch.no_grad():
        module[2].weight.copy_(module[0].weight.T)
    model = from_torch(module.state_dict(), net, (6,))
    found["tied autoencoder"] = _outputs(net, module, (6,), model)
    found["tied autoencoder, back"] = _returned(net, module, (6,), model)
    return found
