"""A drawing of any kind and size as the data sets of handwriting have theirs: light ink on black, scaled and centred.

A net that learned MNIST knows digits of 20 pixels in the middle of 28, white on black. A pencil on a page, a chalk on a
board, a finger's trace in a corner of a canvas are brought to that form here, in the steps in which MNIST was made
(LeCun, Bottou, Bengio and Haffner, 1998, section III), after what comes first for a photograph: taking away the paper
and its shading, and finding out which of the two is the ink.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.data.ink import NothingDrawn, find_ink, windowed
from funcnn.settings import Described, as_floats, as_int, as_tuple, config, count, is_number, refuse
from funcnn.tree import Array, Shape

__all__ = ["NothingDrawn", "Prepare", "centred_drawing", "check_prepare"]

Prepare = Callable[[Array], Array]

_REST = 0.12  # of the ink's contrast, by which what is no ink deviates: a noisy photograph of a page has half of it
_STRETCHED = 2  # times its width is the most that a drawing gets to fill a box
_HALF = 1e-3  # of a pixel: a centre between two pixels is rounded down, whatever the last bits are


def centred_drawing(
    size: int = 28,
    box: int | tuple[int, int] = 20,
    *,
    stroke: tuple[float, float] = (1.5, 4),
    blocks: int = 0,
) -> Prepare:
    """A drawing (height, width, 1 to 4 channels) of bytes, of any size -> light ink on black, (size, size, 1).

    Ink may be dark on light or light on dark, in any colour, on nothing (transparent), on paper that is shaded or
    noisy. Its bounding box is scaled to fit into `box` x `box` pixels, its shape kept, and placed so that the centre of
    its mass is in the middle. ``centred_drawing(28, 20)`` makes images like MNIST's. Strokes get a width within the two
    numbers of `stroke`, in pixels, so that a fine pen's do not vanish.

    A box of ``(height, width)`` is filled: an upright drawing is made wider. With `blocks`, the pixels that are ink are
    counted in squares of blocks x blocks, so that ``centred_drawing(32, (32, 20), stroke=(4.5, 6), blocks=4)`` makes
    images like UCI's digits: 8x8x1, from 0 to 16.

    >>> page = np.full((90, 60, 3), 240, np.uint8)
    >>> page[20:50, 10:14] = (30, 30, 120)  # a blue stroke
    >>> digit = centred_drawing()(page)
    >>> digit.shape, digit.max(), np.flatnonzero(digit.any(axis=(1, 2)))[[0, -1]]
    ((28, 28, 1), np.uint8(255), array([ 4, 23]))

    A call raises NothingDrawn for an image without ink, ValueError for what is no image of bytes. Its method `examined`
    also says whether the image shows much else than a drawing.

    Raises ValueError for a box larger than the size, widths of no meaning, and blocks that do not divide the size.
    """
    return _CentredDrawing(size, box, stroke, blocks)


def check_prepare(instance: Any, attribute: Any, prepare: Any) -> None:
    """Raise ValueError unless it is None, or a function that makes images of the `in_shape` of what has it.

    Of one's own function it is not known what it makes before it is called.
    """
    place, in_shape = type(instance).__name__, tuple(instance.in_shape)
    if prepare is not None and not callable(prepare):
        refuse(place, "prepare", "a function of a raw image, or None", prepare)
    made = getattr(prepare, "out_shape", in_shape)
    if made != in_shape:
        fix = "Give it the sizes of the stored images, or pass None"
        refuse(place, "prepare", f"one that makes images of in_shape, {in_shape}, not {made}", prepare, fix)


def _check_box(instance: Any, attribute: Any, value: Any) -> None:
    sizes = value if isinstance(value, tuple) else (value, value)
    if not (len(sizes) == 2 and all(type(each) is int and 0 < each <= instance.size for each in sizes)):
        refuse(instance.name, "box", f"from 1 to the size, {instance.size}, or two such (height, width)", value)


def _check_stroke(instance: Any, attribute: Any, value: Any) -> None:
    numbers = isinstance(value, tuple) and len(value) == 2 and all(is_number(each) for each in value)
    if not (numbers and 0 < value[0] < value[1] < math.inf):
        refuse(instance.name, "stroke", "the least and the largest width in pixels", value)


def _check_blocks(instance: Any, attribute: Any, value: Any) -> None:
    if not (type(value) is int and 0 <= value <= 15 and (value == 0 or instance.size % value == 0)):
        refuse(instance.name, "blocks", f"0, or from 1 to 15 and a divisor of the size, {instance.size}", value)


def _as_box(value: Any) -> Any:
    return as_tuple(value) if isinstance(value, (tuple, list)) else as_int(value)


@config
class _CentredDrawing(Described):
    name: ClassVar[str] = "centred_drawing"
    size: int = count(28)
    box: Any = attrs.field(default=20, converter=_as_box, validator=_check_box)
    stroke: Any = attrs.field(default=(1.5, 4.0), converter=as_floats, validator=_check_stroke)
    blocks: int = attrs.field(default=0, converter=as_int, validator=_check_blocks)

    @property
    def out_shape(self) -> Shape:
        side = self.size // (self.blocks or 1)
        return side, side, 1

    def __call__(self, image: Array) -> Array:
        return self.examined(image)[0]

    def examined(self, image: Array) -> tuple[Array, str]:
        """The prepared image, and why it may be no drawing, "" if it looks like one."""
        ink, rest = find_ink(image)
        doubt = "it shows much else than a drawing on even paper" if rest > _REST else ""
        placed = _placed(ink, self.size, self.box, self.stroke)
        if not self.blocks:
            return np.rint(placed * 255).astype(np.uint8)[..., None], doubt
        side, blocks = self.size // self.blocks, self.blocks
        counts = (placed > 0.5).reshape(side, blocks, side, blocks).sum(axis=(1, 3))
        return counts.astype(np.uint8)[..., None], doubt


# --- Placing it -----------------------------------------------------------------------------------------------


def _placed(ink: Array, size: int, box: Any, stroke: tuple[float, float]) -> Array:
    """The ink (height, width), scaled to the box, its strokes of a usual width, in the middle of an image."""
    ink = _cropped(ink)
    scale = box / max(ink.shape) if isinstance(box, int) else box[0] / ink.shape[0]
    width = _stroke_width(ink)
    if width * scale < stroke[0]:
        more = round(stroke[0] / scale - width)
        ink = _cropped(windowed(np.pad(ink, more), more + 1, np.maximum))
    elif width * scale > stroke[1]:
        less = min(round(width - stroke[1] / scale), int(width / 2))
        ink = _cropped(windowed(np.pad(ink, 1), less + 1, np.minimum))
    height, width = ink.shape
    if isinstance(box, int):
        scale = box / max(height, width)
        new = max(1, round(height * scale)), max(1, round(width * scale))
    else:
        new = box[0], max(1, round(min(box[1], _STRETCHED * width * box[0] / height)))
    small = _resized(ink, *new)
    small = np.clip(small / np.quantile(small[small > small.max() / 2], 0.6), 0, 1)
    placed = np.zeros((size, size), np.float32)
    rows, columns = (_middle(small.sum(axis=1 - axis), size) for axis in (0, 1))
    placed[rows, columns] = small
    return placed


def _middle(mass: Array, size: int) -> slice:
    """Where along an axis the ink goes: the centre of its mass is on the middle pixel, of 28 in MNIST the 15th."""
    centre = (mass * (np.arange(len(mass)) + 0.5)).sum() / mass.sum()
    start = min(max(round((size + 1) / 2 - centre - _HALF), 0), size - len(mass))
    return slice(start, start + len(mass))


def _cropped(ink: Array) -> Array:
    rows, columns = np.flatnonzero((ink > 0.5).any(axis=1)), np.flatnonzero((ink > 0.5).any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _stroke_width(ink: Array) -> float:
    """The width of the strokes in pixels: a long stroke's area over half its outline."""
    mask = np.pad(ink > 0.5, 1)
    outline = np.count_nonzero(np.diff(mask, axis=0)) + np.count_nonzero(np.diff(mask, axis=1))
    return 2 * np.count_nonzero(mask) / outline


def _resized(image: Array, height: int, width: int) -> Array:
    """An image (h, w, ...) of another size: means of what falls on a pixel; linear between pixels of a smaller one."""
    for axis, new in ((0, height), (1, width)):
        if image.shape[axis] != new:
            image = np.moveaxis(np.tensordot(_weights(image.shape[axis], new), image, (1, axis)), 0, axis)
    return image


def _weights(old: int, new: int) -> Array:
    """How much of each old pixel is in each new one (new, old), rows of sum 1."""
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new, dtype=np.float32) + 0.5) * scale - 0.5
    near = np.maximum(0, 1 - abs(np.arange(old, dtype=np.float32) - centres[:, None]) / reach)
    weights: Array = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


# What is rebuilt from a description.
PREPARATIONS = {"centred_drawing": centred_drawing}
