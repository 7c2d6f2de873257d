"""`dense_connections`, layers each of which is given what all before it have made."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from funcnn.checks import Form, ShapeError, check_dy, check_dy_array, check_residuals, is_several
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, out_shape_of
from funcnn.nn.combining import Composed, check_tuple, check_values, child_key, init_children, place
from funcnn.nn.coupled import Coroutine, Meets, apply_chunk, backward_chunk, make_coupled
from funcnn.settings import config
from funcnn.system.devices import has_form
from funcnn.tree import Array, Shape, node

__all__ = ["dense_connections"]


def dense_connections(*layers: Layer) -> Layer:
    """Each layer on the input and all outputs before it, along the last axis: the block of a DenseNet.

    x0 = x, xi = [x(i-1), fi(x(i-1))], y the last of them: (n, ..., c) -> (n, ..., c + Σ ci) (Huang et al. 2017). In the
    backward pass dx(i-1) is the share of dxi before ci, plus fi's dx for the rest. Params and state are tuples in layer
    order; layer i draws from ``fold_in(key, i)``.

    >>> from funcnn.compose import serial
    >>> from funcnn.layers import batch_norm, conv2d, relu
    >>> grow = serial(batch_norm(), relu(), conv2d(12, 3, padding="same"))
    >>> dense_connections(grow, grow, grow).init(Key(0), (16, 16, 24)).out_shape
    (16, 16, 60)

    Raises TypeError for an argument that is no Layer, ValueError for none at all; init and apply raise ShapeError for a
    layer that changes another axis than the last.
    """
    return make_coupled(_DenseConnections(layers), _init)


@node
class _DenseResiduals:
    """The residuals of each layer, the sizes of the last axis from x to y, and the form of y."""

    residuals: Any
    sizes: tuple[int, ...]
    form: Form


@config
class _DenseConnections(Composed, Meets):
    name: ClassVar[str] = "dense_connections"

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise ValueError("dense_connections: at least one layer is needed; for the identity use serial()")

    def shapes(self, in_shape: Shape) -> list[Shape]:
        """What each layer is given, and last what all give."""
        found = [in_shape]
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                made = out_shape_of(layer, found[-1])
            self.check_kept(i, in_shape, made)
            found.append((*in_shape[:-1], found[-1][-1] + made[-1]))
        return found

    def check_kept(self, i: int, in_shape: Shape, made: Shape) -> None:
        """Raise unless what a layer gives fits beside what it is given."""
        if not in_shape or is_several(in_shape) or is_several(made) or not made or made[:-1] != in_shape[:-1]:
            raise ShapeError(
                f"{self.name}[{i}]",
                f"it must keep all but the last axis of {in_shape}, and gives {made}",
                'Use stride 1 and padding="same"',
            )

    def out_shape(self, in_shape: Shape) -> Shape:
        return self.shapes(in_shape)[-1]

    def macs(self, in_shape: Shape) -> int:
        pairs = zip(self.layers, self.shapes(in_shape)[:-1], strict=True)
        return sum(layer.config.macs(shape) for layer, shape in pairs)

    def apply_meeting(
        self, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        check_values(self, params=params, state=state)
        states, kept, sizes = [], [], [x.shape[-1] if has_form(x) and x.ndim > 1 else 0]
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                its_key = child_key(key, layer, i)
                y, after, residuals = yield from apply_chunk(layer, params[i], state[i], x, key=its_key, train=train)
            self.check_kept(i, x.shape[1:], np.shape(y)[1:])
            states.append(after)
            kept.append(residuals)
            x = np.concatenate([x, y], axis=-1)
            sizes.append(x.shape[-1])
        form = Form(x.shape, x.dtype)
        return Applied(x, tuple(states), _DenseResiduals(tuple(kept), tuple(sizes), form) if train else None)

    def backward_meeting(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Coroutine:
        its = check_residuals(self, residuals, _DenseResiduals)
        check_values(self, params=params)
        check_tuple(self, "residuals", its.residuals, len(self.layers), "layer", "apply")
        check_dy_array(self.name, dy)
        check_dy(self, dy, its.form.shape, its.form.dtype)
        gradients = []
        for i in reversed(range(len(self.layers))):
            size = its.sizes[i]
            share = dy[..., size:].copy(order="K")  # in adjacent memory, as layers take it
            with place(self.name, i):
                made, dx = yield from backward_chunk(
                    self.layers[i], params[i], its.residuals[i], share, need_dx=need_dx or i > 0
                )
            gradients.append(made)
            if dx is not None:
                dy = dy[..., :size] + dx
        return Gradients(tuple(reversed(gradients)), dy if need_dx else None)


def _init(settings: _DenseConnections, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    *in_shapes, out_shape = settings.shapes(in_shape)
    return Initialised(*init_children(settings, key, in_shapes, dtype), out_shape)
