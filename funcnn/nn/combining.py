"""What combinators share: settings with children, the children's keys and places, the checks of a tuple's length.

Your own combinator is made of these as those of the library are; `funcnn.nn.parallel` is the one to read.
"""

from typing import Any

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import tree
from funcnn.checks import LayerError, ShapeError, add_place, check_float, check_whole, is_several
from funcnn.keys import Key, fold_in
from funcnn.layer import Config, Initialised, Layer, Vocabulary, out_shape_of
from funcnn.settings import config, shown
from funcnn.system.devices import has_form
from funcnn.tree import Shape

__all__ = [
    "Composed", "Wrapped", "added", "check_layer", "check_layers", "check_several", "check_tuple", "check_values",
    "child_key", "count_examples", "example_of", "example_shape", "init_children", "init_wrapped", "place", "shapes_of",
]  # fmt: skip


def check_layers(instance: Any, attribute: Any, layers: tuple[Layer, ...]) -> None:
    """Raise TypeError unless all are layers."""
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"{instance.name}[{i}]: expected a Layer, got {_what(layer)}")


def check_layer(instance: Any, attribute: Any, layer: Layer) -> None:
    """Raise TypeError unless a setting is a layer."""
    if not isinstance(layer, Layer):
        raise TypeError(f"{instance.name}: {attribute.name} must be a Layer, got {_what(layer)}")


def _what(layer: Any) -> str:
    """What was passed for a layer, and how to make one of it if that is known."""
    if isinstance(layer, type) or not callable(layer):
        return shown(layer)
    name = getattr(layer, "__name__", None)
    return f"the function {name}; call it: {name}(...)" if name else shown(layer)


@config
class Composed(Config):
    """A combinator over several layers, which prints them as its arguments."""

    layers: tuple[Layer, ...] = attrs.field(validator=check_layers)

    @property
    def children(self) -> tuple[Layer, ...]:
        return self.layers

    def __repr__(self) -> str:
        settings = [f"{name}={value!r}" for name, value in self.arguments().items() if name != "layers"]
        return f"{self.name}({', '.join([*map(repr, self.layers), *settings])})"


@config
class Wrapped(Config):
    """A combinator around one layer, whose params and state are the layer's own."""

    layer: Layer = attrs.field(validator=check_layer)

    @property
    def children(self) -> tuple[Layer, ...]:
        return (self.layer,)

    def out_shape(self, in_shape: Shape) -> Shape:
        with place(self.name):
            return out_shape_of(self.layer, in_shape)  # type: ignore[no-any-return]

    def macs(self, in_shape: Shape) -> int:
        return self.layer.config.macs(in_shape)


class place:
    """``with place(name, i):`` puts ``name[i]`` before an error on its way outward, and costs next to nothing.

    >>> with place("serial", 4):
    ...     raise LayerError("dense(units=10)", "it is wrong", "Mend it")
    Traceback (most recent call last):
    funcnn.checks.LayerError: serial[4] dense(units=10): it is wrong. Mend it
    """

    __slots__ = ("name",)

    def __init__(self, name: str, i: int | None = None) -> None:
        self.name = name if i is None else f"{name}[{i}]"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception):
            add_place(error, self.name)


def child_key(key: Key | None, child: Layer, i: int) -> Key | None:
    """The key of the i-th child; None for a child that draws nothing, which saves deriving it."""
    return fold_in(key, i) if key is not None and child.config.stochastic else None


