"""The nets that the benchmarks train and predict with, each written once in funcnn and once in PyTorch.

They are the nets of five public from-scratch programs, at the batch sizes those use and at larger ones. The
PyTorch versions are standard modules, channels first, without the final softmax that the loss holds.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np

from funcnn import Key, Layer, serial, tree
from funcnn.layers import batch_norm, conv2d, dense, dropout, flatten, leaky_relu, max_pool2d, position_bias, relu
from funcnn.losses import softmax_cross_entropy
from funcnn.models import convnet
from funcnn.optimizers import adam
from funcnn.team import Team
from funcnn.train import Problem, init_state, make_step

CLASSES = 10
LEARNING_RATE = 1e-3
BATCHES = 4  # different batches in turn, so that no net has its data by heart and its gradients vanish


@attrs.frozen
class Net:
    """A net in both libraries: `torch` builds the module, given the imported package."""

    in_shape: tuple[int, ...]
    batches: tuple[int, ...]
    parameters: int
    funcnn: Layer
    torch: Callable[[Any], Any]

    @property
    def has_images(self) -> bool:
        return len(self.in_shape) == 3

    def operations(self, batch: int) -> int:
        """Floating-point operations of a training step's products: forward, and backward to weights and inputs.

        Backward takes two products for each of forward's, but for the first layer, whose input needs no gradient.
        """
        macs, shape = [], self.in_shape
        for layer in self.funcnn.config.children:
            macs.append(layer.config.macs(shape))
            shape = layer.config.out_shape(shape)
        first = next(count for count in macs if count)
        return 2 * (3 * sum(macs) - first) * batch


def import_torch() -> Any:
    """PyTorch, or the end of the program with the command that installs it."""
    try:
        import torch
    except ImportError:
        print("pip install torch==2.13.0", file=sys.stderr)
        sys.exit(1)
    return torch


# --- The PyTorch versions -------------------------------------------------------------------------------------


def _torch_mlp(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(784, 128), nn.LeakyReLU(), nn.Linear(128, 64), nn.LeakyReLU(), nn.Linear(64, CLASSES)
    )


def _torch_small_cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Conv2d(8, 8, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, CLASSES),
    )  # fmt: skip


def torch_position_bias(torch: Any, channels: int, size: int) -> Any:
    """The module that adds one bias for each position and channel, of which PyTorch has none."""

    class PositionBias(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(channels, size, size))

        def forward(self, x: Any) -> Any:
            return x + self.bias

    return PositionBias()


def _torch_position_bias_cnn(torch: Any) -> Any:
    nn = torch.nn

    def block(inputs: int, filters: int, size: int) -> tuple[Any, ...]:
        bias = torch_position_bias(torch, filters, size)
        return nn.Conv2d(inputs, filters, 3, padding=1, bias=False), bias, nn.ReLU()

    return nn.Sequential(
        *block(1, 16, 28), nn.MaxPool2d(3, 2, ceil_mode=True),
        *block(16, 32, 14), nn.MaxPool2d(3, 2, ceil_mode=True),
        *block(32, 64, 7),
        nn.Flatten(), nn.Linear(3136, 100), nn.ReLU(), nn.Linear(100, CLASSES),
    )  # fmt: skip


def _torch_batch_norm_cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4096, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(256, CLASSES),
    )  # fmt: skip


def _torch_cifar10_model_2(torch: Any) -> Any:
    nn = torch.nn

    def block(inputs: int, filters: int) -> tuple[Any, ...]:
        return nn.Conv2d(inputs, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()

    def wide(inputs: int) -> tuple[Any, ...]:
        return nn.Linear(inputs, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.5)

    return nn.Sequential(
        *block(3, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64), nn.MaxPool2d(2),
        nn.Flatten(), *wide(4096), *wide(256), nn.Linear(256, CLASSES),
    )  # fmt: skip


def _torch_dropout_cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.LeakyReLU(), nn.Conv2d(32, 64, 3), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Conv2d(64, 128, 3), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(3200, 512), nn.LeakyReLU(), nn.Dropout(0.5), nn.Linear(512, CLASSES),
    )  # fmt: skip


# --- Both -----------------------------------------------------------------------------------------------------

BOTTOM_RIGHT = ((0, 1), (0, 1))

NETS = {
    # devvrath123/neuralnetworksfromscratch
    "mlp": Net(
        in_shape=(784,), batches=(64, 256), parameters=109_386, torch=_torch_mlp,
        funcnn=serial(dense(128), leaky_relu(), dense(64), leaky_relu(), dense(CLASSES)),
    ),
    # zishansami102/CNN-from-Scratch
    "small_cnn": Net(
        in_shape=(28, 28, 1), batches=(20,), parameters=9_826, torch=_torch_small_cnn,
        funcnn=serial(conv2d(8, 5), relu(), conv2d(8, 5), relu(), max_pool2d(2), flatten(), dense(CLASSES)),
    ),
    # raisaat/Convolutional-Neural-Network-from-scratch-for-MNIST
    "position_bias_cnn": Net(
        in_shape=(28, 28, 1), batches=(64,), parameters=359_846, torch=_torch_position_bias_cnn,
        funcnn=serial(
            conv2d(16, 3, padding=1, use_bias=False), position_bias(), relu(),
            max_pool2d(3, stride=2, padding=BOTTOM_RIGHT),
            conv2d(32, 3, padding=1, use_bias=False), position_bias(), relu(),
            max_pool2d(3, stride=2, padding=BOTTOM_RIGHT),
            conv2d(64, 3, padding=1, use_bias=False), position_bias(), relu(),
            flatten(), dense(100), relu(), dense(CLASSES),
        ),
    ),
    # jind11/ANN_CNN_fromScratch, model 1
    "batch_norm_cnn": Net(
        in_shape=(32, 32, 3), batches=(64, 200), parameters=1_071_498, torch=_torch_batch_norm_cnn,
        funcnn=serial(
            conv2d(32, 3, padding="same"), batch_norm(), relu(), max_pool2d(2),
            conv2d(64, 3, padding="same"), batch_norm(), relu(), max_pool2d(2),
            flatten(), dense(256), batch_norm(), relu(), dropout(0.5), dense(CLASSES),
        ),
    ),
    # devvrath123/neuralnetworksfromscratch
    "dropout_cnn": Net(
        in_shape=(28, 28, 1), batches=(64, 256), parameters=1_736_714, torch=_torch_dropout_cnn,
        funcnn=serial(
            conv2d(32, 3), leaky_relu(), conv2d(64, 3), leaky_relu(), max_pool2d(2), dropout(0.25),
            conv2d(128, 3), leaky_relu(), max_pool2d(2), dropout(0.25),
            flatten(), dense(512), leaky_relu(), dropout(0.5), dense(CLASSES),
        ),
    ),
}  # fmt: skip

# jind11/ANN_CNN_fromScratch, model 2, which experiments/cifar10_convnet.py trains
CIFAR10_MODEL_2 = Net(
    in_shape=(32, 32, 3), batches=(200,), parameters=1_183_466, torch=_torch_cifar10_model_2,
    funcnn=convnet(
        [32, 32, 64, 64], [256, 256], CLASSES,
        pool=[None, max_pool2d(2), None, max_pool2d(2)], batch_norm=True, dropout=0.5,
    ),
)  # fmt: skip


# --- Training steps -------------------------------------------------------------------------------------------


def data(in_shape: tuple[int, ...], batch: int) -> list[tuple[Any, Any]]:
    """A few batches of Gaussian inputs and random labels, channels last."""
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((batch, *in_shape), np.float32), rng.integers(CLASSES, size=batch)) for _ in range(BATCHES)
    ]


def layout(channels_last: bool) -> Any:
    """PyTorch's name of a memory layout."""
    torch = import_torch()
    return torch.channels_last if channels_last else torch.contiguous_format


