"""Nets in chunks of few examples, and the same nets by hand: one plain layer after the other on the whole batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from cases import all_configs

from funcnn.layer import Applied, Array, Gradients, Layer, Shape
from funcnn.nn import stages


@contextmanager
def chunks_of(examples: int, net: Layer, in_shape: Shape) -> Iterator[None]:
    """Inside, a run of layers whose largest array is as large as the net's takes so many examples at once, or fewer."""
    numbers = examples * stages._largest_array(net.config.layers, in_shape)[0]
    with mock.patch.multiple(stages, _LARGE=numbers, _SMALL=max(1, numbers // 4)):
        forget_plans(net)
        yield
    forget_plans(net)


def forget_plans(net: Layer) -> None:
    """Have every `serial` in a net plan anew how it takes a batch."""
    for each in all_configs(net):
        if each.name == "serial":
            each._plans.clear()


def sizes(residuals: Any) -> list[tuple[int, ...]]:
    """The sizes of the chunks that each stage of a `serial` took."""
    return [stage.sizes for stage in residuals]


def forward(layer: Layer, params: Any, state: Any, x: Array, train: bool = True) -> Applied:
    """A net applied by hand: every plain layer to the whole batch, in the order in which they are written."""
    if layer.name == "residual":
        y, state, kept = forward(layer.config.layer, params, state, x, train)
        return Applied(x + y, state, kept)
    if not _by_hand(layer):
        return layer.apply(params, state, x, train=train)
    done: list[Applied] = []
    for child, its_params, its_state in zip(layer.config.layers, params, state, strict=True):
        its_x = done[-1].y if done and layer.name == "serial" else x
        done.append(forward(child, its_params, its_state, its_x, train))
    ys = [each.y for each in done]
    if layer.name == "serial":
        y = ys[-1] if ys else x
    else:
        y = np.concatenate(ys, axis=-1) if layer.config.combine == "concat" else sum(ys)
    return Applied(y, tuple(each.state for each in done), done)


def backward(layer: Layer, params: Any, kept: Any, dy: Array) -> Gradients:
    """The gradients of what `forward` did, by the chain rule."""
    if layer.name == "residual":
        gradients, dx = backward(layer.config.layer, params, kept, dy)
        return Gradients(gradients, dx + dy)
    if not _by_hand(layer):
        return layer.backward(params, kept, dy)
    children = list(zip(layer.config.layers, params, kept, strict=True))
    found = []
    if layer.name == "serial":
        for child, its_params, its in reversed(children):
            found.append(backward(child, its_params, its.residuals, dy))
            dy = found[-1].dx
        return Gradients(tuple(each.params for each in reversed(found)), dy)
    ends = np.cumsum([each.y.shape[-1] for each in kept])[:-1]
    shares = np.split(dy, ends, axis=-1) if layer.config.combine == "concat" else [dy] * len(children)
    for (child, its_params, its), share in zip(children, shares, strict=True):
        found.append(backward(child, its_params, its.residuals, share))
    dx = None if found[0].dx is None else sum(each.dx for each in found)
    return Gradients(tuple(each.params for each in found), dx)


def _by_hand(layer: Layer) -> bool:
    return layer.name == "serial" or (layer.name == "parallel" and layer.config.combine in ("concat", "add"))
