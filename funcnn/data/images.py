"""One PNG or JPEG file, read by Pillow into an array of bytes; whatever is wrong with it is said in one kind of error.

A small file can be made to unpack to gigabytes, or to keep a decoder busy for hours. So two things are looked at before
it is decoded: what it will take in memory (`IMAGE` bytes, or `RATIO` times those of the file if that is more), and how
often a progressive JPEG passes over its pixels (`SCANS`).
"""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.data.formats import DataError, open_file
from funcnn.tree import Array

__all__ = ["SUFFIXES", "Size", "check_channels", "check_size", "decode_image", "pillow", "pixels_of", "read_image"]

SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE = 96 * 2**20  # bytes, at _BYTES for a pixel: 25 million pixels in colour
RATIO = 64  # a photograph packs to a tenth or a twentieth
FILE = 256 * 2**20  # bytes
SCANS = 30  # of a progressive JPEG, which has about ten
TARGET = 2**24  # pixels of the size that images are resized to

# What a pixel takes while it is decoded, by the image's mode, times about four until it is a pixel of an array.
_BYTES = {"1": 1, "L": 2, "RGB": 4}

Size = tuple[int, int]


def read_image(path: Path, size: Size | None, channels: int | None) -> Array:
    """A PNG or JPEG file as bytes (height, width, channels), as `funcnn.data.read_class_folders` says.

    With 4 `channels`, what is transparent stays so, and has four; other images are as with None.

    Raises DataError, naming the file, for whatever is damaged, too large, or no such image.
    """
    pillow(path)
    with open_file(path) as (file, stored):
        if stored > FILE:
            raise DataError(f"{path}: {stored:,} bytes; an image's file may have {FILE:,}")
        body = file.read()
    return decode_image(path, body, size, channels)


def decode_image(place: object, body: bytes, size: Size | None = None, channels: int | None = None) -> Array:
    """What is in a PNG or JPEG file, as `read_image` gives it; errors name the place."""
    module = pillow(place)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, palettes, sizes: what counts is checked here
            with module.open(io.BytesIO(body), formats=("PNG", "JPEG")) as image:
                _check_work(place, image, body, channels)
                _mend_key(image, body)
                return pixels_of(image, size, channels)
    except DataError:
        raise
    except module.UnidentifiedImageError as error:
        raise DataError(f"{place}: it is no PNG or JPEG") from error
    except Exception as error:  # damaged bytes lead Pillow to exceptions of nearly every kind
        raise DataError(f"{place}: it is damaged ({type(error).__name__}: {error})") from error


def _check_work(path: object, image: Any, body: bytes, channels: int | None) -> None:
    """Raise DataError for an image that takes too much memory or time to decode, as its headers say."""
    width, height = image.size
    held = width * height * max(_BYTES.get(image.mode, 5), 4 if channels in (3, 4) else 1)
    if held > max(IMAGE, RATIO * len(body)):
        raise DataError(
            f"{path}: {height:,}x{width:,} pixels in {len(body):,} bytes; an image may take {IMAGE:,} bytes of memory, "
            f"or {RATIO} times its file's, and this one takes {held:,}. Save it smaller"
        )
    if image.format != "PNG" and body.count(b"\xff\xda") > SCANS and _scans(body) > SCANS:
        raise DataError(f"{path}: it passes over its pixels {_scans(body)} times; a JPEG may do so {SCANS} times")


def _scans(body: bytes) -> int:
    """How many scans a JPEG has: those two bytes are in thumbnails and other data as well, which are passed over."""
    count, at = 0, 2
    # Of the others, those in a scan stand for a byte or go on with it, and none has a length.
    marker = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd8])")
    while found := marker.search(body, at):
        at = found.end()
        if found[1] == b"\xd9":
            break
        count += found[1] == b"\xda"
        at += int.from_bytes(body[at : at + 2], "big")
    return count


def _mend_key(image: Any, body: bytes) -> None:
    """Bring a PNG's transparent shade to the depth of its pixels, which Pillow has scaled to 8 bits."""
    key, depth = image.info.get("transparency"), body[24] if image.format == "PNG" else 8
    if isinstance(key, int) and image.mode == "L" and depth < 8:
        image.info["transparency"] = key * 255 // (2**depth - 1)
    if isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(each >> 8 for each in key)


def pixels_of(image: Any, size: Size | None, channels: int | None) -> Array:
    """An image of Pillow's as (height, width, channels), the way up that the camera was held, on white."""
    from PIL import Image  # Pillow is there, since it gave the image

    image.load()
    turn = _turn(image)
    if image.mode.startswith("I"):
        image = _of_16_bits(image)
    grey = channels == 1 or (channels in (None, 4) and image.mode in ("1", "L", "LA"))
    if turn is not None:
        image = image.transpose(turn)
    if "transparency" in image.info or image.mode in ("LA", "RGBA"):  # what shows through is white, as on a page
        image = image.convert("RGBA")
        if channels == 4:
            return np.asarray(image if size is None else image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if grey else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[..., None] if grey else pixels


def _turn(image: Any) -> Any:
    """How a photograph is to be turned, by its EXIF data; damage there, or in other entries, is no damage to the image.

    Not by Pillow's `exif_transpose`, which writes all the entries anew and so fails on those that it cannot write.
    """
    try:
        number = image.getexif().get(0x0112)
    except Exception:
        return None
    from PIL.Image import Transpose as To

    entries = (To.FLIP_LEFT_RIGHT, To.ROTATE_180, To.FLIP_TOP_BOTTOM, To.TRANSPOSE, To.ROTATE_270, To.TRANSVERSE,
               To.ROTATE_90)  # fmt: skip
    return entries[number - 2] if isinstance(number, int) and 2 <= number <= 8 else None


def _of_16_bits(image: Any) -> Any:
    """Grey of 16 bits in 8, which Pillow would not scale but cut off at 255; with alpha if a shade is transparent."""
    from PIL import Image

    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    if "transparency" not in image.info:
        return Image.fromarray(grey)
    alpha = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([grey, alpha], axis=-1))


# --- Arguments ------------------------------------------------------------------------------------------------


def check_size(place: str, size: Any) -> Size | None:
    """A size as two ints, or None. Raises ValueError, naming the argument, for anything else."""
    if size is None:
        return None
    if not (isinstance(size, Sequence) and len(size) == 2 and all(_is_whole(each) and each > 0 for each in size)):
        raise ValueError(f"{place}: size must be (height, width), two positive whole numbers, got {size!r}")
    if int(size[0]) * int(size[1]) > TARGET:
        raise ValueError(f"{place}: size must have at most {TARGET:,} pixels, got {size!r}")
    return int(size[0]), int(size[1])


def check_channels(place: str, channels: Any) -> int | None:
    """1, 3 or None. Raises ValueError, naming the argument, for anything else."""
    if channels is not None and not (_is_whole(channels) and channels in (1, 3)):
        raise ValueError(
            f"{place}: channels must be 1 (grey), 3 (red, green, blue) or None (as they are), got {channels!r}"
        )
    return channels if channels is None else int(channels)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def pillow(path: object) -> Any:
    """Pillow. Raises DataError that says how to get it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f'{path}: PNG and JPEG images need Pillow, which is not installed: pip install "funcnn[data]"'
        ) from error
    return Image
