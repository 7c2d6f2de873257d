"""Self-attention, which ONNX has as some twenty nodes: features cut into heads, moved about, multiplied and joined.

A `View` says of each axis in ONNX which factors of the axes here it is made of. Where the product of two views meets a
softmax and a third, it was attention, and the product that follows is its output's.
"""

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from funcnn import layers
from funcnn.interop.read_values import Reading, Step, Unsupported, Value, constant
from funcnn.tree import Array

__all__ = ["ATTENTION", "Scores", "View", "attended", "cut_features", "view_of"]

Atom = tuple[int, int, int]  # an axis here, a size, a stride: what of the axis' index an index in it counts


@attrs.frozen(eq=False)
class View:
    """A step's result with its axes cut, merged and moved; from a feature on, and times a number."""

    step: Step
    axes: tuple[tuple[Atom, ...], ...]
    offset: int = 0
    scale: float = 1.0

    @property
    def sizes(self) -> list[int]:
        """The sizes of its axes in ONNX."""
        return [math.prod(size for _, size, _ in axis) for axis in self.axes]

    @property
    def atoms(self) -> list[Atom]:
        """All factors in order."""
        return [atom for axis in self.axes for atom in axis]


@attrs.frozen(eq=False)
class Scores:
    """The product of queries and keys; after a softmax, weights."""

    q: View
    k: View
    scale: float
    causal: bool = False
    weights: bool = False


# --- Views ----------------------------------------------------------------------------------------------------


def view_of(x: Value, batch: int) -> View:
    """A value as a view."""
    sizes = [batch, *x.shape]
    return View(x.step, tuple([() if axis == -1 else ((axis, sizes[axis], 1),) for axis in x.axes]))


def cut_features(x: Value, wanted: Sequence[int], batch: int) -> View | None:
    """A sequence whose features become several axes, as attention has it; None for any other new shape."""
    if len(x.shape) != 2 or not all(isinstance(axis, int) for axis in x.axes):
        return None
    made = _regrouped(view_of(x, batch), wanted)
    cut = made is not None and any(axis == 2 and size < x.shape[1] for axis, size, _ in made.atoms)
    return made if cut and made is not None and all(len({atom[0] for atom in axis}) < 2 for axis in made.axes) else None


