"""Images in folders: PNG and JPEG files, read into arrays of bytes; a folder for each class."""

import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.checks import FuncnnWarning
from funcnn.data.formats import DataError, as_path, read_idx, reading
from funcnn.data.images import SUFFIXES, Size, check_channels, check_size, pillow, pixels_of, read_image
from funcnn.tree import Array

__all__ = [
    "class_folders", "image_files", "label_dtype", "read_class_folders", "read_files", "read_images", "usual_size",
    "warn_of",
]  # fmt: skip

FOLDER = 16 * 2**30  # bytes that the images of a folder may take, all of them together

_OTHERS = (".avif", ".bmp", ".gif", ".heic", ".jfif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")  # images, not read
_USUAL, _SMALL = 64, 96  # pixels a side
_LOOKED_AT = 20  # images of a folder, for their size
_NO_CLASSES = ("@eaDir", "__MACOSX")  # left by systems beside what is unpacked or shared
_PARTS = ("dev", "eval", "test", "testing", "train", "training", "val", "valid", "validation")


def read_class_folders(
    path: str | os.PathLike[str],
    *,
    size: Size | None = None,
    channels: int | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Array, Array, tuple[str, ...]]:
    """The images of a folder of class folders -> images (n, height, width, channels), labels (n,), the classes' names.

    Classes are sorted by name, or `classes` names those to read, in the order of their labels; a class's images are the
    PNG and JPEG files in its folder, or in the folder ``images`` in that, by name. Images are bytes, labels too up to
    256 classes. Grey images have one channel, others three, what is transparent is white; `channels` (1 or 3) makes all
    grey or all coloured, and ``size=(height, width)`` resizes those of another size. Images that cannot be read are
    left out, with one warning, and so are images of other formats.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("L", (8, 6)).save(f"{folder}/{name}/1.png")
    ...     images, labels, classes = read_class_folders(folder)
    >>> images.shape, labels, classes
    ((2, 6, 8, 1), array([0, 1], dtype=uint8), ('cat', 'dog'))

    Raises DataError if there are no classes, a class has no readable image, the images' sizes or channels differ, or
    they would take more than `FOLDER` bytes; ValueError for arguments of no meaning.
    """
    place = "read_class_folders"
    root = as_path(place, "path", path)
    size, channels = check_size(place, size), check_channels(place, channels)
    names = class_folders(root) if classes is None else _names(place, classes)
    if not names:
        raise DataError(f"{root}: expected a folder of images for each class, such as {root / 'cat'}; there is none")
    if classes is None and all(_is_part(name) for name in names):
        raise DataError(
            f"{root}: expected a folder of images for each class, and found those of parts: {', '.join(names)}. Put "
            f"each class's images in a folder of its own, such as {root / 'train' / 'cat'}, and read all by load_folder"
        )
    found = [image_files(_folder_of_images(root / name)) for name in names]
    of_class = [files for files, _ in found]
    files = [file for each in of_class for file in each]
    labels = np.repeat(np.arange(len(names)), [len(each) for each in of_class])
    images, kept, unreadable = read_files(root, files, size, channels)
    lost = np.setdiff1d(labels, labels[kept])
    if len(lost):
        raise DataError(
            f"{root / names[lost[0]]}: none of its {len(of_class[lost[0]])} images can be read, as PNG or JPEG"
        )
    warn_of(root, unreadable, len(files), [file for _, others in found for file in others])
    return images, labels[kept].astype(label_dtype(len(names))), names


def label_dtype(classes: int) -> type[np.integer[Any]]:
    """The dtype of so many classes' numbers."""
    return np.uint8 if classes <= 256 else np.int64


def _folder_of_images(folder: Path) -> Path:
    """A class's folder, or that of its images in it, where this is all that there is."""
    below = folder / "images"
    with reading(folder):
        if not below.is_dir() or any(each.suffix.lower() in SUFFIXES for each in folder.iterdir()):
            return folder
    return below


