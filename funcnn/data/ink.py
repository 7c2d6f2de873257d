"""The ink in an image of a drawing: on any paper, in any light, dark or light, in colour."""

from typing import Any

import numpy as np

from funcnn.data.formats import DataError
from funcnn.tree import Array

__all__ = ["NothingDrawn", "find_ink", "windowed"]

_WORK = 512  # pixels of the longer side while ink is looked for: enough for a digit of a tenth of the image
_SOFT = 64  # pixels of the longer side from which an image is made a little softer first, against noise
_COARSE = 48  # pixels of the longer side while the light is looked for
_LIGHT = 4  # medians of what the paper's pixels differ from a smooth light by; what differs by more is no paper
_SURE = 0.6  # of the frame must be such paper
_GREY = 3  # of 255 shades between the channels of a pixel: one of them is enough
_WIDEST = 0.3  # of the longer side: no stroke is wider
_CONTRAST = 20  # of 255 shades, between ink and paper: paler is nothing, as is what does not stand out of the noise
_NOISE = 6  # deviations of the paper by which ink stands out of it
_SPECK = 0.04  # of the ink of the largest stroke: what has less is no part of the drawing


class NothingDrawn(DataError):
    """An image in which there is no drawing."""


def find_ink(image: Array) -> tuple[Array, float]:
    """How much ink is at each pixel, from 0 to 1, and how uneven the rest is: its deviation in shares of the contrast.

    The image is bytes (height, width, 1 to 4 channels); the ink (height, width) comes with at most 512 pixels a side.

    1. The light on the paper is a smooth surface, which the frame of the image shows, and is taken away. What differs
       from it most is the ink, darker or lighter.
    2. Where there are other shadows, ink is what a top hat finds: what is narrower than a window and stands out of all
       that is around it.
    3. Otsu's threshold (1979) parts ink from paper. Specks, and things at the edge of the image, are left out.

    >>> page = np.full((40, 50, 1), 200, np.uint8)
    >>> page[10:30, 20:24] = 90
    >>> ink, rest = find_ink(page)
    >>> int((ink > 0.5).sum()), rest
    (80, 0.0)

    Raises NothingDrawn for an image without ink, ValueError for what is no image of bytes.
    """
    image, level = _evenly_lit(_as_image(image))
    if max(image.shape[:2]) > _SOFT:
        image = _blurred(image)
    # What is narrower than a window and lighter than what is around it, whatever the light there: the top hat. In
    # bytes, of which a processor compares many at once.
    levels = np.rint(image).clip(0, 255).astype(np.uint8)
    channels = levels - _opened(levels, round(_WIDEST * max(image.shape[:2])))
    ink = np.maximum.reduce([channels[..., i] for i in range(channels.shape[2])]).astype(np.float32)
    threshold, paper, drawn = _otsu(ink)
    noise = _deviation(ink[ink <= threshold])
    if drawn - paper < max(_CONTRAST, _NOISE * noise):
        raise NothingDrawn("there is nothing drawn on it: no ink stands out of the paper")
    mask = _without_specks(ink > threshold, ink)
    ink = np.clip((ink - paper) / (drawn - paper), 0, 1)
    grown = windowed(mask, 3, np.logical_or)  # with the strokes' soft edges
    rest = (image - level)[~grown] / (drawn - paper)
    return np.where(grown, ink, 0), float(np.sqrt(np.square(rest).mean())) if rest.size else 0.0


