"""Norms over the features of each position: layer norm and RMS norm."""

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.row_norms import normalize_rows, normalize_rows_back
from funcnn.checks import ShapeError, check_dy, check_float, check_input, check_params, check_residuals, check_weight
from funcnn.init import ones, zeros
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.settings import check_flag, check_positive, config, number
from funcnn.tree import Array, Shape, node

__all__ = ["NormParams", "layer_norm", "rms_norm"]


def layer_norm(*, epsilon: float = 1e-5, use_scale: bool = True, use_shift: bool = True) -> Layer:
    """y = scale · x̂ + shift, x̂ = (x - mean) / sqrt(var + epsilon), over the last axis: (n, ..., features) -> the same.

    Each position is normalised by itself, in training and outside alike (Ba et al. 2016); mean and the biased variance
    are of its features, or of a pixel's channels (for those of a whole example, see `group_norm` with one group).
    ``params.scale``, ``params.shift`` (features,) or None.

    dscale = Σ dy · x̂, dshift = Σ dy; with d = dy · scale,
    dx = (d - mean(d) - x̂ · mean(d · x̂)) / sqrt(var + epsilon).

    >>> layer = layer_norm()
    >>> params, state, _ = layer.init(Key(0), (2,), np.float64)
    >>> layer.apply(params, state, np.array([[1.0, 3.0], [10.0, 10.0]])).y.round(3)
    array([[-1.,  1.],
           [ 0.,  0.]])

    Raises ValueError for an epsilon that is not positive.
    """
    return make_layer(_LayerNorm(epsilon, use_scale, use_shift), _apply, _backward, _init)


def rms_norm(*, epsilon: float = 1e-5, use_scale: bool = True) -> Layer:
    """y = scale · x / sqrt(mean(x²) + epsilon) over the last axis: (n, ..., features) -> (n, ..., features).

    Layer norm without the mean (Zhang & Sennrich 2019). ``params.scale`` (features,) or None, ``params.shift`` None.
    PyTorch's epsilon is that of the dtype, 1.2e-7 in float32, if none is given.

    dscale = Σ dy · x̂; with d = dy · scale and x̂ = y / scale, dx = (d - x̂ · mean(d · x̂)) / sqrt(mean(x²) + epsilon).

    >>> layer = rms_norm()
    >>> params, state, _ = layer.init(Key(0), (2,), np.float64)
    >>> layer.apply(params, state, np.array([[1.0, 7.0]])).y.round(3)
    array([[0.2, 1.4]])

    Raises ValueError for an epsilon that is not positive.
    """
    return make_layer(_RmsNorm(epsilon, use_scale), _apply, _backward, _init)


@node
class NormParams:
    """scale and shift, one number for each feature or channel, or None."""

    scale: Array | None
    shift: Array | None


class _RowNorm(Config):
    """What both norms share: their residuals are x, and each row's mean and inverse root."""

    by_chunks: ClassVar[bool] = True
    centre: ClassVar[bool]
    epsilon: float
    use_scale: bool
    use_shift: bool

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape or in_shape[-1] < 1:
            raise ShapeError(
                repr(self),
                f"expected examples of shape (..., features), at least one feature, got {in_shape}",
                "Correct in_shape, or the layer before it",
            )
        return in_shape


@config
class _LayerNorm(_RowNorm):
    name: ClassVar[str] = "layer_norm"
    centre: ClassVar[bool] = True
    epsilon: float = number(check_positive, default=1e-5)
    use_scale: bool = attrs.field(default=True, validator=check_flag)
    use_shift: bool = attrs.field(default=True, validator=check_flag)


@config
class _RmsNorm(_RowNorm):
    name: ClassVar[str] = "rms_norm"
    centre: ClassVar[bool] = False
    use_shift: ClassVar[bool] = False  # type: ignore[misc]  # it has none to choose
    epsilon: float = number(check_positive, default=1e-5)
    use_scale: bool = attrs.field(default=True, validator=check_flag)


@node
class _RowNormResiduals:
    x: Array
    mean: Array
    inverse: Array


def _init(settings: _RowNorm, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    return Initialised(init_norm(settings, key, in_shape[-1], dtype), None, out_shape)


@underflow_is_zero
def _apply(
    settings: _RowNorm, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False
) -> Applied:
    check_norm(settings, params, x)
    settings.out_shape(x.shape[1:])
    y, mean, inverse = normalize_rows(x, params.scale, params.shift, settings.epsilon, centre=settings.centre)
    return Applied(y, state, _RowNormResiduals(x, mean, inverse) if train else None)


@underflow_is_zero
def _backward(settings: _RowNorm, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, _RowNormResiduals)
    check_norm(settings, params, kept.x)
    check_dy(settings, dy, kept.x.shape, kept.x.dtype)
    dx, dscale, dshift = normalize_rows_back(
        dy, kept.x, kept.mean, kept.inverse, params.scale, centre=settings.centre, need_dx=need_dx
    )
    return Gradients(norm_gradients(params, dscale, dshift), dx)


# --- Params of norms ------------------------------------------------------------------------------------------


def init_norm(settings: Any, key: Key, channels: int, dtype: DTypeLike) -> NormParams:
    """Scales of one and shifts of zero, as far as the settings have them."""
    scale = ones()(key, (channels,), 1, 1, dtype) if settings.use_scale else None
    shift = zeros()(key, (channels,), 1, 1, dtype) if settings.use_shift else None
    return NormParams(scale, shift)


def check_norm(settings: Any, params: Any, x: Array) -> None:
    """Raise unless the params are a norm's of these settings, and x is for them."""
    check_params(settings, params, NormParams)
    check_float(settings, x)
    for name, has in (("scale", settings.use_scale), ("shift", settings.use_shift)):
        if has:
            value = getattr(params, name)
            check_weight(settings, name, value, (None,))
            check_input(settings, x, (*[None] * (x.ndim - 2), *value.shape), value.dtype, value)


def norm_gradients(params: NormParams, dscale: Array, dshift: Array) -> NormParams:
    """The gradients in the params' form and dtype."""
    pairs = (params.scale, dscale), (params.shift, dshift)
    return NormParams(*[None if value is None else found.astype(value.dtype, copy=False) for value, found in pairs])
