"""What turns stored examples into a net's inputs, and labels into vectors.

A preprocessing is any function of stored examples. Those here are frozen values, which a trained net's file describes;
their statistics come from the training part.
"""

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.layout import unit_rows
from funcnn.checks import as_array
from funcnn.data.stored import Stored, as_stored, blocks
from funcnn.settings import Described, as_tuple, check_positive, config, float_dtype, is_number, number_dtype, refuse
from funcnn.tree import Array

__all__ = ["Preprocess", "one_hot", "rescale", "standardise", "subtract_mean_image", "unit_norm"]

Preprocess = Callable[[Array], Array]
_MOST_BYTES = 2**28  # of one-hot vectors


def rescale(divisor: float, *, dtype: DTypeLike = np.float32) -> Preprocess:
    """stored / divisor, as floats: ``rescale(255)`` takes bytes to 0 to 1.

    >>> rescale(255)(np.array([0, 255], np.uint8))
    array([0., 1.], dtype=float32)

    Raises ValueError unless the divisor is positive.
    """
    return _Rescale(divisor, dtype)


def standardise(images: Array, *, dtype: DTypeLike = np.float32) -> Preprocess:
    """(stored - mean) / deviation for each channel, both taken from `images` (n, ..., channels): the training part.

    A channel that never varies is only centred. Images in a file are read twice, a few at a time.

    >>> standardise(np.array([[[[0]]], [[[10]]]], np.uint8))(np.array([[[[10]]]], np.uint8)).item()
    1.0

    Raises ValueError for no images, or some with values that are not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told below
        mean, deviation = _statistics(_images("standardise", images))
    _check_finite("standardise", deviation)
    return _Standardise(mean.tolist(), deviation.tolist(), dtype)


def _statistics(images: Array | Stored) -> tuple[Array, Array]:
    """Mean and deviation of each channel; the deviation of one that never varies is 1."""
    axes = tuple(range(images.ndim - 1))
    size = math.prod(images.shape[:-1])
    looks = [(each.sum(axes, np.float64), each.min(axes), each.max(axes)) for each in blocks(images)]
    sums, lows, highs = map(np.array, zip(*looks, strict=True))
    mean = sums.sum(axis=0) / size
    # Around the mean, since a difference of large squares is not exact.
    squares = np.array([np.square(each - mean).sum(axis=axes) for each in blocks(images)])
    deviation = np.sqrt(squares.sum(axis=0) / size)
    deviation[lows.min(axis=0) == highs.max(axis=0)] = 1
    return mean, deviation


def subtract_mean_image(images: Array, *, divisor: float = 255, dtype: DTypeLike = np.float32) -> Preprocess:
    """(stored - mean image) / divisor, the mean at every place taken from `images` (n, ...): the training part.

    >>> preprocess = subtract_mean_image(np.array([[0, 8], [2, 8]], np.uint8), divisor=1)
    >>> preprocess(np.array([[3, 3]], np.uint8))
    array([[ 2., -5.]], dtype=float32)

    Raises ValueError for no images, some with values that are not finite, or unless the divisor is positive.
    """
    stored = _images("subtract_mean_image", images)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = (sum(each.sum(axis=0, dtype=np.float64) for each in blocks(stored)) / len(stored)).astype("<f4")
    _check_finite("subtract_mean_image", mean)
    return _SubtractMeanImage(base64.b64encode(mean.tobytes()).decode(), divisor, dtype)


def unit_norm(*, epsilon: float = 1e-12, dtype: DTypeLike = np.float32) -> Preprocess:
    """stored / max(its Euclidean norm, epsilon), for each example: all inputs have length 1, but for those that are 0.

    No square overflows or vanishes, as in `l2_normalize`.

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

    Raises ValueError for labels that are not integers, one that is not from 0 to classes - 1, or vectors of more than
    268 MB.
    """
    labels = as_array("one_hot", "labels", labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"one_hot: labels must be integers, got {labels.dtype}. Pass labels.astype(int)")
    if isinstance(classes, bool) or not isinstance(classes, (int, np.integer)) or classes < 1:
        refuse("one_hot", "classes", "a positive int", classes)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"one_hot: labels must be from 0 to {classes - 1}, got some from {labels.min()} to {labels.max()}"
        )
    made = number_dtype(dtype)
    if made is None:
        refuse("one_hot", "dtype", "a dtype of numbers", dtype)
    size = labels.size * int(classes) * made.itemsize
    if size > _MOST_BYTES:
        raise ValueError(
            f"one_hot: {labels.size:,} vectors of {classes:,} values take {size / 1e6:,.0f} MB, more than "
            f"{_MOST_BYTES / 1e6:.0f}. Pass the class numbers themselves: the losses and metrics take them"
        )
    vectors = np.zeros((*labels.shape, classes), made)
    np.put_along_axis(vectors, labels[..., None], 1, axis=-1)
    return vectors


# --- What they make -------------------------------------------------------------------------------------------


def _images(place: str, given: Any) -> Array | Stored:
    images: Array | Stored = as_stored(place, "images", given)
    if images.ndim < 2 or images.size == 0:
        raise ValueError(f"{place}: expected at least one image to take a mean of, got an array {images.shape}")
    return images


def _check_finite(place: str, statistics: Array) -> None:
    if not np.isfinite(statistics).all():
        raise ValueError(f"{place}: images hold values that are not finite. Look for them: np.isfinite(images)")


def _dtype() -> Any:
    """The field of a dtype of floats, kept by its name: what JSON gives back is then the same."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if float_dtype(value) is None:
            refuse(instance.name, "dtype", "one of floats", value)

    return attrs.field(
        default="float32", converter=lambda given: getattr(float_dtype(given), "name", given), validator=check
    )


