"""What convolution and pooling layers share: how sizes and padding are written and checked, where windows lie."""

from typing import Any

from funcnn.arrays.geometry import Geometry, Padding, Size, geometry
from funcnn.checks import ShapeError, check_float
from funcnn.layer import Config
from funcnn.settings import as_int, refuse
from funcnn.tree import Array, Shape

__all__ = ["check_images", "check_padding", "check_size", "image_geometry", "pair", "short", "sides"]

_LARGEST = 2**18  # pixels that a size or padding may span, since layers go over the taps of a window one by one


def check_size(instance: Any, attribute: Any, value: Size) -> None:
    """Raise ValueError unless a size is a pair of positive ints."""
    if len(value) != 2 or any(isinstance(each, bool) or not isinstance(each, int) or each < 1 for each in value):
        refuse(instance.name, attribute.name, "a positive int or a pair (height, width)", value)
    if max(value) > _LARGEST:
        refuse(instance.name, attribute.name, f"at most {_LARGEST:,} along an axis", value)


def pair(value: Any) -> Any:
    """A size written `n | (h, w)` as (h, w); anything else as a tuple for `check_size` to refuse."""
    return tuple(map(as_int, value)) if isinstance(value, (tuple, list)) else (as_int(value), as_int(value))


def short(arguments: dict[str, Any], *sizes: str) -> dict[str, Any]:
    """A constructor's arguments with sizes of equal sides written as one number."""
    return {name: value[0] if name in sizes and value[0] == value[1] else value for name, value in arguments.items()}


def sides(value: Any) -> Any:
    """Padding that was read from JSON, where tuples are lists, as tuples."""
    return tuple(map(sides, value)) if isinstance(value, (list, tuple)) else as_int(value)


def check_padding(instance: Any, attribute: Any, value: Padding) -> None:
    """Raise ValueError for what is no padding."""
    numbers = [value] if isinstance(value, int) else []
    if isinstance(value, tuple) and [isinstance(each, tuple) and len(each) for each in value] == [2, 2]:
        numbers = [number for each in value for number in each]
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in numbers)
    if not (isinstance(value, str) and value in ("valid", "same")) and not (numbers and whole):
        expected = '"valid", "same", an int, or ((top, bottom), (left, right)), none negative'
        refuse(instance.name, attribute.name, expected, value)
    if max(numbers, default=0) > _LARGEST:
        refuse(instance.name, attribute.name, f"at most {_LARGEST:,} on a side", value)


def check_images(settings: Config, x: Array) -> None:
    """Raise unless `x` is a batch of images of floats."""
    check_float(settings, x)
    if x.ndim != 4:
        raise ShapeError(
            repr(settings),
            f"expected images of shape (n, height, width, channels), got {x.shape}",
            "Give a single image a batch axis: x[None]; grey images a channel axis: x[..., None]",
        )


def image_geometry(
    settings: Config, in_shape: Shape, window: Size, stride: Size, dilation: Size, padding: Padding
) -> Geometry:
    """Where a layer's windows lie on an image; raises ShapeError for an input that is none, or too small for them."""
    if len(in_shape) != 3:
        raise ShapeError(
            repr(settings),
            f"expected examples of shape (height, width, channels), got {in_shape}",
            _mend_rank(tuple(in_shape)),
        )
    if in_shape[2] < 1:
        raise ShapeError(repr(settings), f"expected at least one channel, got {in_shape}", "Correct in_shape")
    geo = geometry(tuple(in_shape[:2]), window, stride, dilation, padding)
    if min(geo.out_size) < 1:
        span = tuple((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))
        raise ShapeError(
            repr(settings),
            f"its window spans {span}, more than the padded image {geo.padded_size} of an input {in_shape}",
            'Use a smaller window or padding="same"',
        )
    return geo


def _mend_rank(in_shape: Shape) -> str:
    if len(in_shape) == 4:
        return f"Leave out the batch axis: {in_shape[1:]}"
    shape = f"({in_shape[0]}, {in_shape[1]}, 1)" if len(in_shape) == 2 else "(height, width, channels)"
    return f"Put reshape({shape}) before it"
