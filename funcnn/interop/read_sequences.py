"""ONNX's products, embeddings and recurrent layers."""

from typing import Any

import attrs
import numpy as np

from funcnn import layers
from funcnn.interop.read_attention import attended
from funcnn.interop.read_values import PARTS, Reading, Stack, Step, Unsupported, Value, constant, slices_of, squeezed
from funcnn.layer import Layer
from funcnn.tree import Array

__all__ = ["SEQUENCES"]


# --- Products --------------------------------------------------------------------------------------------------


def _dense(step: Step, weight: Array, bias: Array | None) -> Step:
    """A dense layer by PyTorch's weight (out, in); after the heads of attention, their output's."""
    if step.tag[:1] == ("attention",):
        return attended(step, weight, bias)
    units = {"weight": weight} | ({} if bias is None else {"bias": np.broadcast_to(bias, len(weight))})
    layer = layers.dense(len(weight), use_bias=bias is not None, per_position=len(step.shape) > 1)

    def more(op: str, features: Array) -> Step | None:
        return _dense(step, weight, features) if op == "Add" and bias is None else None

    return step.then(layer, units, affine=more)


def _gemm(reading: Reading, attributes: dict[str, Any], x: Value, weight: Any, bias: Any = None) -> Value:
    weight = constant(weight) * attributes.get("alpha", 1.0)
    x = squeezed(x)
    if attributes.get("transA", 0) or x.axes != (0, 1):
        raise Unsupported("a value that is no row of features for each example")
    its = None if bias is None else (constant(bias) * attributes.get("beta", 1.0)).reshape(-1).astype(weight.dtype)
    return x.made(_dense(x.step, weight if attributes.get("transB", 0) else weight.T, its))


def _matmul(reading: Reading, attributes: dict[str, Any], x: Any, weight: Any) -> Value:
    if not isinstance(x, Value) or not isinstance(weight, np.ndarray):
        raise Unsupported("two values multiplied as matrices, as attention does, or a constant from the left")
    if weight.ndim != 2 or x.axis(-1) != x.last or any(axis in PARTS for axis in x.axes):
        raise Unsupported("a product along another axis than that of the features")
    return x.made(_dense(x.step, weight.T, None))


def _gather(reading: Reading, attributes: dict[str, Any], x: Any, index: Any) -> Value:
    axis = attributes.get("axis", 0)
    if isinstance(index, Value) and isinstance(x, np.ndarray) and axis == 0 and x.ndim == 2:
        step = index.step.then(layers.embedding(*x.shape), {"weight": x})
        return Value(step, (*index.axes, len(step.shape)))
    along = x.values if isinstance(x, Stack) and axis == 0 else slices_of(x, axis) if isinstance(x, Value) else ()
    if len(along) > 1 and isinstance(index, np.ndarray) and index.ndim == 0:  # the end of one layer or direction
        return along[int(index)]
    if isinstance(x, Value) and isinstance(index, np.ndarray) and index.size == 1:
        if x.axis(axis) == -1 and index.ndim == 0:
            return Value(x.step, tuple([each for k, each in enumerate(x.axes) if k != axis % len(x.axes)]))
        return _one_step(x, x.axis(axis), int(index.item()), axis, keep=index.ndim > 0)
    raise Unsupported("it takes neither rows of a constant nor the last step of a recurrent layer")


def _one_step(x: Value, axis: Any, position: int, given: int, *, keep: bool = False) -> Value:
    """The last step of a recurrent layer that goes forward."""
    layer = x.step.layers[-1] if x.step.layers and len(x.step.layers) == 1 else None
    if layer is None or layer.name not in _RECURRENT or axis != 1 or keep or x.step.tag != ("recurrent",):
        raise Unsupported("one position of a value that no recurrent layer makes")
    config: Any = layer.config
    if position % x.shape[0] != (0 if config.reverse else x.shape[0] - 1):
        raise Unsupported("a step that is not the last one that the layer makes")
    last = _recurrent_layer(layer.name, config.units, config.reverse, True, getattr(config, "activation", "tanh"))
    step = x.step.inputs[0].then(last, *x.step.units)
    axes = [axis - 1 if axis > 1 else axis for k, axis in enumerate(x.axes) if k != given % len(x.axes)]
    return Value(step, tuple(axes))


