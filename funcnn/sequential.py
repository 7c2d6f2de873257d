"""`serial`, the combinator that nets are made of, and what all combinators share."""

from functools import cached_property, partial
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.chunking import (
    Chunk,
    Coupled,
    Stage,
    Step,
    add_up,
    chunk_sizes,
    join,
    largest_array,
    resume,
    split,
    stages,
)
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

__all__ = ["Composed", "check_layers", "check_tuple", "check_values", "child_key", "place", "serial", "split_like"]


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
    def _largest_arrays(self) -> dict[tuple[Stage, Shape], int]:
        return {}  # of a stage and its input shape: worked out at the first batch, not at every step

    def split(self, stage: Stage, x: Array) -> list[Array]:
        """The chunks in which a stage takes a batch; what does not fit stays whole, for its layer to refuse."""
        at = stage, np.shape(x)[1:]
        if at not in self._largest_arrays:
            try:
                self._largest_arrays[at] = largest_array([self.layers[i] for i in stage.order], at[1])
            except LayerError:
                return [x]
        largest = self._largest_arrays[at]
        return split(x, chunk_sizes(len(x), largest, are_images=len(at[1]) == 3)) if largest else [x]

    def pool(self, step: Step) -> Layer | None:
        """The max pool that a step takes along, if any."""
        return None if step.pool is None else self.layers[step.pool]

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


@node
class _StageResiduals:
    sizes: tuple[int, ...]  # of the chunks
    residuals: Any


