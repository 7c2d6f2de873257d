"""Data sets by name: digits comes with the package, the others are read from a folder."""

import difflib
import os
from importlib import resources
from pathlib import Path

import numpy as np

from funcnn.data.dataset import Dataset, Part, Preprocess, rescale, stratified_split
from funcnn.data.formats import DataError, read_cifar10, read_idx
from funcnn.keys import Key
from funcnn.layer import Array

__all__ = ["DataError", "load"]

_SPLIT = Key(0)  # fixed: everyone's parts are the same, whatever their run's seed
_HELD_OUT = 5_000  # images of the larger sets' training files that are kept for validation

_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DIGITS = tuple("0123456789")


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by name, in fixed parts, its images as bytes until a batch is taken (then floats, 0 to 1).

    ``"digits"`` comes with the package: 8x8x1, 1,797 images, a fifth for the test and a tenth of the rest for
    validation, by class. ``"mnist"``, ``"fashion_mnist"`` (28x28x1) and ``"cifar10"`` (32x32x3) come in their
    official files, with 5,000 training images held out for validation, and ``"notmnist"`` (28x28x1) in two IDX
    files named as MNIST's test set, split as the digits are. Their files are looked for in `data_dir`, or else in
    the folder that the environment variable FUNCNN_DATA names, or below either in a folder of the set's name.

    >>> data = load("digits")
    >>> len(data.train), len(data.validation), len(data.test), data.in_shape
    (1294, 144, 359, (8, 8, 1))

    Raises DataError for an unknown name, and for missing or damaged files.
    """
    if name == "digits":
        return _load_digits()
    if name in ("mnist", "fashion_mnist", "notmnist"):
        return _load_idx(name, data_dir)
    if name == "cifar10":
        return _load_cifar10(data_dir)
    names = ("digits", "mnist", "fashion_mnist", "cifar10", "notmnist")
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"no data set is called {name!r}: {hint}There are {', '.join(map(repr, names))}")


def _load_digits() -> Dataset:
    with resources.as_file(resources.files("funcnn.data") / "digits.npz") as path, np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return _split_whole(images[..., None], labels, _DIGITS, rescale(16))


def _split_whole(images: Array, labels: Array, classes: tuple[str, ...], preprocess: Preprocess) -> Dataset:
    """A set that comes in one piece: a fifth of each class for the test, a tenth of the rest for validation."""
    rest, test = stratified_split(labels, 0.2, _SPLIT)
    train, validation = stratified_split(labels[rest], 0.1, _SPLIT)
    whole = Part(images, labels, preprocess)
    parts = whole.select(rest[train]), whole.select(rest[validation]), whole.select(test)
    return Dataset(*parts, classes, images.shape[1:])


def _hold_out(name: str, train: Part, test: Part, classes: tuple[str, ...]) -> Dataset:
    """A set that comes with its test part: some of each class of the training part for validation."""
    if len(train) <= _HELD_OUT:
        raise DataError(
            f"{name}: expected more than {_HELD_OUT} training images, of which {_HELD_OUT} are held out to validate, "
            f"got {len(train)}; fetch the whole files"
        )
    rest, validation = stratified_split(train.targets, _HELD_OUT / len(train), _SPLIT)
    return Dataset(train.select(rest), train.select(validation), test, classes, train.inputs.shape[1:])


# --- Files ----------------------------------------------------------------------------------------------------

_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CIFAR_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def _find(name: str, files: tuple[str, ...], data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """The paths of a set's files, each as it is or with .gz, all in one folder."""
    root = data_dir if data_dir is not None else os.environ.get("FUNCNN_DATA")
    if root is None:
        raise DataError(
            f"{name}: its files come in a folder of yours, and none was named. Put {', '.join(files)} in a folder, "
            "and pass it as data_dir (--data-dir) or in the environment variable FUNCNN_DATA"
        )
    folders = [Path(root) / below for below in (name, name.replace("_", "-"), "cifar-10-batches-bin", ".")]
    for folder in folders:
        found = [next((p for p in (folder / file, folder / f"{file}.gz") if p.is_file()), None) for file in files]
        if all(found):
            return [path for path in found if path is not None]
        if any(found):
            missing = [file for file, path in zip(files, found, strict=True) if path is None]
            raise DataError(f"{name}: the folder {folder} lacks {', '.join(missing)}")
    raise DataError(f"{name}: no {files[0]} (nor {files[0]}.gz) in {root}, nor below it in {name}")


def _load_idx(name: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    if name == "notmnist":
        part = _idx_part(*_find(name, _IDX_FILES["test"], data_dir))
        return _split_whole(part.inputs, part.targets, tuple("ABCDEFGHIJ"), rescale(255))
    paths = _find(name, _IDX_FILES["train"] + _IDX_FILES["test"], data_dir)
    return _hold_out(name, _idx_part(*paths[:2]), _idx_part(*paths[2:]), _DIGITS if name == "mnist" else _CLOTHES)


def _idx_part(images_path: Path, labels_path: Path) -> Part:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{images_path}: expected images (n, height, width) and as many labels, got {images.shape} and "
            f"{labels.shape} in {labels_path.name}"
        )
    return Part(images[..., None], labels, rescale(255))


def _load_cifar10(data_dir: str | os.PathLike[str] | None) -> Dataset:
    *train, test = (read_cifar10(path) for path in _find("cifar10", _CIFAR_FILES, data_dir))
    images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    return _hold_out("cifar10", Part(images, labels, rescale(255)), Part(*test, rescale(255)), _OBJECTS)
