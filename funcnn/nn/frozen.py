"""`frozen`, a layer whose params are not trained."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from funcnn import tree
from funcnn.checks import LayerError, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Initialised, Layer, Values
from funcnn.nn.combining import Wrapped, init_wrapped, place
from funcnn.nn.coupled import Coroutine, Meets, apply_chunk, backward_chunk, make_coupled
from funcnn.settings import config
from funcnn.tree import Shape, node

__all__ = ["frozen"]


def frozen(layer: Layer) -> Layer:
    """y = layer(x) with its params as they are: no optimizer meets them, gradients pass through.

    Its params are None and its state is ``(params, state)`` of the layer, so pretrained ones are put in by replacing
    that. Where nothing below has params to train, `serial` leaves the layer out of the backward pass.

    >>> import numpy as np
    >>> from funcnn import tree
    >>> from funcnn.compose import serial
    >>> from funcnn.layers import dense, relu
    >>> backbone = serial(dense(8), relu())
    >>> pretrained = backbone.init(Key(7), (4,))
    >>> net = serial(frozen(backbone), dense(2))
    >>> params, state, _ = net.init(Key(0), (4,))
    >>> state = tree.replace(state, "0", (pretrained.params, pretrained.state))
    >>> tree.paths(params), net.apply(params, state, np.ones((3, 4), np.float32)).y.shape
    (['1.weight', '1.bias'], (3, 2))

    In training it is applied as in training, and its own state goes on: dropout drops, batch norm takes the batch's
    statistics and carries the running ones. So it is in PyTorch with ``requires_grad=False`` alone; Keras's
    ``trainable=False`` turns batch norm to the running statistics as well. Raises TypeError for an argument that is no
    Layer.
    """
    return make_coupled(_Frozen(layer), _init)


@config
class _Frozen(Wrapped, Meets):
    name: ClassVar[str] = "frozen"

    def unpacked(self, state: Any) -> tuple[Any, Any]:
        """The layer's params and its state; raises LayerError unless the state is both."""
        if type(state) is not tuple or len(state) != 2:
            got = f"a tuple of {len(state)}" if type(state) is tuple else type(state).__name__
            raise LayerError(
                self.name,
                f"expected its state to be (params, state) of its layer, got {got}",
                "Pass the state that this layer's own init gave",
            )
        return state

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        its_params, before = self.unpacked(state)
        with place(self.name):
            y, after, kept = yield from apply_chunk(self.layer, its_params, before, x, key=key, train=train)
        if not _same(before, after):  # else the very same state, which then nobody has to compare
            state = (its_params, after)
        return Applied(y, state, _FrozenResiduals(its_params, kept) if train else None)

    def backward_meeting(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Coroutine:
        its = check_residuals(self, residuals, _FrozenResiduals)
        if not need_dx:
            return Gradients(None, None)
        with place(self.name):
            _, dx = yield from backward_chunk(self.layer, its.params, its.residuals, dy, need_dx=True)
        return Gradients(None, dx)


def _same(before: Any, after: Any) -> bool:
    """Whether two states hold the same arrays: those of `serial` are new tuples at every step."""
    return [*map(id, tree.flatten(before))] == [*map(id, tree.flatten(after))]


@node
class _FrozenResiduals:
    """The layer's params, since the backward pass is given none, and its residuals."""

    params: Any
    residuals: Any


def _init(settings: _Frozen, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    params, state, out_shape = init_wrapped(settings, key, in_shape, dtype)
    return Initialised(None, (params, state), out_shape)
