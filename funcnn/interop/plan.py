"""A net walked layer by layer: where its parameters are, and in which order PyTorch has the features that they meet."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import attrs
import numpy as np

from funcnn import tree
from funcnn.checks import LayerError, is_several
from funcnn.init import shapes_only
from funcnn.interop.layouts import Form, Leaves, forms, join
from funcnn.keys import Key
from funcnn.layer import Layer
from funcnn.tree import Array, Shape

__all__ = ["CHANNELS_FIRST", "CHANNELS_LAST", "Flattened", "Place", "Plan", "plan_of"]

Flattened = Literal["channels_first", "channels_last"]
# Layers of sequences that PyTorch and ONNX give the channels before the time; and those that have them last there too.
CHANNELS_FIRST = (
    "conv1d", "conv_transpose1d", "max_pool1d", "avg_pool1d", "global_avg_pool1d", "global_max_pool1d",
)  # fmt: skip
CHANNELS_LAST = (
    "dense", "embedding", "unembedding", "self_attention", "cross_attention", "rnn", "lstm", "gru", "layer_norm",
    "rms_norm", "position_embedding", "sinusoidal_positions",
)  # fmt: skip


@attrs.frozen
class Place:
    """A layer that has leaves: its path as in the layer table, and the modules that it may be, the usual form first."""

    path: str
    layer: Layer
    forms: tuple[Form, ...]


@attrs.define
class Plan:
    """All places of a net, the shape of every leaf, and what else their values must obey.

    Leaves are named by their paths in ``Model(params, state)``. `orders` has for a leaf the axes along which PyTorch
    has its features in another order: ``ours = theirs.take(order, axis)``. `shared` has the leaves that are those of
    another place (`funcnn.compose.tied`), with that place and whether they are transposed. `out_order` is where each
    value of a flat output is in PyTorch's, None where both are the same.
    """

    places: list[Place] = attrs.field(factory=list)
    shapes: dict[str, Shape] = attrs.field(factory=dict)
    orders: dict[str, list[tuple[int, Array]]] = attrs.field(factory=dict)
    shared: dict[str, tuple[str, bool]] = attrs.field(factory=dict)
    out_order: Array | None = None


def plan_of(net: Layer, in_shape: Shape, *, flattened: Flattened = "channels_first") -> Plan:
    """The plan of a net for examples of a shape; raises LayerError for a layer of which no PyTorch layout is known."""
    walk = _Walk(flattened)
    with shapes_only():
        net.init(Key(0), in_shape)  # raises for a shape that does not fit
        walk.plan.out_order = walk.go(net, _Flow(in_shape), "", "params", "state").order
    return walk.plan


# --- The walk -------------------------------------------------------------------------------------------------


@attrs.frozen
class _Flow:
    """What goes from one layer to the next: an example's shape, and how PyTorch has its features.

    `order`: where each feature of a flat example is in PyTorch's; None where both are the same. `makers`: the leaves,
    each with an axis, that a change of that order would have to be applied to; None where it cannot be.
    `channels_first`: whether PyTorch has a sequence as (channels, time).
    """

    shape: Any
    order: Array | None = None
    makers: tuple[tuple[str, int], ...] | None = None
    channels_first: bool = False


_AROUND = ("chunked", "remat", "frozen", "tied", "residual", "carried")
# Layers whose parts of the last axis are not features that could be reordered one by one.
_BY_PARTS = ("glu", "swiglu", "geglu", "maxout", "group_norm", "reshape", "gaussian_sample")


@attrs.define
class _Walk:
    flattened: Flattened
    plan: Plan = attrs.field(factory=Plan)

    def go(self, layer: Layer, flow: _Flow, path: str, params: str, state: str) -> _Flow:
        """Through a layer, whose params and state have such paths."""
        children = layer.config.children
        if not children and layer.name not in ("serial", "repeat"):
            return self._leaf(layer, flow, path, params, state)

        def inside(i: int, before: _Flow) -> _Flow:
            return self.go(children[i], before, join(path, i), join(params, i), join(state, i))

        if layer.name in ("serial", "repeat"):
            for i in range(len(children)):
                flow = inside(i, flow)
            return flow
        if layer.name in ("parallel", "dense_connections", "residual"):
            flow = attrs.evolve(flow, makers=None)  # what several layers take cannot be reordered for one of them
        if layer.name in _AROUND:
            return self._around(layer, flow, path, params, state)
        if layer.name == "branches":
            made = [inside(i, _Flow(shape)) for i, shape in enumerate(flow.shape)]
            return _Flow(tuple([each.shape for each in made]))
        if layer.name == "parallel":
            return self._side_by_side(layer, flow, [inside(i, flow) for i in range(len(children))])
        if layer.name == "dense_connections":
            for i in range(len(children)):
                more = inside(i, flow)
                flow = _Flow((*flow.shape[:-1], flow.shape[-1] + more.shape[-1]), _concat([flow, more]))
            return flow
        raise LayerError(
            f"{layer.name} at {path or 'the root'}",
            "of a combinator of your own no PyTorch layout is known",
            "Put its arrays in by their paths: funcnn.interop.put(params, {path: array})",
        )

    def _around(self, layer: Layer, flow: _Flow, path: str, params: str, state: str) -> _Flow:
        (child,) = layer.config.children
        if layer.name == "frozen":
            params, state = join(state, 0), join(state, 1)
        before = _Flow(flow.shape[0], channels_first=flow.channels_first) if layer.name == "carried" else flow
        first = len(self.plan.shapes)
        made = self.go(child, before, path, params, state)
        if layer.name == "tied":
            names = [*self.plan.shapes][first:]
            for place, second in layer.config.places:  # type: ignore[attr-defined]
                self._share(names, f"{params}.{place}", second, params)
        if layer.name == "carried":
            return _Flow(layer.config.out_shape(flow.shape))
        if layer.name == "residual":
            made = made if _same(flow.order, made.order) else self._reordered(made, flow.order, path, layer)
            return attrs.evolve(made, makers=None)
        return made

    def _share(self, names: list[str], place: str, second: str, params: str) -> None:
        its, transposed = second.removesuffix(".T"), second.endswith(".T")
        for name in names:
            if name == place or name.startswith(f"{place}."):
                self.plan.shared[name] = f"{params}.{its}{name[len(place) :]}", transposed

    def _side_by_side(self, layer: Layer, flow: _Flow, made: list[_Flow]) -> _Flow:
        combine = layer.config.combine  # type: ignore[attr-defined]
        shape = layer.config.out_shape(flow.shape)
        if combine == "tuple":
            return _Flow(shape)
        channels_first = any(each.channels_first for each in made)
        if combine == "concat":
            return _Flow(shape, _concat(made), None, channels_first)
        order = next((each.order for each in made if each.order is not None), None)
        for each in made:
            if not _same(each.order, order):
                self._reordered(each, order, "", layer)
        return _Flow(shape, order, None, channels_first)

    def _reordered(self, flow: _Flow, order: Array | None, path: str, layer: Layer) -> _Flow:
        """The flow in another order, which what made it must take over."""
        if flow.makers is None or flow.order is not None or order is None:
            raise LayerError(
                f"{layer.name} at {path or 'the root'}",
                "its features are in an order that PyTorch's cannot be turned into",
                'Give flattened="channels_last" if the PyTorch model flattens so, or put a dense layer between',
            )
        for leaf, axis in flow.makers:
            self.plan.orders.setdefault(leaf, []).append((axis, order))
        return attrs.evolve(flow, order=order)

    def _leaf(self, layer: Layer, flow: _Flow, path: str, params: str, state: str) -> _Flow:
        made = layer.init(Key(0), flow.shape)
        leaves: Leaves = {}
        for root, values in ((params, made.params), (state, made.state)):
            for name, leaf in zip(tree.paths(values), tree.flatten(values), strict=True):
                leaves[name] = join(root, name), leaf.shape
        self.plan.shapes |= dict(leaves.values())
        if leaves:
            self.plan.places.append(Place(path, layer, forms(layer, path, leaves, flow.channels_first)))
        return self._after(layer, flow, path, made.out_shape, {name: leaf for name, (leaf, _) in leaves.items()})

    def _after(self, layer: Layer, flow: _Flow, path: str, shape: Any, leaves: dict[str, str]) -> _Flow:
        """What a layer that is no combinator makes of the flow."""
        name = layer.name
        several = is_several(flow.shape) or is_several(shape)
        if name in ("flatten", "reshape") and not several:
            return self._shaped(layer, flow, path, shape)
        if name == "dense":
            if flow.order is not None:
                self.plan.orders.setdefault(leaves["weight"], []).append((0, flow.order))
            makers = [(leaves["weight"], 1), *([(leaves["bias"], 0)] if "bias" in leaves else [])]
            return _Flow(shape, None, tuple(makers) if len(shape) == 1 else None)
        first = name in CHANNELS_FIRST or (flow.channels_first and name not in CHANNELS_LAST)
        if several or shape != flow.shape:
            if flow.order is not None:
                self._reordered(flow, None, path, layer)  # raises
            return _Flow(shape, channels_first=first)
        if flow.order is not None and name in _BY_PARTS:
            self._reordered(flow, None, path, layer)
        # One number for each feature, so that they can be reordered; or one for all, as prelu's.
        mine = [(leaf, 0) for leaf in leaves.values() if self.plan.shapes[leaf] == shape] if len(shape) == 1 else []
        if flow.order is not None:
            for leaf, axis in mine:
                self.plan.orders.setdefault(leaf, []).append((axis, flow.order))
        makers_after = None if flow.makers is None or name in _BY_PARTS else (*flow.makers, *mine)
        return attrs.evolve(flow, makers=makers_after, channels_first=first)

    def _shaped(self, layer: Layer, flow: _Flow, path: str, shape: Shape) -> _Flow:
        """After flatten or reshape: PyTorch's order of what was, or becomes, an image."""
        if len(flow.shape) > 1 and len(shape) > 1 and shape[-1] == flow.shape[-1]:
            return _Flow(shape)  # positions in other rows, as an image's patches become a sequence: channels stay
        before = flow.order if len(flow.shape) == 1 else self._order(flow.shape, flow.channels_first)
        after = None if len(shape) == 1 else self._order(shape, False)
        if len(shape) == 1:
            return _Flow(shape, before, flow.makers if len(flow.shape) == 1 else None)
        if not _same(before, after):
            self._reordered(flow if len(flow.shape) == 1 else _Flow(flow.shape), after, path, layer)
        return _Flow(shape)

    def _order(self, shape: Shape, channels_first: bool) -> Array | None:
        """Where each value of an example is when PyTorch has its channels first, both flattened."""
        if self.flattened == "channels_last" or len(shape) not in (2, 3) or (len(shape) == 2 and not channels_first):
            return None
        if shape[-1] == 1 or math.prod(shape[:-1]) == 1:
            return None
        theirs = np.arange(math.prod(shape)).reshape(shape[-1], *shape[:-1])
        return np.moveaxis(theirs, 0, -1).ravel()


def _same(one: Array | None, other: Array | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _concat(flows: Sequence[_Flow]) -> Array | None:
    """The order of features side by side."""
    if all(each.order is None for each in flows) or any(len(each.shape) != 1 for each in flows):
        return None
    parts, start = [], 0
    for each in flows:
        size = each.shape[0]
        parts.append(start + (np.arange(size) if each.order is None else each.order))
        start += size
    return np.concatenate(parts)
