"""Images of another size: enlarged, padded, cropped, channels as pixels; the arithmetic is in `funcnn.arrays.resample`.

All are linear and have no parameters, so that backward is the transpose, and needs the input's shape alone.
"""

from typing import Any, ClassVar, Literal, get_args

import attrs

from funcnn.arrays import pooling, resample
from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.geometry import Geometry, Sides, Size, geometry
from funcnn.arrays.layout import wide
from funcnn.checks import Form, ShapeError, check_dy, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Layer, make_layer
from funcnn.nn.image_settings import check_images, check_padding, check_size, image_geometry, pair, short, sides
from funcnn.settings import check_choice, config, count, refuse
from funcnn.tree import Array, Shape

__all__ = ["crop2d", "pixel_shuffle", "pixel_unshuffle", "upsample2d", "zero_pad2d"]

Method = Literal["nearest", "bilinear"]


def upsample2d(factor: int | Size, *, method: Method = "nearest") -> Layer:
    """Images enlarged by a whole factor, an int or (height, width): (n, h, w, c) -> (n, h·fh, w·fw, c).

    "nearest" repeats each pixel, and a pixel's gradient is the sum of its copies'. "bilinear" interpolates between the
    two nearest pixels along each axis, in proportion to their distances. A pixel is a square and stands for its middle:

        y[i] = (1 - t) · x[floor(u)] + t · x[floor(u) + 1],      u = (i + 1/2) / f - 1/2,      t = u - floor(u)

    where beyond the edge x counts as at it; backward takes each share back: dx[floor(u)] += (1 - t) · dy[i], and t ·
    dy[i] to the next. So do Keras's UpSampling2D and PyTorch's Upsample (``align_corners=False``, its default).

    >>> import numpy as np
    >>> x = np.array([0.0, 4.0]).reshape(1, 1, 2, 1)
    >>> upsample2d((1, 2)).apply(None, None, x).y.ravel()
    array([0., 0., 4., 4.])
    >>> upsample2d((1, 2), method="bilinear").apply(None, None, x).y.ravel()
    array([0., 1., 3., 4.])

    Raises ValueError for a factor that is not positive, or another method.
    """
    return make_layer(_Upsample2d(pair(factor), method), _apply, _backward)


def zero_pad2d(padding: int | Sides) -> Layer:
    """Images with zeros around them, as many on all sides or ((top, bottom), (left, right)); dx is dy without them.

    (n, h, w, c) -> (n, top + h + bottom, left + w + right, c). Most layers have a `padding` of their own, which takes
    no memory.

    >>> import numpy as np
    >>> zero_pad2d(((0, 1), (1, 0))).apply(None, None, np.ones((1, 1, 2, 1))).y[0, :, :, 0]
    array([[0., 1., 1.],
           [0., 0., 0.]])

    Raises ValueError for negative padding.
    """
    return make_layer(_ZeroPad2d(padding), _apply, _backward)


def crop2d(cropping: int | Sides) -> Layer:
    """Images without their edges, as much on all sides or ((top, bottom), (left, right)); dx is dy with zeros there.

    (n, h, w, c) -> (n, h - top - bottom, w - left - right, c); Keras's Cropping2D.

    >>> import numpy as np
    >>> crop2d(1).apply(None, None, np.arange(9.0).reshape(1, 3, 3, 1)).y
    array([[[[4.]]]])

    Raises ValueError for a negative number, ShapeError for images of which nothing would be left.
    """
    return make_layer(_Crop2d(cropping), _apply, _backward)


def pixel_shuffle(factor: int) -> Layer:
    """Channels as pixels: (n, h, w, c·f²) -> (n, h·f, w·f, c), so that a convolution enlarges (Shi et al. 2016).

        y[n, i·f + a, j·f + b, c] = x[n, i, j, (c·f + a)·f + b],      dx the same the other way round

    The order of channels is that of PyTorch's PixelShuffle: those of one square lie together (in TensorFlow's
    depth_to_space those of one place in it do).

    >>> import numpy as np
    >>> pixel_shuffle(2).apply(None, None, np.arange(4.0).reshape(1, 1, 1, 4)).y[0, :, :, 0]
    array([[0., 1.],
           [2., 3.]])

    Raises ValueError for a factor that is not positive, ShapeError for channels that are no multiple of its square.
    """
    return make_layer(_PixelShuffle(factor), _apply, _backward)


def pixel_unshuffle(factor: int) -> Layer:
    """Squares of pixels as channels, the inverse of `pixel_shuffle`: (n, h·f, w·f, c) -> (n, h, w, c·f²).

    >>> import numpy as np
    >>> pixel_unshuffle(2).apply(None, None, np.arange(4.0).reshape(1, 2, 2, 1)).y
    array([[[[0., 1., 2., 3.]]]])

    Raises ValueError for a factor that is not positive, ShapeError for sizes that are no multiples of it.
    """
    return make_layer(_PixelUnshuffle(factor), _apply, _backward)


# --- What they share ------------------------------------------------------------------------------------------


class _Resample(Config):
    """The base of the settings: a subclass says its out_shape, the map, and the map's transpose."""

    by_chunks: ClassVar[bool] = True

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def transpose(self, dy: Array) -> Array:
        raise NotImplementedError

    def check_shape(self, in_shape: Shape) -> None:
        """Raise ShapeError for the shape of what is no image."""
        image_geometry(self, in_shape, (1, 1), (1, 1), (1, 1), "valid")