def _as_image(image: Array) -> Array:
    """The image as floats (height, width, 1 or 3), reduced to the size to work in."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4) or image.size == 0:
        raise ValueError(
            "find_ink: expected an image (height, width, channels) of bytes, of 1 to 4 channels, got an array "
            f"{image.dtype} {image.shape}"
        )
    image = _reduced(image, _WORK)
    if image.shape[2] in (2, 4):
        image = _on_ground(image[..., :-1], image[..., -1:] / 255)
    first = image[..., :1]
    return first if abs(image - first).max() < _GREY else image


def _on_ground(colours: Array, alpha: Array) -> Array:
    """A drawing on nothing, on white, or on black if it is light itself."""
    if alpha.min() > 0.99:
        return colours
    seen = (colours.mean(axis=2, keepdims=True) * alpha).sum() / max(alpha.sum(), 1e-6)
    ground = 0.0 if seen > 127 else 255.0
    return colours * alpha + ground * (1 - alpha)


def _reduced(image: Array, longest: int) -> Array:
    """An image as floats, with at most so many pixels on its longer side, each the mean of a square of them."""
    factor = -(-max(image.shape[:2]) // longest)
    down, right = (min(factor, each) for each in image.shape[:2])  # of an image of few pixels that way, all of them
    height, width = image.shape[0] // down * down, image.shape[1] // right * right  # a rest at its far edges goes
    places = [(i, j) for i in range(down) for j in range(right)]
    total: Array = sum((image[i:height:down, j:width:right] for i, j in places), np.zeros(1, np.float32))
    return total / np.float32(len(places))


def _evenly_lit(image: Array) -> tuple[Array, Array]:
    """The image with its paper, which the frame shows, dark and of one shade, and that shade (channels,).

    The light is a quadratic surface, fitted to the frame without what differs from the rest of it, on a small copy.
    """
    coarse = _reduced(image, _COARSE)
    height, width, channels = coarse.shape
    values = coarse.reshape(-1, channels)
    terms = _quadratic(height, width).reshape(-1, 6)
    edges = np.ones((height, width), bool)
    edges[_inside(height), _inside(width)] = False
    frame: Array = edges.ravel()
    level = np.median(values[frame], axis=0)
    light: Array = np.broadcast_to(level, values.shape)
    factors = np.zeros((6, channels), np.float32)
    factors[0] = level
    for _ in range(4):
        off = abs(values - light).max(axis=1)
        if off[frame].max() < 1:  # as on most canvases: there is nothing to fit
            break
        kept = frame & (off <= max(_LIGHT * np.median(off[frame]), 3))
        if kept.sum() < max(_SURE * frame.sum(), 12):
            break
        factors = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        light = terms @ factors
    off = values - light
    seen = abs(off) > np.maximum(_LIGHT * np.median(abs(off[frame]), axis=0), 3)
    is_dark = (off * seen).sum(axis=0) < 0  # in each channel: on green paper, red ink is lighter and darker
    even = image - _quadratic(*image.shape[:2]) @ factors
    return np.where(is_dark, 255 - level - even, even + level), np.where(is_dark, 255 - level, level)


def _inside(length: int) -> slice:
    width = max(1, round(length / 10))
    return slice(width, max(length - width, width))


def _quadratic(height: int, width: int) -> Array:
    """1, x, y, x², xy and y² at each pixel (height, width, 6), x and y from -1 to 1."""
    y, x = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32), indexing="ij"
    )
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def windowed(image: Array, window: int, extreme: Any) -> Array:
    """The extreme (np.maximum, say) of a square window around each pixel; beyond the edge there is what is at it."""
    for axis in (0, 1):
        pad = [(0, 0)] * image.ndim
        pad[axis] = (window // 2, window - 1 - window // 2)
        lines = np.pad(image, pad, mode="edge").swapaxes(0, axis)
        done = 1
        while done < window:  # from windows of half the size
            step = min(done, window - done)
            lines = extreme(lines[:-step], lines[step:])
            done += step
        image = lines.swapaxes(0, axis)
    return image


def _opened(image: Array, window: int) -> Array:
    """The image without all that is light and narrower than the window: its least values, and the largest of these."""
    window = max(window, 3) | 1  # an odd one, or else the second would be beside the first
    return windowed(windowed(image, window, np.minimum), window, np.maximum)


def _blurred(image: Array) -> Array:
    """A little softer: noise of single pixels is halved."""
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (1, 1)
        lines = np.pad(image, pad, mode="edge").swapaxes(0, axis)
        image = (0.25 * lines[:-2] + 0.5 * lines[1:-1] + 0.25 * lines[2:]).swapaxes(0, axis)
    return image


def _otsu(values: Array) -> tuple[float, float, float]:
    """Otsu's threshold (1979), and the medians of what lies below and above it."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts), counts.sum()
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / total - sums) ** 2 / (below * (total - below))
    threshold = float(edges[1:][np.nanargmax(np.where(np.isfinite(between), between, -1))])
    low, high = values[values <= threshold], values[values > threshold]
    if not len(low) or not len(high):
        return threshold, 0.0, 0.0
    return threshold, float(np.median(low)), float(np.median(high))


def _deviation(values: Array) -> float:
    return float(1.4826 * np.median(abs(values - np.median(values)))) if len(values) else 0.0


def _without_specks(mask: Array, ink: Array) -> Array:
    """The mask without parts of little ink, and without those at the edge of the image if there is a drawing inside."""
    parts = _parts(mask)
    count = int(parts.max()) + 1
    mass = np.bincount(parts.ravel(), weights=ink.ravel(), minlength=count)
    mass[0] = 0
    at_edge = np.zeros(count, bool)
    for line in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        at_edge[line] = True
    inside = np.where(at_edge, 0, mass)
    if inside.max() > 0.3 * mass.max():
        mass = inside
    kept: Array = (mass > _SPECK * mass.max())[parts] & mask
    return kept


def _parts(mask: Array) -> Array:
    """The connected part (by eight neighbours) that each pixel belongs to, by number from 1; 0 where there is none."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = np.searchsorted(rows, np.arange(height + 1)).tolist()
    start, end = starts.tolist(), ends.tolist()
    for row in range(1, height):  # runs of a row and of the one above that touch
        i, j = first[row - 1], first[row]
        while i < first[row] and j < first[row + 1]:
            if start[i] <= end[j] and start[j] <= end[i]:
                parent[root(j)] = root(i)
            if end[i] < end[j]:
                i += 1
            else:
                j += 1
    roots = np.array([root(i) for i in range(len(parent))], int)
    numbers = np.unique(roots, return_inverse=True)[1] + 1
    labels = np.zeros((height, width + 1), np.int64)
    labels[rows, starts], labels[rows, ends] = numbers, -numbers
    parts: Array = labels.cumsum(axis=1)[:, :-1]
    return parts
