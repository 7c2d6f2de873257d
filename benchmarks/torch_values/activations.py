"""Activations, gates and initialisers against PyTorch's: forward, dx and gradients of params in float64, kinks too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from funcnn import Key, tree
from funcnn.init import dirac, eye
from funcnn.layer import Layer
from funcnn.layers import (
    alpha_dropout,
    celu,
    elu,
    geglu,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    maxout,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softplus,
    softsign,
    swiglu,
    tanh,
    tanh_shrink,
)
from funcnn.tree import Array

RNG = np.random.default_rng(0)
KINKS = [-6.0, -3.0, -1.0, -0.5, 0.0, -0.0, 0.5, 1.0, 3.0, 6.0]
X = np.concatenate([6 * RNG.standard_normal(2000), np.linspace(-40, 40, 990), KINKS]).reshape(300, 10)
DY = RNG.standard_normal(X.shape)
IMAGES, DY_IMAGES = RNG.standard_normal((2, 4, 5, 6, 8))

Peer = Callable[[torch.Tensor], torch.Tensor]

PEERS: list[tuple[Layer, Peer]] = [
    (relu(), F.relu),
    (leaky_relu(0.2), lambda x: F.leaky_relu(x, 0.2)),
    (relu6(), F.relu6),
    (hard_tanh(), F.hardtanh),
    (hard_tanh(-0.5, 3), lambda x: F.hardtanh(x, -0.5, 3.0)),
    (hard_sigmoid(), lambda x: F.relu6(x + 3) / 6),  # backward of F.hardsigmoid has 1/6 in float32, 1.5e-8 off
    (hard_swish(), F.hardswish),
    (soft_shrink(), F.softshrink),
    (hard_shrink(), F.hardshrink),
    (elu(0.5), lambda x: F.elu(x, 0.5)),
    (selu(), F.selu),
    (celu(0.5), lambda x: F.celu(x, 0.5)),
    (sigmoid(), torch.sigmoid),
    (log_sigmoid(), F.logsigmoid),
    (tanh(), torch.tanh),
    (tanh_shrink(), F.tanhshrink),
    (softplus(), lambda x: F.softplus(x, threshold=1000)),
    (softsign(), F.softsign),
    (silu(), F.silu),
    (mish(), F.mish),
    (gelu(), lambda x: F.gelu(x, approximate="tanh")),
    (gelu(exact=True), F.gelu),
]
HALVES: list[tuple[Layer, Peer]] = [
    (glu(), lambda x: F.glu(x)),
    (swiglu(), lambda x: x.chunk(2, -1)[0] * F.silu(x.chunk(2, -1)[1])),
    (geglu(), lambda x: x.chunk(2, -1)[0] * F.gelu(x.chunk(2, -1)[1], approximate="tanh")),
    (geglu(exact=True), lambda x: x.chunk(2, -1)[0] * F.gelu(x.chunk(2, -1)[1])),
    (maxout(2), lambda x: torch.stack(x.chunk(2, -1)).amax(0)),
    (maxout(4), lambda x: torch.stack(x.chunk(4, -1)).amax(0)),
]


def difference(layer: Layer, peer: Peer, x: Array, dy: Array) -> float:
    """The largest difference of a layer without params, over y and dx."""
    y, _, residuals = layer.apply(None, None, x, train=True)
    dx = layer.backward(None, residuals, dy).dx
    given = torch.from_numpy(x.copy()).requires_grad_()
    wanted = peer(given)
    wanted.backward(torch.from_numpy(dy.copy()))
    assert dx is not None
    assert given.grad is not None
    return max(float(abs(y - wanted.detach().numpy()).max()), float(abs(dx - given.grad.numpy()).max()))


def prelu_difference(per_channel: bool) -> float:
    """The largest difference of prelu, over y, dx and dslope."""
    layer, slope = prelu(per_channel=per_channel), RNG.standard_normal(8 if per_channel else 1)
    params, state, _ = layer.init(Key(0), IMAGES.shape[1:], np.float64)
    params = tree.replace(params, "slope", slope)
    y, _, residuals = layer.apply(params, state, IMAGES, train=True)
    gradients, dx = layer.backward(params, residuals, DY_IMAGES)
    x = torch.from_numpy(IMAGES.copy()).requires_grad_()
    weight = torch.from_numpy(slope).requires_grad_()
    wanted = F.prelu(x.permute(0, 3, 1, 2), weight).permute(0, 2, 3, 1)
    wanted.backward(torch.from_numpy(DY_IMAGES.copy()))
    pairs: list[tuple[Any, Any]] = [(y, wanted.detach()), (dx, x.grad), (gradients.slope, weight.grad)]
    return max(float(abs(ours - theirs.numpy()).max()) for ours, theirs in pairs)


def alpha_difference(rate: float) -> float:
    """The largest difference of alpha dropout, given the same mask."""
    layer = alpha_dropout(rate)
    y, _, residuals = layer.apply(None, None, X, key=Key(0), train=True)
    mask = torch.from_numpy(residuals.mask)
    limit, p = -1.7580993408473766, round(rate * 65536) / 65536
    a = ((1 - p) * (1 + p * limit**2)) ** -0.5  # as in torch.nn.functional's alpha_dropout
    x = torch.from_numpy(X.copy()).requires_grad_()
    wanted = torch.where(mask, x, torch.full_like(x, limit)) * a - a * limit * p
    wanted.backward(torch.from_numpy(DY.copy()))
    dx = layer.backward(None, residuals, DY).dx
    assert dx is not None
    assert x.grad is not None
    return max(float(abs(y - wanted.detach().numpy()).max()), float(abs(dx - x.grad.numpy()).max()))


def dirac_difference(groups: int) -> float:
    """The largest difference of a kernel (3, 4, in / groups, out) from PyTorch's."""
    wanted = torch.nn.init.dirac_(torch.empty(6, 6 // groups, 3, 4), groups).permute(2, 3, 1, 0).numpy()
    return float(abs(dirac(groups)(Key(0), wanted.shape, 1, 1) - wanted).max())


def compare() -> dict[str, float]:
    """The largest absolute difference of each; without ties for maxout, where PyTorch's amax shares the gradient."""
    found = {str(layer): difference(layer, peer, X, DY) for layer, peer in PEERS}
    for layer, peer in HALVES:
        dy = np.ascontiguousarray(DY_IMAGES[..., : layer.config.out_shape(IMAGES.shape[1:])[-1]])
        found[str(layer)] = difference(layer, peer, IMAGES, dy)
    found |= {str(prelu(per_channel=each)): prelu_difference(each) for each in (False, True)}
    found |= {str(alpha_dropout(rate)): alpha_difference(rate) for rate in (0.1, 0.5)}
    found |= {str(dirac(groups)): dirac_difference(groups) for groups in (1, 2)}
    found["eye()"] = float(abs(eye()(Key(0), (3, 5), 3, 5) - torch.nn.init.eye_(torch.empty(3, 5)).numpy()).max())
    return found


if __name__ == "__main__":
    for name, value in compare().items():
        print(f"{name:32s} {value:.1e}")
