"""Augmentation: pure functions ``(images, key) -> images`` that training applies to each batch, with the step's key.

A problem names those it uses, in order: ``Problem(..., augment=(flip_horizontally, random_erasing(0.25)))``. Those with
settings are values, which print, compare and pickle; the two plain functions take theirs by ``partial``. Images are
(n, height, width, channels) and keep their shape and dtype; whole numbers are rounded, and stay within their dtype.

Turning and zooming are in `funcnn.data.affine`, what mixes images and their targets in `funcnn.data.mixing`.
"""

from typing import ClassVar

import numpy as np

from funcnn.data.augment_settings import Augmentation, check_images, in_floats, like, log_uniform, span
from funcnn.keys import Key, generator
from funcnn.settings import check_finite, check_share, config, count, number
from funcnn.tree import Array

__all__ = ["color_jitter", "cutout", "flip_horizontally", "random_erasing", "random_grayscale", "shifted_crop"]

_FARTHEST = 2**31  # pixels


def flip_horizontally(images: Array, key: Key) -> Array:
    """Each image mirrored left to right with probability 1/2: (n, height, width, channels) -> the same shape.

    >>> images = np.arange(8.0).reshape(4, 1, 2, 1)
    >>> flip_horizontally(images, Key(0)).reshape(4, 2).tolist()
    [[0.0, 1.0], [3.0, 2.0], [5.0, 4.0], [7.0, 6.0]]

    Raises ValueError for what are no images.
    """
    images = check_images("flip_horizontally", images)
    flipped = images.copy()
    chosen = generator(key).random(len(images)) < 0.5
    flipped[chosen] = images[chosen, :, ::-1]
    return flipped


def shifted_crop(images: Array, key: Key, *, pad: int) -> Array:
    """Each image shifted by up to `pad` pixels each way, zeros coming in: (n, height, width, channels) -> the same.

    It is the crop at a uniformly drawn place of the image with `pad` zeros on every side (He et al. 2016, 4.2). Zero
    is the mean pixel of standardised images, and black in those from 0 to 1.

    >>> shifted_crop(np.ones((1, 3, 3, 1)), Key(1), pad=1)[0, ..., 0]
    array([[1., 1., 0.],
           [1., 1., 0.],
           [1., 1., 0.]])

    Raises ValueError for what are no images, or unless `pad` is a positive whole number.
    """
    images = check_images("shifted_crop", images)
    if not isinstance(pad, (int, np.integer)) or isinstance(pad, bool):
        raise ValueError(f"shifted_crop: pad must be a whole number of pixels, got {pad!r}")
    if not 1 <= pad <= _FARTHEST:
        raise ValueError(
            f"shifted_crop: pad must be {f'at most {_FARTHEST:,}' if pad > 1 else 'at least 1'}, got {pad}"
        )
    pad = int(pad)
    n, height, width, channels = images.shape
    down, across = min(pad, height), min(pad, width)  # what is shifted further is out of the image as well
    padded = np.zeros((n, height + 2 * down, width + 2 * across, channels), images.dtype)
    padded[:, down : down + height, across : across + width] = images
    shifted = np.empty_like(images, order="C")
    corners = generator(key).integers(2 * pad + 1, size=(n, 2))
    if pad > down or pad > across:
        corners = np.clip(corners - pad, (-down, -across), (down, across)) + (down, across)
    for image, source, (top, left) in zip(shifted, padded, corners.tolist(), strict=True):
        image[...] = source[top : top + height, left : left + width]
    return shifted


def cutout(size: int, *, fill: float = 0.0) -> Augmentation:
    """A square of size × size pixels of each image filled, its centre at any pixel (DeVries & Taylor 2017).

    At the edges a part of it is outside of the image.

    >>> cutout(2)(np.ones((1, 3, 3, 1)), Key(0))[0, ..., 0]
    array([[1., 1., 1.],
           [0., 0., 1.],
           [0., 0., 1.]])

    Raises ValueError unless the size is a positive int and the fill finite.
    """
    return _Cutout(size, fill)


def random_erasing(
    probability: float = 0.5,
    *,
    area: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    fill: float = 0.0,
) -> Augmentation:
    """With a probability, a rectangle of each image is filled (Zhong et al. 2020).

    Its share of the image's `area` is drawn uniformly, the `ratio` of height to width log-uniformly, its place among
    those where all of it is inside. Of ten rectangles the first that is smaller than the image is taken; where none
    is, the image stays. (The paper draws on.)

    >>> random_erasing(1.0)(np.ones((1, 4, 4, 1)), Key(0))[0, ..., 0]
    array([[0., 1., 1., 1.],
           [0., 1., 1., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.]])

    Raises ValueError unless the probability is from 0 to 1, both ranges are pairs (low, high) of positive numbers, the
    area's at most 1, and the fill is finite.
    """
    return _RandomErasing(probability, area, ratio, fill)


