"""The families of nets that most small experiments need, built from sizes: for images, rows of numbers and text."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs

from funcnn import layers
from funcnn.arrays.geometry import Padding, Size
from funcnn.compose import serial, tied
from funcnn.init import Initializer, check_initializer, he_normal, normal
from funcnn.layer import Layer
from funcnn.nn.image_settings import check_padding, check_size, pair, sides
from funcnn.settings import (
    Described,
    as_tuple,
    check_decay,
    check_flag,
    check_positive,
    config,
    count,
    number,
    refuse,
    shown,
)

__all__ = ["convnet", "fully_connected", "gpt"]

Activation = Callable[[], Layer]


def fully_connected(
    hidden: Sequence[int],
    classes: int,
    *,
    activation: Activation = layers.relu,
    batch_norm: bool = False,
    dropout: float = 0.0,
    weight_init: Initializer = he_normal(),  # noqa: B008  (a frozen value)
) -> Layer:
    """flatten - {dense - [batch norm] - activation - [dropout]} for each hidden size - dense: (n, ...) -> (n, classes).

    No softmax: the loss takes logits. `activation` is a constructor, called once per layer. A dense layer
    before batch norm has no bias, which the norm's shift would make idle. `hidden` may be empty: a linear classifier.

    >>> from funcnn import Key
    >>> fully_connected([128, 64], 10, dropout=0.2).init(Key(0), (28, 28, 1)).out_shape
    (10,)

    Raises ValueError for sizes that are not positive, a dropout rate outside [0, 1) or an activation that is called.
    """
    return serial(*_FullyConnected(as_tuple(hidden), classes, activation, batch_norm, dropout, weight_init).stack())


def convnet(
    filters: Sequence[int],
    hidden: Sequence[int],
    classes: int,
    *,
    kernel_size: int | Size = 3,
    stride: int | Size = 1,
    padding: Padding = "same",
    pool: Layer | Sequence[Layer | None] | None = layers.max_pool2d(2),  # noqa: B008
    activation: Activation = layers.relu,
    batch_norm: bool = False,
    dropout: float = 0.0,
    weight_init: Initializer = he_normal(),  # noqa: B008
) -> Layer:
    """{conv - [batch norm] - activation - [pool]} for each of `filters`, then `fully_connected(hidden, classes)`.

    (n, height, width, channels) -> (n, classes), without softmax. `pool` follows every convolution, or is None,
    or a list with a layer or None for each: ``[None, max_pool2d(2)]`` pools after the second alone. Dropout
    follows the hidden dense layers. Either list may be empty.

    >>> from funcnn import Key
    >>> convnet([32, 64], [256], 10, batch_norm=True).init(Key(0), (32, 32, 3)).out_shape
    (10,)

    Raises ValueError for sizes that are not positive or pools that are not one for each convolution.
    """
    settings = _ConvNet(
        as_tuple(hidden), classes, activation, batch_norm, dropout, weight_init,
        as_tuple(filters), pair(kernel_size), pair(stride), sides(padding), as_tuple(pool),
    )  # fmt: skip
    return serial(*settings.stack())


def gpt(
    vocabulary: int,
    context: int,
    *,
    layers: int,
    heads: int,
    features: int,
    dropout: float = 0.0,
    use_bias: bool = True,
    tie: bool = True,
    stddev: float = 0.02,
) -> Layer:
    """A language model of GPT-2's form (Radford et al. 2019): whole numbers (n, time) -> scores (n, time, vocabulary).

    embedding + position embedding - [dropout] - `transformer_block` for each of `layers`, causal, norms first - layer
    norm - scores. The scores at a position are for the number that comes next; `context` is the most positions that it
    takes. If `tie`, the embedding's weights also make the scores (`unembedding`, `tied`). Without `use_bias` neither
    dense layers nor norms have one.

    Weights are drawn with the deviation `stddev`, those whose results are added to what they were made of with
    stddev / √(2 · layers), so that sums of many blocks begin no larger; biases are zero.

    >>> from funcnn import Key, tree
    >>> params = gpt(65, 64, layers=4, heads=4, features=128, use_bias=False).init(Key(0), (64,)).params
    >>> sum(leaf.size for leaf in tree.flatten(params))
    804096

    Raises ValueError for sizes that are not positive or a dropout rate outside [0, 1), ShapeError unless the heads
    divide the features.
    """
    settings = _Gpt(vocabulary, context, layers, heads, features, dropout, use_bias, tie, stddev)
    return settings.net()


# --- Their arguments, checked ---------------------------------------------------------------------------------


def _check_sizes(instance: Any, attribute: Any, sizes: Any) -> None:
    if not isinstance(sizes, tuple) or not all(type(size) is int and size >= 1 for size in sizes):
        fix = f"For a single one write [{shown(sizes)}]" if type(sizes) is int else ""
        refuse(instance.name, attribute.name, "a list of positive ints", sizes, fix)


def _check_activation(instance: Any, attribute: Any, activation: Any) -> None:
    fix = f"Pass {activation.name}, without the brackets" if isinstance(activation, Layer) else ""
    if fix or not callable(activation):
        refuse(instance.name, attribute.name, "a constructor, to be called for each layer", activation, fix)


@config
class _FullyConnected(Described):
    name: ClassVar[str] = "fully_connected"
    hidden: tuple[int, ...] = attrs.field(validator=_check_sizes)
    classes: int = count()
    activation: Activation = attrs.field(validator=_check_activation)
    batch_norm: bool = attrs.field(validator=check_flag)
    dropout: float = number(check_decay)
    weight_init: Initializer = attrs.field(validator=check_initializer)

    def stack(self) -> list[Layer]:
        """The net's layers in order."""
        stack = [layers.flatten()]
        for units in self.hidden:
            stack.append(layers.dense(units, use_bias=not self.batch_norm, weight_init=self.weight_init))
            stack += self.after()
            stack += [layers.dropout(self.dropout)] if self.dropout else []
        return [*stack, layers.dense(self.classes, weight_init=self.weight_init)]

    def after(self) -> list[Layer]:
        """What follows a convolution or a dense layer."""
        try:
            activation = self.activation()
        except TypeError:  # it takes arguments
            activation = None
        if not isinstance(activation, Layer):
            expected = "a constructor of layers that takes no arguments"
            refuse(self.name, "activation", expected, self.activation, "Write one around yours (def)")
        return [layers.batch_norm(), activation] if self.batch_norm else [activation]


