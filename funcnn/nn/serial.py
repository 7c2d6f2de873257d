"""`serial`, the combinator that nets are made of."""

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.threads import single_blas_thread
from funcnn.checks import Form, LayerError, check_dy, check_float, check_residuals
from funcnn.keys import Key, fold_in
from funcnn.layer import Applied, Gradients, Initialised, Layer, Values, make_layer, out_shape_of
from funcnn.nn.chunks import Batch, apply_in_chunks, backward_in_chunks, cut, cut_like
from funcnn.nn.combining import Composed, check_tuple, check_values, example_of, place, shapes_of
from funcnn.nn.coupled import Coroutine, Meets, alone, apply_chunk, backward_chunk
from funcnn.nn.stages import Link, Stage, stage_sizes, stages
from funcnn.settings import config
from funcnn.system.devices import is_device_array
from funcnn.tree import Shape, node

__all__ = ["serial"]


def serial(*layers: Layer) -> Layer:
    """The layers one after the other: y = f_k(... f_1(x)); dx by the chain rule, last layer first.

    Params and state are tuples in layer order; layer i draws from ``k = fold_in(key, i)``, in chunk j of a batch that
    is cut (`funcnn.nn.stages`) from ``fold_in(k, j)``. Without layers it is the identity. Errors name the place:
    ``serial[4] dense(units=10): ...``.

    >>> from funcnn.layers import dense, relu
    >>> net = serial(dense(8), relu(), dense(2))
    >>> params, state, out_shape = net.init(Key(0), (4,))
    >>> net.apply(params, state, np.ones((3, 4), np.float32)).y.shape
    (3, 2)

    Raises TypeError for an argument that is no Layer.
    """
    return make_layer(_Serial(layers), _apply, _backward, _init)


# --- The plain fold: what runs where nothing is cut -----------------------------------------------------------


def _fold(links: tuple[Link, ...], batch: Batch, x: Values) -> Coroutine:
    """Each layer on what the one before it gives: returns y, the residuals of each, the states by position."""
    params, state, key, train = batch.params, batch.state, batch.key, batch.train
    kept, states = [], {}
    for link in links:
        i = link.i
        its_key = fold_in(key, i) if link.draws and key is not None else None
        try:
            if link.meets and train:
                made = yield from apply_chunk(link.layer, params[i], state[i], x, key=its_key, train=True)
            else:
                made = link.layer.apply(params[i], state[i], x, key=its_key, train=train)
        except Exception as error:
            link.blame(error)
            raise
        x, states[i], residuals = made
        kept.append(residuals)
    return x, tuple(kept), states


def _fold_back(
    links: tuple[Link, ...], params: Any, kept: tuple[Any, ...], dy: Any, *, first: int, need_dx: bool
) -> Coroutine:
    """The chain rule, last layer first, as far as layer `first`: returns the gradients by position, and dx."""
    gradients = {}
    for link, residuals in zip(reversed(links), reversed(kept), strict=True):
        i = link.i
        if i < first:
            break
        its_need = need_dx or i > first
        try:
            if link.meets:
                made = yield from backward_chunk(link.layer, params[i], residuals, dy, need_dx=its_need)
            else:
                made = link.layer.backward(params[i], residuals, dy, need_dx=its_need)
        except Exception as error:
            link.blame(error)
            raise
        gradients[i], dy = made
    return gradients, dy


# --- The layer ------------------------------------------------------------------------------------------------


