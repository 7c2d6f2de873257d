"""Combinators: layers made of layers, with the same signature; and layers rebuilt from their description."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import init as initializers
from funcnn import layers as plain
from funcnn.chunking import Stage, backward_chunks, chunk_sizes, join, largest_array, split, stages
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
    add_place,
    check_residuals,
    config,
    make_layer,
)
from funcnn.parallel import run, single_blas_thread
from funcnn.tree import node

__all__ = ["parallel", "rebuild", "residual", "serial"]


def _check_layers(instance: Any, attribute: Any, layers: tuple[Layer, ...]) -> None:
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            name = getattr(layer, "__name__", None)
            got = f"the function {name}; call it: {name}(...)" if name else repr(layer)
            raise TypeError(f"{instance.name}[{i}]: expected a Layer, got {got}")


def _child_key(key: Key | None, child: Layer, i: int) -> Key | None:
    """The key of the i-th child; None for a child that draws nothing, which saves deriving it."""
    return fold_in(key, i) if key is not None and child.config.stochastic else None


class _place:
    """``with _place(name, i):`` adds ``name[i]`` to an error on its way outward, and costs next to nothing."""

    __slots__ = ("i", "name")

    def __init__(self, name: str, i: int | None = None) -> None:
        self.name = name
        self.i = i

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception):
            add_place(error, self.name if self.i is None else f"{self.name}[{self.i}]")


def _check_values(config: "_Composed", **values: Any) -> None:
    """Raise unless params and state are tuples with one entry per layer, as init makes them."""
    for name, value in values.items():
        _check_tuple(config, name, value, len(config.layers), "layer", "init")


def _check_tuple(config: "_Composed", name: str, value: Any, count: int, each: str, maker: str) -> None:
    if type(value) is not tuple or len(value) != count:
        got = f"a tuple of {len(value)}" if type(value) is tuple else type(value).__name__
        raise LayerError(
            config.name,
            f"expected {name} to be a tuple of {count}, one for each {each}, got {got}",
            f"Pass the {name} that this net's own {maker} gave",
        )


# --- serial ---------------------------------------------------------------------------------------------------


@config
class _Composed(Config):
    """A combinator over several layers, which prints them as its arguments."""

    layers: tuple[Layer, ...] = attrs.field(validator=_check_layers)

    @property
    def children(self) -> tuple[Layer, ...]:
        return self.layers

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.layers))})"


@config
class _Serial(_Composed):
    name: ClassVar[str] = "serial"

    def out_shape(self, in_shape: Shape) -> Shape:
        for i, layer in enumerate(self.layers):
            with _place(self.name, i):
                in_shape = layer.config.out_shape(in_shape)
        return in_shape

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The runs of layers that take a batch in the same way."""
        return stages(self.layers)

    @cached_property
    def _largest_arrays(self) -> dict[tuple[int, Shape], int]:
        return {}  # of a stage and its input shape: worked out at the first batch, not at every step

    def chunk_sizes(self, stage: Stage, x: Array) -> tuple[int, ...]:
        """The sizes of the chunks in which a stage takes a batch."""
        at = stage.start, x.shape[1:]
        if at not in self._largest_arrays:
            self._largest_arrays[at] = largest_array(self.layers[stage.start : stage.stop], at[1])
        return chunk_sizes(len(x), self._largest_arrays[at])

    def macs(self, in_shape: Shape) -> int:
        total = 0
        for layer in self.layers:
            total += layer.config.macs(in_shape)
            in_shape = layer.config.out_shape(in_shape)
        return total