def color_jitter(*, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0) -> Augmentation:
    """Each image brighter or darker, of more or less contrast, more or less colourful, by factors of its own.

    Of each setting s the factor f is uniform on (1 - s, 1 + s). In this order: f · x; m + f · (x - m), m the mean of
    the image's grey; g + f · (x - g), g the pixel's grey, 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601). So 0 is
    taken for black, as in inputs that are rescaled and not standardised. Floats are not clipped, since nothing is known
    of their range; torchvision clips them to 0 to 1, and takes a random order.

    >>> color_jitter(brightness=0.5)(np.full((1, 1, 1, 3), 100, np.uint8), Key(0)).tolist()
    [[[[107, 107, 107]]]]

    Raises ValueError unless all are from 0 to 1; called with contrast or saturation, for images without three channels.
    """
    return _ColorJitter(brightness, contrast, saturation)


def random_grayscale(probability: float = 0.1) -> Augmentation:
    """With a probability, all three channels of an image are its grey, 0.299 red + 0.587 green + 0.114 blue.

    >>> random_grayscale(1.0)(np.array([[[[100, 50, 0]]]], np.uint8), Key(0)).tolist()
    [[[[59, 59, 59]]]]

    Raises ValueError unless the probability is from 0 to 1; called, for images without three channels.
    """
    return _RandomGrayscale(probability)


# --- What they make -------------------------------------------------------------------------------------------

_GREY = (0.299, 0.587, 0.114)
_TRIES = 10


def _grey(place: str, images: Array) -> Array:
    """The grey of each pixel, with an axis of one channel."""
    if images.shape[-1] != 3:
        raise ValueError(f"{place}: expected images of three channels, red, green and blue, got {images.shape}")
    grey: Array = images @ np.array(_GREY, images.dtype)
    return grey[..., None]


@config
class _Cutout(Augmentation):
    name: ClassVar[str] = "cutout"
    size: int = count()
    fill: float = number(check_finite, default=0.0)

    def change(self, images: Array, draw: "np.random.Generator") -> Array:
        changed, fill = images.copy(), like(images, np.array(self.fill))
        corners = draw.integers(images.shape[1:3], size=(len(images), 2)) - self.size // 2
        for image, (top, left) in zip(changed, corners.tolist(), strict=True):
            bottom, right = max(top + self.size, 0), max(left + self.size, 0)
            image[max(top, 0) : bottom, max(left, 0) : right] = fill
        return changed


@config
class _RandomErasing(Augmentation):
    name: ClassVar[str] = "random_erasing"
    probability: float = number(check_share, default=0.5)
    area: tuple[float, float] = span((0.02, 0.33), most=1.0)
    ratio: tuple[float, float] = span((0.3, 3.3))
    fill: float = number(check_finite, default=0.0)

    def change(self, images: Array, draw: "np.random.Generator") -> Array:
        changed, fill = images.copy(), like(images, np.array(self.fill))
        n, height, width, _ = images.shape
        chosen = draw.random(n) < self.probability
        area = draw.uniform(*self.area, (n, _TRIES)) * (height * width)
        ratio = log_uniform(draw, self.ratio, (n, _TRIES))
        sizes = np.rint(np.sqrt([area * ratio, area / ratio])).astype(np.int64)  # (2, n, tries): heights and widths
        fits = (sizes[0] < height) & (sizes[1] < width)
        first = fits.argmax(axis=1)
        rows, columns = sizes[:, np.arange(n), first]
        tops, lefts = draw.random((2, n))
        for i in np.flatnonzero(chosen & fits.any(axis=1)):
            top, left = int(tops[i] * (height - rows[i] + 1)), int(lefts[i] * (width - columns[i] + 1))
            changed[i, top : top + rows[i], left : left + columns[i]] = fill
        return changed


@config
class _ColorJitter(Augmentation):
    name: ClassVar[str] = "color_jitter"
    brightness: float = number(check_share, default=0.0)
    contrast: float = number(check_share, default=0.0)
    saturation: float = number(check_share, default=0.0)

    def change(self, images: Array, draw: "np.random.Generator") -> Array:
        changed = in_floats(images)
        spread = np.array([self.brightness, self.contrast, self.saturation]).reshape(3, 1, 1, 1, 1)
        factors = (1 + spread * draw.uniform(-1, 1, (3, len(images), 1, 1, 1))).astype(changed.dtype)
        changed *= factors[0]
        if self.contrast:
            mean = _grey(self.name, changed).mean(axis=(1, 2), keepdims=True)
            changed = mean + factors[1] * (changed - mean)
        if self.saturation:
            grey = _grey(self.name, changed)
            changed = grey + factors[2] * (changed - grey)
        return like(images, changed)


@config
class _RandomGrayscale(Augmentation):
    name: ClassVar[str] = "random_grayscale"
    probability: float = number(check_share, default=0.1)

    def change(self, images: Array, draw: "np.random.Generator") -> Array:
        grey = _grey(self.name, in_floats(images))
        changed = images.copy()
        chosen = draw.random(len(images)) < self.probability
        changed[chosen] = like(images, grey)[chosen]
        return changed