@config
class _Serial(Composed, Meets):
    name: ClassVar[str] = "serial"

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The plan (`funcnn.nn.stages`)."""
        return stages(self.layers)

    @cached_property
    def whole(self) -> Stage:
        """The plan where nothing is cut: all links in one stage."""
        return Stage(False, tuple([link for stage in self.stages for link in stage.links]))

    @cached_property
    def stochastic(self) -> bool:
        return any(link.draws for link in self.whole.links)

    @cached_property
    def couples_examples(self) -> bool:
        return any(link.layer.config.couples_examples for link in self.whole.links)

    @property
    def takes_several(self) -> bool:
        return True

    @cached_property
    def by_chunks(self) -> bool:
        return all(layer.config.by_chunks for layer in self.layers)  # of none, too: on a shortcut it is the identity

    @cached_property
    def _plans(self) -> dict[Shape, list[tuple[Stage, tuple[int, ...]]]]:
        return {}  # by the batch's shape: worked out at the first such batch, not at every step

    def plan(self, x: Values) -> list[tuple[Stage, tuple[int, ...]]]:
        """The stages that a batch goes through, and the sizes of its chunks in each."""
        shape = shapes_of(x)
        if type(x) is not np.ndarray and is_device_array(x[0] if type(x) is tuple else x):
            return [(self.whole, (example_of(shape)[0] or 0,))]  # chunks are for caches and threads
        if shape not in self._plans:
            n, in_shape = example_of(shape)
            try:
                sizes = stage_sizes(self.stages, self.layers, n, in_shape) if n else ()
            except LayerError:
                sizes = ()  # what does not fit stays whole, for its layer to refuse
            plan: list[tuple[Stage, tuple[int, ...]]] = [(self.whole, (n or 0,))]
            if any(len(each) > 1 for each in sizes):
                plan = list(zip(self.stages, sizes, strict=True))
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[shape] = plan
        return self._plans[shape]

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        check_values(self, params=params, state=state)
        if not self.layers:
            forms = self._forms(x)
            return Applied(x, (), forms if train else None)
        batch, states, kept = Batch(params, state, key, train), dict(enumerate(state)), []
        for stage, sizes in self.plan(x):
            residuals: Any
            if len(sizes) == 1:
                x, its, changed = yield from _fold(stage.links, batch, x)
                residuals = (its,)
            else:
                x, residuals, changed = yield from apply_in_chunks(stage.links, batch, cut(x, sizes))
            states |= changed
            kept.append(_StageResiduals(sizes, residuals))
        return Applied(x, tuple(states.values()), tuple(kept) if train else None)

    def backward_meeting(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Coroutine:
        kept = check_residuals(self, residuals)
        check_values(self, params=params)
        if not self.layers:
            self._check_forms(residuals, dy)
            return Gradients((), dy if need_dx else None)
        plan = (self.whole,) if type(kept) is tuple and len(kept) == 1 else self.stages
        check_tuple(self, "residuals", kept, len(plan), "run of layers", "apply")
        gradients: dict[int, Any] = dict.fromkeys(range(len(self.layers)))
        first = 0 if need_dx else _first_trained(params)
        for stage, its in zip(reversed(plan), reversed(kept), strict=True):
            if stage.last < first:
                break
            if not isinstance(its, _StageResiduals):
                raise LayerError(
                    self.name,
                    f"expected the residuals of this net, got {type(its).__name__}",
                    "Pass the residuals that this net's own apply gave",
                )
            if len(its.sizes) == 1:
                back = _fold_back(stage.links, params, its.residuals[0], dy, first=first, need_dx=need_dx)
            else:
                dys = cut_like(self.name, dy, its.sizes)
                back = backward_in_chunks(stage.links, params, its.residuals, dys, first=first, need_dx=need_dx)
            found, dy = yield from back
            gradients |= found
        return Gradients(tuple(gradients.values()), dy if need_dx else None)

    def _forms(self, x: Values) -> Any:
        """The form of x, or a tuple of those of several."""
        if type(x) is tuple:
            return tuple([self._forms(each) for each in x])
        check_float(self, x)
        return Form(x.shape, x.dtype)

    def _check_forms(self, forms: Any, dy: Values) -> None:
        """Raise unless dy has the form of x."""
        if type(forms) is tuple and type(dy) is tuple:
            for form, each in zip(forms, dy, strict=True):
                self._check_forms(form, each)
        else:
            form = check_residuals(self, forms, Form)
            check_dy(self, dy, form.shape, form.dtype)

    def out_shape(self, in_shape: Shape) -> Shape:
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                in_shape = out_shape_of(layer, in_shape)
        return in_shape

    def macs(self, in_shape: Shape) -> int:
        total = 0
        for layer in self.layers:
            total += layer.config.macs(in_shape)
            in_shape = layer.config.out_shape(in_shape)
        return total


_PLANS = 1000  # kept at most: images of ever new sizes must not fill the memory


@node
class _StageResiduals:
    """The sizes of a stage's chunks, and for each chunk the residuals of each link."""

    sizes: tuple[int, ...]
    residuals: Any


def _init(settings: _Serial, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    settings.out_shape(in_shape)  # every shape is checked before the first weight is drawn
    params, states = [], []
    for i, layer in enumerate(settings.layers):
        with place(settings.name, i):
            made = layer.init(fold_in(key, i), in_shape, dtype)
        params.append(made.params)
        states.append(made.state)
        in_shape = made.out_shape
    return Initialised(tuple(params), tuple(states), in_shape)


@underflow_is_zero
def _apply(
    settings: _Serial, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
) -> Applied:
    with single_blas_thread():  # here for all layers, since setting it back and forth costs more than a small product
        return alone(settings.apply_meeting(params, state, x, key=key, train=train))  # type: ignore[no-any-return]


@underflow_is_zero
def _backward(settings: _Serial, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Gradients:
    with single_blas_thread():
        return alone(settings.backward_meeting(params, residuals, dy, need_dx=need_dx))  # type: ignore[no-any-return]


def _first_trained(params: tuple[Any, ...]) -> int:
    """The position of the first layer with parameters: below it, nothing needs a gradient."""
    return next((i for i, its_params in enumerate(params) if its_params is not None), len(params))
