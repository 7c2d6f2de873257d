"""What the settings of augmentations share: their base, the check of images, and dtypes that stay."""

from typing import Any, ClassVar

import attrs
import numpy as np

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.checks import as_array, check_labels
from funcnn.keys import Key, generator
from funcnn.losses.checks import check_distributions
from funcnn.settings import Described, as_tuple, is_number, refuse, shown
from funcnn.tree import Array

__all__ = ["Augmentation", "Mixing", "check_images", "in_floats", "like", "log_uniform", "span"]


class Augmentation(Described):
    """The base of augmentations with settings: a subclass made by `config` says how it changes images."""

    @underflow_is_zero
    def __call__(self, images: Array, key: Key) -> Array:
        """New images of the same shape and dtype; raises ValueError for what are none."""
        images = check_images(self.name, images)
        return self.change(images, generator(key)) if images.size else images.copy()

    def change(self, images: Array, draw: "np.random.Generator") -> Array:
        """The images changed, at least one; what is given is not written to."""
        raise TypeError(f"{type(self).__name__} does not define change")


class Mixing(Described):
    """The base of what mixes: a subclass made by `config` says how inputs are mixed, and by what shares."""

    mixes: ClassVar[bool] = True
    alpha: float
    classes: int

    @underflow_is_zero
    def __call__(self, batch: tuple[Array, Array], key: Key) -> tuple[Array, Array]:
        """The batch mixed; raises ValueError for what is none."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(f"{self.name}: expected a batch (inputs, targets), got {shown(batch)}")
        inputs = as_array(self.name, "inputs", batch[0])
        if inputs.ndim == 0:
            raise ValueError(f"{self.name}: expected inputs (n, ...), got a single number")
        targets = self._distributions(len(inputs), batch[1], inputs.dtype)
        draw = generator(key)
        partners = draw.permutation(len(inputs))
        shares = draw.beta(self.alpha, self.alpha, len(inputs))  # of each example's own
        mixed, shares = self.mix(inputs, inputs[partners], shares, draw)
        own = shares.astype(targets.dtype)[:, None]
        return mixed, own * targets + (1 - own) * targets[partners]

    def mix(self, inputs: Array, others: Array, shares: Array, draw: "np.random.Generator") -> tuple[Array, Array]:
        """Inputs mixed with others by about the shares (n,) that are drawn, and the shares that are their own then."""
        raise TypeError(f"{type(self).__name__} does not define mix")

    def _distributions(self, n: int, given: Any, dtype: Any) -> Array:
        targets = as_array(self.name, "targets", given)
        made = dtype if dtype.kind == "f" else np.dtype(np.float32)
        if targets.shape == (n, self.classes):
            fix = "Pass class numbers (n,), or rows that add to 1"
            if n:
                check_distributions(self.name, targets, fix)
            return targets.astype(made)
        vectors = np.zeros((n, self.classes), made)
        if n:
            check_labels(self.name, targets, n, self.classes)
            vectors[np.arange(n), targets] = 1
        return vectors


def check_images(place: str, given: Any) -> Array:
    """Images as an array; raises ValueError for what are none."""
    images = as_array(place, "images", given)
    if images.ndim != 4:
        advice = {2: ". Pass images[None, ..., None]", 3: ". Pass images[..., None], or images[None] for one image"}
        raise ValueError(
            f"{place}: expected images (n, height, width, channels), got {images.shape}{advice.get(images.ndim, '')}"
        )
    return images


def in_floats(images: Array) -> Array:
    """A copy to compute in: float32, or what is wider."""
    return images.astype(np.promote_types(images.dtype, np.float32), order="C")  # products and sums have one order


def like(images: Array, changed: Array) -> Array:
    """What was made of images in their dtype: whole numbers are rounded, and end where it ends.

    >>> like(np.zeros(1, np.uint8), np.array([-3.0, 1.7, 300.0]))
    array([  0,   2, 255], dtype=uint8)
    """
    if images.dtype.kind in "iu":
        limits = np.iinfo(images.dtype)
        changed = np.clip(np.rint(changed), limits.min, limits.max)
    elif images.dtype.kind == "b":
        changed = changed >= 0.5
    return changed.astype(images.dtype, copy=False)


def log_uniform(draw: "np.random.Generator", limits: tuple[float, float], shape: tuple[int, ...]) -> Array:
    """Draws whose logarithm is uniform between those of two limits."""
    low, high = np.log(limits).tolist()
    return np.exp(draw.uniform(low, high, shape))


def span(default: tuple[float, float], *, most: float = np.inf) -> Any:
    """The field of a range (low, high): two positive numbers, none more than `most`."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        pair = isinstance(value, tuple) and len(value) == 2 and all(map(is_number, value))
        if not pair or not 0 < value[0] <= value[1] < np.inf or value[1] > most:
            most_of_it = f" and at most {most:g}" if most < np.inf else ""
            refuse(instance.name, attribute.name, f"a pair (low, high) of positive numbers{most_of_it}", value)

    return attrs.field(default=default, converter=as_tuple, validator=check)
