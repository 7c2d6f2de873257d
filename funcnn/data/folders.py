"""Images in folders: PNG and JPEG files, read by Pillow into arrays of bytes; a folder for each class."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.data.formats import DataError, read_idx
from funcnn.tree import Array

__all__ = ["class_folders", "read_class_folders", "read_images"]

_SUFFIXES = (".png", ".jpg", ".jpeg")

Size = tuple[int, int]


def read_class_folders(
    path: str | os.PathLike[str],
    *,
    size: Size | None = None,
    channels: int | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Array, Array, tuple[str, ...]]:
    """The images of a folder of class folders -> images (n, height, width, channels), labels (n,), the classes' names.

    Classes are sorted by name, or `classes` names those to read, in the order of their labels; a class's images are the
    PNG and JPEG files in its folder, by name. Images are bytes, labels too up to 256 classes. Grey images have one
    channel, others three, what is transparent is white; `channels` (1 or 3) makes all grey or all coloured, and
    ``size=(height, width)`` resizes those of another size. Images that cannot be read are left out, with one warning.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("L", (8, 6)).save(f"{folder}/{name}/1.png")
    ...     images, labels, classes = read_class_folders(folder)
    >>> images.shape, labels, classes
    ((2, 6, 8, 1), array([0, 1], dtype=uint8), ('cat', 'dog'))

    Raises DataError if there are no classes, a class has no readable image, or the images' sizes or channels differ.
    """
    root = Path(path)
    names = class_folders(root) if classes is None else tuple(classes)
    if not names:
        raise DataError(f"{root}: expected a folder of images for each class, such as {root / 'cat'}; there is none")
    of_class = [_image_files(root / name) for name in names]
    files = [file for each in of_class for file in each]
    labels = np.repeat(np.arange(len(names)), [len(each) for each in of_class])
    images, kept, unreadable = _read_files(files, size, channels)
    lost = np.setdiff1d(labels, labels[kept])
    if len(lost):
        raise DataError(f"{root / names[lost[0]]}: none of its {len(of_class[lost[0]])} images can be read")
    _warn(root, unreadable, len(files))
    return images, labels[kept].astype(np.uint8 if len(names) <= 256 else np.int64), names


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

    Raises DataError if there is no such file or folder, no image in it can be read, or sizes or channels differ.
    """
    source = Path(path)
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file() and source.suffix.lower() not in _SUFFIXES:
        return _read_idx_images(source, size, channels)
    files = _image_files(source) if source.is_dir() else [source]
    images, kept, unreadable = _read_files(files, size, channels)
    if not kept:
        whole = f"none of its {len(files)} images can be read" if source.is_dir() else "it cannot be read"
        raise DataError(f"{source}: {whole}, as PNG or JPEG")
    _warn(source, unreadable, len(files))
    return [files[i].name for i in kept], images


def class_folders(path: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted; none if there is no such folder. Hidden ones do not count."""
    if not path.is_dir():
        return ()
    return tuple(sorted(each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")))


def _image_files(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    files = [each for each in found if each.suffix.lower() in _SUFFIXES and not each.name.startswith(".")]
    if not files:
        raise DataError(f"{folder}: expected images in it, files ending in {', '.join(_SUFFIXES)}; there is none")
    return sorted(files)


def _read_files(files: list[Path], size: Size | None, channels: int | None) -> tuple[Array, list[int], list[Path]]:
    """The images of those files that can be read, these files' positions, and the files that cannot be read."""
    _check(size, channels)
    image_module = _pillow(files[0])
    images = np.empty((len(files), 0, 0, 0), np.uint8)
    kept: list[int] = []
    unreadable = []
    for i, file in enumerate(files):
        try:
            with image_module.open(file, formats=("PNG", "JPEG")) as opened:
                pixels = _pixels(opened, size, channels)
        # What Pillow raises for damaged files, found by damaging some: broken chunks are syntax errors.
        except (OSError, SyntaxError, ValueError, EOFError, image_module.DecompressionBombError):
            unreadable.append(file)
            continue
        if not kept:
            images = np.empty((len(files), *pixels.shape), np.uint8)
        elif pixels.shape != images.shape[1:]:
            raise DataError(_difference(files[kept[0]], images.shape[1:], file, pixels.shape))
        images[len(kept)] = pixels
        kept.append(i)
    return images[: len(kept)], kept, unreadable


def _pixels(image: Any, size: Size | None, channels: int | None) -> Array:
    """An image of Pillow's as (height, width, channels)."""
    from PIL import Image, ImageOps  # there is one, since there is an image

    if image.mode.startswith("I"):  # grey in 16 bits, which Pillow would not scale but cut off at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    grey = channels == 1 or (channels is None and image.mode in ("1", "L", "LA"))
    image = ImageOps.exif_transpose(image)  # as the camera was held
    if "transparency" in image.info or image.mode in ("LA", "RGBA"):  # what shows through is white, as on a page
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if grey else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[..., None] if grey else pixels


def _read_idx_images(path: Path, size: Size | None, channels: int | None) -> tuple[list[str], Array]:
    _check(size, channels)
    if not path.suffix.startswith((".gz", ".idx")) and path.suffix:
        raise DataError(
            f"{path}: expected a folder of images, an image ({', '.join(_SUFFIXES)}), or an IDX file (.gz, .idx or no "
            "ending)"
        )
    images = read_idx(path)
    if images.ndim != 3 or len(images) == 0:
        raise DataError(f"{path}: expected images (n, height, width), got an array {images.shape}")
    names = [f"{path.name}[{i}]" for i in range(len(images))]
    if channels == 3 or size not in (None, images.shape[1:]):
        image_module = _pillow(path)
        return names, np.stack([_pixels(image_module.fromarray(image), size, channels or 1) for image in images])
    return names, images[..., None]


def _check(size: Size | None, channels: int | None) -> None:
    if size is not None and not (
        isinstance(size, Sequence) and len(size) == 2 and all(isinstance(each, int) and each > 0 for each in size)
    ):
        raise ValueError(f"size must be (height, width), two positive whole numbers, got {size!r}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (red, green, blue) or None (as they are), got {channels!r}")


def _pillow(path: Path | None = None) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f'{path}: PNG and JPEG images need Pillow, which is not installed: pip install "funcnn[data]"'
        ) from error
    return Image


def _difference(first: Path, shape: tuple[int, ...], second: Path, other: tuple[int, ...]) -> str:
    if shape[:2] != other[:2]:
        return (
            f"images of different sizes: {first} is {shape[0]}x{shape[1]} (height x width), {second} is "
            f"{other[0]}x{other[1]}. Pass size=({shape[0]}, {shape[1]}), say, to resize them"
        )
    kinds = {1: "grey", 3: "in colour"}
    return (
        f"{first} is {kinds[shape[2]]}, {second} is {kinds[other[2]]}. Pass channels=1 to make all images grey, or "
        "channels=3"
    )


def _warn(root: Path, unreadable: list[Path], count: int) -> None:
    """One warning for them all, which names the first few."""
    if unreadable:
        names = ", ".join(str(file.relative_to(root)) for file in unreadable[:3])
        more = f" and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        warnings.warn(
            f"{root}: {len(unreadable)} of {count} images cannot be read and are left out: {names}{more}", stacklevel=3
        )