def init_children(
    settings: Composed, key: Key, in_shapes: list[Shape], dtype: DTypeLike
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The params and the states of all children, the i-th drawn from ``fold_in(key, i)``, given their input shapes."""
    made = []
    for i, (layer, in_shape) in enumerate(zip(settings.layers, in_shapes, strict=True)):
        with place(settings.name, i):
            made.append(layer.init(fold_in(key, i), in_shape, dtype))
    return tuple([each.params for each in made]), tuple([each.state for each in made])


def init_wrapped(settings: Wrapped, key: Key, in_shape: Shape, dtype: DTypeLike = np.float32) -> Initialised:
    """The ``init`` of a combinator around one layer: the layer's own."""
    settings.out_shape(in_shape)
    with place(settings.name):
        return settings.layer.init(key, in_shape, dtype)


def shapes_of(x: Any) -> Any:
    """A batch's shape; of a tuple of arrays, a tuple of theirs; () for what is no array."""
    if has_form(x):
        return x.shape
    return tuple([shapes_of(each) for each in x]) if type(x) is tuple else ()


def example_shape(x: Any) -> Any:
    """An example's shape, of a batch; of a tuple of batches, a tuple of theirs."""
    return example_of(shapes_of(x))[1]


def example_of(shape: Any) -> tuple[int | None, Any]:
    """The number of examples in a batch of a shape, and an example's; of several shapes, None if they disagree.

    >>> example_of((8, 28, 28, 1)), example_of(((8, 3), (8,))), example_of(((8, 3), (7, 3)))
    ((8, (28, 28, 1)), (8, ((3,), ())), (None, ((3,), (3,))))
    """
    if not is_several(shape):
        return (shape[0], shape[1:]) if shape else (None, ())
    counts, shapes = zip(*map(example_of, shape), strict=True)
    return (counts[0] if len(set(counts)) == 1 else None), shapes


_SEVERAL = 'Pass (x1, x2, ...), or put a layer before it that gives several: parallel(..., combine="tuple")'


def check_several(settings: Config, x: Any, count: int | None = None, fix: str = _SEVERAL) -> None:
    """Raise LayerError unless x is a tuple of batches of as many examples each (and of `count` batches)."""
    n, _ = example_of(shapes_of(x)) if type(x) is tuple and x else (None, None)
    if n is None or count not in (None, len(x)):
        got = f"a tuple of shapes {shapes_of(x)}" if type(x) is tuple else shown(x)
        raise ShapeError(
            settings.name,
            f"expected its input to be a tuple of {count or 'several'} arrays with as many examples each, got {got}",
            fix,
        )


def count_examples(settings: Config, x: Any) -> int:
    """The number of examples in x; raises LayerError unless it is a batch of what the settings' `vocabulary` says."""
    if type(x) is tuple:
        check_several(settings, x)
    _check_kinds(settings, x, settings.vocabulary)
    return len(tree.flatten(x)[0])


def _check_kinds(settings: Config, x: Any, vocabulary: Vocabulary) -> None:
    """Raise unless arrays are of floats, or of whole numbers where there is a vocabulary; a mask may be of booleans."""
    if type(x) is tuple:
        its = vocabulary if isinstance(vocabulary, tuple) else (vocabulary,) * len(x)
        for each, words in zip(x, its, strict=False):
            _check_kinds(settings, each, words)
    elif vocabulary is None:
        check_float(settings, x)
    elif vocabulary != 2 or getattr(x, "dtype", None) != np.bool_:
        check_whole(settings, x)


def added(x: Any, y: Any) -> Any:
    """The sum of two arrays, or of tuples of them place by place; None and None give None."""
    return x + y if has_form(x) else tree.map(np.add, x, y)


def check_values(settings: Composed, **values: Any) -> None:
    """Raise LayerError unless params and state are tuples with one entry per layer, as init makes them."""
    for name, value in values.items():
        if type(value) is not tuple or len(value) != len(settings.layers):
            check_tuple(settings, name, value, len(settings.layers), "layer", "init")


def check_tuple(settings: Composed, name: str, value: Any, count: int, each: str, maker: str) -> None:
    """Raise LayerError unless a value is a tuple of a length, one entry for `each`, as `maker` gives it."""
    if type(value) is not tuple or len(value) != count:
        got = f"a tuple of {len(value)}" if type(value) is tuple else type(value).__name__
        raise LayerError(
            settings.name,
            f"expected {name} to be a tuple of {count}, one for each {each}, got {got}",
            f"Pass the {name} that this net's own {maker} gave",
        )
