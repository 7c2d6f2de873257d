"""Attention and the transformer block against PyTorch, in float64: forward, dx and all gradients of the params."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from funcnn import Key, fold_in, tree
from funcnn.keys import generator
from funcnn.layer import Layer
from funcnn.layers import cross_attention, self_attention, transformer_block

N, FEATURES, HEADS = 3, 8, 2


def compare() -> dict[str, float]:
    """The largest absolute difference of each case, over y, dx and the gradients."""
    return {
        "self_attention": _self(7),
        "self_attention causal": _self(7, causal=True),
        "self_attention causal, by blocks": _self(300, causal=True),
        "self_attention by blocks": _self(300),
        "self_attention masked": _self(7, masked=True),
        "self_attention masked, by blocks": _self(300, masked=True),
        "cross_attention": _cross(),
        "cross_attention masked": _cross(masked=True),
        "transformer_block": _block(),
        "transformer_block pre_norm=False": _block(pre_norm=False),
    }


def _tensor(x: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(x), requires_grad=True)


def _drawn(word: str, *shape: int) -> Any:
    return generator(fold_in(Key(0), word)).standard_normal(shape)


def _noisy(params: Any) -> Any:
    """Params of which no bias is zero."""
    return tree.map(lambda leaf: leaf + _drawn("noise", *leaf.shape) / 4, params)


def _mask(n: int, keys: int) -> Any:
    """Every example looks at fewer positions, one at least."""
    return np.arange(keys) < keys - np.arange(n)[:, None] * 2


def _module(params: dict[str, Any], features: int, others: int) -> nn.MultiheadAttention:
    """PyTorch's own module with weights of ours, which are transposed there."""
    module = nn.MultiheadAttention(features, HEADS, kdim=others, vdim=others, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, value in params.items():
            module.get_parameter(name).copy_(torch.tensor(np.array(value)))
    return module


def _back(layer: Layer, params: Any, residuals: Any, dy: Any) -> tuple[Any, Any]:
    return tuple(layer.backward(params, residuals, dy))


def _largest(pairs: list[tuple[Any, Any]]) -> float:
    return max(float(np.abs(ours - theirs.detach().numpy()).max()) for ours, theirs in pairs)


def _self(time: int, *, causal: bool = False, masked: bool = False) -> float:
    layer = self_attention(HEADS, causal=causal, masked=masked)
    shape = (time, FEATURES)
    in_shape: Any = (shape, (time,)) if masked else shape
    params, _, _ = layer.init(Key(0), in_shape, np.float64)
    params, x, dy = _noisy(params), _drawn("x", N, *shape), _drawn("dy", N, *shape)
    mask = _mask(N, time)
    made = layer.apply(params, None, (x, mask) if masked else x, train=True)
    gradients, dx = _back(layer, params, made.residuals, dy)
    module = _module(
        {
            "in_proj_weight": params.qkv.weight.T, "in_proj_bias": params.qkv.bias,
            "out_proj.weight": params.out.weight.T, "out_proj.bias": params.out.bias,
        },
        FEATURES, FEATURES,
    )  # fmt: skip
    tx = _tensor(x)
    later = torch.triu(torch.ones(time, time, dtype=torch.bool), 1) if causal else None
    padding = torch.tensor(~mask) if masked else None
    ty, _ = module(tx, tx, tx, key_padding_mask=padding, attn_mask=later, need_weights=False)
    ty.backward(torch.tensor(dy))
    grad = {name: each.grad for name, each in module.named_parameters()}
    return _largest(
        [
            (made.y, ty), (dx[0] if masked else dx, tx.grad),
            (gradients.qkv.weight.T, grad["in_proj_weight"]), (gradients.qkv.bias, grad["in_proj_bias"]),
            (gradients.out.weight.T, grad["out_proj.weight"]), (gradients.out.bias, grad["out_proj.bias"]),
        ]
    )  # fmt: skip


def _cross(*, masked: bool = False) -> float:
    layer = cross_attention(HEADS, masked=masked)
    time, keys, others = 5, 7, 6
    shapes = (time, FEATURES), (keys, others)
    in_shape: Any = (*shapes, (keys,)) if masked else shapes
    params, _, _ = layer.init(Key(0), in_shape, np.float64)
    params, dy = _noisy(params), _drawn("dy", N, *shapes[0])
    x, memory, mask = _drawn("x", N, *shapes[0]), _drawn("memory", N, *shapes[1]), _mask(N, keys)
    made = layer.apply(params, None, (x, memory, mask) if masked else (x, memory), train=True)
    gradients, dx = _back(layer, params, made.residuals, dy)
    key, value = np.split(params.key_value.weight, 2, axis=1)
    module = _module(
        {
            "q_proj_weight": params.query.weight.T, "k_proj_weight": key.T, "v_proj_weight": value.T,
            "in_proj_bias": np.concatenate([params.query.bias, params.key_value.bias]),
            "out_proj.weight": params.out.weight.T, "out_proj.bias": params.out.bias,
        },
        FEATURES, others,
    )  # fmt: skip
    tx, tm = _tensor(x), _tensor(memory)
    ty, _ = module(tx, tm, tm, key_padding_mask=torch.tensor(~mask) if masked else None, need_weights=False)
    ty.backward(torch.tensor(dy))
    grad = {name: each.grad for name, each in module.named_parameters()}
    joint = torch.cat([grad["k_proj_weight"], grad["v_proj_weight"]])
    biases = np.concatenate([gradients.query.bias, gradients.key_value.bias])
    return _largest(
        [
            (made.y, ty), (dx[0], tx.grad), (dx[1], tm.grad),
            (gradients.query.weight.T, grad["q_proj_weight"]), (gradients.key_value.weight.T, joint),
            (biases, grad["in_proj_bias"]),
            (gradients.out.weight.T, grad["out_proj.weight"]), (gradients.out.bias, grad["out_proj.bias"]),
        ]
    )  # fmt: skip


def _block(*, pre_norm: bool = True) -> float:
    layer = transformer_block(FEATURES, HEADS, causal=True, pre_norm=pre_norm)
    shape = (5, FEATURES)
    params, state, _ = layer.init(Key(0), shape, np.float64)
    params, x, dy = _noisy(params), _drawn("x", N, *shape), _drawn("dy", N, *shape)
    made = layer.apply(params, state, x, train=True)
    gradients, dx = _back(layer, params, made.residuals, dy)
    module = nn.TransformerEncoderLayer(
        FEATURES, HEADS, 4 * FEATURES, 0.0, partial(functional.gelu, approximate="tanh"), norm_first=pre_norm,
        batch_first=True, dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        for name, value in _block_params(params, pre_norm).items():
            module.get_parameter(name).copy_(torch.tensor(np.array(value)))
    tx = _tensor(x)
    ty = module(tx, torch.triu(torch.ones(5, 5, dtype=torch.bool), 1))
    ty.backward(torch.tensor(dy))
    wanted = _block_params(gradients, pre_norm)
    return _largest([(made.y, ty), (dx, tx.grad), *[(wanted[k], v.grad) for k, v in module.named_parameters()]])


def _block_params(params: Any, pre_norm: bool) -> dict[str, Any]:
    """A block's params by PyTorch's names for them."""
    if pre_norm:
        (first, attention), (second, wide, _, narrow) = params
    else:
        attention, first, (wide, _, narrow), second = params
    named = {"norm1": first, "norm2": second}
    found = {f"{name}.weight": each.scale for name, each in named.items()}
    found |= {f"{name}.bias": each.shift for name, each in named.items()}
    found |= {"self_attn.in_proj_weight": attention.qkv.weight.T, "self_attn.in_proj_bias": attention.qkv.bias}
    for name, each in {"self_attn.out_proj": attention.out, "linear1": wide, "linear2": narrow}.items():
        found |= {f"{name}.weight": each.weight.T, f"{name}.bias": each.bias}
    return found


if __name__ == "__main__":
    for name, difference in compare().items():
        print(f"{name:40} {difference:.1e}")
