"""`fold`: a net for prediction, in which nothing is left that training alone needs.

Outside training, batch norm is one factor and one shift for each channel, numbers that are known before any example is.
The dense layer or convolution before it is linear, so that its weights take the factor in and its bias the shift:

    f · (x · W + b - mean) + shift = x · (f · W) + (f · (b - mean) + shift),      f = scale / sqrt(var + epsilon)

Dropout and noise do nothing outside training, and a `serial` within another is the same layers in order.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np

from funcnn import tree
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.checks import check_params, check_weight
from funcnn.layer import Layer
from funcnn.nn.activations import identity
from funcnn.nn.batch_norm import BatchNormParams, batch_norm
from funcnn.nn.combining import check_tuple, place
from funcnn.nn.convolution import conv2d
from funcnn.nn.dense import DenseParams, PositionBiasParams, dense, position_bias
from funcnn.nn.dense_connections import dense_connections
from funcnn.nn.filters import ConvParams
from funcnn.nn.frozen import frozen
from funcnn.nn.parallel import branches, parallel
from funcnn.nn.pools import avg_pool2d, global_avg_pool2d
from funcnn.nn.remat import remat
from funcnn.nn.repeat import repeat
from funcnn.nn.serial import serial
from funcnn.nn.stochastic import alpha_dropout, drop_path, dropout, gaussian_noise, spatial_dropout
from funcnn.nn.tied import tied
from funcnn.nn.wrapping import chunked, residual
from funcnn.settings import refuse
from funcnn.tree import Array

__all__ = ["Folded", "chain", "factor_and_shift", "fold", "joined", "kind"]


class Folded(NamedTuple):
    """What `fold` returns: a net with its params and its state."""

    net: Layer
    params: Any
    state: Any


@underflow_is_zero
def fold(net: Layer, params: Any, state: Any) -> Folded:
    """A net for prediction that gives the same, but for rounding, with less work: -> (net, params, state).

    Batch norm goes into the weights and the bias of the dense layer or convolution before it, with biases and average
    pools between them too: it keeps its place where none is before it. Dropout, noise and `identity` go, a `serial` or
    `repeat` in another becomes its layers, and what is `tied`, `frozen` or `remat` the layer in it; within `residual`,
    `parallel` and other combinators alike. All other layers stay as they are.

    >>> from funcnn import Key
    >>> from funcnn.layers import relu
    >>> net = serial(dense(3, use_bias=False), batch_norm(), relu(), dropout(0.5), dense(2))
    >>> folded, params, state = fold(net, *net.init(Key(0), (4,))[:2])
    >>> folded
    serial(dense(units=3), relu(), dense(units=2))
    >>> x = np.ones((1, 4), np.float32)
    >>> folded.apply(params, state, x).y.shape
    (1, 2)

    It is a net like any other, but not the one to train further: batch norm and dropout are missing there. Raises
    ValueError for what is no Layer, LayerError for params or a state that are not the net's.
    """
    if not isinstance(net, Layer):
        refuse("fold", "net", "a Layer", net, "Pass problem.net" if hasattr(net, "net") else "")
    return joined(_fold_norms(_parts(net, params, state)))


# --- The parts of a net ---------------------------------------------------------------------------------------


def kind(layer: Layer) -> Any:
    """The class of a layer's settings: a layer of one's own may have any name."""
    return type(layer.config)


_DENSE, _CONV2D, _POSITION_BIAS, _BATCH_NORM = map(kind, (dense(1), conv2d(1, 1), position_bias(), batch_norm()))
_SERIAL, _REPEAT = map(kind, (serial(), repeat(identity(), 1)))
_PARALLEL, _BRANCHES = map(kind, (parallel(identity()), branches(identity())))
_DENSE_CONNECTIONS = kind(dense_connections(identity()))
_RESIDUAL, _CHUNKED = map(kind, (residual(identity()), chunked(identity(), 1)))
_REMAT, _FROZEN, _TIED = map(kind, (remat(identity()), frozen(identity()), tied(identity(), {})))
_DRAWING = (alpha_dropout(0.5), drop_path(0.5), dropout(0.5), gaussian_noise(1.0), spatial_dropout(0.5))
_IDLE = tuple(map(kind, (*_DRAWING, identity())))
_MEANS = tuple(map(kind, (avg_pool2d(1), global_avg_pool2d())))


def _parts(net: Layer, params: Any, state: Any) -> list[Folded]:
    """The layers that are left in a net, in order, each with its own params and state; those within them folded."""
    settings: Any = net.config
    if isinstance(settings, _IDLE):
        return []
    if isinstance(settings, (_SERIAL, _REPEAT, _PARALLEL, _BRANCHES, _DENSE_CONNECTIONS)):
        for name, value in (("params", params), ("state", state)):
            check_tuple(settings, name, value, len(settings.children), "layer", "init")
        found = []
        for i, child in enumerate(zip(settings.children, params, state, strict=True)):
            with place(settings.name, i):
                found.append(_parts(*child))
        if isinstance(settings, (_SERIAL, _REPEAT)):
            return [part for branch in found for part in branch]
        layers, params, state = _columns([joined(_fold_norms(branch)) for branch in found])
        if isinstance(settings, _PARALLEL):
            return [Folded(parallel(*layers, combine=settings.combine), params, state)]
        make = branches if isinstance(settings, _BRANCHES) else dense_connections
        return [Folded(make(*layers), params, state)]
    if isinstance(settings, (_REMAT, _FROZEN, _TIED)):
        if isinstance(settings, _FROZEN):
            params, state = settings.unpacked(state)
        elif isinstance(settings, _TIED):
            params = settings.filled(params)
        with place(settings.name):
            return _parts(settings.layer, params, state)
    if isinstance(settings, (_RESIDUAL, _CHUNKED)):
        with place(settings.name):
            inner = joined(_fold_norms(_parts(settings.layer, params, state)))
        layer = residual(inner.net) if isinstance(settings, _RESIDUAL) else chunked(inner.net, settings.size)
        return [Folded(layer, inner.params, inner.state)]
    return [Folded(net, params, state)]


def _columns(parts: Sequence[Folded]) -> tuple[tuple[Any, ...], ...]:
    """The layers, the params and the states of some parts."""
    return tuple([tuple([part[column] for part in parts]) for column in range(3)])


def chain(net: Folded) -> list[Folded]:
    """The layers of a `serial` one by one, or the one that it is."""
    if not isinstance(net.net.config, _SERIAL):
        return [net]
    return [Folded(*each) for each in zip(net.net.config.layers, net.params, net.state, strict=True)]


def joined(parts: Sequence[Folded]) -> Folded:
    """Some parts as one net."""
    if len(parts) == 1:
        return parts[0]
    layers, params, state = _columns(parts)
    return Folded(serial(*layers), params, state)


# --- Batch norm -----------------------------------------------------------------------------------------------


def _fold_norms(parts: Sequence[Folded]) -> list[Folded]:
    """The parts without the batch norms that the layers before them can take in."""
    done: list[Folded] = []
    for part in parts:
        if isinstance(part.net.config, _BATCH_NORM):
            at = _linear_before(done)
            if at is not None:
                factor, shift = factor_and_shift(part)
                done[at] = _scaled_and_shifted(done[at], factor, shift)
                # The factor applies to all that follows the linear layer; the shift has been added once.
                done[at + 1 :] = [_scaled(each, factor) for each in done[at + 1 :]]
                continue
        done.append(part)
    return done


def _linear_before(parts: Sequence[Folded]) -> int | None:
    """The position of the dense layer or convolution that can take in what follows the parts: of None there is none.

    A bias is added and a mean is taken of each channel by itself, so that these may stand between.
    """
    for i in reversed(range(len(parts))):
        settings = parts[i].net.config
        if isinstance(settings, (_DENSE, _CONV2D)):
            return i
        if not isinstance(settings, (_POSITION_BIAS, *_MEANS)):
            break
    return None


def factor_and_shift(norm: Folded) -> tuple[Array, Array]:
    """Batch norm outside training is y = factor · x + shift: both, for each channel, in float64."""
    settings: Any = norm.net.config
    params, state = norm.params, norm.state
    check_params(settings, params, BatchNormParams)
    settings.check_state(params, state)
    factor = params.scale.astype(np.float64) / np.sqrt(state.var.astype(np.float64) + settings.epsilon)
    return factor, params.shift - state.mean * factor


def _scaled_and_shifted(part: Folded, factor: Array, shift: Array) -> Folded:
    """A dense layer or convolution whose output is multiplied by a factor for each channel, and shifted."""
    settings: Any = part.net.config
    params = part.params
    is_dense = isinstance(settings, _DENSE)
    check_params(settings, params, DenseParams if is_dense else ConvParams)
    check_weight(settings, "weight", params.weight, (*[None] * (params.weight.ndim - 1), len(factor)))
    bias = shift if params.bias is None else params.bias * factor + shift
    made = tree.read_only(type(params)(_like(params.weight, params.weight * factor), _like(params.weight, bias)))
    options = attrs.asdict(settings, recurse=False) | {"use_bias": True}
    return Folded((dense if is_dense else conv2d)(**options), made, part.state)


def _scaled(part: Folded, factor: Array) -> Folded:
    """A part that stands between: its position's bias multiplied by a factor for each channel."""
    if not isinstance(part.net.config, _POSITION_BIAS):
        return part
    bias = _like(part.params.bias, part.params.bias * factor)
    return part._replace(params=tree.read_only(PositionBiasParams(bias)))


def _like(parameter: Array, value: Array) -> Array:
    return value.astype(parameter.dtype)
