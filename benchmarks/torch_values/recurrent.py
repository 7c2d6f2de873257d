"""Recurrent layers against PyTorch's, in float64: outputs, the carry, and the gradients of params, x and carry.

PyTorch has two biases for each gate, bias_ih and bias_hh; funcnn has their sum, and both for the GRU's candidate alone.
"""

from typing import Any

import numpy as np
import torch

from funcnn import Key, Layer, fold_in, tree
from funcnn.compose import carried, parallel, serial
from funcnn.keys import generator
from funcnn.layers import gru, lstm, rnn
from funcnn.nn.recurrent import RecurrentParams

N, TIME, FEATURES, UNITS = 3, 7, 4, 5


def compare() -> dict[str, float]:
    """The largest absolute difference of each layer."""
    kinds = {
        "rnn tanh": (rnn(UNITS), torch.nn.RNN, {}),
        "rnn relu": (rnn(UNITS, activation="relu"), torch.nn.RNN, {"nonlinearity": "relu"}),
        "lstm": (lstm(UNITS), torch.nn.LSTM, {}),
        "gru": (gru(UNITS), torch.nn.GRU, {}),
    }
    both_ways = {
        "rnn": (rnn, torch.nn.RNN),
        "lstm": (lstm, torch.nn.LSTM),
        "gru": (gru, torch.nn.GRU),
    }
    found = {f"{name} from a carry": _from_a_carry(*kind) for name, kind in kinds.items()}
    found |= {f"{name} both ways": _both_ways(*kind) for name, kind in both_ways.items()}
    return found | {"two lstms, the last step": _two_layers()}


def _drawn(word: str, *shape: int) -> Any:
    return generator(fold_in(Key(0), word)).standard_normal(shape)


def _module(kind: Any, params: list[RecurrentParams], **options: Any) -> torch.nn.RNNBase:
    """PyTorch's module with weights of ours, one of the params for each layer or direction."""
    module = kind(FEATURES, UNITS, batch_first=True, dtype=torch.float64, **options)
    count = 2 if options.get("bidirectional") else 1
    with torch.no_grad():
        for i, each in enumerate(params):
            end = f"l{i // count}" + "_reverse" * (i % count)
            first, second = _biases(each)
            for name, value in {
                "weight_ih": each.weight.T, "weight_hh": each.recurrent_weight.T, "bias_ih": first, "bias_hh": second
            }.items():  # fmt: skip
                module.get_parameter(f"{name}_{end}").copy_(torch.tensor(np.array(value)))
    return module


def _biases(params: RecurrentParams) -> tuple[Any, Any]:
    """Our bias in two parts, of which the second is a third of it."""
    second = params.bias / 3
    first = params.bias - second
    if params.candidate_bias is not None:
        first[2 * UNITS :], second[2 * UNITS :] = params.bias[2 * UNITS :], params.candidate_bias
    return first, second


def _pairs(gradients: RecurrentParams, module: torch.nn.RNNBase, end: str) -> list[tuple[Any, Any]]:
    """Our gradients and PyTorch's."""
    pairs = [
        (gradients.weight.T, module.get_parameter(f"weight_ih_{end}").grad),
        (gradients.recurrent_weight.T, module.get_parameter(f"weight_hh_{end}").grad),
        (gradients.bias, module.get_parameter(f"bias_ih_{end}").grad),
    ]
    if gradients.candidate_bias is not None:
        pairs.append((gradients.candidate_bias, module.get_parameter(f"bias_hh_{end}").grad[2 * UNITS :]))
    return pairs


def _largest(pairs: list[tuple[Any, Any]]) -> float:
    return max(float(np.abs(ours - theirs.detach().numpy()).max()) for ours, theirs in pairs)


def _params(net: Layer, in_shape: Any) -> Any:
    """Params of which no bias is at its initial value."""
    made = net.init(Key(0), in_shape, np.float64).params
    return tree.map(lambda leaf: leaf + _drawn("noise", *leaf.shape) / 4, made)


def _from_a_carry(layer: Layer, kind: Any, options: dict[str, Any]) -> float:
    count = 2 if kind is torch.nn.LSTM else 1
    net = carried(layer)
    params = _params(net, ((TIME, FEATURES), *[(UNITS,)] * count))
    xs = (_drawn("x", N, TIME, FEATURES), *[_drawn(f"carry {i}", N, UNITS) for i in range(count)])
    dys = (_drawn("dy", N, TIME, UNITS), *[_drawn(f"dcarry {i}", N, UNITS) for i in range(count)])
    ys, _, residuals = net.apply(params, None, xs, train=True)
    gradients, dxs = net.backward(params, residuals, dys)
    assert dxs is not None

    module = _module(kind, [params], **options)
    x, *carry = [torch.tensor(each, requires_grad=True) for each in xs]
    y, end = module(x, tuple(each[None] for each in carry) if count == 2 else carry[0][None])
    theirs = [y, *[each[0] for each in (end if count == 2 else (end,))]]
    torch.autograd.backward(theirs, [torch.tensor(each) for each in dys])
    pairs = [*zip(ys, theirs, strict=True), *zip(dxs, [x.grad, *[each.grad for each in carry]], strict=True)]
    return _largest(pairs + _pairs(gradients, module, "l0"))


def _both_ways(layer: Any, kind: Any) -> float:
    net = parallel(layer(UNITS), layer(UNITS, reverse=True))
    return _of_sequences(net, kind, ["l0", "l0_reverse"], bidirectional=True)


def _two_layers() -> float:
    net = serial(lstm(UNITS), lstm(UNITS, only_last=True))
    return _of_sequences(net, torch.nn.LSTM, ["l0", "l1"], num_layers=2)


def _of_sequences(net: Layer, kind: Any, ends: list[str], **options: Any) -> float:
    params = _params(net, (TIME, FEATURES))
    x = _drawn("x", N, TIME, FEATURES)
    y, _, residuals = net.apply(params, (None, None), x, train=True)
    dy = _drawn("dy", *y.shape)
    gradients, dx = net.backward(params, residuals, dy)
    module, its_x = _module(kind, list(params), **options), torch.tensor(x, requires_grad=True)
    its_y = module(its_x)[0]
    its_y = its_y if y.ndim == 3 else its_y[:, -1]
    its_y.backward(torch.tensor(dy))
    pairs = [pair for each, end in zip(gradients, ends, strict=True) for pair in _pairs(each, module, end)]
    return _largest([(y, its_y), (dx, its_x.grad), *pairs])
