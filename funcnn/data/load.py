"""Data sets by name (digits comes with the package, the others are files, or downloads), and from class folders."""

import difflib
import os
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from funcnn.data.dataset import Dataset, Part, stratified_split
from funcnn.data.find import FILES, LETTERS, files_of
from funcnn.data.folders import class_folders, read_class_folders
from funcnn.data.formats import DataError, as_path, read_cifar10, read_idx
from funcnn.data.handwriting import centred_drawing
from funcnn.data.images import Size, check_channels, check_size
from funcnn.data.preprocess import rescale
from funcnn.data.tiny_imagenet import is_tiny_imagenet, read_tiny_imagenet
from funcnn.keys import Key
from funcnn.settings import is_number

__all__ = ["IMAGE_SETS", "DataError", "load", "load_folder"]

IMAGE_SETS = ("digits", *(name for name in FILES if name != "tinyshakespeare"))

_SPLIT = Key(0)  # fixed: everyone's parts are the same, whatever their run's seed
_HELD_OUT = 5_000  # images of the larger sets' training files that are kept for validation

# How the images of a set were made of drawings, where that is known; what is predicted is made so too.
_PREPARE = {
    "mnist": centred_drawing(28, 20),
    "digits": centred_drawing(32, (32, 20), stroke=(4.5, 6), blocks=4),
}

_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DIGITS = tuple("0123456789")


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by name, in fixed parts; images stay bytes until a batch is taken, then they are floats from 0 to 1.

    ``"digits"`` comes with the package: 8x8x1, 1,797 images, a fifth for the test and a tenth of the rest for
    validation, by class. ``"mnist"``, ``"fashion_mnist"`` (28x28x1) and ``"cifar10"`` (32x32x3) come in their
    official files, with 5,000 training images held out for validation, and ``"notmnist"`` (28x28x1) as class folders A
    to J of PNG files or as two IDX files named as MNIST's test set, split as the digits are.

    Their files are looked for in `data_dir`, and nowhere else if it is given; in the folder that the environment
    variable FUNCNN_DATA names; or below either in a folder of the set's name. If FUNCNN_DATA holds none of them, they
    come from the user's cache, into which they are downloaded once.

    >>> data = load("digits")
    >>> len(data.train), len(data.validation), len(data.test), data.in_shape
    (1294, 144, 359, (8, 8, 1))

    Raises DataError for an unknown name, and for missing or damaged files, and if a download fails.
    """
    if data_dir is not None:
        as_path("load", "data_dir", data_dir)
    if name == "digits":
        return _with_prepare(name, _load_digits())
    if name == "tinyshakespeare":
        raise DataError('tinyshakespeare is a text: load it by load_text("tinyshakespeare", context=64)')
    if isinstance(name, str) and name in IMAGE_SETS:
        paths = files_of("load", name, data_dir)
        source = f"{name} in {os.path.abspath(paths[0].parent)}"
        return _with_prepare(name, attrs.evolve(_load_files(name, paths), source=source))
    near = difflib.get_close_matches(str(name), IMAGE_SETS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"no data set is called {name!r}: {hint}There are {', '.join(map(repr, IMAGE_SETS))}")


def _with_prepare(name: str, data: Dataset) -> Dataset:
    """The set with how its images were made of drawings, if that is known, and its images are of the usual size."""
    prepare: Any = _PREPARE.get(name)
    return attrs.evolve(data, prepare=prepare) if prepare and prepare.out_shape == data.in_shape else data


def load_folder(
    path: str | os.PathLike[str],
    *,
    size: Size | None = None,
    channels: int | None = None,
    test: float | None = 0.2,
    validation: float | None = 0.1,
) -> Dataset:
    """A data set of your own: a folder of class folders of PNG or JPEG images, in fixed parts by class.

    A fraction `test` of each class is kept for the test, and a fraction `validation` of the rest for validation; None
    is for no such part. If there are class folders below ``train``, these are the training part, and those below
    ``test`` and ``validation`` (or ``val``, ``valid``), where there are such, the other parts; capitals make no
    difference. `size` and `channels` are as in `read_class_folders`.

    The folder of Tiny ImageNet is known too (`funcnn.data.tiny_imagenet`): it has no test part.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         for i in range(10):
    ...             Image.new("RGB", (6, 6)).save(f"{folder}/{name}/{i}.png")
    ...     data = load_folder(folder)
    >>> len(data.train), len(data.validation), len(data.test), data.in_shape, data.classes
    (14, 2, 4, (6, 6, 3), ('cat', 'dog'))

    Raises DataError for what `read_class_folders` does, if parts differ in classes, sizes or channels, or are empty;
    ValueError for arguments of no meaning.
    """
    root = as_path("load_folder", "path", path)
    size, channels = check_size("load_folder", size), check_channels("load_folder", channels)
    for argument, share in (("test", test), ("validation", validation)):
        if share is not None and not (is_number(share) and 0 < share < 1):
            raise ValueError(f"load_folder: {argument} must be more than 0 and less than 1, or None, got {share!r}")
    if is_tiny_imagenet(root):
        train, held_out, names = read_tiny_imagenet(root, size=size, channels=channels)
        return Dataset(train, held_out, None, names, train.inputs.shape[1:], os.path.abspath(root))
    parts = {}
    for part, folder in _part_folders(root).items():
        images, labels, classes = read_class_folders(folder, size=size, channels=channels)
        parts[part] = Part(images, labels, rescale(255))
        if part == "train":
            in_shape, known = images.shape[1:], classes
        if classes != known:
            differing = ", ".join(sorted(set(classes) ^ set(known)))
            raise DataError(
                f"{root}: train and {part} need the same class folders; only one of the two has {differing}"
            )
        if images.shape[1:] != in_shape:
            raise DataError(
                f"{root}: the images (height, width, channels) are {in_shape} in train, {images.shape[1:]} in {part}. "
                "Pass size=(height, width) or channels=1 or 3 to make them alike"
            )
    data = _split(
        root, parts["train"], parts.get("validation"), parts.get("test"), known, validation, test, os.path.abspath(root)
    )
    lost = set(range(len(known))) - set(data.train.targets.tolist())
    if lost:
        raise DataError(
            f"{root / known[min(lost)]}: too few images, none of them is left to train on; give it more, or take less "
            "for the test and to validate"
        )
    return data


def _part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part: the root itself is that of the training part, if there are no class folders in train."""
    below = {name.lower(): root / name for name in class_folders(root)}
    if "train" not in below or not class_folders(below["train"]):
        return {"train": root}
    found = {"train": below["train"]}
    for part, names in {"validation": ("validation", "val", "valid"), "test": ("test",)}.items():
        there = [name for name in names if name in below]
        if len(there) > 1:
            raise DataError(
                f"{root}: {' and '.join(there)} are both folders of images to validate on; keep one of them"
            )
        found.update((part, below[name]) for name in there)
    return found


