"""What convolution and pooling along time share: how padding is written and checked, where windows lie."""

from typing import Any, Literal

from funcnn.arrays.geometry import Geometry, Sides, geometry
from funcnn.checks import ShapeError, check_float
from funcnn.layer import Config
from funcnn.settings import as_int, refuse
from funcnn.tree import Array, Shape

__all__ = [
    "Padding1d",
    "check_padding_1d",
    "check_sequence",
    "check_sequences",
    "ends",
    "sequence_geometry",
    "two_sides",
]

Padding1d = Literal["valid", "same", "causal"] | int | tuple[int, int]

_LARGEST = 2**18  # steps of padding on a side


def ends(value: Any) -> Any:
    """Padding that was read from JSON, where tuples are lists, as a tuple."""
    return tuple(map(as_int, value)) if isinstance(value, (list, tuple)) else as_int(value)


def check_padding_1d(instance: Any, attribute: Any, value: Any) -> None:
    """Raise ValueError for padding that is none of the settings' `paddings`, and no number of steps."""
    numbers = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in numbers)
    if not (isinstance(value, str) and value in instance.paddings) and not whole:
        named = ", ".join(f'"{word}"' for word in instance.paddings)
        refuse(instance.name, attribute.name, f"{named}, an int, or (before, after), none negative", value)
    if whole and max(numbers) > _LARGEST:
        refuse(instance.name, attribute.name, f"at most {_LARGEST:,} on a side", value)


def two_sides(padding: Padding1d, window: int, dilation: int) -> Literal["valid", "same"] | Sides:
    """The padding of images (time, 1)."""
    if padding == "causal":
        return ((window - 1) * dilation, 0), (0, 0)
    if isinstance(padding, str):
        return padding
    return ((padding, padding) if isinstance(padding, int) else padding), (0, 0)


def check_sequences(settings: Config, x: Array) -> None:
    """Raise unless `x` is a batch of sequences of floats."""
    check_float(settings, x)
    if x.ndim != 3:
        raise ShapeError(
            repr(settings),
            f"expected sequences of shape (n, time, channels), got {x.shape}",
            "Give a single sequence a batch axis: x[None]; one of numbers a channel axis: x[..., None]",
        )


def sequence_geometry(
    settings: Config, in_shape: Shape, window: int, stride: int, dilation: int, padding: Padding1d
) -> Geometry:
    """Where windows lie on a sequence; raises ShapeError for an input that is none, or too short for them."""
    check_sequence(settings, in_shape)
    sides = two_sides(padding, window, dilation)
    geo = geometry((in_shape[0], 1), (window, 1), (stride, 1), (dilation, 1), sides)
    if geo.out_size[0] < 1:
        raise ShapeError(
            repr(settings),
            f"its window spans {(window - 1) * dilation + 1} steps, more than the {geo.padded_size[0]} of an input "
            f"{in_shape} with its padding",
            'Use a smaller window or padding="same"',
        )
    return geo


def check_sequence(settings: Config, in_shape: Shape) -> None:
    """Raise ShapeError unless an input example's shape is a sequence's."""
    if len(in_shape) != 2 or in_shape[-1] < 1:
        mend = "Reshape it to (time, channels)"
        if len(in_shape) == 3:
            mend = f"Leave out the batch axis: {tuple(in_shape[1:])}"
        elif len(in_shape) == 1:
            mend = f"Put reshape(({in_shape[0]}, 1)) before it"
        raise ShapeError(repr(settings), f"expected examples of shape (time, channels), got {in_shape}", mend)