# --- Recurrent layers ------------------------------------------------------------------------------------------


_RECURRENT = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
_GATES_OF = {"RNN": (0,), "LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}  # i o f c -> i f g o; z r h -> r z n


def _recurrent_layer(name: str, units: int, reverse: bool, only_last: bool, activation: str) -> Layer:
    options: dict[str, Any] = {"activation": activation} if name == "rnn" else {}
    made: Layer = getattr(layers, name)(units, reverse=reverse, only_last=only_last, **options)
    return made


def _recurrent(name: str) -> Any:
    op = _RECURRENT[name]

    def read(
        reading: Reading, attributes: dict[str, Any], x: Value, weight: Any, recurrent: Any, bias: Any = None,
        lengths: Any = None, *begins: Any,
    ) -> list[Value]:  # fmt: skip
        units, direction = attributes["hidden_size"], attributes.get("direction", "forward")
        if x.axes != ((0, 1, 2) if attributes.get("layout", 0) else (1, 0, 2)) or len(x.shape) != 2:
            raise Unsupported("what it takes is no sequence of features with time first")
        if any(each is not None and np.any(constant(each)) for each in begins[:2]):
            raise Unsupported("a beginning that is not zero; see funcnn.compose.carried")
        if len(begins) > 2 and begins[2] is not None:
            raise Unsupported("peepholes")
        if lengths is not None and set(constant(lengths).tolist()) != {x.shape[0]}:
            raise Unsupported("sequences of different lengths")
        if op == "GRU" and not attributes.get("linear_before_reset", 0):
            raise Unsupported("a reset gate that comes before the product")
        activations = [each.lower() for each in attributes.get("activations", [])]
        usual = {"RNN": ["tanh"], "LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}[op]
        count = 2 if direction == "bidirectional" else 1
        if activations and activations not in (usual * count, ["relu"] * count if op == "RNN" else usual * count):
            raise Unsupported(f"activations {activations}")
        if "clip" in attributes or attributes.get("input_forget", 0):
            raise Unsupported("clipped or coupled gates")
        steps = []
        for i in range(count):
            its = _gates(op, units, constant(weight)[i], constant(recurrent)[i], bias, i)
            reverse = direction == "reverse" or i == 1
            made = [
                x.step.then(_recurrent_layer(name, units, reverse, last, (activations or ["tanh"])[0]), its)
                for last in (False, True)
            ]
            steps.append([attrs.evolve(made[0], tag=("recurrent",)), made[1]])
        layout = attributes.get("layout", 0)
        if count == 1:
            return [
                Value(steps[0][0], (0, 1, -1, 2) if layout else (1, -1, 0, 2)),
                Value(steps[0][1], (0, -1, 1) if layout else (-1, 0, 1)),
            ]
        both = [Step((one, two), (*one.shape[:-1], 2 * units), join="concat") for one, two in zip(*steps, strict=True)]
        if layout:
            return [Value(both[0], (0, 1, *PARTS)), Value(both[1], (0, *PARTS))]
        return [Value(both[0], (1, PARTS[0], 0, PARTS[1])), Value(both[1], (PARTS[0], 0, PARTS[1]))]

    return read


def _gates(op: str, units: int, weight: Array, recurrent: Array, bias: Any, i: int) -> dict[str, Array]:
    """A direction's tensors as PyTorch has them, the gates in its order."""
    given = np.zeros(2 * len(weight), weight.dtype) if bias is None else constant(bias)[i]
    arrays = {
        "weight_ih": weight,
        "weight_hh": recurrent,
        "bias_ih": given[: len(weight)],
        "bias_hh": given[len(weight) :],
    }
    rows = np.concatenate([np.arange(units) + gate * units for gate in _GATES_OF[op]])
    if not len(weight) == len(recurrent) == len(rows):
        raise Unsupported(
            f"matrices of {len(weight)} and {len(recurrent)} rows, where {len(rows)} are those of all gates"
        )
    return {f"{name}_l0": array[rows] for name, array in arrays.items()}


SEQUENCES: dict[str, Any] = {
    "Gemm": _gemm, "MatMul": _matmul, "Gather": _gather, "RNN": _recurrent("rnn"), "LSTM": _recurrent("lstm"),
    "GRU": _recurrent("gru"),
}  # fmt: skip
