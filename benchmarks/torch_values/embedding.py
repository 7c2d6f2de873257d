"""Embedding, unembedding, dense layers of sequences and rotary positions against PyTorch, in float64."""

from typing import Any

import numpy as np
import torch

from funcnn import Key, tree
from funcnn.arrays.rotary import rotate, rotate_back
from funcnn.layers import dense, embedding, unembedding


def compare() -> dict[str, float]:
    """The largest absolute differences of outputs, input gradients and gradients of the parameters."""
    draw = np.random.default_rng(0)
    functional = torch.nn.functional
    ids = draw.zipf(1.3, (4, 50)) % 90  # some often, most seldom
    return {
        "embedding": _difference(embedding(90, 6), ids, functional.embedding),
        "unembedding": _difference(unembedding(7), draw.standard_normal((2, 5, 4)), functional.linear),
        "dense per position": _difference(
            dense(3, per_position=True), draw.standard_normal((2, 5, 4)),
            lambda x, weight, bias: functional.linear(x, weight.T, bias),
        ),
        "rotary": _rotary(draw),
    }  # fmt: skip


def _difference(layer: Any, x: Any, theirs: Any) -> float:
    draw = np.random.default_rng(1)
    params, state, out_shape = layer.init(Key(0), x.shape[1:], np.float64)
    params = tree.map(lambda leaf: leaf + draw.standard_normal(leaf.shape), params)
    dy = draw.standard_normal((len(x), *out_shape))
    y, _, residuals = layer.apply(params, state, x, train=True)
    gradients, dx = layer.backward(params, residuals, dy)
    leaves = [torch.tensor(each, requires_grad=True) for each in tree.flatten(params)]
    floats = x.dtype.kind == "f"
    tx = torch.tensor(x, requires_grad=floats)
    ty = theirs(tx, *leaves)
    ty.backward(torch.tensor(dy))
    pairs = [(y, ty.detach().numpy())]
    pairs += [(mine, leaf.grad.numpy()) for mine, leaf in zip(tree.flatten(gradients), leaves, strict=True)]
    pairs += [(dx, tx.grad.numpy())] if floats else []
    return max(float(abs(mine - other).max()) for mine, other in pairs)


def _rotary(draw: np.random.Generator) -> float:
    """Against complex numbers: a pair of features turned is multiplied by exp(i · angle)."""
    x, dy = draw.standard_normal((2, 2, 3, 7, 8))
    tx = torch.tensor(x, requires_grad=True)
    angles = torch.outer(torch.arange(3, 10).double(), 10000.0 ** (-torch.arange(4).double() / 4))
    turned = torch.complex(tx[..., :4], tx[..., 4:]) * torch.polar(torch.ones_like(angles), angles)
    ty = torch.cat([turned.real, turned.imag], dim=-1)
    ty.backward(torch.tensor(dy))
    forward = abs(rotate(x, offset=3) - ty.detach().numpy()).max()
    return max(float(forward), float(abs(rotate_back(dy, offset=3) - tx.grad.numpy()).max()))
