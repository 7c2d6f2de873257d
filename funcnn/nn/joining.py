"""Several arrays made one, side by side, added, multiplied or averaged: what `parallel` and `join` share."""

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from operator import add, mul
from typing import Any, ClassVar, Literal, get_args

import attrs
import numpy as np

from funcnn.checks import Form, ShapeError, check_dy, check_float, check_residuals, is_several
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.nn.combining import check_several
from funcnn.settings import check_choice, config
from funcnn.tree import Array, Shape, node

__all__ = ["How", "Joined", "join", "join_arrays", "joined_shape", "shares"]

How = Literal["concat", "add", "multiply", "mean"]


def join(combine: How) -> Layer:
    """A tuple of arrays made one: ((n, ...), (n, ...), ...) -> (n, ...).

    "concat" puts them one after the other along the last axis, in which alone their shapes may differ:
    y = [x1, x2, ...], and dx is dy in such parts. The others take arrays of one shape. "add": y = Σ xi, dxi = dy;
    "mean": y = Σ xi / k, dxi = dy / k; "multiply": y = Π xi, dxi = dy · Π of the others.

    >>> net = join("multiply")
    >>> x = np.array([[2.0, 3.0]]), np.array([[5.0, 7.0]])
    >>> net.apply(None, None, x).y
    array([[10., 21.]])

    ``parallel(..., combine=combine)`` is ``serial(parallel(..., combine="tuple"), join(combine))``. Raises ValueError
    for an unknown `combine`; init and apply raise ShapeError for what is no tuple of arrays whose shapes fit.
    """
    return make_layer(_Join(combine), _apply, _backward)


# --- On arrays ------------------------------------------------------------------------------------------------


@node
class Joined:
    """What backward needs: the form of y, the sizes of the parts along the last axis, and what was multiplied."""

    form: Form
    sizes: tuple[int, ...]
    factors: tuple[Array, ...] | None


def joined_shape(place: str, combine: How, shapes: Sequence[Shape]) -> Shape:
    """The shape of what examples of some shapes make together; raises ShapeError, naming the first that misfits."""
    first = shapes[0]
    for i, shape in enumerate(shapes):
        alike = shape[:-1] == first[:-1] and len(shape) > 0 if combine == "concat" else shape == first
        if not alike or is_several(shape):
            wanted = f"{first} in all but the last axis" if combine == "concat" else f"{first}"
            raise ShapeError(
                f"{place}[{i}]",
                f"expected an output of shape {wanted} like {place}[0]'s, got {shape}",
                "Give every branch the same output size",
            )
    return (*first[:-1], sum(shape[-1] for shape in shapes)) if combine == "concat" else first


def join_arrays(combine: How, xs: Sequence[Array]) -> tuple[Array, Joined]:
    """The arrays made one, and what backward needs."""
    y = np.concatenate(xs, axis=-1) if combine == "concat" else reduce(mul if combine == "multiply" else add, xs)
    if combine == "mean":
        y = y / y.dtype.type(len(xs))
    factors = tuple(xs) if combine == "multiply" else None
    return y, Joined(Form(y.shape, y.dtype), tuple([x.shape[-1] if x.ndim > 1 else 1 for x in xs]), factors)


def shares(combine: How, kept: Joined, dy: Array) -> list[Array]:
    """The gradients in the arrays that were joined."""
    count = len(kept.sizes)
    if combine == "concat":
        ends = list(accumulate(kept.sizes))
        # Each in adjacent memory of its own, in the order of dy's axes: images lie by rows.
        return [dy[..., end - size : end].copy(order="K") for end, size in zip(ends, kept.sizes, strict=True)]
    if combine == "mean":
        return [dy / dy.dtype.type(count)] * count
    if combine == "multiply" and kept.factors is not None:
        before = list(accumulate(kept.factors[:-1], mul, initial=dy))  # dy times all before each of them
        after = list(accumulate(kept.factors[:0:-1], mul))[::-1]
        return [*(one * other for one, other in zip(before, after, strict=False)), before[-1]]
    return [dy] * count


# --- The layer ------------------------------------------------------------------------------------------------


@config
class _Join(Config):
    name: ClassVar[str] = "join"
    by_chunks: ClassVar[bool] = True
    takes_several: ClassVar[bool] = True
    combine: How = attrs.field(validator=check_choice(*get_args(How)))

    def out_shape(self, in_shape: Any) -> Shape:
        if not is_several(in_shape):
            raise ShapeError(
                repr(self),
                f"expected several inputs, a tuple of shapes, got the shape {in_shape}",
                'Put a layer before it that gives several: parallel(..., combine="tuple")',
            )
        return joined_shape(self.name, self.combine, in_shape)


def _apply(settings: _Join, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Applied:
    check_several(settings, x)
    for each in x:
        check_float(settings, each)
        if each.dtype != x[0].dtype:
            raise ShapeError(
                repr(settings),
                f"expected arrays of one dtype, got {x[0].dtype} and {each.dtype}",
                f"Convert it: x.astype(np.{x[0].dtype})",
            )
    joined_shape(settings.name, settings.combine, [each.shape[1:] for each in x])
    y, kept = join_arrays(settings.combine, x)
    return Applied(y, state, kept if train else None)


def _backward(settings: _Join, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, Joined)
    check_dy(settings, dy, kept.form.shape, kept.form.dtype)
    return Gradients(None, tuple(shares(settings.combine, kept, dy)) if need_dx else None)
