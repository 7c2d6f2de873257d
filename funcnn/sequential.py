"""`serial`, the combinator that nets are made of, and what all combinators share."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

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

__all__ = ["Composed", "check_layers", "check_tuple", "check_values", "child_key", "place", "serial"]


# --- What combinators share -----------------------------------------------------------------------------------


def check_layers(instance: Any, attribute: Any, layers: tuple[Layer, ...]) -> None:
    """Raise TypeError unless all are layers."""
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            name = getattr(layer, "__name__", None)
            got = f"the function {name}; call it: {name}(...)" if name else repr(layer)
            raise TypeError(f"{instance.name}[{i}]: expected a Layer, got {got}")


def child_key(key: Key | None, child: Layer, i: int) -> Key | None:
    """The key of the i-th child; None for a child that draws nothing, which saves deriving it."""
    return fold_in(key, i) if key is not None and child.config.stochastic else None


class place:
    """``with place(name, i):`` adds ``name[i]`` to an error on its way outward, and costs next to nothing."""

    __slots__ = ("i", "name")

    def __init__(self, name: str, i: int | None = None) -> None:
        self.name = name
        self.i = i

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception):
            add_place(error, self.name if self.i is None else f"{self.name}[{self.i}]")


def check_values(config: "Composed", **values: Any) -> None:
    """Raise unless params and state are tuples with one entry per layer, as init makes them."""
    for name, value in values.items():
        check_tuple(config, name, value, len(config.layers), "layer", "init")


def check_tuple(config: "Composed", name: str, value: Any, count: int, each: str, maker: str) -> None:
    """Raise unless a value is a tuple of a length, one entry for `each`, as `maker` gives it."""
    if type(value) is not tuple or len(value) != count:
        got = f"a tuple of {len(value)}" if type(value) is tuple else type(value).__name__
        raise LayerError(
            config.name,
            f"expected {name} to be a tuple of {count}, one for each {each}, got {got}",
            f"Pass the {name} that this net's own {maker} gave",
        )


@config
class Composed(Config):
    """A combinator over several layers, which prints them as its arguments."""

    layers: tuple[Layer, ...] = attrs.field(validator=check_layers)

    @property
    def children(self) -> tuple[Layer, ...]:
        return self.layers

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.layers))})"


# --- serial --------------------------------------------------------------------------------------------------


@config
class _Serial(Composed):
    name: ClassVar[str] = "serial"

    def out_shape(self, in_shape: Shape) -> Shape:
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                in_shape = layer.config.out_shape(in_shape)
        return in_shape

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The runs of layers that take a batch in the same way."""
        return stages(self.layers)

    @cached_property
    def evaluation_stages(self) -> tuple[Stage, ...]:
        """The same for evaluation."""
        return stages(self.layers, train=False)

    @cached_property
    def _largest_arrays(self) -> dict[tuple[tuple[int, ...], Shape], int]:
        return {}  # of a stage's layers and its input shape: worked out at the first batch, not at every step

    def split(self, stage: Stage, x: Array) -> list[Array]:
        """The chunks in which a stage takes a batch; what does not fit stays whole, for its layer to refuse."""
        at = stage.order, np.shape(x)[1:]
        if at not in self._largest_arrays:
            try:
                self._largest_arrays[at] = largest_array([self.layers[i] for i in stage.order], at[1])
            except LayerError:
                return [x]
        return split(x, chunk_sizes(len(x), self._largest_arrays[at])) if self._largest_arrays[at] else [x]

    def max_pool(self, order: Sequence[int], in_shape: Shape | None = None) -> Layer | None:
        """The first of some layers if it is a max pool; raises ShapeError for an input shape that does not fit it."""
        if not order or not self.layers[order[0]].config.takes_maximum:
            return None
        pool = self.layers[order[0]]
        if in_shape is not None:
            with place(self.name, order[0]):
                pool.config.out_shape(in_shape)
        return pool

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
        with place(config.name, i):
            made = layer.init(fold_in(key, i), in_shape, dtype)
        params.append(made.params)
        states.append(made.state)
        in_shape = made.out_shape
    return Initialised(tuple(params), tuple(states), in_shape)


