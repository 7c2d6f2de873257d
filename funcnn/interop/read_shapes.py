"""ONNX's operators that move axes and change shapes: most make no layer, and only say how a value lies."""

import math
from typing import Any

import attrs

from funcnn import layers
from funcnn.interop.plan import CHANNELS_FIRST, CHANNELS_LAST
from funcnn.interop.read_attention import View, cut_features
from funcnn.interop.read_norms import norm
from funcnn.interop.read_values import (
    PARTS,
    Reading,
    Stack,
    Step,
    Unsupported,
    Value,
    channels_first,
    constant,
    in_order,
    sizes_of,
    slices_of,
    squeezed,
)
from funcnn.tree import Shape

__all__ = ["SHAPES"]


def _transpose(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    perm = attributes.get("perm", [*reversed(range(len(x.axes)))])
    return Value(x.step, tuple([x.axes[k] for k in perm]))


def _squeeze(reading: Reading, attributes: dict[str, Any], x: Value, axes: Any = None) -> Value:
    given = attributes.get("axes") if axes is None else constant(axes).tolist()
    which = [k for k, axis in enumerate(x.axes) if axis == -1] if given is None else [k % len(x.axes) for k in given]
    if any(x.axes[k] != -1 for k in which):
        raise Unsupported("an axis that there is here, too; use reshape")
    return Value(x.step, tuple([axis for k, axis in enumerate(x.axes) if k not in which]))


def _unsqueeze(reading: Reading, attributes: dict[str, Any], x: Value, axes: Any = None) -> Value:
    given = attributes["axes"] if axes is None else constant(axes).tolist()
    made = list(x.axes)
    for k in sorted(k % (len(x.axes) + len(given)) for k in given):
        made.insert(k, -1)
    return Value(x.step, tuple(made))


def _flatten(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    if attributes.get("axis", 1) != 1:
        raise Unsupported("another axis than the first after the batch's")
    return _to_shape(reading, x, [math.prod(x.shape)])


def _reshape(reading: Reading, attributes: dict[str, Any], x: Value, shape: Any) -> Value | View:
    sizes = sizes_of(x, reading.batch)
    target = constant(shape).tolist()
    wanted = [sizes[k] if size == 0 and not attributes.get("allowzero", 0) else size for k, size in enumerate(target)]
    if -1 in wanted:
        rest = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(sizes) // rest
    if x.step.tag[:1] != ("normal groups",):
        if wanted == sizes:
            return x
        if merged := _merged(x, sizes, wanted):
            return merged
    if view := cut_features(x, wanted, reading.batch):
        return view
    if not wanted or wanted[0] != reading.batch:
        raise Unsupported(f"to {wanted}, whose first axis is not the batch's")
    return _to_shape(reading, x, wanted[1:])


def _merged(x: Value, sizes: list[int], wanted: list[int]) -> Value | None:
    """A value whose two directions become one axis, or whose idle axes come or go."""
    if PARTS[0] in x.axes:
        k = x.axes.index(PARTS[0])
        if x.axes[k + 1 : k + 2] == PARTS[1:] and wanted == [*sizes[:k], sizes[k] * sizes[k + 1], *sizes[k + 2 :]]:
            return Value(x.step, (*x.axes[:k], x.last, *x.axes[k + 2 :]))
        raise Unsupported("both directions of a recurrent layer in another order")
    slim = squeezed(x)
    return slim if wanted == sizes_of(slim, sizes[x.axes.index(0)]) else None


def _to_shape(reading: Reading, x: Value, shape: list[int]) -> Value:
    """Each example in another shape, and how it then lies."""
    x = squeezed(x)
    if x.step.tag[:1] == ("normal groups",):
        base, (_, groups, epsilon) = x.step.inputs[0], x.step.tag
        if shape != [base.shape[-1], *base.shape[:-1]]:
            raise Unsupported("normalised groups in another shape than before")
        return Value(norm(base, "group_norm", epsilon, groups), channels_first(base.shape))
    if x.axes not in (in_order(x.shape), channels_first(x.shape)):
        raise Unsupported("its axes are in an order that no reshape here has")
    first = x.axes != in_order(x.shape)
    if len(shape) > 1 and len(x.shape) > 1 and shape[0 if first else -1] == x.shape[-1]:
        return _positions(x, shape, first)
    if (
        first
        and len(shape) == 2
        and len(x.shape) > 1
        and x.shape[-1] % shape[0] == 0
        and shape[0] * shape[1] == math.prod(x.shape)
    ):
        return Value(Step((x.step,), (shape[1], shape[0]), None, tag=("groups", shape[0])), (0, 2, 1))
    trivial = x.shape[-1:] == (1,) or math.prod(x.shape[:-1]) == 1
    if not trivial and len(x.shape) == 2 and first and not _has_channels(x.step):
        raise Unsupported("a sequence is flattened with its channels first after layers that have them last")
    if not trivial and (len(x.shape) == 3 or (len(x.shape) == 2 and _has_channels(x.step))):
        reading.flattened.add("channels_first" if first else "channels_last")
    if len(shape) == 1:
        return Value(x.step.then(layers.flatten()), (0, 1)) if len(x.shape) != 1 else Value(x.step, (0, 1))
    if len(shape) == 3 and (first or (len(x.shape) == 1 and not reading.ours)):
        here: Shape = (shape[1], shape[2], shape[0])
        axes = channels_first(here)
        if shape[0] > 1 and shape[1] * shape[2] > 1:
            reading.flattened.add("channels_first")
    elif first:
        raise Unsupported(f"channels first, to {shape}")
    else:
        here = tuple(shape)
        axes = in_order(here)
        if len(shape) == 3 and len(x.shape) == 1 and shape[2] > 1 and shape[0] * shape[1] > 1:
            reading.flattened.add("channels_last")
    return Value(x.step.then(layers.reshape(here)), axes)


def _positions(x: Value, shape: list[int], first: bool) -> Value:
    """Positions in other rows, as an image's patches become a sequence; the channels stay."""
    here: Shape = (*shape[1:], shape[0]) if first else tuple(shape)
    step = x.step.then(layers.reshape(here))
    if first and len(shape) == 2:  # or as many groups as channels, for a norm to come
        step = attrs.evolve(step, tag=("groups", shape[0]))
    return Value(step, channels_first(here) if first else in_order(here))


def _has_channels(step: Step) -> bool:
    """Whether a sequence comes from a layer that has its channels first in ONNX."""
    while step.inputs:
        name = step.layers[-1].name if step.layers else ""
        if name in CHANNELS_FIRST or name in CHANNELS_LAST:
            return name in CHANNELS_FIRST
        step = step.inputs[0]
    return False


def _concat(reading: Reading, attributes: dict[str, Any], *xs: Any) -> Any:
    if not all(isinstance(x, Value) for x in xs):
        raise Unsupported("a constant beside values")
    if len(xs) == 1:
        return xs[0]
    stacked = [slices_of(x, attributes["axis"]) for x in xs]
    if all(stacked):
        return Stack(tuple([each for slices in stacked for each in slices]))
    if len({x.axes for x in xs}) > 1 or xs[0].axis(attributes["axis"]) != xs[0].last:
        raise Unsupported("along another axis than that of the features")
    shape, steps = (*xs[0].shape[:-1], sum(x.shape[-1] for x in xs)), tuple([x.step for x in xs])
    # What were together before are one, as all layers so far in a DenseNet: else each would be there for each way.
    for k in range(len(steps) - 1, 1, -1):
        if (steps[:k], xs[0].axes) in reading.concats:
            whole = Step((reading.concats[steps[:k], xs[0].axes], *steps[k:]), shape, join="concat")
            break
    else:
        whole = Step(steps, shape, join="concat")
    reading.concats[steps, xs[0].axes] = whole
    return xs[0].made(whole)


SHAPES: dict[str, Any] = {
    "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Flatten": _flatten, "Reshape": _reshape,
    "Concat": _concat,
}  # fmt: skip
