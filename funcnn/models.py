"""The two families of nets that most small experiments need, built from lists of sizes."""

from collections.abc import Callable, Sequence

from funcnn import layers
from funcnn.arrays.geometry import Padding, Size
from funcnn.compose import serial
from funcnn.init import Initializer, he_normal
from funcnn.layer import Layer

__all__ = ["convnet", "fully_connected"]

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

    Raises ValueError for sizes that are not positive or a dropout rate outside [0, 1).
    """
    stack = _hidden_layers(hidden, activation, batch_norm, dropout, weight_init)
    return serial(layers.flatten(), *stack, layers.dense(classes, weight_init=weight_init))


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
    pools = [pool] * len(filters) if pool is None or isinstance(pool, Layer) else list(pool)
    if len(pools) != len(filters):
        raise ValueError(
            f"convnet: pool must be one layer or one for each convolution, got {len(pools)} for {len(filters)} filters"
        )
    dense = fully_connected(
        hidden, classes, activation=activation, batch_norm=batch_norm, dropout=dropout, weight_init=weight_init
    )  # first, since it refuses what both have in common
    stack = []
    for count, its_pool in zip(filters, pools, strict=True):
        stack.append(
            layers.conv2d(
                count, kernel_size, stride=stride, padding=padding, use_bias=not batch_norm, weight_init=weight_init
            )
        )
        stack += [layers.batch_norm()] if batch_norm else []
        stack += [activation()]
        stack += [its_pool] if its_pool is not None else []
    return serial(*stack, *dense.config.children)


def _hidden_layers(
    hidden: Sequence[int], activation: Activation, batch_norm: bool, dropout: float, weight_init: Initializer
) -> list[Layer]:
    if isinstance(hidden, int):
        raise TypeError(f"hidden: expected a list of sizes, got {hidden}. For one hidden layer: [{hidden}]")
    if isinstance(activation, Layer):
        raise TypeError(
            f"activation: expected a constructor, to be called for each layer, got {activation!r}. "
            f"Pass {activation.name}, without the brackets"
        )
    layers.dropout(dropout)  # refuses an unfit rate, also where there is no hidden layer to use it
    stack = []
    for units in hidden:
        stack.append(layers.dense(units, use_bias=not batch_norm, weight_init=weight_init))
        stack += [layers.batch_norm()] if batch_norm else []
        stack += [activation()]
        stack += [layers.dropout(dropout)] if dropout else []
    return stack
