"""A net at work on batches of one shape: forward and back in memory that is laid once, with nothing asked twice.

`apply` and `backward` look at all that they are given, and give new arrays. In a run of steps all batches but the last
of an epoch have one shape, and what lies between a batch and its gradients is seen by nobody. So a net whose batch is
not cut keeps the memory of what its layers make from step to step, where it is in cache, and what the first step of a
shape has passed is not looked at again: forward and back of a small MLP take nine tenths of the time.

    work = at_work.take(params, state, x)     None for what has not passed `apply` and `backward`, or does not fit
    y = work.forward(params, x, key)          the caller's
    work.backward(params, dy, into)           gradients, written into a tree of arrays like the params
    at_work.give_back(work)

The arithmetic is that of the layers' own functions, call by call, and so are the bits. A layer that has no form here
works by these functions. A net that holds a layer of somebody's own does not fit: what that gives has to be looked at.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.arrays import layout, products
from funcnn.arrays.elementwise import BLOCK, activate, activate_back
from funcnn.arrays.threads import single_blas_thread
from funcnn.keys import Key, fold_in
from funcnn.layer import Layer
from funcnn.nn.activations import Activation
from funcnn.nn.dense import DenseParams, dense
from funcnn.nn.fold import kind
from funcnn.nn.serial import serial
from funcnn.nn.stages import Link
from funcnn.tree import Array

__all__ = ["AtWork", "Work"]

_FORMS_KEPT = 8  # at most, with their memory
_SERIAL, _DENSE = kind(serial()), kind(dense(1))
_NOTHING = np.empty(0)


class Work(ABC):
    """A layer at work: its memory, and what `forward` has left there for `backward`."""

    @abstractmethod
    def forward(self, params: Any, x: Array, key: Key | None) -> Array:
        """y, in memory that the next call may use again, or x's."""

    @abstractmethod
    def backward(self, params: Any, dy: Array, into: Any, need_dx: bool) -> Array | None:
        """dx, in such memory, or dy's; the gradients are written into a tree of arrays like the params."""


class AtWork:
    """What a net has at work, by the forms of batch and params: each for one thread at a time."""

    def __init__(self, net: Layer) -> None:
        self.net = net
        self._serial: Any = net.config
        self._fits = type(net.config) is _SERIAL and not net.config.couples_examples and _is_ours(net)
        self._idle: dict[Any, list[_Chain] | None] = {}

    def __reduce__(self) -> Any:
        return AtWork, (self.net,)

    def take(self, params: Any, state: Any, x: Any) -> "_Chain | None":
        """The net at work on such a batch, until it is given back; None where its own functions are to be called."""
        form = self._form(params, state, x) if self._idle else None
        idle = self._idle.get(form)
        if idle is None:
            return None
        try:
            return idle.pop()  # atomic, as `append` is
        except IndexError:
            return _Chain(self._serial.whole.links, form, params, state)

    def give_back(self, work: "_Chain") -> None:
        """Let others have it."""
        idle = self._idle.get(work.form)
        if idle is not None:
            idle.append(work)

    def passed(self, params: Any, state: Any, x: Any, gradients: Any) -> None:
        """Know that the net's own functions take such a batch, and these params: others like it may be at work.

        Not where it is cut, or where the gradients' dtypes are not those of the params, which may be of several.
        """
        form = self._form(params, state, x)
        if form is None or form in self._idle:
            return
        if len(self._idle) >= _FORMS_KEPT:
            self._idle.clear()
        plan = self._serial.plan(x)
        is_whole = len(plan) == 1 and len(plan[0][1]) == 1
        self._idle[form] = [] if is_whole and tree.form(gradients) == tree.form(params) else None

    def _form(self, params: Any, state: Any, x: Any) -> Any:
        """What tells such calls apart; None for those where something of a step could stay in the state."""
        fits = self._fits and type(x) is np.ndarray and x.dtype.char in "fd" and x.flags.c_contiguous
        try:
            return (x.shape, x.dtype, tree.form(params), state) if fits and _is_empty(state) else None
        except (RecursionError, tree.TreeError):  # the net says better what is wrong
            return None


def _is_ours(layer: Layer) -> bool:
    """Whether a layer, and each within it, is of this library."""
    return type(layer.config).__module__.startswith("funcnn.") and all(map(_is_ours, layer.config.children))


def _is_empty(state: Any) -> bool:
    """Whether a state has no arrays."""
    return state is None or (type(state) is tuple and all(map(_is_empty, state)))


# --- Layers at work -------------------------------------------------------------------------------------------


