"""A request's body as the raw image that is in it."""

import base64
import binascii
import io
import json
import warnings
from typing import Any

import numpy as np

from funcnn.data import DataError
from funcnn.data.images import decode_image, pillow
from funcnn.tree import Array
from funcnn.web.limits import PIXELS, Refused

__all__ = ["IMAGE_TYPES", "JSON_TYPE", "image_of"]

IMAGE_TYPES = ("image/png", "image/jpeg")
JSON_TYPE = "application/json"
_TOO_LARGE = f"too many pixels; there may be {PIXELS:,}. Send a smaller one"


def image_of(content_type: str, body: bytes) -> Array:
    """The image (height, width, 1, 3 or 4 channels) as bytes, of a PNG or JPEG file or of JSON with one.

    >>> image_of("application/json", b'{"pixels": [[0, 128], [255, 0]]}')[..., 0]
    array([[  0, 128],
           [255,   0]], dtype=uint8)

    Raises Refused: 400 for what is damaged, 413 for an image that is too large, 415 for what is no image, 422 for JSON
    that holds something else.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in IMAGE_TYPES:
        return _decoded(body)
    if kind != JSON_TYPE:
        raise Refused(
            415, f"expected a body of type {', '.join(IMAGE_TYPES)} or {JSON_TYPE}, got {kind or 'no content type'!r}"
        )
    return _of_json(_parsed(body))


def _decoded(file: bytes) -> Array:
    try:
        module = pillow("the image")
    except DataError as error:
        raise Refused(500, str(error)) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes: they are checked here
            with module.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
                width, height = image.size
    except module.DecompressionBombError as error:
        raise Refused(413, f"the image: {_TOO_LARGE}") from error
    except Exception as error:  # damaged bytes lead Pillow to exceptions of nearly every kind
        raise Refused(415, "the image: it is no PNG or JPEG") from error
    if width * height > PIXELS:
        raise Refused(413, f"the image: {height:,}x{width:,} are {_TOO_LARGE}")
    try:
        return decode_image("the image", file, channels=4)
    except DataError as error:
        raise Refused(400, str(error)) from error


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise Refused(400, "the JSON is nested too deeply") from error
    except ValueError as error:  # no UTF-8 too, and numbers of thousands of digits
        raise Refused(400, f"it is no JSON: {error}") from error


def _of_json(value: Any) -> Array:
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in ("image", "pixels"):
        raise Refused(
            422, 'expected an object with either "image", a PNG or JPEG file in base64, or "pixels", rows of numbers'
        )
    if "pixels" in value:
        return _of_pixels(value["pixels"])
    text = value["image"]
    if not isinstance(text, str):
        raise Refused(422, f"image: expected a PNG or JPEG file in base64, a string, got {_kind(text)}")
    if text.startswith("data:"):  # as a canvas gives it
        text = text.partition(",")[2]
    try:
        file = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise Refused(400, f"image: it is no base64: {error}") from error
    return _decoded(file)


def _of_pixels(value: Any) -> Array:
    expected = "rows of whole numbers from 0 to 255, or of pixels [red, green, blue] or [red, green, blue, alpha]"
    if not isinstance(value, list):
        raise Refused(422, f"pixels: expected {expected}, got {_kind(value)}")
    try:
        pixels = np.array(value)
    except (ValueError, OverflowError) as error:  # of unequal lengths
        raise Refused(422, f"pixels: expected {expected}, all of one length") from error
    if pixels.ndim not in (2, 3) or pixels.size == 0 or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise Refused(422, f"pixels: expected {expected}, got an array of shape {pixels.shape}")
    if pixels.dtype.kind not in "iuf" or not (pixels == np.rint(pixels)).all():
        raise Refused(422, f"pixels: expected {expected}{_scale(pixels)}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise Refused(422, f"pixels: expected {expected}, got numbers from {pixels.min()} to {pixels.max()}")
    pixels = pixels.astype(np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _scale(pixels: Array) -> str:
    """What to do about shares."""
    if pixels.dtype.kind == "f" and pixels.min() >= 0 and pixels.max() <= 1:
        return ", got numbers from 0 to 1: send round(255 * value)"
    return ", got something else"


def _kind(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )
