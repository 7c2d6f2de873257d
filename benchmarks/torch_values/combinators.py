"""Combinators of several layers and inputs: funcnn's values against PyTorch's, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from funcnn import Key, Layer, tree
from funcnn.compose import branches, dense_connections, frozen, join, parallel, remat, repeat, residual, serial, tied
from funcnn.layers import dense, sigmoid, tanh

Tensors = list[torch.Tensor]  # the params, in the order of funcnn's leaves
N = 5


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return x @ weight + bias


def _dense_connections(x: torch.Tensor, w: Tensors) -> torch.Tensor:
    x = torch.cat([x, linear(x, w[0], w[1])], dim=-1)
    return torch.cat([x, torch.tanh(linear(x, w[2], w[3]))], dim=-1)


def _repeat(x: torch.Tensor, w: Tensors) -> torch.Tensor:
    for i in range(0, len(w), 2):
        x = x + torch.tanh(linear(x, w[i], w[i + 1]))
    return x


def _remat(x: torch.Tensor, w: Tensors) -> torch.Tensor:
    for i in range(0, len(w), 2):
        x = checkpoint(
            lambda x, weight, bias: torch.tanh(linear(x, weight, bias)), x, *w[i : i + 2], use_reentrant=False
        )
    return x


def _frozen(x: torch.Tensor, w: Tensors) -> torch.Tensor:
    return linear(torch.tanh(linear(x, w[2].detach(), w[3].detach())), w[0], w[1])


CASES: dict[str, tuple[Layer, Any, Callable[..., torch.Tensor]]] = {
    "parallel concat": (
        parallel(dense(3), dense(2)), (4,),
        lambda x, w: torch.cat([linear(x, w[0], w[1]), linear(x, w[2], w[3])], dim=-1),
    ),
    "parallel add": (
        parallel(dense(3), dense(3), combine="add"), (4,),
        lambda x, w: linear(x, w[0], w[1]) + linear(x, w[2], w[3]),
    ),
    "parallel multiply": (
        parallel(dense(3), serial(dense(3), sigmoid()), dense(3), combine="multiply"), (4,),
        lambda x, w: linear(x, w[0], w[1]) * torch.sigmoid(linear(x, w[2], w[3])) * linear(x, w[4], w[5]),
    ),
    "branches and join": (
        serial(branches(dense(3), dense(3)), join("mean")), ((4,), (2,)),
        lambda x, w: (linear(x[0], w[0], w[1]) + linear(x[1], w[2], w[3])) / 2,
    ),
    "dense_connections": (dense_connections(dense(2), serial(dense(3), tanh())), (4,), _dense_connections),
    "repeat": (repeat(residual(serial(dense(4), tanh())), 3), (4,), _repeat),
    "remat": (repeat(remat(serial(dense(4), tanh())), 3), (4,), _remat),
    "frozen": (serial(frozen(serial(dense(4), tanh())), dense(2)), (3,), _frozen),
    "tied": (
        tied(serial(dense(2), tanh(), dense(4)), {"2.weight": "0.weight.T"}), (4,),
        lambda x, w: linear(torch.tanh(linear(x, w[0], w[1])), w[0].T, w[2]),
    ),
}  # fmt: skip


def difference(net: Layer, in_shape: Any, theirs: Callable[..., torch.Tensor]) -> float:
    """The largest difference of y, dx and the gradients of the params."""
    draw = np.random.default_rng(0)
    params, state, _ = net.init(Key(0), in_shape, np.float64)
    several = isinstance(in_shape[0], tuple)
    xs = [draw.standard_normal((N, *shape)) for shape in (in_shape if several else (in_shape,))]
    y, _, residuals = net.apply(params, state, tuple(xs) if several else xs[0], train=True)
    dy = draw.standard_normal(y.shape)
    gradients, dx = net.backward(params, residuals, dy)
    weights = [torch.tensor(leaf, requires_grad=True) for leaf in tree.flatten(params)]
    fixed = [torch.tensor(leaf) for leaf in tree.flatten(state)]
    tensors = [torch.tensor(x, requires_grad=True) for x in xs]
    made = theirs(tensors if several else tensors[0], [*weights, *fixed])
    made.backward(torch.tensor(dy))
    ours = [y, *tree.flatten(gradients), *tree.flatten(dx)]
    its = [made.detach(), *(each.grad for each in (*weights, *tensors))]
    return max(float(np.abs(a - np.asarray(b)).max()) for a, b in zip(ours, its, strict=True))


def compare() -> dict[str, float]:
    """The largest absolute difference over y, dx and the gradients of the params, by name."""
    return {name: difference(*case) for name, case in CASES.items()}


if __name__ == "__main__":
    for name, largest in compare().items():
        print(f"{name:20} {largest:.1e}")
