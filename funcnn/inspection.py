"""A look inside a net: every layer's output, the sizes of gradients and of updates, the first layer's filters.

All are by path, as the layer table (`funcnn.report.layer_table`) and `funcnn.tree.paths` name places.
"""

import math
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn import tree
from funcnn.keys import Key
from funcnn.layer import Applied, Layer, Values, make_layer
from funcnn.nn.activations import identity
from funcnn.nn.combining import Wrapped
from funcnn.nn.dense_connections import dense_connections
from funcnn.nn.fold import kind
from funcnn.nn.frozen import frozen
from funcnn.nn.parallel import branches, parallel
from funcnn.nn.remat import remat
from funcnn.nn.repeat import repeat
from funcnn.nn.serial import serial
from funcnn.nn.tied import tied
from funcnn.nn.wrapping import chunked, residual
from funcnn.settings import config, function_of, refuse
from funcnn.tree import Array, Shape

__all__ = ["activations", "first_filters", "gradient_norms", "update_ratios"]


def activations(net: Layer, params: Any, state: Any, x: Values) -> dict[str, Values]:
    """What every layer of a net gives, by its path, in the order of the layer table; layers are as for prediction.

    x (n, ...) -> arrays (n, ...); of a layer with several outputs a tuple. The net's own output is its last layer's. A
    layer around another, such as `residual`, has the path of its params, which are the other's; that one's path then
    ends in ``.layer``. Your own combinators are one step, as in the table; a net that is one step has the path "".

    >>> from funcnn.layers import dense, relu
    >>> net = serial(dense(3), residual(serial(dense(3), relu())), residual(relu()))
    >>> params, state, _ = net.init(Key(0), (4,))
    >>> seen = activations(net, params, state, np.ones((2, 4), np.float32))
    >>> {path: y.shape for path, y in seen.items()}
    {'0': (2, 3), '1': (2, 3), '1.0': (2, 3), '1.1': (2, 3), '2': (2, 3), '2.layer': (2, 3)}
    >>> bool((seen["1"] == seen["0"] + seen["1.1"]).all())
    True

    They are equal to the net's own but for rounding: a batch is not cut into chunks here, and all arrays are kept.
    Raises ValueError for what is no Layer, and what ``net.apply`` raises.
    """
    if not isinstance(net, Layer):
        refuse("activations", "net", "a Layer", net, "Pass problem.net" if hasattr(net, "net") else "")
    seen: dict[str, Values] = {}
    _watched(net, "", seen).apply(params, state, x)
    return seen


# --- A net whose layers are watched ---------------------------------------------------------------------------

_IN_A_ROW = tuple(map(kind, (serial(), repeat(identity(), 1))))  # they have no path of their own
_CHUNKED = kind(chunked(identity(), 1))
_AROUND = (_CHUNKED, *map(kind, (residual(identity()), remat(identity()), frozen(identity()), tied(identity(), {}))))
_SIDE_BY_SIDE = tuple(map(kind, (parallel(identity()), branches(identity()), dense_connections(identity()))))
_ALL = 2**31 - 1  # examples in a chunk: one chunk of all, so that a layer is seen once


@config
class _Watched(Wrapped):
    """A layer that notes what it gives. To a `serial` it is no layer to cut a batch for, or to move a pool across."""

    name: ClassVar[str] = "watched"
    by_chunks: ClassVar[bool] = False
    path: str
    seen: dict[str, Values]


def _apply(
    settings: _Watched, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
) -> Applied:
    made = settings.layer.apply(params, state, x, key=key, train=train)
    settings.seen[settings.path] = made.y
    return made


def _backward(settings: _Watched, *_: Any, **__: Any) -> Any:
    raise NotImplementedError  # it is for prediction alone


def _watched(layer: Layer, path: str, seen: dict[str, Values]) -> Layer:
    """A layer that gives the same, and puts what it and the layers in it give into `seen`, by their paths."""
    settings: Any = layer.config
    if isinstance(settings, _IN_A_ROW) and settings.children:
        return serial(*_children(settings, path, seen))
    where = path
    while where in seen:
        where = f"{where}.layer".removeprefix(".")
    seen[where] = ()  # the combinator's path comes before those in it
    if isinstance(settings, _SIDE_BY_SIDE):
        layer = _changed(layer, layers=_children(settings, path, seen))
    elif isinstance(settings, _AROUND):
        whole = {"size": _ALL} if isinstance(settings, _CHUNKED) else {}
        layer = _changed(layer, layer=_watched(settings.layer, path, seen), **whole)
    return make_layer(_Watched(layer, where, seen), _apply, _backward)


def _children(settings: Any, path: str, seen: dict[str, Values]) -> tuple[Layer, ...]:
    """The layers of a combinator of several, watched."""
    return tuple([_watched(child, f"{path}.{i}".removeprefix("."), seen) for i, child in enumerate(settings.children)])


def _changed(combinator: Layer, **changes: Any) -> Layer:
    """A combinator with some of its settings changed."""
    settings: Any = combinator.config
    init, apply, backward = (function_of(each) for each in (combinator._init, combinator.apply, combinator.backward))
    return make_layer(attrs.evolve(settings, **changes), apply, backward, init)


# --- Sizes of gradients and updates ---------------------------------------------------------------------------


def gradient_norms(gradients: Any) -> dict[str, float]:
    """The Euclidean norm of every array of a tree of gradients (or of params), by its path.

    >>> gradient_norms((np.array([3.0, 4.0]), None, np.zeros((2, 2))))
    {'0': 5.0, '2': 0.0}

    Raises TreeError for what is no tree.
    """
    return dict(zip(tree.paths(gradients), map(_norm, tree.flatten(gradients)), strict=True))


def update_ratios(before: Any, after: Any) -> dict[str, float]:
    """How far a step moved every array of the params, ‖after - before‖ / ‖before‖, by its path.

    About 0.001 is usual in training; far less learns nothing, far more is unstable. Infinite where all were zero.

    >>> update_ratios((np.array([3.0, 4.0]), np.zeros(2)), (np.array([3.0, 4.5]), np.ones(2)))
    {'0': 0.1, '1': inf}

    Raises TreeError for trees of different structure, or of arrays of different shapes.
    """
    tree.check_like(before, after, ("before", "after"), shapes=True)
    changes = tree.map(lambda old, new: np.asarray(new, np.float64) - old, before, after)
    pairs = zip(gradient_norms(changes).items(), gradient_norms(before).values(), strict=True)
    return {path: moved / size if size else (math.inf if moved else 0.0) for (path, moved), size in pairs}


def _norm(array: Any) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64).ravel()))


# --- Filters --------------------------------------------------------------------------------------------------


def first_filters(params: Any, in_shape: Shape) -> Array | None:
    """The first layer's weights as images (height, width, channels, filters); None if they are no images.

    A dense layer's weights are images if its inputs are an image's pixels. `funcnn.report.draw_filters` draws them.

    >>> from funcnn.models import fully_connected
    >>> first_filters(fully_connected([5], 10).init(Key(0), (8, 8, 1)).params, (8, 8, 1)).shape
    (8, 8, 1, 5)
    """
    named = zip(tree.paths(params), tree.flatten(params), strict=True)
    weight = next((np.asarray(leaf) for name, leaf in named if name.split(".")[-1] == "weight"), None)
    if weight is None or len(in_shape) != 3 or in_shape[-1] not in (1, 3):
        return None
    if weight.ndim == 2 and len(weight) == math.prod(in_shape):
        return weight.reshape(*in_shape, -1)
    return weight if weight.ndim == 4 and weight.shape[2] == in_shape[-1] and weight.shape[0] > 1 else None
