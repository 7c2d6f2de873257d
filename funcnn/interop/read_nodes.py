"""ONNX's operators as layers: each reader takes a node's attributes and inputs, and gives what the node makes.

Inputs are values, or arrays where they are constants. A reader raises `Unsupported` for what no layer here does. In
this file are element-wise nodes and arithmetic, with the patterns that are one layer here.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import layers
from funcnn.interop.read_attention import ATTENTION, view_of
from funcnn.interop.read_images import IMAGES
from funcnn.interop.read_norms import NORMS, norm
from funcnn.interop.read_sequences import SEQUENCES
from funcnn.interop.read_shapes import SHAPES
from funcnn.interop.read_values import Reading, Step, Unsupported, Value, apart, constant
from funcnn.layer import Layer
from funcnn.tree import Array

__all__ = ["READERS"]


# --- Element-wise ----------------------------------------------------------------------------------------------


def _one(layer: Callable[[dict[str, Any]], Layer]) -> Any:
    def read(reading: Reading, attributes: dict[str, Any], x: Value, *others: Any) -> Value:
        return x.made(x.step.then(layer(attributes)))

    return read


def _hard_sigmoid(given: dict[str, Any]) -> Layer:
    if abs(given.get("alpha", 0.2) - 1 / 6) > 1e-6 or given.get("beta", 0.5) != 0.5:
        raise Unsupported("the slope is 1/6 here, and the value at 0 is 1/2")
    return layers.hard_sigmoid()


def _shrink(given: dict[str, Any]) -> Layer:
    threshold, bias = given.get("lambd", 0.5), given.get("bias", 0.0)
    if bias not in (0, threshold):
        raise Unsupported(f"bias {bias} is neither 0 nor lambd")
    return layers.soft_shrink(threshold) if bias else layers.hard_shrink(threshold)


def _clip(reading: Reading, attributes: dict[str, Any], x: Value, low: Any = None, high: Any = None) -> Value:
    ends: list[Any] = [
        attributes.get(name) if end is None else float(end) for name, end in (("min", low), ("max", high))
    ]
    if ends == [0.0, 6.0]:
        return x.made(x.step.then(layers.relu6()))
    if ends == [0.0, None]:
        return x.made(x.step.then(layers.relu()))
    if None in ends:
        raise Unsupported(f"only one end, {ends}")
    return x.made(x.step.then(layers.hard_tanh(ends[0], ends[1])))


def _prelu(reading: Reading, attributes: dict[str, Any], x: Value, slope: Any) -> Value:
    its = apart(x, constant(slope))
    if its.size not in (1, x.shape[-1]) or its.size != its.shape[-1]:
        raise Unsupported(f"slopes of shape {its.shape}, neither one nor one for each channel")
    return x.made(x.step.then(layers.prelu(per_channel=its.size > 1), {"weight": its.ravel()}))


def _along_features(layer: Callable[[], Layer]) -> Any:
    def read(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
        axis = attributes.get("axis", 1 if reading.opset < 13 else -1)
        joined = reading.opset < 13 and axis % len(x.axes) != len(x.axes) - 1  # once it meant all axes from one on
        if x.axis(axis) != x.last or joined:
            raise Unsupported("along another axis than that of the features")
        return x.made(x.step.then(layer()))

    return read


def _same(reading: Reading, attributes: dict[str, Any], x: Value, *others: Any) -> Value:
    return x


def _dropout(reading: Reading, attributes: dict[str, Any], x: Value, ratio: Any = None, training: Any = None) -> Value:
    if training is not None and np.any(constant(training)):
        raise Unsupported("it is in training, and drops values. Export the model after eval()")
    return x


# --- Arithmetic ------------------------------------------------------------------------------------------------


_WHOLE = (2, 3, 4, 5, 6, 7, 9, 12, 13)  # ONNX's numbers of dtypes that are not floats


def _cast(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    if attributes["to"] in _WHOLE and x.step.inputs:
        raise Unsupported("floats made whole numbers")
    return x


def _arithmetic(op: str) -> Any:
    def read(reading: Reading, attributes: dict[str, Any], a: Any, b: Any) -> Any:
        if isinstance(a, Value) and isinstance(b, Value):
            return _of_two(op, a, b)
        kind = "Mul" if op in ("Mul", "Div") else "Add"
        if isinstance(a, Value):
            number = {"Sub": np.negative, "Div": np.reciprocal}.get(op, np.asarray)(b)
            return a.made(_with_constant(reading, kind, a, number))
        if op == "Div" and np.all(a == 1):
            return _reciprocal(reading, {}, b)
        if op == "Div":
            raise Unsupported("a constant divided by a value")
        x = b.made(b.step.then(layers.scale(-1.0))) if op == "Sub" else b
        return b.made(_with_constant(reading, kind, x, a))

    return read


def _with_constant(reading: Reading, op: str, x: Value, number: Array) -> Step:
    step, part = x.step, x.step.layers is None
    if number.size == 1 and (part or op == "Mul"):
        value = float(str(number.ravel()[0]))  # as it was written: 0.001, and not 0.0010000000474974513
        return _tagged(op, step, value) if part else step.then(layers.scale(value))
    its = apart(x, number)
    if its.ndim and its.size == its.shape[-1] and its.size in (1, x.shape[-1]):
        features = reading.spread(its.ravel(), x.shape[-1:]).astype(number.dtype)
        taken = step.affine(op, features) if step.affine else None
        return taken or _affine(step, op, features)
    if op == "Mul":
        raise Unsupported(f"a factor of shape {its.shape} that is neither one number nor one for each feature")
    whole = reading.spread(its, x.shape)
    if len(x.shape) == 2:
        return step.then(layers.position_embedding(x.shape[0]), {"weight": whole})
    return step.then(layers.position_bias(), {"bias": np.moveaxis(whole, -1, 0) if len(x.shape) == 3 else whole})


def _affine(step: Step, op: str, features: Array) -> Step:
    """A factor or a summand for each feature, as a batch norm whose statistics are those of nothing."""
    zeros, ones = np.zeros_like(features), np.ones_like(features)
    epsilon = 1e-5
    units = {
        "weight": features if op == "Mul" else ones, "bias": zeros if op == "Mul" else features,
        "running_mean": zeros, "running_var": ones - features.dtype.type(epsilon),
    }  # fmt: skip
    layer = layers.batch_norm(epsilon=epsilon)

    def more(its_op: str, its: Array) -> Step | None:
        return step.then(layer, units | {"bias": its}) if (op, its_op) == ("Mul", "Add") else None

    return step.then(layer, units, affine=more)


def _of_two(op: str, a: Value, b: Value) -> Value:
    if a.axes != b.axes:
        raise Unsupported(f"two values whose axes lie as {a.axes} and {b.axes}, which must be one")
    if op == "Mul":
        for one, two in ((a, b), (b, a)):
            if found := _product_pattern(one.step, two.step):
                return one.made(found)
            if two.step.tag == ("square",) and two.step.inputs[0] is one.step:
                return one.made(one.step.part("cube"))
        if a.step is b.step:
            return a.made(a.step.part("square"))
    if op == "Add":
        for one, two in ((a, b), (b, a)):
            if two.step.tag == ("share of cube",) and two.step.inputs[0] is one.step:
                return one.made(one.step.part("x + share of cube"))
    if op == "Sub" and b.step.tag == ("mean",) and b.step.inputs[0] is a.step:
        return a.made(a.step.part("centred"))
    if op == "Div" and b.step.tag and b.step.inputs[0] is a.step:
        if b.step.tag[0] == "root":
            return a.made(_normalised(a.step, b.step.tag[1]))
        if b.step.tag == ("1+abs",):
            return a.made(a.step.then(layers.softsign()))
    if op == "Div":
        raise Unsupported("a value divided by another")
    if a.shape != b.shape:
        raise Unsupported(f"two values of shapes {a.shape} and {b.shape}, which must be one")
    other = b.step.then(layers.scale(-1.0)) if op == "Sub" else b.step
    return a.made(Step((a.step, other), a.shape, join="multiply" if op == "Mul" else "add"))


# --- Patterns: gelu by erf or tanh, silu, softsign, gates, norms ----------------------------------------------------


_GATES = {"sigmoid": layers.glu(), "silu": layers.swiglu(), "gelu": layers.geglu()}


def _product_pattern(a: Step, b: Step) -> Step | None:
    if b.is_layer("sigmoid") and b.inputs[0] is a:
        return a.then(layers.silu())
    if b.tag in (("1+erf",), ("1+tanh",)):
        base, exact = b.inputs[0], b.tag == ("1+erf",)
        if a is base:
            return base.part("2gelu", exact)
        if a.layers == (layers.scale(0.5),) and a.inputs[0] is base:
            return base.then(layers.gelu(exact=exact))
    if b.tag[:1] == ("1/root",) and b.inputs[0] is a:
        return _normalised(a, b.tag[1])
    if a.tag == ("half", 0) and b.layers and b.layers[0].name in _GATES and b.inputs[0].tag == ("half", 1):
        base = a.inputs[0]
        if b.inputs[0].inputs[0] is base:
            return base.then(
                layers.geglu(exact=True) if b.layers[0] == layers.gelu(exact=True) else _GATES[b.layers[0].name]
            )
    return None


def _normalised(step: Step, epsilon: float) -> Step:
    """A step divided by the root of the mean of its squares, which was centred before or not."""
    if step.tag == ("centred",):
        return norm(step.inputs[0], "layer_norm", epsilon)
    return norm(step, "rms_norm", epsilon)


def _tagged(op: str, step: Step, number: float) -> Step:
    """A number added to a part of a pattern, or multiplied by it."""
    base = step.inputs[0]
    if step.tag in (("erf",), ("tanh",), ("abs",)) and (op, number) == ("Add", 1.0):
        return base.part(f"1+{step.tag[0]}")
    if step.tag[0] == "2gelu" and (op, number) == ("Mul", 0.5):
        return base.then(layers.gelu(exact=step.tag[1]))
    if step.tag == ("cube",) and op == "Mul" and math.isclose(number, 0.044715, rel_tol=1e-5):
        return base.part("share of cube")
    if (
        step.tag == ("x + share of cube",)
        and op == "Mul"
        and math.isclose(number, math.sqrt(2 / math.pi), rel_tol=1e-5)
    ):
        return base.part("inside of tanh")
    if step.tag == ("mean of squares",) and op == "Add":
        return base.part("mean of squares", number)
    raise Unsupported(f"{op} of {number} and a part of a pattern that is not known")


def _erf(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    config: Any = x.step.layers[0].config if x.step.layers else None
    if x.step.is_layer("scale") and abs(config.factor - math.sqrt(0.5)) < 1e-6:
        return x.made(x.step.inputs[0].part("erf"))
    raise Unsupported("an error function that stands in no gelu")


def _tanh(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    inside = x.step.tag == ("inside of tanh",)  # of gelu's tanh form
    return x.made(x.step.inputs[0].part("tanh") if inside else x.step.then(layers.tanh()))


def _log(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    if x.step.is_layer("sigmoid"):
        return x.made(x.step.inputs[0].then(layers.log_sigmoid()))
    raise Unsupported("a logarithm that is not that of a sigmoid")


def _abs(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    return x.made(x.step.part("abs"))  # of softsign


def _power(reading: Reading, attributes: dict[str, Any], x: Value, exponent: Any) -> Value:
    for number, name in ((2, "square"), (3, "cube")):
        if np.all(constant(exponent) == number):
            return x.made(x.step.part(name))
    raise Unsupported("a power that is no square in a norm and no cube in a gelu")


def _root(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    if x.step.tag[:1] == ("mean of squares",):
        return x.made(x.step.inputs[0].part("root", x.step.tag[1] if len(x.step.tag) > 1 else 0.0))
    raise Unsupported("a root that stands in no norm")


def _reciprocal(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    if x.step.tag[:1] == ("root",):
        return x.made(x.step.inputs[0].part("1/root", x.step.tag[1]))
    raise Unsupported("a reciprocal that stands in no norm")


def _split(reading: Reading, attributes: dict[str, Any], x: Value, sizes: Any = None) -> Any:
    sizes = np.asarray(attributes["split"]) if "split" in attributes else sizes
    count = attributes.get("num_outputs", 2) if sizes is None else len(sizes)
    if count == 3 and len(x.shape) == 2 and x.axis(attributes.get("axis", 0)) == x.last:
        return ATTENTION["Split"](reading, attributes, view_of(x, reading.batch), sizes)
    halves = count == 2 and (sizes is None or len({*constant(sizes).tolist()}) == 1)
    if not halves or x.axis(attributes.get("axis", 0)) != x.last:
        raise Unsupported("a split that is no halves of the features, for a gate")
    shape = (*x.shape[:-1], x.shape[-1] // 2)
    return [x.made(Step((x.step,), shape, None, tag=("half", i))) for i in range(2)]


ELEMENTWISE: dict[str, Any] = {
    "Relu": _one(lambda given: layers.relu()),
    "LeakyRelu": _one(lambda given: layers.leaky_relu(given.get("alpha", 0.01))),
    "Sigmoid": _one(lambda given: layers.sigmoid()),
    "HardSigmoid": _one(_hard_sigmoid),
    "HardSwish": _one(lambda given: layers.hard_swish()),
    "Tanh": _tanh,
    "Elu": _one(lambda given: layers.elu(given.get("alpha", 1.0))),
    "Selu": _one(lambda given: layers.selu()),
    "Celu": _one(lambda given: layers.celu(given.get("alpha", 1.0))),
    "Softplus": _one(lambda given: layers.softplus()),
    "Softsign": _one(lambda given: layers.softsign()),
    "Mish": _one(lambda given: layers.mish()),
    "Gelu": _one(lambda given: layers.gelu(exact=given.get("approximate", "none") == "none")),
    "Shrink": _one(_shrink),
    "Neg": _one(lambda given: layers.scale(-1.0)),
    "Clip": _clip, "PRelu": _prelu, "Softmax": _along_features(layers.softmax),
    "LogSoftmax": _along_features(layers.log_softmax), "Dropout": _dropout, "Identity": _same, "Cast": _cast,
    "Add": _arithmetic("Add"), "Sub": _arithmetic("Sub"), "Mul": _arithmetic("Mul"), "Div": _arithmetic("Div"),
    "Erf": _erf, "Log": _log, "Abs": _abs, "Pow": _power, "Sqrt": _root, "Reciprocal": _reciprocal, "Split": _split,
}  # fmt: skip
READERS: dict[str, Any] = ELEMENTWISE | NORMS | IMAGES | SEQUENCES | SHAPES
