"""Augmentations that mix the examples of a batch and their targets: ``((inputs, targets), key) -> (inputs, targets)``.

A problem names them among its augmentations, ``Problem(..., augment=(flip_horizontally, mixup(0.2, classes=10)))``, and
training knows them by their attribute ``mixes = True``. The targets that come out are distributions (n, classes), which
`softmax_cross_entropy` takes; those that go in are class numbers (n,), or distributions already, as another one of
these has left them. Each example has a share of its own, where the papers' programs draw one for a batch, and a partner
by a permutation of the batch; with shards or workers, of the shard.
"""

from typing import ClassVar

import numpy as np

from funcnn.data.augment_settings import Mixing, check_images, in_floats, like
from funcnn.settings import check_positive, config, count, number
from funcnn.tree import Array

__all__ = ["cutmix", "mixup"]


def mixup(alpha: float = 0.2, *, classes: int) -> Mixing:
    """x' = λ · x + (1 - λ) · x_partner, targets alike, λ drawn from Beta(alpha, alpha) (Zhang et al. 2018).

    inputs (n, ...), targets (n,) or (n, classes) -> inputs (n, ...), targets (n, classes).

    >>> from funcnn.keys import Key
    >>> inputs, targets = mixup(1.0, classes=2)((np.array([[0.0], [1.0]]), np.array([0, 1])), Key(1))
    >>> bool(np.allclose(inputs, targets[:, 1:]))
    True

    Raises ValueError unless alpha is positive and `classes` a positive int; called, for targets that are no class
    numbers below it and no distributions over them.
    """
    return _Mixup(classes, alpha)


def cutmix(alpha: float = 1.0, *, classes: int) -> Mixing:
    """A rectangle of each image is its partner's, the targets mixed by its share of the area (Yun et al. 2019).

    With λ drawn from Beta(alpha, alpha), its sides are sqrt(1 - λ) of the image's, and its centre is any pixel; what is
    outside is cut off, and not counted: images (n, height, width, channels), targets (n,) or (n, classes) -> the same
    images, targets (n, classes).

    >>> from funcnn.keys import Key
    >>> images, targets = cutmix(classes=2)((np.ones((4, 8, 8, 1)), np.array([0, 1, 1, 0])), Key(0))
    >>> targets.shape, bool(np.allclose(targets.sum(axis=1), 1))
    ((4, 2), True)

    Raises ValueError unless alpha is positive and `classes` a positive int; called, for what are no images, or targets
    that are no class numbers below it and no distributions over them.
    """
    return _Cutmix(classes, alpha)


# --- What they make -------------------------------------------------------------------------------------------


@config
class _Mixup(Mixing):
    name: ClassVar[str] = "mixup"
    classes: int = count()
    alpha: float = number(check_positive, default=0.2)

    def mix(self, inputs: Array, others: Array, shares: Array, draw: "np.random.Generator") -> tuple[Array, Array]:
        mixed = in_floats(inputs)
        own = shares.astype(mixed.dtype).reshape(-1, *[1] * (inputs.ndim - 1))
        mixed -= others
        mixed *= own
        mixed += others
        return like(inputs, mixed), shares


@config
class _Cutmix(Mixing):
    name: ClassVar[str] = "cutmix"
    classes: int = count()
    alpha: float = number(check_positive, default=1.0)

    def mix(self, inputs: Array, others: Array, shares: Array, draw: "np.random.Generator") -> tuple[Array, Array]:
        images = check_images(self.name, inputs)
        n, height, width, _ = images.shape
        sizes = np.array([height, width])
        half = np.sqrt(1 - shares)[:, None] * sizes / 2
        centres = draw.random((n, 2)) * sizes
        low = np.clip(np.rint(centres - half), 0, sizes).astype(np.int64)
        high = np.clip(np.rint(centres + half), 0, sizes).astype(np.int64)
        mixed = images.copy()
        for image, other, (top, left), (bottom, right) in zip(mixed, others, low.tolist(), high.tolist(), strict=True):
            image[top:bottom, left:right] = other[top:bottom, left:right]
        return mixed, 1 - np.prod(high - low, axis=1) / max(height * width, 1)