def _serial_apply(
    config: _Serial, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_values(config, params=params, state=state)
    xs, states, kept = [x], list(state), []
    with single_blas_thread():  # here for all layers, since setting it back and forth costs more than a small product
        for stage in config.stages if train else config.evaluation_stages:
            i = stage.order[0]
            layer, residuals = config.layers[i], None
            if stage.takes == "chunks":
                if len(xs) == 1:
                    xs = config.split(stage, xs[0])
                tasks = [
                    partial(_apply_run, config, stage, params, state, chunk, key, None if len(xs) == 1 else j, train)
                    for j, chunk in enumerate(xs)
                ]
                ys, residuals = zip(*run(tasks), strict=True)
                xs = list(ys)
            elif stage.takes == "all chunks" and layer.config.apply_chunks is not None:
                pool = config.max_pool(stage.order[1:], np.shape(xs[0])[1:])
                with place(config.name, i):
                    xs, states[i], residuals = layer.config.apply_chunks(
                        params[i], state[i], xs, train=train, pool=pool
                    )
            else:
                with place(config.name, i):
                    y, states[i], residuals = layer.apply(
                        params[i], state[i], join(xs), key=child_key(key, layer, i), train=train
                    )
                xs = [y]
            if train:
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
    order = list(stage.order)
    while order:
        i = order.pop(0)
        layer = config.layers[i]
        if layer.config.apply_chunks is not None:  # in evaluation, where it treats examples one by one
            pool = config.max_pool(order, np.shape(x)[1:])
            del order[: pool is not None]
            with place(config.name, i):
                (x,), _, _ = layer.config.apply_chunks(params[i], state[i], [x], train=False, pool=pool)
            continue
        its_key = child_key(key, layer, i)
        if its_key is not None and chunk is not None:
            its_key = fold_in(its_key, chunk)
        with place(config.name, i):
            x, _, residuals = layer.apply(params[i], state[i], x, key=its_key, train=train)
        kept.append(residuals)
    return x, tuple(kept)


def _serial_backward(config: _Serial, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(config, residuals)
    check_values(config, params=params)
    check_tuple(config, "residuals", kept, len(config.stages), "run of layers", "apply")
    gradients: list[Any] = [None] * len(config.layers)
    first = 0 if need_dx else _first_trained(config.layers, params)
    dys: Any = [dy]
    with single_blas_thread():
        for stage, its in zip(reversed(config.stages), reversed(kept), strict=True):
            i = stage.order[0]
            if max(stage.order) < first:
                break
            if stage.takes != "the batch" and tuple(map(len, dys)) != its.sizes:
                dys = _split_like(config, join(dys), its.sizes)
            if stage.takes == "chunks":
                backward = partial(_backward_run, config, stage, params, its.residuals, first, need_dx)
                found, dys = backward_chunks(backward, dys)
                for j, its_gradients in zip(stage.order, found, strict=True):
                    gradients[j] = its_gradients
                continue
            layer = config.layers[i]
            with place(config.name, i):
                if layer.config.backward_chunks is not None:
                    gradients[i], dys = layer.config.backward_chunks(
                        params[i],
                        its.residuals,
                        dys,
                        need_dx=need_dx or i > first,
                        pool=config.max_pool(stage.order[1:]),
                    )
                else:
                    gradients[i], dx = layer.backward(params[i], its.residuals, join(dys), need_dx=need_dx or i > first)
                    dys = [dx]
    return Gradients(tuple(gradients), join(dys) if need_dx else None)


def _split_like(config: _Serial, dy: Array, sizes: tuple[int, ...]) -> list[Array]:
    if len(dy) != sum(sizes):
        raise ShapeError(
            config.name,
            f"expected dy for a batch of {sum(sizes)} examples, got {len(dy)}",
            "Pass the residuals and the dy of the same batch",
        )
    return split(dy, sizes)


def _backward_run(
    config: _Serial, stage: Stage, params: Any, residuals: Any, first: int, need_dx: bool, chunk: int, dy: Any
) -> tuple[tuple[Any, ...], Any]:
    """A chunk's gradient back through the layers of a stage: their gradients and dx."""
    gradients: list[Any] = [None] * len(stage.order)
    for j, (i, kept) in reversed(list(enumerate(zip(stage.order, residuals[chunk], strict=True)))):
        if i < first:
            break
        with place(config.name, i):
            gradients[j], dy = config.layers[i].backward(params[i], kept, dy, need_dx=need_dx or i > first)
    return tuple(gradients), dy


def _first_trained(layers: tuple[Layer, ...], params: Any) -> int:
    """The position of the first layer with parameters: below it, nothing needs a gradient."""
    return next((i for i, its_params in enumerate(params) if its_params is not None), len(layers))


def serial(*layers: Layer) -> Layer:
    """The layers one after the other: y = f_k(... f_1(x)); dx by the chain rule, last layer first.

    Params and state are tuples in layer order; layer i draws from ``k = fold_in(key, i)``, in chunk j of a batch that
    it is handed in chunks (`funcnn.chunking`) from ``fold_in(k, j)``. Without layers it is the identity. Errors name
    the place: ``serial[4] dense(units=10): ...``.

    >>> from funcnn.layers import dense, relu
    >>> net = serial(dense(8), relu(), dense(2))
    >>> params, state, out_shape = net.init(Key(0), (4,))
    >>> net.apply(params, state, np.ones((3, 4), np.float32)).y.shape
    (3, 2)

    Raises TypeError for an argument that is no Layer.
    """
    return make_layer(_Serial(layers), _serial_apply, _serial_backward, _serial_init)
