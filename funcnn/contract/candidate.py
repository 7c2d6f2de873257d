"""A layer that is to keep the contract, and the arguments that its functions are tried on."""

import math
import pickle
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import DTypeLike

from funcnn import tree
from funcnn.checks import is_several
from funcnn.contract.comparing import named
from funcnn.contract.slopes import Report, check_slopes
from funcnn.keys import Key, fold_in, generator
from funcnn.layer import Applied, Gradients, Initialised, Layer, Vocabulary
from funcnn.tree import Array, Shape

__all__ = ["DTYPES", "Arguments", "Candidate", "drawn"]

DTYPES = (np.float32, np.float64)


class Arguments(NamedTuple):
    """What a layer's functions are given, with a batch of x and of dy."""

    params: Any
    state: Any
    x: Array
    dy: Array

    def examples(self, which: slice) -> "Arguments":
        """The same with some examples of the batch."""
        x, dy = tree.map(lambda array: array[which].copy(), (self.x, self.dy))
        return self._replace(x=x, dy=dy)


def drawn(n: int, shape: Any, vocabulary: Vocabulary, dtype: DTypeLike, draw: np.random.Generator) -> Any:
    """n Gaussian examples of a shape, or n of whole numbers below a vocabulary; of a tuple of shapes a tuple of them.

    >>> drawn(2, ((3,), ()), (1, None), np.float32, generator(Key(0)))[0]
    array([[0, 0, 0],
           [0, 0, 0]])
    """
    if is_several(shape):
        its = vocabulary if isinstance(vocabulary, tuple) else (vocabulary,) * len(shape)
        return tuple([drawn(n, *each, dtype, draw) for each in zip(shape, its, strict=True)])
    if isinstance(vocabulary, int):
        return draw.integers(0, vocabulary, (n, *shape))
    return np.asarray(draw.standard_normal((n, *shape)), dtype)


@attrs.frozen(slots=False)
class Candidate:
    """A layer that is to keep the contract: it makes arguments, and calls the layer's functions with them.

    Params are init's plus Gaussian noise, so that zero biases and unit scales hide nothing; the state is that after
    a step of training; x and dy are Gaussian, an x of whole numbers uniform below the vocabulary. All are new and
    writable at every call, so that a write shows and harms no other rule. `layers` are the user's own constructors;
    without `train`, `run` evaluates.
    """

    layer: Layer
    in_shape: Shape
    key: Key
    batch: int = 3
    layers: Sequence[Callable[..., Any]] = ()
    train: bool = True

    def init(self, dtype: DTypeLike = np.float64) -> Initialised:
        """What the layer's init makes."""
        return self.layer.init(fold_in(self.key, "init"), self.in_shape, dtype)

    def untrained(self, dtype: DTypeLike = np.float64) -> Arguments:
        """Arguments with init's state."""
        draw = generator(fold_in(self.key, "draws"))
        params, state, _ = self.init(dtype)
        params = tree.map(lambda leaf: np.asarray(leaf + 0.3 * draw.standard_normal(leaf.shape), leaf.dtype), params)
        settings = self.layer.config
        x = drawn(self.batch, self.in_shape, settings.vocabulary, dtype, draw)
        dy = drawn(self.batch, settings.out_shape(self.in_shape), None, dtype, draw)
        return Arguments(params, tree.map(np.array, state), x, dy)

    @cached_property
    def _trained(self) -> dict[DTypeLike, Arguments]:
        return {dtype: self.untrained(dtype)._replace(state=self.run(self.untrained(dtype)).state) for dtype in DTYPES}

    def arguments(self, dtype: DTypeLike = np.float64) -> Arguments:
        """Arguments of which nothing is at its initial value."""
        return Arguments(*tree.map(np.array, tuple(self._trained[dtype])))

    def read_only(self, dtype: DTypeLike = np.float64) -> Arguments:
        """The same arguments, read-only."""
        return Arguments(*tree.read_only(tuple(self.arguments(dtype))))

    def evaluate(self, given: Arguments, key: Key | None = None) -> Applied:
        """apply, without train."""
        return self.layer.apply(given.params, given.state, given.x, key=key)

    def run(self, given: Arguments, *words: int) -> Applied:
        """apply in training; other words, another key."""
        key = fold_in(self.key, "layer")
        for word in words:
            key = fold_in(key, word)
        return self.layer.apply(given.params, given.state, given.x, key=key, train=self.train)

    def gradients(self, given: Arguments, *, need_dx: bool = True) -> Gradients:
        """apply in training, and backward."""
        return self.layer.backward(given.params, self.run(given).residuals, given.dy, need_dx=need_dx)

    def pickled(self) -> "Candidate":
        """The same with a copy of the layer that has been through pickle."""
        return attrs.evolve(self, layer=pickle.loads(pickle.dumps(self.layer)))

    @cached_property
    def slopes(self) -> Report:
        """The slopes of ⟨y, dy⟩ in x and in every leaf of the params, held against backward's.

        One key serves every forward pass, so that dropout's mask stays.
        """
        given = self.arguments()
        grads, dx = self.gradients(given)
        inputs = (given.params, given.x)
        leaves, gradients = tree.flatten(inputs), tree.flatten((grads, dx))
        names = [name for name, _ in named(params=given.params, x=given.x)]
        have_slopes = [i for i, leaf in enumerate(leaves) if leaf.dtype.kind == "f"]  # whole numbers have none
        scale = math.hypot(*[float(np.linalg.norm(y)) for y in tree.flatten(self.run(given).y)])

        def inner(i: int, value: Array) -> float:
            """⟨y, dy⟩ with the i-th leaf replaced."""
            params, x = tree.unflatten(inputs, [*leaves[:i], value, *leaves[i + 1 :]])
            y = self.run(given._replace(params=params, x=x)).y
            return sum(map(float, map(np.vdot, tree.flatten(y), tree.flatten(given.dy))))

        draw = generator(fold_in(self.key, "directions"))
        found = [
            check_slopes(names[i], leaves[i], gradient, partial(inner, i), scale, draw)
            for i, gradient in zip(have_slopes, gradients, strict=True)
            if leaves[i].size
        ]
        return Report(tuple(check for each in found for check in each.checks), sum(each.kinks for each in found))
