"""Combinators: layers made of layers, with the same signature; and layers rebuilt from their description."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import init as initializers
from funcnn import layers as plain
from funcnn.chunking import add_up, join, split
from funcnn.keys import Key, fold_in
from funcnn.layer import (
    Applied,
    Array,
    Config,
    Gradients,
    Initialised,
    Layer,
    LayerError,
    Shape,
    ShapeError,
    check_count,
    check_residuals,
    config,
    make_layer,
)
from funcnn.parallel import run
from funcnn.sequential import Composed, check_layers, check_tuple, check_values, child_key, place, serial, split_like

__all__ = ["chunked", "parallel", "rebuild", "residual", "serial"]


# --- residual -------------------------------------------------------------------------------------------------


@config
class _Residual(Config):
    name: ClassVar[str] = "residual"
    layer: Layer

    @property
    def children(self) -> tuple[Layer, ...]:
        return (self.layer,)

    def out_shape(self, in_shape: Shape) -> Shape:
        with place(self.name):
            out_shape = self.layer.config.out_shape(in_shape)
        if out_shape != in_shape:
            raise ShapeError(
                self.name,
                f"its layer must keep the shape {in_shape} to be added to it, and gives {out_shape}",
                'Use as many filters as input channels, stride 1 and padding="same"',
            )
        return out_shape

    def macs(self, in_shape: Shape) -> int:
        return self.layer.config.macs(in_shape)


def _residual_init(config: _Residual, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    config.out_shape(in_shape)
    with place(config.name):
        return config.layer.init(key, in_shape, dtype)


def _residual_apply(
    config: _Residual, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    with place(config.name):
        y, state, kept = config.layer.apply(params, state, x, key=key, train=train)
    return Applied(x + y, state, kept)


def _residual_backward(config: _Residual, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    with place(config.name):
        gradients, dx = config.layer.backward(params, residuals, dy, need_dx=need_dx)
    return Gradients(gradients, dx + dy if need_dx else None)


def residual(layer: Layer) -> Layer:
    """y = x + f(x) for a layer f that keeps the shape; dx = dy + f's dx (He et al. 2016).

    Params, state and key are the layer's own.

    >>> from funcnn.layers import dense, relu
    >>> block = residual(serial(dense(4), relu()))
    >>> block.init(Key(0), (4,)).out_shape
    (4,)

    Raises TypeError for an argument that is no Layer.
    """
    check_layers(_Residual, None, (layer,))
    return make_layer(_Residual(layer), _residual_apply, _residual_backward, _residual_init)


# --- chunked --------------------------------------------------------------------------------------------------


@config
class _Chunked(Config):
    name: ClassVar[str] = "chunked"
    layer: Layer
    size: int = attrs.field(validator=check_count)

    @property
    def children(self) -> tuple[Layer, ...]:
        return (self.layer,)

    @property
    def by_chunks(self) -> bool:
        return False  # it cuts the batch itself

    def out_shape(self, in_shape: Shape) -> Shape:
        with place(self.name):
            return self.layer.config.out_shape(in_shape)

    def macs(self, in_shape: Shape) -> int:
        return self.layer.config.macs(in_shape)


def _chunked_init(config: _Chunked, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    with place(config.name):
        return config.layer.init(key, in_shape, dtype)


def _chunked_apply(
    config: _Chunked, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    if train and config.layer.config.couples_examples:
        raise LayerError(
            config.name,
            "in training its layer couples the examples of a batch, which cannot be cut",
            "Put batch_norm outside: serial(chunked(...), batch_norm(), chunked(...))",
        )
    sizes = (config.size,) * (len(x) // config.size) + (len(x) % config.size,)
    xs = split(x, sizes if sizes[-1] or len(sizes) == 1 else sizes[:-1])

    def apply(i: int, chunk: Array) -> Applied:
        its_key = fold_in(key, i) if key is not None and config.layer.config.stochastic else None
        with place(config.name):
            return config.layer.apply(params, state, chunk, key=its_key, train=train)

    applied = run([partial(apply, i, chunk) for i, chunk in enumerate(xs)])
    residuals = tuple(map(len, xs)), tuple([each.residuals for each in applied])
    return Applied(join([each.y for each in applied]), state, residuals if train else None)


def _chunked_backward(config: _Chunked, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    sizes, kept = check_residuals(config, residuals)

    def backward(its: Any, chunk: Array) -> tuple[Any, Any]:
        with place(config.name):
            return config.layer.backward(params, its, chunk, need_dx=need_dx)

    pairs = zip(kept, split_like(config, dy, sizes), strict=True)
    gradients, dxs = add_up([partial(backward, its, chunk) for its, chunk in pairs])
    return Gradients(gradients, join(dxs) if need_dx else None)


def chunked(layer: Layer, size: int) -> Layer:
    """The layer on `size` examples at a time, the chunks spread over the threads: y = f(x) all the same.

    It bounds what a layer needs in between to that of a chunk, whatever the batch. `serial` cuts batches up by itself
    where it pays (`funcnn.chunking`); this is for a layer that it leaves whole, or another size. Params and state are
    the layer's own; chunk i draws from ``fold_in(key, i)``; the params' gradients are added up, first chunk to last.

    >>> from funcnn.layers import dense
    >>> layer = chunked(dense(2), 16)
    >>> params, state, _ = layer.init(Key(0), (4,))
    >>> layer.apply(params, state, np.ones((40, 4), np.float32)).y.shape
    (40, 2)

    Raises TypeError for an argument that is no Layer, ValueError for a size that is no positive int; its apply raises
    LayerError in training if the layer couples examples, as batch norm does.
    """
    check_layers(_Chunked, None, (layer,))
    return make_layer(_Chunked(layer, size), _chunked_apply, _chunked_backward, _chunked_init)


# --- parallel -------------------------------------------------------------------------------------------------

_COMBINE = ("concat", "add")


def _check_combine(instance: Any, attribute: Any, combine: str) -> None:
    if combine not in _COMBINE:
        raise ValueError(f"parallel: combine must be one of {', '.join(map(repr, _COMBINE))}, got {combine!r}")


@config
class _Parallel(Composed):
    name: ClassVar[str] = "parallel"
    combine: Literal["concat", "add"] = attrs.field(default="concat", validator=_check_combine)

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise ValueError("parallel: at least one layer is needed; for the identity use serial()")

    def branch_shapes(self, in_shape: Shape) -> list[Shape]:
        shapes = []
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                shapes.append(layer.config.out_shape(in_shape))
        return shapes

    def out_shape(self, in_shape: Shape) -> Shape:
        shapes = self.branch_shapes(in_shape)
        for i, shape in enumerate(shapes):
            alike = shape == shapes[0] if self.combine == "add" else shape[:-1] == shapes[0][:-1]
            if not (alike and shape):
                wanted = f"{shapes[0]}" if self.combine == "add" else f"{shapes[0]} in all but the last axis"
                raise ShapeError(
                    f"{self.name}[{i}]",
                    f"expected an output of shape {wanted} like parallel[0]'s, got {shape}",
                    "Give every branch the same output size",
                )
        return shapes[0] if self.combine == "add" else (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def macs(self, in_shape: Shape) -> int:
        return sum(layer.config.macs(in_shape) for layer in self.layers)

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()[:-1]}, combine={self.combine!r})" if self.combine != "concat" else super().__repr__()
        )


def _parallel_init(config: _Parallel, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = config.out_shape(in_shape)
    made = []
    for i, layer in enumerate(config.layers):
        with place(config.name, i):
            made.append(layer.init(fold_in(key, i), in_shape, dtype))
    return Initialised(tuple(each.params for each in made), tuple(each.state for each in made), out_shape)


def _parallel_apply(
    config: _Parallel, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_values(config, params=params, state=state)
    outputs, states, kept = [], [], []
    for i, (layer, its_params, its_state) in enumerate(zip(config.layers, params, state, strict=True)):
        with place(config.name, i):
            y, its_state, residuals = layer.apply(its_params, its_state, x, key=child_key(key, layer, i), train=train)
        outputs.append(y)
        states.append(its_state)
        kept.append(residuals)
    y = np.concatenate(outputs, axis=-1) if config.combine == "concat" else _sum(outputs)
    sizes = tuple(each.shape[-1] for each in outputs)
    return Applied(y, tuple(states), (tuple(kept), sizes) if train else None)


def _parallel_backward(config: _Parallel, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept, sizes = check_residuals(config, residuals)
    check_values(config, params=params)
    check_tuple(config, "residuals", kept, len(config.layers), "layer", "apply")
    shares = [dy] * len(sizes)
    if config.combine == "concat":
        shares = [np.ascontiguousarray(each) for each in np.split(dy, np.cumsum(sizes)[:-1], axis=-1)]
    gradients, dxs = [], []
    for i, (layer, its_params) in enumerate(zip(config.layers, params, strict=True)):
        with place(config.name, i):
            its_gradients, dx = layer.backward(its_params, kept[i], shares[i], need_dx=need_dx)
        gradients.append(its_gradients)
        dxs.append(dx)
    return Gradients(tuple(gradients), _sum(dxs) if need_dx else None)


def _sum(arrays: list[Any]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total  # type: ignore[no-any-return]


def parallel(*layers: Layer, combine: Literal["concat", "add"] = "concat") -> Layer:
    """Every layer on the same input, their outputs joined along the last axis or added; dx = Σ of theirs.

    Params and state are tuples in layer order; layer i draws from ``fold_in(key, i)`` (Szegedy et al. 2015).

    >>> from funcnn.layers import conv2d
    >>> block = parallel(conv2d(8, 1), conv2d(4, 3, padding="same"))
    >>> block.init(Key(0), (28, 28, 1)).out_shape
    (28, 28, 12)

    Raises TypeError for an argument that is no Layer, ValueError for none at all or an unknown `combine`.
    """
    return make_layer(_Parallel(layers, combine), _parallel_apply, _parallel_backward, _parallel_init)


# --- Rebuilding -----------------------------------------------------------------------------------------------


def _constructors() -> dict[str, Callable[..., Any]]:
    named: dict[str, Callable[..., Any]] = {each.__name__: each for each in (serial, residual, chunked, parallel)}
    for module in (plain, initializers):
        named |= {name: getattr(module, name) for name in module.__all__ if name[0].islower()}
    return named


def rebuild(description: Any) -> Layer:
    """The layer that `funcnn.layer.describe` described: ``rebuild(describe(layer)) == layer``.

    >>> from funcnn.layer import describe
    >>> from funcnn.layers import dense, relu
    >>> net = serial(dense(8), relu())
    >>> rebuild(describe(net)) == net
    True

    Raises LayerError for a name that is none of this library's layers or initialisers, and TypeError for
    arguments that they do not take.
    """
    made = _rebuild(description, _constructors())
    if not isinstance(made, Layer):
        raise LayerError("rebuild", f"expected the description of a layer, got {description!r}", "Pass describe(layer)")
    return made


def _rebuild(description: Any, constructors: dict[str, Callable[..., Any]]) -> Any:
    if isinstance(description, list):
        return tuple(_rebuild(each, constructors) for each in description)
    if not isinstance(description, dict):
        return description
    name = description.get("name")
    if name not in constructors:
        raise LayerError("rebuild", f"no layer is called {name!r}", "Only this library's own layers can be rebuilt")
    arguments = {key: _rebuild(value, constructors) for key, value in description.items() if key != "name"}
    return constructors[name](*arguments.pop("layers", ()), **arguments)
