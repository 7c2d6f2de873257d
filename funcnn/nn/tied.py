"""`tied`, a net in which some parameters are those of another place."""

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import tree
from funcnn.checks import LayerError
from funcnn.keys import Key
from funcnn.layer import Gradients, Initialised, Layer, Values
from funcnn.nn.combining import Wrapped, init_wrapped, place
from funcnn.nn.coupled import Coroutine, Meets, apply_chunk, backward_chunk, make_coupled
from funcnn.settings import as_tuple, config, refuse
from funcnn.system.devices import has_form
from funcnn.tree import Shape, TreeError

__all__ = ["tied"]

_TRANSPOSE = ".T"


def tied(layer: Layer, places: Mapping[str, str]) -> Layer:
    """y = layer(x) with shared params: at each first place those of the second; the gradients of both are added.

    Places are paths of the layer's params, as `funcnn.tree.paths` gives them: of a leaf, or of all of a layer's
    params, which is then one layer in several places. So a language model's `unembedding` takes the weight of its
    `embedding` (Press & Wolf 2017). A second place with ``.T`` at its end is a matrix transposed, as for the decoder of
    an autoencoder. In the params of the whole the first places hold None, so that an optimizer meets each array once;
    all others are drawn as without `tied`.

    >>> from funcnn.compose import serial
    >>> from funcnn.layers import dense, tanh
    >>> autoencoder = tied(serial(dense(2), tanh(), dense(8)), {"2.weight": "0.weight.T"})
    >>> params, _, _ = autoencoder.init(Key(0), (8,))
    >>> params[2]
    DenseParams(weight=None, bias=float32 (8,))
    >>> twice = tied(serial(dense(8), dense(8)), {"1": "0"})
    >>> tree.paths(twice.init(Key(0), (8,)).params)
    ['0.weight', '0.bias']

    Raises TypeError for what is no Layer, ValueError for places that are no texts or overlap; init raises LayerError
    for a place that does not exist, with those that do, and for two places whose shapes differ.
    """
    pairs = tuple(places.items()) if isinstance(places, Mapping) else as_tuple(places)
    if not isinstance(pairs, tuple):
        refuse("tied", "places", 'a dictionary such as {"2.weight": "0.weight"}', places)
    return make_coupled(_Tied(layer, tuple([as_tuple(pair) for pair in pairs])), _init)


def _check_places(instance: Any, attribute: Any, places: Any) -> None:
    """Raise ValueError unless all are pairs of paths, of which no first one overlaps any other."""
    for pair in places:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(path, str) and path for path in pair):
            refuse("tied", "places", 'pairs of paths such as {"2.weight": "0.weight"}', pair)
    firsts = [first for first, _ in places]
    for i, first in enumerate(firsts):
        for other in (*firsts[:i], *[_source(second)[0] for _, second in places]):
            if f"{first}.".startswith(f"{other}.") or f"{other}.".startswith(f"{first}."):
                raise ValueError(
                    f"tied: the place {first!r} is to be filled in, and overlaps {other!r}. "
                    "Tie each place once, to one that has params of its own"
                )


def _source(second: str) -> tuple[str, bool]:
    """The path in a pair's second place, and whether what is there is transposed."""
    return second.removesuffix(_TRANSPOSE), second.endswith(_TRANSPOSE)


@config
class _Tied(Wrapped, Meets):
    name: ClassVar[str] = "tied"
    places: tuple[tuple[str, str], ...] = attrs.field(validator=_check_places)

    def __repr__(self) -> str:
        return f"tied({self.layer!r}, {dict(self.places)!r})"

    def filled(self, params: Any) -> Any:
        """The layer's own params, from those of the whole."""
        for first, second in self.places:
            if self._at(params, first) is not None:
                raise LayerError(
                    self.name,
                    f"expected None in its params at {first!r}, where those at {second!r} go, got "
                    f"{tree.brief(self._at(params, first))}",
                    "Pass the params that this layer's own init gave",
                )
            params = tree.replace(params, first, self._shared(params, second))
        return params

    def emptied(self, params: Any) -> Any:
        """The params of the whole, from the layer's own."""
        for first, second in self.places:
            mine, shared = self._at(params, first), self._shared(params, second)
            try:
                tree.check_like(mine, shared, (first, second), shapes=True)
            except TreeError as error:
                raise LayerError(self.name, str(error), "Tie params of the same shape") from None
            params = tree.replace(params, first, None)
        return params

    def gathered(self, gradients: Any) -> Any:
        """The gradients of the params of the whole: each place's added to those of the place that it shares."""
        for first, second in self.places:
            path, transposed = _source(second)
            mine, its = self._at(gradients, first), self._at(gradients, path)
            total = its + mine.T if transposed else tree.map(np.add, its, mine)
            gradients = tree.replace(tree.replace(gradients, first, None), path, total)
        return gradients

    def _shared(self, params: Any, second: str) -> Any:
        path, transposed = _source(second)
        value = self._at(params, path)
        if not transposed:
            return value
        if not has_form(value) or value.ndim != 2:
            raise LayerError(
                self.name, f"expected a matrix at {path!r}, got {tree.brief(value)}", f"Leave {_TRANSPOSE} out"
            )
        return value.T

    def _at(self, params: Any, path: str) -> Any:
        """What stands at a path of params."""
        value = params
        for label in path.split("."):
            names = getattr(type(value), "__tree_fields__", ())
            if type(value) is tuple and label.isdecimal() and int(label) < len(value):
                value = value[int(label)]
            elif label in names:
                value = getattr(value, label)
            else:
                raise LayerError(
                    self.name,
                    f"its layer has no params at {path!r}; it has {', '.join(tree.paths(params)) or 'none'}",
                    "Take one of these, or the beginning of one for all params of a layer",
                )
        return value

    def apply_meeting(
        self, params: Any, state: Any, x: Values, *, key: Key | None = None, train: bool = False
    ) -> Coroutine:
        own = self.filled(params)
        with place(self.name):
            return (yield from apply_chunk(self.layer, own, state, x, key=key, train=train))

    def backward_meeting(self, params: Any, residuals: Any, dy: Values, *, need_dx: bool = True) -> Coroutine:
        own = self.filled(params)
        with place(self.name):
            gradients, dx = yield from backward_chunk(self.layer, own, residuals, dy, need_dx=need_dx)
        return Gradients(self.gathered(gradients), dx)


def _init(settings: _Tied, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    params, state, out_shape = init_wrapped(settings, key, in_shape, dtype)
    return Initialised(settings.emptied(params), state, out_shape)
