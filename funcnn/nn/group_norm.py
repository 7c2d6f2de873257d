"""Norms over positions and channels of each example: group norm and instance norm."""

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn.arrays.elementwise import underflow_is_zero
from funcnn.arrays.group_norms import normalize_groups, normalize_groups_back
from funcnn.checks import ShapeError, check_dy, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Config, Gradients, Initialised, Layer, make_layer
from funcnn.nn.layer_norm import check_norm, init_norm, norm_gradients
from funcnn.settings import check_flag, check_positive, config, count, number
from funcnn.tree import Array, Shape, node

__all__ = ["group_norm", "instance_norm"]


def group_norm(groups: int, *, epsilon: float = 1e-5, use_scale: bool = True, use_shift: bool = True) -> Layer:
    """y = scale · x̂ + shift, x̂ = (x - mean) / sqrt(var + epsilon), by groups: (n, ..., channels) -> the same.

    Mean and the biased variance are those of an example's group of neighbouring channels over all positions, in
    training and outside alike, so that nothing depends on the batch (Wu & He 2018). One group normalises an example as
    a whole. ``params.scale``, ``params.shift`` (channels,) or None.

    dscale = Σ dy · x̂, dshift = Σ dy; with d = dy · scale and means over a group,
    dx = (d - mean(d) - x̂ · mean(d · x̂)) / sqrt(var + epsilon).

    >>> layer = group_norm(2)
    >>> params, state, _ = layer.init(Key(0), (4,), np.float64)
    >>> layer.apply(params, state, np.array([[1.0, 3.0, 30.0, 10.0]])).y.round(3)
    array([[-1.,  1.,  1., -1.]])

    Raises ValueError for groups that are no positive int or an epsilon that is not positive, ShapeError for channels
    that they do not divide.
    """
    return make_layer(_GroupNorm(groups, epsilon, use_scale, use_shift), _apply, _backward, _init)


def instance_norm(*, epsilon: float = 1e-5, use_scale: bool = True, use_shift: bool = True) -> Layer:
    """y = scale · x̂ + shift, x̂ = (x - mean) / sqrt(var + epsilon) of each channel: (n, ..., channels) -> the same.

    Mean and the biased variance are a channel's over an example's positions (Ulyanov et al. 2016): `group_norm` with a
    group for each channel. PyTorch's InstanceNorm has no scale and shift unless it is told ``affine=True``.

    >>> layer = instance_norm(use_scale=False, use_shift=False)
    >>> layer.apply(*layer.init(Key(0), (2, 1))[:2], np.array([[[1.0], [3.0]]])).y.round(3).tolist()
    [[[-1.0], [1.0]]]

    Raises ValueError for an epsilon that is not positive, ShapeError for examples without positions.
    """
    return make_layer(_InstanceNorm(epsilon, use_scale, use_shift), _apply, _backward, _init)


class _ByGroups(Config):
    by_chunks: ClassVar[bool] = True
    epsilon: float

    def groups_of(self, channels: int) -> int:
        raise TypeError(f"{type(self).__name__} does not define groups_of")


@config
class _GroupNorm(_ByGroups):
    name: ClassVar[str] = "group_norm"
    groups: int = count()
    epsilon: float = number(check_positive, default=1e-5)
    use_scale: bool = attrs.field(default=True, validator=check_flag)
    use_shift: bool = attrs.field(default=True, validator=check_flag)

    def groups_of(self, channels: int) -> int:
        return self.groups

    def out_shape(self, in_shape: Shape) -> Shape:
        if not in_shape or in_shape[-1] < 1 or in_shape[-1] % self.groups:
            raise ShapeError(
                repr(self),
                f"expected examples of shape (..., channels), a multiple of {self.groups} channels, got {in_shape}",
                "Choose groups that divide the channels",
            )
        if min(in_shape) < 1:
            raise ShapeError(
                repr(self),
                f"expected examples that have positions to take the mean over, got {in_shape}",
                "Correct the layer before it",
            )
        return in_shape


@config
class _InstanceNorm(_ByGroups):
    name: ClassVar[str] = "instance_norm"
    epsilon: float = number(check_positive, default=1e-5)
    use_scale: bool = attrs.field(default=True, validator=check_flag)
    use_shift: bool = attrs.field(default=True, validator=check_flag)

    def groups_of(self, channels: int) -> int:
        return channels

    def out_shape(self, in_shape: Shape) -> Shape:
        if len(in_shape) < 2 or min(in_shape) < 1:
            raise ShapeError(
                repr(self),
                f"expected examples of shape (..., channels) with positions to take the mean over, got {in_shape}",
                "Use layer_norm() for features without positions, or correct the layer before it",
            )
        return in_shape


@node
class _GroupNormResiduals:
    x: Array
    mean: Array  # (n, groups)
    inverse: Array  # (n, groups)


def _init(settings: Any, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    out_shape = settings.out_shape(in_shape)
    return Initialised(init_norm(settings, key, in_shape[-1], dtype), None, out_shape)


@underflow_is_zero
def _apply(settings: Any, params: Any, state: Any, x: Array, *, key: Key | None = None, train: bool = False) -> Applied:
    check_norm(settings, params, x)
    settings.out_shape(x.shape[1:])
    groups = settings.groups_of(x.shape[-1])
    y, mean, inverse = normalize_groups(x, groups, params.scale, params.shift, settings.epsilon)
    return Applied(y, state, _GroupNormResiduals(x, mean, inverse) if train else None)


@underflow_is_zero
def _backward(settings: Any, params: Any, residuals: Any, dy: Array, *, need_dx: bool = True) -> Gradients:
    kept = check_residuals(settings, residuals, _GroupNormResiduals)
    check_norm(settings, params, kept.x)
    check_dy(settings, dy, kept.x.shape, kept.x.dtype)
    dx, dscale, dshift = normalize_groups_back(dy, kept.x, kept.mean, kept.inverse, params.scale, need_dx=need_dx)
    return Gradients(norm_gradients(params, dscale, dshift), dx)