def read_images(
    path: str | os.PathLike[str], *, size: Size | None = None, channels: int | None = None
) -> tuple[list[str], Array]:
    """The names and images (n, height, width, channels), as bytes, of a PNG, JPEG or IDX file, or a folder of images.

    `size` and `channels` are as in `read_class_folders`; an image of an IDX file is named by its number.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 6)).save(f"{folder}/cat.jpg")
    ...     names, images = read_images(folder, channels=1)
    >>> names, images.shape
    (['cat.jpg'], (1, 6, 8, 1))

    Raises DataError if there is no such file or folder, no image in it can be read, sizes or channels differ, or the
    images would take more than `FOLDER` bytes; ValueError for arguments of no meaning.
    """
    source = as_path("read_images", "path", path)
    size, channels = check_size("read_images", size), check_channels("read_images", channels)
    with reading(source):
        if not source.exists():
            raise DataError(f"{source}: no such file or folder")
        in_folder = source.is_dir()
        if source.is_file() and source.suffix.lower() not in SUFFIXES:
            return _read_idx_images(source, size, channels)
    if not in_folder:
        return [source.name], read_image(source, size, channels)[None]
    files, others = image_files(source)
    images, kept, unreadable = read_files(source, files, size, channels)
    if not kept:
        raise DataError(
            f"{source}: none of its {len(files)} images can be read, as PNG or JPEG (the first: "
            f"{_reason(*unreadable[0])})"
        )
    warn_of(source, unreadable, len(files), others)
    return [files[i].name for i in kept], images


def usual_size(path: str | os.PathLike[str]) -> Size | None:
    """The size to bring a folder's images to if nobody says one: (64, 64), or None where they are small and alike.

    That is told by the sizes of the first images in each folder below it, at most 96 pixels a side.
    """
    root = as_path("usual_size", "path", path)
    module = pillow(root)
    sizes = set()
    for folder, _, files in os.walk(root):
        for name in sorted(each for each in files if each.lower().endswith(SUFFIXES))[:_LOOKED_AT]:
            with suppress(Exception), module.open(os.path.join(folder, name), formats=("PNG", "JPEG")) as image:
                sizes.add(image.size)
    return None if len(sizes) == 1 and max(*sizes.pop()) <= _SMALL else (_USUAL, _USUAL)


