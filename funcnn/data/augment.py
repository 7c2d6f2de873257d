"""Augmentation: pure functions ``(images, key) -> images`` that training applies to each batch, with the step's key.

A problem names those it uses, in order: ``Problem(..., augment=(flip_horizontally, partial(shifted_crop, pad=4)))``.
"""

from typing import Any

import numpy as np

from funcnn.checks import as_array
from funcnn.keys import Key, generator
from funcnn.tree import Array

__all__ = ["flip_horizontally", "shifted_crop"]

_FARTHEST = 2**31  # pixels


def flip_horizontally(images: Array, key: Key) -> Array:
    """Each image mirrored left to right with probability 1/2: (n, height, width, channels) -> the same shape.

    >>> images = np.arange(8.0).reshape(4, 1, 2, 1)
    >>> flip_horizontally(images, Key(0)).reshape(4, 2).tolist()
    [[0.0, 1.0], [3.0, 2.0], [5.0, 4.0], [7.0, 6.0]]

    Raises ValueError for what are no images.
    """
    images = _images("flip_horizontally", images)
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
    images = _images("shifted_crop", images)
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


def _images(place: str, given: Any) -> Array:
    images = as_array(place, "images", given)
    if images.ndim != 4:
        advice = {2: ". Pass images[None, ..., None]", 3: ". Pass images[..., None], or images[None] for one image"}
        raise ValueError(
            f"{place}: expected images (n, height, width, channels), got {images.shape}{advice.get(images.ndim, '')}"
        )
    return images