def _regrouped(view: View, wanted: Sequence[int]) -> View | None:
    """The view in another shape, if that cuts factors or puts them together; None if it does neither."""
    atoms, axes = [atom for atom in view.atoms if atom[1] > 1], []
    for size in wanted:
        axis: list[Atom] = []
        while size > 1:
            if not atoms:
                return None
            here, its, stride = atoms.pop(0)
            if size % its:
                if its % size:
                    return None
                atoms.insert(0, (here, its // size, stride))
                here, its, stride = here, size, stride * (its // size)
            size //= its
            before = axis[-1] if axis else (-1, 0, 0)
            if before[0] == here and before[2] == its * stride:
                axis[-1] = here, before[1] * its, stride
            else:
                axis.append((here, its, stride))
        axes.append(tuple(axis))
    return None if atoms else attrs.evolve(view, axes=tuple(axes))


def _plain(view: View) -> Any:
    """The view as a value, if it is one."""
    sizes = dict(enumerate(view.step.shape, start=1))
    whole = all(stride == 1 and (axis == 0 or sizes[axis] == size) for axis, size, stride in view.atoms)
    if not whole or any(len(axis) > 1 for axis in view.axes) or view.offset != 0 or view.scale != 1:
        return view
    there = {axis for axis, _, _ in view.atoms}
    idle = iter([axis for axis, size in sizes.items() if size == 1 and axis not in there])
    return Value(view.step, tuple([axis[0][0] if axis else next(idle, -1) for axis in view.axes]))


def _moved(view: View, axes: Sequence[tuple[Atom, ...]], **changes: Any) -> Any:
    return _plain(attrs.evolve(view, axes=tuple(axes), **changes))


def _reshape(reading: Reading, attributes: dict[str, Any], x: View, shape: Any) -> Any:
    sizes, target = x.sizes, constant(shape).tolist()
    wanted = [sizes[k] if size == 0 and not attributes.get("allowzero", 0) else size for k, size in enumerate(target)]
    if -1 in wanted:
        wanted[wanted.index(-1)] = math.prod(sizes) // math.prod(size for size in wanted if size != -1)
    made = _regrouped(x, wanted)
    if made is None:
        raise Unsupported(f"{sizes} to {wanted}")
    return _plain(made)


def _transpose(reading: Reading, attributes: dict[str, Any], x: View) -> Any:
    return _moved(x, [x.axes[k] for k in attributes.get("perm", [*reversed(range(len(x.axes)))])])


def _squeeze(reading: Reading, attributes: dict[str, Any], x: View, axes: Any = None) -> Any:
    given = attributes.get("axes") if axes is None else constant(axes).tolist()
    which = {k % len(x.axes) for k in given} if given else {k for k, axis in enumerate(x.axes) if not axis}
    if any(x.axes[k] for k in which):
        raise Unsupported("an axis that has several values")
    return _moved(x, [axis for k, axis in enumerate(x.axes) if k not in which])


def _unsqueeze(reading: Reading, attributes: dict[str, Any], x: View, axes: Any = None) -> Any:
    given = attributes["axes"] if axes is None else constant(axes).tolist()
    made = list(x.axes)
    for k in sorted(k % (len(x.axes) + len(given)) for k in given):
        made.insert(k, ())
    return _moved(x, made)


def _part(x: View, k: int, start: int, stop: int, *, keep: bool = True) -> View:
    """From one index of an axis of features to another."""
    if len(x.axes[k]) != 1 or x.axes[k][0][0] != 2:
        raise Unsupported("a part of an axis that is none of features")
    axis, _, stride = x.axes[k][0]
    made: list[tuple[Atom, ...]] = [((axis, stop - start, stride),)] if stop - start > 1 else [()]
    return attrs.evolve(
        x, axes=(*x.axes[:k], *(made if keep else []), *x.axes[k + 1 :]), offset=x.offset + start * stride
    )


def _gather(reading: Reading, attributes: dict[str, Any], x: View, index: Any) -> View:
    k, where = attributes.get("axis", 0) % len(x.axes), constant(index)
    if where.ndim:
        raise Unsupported("several positions")
    start = int(where) % x.sizes[k]
    return _part(x, k, start, start + 1, keep=False)


def _slice(
    reading: Reading, attributes: dict[str, Any], x: View, starts: Any, ends: Any, axes: Any, *steps: Any
) -> View:
    if len(constant(starts)) != 1 or any(constant(step).tolist() != [1] for step in steps):
        raise Unsupported("along several axes, or in steps")
    k = int(constant(axes)[0]) % len(x.axes)
    start, stop, _ = slice(int(constant(starts)[0]), int(constant(ends)[0])).indices(x.sizes[k])
    return _part(x, k, start, stop)


def split(x: View, axis: int, count: int) -> list[View]:
    """Equal parts along an axis of features."""
    k = axis % len(x.axes)
    size = x.sizes[k] // count
    return [_part(x, k, size * i, size * (i + 1)) for i in range(count)]


def _split(reading: Reading, attributes: dict[str, Any], x: View, sizes: Any = None) -> list[View]:
    given = attributes.get("split") if sizes is None else constant(sizes).tolist()
    count = len(given) if given else attributes["num_outputs"]
    if given and len({*given}) > 1:
        raise Unsupported("parts of different sizes")
    return split(x, attributes.get("axis", 0), count)


# --- Attention ------------------------------------------------------------------------------------------------


def _product(reading: Reading, attributes: dict[str, Any], a: Any, b: Any) -> Any:
    if isinstance(a, View) and isinstance(b, View):
        return Scores(a, b, a.scale * b.scale)
    if isinstance(a, Scores) and a.weights and isinstance(b, View):
        return _heads(reading, a, b)
    if isinstance(a, View):
        return _dense(reading, {}, a, b)
    raise Unsupported("a product of two values that is no attention")


def _scaled(op: str) -> Any:
    def read(reading: Reading, attributes: dict[str, Any], a: Any, b: Any) -> Any:
        x, number = (a, b) if isinstance(a, (View, Scores)) else (b, a)
        if not isinstance(number, np.ndarray) or number.size != 1 or (op == "Div" and x is b):
            raise Unsupported("within attention, other than by one number")
        value = float(number.ravel()[0])
        return attrs.evolve(x, scale=x.scale * value if op == "Mul" else x.scale / value)

    return read


def _masked(reading: Reading, attributes: dict[str, Any], *inputs: Any) -> Scores:
    """Scores plus a constant, or chosen by one: nothing, or minus very much where a position comes later."""
    (x,) = [each for each in inputs if isinstance(each, Scores)]
    time = x.q.step.shape[0]
    if len(inputs) == 2:
        (mask,) = [constant(each) for each in inputs if not isinstance(each, Scores)]
        seen, hidden = mask == 0, mask
    else:
        chosen, (hidden,) = constant(inputs[0]).astype(bool), [constant(each) for each in inputs[1:] if each is not x]
        seen = chosen if inputs[1] is x else ~chosen
    far = np.broadcast_to(hidden, np.broadcast_shapes(hidden.shape, seen.shape))[
        ~np.broadcast_to(seen, np.broadcast_shapes(hidden.shape, seen.shape))
    ]
    flat = seen.reshape(seen.shape[-2:]) if math.prod(seen.shape[:-2]) == 1 and seen.ndim > 1 else None
    if x.weights or flat is None or not (far <= -1e4).all():
        raise Unsupported("a mask that is no constant of zeros and of numbers far below zero")
    if flat.all():
        return x
    if flat.shape != (time, time) or not np.array_equal(flat, np.tri(time, dtype=bool)):
        raise Unsupported("a mask other than that of later positions")
    return attrs.evolve(x, causal=True)


def _softmax(reading: Reading, attributes: dict[str, Any], x: Any) -> Scores:
    if not isinstance(x, Scores) or attributes.get("axis", -1) not in (-1, 3):
        raise Unsupported("within attention, along another axis")
    return attrs.evolve(x, weights=True)


def _heads(reading: Reading, scores: Scores, v: View) -> View:
    """What the heads give, as a view of all of them side by side."""
    views, orders = (scores.q, scores.k, v), ("nhtd", "nhdt", "nhtd")
    time, size = scores.q.step.shape[0], scores.q.sizes[-1]
    heads = math.prod(scores.q.sizes) // (reading.batch * time * size)
    atoms = {"n": (0, reading.batch, 1), "h": (2, heads, size), "t": (1, time, 1), "d": (2, size, 1)}
    for view, order in zip(views, orders, strict=True):
        if [atom for atom in view.atoms if atom[1] > 1] != [atoms[axis] for axis in order if atoms[axis][1] > 1]:
            raise Unsupported("attention whose heads lie in an order that is not known")
    if abs(scores.scale * math.sqrt(size) - 1) > 1e-5 or v.scale != 1:
        raise Unsupported(f"attention whose scores are multiplied by {scores.scale:g}, not by 1/√{size}")
    weights, biases = zip(*[_rows(view, heads * size) for view in views], strict=True)
    base = {view.step.inputs[0] for view in views}
    if len(base) != 1:
        raise Unsupported("attention to another sequence")
    bias = None
    if any(each is not None for each in biases):
        bias = np.concatenate([np.zeros(heads * size, weights[0].dtype) if each is None else each for each in biases])
    tag = ("attention", heads, size, scores.causal, np.concatenate(weights), bias)
    step = Step((base.pop(),), (time, heads * size), None, tag=tag)
    return View(step, tuple([(atoms[axis],) if atoms[axis][1] > 1 else () for axis in "nhtd"]))


def _rows(view: View, width: int) -> tuple[Array, Array | None]:
    """The weight and the bias of the product that made a view, in PyTorch's layout."""
    if not view.step.is_layer("dense"):
        raise Unsupported("attention whose queries, keys or values are no product")
    rows, (unit,) = slice(view.offset, view.offset + width), view.step.units
    return unit["weight"][rows], unit["bias"][rows] if "bias" in unit else None


def attended(step: Step, weight: Array, bias: Array | None) -> Step:
    """The attention whose heads a product (out, in) puts together."""
    (base,), (_, heads, size, causal, first, first_bias) = step.inputs, step.tag
    if len(weight) != base.shape[1]:
        raise Unsupported(f"attention that gives {len(weight)} features for {base.shape[1]}")
    use_bias = first_bias is not None or bias is not None
    width = None if heads * size == base.shape[1] else size
    layer = layers.self_attention(heads, head_features=width, causal=causal, use_bias=use_bias)
    units: list[dict[str, Array]] = [{"weight": first}, {"weight": weight}]
    if use_bias:
        units[0]["bias"] = np.zeros(len(first), first.dtype) if first_bias is None else first_bias
        units[1]["bias"] = np.zeros(len(weight), weight.dtype) if bias is None else bias

    def more(op: str, features: Array) -> Step | None:
        return attended(step, weight, features) if op == "Add" and bias is None else None

    return base.then(layer, *units, affine=more)


def _dense(reading: Reading, attributes: dict[str, Any], x: View, weight: Any, bias: Any = None) -> Any:
    """A product of the features of all heads, whose positions may lie in one row."""
    weight = constant(weight) if attributes.get("transB", 0) else constant(weight).T
    whole = x.axes[-1] == ((2, x.step.shape[1], 1),) and (x.offset, x.scale) == (0, 1.0)
    if (
        not whole
        or x.step.tag[:1] != ("attention",)
        or attributes.get("alpha", 1.0) != 1
        or attributes.get("transA", 0)
    ):
        raise Unsupported("a product of parts of attention")
    step = attended(x.step, weight, None if bias is None else constant(bias).reshape(-1))
    return _moved(attrs.evolve(x, step=step), [*x.axes[:-1], ((2, step.shape[1], 1),)])


def _same(reading: Reading, attributes: dict[str, Any], x: Any, *others: Any) -> Any:
    return x


def _add(reading: Reading, attributes: dict[str, Any], a: Any, b: Any) -> Any:
    x, other = (a, b) if isinstance(a, (View, Scores)) else (b, a)
    if isinstance(x, Scores):
        return _masked(reading, attributes, a, b)
    step = (
        x.step.affine("Add", constant(other).ravel())
        if x.step.affine and x.axes[-1] == ((2, x.step.shape[1], 1),)
        else None
    )
    if step is None:
        raise Unsupported("a sum within attention")
    return attrs.evolve(x, step=step)


ATTENTION: dict[str, Any] = {
    "Reshape": _reshape, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Gather": _gather,
    "Slice": _slice, "Split": _split, "MatMul": _product, "Gemm": _dense, "Mul": _scaled("Mul"), "Div": _scaled("Div"),
    "Add": _add, "Where": _masked, "Softmax": _softmax, "Identity": _same, "Cast": _same, "Dropout": _same,
}  # fmt: skip