def class_folders(path: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted; none if there is no such folder. Hidden ones do not count."""
    with reading(path):
        found = [each.name for each in path.iterdir() if each.is_dir()] if path.is_dir() else []
    return tuple(sorted(name for name in found if not name.startswith(".") and name not in _NO_CLASSES))


def _names(place: str, classes: Any) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Sequence) and not isinstance(classes, (str, bytes)) else ()
    if not names or len(set(map(str, names))) < len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f'{place}: classes must be names of folders, such as ("cat", "dog"), each once, got {classes!r}'
        )
    for name in names:
        as_path(place, "a name in classes", name)
    return names


def _is_part(name: str) -> bool:
    """Whether a folder's name is one for a part of a set, as train or test1: images that lie in it are of any class."""
    return name.lower().rstrip("0123456789_-") in _PARTS


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """A folder's PNG and JPEG files, sorted, and its images of other formats."""
    with reading(folder):
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        seen = [each for each in found if not each.name.startswith(".")]
        files = [each for each in seen if each.suffix.lower() in SUFFIXES]
        others = [each for each in seen if each.suffix.lower() in _OTHERS]
        if not files:
            below = [each.name for each in seen if each.is_dir()]
            instead = f", but {len(others)} of other formats: convert them" if others else ""
            instead = instead or (f", but folders, such as {below[0]}" if below else "")
            raise DataError(
                f"{folder}: expected images in it, files ending in {', '.join(SUFFIXES)}; there is none{instead}"
            )
    return files, others


def read_files(
    root: Path, files: list[Path], size: Size | None, channels: int | None
) -> tuple[Array, list[int], list[tuple[Path, DataError]]]:
    """The images of the readable files, these files' positions, and the unreadable files with the reasons."""
    pillow(root)
    images = np.empty((len(files), 0, 0, 0), np.uint8)
    kept: list[int] = []
    unreadable = []
    for i, file in enumerate(files):
        try:
            pixels = read_image(file, size, channels)
        except DataError as error:
            unreadable.append((file, error))
            continue
        if not kept:
            images = _room(root, len(files), pixels.shape)
        elif pixels.shape != images.shape[1:]:
            raise DataError(_difference(files[kept[0]], images.shape[1:], file, pixels.shape))
        images[len(kept)] = pixels
        kept.append(i)
    return images[: len(kept)], kept, unreadable


def _room(root: Path, count: int, shape: tuple[int, ...]) -> Array:
    """An array for that many images. Raises DataError if it would be larger than `FOLDER`, or than the memory."""
    height, width, channels = shape
    size = count * height * width * channels
    if size > FOLDER:
        raise DataError(
            f"{root}: {count:,} images of {height}x{width}x{channels} take {size:,} bytes; all of them together may "
            f"take {FOLDER:,}. Pass a smaller size=(height, width)"
        )
    with reading(root):
        return np.empty((count, *shape), np.uint8)


def _read_idx_images(path: Path, size: Size | None, channels: int | None) -> tuple[list[str], Array]:
    if not path.suffix.startswith((".gz", ".idx")) and path.suffix:
        raise DataError(
            f"{path}: expected a folder of images, an image ({', '.join(SUFFIXES)}), or an IDX file (.gz, .idx or no "
            "ending)"
        )
    images = read_idx(path)
    if images.ndim != 3 or images.size == 0:
        raise DataError(f"{path}: expected images (n, height, width), got an array {images.shape}")
    names = [f"{path.name}[{i}]" for i in range(len(images))]
    if channels != 3 and size in (None, images.shape[1:]):
        return names, images[..., None]
    module = pillow(path)
    read = _room(path, len(images), (*(size or images.shape[1:]), channels or 1))
    for i, image in enumerate(images):
        read[i] = pixels_of(module.fromarray(image), size, channels or 1)
    return names, read


def _difference(first: Path, shape: tuple[int, ...], second: Path, other: tuple[int, ...]) -> str:
    if shape[:2] != other[:2]:
        return (
            f"images of different sizes: {first} is {shape[0]}x{shape[1]} (height x width), {second} is "
            f"{other[0]}x{other[1]}. Pass size=({shape[0]}, {shape[1]}), say, to resize them"
        )
    kinds = {1: "grey", 3: "in colour"}
    return (
        f"{first} is {kinds[shape[2]]}, {second} is {kinds[other[2]]}. Pass channels=1 to make all images grey, or "
        "channels=3; on a command line, --channels"
    )


def _reason(file: Path, error: DataError) -> str:
    return str(error).removeprefix(f"{file}: ")


def warn_of(root: Path, unreadable: list[tuple[Path, DataError]], count: int, others: list[Path]) -> None:
    """One warning for all files that are left out, which names the first few."""
    said = []
    if unreadable:
        listed = _first_few(root, [file for file, _ in unreadable])
        said.append(
            f"{len(unreadable)} of {count} images cannot be read and are left out: {listed} "
            f"(the first: {_reason(*unreadable[0])})"
        )
    if others:
        listed = _first_few(root, others)
        said.append(f"{len(others)} of formats other than PNG and JPEG are left out, convert them: {listed}")
    if said:
        warnings.warn(f"{root}: {'; '.join(said)}", FuncnnWarning, stacklevel=3)


def _first_few(root: Path, files: list[Path]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{', '.join(str(file.relative_to(root)) for file in files[:3])}{more}"
