"""Classes of raw images, as people have them: prepared as the training data were, and doubted where unlike them.

What the script, the command and the page call.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import numpy as np

from funcnn.data import DataError
from funcnn.data.folders import image_files, read_images, warn_of
from funcnn.data.formats import as_path, reading
from funcnn.data.handwriting import NothingDrawn
from funcnn.data.images import SUFFIXES, pillow, pixels_of, read_image
from funcnn.layers import softmax
from funcnn.model_file import Trained, logits_of
from funcnn.settings import refuse
from funcnn.train import NonFiniteError
from funcnn.tree import Array

__all__ = ["NothingDrawn", "Prediction", "check_classifies", "predict_images", "prepared", "raw_images"]

LARGEST = 2**24  # pixels of an image that a model takes
UNLIKE = "it is unlike what the net was trained on"


@attrs.frozen(eq=False)
class Prediction:
    """What a net sees in one image.

    `name` is the likeliest class and `probabilities` (classes,) are those of all, `stored` the image as the net is
    given it, of `in_shape`; where nothing is drawn, these are "", None and None. `warning` says why to doubt it, "" if
    nothing speaks against it.
    """

    name: str
    probabilities: Array | None
    stored: Array | None
    warning: str


def prepared(trained: Trained, image: Array) -> tuple[Array, str]:
    """A raw image (height, width, 1 to 4 channels) of bytes -> one of `in_shape`, as stored, and what is odd about it.

    A net with `prepare` gets it as that makes it, any other net resized, in its channels, what is transparent white.

    >>> from funcnn.model_file import load_trained
    >>> from funcnn.trained import model_path
    >>> page = np.full((90, 60, 1), 250, np.uint8)
    >>> page[20:60, 30:35] = 40
    >>> stored, odd = prepared(load_trained(model_path("mnist_cnn")), page)
    >>> stored.shape, odd
    ((28, 28, 1), '')

    Raises NothingDrawn (a DataError) for an image without a drawing where one is asked for, ValueError for what is no
    such image, or for a net that takes none.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4) or image.size == 0:
        refuse("prepared", "image", "bytes (height, width, channels), of 1 to 4 channels", image)
    check_classifies(trained)
    height, width, channels = trained.in_shape
    if trained.prepare is None:
        if image.shape == trained.in_shape:
            return image, ""
        whole = pillow("prepared").fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
        return pixels_of(whole, (height, width), channels), ""
    examined = getattr(trained.prepare, "examined", None)
    stored, odd = examined(image) if examined else (trained.prepare(image), "")
    stored = np.asarray(stored)
    if stored.shape != trained.in_shape:
        raise ValueError(f"prepared: prepare gave an image {stored.shape}, and the net takes {trained.in_shape}")
    return stored, odd


def predict_images(trained: Trained, images: Iterable[Array], *, batch_size: int = 256) -> list[Prediction]:
    """A prediction for each raw image (height, width, channels) of bytes, of any size.

    An image in which nothing is drawn gets no class, and one that is unlike what the net was trained on a warning: if
    its preparation finds it odd, or no logit reaches `familiar_logit`.

    >>> from funcnn.model_file import load_trained
    >>> from funcnn.trained import model_path
    >>> page = np.full((90, 60, 1), 250, np.uint8)
    >>> blank = page.copy()
    >>> page[20:60, 30:35] = 40
    >>> one, none = predict_images(load_trained(model_path("mnist_cnn")), [page, blank])
    >>> one.name, one.warning, none.name, none.warning
    ('1', '', '', 'there is nothing drawn on it: no ink stands out of the paper')

    Raises ValueError for what are no such images, or a net that tells none apart; NonFiniteError if it gives NaN.
    """
    found: list[tuple[Array | None, str]] = []
    for image in images:
        try:
            found.append(prepared(trained, image))
        except NothingDrawn as error:
            found.append((None, str(error)))
    drawn = [stored for stored, _ in found if stored is not None]
    if not drawn:
        return [Prediction("", None, None, odd) for _, odd in found]
    logits = logits_of(trained, np.stack(drawn), batch_size=batch_size)
    if not np.isfinite(logits).all():
        raise NonFiniteError("the net gives NaN or infinity where a class's logit should be: its parameters are no use")
    shares = iter(zip(logits, softmax().apply(None, None, logits).y, strict=True))
    return [
        Prediction("", None, None, odd) if stored is None else _prediction(trained, stored, odd, *next(shares))
        for stored, odd in found
    ]


def _prediction(trained: Trained, stored: Array, odd: str, logits: Array, shares: Array) -> Prediction:
    least = trained.familiar_logit
    if not odd and least is not None and logits.max() < least:
        odd = f"{UNLIKE}: its largest logit is {logits.max():.1f}, and nearly all images like those reach {least:.1f}"
    return Prediction(trained.classes[int(shares.argmax())], shares, stored, odd)


def check_classifies(trained: Trained) -> None:
    """Raise ValueError unless a net tells images apart: takes one of grey or three colours, and names its outputs."""
    shape = trained.in_shape
    if len(shape) != 3 or shape[2] not in (1, 3) or not 0 < shape[0] * shape[1] <= LARGEST:
        raise ValueError(f"it takes examples {shape}, which are no images (height, width, 1 or 3)")
    outputs = trained.net.config.out_shape(shape)
    if not trained.classes or outputs != (len(trained.classes),):
        raise ValueError(
            f"it gives outputs {outputs} and names {len(trained.classes)} classes, and tells no images apart"
        )


def raw_images(path: str | os.PathLike[str]) -> Iterator[tuple[str, Array]]:
    """Name and raw image (height, width, channels) of a PNG, JPEG or IDX file, or of each in a folder, one at a time.

    What is transparent stays so, in four channels. Images of a folder that cannot be read are left out, with a warning
    at the end. Raises DataError if there is none, and as `funcnn.data.read_images`.
    """
    source = as_path("raw_images", "path", path)
    with reading(source):
        in_folder = source.is_dir()
    if not in_folder:
        yield from _of_file(source)
        return
    files, others = image_files(source)
    unreadable: list[tuple[Path, DataError]] = []
    for file in files:
        try:
            image = read_image(file, None, 4)
        except DataError as error:
            unreadable.append((file, error))
            continue
        yield file.name, image
    if len(unreadable) == len(files):
        raise DataError(
            f"{source}: none of its {len(files)} images can be read, as PNG or JPEG (the first: {unreadable[0][1]})"
        )
    warn_of(source, unreadable, len(files), others)


def _of_file(path: Path) -> Iterator[tuple[str, Array]]:
    if path.suffix.lower() in SUFFIXES:
        with reading(path):
            is_file = path.exists()
        if not is_file:
            raise DataError(f"{path}: no such file or folder")
        yield path.name, read_image(path, None, 4)
    else:
        yield from zip(*read_images(path), strict=True)
