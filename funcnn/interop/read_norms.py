"""ONNX's norms as layers; those that it has in several nodes are put together where these meet."""

from typing import Any

import numpy as np

from funcnn import layers
from funcnn.interop.read_values import Reading, Step, Unsupported, Value, check_first, constant
from funcnn.tree import Array

__all__ = ["NORMS", "norm"]


def norm(step: Step, name: str, epsilon: float, *first: int, scale: Any = None, shift: Any = None) -> Step:
    """A norm with a scale and a shift for each feature, or without, which it may take in later."""
    options = {"use_scale": scale is not None} | ({} if name == "rms_norm" else {"use_shift": shift is not None})
    units = {key: each for key, each in (("weight", scale), ("bias", shift)) if each is not None}
    layer = getattr(layers, name)(*first, epsilon=epsilon, **options)

    def more(op: str, features: Array) -> Step | None:
        if op == "Mul" and scale is None and shift is None:
            return norm(step, name, epsilon, *first, scale=features)
        if op == "Add" and shift is None and name != "rms_norm":
            return norm(step, name, epsilon, *first, scale=scale, shift=features)
        return None

    return step.then(layer, *([units] if units else []), affine=more)


def _batch_norm(
    reading: Reading, attributes: dict[str, Any], x: Value, weight: Any, bias: Any, mean: Any, var: Any
) -> Value:
    check_first(x)
    if attributes.get("training_mode", 0):
        raise Unsupported("it is in training, where its statistics are those of a batch. Export the model after eval()")
    arrays = map(constant, (weight, bias, mean, var))
    units = dict(zip(("weight", "bias", "running_mean", "running_var"), arrays, strict=True))
    return x.made(x.step.then(layers.batch_norm(epsilon=attributes.get("epsilon", 1e-5)), units))


def _layer_norm(reading: Reading, attributes: dict[str, Any], x: Value, scale: Any, shift: Any = None) -> Value:
    if attributes.get("axis", -1) not in (-1, len(x.axes) - 1) or x.axis(-1) != x.last:
        raise Unsupported("over other axes than that of the features")
    shift = None if shift is None else constant(shift)
    return x.made(norm(x.step, "layer_norm", attributes.get("epsilon", 1e-5), scale=constant(scale), shift=shift))


def _rms_norm(reading: Reading, attributes: dict[str, Any], x: Value, scale: Any) -> Value:
    if attributes.get("axis", -1) not in (-1, len(x.axes) - 1) or x.axis(-1) != x.last:
        raise Unsupported("over other axes than that of the features")
    return x.made(norm(x.step, "rms_norm", attributes.get("epsilon", 1e-5), scale=constant(scale)))


def _instance_norm(reading: Reading, attributes: dict[str, Any], x: Value, scale: Any, shift: Any) -> Value:
    epsilon, scale, shift = attributes.get("epsilon", 1e-5), constant(scale), constant(shift)
    if x.step.tag[:1] == ("groups",):
        if (scale != 1).any() or (shift != 0).any():
            raise Unsupported("a scale or a shift for each group")
        return x.made(x.step.inputs[0].part("normal groups", x.step.tag[1], epsilon))
    check_first(x)
    return x.made(norm(x.step, "instance_norm", epsilon, scale=scale, shift=shift))


def _group_norm(reading: Reading, attributes: dict[str, Any], x: Value, scale: Any, shift: Any) -> Value:
    check_first(x)
    scale, shift, groups = constant(scale), constant(shift), attributes["num_groups"]
    if len(scale) == groups != x.shape[-1]:  # before opset 21, one for each group
        scale, shift = (np.repeat(each, x.shape[-1] // groups) for each in (scale, shift))
    return x.made(norm(x.step, "group_norm", attributes.get("epsilon", 1e-5), groups, scale=scale, shift=shift))


NORMS: dict[str, Any] = {
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm,
    "InstanceNormalization": _instance_norm, "GroupNormalization": _group_norm,
}  # fmt: skip
