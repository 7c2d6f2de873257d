"""The layers that benchmarks/layers.py measures, each in funcnn and in PyTorch: what has an equal there."""

from collections.abc import Callable
from typing import Any

import attrs
from nets import BOTTOM_RIGHT, torch_position_bias

from funcnn import Layer, layers
from funcnn.layers import (
    avg_pool1d,
    avg_pool2d,
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    crop2d,
    dense,
    depthwise_conv2d,
    dropout,
    embedding,
    flatten,
    geglu,
    gelu,
    global_avg_pool2d,
    global_max_pool2d,
    glu,
    group_norm,
    gru,
    instance_norm,
    l2_normalize,
    layer_norm,
    log_softmax,
    lstm,
    max_pool1d,
    max_pool2d,
    maxout,
    pixel_shuffle,
    pixel_unshuffle,
    position_bias,
    position_embedding,
    rms_norm,
    rnn,
    self_attention,
    separable_conv2d,
    softmax,
    spatial_dropout,
    swiglu,
    transformer_block,
    unembedding,
    upsample2d,
    zero_pad2d,
)

__all__ = ["BATCH", "CASES", "Case"]

BATCH = 64


@attrs.frozen
class Case:
    """A layer in both libraries: `torch` builds the module, given the imported package."""

    name: str
    in_shape: tuple[int, ...]
    funcnn: Layer
    torch: Callable[[Any], Any]
    first: bool = False  # its input needs no gradient
    turned: bool = False  # PyTorch's sequences are (n, channels, time)

    def operations(self, direction: str) -> int:
        """Of the products: backward takes one for the weights and, unless it is the first layer, one for the input."""
        products = 2 if direction == "backward" and not self.first else 1
        return 2 * products * BATCH * self.funcnn.config.macs(self.in_shape)


