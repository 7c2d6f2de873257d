"""Layer norm, RMS norm, group norm and instance norm against PyTorch, in float64."""

from typing import Any

import numpy as np
import torch

from funcnn import Key, tree
from funcnn.arrays.layout import images, rows
from funcnn.layers import group_norm, instance_norm, layer_norm, rms_norm

EPSILON = 1e-5


def compare() -> dict[str, float]:
    """The largest absolute differences of outputs, input gradients and gradients of the parameters."""
    sequence, image = (3, 5, 8), (2, 4, 5, 8)
    functional = torch.nn.functional

    def by_group(groups: int) -> Any:
        return lambda x, scale, shift: functional.group_norm(x, groups, scale, shift, EPSILON)

    found = {}
    for shape in (sequence, image):
        found[f"layer_norm {shape}"] = _difference(
            layer_norm(),
            shape,
            lambda x, *params: functional.layer_norm(x, [8], *params, EPSILON),
            channels_first=False,
        )
        found[f"rms_norm {shape}"] = _difference(
            rms_norm(), shape, lambda x, scale, _: functional.rms_norm(x, [8], scale, EPSILON), channels_first=False
        )
        for groups in (1, 2, 8):
            found[f"group_norm({groups}) {shape}"] = _difference(group_norm(groups), shape, by_group(groups))
        found[f"instance_norm {shape}"] = _difference(
            instance_norm(),
            shape,
            lambda x, *params: functional.instance_norm(x, None, None, *params, use_input_stats=True, eps=EPSILON),
        )
    found["layer_norm of large means"] = _difference(
        layer_norm(), sequence, lambda x, *params: functional.layer_norm(x, [8], *params, EPSILON),
        channels_first=False, mean=1e3,
    )  # fmt: skip
    return found


def _difference(
    layer: Any, shape: tuple[int, ...], theirs: Any, *, channels_first: bool = True, mean: float = 0.0
) -> float:
    draw = np.random.default_rng(0)
    params, state, _ = layer.init(Key(0), shape[1:], np.float64)
    params = tree.map(lambda leaf: leaf + draw.standard_normal(leaf.shape), params)
    x, dy = draw.standard_normal(shape) + mean, draw.standard_normal(shape)
    largest = 0.0
    for turned in (False, True) if len(shape) == 4 else (False,):
        if turned:  # as images lie in memory here
            x, dy = (images(np.ascontiguousarray(rows(each))) for each in (x, dy))
        y, _, residuals = layer.apply(params, state, x, train=True)
        gradients, dx = layer.backward(params, residuals, dy)
        mine = [y, dx, *tree.flatten(gradients)]
        axes = (0, len(shape) - 1, *range(1, len(shape) - 1)) if channels_first else tuple(range(len(shape)))
        tx = torch.tensor(np.ascontiguousarray(x.transpose(axes)), requires_grad=True)
        leaves = [
            None if each is None else torch.tensor(each, requires_grad=True) for each in (params.scale, params.shift)
        ]
        ty = theirs(tx, *leaves)
        ty.backward(torch.tensor(np.ascontiguousarray(dy.transpose(axes))))
        back = np.argsort(axes)
        other = [ty.detach().numpy().transpose(back), tx.grad.numpy().transpose(back)]
        other += [each.grad.numpy() for each in leaves if each is not None]
        largest = max([largest, *(float(abs(a - b).max()) for a, b in zip(mine, other, strict=True))])
    return largest
