"""Convolutions, pools and what changes the size of images: funcnn's values against PyTorch's, in float64."""

import numpy as np
import torch

from funcnn import Key, Layer, tree
from funcnn.layer import Array
from funcnn.layers import (
    avg_pool2d,
    conv2d,
    conv_transpose2d,
    crop2d,
    depthwise_conv2d,
    global_avg_pool2d,
    global_max_pool2d,
    max_pool2d,
    pixel_shuffle,
    pixel_unshuffle,
    separable_conv2d,
    upsample2d,
    zero_pad2d,
)

Module = torch.nn.Module
N = 3


def cases() -> list[tuple[Layer, Module, tuple[int, int, int]]]:
    """Each layer, PyTorch's module of the same function, and the shape of an example."""
    nn = torch.nn
    found: list[tuple[Layer, Module, tuple[int, int, int]]] = [
        (conv2d(6, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1), (7, 8, 4)),
        (
            conv2d(6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
            nn.Conv2d(4, 6, (3, 2), (2, 1), 1, (1, 2), 2),
            (7, 8, 4),
        ),
        (conv2d(5, 4, stride=3, use_bias=False), nn.Conv2d(4, 5, 4, 3, bias=False), (9, 8, 4)),
        (depthwise_conv2d(3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4), (7, 8, 4)),
        (depthwise_conv2d(3, 2, stride=2), nn.Conv2d(4, 8, 3, 2, groups=4), (7, 8, 4)),
        (
            separable_conv2d(5, 3, padding=1),
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.Conv2d(4, 5, 1)),
            (7, 8, 4),
        ),
        (max_pool2d(2), nn.MaxPool2d(2), (6, 8, 3)),
        (max_pool2d(3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1), (7, 8, 3)),
        (max_pool2d(3, stride=2, padding=((0, 1), (0, 1))), nn.MaxPool2d(3, 2, ceil_mode=True), (6, 8, 3)),
        (avg_pool2d(2), nn.AvgPool2d(2), (6, 8, 3)),
        (avg_pool2d(3, stride=2, padding=1), nn.AvgPool2d(3, 2, 1, count_include_pad=False), (7, 8, 3)),
        (global_avg_pool2d(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (5, 4, 3)),
        (global_max_pool2d(), nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), (5, 4, 3)),
        (zero_pad2d(((1, 0), (2, 3))), nn.ZeroPad2d((2, 3, 1, 0)), (4, 5, 3)),
        (crop2d(((1, 0), (2, 1))), nn.ZeroPad2d((-2, -1, -1, 0)), (4, 5, 3)),
        (pixel_shuffle(2), nn.PixelShuffle(2), (3, 4, 12)),
        (pixel_shuffle(3), nn.PixelShuffle(3), (2, 4, 18)),
        (pixel_unshuffle(2), nn.PixelUnshuffle(2), (4, 6, 3)),
    ]
    for factor in ((2, 2), (3, 1), (4, 5)):
        found.append((upsample2d(factor), nn.Upsample(scale_factor=factor), (3, 4, 2)))
        smooth = nn.Upsample(scale_factor=factor, mode="bilinear")
        found += [(upsample2d(factor, method="bilinear"), smooth, shape) for shape in ((3, 4, 2), (1, 2, 1))]
    for kernel, stride, padding, extra, dilation, groups in (
        (4, 2, 1, 0, 1, 1), (3, 2, 1, 1, 1, 1), (3, 1, 0, 0, 1, 2), (2, 3, 0, 2, 1, 1), (3, 2, 2, 1, 2, 2),
        (5, 3, 1, 0, 1, 4), (1, 2, 0, 1, 1, 1),
    ):  # fmt: skip
        layer = conv_transpose2d(
            8, kernel, stride=stride, padding=padding, output_padding=extra, dilation=dilation, groups=groups
        )
        module = nn.ConvTranspose2d(4, 8, kernel, stride, padding, extra, groups, True, dilation)
        found.append((layer, module, (4, 5, 4)))
    return found


def difference(layer: Layer, module: Module, in_shape: tuple[int, ...]) -> float:
    """The largest absolute difference in y, dx and the gradients of the parameters, which are drawn."""
    rng, module = np.random.default_rng(0), module.double()
    params, state, out_shape = layer.init(Key(0), in_shape, np.float64)
    params = tree.map(lambda leaf: rng.standard_normal(leaf.shape), params)
    with torch.no_grad():
        for parameter, leaf in zip(module.parameters(), map(_as_kernel, tree.flatten(params)), strict=True):
            parameter.copy_(torch.tensor(leaf))
    x, dy = rng.standard_normal((N, *in_shape)), rng.standard_normal((N, *out_shape))
    y, _, residuals = layer.apply(params, state, x, train=True)
    gradients, dx = layer.backward(params, residuals, dy)

    its_x = torch.tensor(images_first(x)).requires_grad_()
    its_y = module(its_x)
    its_dx, *its_gradients = torch.autograd.grad(its_y, [its_x, *module.parameters()], torch.tensor(images_first(dy)))
    pairs = [(images_first(y), its_y), (images_first(dx), its_dx)]
    pairs += zip(map(_as_kernel, tree.flatten(gradients)), its_gradients, strict=True)
    return max(float(abs(ours - its.detach().numpy()).max()) for ours, its in pairs)


def _as_kernel(weight: Array) -> Array:
    """(kh, kw, in, out), or of a transposed convolution (kh, kw, out, in), as PyTorch has it; a bias as it is."""
    return weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight


def images_first(x: Array) -> Array:
    """(n, h, w, c) as PyTorch has it, (n, c, h, w); anything else as it is."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def compare() -> dict[str, float]:
    """By layer and input shape, the largest absolute difference in y, dx and the gradients of the parameters."""
    return {f"{layer} on {in_shape}": difference(layer, module, in_shape) for layer, module, in_shape in cases()}