def _serial_apply(
    config: _Serial, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_values(config, params=params, state=state)
    states, kept = dict(enumerate(state)), []
    with single_blas_thread():  # here for all layers, since setting it back and forth costs more than a small product
        for stage in config.stages:
            if stage.by_chunks:
                xs = config.split(stage, x)
                ys, residuals, moved = _apply_stage(config, stage, params, state, xs, key, train)
                x, states = join(ys), states | moved
            else:
                i, xs = stage.order[0], [x]
                layer = config.layers[i]
                with place(config.name, i):
                    x, states[i], residuals = layer.apply(
                        params[i], state[i], x, key=child_key(key, layer, i), train=train
                    )
            kept.append(_StageResiduals(tuple(map(len, xs)), residuals))
    return Applied(x, tuple(states.values()), tuple(kept) if train else None)


def _apply_stage(
    config: _Serial, stage: Stage, params: Any, state: Any, xs: list[Array], key: Key | None, train: bool
) -> tuple[tuple[Array, ...], tuple[Any, ...], dict[int, Any]]:
    """Chunks through the layers of a stage: their y, their residuals, and the states that have changed."""
    chunks = [
        _apply_chunk(config, stage, params, state, x, key, None if len(xs) == 1 else j, train) for j, x in enumerate(xs)
    ]
    sent, moved = None, {}
    for i, coupled in stage.coupled if train else ():
        said = run([partial(resume, chunk, sent) for chunk in chunks])
        with place(config.name, i):
            sent, moved[i] = coupled.meet(params[i], state[i], said)
    ys, residuals = zip(*run([partial(resume, chunk, sent) for chunk in chunks]), strict=True)
    return ys, residuals, moved


def _apply_chunk(
    config: _Serial, stage: Stage, params: Any, state: Any, x: Array, key: Key | None, chunk: int | None, train: bool
) -> Chunk:
    """A chunk (None: the whole batch) through the layers of a stage: returns y and the residuals."""
    kept = []
    for step in stage.steps:
        i, residuals = step.layer, None
        layer = config.layers[i]
        its_key = child_key(key, layer, i)
        if its_key is not None and chunk is not None:
            its_key = fold_in(its_key, chunk)
        if not isinstance(layer.config, Coupled):
            with place(config.name, i):
                x, _, residuals = layer.apply(params[i], state[i], x, key=its_key, train=train)
        else:
            pool = config.pool(step)
            if pool is not None:
                with place(config.name, step.pool):  # where an image too small for the pool is refused
                    pool.config.out_shape(np.shape(x)[1:])
            with place(config.name, i):
                if train:
                    x, residuals = yield from layer.config.apply_chunk(params[i], x, pool=pool)
                else:
                    x = layer.config.evaluate(params[i], state[i], x, pool=pool)
        kept.append(residuals)
    return x, tuple(kept)


def _serial_backward(config: _Serial, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(config, residuals)
    check_values(config, params=params)
    check_tuple(config, "residuals", kept, len(config.stages), "run of layers", "apply")
    gradients: dict[int, Any] = dict.fromkeys(range(len(config.layers)))
    first = 0 if need_dx else _first_trained(config.layers, params)
    with single_blas_thread():
        for stage, its in zip(reversed(config.stages), reversed(kept), strict=True):
            if max(stage.order) < first:
                break
            if stage.by_chunks:
                dys = split_like(config, dy, its.sizes)
                found, dxs = _backward_stage(config, stage, params, its.residuals, dys, first, need_dx)
                gradients |= found
                dy = join(dxs) if dxs[0] is not None else None
            else:
                i = stage.order[0]
                with place(config.name, i):
                    gradients[i], dy = config.layers[i].backward(
                        params[i], its.residuals, dy, need_dx=need_dx or i > first
                    )
    return Gradients(tuple(gradients.values()), dy if need_dx else None)


def split_like(config: Config, dy: Array, sizes: tuple[int, ...]) -> list[Array]:
    """A batch's dy as chunks of the sizes that its x had, which are to add up."""
    if len(dy) != sum(sizes):
        raise ShapeError(
            config.name,
            f"expected dy for a batch of {sum(sizes)} examples, got {len(dy)}",
            "Pass the residuals and the dy of the same batch",
        )
    return split(dy, sizes)


def _backward_stage(
    config: _Serial, stage: Stage, params: Any, kept: Any, dys: list[Array], first: int, need_dx: bool
) -> tuple[dict[int, Any], list[Any]]:
    """Chunks back through the layers of a stage: the gradients by position, and their dx."""
    chunks = [
        _backward_chunk(config, stage, params, its, first, need_dx, dy) for its, dy in zip(kept, dys, strict=True)
    ]
    sent, found, sums = None, {}, []
    for i, coupled in reversed(stage.coupled):
        if i < first:
            break  # the chunks stop before it
        total, said = add_up([partial(resume, chunk, sent) for chunk in chunks])
        sums.append(total)
        with place(config.name, i):
            sent, found[i] = coupled.meet_backward(params[i], said)
    total, dxs = add_up([partial(resume, chunk, sent) for chunk in chunks])
    for its in (*sums, total):
        found |= {step.layer: each for step, each in zip(stage.steps, its, strict=True) if each is not None}
    return found, dxs


def _backward_chunk(config: _Serial, stage: Stage, params: Any, kept: Any, first: int, need_dx: bool, dy: Any) -> Chunk:
    """A chunk back through the layers of a stage: yields its gradients and what it says, returns them and dx.

    They are those of the layers since it last yielded, None for all others.
    """
    gradients: list[Any] = [None] * len(stage.steps)
    for j, (step, residuals) in reversed(list(enumerate(zip(stage.steps, kept, strict=True)))):
        i = step.layer
        if i < first:
            break
        layer, needed = config.layers[i], need_dx or i > first
        with place(config.name, i):
            if isinstance(layer.config, Coupled):
                pool = config.pool(step)
                coupled = layer.config.backward_chunk(params[i], residuals, dy, need_dx=needed, pool=pool)
                sent = yield tuple(gradients), next(coupled)
                gradients = [None] * len(stage.steps)
                dy = resume(coupled, sent)
            else:
                gradients[j], dy = layer.backward(params[i], residuals, dy, need_dx=needed)
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
