"""`remat`, a layer that keeps its input alone and is applied again in the backward pass."""

from typing import Any, ClassVar

from funcnn.checks import check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Layer, Values
from funcnn.nn.combining import Wrapped, init_wrapped, place
from funcnn.nn.coupled import Coroutine, Meets, apply_chunk, backward_chunk, make_coupled
from funcnn.settings import config
from funcnn.tree import node

__all__ = ["remat"]


def remat(layer: Layer) -> Layer:
    """y = layer(x) with little memory: it keeps x, state and key, and backward applies it again for the rest.

    y, gradients, params and state are the layer's own, to the bit. A net of k such layers keeps k inputs, and what one
    layer keeps while that is in its backward pass, for one more forward pass (Chen et al. 2016). PyTorch calls it
    checkpointing, Keras remat; the layer table (`funcnn.report.table`) counts its memory.

    >>> import numpy as np
    >>> from funcnn.compose import repeat, residual, serial
    >>> from funcnn.layers import dense, gelu
    >>> net = repeat(remat(residual(serial(dense(64), gelu(), dense(8)))), 16)
    >>> params, state, _ = net.init(Key(0), (8,))
    >>> net.apply(params, state, np.ones((2, 8), np.float32)).y.shape
    (2, 8)

    Raises TypeError for an argument that is no Layer.
    """
    return make_coupled(_Remat(layer), init_wrapped)


@config
class _Remat(Wrapped, Meets):
    name: ClassVar[str] = "remat"

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        with place(self.name):
            y, new_state, _ = yield from apply_chunk(self.layer, params, state, x, key=key, train=train)
        its_key = key if self.layer.config.stochastic else None
        return Applied(y, new_state, _RematResiduals(x, state, its_key) if train else None)

    def backward_meeting(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Coroutine:
        its = check_residuals(self, residuals, _RematResiduals)
        with place(self.name):
            again = yield from apply_chunk(self.layer, params, its.state, its.x, key=its.key, train=True)
            made: Gradients = yield from backward_chunk(self.layer, params, again.residuals, dy, need_dx=need_dx)
        return made


@node
class _RematResiduals:
    """What the layer was applied to."""

    x: Values
    state: Any
    key: Key | None
