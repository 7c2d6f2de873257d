"""The transformer's block: attention and a small dense net for each position, each with a norm and a way around it."""

from typing import ClassVar

import attrs

from funcnn.init import Initializer, check_initializer, glorot_uniform
from funcnn.layer import Layer
from funcnn.nn.attention import self_attention
from funcnn.nn.combining import check_layer
from funcnn.nn.dense import dense
from funcnn.nn.layer_norm import layer_norm
from funcnn.nn.serial import serial
from funcnn.nn.smooth import gelu
from funcnn.nn.stochastic import dropout as dropped
from funcnn.nn.wrapping import residual
from funcnn.settings import Described, as_int, check_count, check_decay, check_flag, config, count, number

__all__ = ["transformer_block"]


def transformer_block(
    features: int,
    heads: int,
    *,
    mlp_features: int | None = None,
    causal: bool = False,
    rotary: bool = False,
    dropout: float = 0.0,
    activation: Layer = gelu(),  # noqa: B008  (a frozen value)
    norm: Layer = layer_norm(),  # noqa: B008
    pre_norm: bool = True,
    use_bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    out_init: Initializer | None = None,
) -> Layer:
    """Attention, then two dense layers for each position: (n, time, features) -> (n, time, features).

        x' = x + dropout(attention(norm(x))),  y = x' + dropout(dense(activation(dense(norm(x')))))

    with `mlp_features` numbers between the dense layers, 4 · features if None; `dropout` is also that of the
    attention's weights. The norms come first, as in GPT-2 (Radford et al. 2019); with ``pre_norm=False`` they come
    last, as in the original, x' = norm(x + ...) (Vaswani et al. 2017), which trains deep nets less readily (Xiong et
    al. 2020). `out_init`, if it is not None, is that of the two products whose results are added to x: GPT-2 scales it
    down by the number of blocks (`funcnn.models.gpt`). `self_attention` has the equations of attention.

    >>> from funcnn import Key
    >>> block = transformer_block(32, 4, causal=True)
    >>> block.init(Key(0), (10, 32)).out_shape
    (10, 32)
    >>> transformer_block(8, 1, norm=layer_norm(), pre_norm=False)  # doctest: +ELLIPSIS
    serial(residual(layer=self_attention(heads=1)), layer_norm(), residual(layer=serial(dense(units=32, ...

    It is `serial` of `residual` ones, and prints as such; write your own in the same few lines for another form. Raises
    ValueError for counts that are not positive, and what the layers raise.
    """
    settings = _TransformerBlock(
        features, heads, mlp_features, causal, rotary, dropout, activation, norm, pre_norm, use_bias, weight_init,
        out_init,
    )  # fmt: skip
    return settings.block()


@config
class _TransformerBlock(Described):
    """The arguments, checked."""

    name: ClassVar[str] = "transformer_block"
    features: int = count()
    heads: int = count()
    mlp_features: int | None = attrs.field(converter=as_int, validator=attrs.validators.optional(check_count))
    causal: bool = attrs.field(validator=check_flag)
    rotary: bool = attrs.field(validator=check_flag)
    dropout: float = number(check_decay)
    activation: Layer = attrs.field(validator=check_layer)
    norm: Layer = attrs.field(validator=check_layer)
    pre_norm: bool = attrs.field(validator=check_flag)
    use_bias: bool = attrs.field(validator=check_flag)
    weight_init: Initializer = attrs.field(validator=check_initializer)
    out_init: Initializer | None = attrs.field(validator=attrs.validators.optional(check_initializer))

    def block(self) -> Layer:
        """The block."""
        attention = self_attention(
            self.heads, causal=self.causal, rotary=self.rotary, dropout=self.dropout, use_bias=self.use_bias,
            weight_init=self.weight_init, out_init=self.out_init,
        )  # fmt: skip
        mlp = (
            self.dense(self.mlp_features or 4 * self.features, self.weight_init),
            self.activation,
            self.dense(self.features, self.out_init or self.weight_init),
        )
        after = [dropped(self.dropout)] if self.dropout else []
        if self.pre_norm:
            return serial(residual(serial(self.norm, attention, *after)), residual(serial(self.norm, *mlp, *after)))
        return serial(
            residual(serial(attention, *after) if after else attention), self.norm,
            residual(serial(*mlp, *after)), self.norm,
        )  # fmt: skip

    def dense(self, units: int, weight_init: Initializer) -> Layer:
        """A dense layer for each position."""
        return dense(units, per_position=True, use_bias=self.use_bias, weight_init=weight_init)
