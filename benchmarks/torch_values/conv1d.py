"""Convolution and pooling along time against PyTorch's, in float64: y, dx and the gradients of the params.

PyTorch's sequences are (n, channels, time), its weights ours with the axes in the opposite order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from funcnn import Key, Layer, fold_in, tree
from funcnn.keys import generator
from funcnn.layers import (
    avg_pool1d,
    conv1d,
    conv_transpose1d,
    global_avg_pool1d,
    global_max_pool1d,
    max_pool1d,
)

N, TIME, CHANNELS = 3, 13, 4
Function = Callable[..., torch.Tensor]


def compare() -> dict[str, float]:
    """The largest absolute difference of each layer."""
    return {name: _difference(layer, theirs) for name, (layer, theirs) in CASES.items()}


def _before(steps: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: functional.pad(x, (steps, 0))


def _conv(prepare: Any = None, **options: Any) -> Function:
    return lambda x, w, b: functional.conv1d(prepare(x) if prepare else x, w, b, **options)


def _transposed(**options: Any) -> Function:
    return lambda x, w, b: functional.conv_transpose1d(x, w, b, **options)


CASES: dict[str, tuple[Layer, Function]] = {
    "conv1d": (conv1d(6, 3), _conv()),
    "conv1d stride": (conv1d(6, 4, stride=3, padding=2), _conv(stride=3, padding=2)),
    "conv1d stride over the window": (conv1d(6, 2, stride=3), _conv(stride=3)),
    "conv1d same, dilation": (conv1d(6, 3, padding="same", dilation=2), _conv(padding="same", dilation=2)),
    "conv1d causal": (conv1d(6, 3, padding="causal", dilation=3), _conv(_before(6), dilation=3)),
    "conv1d stride and dilation": (
        conv1d(6, 3, stride=2, dilation=3, padding=1), _conv(stride=2, dilation=3, padding=1)
    ),
    "conv1d groups": (conv1d(6, 3, groups=2, padding="same"), _conv(groups=2, padding="same")),
    "conv1d groups, stride": (conv1d(6, 3, groups=2, stride=2), _conv(groups=2, stride=2)),
    "conv1d depthwise": (conv1d(4, 3, groups=4, padding="causal"), _conv(_before(2), groups=4)),
    "conv1d depthwise, stride": (conv1d(4, 3, groups=4, stride=2), _conv(groups=4, stride=2)),
    "conv1d depthwise, two filters a channel": (conv1d(8, 3, groups=4), _conv(groups=4)),
    "conv_transpose1d": (conv_transpose1d(6, 3), _transposed()),
    "conv_transpose1d stride": (
        conv_transpose1d(6, 4, stride=2, padding=1, output_padding=1),
        _transposed(stride=2, padding=1, output_padding=1),
    ),
    "conv_transpose1d groups, dilation": (
        conv_transpose1d(6, 3, stride=3, groups=2, dilation=2), _transposed(stride=3, groups=2, dilation=2)
    ),
    "max_pool1d": (max_pool1d(2), lambda x: functional.max_pool1d(x, 2)),
    "max_pool1d overlapping": (
        max_pool1d(3, stride=2, padding=1), lambda x: functional.max_pool1d(x, 3, stride=2, padding=1)
    ),
    "avg_pool1d": (avg_pool1d(3), lambda x: functional.avg_pool1d(x, 3)),
    "avg_pool1d overlapping": (
        avg_pool1d(3, stride=2, padding=1),
        lambda x: functional.avg_pool1d(x, 3, stride=2, padding=1, count_include_pad=False),
    ),
    "global_avg_pool1d": (global_avg_pool1d(), lambda x: x.mean(dim=2)),
    "global_max_pool1d": (global_max_pool1d(), lambda x: x.amax(dim=2)),
}  # fmt: skip


def _drawn(word: str, *shape: int) -> Any:
    return generator(fold_in(Key(0), word)).standard_normal(shape)


def _turned(x: Any) -> Any:
    """The axes of sequences in the other library's order, there and back."""
    return np.ascontiguousarray(np.swapaxes(x, 1, 2)) if x.ndim == 3 else x


def _difference(layer: Layer, theirs: Function) -> float:
    made = layer.init(Key(0), (TIME, CHANNELS), np.float64).params
    params = tree.map(lambda leaf: leaf + _drawn("noise", *leaf.shape) / 4, made)
    x = _drawn("x", N, TIME, CHANNELS)
    y, _, residuals = layer.apply(params, None, x, train=True)
    dy = _drawn("dy", *y.shape)
    gradients, dx = layer.backward(params, residuals, dy)

    its = [np.ascontiguousarray(each.T) for each in tree.flatten(params)]
    its_x, *its_params = [torch.tensor(each, requires_grad=True) for each in (_turned(x), *its)]
    its_y = theirs(its_x, *its_params)
    its_y.backward(torch.tensor(_turned(dy)))
    pairs = [(_turned(y), its_y.detach()), (_turned(dx), its_x.grad)]
    pairs += [(ours.T, each.grad) for ours, each in zip(tree.flatten(gradients), its_params, strict=True)]
    return max(float(np.abs(ours - np.asarray(each)).max()) for ours, each in pairs)
