"""What convolution and pooling layers have in common: how their sizes and padding are written, checked and placed."""

from typing import Any

import numpy as np

from funcnn.arrays.geometry import Geometry, Padding, Size, geometry
from funcnn.checks import ShapeError
from funcnn.layer import Config
from funcnn.tree import Shape

__all__ = ["check_padding", "check_size", "image_geometry", "pair", "short", "sides"]


def check_size(instance: Any, attribute: Any, value: Size) -> None:
    """Raise ValueError unless a size is a pair of positive ints."""
    if len(value) != 2 or any(isinstance(each, bool) or not isinstance(each, int) or each < 1 for each in value):
        raise ValueError(
            f"{instance.name}: {attribute.name} must be a positive int or a pair (height, width), got {value!r}"
        )


def pair(value: Any) -> Any:
    """A size written `n | (h, w)` as (h, w); anything else as a tuple for `check_size` to refuse."""
    return (value, value) if not isinstance(value, (tuple, list)) else tuple(value)


def short(arguments: dict[str, Any], *sizes: str) -> dict[str, Any]:
    """A constructor's arguments with sizes of equal sides written as one number."""
    return {name: value[0] if name in sizes and value[0] == value[1] else value for name, value in arguments.items()}


def sides(value: Any) -> Any:
    """Padding that was read from JSON, where tuples are lists, as tuples."""
    if isinstance(value, list):
        return tuple(tuple(side) if isinstance(side, list) else side for side in value)
    return value


def check_padding(instance: Any, attribute: Any, value: Padding) -> None:
    """Raise ValueError for what is no padding."""
    numbers = [value] if isinstance(value, int) else []
    if isinstance(value, tuple) and [isinstance(each, tuple) and len(each) for each in value] == [2, 2]:
        numbers = [number for each in value for number in each]
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in numbers)
    if value not in ("valid", "same") and not (numbers and whole):
        raise ValueError(
            f'{instance.name}: padding must be "valid", "same", an int, or ((top, bottom), (left, right)), '
            f"none negative, got {value!r}"
        )


def image_geometry(
    settings: Config, in_shape: Shape, window: Size, stride: Size, dilation: Size, padding: Padding
) -> Geometry:
    """Where a layer's windows lie on an image; raises ShapeError for an input that is none, or too small for them."""
    if len(in_shape) != 3:
        raise ShapeError(
            repr(settings),
            f"expected examples of shape (height, width, channels), got {in_shape}",
            "Put reshape((height, width, channels)) before it",
        )
    if [each for each in in_shape if not isinstance(each, (int, np.integer))] or in_shape[2] < 1:
        raise ShapeError(
            repr(settings), f"expected sizes that are ints and at least one channel, got {in_shape}", "Correct in_shape"
        )
    geo = geometry(tuple(in_shape[:2]), window, stride, dilation, padding)
    if min(geo.out_size) < 1:
        span = tuple((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))
        raise ShapeError(
            repr(settings),
            f"its window spans {span}, more than the padded image {geo.padded_size} of an input {in_shape}",
            'Use a smaller window or padding="same"',
        )
    return geo
