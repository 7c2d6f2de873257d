"""`parallel`, the combinator of layers side by side."""

from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.checks import ShapeError, check_dy_array, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer
from funcnn.nn.combining import Composed, check_tuple, check_values, child_key, init_children, place
from funcnn.nn.coupled import Coroutine, Meets, apply_chunk, backward_chunk, make_coupled
from funcnn.settings import check_choice, config
from funcnn.tree import Array, Shape, node

__all__ = ["parallel"]


def parallel(*layers: Layer, combine: Literal["concat", "add"] = "concat") -> Layer:
    """Every layer on the same input, their outputs joined along the last axis or added; dx = Σ of theirs.

    Params and state are tuples in layer order; layer i draws from ``fold_in(key, i)`` (Szegedy et al. 2015).

    >>> from funcnn.layers import conv2d
    >>> block = parallel(conv2d(8, 1), conv2d(4, 3, padding="same"))
    >>> block.init(Key(0), (28, 28, 1)).out_shape
    (28, 28, 12)

    Raises TypeError for an argument that is no Layer, ValueError for none at all or an unknown `combine`.
    """
    return make_coupled(_Parallel(layers, combine), _init)


@node
class _ParallelResiduals:
    """The residuals of each layer, and the size of its output's last axis."""

    residuals: Any
    sizes: tuple[int, ...]


@config
class _Parallel(Composed, Meets):
    name: ClassVar[str] = "parallel"
    combine: Literal["concat", "add"] = attrs.field(default="concat", validator=check_choice("concat", "add"))

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise ValueError("parallel: at least one layer is needed; for the identity use serial()")

    def out_shape(self, in_shape: Shape) -> Shape:
        shapes = []
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                shapes.append(layer.config.out_shape(in_shape))
        return self.combined(shapes)

    def combined(self, shapes: list[Shape]) -> Shape:
        """The shape of the branches' outputs together; raises ShapeError unless they fit."""
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

    def apply_meeting(
        self, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        check_values(self, params=params, state=state)
        outputs, states, kept = [], [], []
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                its_key = child_key(key, layer, i)
                applied = yield from apply_chunk(layer, params[i], state[i], x, key=its_key, train=train)
            outputs.append(applied.y)
            states.append(applied.state)
            kept.append(applied.residuals)
        self.combined([each.shape[1:] for each in outputs])
        y = np.concatenate(outputs, axis=-1) if self.combine == "concat" else reduce(add, outputs)
        sizes = tuple([each.shape[-1] for each in outputs])
        return Applied(y, tuple(states), _ParallelResiduals(tuple(kept), sizes) if train else None)

    def backward_meeting(self, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Coroutine:
        its = check_residuals(self, residuals, _ParallelResiduals)
        kept, sizes = its.residuals, its.sizes
        check_values(self, params=params)
        check_tuple(self, "residuals", kept, len(self.layers), "layer", "apply")
        check_dy_array(self.name, dy)
        shares = [dy] * len(sizes)
        if self.combine == "concat":
            if dy.shape[-1:] != (sum(sizes),):
                raise ShapeError(
                    self.name,
                    f"expected dy to have {sum(sizes)} values along its last axis like the output, got {dy.shape}",
                    "Pass the gradient in this layer's own output, and the residuals of the same batch",
                )
            shares = [np.ascontiguousarray(each) for each in np.split(dy, np.cumsum(sizes)[:-1], axis=-1)]
        gradients, dxs = [], []
        for i, layer in enumerate(self.layers):
            with place(self.name, i):
                made = yield from backward_chunk(layer, params[i], kept[i], shares[i], need_dx=need_dx)
            gradients.append(made.params)
            dxs.append(made.dx)
        return Gradients(tuple(gradients), reduce(add, dxs) if need_dx else None)


def _init(settings: _Parallel, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    return Initialised(*init_children(settings, key, [in_shape] * len(settings.layers), dtype), out_shape)
