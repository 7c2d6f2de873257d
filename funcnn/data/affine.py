"""Turned, zoomed, shifted and sheared images: one affine map for each image, by bilinear interpolation."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from funcnn.data.augment_settings import Augmentation, in_floats, like, log_uniform, span
from funcnn.settings import check_finite, check_share, config, number, refuse
from funcnn.tree import Array

__all__ = ["random_affine", "random_rotation"]

_PIXELS = 2**15  # in a block of images, about: its arrays stay in cache


def random_rotation(degrees: float, *, fill: float = 0.0) -> Augmentation:
    """Each image turned about its middle by an angle uniform on ±degrees: (n, height, width, channels) -> the same.

    Each pixel is interpolated bilinearly at the place that it comes from; what comes from outside is `fill`.

    >>> from funcnn.keys import Key
    >>> image = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> random_rotation(0)(image, Key(0))[0, ..., 0]
    array([[0., 1., 2.],
           [3., 4., 5.],
           [6., 7., 8.]])

    Raises ValueError unless the degrees are from 0 to 180 and the fill is finite.
    """
    return _RandomRotation(degrees, fill)


def random_affine(
    degrees: float = 0.0,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    shift: float = 0.0,
    shear: float = 0.0,
    fill: float = 0.0,
) -> Augmentation:
    """Each image turned, zoomed, sheared and shifted at once: (n, height, width, channels) -> the same.

    About the image's middle, uniformly drawn: an angle on ±degrees; a factor in the range `scale`, log-uniformly, more
    than 1 to enlarge; an angle on ±shear degrees by which columns lean; shifts on ±shift, a share of the height and of
    the width. Each pixel is interpolated bilinearly at the place that it comes from; what comes from outside is `fill`.

    >>> from funcnn.keys import Key
    >>> random_affine(10, scale=(0.8, 1.2), shift=0.1)(np.ones((2, 8, 8, 3)), Key(0)).shape
    (2, 8, 8, 3)

    Raises ValueError unless the degrees are from 0 to 180, the shear from 0 to 89, the shift from 0 to 1, the scale a
    pair (low, high) of positive numbers, and the fill finite.
    """
    return _RandomAffine(degrees, scale, shift, shear, fill)


# --- What they make -------------------------------------------------------------------------------------------


def _check_angle(instance: Any, attribute: Any, value: float) -> None:
    most = 180 if attribute.name == "degrees" else 89
    check_finite(instance, attribute, value)
    if not 0 <= value <= most:
        refuse(instance.name, attribute.name, f"from 0 to {most}", value)


@config
class _RandomRotation(Augmentation):
    name: ClassVar[str] = "random_rotation"
    degrees: float = number(_check_angle)
    fill: float = number(check_finite, default=0.0)

    def change(self, images: Array, draw: "np.random.Generator") -> Array:
        angles = np.radians(draw.uniform(-self.degrees, self.degrees, len(images)))
        return _mapped(images, _rotations(angles), np.zeros((len(images), 2)), self.fill)


@config
class _RandomAffine(Augmentation):
    name: ClassVar[str] = "random_affine"
    degrees: float = number(_check_angle, default=0.0)
    scale: tuple[float, float] = span((1.0, 1.0))
    shift: float = number(check_share, default=0.0)
    shear: float = number(_check_angle, default=0.0)
    fill: float = number(check_finite, default=0.0)

    def change(self, images: Array, draw: "np.random.Generator") -> Array:
        n = len(images)
        angles = np.radians(draw.uniform(-self.degrees, self.degrees, n))
        factors = log_uniform(draw, self.scale, (n,))
        shears = np.tan(np.radians(draw.uniform(-self.shear, self.shear, n)))
        shifts = draw.uniform(-self.shift, self.shift, (n, 2)) * images.shape[1:3]
        maps = _rotations(angles)
        maps[:, :, 1] -= shears[:, None] * maps[:, :, 0]  # the inverse of what leans
        return _mapped(images, maps / factors[:, None, None], shifts, self.fill)


def _rotations(angles: Array) -> Array:
    """The matrices that turn a place (down, across) back by angles: (n,) -> (n, 2, 2)."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)


def _mapped(images: Array, maps: Array, shifts: Array, fill: float) -> Array:
    """Images of which pixel p, counted from the middle, is that at map · (p - shift) of the image given."""
    n, height, width, _ = images.shape
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    down, across = np.arange(height) - middle[0], np.arange(width) - middle[1]
    changed = np.empty(images.shape, images.dtype)
    each = max(_PIXELS // (height * width), 1)
    for start in range(0, n, each):
        part = slice(start, start + each)
        y = (down - shifts[part, :1])[:, :, None]
        x = (across - shifts[part, 1:])[:, None, :]
        sources = [m[:, 0, None, None] * y + m[:, 1, None, None] * x for m in (maps[part, 0], maps[part, 1])]
        places = [source + centre for source, centre in zip(sources, middle, strict=True)]
        changed[part] = like(images, _interpolated(in_floats(images[part]), places, fill))
    return changed


def _interpolated(images: Array, places: Sequence[Array], fill: float) -> Array:
    """The values at places, down and across, (n, height, width) each, between four pixels; `fill` outside of images."""
    n, height, width, channels = images.shape
    padded = np.full((n, height + 3, width + 3, channels), fill, images.dtype)  # one before, two after: y + 1 is there
    padded[:, 1:-2, 1:-2] = images
    y, x = np.clip(places[0], -1, height) + 1, np.clip(places[1], -1, width) + 1
    top, left = y.astype(np.int64), x.astype(np.int64)
    lower, right = ((each - whole).astype(images.dtype)[..., None] for each, whole in ((y, top), (x, left)))
    pixels = padded.reshape(-1, channels)
    first = (np.arange(n)[:, None, None] * (height + 3) + top) * (width + 3) + left

    def row(at: Array) -> Array:
        """Between the pixels at places and those to the right of them."""
        left_ones: Array = pixels.take(at, axis=0)
        between = pixels.take(at + 1, axis=0)
        between -= left_ones
        between *= right
        between += left_ones
        return between

    above, below = row(first), row(first + (width + 3))
    below -= above
    below *= lower
    below += above
    return below