@underflow_is_zero
def _apply(
    settings: _Resample, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_images(settings, x)
    settings.out_shape(x.shape[1:])
    return Applied(settings.forward(x), state, Form(x.shape, x.dtype) if train else None)


@underflow_is_zero
def _backward(settings: _Resample, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, Form)
    check_dy(settings, dy, (kept.shape[0], *settings.out_shape(kept.shape[1:])), kept.dtype)
    return Gradients(None, settings.transpose(dy) if need_dx else None)


# --- The layers -----------------------------------------------------------------------------------------------


@config
class _Upsample2d(_Resample):
    name: ClassVar[str] = "upsample2d"
    factor: Size = attrs.field(validator=check_size, converter=pair)
    method: Method = attrs.field(default="nearest", validator=check_choice(*get_args(Method)))

    def arguments(self) -> dict[str, Any]:
        return short(super().arguments(), "factor")

    def out_shape(self, in_shape: Shape) -> Shape:
        self.check_shape(in_shape)
        return in_shape[0] * self.factor[0], in_shape[1] * self.factor[1], in_shape[2]

    def squares(self, height: int, width: int) -> Geometry:
        """The pixels of an output, in windows of those that are copies of one."""
        return geometry((height, width), self.factor, self.factor, (1, 1), "valid")

    def forward(self, x: Array) -> Array:
        if self.method == "bilinear":
            return resample.bilinear(x, self.factor)
        return pooling.spread(x, self.squares(x.shape[1] * self.factor[0], x.shape[2] * self.factor[1]))

    def transpose(self, dy: Array) -> Array:
        given = wide(dy)
        if self.method == "bilinear":
            dx = resample.bilinear_transpose(given, self.factor)
        else:
            dx = pooling.sum_pool(given, self.squares(*dy.shape[1:3]))
        return dx.astype(dy.dtype, copy=False)


def _check_sides(instance: Any, attribute: Any, value: int | Sides) -> None:
    """Raise ValueError for what says no number of pixels for each side."""
    if isinstance(value, str):
        refuse(instance.name, attribute.name, "an int, or ((top, bottom), (left, right)), none negative", value)
    check_padding(instance, attribute, value)


@config
class _ZeroPad2d(_Resample):
    name: ClassVar[str] = "zero_pad2d"
    padding: int | Sides = attrs.field(validator=_check_sides, converter=sides)

    def out_shape(self, in_shape: Shape) -> Shape:
        self.check_shape(in_shape)
        (top, bottom), (left, right) = _sides(self.padding)
        return top + in_shape[0] + bottom, left + in_shape[1] + right, in_shape[2]

    def forward(self, x: Array) -> Array:
        return resample.pad(x, _sides(self.padding))

    def transpose(self, dy: Array) -> Array:
        return resample.crop(dy, _sides(self.padding))


@config
class _Crop2d(_Resample):
    name: ClassVar[str] = "crop2d"
    cropping: int | Sides = attrs.field(validator=_check_sides, converter=sides)

    def out_shape(self, in_shape: Shape) -> Shape:
        self.check_shape(in_shape)
        (top, bottom), (left, right) = _sides(self.cropping)
        height, width = in_shape[0] - top - bottom, in_shape[1] - left - right
        if min(height, width) < 1:
            raise ShapeError(repr(self), f"expected images of which something is left, got {in_shape}", "Crop less")
        return height, width, in_shape[2]

    def forward(self, x: Array) -> Array:
        return resample.crop(x, _sides(self.cropping))

    def transpose(self, dy: Array) -> Array:
        return resample.pad(dy, _sides(self.cropping))


def _sides(value: int | Sides) -> Sides:
    return ((value, value), (value, value)) if isinstance(value, int) else value


@config
class _PixelShuffle(_Resample):
    name: ClassVar[str] = "pixel_shuffle"
    factor: int = count()

    def out_shape(self, in_shape: Shape) -> Shape:
        self.check_shape(in_shape)
        h, w, channels = in_shape
        if channels % self.factor**2:
            problem = f"expected a multiple of {self.factor**2} channels, got {channels}"
            raise ShapeError(repr(self), problem, f"Give the layer before it filters for each of {self.factor**2}")
        return h * self.factor, w * self.factor, channels // self.factor**2

    def forward(self, x: Array) -> Array:
        return resample.pixels_of_channels(x, self.factor)

    def transpose(self, dy: Array) -> Array:
        return resample.pixels_of_channels_transpose(dy, self.factor)


@config
class _PixelUnshuffle(_Resample):
    name: ClassVar[str] = "pixel_unshuffle"
    factor: int = count()

    def out_shape(self, in_shape: Shape) -> Shape:
        self.check_shape(in_shape)
        h, w, channels = in_shape
        if h % self.factor or w % self.factor:
            problem = f"expected sizes that are multiples of {self.factor}, got {h} × {w} pixels"
            raise ShapeError(repr(self), problem, "Pad or crop the images: zero_pad2d, crop2d")
        return h // self.factor, w // self.factor, channels * self.factor**2

    def forward(self, x: Array) -> Array:
        return resample.pixels_of_channels_transpose(x, self.factor)

    def transpose(self, dy: Array) -> Array:
        return resample.pixels_of_channels(dy, self.factor)
