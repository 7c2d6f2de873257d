"""Tiny ImageNet as it is unpacked: 200 classes of 64x64 images, 500 each to train on and 50 to validate on.

train/n01443537/images/n01443537_0.JPEG ...     a folder for each class, by WordNet's number
val/images/val_0.JPEG ...                       all of them in one folder, with a table of their classes:
val/val_annotations.txt                         file, class and box, with tabs between them
words.txt                                       what WordNet's numbers stand for
test/images/test_0.JPEG ...                     without labels: they make no part
"""

from pathlib import Path

import numpy as np

from funcnn.data.folders import label_dtype, read_class_folders, read_files, warn_of
from funcnn.data.formats import DataError, open_file, reading
from funcnn.data.images import Size
from funcnn.data.part import Part
from funcnn.data.preprocess import rescale
from funcnn.system.text import cut

__all__ = ["is_tiny_imagenet", "read_tiny_imagenet"]

_TABLE = Path("val", "val_annotations.txt")


def is_tiny_imagenet(root: Path) -> bool:
    """Whether a folder is laid out as Tiny ImageNet is."""
    with reading(root):
        return (root / _TABLE).is_file() and (root / "train").is_dir()


def read_tiny_imagenet(root: Path, *, size: Size | None, channels: int | None) -> tuple[Part, Part, tuple[str, ...]]:
    """The part to train on, the part to validate on, and the classes' names; all in colour unless told otherwise.

    Raises DataError for a line of the table that names no image or no class, and what `read_class_folders` does.
    """
    channels = channels or 3  # some of the images are stored as grey ones
    images, labels, numbers = read_class_folders(root / "train", size=size, channels=channels)
    train = Part(images, labels, rescale(255))
    files, labels = _table(root / _TABLE, numbers)
    images, kept, unreadable = read_files(root / _TABLE, files, size, channels)
    if not kept:
        raise DataError(f"{root / _TABLE}: none of its {len(files)} images can be read, as PNG or JPEG")
    warn_of(root, unreadable, len(files), [])
    if images.shape[1:] != train.inputs.shape[1:]:
        raise DataError(
            f"{root}: the images are {train.inputs.shape[1:]} in train, {images.shape[1:]} in val. Pass "
            "size=(height, width) to make them alike"
        )
    return train, Part(images, labels[kept], rescale(255)), _names(root / "words.txt", numbers)


def _lines(path: Path) -> list[list[str]]:
    """The lines of a file that are not empty, each by its tabs."""
    with open_file(path) as (file, _):
        text = file.read().decode("utf-8", "replace")
    return [line.split("\t") for line in text.splitlines() if line.strip()]


def _table(path: Path, numbers: tuple[str, ...]) -> tuple[list[Path], np.ndarray]:
    """The validation images' files and labels."""
    number_of = {name: i for i, name in enumerate(numbers)}
    files, labels = [], []
    for name, *rest in _lines(path):
        if not rest or rest[0] not in number_of or Path(name).name != name:
            raise DataError(f"{path}: expected an image's file, a tab and a class of train, got {cut(name, 100)!r}")
        files.append(path.parent / "images" / name)
        labels.append(number_of[rest[0]])
    return files, np.array(labels, label_dtype(len(numbers)))


def _names(path: Path, numbers: tuple[str, ...]) -> tuple[str, ...]:
    """The first of each class's words; all of them where two classes have the same, its number where there are none."""
    words = {line[0]: line[1] for line in _lines(path) if len(line) > 1} if path.is_file() else {}
    names = [words.get(number, number) for number in numbers]
    short = [name.partition(",")[0] for name in names]
    return tuple(one if short.count(one) == 1 else name for one, name in zip(short, names, strict=True))