class _Chain:
    """A `serial` at work, in the order in which it runs its layers."""

    def __init__(self, links: Sequence[Link], form: Any, params: Any, state: Any) -> None:
        self.form = form
        self.links = [(link, _work_of(link.layer, state[link.i])) for link in links]
        for _, work in reversed(self.links):
            if isinstance(work, (_Dense, _Element)):
                work.keeps_y = False  # what it makes, or a view of it, is the caller's
                break
        self.first = next((i for i, each in enumerate(params) if each is not None), len(params))

    def forward(self, params: Any, x: Array, key: Key | None) -> Array:
        with single_blas_thread():
            for link, work in self.links:
                its_key = fold_in(key, link.i) if link.draws and key is not None else None
                try:
                    x = work.forward(params[link.i], x, its_key)
                except Exception as error:
                    link.blame(error)
                    raise
        return x

    def backward(self, params: Any, dy: Any, into: Any) -> None:
        with single_blas_thread():
            for link, work in reversed(self.links):
                i = link.i
                if i < self.first:
                    break
                try:
                    dy = work.backward(params[i], dy, into[i], i > self.first)
                except Exception as error:
                    link.blame(error)
                    raise


def _work_of(layer: Layer, state: Any) -> Work:
    if type(layer.config) is _DENSE:
        return _Dense()
    if isinstance(layer.config, Activation) and layer.config.is_elementwise:
        return _Element(layer.config)
    return _Whatever(layer, state)


class _Whatever(Work):
    """A layer by its own functions."""

    def __init__(self, layer: Layer, state: Any) -> None:
        self.layer, self.state = layer, state
        self.residuals: Any = None

    def forward(self, params: Any, x: Array, key: Key | None) -> Array:
        y: Array
        y, _, self.residuals = self.layer.apply(params, self.state, x, key=key, train=True)
        return y

    def backward(self, params: Any, dy: Array, into: Any, need_dx: bool) -> Array | None:
        gradients, dx = self.layer.backward(params, self.residuals, dy, need_dx=need_dx)
        self.residuals = None
        for gradient, there in tree.rows(gradients, into, names=("gradients", "params"), shapes=True):
            there[...] = gradient
        return dx


class _Dense(Work):
    """x · weight + bias."""

    def __init__(self) -> None:
        self.y = self.dx = self.x = _NOTHING
        self.keeps_y = True

    def forward(self, params: DenseParams, x: Array, key: Key | None) -> Array:
        self.x, weight = x, params.weight
        rows = products.as_rows(x)
        if self.keeps_y and len(self.y) != len(rows):
            self.y = np.empty((len(rows), weight.shape[1]), x.dtype)
        y = products.matmul(rows, weight, self.y if self.keeps_y else None)
        if params.bias is not None:
            y += params.bias
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])

    def backward(self, params: DenseParams, dy: Array, into: DenseParams, need_dx: bool) -> Array | None:
        x, rows, dy = self.x, products.as_rows(self.x), products.as_rows(dy)
        self.x = _NOTHING  # it may be the caller's
        if into.bias is not None:
            into.bias[...] = layout.sum_examples(dy)
        products.matmul(rows.T, dy, into.weight)
        if not need_dx:
            return None
        if not rows.flags.c_contiguous:
            return products.matmul(params.weight, dy.T).T.reshape(x.shape)
        if len(self.dx) != len(rows):
            self.dx = np.empty(rows.shape, rows.dtype)
        return products.matmul(dy, params.weight.T, self.dx).reshape(x.shape)


class _Element(Work):
    """An activation."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.y = self.dx = self.kept = _NOTHING
        self.slope: Array | None = None
        self.keeps_y = True

    def forward(self, params: Any, x: Array, key: Key | None) -> Array:
        settings = self.settings
        if x.size > BLOCK or not (settings.writes or settings.keeps_slope):  # by blocks, or in an array of its own
            y, slope = activate(settings, x, slope=True)
        else:
            if self.dx.strides != x.strides or self.dx.shape != x.shape:
                self.y, self.dx = np.empty_like(x), np.empty_like(x)
                self.slope = np.empty_like(x) if settings.keeps_slope else None
            y, slope = self.y if self.keeps_y else np.empty_like(x), self.slope
            if slope is None:
                settings.write(x, y)
            else:
                settings.fill(x, y, slope)
        self.kept = slope if slope is not None else x if settings.keeps_input else y
        return y

    def backward(self, params: Any, dy: Array, into: Any, need_dx: bool) -> Array | None:
        settings, kept = self.settings, self.kept
        self.kept = _NOTHING
        if not need_dx:
            return None
        if kept.size > BLOCK or not (settings.writes or settings.keeps_slope):
            return activate_back(settings, kept, dy)
        settings.write_gradient(kept, dy, self.dx)
        return self.dx
