"""ONNX's convolutions, pools and what changes the size of images, as layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnn import layers
from funcnn.interop.read_values import Reading, Step, Unsupported, Value, check_first, constant
from funcnn.tree import Array

__all__ = ["IMAGES"]


# --- Convolutions and pools ------------------------------------------------------------------------------------


def _windows(attributes: dict[str, Any], x: Value, size: Sequence[int]) -> dict[str, Any]:
    """Stride and padding, and dilation, as layers take them."""
    check_first(x)
    axes = len(x.shape) - 1
    if axes not in (1, 2):
        raise Unsupported(f"along {axes} axes")
    pads = list(attributes.get("pads", [0] * 2 * axes))
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic == "SAME_LOWER":
        raise Unsupported("padding that has the odd pixel first")
    stride, dilation = attributes.get("strides", [1] * axes), attributes.get("dilations", [1] * axes)
    if attributes.get("ceil_mode", 0):
        for i in range(axes):
            extent = x.shape[i] + pads[i] + pads[axes + i] - (size[i] - 1) * dilation[i] - 1
            pads[axes + i] += -extent % stride[i]
            if -(-extent // stride[i]) * stride[i] - pads[i] >= x.shape[i]:
                raise Unsupported("a last window that lies in the padding alone")
    sides: Any = tuple(zip(pads[:axes], pads[axes:], strict=True))
    padding = "same" if automatic == "SAME_UPPER" else sides if axes == 2 else sides[0]
    if padding != "same" and len({*pads}) == 1:
        padding = pads[0] or "valid"
    return {"stride": _sizes(stride), "padding": padding, "dilation": _sizes(dilation)}


def _sizes(values: Sequence[int]) -> Any:
    return tuple(values) if len(values) == 2 else values[0]


def _convolution(reading: Reading, attributes: dict[str, Any], x: Value, weight: Any, bias: Any = None) -> Value:
    weight = constant(weight)
    options = _windows(attributes, x, weight.shape[2:]) | {"groups": attributes.get("group", 1)}
    conv = layers.conv2d if weight.ndim == 4 else layers.conv1d
    return x.made(_filters(x.step, conv, len(weight), weight, bias, options))


def _transposed(reading: Reading, attributes: dict[str, Any], x: Value, weight: Any, bias: Any = None) -> Value:
    weight, groups = constant(weight), attributes.get("group", 1)
    options = _windows(attributes, x, weight.shape[2:]) | {"groups": groups}
    if "output_shape" in attributes or options["padding"] == "same":
        raise Unsupported("an output shape, or padding that follows from it")
    options["output_padding"] = _sizes(attributes.get("output_padding", [0] * (weight.ndim - 2)))
    conv = layers.conv_transpose2d if weight.ndim == 4 else layers.conv_transpose1d
    return x.made(_filters(x.step, conv, weight.shape[1] * groups, weight, bias, options))


def _filters(step: Step, conv: Any, filters: int, weight: Array, bias: Any, options: dict[str, Any]) -> Step:
    units = {"weight": weight} | ({} if bias is None else {"bias": constant(bias)})
    layer = conv(filters, _sizes(weight.shape[2:]), use_bias=bias is not None, **options)

    def more(op: str, features: Array) -> Step | None:
        return _filters(step, conv, filters, weight, features, options) if op == "Add" and bias is None else None

    return step.then(layer, units, affine=more)


def _pool(kind: str) -> Any:
    def read(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
        size = attributes["kernel_shape"]
        options = _windows(attributes, x, size)
        if set(np.ravel(options.pop("dilation"))) != {1}:
            raise Unsupported("a pool with gaps in its windows")
        step, axes = x.step, len(size)
        if kind == "avg" and attributes.get("count_include_pad", 0) and options["padding"] != "valid":
            if axes == 1 or attributes.get("ceil_mode", 0):
                raise Unsupported("a mean that counts padding")
            step, options["padding"] = step.then(layers.zero_pad2d(options["padding"])), "valid"
        layer = getattr(layers, f"{kind}_pool{axes}d")(_sizes(size), **options)
        return x.made(step.then(layer))

    return read


def _reduce(kind: str) -> Any:
    def read(reading: Reading, attributes: dict[str, Any], x: Value, axes: Any = None) -> Value:
        given = attributes.get("axes") if axes is None else constant(axes).tolist()
        which = [k % len(x.axes) for k in (given or range(len(x.axes)))]
        keep = attributes.get("keepdims", 1)
        if kind == "avg" and keep and [x.axes[k] for k in which] == [x.last]:
            squares = x.step.tag == ("square",)
            return x.made(x.step.inputs[0].part("mean of squares") if squares else x.step.part("mean"))
        return _over_positions(kind, x, which, bool(keep))

    return read


def _global(kind: str) -> Any:
    def read(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
        return _over_positions(kind, x, range(2, len(x.axes)), True)

    return read


def _over_positions(kind: str, x: Value, which: Sequence[int], keep: bool) -> Value:
    positions = len(x.shape) - 1
    if positions not in (1, 2) or {x.axes[k] for k in which} - {-1} != {*range(1, positions + 1)}:
        raise Unsupported("over other axes than those of positions")
    step = x.step.then(getattr(layers, f"global_{kind}_pool{positions}d")())
    axes = [-1 if k in which else 1 if axis == x.last else axis for k, axis in enumerate(x.axes)]
    return Value(step, tuple([axis for k, axis in enumerate(axes) if keep or k not in which]))


# --- Images of another size ------------------------------------------------------------------------------------


def _pad(
    reading: Reading, attributes: dict[str, Any], x: Value, pads: Any = None, fill: Any = None, axes: Any = None
) -> Value:
    check_first(x)
    given: Any = attributes.get("pads") if pads is None else constant(pads).tolist()
    by_zeros = attributes.get("mode", "constant") == "constant" and (fill is None or not np.any(constant(fill)))
    if axes is not None or not by_zeros or len(x.shape) != 3 or any(given[k] for k in (0, 1, 4, 5)) or min(given) < 0:
        raise Unsupported("padding other than by zeros around an image")
    return x.made(x.step.then(layers.zero_pad2d(((given[2], given[6]), (given[3], given[7])))))


def _slice(
    reading: Reading, attributes: dict[str, Any], x: Value, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Value:
    which = range(len(constant(starts))) if axes is None else constant(axes).tolist()
    sides = {1: (0, 0), 2: (0, 0)}
    for k, start, end in zip(which, constant(starts).tolist(), constant(ends).tolist(), strict=True):
        axis = x.axes[k]
        if len(x.shape) != 3 or axis not in sides or (steps is not None and set(constant(steps).tolist()) != {1}):
            raise Unsupported("a part that is no image without its borders")
        first, last, _ = slice(start, end).indices(x.shape[axis - 1])
        sides[axis] = first, x.shape[axis - 1] - last
    return x.made(x.step.then(layers.crop2d((sides[1], sides[2]))))


def _resize(
    reading: Reading, attributes: dict[str, Any], x: Value, roi: Any = None, scales: Any = None, sizes: Any = None
) -> Value:
    check_first(x)
    if len(x.shape) != 3:
        raise Unsupported("of what is no image")
    if attributes.get("antialias", 0) or attributes.get("axes"):
        raise Unsupported("with antialiasing, or along axes of its own")
    if scales is not None and np.size(constant(scales)):
        factors = constant(scales)[2:].tolist()
    else:
        factors = [size / old for size, old in zip(constant(sizes)[2:].tolist(), x.shape, strict=False)]
    if any(factor != int(factor) or factor < 1 for factor in factors):
        raise Unsupported(f"by {factors}, which are no whole numbers")
    mode, how = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    nearest = mode == "nearest" and (how, attributes.get("nearest_mode", "round_prefer_floor")) == (
        "asymmetric",
        "floor",
    )
    if not nearest and (mode, how) not in (("linear", "half_pixel"), ("linear", "pytorch_half_pixel")):
        raise Unsupported(f"{mode} by {how}")
    factor = int(factors[0]), int(factors[1])
    return x.made(x.step.then(layers.upsample2d(factor, method="nearest" if nearest else "bilinear")))


def _depth_to_space(reading: Reading, attributes: dict[str, Any], x: Value) -> Value:
    check_first(x)
    if attributes.get("mode", "DCR") != "CRD":
        raise Unsupported("channels in the order DCR")
    return x.made(x.step.then(layers.pixel_shuffle(attributes["blocksize"])))


IMAGES: dict[str, Any] = {
    "Conv": _convolution, "ConvTranspose": _transposed, "MaxPool": _pool("max"), "AveragePool": _pool("avg"),
    "GlobalAveragePool": _global("avg"), "GlobalMaxPool": _global("max"), "ReduceMean": _reduce("avg"),
    "ReduceMax": _reduce("max"), "Pad": _pad, "Slice": _slice, "Resize": _resize, "DepthToSpace": _depth_to_space,
}  # fmt: skip
