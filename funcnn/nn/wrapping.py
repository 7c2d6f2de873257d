"""Combinators around one layer: `residual` adds the input to its output, `chunked` cuts the batch."""

from functools import partial
from typing import Any, ClassVar

from funcnn.arrays import threads
from funcnn.checks import LayerError, ShapeError, check_residuals
from funcnn.keys import Key
from funcnn.layer import Applied, Gradients, Layer, Values, make_layer
from funcnn.nn.chunks import add_up, cut, cut_like, join
from funcnn.nn.combining import Wrapped, added, child_key, count_examples, example_shape, init_wrapped, place
from funcnn.nn.coupled import Coroutine, Meets, apply_chunk, backward_chunk, make_coupled
from funcnn.settings import config, count
from funcnn.tree import Shape, node

__all__ = ["chunked", "residual"]


def residual(layer: Layer) -> Layer:
    """y = x + f(x) for a layer f that keeps the shape; dx = dy + f's dx (He et al. 2016).

    Params, state and key are the layer's own. A block that changes the shape has a layer on its shortcut, too, and is
    ``parallel(f, shortcut, combine="add")``.

    >>> from funcnn.compose import serial
    >>> from funcnn.layers import dense, relu
    >>> block = residual(serial(dense(4), relu()))
    >>> block.init(Key(0), (4,)).out_shape
    (4,)

    Raises TypeError for an argument that is no Layer.
    """
    return make_coupled(_Residual(layer), init_wrapped)


def chunked(layer: Layer, size: int) -> Layer:
    """The layer on `size` examples at a time, the chunks spread over the threads: y = f(x) all the same.

    The memory that the layer needs in between is then that of a chunk, whatever the batch. `serial` cuts batches by
    itself where it pays (`funcnn.nn.stages`); this is for a layer that it leaves whole, or for another size. Params and
    state are the layer's own; chunk i draws from ``fold_in(key, i)``; the chunks' gradients are added up in order.

    >>> import numpy as np
    >>> from funcnn.layers import dense
    >>> layer = chunked(dense(2), 16)
    >>> params, state, _ = layer.init(Key(0), (4,))
    >>> layer.apply(params, state, np.ones((40, 4), np.float32)).y.shape
    (40, 2)

    Raises TypeError for an argument that is no Layer, ValueError for a size that is no positive int; apply raises
    LayerError in training if the layer couples examples, as batch norm does.
    """
    return make_layer(_Chunked(layer, size), _chunked_apply, _chunked_backward, init_wrapped)


# --- residual -------------------------------------------------------------------------------------------------


@config
class _Residual(Wrapped, Meets):
    name: ClassVar[str] = "residual"

    def out_shape(self, in_shape: Shape) -> Shape:
        out_shape = super().out_shape(in_shape)
        self.check_kept(tuple(in_shape), out_shape)
        return out_shape

    def check_kept(self, in_shape: Shape, out_shape: Shape) -> None:
        """Raise unless what the layer gives can be added to what it is given."""
        if out_shape != in_shape:
            raise ShapeError(
                self.name,
                f"its layer must keep the shape {in_shape} to be added to it, and gives {out_shape}",
                'Use as many filters as input channels, stride 1 and padding="same"; or put a layer on the shortcut: '
                'parallel(layer, conv2d(...), combine="add")',
            )

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        with place(self.name):
            y, state, kept = yield from apply_chunk(self.layer, params, state, x, key=key, train=train)
        self.check_kept(example_shape(x), example_shape(y))
        return Applied(added(x, y), state, kept)

    def backward_meeting(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Coroutine:
        with place(self.name):
            gradients, dx = yield from backward_chunk(self.layer, params, residuals, dy, need_dx=need_dx)
        return Gradients(gradients, added(dx, dy) if need_dx else None)


# --- chunked --------------------------------------------------------------------------------------------------


@config
class _Chunked(Wrapped):
    name: ClassVar[str] = "chunked"
    by_chunks: ClassVar[bool] = False  # it cuts the batch itself
    size: int = count()


@node
class _ChunkedResiduals:
    """The chunks' sizes, and their residuals."""

    sizes: tuple[int, ...]
    residuals: Any


def _chunked_apply(
    settings: _Chunked, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
) -> Applied:
    layer = settings.layer
    if train and layer.config.couples_examples:
        raise LayerError(
            settings.name,
            "in training its layer couples the examples of a batch, which cannot be cut",
            "Put batch_norm outside: serial(chunked(...), batch_norm(), chunked(...))",
        )
    whole, rest = divmod(count_examples(settings, x), settings.size)
    sizes = (settings.size,) * whole + ((rest,) if rest or not whole else ())

    def apply(i: int, chunk: Values) -> Applied:
        with place(settings.name):
            return layer.apply(params, state, chunk, key=child_key(key, layer, i), train=train)

    applied = threads.run([partial(apply, i, chunk) for i, chunk in enumerate(cut(x, sizes))])
    residuals = _ChunkedResiduals(sizes, tuple([each.residuals for each in applied])) if train else None
    return Applied(join([each.y for each in applied]), state, residuals)


def _chunked_backward(
    settings: _Chunked, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True
) -> Gradients:
    its = check_residuals(settings, residuals, _ChunkedResiduals)

    def backward(kept: Any, chunk: Values) -> tuple[dict[int, Any], Any]:
        with place(settings.name):
            gradients, dx = settings.layer.backward(params, kept, chunk, need_dx=need_dx)
        return {0: gradients}, dx

    pairs = zip(its.residuals, cut_like(settings.name, dy, its.sizes), strict=True)
    sums, dxs = add_up([partial(backward, kept, chunk) for kept, chunk in pairs])
    return Gradients(sums[0], join(dxs) if need_dx else None)