def _serial_init(config: _Serial, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    config.out_shape(in_shape)  # every shape is checked before the first weight is drawn
    params, states = [], []
    for i, layer in enumerate(config.layers):
        with _place(config.name, i):
            made = layer.init(fold_in(key, i), in_shape, dtype)
        params.append(made.params)
        states.append(made.state)
        in_shape = made.out_shape
    return Initialised(tuple(params), tuple(states), in_shape)


def _serial_apply(
    config: _Serial, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    _check_values(config, params=params, state=state)
    xs, states, kept = [x], list(state), []
    with single_blas_thread():  # here for all layers, since setting it back and forth costs more than a small product
        for stage in config.stages:
            i = stage.start
            layer, residuals = config.layers[i], None
            if stage.takes == "chunks":
                if len(xs) == 1:
                    xs = split(xs[0], config.chunk_sizes(stage, xs[0]))
                tasks = [
                    partial(_apply_run, config, stage, params, state, chunk, key, None if len(xs) == 1 else j, train)
                    for j, chunk in enumerate(xs)
                ]
                ys, residuals = zip(*run(tasks), strict=True)
                xs = list(ys)
            elif layer.config.apply_chunks is not None:
                with _place(config.name, i):
                    xs, states[i], residuals = layer.config.apply_chunks(params[i], state[i], xs, train=train)
            else:
                with _place(config.name, i):
                    y, states[i], residuals = layer.apply(
                        params[i], state[i], join(xs), key=_child_key(key, layer, i), train=train
                    )
                xs = [y]
            kept.append(_StageResiduals(tuple(map(len, xs)), residuals))
    return Applied(join(xs), tuple(states), tuple(kept) if train else None)


@node
class _StageResiduals:
    sizes: tuple[int, ...]  # of the chunks
    residuals: Any


def _apply_run(
    config: _Serial, stage: Stage, params: Any, state: Any, x: Array, key: Key | None, chunk: int | None, train: bool
) -> tuple[Array, tuple[Any, ...]]:
    """A chunk (None: the whole batch) through the layers of a stage: y and the residuals."""
    kept = []
    for i in stage.order:
        layer = config.layers[i]
        its_key = _child_key(key, layer, i)
        if its_key is not None and chunk is not None:
            its_key = fold_in(its_key, chunk)
        with _place(config.name, i):
            x, _, residuals = layer.apply(params[i], state[i], x, key=its_key, train=train)
        kept.append(residuals)
    return x, tuple(kept)


def _serial_backward(config: _Serial, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(config, residuals)
    _check_values(config, params=params)
    _check_tuple(config, "residuals", kept, len(config.stages), "run of layers", "apply")
    gradients: list[Any] = [None] * len(config.layers)
    first = 0 if need_dx else _first_trained(config.layers, params)
    dys: Any = [dy]
    with single_blas_thread():
        for stage, its in zip(reversed(config.stages), reversed(kept), strict=True):
            i = stage.start
            if stage.stop <= first:
                break
            if stage.takes != "the batch" and len(its.sizes) != len(dys):
                dys = split(join(dys), its.sizes)
            if stage.takes == "chunks":
                backward = partial(_backward_run, config, stage, params, its.residuals, first, need_dx)
                gradients[i : stage.stop], dys = backward_chunks(backward, dys)
                continue
            layer = config.layers[i]
            with _place(config.name, i):
                if layer.config.backward_chunks is not None:
                    gradients[i], dys = layer.config.backward_chunks(
                        params[i], its.residuals, dys, need_dx=need_dx or i > first
                    )
                else:
                    gradients[i], dx = layer.backward(params[i], its.residuals, join(dys), need_dx=need_dx or i > first)
                    dys = [dx]
    return Gradients(tuple(gradients), join(dys) if need_dx else None)


def _backward_run(
    config: _Serial, stage: Stage, params: Any, residuals: Any, first: int, need_dx: bool, chunk: int, dy: Any
) -> tuple[tuple[Any, ...], Any]:
    """A chunk's gradient back through the layers of a stage: their gradients and dx."""
    gradients: list[Any] = [None] * (stage.stop - stage.start)
    for i, kept in zip(reversed(stage.order), reversed(residuals[chunk]), strict=True):
        if i < first:
            break
        with _place(config.name, i):
            gradients[i - stage.start], dy = config.layers[i].backward(
                params[i], kept, dy, need_dx=need_dx or i > first
            )
    return tuple(gradients), dy


def _first_trained(layers: tuple[Layer, ...], params: Any) -> int:
    """The position of the first layer with parameters: below it, nothing needs a gradient."""
    return next((i for i, its_params in enumerate(params) if its_params is not None), len(layers))


def serial(*layers: Layer) -> Layer:
    """The layers one after the other: y = f_k(... f_1(x)); dx by the chain rule, last layer first.

    Params, state and residuals are tuples in layer order; layer i draws from ``fold_in(key, i)``. Without layers
    it is the identity. Errors name the place: ``serial[4] dense(units=10): ...``.

    >>> from funcnn.layers import dense, relu
    >>> net = serial(dense(8), relu(), dense(2))
    >>> params, state, out_shape = net.init(Key(0), (4,))
    >>> net.apply(params, state, np.ones((3, 4), np.float32)).y.shape
    (3, 2)

    Raises TypeError for an argument that is no Layer.
    """
    return make_layer(_Serial(layers), _serial_apply, _serial_backward, _serial_init)


# --- residual -------------------------------------------------------------------------------------------------


@config
class _Residual(Config):
    name: ClassVar[str] = "residual"
    layer: Layer

    @property
    def children(self) -> tuple[Layer, ...]:
        return (self.layer,)

    def out_shape(self, in_shape: Shape) -> Shape:
        with _place(self.name):
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
    with _place(config.name):
        return config.layer.init(key, in_shape, dtype)


def _residual_apply(
    config: _Residual, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    with _place(config.name):
        y, state, kept = config.layer.apply(params, state, x, key=key, train=train)
    return Applied(x + y, state, kept)


def _residual_backward(config: _Residual, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    with _place(config.name):
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
    _check_layers(_Residual, None, (layer,))
    return make_layer(_Residual(layer), _residual_apply, _residual_backward, _residual_init)


# --- parallel -------------------------------------------------------------------------------------------------

_COMBINE = ("concat", "add")


def _check_combine(instance: Any, attribute: Any, combine: str) -> None:
    if combine not in _COMBINE:
        raise ValueError(f"parallel: combine must be one of {', '.join(map(repr, _COMBINE))}, got {combine!r}")


@config
class _Parallel(_Composed):
    name: ClassVar[str] = "parallel"
    combine: Literal["concat", "add"] = attrs.field(default="concat", validator=_check_combine)

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise ValueError("parallel: at least one layer is needed; for the identity use serial()")

    def branch_shapes(self, in_shape: Shape) -> list[Shape]:
        shapes = []
        for i, layer in enumerate(self.layers):
            with _place(self.name, i):
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
        with _place(config.name, i):
            made.append(layer.init(fold_in(key, i), in_shape, dtype))
    return Initialised(tuple(each.params for each in made), tuple(each.state for each in made), out_shape)


def _parallel_apply(
    config: _Parallel, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    _check_values(config, params=params, state=state)
    outputs, states, kept = [], [], []
    for i, (layer, its_params, its_state) in enumerate(zip(config.layers, params, state, strict=True)):
        with _place(config.name, i):
            y, its_state, residuals = layer.apply(its_params, its_state, x, key=_child_key(key, layer, i), train=train)
        outputs.append(y)
        states.append(its_state)
        kept.append(residuals)
    y = np.concatenate(outputs, axis=-1) if config.combine == "concat" else _sum(outputs)
    sizes = tuple(each.shape[-1] for each in outputs)
    return Applied(y, tuple(states), (tuple(kept), sizes) if train else None)


def _parallel_backward(config: _Parallel, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept, sizes = check_residuals(config, residuals)
    _check_values(config, params=params)
    _check_tuple(config, "residuals", kept, len(config.layers), "layer", "apply")
    shares = [dy] * len(sizes)
    if config.combine == "concat":
        shares = [np.ascontiguousarray(each) for each in np.split(dy, np.cumsum(sizes)[:-1], axis=-1)]
    gradients, dxs = [], []
    for i, (layer, its_params) in enumerate(zip(config.layers, params, strict=True)):
        with _place(config.name, i):
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
    named: dict[str, Callable[..., Any]] = {"serial": serial, "residual": residual, "parallel": parallel}
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
