"""Where the files of a data set are: in the folder that is given, or that of the environment, or the cache."""

import os
from pathlib import Path

from funcnn.data.download import fetch
from funcnn.data.formats import DataError, as_path, reading

__all__ = ["FILES", "LETTERS", "files_of"]

LETTERS = tuple("ABCDEFGHIJ")
_IDX_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_IDX_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FILES: dict[str, tuple[tuple[str, ...], ...]] = {  # the files of a set, in each form that it comes in
    "mnist": ((*_IDX_TRAIN, *_IDX_TEST),),
    "fashion_mnist": ((*_IDX_TRAIN, *_IDX_TEST),),
    "cifar10": ((*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),),
    "notmnist": (_IDX_TEST, tuple(f"{letter}/" for letter in LETTERS)),
    "tinyshakespeare": (("input.txt",),),
}
_FOLDERS = {  # where they are looked for, below the folder that is given
    "mnist": ("mnist",),
    "fashion_mnist": ("fashion_mnist", "fashion-mnist"),
    "cifar10": ("cifar10", "cifar10/cifar-10-batches-bin", "cifar-10-batches-bin"),
    "notmnist": ("notmnist", "notmnist/notMNIST_small", "notMNIST_small"),
    "tinyshakespeare": ("tinyshakespeare",),
}


def files_of(place: str, name: str, data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """The paths of a set's files, in the order of `FILES`; downloads them if no folder with them is given.

    Raises DataError if they are not in `data_dir`, some of them are missing, or the download fails.
    """
    if data_dir is not None:
        folder = as_path(place, "data_dir", data_dir)
        if found := _find(name, folder):
            return found
        wanted = " or ".join(files[0] for files in FILES[name])
        raise DataError(
            f"{name}: no {wanted} in {folder}, nor below it in {', '.join(_FOLDERS[name])}. Put the files there, or "
            "leave out data_dir (--data-dir) to have them downloaded"
        )
    named = os.environ.get("FUNCNN_DATA")
    if named and (found := _find(name, as_path(place, "FUNCNN_DATA", named))):
        return found
    cache = fetch(name)
    if found := _find(name, cache):
        return found
    raise DataError(f"{name}: its files in the cache are gone from {cache}: remove this folder, and load it again")


def _find(name: str, root: Path) -> list[Path]:
    """The paths of a set's files, each as it is or with .gz, all in one folder; none if there are none."""
    for folder in (root / below for below in (*_FOLDERS[name], ".")):
        for files in FILES[name]:
            with reading(folder):
                found = {file: path for file in files if (path := _file(folder, file))}
            if len(found) == len(files):
                return list(found.values())
            if found:
                missing = ", ".join(file for file in files if file not in found)
                raise DataError(f"{name}: the folder {folder} lacks {missing}: put them there, or remove the others")
    return []


def _file(folder: Path, file: str) -> Path | None:
    """A set's file, by the names that it has on the web and that unpackers give it; a folder if the name ends in /."""
    if file.endswith("/"):
        return folder / file if (folder / file).is_dir() else None
    names = [file, file.replace("-idx", ".idx")]  # train-images-idx3-ubyte, train-images.idx3-ubyte
    places = (folder / name for each in names for name in (each, f"{each}.gz", f"{each}/{each}"))
    return next((path for path in places if path.is_file()), None)
