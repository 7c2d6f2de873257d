"""Augmentation: pure functions ``(images, key) -> images`` that training applies to each batch, with the step's key.

A problem names those it uses, in order: ``Problem(..., augment=(flip_horizontally, partial(shifted_crop, pad=4)))``.
"""

import numpy as np

from funcnn.keys import Key, generator
from funcnn.tree import Array

__all__ = ["flip_horizontally", "shifted_crop"]


def flip_horizontally(images: Array, key: Key) -> Array:
    """Each image mirrored left to right with probability 1/2: (n, height, width, channels) -> the same shape.

    >>> images = np.arange(8.0).reshape(4, 1, 2, 1)
    >>> flip_horizontally(images, Key(0)).reshape(4, 2).tolist()
    [[0.0, 1.0], [3.0, 2.0], [5.0, 4.0], [7.0, 6.0]]
    """
    _check_images("flip_horizontally", images)
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

    Raises ValueError unless `pad` is positive.
    """
    _check_images("shifted_crop", images)
    if pad < 1:
        raise ValueError(f"shifted_crop: pad must be at least 1, got {pad}")
    n, height, width, channels = images.shape
    padded = np.zeros((n, height + 2 * pad, width + 2 * pad, channels), images.dtype)
    padded[:, pad : pad + height, pad : pad + width] = images
    shifted = np.empty_like(images, order="C")
    corners = generator(key).integers(2 * pad + 1, size=(n, 2)).tolist()
    for image, source, (top, left) in zip(shifted, padded, corners, strict=True):
        image[...] = source[top : top + height, left : left + width]
    return shifted


def _check_images(place: str, images: Array) -> None:
    if images.ndim != 4:
        raise ValueError(f"{place}: expected images (n, height, width, channels), got {images.shape}")