def _load_digits() -> Dataset:
    with resources.as_file(resources.files("funcnn.data") / "digits.npz") as path:
        try:
            with np.load(path) as arrays:
                images, labels = arrays["images"], arrays["labels"]
        except Exception as error:  # of a damaged archive, and of a damaged array in it
            raise DataError(f"{path}: damaged or missing ({error}); install funcnn anew") from error
    return _split("digits", Part(images[..., None], labels, rescale(16)), None, None, _DIGITS, source="digits")


def _split(
    place: str | Path,
    train: Part,
    validation: Part | None,
    test: Part | None,
    classes: tuple[str, ...],
    validation_fraction: float | None = 0.1,
    test_fraction: float | None = 0.2,
    source: str = "",
) -> Dataset:
    """The set; parts that it does not come with are taken from `train`, by class: first the test, then validation."""
    if test is None and test_fraction is not None and len(train):
        rest, held_out = stratified_split(train.targets, test_fraction, _SPLIT)
        train, test = train.select(rest), train.select(held_out)
    if validation is None and validation_fraction is not None and len(train):
        rest, held_out = stratified_split(train.targets, validation_fraction, _SPLIT)
        train, validation = train.select(rest), train.select(held_out)
    if any(part is not None and len(part) == 0 for part in (train, validation, test)):
        raise DataError(f"{place}: too few images: no part may be empty, of those to train, to validate and to test")
    return Dataset(train, validation, test, classes, train.inputs.shape[1:], source)


def _hold_out(name: str, train: Part, test: Part, classes: tuple[str, ...]) -> Dataset:
    """A set that comes with its test part: some of each class of the training part for validation."""
    if len(train) <= _HELD_OUT:
        raise DataError(
            f"{name}: expected more than {_HELD_OUT} training images, of which {_HELD_OUT} are held out to validate, "
            f"got {len(train)}; fetch the whole files"
        )
    return _split(name, train, None, test, classes, _HELD_OUT / len(train))


# --- Files ---------------------------------------------------------------------------------------------------

# Checksums of the test part's labels, which tell these sets apart: their files have the same names.
_LABELS = {
    "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5": "mnist",
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": "fashion_mnist",
}


def _load_files(name: str, paths: list[Path]) -> Dataset:
    if name == "cifar10":
        return _hold_out(name, _cifar_part(paths[:-1]), _cifar_part(paths[-1:]), _OBJECTS)
    if name != "notmnist":
        train, test = _idx_part(*paths[:2]), _idx_part(*paths[2:])
        _check_set(name, paths[3], test)
        if train.inputs.shape[1:] != test.inputs.shape[1:]:
            raise DataError(
                f"{paths[2]}: images {test.inputs.shape[1:]}, those to train on are {train.inputs.shape[1:]}"
            )
        return _hold_out(name, train, test, _DIGITS if name == "mnist" else _CLOTHES)
    if paths[0].is_file():
        part = _idx_part(*paths)
        _check_set(name, paths[1], part)
        return _split(paths[0], part, None, None, LETTERS)
    images, labels, _ = read_class_folders(paths[0].parent, channels=1, classes=LETTERS)
    return _split(paths[0].parent, Part(images, labels, rescale(255)), None, None, LETTERS)


def _idx_part(images_path: Path, labels_path: Path) -> Part:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{images_path}: expected images (n, height, width) and as many labels, got {images.shape} and "
            f"{labels.shape} in {labels_path.name}"
        )
    if 0 in images.shape[1:]:
        raise DataError(f"{images_path}: expected images that have pixels, got {images.shape}")
    if len(labels) and labels.max() >= len(_DIGITS):
        raise DataError(f"{labels_path}: expected labels from 0 to 9, got one of {labels.max()}")
    return Part(images[..., None], labels, rescale(255))


def _check_set(name: str, path: Path, test: Part) -> None:
    """Raise DataError for another set's files of the same names."""
    known = _LABELS.get(sha256(test.targets.tobytes()).hexdigest(), name)
    if known != name:
        raise DataError(f"{path}: these are the files of {known}, not of {name}. Give the folder of {name}'s")


def _cifar_part(paths: list[Path]) -> Part:
    images, labels = zip(*(read_cifar10(path) for path in paths), strict=True)
    return Part(np.concatenate(images), np.concatenate(labels), rescale(255))
