"""What turns stored examples into a net's inputs, and labels into vectors: statistics come from the training part.

A preprocessing is any function of stored examples. These are frozen values, which a trained net's file describes.
"""

import base64
import math
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.settings import Described, check_positive, config
from funcnn.tree import Array

__all__ = ["Preprocess", "one_hot", "rescale", "standardise", "subtract_mean_image", "unit_norm"]

Preprocess = Callable[[Array], Array]


def rescale(divisor: float, *, dtype: DTypeLike = np.float32) -> Preprocess:
    """stored / divisor, as floats: ``rescale(255)`` takes bytes to 0 to 1.

    >>> rescale(255)(np.array([0, 255], np.uint8))
    array([0., 1.], dtype=float32)

    Raises ValueError unless the divisor is positive.
    """
    return _Rescale(divisor, dtype)


def standardise(images: Array, *, dtype: DTypeLike = np.float32) -> Preprocess:
    """(stored - mean) / deviation for each channel, both taken from `images` (n, ..., channels): the training part.

    A channel that never varies is only centred.

    >>> standardise(np.array([[[[0]]], [[[10]]]], np.uint8))(np.array([[[[10]]]], np.uint8)).item()
    1.0

    Raises ValueError for no images.
    """
    _check_images("standardise", images)
    axes = tuple(range(images.ndim - 1))
    size = math.prod(images.shape[:-1])
    mean = images.sum(axis=axes, dtype=np.float64) / size
    # Around the mean, since a difference of large squares is not exact; in slices, to keep the float copies small.
    slices = (images[start : start + 1000] for start in range(0, len(images), 1000))
    squares = np.array([np.square(each - mean).sum(axis=axes) for each in slices])
    deviation = np.sqrt(squares.sum(axis=0) / size)
    deviation[images.min(axis=axes) == images.max(axis=axes)] = 1
    return _Standardise(mean.tolist(), deviation.tolist(), dtype)


def subtract_mean_image(images: Array, *, divisor: float = 255, dtype: DTypeLike = np.float32) -> Preprocess:
    """(stored - mean image) / divisor, the mean at every place taken from `images` (n, ...): the training part.

    >>> preprocess = subtract_mean_image(np.array([[0, 8], [2, 8]], np.uint8), divisor=1)
    >>> preprocess(np.array([[3, 3]], np.uint8))
    array([[ 2., -5.]], dtype=float32)

    Raises ValueError for no images, or unless the divisor is positive.
    """
    _check_images("subtract_mean_image", images)
    mean = images.mean(axis=0, dtype=np.float64).astype("<f4")
    return _SubtractMeanImage(base64.b64encode(mean.tobytes()).decode(), divisor, dtype)


def unit_norm(*, epsilon: float = 1e-12, dtype: DTypeLike = np.float32) -> Preprocess:
    """stored / max(its Euclidean norm, epsilon), for each example: all inputs have length 1, but for those that are 0.

    >>> unit_norm()(np.array([[3, 4], [0, 0]], np.uint8))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)

    Raises ValueError unless epsilon is positive.
    """
    return _UnitNorm(epsilon, dtype)


def one_hot(labels: Array, classes: int, *, dtype: DTypeLike = np.float32) -> Array:
    """Class numbers (n,) -> vectors (n, classes) with a 1 in the class's place.

    >>> one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)

    Raises ValueError for labels that are not integers, or one that is not from 0 to classes - 1.
    """
    if labels.dtype.kind not in "iu":
        raise ValueError(f"one_hot: labels must be integers, got {labels.dtype}. Pass labels.astype(int)")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"one_hot: labels must be from 0 to {classes - 1}, got some from {labels.min()} to {labels.max()}"
        )
    return np.eye(classes, dtype=dtype)[labels]


# --- What they make -------------------------------------------------------------------------------------------


def _check_images(place: str, images: Array) -> None:
    if images.size == 0:
        raise ValueError(f"{place}: expected at least one image to take a mean of, got an array {images.shape}")


def _dtype() -> Any:
    """The field of a dtype, kept by its name: what JSON gives back is then the same."""
    return attrs.field(default="float32", converter=lambda given: np.dtype(given).name)


@config
class _Rescale(Described):
    name: ClassVar[str] = "rescale"
    divisor: float = attrs.field(validator=check_positive)
    dtype: Any = _dtype()

    def __call__(self, stored: Array) -> Array:
        inputs = stored.astype(self.dtype)
        inputs *= 1 / self.divisor
        return inputs


@config
class _Standardise(Described):
    name: ClassVar[str] = "standardise"
    mean: tuple[float, ...] = attrs.field(converter=tuple)
    deviation: tuple[float, ...] = attrs.field(converter=tuple)
    dtype: Any = _dtype()

    def __call__(self, stored: Array) -> Array:
        inputs = stored.astype(self.dtype)
        inputs -= np.array(self.mean, self.dtype)
        inputs *= 1 / np.array(self.deviation, self.dtype)
        return inputs


@config
class _SubtractMeanImage(Described):
    name: ClassVar[str] = "subtract_mean_image"
    mean: str  # its float32 bytes, little-endian, in base 64: thousands of numbers, exactly, in one line of JSON
    divisor: float = attrs.field(default=255.0, validator=check_positive)
    dtype: Any = _dtype()

    def __call__(self, stored: Array) -> Array:
        inputs = stored.astype(self.dtype)
        inputs -= np.frombuffer(base64.b64decode(self.mean), "<f4").reshape(stored.shape[1:])
        inputs *= 1 / self.divisor
        return inputs


@config
class _UnitNorm(Described):
    name: ClassVar[str] = "unit_norm"
    epsilon: float = attrs.field(default=1e-12, validator=check_positive)
    dtype: Any = _dtype()

    def __call__(self, stored: Array) -> Array:
        inputs = stored.astype(self.dtype)
        norms = np.sqrt(np.square(inputs).sum(axis=tuple(range(1, inputs.ndim)), keepdims=True))
        inputs /= np.maximum(norms, self.epsilon)
        return inputs


# What a description's arguments are given to: the statistics themselves, where the functions above take images.
KINDS = (_Rescale, _Standardise, _SubtractMeanImage, _UnitNorm)