def as_torch(array: Any, *, channels_last: bool = False) -> Any:
    """An array as a tensor; images with their axes in PyTorch's order, in either of its memory layouts."""
    tensor = import_torch().from_numpy(array)
    if array.ndim != 4:
        return tensor
    return tensor.permute(0, 3, 1, 2).contiguous(memory_format=layout(channels_last))


def training_steps(layer: Layer, in_shape: tuple[int, ...], batch: int, team: Team | None = None) -> Iterator[float]:
    """Training steps of any layer that gives logits, by a team's processes if there is one.

    Each `next` takes one and gives its loss.
    """
    problem = Problem(layer, softmax_cross_entropy, adam(LEARNING_RATE), metric=None)
    state, batches = init_state(problem, Key(0), in_shape), data(in_shape, batch)
    step = make_step(problem, team=team)
    while True:
        state, metrics = step(state, batches[state.step % BATCHES])
        yield metrics.loss


def funcnn_steps(net: Net, batch: int, team: Team | None = None) -> Iterator[float]:
    """Training steps of a net by funcnn."""
    return training_steps(net.funcnn, net.in_shape, batch, team)


def torch_steps(net: Net, batch: int, *, channels_last: bool = False, fused: bool = False) -> Iterator[float]:
    """Training steps by PyTorch, eager: each `next` takes one and gives its loss."""
    torch = import_torch()
    module = net.torch(torch).to(memory_format=layout(channels_last)).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, fused=fused)
    batches = [(as_torch(x, channels_last=channels_last), as_torch(labels)) for x, labels in data(net.in_shape, batch)]
    step = 0
    while True:
        images, labels = batches[step % BATCHES]
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        step += 1
        yield loss.item()


def check_parameters(net: Net) -> None:
    """Raise unless both versions have the stated number of parameters."""
    ours = sum(leaf.size for leaf in tree.flatten(net.funcnn.init(Key(0), net.in_shape).params))
    theirs = sum(parameter.numel() for parameter in net.torch(import_torch()).parameters())
    if not ours == theirs == net.parameters:
        raise ValueError(f"{net.parameters} parameters expected, funcnn has {ours} and PyTorch {theirs}")