def _check_pool(instance: Any, attribute: Any, pool: Any) -> None:
    if pool is None or isinstance(pool, Layer):
        return
    if not isinstance(pool, tuple):
        refuse(instance.name, attribute.name, "a layer, None, or a list with one for each convolution", pool)
    if len(pool) != len(instance.filters):
        raise ValueError(
            f"convnet: pool must be one layer or one for each convolution, got {len(pool)} for "
            f"{len(instance.filters)} filters"
        )
    for each in pool:
        if not (each is None or isinstance(each, Layer)):
            fix = f"Call it: {each.__name__}(...)" if callable(each) and hasattr(each, "__name__") else ""
            refuse(instance.name, attribute.name, "of layers and None", each, fix)


@config
class _ConvNet(_FullyConnected):
    name: ClassVar[str] = "convnet"
    filters: tuple[int, ...] = attrs.field(validator=_check_sizes)
    kernel_size: Size = attrs.field(validator=check_size)
    stride: Size = attrs.field(validator=check_size)
    padding: Padding = attrs.field(validator=check_padding)
    pool: Layer | tuple[Layer | None, ...] | None = attrs.field(validator=_check_pool)

    def stack(self) -> list[Layer]:
        """The net's layers in order."""
        pools = self.pool if isinstance(self.pool, tuple) else (self.pool,) * len(self.filters)
        stack = []
        for filters, pool in zip(self.filters, pools, strict=True):
            stack.append(
                layers.conv2d(
                    filters, self.kernel_size, stride=self.stride, padding=self.padding,
                    use_bias=not self.batch_norm, weight_init=self.weight_init,
                )
            )  # fmt: skip
            stack += self.after()
            stack += [pool] if pool is not None else []
        return [*stack, *super().stack()]


@config
class _Gpt(Described):
    name: ClassVar[str] = "gpt"
    vocabulary: int = count()
    context: int = count()
    layers: int = count()
    heads: int = count()
    features: int = count()
    dropout: float = number(check_decay)
    use_bias: bool = attrs.field(validator=check_flag)
    tie: bool = attrs.field(validator=check_flag)
    stddev: float = number(check_positive)

    def net(self) -> Layer:
        """The net."""
        weight_init = normal(self.stddev)
        norm = layers.layer_norm(use_shift=self.use_bias)
        block = layers.transformer_block(
            self.features, self.heads, causal=True, dropout=self.dropout, norm=norm, use_bias=self.use_bias,
            weight_init=weight_init, out_init=normal(self.stddev / math.sqrt(2 * self.layers)),
        )  # fmt: skip
        stack = [
            layers.embedding(self.vocabulary, self.features, weight_init=weight_init),
            layers.position_embedding(self.context, weight_init=weight_init),
            *([layers.dropout(self.dropout)] if self.dropout else []),
            *[block] * self.layers,
            norm,
            layers.unembedding(self.vocabulary, weight_init=weight_init),
        ]
        return tied(serial(*stack), {f"{len(stack) - 1}.weight": "0.weight"}) if self.tie else serial(*stack)