class _Kind(Described):
    """Turns stored examples into floats of its dtype; what float16 cannot hold in between is computed in float32."""

    dtype: Any

    def __call__(self, stored: Array) -> Array:
        stored = as_array(self.name, "stored", stored)
        if stored.ndim == 0:
            raise ValueError(f"{self.name}: expected stored examples (n, ...), got a single number")
        return self.change(stored, np.promote_types(self.dtype, np.float32)).astype(self.dtype, copy=False)

    def change(self, stored: Array, wide: Any) -> Array:
        """The inputs, in a dtype wide enough to compute in."""
        raise TypeError(f"{type(self).__name__} does not define change")


@config
class _Rescale(_Kind):
    name: ClassVar[str] = "rescale"
    divisor: float = attrs.field(validator=check_positive)
    dtype: Any = _dtype()

    def change(self, stored: Array, wide: Any) -> Array:
        inputs = stored.astype(wide)
        inputs *= 1 / self.divisor
        return inputs


def _check_statistics(instance: Any, attribute: Any, value: Any) -> None:
    if not (isinstance(value, tuple) and all(is_number(each) and math.isfinite(each) for each in value)):
        refuse(instance.name, attribute.name, "finite numbers", value)


def _check_deviation(instance: Any, attribute: Any, value: Any) -> None:
    if len(value) != len(instance.mean) or not all(each > 0 for each in value):
        refuse(instance.name, "deviation", f"{len(instance.mean)} positive numbers, one for each mean", value)


@config
class _Standardise(_Kind):
    name: ClassVar[str] = "standardise"
    mean: tuple[float, ...] = attrs.field(converter=as_tuple, validator=_check_statistics)
    deviation: tuple[float, ...] = attrs.field(converter=as_tuple, validator=[_check_statistics, _check_deviation])
    dtype: Any = _dtype()

    def change(self, stored: Array, wide: Any) -> Array:
        if stored.shape[-1] != len(self.mean):
            raise ValueError(
                f"standardise: expected examples with {len(self.mean)} channels along the last axis, as it was made "
                f"of, got an array {stored.shape}"
            )
        wide = np.promote_types(wide, stored.dtype)  # float32 has no small differences of large numbers, as of times
        inputs = stored.astype(wide)
        inputs -= np.array(self.mean, wide)
        inputs *= 1 / np.array(self.deviation, wide)
        return inputs


def _check_mean_image(instance: Any, attribute: Any, value: Any) -> None:
    try:
        finite = bool(np.isfinite(_mean_image(value)).all())
    except (TypeError, ValueError, binascii.Error):
        finite = False
    if not finite:
        refuse(instance.name, "mean", "finite float32 numbers in base 64", value)


def _mean_image(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4")


@config
class _SubtractMeanImage(_Kind):
    name: ClassVar[str] = "subtract_mean_image"
    # Its float32 bytes, little-endian, in base 64: thousands of numbers, exactly, in one line of JSON.
    mean: str = attrs.field(validator=_check_mean_image)
    divisor: float = attrs.field(default=255.0, validator=check_positive)
    dtype: Any = _dtype()

    def change(self, stored: Array, wide: Any) -> Array:
        mean = _mean_image(self.mean)
        if math.prod(stored.shape[1:]) != mean.size:
            raise ValueError(
                f"subtract_mean_image: expected examples of {mean.size:,} values, as it was made of, "
                f"got an array {stored.shape}"
            )
        inputs = stored.astype(wide)
        inputs -= mean.reshape(stored.shape[1:])
        inputs *= 1 / self.divisor
        return inputs


@config
class _UnitNorm(_Kind):
    name: ClassVar[str] = "unit_norm"
    epsilon: float = attrs.field(default=1e-12, validator=check_positive)
    dtype: Any = _dtype()

    @np.errstate(under="ignore", over="ignore")
    def change(self, stored: Array, wide: Any) -> Array:
        if stored.dtype.kind == "f":
            wide = np.promote_types(wide, stored.dtype)  # what the dtype asked for cannot hold has a length, too
        rows = stored.astype(wide).reshape(len(stored), math.prod(stored.shape[1:]))
        inputs, norm, largest = unit_rows(rows)
        length = norm.astype(np.float64) * largest
        inputs *= np.minimum(length / self.epsilon, 1)
        return inputs.reshape(stored.shape)


# What is rebuilt from a description: these take the statistics, where the functions above take images.
KINDS = (_Rescale, _Standardise, _SubtractMeanImage, _UnitNorm)