def function(call: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """A module of a function of PyTorch's functions, `torch.nn.functional`, and an input."""

    def make(torch: Any) -> Any:
        class Function(torch.nn.Module):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                return call(torch.nn.functional, x)

        return Function()

    return make


def first_of(call: Callable[[Any], Any], *, again: int = 1, **options: Any) -> Callable[[Any], Any]:
    """A module that gives the first of what another gives, which takes the same input so many times, and options."""

    def make(torch: Any) -> Any:
        class First(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.inner = call(torch)

            def forward(self, x: Any) -> Any:
                return self.inner(*[x] * again, **options)[0]

        return First()

    return make


# --- How cases are written ------------------------------------------------------------------------------------


def _conv(
    size: int,
    channels: int,
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    same: bool = False,
    first: bool = False,
) -> Case:
    padding = kernel // 2 if same else 0
    marks = (" same" if same else "") + (f" stride {stride}" if stride > 1 else "")
    if groups > 1:
        marks += " depthwise" if groups == channels else f" groups {groups}"
    return Case(
        f"conv2d {kernel}x{kernel} {channels}→{filters} @{size}{marks}" + (", first" if first else ""),
        (size, size, channels),
        conv2d(filters, kernel, stride=stride, padding=padding, groups=groups),
        lambda torch: torch.nn.Conv2d(channels, filters, kernel, stride, padding, groups=groups),
        first,
    )


def _dense(inputs: int, units: int, *, first: bool = False) -> Case:
    name = f"dense {inputs}→{units}" + (", first" if first else "")
    return Case(name, (inputs,), dense(units), lambda torch: torch.nn.Linear(inputs, units), first)


def _image(size: int, channels: int, layer: Layer, torch: Callable[[Any], Any], kind: str) -> Case:
    return Case(f"{layer.name}{kind} {channels} @{size}", (size, size, channels), layer, torch)


def _features(layer: Layer, torch: Callable[[Any], Any], shape: tuple[int, ...], kind: str = "", **marks: bool) -> Case:
    return Case(f"{layer.name}{kind} {'×'.join(map(str, shape))}", shape, layer, torch, **marks)


ACTIVATIONS = {
    "relu": "ReLU", "relu6": "ReLU6", "leaky_relu": "LeakyReLU", "prelu": "PReLU", "elu": "ELU", "selu": "SELU",
    "celu": "CELU", "silu": "SiLU", "mish": "Mish", "softplus": "Softplus", "softsign": "Softsign", "tanh": "Tanh",
    "sigmoid": "Sigmoid", "log_sigmoid": "LogSigmoid", "hard_tanh": "Hardtanh", "hard_sigmoid": "Hardsigmoid",
    "hard_swish": "Hardswish", "hard_shrink": "Hardshrink", "soft_shrink": "Softshrink", "tanh_shrink": "Tanhshrink",
}  # fmt: skip


def _activation(name: str) -> Case:
    return _image(26, 32, getattr(layers, name)(), lambda torch: getattr(torch.nn, ACTIVATIONS[name])(), "")


def _conv1d(
    time: int, channels: int, filters: int, kernel: int, *,
    stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1,
) -> Case:  # fmt: skip
    marks = "".join(
        f", {name} {value}" for name, value in (("stride", stride), ("dilation", dilation), ("groups", groups))
        if value > 1
    )  # fmt: skip
    return Case(
        f"conv1d of {kernel} {channels}→{filters}, {time} steps{marks}",
        (time, channels),
        conv1d(filters, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups),
        lambda torch: torch.nn.Conv1d(channels, filters, kernel, stride, padding, dilation, groups),
        turned=True,
    )


def _transposed(size: int, channels: int, filters: int, kernel: int, *, stride: int = 2, padding: int = 1) -> Case:
    return Case(
        f"conv_transpose2d {kernel}x{kernel} {channels}→{filters} @{size} stride {stride}",
        (size, size, channels),
        conv_transpose2d(filters, kernel, stride=stride, padding=padding),
        lambda torch: torch.nn.ConvTranspose2d(channels, filters, kernel, stride, padding),
    )


def _sequence(make: Callable[[int], Layer], kind: str, time: int, features: int, units: int) -> Case:
    module = first_of(lambda torch: getattr(torch.nn, kind)(features, units, batch_first=True))
    return Case(f"{make.__name__} {features}→{units}, {time} steps", (time, features), make(units), module)


_self_attention = first_of(
    lambda torch: torch.nn.MultiheadAttention(128, 4, batch_first=True), again=3, need_weights=False
)


def _separable(torch: Any) -> Any:
    depthwise = torch.nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
    return torch.nn.Sequential(depthwise, torch.nn.Conv2d(32, 64, 1))


def _block(torch: Any) -> Any:
    return torch.nn.TransformerEncoderLayer(
        128, 4, 512, 0.0, lambda x: torch.nn.functional.gelu(x, approximate="tanh"), batch_first=True, norm_first=True
    )


def _position_embedding(torch: Any) -> Any:
    class PositionEmbedding(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(64, 128))

        def forward(self, x: Any) -> Any:
            return x + self.weight

    return PositionEmbedding()


# --- The cases ------------------------------------------------------------------------------------------------


CASES = (
    _conv(28, 1, 32, 3, first=True),
    _conv(26, 32, 64, 3),
    _conv(12, 64, 128, 3),
    _conv(14, 16, 32, 3, same=True),
    _conv(32, 3, 32, 3, same=True, first=True),
    _conv(24, 8, 8, 5),
    _conv(14, 64, 64, 1),
    _conv(28, 32, 64, 3, stride=2),
    _conv(64, 3, 32, 7, stride=2, same=True, first=True),
    _conv(28, 32, 32, 3, groups=32, same=True),
    _conv(28, 64, 64, 3, groups=4, same=True),
    _image(
        28, 32, depthwise_conv2d(5, stride=2, padding=2),
        lambda torch: torch.nn.Conv2d(32, 32, 5, 2, 2, groups=32), " 5x5 stride 2",
    ),
    Case("separable_conv2d 3x3 32→64 @14", (14, 14, 32), separable_conv2d(64, 3, padding="same"), _separable),
    _transposed(14, 64, 32, 4),
    _transposed(7, 128, 64, 4),
    _transposed(28, 32, 32, 2, padding=0),
    _transposed(28, 32, 32, 3, stride=1),
    _dense(784, 128, first=True),
    _dense(3200, 512),
    _image(24, 64, max_pool2d(2), lambda torch: torch.nn.MaxPool2d(2), " 2x2"),
    _image(
        28, 16, max_pool2d(3, stride=2, padding=BOTTOM_RIGHT),
        lambda torch: torch.nn.MaxPool2d(3, 2, ceil_mode=True), " 3x3 stride 2",
    ),
    _image(24, 64, avg_pool2d(2), lambda torch: torch.nn.AvgPool2d(2), " 2x2"),
    _image(
        14, 64, global_avg_pool2d(),
        lambda torch: torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), "",
    ),
    _image(
        14, 64, global_max_pool2d(),
        lambda torch: torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()), "",
    ),
    _image(14, 32, upsample2d(2), lambda torch: torch.nn.Upsample(scale_factor=2), " nearest"),
    _image(
        14, 32, upsample2d(2, method="bilinear"),
        lambda torch: torch.nn.Upsample(scale_factor=2, mode="bilinear"), " bilinear",
    ),
    _image(28, 32, zero_pad2d(1), lambda torch: torch.nn.ZeroPad2d(1), ""),
    _image(28, 32, crop2d(2), lambda torch: torch.nn.ZeroPad2d(-2), ""),
    _image(14, 64, pixel_shuffle(2), lambda torch: torch.nn.PixelShuffle(2), ""),
    _image(28, 16, pixel_unshuffle(2), lambda torch: torch.nn.PixelUnshuffle(2), ""),
    *map(_activation, ACTIVATIONS),
    _image(26, 32, gelu(), lambda torch: torch.nn.GELU(approximate="tanh"), ""),
    _image(26, 32, gelu(exact=True), lambda torch: torch.nn.GELU(), " exact"),
    _features(softmax(), lambda torch: torch.nn.Softmax(-1), (1000,)),
    _features(log_softmax(), lambda torch: torch.nn.LogSoftmax(-1), (1000,)),
    _features(glu(), lambda torch: torch.nn.GLU(), (64, 512)),
    _features(swiglu(), function(lambda f, x: x.chunk(2, -1)[0] * f.silu(x.chunk(2, -1)[1])), (64, 512)),
    _features(
        geglu(), function(lambda f, x: x.chunk(2, -1)[0] * f.gelu(x.chunk(2, -1)[1], approximate="tanh")), (64, 512)
    ),
    _features(geglu(exact=True), function(lambda f, x: x.chunk(2, -1)[0] * f.gelu(x.chunk(2, -1)[1])), (64, 512)),
    _features(maxout(2), function(lambda f, x: x.unflatten(-1, (2, -1)).amax(-2)), (64, 512)),
    _image(32, 32, batch_norm(), lambda torch: torch.nn.BatchNorm2d(32), ""),
    _image(32, 32, group_norm(8), lambda torch: torch.nn.GroupNorm(8, 32), " of 8"),
    _image(32, 32, instance_norm(), lambda torch: torch.nn.InstanceNorm2d(32, affine=True), ""),
    _features(layer_norm(), lambda torch: torch.nn.LayerNorm(256), (64, 256)),
    _features(rms_norm(), lambda torch: torch.nn.RMSNorm(256, eps=1e-5), (64, 256)),
    _features(l2_normalize(), function(lambda f, x: f.normalize(x, dim=-1)), (512,)),
    _image(12, 64, dropout(0.25), lambda torch: torch.nn.Dropout(0.25), " 0.25"),
    _image(12, 64, spatial_dropout(0.25), lambda torch: torch.nn.Dropout2d(0.25), " 0.25"),
    _image(28, 16, position_bias(), lambda torch: torch_position_bias(torch, 16, 28), ""),
    _image(5, 128, flatten(), lambda torch: torch.nn.Flatten(), ""),
    _features(embedding(1000, 128), lambda torch: torch.nn.Embedding(1000, 128), (64,), first=True),
    _features(position_embedding(), _position_embedding, (64, 128)),
    _features(unembedding(1000), lambda torch: torch.nn.Linear(128, 1000, bias=False), (16, 128)),
    _features(
        dense(512, per_position=True), lambda torch: torch.nn.Linear(128, 512), (64, 128), " for each position"
    ),
    _sequence(rnn, "RNN", 64, 64, 128),
    _sequence(lstm, "LSTM", 64, 64, 128),
    _sequence(gru, "GRU", 64, 64, 128),
    _sequence(lstm, "LSTM", 128, 128, 256),
    _features(
        self_attention(4), _self_attention, (64, 128), " of 4 heads"
    ),
    Case("transformer_block of 4 heads 64×128", (64, 128), transformer_block(128, 4), _block),
    _conv1d(128, 64, 64, 3, padding=1),
    _conv1d(1000, 1, 32, 80, stride=4),
    _conv1d(100, 64, 128, 3, stride=2),
    _conv1d(256, 64, 64, 3, dilation=4, padding=4),
    _conv1d(256, 64, 64, 3, groups=4, padding=1),
    _conv1d(256, 64, 64, 7, groups=64, padding=3),
    _features(
        conv_transpose1d(32, 4, stride=2, padding=1), lambda torch: torch.nn.ConvTranspose1d(64, 32, 4, 2, 1),
        (64, 64), " of 4, stride 2", turned=True,
    ),
    _features(max_pool1d(2), lambda torch: torch.nn.MaxPool1d(2), (256, 64), " of 2", turned=True),
    _features(
        max_pool1d(3, stride=2, padding=1), lambda torch: torch.nn.MaxPool1d(3, 2, 1), (256, 64), " of 3, stride 2",
        turned=True,
    ),
    _features(avg_pool1d(2), lambda torch: torch.nn.AvgPool1d(2), (256, 64), " of 2", turned=True),
)  # fmt: skip
