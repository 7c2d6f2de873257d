"""What the convolutions of images and of sequences share: their params, and filters and channels in groups."""

from typing import Any

from numpy.typing import DTypeLike

from funcnn.checks import ShapeError, check_params, check_weight
from funcnn.init import Initializer
from funcnn.keys import Key, fold_in
from funcnn.layer import Config
from funcnn.tree import Array, Shape, node

__all__ = ["ConvParams", "Filters"]


@node
class ConvParams:
    """weight (kernel height, kernel width, in / groups, out), along time (taps, in / groups, out); bias (out,) or None.

    Of a transposed convolution its last two axes are (out / groups, in).
    """

    weight: Array
    bias: Array | None


class Filters(Config):
    """The settings of a layer that has filters. The fields are each layer's own, in the order of its constructor."""

    filters: int
    groups: int
    use_bias: bool
    weight_init: Initializer
    bias_init: Initializer

    def __attrs_post_init__(self) -> None:
        if self.filters % self.groups:
            raise ValueError(
                f"{self.name}: filters must be a multiple of groups, got {self.filters} filters, {self.groups} groups"
            )

    def check_groups(self, in_shape: Shape) -> None:
        """Raise ShapeError unless the channels fall into the groups."""
        if in_shape[-1] % self.groups:
            raise ShapeError(
                repr(self),
                f"expected channels in {self.groups} equal groups, got {in_shape[-1]} channels",
                f"Use a number of groups that divides {in_shape[-1]}",
            )

    def check_params(self, params: Any, shape: tuple[int | None, ...]) -> None:
        """Raise unless the params are a convolution's, the weight of a shape (None: any size)."""
        check_params(self, params, ConvParams)
        check_weight(self, "weight", params.weight, shape)
        if params.bias is not None:
            check_weight(self, "bias", params.bias, (self.filters,))

    def new_params(self, key: Key, shape: Shape, fans: tuple[int, int], dtype: DTypeLike) -> ConvParams:
        """Params with a weight of a shape, initialised by the numbers of values that go in and out (`funcnn.init`)."""
        weight = self.weight_init(fold_in(key, "weight"), shape, *fans, dtype)
        bias = self.bias_init(fold_in(key, "bias"), (self.filters,), *fans, dtype) if self.use_bias else None
        return ConvParams(weight, bias)
